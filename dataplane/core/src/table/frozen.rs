//! A hash map that is built once and then only read, with a bounded number of probes.

use crate::hash::HashKey;

/// Slots looked at for one key, at most. A build that can't keep to it grows the table.
pub const PROBES_MAX: usize = 8;

/// A key as the two words that are hashed and compared.
pub trait FrozenKey: Copy + Eq {
    /// The key's words; equal keys give equal words.
    fn words(self) -> [u64; 3];
}

/// Open addressing with at most [`PROBES_MAX`] consecutive slots a key.
#[derive(Clone, Debug)]
pub struct FrozenMap<K, V> {
    slots: Box<[Option<(K, V)>]>,
    mask: usize,
    key: HashKey,
    len: usize,
}

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
        let mut map = Self {
            slots: vec![None; size].into_boxed_slice(),
            mask: size - 1,
            key,
            len: 0,
        };
        for &(k, v) in entries {
            let home = map.home(k);
            let at = (0..PROBES_MAX)
                .map(|i| (home + i) & map.mask)
                .find(|&at| map.slots[at].is_none_or(|(held, _)| held == k))?;
            map.len += usize::from(map.slots[at].is_none());
            map.slots[at] = Some((k, v));
        }
        Some(map)
    }

    #[inline]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "masked to the table's size"
    )]
    fn home(&self, k: K) -> usize {
        self.key.hash(k.words()) as usize & self.mask
    }

    /// The value of a key.
    #[inline]
    #[must_use]
    pub fn find(&self, k: K) -> Option<V> {
        let home = self.home(k);
        for i in 0..PROBES_MAX {
            match self.slots.get((home + i) & self.mask) {
                Some(Some((held, v))) if *held == k => return Some(*v),
                Some(Some(_)) => {}
                _ => return None,
            }
        }
        None
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
