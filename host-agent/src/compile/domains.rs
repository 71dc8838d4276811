//! The identities of a state that stand for domain names.

use std::collections::BTreeMap;

use sluice_offload_api::SharedMap;
use sluice_offload_api::model::{DomainPattern, Identity, IdentityId};

/// Patterns by their names, so that a name's are found by its labels.
pub(crate) struct Domains<'a> {
    exact: BTreeMap<&'a str, IdentityId>,
    below: BTreeMap<&'a str, IdentityId>,
}

impl<'a> Domains<'a> {
    pub(crate) fn new(identities: &'a SharedMap<IdentityId, Identity>) -> Self {
        let mut domains = Self {
            exact: BTreeMap::new(),
            below: BTreeMap::new(),
        };
        for (id, pattern) in patterns(identities) {
            let all = if pattern.is_wildcard() {
                &mut domains.below
            } else {
                &mut domains.exact
            };
            all.insert(pattern.base(), id);
        }
        domains
    }

    /// The identities of a name, which is in lower case and without a dot at its end.
    pub(crate) fn of(&self, name: &str) -> Vec<IdentityId> {
        let exact = self.exact.get(name);
        let dots = name.match_indices('.');
        let above = dots.filter_map(|(at, dot)| name.get(at + dot.len()..));
        let below = above.filter_map(|it| self.below.get(it));
        exact.into_iter().chain(below).copied().collect()
    }
}

/// The patterns among a state's identities.
pub(crate) fn patterns(
    identities: &SharedMap<IdentityId, Identity>,
) -> impl Iterator<Item = (IdentityId, &DomainPattern)> {
    let all = identities.values();
    all.filter_map(|it| Some((it.id, it.domain.as_ref()?)))
}

/// A name that a pattern is for, and no other pattern that isn't for all that this one is.
pub(crate) fn example(pattern: &DomainPattern) -> String {
    let base = pattern.base();
    if pattern.is_wildcard() {
        format!("{ANY_LABEL}.{base}")
    } else {
        base.to_owned()
    }
}

/// Stands for a wildcard's labels.
const ANY_LABEL: &str = "any0label";
