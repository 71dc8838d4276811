//! When addresses last changed hands.
//!
//! What all flows of a pod read makes it a new generation, and they are all judged again. One
//! address that becomes somebody else's is read by the flows to that address alone, so its
//! change has a number of its own, from the same count as the generations. Addresses share
//! places: a flow to another address of the place is judged again too, which changes nothing
//! but the time it takes.

use core::fmt;

use crate::addr::Addr;

/// A power of two: four kilobytes, of which a flow's packets read two words.
const PLACES: usize = 1 << PLACE_BITS;
const PLACE_BITS: u32 = 10;

/// By address the number of its last change.
#[derive(Clone)]
pub struct Moves {
    places: Box<[u32; PLACES]>,
    last: u32,
}

impl Default for Moves {
    fn default() -> Self {
        Self {
            places: Box::new([0; PLACES]),
            last: 0,
        }
    }
}

impl fmt::Debug for Moves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Moves")
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

impl Moves {
    /// The number of an address's last change, or of a later one of another address; 0 before
    /// the first.
    #[inline]
    #[must_use]
    pub fn at(&self, addr: Addr) -> u32 {
        self.places.get(place(addr)).copied().unwrap_or(self.last)
    }

    /// The number of the last change of any.
    #[inline]
    #[must_use]
    pub const fn last(&self) -> u32 {
        self.last
    }

    /// An address changes hands. Numbers may not fall.
    pub fn set(&mut self, addr: Addr, number: u32) {
        self.last = self.last.max(number);
        if let Some(place) = self.places.get_mut(place(addr)) {
            *place = number.max(*place);
        }
    }
}

/// Fibonacci hashing: neighbours, as pods of one node are, come to lie apart.
fn place(addr: Addr) -> usize {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    #[allow(clippy::cast_possible_truncation, reason = "both halves are in it")]
    let folded = (addr.0 ^ addr.0 >> 64) as u64;
    let place = folded.wrapping_mul(GOLDEN) >> (u64::BITS - PLACE_BITS);
    usize::try_from(place).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(node: u8, n: u8) -> Addr {
        Addr::v4([10, 1, node, n])
    }

    #[test]
    fn an_address_that_moves_is_nothing_to_nearly_all_others() {
        let mut moves = Moves::default();
        moves.set(pod(1, 7), 3);
        assert_eq!((moves.at(pod(1, 7)), moves.last()), (3, 3));
        let all = (0..=255).flat_map(|node| (0..=255).map(move |n| pod(node, n)));
        let moved = all.filter(|it| moves.at(*it) > 0).count();
        // 65,536 addresses in 1,024 places.
        assert!((1..=128).contains(&moved), "{moved}");
    }

    #[test]
    fn a_number_never_falls() {
        let mut moves = Moves::default();
        moves.set(pod(1, 1), 9);
        moves.set(pod(1, 1), 4);
        assert_eq!((moves.at(pod(1, 1)), moves.last()), (9, 9));
    }

    #[test]
    fn addresses_of_the_second_family_are_told_apart() {
        let addr = |host: u128| Addr(0xfd00 << 112 | host);
        let mut moves = Moves::default();
        moves.set(addr(1), 1);
        let others = (2..1_000).filter(|host| moves.at(addr(*host)) > 0).count();
        assert!(others < 8, "{others}");
    }
}
