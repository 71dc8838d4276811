//! What must be once nothing is broken: every node in step, and nothing left over.

use std::collections::{BTreeMap, BTreeSet};

use sluice_dataplane_core::tick::Tick;
use sluice_host_agent::cluster::Pod;
use sluice_offload_api::model::{NodeName, SaDirection};

use super::World;

/// How often it is looked whether all is in step.
const LOOK_EVERY_NS: u64 = 50 * Tick::MS;

impl World {
    /// Whether there is such a node.
    #[must_use]
    pub fn has_node(&self, name: &str) -> bool {
        self.nodes.iter().any(|it| it.is_named(name))
    }

    /// Lets time pass until all is as it must be, so many nanoseconds at most: what isn't then.
    pub fn settle_within(&mut self, ns: u64) -> Vec<String> {
        let end = self.now() + ns;
        loop {
            let mut unsettled = self.unsettled();
            if !self.is_whole() {
                unsettled.push("something is still broken".to_owned());
            }
            if unsettled.is_empty() || self.now() >= end {
                return unsettled;
            }
            self.run_for(LOOK_EVERY_NS.min(end.since(self.now())));
        }
    }

    /// What is not as it must be when everything is whole, in words; empty if all is well.
    /// Each agent has its dataplane's acknowledgement, exactly the pods that the API has are
    /// on VFs, and there are as many SAs each way between two nodes as the one with more lanes
    /// wants.
    pub fn unsettled(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        for node in self.nodes.iter_mut().filter(|it| !it.left) {
            node.control.request_sas();
        }
        for node in &mut self.nodes {
            node.poll(&mut self.net);
            node.control.poll();
        }
        let here = || self.nodes.iter().filter(|it| !it.left);
        let names: BTreeSet<NodeName> = here().map(|it| it.name.clone()).collect();
        let peers: Vec<_> = names.union(&self.config.peers_only).collect();
        let mut pods_of: BTreeMap<&NodeName, Vec<&Pod>> = BTreeMap::new();
        for pod in self.cluster.pods.values().filter(|it| it.owns_addresses()) {
            if let Some(node) = &pod.node {
                pods_of.entry(node).or_default().push(pod);
            }
        }
        for node in here() {
            let name = &node.name;
            let state = node.control.state();
            match node.agent.settled() {
                Some(generation) if generation == state.generation => {}
                held => wrong.push(format!(
                    "{name}: the agent knows of generation {held:?}, in force is {:?}",
                    state.generation
                )),
            }
            let has = state.endpoints.values();
            let has: BTreeSet<_> = has.map(|it| (&it.pod_uid, it.name())).collect();
            let mut must = BTreeSet::new();
            for pod in pods_of.get(name).into_iter().flatten() {
                must.insert((&pod.uid, pod.pod.to_string()));
                for it in &pod.interfaces {
                    must.insert((&pod.uid, format!("{}@{}", pod.pod, it.name)));
                }
            }
            for (uid, orphan) in has.difference(&must) {
                wrong.push(format!(
                    "{name}: {orphan} (uid {}) has a VF and is no pod",
                    uid.0
                ));
            }
            for (uid, bare) in must.difference(&has) {
                wrong.push(format!("{name}: {bare} (uid {}) has no VF", uid.0));
            }
            let mut sas: BTreeMap<(NodeName, bool), usize> = BTreeMap::new();
            for peer in peers.iter().copied().filter(|it| *it != name) {
                sas.insert((peer.clone(), true), 0);
                sas.insert((peer.clone(), false), 0);
            }
            for sa in node.control.sas().unwrap_or_default() {
                let inbound = sa.direction == SaDirection::Inbound;
                let peer = sa.peer.clone().unwrap_or(NodeName(String::new()));
                *sas.entry((peer, inbound)).or_default() += 1;
            }
            for ((peer, inbound), count) in sas {
                let lanes = |node| self.config.lanes_of(node);
                let wanted = usize::from(lanes(name).max(lanes(&peer)));
                if count != wanted {
                    let way = if inbound { "from" } else { "to" };
                    wrong.push(format!(
                        "{name}: {count} SAs {way} {}, not {wanted}",
                        peer.0
                    ));
                }
            }
        }
        wrong
    }
}
