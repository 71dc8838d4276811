//! How packets between this node and others cross the wire, by pair of identities.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sluice_dataplane_core::clear::{ClearSum, Way};
use sluice_dataplane_core::command::ClearPage;
use sluice_dataplane_core::snapshot::{PeerIndex, Snapshot};
use sluice_offload_api::model::{
    Encryption, FlowEnd, FlowRecord, IdentityId, NodeName, PairCrossing, PairEnd, PairRecord,
    PairsRest, SaDirection, SaRecord,
};
use sluice_offload_api::state::State;

/// Pairs that are told of, at most.
pub(crate) const TOLD_MAX: usize = 10_000;

/// What tells one pair from others.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Key {
    from: IdentityId,
    to: IdentityId,
    node: Option<NodeName>,
    /// From the other node.
    inbound: bool,
}

/// What was seen of one.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    flows: u64,
    clear: ClearSum,
}

/// How a pair stands.
pub(crate) struct Standing {
    from: PairEnd,
    to: PairEnd,
    setting: Option<Encryption>,
    crossing: PairCrossing,
    sa: Option<SaRecord>,
}

/// All pairs that flows and workers know of.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    seen: BTreeMap<Key, Seen>,
    /// In clear, and counted for no pair.
    rest: ClearSum,
}

impl Pairs {
    /// Notes a flow, both ways, if one end of it is at another node.
    pub(crate) fn flow(
        &mut self,
        flow: &FlowRecord,
        identity: impl Fn(IpAddr) -> Option<IdentityId>,
    ) {
        let (node, inbound) = match (&flow.initiator, &flow.responder) {
            (_, FlowEnd::Node(node) | FlowEnd::Clear(node)) => (node, false),
            (FlowEnd::Node(node) | FlowEnd::Clear(node), _) => (node, true),
            _ => return,
        };
        let Some((src, dst)) = identity(flow.src).zip(identity(flow.dst)) else {
            return;
        };
        for (from, to, inbound) in [(src, dst, inbound), (dst, src, !inbound)] {
            let key = Key {
                from,
                to,
                node: Some(node.clone()),
                inbound,
            };
            self.seen.entry(key).or_default().flows += 1;
        }
    }

    /// Notes what one worker has counted in clear; the sum over all is told.
    pub(crate) fn clear(&mut self, page: &ClearPage, node: impl Fn(PeerIndex) -> Option<NodeName>) {
        for pair in &page.pairs {
            let key = Key {
                from: IdentityId(pair.from.0),
                to: IdentityId(pair.to.0),
                node: node(pair.peer),
                inbound: pair.way == Way::Received,
            };
            add(&mut self.seen.entry(key).or_default().clear, pair.sum);
        }
        add(&mut self.rest, page.rest);
    }

    /// At most `max` of the pairs, in order, and what is left out. Those in clear stay in
    /// before the others: they are what is looked for.
    pub(crate) fn told(
        self,
        max: usize,
        standing: impl Fn(&Key) -> Standing,
    ) -> (Vec<PairRecord>, PairsRest) {
        let mut seen: Vec<_> = self.seen.into_iter().collect();
        let mut rest = self.rest;
        let left_out = seen.len().saturating_sub(max);
        if left_out > 0 {
            seen.sort_by_key(|(_, it)| it.clear.packets == 0);
            for (_, it) in seen.drain(max..) {
                add(&mut rest, it.clear);
            }
            seen.sort_by(|a, b| a.0.cmp(&b.0));
        }
        let told = seen.into_iter().map(|(key, it)| record(&standing, key, it));
        let rest = PairsRest {
            left_out: left_out as u64,
            clear_packets: rest.packets,
            clear_bytes: rest.bytes,
        };
        (told.collect(), rest)
    }
}

const fn add(sum: &mut ClearSum, more: ClearSum) {
    sum.packets = sum.packets.wrapping_add(more.packets);
    sum.bytes = sum.bytes.wrapping_add(more.bytes);
}

fn record(standing: impl Fn(&Key) -> Standing, key: Key, seen: Seen) -> PairRecord {
    let Standing {
        from,
        to,
        setting,
        crossing,
        sa,
    } = standing(&key);
    PairRecord {
        from,
        to,
        peer: key.node,
        direction: direction(key.inbound),
        setting,
        crossing,
        algorithm: sa.as_ref().map(|sa| sa.algorithm),
        sa_age_ms: sa.and_then(|sa| sa.age_ms),
        flows: seen.flows,
        clear_packets: seen.clear.packets,
        clear_bytes: seen.clear.bytes,
    }
}

const fn direction(inbound: bool) -> SaDirection {
    if inbound {
        SaDirection::Inbound
    } else {
        SaDirection::Outbound
    }
}

/// What says how a pair stands.
pub(crate) struct Sources<'a> {
    pub(crate) state: &'a State,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) sas: &'a [SaRecord],
}

