//! The scenario file: a cluster and what is done to it, step by step.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde::Deserialize;
use serde_saphyr::Spanned;
use sluice_crypto::key::Algorithm;
use sluice_dataplane_core::tick::Tick;
use sluice_host_agent::cluster::{EncryptionSetup, LoosestAboveDefault, NamespacedName};
use sluice_offload_api::model::{Encryption, NodeName, PodRef, Protocol, Verdict};

use super::attack::{Attack, AttackEntry, Send, SendEntry};
use super::changes::{ApplyEntry, Patch, Scale};
use super::expect::{Expect, ExpectEntry};
use super::probes::{PortEntry, ProbeEntry, check_port};
use super::settings::{SaEntry, WorkersEntry, drifts, flows_max, lanes, pod_cidrs};
use super::workload::{self, JobEntry};
use super::{
    InputError, Manifests, Place, PlacedProbe, Source, load_manifests, load_probes, parse_party,
};
use crate::fault::{DELAY_MS_MAX, Fault, Heal, Program, Span};
use crate::probe::{Family, Party, Probe, ProbePort};
use crate::workload::Job;
use crate::world::{DEFAULT_NODES, WorldConfig};

/// Steps of a scenario, at most.
pub const STEPS_MAX: usize = 1_000;
/// Frames that one step replays, at most.
pub const REPLAY_MAX: usize = 1_000;
/// Times that one step renews all keys, at most.
pub const REKEYS_MAX: u32 = 1_000;
/// How long one step waits, in hours of virtual time, at most.
pub const WAIT_H_MAX: u64 = 24;
/// How far a clock jumps, in nanoseconds, at most.
const JUMP_NS_MAX: u64 = WAIT_H_MAX * 3_600 * Tick::SECOND;
/// Length of a capture that is read, in bytes, at most.
const CAPTURE_BYTES_MAX: u64 = 64 << 20;

/// A scenario, with every file that it names already read.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it shows.
    pub description: String,
    /// What the world is made with.
    pub config: WorldConfig,
    /// Where the VFs of [`WorldConfig::vfs`] were chosen.
    pub vfs_place: Option<Place>,
    /// The cluster at the beginning.
    pub manifests: Manifests,
    /// Steps, in order.
    pub steps: Vec<Step>,
}

/// A step and where it was written.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its place.
    pub place: Place,
    /// What is done.
    pub action: Action,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Objects are added or replaced.
    Apply {
        /// The path as it was written, or what the objects are called.
        path: String,
        /// The objects.
        manifests: Manifests,
    },
    /// An object is taken away.
    Delete(Delete),
    /// Labels change.
    Patch(Patch),
    /// A template has another number of pods.
    Scale(Scale),
    /// One question.
    Probe(PlacedProbe),
    /// The questions of a file.
    Probes {
        /// The path as it was written.
        path: String,
        /// The questions.
        probes: Vec<PlacedProbe>,
    },
    /// Frames are sent between all pods.
    Matrix(Matrix),
    /// Time passes.
    Wait {
        /// How much.
        ns: u64,
    },
    /// All nodes get fresh keys.
    Rekey {
        /// One time after the other.
        times: u32,
    },
    /// Something breaks.
    Fault(Fault),
    /// It is whole again.
    Heal(Heal),
    /// A program dies.
    Kill(Program),
    /// A program starts.
    Restart(Program),
    /// A node's machine is another one.
    Replace(String),
    /// Frames that nobody may send.
    Attack(Attack),
    /// A packet with another one's source address.
    Spoof(Spoof),
    /// A packet of a size, that asks nothing.
    Send(Send),
    /// Frames of the wire once more.
    Replay {
        /// The last so many.
        frames: usize,
    },
    /// Several send, each at its own pace.
    Workload(Vec<Job>),
    /// What must be true of the run so far.
    Expect(Expect),
}

