//! The agent's heartbeat: an open Program stream. It changes a status, never a verdict.

use core::time::Duration;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use sluice_offload_api::model::Lease;

/// How long after its stream ended an agent still counts as there: it may be reconnecting.
const GRACE: Duration = Duration::from_secs(10);

/// Whether an agent is there.
#[derive(Debug, Default)]
pub struct LeaseClock(Mutex<Seen>);

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    streams: u32,
    last: Option<Instant>,
}

impl LeaseClock {
    /// What to say now.
    #[must_use]
    pub fn lease(&self) -> Lease {
        let seen = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match seen {
            Seen { streams: 1.., .. } => Lease::Held,
            Seen { last: None, .. } => Lease::Never,
            Seen {
                last: Some(last), ..
            } if last.elapsed() < GRACE => Lease::Held,
            Seen { last: Some(_), .. } => Lease::Expired,
        }
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn hold(self: &std::sync::Arc<Self>) -> Held {
        self.change(|seen| seen.streams += 1);
        Held(std::sync::Arc::clone(self))
    }
}

/// While it is there, an agent is.
#[derive(Debug)]
pub(super) struct Held(std::sync::Arc<LeaseClock>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.change(|seen| {
            seen.streams = seen.streams.saturating_sub(1);
            seen.last = Some(Instant::now());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_lease_is_held_while_a_stream_is_open_and_a_while_after() {
        let clock = Arc::new(LeaseClock::default());
        assert_eq!(clock.lease(), Lease::Never);
        let held = clock.hold();
        assert_eq!(clock.lease(), Lease::Held);
        drop(held);
        assert_eq!(clock.lease(), Lease::Held, "it may be reconnecting");
        clock.change(|seen| seen.last = seen.last.and_then(|it| it.checked_sub(GRACE)));
        assert_eq!(clock.lease(), Lease::Expired);
    }
}
