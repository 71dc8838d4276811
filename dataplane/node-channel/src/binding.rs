//! Which pod has which address: what a node's owner announces and its peers keep.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sluice_offload_api::model::PodUid;

/// Most bindings of one node. A DPU has a few hundred VFs, each with a few addresses.
pub const BINDINGS_MAX: usize = 4096;

/// Longest pod UID in bytes; Kubernetes' have 36.
pub const POD_UID_LEN_MAX: usize = 64;

/// "This address belongs to this pod, here."
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Binding {
    /// The pod's address.
    pub addr: IpAddr,
    /// `metadata.uid`.
    pub pod: PodUid,
    /// From 1, rising with each binding that the node makes: of two for one address the higher
    /// holds. 0 in a [`BindingChange::Withdrawn`] of a life of the node that is over.
    pub number: u64,
}

/// A binding that can't be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// Not a UID.
    #[error("a pod UID has 1 to {POD_UID_LEN_MAX} bytes, got {len}")]
    PodUid {
        /// Its length.
        len: usize,
    },
    /// Not a number.
    #[error("binding numbers begin at 1")]
    Zero,
    /// Too many.
    #[error("a node has at most {BINDINGS_MAX} bindings")]
    TooMany,
    /// Older than what is there.
    #[error("binding {got} of {addr} is not newer than {have}")]
    Stale {
        /// The address.
        addr: IpAddr,
        /// Offered.
        got: u64,
        /// In force.
        have: u64,
    },
}

/// What changed for those who watch a [`Bindings`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BindingChange {
    /// New, or in place of another for its address.
    Announced(Binding),
    /// Gone.
    Withdrawn(Binding),
}

/// One node's bindings, by address: [`BINDINGS_MAX`] at most, and while a snapshot is on its way
/// as many again, as what it names and what it will end are there together.
#[derive(Clone, Default, Debug)]
pub struct Bindings {
    by_addr: BTreeMap<IpAddr, Binding>,
    /// Those of its addresses that the snapshot on its way has named; `None` outside of one.
    named: Option<BTreeSet<IpAddr>>,
}

impl Bindings {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Binding> {
        self.by_addr.values()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_addr.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_addr.is_empty()
    }

    /// Takes one. The same once more changes nothing.
    ///
    /// # Errors
    /// [`BindingError`]; nothing has changed.
    pub fn announce(&mut self, binding: Binding) -> Result<Option<BindingChange>, BindingError> {
        let len = binding.pod.0.len();
        if len == 0 || len > POD_UID_LEN_MAX {
            return Err(BindingError::PodUid { len });
        }
        if binding.number == 0 {
            return Err(BindingError::Zero);
        }
        let addr = binding.addr;
        let have = self.by_addr.get(&addr);
        if let Some(have) = have.filter(|h| **h != binding && h.number >= binding.number) {
            return Err(BindingError::Stale {
                addr,
                got: binding.number,
                have: have.number,
            });
        }
        // A snapshot is the node's all: what it doesn't name counts no longer.
        let (is_new, len) = match &self.named {
            Some(named) => (!named.contains(&addr), named.len()),
            None => (have.is_none(), self.by_addr.len()),
        };
        if is_new && len >= BINDINGS_MAX {
            return Err(BindingError::TooMany);
        }
        if let Some(named) = &mut self.named {
            named.insert(addr);
        }
        if have == Some(&binding) {
            return Ok(None);
        }
        self.by_addr.insert(addr, binding.clone());
        Ok(Some(BindingChange::Announced(binding)))
    }

    /// Removes the one for `addr` if it is `number` or older.
    pub fn withdraw(&mut self, addr: IpAddr, number: u64) -> Option<BindingChange> {
        self.by_addr.get(&addr).filter(|b| b.number <= number)?;
        let gone = self.by_addr.remove(&addr)?;
        if let Some(named) = &mut self.named {
            named.remove(&addr);
        }
        Some(BindingChange::Withdrawn(gone))
    }

    /// A snapshot begins: what it does not name is gone at its end. `restarted` says that the
    /// owner lost its count, so its numbers are not to be compared with those before.
    ///
    /// One before it that never ended ends nothing, as it was cut off and might have named the
    /// rest, but for what is above the bound: else each that is cut off would add to it.
    pub fn begin(&mut self, restarted: bool) -> Vec<BindingChange> {
        let above = self.by_addr.len().saturating_sub(BINDINGS_MAX);
        let cut_off = self.named.replace(BTreeSet::new()).unwrap_or_default();
        let gone = self.remove_all_but(&cut_off, above);
        if restarted {
            self.by_addr.values_mut().for_each(|b| b.number = 0);
        }
        gone
    }

    /// The snapshot is complete.
    pub fn end(&mut self) -> Vec<BindingChange> {
        let Some(named) = self.named.take() else {
            return Vec::new();
        };
        self.remove_all_but(&named, usize::MAX)
    }

