//! Who tells whom which pod has which address: the part of the node channel that announces.
//!
//! As in production a node speaks of its own pods only, when a generation with them is in
//! force, and its peers hold what it says against what their agents say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sluice_host_agent::cluster::Cluster;
use sluice_offload_api::model::{NodeName, PodUid};

use super::node::SimNode;

/// What each node has announced.
#[derive(Debug, Default)]
pub(crate) struct Announcements(BTreeMap<NodeName, BTreeMap<IpAddr, PodUid>>);

impl Announcements {
    /// A node is gone; its peers forget it with what it announced.
    pub(crate) fn forget(&mut self, node: &NodeName) {
        self.0.remove(node);
    }

    /// A node's dataplane has started anew: the others tell it what they have announced.
    pub(crate) fn tell(&self, node: &mut SimNode) {
        for (name, bindings) in self.0.iter().filter(|it| *it.0 != node.name) {
            for (addr, pod) in bindings {
                node.control.announce_binding(name, *addr, pod.clone());
            }
        }
    }

    /// A node has a new peer: if nobody is there, what it would announce is as it was.
    pub(crate) fn of_peer(&self, peer: &NodeName, node: &mut SimNode) {
        for (addr, pod) in self.0.get(peer).into_iter().flatten() {
            node.control.announce_binding(peer, *addr, pod.clone());
        }
    }

    /// Peers where nobody is announce what the API says of their pods.
    pub(crate) fn of_peers(
        &mut self,
        cluster: &Cluster,
        peers: &BTreeSet<NodeName>,
        nodes: &mut [SimNode],
    ) {
        let mut now: BTreeMap<&NodeName, BTreeMap<IpAddr, PodUid>> =
            peers.iter().map(|peer| (peer, BTreeMap::new())).collect();
        for pod in cluster.pods.values().filter(|it| it.owns_addresses()) {
            let node = pod.node.as_ref();
            if let Some(bindings) = node.and_then(|it| now.get_mut(it)) {
                bindings.extend(pod.ips.iter().map(|ip| (*ip, pod.uid.clone())));
            }
        }
        for (peer, now) in now {
            if self.0.get(peer) == Some(&now) {
                continue;
            }
            let before = self.0.insert(peer.clone(), now.clone()).unwrap_or_default();
            // Those that don't know it yet hear all of it when they do.
            let knows = |it: &SimNode| it.control.state().peers.contains_key(peer);
            for node in nodes.iter_mut().filter(|it| !it.dead && knows(it)) {
                tell_changes(node, peer, &before, &now);
            }
        }
    }

    /// A generation is in force at a node: the others hear what has changed of its pods.
    pub(crate) fn on_applied(&mut self, nodes: &mut [SimNode], at: usize) {
        let Some(node) = nodes.get(at) else {
            return;
        };
        let name = node.name.clone();
        let endpoints = node.control.state().endpoints.values();
        let now: BTreeMap<_, _> = endpoints
            .flat_map(|it| it.ips.iter().map(|ip| (*ip, it.pod_uid.clone())))
            .collect();
        let before = self.0.insert(name.clone(), now.clone()).unwrap_or_default();
        // One that is dead is told everything when it starts.
        for other in nodes.iter_mut().filter(|it| it.name != name && !it.dead) {
            tell_changes(other, &name, &before, &now);
        }
    }
}

fn tell_changes(
    node: &mut SimNode,
    of: &NodeName,
    before: &BTreeMap<IpAddr, PodUid>,
    now: &BTreeMap<IpAddr, PodUid>,
) {
    for (addr, pod) in before {
        if now.get(addr) != Some(pod) {
            node.control.withdraw_binding(of, *addr, pod);
        }
    }
    for (addr, pod) in now {
        if before.get(addr) != Some(pod) {
            node.control.announce_binding(of, *addr, pod.clone());
        }
    }
}
