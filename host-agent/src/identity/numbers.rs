//! Numbers that stay with their keys.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

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
#[serde(bound(deserialize = "K: Ord + Deserialize<'de>"))]
pub struct Numbers<K: Ord> {
    by_key: BTreeMap<K, u32>,
    /// The last one given out.
    last: u32,
}

/// As it is journalled: a map with structured keys has no JSON.
#[derive(Serialize, Deserialize)]
struct Repr<K> {
    last: u32,
    numbers: Vec<(u32, K)>,
}

impl<K: Ord> From<Repr<K>> for Numbers<K> {
    fn from(repr: Repr<K>) -> Self {
        let by_key = repr
            .numbers
            .into_iter()
            .map(|(number, key)| (key, number))
            .collect();
        Self {
            by_key,
            last: repr.last,
        }
    }
}

impl<K: Ord + Clone> From<Numbers<K>> for Repr<K> {
    fn from(numbers: Numbers<K>) -> Self {
        let list = numbers
            .by_key
            .into_iter()
            .map(|(key, number)| (number, key))
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
            by_key: BTreeMap::new(),
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

    /// All keys with their numbers, in the keys' order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, u32)> {
        self.by_key.iter().map(|(key, &number)| (key, number))
    }

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
        self.by_key.retain(|key, _| keys.contains(key));
        let mut used: BTreeSet<u32> = self.by_key.values().copied().collect();
        for key in keys {
            if self.by_key.contains_key(&key) {
                continue;
            }
            // Ends: at most `max` of the u32s are in use.
            let number = loop {
                self.last = self.last.checked_add(1).unwrap_or(1);
                if used.insert(self.last) {
                    break self.last;
                }
            };
            self.by_key.insert(key, number);
        }
        Ok(())
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
            by_key: BTreeMap::from([("a", 1)]),
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
