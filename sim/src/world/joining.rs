//! Nodes that come and go while the cluster runs.

use std::collections::BTreeMap;

use sluice_host_agent::cluster::{Cluster, Node};
use sluice_offload_api::model::NodeName;

use super::agent::Agent;
use super::clock::NodeClock;
use super::cni::Given;
use super::crew::Size;
use super::net::At;
use super::node::{SimNode, ports_of};
use super::plan::NodeNumber;
use super::stale::{Now, Why};
use super::{SPARE_VFS, World, WorldError};
use crate::keys::SeedKeys;

impl World {
    /// Those that the objects have no more are switched off, and those that are new start.
    pub(super) fn renew_nodes(&mut self, cluster: &Cluster) -> Result<(), WorldError> {
        let is_whole = |name: &NodeName| {
            let node = cluster.nodes.get(name);
            node.is_some_and(|it| self.config.is_whole(name, it))
        };
        let here = self.nodes.iter().enumerate().filter(|it| !it.1.left);
        let gone = here.filter(|it| !is_whole(&it.1.name));
        let gone: Vec<_> = gone.map(|it| it.0).collect();
        for index in gone {
            self.part(index);
        }
        let is_here = |name: &NodeName| self.nodes.iter().any(|it| it.is_named(&name.0));
        let new = cluster.nodes.iter();
        let new = new.filter(|(name, it)| self.config.is_whole(name, it) && !is_here(name));
        let new: Vec<_> = new.collect();
        if new.is_empty() {
            return Ok(());
        }
        let mut pods: BTreeMap<&NodeName, usize> = BTreeMap::new();
        for pod in cluster.pods.values() {
            if let Some(node) = &pod.node {
                *pods.entry(node).or_default() += 1 + pod.interfaces.len();
            }
        }
        let keys = SeedKeys::new(self.config.seed);
        for (name, node) in new {
            let pods = pods.get(name).copied().unwrap_or(0);
            self.join(&keys, name, node, pods)?;
        }
        Ok(())
    }

    fn join(
        &mut self,
        keys: &SeedKeys,
        name: &NodeName,
        node: &Node,
        pods: usize,
    ) -> Result<(), WorldError> {
        let before = self.nodes.iter().filter(|it| it.name == *name);
        // Also those that have taken its place.
        let before = before.map(|it| it.number.machine).max();
        let number = NodeNumber {
            place: self.numbers.get(name).copied().unwrap_or(0),
            machine: before.map_or(0, |it| it.saturating_add(1)),
        };
        if before.is_some() {
            // Peers' entries are the dataplanes' to renew; hosts here have none that grow old.
            self.forget_hosts_neighbors();
        }
        let vfs = u16::try_from(pods).unwrap_or(u16::MAX);
        let vfs = vfs.saturating_add(SPARE_VFS);
        let encryption = &self.config.encryption;
        let agent = Agent::new(name, number, vfs, &node.tunnel_ips, encryption);
        let given = Given::new(self.config.vfs.clone(), vfs);
        let size = Size {
            ports: ports_of(vfs),
            flows_max: self.config.flows_max,
            workers: self.config.workers_of(name),
            lanes: self.config.lanes_of(name),
        };
        let index = self.nodes.len();
        let mut joined = SimNode::new(
            name,
            index,
            number,
            (agent, given),
            size,
            keys,
            (&self.pool, &self.spoken),
        )?;
        if let Some(ppm) = self.config.drift_ppm.get(name) {
            joined.clock = NodeClock::drifting(*ppm);
        }
        self.net.plug(joined.at_switch());
        // Who comes while the API server is away hears nothing of it either.
        let is_away = |it: &SimNode| !it.left && self.stale.is(&it.name, Why::ApiAway);
        if self.nodes.iter().any(is_away) {
            let (cluster, server) = (&self.cluster, &self.server);
            let now = Now { cluster, server };
            self.stale.begin(name, Why::ApiAway, now);
            self.stale.close(name);
        }
        if index > 0 && self.net.now.0 > 0 {
            self.marks.add("node-joined");
        }
        self.nodes.push(joined);
        Ok(())
    }

    /// A node is switched off and taken away, with all that is on it.
    fn part(&mut self, index: usize) {
        self.held
            .retain(|it| !matches!(it.at, At::Dataplane(of, _) if of == index));
        self.net.faults.forget(index);
        let Some(node) = self.nodes.get(index) else {
            return;
        };
        let name = node.name.clone();
        self.cut_lasting();
        self.lose_keys(&name);
        let Some(node) = self.nodes.get_mut(index) else {
            return;
        };
        node.leave();
        self.net.unplug(node.at_switch());
        self.stale.forget(&name);
        self.keying.certificates.forget(&name);
        self.rivals_saw.remove(&name);
        self.announcements.forget(&name);
        self.marks.add("node-left");
    }
}
