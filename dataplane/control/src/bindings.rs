//! Whose the other nodes say that their addresses are.
//!
//! The agent's view of the cluster comes by a watch, which may be a minute late; the node
//! that has a pod knows first. What it announces over the node channel is held against what
//! the agent says, and where they differ the address is nobody's until they agree again. So
//! an address that a new pod got never has what the old one was allowed.
//!
//! An address that a node announces and the agent doesn't know yet is nobody's too: it would
//! else count as one outside, which is spoken to in clear.
//!
//! An address that its node never spoke of is taken as the agent has it: a pod without a VF,
//! which no dataplane makes known.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use sluice_mutants::{Mutant, is};
use sluice_offload_api::model::{IpPrefix, NodeName, Place, PodUid, Prefix};
use sluice_offload_api::state::State;

use crate::former::Former;

/// Bindings of one node that are known to be over, at most; the oldest is forgotten first.
/// A watch that is a minute late would have to miss more pods of one node than that.
const GONE_MAX: usize = 4096;

/// Addresses that one node announced and took back before the agent knew of them, at most; the
/// oldest is forgotten first. Few pods live as short as that.
const UNKNOWN_MAX: usize = 64;

/// One node's.
#[derive(Clone, Debug, Default)]
struct OfNode {
    now: BTreeMap<IpAddr, PodUid>,
    gone: BTreeSet<(IpAddr, PodUid)>,
    /// Of `gone`, oldest first.
    order: VecDeque<(IpAddr, PodUid)>,
    /// Taken back before the agent knew of them, oldest first, and whether they were looked at
    /// since.
    unknown: VecDeque<(IpAddr, bool)>,
}

impl OfNode {
    fn end(&mut self, addr: IpAddr, pod: PodUid) {
        if self.gone.insert((addr, pod.clone())) {
            self.order.push_back((addr, pod));
        }
        if self.order.len() > GONE_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.gone.remove(&oldest);
        }
    }

    fn begin(&mut self, addr: IpAddr, pod: PodUid) {
        let again = (addr, pod);
        if self.gone.remove(&again) {
            self.order.retain(|it| *it != again);
        }
        let (addr, pod) = again;
        match self.now.insert(addr, pod.clone()) {
            Some(before) if before != pod => self.end(addr, before),
            _ => {}
        }
    }

    fn revokes(&self, addr: IpAddr, pod: &PodUid) -> bool {
        match self.now.get(&addr) {
            Some(now) => now != pod,
            None => self.gone.contains(&(addr, pod.clone())),
        }
    }
}

/// All nodes'.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bindings(BTreeMap<NodeName, OfNode>);

impl Bindings {
    /// A node says that an address is this pod's.
    pub(crate) fn announce(&mut self, node: &NodeName, addr: IpAddr, pod: PodUid) {
        if is(Mutant::BindingsUnasked) {
            return;
        }
        self.0.entry(node.clone()).or_default().begin(addr, pod);
    }

    /// A node says that an address is this pod's no longer. One that the agent doesn't know stays
    /// nobody's, in place of another maybe, which is what comes back: who has spoken to the pod
    /// goes on for a while.
    pub(crate) fn withdraw(
        &mut self,
        node: &NodeName,
        addr: IpAddr,
        pod: &PodUid,
        is_known: bool,
    ) -> Option<IpAddr> {
        if is(Mutant::BindingsUnasked) {
            return None;
        }
        let of_node = self.0.entry(node.clone()).or_default();
        if of_node.now.get(&addr) == Some(pod) {
            of_node.now.remove(&addr);
        }
        of_node.end(addr, pod.clone());
        if is_known {
            return None;
        }
        of_node.unknown.retain(|it| it.0 != addr);
        of_node.unknown.push_back((addr, false));
        let is_full = of_node.unknown.len() > UNKNOWN_MAX;
        let oldest = is_full.then(|| of_node.unknown.pop_front()).flatten();
        oldest.map(|it| it.0)
    }

    /// Forgets the addresses that nobody knew already when this was called last; those.
    pub(crate) fn forget_unknown(&mut self) -> Vec<IpAddr> {
        let mut forgot = Vec::new();
        for it in self.0.values_mut() {
            while let Some((addr, true)) = it.unknown.front() {
                forgot.push(*addr);
                it.unknown.pop_front();
            }
            it.unknown.iter_mut().for_each(|it| it.1 = true);
        }
        let is_empty =
            |it: &OfNode| it.now.is_empty() && it.gone.is_empty() && it.unknown.is_empty();
        self.0.retain(|_, it| !is_empty(it));
        forgot
    }

