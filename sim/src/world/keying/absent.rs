//! Peers where nobody is: nodes that are objects of the API and ends of ESP and no more. What
//! others agree on with them is there as soon as it is asked for.

use std::collections::{BTreeMap, BTreeSet};

use sluice_crypto::esp::Spi;
use sluice_crypto::key::Algorithm;
use sluice_crypto::lifecycle::{Install, SaAction, SpiBlock};
use sluice_offload_api::model::NodeName;

use crate::keys::SeedKeys;

/// Those peers, and whose SAs with them are in which epoch.
#[derive(Debug)]
pub(super) struct Absent {
    names: BTreeSet<NodeName>,
    /// By the node that is there. No epoch comes twice, also where it has forgotten the peer.
    epochs: BTreeMap<(NodeName, NodeName), u32>,
    known: BTreeSet<(NodeName, NodeName)>,
}

impl Absent {
    pub(super) const fn new(names: BTreeSet<NodeName>) -> Self {
        Self {
            names,
            epochs: BTreeMap::new(),
            known: BTreeSet::new(),
        }
    }

    /// Whether nobody is there.
    pub(super) fn is(&self, node: &NodeName) -> bool {
        self.names.contains(node)
    }

    /// Those that a node has SAs with.
    pub(super) fn peers_of(&self, me: &NodeName) -> Vec<NodeName> {
        let known = self.known.iter().filter(|it| it.0 == *me);
        known.map(|it| it.1.clone()).collect()
    }

    /// A node has no SAs with a peer any more.
    pub(super) fn forget(&mut self, me: &NodeName, peer: &NodeName) {
        self.known.remove(&(me.clone(), peer.clone()));
    }

    /// A node has none at all.
    pub(super) fn forget_all(&mut self, me: &NodeName) {
        self.known.retain(|it| it.0 != *me);
    }

    /// What a node is to install for fresh SAs with a peer, both ways, and to retire.
    pub(super) fn renew(
        &mut self,
        keys: &SeedKeys,
        me: &NodeName,
        peer: &NodeName,
        children: u8,
        (algorithm, esn, packets_max): (Algorithm, bool, u64),
    ) -> Vec<SaAction> {
        let pair = (me.clone(), peer.clone());
        let before = self.epochs.get(&pair).copied();
        let epoch = before.map_or(0, |it| it + 1);
        self.epochs.insert(pair.clone(), epoch);
        let replaces = !self.known.insert(pair);
        let install = |from: &NodeName, to: &NodeName, child| {
            let key = keys.child(algorithm, &from.0, &to.0, epoch, child).ok()?;
            Some(Install {
                epoch: u64::from(epoch),
                child,
                children,
                spi: spi(keys, from, to, epoch, child),
                key,
                esn,
                packets_max,
            })
        };
        let all = || 0..children;
        let inbound = all().filter_map(|it| install(peer, me, it));
        let outbound = all().filter_map(|it| install(me, peer, it));
        let inbound = inbound.map(SaAction::InstallInbound);
        let mut todo: Vec<_> = inbound.collect();
        todo.extend(outbound.map(SaAction::InstallOutbound));
        if let Some(before) = before.filter(|_| replaces) {
            let gone = all().map(|it| SaAction::RetireInbound(spi(keys, peer, me, before, it)));
            todo.extend(gone);
        }
        todo
    }
}

fn spi(keys: &SeedKeys, from: &NodeName, to: &NodeName, epoch: u32, child: u8) -> Spi {
    let first = keys.spi(&from.0, &to.0, epoch);
    // None of the seed's is reserved.
    SpiBlock::new(first.0).map_or(first, |block| block.spi(child))
}
