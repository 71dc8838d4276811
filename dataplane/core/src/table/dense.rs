//! A map from numbers that often stand close together: addresses of pods, identities.

use core::num::NonZeroU32;

use sluice_intrinsics::prefetch;

use crate::hash::HashKey;
use crate::table::frozen::{FrozenKey, FrozenMap};

/// Keys of one page: those that differ in the low byte only.
const PAGE: usize = 256;

/// Keys that a page must have: what a key takes is bounded by `PAGE / PAGE_KEYS_MIN` values.
const PAGE_KEYS_MIN: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Word(u32);

impl FrozenKey for Word {
    #[inline]
    fn hash(self, key: HashKey) -> u64 {
        key.hash([u64::from(self.0)])
    }
}

/// Where pages begin. Those of one cluster stand close together (its pods' network, identities
/// counted from one): then their numbers are places in a list, and nothing is hashed.
#[derive(Clone, Debug)]
struct Pages {
    /// All of them.
    all: FrozenMap<Word, u32>,
    /// The number that the list begins with.
    first: u32,
    /// By number, where it begins; [`NOWHERE`] for those that aren't. Empty if they are too far
    /// apart.
    list: Box<[u32]>,
}

const NOWHERE: u32 = u32::MAX;

/// How long a list may be: four kilobytes and more only if a quarter of it is used.
const LISTED_MIN: usize = 1024;
const LISTED_PER_PAGE: usize = 4;

impl Pages {
    fn build(key: HashKey, pages: &[(Word, u32)]) -> Self {
        let mut this = Self {
            all: FrozenMap::build(key, pages),
            first: 0,
            list: Box::default(),
        };
        this.relist();
        this
    }

    /// Makes the list anew.
    fn relist(&mut self) {
        let numbers = || self.all.entries().map(|(page, _)| page.0);
        let (first, last) = (numbers().min(), numbers().max());
        self.list = Box::default();
        let (Some(first), Some(last)) = (first, last) else {
            return;
        };
        let len = (last - first) as usize + 1;
        if len > LISTED_MIN.max(self.all.len() * LISTED_PER_PAGE) {
            return;
        }
        let mut list = vec![NOWHERE; len];
        for (page, at) in self.all.entries() {
            if let Some(place) = list.get_mut((page.0 - first) as usize) {
                *place = at;
            }
        }
        (self.first, self.list) = (first, list.into_boxed_slice());
    }

    /// Sets where a page begins, or takes it out. Off the hot path.
    fn set(&mut self, page: Word, at: Option<u32>) {
        self.all.set(page, at);
        let place = self.list.get_mut(page.0.wrapping_sub(self.first) as usize);
        match place {
            Some(place) => *place = at.unwrap_or(NOWHERE),
            None => self.relist(),
        }
    }

    #[inline]
    fn find(&self, page: Word) -> Option<u32> {
        if self.list.is_empty() {
            return self.all.find(page);
        }
        let place = self.list.get(page.0.wrapping_sub(self.first) as usize);
        place.copied().filter(|at| *at != NOWHERE)
    }
}

/// Built, then read much and changed seldom. Where keys are dense their values stand side by
/// side, with no key beside them and no slot empty for the hash's sake: of 65,535 pods' owners
/// half a megabyte in place of two, which is what a lookup that misses the cache waits for.
#[derive(Clone, Debug)]
pub(crate) struct DenseMap<V> {
    /// By the key's upper 24 bits, where its page begins.
    pages: Pages,
    values: Box<[Option<V>]>,
    /// Keys whose page would be nearly empty.
    sparse: FrozenMap<Word, V>,
    /// Where pages were that have no key any more.
    free: Vec<u32>,
}