impl Sources<'_> {
    /// Whose an address is now.
    pub(crate) fn identity(&self, ip: IpAddr) -> Option<IdentityId> {
        let owner = self.snapshot.owner(ip.into())?;
        Some(IdentityId(owner.identity.0))
    }

    /// How a pair stands by the generation in force.
    pub(crate) fn standing(&self, key: &Key) -> Standing {
        let end = |identity| PairEnd {
            identity,
            label: self
                .state
                .identities
                .get(&identity)
                .map(|it| it.label.clone()),
        };
        let setting = |id| self.state.identities.get(id).map(|it| it.encryption);
        let setting = setting(&key.from).zip(setting(&key.to));
        let setting = setting.map(|(from, to)| from.max(to));
        let peer = key.node.as_ref().and_then(|it| self.state.peers.get(it));
        let crossing = match (setting, peer.map(|it| it.unprotected)) {
            (None, _) | (_, None) => PairCrossing::Gone,
            (Some(Encryption::Required), Some(true)) => PairCrossing::Never,
            (Some(Encryption::Preferred), Some(true)) | (Some(Encryption::Off), _) => {
                PairCrossing::Clear
            }
            (Some(Encryption::Preferred | Encryption::Required), Some(false)) => {
                PairCrossing::Sealed
            }
        };
        let its = self.sas.iter().filter(|sa| {
            crossing == PairCrossing::Sealed
                && sa.direction == direction(key.inbound)
                && sa.peer == key.node
        });
        Standing {
            from: end(key.from),
            to: end(key.to),
            setting,
            crossing,
            // In a rekey there are two that receive: the newer is the one that stays.
            sa: its.min_by_key(|sa| sa.age_ms.unwrap_or(u64::MAX)).cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use sluice_dataplane_core::clear::ClearPair;
    use sluice_dataplane_core::snapshot::IdentityId as Number;

    use super::*;

    fn page(pairs: &[(u32, u64)]) -> ClearPage {
        let pairs = pairs.iter().map(|&(from, packets)| ClearPair {
            from: Number(from),
            to: Number(9),
            sum: ClearSum {
                packets,
                bytes: packets * 100,
            },
            ..ClearPair::default()
        });
        ClearPage {
            pairs: pairs.collect(),
            rest: ClearSum {
                packets: 1,
                bytes: 50,
            },
        }
    }

    fn gone(key: &Key) -> Standing {
        let end = |identity| PairEnd {
            identity,
            label: None,
        };
        Standing {
            from: end(key.from),
            to: end(key.to),
            setting: None,
            crossing: PairCrossing::Gone,
            sa: None,
        }
    }

    fn flow(from: u8) -> FlowRecord {
        FlowRecord {
            protocol: 6,
            src: IpAddr::from([10, 0, 0, from]),
            dst: IpAddr::from([10, 0, 1, 9]),
            src_port: 1,
            dst_port: 2,
            initiator: FlowEnd::Port("vf0".into()),
            responder: FlowEnd::Node("b".into()),
            state: sluice_offload_api::model::FlowState::Opening,
            rule: None,
            forward_packets: 1,
            reverse_packets: 0,
        }
    }

    fn last_byte(ip: IpAddr) -> Option<IdentityId> {
        match ip {
            IpAddr::V4(ip) => Some(IdentityId(ip.octets()[3].into())),
            IpAddr::V6(_) => None,
        }
    }

    #[test]
    fn workers_that_count_the_same_pair_are_summed() {
        let mut pairs = Pairs::default();
        for page in [page(&[(1, 2), (2, 3)]), page(&[(1, 5)])] {
            pairs.clear(&page, |_| Some("b".into()));
        }
        let (told, rest) = pairs.told(10, gone);
        let counts: Vec<_> = told
            .iter()
            .map(|it| (it.from.identity.0, it.clear_packets, it.clear_bytes))
            .collect();
        assert_eq!(counts, [(1, 7, 700), (2, 3, 300)]);
        assert_eq!(
            (rest.left_out, rest.clear_packets, rest.clear_bytes),
            (0, 2, 100)
        );
    }

    #[test]
    fn a_flow_is_two_pairs_one_each_way() {
        let mut pairs = Pairs::default();
        pairs.flow(&flow(1), last_byte);
        pairs.flow(&flow(1), last_byte);
        let local = FlowRecord {
            responder: FlowEnd::Port("vf1".into()),
            ..flow(2)
        };
        pairs.flow(&local, last_byte);
        let (told, _) = pairs.told(10, gone);
        let seen: Vec<_> = told
            .iter()
            .map(|it| (it.from.identity.0, it.to.identity.0, it.direction, it.flows))
            .collect();
        let (there, back) = (SaDirection::Outbound, SaDirection::Inbound);
        assert_eq!(seen, [(1, 9, there, 2), (9, 1, back, 2)]);
    }

    #[test]
    fn of_too_many_those_in_clear_stay_and_the_rest_is_counted() {
        let mut pairs = Pairs::default();
        for from in 1..=5 {
            pairs.flow(&flow(from), last_byte);
        }
        pairs.clear(&page(&[(7, 4), (8, 6), (3, 1)]), |_| Some("b".into()));
        let (told, rest) = pairs.told(2, gone);
        let froms: Vec<_> = told.iter().map(|it| it.from.identity.0).collect();
        assert_eq!(froms, [3, 7]);
        // Ten of flows, three in clear of which one is among them.
        assert_eq!((rest.left_out, rest.clear_packets), (12 - 2, 6 + 1));
    }
}
