//! Numbers that stay with their keys.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sluice_offload_api::SharedMap;

/// More keys than numbers.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{count} {what} are too many; at most {max} can be numbered")]
pub struct Full {
    /// What was to be numbered.
    pub what: &'static str,
    /// How many.
    pub count: usize,
    /// How many fit.
    pub max: usize,
}

/// Numbers from 1 for a changing set of keys. A key keeps its number while it is in the
/// set. A freed number comes round only after all others, as a dataplane, a log or a
/// reader may go by it for a while.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(
    from = "Repr<K>",
    into = "Repr<K>",
    bound(serialize = "K: Ord + Clone + Serialize")
)]
#[serde(bound(deserialize = "K: Ord + Clone + Deserialize<'de>"))]
pub struct Numbers<K: Ord> {
    by_key: SharedMap<K, u32>,
    by_number: SharedMap<u32, K>,
    /// The last one given out.
    last: u32,
}

/// As it is journalled: a map with structured keys has no JSON.
#[derive(Serialize, Deserialize)]
struct Repr<K> {
    last: u32,
    numbers: Vec<(u32, K)>,
}

impl<K: Ord + Clone> From<Repr<K>> for Numbers<K> {
    fn from(repr: Repr<K>) -> Self {
        let keys = repr.numbers.iter();
        let by_key: SharedMap<_, _> = keys.map(|(number, key)| (key.clone(), *number)).collect();
        let by_number = by_key.iter().map(|(key, &number)| (number, key.clone()));
        Self {
            by_number: by_number.collect(),
            by_key,
            last: repr.last,
        }
    }
}

impl<K: Ord + Clone> From<Numbers<K>> for Repr<K> {
    fn from(numbers: Numbers<K>) -> Self {
        let list = numbers
            .iter()
            .map(|(key, number)| (number, key.clone()))
            .collect();
        Self {
            last: numbers.last,
            numbers: list,
        }
    }
}

impl<K: Ord> Default for Numbers<K> {
    fn default() -> Self {
        Self {
            by_key: SharedMap::default(),
            by_number: SharedMap::default(),
            last: 0,
        }
    }
}

impl<K: Ord> Numbers<K> {
    /// The number of a key.
    #[must_use]
    pub fn number(&self, key: &K) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// The key of a number.
    #[must_use]
    pub fn key(&self, number: u32) -> Option<&K> {
        self.by_number.get(&number)
    }

    /// How many keys there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// All keys with their numbers, in the keys' order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, u32)> {
        self.by_key.iter().map(|(key, &number)| (key, number))
    }

    /// The keys from `first` on with their numbers.
    pub fn from(&self, first: &K) -> impl Iterator<Item = (&K, u32)> {
        let range = self.by_key.range(first..);
        range.map(|(key, &number)| (key, number))
    }
}

impl<K: Ord + Clone> Numbers<K> {
    /// Numbers exactly `keys`: frees what is no longer there, keeps what stays, gives new
    /// numbers to the rest in the keys' order.
    ///
    /// # Errors
    /// [`Full`] if there are more than `max`; nothing has changed then.
    pub fn renumber(
        &mut self,
        keys: BTreeSet<K>,
        what: &'static str,
        max: usize,
    ) -> Result<(), Full> {
        let count = keys.len();
        if count > max {
            return Err(Full { what, count, max });
        }
        let gone: Vec<K> = self
            .by_key
            .keys()
            .filter(|key| !keys.contains(key))
            .cloned()
            .collect();
        let fresh = keys.into_iter().filter(|key| self.number(key).is_none());
        let fresh = fresh.collect();
        self.change(gone, fresh);
        Ok(())
    }

    /// What [`Self::renumber`] does, by what is different: frees the numbers of `gone`, then
    /// gives new ones to `fresh`, of which none may have one. There must be numbers for all.
    pub fn change(&mut self, gone: impl IntoIterator<Item = K>, fresh: BTreeSet<K>) {
        for key in gone {
            if let Some(number) = self.by_key.remove(&key) {
                self.by_number.remove(&*number);
            }
        }
        for key in fresh {
            // Ends: not all of the u32s are in use.
            let number = loop {
                self.last = self.last.checked_add(1).unwrap_or(1);
                if !self.by_number.contains_key(&self.last) {
                    break self.last;
                }
            };
            self.by_number.insert(number, key.clone());
            self.by_key.insert(key, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renumber(numbers: &mut Numbers<&'static str>, keys: &[&'static str]) {
        numbers
            .renumber(keys.iter().copied().collect(), "keys", 8)
            .unwrap();
    }

    fn list<'a>(numbers: &'a Numbers<&'static str>) -> Vec<(&'a str, u32)> {
        numbers.iter().map(|(key, number)| (*key, number)).collect()
    }

    #[test]
    fn a_key_keeps_its_number_and_a_freed_one_is_not_reused() {
        let mut numbers = Numbers::default();
        renumber(&mut numbers, &["a", "b"]);
        assert_eq!(list(&numbers), [("a", 1), ("b", 2)]);
        renumber(&mut numbers, &["b", "c"]);
        assert_eq!(list(&numbers), [("b", 2), ("c", 3)]);
        renumber(&mut numbers, &["a", "b", "c"]);
        assert_eq!(list(&numbers), [("a", 4), ("b", 2), ("c", 3)]);
    }

    #[test]
    fn numbers_come_round_past_those_in_use_and_never_to_zero() {
        let mut numbers = Numbers {
            by_key: SharedMap::from([("a", 1)]),
            by_number: SharedMap::from([(1, "a")]),
            last: u32::MAX - 1,
        };
        renumber(&mut numbers, &["a", "b", "c"]);
        assert_eq!(list(&numbers), [("a", 1), ("b", u32::MAX), ("c", 2)]);
    }

    #[test]
    fn too_many_keys_change_nothing() {
        let mut numbers = Numbers::default();
        renumber(&mut numbers, &["a"]);
        let before = numbers.clone();
        let full = numbers
            .renumber(BTreeSet::from(["b", "c", "d"]), "keys", 2)
            .unwrap_err();
        assert_eq!(
            full.to_string(),
            "3 keys are too many; at most 2 can be numbered"
        );
        assert_eq!(numbers, before);
    }
}