    /// Forgets the nodes that are no peers or have no dataplane. The addresses that they had
    /// announced or taken back. Those that the agent doesn't know stay nobody's for a while, as
    /// if the node had taken them back: who has spoken to a pod there goes on so long.
    pub(crate) fn keep_peers(&mut self, state: &State, former: &Former) -> Vec<IpAddr> {
        let mut forgot = Vec::new();
        self.0.retain(|node, it| {
            let peer = state.peers.get(node);
            if peer.is_some_and(|it| !it.unprotected) {
                return true;
            }
            forgot.extend(it.gone.iter().map(|(addr, _)| *addr));
            it.gone.clear();
            it.order.clear();
            for addr in core::mem::take(&mut it.now).into_keys() {
                forgot.push(addr);
                let is_known = state.prefixes.get(&IpPrefix::host(addr)).is_some()
                    || former.place(addr).is_some();
                if !is_known && it.unknown.len() < UNKNOWN_MAX {
                    it.unknown.push_back((addr, false));
                }
            }
            !it.unknown.is_empty()
        });
        forgot
    }

    /// Whether some node says that an address is a pod's there.
    pub(crate) fn is_announced(&self, addr: IpAddr) -> bool {
        self.0.values().any(|it| it.now.contains_key(&addr))
    }

    /// Whether some node says so of an address, or said so last of one that the agent doesn't
    /// know.
    pub(crate) fn claims(&self, addr: IpAddr) -> bool {
        let mut all = self.0.values();
        self.is_announced(addr) || all.any(|it| it.unknown.iter().any(|it| it.0 == addr))
    }

    /// The addresses of which that is so.
    pub(crate) fn claimed(&self) -> impl Iterator<Item = IpAddr> {
        let all = self.0.values();
        all.flat_map(|it| {
            let unknown = it.unknown.iter().map(|it| it.0);
            it.now.keys().copied().chain(unknown)
        })
    }

    /// Whether nobody has an address in a state: what a node says forbids what the agent says,
    /// or a node says that it is a pod's and the agent knows nothing of it yet. In clear, as if
    /// it were outside, may no pod be spoken to.
    pub(crate) fn withhold(&self, state: &State, addr: IpAddr) -> bool {
        match state.prefixes.get(&IpPrefix::host(addr)) {
            Some(prefix) => self.revoke(prefix),
            None => self.claims(addr),
        }
    }

