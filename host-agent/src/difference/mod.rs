//! What two folders of manifests differ in: which flows are allowed in one of them only.
//!
//! Work follows identities, not pods: [`folder`] reads each pod once and keeps one for each
//! identity, [`classes`] puts the two folders' together, [`judge`] asks the evaluator, which
//! is the oracle of everything here, about one flow for each piece that rules can tell
//! apart. So a difference can't disagree with it. Pairs of which no object changed are left
//! out: the evaluator would see the same twice.
//!
//! A node and the pods on it are left out: what it begins is always allowed.

mod blocks;
mod classes;
mod flows;
mod folder;
mod judge;
mod points;
mod report;
mod workload;

use std::collections::{BTreeMap, BTreeSet};

pub use flows::{Fate, Flow, FlowEnd, FlowPort, Told};
pub use report::{
    Cause, Change, Difference, End, Family, NODES_SHOWN_MAX, Now, Ports, RULES_SHOWN_MAX, Range,
    Work,
};
pub use workload::{Owners, TEMPLATE_HASH_LABEL, owner_of, show_labels};

use crate::cluster::{Cluster, Node};
use blocks::Blocks;
use folder::Folder;
use judge::{Ready, allows, judge};
pub(crate) use points::Points;

/// The folder before.
const BEFORE: usize = 0;
/// The folder after.
const AFTER: usize = 1;

/// A folder's objects.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// All but who owns which pod.
    pub cluster: &'a Cluster,
    /// Who owns which pod, where manifests say.
    pub owners: &'a Owners,
}

/// Two folders, ready to be compared.
#[derive(Clone, Debug)]
pub struct Comparison {
    folders: [Folder; 2],
    blocks: Blocks,
}

impl Comparison {
    /// Reads both folders. Pods without a node are put on one that is none of the cluster's,
    /// and what has no address gets two, one of each family, in the widest blocks.
    #[must_use]
    pub fn new(before: Side<'_>, after: Side<'_>) -> Self {
        let mut clusters = [before.cluster.clone(), after.cluster.clone()];
        let [first, second] = &mut clusters;
        // A folder without nodes doesn't say that there are none.
        if first.nodes.is_empty() {
            first.nodes.clone_from(&second.nodes);
        }
        if second.nodes.is_empty() {
            second.nodes.clone_from(&first.nodes);
        }
        if first.nodes.is_empty() {
            for cluster in [first, second] {
                cluster
                    .nodes
                    .insert(folder::SOME_NODE.into(), Node::default());
            }
        }
        let blocks = Blocks::of(&clusters.each_ref());
        let [first, second] = clusters.each_ref().map(|it| folder::place(it, &blocks));
        let folder =
            |(placed, unaddressed), owners| Folder::of(placed, unaddressed, owners, &blocks);
        let folders = [folder(first, before.owners), folder(second, after.owners)];
        Self { folders, blocks }
    }

    /// Every flow that is allowed in one of the two and not in the other.
    #[must_use]
    pub fn difference(&self) -> Difference {
        let classes = classes::classes(&self.folders, &self.blocks);
        let ready: Vec<_> = classes
            .iter()
            .map(|it| Ready::new(it, &self.folders))
            .collect();
        let mut found = Found::default();
        for from in ready.iter().filter(|it| !it.class.is_named()) {
            for to in &ready {
                let asks = from.class.is_pod() || !to.class.is_named();
                if asks && from.class.reaches(to.class) && from.differs(to) {
                    self.compare(from, to, &mut found);
                }
            }
        }
        let identities = self.folders.each_ref().map(|it| it.stands.len());
        found.work.identities = identities.iter().sum();
        Difference {
            changes: found.changes(),
            unaddressed: self.folders.each_ref().map(|it| it.unaddressed),
            work: found.work,
        }
    }

    fn compare(&self, from: &Ready<'_>, to: &Ready<'_>, found: &mut Found) {
        found.work.pairs += 1;
        let halves = |side: usize| {
            (
                from.class.halves[side].as_ref(),
                to.class.halves[side].as_ref(),
            )
        };
        let there = |side: usize| matches!(halves(side), (Some(_), Some(_)));
        let cause = match (there(BEFORE), there(AFTER)) {
            (true, true) => Cause::Changed,
            (false, true) => Cause::Added,
            (true, false) => Cause::Removed,
            (false, false) => return,
        };
        for (ports, port) in from.pieces(to) {
            let [before, after] = [BEFORE, AFTER].map(|side| {
                let (from, to_half) = halves(side);
                let flow = (ports.protocol, port);
                let cluster = &self.folders[side].reduced;
                judge(cluster, from, to_half, &to.class.names, flow)
            });
            found.work.flows += usize::from(before.is_some()) + usize::from(after.is_some());
            let now = match (allows(before.as_ref()), allows(after.as_ref())) {
                (false, true) => Now::Allowed,
                (true, false) => Now::Denied,
                _ => continue,
            };
            let at = (from.class.end.clone(), to.class.end.clone(), now, cause);
            let entry = found.flows.entry(at).or_default();
            let family = usize::from(!from.class.v4);
            entry.flows[family].push(ports);
            for (rules, judgement) in entry.rules.iter_mut().zip([before, after]) {
                let rule = judgement.and_then(|it| it.rule);
                if rules.len() < RULES_SHOWN_MAX {
                    rules.extend(rule);
                }
            }
        }
    }
}

/// What was found so far.
#[derive(Default)]
struct Found {
    flows: BTreeMap<(End, End, Now, Cause), Entry>,
    work: Work,
}

#[derive(Default)]
struct Entry {
    /// By family.
    flows: [Vec<Ports>; 2],
    rules: [BTreeSet<String>; 2],
}

impl Found {
    fn changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for ((from, to, now, cause), entry) in core::mem::take(&mut self.flows) {
            let [rules_before, rules_after] = entry.rules;
            let [v4, v6] = entry.flows.map(Ports::merged);
            let families = if v4 == v6 {
                vec![(vec![Family::Ipv4, Family::Ipv6], v4)]
            } else {
                vec![(vec![Family::Ipv4], v4), (vec![Family::Ipv6], v6)]
            };
            for (families, flows) in families.into_iter().filter(|it| !it.1.is_empty()) {
                changes.push(Change {
                    from: from.clone(),
                    to: to.clone(),
                    now,
                    cause,
                    families,
                    flows,
                    rules_before: rules_before.clone(),
                    rules_after: rules_after.clone(),
                });
            }
        }
        changes
    }
}
