//! Which bytes of a datagram have come.

use super::FRAGMENTS_MAX;
use crate::wire::fragment::Fragment;

/// Why a fragment doesn't fit what came before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Clash {
    /// The very same bytes came before.
    Duplicate,
    /// Some of its bytes came before, or it and another disagree where the datagram ends.
    Overlap,
    /// There are as many fragments as there may be.
    TooMany,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Span {
    start: u16,
    end: u16,
}

/// The fragments of one datagram, in order of their offsets, none over another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranges {
    spans: [Span; FRAGMENTS_MAX],
    count: u8,
    covered: u16,
    /// How long the datagram is; known from its last fragment.
    len: Option<u16>,
}

const _: () = assert!(FRAGMENTS_MAX <= u8::MAX as usize);

impl Ranges {
    pub(super) const EMPTY: Self = Self {
        spans: [Span { start: 0, end: 0 }; FRAGMENTS_MAX],
        count: 0,
        covered: 0,
        len: None,
    };

    /// Takes note of a fragment.
    ///
    /// An exact duplicate is told from an overlap: a network may repeat a packet, and the
    /// first of the two is already on its way, so whatever the second holds, dropping it
    /// leaves one reading only.
    //= RFC 8200 section 4.5: "If any of the fragments being reassembled overlap with any
    //= other fragments being reassembled for the same packet, reassembly of that packet
    //= must be abandoned ... It should be noted that fragments may be duplicated in the
    //= network. Instead of treating these exact duplicate fragments as overlapping
    //= fragments, an implementation may choose to detect this case and drop exact
    //= duplicate fragments while keeping the other fragments belonging to the same packet."
    pub(super) fn add(&mut self, piece: Fragment) -> Result<(), Clash> {
        let count = usize::from(self.count);
        let known = self.spans.get(..count).unwrap_or(&[]);
        let new = Span {
            start: piece.start,
            end: piece.end,
        };
        let at = known.partition_point(|span| span.start < new.start);
        let (before, after) = known.split_at(at);
        let next = after.first();
        if next == Some(&new) && piece.last == (self.len == Some(new.end)) {
            return Err(Clash::Duplicate);
        }
        let overlaps = before.last().is_some_and(|span| span.end > new.start)
            || next.is_some_and(|span| span.start < new.end);
        let ends_elsewhere = self.len.is_some_and(|len| piece.last || new.end > len)
            || piece.last && !after.is_empty();
        if overlaps || ends_elsewhere {
            return Err(Clash::Overlap);
        }
        if count == FRAGMENTS_MAX {
            return Err(Clash::TooMany);
        }
        self.spans.copy_within(at..count, at + 1);
        if let Some(span) = self.spans.get_mut(at) {
            *span = new;
        }
        self.count += 1;
        // Without overlaps the sum is at most the datagram's length.
        self.covered = self.covered.saturating_add(new.end - new.start);
        if piece.last {
            self.len = Some(new.end);
        }
        Ok(())
    }