    fn remove_all_but(&mut self, named: &BTreeSet<IpAddr>, most: usize) -> Vec<BindingChange> {
        let gone = self.by_addr.keys().filter(|addr| !named.contains(addr));
        let gone: Vec<_> = gone.take(most).copied().collect();
        gone.iter()
            .filter_map(|addr| self.by_addr.remove(addr))
            .map(BindingChange::Withdrawn)
            .collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed assumption is a failed test")]
mod tests {
    use super::*;

    fn binding(last: u8, pod: &str, number: u64) -> Binding {
        Binding {
            addr: IpAddr::from([10, 0, 0, last]),
            pod: PodUid::from(pod),
            number,
        }
    }

    fn nth(net: u8, n: usize) -> Binding {
        let [.., high, low] = n.to_be_bytes();
        Binding {
            addr: IpAddr::from([net, 0, high, low]),
            ..binding(0, "pod", 1)
        }
    }

    #[test]
    fn an_address_goes_to_the_pod_with_the_higher_number_only() {
        let mut all = Bindings::default();
        let (old, new) = (binding(1, "old", 1), binding(1, "new", 2));
        all.announce(old.clone()).unwrap();
        assert_eq!(all.announce(old.clone()), Ok(None), "the same again");
        let changed = all.announce(new.clone()).unwrap();
        assert_eq!(changed, Some(BindingChange::Announced(new.clone())));
        let stale = all.announce(old.clone());
        assert!(matches!(stale, Err(BindingError::Stale { have: 2, .. })));
        let other = all.announce(binding(1, "twin", 2));
        assert!(matches!(other, Err(BindingError::Stale { .. })));
        assert_eq!(all.withdraw(old.addr, 1), None, "a late withdrawal");
        assert_eq!(
            all.withdraw(old.addr, 2),
            Some(BindingChange::Withdrawn(new))
        );
        assert!(all.is_empty());
    }

    #[test]
    fn a_snapshot_replaces_all_and_tells_only_what_changed() {
        let mut all = Bindings::default();
        for last in 1..=3 {
            all.announce(binding(last, "pod", 9)).unwrap();
        }
        all.begin(true);
        assert_eq!(all.end().len(), 3, "an empty snapshot");
        for last in 1..=3 {
            all.announce(binding(last, "pod", 9)).unwrap();
        }
        all.begin(true);
        // A restarted owner counts from 1 again.
        let again = binding(2, "pod", 1);
        all.announce(again.clone()).unwrap();
        let gone: Vec<_> = all.end();
        let expected = [1, 3].map(|l| BindingChange::Withdrawn(binding(l, "pod", 0)));
        assert_eq!(gone, expected);
        assert_eq!(all.iter().collect::<Vec<_>>(), [&again]);
    }

    #[test]
    fn a_full_snapshot_takes_the_place_of_as_many_others() {
        let mut all = Bindings::default();
        let full = |all: &mut Bindings, net| {
            for i in 0..BINDINGS_MAX {
                all.announce(nth(net, i)).unwrap();
            }
            assert_eq!(
                all.announce(nth(net, BINDINGS_MAX)),
                Err(BindingError::TooMany)
            );
        };
        full(&mut all, 10);
        assert!(all.begin(true).is_empty());
        full(&mut all, 11);
        // What was there before counts as soon as the snapshot names it.
        assert_eq!(all.announce(nth(10, 0)), Err(BindingError::TooMany));
        assert_eq!(all.announce(nth(11, 0)), Ok(None), "the same again");
        assert!(all.withdraw(nth(11, 0).addr, 1).is_some());
        assert!(all.announce(nth(10, 0)).unwrap().is_some());
        assert_eq!(all.end().len(), BINDINGS_MAX - 1);
        assert_eq!(all.len(), BINDINGS_MAX);
    }

    #[test]
    fn snapshots_that_are_cut_off_add_up_to_no_more_than_one() {
        let mut all = Bindings::default();
        for net in 10..20 {
            let gone = all.begin(false).len();
            assert_eq!(gone, if net < 12 { 0 } else { BINDINGS_MAX }, "{net}");
            for i in 0..BINDINGS_MAX {
                all.announce(nth(net, i)).unwrap();
            }
            assert!(all.len() <= 2 * BINDINGS_MAX);
        }
        // The last ones that were named are kept.
        all.begin(false);
        assert_eq!(all.len(), BINDINGS_MAX);
        assert!(all.iter().all(|it| it.addr >= nth(19, 0).addr));
        assert_eq!(all.end().len(), BINDINGS_MAX);
    }

    #[test]
    fn more_than_a_node_can_have_and_uids_that_are_none_are_refused() {
        let mut all = Bindings::default();
        for i in 0..BINDINGS_MAX {
            all.announce(nth(10, i)).unwrap();
        }
        let one_more = all.announce(nth(11, 1));
        assert_eq!(one_more, Err(BindingError::TooMany));
        let zero = Bindings::default().announce(binding(1, "pod", 0));
        assert_eq!(zero, Err(BindingError::Zero));
        let empty = Bindings::default().announce(binding(1, "", 1));
        assert_eq!(empty, Err(BindingError::PodUid { len: 0 }));
        let long = Bindings::default().announce(binding(1, &"x".repeat(65), 1));
        assert_eq!(long, Err(BindingError::PodUid { len: 65 }));
    }
}
