//! How many objects need something.

use core::borrow::Borrow;

use sluice_offload_api::SharedMap;

/// Counts by key; one that nobody needs isn't there.
#[derive(Clone, Debug)]
pub(super) struct Tally<K>(SharedMap<K, usize>);

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self(SharedMap::default())
    }
}

impl<K: Ord + Clone> Tally<K> {
    /// One more needs it; whether it is the first.
    pub(super) fn add(&mut self, key: K) -> bool {
        let count = self.count(&key);
        self.0.insert(key, count + 1);
        count == 0
    }

    /// One fewer needs it; whether it was the last.
    pub(super) fn sub(&mut self, key: &K) -> bool {
        let count = self.count(key);
        if count > 1 {
            self.0.insert(key.clone(), count - 1);
        } else {
            self.0.remove(key);
        }
        count == 1
    }

    pub(super) fn count<Q: Ord + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        self.0.get(key).copied().unwrap_or(0)
    }

    pub(super) fn has<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.keys()
    }
}