    /// Whether what a node says forbids what the agent says of a prefix.
    pub(crate) fn revoke(&self, prefix: &Prefix) -> bool {
        let addr = prefix.prefix.addr();
        let node = match &prefix.place {
            Place::RemotePod(node) => node,
            // A policy names the one address as a block; that makes nobody known.
            Place::Outside if prefix.prefix == IpPrefix::host(addr) => {
                return self.is_announced(addr);
            }
            _ => return false,
        };
        let said = self.0.get(node).zip(prefix.pod_uid.as_ref());
        said.is_some_and(|(of_node, pod)| of_node.revokes(addr, pod))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed assumption is a failed test")]
mod tests {
    use super::*;
    use sluice_offload_api::model::IdentityId;

    fn revoked(bindings: &Bindings, node: &str, pod: &str) -> bool {
        bindings.revoke(&Prefix {
            prefix: IpPrefix::host(addr()),
            identity: IdentityId(1),
            place: Place::RemotePod(node.into()),
            pod_uid: Some(pod.into()),
        })
    }

    fn addr() -> IpAddr {
        "10.0.1.1".parse().unwrap()
    }

    #[test]
    fn an_address_is_whom_its_node_says_or_nobodys() {
        let (mut bindings, b) = (Bindings::default(), NodeName::from("b"));
        assert!(!revoked(&bindings, "b", "old"), "a pod without a VF");
        bindings.announce(&b, addr(), "old".into());
        assert!(!revoked(&bindings, "b", "old"));
        assert!(revoked(&bindings, "b", "new"), "the agent is ahead");
        bindings.withdraw(&b, addr(), &"old".into(), true);
        assert!(revoked(&bindings, "b", "old"));
        assert!(!revoked(&bindings, "b", "new"), "a new pod without a VF");
        bindings.announce(&b, addr(), "new".into());
        assert!(revoked(&bindings, "b", "old") && !revoked(&bindings, "b", "new"));
        assert!(!revoked(&bindings, "c", "old"), "b doesn't speak for c");
        bindings.withdraw(&b, addr(), &"new".into(), true);
        let both = ["old", "new"].map(|pod| revoked(&bindings, "b", pod));
        assert_eq!(both, [true; 2], "a watch may be two pods behind");
        bindings.announce(&b, addr(), "old".into());
        assert!(!revoked(&bindings, "b", "old"), "its session came back");
    }

    #[test]
    fn a_node_keeps_few_addresses_that_nobody_knows() {
        let (mut bindings, b) = (Bindings::default(), NodeName::from("b"));
        let nth = |n: usize| IpAddr::from([10, 0, 2, u8::try_from(n).unwrap()]);
        let mut take_back = |n| {
            bindings.announce(&b, nth(n), "u".into());
            bindings.withdraw(&b, nth(n), &"u".into(), false)
        };
        for n in 0..UNKNOWN_MAX {
            assert_eq!(take_back(n), None);
        }
        assert_eq!(take_back(0), None, "it is one of them");
        assert_eq!(take_back(UNKNOWN_MAX), Some(nth(1)), "it was one again");
        assert!(!bindings.claims(nth(1)) && bindings.claims(nth(0)));
        assert_eq!(bindings.claimed().count(), UNKNOWN_MAX);
        // What it had taken back stays for its time, whether the node is there or not.
        assert_eq!(
            bindings
                .keep_peers(&State::default(), &Former::default())
                .len(),
            UNKNOWN_MAX + 1
        );
        assert!(bindings.claims(nth(0)));
        bindings.forget_unknown();
        assert_eq!(bindings.forget_unknown().len(), UNKNOWN_MAX);
        assert!(bindings.0.is_empty(), "a node leaves nothing behind");
    }

    /// The node goes, or says no more where its dataplane is, before the watch knows its pod:
    /// the address is not at once the outside's, which is spoken to in clear.
    #[test]
    fn what_a_node_that_is_gone_announced_is_nobodys_for_a_while() {
        let (mut bindings, b) = (Bindings::default(), NodeName::from("b"));
        bindings.announce(&b, addr(), "u".into());
        assert_eq!(
            bindings.keep_peers(&State::default(), &Former::default()),
            [addr()]
        );
        assert!(bindings.claims(addr()) && !bindings.is_announced(addr()));
        assert!(
            bindings
                .keep_peers(&State::default(), &Former::default())
                .is_empty()
        );
        assert!(bindings.forget_unknown().is_empty());
        assert!(bindings.claims(addr()));
        assert_eq!(bindings.forget_unknown(), [addr()]);
        assert!(!bindings.claims(addr()) && bindings.0.is_empty());
    }

    #[test]
    fn what_nobody_knew_is_forgotten_the_second_time() {
        let (mut bindings, b) = (Bindings::default(), NodeName::from("b"));
        let take_back = |bindings: &mut Bindings, it| {
            bindings.withdraw(&b, IpAddr::from([10, 0, 2, it]), &"u".into(), false)
        };
        take_back(&mut bindings, 1);
        assert!(bindings.forget_unknown().is_empty());
        take_back(&mut bindings, 2);
        assert_eq!(bindings.forget_unknown(), [IpAddr::from([10, 0, 2, 1])]);
        take_back(&mut bindings, 2);
        assert!(bindings.forget_unknown().is_empty(), "it is new again");
        assert_eq!(bindings.forget_unknown(), [IpAddr::from([10, 0, 2, 2])]);
        assert_eq!(bindings.claimed().count(), 0);
    }

    #[test]
    fn a_block_of_one_address_makes_nobody_known() {
        let (mut bindings, b) = (Bindings::default(), NodeName::from("b"));
        let outside = |text: &str| Prefix {
            prefix: text.parse().unwrap(),
            identity: IdentityId(1),
            place: Place::Outside,
            pod_uid: None,
        };
        bindings.announce(&b, addr(), "new".into());
        assert!(bindings.revoke(&outside("10.0.1.1/32")));
        assert!(!bindings.revoke(&outside("10.0.1.0/24")));
        assert!(!bindings.revoke(&outside("10.0.1.2/32")));
        bindings.withdraw(&b, addr(), &"new".into(), true);
        assert!(!bindings.revoke(&outside("10.0.1.1/32")));
    }

    #[test]
    fn a_late_withdrawal_leaves_the_pod_that_is_there_now() {
        let (mut bindings, b) = (Bindings::default(), NodeName::from("b"));
        bindings.announce(&b, addr(), "new".into());
        bindings.withdraw(&b, addr(), &"old".into(), true);
        assert!(revoked(&bindings, "b", "old") && !revoked(&bindings, "b", "new"));
    }

    #[test]
    fn what_is_known_of_a_node_is_bounded_and_goes_with_it() {
        let (mut bindings, b) = (Bindings::default(), NodeName::from("b"));
        for n in 0..3 * GONE_MAX {
            bindings.withdraw(&b, addr(), &PodUid(format!("u-{n}")), true);
        }
        let of_b = &bindings.0[&b];
        assert_eq!((of_b.gone.len(), of_b.order.len()), (GONE_MAX, GONE_MAX));
        assert!(revoked(&bindings, "b", &format!("u-{}", 3 * GONE_MAX - 1)));
        bindings.keep_peers(&State::default(), &Former::default());
        assert!(bindings.0.is_empty());
    }
}
