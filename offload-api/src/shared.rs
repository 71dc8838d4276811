//! A sorted map that is copied in no time and tells quickly how two copies differ.
//!
//! A cluster's hundred thousand pods, and the prefixes made of them, change one at a time,
//! and everybody who follows keeps the version before: to go back to it, to see what changed,
//! or because the other side hasn't answered yet. Copies share their entries in chunks, and
//! these in groups; a change makes one of each anew, and what two copies still share needs no
//! comparing.

use core::borrow::Borrow;
use core::cmp::Ordering;
use core::fmt;
use core::ops::{Bound, Index, RangeBounds};
use std::sync::Arc;

/// Entries of a chunk and chunks of a group, at most: a change copies a chunk, a group and the
/// list of all groups, which of a hundred thousand entries are about as long. With one list of
/// all chunks its copies were a tenth of what an event cost. In tests few entries fill a group.
const CHUNK_MAX: usize = if cfg!(test) { 16 } else { 64 };
const GROUP_MAX: usize = if cfg!(test) { 8 } else { 64 };

type Entry<K, V> = (K, Arc<V>);
type Chunk<K, V> = Vec<Entry<K, V>>;
type Group<K, V> = Vec<Arc<Chunk<K, V>>>;

/// Where an entry is: its group, its chunk there, and its place in that.
type Place = (usize, usize, usize);

/// As far as it goes, used as a [`BTreeMap`](std::collections::BTreeMap) is.
pub struct SharedMap<K, V> {
    /// Sorted, and no group or chunk is empty.
    groups: Arc<Vec<Arc<Group<K, V>>>>,
    len: usize,
}

/// A key whose value isn't the same in two maps; at least one has it.
#[derive(Debug)]
pub struct Change<'a, K, V> {
    /// The key.
    pub key: &'a K,
    /// Its value in the first.
    pub before: Option<&'a V>,
    /// Its value in the second.
    pub after: Option<&'a V>,
}

impl<K, V> SharedMap<K, V> {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All entries in order.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter {
            groups: &self.groups,
            front: (0, 0, 0),
            back: (self.groups.len(), 0, 0),
        }
    }

    /// All entries in order, as other maps can share them.
    pub fn iter_shared(&self) -> impl Iterator<Item = (&K, &Arc<V>)> {
        let chunks = self.groups.iter().flat_map(|it| it.iter());
        chunks.flat_map(|it| it.iter().map(|(key, value)| (key, value)))
    }

    /// All keys in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + Clone {
        self.iter().map(|(key, _)| key)
    }

    /// All values in the keys' order.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + Clone {
        self.iter().map(|(_, value)| value)
    }

    /// Whether the two were one and have not been changed since. If not, they may be equal
    /// all the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.groups, &other.groups)
    }
}

