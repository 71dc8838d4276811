//! How the benches measure: small samples, so that all of them end in two minutes.

use std::time::{Duration, Instant};

/// Samples of one measurement.
pub const SAMPLES: usize = 20;
/// How long one is warmed up.
pub const WARM_UP: Duration = Duration::from_millis(100);
/// How long one is measured.
pub const MEASURE: Duration = Duration::from_millis(400);

/// Bytes of the frames measured: the shortest Ethernet has, a middling one, and the
/// longest that still fits a 1500 byte link once it is sealed, rounded down.
pub const FRAME_LENS: [usize; 3] = [60, 512, 1420];

/// The time of `count` packets, when bursts of `burst` are all there is. `once` runs one
/// burst and returns how long the part of it that counts took.
pub fn per_packet(count: u64, burst: u64, mut once: impl FnMut() -> Duration) -> Duration {
    let bursts = count.div_ceil(burst);
    let total: Duration = (0..bursts).map(|_| once()).sum();
    let share = u128::from(count) * total.as_nanos() / u128::from(bursts * burst);
    Duration::from_nanos(u64::try_from(share).unwrap_or(u64::MAX))
}

/// How long `work` takes.
pub fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
