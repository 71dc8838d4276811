//! What breaks in a world, and how it is whole again: as scenarios write it.

use core::fmt;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sluice_dataplane_core::tick::Tick;

/// How long a delay of the wires may be, in milliseconds: dataplanes wait three seconds for
/// a neighbour's answer.
pub const DELAY_MS_MAX: u64 = 1_000;

/// How often something happens to a frame, in percent: 1 to 100.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Percent(u8);

impl Percent {
    /// Of a number; those beyond the bounds are the bound.
    #[must_use]
    pub fn new(percent: u8) -> Self {
        Self(percent.clamp(1, 100))
    }

    /// The number.
    #[must_use]
    pub const fn value(self) -> u8 {
        self.0
    }
}

/// A number that is no percentage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0} is no percentage of frames; write a whole number from 1 to 100")]
pub struct NoPercent(u64);

impl TryFrom<u64> for Percent {
    type Error = NoPercent;

    fn try_from(number: u64) -> Result<Self, NoPercent> {
        match u8::try_from(number) {
            Ok(percent @ 1..=100) => Ok(Self(percent)),
            _ => Err(NoPercent(number)),
        }
    }
}

impl From<Percent> for u64 {
    fn from(percent: Percent) -> Self {
        percent.0.into()
    }
}

/// A span of virtual time, written `20us`, `500ms`, `2s`, `24h`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span {
    /// Its length in nanoseconds.
    pub ns: u64,
}

/// A text that is no span.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no time; write a number and ns, us, ms, s or h: 500ms")]
pub struct NoSpan(String);

const UNITS: [(&str, u64); 5] = [
    ("h", 3_600_000 * Tick::MS),
    ("s", 1_000 * Tick::MS),
    ("ms", Tick::MS),
    ("us", 1_000),
    ("ns", 1),
];

impl TryFrom<String> for Span {
    type Error = NoSpan;

    fn try_from(text: String) -> Result<Self, NoSpan> {
        let digits = text.find(|c: char| !c.is_ascii_digit());
        let parts = digits.map(|at| text.split_at(at));
        let span = parts.and_then(|(number, unit)| {
            let unit_ns = UNITS.iter().find(|it| it.0 == unit)?.1;
            let number = number.parse::<u64>().ok()?;
            Some(number.saturating_mul(unit_ns))
        });
        span.map(|ns| Self { ns }).ok_or(NoSpan(text))
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |unit: &&(&str, u64)| self.ns.is_multiple_of(unit.1);
        let (unit, unit_ns) = UNITS.iter().find(fits).copied().unwrap_or(("ns", 1));
        write!(f, "{}{unit}", self.ns / unit_ns)
    }
}

/// What breaks, and where. Those of the wires are for every frame between the nodes, and
/// between them and the outside.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A node's agent sees nothing of what changes in the cluster. CNI goes on there.
    StaleWatch(String),
    /// It sees nothing of what changes among some kinds of objects, and all of the others.
    StaleKinds(StaleKinds),
    /// Frames that are lost.
    Loss(Percent),
    /// Frames that arrive twice.
    Duplication(Percent),
    /// Frames that are overtaken by those behind them.
    Reordering(Percent),
    /// Frames of which one bit turns, behind the Ethernet header. ARP and ND are lost.
    Corruption(Percent),
    /// How much longer every frame takes.
    Delay(Span),
    /// Two nodes that don't hear each other.
    Partition([String; 2]),
    /// No agent hears anything of the API server.
    ApiAway,
    /// The events that a node's agent asks for are gone (HTTP 410): it has to list anew, and
    /// has not done so yet.
    ApiGone(String),
    /// A node's agent lists anew, and its list stops in the middle each time.
    PartialList(String),
    /// A program does nothing, and loses nothing that it has.
    Stalled(Program),
    /// What a node's programs write is on disk only when this is over.
    SlowDisk(String),
    /// A second agent speaks for a node, with the cluster as it is now. Said once more, it
    /// connects anew.
    SecondAgent(String),
    /// A node's clock jumps, once.
    ClockJump(ClockJump),
    /// A bit turns in what a node's dataplane has kept on disk. The next that it keeps is whole.
    CorruptedCheckpoint(String),
    /// The certificate authority issues nothing.
    CaAway,
    /// A node shows a certificate that isn't its own.
    WrongCertificate(WrongCertificate),
}

