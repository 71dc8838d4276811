//! Ends of flows, across both folders: those that policy can't tell apart in either are one.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use sluice_offload_api::model::{DomainPattern, NodeName, PodRef};

use super::blocks::Blocks;
use super::folder::{Folder, Key, Slot, StandId};
use super::report::{End, NODES_SHOWN_MAX};
use super::workload::{TEMPLATE_HASH_LABEL, Workload, WorkloadNames};
use super::{AFTER, BEFORE};
use crate::cluster::{Cluster, Labels, Peer};
use crate::evaluate::{KnownNames, Party};

/// An end of a flow in one folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Half {
    pub(super) party: Party,
    pub(super) ip: IpAddr,
    /// None if it is outside.
    pub(super) key: Option<Key>,
}

/// An end of flows in both folders, or in one.
#[derive(Clone, Debug)]
pub(super) struct Class {
    pub(super) end: End,
    pub(super) kind: ClassKind,
    pub(super) v4: bool,
    /// Before and after.
    pub(super) halves: [Option<Half>; 2],
    /// What a pod that asks for it was told.
    pub(super) names: KnownNames,
}

#[derive(Clone, Debug)]
pub(super) enum ClassKind {
    /// Pods: those there are (two are as good as many), and the nodes they are on.
    Pods {
        pods: BTreeSet<PodRef>,
        on: BTreeSet<[Option<NodeName>; 2]>,
    },
    Nodes(BTreeSet<NodeName>),
    Outside,
}

impl Class {
    pub(super) const fn is_pod(&self) -> bool {
        matches!(self.kind, ClassKind::Pods { .. })
    }

    /// Whether it is outside by a name that a pod was told.
    pub(super) fn is_named(&self) -> bool {
        self.names != KnownNames::default()
    }

    /// Whether some flow from here to there leaves its pod, and, if it is from a node, is not
    /// to a pod of that node: those are always allowed.
    pub(super) fn reaches(&self, to: &Self) -> bool {
        if self.v4 != to.v4 {
            return false;
        }
        match (&self.kind, &to.kind) {
            (ClassKind::Pods { pods, .. }, ClassKind::Pods { pods: others, .. }) => {
                pods.len() > 1 || pods != others
            }
            (ClassKind::Pods { .. }, _) | (ClassKind::Outside, ClassKind::Pods { .. }) => true,
            (ClassKind::Nodes(nodes), ClassKind::Pods { on, .. }) => {
                let elsewhere = |node: &NodeName| {
                    on.iter()
                        .any(|it| it.iter().all(|at| at.as_ref() != Some(node)))
                };
                nodes.len() > 2 || nodes.iter().any(elsewhere)
            }
            _ => false,
        }
    }
}

/// Who may be an end: pods and nodes by their keys, what is outside by parts of the address
/// space and by names.
pub(super) fn classes(folders: &[Folder; 2], blocks: &Blocks) -> Vec<Class> {
    let mut classes = pods(folders);
    classes.extend(nodes(folders));
    let outside = outside(blocks);
    let named = named(folders, &outside);
    classes.extend(outside);
    classes.extend(named);
    classes
}

/// Before and after of one address.
type Stands = [Option<StandId>; 2];

#[derive(Default)]
struct Members {
    pods: BTreeSet<PodRef>,
    on: BTreeSet<[Option<NodeName>; 2]>,
}

