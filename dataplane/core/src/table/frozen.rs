//! A hash map that is built, then read much and changed seldom, with a bounded number of probes.

use sluice_intrinsics::prefetch;

use crate::hash::HashKey;

/// Slots looked at for one key, at most. A build that can't keep to it grows the table.
pub const PROBES_MAX: usize = 8;

/// What a map can be keyed with.
pub trait FrozenKey: Copy + Eq {
    /// Its hash: equal keys give equal ones.
    fn hash(self, key: HashKey) -> u64;
}

/// Open addressing with at most [`PROBES_MAX`] consecutive slots a key.
///
/// Beside each slot stands a tag, a byte of its key's hash. The tags of all slots that a
/// key may be in are read as one word, and a slot only if its tag fits: a key that isn't
/// there costs one read of a table that stays in the cache when the slots no longer do.
#[derive(Clone, Debug)]
pub struct FrozenMap<K, V> {
    /// By slot, [`EMPTY`] or a tag; the first `PROBES_MAX - 1` again at the end, so that
    /// no key's word wraps round.
    tags: Box<[u8]>,
    /// By slot; where its tag is [`EMPTY`] some other key's.
    slots: Box<[(K, V)]>,
    mask: usize,
    key: HashKey,
    len: usize,
}

const EMPTY: u8 = 0;
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

impl<K: FrozenKey, V: Copy> FrozenMap<K, V> {
    /// Builds from entries; of two with the same key the last stays.
    #[must_use]
    pub fn build(key: HashKey, entries: &[(K, V)]) -> Self {
        let mut size = (entries.len() * 2).next_power_of_two().max(PROBES_MAX);
        loop {
            if let Some(map) = Self::try_build(key, entries, size) {
                return map;
            }
            size *= 2;
        }
    }

    fn try_build(key: HashKey, entries: &[(K, V)], size: usize) -> Option<Self> {
        let filler = entries.first().copied();
        let mut map = Self {
            tags: vec![EMPTY; size + PROBES_MAX - 1].into_boxed_slice(),
            slots: filler.map_or_else(Box::default, |entry| vec![entry; size].into_boxed_slice()),
            mask: size - 1,
            key,
            len: 0,
        };
        for &(k, v) in entries {
            let (home, tag) = map.home(k);
            let at = (0..PROBES_MAX)
                .map(|i| (home + i) & map.mask)
                .find(|&at| map.tags[at] == EMPTY || map.slots[at].0 == k)?;
            map.len += usize::from(map.tags[at] == EMPTY);
            map.slots[at] = (k, v);
            map.tags[at] = tag;
            if let Some(again) = map.tags.get_mut(at + size) {
                *again = tag;
            }
        }
        Some(map)
    }

