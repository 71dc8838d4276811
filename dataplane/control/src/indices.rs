//! The numbers that workers know things by, kept stable from generation to generation.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use sluice_dataplane_core::moves::Moves;
use sluice_dataplane_core::names::DomainId;
use sluice_dataplane_core::snapshot::{PeerIndex, PortIndex};
use sluice_offload_api::SharedMap;
use sluice_offload_api::model::{
    DomainPattern, Endpoint, EndpointKey, Identity, IdentityId, IpPrefix, NodeName, PortName,
};
use sluice_offload_api::state::State;

/// Names of the ports that this dataplane has, in the workers' order.
#[derive(Clone, Debug)]
pub(crate) struct PortNames {
    names: Vec<PortName>,
    /// Each snapshot asks for every port that the state names.
    by_name: BTreeMap<PortName, PortIndex>,
}

impl PortNames {
    pub(crate) fn new(names: Vec<PortName>) -> Self {
        let mut by_name = BTreeMap::new();
        for (name, number) in names.iter().zip(0u16..) {
            by_name.entry(name.clone()).or_insert(PortIndex(number));
        }
        Self { names, by_name }
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn index(&self, name: &PortName) -> Option<PortIndex> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn name(&self, index: PortIndex) -> Option<&PortName> {
        self.names.get(usize::from(index.0))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &PortName> {
        self.names.iter()
    }
}

/// Peers' numbers. One is used again only after the SAs of the peer that had it are gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerNumbers {
    by_node: BTreeMap<NodeName, PeerIndex>,
    /// Numbers of peers that left, until [`Self::release`].
    leaving: BTreeSet<PeerIndex>,
    free: BTreeSet<PeerIndex>,
    next: u16,
}

impl PeerNumbers {
    /// Gives numbers to the peers of a state and takes them from those that left, which
    /// are returned.
    pub(crate) fn renew(&mut self, state: &State) -> Vec<(NodeName, PeerIndex)> {
        let gone: Vec<_> = self
            .by_node
            .iter()
            .filter(|(node, _)| !state.peers.contains_key(*node))
            .map(|(node, index)| (node.clone(), *index))
            .collect();
        for (node, index) in &gone {
            self.by_node.remove(node);
            self.leaving.insert(*index);
        }
        for node in state.peers.keys() {
            if !self.by_node.contains_key(node) {
                let index = self.free.pop_first().unwrap_or_else(|| {
                    let fresh = PeerIndex(self.next);
                    self.next = self.next.saturating_add(1);
                    fresh
                });
                self.by_node.insert(node.clone(), index);
            }
        }
        gone
    }

    /// The SAs of a peer that left are gone.
    pub(crate) fn release(&mut self, index: PeerIndex) {
        if self.leaving.remove(&index) {
            self.free.insert(index);
        }
    }

    pub(crate) fn index(&self, node: &NodeName) -> Option<PeerIndex> {
        self.by_node.get(node).copied()
    }

    pub(crate) fn node(&self, index: PeerIndex) -> Option<&NodeName> {
        self.by_node
            .iter()
            .find(|(_, i)| **i == index)
            .map(|(node, _)| node)
    }

    /// One more than the highest number given out.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.next)
    }
}

/// Patterns' numbers. One that is out of use is never used again, so what workers learned or
/// judged by it never means another pattern. When none is left a pattern has none, and no
/// name is its.
#[derive(Clone, Debug, Default)]
pub(crate) struct DomainNumbers {
    by_pattern: BTreeMap<DomainPattern, DomainId>,
    last: u32,
    /// The identities whose patterns have numbers. Thousands, of which hardly one has any.
    of: SharedMap<IdentityId, Identity>,
}

impl DomainNumbers {
    /// Gives numbers to the patterns of a state and takes them from those that left.
    pub(crate) fn renew(&mut self, state: &State) {
        let is_named = |it: Option<&Identity>| it.is_some_and(|it| it.domain.is_some());
        let changes = self.of.changes(&state.identities).into_iter();
        let is_same = !changes.flat_map(|it| [it.before, it.after]).any(is_named);
        self.of = state.identities.clone();
        if is_same {
            return;
        }
        let patterns = || {
            state
                .identities
                .values()
                .filter_map(|it| it.domain.as_ref())
        };
        let kept: BTreeSet<_> = patterns().collect();
        self.by_pattern.retain(|it, _| kept.contains(it));
        for pattern in patterns() {
            if self.last < DomainId::MAX.0 && !self.by_pattern.contains_key(pattern) {
                self.last += 1;
                let number = DomainId(self.last);
                self.by_pattern.insert(pattern.clone(), number);
            }
        }
    }

    pub(crate) fn of(&self, pattern: &DomainPattern) -> DomainId {
        self.by_pattern.get(pattern).copied().unwrap_or_default()
    }

    pub(crate) fn pattern(&self, number: DomainId) -> Option<&DomainPattern> {
        let mut all = self.by_pattern.iter();
        all.find(|it| *it.1 == number).map(|it| it.0)
    }
}

/// Endpoints' generations: a new number whenever anything that an endpoint's flows were
/// judged by has changed. All of one renewal get the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct EndpointGenerations {
    current: Arc<BTreeMap<EndpointKey, Generations>>,
    moves: Moves,
    last: u32,
}