impl<K: Ord, V> SharedMap<K, V> {
    /// The value of a key.
    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.shared(key).map(AsRef::as_ref)
    }

    /// An entry, with the map's own key.
    #[must_use]
    pub fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let (key, value) = entry(&self.groups, self.find(key).ok()?)?;
        Some((key, value))
    }

    /// The value of a key, to share it.
    #[must_use]
    pub fn shared<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&Arc<V>>
    where
        K: Borrow<Q>,
    {
        let (_, value) = entry(&self.groups, self.find(key).ok()?)?;
        Some(value)
    }

    /// Whether the key is there.
    #[must_use]
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// The entries whose keys are in a range, in order.
    #[must_use]
    pub fn range<Q: Ord + ?Sized>(&self, range: impl RangeBounds<Q>) -> Iter<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let either = |at: Result<_, _>| at.unwrap_or_else(|at| at);
        let behind = |key: &Q| match self.find(key) {
            Ok((group, chunk, at)) => (group, chunk, at + 1),
            Err(at) => at,
        };
        let front = match range.start_bound() {
            Bound::Included(key) => either(self.find(key)),
            Bound::Excluded(key) => behind(key),
            Bound::Unbounded => (0, 0, 0),
        };
        let back = match range.end_bound() {
            Bound::Included(key) => behind(key),
            Bound::Excluded(key) => either(self.find(key)),
            Bound::Unbounded => (self.groups.len(), 0, 0),
        };
        let (front, back) = (normal(&self.groups, front), normal(&self.groups, back));
        Iter {
            groups: &self.groups,
            front,
            back: back.max(front),
        }
    }

    /// How this map became `after`, by key.
    pub fn changes<'a>(&'a self, after: &'a Self) -> Vec<Change<'a, K, V>>
    where
        V: PartialEq,
    {
        let mut changes = Vec::new();
        if self.is_same(after) {
            return changes;
        }
        let (mut old, mut new) = (self.iter(), after.iter());
        loop {
            skip_shared(&mut old, &mut new);
            let order = match (old.peek(), new.peek()) {
                (None, None) => return changes,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((a, _)), Some((b, _))) => a.cmp(b),
            };
            let was = old.peek().filter(|_| order.is_le());
            let is = new.peek().filter(|_| order.is_ge());
            if let (Some((_, was)), Some((_, is))) = (was, is)
                && (Arc::ptr_eq(was, is) || was == is)
            {
            } else if let Some((key, _)) = was.or(is) {
                changes.push(Change {
                    key,
                    before: was.map(|it| it.1.as_ref()),
                    after: is.map(|it| it.1.as_ref()),
                });
            }
            if order.is_le() {
                old.next();
            }
            if order.is_ge() {
                new.next();
            }
        }
    }

    /// Where the key is, or else where it belongs.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<Place, Place>
    where
        K: Borrow<Q>,
    {
        let starts_at = |chunk: &Arc<Chunk<K, V>>| {
            chunk
                .first()
                .is_some_and(|(first, _)| first.borrow() <= key)
        };
        let groups_start_at = |group: &Arc<Group<K, V>>| group.first().is_some_and(starts_at);
        let group = self.groups.partition_point(groups_start_at);
        let group = group.saturating_sub(1);
        let Some(chunks) = self.groups.get(group) else {
            return Err((group, 0, 0));
        };
        let chunk = chunks.partition_point(starts_at).saturating_sub(1);
        let Some(entries) = chunks.get(chunk) else {
            return Err((group, chunk, 0));
        };
        match entries.binary_search_by(|(other, _)| other.borrow().cmp(key)) {
            Ok(at) => Ok((group, chunk, at)),
            Err(at) => Err((group, chunk, at)),
        }
    }
}

fn entry<K, V>(groups: &[Arc<Group<K, V>>], (group, chunk, at): Place) -> Option<&Entry<K, V>> {
    groups.get(group)?.get(chunk)?.get(at)
}

/// The same place, not written as the end of a chunk or of a group.
fn normal<K, V>(groups: &[Arc<Group<K, V>>], (group, chunk, at): Place) -> Place {
    let Some(chunks) = groups.get(group) else {
        return (group, chunk, at);
    };
    match chunks.get(chunk) {
        Some(entries) if at < entries.len() => (group, chunk, at),
        Some(_) if chunk + 1 < chunks.len() => (group, chunk + 1, 0),
        _ => (group + 1, 0, 0),
    }
}

impl<K: Ord + Clone, V> SharedMap<K, V> {
    /// Sets a key's value. Whether it had another before.
    pub fn insert(&mut self, key: K, value: V) -> Option<Arc<V>> {
        self.insert_shared(key, Arc::new(value))
    }