/// A certificate that isn't the node's own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrongCertificate {
    /// Who shows it.
    pub node: String,
    /// Whom it names, if the cluster's authority has issued it; without, it names the node, and an
    /// authority that nobody knows has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
}

/// Kinds of objects whose watch is late. In Kubernetes each kind has a watch of its own, and none
/// waits for another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaleKinds {
    /// Whose.
    pub node: String,
    /// Which.
    pub kinds: Kinds,
}

/// Kinds of objects, one at least.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<ObjectKind>", into = "Vec<ObjectKind>")]
pub struct Kinds(BTreeSet<ObjectKind>);

impl Kinds {
    /// Which, in order.
    pub fn iter(&self) -> impl Iterator<Item = ObjectKind> {
        self.0.iter().copied()
    }
}

/// Kinds of which there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("name at least one kind of objects whose watch is late")]
pub struct NoKinds;

impl TryFrom<Vec<ObjectKind>> for Kinds {
    type Error = NoKinds;

    fn try_from(all: Vec<ObjectKind>) -> Result<Self, NoKinds> {
        if all.is_empty() {
            return Err(NoKinds);
        }
        Ok(Self(all.into_iter().collect()))
    }
}

impl From<Kinds> for Vec<ObjectKind> {
    fn from(kinds: Kinds) -> Self {
        kinds.iter().collect()
    }
}

/// What has a watch of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
    /// Namespaces.
    Namespaces,
    /// Nodes.
    Nodes,
    /// Pods.
    Pods,
    /// `NetworkPolicy`.
    Policies,
    /// `ClusterNetworkPolicy`.
    ClusterPolicies,
    /// `MultiNetworkPolicy`.
    MultiPolicies,
    /// Services.
    Services,
}

impl ObjectKind {
    /// Its name in a scenario.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Nodes => "nodes",
            Self::Pods => "pods",
            Self::Policies => "policies",
            Self::ClusterPolicies => "cluster-policies",
            Self::MultiPolicies => "multi-policies",
            Self::Services => "services",
        }
    }
}

/// A clock that jumps, ahead or back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockJump {
    /// Whose.
    pub node: String,
    /// How far ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward: Option<Span>,
    /// How far back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<Span>,
}

impl ClockJump {
    /// How far ahead, in nanoseconds; below 0 is back.
    #[must_use]
    pub fn ahead_ns(&self) -> i128 {
        let ns = |span: Option<Span>| span.map_or(0, |it| i128::from(it.ns));
        ns(self.forward) - ns(self.back)
    }
}

/// What is whole again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Heal {
    /// A node's agent sees everything again.
    StaleWatch(String),
    /// It sees every kind of objects again.
    StaleKinds(String),
    /// No frame is lost.
    Loss,
    /// No frame arrives twice.
    Duplication,
    /// Frames keep their order.
    Reordering,
    /// Frames arrive as they were sent.
    Corruption,
    /// Frames take no longer than the links.
    Delay,
    /// Two nodes hear each other again.
    Partition([String; 2]),
    /// Agents hear the API server again, and list anew.
    ApiAway,
    /// A node's agent has listed anew.
    ApiGone(String),
    /// A node's agent gets its list to the end.
    PartialList(String),
    /// A program goes on.
    Stalled(Program),
    /// What was to be written is.
    SlowDisk(String),
    /// The second agent ends, and the first connects anew.
    SecondAgent(String),
    /// The certificate authority issues again.
    CaAway,
    /// A node shows its own certificate again.
    WrongCertificate(String),
    /// Everything, watches too. What was killed stays dead.
    All,
}

