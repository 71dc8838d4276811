//! The one clock: workers and the core get its ticks as arguments.

use std::time::Instant;

use sluice_dataplane_core::tick::Tick;

/// A monotonic clock that began with the process. Copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock whose zero is now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since the start; good for 584 years.
    #[must_use]
    pub fn now(self) -> Tick {
        Tick(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Milliseconds since the start.
    #[must_use]
    pub fn uptime_ms(self) -> u64 {
        self.now().0 / Tick::MS
    }
}
