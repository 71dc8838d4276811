//! What a timeline shows: plain data, as the page reads it.
//!
//! Times are nanoseconds of virtual time since boot. Nothing here tells when or where a run
//! was made, so the same scenario and seed give the same bytes.

use std::net::IpAddr;

use serde::Serialize;
use sluice_offload_api::model::{Direction, Verdict};

/// Conversations of a timeline, at most: a page with more is no pleasure. What is beyond is
/// counted.
pub(super) const TALKS_MAX: usize = 5_000;

/// A run over time.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Timeline {
    /// The scenario's name.
    pub scenario: String,
    /// What it shows.
    pub description: String,
    /// Where keys and chance came from.
    pub seed: u64,
    /// Whether every check held.
    pub ok: bool,
    /// When the run ended.
    pub end_ns: u64,
    /// Nodes, by name.
    pub nodes: Vec<String>,
    /// Pods that had a VF at some time, by node and name.
    pub pods: Vec<PodSpan>,
    /// What was done, in order.
    pub steps: Vec<StepSpan>,
    /// Who talked to whom.
    pub talks: Vec<Talk>,
    /// Conversations beyond [`TALKS_MAX`].
    pub talks_left_out: usize,
    /// What was dropped, in the order in which counters told it.
    pub drops: Vec<Drop>,
    /// Generations in force.
    pub generations: Vec<InForce>,
    /// Fresh keys.
    pub keys: Vec<FreshKey>,
    /// What was broken, and until when.
    pub faults: Vec<FaultSpan>,
    /// Checks that failed.
    pub failures: Vec<FailedCheck>,
    /// What the reasons of `drops` mean.
    pub reasons: Vec<ReasonText>,
}

/// A pod on a VF, from when to when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PodSpan {
    /// The node.
    pub node: String,
    /// `namespace/name`, of a secondary interface `namespace/name@net1`.
    pub pod: String,
    /// The VF's port.
    pub vf: String,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Since when.
    pub from_ns: u64,
    /// Until when; none if it was there at the end.
    pub to_ns: Option<u64>,
}

/// A step.
#[derive(Clone, Debug, Serialize)]
pub struct StepSpan {
    /// Its verb.
    pub verb: &'static str,
    /// What it was about.
    pub about: String,
    /// The scenario's line, from 1.
    pub line: u32,
    /// Whether its checks held.
    pub ok: bool,
    /// Probes that it sent.
    pub probes: usize,
    /// What came of its jobs, a line each.
    pub work: Vec<String>,
    /// When it began.
    pub from_ns: u64,
    /// When it was over.
    pub to_ns: u64,
}

/// A conversation: a probe's, or frames that nobody asked a question with.
#[derive(Clone, Debug, Serialize)]
pub struct Talk {
    /// The step, from 0.
    pub step: usize,
    /// When it began.
    pub from_ns: u64,
    /// When all of it had come to rest.
    pub to_ns: u64,
    /// Who began: `namespace/pod`, `node:NAME` or an address outside.
    pub from: String,
    /// To whom.
    pub to: String,
    /// The protocol and, where there is one, the responder's port.
    pub what: String,
    /// Frames that either end sent.
    pub sent: u64,
    /// Frames that came to either end.
    pub delivered: u64,
    /// What came of the question, if it was one.
    pub probe: Option<Answer>,
}

/// What came of a probe.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// What the frames showed.
    pub verdict: Verdict,
    /// The side whose policy denied.
    #[serde(rename = "where")]
    pub at: Option<Direction>,
    /// The rule that decided.
    pub rule: Option<String>,
    /// Whether it crossed the wire, all of it inside ESP.
    pub encrypted: bool,
    /// Whether all who know better agree.
    pub ok: bool,
    /// Who doesn't, in words.
    pub wrong: Vec<String>,
}

/// Frames that one port dropped for one reason, between two looks at the counters.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Drop {
    /// The step, from 0.
    pub step: usize,
    /// When counters were looked at before.
    pub from_ns: u64,
    /// When they had them.
    pub to_ns: u64,
    /// The node.
    pub node: String,
    /// The port that they came by.
    pub port: String,
    /// The pod behind it.
    pub pod: Option<String>,
    /// The reason's name.
    pub reason: String,
    /// How many.
    pub frames: u64,
    /// The conversation that was under way, by its place in the list.
    pub talk: Option<usize>,
}

/// A generation that is in force at a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct InForce {
    /// Since when.
    pub at_ns: u64,
    /// The node.
    pub node: String,
    /// Its number.
    pub generation: u64,
}

/// A fresh key at one end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FreshKey {
    /// Since when.
    pub at_ns: u64,
    /// The node.
    pub node: String,
    /// The node at the other end.
    pub peer: String,
    /// `receive`: the node is ready for what comes by it. `send`: it sends by it.
    pub way: &'static str,
    /// The SA's index, in hex.
    pub spi: String,
}

/// Something that was broken.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FaultSpan {
    /// What, as the scenario has it.
    pub about: String,
    /// The nodes that it names; none: all wires.
    pub nodes: Vec<String>,
    /// Since when.
    pub from_ns: u64,
    /// Until when; none if it never was whole again.
    pub to_ns: Option<u64>,
    /// The step that broke it, from 0.
    pub step: usize,
    /// The step that made it whole.
    pub healed: Option<usize>,
}

/// A check that failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FailedCheck {
    /// When it was found.
    pub at_ns: u64,
    /// The step; none if it was found at the end of the run.
    pub step: Option<usize>,
    /// What is wrong.
    pub what: String,
}

/// What a reason means.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ReasonText {
    /// Its name.
    pub name: &'static str,
    /// A sentence.
    pub text: String,
}
