//! Which sequence numbers of an inbound SA were already accepted.
//!
//! ```text
//!            edge = top - size + 1                     top
//!                 |                                     |
//!   ... stale ... [ 1 0 1 1 1 ............... 1 1 0 1 1 ] ... ahead, always fresh ...
//!                   seen / not yet seen
//! ```
//!
//! The bits live in a ring of 64-bit words indexed by `seq / 64`, one word longer than the window
//! (rounded up to a power of two), so that moving right clears whole words and shifts nothing.
//! This is RFC 6479's layout, except that the edge here is exact and not rounded to a word.

/// A sliding window over the full 64-bit sequence numbers of one SA.
///
/// Single writer, fixed storage: nothing is allocated after [`Self::new`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayWindow {
    /// One bit a number, in the word `seq / 64 & (words.len() - 1)`.
    words: Box<[u64]>,
    /// Numbers the window spans, `top` included.
    size: u32,
    /// Highest number committed; 0 before the first.
    top: u64,
}

impl ReplayWindow {
    /// Numbers a window spans unless told otherwise. Wide enough for the reordering of a few
    /// queues; RFC 4303 asks for 64 at least on slow links and more on fast ones.
    pub const DEFAULT: usize = 1024;
    /// Smallest size accepted.
    ///
    //= RFC 4303 section 3.4.3
    //# A minimum window size of 32 packets MUST be supported when 32-bit sequence numbers are
    //# employed; a window size of 64 is preferred and SHOULD be employed as the default.
    pub const SIZE_MIN: usize = 64;
    /// Largest size accepted.
    pub const SIZE_MAX: usize = 4096;
    /// Every size is a multiple of this many numbers.
    pub const SIZE_STEP: usize = 64;

    /// An empty window for an SA whose first number will be 1.
    ///
    /// # Errors
    /// [`WindowError`] unless `size` is a multiple of 64 from 64 to 4096.
    pub fn new(size: usize) -> Result<Self, WindowError> {
        Self::starting_at(size, 0)
    }

    /// A window that counts every number up to and including `top` as seen, for an SA taken
    /// over while it is in use.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn starting_at(size: usize, top: u64) -> Result<Self, WindowError> {
        let sound = (Self::SIZE_MIN..=Self::SIZE_MAX).contains(&size)
            && size.is_multiple_of(Self::SIZE_STEP);
        let size_numbers = u32::try_from(size).ok().filter(|_| sound);
        let Some(size_numbers) = size_numbers else {
            return Err(WindowError { size });
        };
        let word_count = (size / 64 + 1).next_power_of_two();
        let mut window = Self {
            words: vec![u64::MAX; word_count].into_boxed_slice(),
            size: size_numbers,
            top,
        };
        // In the word that holds `top`, the bits after it are still to come.
        let seen_in_last_word = u64::MAX >> (63 - (top & 63));
        if let Some(word) = window.word_mut(top) {
            *word = seen_in_last_word;
        }
        Ok(window)
    }

    /// The word that the next packet in order will ask and change, for who would have it at
    /// hand beforehand.
    #[must_use]
    pub fn top_word(&self) -> Option<&u64> {
        self.words.get(self.index(self.top))
    }

    /// Checks `seq` without changing the window; call [`Self::commit`] only after the integrity
    /// check passes. `seq` is the full 64-bit number.
    ///
    /// # Errors
    /// [`ReplayError::Stale`] left of the window (0 always is), [`ReplayError::Seen`] on a
    /// repeat.
    ///
    //= RFC 4303 section 3.4.3
    //# the receiver cannot yet modify its local counter, because the integrity of the Sequence
    //# Number has not been verified at this point.
    pub fn check(&self, seq: u64) -> Result<(), ReplayError> {
        let edge = self.edge();
        if seq < edge {
            return Err(ReplayError::Stale { seq, edge });
        }
        if seq <= self.top && self.word(seq) & bit(seq) != 0 {
            return Err(ReplayError::Seen { seq });
        }
        Ok(())
    }

    /// Marks `seq` as seen and, if it is ahead, moves the window so that it ends there.
    ///
    /// A number left of the window changes nothing, so a caller that forgot [`Self::check`]
    /// can't reopen one.
    ///
    //= RFC 4303 section 3.4.3
    //# The receive window is updated only if the integrity verification succeeds.
    pub fn commit(&mut self, seq: u64) {
        if seq < self.edge() {
            return;
        }
        if seq > self.top {
            self.advance(seq);
        }
        if let Some(word) = self.word_mut(seq) {
            *word |= bit(seq);
        }
    }

    /// The full number that a packet carrying only `low` most likely has, seen from this window.
    /// For SAs with extended sequence numbers; the ICV then proves or refutes the guess.
    ///
    /// It saturates at both ends of the number space where appendix A would wrap: there is
    /// nothing before 0 and nothing after 2^64 - 1.
    ///
    //= RFC 4303 appendix A2.2
    //# Under Case A (Figure 1):
    //# If Seql >= Bl (where Bl = Tl - W + 1), then Seqh = Th
    //# If Seql <  Bl (where Bl = Tl - W + 1), then Seqh = Th + 1
    //#
    //# Under Case B (Figure 2):
    //# If Seql >= Bl (where Bl = Tl - W + 1), then Seqh = Th - 1
    //# If Seql <  Bl (where Bl = Tl - W + 1), then Seqh = Th
    #[must_use]
    pub fn infer(&self, low: u32) -> u64 {
        let (top_high, top_low) = halves(self.top);
        let span = self.size - 1;
        let right_of_edge = low >= top_low.wrapping_sub(span);
        let high = if top_low >= span {
            // Case A: the window lies within one subspace of 2^32 numbers.
            if right_of_edge {
                top_high
            } else {
                top_high.saturating_add(1)
            }
        } else {
            // Case B: the window spans two subspaces.
            if right_of_edge {
                top_high.saturating_sub(1)
            } else {
                top_high
            }
        };
        (u64::from(high) << 32) | u64::from(low)
    }

    /// Highest number committed, 0 before the first.
    #[must_use]
    pub fn top(&self) -> u64 {
        self.top
    }

    /// Lowest number that is not yet stale. At least 1, since no SA ever sends 0.
    #[must_use]
    pub fn edge(&self) -> u64 {
        self.top.saturating_sub(u64::from(self.size - 1)).max(1)
    }

    /// Numbers the window spans.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size as usize
    }

    /// Moves `top` to `seq`, which must be ahead, and clears every word that enters the window.
    /// Bounded by the number of words however far the jump.
    fn advance(&mut self, seq: u64) {
        let entered = (seq / 64 - self.top / 64).min(self.words.len() as u64);
        for nth in 1..=entered {
            // At most 63 past `seq` and in the same word, so this can't pass the last number.
            if let Some(word) = self.word_mut(self.top + 64 * nth) {
                *word = 0;
            }
        }
        self.top = seq;
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "masked to the word count, which SIZE_MAX keeps at 128 or less"
    )]
    fn index(&self, seq: u64) -> usize {
        (seq / 64) as usize & (self.words.len() - 1)
    }

    fn word(&self, seq: u64) -> u64 {
        // The index is masked, so there always is a word; "all seen" is the safe answer if not.
        self.words.get(self.index(seq)).copied().unwrap_or(u64::MAX)
    }

    fn word_mut(&mut self, seq: u64) -> Option<&mut u64> {
        let index = self.index(seq);
        self.words.get_mut(index)
    }
}