fn pods(folders: &[Folder; 2]) -> Vec<Class> {
    let mut names = WorkloadNames::default();
    // What each workload has in each folder, for pods that only the other one has.
    let mut of_workload: [BTreeMap<(&Workload, &Slot), BTreeSet<StandId>>; 2] = Default::default();
    for (folder, of) in folders.iter().zip(&mut of_workload) {
        for (pod, seen) in &folder.pods {
            names.add(&seen.workload, pod);
            for (slot, stand) in &seen.slots {
                of.entry((&seen.workload, slot)).or_default().insert(*stand);
            }
        }
    }
    let mut members: BTreeMap<(&Workload, Stands), Members> = BTreeMap::new();
    let all: BTreeSet<&PodRef> = folders.iter().flat_map(|it| it.pods.keys()).collect();
    for pod in all {
        let seen = [BEFORE, AFTER].map(|side| folders[side].pods.get(pod));
        let on = seen.map(|it| it.and_then(|it| it.node.clone()));
        let Some(workload) = seen[AFTER].or(seen[BEFORE]).map(|it| &it.workload) else {
            continue;
        };
        let slots = seen.into_iter().flatten().flat_map(|it| it.slots.keys());
        for slot in slots.collect::<BTreeSet<_>>() {
            let own = seen.map(|it| it.and_then(|it| it.slots.get(slot)).copied());
            for stands in paired(own, folders, |side| {
                of_workload[side].get(&(workload, slot))
            }) {
                let it = members.entry((workload, stands)).or_default();
                if it.pods.len() < 2 {
                    it.pods.insert(pod.clone());
                }
                it.on.insert(on.clone());
            }
        }
    }
    let variants = variants(&members, folders);
    let class = |((workload, stands), it): ((&Workload, Stands), Members)| {
        let halves = halves(folders, stands);
        let known = halves[AFTER].as_ref().or(halves[BEFORE].as_ref())?;
        let (v4, key) = (known.ip.is_ipv4(), known.key.as_ref()?);
        let Key::Pod {
            labels, network, ..
        } = key
        else {
            return None;
        };
        let common = variants.get(workload);
        let own = labels.iter().filter(|(name, value)| {
            common.is_some_and(|it| it.get(*name) != Some(*value)) && *name != TEMPLATE_HASH_LABEL
        });
        Some(Class {
            end: End::Workload {
                namespace: workload.namespace.clone(),
                name: names.name(workload),
                variant: own.map(|(k, v)| (k.clone(), v.clone())).collect(),
                network: network.clone(),
            },
            kind: ClassKind::Pods {
                pods: it.pods,
                on: it.on,
            },
            v4,
            halves,
            names: KnownNames::default(),
        })
    };
    members.into_iter().filter_map(class).collect()
}

/// An address's stands in both folders. If only one has it, the other's workload is what it
/// came from or became: the same identity if the workload had it, else each that it had.
fn paired<'a>(
    own: Stands,
    folders: &[Folder; 2],
    of_workload: impl Fn(usize) -> Option<&'a BTreeSet<StandId>>,
) -> Vec<Stands> {
    let (side, here) = match own {
        [Some(here), None] => (BEFORE, here),
        [None, Some(here)] => (AFTER, here),
        _ => return vec![own],
    };
    let other = 1 - side;
    let with = |there: Option<StandId>| {
        let mut stands = own;
        stands[other] = there;
        stands
    };
    let Some(theirs) = of_workload(other) else {
        return vec![own];
    };
    let key = |side: usize, id: StandId| folders[side].stands.get(id).map(|it| &it.key);
    let mut same = theirs
        .iter()
        .filter(|it| key(other, **it) == key(side, here));
    if let Some(same) = same.next() {
        return vec![with(Some(*same))];
    }
    theirs.iter().map(|it| with(Some(*it))).collect()
}

fn halves(folders: &[Folder; 2], stands: Stands) -> [Option<Half>; 2] {
    [BEFORE, AFTER].map(|side| {
        let stand = folders[side].stands.get(stands[side]?)?;
        Some(Half {
            party: stand.party.clone(),
            ip: stand.ip,
            key: Some(stand.key.clone()),
        })
    })
}

