//! Who tells whom which pod has which address: the part of the node channel that announces.
//!
//! As in production a node speaks of its own pods only, when a generation with them is in
//! force, and its peers hold what it says against what their agents say.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sluice_offload_api::model::{NodeName, PodUid};

use super::node::SimNode;

/// What each node has announced.
#[derive(Debug, Default)]
pub(crate) struct Announcements(BTreeMap<NodeName, BTreeMap<IpAddr, PodUid>>);

impl Announcements {
    /// A node's dataplane has started anew: the others tell it what they have announced.
    pub(crate) fn tell(&self, node: &mut SimNode) {
        for (name, bindings) in self.0.iter().filter(|it| *it.0 != node.name) {
            for (addr, pod) in bindings {
                node.control.announce_binding(name, *addr, pod.clone());
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
        let others = nodes.iter_mut().filter(|it| it.name != name && !it.dead);
        for control in others.map(|it| &mut it.control) {
            for (addr, pod) in &before {
                if now.get(addr) != Some(pod) {
                    control.withdraw_binding(&name, *addr, pod);
                }
            }
            for (addr, pod) in &now {
                if before.get(addr) != Some(pod) {
                    control.announce_binding(&name, *addr, pod.clone());
                }
            }
        }
    }
}
