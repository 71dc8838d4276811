//! Addresses whose pods or nodes are gone and that nobody has had since.
//!
//! The agent leaves out whoever is gone, and what nobody has is the outside's, which is spoken to
//! in clear. But who has spoken to the pod goes on for a while: a packet waited for this dataplane,
//! a connection is asked for once more. So an address stays nobody's until a pod has it again,
//! the agent says otherwise, many others have gone after it, or a quarter of an hour is over. One
//! that was a node's own stays a node's that nobody is at: no pod's packet gets there, and what the
//! host says to that machine is its own affair, as before.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use sluice_dataplane_core::snapshot::{self, PeerIndex};
use sluice_offload_api::model::{IpPrefix, Place, Prefix};
use sluice_offload_api::state::State;

/// Addresses that are remembered, at most; the oldest is forgotten first. A node has some hundred
/// pods, and what waits for one that is gone waits for minutes.
const FORMER_MAX: usize = 4096;
/// How long one is remembered: what waits for it has gone by then, and the address may be
/// somebody's outside.
const MINUTES_MAX: u8 = 15;

/// The addresses.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Former {
    addrs: BTreeMap<IpAddr, Whose>,
    /// The same, oldest first, each with how many minutes ago that was, nearly.
    order: VecDeque<(IpAddr, u8)>,
}

impl Former {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            addrs: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Takes note of whose pods are gone in the next state; the addresses that come or go here.
    /// Whether that state is refused or not: what the one in force has goes before what is noted.
    pub(crate) fn note(&mut self, before: &State, after: &State) -> Vec<IpAddr> {
        let mut moved = Vec::new();
        for it in before.prefixes.changes(&after.prefixes) {
            let addr = it.key.addr();
            if *it.key != IpPrefix::host(addr) {
                continue;
            }
            let is_gone = !it.after.is_some_and(is_somebodys);
            let whose = it.before.filter(|_| is_gone).and_then(whose);
            if let Some(whose) = whose {
                // Once more, if a state that was refused said so before.
                if self.addrs.insert(addr, whose).is_some() {
                    self.order.retain(|it| it.0 != addr);
                }
                self.order.push_back((addr, 0));
            }
            if self.addrs.contains_key(&addr) {
                moved.push(addr);
            }
        }
        moved
    }

    /// When the next state isn't refused any more: forgets what it has again, and the oldest where
    /// there are too many. Those of them, which go here.
    pub(crate) fn forget(&mut self, before: &State, after: &State) -> Vec<IpAddr> {
        let had = self.addrs.len();
        for it in before.prefixes.changes(&after.prefixes) {
            let addr = it.key.addr();
            if *it.key == IpPrefix::host(addr) && it.after.is_some_and(is_somebodys) {
                self.addrs.remove(&addr);
            }
        }
        if self.addrs.len() < had {
            self.order.retain(|it| self.addrs.contains_key(&it.0));
        }
        let many = self.order.len().saturating_sub(FORMER_MAX);
        self.drop_first(many)
    }

    /// To be called about once a minute: forgets those that are long gone. Those.
    pub(crate) fn age(&mut self) -> Vec<IpAddr> {
        self.order
            .iter_mut()
            .for_each(|it| it.1 = it.1.saturating_add(1));
        let old = self.order.partition_point(|it| it.1 > MINUTES_MAX);
        self.drop_first(old)
    }

    fn drop_first(&mut self, count: usize) -> Vec<IpAddr> {
        let first: Vec<_> = self.order.drain(..count).map(|it| it.0).collect();
        for addr in &first {
            self.addrs.remove(addr);
        }
        first
    }

    /// Where such an address is now.
    pub(crate) fn place(&self, addr: IpAddr) -> Option<snapshot::Place> {
        Some(match self.addrs.get(&addr)? {
            Whose::Pods => snapshot::Place::Nobody,
            Whose::Nodes => snapshot::Place::RemoteNode(PeerIndex::NONE),
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.addrs.keys().copied()
    }

    /// For the next start: each address behind a byte for what it is and one for its minutes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (addr, minutes) in &self.order {
            let of_node = u8::from(self.addrs.get(addr) == Some(&Whose::Nodes)) << 1;
            match addr {
                IpAddr::V4(addr) => {
                    out.extend([of_node, *minutes]);
                    out.extend(addr.octets());
                }
                IpAddr::V6(addr) => {
                    out.extend([of_node | 1, *minutes]);
                    out.extend(addr.octets());
                }
            }
        }
        out
    }

    /// What [`Self::encode`] gave; `None` if it is something else.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut former = Self::default();
        while let Some((&[kind, minutes], rest)) = bytes.split_first_chunk() {
            let whose = match kind >> 1 {
                0 => Whose::Pods,
                1 => Whose::Nodes,
                _ => return None,
            };
            let addr: IpAddr;
            if kind & 1 == 0 {
                let (octets, rest) = rest.split_first_chunk::<4>()?;
                (addr, bytes) = ((*octets).into(), rest);
            } else {
                let (octets, rest) = rest.split_first_chunk::<16>()?;
                (addr, bytes) = ((*octets).into(), rest);
            }
            if former.order.len() >= FORMER_MAX || former.addrs.insert(addr, whose).is_some() {
                return None;
            }
            former.order.push_back((addr, minutes));
        }
        bytes.is_empty().then_some(former)
    }
}

/// Whose an address was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Whose {
    Pods,
    Nodes,
}

/// Whether somebody of the cluster has it: that a policy names the one address as a block makes
/// nobody known.
const fn is_somebodys(prefix: &Prefix) -> bool {
    !matches!(prefix.place, Place::Outside | Place::Nobody)
}