/// A program: of a node, or the API server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// The agent of a node.
    Agent(String),
    /// The dataplane of a node.
    Dataplane(String),
    /// All that runs on a node and its DPU. What is on their disks stays.
    Node(String),
    /// The API server. Its objects stay.
    Api,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StaleWatch(node) => write!(f, "stale-watch {node}"),
            Self::StaleKinds(StaleKinds { node, kinds }) => {
                write!(f, "stale-kinds {node}")?;
                kinds.iter().try_for_each(|it| write!(f, " {}", it.name()))
            }
            Self::Loss(it) => write!(f, "loss {} %", it.0),
            Self::Duplication(it) => write!(f, "duplication {} %", it.0),
            Self::Reordering(it) => write!(f, "reordering {} %", it.0),
            Self::Corruption(it) => write!(f, "corruption {} %", it.0),
            Self::Delay(span) => write!(f, "delay {span}"),
            Self::Partition([a, b]) => write!(f, "partition {a} {b}"),
            Self::ApiAway => f.write_str("api-away"),
            Self::ApiGone(node) => write!(f, "api-gone {node}"),
            Self::PartialList(node) => write!(f, "partial-list {node}"),
            Self::Stalled(program) => write!(f, "stalled {program}"),
            Self::SlowDisk(node) => write!(f, "slow-disk {node}"),
            Self::SecondAgent(node) => write!(f, "second-agent {node}"),
            Self::ClockJump(ClockJump {
                node,
                forward,
                back,
            }) => {
                let (span, way) = match (forward, back) {
                    (_, Some(span)) => (*span, "back"),
                    (Some(span), None) => (*span, "forward"),
                    (None, None) => (Span { ns: 0 }, "forward"),
                };
                write!(f, "clock-jump {node} {span} {way}")
            }
            Self::CorruptedCheckpoint(node) => write!(f, "corrupted-checkpoint {node}"),
            Self::CaAway => f.write_str("ca-away"),
            // In brackets, as no node is: what heals it names the one that shows it alone.
            Self::WrongCertificate(WrongCertificate { node, of }) => match of {
                Some(of) => write!(f, "wrong-certificate {node} (of {of})"),
                None => write!(f, "wrong-certificate {node} (of another authority)"),
            },
        }
    }
}

impl fmt::Display for Heal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StaleWatch(node) => write!(f, "stale-watch {node}"),
            Self::StaleKinds(node) => write!(f, "stale-kinds {node}"),
            Self::Loss => f.write_str("loss"),
            Self::Duplication => f.write_str("duplication"),
            Self::Reordering => f.write_str("reordering"),
            Self::Corruption => f.write_str("corruption"),
            Self::Delay => f.write_str("delay"),
            Self::Partition([a, b]) => write!(f, "partition {a} {b}"),
            Self::ApiAway => f.write_str("api-away"),
            Self::ApiGone(node) => write!(f, "api-gone {node}"),
            Self::PartialList(node) => write!(f, "partial-list {node}"),
            Self::Stalled(program) => write!(f, "stalled {program}"),
            Self::SlowDisk(node) => write!(f, "slow-disk {node}"),
            Self::SecondAgent(node) => write!(f, "second-agent {node}"),
            Self::CaAway => f.write_str("ca-away"),
            Self::WrongCertificate(node) => write!(f, "wrong-certificate {node}"),
            Self::All => f.write_str("all"),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(node) => write!(f, "agent {node}"),
            Self::Dataplane(node) => write!(f, "dataplane {node}"),
            Self::Node(node) => write!(f, "node {node}"),
            Self::Api => f.write_str("API server"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_prints_as_it_is_read() {
        for (text, ns) in [
            ("20us", 20_000),
            ("500ms", 500_000_000),
            ("3s", 3_000_000_000),
            ("24h", 86_400_000_000_000),
        ] {
            let span = Span::try_from(text.to_owned()).unwrap();
            assert_eq!((span.ns, span.to_string().as_str()), (ns, text));
        }
        for wrong in ["5", "ms", "5m", "-5s", "1.5s", ""] {
            assert!(Span::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_percentage_is_from_1_to_100() {
        assert_eq!(Percent::try_from(100).map(Percent::value), Ok(100));
        assert!(Percent::try_from(0).is_err() && Percent::try_from(101).is_err());
    }
}