/// A packet whose sender claims to be another one.
#[derive(Clone, Debug)]
pub struct Spoof {
    /// Who sends what, but for its source address.
    pub probe: Probe,
    /// Whose address it has.
    pub address_of: Party,
}

/// Which object goes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// Its kind.
    pub kind: DeleteKind,
    /// Its namespace, if its kind has one.
    #[serde(default)]
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Kinds that can go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub enum DeleteKind {
    /// A policy.
    NetworkPolicy,
    /// A policy of the cluster.
    ClusterNetworkPolicy,
    /// A policy of secondary networks.
    MultiNetworkPolicy,
    /// A node, with its dataplane and all; no pods may be on it.
    Node,
    /// A pod.
    Pod,
}

impl Delete {
    /// The name of a policy.
    #[must_use]
    pub fn policy(&self) -> NamespacedName {
        NamespacedName {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }

    /// The name of a pod.
    #[must_use]
    pub fn pod(&self) -> PodRef {
        PodRef {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}

/// One question from every pod to every other.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// The protocol.
    pub protocol: Protocol,
    /// The port; a pod without a port of this name is not asked.
    pub port: Option<ProbePort>,
    /// The family; else the source's first.
    pub family: Option<Family>,
    /// Only pods of these namespaces; empty is all.
    pub namespaces: Vec<String>,
    /// What each answer must be; else the evaluator alone says.
    pub expect: Option<Verdict>,
}

/// Reads a scenario and everything that it names.
///
/// # Errors
/// [`InputError`].
pub fn load_scenario(path: &Path) -> Result<Scenario, InputError> {
    let source = Source::read(path)?;
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    parse_scenario(&source, &Folder(folder))
}

/// The same of a text that is at hand, with the files beside it.
///
/// # Errors
/// [`InputError`].
pub fn parse_scenario(source: &Source, beside: &dyn Beside) -> Result<Scenario, InputError> {
    let entry: ScenarioEntry = source.parse()?;
    entry.check(source, beside)
}

/// The files that a scenario names.
pub trait Beside {
    /// A file or folder of manifests.
    ///
    /// # Errors
    /// [`InputError`].
    fn manifests(&self, name: &str) -> Result<Manifests, InputError>;

    /// A file of probes.
    ///
    /// # Errors
    /// [`InputError`].
    fn probes(&self, name: &str) -> Result<Vec<PlacedProbe>, InputError>;

    /// A capture.
    ///
    /// # Errors
    /// Those of the file system; where there are no such files, that.
    fn capture(&self, name: &str) -> io::Result<Vec<u8>> {
        let text = format!("there is no {name} here");
        Err(io::Error::new(io::ErrorKind::NotFound, text))
    }
}

/// Those of the scenario's own folder.
struct Folder<'a>(&'a Path);

impl Beside for Folder<'_> {
    fn manifests(&self, name: &str) -> Result<Manifests, InputError> {
        load_manifests(&self.0.join(name))
    }

    fn probes(&self, name: &str) -> Result<Vec<PlacedProbe>, InputError> {
        load_probes(&self.0.join(name))
    }