    /// [`Self::insert`] of a value that another map shares.
    pub fn insert_shared(&mut self, key: K, value: Arc<V>) -> Option<Arc<V>> {
        let place = self.find(&key);
        let groups = Arc::make_mut(&mut self.groups);
        let (group, chunk, at) = match place {
            Ok((group, chunk, at)) => {
                let chunks = groups.get_mut(group).map(Arc::make_mut);
                let entries = chunks.and_then(|it| it.get_mut(chunk)).map(Arc::make_mut);
                let (_, old) = entries.and_then(|it| it.get_mut(at))?;
                return Some(core::mem::replace(old, value));
            }
            Err(place) => place,
        };
        self.len += 1;
        let is_last = group + 1 >= groups.len();
        let Some(chunks) = groups.get_mut(group) else {
            groups.push(Arc::new(vec![Arc::new(vec![(key, value)])]));
            return None;
        };
        let is_end = is_last && chunk + 1 == chunks.len() && at == CHUNK_MAX;
        // In rising order: full chunks and groups.
        if is_end && chunks.len() >= GROUP_MAX {
            groups.push(Arc::new(vec![Arc::new(vec![(key, value)])]));
            return None;
        }
        let chunks = Arc::make_mut(chunks);
        if is_end {
            chunks.push(Arc::new(vec![(key, value)]));
        } else if let Some(entries) = chunks.get_mut(chunk) {
            let entries = Arc::make_mut(entries);
            entries.insert(at, (key, value));
            if entries.len() > CHUNK_MAX {
                let rest = entries.split_off(CHUNK_MAX / 2);
                chunks.insert(chunk + 1, Arc::new(rest));
            }
        }
        if chunks.len() > GROUP_MAX {
            let rest = chunks.split_off(GROUP_MAX / 2);
            groups.insert(group + 1, Arc::new(rest));
        }
        None
    }

    /// Takes a key out; its value.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
    {
        let (group, chunk, at) = self.find(key).ok()?;
        let groups = Arc::make_mut(&mut self.groups);
        let chunks = Arc::make_mut(groups.get_mut(group)?);
        let entries = Arc::make_mut(chunks.get_mut(chunk)?);
        let (_, value) = entries.remove(at);
        self.len -= 1;
        tidy(chunks, chunk, CHUNK_MAX);
        tidy(groups, group, GROUP_MAX);
        Some(value)
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Puts another map's entries over these, and shares their values with it.
    pub fn put_over(&mut self, other: &Self) {
        let chunks = other.groups.iter().flat_map(|it| it.iter());
        for (key, value) in chunks.flat_map(|it| it.iter()) {
            self.insert_shared(key.clone(), Arc::clone(value));
        }
    }

    /// Removes what doesn't hold.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        let dropped: Vec<K> = self
            .iter()
            .filter(|(key, value)| !keep(key, value))
            .map(|(key, _)| key.clone())
            .collect();
        for key in dropped {
            self.remove(&key);
        }
    }
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    /// The value of a key, to change it.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let (group, chunk, at) = self.find(key).ok()?;
        let chunks = Arc::make_mut(Arc::make_mut(&mut self.groups).get_mut(group)?);
        let entries = Arc::make_mut(chunks.get_mut(chunk)?);
        entries.get_mut(at).map(|(_, value)| Arc::make_mut(value))
    }

    /// All values, to change them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.iter_mut().map(|(_, value)| value)
    }

    /// All entries, to change their values.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        Arc::make_mut(&mut self.groups)
            .iter_mut()
            .flat_map(|group| Arc::make_mut(group).iter_mut())
            .flat_map(|chunk| Arc::make_mut(chunk).iter_mut())
            .map(|(key, value)| (&*key, Arc::make_mut(value)))
    }
}

/// One of these lists has lost something: an empty one goes, and a short one takes in the next
/// if that is short too.
fn tidy<T: Clone>(lists: &mut Vec<Arc<Vec<T>>>, at: usize, len_max: usize) {
    let len_at = |at: usize| lists.get(at).map(|it| it.len());
    match (len_at(at), len_at(at + 1)) {
        (Some(0), _) => drop(lists.remove(at)),
        (Some(len), Some(next)) if len + next <= len_max / 2 => {
            let next = lists.remove(at + 1);
            if let Some(list) = lists.get_mut(at) {
                Arc::make_mut(list).extend(next.iter().cloned());
            }
        }
        _ => {}
    }
}

/// The entries of a map, or of a range of it.
pub struct Iter<'a, K, V> {
    groups: &'a [Arc<Group<K, V>>],
    /// Where the next one is.
    front: Place,
    /// Behind the last one.
    back: Place,
}

impl<'a, K, V> Iter<'a, K, V> {
    fn peek(&self) -> Option<(&'a K, &'a Arc<V>)> {
        if self.front >= self.back {
            return None;
        }
        let (key, value) = entry(self.groups, self.front)?;
        Some((key, value))
    }

