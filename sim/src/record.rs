//! What a run leaves behind: report.json, the same as `--output json` prints.
//!
//! No wall-clock times, no paths: the same scenario and seed give the same bytes.

use core::fmt;
use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Serialize, Serializer};
use sluice_host_agent::difference::{Change, Difference, Fate, FlowPort, Now, Told, Work};
use sluice_host_agent::lint::{Code, Level};
use sluice_offload_api::model::Protocol;

use crate::input::PlacedFlow;
use crate::probe::Family;
use crate::verify::ProbeOutcome;
use crate::workload::JobRecord;
use crate::world::{World, WorldConfig};

/// A run of a scenario.
#[derive(Clone, Debug, Serialize)]
pub struct RunRecord {
    /// The scenario's name.
    pub scenario: String,
    /// What the world was made with.
    #[serde(flatten)]
    pub config: ConfigRecord,
    /// Whether every check held.
    pub ok: bool,
    /// What each step came to.
    pub steps: Vec<StepRecord>,
    /// Every probe, in order.
    pub results: Vec<SteppedOutcome>,
    /// Probes that didn't come out as expected.
    pub mismatches: usize,
    /// Other checks that failed.
    pub failed_checks: Vec<FailedCheck>,
    /// The cluster at the end.
    pub cluster: ClusterRecord,
    /// What was on the wire.
    pub wire: WireRecord,
    /// Drop counters that aren't zero.
    pub drops: Vec<DropRecord>,
    /// Frames that no counter accounts for.
    pub unaccounted: u64,
    /// How often each fault took effect; those that never did are left out.
    pub marks: BTreeMap<String, u64>,
    /// Virtual time that passed, in nanoseconds.
    pub time_ns: u64,
}

/// What a world was made with.
#[derive(Clone, Debug, Serialize)]
pub struct ConfigRecord {
    /// The seed.
    pub seed: u64,
    /// Workers of each node,
    pub workers: u8,
    /// but for these.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub workers_at: BTreeMap<String, u8>,
    /// The algorithm of all SAs.
    pub algorithm: &'static str,
    /// 64-bit sequence numbers.
    pub esn: bool,
    /// The family of the outer headers.
    pub underlay: Family,
    /// ESP in UDP 4500.
    pub udp_encap: bool,
}

impl From<&WorldConfig> for ConfigRecord {
    fn from(config: &WorldConfig) -> Self {
        Self {
            seed: config.seed,
            workers: config.workers,
            workers_at: config
                .workers_at
                .iter()
                .map(|(node, workers)| (node.0.clone(), *workers))
                .collect(),
            algorithm: config.algorithm.name(),
            esn: config.esn,
            underlay: config.underlay,
            udp_encap: config.udp_encap,
        }
    }
}

/// A check that failed, beside the probes. As JSON: the text that it prints as.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FailedCheck {
    /// The step, counted from 0; none if it is of the run as a whole.
    pub step: Option<usize>,
    /// The line that its text names: the step's, or that of a probe in its own file.
    pub line: Option<u32>,
    /// The step asks for it, as `expect` does; else it must hold of every run.
    pub asked: bool,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for FailedCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.what)
    }
}

impl Serialize for FailedCheck {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A step.
#[derive(Clone, Debug, Serialize)]
pub struct StepRecord {
    /// Its verb.
    pub verb: &'static str,
    /// What it was about.
    pub about: String,
    /// Probes that it sent.
    pub probes: usize,
    /// What came of its jobs, if it is a workload.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub work: Vec<JobRecord>,
    /// Whether its checks held.
    pub ok: bool,
}

/// A probe's outcome, and the step that asked, counted from 0.
#[derive(Clone, Debug, Serialize)]
pub struct SteppedOutcome {
    /// The step.
    pub step: usize,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: ProbeOutcome,
}

/// Pods and the policies of the cluster.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterRecord {
    /// Pods with VFs.
    pub pods: Vec<PodRecord>,
    /// NetworkPolicies as `namespace/name`, ClusterNetworkPolicies as `name`.
    pub policies: Vec<String>,
}

/// A pod, its VF and its identity.
#[derive(Clone, Debug, Serialize)]
pub struct PodRecord {
    /// The node.
    pub node: String,
    /// `namespace/name`.
    pub pod: String,
    /// The VF.
    pub vf: String,
    /// The pod's addresses.
    pub ips: Vec<IpAddr>,
    /// The identity's number on its node.
    pub identity: u32,
    /// What the identity stands for.
    pub label: String,
    /// Policies that select the pod.
    pub policies: Vec<String>,
}

impl ClusterRecord {
    /// Of a world as it is.
    #[must_use]
    pub fn of(world: &World) -> Self {
        let pod = |b: crate::report::Binding| PodRecord {
            node: b.node,
            pod: b.pod,
            vf: b.vf,
            ips: b.ips,
            identity: b.identity,
            label: b.label,
            policies: b.policies,
        };
        let own = world.cluster().policies.keys().map(ToString::to_string);
        let cluster = world.cluster().cluster_policies.keys().cloned();
        let multi = world.cluster().multi_policies.keys();
        let multi = multi.map(|name| format!("Multi:{name}"));
        Self {
            pods: world.bindings().into_iter().map(pod).collect(),
            policies: own.chain(cluster).chain(multi).collect(),
        }
    }
}