    fn capture(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = File::open(self.0.join(name))?;
        file.take(CAPTURE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > CAPTURE_BYTES_MAX {
            let text = format!("it is longer than the {CAPTURE_BYTES_MAX} bytes that are read");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        Ok(bytes)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioEntry {
    name: String,
    #[serde(default)]
    description: String,
    seed: Option<u64>,
    workers: Option<Spanned<WorkersEntry>>,
    algorithm: Option<Spanned<String>>,
    esn: Option<bool>,
    underlay: Option<Family>,
    udp_encap: Option<bool>,
    encryption: Option<Spanned<EncryptionEntry>>,
    #[serde(default)]
    pod_cidrs: Vec<Spanned<String>>,
    vfs: Option<Spanned<BTreeMap<String, u16>>>,
    flows_max: Option<Spanned<usize>>,
    sa: Option<Spanned<SaEntry>>,
    drift_ppm: Option<Spanned<BTreeMap<String, i32>>>,
    lanes: Option<Spanned<BTreeMap<String, u8>>>,
    manifests: Spanned<String>,
    steps: Spanned<Vec<Spanned<StepEntry>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EncryptionEntry {
    default: Option<Encryption>,
    loosest: Option<Encryption>,
    #[serde(default)]
    unprotected_nodes: Vec<String>,
}

impl EncryptionEntry {
    fn check(&self) -> Result<EncryptionSetup, LoosestAboveDefault> {
        let unprotected = self.unprotected_nodes.iter();
        let unprotected = unprotected.map(|it| it.as_str().into()).collect();
        EncryptionSetup::new(self.default.unwrap_or_default(), self.loosest, unprotected)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum StepEntry {
    Apply(ApplyEntry),
    Delete(Delete),
    Patch(Patch),
    Scale(Scale),
    Probe(ProbeEntry),
    Probes(String),
    Matrix(MatrixEntry),
    Wait(String),
    Rekey(RekeyEntry),
    Fault(Fault),
    Heal(Heal),
    Kill(Program),
    Restart(Program),
    Replace(String),
    Attack(AttackEntry),
    Spoof(SpoofEntry),
    Send(SendEntry),
    Replay(usize),
    Workload(Vec<JobEntry>),
    Expect(ExpectEntry),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RekeyEntry {
    times: Option<u32>,
}

impl RekeyEntry {
    fn check(&self, place: &Place) -> Result<u32, InputError> {
        let times = self.times.unwrap_or(1);
        if (1..=REKEYS_MAX).contains(&times) {
            return Ok(times);
        }
        Err(place.fault(format!(
            "keys can't be renewed {times} times; write 1 to {REKEYS_MAX}"
        )))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MatrixEntry {
    protocol: Protocol,
    port: Option<PortEntry>,
    family: Option<Family>,
    #[serde(default)]
    namespaces: Vec<String>,
    expect: Option<Verdict>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SpoofEntry {
    from: String,
    #[serde(rename = "as")]
    address_of: String,
    to: String,
    protocol: Protocol,
    port: Option<PortEntry>,
    family: Option<Family>,
}

impl SpoofEntry {
    fn check(self, place: &Place) -> Result<Spoof, InputError> {
        check_port(self.protocol, self.port.as_ref(), place)?;
        let party = |text: &str| parse_party(text).map_err(|error| place.fault(error));
        Ok(Spoof {
            probe: Probe {
                from: party(&self.from)?,
                to: party(&self.to)?,
                from_network: None,
                to_network: None,
                protocol: self.protocol,
                port: self.port.map(|port| port.0),
                family: self.family,
                source_port: None,
                expect: None,
            },
            address_of: party(&self.address_of)?,
        })
    }
}

impl ScenarioEntry {
    fn check(self, source: &Source, beside: &dyn Beside) -> Result<Scenario, InputError> {
        let config = self.config(source)?;
        let count = self.steps.value.len();
        if count > STEPS_MAX {
            let place = source.at(self.steps.referenced.into());
            return Err(place.fault(format!("{count} steps are more than {STEPS_MAX}")));
        }
        let step = |entry: Spanned<StepEntry>| {
            let place = source.at(entry.referenced.into());
            Ok(Step {
                action: entry.value.check(&place, beside)?,
                place,
            })
        };
        let named_at = source.at(self.manifests.referenced.into());
        let manifests = beside
            .manifests(&self.manifests.value)
            .map_err(|error| named_at.naming(error))?;
        let vfs_place = self.vfs.as_ref().map(|it| source.at(it.referenced.into()));
        if let Some(place) = &vfs_place
            && let Some(pod) = config
                .vfs
                .keys()
                .find(|it| !manifests.cluster.pods.contains_key(it))
        {
            return Err(place.fault(format!("vfs names {pod}; there is no such pod")));
        }
        let has = |it: &&NodeName| match manifests.cluster.nodes.is_empty() {
            true => DEFAULT_NODES.contains(&it.0.as_str()),
            false => manifests.cluster.nodes.contains_key(*it),
        };
        let drifts = self.drift_ppm.as_ref().map(|it| it.referenced);
        let lanes = self.lanes.as_ref().map(|it| it.referenced);
        let drifting = config.drift_ppm.keys().find(|it| !has(it));
        let laned = config.lanes.keys().find(|it| !has(it));
        let workers = self.workers.as_ref().map(|it| it.referenced);
        let working = config.workers_at.keys().find(|it| !has(it));
        for (field, at, node) in [
            ("drift_ppm", drifts, drifting),
            ("lanes", lanes, laned),
            ("workers", workers, working),
        ] {
            if let Some((at, node)) = at.zip(node) {
                let place = source.at(at.into());
                return Err(place.fault(format!("{field} names {node}; there is no such node")));
            }
        }
        Ok(Scenario {
            manifests,
            vfs_place,
            name: self.name,
            description: self.description,
            config,
            steps: self
                .steps
                .value
                .into_iter()
                .map(step)
                .collect::<Result<_, InputError>>()?,
        })
    }

    fn config(&self, source: &Source) -> Result<WorldConfig, InputError> {
        let default = WorldConfig::default();
        let (workers, workers_at) = WorkersEntry::check(self.workers.as_ref(), source)?;
        let algorithm = self.algorithm.as_ref().map(|name| {
            let place = source.at(name.referenced.into());
            name.value
                .parse::<Algorithm>()
                .map_err(|error| place.fault(error))
        });
        let sa = SaEntry::check(self.sa.as_ref(), source)?;
        let encryption = self.encryption.as_ref().map(|entry| {
            let place = source.at(entry.referenced.into());
            entry.value.check().map_err(|error| place.fault(error))
        });
        Ok(WorldConfig {
            encryption: encryption.transpose()?.unwrap_or_default(),
            pod_cidrs: pod_cidrs(&self.pod_cidrs, source)?,
            seed: self.seed.unwrap_or(default.seed),
            algorithm: algorithm.transpose()?.unwrap_or(default.algorithm),
            esn: self.esn.unwrap_or(default.esn),
            underlay: self.underlay.unwrap_or(default.underlay),
            udp_encap: self.udp_encap.unwrap_or(default.udp_encap),
            vfs: self.chosen_vfs(source)?,
            flows_max: flows_max(self.flows_max.as_ref(), source, default.flows_max)?,
            sa_first: sa.0,
            sa_packets_max: sa.1,
            drift_ppm: drifts(self.drift_ppm.as_ref(), source)?,
            workers,
            workers_at,
            lanes: lanes(self.lanes.as_ref(), source)?,
            peers_only: default.peers_only,
            keeps_wire: default.keeps_wire,
        })
    }

    /// Pods and the VFs that were chosen for them.
    fn chosen_vfs(&self, source: &Source) -> Result<BTreeMap<PodRef, u16>, InputError> {
        let Some(vfs) = &self.vfs else {
            return Ok(BTreeMap::new());
        };
        let place = source.at(vfs.referenced.into());
        let chosen = |(pod, index): (&String, &u16)| match parse_party(pod) {
            Ok(Party::Pod { namespace, name }) => Ok((PodRef { namespace, name }, *index)),
            _ => Err(place.fault(format!("`{pod}` is not namespace/pod"))),
        };
        vfs.value.iter().map(chosen).collect()
    }
}

impl StepEntry {
    fn check(self, place: &Place, beside: &dyn Beside) -> Result<Action, InputError> {
        Ok(match self {
            Self::Apply(entry) => {
                let (path, manifests) = entry.read(place, beside)?;
                let manifests = manifests.in_part();
                Action::Apply { path, manifests }
            }
            Self::Delete(delete) => Action::Delete(delete),
            Self::Patch(patch) => Action::Patch(patch),
            Self::Scale(scale) => Action::Scale(scale.check(place)?),
            Self::Probe(entry) => {
                let probe = entry.check(place)?;
                Action::Probe(PlacedProbe {
                    probe,
                    place: place.clone(),
                })
            }
            Self::Probes(path) => Action::Probes {
                probes: beside.probes(&path).map_err(|e| place.naming(e))?,
                path,
            },
            Self::Matrix(entry) => {
                check_port(entry.protocol, entry.port.as_ref(), place)?;
                Action::Matrix(Matrix {
                    protocol: entry.protocol,
                    port: entry.port.map(|port| port.0),
                    family: entry.family,
                    namespaces: entry.namespaces,
                    expect: entry.expect,
                })
            }
            Self::Wait(text) => Action::Wait {
                ns: duration_ns(&text, place)?,
            },
            Self::Rekey(entry) => Action::Rekey {
                times: entry.check(place)?,
            },
            Self::Fault(fault) => Action::Fault(check_fault(fault, place)?),
            Self::Heal(heal) => Action::Heal(heal),
            Self::Kill(program) => Action::Kill(program),
            Self::Restart(program) => Action::Restart(program),
            Self::Replace(node) => Action::Replace(node),
            Self::Attack(entry) => Action::Attack(entry.check(place)?),
            Self::Spoof(entry) => Action::Spoof(entry.check(place)?),
            Self::Send(entry) => Action::Send(entry.check(place)?),
            Self::Replay(frames) => Action::Replay {
                frames: check_frames(frames, place)?,
            },
            Self::Workload(jobs) => Action::Workload(workload::check(jobs, place, beside)?),
            Self::Expect(entry) => Action::Expect(entry.check(place)?),
        })
    }
}

/// Reads `20us`, `500ms`, `2s`, `24h`.
pub(super) fn duration_ns(text: &str, place: &Place) -> Result<u64, InputError> {
    let span = Span::try_from(text.to_owned()).map_err(|error| place.fault(error))?;
    if span.ns > WAIT_H_MAX * 3_600 * Tick::SECOND {
        return Err(place.fault(format!(
            "{text} is longer than the {WAIT_H_MAX}h of one step"
        )));
    }
    Ok(span.ns)
}

fn check_fault(fault: Fault, place: &Place) -> Result<Fault, InputError> {
    match &fault {
        Fault::Delay(span) if span.ns > DELAY_MS_MAX * Tick::MS => Err(place.fault(format!(
            "a delay of {span} is longer than the {DELAY_MS_MAX}ms that a wire may have"
        ))),
        Fault::ClockJump(jump) if jump.forward.is_some() == jump.back.is_some() => {
            Err(place.fault("a clock jumps either `forward` or `back`; write one of them"))
        }
        Fault::ClockJump(jump) if jump.ahead_ns().abs() > i128::from(JUMP_NS_MAX) => Err(place
            .fault(format!(
                "a jump of {} is longer than {WAIT_H_MAX}h",
                Span {
                    ns: u64::try_from(jump.ahead_ns().abs()).unwrap_or(u64::MAX)
                }
            ))),
        Fault::Stalled(program @ (Program::Node(_) | Program::Api)) => Err(place.fault(format!(
            "{program} can't be stalled; `agent` and `dataplane` can"
        ))),
        _ => Ok(fault),
    }
}

fn check_frames(frames: usize, place: &Place) -> Result<usize, InputError> {
    if (1..=REPLAY_MAX).contains(&frames) {
        return Ok(frames);
    }
    Err(place.fault(format!(
        "{frames} frames can't be replayed; write 1 to {REPLAY_MAX}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(text: &str) -> Result<Action, String> {
        let source = Source::new("s.yaml", text.to_owned());
        let entry: Spanned<StepEntry> = source.parse().map_err(|e| e.to_string())?;
        let place = source.at(entry.referenced.into());
        entry
            .value
            .check(&place, &Folder(Path::new("")))
            .map_err(|e| e.to_string())
    }

    #[test]
    fn waits_are_a_number_and_a_unit() {
        let ns = |text: &str| match step(&format!("wait: {text}")) {
            Ok(Action::Wait { ns }) => Ok(ns),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        };
        assert_eq!(ns("20us"), Ok(20_000));
        assert_eq!(ns("500ms"), Ok(500_000_000));
        assert_eq!(ns("24h"), Ok(86_400_000_000_000));
        for wrong in [
            "86401s",
            "25h",
            "99999999999999999999s",
            "5",
            "ms",
            "5m",
            "-5s",
            "1.5s",
            "\"\"",
        ] {
            assert!(ns(wrong).unwrap_err().starts_with("s.yaml:1:"), "{wrong}");
        }
    }

    #[test]
    fn an_unknown_verb_is_refused_with_the_known_ones() {
        let error = step("frobnicate: {}").unwrap_err();
        let verbs = "apply, delete, patch, scale, probe, probes, matrix, wait, rekey, fault, \
                     heal, kill, restart, replace, attack, spoof, send, replay, workload, expect";
        assert!(error.starts_with("s.yaml:1:1: "), "{error}");
        assert!(
            error.contains("`frobnicate`") && error.contains(verbs),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_drop_reason_is_refused_with_the_known_ones() {
        let error = step("expect: {drops: {policy: some}}").unwrap_err();
        assert!(error.contains("`policy` is no reason") && error.contains("policy-egress"));
        assert!(step("expect: {drops: {policy-egress: none}, encrypted: all}").is_ok());
    }

    #[test]
    fn fields_that_a_verb_lacks_are_refused() {
        for text in [
            "rekey: {now: true}",
            "rekey: {times: 0}",
            "rekey: {times: 1001}",
            "scale: {kind: Deployment, name: a, replicas: 201}",
            "patch: {kind: Node, name: a, labels: {}}",
            "fault: {clock-jump: {node: a}}",
            "fault: {clock-jump: {node: a, forward: 1s, back: 1s}}",
            "fault: {clock-jump: {node: a, back: 25h}}",
            "fault: {stalled: {node: a}}",
            "fault: {stalled: api}",
            "heal: corrupted-checkpoint",
            "kill: apis",
            "apply: []",
            "apply: {kind: Pod, apiVersion: v1, metadata: {name: a, namespace: 7/8}}",
            "attack: {by: syn-flood, from: a/b, to: c/d, port: 80}",
            "attack: {by: syn-flood, from: a/b, to: c/d, port: 80, frames: 10001}",
            "attack: {by: arp, from: a/b}",
            "send: {from: a/b, to: c/d, protocol: UDP, port: 80, size: 9001}",
            "send: {from: a/b, to: c/d, protocol: UDP, port: 80, size: 9, fragment: 12}",
            "send: {from: a/b, to: c/d, protocol: UDP, size: 9}",
            "attack: {by: arp, from: \"node:a\", as: a/b}",
            "attack: {by: dhcp-offer, from: a/b, to: c/d}",
            "expect: {settled_within: 25h}",
            "expect: {marks: {fire: some}}",
            "expect: {drops: {no-sa: many}}",
            "delete: {kind: Service, namespace: a, name: b}",
            "matrix: {protocol: ICMP, ports: 1}",
            "expect: {drop: {}}",
            "expect: {encrypted: some}",
        ] {
            let said = step(text).map(|it| format!("{it:?}"));
            assert!(
                said.as_ref().is_err_and(|it| it.starts_with("s.yaml:1:")),
                "{text}: {said:?}"
            );
        }
    }
}