    /// Whether all of the datagram has come.
    pub(super) fn is_complete(&self) -> bool {
        self.len == Some(self.covered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn piece(start: u16, end: u16, last: bool) -> Fragment {
        Fragment {
            id: 0,
            start,
            end,
            last,
        }
    }

    fn after(pieces: &[(u16, u16, bool)]) -> Ranges {
        let mut ranges = Ranges::EMPTY;
        for &(start, end, last) in pieces {
            ranges.add(piece(start, end, last)).unwrap();
        }
        ranges
    }

    #[test]
    fn a_datagram_is_complete_when_every_byte_has_come_in_any_order() {
        let pieces = [(0, 8, false), (8, 24, false), (24, 25, true)];
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let mut ranges = Ranges::EMPTY;
            for (n, at) in order.into_iter().enumerate() {
                let (start, end, last) = pieces[at];
                ranges.add(piece(start, end, last)).unwrap();
                assert_eq!(ranges.is_complete(), n == 2);
            }
        }
    }

    #[test]
    fn only_the_exact_same_range_is_a_duplicate() {
        let known = after(&[(16, 32, false), (40, 44, true)]);
        for (again, clash) in [
            (piece(16, 32, false), Clash::Duplicate),
            (piece(40, 44, true), Clash::Duplicate),
            (piece(16, 24, false), Clash::Overlap),
            (piece(24, 32, false), Clash::Overlap),
            (piece(8, 24, false), Clash::Overlap),
            (piece(8, 40, false), Clash::Overlap),
            (piece(16, 40, false), Clash::Overlap),
            (piece(16, 32, true), Clash::Overlap),
            (piece(40, 44, false), Clash::Overlap),
        ] {
            assert_eq!({ known }.add(again), Err(clash), "{again:?}");
        }
    }

    #[test]
    fn a_datagram_ends_in_one_place() {
        let ended = after(&[(8, 16, true)]);
        assert_eq!({ ended }.add(piece(16, 24, false)), Err(Clash::Overlap));
        assert_eq!({ ended }.add(piece(24, 32, true)), Err(Clash::Overlap));
        assert_eq!({ ended }.add(piece(0, 4, true)), Err(Clash::Overlap));
        let open = after(&[(16, 24, false)]);
        assert_eq!({ open }.add(piece(8, 12, true)), Err(Clash::Overlap));
        assert_eq!({ open }.add(piece(24, 28, true)), Ok(()));
    }

    #[test]
    fn as_many_fragments_as_the_bound_fit_and_no_more() {
        let mut ranges = Ranges::EMPTY;
        let mut next = 0;
        for _ in 0..FRAGMENTS_MAX {
            ranges.add(piece(next, next + 8, false)).unwrap();
            next += 8;
        }
        assert_eq!(ranges.add(piece(next, next + 8, true)), Err(Clash::TooMany));
        assert_eq!(ranges.add(piece(0, 8, false)), Err(Clash::Duplicate));
    }

    #[test]
    fn the_longest_datagram_is_counted_without_overflow() {
        let ranges = after(&[(0, 32_768, false), (32_768, 65_535, true)]);
        assert!(ranges.is_complete());
    }

    /// What has come, byte for eight bytes, and who claimed to be last.
    #[derive(Default)]
    struct Model {
        pieces: Vec<Fragment>,
    }

    impl Model {
        fn add(&mut self, new: Fragment) -> Result<(), Clash> {
            if self.pieces.contains(&new) {
                return Err(Clash::Duplicate);
            }
            let bytes = |p: &Fragment| p.start..p.end;
            for old in &self.pieces {
                let shared = bytes(old).any(|byte| bytes(&new).contains(&byte));
                let past = |last: &Fragment, other: &Fragment| last.last && other.end > last.end;
                if shared || past(old, &new) || past(&new, old) || old.last && new.last {
                    return Err(Clash::Overlap);
                }
            }
            if self.pieces.len() == FRAGMENTS_MAX {
                return Err(Clash::TooMany);
            }
            self.pieces.push(new);
            Ok(())
        }

        fn is_complete(&self) -> bool {
            let Some(len) = self.pieces.iter().find(|p| p.last).map(|p| p.end) else {
                return false;
            };
            (0..len).all(|byte| self.pieces.iter().any(|p| (p.start..p.end).contains(&byte)))
        }
    }

    proptest! {
        #[test]
        fn ranges_equal_a_list_of_bytes(
            pieces in prop::collection::vec((0u16..12, 1u16..4, prop::bool::weighted(0.1)), 0..40),
        ) {
            let (mut ranges, mut model) = (Ranges::EMPTY, Model::default());
            for (start, len, last) in pieces {
                let cut = if last { 3 } else { 0 };
                let new = piece(start * 8, (start + len) * 8 - cut, last);
                prop_assert_eq!(ranges.add(new), model.add(new), "{:?}", new);
                prop_assert_eq!(ranges.is_complete(), model.is_complete());
            }
        }
    }
}
