//! Pairs of ends, judged in both folders at every boundary that a rule draws.

use std::collections::BTreeSet;

use sluice_offload_api::model::{Direction, Protocol, Tier, Verdict};

use super::classes::{Class, Half};
use super::folder::{Folder, Key};
use super::report::{Ports, Range};
use super::{AFTER, BEFORE};
use crate::cluster::{Cluster, ClusterRule, Mode, NamespacedName, Pod, PortRule, PortSpec, Rule};
use crate::evaluate::{Judgement, KnownNames, Party, evaluate_knowing};

/// A policy that is in force for an end, as far as it says anything in a direction. Equal ones
/// say the same of the same flows.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Selected<'a> {
    Own(&'a NamespacedName, &'a [Rule]),
    Cluster(&'a String, Tier, u16, &'a [ClusterRule]),
    Multi(&'a NamespacedName, &'a BTreeSet<NamespacedName>, &'a [Rule]),
}

impl<'a> Selected<'a> {
    pub(super) fn rules(&self) -> Vec<&'a Rule> {
        match self {
            Self::Own(_, rules) | Self::Multi(_, _, rules) => rules.iter().collect(),
            Self::Cluster(.., rules) => rules.iter().filter_map(|it| it.flows.as_ref()).collect(),
        }
    }
}

/// The policies in force for an end in a direction.
pub(super) fn selected<'a>(
    cluster: &'a Cluster,
    half: &Half,
    direction: Direction,
) -> Vec<Selected<'a>> {
    let Some(pod) = pod(cluster, &half.party) else {
        return Vec::new();
    };
    if let Some(interface) = pod.interface_at(half.ip) {
        let multi = cluster.multi_policies_of(pod, interface);
        let multi = multi.filter(|(_, it)| it.policy.mode == Mode::Enforce);
        let selected = multi.filter_map(|(name, it)| {
            let rules = it.policy.rules(direction)?;
            Some(Selected::Multi(name, &it.networks, rules))
        });
        return selected.collect();
    }
    let own = cluster.policies_of(pod);
    let own = own.filter(|(_, it)| it.mode == Mode::Enforce);
    let own = own.filter_map(|(name, it)| Some(Selected::Own(name, it.rules(direction)?)));
    let tiers = cluster.cluster_policies_of(pod).into_iter();
    let tiers = tiers.filter(|(_, it)| it.mode == Mode::Enforce);
    let tiers = tiers.filter(|(_, it)| !it.rules(direction).is_empty());
    let tiers =
        tiers.map(|(name, it)| Selected::Cluster(name, it.tier, it.priority, it.rules(direction)));
    own.chain(tiers).collect()
}

pub(super) fn pod<'a>(cluster: &'a Cluster, party: &Party) -> Option<&'a Pod> {
    let Party::Pod { ns, name } = party else {
        return None;
    };
    let (namespace, name) = (ns.clone(), name.clone());
    let name = sluice_offload_api::model::PodRef { namespace, name };
    cluster.pods.get(&name)
}

/// A class with what is for it: egress and ingress, before and after.
pub(super) struct Ready<'a> {
    pub(super) class: &'a Class,
    egress: [Vec<Selected<'a>>; 2],
    ingress: [Vec<Selected<'a>>; 2],
    /// Whether the policies of the other end can't see any difference.
    same: bool,
    /// Whether its own are the same, by direction.
    same_egress: bool,
    same_ingress: bool,
}

impl<'a> Ready<'a> {
    pub(super) fn new(class: &'a Class, folders: &'a [Folder; 2]) -> Self {
        let of = |direction| {
            [BEFORE, AFTER].map(|side| match &class.halves[side] {
                Some(half) => selected(&folders[side].reduced, half, direction),
                None => Vec::new(),
            })
        };
        let namespace = |side: usize| match class.halves[side].as_ref()?.key.as_ref()? {
            Key::Pod { namespace, .. } => Some(folders[side].placed.namespace_labels(namespace)),
            Key::Node { .. } => None,
        };
        // Of somebody of the cluster it is no question.
        let is_nobodys = |side: usize, half: &Half| {
            matches!(half.party, Party::Outside(_)) && folders[side].placed.is_for_pods(half.ip)
        };
        let same = match &class.halves {
            [Some(before), Some(after)] => {
                before.key == after.key
                    && namespace(BEFORE) == namespace(AFTER)
                    && is_nobodys(BEFORE, before) == is_nobodys(AFTER, after)
            }
            _ => false,
        };
        let (egress, ingress) = (of(Direction::Egress), of(Direction::Ingress));
        Self {
            class,
            same,
            same_egress: egress[BEFORE] == egress[AFTER],
            same_ingress: ingress[BEFORE] == ingress[AFTER],
            egress,
            ingress,
        }
    }

    /// Whether flows from here to there may be judged differently in the two folders.
    pub(super) const fn differs(&self, to: &Self) -> bool {
        !(self.same && to.same && self.same_egress && to.same_ingress)
    }

    /// All flows from here to there, in pieces that no rule of these folders divides, each with
    /// one flow of it.
    pub(super) fn pieces(&self, to: &Self) -> Vec<(Ports, Option<u16>)> {
        let rules: Vec<_> = [BEFORE, AFTER]
            .into_iter()
            .flat_map(|side| self.egress[side].iter().chain(&to.ingress[side]))
            .flat_map(Selected::rules)
            .flat_map(|it| &it.ports)
            .collect();
        let mut pieces = Vec::new();
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            let of = rules.iter().copied().filter(|it| it.protocol == protocol);
            let starts = starts(of, to.class);
            let ends = starts.iter().skip(1).map(|it| it - 1);
            let ends = ends.chain([u16::MAX]);
            for (&first, last) in starts.iter().zip(ends) {
                let range = Some(Range { first, last });
                pieces.push((Ports { protocol, range }, Some(first)));
            }
        }
        let icmp = Ports {
            protocol: Protocol::Icmp,
            range: None,
        };
        pieces.push((icmp, None));
        pieces
    }
}

/// Where ports begin that some rule may tell from the one before.
fn starts<'a>(rules: impl Iterator<Item = &'a PortRule>, to: &Class) -> BTreeSet<u16> {
    let mut starts = BTreeSet::from([0]);
    let mut cut = |first: u16, last: u16| {
        starts.insert(first);
        starts.extend(last.checked_add(1));
    };
    for rule in rules {
        match &rule.ports {
            PortSpec::Any => {}
            PortSpec::Range { first, last } => cut(*first, *last),
            PortSpec::Named(name) => {
                let keys = to.halves.iter().flatten().filter_map(|it| it.key.as_ref());
                for key in keys {
                    let Key::Pod { ports, .. } = key else {
                        continue;
                    };
                    let named = ports
                        .iter()
                        .filter(|it| it.0 == *name && it.1 == rule.protocol);
                    named.for_each(|it| cut(it.2, it.2));
                }
            }
        }
    }
    starts
}

/// What one folder says of a flow; `None` if an end isn't there.
pub(super) fn judge(
    cluster: &Cluster,
    from: Option<&Half>,
    to: Option<&Half>,
    names: &KnownNames,
    (protocol, port): (Protocol, Option<u16>),
) -> Option<Judgement> {
    let (from, to) = (from?, to?);
    let query = super::points::query(from, to, protocol, port);
    Some(evaluate_knowing(cluster, &query, names))
}

/// Whether it may be: what isn't there may not.
pub(super) fn allows(judgement: Option<&Judgement>) -> bool {
    judgement.is_some_and(|it| it.verdict == Verdict::Allow)
}
