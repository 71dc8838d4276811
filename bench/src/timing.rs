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
            median(&mut all)
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

/// Two things measured in turn, many times: medians of passes that are shorter than a
/// scheduler's slice, so that whoever else runs on the machine is left out, and of the
/// rounds' ratios, so that a slow second of the machine is in both.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pair {
    /// Nanoseconds of the first.
    pub small: f64,
    /// Nanoseconds of the second.
    pub large: f64,
    /// The second over the first.
    pub ratio: f64,
}

/// Rounds of a [`Pair`], and how much shorter than a share each is: a round of both is a
/// tenth of what the six rounds of [`Medians`] take.
const PAIR_ROUNDS: u32 = 30;
const PAIR_SHARE: u32 = 5;

impl Pair {
    /// Each of the two handles so many packets and says how long it took.
    pub fn measure(
        share: Duration,
        (small_packets, mut small): (usize, impl FnMut() -> Duration),
        (large_packets, mut large): (usize, impl FnMut() -> Duration),
    ) -> Self {
        let share = share / PAIR_SHARE;
        let (mut smalls, mut larges, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..PAIR_ROUNDS {
            let (a, b) = (
                typical(share, small_packets, &mut small),
                typical(share, large_packets, &mut large),
            );
            smalls.push(a);
            larges.push(b);
            ratios.push(b / a);
        }
        Self {
            small: median(&mut smalls),
            large: median(&mut larges),
            ratio: median(&mut ratios),
        }
    }
}

/// Rounds of the look at what is the fastest.
const LOOK_ROUNDS: usize = 7;

/// Which of these is the fastest, by a short look at each in turn: the least median of what it takes
/// over what the first of them takes in the same round. `None` if there is none.
pub fn fastest(share: Duration, all: &mut [impl FnMut() -> Duration]) -> Option<usize> {
    let share = share / PAIR_SHARE;
    let mut ratios = vec![Vec::new(); all.len()];
    for _ in 0..LOOK_ROUNDS {
        let round: Vec<_> = all.iter_mut().map(|it| typical(share, 1, it)).collect();
        for (ratios, ns) in ratios.iter_mut().zip(&round) {
            ratios.push(ns / round[0]);
        }
    }
    let medians = ratios.iter_mut().map(|it| median(it)).enumerate();
    let least = medians.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
    Some(least.0)
}

/// The median of passes, in nanoseconds of a packet; of at least one.
fn typical(share: Duration, packets: usize, once: &mut impl FnMut() -> Duration) -> f64 {
    let start = Instant::now();
    let mut passes = Vec::new();
    loop {
        #[allow(clippy::cast_precision_loss, reason = "a pass is short")]
        passes.push(once().as_secs_f64() * 1e9 / packets as f64);
        if start.elapsed() >= share {
            return median(&mut passes);
        }
    }
}

/// The median; not a number if there is none.
#[must_use]
pub fn median(all: &mut [f64]) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
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

    #[test]
    fn a_pair_leaves_out_the_pass_that_was_interrupted() {
        let (mut small, mut large) = (0u64, 0u64);
        let slow =
            |n: u64, ns| Duration::from_nanos(if n.is_multiple_of(7) { 900_000 } else { ns });
        let pair = Pair::measure(
            Duration::ZERO,
            (2, || {
                small += 1;
                slow(small, 20)
            }),
            (4, || {
                large += 1;
                slow(large, 80)
            }),
        );
        assert!((pair.small - 10.0).abs() < 1e-6 && (pair.large - 20.0).abs() < 1e-6);
        assert!((pair.ratio - 2.0).abs() < 1e-6);
    }

    #[test]
    fn the_fastest_is_so_in_most_rounds_and_not_by_one_lucky_pass() {
        let mut turns = [0u64; 3];
        let [a, b, c] = &mut turns;
        let mut all: [Box<dyn FnMut() -> Duration>; 3] = [
            Box::new(|| {
                *a += 1;
                // Quick once, and all of the machine is slow in the rounds after the third.
                Duration::from_nanos([30, 1, 30, 300][usize::try_from(*a - 1).unwrap().min(3)])
            }),
            Box::new(|| {
                *b += 1;
                Duration::from_nanos(if *b > 3 { 200 } else { 20 })
            }),
            Box::new(|| {
                *c += 1;
                Duration::from_nanos(if *c > 3 { 250 } else { 25 })
            }),
        ];
        assert_eq!(fastest(Duration::ZERO, &mut all), Some(1));
        let none: &mut [fn() -> Duration] = &mut [];
        assert_eq!(fastest(Duration::ZERO, none), None);
    }
}
