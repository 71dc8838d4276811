//! How many prefixes name an identity: what a small change needs to know of all of them.

use core::fmt;

use crate::model::{IdentityId, IpPrefix, Prefix};
use crate::shared::SharedMap;

/// Counts that follow from version to version of the prefixes, by what versions don't share.
///
/// It is no part of what a state says: any two are equal, and one that was made for other
/// prefixes counts these anew.
#[derive(Clone, Default)]
pub struct Uses {
    of: SharedMap<IpPrefix, Prefix>,
    counts: SharedMap<IdentityId, u32>,
}

impl Uses {
    /// Of another version of the prefixes.
    #[must_use]
    pub fn at(&self, prefixes: &SharedMap<IpPrefix, Prefix>) -> Self {
        let mut counts = self.counts.clone();
        for it in self.of.changes(prefixes) {
            if let Some(was) = it.before.map(|it| it.identity) {
                match counts.get(&was) {
                    Some(count) if *count > 1 => drop(counts.insert(was, count - 1)),
                    _ => drop(counts.remove(&was)),
                }
            }
            if let Some(is) = it.after.map(|it| it.identity) {
                let before = counts.get(&is).copied().unwrap_or(0);
                counts.insert(is, before + 1);
            }
        }
        Self {
            of: prefixes.clone(),
            counts,
        }
    }

    /// Whether a prefix names an identity.
    #[must_use]
    pub fn has(&self, identity: IdentityId) -> bool {
        self.counts.contains_key(&identity)
    }
}

impl PartialEq for Uses {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Uses {}

impl fmt::Debug for Uses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uses").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::model::Place;

    proptest! {
        /// From version to version, and now and then over several at once.
        #[test]
        fn counts_that_follow_equal_a_look_at_all_prefixes(
            changes in prop::collection::vec(
                (0u8..40, prop::option::weighted(0.6, 1u32..6), any::<bool>()),
                0..200,
            ),
        ) {
            let mut prefixes = SharedMap::new();
            let mut uses = Uses::default();
            for (last, identity, follows) in changes {
                let prefix = IpPrefix::host(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)));
                match identity {
                    Some(identity) => drop(prefixes.insert(prefix, Prefix {
                        prefix,
                        identity: IdentityId(identity),
                        place: Place::Outside,
                        pod_uid: None,
                    })),
                    None => drop(prefixes.remove(&prefix)),
                }
                if follows {
                    uses = uses.at(&prefixes);
                }
            }
            uses = uses.at(&prefixes);
            for id in (0..7).map(IdentityId) {
                let is_named = prefixes.values().any(|it: &Prefix| it.identity == id);
                prop_assert_eq!(uses.has(id), is_named, "{:?}", id);
            }
        }
    }
}