/// The labels that all pods of a workload have, of those workloads whose pods differ in theirs.
fn variants<'a>(
    members: &BTreeMap<(&'a Workload, Stands), Members>,
    folders: &[Folder; 2],
) -> BTreeMap<&'a Workload, Labels> {
    let mut all: BTreeMap<&Workload, BTreeSet<&Labels>> = BTreeMap::new();
    for (workload, stands) in members.keys() {
        let side = if stands[AFTER].is_some() {
            AFTER
        } else {
            BEFORE
        };
        let stand = stands[side].and_then(|it| folders[side].stands.get(it));
        if let Some(Key::Pod { labels, .. }) = stand.map(|it| &it.key) {
            all.entry(workload).or_default().insert(labels);
        }
    }
    let several = all.into_iter().filter(|(_, it)| it.len() > 1);
    let common = several.map(|(workload, labels)| {
        let mut labels = labels.into_iter();
        let mut common = labels.next().cloned().unwrap_or_default();
        for other in labels {
            common.retain(|key, value| other.get(key) == Some(value));
        }
        (workload, common)
    });
    common.collect()
}

fn nodes(folders: &[Folder; 2]) -> Vec<Class> {
    let mut members: BTreeMap<Stands, BTreeSet<NodeName>> = BTreeMap::new();
    let all: BTreeSet<&NodeName> = folders.iter().flat_map(|it| it.nodes.keys()).collect();
    for name in all {
        let its = [BEFORE, AFTER].map(|side| folders[side].nodes.get(name));
        let slots = its.into_iter().flatten().flat_map(BTreeMap::keys);
        for slot in slots.collect::<BTreeSet<_>>() {
            let stands = its.map(|it| it.and_then(|it| it.get(slot)).copied());
            members.entry(stands).or_default().insert(name.clone());
        }
    }
    let class = |(stands, names): (Stands, BTreeSet<NodeName>)| {
        let halves = halves(folders, stands);
        let v4 = halves.iter().flatten().next()?.ip.is_ipv4();
        let end = End::Nodes {
            count: names.len(),
            names: names.iter().take(NODES_SHOWN_MAX).cloned().collect(),
        };
        Some(Class {
            end,
            kind: ClassKind::Nodes(names),
            v4,
            halves,
            names: KnownNames::default(),
        })
    };
    members.into_iter().filter_map(class).collect()
}

/// A part of the address space that has an address left which nobody has.
fn outside(blocks: &Blocks) -> Vec<Class> {
    let class = |(_, part): (_, &super::blocks::Part)| {
        let ip = blocks.free(part).next()?;
        let half = Half {
            party: Party::Outside(ip),
            ip,
            key: None,
        };
        Some(Class {
            end: End::Outside {
                block: part.block,
                except: part.inner.clone(),
                name: None,
            },
            kind: ClassKind::Outside,
            v4: ip.is_ipv4(),
            halves: [Some(half.clone()), Some(half)],
            names: KnownNames::default(),
        })
    };
    blocks.parts().filter_map(class).collect()
}

/// For each pattern of names a name that it is for, at an address of the widest part of each
/// family.
fn named(folders: &[Folder; 2], outside: &[Class]) -> Vec<Class> {
    let patterns: BTreeSet<DomainPattern> =
        folders.iter().flat_map(|it| patterns(&it.placed)).collect();
    let widest = |v4| outside.iter().find(move |it| it.v4 == v4);
    let widest: Vec<_> = [true, false].into_iter().filter_map(widest).collect();
    let mut classes = Vec::new();
    for pattern in patterns {
        let example = if pattern.is_wildcard() {
            // Nobody writes a pattern for this label, so only wildcards are for it.
            format!("0-any-0.{}", pattern.base())
        } else {
            pattern.as_str().to_owned()
        };
        for base in &widest {
            let mut class = (*base).clone();
            let ip = class.halves.iter().flatten().map(|it| it.ip).next();
            class.names = ip.iter().map(|ip| (example.as_str(), *ip)).collect();
            if let End::Outside { name, .. } = &mut class.end {
                *name = Some(pattern.as_str().to_owned());
            }
            classes.push(class);
        }
    }
    classes
}

fn patterns(cluster: &Cluster) -> impl Iterator<Item = DomainPattern> + '_ {
    use sluice_offload_api::model::Direction;
    let peers = cluster.rules(Direction::Egress).flat_map(|it| &it.peers);
    peers.filter_map(|it| match it {
        Peer::Domain(pattern) => Some(pattern.clone()),
        _ => None,
    })
}
