//! Addresses whose pods are gone and that nobody has had since.
//!
//! The agent leaves out whoever is gone, and what nobody has is the outside's, which is spoken to
//! in clear. But who has spoken to the pod goes on for a while: a packet waited for this dataplane,
//! a connection is asked for once more. So an address stays nobody's until a pod has it again,
//! the agent says otherwise, or many others have gone after it.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use sluice_offload_api::model::{IpPrefix, Place, Prefix};
use sluice_offload_api::state::State;

/// Addresses that are remembered, at most; the oldest is forgotten first. A node has some hundred
/// pods, and what waits for one that is gone waits for minutes.
const FORMER_MAX: usize = 4096;

/// The addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Former {
    addrs: BTreeSet<IpAddr>,
    /// The same, oldest first.
    order: VecDeque<IpAddr>,
}

impl Former {
    /// Takes note of whose pods are gone in the next state; the addresses that come or go here.
    /// Whether that state is refused or not: what the one in force has goes before what is noted.
    pub(crate) fn note(&mut self, before: &State, after: &State) -> Vec<IpAddr> {
        let mut moved = Vec::new();
        for it in before.prefixes.changes(&after.prefixes) {
            let addr = it.key.addr();
            if *it.key != IpPrefix::host(addr) {
                continue;
            }
            let is_gone = it.after.is_none() && it.before.is_some_and(is_pods);
            if is_gone && self.addrs.insert(addr) {
                self.order.push_back(addr);
            }
            if self.addrs.contains(&addr) {
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
            if it.after.is_some() {
                self.addrs.remove(&it.key.addr());
            }
        }
        if self.addrs.len() < had {
            self.order.retain(|it| self.addrs.contains(it));
        }
        let many = self.order.len().saturating_sub(FORMER_MAX);
        let oldest: Vec<_> = self.order.drain(..many).collect();
        for addr in &oldest {
            self.addrs.remove(addr);
        }
        oldest
    }

    pub(crate) fn contains(&self, addr: IpAddr) -> bool {
        self.addrs.contains(&addr)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.addrs.iter().copied()
    }
}

const fn is_pods(prefix: &Prefix) -> bool {
    matches!(prefix.place, Place::LocalPod | Place::RemotePod(_))
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
        assert!(former.contains(addr(2)) && !former.contains(addr(1)));
        assert_eq!(former.note(&without, &with), [addr(2)]);
        assert!(former.contains(addr(2)), "that state may be refused");
        former.forget(&without, &with);
        assert!(!former.contains(addr(2)));
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let most = u32::try_from(FORMER_MAX).unwrap_or(u32::MAX);
        let mut former = Former::default();
        former.note(&state(0..1), &state(0..0));
        former.note(&state(1..most + 1), &state(0..0));
        let oldest = former.forget(&state(1..most + 1), &state(0..0));
        assert_eq!(oldest, [addr(0)]);
        assert!(!former.contains(addr(0)));
        assert_eq!(former.iter().count(), FORMER_MAX);
        assert_eq!(former.order.len(), FORMER_MAX);
    }
}
