//! The counter every nonce of an outbound SA comes from.

use sluice_mutants::{Mutant, is};

/// Hands out each number once, in order, and refuses at its limit.
///
/// It can't be cloned or set back. That is what keeps a nonce from repeating, and so what GCM's
/// security rests on.
#[derive(Debug)]
pub(super) struct SeqCounter {
    /// Last number handed out; 0 before the first.
    last: u64,
    /// Last number that may be handed out.
    limit: u64,
    /// What `limit` may be raised to.
    limit_max: u64,
}

/// All numbers up to `limit` are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exhausted {
    pub(super) limit: u64,
}

impl SeqCounter {
    /// Counts from `first` (at least 1) up to what the wire format can tell apart.
    ///
    //= RFC 4303 section 2.2
    //# The first packet sent using a given SA will have a sequence number of 1.
    pub(super) fn starting_at(first: u64, esn: bool) -> Self {
        let limit_max = if esn { u64::MAX } else { u64::from(u32::MAX) };
        Self {
            last: first.saturating_sub(1),
            limit: limit_max,
            limit_max,
        }
    }

    /// The next number, used up whether or not the packet is ever sent.
    ///
    //= RFC 4303 section 3.3.3
    //# the sender MUST NOT send a packet on an SA if doing so would cause the sequence number to
    //# cycle.
    pub(super) fn advance(&mut self) -> Result<u64, Exhausted> {
        if self.last >= self.limit {
            return Err(Exhausted { limit: self.limit });
        }
        if is(Mutant::NumberTwice) && self.last % 16 == 15 {
            self.last -= 1;
        }
        // Below the limit, so below u64::MAX.
        self.last += 1;
        Ok(self.last)
    }

    /// What the next [`Self::advance`] would give, were there no limit.
    pub(super) fn peek(&self) -> u64 {
        self.last.saturating_add(1)
    }

    pub(super) fn remaining(&self) -> u64 {
        self.limit.saturating_sub(self.last)
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// A limit beyond the wire format's is cut to it.
    pub(super) fn set_limit(&mut self, limit: u64) {
        self.limit = limit.min(self.limit_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_is_one() {
        let mut counter = SeqCounter::starting_at(1, true);
        assert_eq!(counter.peek(), 1);
        assert_eq!(counter.advance(), Ok(1));
        assert_eq!(counter.advance(), Ok(2));
        assert_eq!(SeqCounter::starting_at(0, true).advance(), Ok(1));
    }

    #[test]
    fn without_esn_the_last_number_is_the_last_of_32_bits() {
        let limit = u64::from(u32::MAX);
        let mut counter = SeqCounter::starting_at(limit, false);
        assert_eq!(counter.remaining(), 1);
        assert_eq!(counter.advance(), Ok(limit));
        assert_eq!(counter.advance(), Err(Exhausted { limit }));
        assert_eq!(counter.advance(), Err(Exhausted { limit }));
        assert_eq!(counter.remaining(), 0);
    }

    #[test]
    fn with_esn_the_last_number_is_the_last_of_64_bits() {
        let mut counter = SeqCounter::starting_at(u64::MAX, true);
        assert_eq!(counter.advance(), Ok(u64::MAX));
        assert_eq!(counter.advance(), Err(Exhausted { limit: u64::MAX }));
        assert_eq!(counter.peek(), u64::MAX);
    }

    #[test]
    fn a_limit_can_be_lowered_but_not_past_the_wire_format() {
        let mut counter = SeqCounter::starting_at(1, false);
        counter.set_limit(u64::MAX);
        assert_eq!(counter.limit(), u64::from(u32::MAX));
        counter.set_limit(2);
        assert_eq!((counter.advance(), counter.advance()), (Ok(1), Ok(2)));
        assert_eq!(counter.advance(), Err(Exhausted { limit: 2 }));
        counter.set_limit(3);
        assert_eq!(counter.advance(), Ok(3));
    }

    #[test]
    fn a_limit_below_what_was_used_refuses_at_once() {
        let mut counter = SeqCounter::starting_at(10, true);
        counter.set_limit(5);
        assert_eq!(counter.advance(), Err(Exhausted { limit: 5 }));
        assert_eq!(counter.remaining(), 0);
    }
}