    /// The first slot that a key may be in, and its tag.
    #[inline]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "masked to the table's size; the top byte of the hash"
    )]
    fn home(&self, k: K) -> (usize, u8) {
        let hash = k.hash(self.key);
        // Never EMPTY.
        (hash as usize & self.mask, (hash >> 56) as u8 | 1)
    }

    /// Has the first slot that a key may be in brought into the cache.
    #[inline]
    pub fn expect(&self, k: K) {
        if let Some(slot) = self.slots.get(self.home(k).0) {
            prefetch(slot);
        }
    }

    /// The value of a key.
    #[inline]
    #[must_use]
    pub fn find(&self, k: K) -> Option<V> {
        let (home, tag) = self.home(k);
        let tags = self.tags.get(home..home + PROBES_MAX)?;
        let tags = u64::from_le_bytes(tags.try_into().ok()?);
        // A zero byte where the tags are equal. Its high bit in `fits`, and perhaps that of
        // the byte above one that is 1: the key is compared all the same.
        let differ = tags ^ (ONES * u64::from(tag));
        let mut fits = differ.wrapping_sub(ONES) & !differ & HIGHS;
        while fits != 0 {
            let at = (home + fits.trailing_zeros() as usize / 8) & self.mask;
            match self.slots.get(at) {
                // An empty slot's tag never fits exactly, but may be such a byte above.
                Some((held, v)) if *held == k && self.tags.get(at) == Some(&tag) => {
                    return Some(*v);
                }
                _ => fits &= fits - 1,
            }
        }
        None
    }

    /// Sets a key's value, or takes the key out; whether it was there. Off the hot path: once
    /// in a while the table is built anew.
    pub fn set(&mut self, k: K, v: Option<V>) -> bool {
        let (home, tag) = self.home(k);
        let places = (0..PROBES_MAX).map(|i| (home + i) & self.mask);
        let is_k = |at: usize| {
            let slot = self.slots.get(at).filter(|slot| slot.0 == k);
            slot.is_some() && self.tags.get(at).is_some_and(|it| *it != EMPTY)
        };
        let held = places.clone().find(|&at| is_k(at));
        match (held, v) {
            (None, None) => false,
            (Some(at), None) => {
                self.tag(at, EMPTY);
                self.len -= 1;
                true
            }
            (Some(at), Some(v)) => {
                if let Some(slot) = self.slots.get_mut(at) {
                    slot.1 = v;
                }
                true
            }
            (None, Some(v)) => {
                let mut free = places.filter(|&at| self.tags.get(at) == Some(&EMPTY));
                // Three quarters full: further ones would seldom find a place.
                let has_room = (self.len + 1) * 4 <= self.slots.len() * 3;
                if let Some(at) = free.next().filter(|_| has_room)
                    && let Some(slot) = self.slots.get_mut(at)
                {
                    *slot = (k, v);
                    self.tag(at, tag);
                    self.len += 1;
                } else {
                    let mut entries: Vec<_> = self.entries().collect();
                    entries.push((k, v));
                    *self = Self::build(self.key, &entries);
                }
                false
            }
        }
    }

    /// All entries, in no order.
    pub fn entries(&self) -> impl Iterator<Item = (K, V)> {
        let slots = self.slots.iter().zip(&self.tags);
        slots.filter(|it| *it.1 != EMPTY).map(|it| *it.0)
    }

    fn tag(&mut self, at: usize, tag: u8) {
        let again = at + self.mask + 1;
        for at in [at, again] {
            if let Some(slot) = self.tags.get_mut(at) {
                *slot = tag;
            }
        }
    }

    /// How many keys there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A key of which many hash alike.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
    struct Crowded(u16);

    impl FrozenKey for Crowded {
        fn hash(self, _: HashKey) -> u64 {
            // Four have one home, two of them one tag.
            u64::from(self.0 & 1) << 57 | u64::from(self.0 >> 2) << 3
        }
    }

    proptest! {
        #[test]
        fn a_map_that_changes_equals_a_tree(
            start in prop::collection::vec((0u16..600, any::<u8>()), 0..100),
            changes in prop::collection::vec((0u16..600, prop::option::of(any::<u8>())), 0..400),
        ) {
            let entries: Vec<_> = start.into_iter().map(|(k, v)| (Crowded(k), v)).collect();
            let mut map = FrozenMap::build(HashKey([1, 2]), &entries);
            let mut model: BTreeMap<_, _> = entries.into_iter().collect();
            for (k, v) in changes {
                let k = Crowded(k);
                let was = match v {
                    Some(v) => model.insert(k, v),
                    None => model.remove(&k),
                };
                prop_assert_eq!(map.set(k, v), was.is_some());
                prop_assert_eq!(map.find(k), v);
            }
            prop_assert_eq!(map.len(), model.len());
            prop_assert_eq!(map.entries().collect::<BTreeMap<_, _>>(), model.clone());
            for k in (0..700).map(Crowded) {
                prop_assert_eq!(map.find(k), model.get(&k).copied());
            }
        }

        #[test]
        fn the_map_equals_a_tree(entries in prop::collection::vec((0u16..600, any::<u8>()), 0..300)) {
            let entries: Vec<_> = entries.into_iter().map(|(k, v)| (Crowded(k), v)).collect();
            let map = FrozenMap::build(HashKey([1, 2]), &entries);
            let model: BTreeMap<_, _> = entries.into_iter().collect();
            prop_assert_eq!(map.len(), model.len());
            for k in (0..700).map(Crowded) {
                prop_assert_eq!(map.find(k), model.get(&k).copied());
            }
        }
    }
}
