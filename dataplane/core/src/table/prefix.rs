//! Address to identity and place, by longest prefix.

use crate::addr::Addr;
use crate::hash::HashKey;
use crate::snapshot::{IdentityId, Place};
use crate::table::frozen::{FrozenKey, FrozenMap};

/// What an address is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// Who has it.
    pub identity: IdentityId,
    /// Where it is.
    pub place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct PrefixKey {
    bits: u128,
    len: u8,
}

impl FrozenKey for PrefixKey {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the two halves of the address"
    )]
    fn words(self) -> [u64; 3] {
        [
            (self.bits >> 64) as u64,
            self.bits as u64,
            u64::from(self.len),
        ]
    }
}

/// Prefixes as one hash table; a lookup tries the lengths in use, longest first, so the
/// number of probes depends on the lengths and not on the number of prefixes.
#[derive(Clone, Debug)]
pub struct PrefixTable {
    map: FrozenMap<PrefixKey, Owner>,
    /// Lengths in use of 128, longest first; IPv4's are 96 and more.
    lens_v4: Box<[u8]>,
    lens_v6: Box<[u8]>,
}

const V4_BASE: u8 = 96;

const fn mask(len: u8) -> u128 {
    match len {
        0 => 0,
        _ => u128::MAX << (128 - len as u32),
    }
}

impl PrefixTable {
    /// Builds from (address, length of its own family in bits, owner).
    #[must_use]
    pub fn build(key: HashKey, prefixes: &[(Addr, u8, Owner)]) -> Self {
        let entries: Vec<_> = prefixes
            .iter()
            .map(|&(addr, len, owner)| {
                let len = if addr.is_v4() {
                    len.saturating_add(V4_BASE)
                } else {
                    len
                }
                .min(128);
                (
                    PrefixKey {
                        bits: addr.0 & mask(len),
                        len,
                    },
                    owner,
                    addr.is_v4(),
                )
            })
            .collect();
        let lens = |v4: bool| {
            let mut lens: Vec<u8> = entries
                .iter()
                .filter(|e| e.2 == v4)
                .map(|e| e.0.len)
                .collect();
            lens.sort_unstable_by(|a, b| b.cmp(a));
            lens.dedup();
            lens.into_boxed_slice()
        };
        let (lens_v4, lens_v6) = (lens(true), lens(false));
        let entries: Vec<_> = entries.into_iter().map(|(k, o, _)| (k, o)).collect();
        Self {
            map: FrozenMap::build(key, &entries),
            lens_v4,
            lens_v6,
        }
    }

    /// Who has an address.
    #[inline]
    #[must_use]
    pub fn find(&self, addr: Addr) -> Option<Owner> {
        let lens = if addr.is_v4() {
            &self.lens_v4
        } else {
            &self.lens_v6
        };
        lens.iter().find_map(|&len| {
            self.map.find(PrefixKey {
                bits: addr.0 & mask(len),
                len,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn owner(n: u32) -> Owner {
        Owner {
            identity: IdentityId(n),
            place: Place::Outside,
        }
    }

    proptest! {
        #[test]
        fn the_longest_prefix_wins_as_in_a_linear_scan(
            prefixes in prop::collection::vec((any::<u32>(), 0u8..=32), 0..80),
            near in prop::collection::vec((any::<prop::sample::Index>(), 0u32..32), 40),
        ) {
            let prefixes: Vec<_> = prefixes
                .into_iter()
                .enumerate()
                .map(|(i, (a, len))| {
                    (Addr::v4(a.to_be_bytes()), len, owner(u32::try_from(i).unwrap() + 1))
                })
                .collect();
            let table = PrefixTable::build(HashKey([7, 9]), &prefixes);
            for (index, flip) in near {
                let base = if prefixes.is_empty() { Addr::v4([1, 2, 3, 4]) }
                    else { index.get(&prefixes).0 };
                let probe = Addr(base.0 ^ (1 << flip));
                // Of equal prefixes the last stays; of different ones the longest.
                let want = prefixes
                    .iter()
                    .filter(|p| p.0.0 & mask(p.1 + 96) == probe.0 & mask(p.1 + 96))
                    .max_by_key(|p| p.1)
                    .map(|p| p.1);
                let got = table.find(probe);
                prop_assert_eq!(got.is_some(), want.is_some());
                if let (Some(got), Some(len)) = (got, want) {
                    let index = usize::try_from(got.identity.0 - 1).unwrap();
                    prop_assert_eq!(prefixes[index].1, len);
                }
            }
        }
    }

    #[test]
    fn the_families_never_meet() {
        let table = PrefixTable::build(
            HashKey([1, 1]),
            &[
                (Addr::v6([0; 16]), 0, owner(6)),
                (Addr::v4([0; 4]), 0, owner(4)),
            ],
        );
        assert_eq!(table.find(Addr::v4([8, 8, 8, 8])), Some(owner(4)));
        assert_eq!(table.find(Addr::v6([0x20; 16])), Some(owner(6)));
        let only_v6 = PrefixTable::build(HashKey([1, 1]), &[(Addr::v6([0; 16]), 0, owner(6))]);
        assert_eq!(only_v6.find(Addr::v4([8, 8, 8, 8])), None);
    }
}