/// Why a sequence number may not be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// Left of the window: too old to tell a repeat from a late first arrival.
    #[error("sequence {seq} is left of the replay window at {edge}")]
    Stale {
        /// The number refused.
        seq: u64,
        /// The lowest number the window still holds.
        edge: u64,
    },
    /// Inside the window and committed before.
    #[error("sequence {seq} was already accepted")]
    Seen {
        /// The number refused.
        seq: u64,
    },
}

/// A window size that can't be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a replay window of {size} is not a multiple of {} from {} to {}",
    ReplayWindow::SIZE_STEP,
    ReplayWindow::SIZE_MIN,
    ReplayWindow::SIZE_MAX
)]
pub struct WindowError {
    /// The size asked for.
    pub size: usize,
}

fn bit(seq: u64) -> u64 {
    1 << (seq % 64)
}

/// The upper and the lower 32 bits.
fn halves(seq: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = seq.to_be_bytes();
    (
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(size: usize, committed: impl IntoIterator<Item = u64>) -> ReplayWindow {
        let mut window = ReplayWindow::new(size).expect("a sound size");
        committed.into_iter().for_each(|seq| window.commit(seq));
        window
    }

    #[test]
    fn sizes_are_multiples_of_64_from_64_to_4096() {
        for size in 0..=5000 {
            let sound = size % 64 == 0 && (64..=4096).contains(&size);
            assert_eq!(ReplayWindow::new(size).is_ok(), sound, "{size}");
        }
        let error = ReplayWindow::new(100).expect_err("not a multiple");
        assert_eq!(
            error.to_string(),
            "a replay window of 100 is not a multiple of 64 from 64 to 4096"
        );
    }

    #[test]
    fn zero_is_always_stale() {
        let stale = Err(ReplayError::Stale { seq: 0, edge: 1 });
        assert_eq!(window(64, []).check(0), stale);
        assert_eq!(window(64, [1]).check(0), stale);
    }

    #[test]
    fn a_number_is_accepted_once() {
        let mut window = window(64, []);
        assert_eq!(window.check(1), Ok(()));
        assert_eq!(window.check(1), Ok(()), "checking alone changes nothing");
        window.commit(1);
        assert_eq!(window.check(1), Err(ReplayError::Seen { seq: 1 }));
        assert_eq!(window.check(2), Ok(()));
    }

    #[test]
    fn of_200_then_81_then_201_a_window_of_64_drops_the_81() {
        let mut window = window(64, []);
        let verdicts = [200, 81, 201].map(|seq| {
            let verdict = window.check(seq);
            window.commit(seq);
            verdict
        });
        assert_eq!(
            verdicts,
            [
                Ok(()),
                Err(ReplayError::Stale { seq: 81, edge: 137 }),
                Ok(())
            ]
        );
        assert_eq!(window.edge(), 138);
    }

    #[test]
    fn the_left_edge_is_exact_for_every_size() {
        for size in (64..=4096).step_by(64) {
            let top = 10_000;
            let window = window(size, [top]);
            let edge = top - size as u64 + 1;
            assert_eq!(window.check(edge), Ok(()));
            assert_eq!(
                window.check(edge - 1),
                Err(ReplayError::Stale {
                    seq: edge - 1,
                    edge
                })
            );
        }
    }

    #[test]
    fn committing_a_stale_number_changes_nothing() {
        let mut moved = window(64, [200]);
        moved.commit(136);
        moved.commit(0);
        assert_eq!(moved, window(64, [200]));
    }

    #[test]
    fn a_jump_of_any_length_forgets_everything_before_it() {
        for jump in [64, 65, 127, 128, 1000, 1 << 20, u64::MAX - 64] {
            let mut window = window(64, 1..=64);
            let top = 64 + jump;
            window.commit(top);
            for seq in (top - 63)..top {
                let fresh = seq > 64;
                assert_eq!(
                    window.check(seq).is_ok(),
                    fresh,
                    "{seq} after a jump of {jump}"
                );
            }
            assert_eq!(window.check(top), Err(ReplayError::Seen { seq: top }));
        }
    }

    #[test]
    fn the_last_number_of_all_is_accepted_once() {
        let mut window = window(64, [u64::MAX - 1]);
        assert_eq!(window.check(u64::MAX), Ok(()));
        window.commit(u64::MAX);
        assert_eq!(
            window.check(u64::MAX),
            Err(ReplayError::Seen { seq: u64::MAX })
        );
        assert_eq!(window.check(u64::MAX - 62), Ok(()));
    }

    #[test]
    fn a_window_that_starts_at_a_number_has_seen_all_before_it() {
        for top in [0, 1, 63, 64, 100, 1 << 32, u64::MAX - 1] {
            let window = ReplayWindow::starting_at(128, top).expect("a sound size");
            for seq in top.saturating_sub(200)..=top {
                assert!(window.check(seq).is_err(), "{seq} of {top}");
            }
            assert_eq!(window.check(top + 1), Ok(()));
        }
    }

    // RFC 4303 appendix A2.2, W = 64. Case A: Tl >= 63, the window lies in one subspace.
    #[test]
    fn case_a_keeps_the_subspace_from_the_edge_on_and_enters_the_next_left_of_it() {
        let top = (7 << 32) | 1000;
        let window = ReplayWindow::starting_at(64, top).expect("a sound size");
        assert_eq!(window.infer(1000 - 63), (7 << 32) | 937);
        assert_eq!(window.infer(1000), top);
        assert_eq!(window.infer(1001), top + 1);
        assert_eq!(window.infer(u32::MAX), (7 << 32) | 0xffff_ffff);
        assert_eq!(window.infer(1000 - 64), (8 << 32) | 936);
        assert_eq!(window.infer(0), 8 << 32);
    }

    // Case B: Tl < 63, the window spans two subspaces.
    #[test]
    fn case_b_reaches_back_into_the_subspace_before() {
        let top = (7 << 32) | 10;
        let window = ReplayWindow::starting_at(64, top).expect("a sound size");
        let bottom_low = u32::MAX - 52; // 10 - 63, modulo 2^32
        assert_eq!(window.infer(bottom_low), top - 63);
        assert_eq!(window.infer(u32::MAX), (7 << 32) - 1);
        assert_eq!(window.infer(0), 7 << 32);
        assert_eq!(window.infer(10), top);
        assert_eq!(window.infer(11), top + 1);
        assert_eq!(
            window.infer(bottom_low - 1),
            (7 << 32) | u64::from(bottom_low - 1)
        );
    }

    #[test]
    fn the_border_between_the_cases_is_at_a_window_less_one() {
        for (top_low, high) in [(62, 6), (63, 7)] {
            let window = ReplayWindow::starting_at(64, (7 << 32) | top_low).expect("sound");
            assert_eq!(
                window.infer(u32::MAX),
                (high << 32) | 0xffff_ffff,
                "Tl = {top_low}"
            );
        }
    }

    #[test]
    fn nothing_comes_before_the_first_subspace_or_after_the_last() {
        let first = ReplayWindow::new(64).expect("a sound size");
        assert_eq!(first.infer(u32::MAX), u64::from(u32::MAX));
        let last = ReplayWindow::starting_at(64, u64::MAX).expect("a sound size");
        let wrapped = last.infer(5);
        assert_eq!(wrapped, (u64::from(u32::MAX) << 32) | 5);
        assert!(matches!(
            last.check(wrapped),
            Err(ReplayError::Stale { .. })
        ));
    }
}
