//! How many ICMP errors a worker may send.

use crate::tick::Tick;

/// Errors in one go.
const BURST: u64 = 50;
/// One more after each of these (RFC 4443 section 2.4 f asks for a token bucket).
const REFILL_NS: u64 = 10 * Tick::MS;

/// A token bucket of ICMP errors.
#[derive(Debug)]
pub(crate) struct Budget {
    /// When the bucket would be full again; each error moves it ahead.
    full_at: Tick,
}

impl Budget {
    pub(crate) const fn new() -> Self {
        Self { full_at: Tick(0) }
    }

    /// Whether one more may be sent now; if so it counts as sent.
    pub(crate) fn spend(&mut self, now: Tick) -> bool {
        let full_at = self.full_at.max(now);
        if full_at.since(now) > (BURST - 1) * REFILL_NS {
            return false;
        }
        self.full_at = full_at + REFILL_NS;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_each_refill() {
        let mut budget = Budget::new();
        let sent = (0..1000).filter(|_| budget.spend(Tick(5))).count();
        assert_eq!(sent, 50);
        let later = (0..100)
            .filter(|&i| budget.spend(Tick(5 + i * Tick::MS)))
            .count();
        assert_eq!(later, 9);
    }
}
