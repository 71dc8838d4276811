//! Which pod has which address: what a node's owner announces and its peers keep.

use std::collections::BTreeMap;
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

/// One node's bindings, by address.
#[derive(Clone, Default, Debug)]
pub struct Bindings {
    by_addr: BTreeMap<IpAddr, Binding>,
    /// Addresses that the snapshot on its way has named; `None` outside of one.
    named: Option<Vec<IpAddr>>,
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
        if have.is_none() && self.by_addr.len() >= BINDINGS_MAX {
            return Err(BindingError::TooMany);
        }
        if let Some(named) = self.named.as_mut().filter(|n| n.len() < BINDINGS_MAX) {
            named.push(addr);
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
        Some(BindingChange::Withdrawn(gone))
    }

    /// A snapshot begins: what it does not name is gone at its end. `restarted` says that the
    /// owner lost its count, so its numbers are not to be compared with those before.
    pub fn begin(&mut self, restarted: bool) {
        self.named = Some(Vec::new());
        if restarted {
            self.by_addr.values_mut().for_each(|b| b.number = 0);
        }
    }

    /// The snapshot is complete.
    pub fn end(&mut self) -> Vec<BindingChange> {
        let Some(mut named) = self.named.take() else {
            return Vec::new();
        };
        named.sort_unstable();
        let gone = |addr: &IpAddr| named.binary_search(addr).is_err();
        let gone: Vec<_> = self.by_addr.keys().copied().filter(gone).collect();
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
    fn more_than_a_node_can_have_and_uids_that_are_none_are_refused() {
        let mut all = Bindings::default();
        for i in 0..BINDINGS_MAX {
            let [.., hi, lo] = i.to_be_bytes();
            let addr = IpAddr::from([10, 0, hi, lo]);
            let pod = PodUid::from("pod");
            all.announce(Binding {
                addr,
                pod,
                number: 1,
            })
            .unwrap();
        }
        let one_more = all.announce(Binding {
            addr: IpAddr::from([11, 0, 0, 1]),
            ..binding(1, "pod", 1)
        });
        assert_eq!(one_more, Err(BindingError::TooMany));
        let zero = Bindings::default().announce(binding(1, "pod", 0));
        assert_eq!(zero, Err(BindingError::Zero));
        let empty = Bindings::default().announce(binding(1, "", 1));
        assert_eq!(empty, Err(BindingError::PodUid { len: 0 }));
        let long = Bindings::default().announce(binding(1, &"x".repeat(65), 1));
        assert_eq!(long, Err(BindingError::PodUid { len: 65 }));
    }
}
