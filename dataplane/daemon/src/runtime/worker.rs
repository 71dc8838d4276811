//! The worker's thread: polls, and rests when nothing comes.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;

use sluice_dataplane_core::counters::Counter;
use sluice_dataplane_core::port::Port;
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::worker::Worker;

use super::clock::Clock;
use crate::config::Idle;
use crate::ports::Gated;

/// Empty polls before the first sleep: a burst's answer is often a moment away.
const EMPTY_POLLS_MAX: u32 = 64;
/// The first sleep; each doubles the one before.
const SLEEP_MIN: Duration = Duration::from_micros(10);

/// What the loop did. One writer, the worker; any number of readers.
#[derive(Debug, Default)]
pub struct LoopStats {
    /// Polls of all ports.
    pub polls: Counter,
    /// Polls that found frames.
    pub bursts: Counter,
    /// Frames in them.
    pub frames: Counter,
    /// Sleeps.
    pub sleeps: Counter,
    /// Nanoseconds asleep, as the clock saw it.
    pub slept_ns: Counter,
    /// Nanoseconds in polls that found frames.
    pub busy_ns: Counter,
}

impl LoopStats {
    /// What several loops did together.
    pub(super) fn total<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let total = Self::default();
        for it in all {
            // All of them, so that none is forgotten.
            let Self {
                polls,
                bursts,
                frames,
                sleeps,
                slept_ns,
                busy_ns,
            } = it;
            for (to, from) in [
                (&total.polls, polls),
                (&total.bursts, bursts),
                (&total.frames, frames),
                (&total.sleeps, sleeps),
                (&total.slept_ns, slept_ns),
                (&total.busy_ns, busy_ns),
            ] {
                to.add(from.read());
            }
        }
        total
    }
}

/// What the workers' threads are told, and tell each other. Flags and a time, by which no data
/// goes: relaxed.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Policy and keys are in force: receive.
    pub(super) go: AtomicBool,
    /// End at the next burst boundary.
    pub(super) stop: AtomicBool,
    /// One of them has found that no frame comes to any.
    idle: AtomicBool,
    /// When any of them last had a frame; only kept where idleness ends them.
    last_frame: AtomicU64,
}

impl Signals {
    /// How long no worker has had a frame.
    fn silent_ns(&self, now: Tick) -> u64 {
        now.since(Tick(self.last_frame.load(Ordering::Relaxed)))
    }
}

/// Why a worker ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WorkerEnd {
    /// It was told to.
    Stopped,
    /// No frame came for as long as the configuration says.
    Idle,
}

/// How a worker's loop goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) clock: Clock,
    pub(super) idle: Idle,
    pub(super) exit_when_idle: Option<Duration>,
}

/// Polls until told to stop, or idle for too long.
pub(super) fn run<P: Port>(
    worker: &mut Worker<Gated<P>>,
    pace: Pace,
    signals: &Signals,
    stats: &LoopStats,
) -> WorkerEnd {
    let exit_ns = pace.exit_when_idle.map(nanos);
    let mut rest = Rest::new(pace.idle);
    let mut receiving = false;
    loop {
        if signals.stop.load(Ordering::Relaxed) {
            return WorkerEnd::Stopped;
        }
        if signals.idle.load(Ordering::Relaxed) {
            return WorkerEnd::Idle;
        }
        let now = pace.clock.now();
        if !receiving && signals.go.load(Ordering::Relaxed) {
            worker.ports_mut().iter_mut().for_each(Gated::open);
            receiving = true;
            signals.last_frame.fetch_max(now.0, Ordering::Relaxed);
        }
        let frames = worker.poll(now);
        stats.polls.add(1);
        if frames > 0 {
            stats.bursts.add(1);
            stats.frames.add(frames as u64);
            stats.busy_ns.add(pace.clock.now().since(now));
            if exit_ns.is_some() {
                signals.last_frame.fetch_max(now.0, Ordering::Relaxed);
            }
            rest = Rest::new(pace.idle);
        } else if receiving && exit_ns.is_some_and(|it| signals.silent_ns(now) >= it) {
            // One without the others would be no dataplane.
            signals.idle.store(true, Ordering::Relaxed);
            return WorkerEnd::Idle;
        } else if let Some(sleep) = rest.next() {
            std::thread::sleep(sleep);
            stats.sleeps.add(1);
            stats.slept_ns.add(pace.clock.now().since(now));
        } else {
            core::hint::spin_loop();
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What to do at the next empty poll.
#[derive(Clone, Copy, Debug)]
struct Rest {
    idle: Idle,
    empty: u32,
    sleep: Duration,
}

impl Rest {
    const fn new(idle: Idle) -> Self {
        Self {
            idle,
            empty: 0,
            sleep: SLEEP_MIN,
        }
    }

    /// How long to sleep; `None` is to poll on.
    fn next(&mut self) -> Option<Duration> {
        let Idle::Adaptive { sleep_max } = self.idle else {
            return None;
        };
        if self.empty < EMPTY_POLLS_MAX {
            self.empty += 1;
            return None;
        }
        let sleep = self.sleep.min(sleep_max);
        self.sleep = sleep.saturating_mul(2);
        Some(sleep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spinning_never_sleeps() {
        let mut rest = Rest::new(Idle::Spin);
        assert!((0..10_000).all(|_| rest.next().is_none()));
    }

    #[test]
    fn adaptive_rest_polls_on_for_a_while_and_then_sleeps_longer_up_to_its_bound() {
        let sleep_max = Duration::from_micros(100);
        let mut rest = Rest::new(Idle::Adaptive { sleep_max });
        assert!((0..EMPTY_POLLS_MAX).all(|_| rest.next().is_none()));
        let sleeps: Vec<_> = (0..6)
            .filter_map(|_| rest.next())
            .map(|it| it.as_micros())
            .collect();
        assert_eq!(sleeps, [10, 20, 40, 80, 100, 100]);
    }

    #[test]
    fn a_bound_below_the_first_sleep_holds() {
        let sleep_max = Duration::from_micros(1);
        let mut rest = Rest::new(Idle::Adaptive { sleep_max });
        let longest = (0..1000).filter_map(|_| rest.next()).max();
        assert_eq!(longest, Some(sleep_max));
    }
}
