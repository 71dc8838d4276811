//! What a run leaves behind: report.json, the same as `--output json` prints.
//!
//! No wall-clock times, no paths: the same scenario and seed give the same bytes.

use std::net::IpAddr;

use serde::Serialize;

use crate::probe::Family;
use crate::verify::ProbeOutcome;
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
    pub failed_checks: Vec<String>,
    /// The cluster at the end.
    pub cluster: ClusterRecord,
    /// What was on the wire.
    pub wire: WireRecord,
    /// Drop counters that aren't zero.
    pub drops: Vec<DropRecord>,
    /// Frames that no counter accounts for.
    pub unaccounted: u64,
    /// Virtual time that passed, in nanoseconds.
    pub time_ns: u64,
}

/// What a world was made with.
#[derive(Clone, Debug, Serialize)]
pub struct ConfigRecord {
    /// The seed.
    pub seed: u64,
    /// Workers of each node.
    pub workers: u32,
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
            workers: 1,
            algorithm: config.algorithm.name(),
            esn: config.esn,
            underlay: config.underlay,
            udp_encap: config.udp_encap,
        }
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
