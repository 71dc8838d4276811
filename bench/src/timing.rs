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

/// Rounds of a measurement, each of everything that is compared: what disturbs the machine
/// for a while disturbs all of it.
const ROUNDS: usize = 5;

/// Medians of `N` things measured in turn.
#[derive(Debug)]
pub struct Medians<const N: usize> {
    share: Duration,
    /// Nanoseconds of one packet, by thing and round; the first round is a warm-up.
    rounds: Vec<[f64; N]>,
    warmed: bool,
}

/// One round of [`Medians`].
#[derive(Debug)]
pub struct Round<'m, const N: usize> {
    share: Duration,
    ns: &'m mut [f64; N],
}

impl<const N: usize> Medians<N> {
    /// Each thing is measured for `share` in each round.
    #[must_use]
    pub fn new(share: Duration) -> Self {
        Self {
            share,
            rounds: Vec::new(),
            warmed: false,
        }
    }

    /// The next round; `None` after the last.
    pub fn next_round(&mut self) -> Option<Round<'_, N>> {
        if self.rounds.len() == 1 && !self.warmed {
            self.rounds.clear();
            self.warmed = true;
        }
        if self.rounds.len() == ROUNDS {
            return None;
        }
        self.rounds.push([0.0; N]);
        let ns = self.rounds.last_mut()?;
        Some(Round {
            share: self.share,
            ns,
        })
    }

    /// Nanoseconds of one packet, for each thing.
    #[must_use]
    pub fn ns(&self) -> [f64; N] {
        core::array::from_fn(|thing| {
            let mut all: Vec<f64> = self.rounds.iter().map(|round| round[thing]).collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
        })
    }
}

impl<const N: usize> Round<'_, N> {
    /// Runs `once`, which handles `packets` and says how long it took, for the round's share
    /// and at least once.
    pub fn measure(&mut self, thing: usize, packets: usize, mut once: impl FnMut() -> Duration) {
        let (start, mut spent, mut bursts) = (Instant::now(), Duration::ZERO, 0u32);
        loop {
            spent += once();
            bursts += 1;
            if start.elapsed() >= self.share {
                break;
            }
        }
        #[allow(clippy::cast_precision_loss, reason = "a burst is short")]
        let packets = packets as f64 * f64::from(bursts);
        self.ns[thing] = spent.as_secs_f64() * 1e9 / packets;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_of_the_rounds_after_the_first() {
        let mut medians = Medians::<1>::new(Duration::ZERO);
        let mut spent = [9000, 10, 50, 20, 40, 30].into_iter();
        while let Some(mut round) = medians.next_round() {
            let ns = spent.next().unwrap();
            round.measure(0, 2, || Duration::from_nanos(ns));
        }
        assert!((medians.ns()[0] - 15.0).abs() < 1e-6);
        assert_eq!(spent.next(), None);
    }
}
