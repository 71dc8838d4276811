//! Flows that were recorded: whether they still may be.

use core::net::IpAddr;
use std::collections::BTreeSet;

use serde::Serialize;
use sluice_offload_api::model::{NodeName, PodRef, Protocol, Verdict};

use super::classes::Half;
use super::folder::Folder;
use super::judge::{judge, pod};
use super::workload::Workload;
use super::{AFTER, BEFORE, Comparison};
use crate::cluster::{Cluster, Pod};
use crate::evaluate::{KnownNames, Party};

/// A flow that was recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flow {
    /// Who began.
    pub from: FlowEnd,
    /// With whom.
    pub to: FlowEnd,
    /// The protocol.
    pub protocol: Protocol,
    /// The destination port; none for ICMP.
    pub port: Option<FlowPort>,
}

/// An end of a recorded flow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FlowEnd {
    /// A pod, or a workload by its owner's name: then all of its pods. So is a pod that is in
    /// neither folder, if its name is an owner's with one or two generated parts behind.
    Pod(PodRef),
    /// A node.
    Node(NodeName),
    /// Whoever has the address in the folder.
    Ip(IpAddr),
}

/// A recorded destination port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FlowPort {
    /// By number.
    Number(u16),
    /// By the name that the destination has for it.
    Name(String),
}

/// What becomes of a recorded flow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It is denied now, and nothing says that it was before.
    Breaks,
    /// It was denied, and is no more.
    Opens,
    /// It may be, as before.
    Allowed,
    /// It may not be, as before.
    Denied,
    /// An end is no longer there.
    Gone,
    /// An end is in neither folder, or the ends have no family in common.
    Unknown,
}

/// What is known of a recorded flow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Told {
    /// What becomes of it.
    pub fate: Fate,
    /// What decided before.
    pub rule_before: Option<String>,
    /// What decides now.
    pub rule_after: Option<String>,
}

/// A folder's word on a flow, family by family.
#[derive(Default)]
struct Word {
    /// Of the flows that it may stand for, by family: that one of them may be, and that all may.
    some: [bool; 2],
    all: [bool; 2],
    there: [bool; 2],
    /// What decided, a denial before all else.
    rule: Option<String>,
}

impl Comparison {
    /// What becomes of a flow. If an end stands for several pods, it breaks if it does for any.
    #[must_use]
    pub fn fate(&self, flow: &Flow) -> Told {
        let [before, after] = [BEFORE, AFTER].map(|side| self.word(side, flow));
        let there = |it: &Word| it.there.contains(&true);
        let fate = match (there(&before), there(&after)) {
            (false, false) => Fate::Unknown,
            (true, false) => Fate::Gone,
            (false, true) if after.denies() => Fate::Breaks,
            (false, true) => Fate::Allowed,
            (true, true) => {
                let families = [0, 1];
                let breaks = |it: &usize| {
                    let (it, left) = (*it, after.there[*it] && !after.all[*it]);
                    left && (before.some[it] || !before.there[it])
                };
                let opens = |it: &usize| {
                    let it = *it;
                    before.there[it] && !before.some[it] && after.there[it] && after.all[it]
                };
                if families.iter().any(breaks) {
                    Fate::Breaks
                } else if families.iter().any(opens) {
                    Fate::Opens
                } else if after.denies() {
                    Fate::Denied
                } else {
                    Fate::Allowed
                }
            }
        };
        Told {
            fate,
            rule_before: before.rule,
            rule_after: after.rule,
        }
    }

    fn word(&self, side: usize, flow: &Flow) -> Word {
        let folder = &self.folders[side];
        let cluster = &folder.placed;
        let mut word = Word::default();
        let [from, to] = [&flow.from, &flow.to].map(|it| self.who(side, it));
        let mut denied = false;
        for (from, to) in from
            .iter()
            .flat_map(|from| to.iter().map(move |to| (from, to)))
        {
            if from.ip.is_ipv4() != to.ip.is_ipv4() || from.party == to.party {
                continue;
            }
            let family = usize::from(!from.ip.is_ipv4());
            for port in ports(cluster, to, flow) {
                let asked = (flow.protocol, port);
                let Some(judged) = judge(cluster, Some(from), Some(to), KnownNames::NONE, asked)
                else {
                    continue;
                };
                let allowed = judged.verdict == Verdict::Allow;
                word.all[family] = allowed && (word.all[family] || !word.there[family]);
                word.some[family] |= allowed;
                word.there[family] = true;
                if word.rule.is_none() || !allowed && !denied {
                    word.rule = judged.rule;
                }
                denied |= !allowed;
            }
        }
        word
    }