impl<V: Copy> DenseMap<V> {
    /// Builds from entries; of two with the same key the last stays.
    pub(crate) fn build(key: HashKey, entries: &[(u32, V)]) -> Self {
        let mut sorted = entries.to_vec();
        // Stable: what came last stays last.
        sorted.sort_by_key(|e| e.0);
        let (mut pages, mut values, mut sparse) = (Vec::new(), Vec::new(), Vec::new());
        for page in sorted.chunk_by(|a, b| a.0 >> 8 == b.0 >> 8) {
            let first = page.first().map_or(0, |e| e.0 >> 8);
            let at = u32::try_from(values.len());
            match at {
                Ok(at) if page.len() >= PAGE_KEYS_MIN => {
                    let mut whole = [None; PAGE];
                    for (k, v) in page {
                        whole[(k & 0xff) as usize] = Some(*v);
                    }
                    pages.push((Word(first), at));
                    values.extend(whole);
                }
                _ => sparse.extend(page.iter().map(|&(k, v)| (Word(k), v))),
            }
        }
        Self {
            pages: Pages::build(key, &pages),
            values: values.into_boxed_slice(),
            sparse: FrozenMap::build(key, &sparse),
            free: Vec::new(),
        }
    }

    /// Sets a key's value, or takes the key out. Off the hot path.
    pub(crate) fn set(&mut self, k: u32, v: Option<V>) {
        let page = Word(k >> 8);
        if let Some(at) = self.pages.find(page) {
            let values = self.values.get_mut(at as usize..at as usize + PAGE);
            let Some(values) = values else { return };
            values[(k & 0xff) as usize] = v;
            if values.iter().all(Option::is_none) {
                self.pages.set(page, None);
                self.free.push(at);
            }
            return;
        }
        self.sparse.set(Word(k), v);
        let keys = (0..=0xff).map(|low| k & !0xff | low);
        let here: Vec<(u32, V)> = keys
            .filter_map(|k| Some((k, self.sparse.find(Word(k))?)))
            .collect();
        if here.len() >= PAGE_KEYS_MIN {
            self.open_page(page, &here);
        }
    }

    /// Gives keys that have become many a page of their own.
    fn open_page(&mut self, page: Word, keys: &[(u32, V)]) {
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                let Ok(at) = u32::try_from(self.values.len()) else {
                    return;
                };
                let mut values = core::mem::take(&mut self.values).into_vec();
                values.extend([None; PAGE]);
                self.values = values.into_boxed_slice();
                at
            }
        };
        for &(k, v) in keys {
            self.sparse.set(Word(k), None);
            if let Some(value) = self.values.get_mut(at as usize + (k & 0xff) as usize) {
                *value = Some(v);
            }
        }
        self.pages.set(page, Some(at));
    }

    /// Has a key's value brought into the cache.
    #[inline]
    pub(crate) fn expect(&self, k: u32) {
        if !self.values.is_empty()
            && let Some(at) = self.pages.find(Word(k >> 8))
        {
            if let Some(value) = self.values.get(at as usize + (k & 0xff) as usize) {
                prefetch(value);
            }
            return;
        }
        self.sparse.expect(Word(k));
    }

    /// The value of a key.
    #[inline]
    pub(crate) fn find(&self, k: u32) -> Option<V> {
        if !self.values.is_empty()
            && let Some(at) = self.pages.find(Word(k >> 8))
        {
            return *self.values.get(at as usize + (k & 0xff) as usize)?;
        }
        self.sparse.find(Word(k))
    }
}

/// Members of a set of five, at consecutive places from one on, in a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run(NonZeroU32);

impl Run {
    /// Members, at most.
    pub(crate) const MEMBERS: u32 = 5;

    /// The members whose bits are set, from the place `at` on. None if there are none, or
    /// more places than there can be.
    pub(crate) fn new(at: usize, members: u32) -> Option<Self> {
        let at = u32::try_from(at).ok().filter(|at| at >> 27 == 0)?;
        let members = members & 0b1_1111;
        (members != 0)
            .then(|| NonZeroU32::new(at << Self::MEMBERS | members))
            .flatten()
            .map(Self)
    }