    /// Moves on by some entries of a chunk, or to its end.
    fn pass(&mut self, len: usize) {
        let (group, chunk, at) = self.front;
        self.front = normal(self.groups, (group, chunk, at + len));
    }

    /// The group that the next entry is the first of.
    fn whole_group(&self) -> Option<&'a Arc<Group<K, V>>> {
        let (group, chunk, at) = self.front;
        self.groups.get(group).filter(|_| (chunk, at) == (0, 0))
    }

    /// The chunk that the next entry is the first of.
    fn whole_chunk(&self) -> Option<&'a Arc<Chunk<K, V>>> {
        let (group, chunk, at) = self.front;
        let chunks = self.groups.get(group)?;
        chunks.get(chunk).filter(|_| at == 0)
    }
}

/// Moves both over the groups and chunks that they share. Neither is a range.
fn skip_shared<K, V>(old: &mut Iter<'_, K, V>, new: &mut Iter<'_, K, V>) {
    loop {
        if let (Some(a), Some(b)) = (old.whole_group(), new.whole_group())
            && Arc::ptr_eq(a, b)
        {
            (old.front.0, new.front.0) = (old.front.0 + 1, new.front.0 + 1);
        } else if let (Some(a), Some(b)) = (old.whole_chunk(), new.whole_chunk())
            && Arc::ptr_eq(a, b)
        {
            old.pass(a.len());
            new.pass(a.len());
        } else {
            return;
        }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, value) = self.peek()?;
        self.pass(1);
        Some((key, value))
    }
}

impl<K, V> DoubleEndedIterator for Iter<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.front >= self.back {
            return None;
        }
        let (mut group, mut chunk, mut at) = self.back;
        if at == 0 && chunk == 0 {
            group = group.checked_sub(1)?;
            chunk = self.groups.get(group)?.len();
        }
        if at == 0 {
            chunk = chunk.checked_sub(1)?;
            at = self.groups.get(group)?.get(chunk)?.len();
        }
        self.back = (group, chunk, at.checked_sub(1)?);
        let (key, value) = entry(self.groups, self.back)?;
        Some((key, value))
    }
}

impl<K, V> Clone for Iter<'_, K, V> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<K, V> fmt::Debug for Iter<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").finish_non_exhaustive()
    }
}

impl<'a, K, V> IntoIterator for &'a SharedMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for SharedMap<K, V> {
    /// Of two with the same key the last stays.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut all: Vec<Entry<K, V>> = entries
            .into_iter()
            .map(|(key, value)| (key, Arc::new(value)))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.reverse();
        all.dedup_by(|a, b| a.0 == b.0);
        let len = all.len();
        let mut chunks = Vec::with_capacity(len.div_ceil(CHUNK_MAX));
        while !all.is_empty() {
            // From the end: the list is in falling order.
            let mut chunk = all.split_off(all.len().saturating_sub(CHUNK_MAX));
            chunk.reverse();
            chunks.push(Arc::new(chunk));
        }
        let groups = chunks.chunks(GROUP_MAX);
        Self {
            groups: Arc::new(groups.map(|it| Arc::new(it.to_vec())).collect()),
            len,
        }
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for SharedMap<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<K: Ord + Clone, V> Extend<(K, V)> for SharedMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<K: Ord + Borrow<Q>, V, Q: Ord + ?Sized> Index<&Q> for SharedMap<K, V> {
    type Output = V;

    #[allow(clippy::expect_used, reason = "as every map's index does")]
    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("no entry found for key")
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self {
            groups: Arc::default(),
            len: 0,
        }
    }
}

impl<K, V> Clone for SharedMap<K, V> {
    fn clone(&self) -> Self {
        Self {
            groups: Arc::clone(&self.groups),
            len: self.len,
        }
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        if self.is_same(other) {
            return true;
        }
        if self.len != other.len {
            return false;
        }
        let (mut ours, mut theirs) = (self.iter(), other.iter());
        loop {
            skip_shared(&mut ours, &mut theirs);
            match (ours.peek(), theirs.peek()) {
                (None, None) => return true,
                (Some((k, a)), Some((l, b))) if k == l && (Arc::ptr_eq(a, b) || a == b) => {
                    ours.next();
                    theirs.next();
                }
                _ => return false,
            }
        }
    }
}