    /// Who an end is in a folder, by address. A pod that only the other folder has is its
    /// workload's pods here.
    fn who(&self, side: usize, end: &FlowEnd) -> Vec<Half> {
        let folder = &self.folders[side];
        let cluster = &folder.placed;
        match end {
            FlowEnd::Ip(ip) => vec![holder(cluster, *ip)],
            FlowEnd::Node(name) => node(cluster, name),
            FlowEnd::Pod(name) => {
                if let Some(found) = cluster.pods.get(name) {
                    if let Some(host) = found.host_node() {
                        return node(cluster, host);
                    }
                    if found.owns_addresses() {
                        return addresses(found);
                    }
                }
                self.of_workload(side, name)
            }
        }
    }

    fn of_workload(&self, side: usize, name: &PodRef) -> Vec<Half> {
        let Folder { pods, placed, .. } = &self.folders[side];
        let other = self.folders[1 - side].pods.get(name);
        let owner = self.owner(name);
        let is = |it: &Workload| match other {
            Some(other) => other.workload == *it,
            None => owner.is_some_and(|owner| it.is(&name.namespace, owner)),
        };
        // One for each identity; others would be told the same.
        let mut known = BTreeSet::new();
        let its = pods.iter().filter(|(_, it)| is(&it.workload));
        let its = its.filter(|(_, it)| known.insert(it.slots.values().collect::<Vec<_>>()));
        let its: Vec<_> = its.filter_map(|(name, _)| placed.pods.get(name)).collect();
        its.into_iter().flat_map(addresses).collect()
    }
}

impl Comparison {
    /// The owner's name that a pod's name is or begins with: `web` of `web-7c9f-x2k8q`, of
    /// `web-0` and of `web`. The longest that either folder has.
    fn owner<'a>(&self, pod: &'a PodRef) -> Option<&'a str> {
        let shorter = |name: &&'a str| {
            let (owner, part) = name.rsplit_once('-')?;
            let generated = !part.is_empty() && part.bytes().all(|it| it.is_ascii_alphanumeric());
            Some(owner).filter(|it| generated && !it.is_empty())
        };
        let mut names = core::iter::successors(Some(pod.name.as_str()), shorter).take(3);
        let known = |name: &&str| {
            let mut pods = self.folders.iter().flat_map(|it| it.pods.values());
            pods.any(|it| it.workload.is(&pod.namespace, name))
        };
        names.find(known)
    }
}

impl Word {
    fn denies(&self) -> bool {
        let families = self.there.iter().zip(self.all);
        families.into_iter().any(|(there, all)| *there && !all)
    }
}

/// The numbers of the flow's port at its destination; none if it has no such name there.
fn ports(cluster: &Cluster, to: &Half, flow: &Flow) -> Vec<Option<u16>> {
    match &flow.port {
        None => vec![None],
        Some(FlowPort::Number(port)) => vec![Some(*port)],
        Some(FlowPort::Name(name)) => {
            let pod = pod(cluster, &to.party);
            let ports = pod
                .into_iter()
                .flat_map(|it| it.named_ports(name, flow.protocol));
            ports.map(Some).collect()
        }
    }
}

fn half(party: Party, ip: IpAddr) -> Half {
    let key = None;
    Half { party, ip, key }
}

/// A pod's primary addresses.
fn addresses(pod: &Pod) -> Vec<Half> {
    let party = Party::Pod {
        ns: pod.pod.namespace.clone(),
        name: pod.pod.name.clone(),
    };
    pod.ips.iter().map(|ip| half(party.clone(), *ip)).collect()
}

fn node(cluster: &Cluster, name: &NodeName) -> Vec<Half> {
    let ips = cluster.nodes.get(name).into_iter().flat_map(|it| &it.ips);
    ips.map(|ip| half(Party::Node(name.clone()), *ip)).collect()
}

/// Whoever has an address; outside if nobody does.
fn holder(cluster: &Cluster, ip: IpAddr) -> Half {
    // Linear, as there are few flows by address and many addresses.
    if let Some(pod) = cluster.pod_at(ip) {
        let PodRef { namespace, name } = pod.pod.clone();
        let ns = namespace;
        return half(Party::Pod { ns, name }, ip);
    }
    let mut nodes = cluster.nodes.iter();
    match nodes.find(|(_, it)| it.ips.contains(&ip)) {
        Some((name, _)) => half(Party::Node(name.clone()), ip),
        None => half(Party::Outside(ip), ip),
    }
}
