//! What crossed the wire in clear because both ends' settings let it: by whom to whom.

use crate::hash::HashKey;
use crate::snapshot::{IdentityId, PeerIndex};
use crate::tick::Tick;

/// Pairs of identities that are counted apart, at most.
pub const PAIRS_MAX: usize = 4096;

/// Places looked at for one pair, at most.
const PROBES_MAX: usize = 16;
/// How long a pair must have been silent before another may have its place.
const SILENT_NS: u64 = 600 * Tick::SECOND;

/// What went from one identity to another in clear.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClearPair {
    /// Whose it was.
    pub from: IdentityId,
    /// Whom it was for.
    pub to: IdentityId,
    /// The other node.
    pub peer: PeerIndex,
    /// Which way: pods of both nodes may have the same identities.
    pub way: Way,
    /// How much.
    pub sum: ClearSum,
}

impl ClearPair {
    fn is_same(&self, other: &Self) -> bool {
        let key = |it: &Self| (it.from, it.to, it.peer, it.way);
        key(self) == key(other)
    }
}

/// Which way something crosses the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub enum Way {
    /// To the other node.
    #[default]
    Sent,
    /// From it.
    Received,
}

/// Packets and bytes, from the IP header on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClearSum {
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl ClearSum {
    /// Adds another.
    pub const fn add(&mut self, other: Self) {
        self.packets = self.packets.wrapping_add(other.packets);
        self.bytes = self.bytes.wrapping_add(other.bytes);
    }
}

#[derive(Clone, Copy, Debug)]
struct Place {
    pair: ClearPair,
    last: Tick,
}

/// All pairs of one worker. Made once; nothing is ever allocated after.
#[derive(Debug)]
pub struct ClearPairs {
    places: Box<[Option<Place>]>,
    rest: ClearSum,
    key: HashKey,
}

impl ClearPairs {
    /// None yet.
    #[must_use]
    pub fn new(key: HashKey) -> Self {
        Self {
            places: vec![None; PAIRS_MAX].into_boxed_slice(),
            rest: ClearSum::default(),
            key,
        }
    }

    /// Counts what has crossed. Where the pair finds no place, one that was silent for long
    /// gives way; what isn't counted for a pair is counted for the rest, and nothing is lost of
    /// the sum.
    pub fn count(&mut self, more: ClearPair, now: Tick) {
        let Some(place) = self.place(&more, now) else {
            self.rest.add(more.sum);
            return;
        };
        let sum = ClearSum::default();
        let place = place.get_or_insert(Place {
            pair: ClearPair { sum, ..more },
            last: now,
        });
        place.pair.sum.add(more.sum);
        place.last = now;
    }

    /// The pair's own place, or one that it can have.
    fn place(&mut self, pair: &ClearPair, now: Tick) -> Option<&mut Option<Place>> {
        let identities = u64::from(pair.from.0) | u64::from(pair.to.0) << 32;
        let rest = u64::from(pair.peer.0) | (pair.way as u64) << 16;
        #[allow(clippy::cast_possible_truncation, reason = "masked by the modulus")]
        let home = self.key.hash([identities, rest]) as usize;
        let (mut own, mut free, mut silent) = (None, None, None);
        for i in 0..PROBES_MAX {
            let at = home.wrapping_add(i) % PAIRS_MAX;
            match self.places.get(at).copied().flatten() {
                Some(it) if it.pair.is_same(pair) => {
                    own = Some(at);
                    break;
                }
                Some(it) if now.0.saturating_sub(it.last.0) >= SILENT_NS => {
                    silent = silent.or(Some(at));
                }
                Some(_) => {}
                None => free = free.or(Some(at)),
            }
        }
        let at = own.or(free).or(silent)?;
        let place = self.places.get_mut(at)?;
        if own.is_none()
            && let Some(other) = place.take()
        {
            self.rest.add(other.pair.sum);
        }
        Some(place)
    }

    /// All pairs.
    pub fn iter(&self) -> impl Iterator<Item = ClearPair> {
        self.places.iter().flatten().map(|it| it.pair)
    }

    /// What isn't counted for any of them.
    #[must_use]
    pub const fn rest(&self) -> ClearSum {
        self.rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerIndex = PeerIndex(3);

    fn pair(from: u32, to: u32, bytes: u64) -> ClearPair {
        ClearPair {
            from: IdentityId(from),
            to: IdentityId(to),
            peer: PEER,
            way: Way::Sent,
            sum: ClearSum { packets: 1, bytes },
        }
    }

    fn total(pairs: &ClearPairs) -> ClearSum {
        let mut sum = pairs.rest();
        pairs.iter().for_each(|it| sum.add(it.sum));
        sum
    }

    #[test]
    fn each_pair_is_counted_for_itself() {
        let mut pairs = ClearPairs::new(HashKey([1, 2]));
        for bytes in [100, 50] {
            pairs.count(pair(1, 2, bytes), Tick(5));
        }
        pairs.count(pair(2, 1, 7), Tick(6));
        // The same identities may be at either end.
        let way = Way::Received;
        pairs.count(
            ClearPair {
                way,
                ..pair(2, 1, 9)
            },
            Tick(7),
        );
        let mut all: Vec<_> = pairs.iter().map(|it| (it.from.0, it.sum)).collect();
        all.sort_by_key(|it| (it.0, it.1.bytes));
        let sum = |packets, bytes| ClearSum { packets, bytes };
        assert_eq!(all, [(1, sum(2, 150)), (2, sum(1, 7)), (2, sum(1, 9))]);
        assert_eq!(pairs.rest(), ClearSum::default());
    }

    #[test]
    fn what_finds_no_place_is_in_the_rest_and_the_sum_is_whole() {
        let mut pairs = ClearPairs::new(HashKey([1, 2]));
        let many = 3 * u32::try_from(PAIRS_MAX).unwrap();
        for n in 1..=many {
            pairs.count(pair(n, 1, 10), Tick(5));
        }
        assert!(pairs.iter().count() > PAIRS_MAX / 2 && pairs.rest().packets > 0);
        let all = |n: u32| ClearSum {
            packets: n.into(),
            bytes: u64::from(n) * 10,
        };
        assert_eq!(total(&pairs), all(many));
        // Those that are silent make room, and what they had is in the rest.
        let held = pairs.iter().count();
        pairs.count(pair(many + 1, 1, 10), Tick(5 + SILENT_NS));
        assert!(pairs.iter().any(|it| it.from.0 == many + 1));
        assert!(pairs.iter().count() <= held + 1);
        assert_eq!(total(&pairs), all(many + 1));
    }
}