impl<K: Eq, V: Eq> Eq for SharedMap<K, V> {}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    type Ops = Vec<(u16, Option<u8>)>;

    fn ops(count: usize) -> impl Strategy<Value = Ops> {
        prop::collection::vec(
            (0u16..900, prop::option::weighted(0.7, any::<u8>())),
            0..count,
        )
    }

    fn apply(map: &mut SharedMap<u16, u8>, model: &mut BTreeMap<u16, u8>, ops: &Ops) {
        for &(key, value) in ops {
            let (was, is) = match value {
                Some(value) => (model.insert(key, value), map.insert(key, value)),
                None => (model.remove(&key), map.remove(&key)),
            };
            assert_eq!(is.as_deref(), was.as_ref());
        }
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_map(
            start in prop::collection::vec((0u16..900, any::<u8>()), 0..600),
            ops in ops(600),
            bounds in prop::collection::vec((0u16..900, 0u16..900), 8),
        ) {
            let mut model: BTreeMap<_, _> = start.iter().copied().collect();
            let mut map: SharedMap<_, _> = start.into_iter().collect();
            apply(&mut map, &mut model, &ops);
            prop_assert!(map.iter().eq(model.iter()));
            prop_assert!(map.iter().rev().eq(model.iter().rev()));
            prop_assert_eq!(map.len(), model.len());
            for key in 0..900 {
                prop_assert_eq!(map.get(&key), model.get(&key));
            }
            for (a, b) in bounds {
                let (a, b) = (a.min(b), a.max(b));
                prop_assert!(map.range(a..b).eq(model.range(a..b)));
                prop_assert!(map.range(a..=b).eq(model.range(a..=b)));
                prop_assert!(map.range(..b).rev().eq(model.range(..b).rev()));
                let behind = (Bound::Excluded(a), Bound::Unbounded);
                prop_assert!(map.range::<u16>(behind).eq(model.range(behind)));
            }
        }

        #[test]
        fn changes_lead_from_one_to_the_other_and_are_no_more_than_that(
            start in ops(600), here in ops(60), there in ops(60), keep in any::<u16>(),
        ) {
            let (mut a, mut model_a) = (SharedMap::new(), BTreeMap::new());
            apply(&mut a, &mut model_a, &start);
            let (mut b, mut model_b) = (a.clone(), model_a.clone());
            apply(&mut a, &mut model_a, &here);
            apply(&mut b, &mut model_b, &there);
            b.retain(|key, _| key % 97 != keep % 97);
            model_b.retain(|key, _| key % 97 != keep % 97);
            let mut walked = model_a.clone();
            for change in a.changes(&b) {
                prop_assert_ne!(change.before, change.after);
                prop_assert_eq!(change.before, model_a.get(change.key));
                match change.after {
                    Some(value) => walked.insert(*change.key, *value),
                    None => walked.remove(change.key),
                };
            }
            prop_assert_eq!(&walked, &model_b);
            prop_assert_eq!(a == b, model_a == model_b);
            prop_assert!(a.iter().eq(model_a.iter()), "the other copy's changes are its own");
        }
    }

    #[test]
    fn one_change_among_many_copies_one_chunk_and_its_group() {
        let before: SharedMap<u32, u32> = (0..100_000).map(|n| (n, n)).collect();
        let mut after = before.clone();
        assert!(after.is_same(&before));
        *after.get_mut(&50_000).unwrap() = 1;
        after.remove(&70_000);
        let chunks = |map: &SharedMap<u32, u32>| -> BTreeSet<_> {
            let chunks = map.groups.iter().flat_map(|it| it.iter());
            chunks.map(Arc::as_ptr).collect()
        };
        let groups = |map: &SharedMap<u32, u32>| -> BTreeSet<_> {
            map.groups.iter().map(Arc::as_ptr).collect()
        };
        assert_eq!(chunks(&before).difference(&chunks(&after)).count(), 2);
        assert_eq!(groups(&before).difference(&groups(&after)).count(), 2);
        let keys: Vec<_> = before.changes(&after).iter().map(|it| *it.key).collect();
        assert_eq!(keys, [50_000, 70_000]);
    }
}