const fn whose(prefix: &Prefix) -> Option<Whose> {
    match prefix.place {
        // Nobody's by name: a pod had it that the API listed on, or a policy names it.
        Place::LocalPod | Place::RemotePod(_) | Place::Nobody => Some(Whose::Pods),
        Place::RemoteNode(_) => Some(Whose::Nodes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_offload_api::model::IdentityId;
    use std::net::Ipv4Addr;

    fn addr(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    fn state(pods: core::ops::Range<u32>) -> State {
        let mut state = State::default();
        for n in pods {
            let prefix = IpPrefix::host(addr(n));
            let pod = Prefix {
                prefix,
                identity: IdentityId(1),
                place: Place::RemotePod("b".into()),
                pod_uid: Some("u".into()),
            };
            state.prefixes.insert(prefix, pod);
        }
        state
    }

    #[test]
    fn an_address_is_nobodys_from_its_pods_end_to_the_next() {
        let (mut former, with, without) = (Former::default(), state(0..3), state(0..2));
        assert_eq!(former.note(&with, &without), [addr(2)]);
        assert!(
            former.place(addr(2)) == Some(snapshot::Place::Nobody)
                && former.place(addr(1)).is_none()
        );
        assert_eq!(former.note(&without, &with), [addr(2)]);
        assert!(former.place(addr(2)).is_some(), "that state may be refused");
        former.forget(&without, &with);
        assert!(former.place(addr(2)).is_none());
    }

    #[test]
    fn what_is_kept_is_what_comes_back_and_nothing_else_does() {
        let mut former = Former::default();
        let mut with = state(0..3);
        let place = Place::RemoteNode("b".into());
        let node = IpPrefix::host(addr(1));
        with.prefixes.get_mut(&node).unwrap().place = place;
        let v6 = IpPrefix::host("fd00::7".parse().unwrap());
        let pod = with.prefixes.get(&IpPrefix::host(addr(0))).unwrap().clone();
        with.prefixes.insert(v6, Prefix { prefix: v6, ..pod });
        former.note(&with, &state(0..1));
        former.age();
        former.note(&state(0..1), &state(0..0));
        let bytes = former.encode();
        assert_eq!(Former::decode(&bytes), Some(former));
        assert_eq!(Former::decode(&[]), Some(Former::default()));
        for len in (1..bytes.len()).filter(|len| ![6, 12, 30].contains(len)) {
            assert_eq!(Former::decode(&bytes[..len]), None, "{len}");
        }
        let twice = [&bytes[..6], &bytes[..6]].concat();
        assert_eq!(Former::decode(&twice), None);
        assert_eq!(Former::decode(&[4, 0, 1, 2, 3, 4]), None);
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let most = u32::try_from(FORMER_MAX).unwrap_or(u32::MAX);
        let mut former = Former::default();
        former.note(&state(0..1), &state(0..0));
        former.note(&state(1..most + 1), &state(0..0));
        let oldest = former.forget(&state(1..most + 1), &state(0..0));
        assert_eq!(oldest, [addr(0)]);
        assert!(former.place(addr(0)).is_none());
        assert_eq!(former.iter().count(), FORMER_MAX);
        assert_eq!(former.order.len(), FORMER_MAX);
    }

    #[test]
    fn one_is_forgotten_after_a_quarter_of_an_hour_and_a_nodes_is_no_pods() {
        let mut former = Former::default();
        let mut with = state(0..2);
        let place = Place::RemoteNode("b".into());
        with.prefixes
            .get_mut(&IpPrefix::host(addr(1)))
            .unwrap()
            .place = place;
        assert_eq!(former.note(&with, &state(0..0)), [addr(0), addr(1)]);
        assert_eq!(former.place(addr(0)), Some(snapshot::Place::Nobody));
        let of_none = snapshot::Place::RemoteNode(PeerIndex::NONE);
        assert_eq!(former.place(addr(1)), Some(of_none));
        for _ in 0..MINUTES_MAX {
            assert!(former.age().is_empty());
        }
        assert_eq!(former.age(), [addr(0), addr(1)]);
        assert!(former.place(addr(1)).is_none() && former.order.is_empty());
    }

    /// Whoever may write a policy may not have what is said to a gone pod go out in clear.
    #[test]
    fn a_block_brings_nobody_back() {
        let (mut former, with) = (Former::default(), state(64..65));
        let pod = addr(64);
        let block = |len| {
            let prefix = IpPrefix::masked(pod, len).unwrap();
            let mut state = state(0..0);
            let outside = Prefix {
                prefix,
                identity: IdentityId(9),
                place: Place::Outside,
                pod_uid: None,
            };
            state.prefixes.insert(prefix, outside);
            state
        };
        let (one, wide, none) = (block(32), block(26), state(0..0));
        assert_eq!(former.note(&with, &one), [pod], "though a block names it");
        assert!(former.forget(&with, &one).is_empty());
        assert_eq!(former.note(&one, &none), [pod], "to be built again");
        assert!(former.forget(&one, &none).is_empty());
        assert!(former.note(&none, &wide).is_empty());
        assert!(former.forget(&none, &wide).is_empty());
        assert_eq!(former.note(&wide, &one), [pod]);
        assert!(former.forget(&wide, &one).is_empty());
        assert_eq!(former.place(pod), Some(snapshot::Place::Nobody));
        former.note(&one, &with);
        former.forget(&one, &with);
        assert_eq!(former.place(pod), None, "it is a pod's again");
    }
}
