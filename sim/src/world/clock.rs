//! A node's clock: it may run too fast or too slow, and jump.

use sluice_dataplane_core::tick::Tick;

/// Parts of a million.
const MILLION: i128 = 1_000_000;
/// How far off a clock may run, in parts per million: one second of ten.
pub const DRIFT_PPM_MAX: i32 = 100_000;

/// What a node's clock makes of the world's time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct NodeClock {
    ahead_ns: i128,
    drift_ppm: i32,
}

impl NodeClock {
    /// One that runs so much too fast, or too slow below 0.
    pub(crate) const fn drifting(drift_ppm: i32) -> Self {
        Self {
            ahead_ns: 0,
            drift_ppm,
        }
    }

    /// It jumps ahead, or back below 0.
    pub(crate) const fn jump(&mut self, ahead_ns: i128) {
        self.ahead_ns = self.ahead_ns.saturating_add(ahead_ns);
    }

    /// Whether it may say something else than the world's.
    pub(crate) const fn is_off(&self) -> bool {
        self.ahead_ns != 0 || self.drift_ppm != 0
    }

    /// How much time has passed by it, whatever it was set to meanwhile.
    pub(crate) fn monotonic(&self, now: Tick) -> Tick {
        let unset = Self {
            ahead_ns: 0,
            ..*self
        };
        unset.at(now)
    }

    /// What it says at a moment: never less than 0, where it began.
    pub(crate) fn at(&self, now: Tick) -> Tick {
        let says = self.since_begin_ns(now).max(0);
        Tick(u64::try_from(says).unwrap_or(u64::MAX))
    }

    /// What it says as a time of day, in nanoseconds since the world began: below 0 before that.
    pub(crate) fn since_begin_ns(&self, now: Tick) -> i128 {
        let ns = i128::from(now.0);
        let drift = ns * i128::from(self.drift_ppm) / MILLION;
        ns + drift + self.ahead_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_drifts_and_jumps_and_stops_at_its_beginning() {
        let whole = NodeClock::default();
        assert_eq!(whole.at(Tick(5_000_000)), Tick(5_000_000));
        let mut fast = NodeClock::drifting(200);
        assert_eq!(fast.at(Tick(5_000_000)), Tick(5_001_000));
        fast.jump(-1_000);
        assert_eq!(fast.at(Tick(5_000_000)), Tick(5_000_000));
        assert_eq!(fast.monotonic(Tick(5_000_000)), Tick(5_001_000));
        fast.jump(-6_000_000);
        assert_eq!(fast.at(Tick(5_000_000)), Tick(0));
        assert_eq!(fast.since_begin_ns(Tick(5_000_000)), -1_000_000);
        let slow = NodeClock::drifting(-100_000);
        assert_eq!(slow.at(Tick(1_000_000)), Tick(900_000));
    }
}
