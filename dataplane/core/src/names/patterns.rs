//! The patterns of domain names that one policy names.

use std::sync::Arc;

use crate::hash::HashKey;
use crate::names::DomainId;
use crate::names::message::{LABELS_MAX, Name, hash_bytes};
use crate::snapshot::IdentityId;

/// A pattern as given to [`Patterns::build`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pattern<'a> {
    /// `db.example.com`, or `*.example.com` for all names below; in lower case.
    pub text: &'a str,
    /// Its number.
    pub domain: DomainId,
    /// The peer that rows name for it.
    pub identity: IdentityId,
}

/// A pattern by the hash of its name and whether it is for those below.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u64,
    below: bool,
    name: Name,
    domain: DomainId,
}

/// Patterns to look names up in: one probe for the name, and one for each name above it.
#[derive(Clone, Debug)]
pub struct Patterns {
    key: HashKey,
    /// In the order of their hashes.
    entries: Arc<[Entry]>,
    /// In the order of their numbers.
    identities: Arc<[(DomainId, IdentityId)]>,
}

impl Patterns {
    /// None.
    #[must_use]
    pub fn none() -> Self {
        Self::build(HashKey([0, 0]), &[])
    }

    /// Builds the table. What is no pattern, or has no number, is left out: no name is its.
    #[must_use]
    pub fn build(key: HashKey, patterns: &[Pattern<'_>]) -> Self {
        let entry = |it: &Pattern<'_>| {
            let below = it.text.strip_prefix("*.");
            let name = Name::from_text(below.unwrap_or(it.text))?;
            let domain = Some(it.domain).filter(|it| it.is_some())?;
            Some(Entry {
                hash: hashes(key, &name).last().map(|it| it.0)?,
                below: below.is_some(),
                name,
                domain,
            })
        };
        let mut entries: Vec<_> = patterns.iter().filter_map(entry).collect();
        entries.sort_unstable_by_key(|it| (it.hash, it.domain));
        // Rows of several tiers name the same.
        entries.dedup_by_key(|it| it.domain);
        let numbered = patterns.iter().filter(|it| it.domain.is_some());
        let mut identities: Vec<_> = numbered.map(|it| (it.domain, it.identity)).collect();
        identities.sort_unstable();
        identities.dedup_by_key(|it| it.0);
        Self {
            key,
            entries: entries.into(),
            identities: identities.into(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Calls `each` with every pattern that is for a name.
    pub fn find(&self, name: &Name, each: &mut impl FnMut(DomainId)) {
        if self.is_empty() {
            return;
        }
        let whole = name.as_bytes().len();
        for (hash, suffix) in hashes(self.key, name) {
            let from = self.entries.partition_point(|it| it.hash < hash);
            let same = self
                .entries
                .iter()
                .skip(from)
                .take_while(|it| it.hash == hash);
            for entry in same {
                if entry.name.as_bytes() == suffix && entry.below == (suffix.len() < whole) {
                    each(entry.domain);
                }
            }
        }
    }

    /// The peer that stands for a pattern, if it is one of these.
    #[inline]
    #[must_use]
    pub fn identity(&self, domain: DomainId) -> Option<IdentityId> {
        let at = self.identities.binary_search_by_key(&domain, |it| it.0);
        Some(self.identities.get(at.ok()?)?.1)
    }
}

/// A name and those above it, the shortest first, with their hashes: each goes on from the
/// one before, so all take one reading.
fn hashes(key: HashKey, name: &Name) -> impl Iterator<Item = (u64, &[u8])> {
    let (mut suffixes, mut count) = ([&[][..]; LABELS_MAX], 0);
    for (to, suffix) in suffixes.iter_mut().zip(name.suffixes()) {
        *to = suffix;
        count += 1;
    }
    let (mut hash, mut behind) = (0, 0);
    suffixes.into_iter().take(count).rev().map(move |suffix| {
        let label = suffix.get(..suffix.len() - behind).unwrap_or_default();
        behind = suffix.len();
        hash = hash_bytes(key, hash, label);
        (hash, suffix)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(patterns: &[&str], name: &str) -> Vec<u32> {
        let patterns: Vec<_> = patterns
            .iter()
            .zip(1..)
            .map(|(&text, n)| Pattern {
                text,
                domain: DomainId(n),
                identity: IdentityId(100 + n),
            })
            .collect();
        let table = Patterns::build(HashKey([3, 5]), &patterns);
        let mut found = Vec::new();
        table.find(&Name::from_text(name).unwrap(), &mut |it| found.push(it.0));
        let twice = [&patterns[..], &patterns].concat();
        let twice = Patterns::build(HashKey([3, 5]), &twice);
        let mut count = 0;
        twice.find(&Name::from_text(name).unwrap(), &mut |_| count += 1);
        assert_eq!(count, found.len());
        for n in &found {
            assert_eq!(table.identity(DomainId(*n)), Some(IdentityId(100 + n)));
        }
        assert_eq!(table.identity(DomainId(99)), None);
        found.sort_unstable();
        found
    }

    #[test]
    fn a_name_has_its_own_pattern_and_those_of_all_names_above_it() {
        let patterns = [
            "example.com",
            "*.example.com",
            "*.b.example.com",
            "a.b.example.com",
            "*.a.b.example.com",
            "example.org",
        ];
        assert_eq!(found(&patterns, "a.b.Example.COM"), [2, 3, 4]);
        assert_eq!(found(&patterns, "example.com"), [1]);
        assert_eq!(found(&patterns, "b.example.com"), [2]);
        assert_eq!(found(&patterns, "x.y.example.com"), [2]);
        assert_eq!(found(&patterns, "notexample.com"), []);
        assert_eq!(found(&patterns, "com"), []);
        assert_eq!(found(&[], "example.com"), []);
    }

    #[test]
    fn a_pattern_without_a_number_is_for_no_name() {
        let pattern = Pattern {
            text: "example.com",
            domain: DomainId::NONE,
            identity: IdentityId(1),
        };
        let table = Patterns::build(HashKey([3, 5]), &[pattern]);
        assert!(table.is_empty());
        assert_eq!(table.identity(DomainId::NONE), None);
    }
}