/// One endpoint's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Generations {
    /// The one in force.
    pub(crate) current: u32,
    /// The one its pod came with.
    pub(crate) born: u32,
}

impl EndpointGenerations {
    /// Moves on from one state to the next. A policy moves the endpoints that it judges, an
    /// address the flows to it; what all flows read (peers, ports, blocks of addresses) moves
    /// every endpoint.
    pub(crate) fn renew(&mut self, before: &State, after: &State) {
        // 2^32 changes are 500 days of 100 a second.
        let number = self.last.wrapping_add(1).max(1);
        let mut shared_same = before.peers == after.peers
            && before.ports == after.ports
            && !is_encrypted_anew(before, after);
        let mut is_used = false;
        for it in before.prefixes.changes(&after.prefixes) {
            if *it.key == IpPrefix::host(it.key.addr()) {
                self.moves.set(it.key.addr().into(), number);
                is_used = true;
            } else {
                shared_same = false;
            }
        }
        let renamed = renamed(before, after);
        let names_renamed = |endpoint: &Endpoint| {
            let policy = || after.policies.get(&endpoint.policy);
            let mut peers = policy()
                .into_iter()
                .flat_map(|it| &it.rows)
                .filter_map(|it| it.peer);
            !renamed.is_empty() && peers.any(|it| renamed.contains(&it))
        };
        let same = |endpoint: &Endpoint| {
            shared_same
                && before.endpoints.get(&endpoint.key()) == Some(endpoint)
                && same_policy(before, after, endpoint)
                && !names_renamed(endpoint)
        };
        let is_elsewhere = shared_same
            && renamed.is_empty()
            && before.endpoints.is_same(&after.endpoints)
            && before.policies.is_same(&after.policies)
            && self.current.len() == after.endpoints.len();
        if is_elsewhere {
            if is_used {
                self.last = number;
            }
            return;
        }
        let mut next = BTreeMap::new();
        for (key, endpoint) in &after.endpoints {
            let held = self.current.get(key);
            let generations = match held {
                Some(&held) if same(endpoint) => held,
                _ => {
                    is_used = true;
                    Generations {
                        current: number,
                        born: held.map_or(number, |held| held.born),
                    }
                }
            };
            next.insert(key.clone(), generations);
        }
        self.current = Arc::new(next);
        if is_used {
            self.last = number;
        }
    }

    /// Addresses are somebody else's, whatever the state says.
    pub(crate) fn renew_addresses(&mut self, addrs: &BTreeSet<IpAddr>) {
        if addrs.is_empty() {
            return;
        }
        self.last = self.last.wrapping_add(1).max(1);
        for addr in addrs {
            self.moves.set((*addr).into(), self.last);
        }
    }

    pub(crate) const fn moves(&self) -> &Moves {
        &self.moves
    }

    pub(crate) fn of(&self, key: &EndpointKey) -> Generations {
        self.current.get(key).copied().unwrap_or_default()
    }
}

/// Whether an endpoint's policy is what it was. Nearly always it is one and the same, and to
/// compare all rows takes a while.
fn same_policy(before: &State, after: &State, endpoint: &Endpoint) -> bool {
    let policy = |state: &State| state.policies.shared(&endpoint.policy).cloned();
    match (policy(before), policy(after)) {
        (Some(before), Some(after)) => Arc::ptr_eq(&before, &after) || before == after,
        (before, after) => before.is_none() && after.is_none(),
    }
}

/// Whether an identity that stays wants something else of the way between nodes. The agent
/// numbers such a one anew; another one may not.
pub(crate) fn is_encrypted_anew(before: &State, after: &State) -> bool {
    let changes = before.identities.changes(&after.identities);
    let both = changes.iter().filter_map(|it| it.before.zip(it.after));
    both.into_iter().any(|(a, b)| a.encryption != b.encryption)
}

/// The identities that stand for other domains than before. Rows have their numbers only, so
/// no row shows it.
pub(crate) fn renamed(before: &State, after: &State) -> BTreeSet<IdentityId> {
    let changes = before.identities.changes(&after.identities).into_iter();
    let domain = |it: Option<&Identity>| it.and_then(|it| it.domain.clone());
    changes
        .filter(|it| domain(it.before) != domain(it.after))
        .map(|it| *it.key)
        .collect()
}

#[cfg(test)]
mod tests {
    use sluice_offload_api::testing::sample;

    use super::*;

    #[test]
    fn an_identity_that_is_renamed_alone_moves_those_whose_rows_name_it() {
        let before = sample();
        let named = before.endpoints.values().find_map(|endpoint| {
            let policy = before.policies.get(&endpoint.policy)?;
            let peer = policy.rows.iter().find_map(|row| row.peer)?;
            Some((peer, endpoint))
        });
        let (peer, endpoint) = named.unwrap();
        let mut generations = EndpointGenerations::default();
        generations.renew(&State::default(), &before);
        let was = generations.of(&endpoint.key()).current;
        let mut after = before.clone();
        let domain = "example.com".parse().unwrap();
        after.identities.get_mut(&peer).unwrap().domain = Some(domain);
        generations.renew(&before, &after);
        assert_ne!(generations.of(&endpoint.key()).current, was);
    }
}