/// What was on the wire between the nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct WireRecord {
    /// Frames in all.
    pub frames: usize,
    /// ESP.
    pub esp: usize,
    /// ARP and neighbour discovery.
    pub neighbor: usize,
    /// The rest.
    pub other: usize,
    /// Bytes of the payload marker found in clear.
    pub cleartext_bytes: usize,
}

impl WireRecord {
    /// Of a world as it is.
    #[must_use]
    pub fn of(world: &World) -> Self {
        let proof = world.wire_proof();
        Self {
            frames: proof.frames,
            esp: proof.esp_frames,
            neighbor: proof.neighbor_frames,
            other: proof.other_frames,
            cleartext_bytes: proof.marker_bytes_in_clear,
        }
    }
}

/// A drop counter.
#[derive(Clone, Debug, Serialize)]
pub struct DropRecord {
    /// The node.
    pub node: String,
    /// The port.
    pub port: String,
    /// The reason.
    pub reason: String,
    /// Frames.
    pub frames: u64,
}

impl DropRecord {
    /// Of a world as it is.
    #[must_use]
    pub fn all_of(world: &World) -> Vec<Self> {
        let record = |d: crate::report::DropCount| Self {
            node: d.node,
            port: d.port,
            reason: d.reason,
            frames: d.frames,
        };
        world.drops().into_iter().map(record).collect()
    }
}

/// What `connectivity` prints.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectivityRecord {
    /// Every probe, in order.
    pub results: Vec<ProbeOutcome>,
    /// Those that didn't come out as expected.
    pub mismatches: usize,
}

/// What `diff` prints.
#[derive(Clone, Debug, Serialize)]
pub struct DiffRecord {
    /// What differs.
    pub changes: Vec<Change>,
    /// How many of the changes allow flows.
    pub newly_allowed: usize,
    /// How many deny some.
    pub newly_denied: usize,
    /// Recorded flows, in the file's order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flows: Option<Vec<FlowRecord>>,
    /// How many of them would break.
    pub broken: usize,
    /// Pods without addresses, before and after.
    pub unaddressed: [usize; 2],
    /// What it took.
    pub work: Work,
}

impl DiffRecord {
    /// Counts.
    #[must_use]
    pub fn new(difference: Difference, flows: Option<Vec<FlowRecord>>) -> Self {
        let Difference {
            changes,
            unaddressed,
            work,
        } = difference;
        let count = |now| changes.iter().filter(|it| it.now == now).count();
        let breaks = |it: &&FlowRecord| it.fate == Fate::Breaks;
        Self {
            newly_allowed: count(Now::Allowed),
            newly_denied: count(Now::Denied),
            broken: flows.iter().flatten().filter(breaks).count(),
            changes,
            flows,
            unaddressed,
            work,
        }
    }
}

/// A recorded flow and what becomes of it.
#[derive(Clone, Debug, Serialize)]
pub struct FlowRecord {
    /// The line of the file, from 1.
    pub line: u32,
    /// The initiator as written.
    pub from: String,
    /// The responder as written.
    pub to: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The port as written.
    #[serde(serialize_with = "flow_port")]
    pub port: Option<FlowPort>,
    /// What becomes of it.
    pub fate: Fate,
    /// What decided before.
    pub rule_before: Option<String>,
    /// What decides now.
    pub rule_after: Option<String>,
}

impl FlowRecord {
    /// Of a flow and what was told of it.
    #[must_use]
    pub fn new(asked: &PlacedFlow, told: Told) -> Self {
        Self {
            line: asked.place.line(),
            from: asked.from.clone(),
            to: asked.to.clone(),
            protocol: asked.flow.protocol,
            port: asked.flow.port.clone(),
            fate: told.fate,
            rule_before: told.rule_before,
            rule_after: told.rule_after,
        }
    }

    /// Its protocol and port: `TCP 80`.
    #[must_use]
    pub fn asked(&self) -> String {
        let protocol = format!("{:?}", self.protocol).to_uppercase();
        match &self.port {
            None => protocol,
            Some(FlowPort::Number(port)) => format!("{protocol} {port}"),
            Some(FlowPort::Name(name)) => format!("{protocol} {name}"),
        }
    }
}

fn flow_port<S: Serializer>(port: &Option<FlowPort>, serializer: S) -> Result<S::Ok, S::Error> {
    match port {
        None => serializer.serialize_none(),
        Some(FlowPort::Number(number)) => serializer.serialize_u16(*number),
        Some(FlowPort::Name(name)) => serializer.serialize_str(name),
    }
}

/// What `lint` prints.
#[derive(Clone, Debug, Serialize)]
pub struct LintRecord {
    /// What was found, by object and place in it.
    pub findings: Vec<FindingRecord>,
    /// How many of these are denied.
    pub denied: usize,
    /// SL002 was left out: there are too many flows.
    pub unfinished: bool,
}

/// A finding and where its object is.
#[derive(Clone, Debug, Serialize)]
pub struct FindingRecord {
    /// The kind.
    pub code: Code,
    /// How much it weighs.
    pub level: Level,
    /// Whether it fails the command.
    pub denied: bool,
    /// The object: `NetworkPolicy shop/cart`.
    pub object: String,
    /// Where in it.
    pub path: String,
    /// The file in its folder; none if the object is only referred to.
    pub file: Option<String>,
    /// The line of the object's name, from 1.
    pub line: Option<u32>,
    /// The column, from 1.
    pub column: Option<u32>,
    /// What is there.
    pub message: String,
    /// What to do.
    pub help: String,
}