    /// The place of the first member.
    #[inline]
    pub(crate) const fn first(self) -> usize {
        (self.0.get() >> Self::MEMBERS) as usize
    }

    /// The place of a member.
    #[inline]
    pub(crate) fn place(self, member: u8) -> Option<usize> {
        let (at, members) = (self.0.get() >> Self::MEMBERS, self.0.get() & 0b1_1111);
        let below = (members & ((1 << member) - 1)).count_ones();
        (members >> member & 1 == 1).then_some((at + below) as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_map_equals_a_tree(
            // Close together, and anywhere.
            dense in prop::collection::vec((0u32..600, any::<u16>()), 0..400),
            far in prop::collection::vec((any::<u32>(), any::<u16>()), 0..40),
        ) {
            let entries: Vec<_> = dense.into_iter().chain(far).collect();
            let map = DenseMap::build(HashKey([1, 2]), &entries);
            let model: BTreeMap<_, _> = entries.iter().copied().collect();
            for k in (0..800).chain(entries.iter().flat_map(|e| [e.0, e.0 ^ 1, e.0 ^ 0x100])) {
                prop_assert_eq!(map.find(k), model.get(&k).copied());
            }
        }

        #[test]
        fn the_members_of_a_run_stand_in_order(at in 0usize..1 << 27, members in 1u32..32) {
            let run = Run::new(at, members).unwrap();
            let mut next = at;
            for member in 0..5u8 {
                let there = members >> member & 1 == 1;
                prop_assert_eq!(run.place(member), there.then_some(next));
                next += usize::from(there);
            }
        }
    }

    proptest! {
        /// Pages in one list, too far apart for one, and from the one to the other.
        #[test]
        fn pages_come_and_go_near_and_far(
            changes in prop::collection::vec(
                (
                    prop::sample::select(vec![0x0a80_0000u32, 0x0a80_0100, 0x0a80_ff00, 0xffff_ff00, 0]),
                    0u32..40,
                    prop::option::weighted(0.7, any::<u16>()),
                ),
                0..600,
            ),
        ) {
            let mut map = DenseMap::build(HashKey([1, 2]), &[]);
            let mut model = BTreeMap::new();
            for (base, low, value) in changes {
                let k = base + low;
                map.set(k, value);
                match value {
                    Some(value) => drop(model.insert(k, value)),
                    None => drop(model.remove(&k)),
                }
            }
            let entries: Vec<_> = model.iter().map(|(k, v)| (*k, *v)).collect();
            let built = DenseMap::build(HashKey([1, 2]), &entries);
            for base in [0x0a80_0000u32, 0x0a80_0100, 0x0a80_0200, 0x0a80_ff00, 0xffff_ff00, 0] {
                for k in (0..41).map(|low| base + low) {
                    prop_assert_eq!(map.find(k), model.get(&k).copied(), "{:#x}", k);
                    prop_assert_eq!(built.find(k), model.get(&k).copied(), "{:#x}", k);
                }
            }
        }
    }

    #[test]
    fn pages_of_a_cluster_are_listed_and_those_of_half_the_world_are_not() {
        let page = |at: u32| (0..20).map(move |low| (at << 8 | low, low));
        let near: Vec<_> = [0x0a_8000, 0x0a_8001, 0x0a_83ff]
            .into_iter()
            .flat_map(page)
            .collect();
        let mut map = DenseMap::build(HashKey([1, 2]), &near);
        assert_eq!(map.pages.list.len(), 1024);
        for (k, v) in page(0xc0_a800) {
            map.set(k, Some(v));
        }
        assert!(
            map.pages.list.is_empty(),
            "eight million places for four pages"
        );
        assert_eq!(map.find(0x0a83_ff13), Some(0x13));
        assert_eq!(map.find(0xc0a8_0013), Some(0x13));
    }

    #[test]
    fn what_a_run_can_not_hold_is_none() {
        assert_eq!(Run::new(0, 0), None);
        assert_eq!(Run::new(1 << 27, 1), None);
    }
}
