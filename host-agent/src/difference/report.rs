//! What a comparison found.

use core::fmt;
use std::collections::BTreeSet;

use serde::{Serialize, Serializer};
use sluice_offload_api::model::{IpPrefix, NodeName, Protocol};

use super::workload::show_labels;
use crate::cluster::{Labels, NamespacedName};

/// Names of nodes that an [`End`] has, at most.
pub const NODES_SHOWN_MAX: usize = 8;
/// Rules that a [`Change`] names on each side, at most.
pub const RULES_SHOWN_MAX: usize = 8;

/// What two folders differ in.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Difference {
    /// Flows that one of the two allows, and the other doesn't; by source, destination and
    /// what became of them.
    pub changes: Vec<Change>,
    /// Pods whose addresses the manifests don't give: they are taken to be in no block but
    /// the widest. Before and after.
    pub unaddressed: [usize; 2],
    /// What finding out took.
    pub work: Work,
}

/// How much was compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Work {
    /// Identities of both folders: what policy can tell apart, by address family.
    pub identities: usize,
    /// Pairs of them that a changed object touches.
    pub pairs: usize,
    /// Flows that were judged.
    pub flows: usize,
}

/// Flows from one end to another that are allowed in one folder only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Change {
    /// Who begins.
    pub from: End,
    /// With whom.
    pub to: End,
    /// What became of the flows.
    pub now: Now,
    /// Why.
    pub cause: Cause,
    /// The families in which it is so.
    pub families: Vec<Family>,
    /// Exactly which flows, in order; of ends with several identities those that at least one
    /// pair has.
    pub flows: Vec<Ports>,
    /// What decided before, in order of the names.
    pub rules_before: BTreeSet<String>,
    /// What decides now.
    pub rules_after: BTreeSet<String>,
}

/// An end of flows.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum End {
    /// Pods.
    Workload {
        /// Their namespace.
        namespace: String,
        /// Their owner's name; of one pod without owner the pod's, of several their labels.
        name: String,
        /// If the workload's pods differ in labels, those that these have and others don't.
        #[serde(skip_serializing_if = "Labels::is_empty")]
        variant: Labels,
        /// The network on which they are meant, if not their primary one.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[serde(serialize_with = "as_text")]
        network: Option<NamespacedName>,
    },
    /// Nodes, other than the one that a pod at the other end is on, and their hostNetwork pods.
    Nodes {
        /// The first of their names.
        names: Vec<NodeName>,
        /// How many there are.
        count: usize,
    },
    /// Addresses that no pod, node or service has.
    Outside {
        /// Those in this block,
        #[serde(serialize_with = "display")]
        block: IpPrefix,
        /// but not in these.
        #[serde(serialize_with = "displays", skip_serializing_if = "Vec::is_empty")]
        except: Vec<IpPrefix>,
        /// If the pod's resolver gave them for a name that this pattern is for: the pattern.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
}

fn as_text<S: Serializer>(it: &Option<NamespacedName>, s: S) -> Result<S::Ok, S::Error> {
    match it {
        Some(it) => s.collect_str(it),
        None => s.serialize_none(),
    }
}

fn display<T: fmt::Display, S: Serializer>(it: &T, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(it)
}

fn displays<T: fmt::Display, S: Serializer>(all: &[T], s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(all.iter().map(ToString::to_string))
}

/// Blocks that are taken out of one and shown, at most.
const EXCEPT_SHOWN_MAX: usize = 3;

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload {
                namespace,
                name,
                variant,
                network,
            } => {
                write!(f, "{namespace}/{name}")?;
                if !variant.is_empty() {
                    write!(f, " {}", show_labels(variant))?;
                }
                match network {
                    Some(network) => write!(f, " on {network}"),
                    None => Ok(()),
                }
            }
            Self::Nodes { names, count } => {
                let shown: Vec<_> = names.iter().map(|it| format!("node:{it}")).collect();
                f.write_str(&shown.join(", "))?;
                match count - names.len() {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
            Self::Outside {
                block,
                except,
                name,
            } => {
                if let Some(name) = name {
                    write!(f, "name {name}, ")?;
                }
                write!(f, "outside {block}")?;
                let shown = except.iter().take(EXCEPT_SHOWN_MAX);
                let shown: Vec<_> = shown.map(ToString::to_string).collect();
                if !shown.is_empty() {
                    write!(f, " but {}", shown.join(", "))?;
                }
                match except.len() - shown.len() {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
        }
    }
}

/// What became of flows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Now {
    /// They may be now.
    Allowed,
    /// They may no longer be.
    Denied,
}

/// Why flows changed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// Both ends were there before, and are now.
    Changed,
    /// An end was not there before.
    Added,
    /// An end is no longer there.
    Removed,
}

/// An address family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// Flows of a protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Ports {
    /// The protocol. ICMP stands for all that policies can't name.
    pub protocol: Protocol,
    /// Destination ports; none for ICMP.
    #[serde(flatten)]
    pub range: Option<Range>,
}

/// Destination ports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Range {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
            Protocol::Icmp => "ICMP",
        };
        match self.range {
            None => f.write_str(protocol),
            Some(Range {
                first: 0,
                last: u16::MAX,
            }) => write!(f, "{protocol} all"),
            Some(Range { first, last }) if first == last => write!(f, "{protocol} {first}"),
            Some(Range { first, last }) => write!(f, "{protocol} {first}-{last}"),
        }
    }
}

impl Ports {
    /// Flows without those that are in others too, and adjacent ranges as one.
    pub(super) fn merged(all: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort();
        let mut merged: Vec<Self> = Vec::new();
        for ports in all {
            let last = merged.last_mut().filter(|it| it.protocol == ports.protocol);
            match (last, ports.range) {
                (Some(Self { range: None, .. }), None) => {}
                (
                    Some(Self {
                        range: Some(last), ..
                    }),
                    Some(next),
                ) if next.first <= last.last.saturating_add(1) => {
                    last.last = last.last.max(next.last);
                }
                _ => merged.push(ports),
            }
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(first: u16, last: u16) -> Ports {
        Ports {
            protocol: Protocol::Tcp,
            range: Some(Range { first, last }),
        }
    }

    #[test]
    fn adjacent_and_overlapping_ranges_are_one() {
        let icmp = Ports {
            protocol: Protocol::Icmp,
            range: None,
        };
        let all = [
            icmp,
            tcp(90, 99),
            tcp(80, 85),
            tcp(84, 89),
            icmp,
            tcp(101, u16::MAX),
        ];
        let text: Vec<_> = Ports::merged(all).iter().map(ToString::to_string).collect();
        assert_eq!(text, ["TCP 80-99", "TCP 101-65535", "ICMP"]);
        let whole = Ports::merged([tcp(1, u16::MAX), tcp(0, 0), tcp(u16::MAX, u16::MAX)]);
        assert_eq!(whole[0].to_string(), "TCP all");
    }

    #[test]
    fn ports_are_json_of_a_protocol_and_a_range() {
        let json = |it: Ports| serde_json::to_string(&it).unwrap();
        assert_eq!(
            json(tcp(80, 81)),
            r#"{"protocol":"TCP","first":80,"last":81}"#
        );
        let icmp = Ports {
            protocol: Protocol::Icmp,
            range: None,
        };
        assert_eq!(json(icmp), r#"{"protocol":"ICMP"}"#);
    }
}
