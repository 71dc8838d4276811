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
    /// Goes from one state to the next; the addresses that come or go here.
    pub(crate) fn renew(&mut self, before: &State, after: &State) -> Vec<IpAddr> {
        let mut moved = Vec::new();
        for it in before.prefixes.changes(&after.prefixes) {
            let addr = it.key.addr();
            if *it.key != IpPrefix::host(addr) {
                continue;
            }
            if self.addrs.remove(&addr) {
                self.order.retain(|it| *it != addr);
                moved.push(addr);
            }
            if it.after.is_none() && it.before.is_some_and(is_pods) {
                self.addrs.insert(addr);
                self.order.push_back(addr);
                moved.push(addr);
            }
        }
        let many = self.order.len().saturating_sub(FORMER_MAX);
        for addr in self.order.drain(..many) {
            self.addrs.remove(&addr);
            moved.push(addr);
        }
        moved
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
