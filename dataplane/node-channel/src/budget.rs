//! How fast one peer may speak: it is authenticated, and may be broken all the same.

use std::time::Duration;

use tokio::time::Instant;

use crate::binding::BINDINGS_MAX;

/// Frames at once: all bindings twice, which is more than any rekey needs.
pub(crate) const FRAMES_BURST_MAX: u32 = 8_192;

/// Frames a second in the long run. A quiet peer sends one ping in some seconds.
pub(crate) const FRAMES_PER_S_MAX: u32 = 1_000;

const _: () = assert!(2 * BINDINGS_MAX <= FRAMES_BURST_MAX as usize);

/// One session's frames, as a bucket that fills with time.
pub(crate) struct Budget {
    left: u32,
    /// When `left` was right.
    since: Instant,
}

impl Budget {
    pub(crate) fn new(now: Instant) -> Self {
        let left = FRAMES_BURST_MAX;
        Self { left, since: now }
    }

    /// Takes one frame, or says how long to wait before asking again.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let ms_a_frame = 1_000 / FRAMES_PER_S_MAX;
        let passed = now.duration_since(self.since).as_millis();
        let earned = passed / u128::from(ms_a_frame);
        let earned = u32::try_from(earned).unwrap_or(FRAMES_BURST_MAX);
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(FRAMES_BURST_MAX);
            self.since = now;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(Duration::from_millis(ms_a_frame.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_then_the_rate_holds_and_idleness_earns_no_more_than_a_burst() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let mut taken = 0;
        while budget.take(start).is_ok() {
            taken += 1;
        }
        assert_eq!(taken, FRAMES_BURST_MAX);
        let mut taken = 0;
        for ms in 1..=10_000 {
            while budget.take(start + Duration::from_millis(ms)).is_ok() {
                taken += 1;
            }
        }
        assert_eq!(taken, 10 * FRAMES_PER_S_MAX);
        let later = start + Duration::from_secs(1_000_000);
        let mut taken = 0;
        while budget.take(later).is_ok() {
            taken += 1;
        }
        assert_eq!(taken, FRAMES_BURST_MAX);
        assert_eq!(budget.take(later), Err(Duration::from_millis(1)));
    }
}
