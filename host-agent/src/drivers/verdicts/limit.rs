//! How many lines may be written: so many a second for a pod, so many in all. One pod's
//! verdicts never use up another's share, and all together not the disk's.

use std::collections::BTreeMap;

/// Pods that are told apart, at most; further ones share a place.
const KEYS_MAX: usize = 4096;
const SECOND_NS: u64 = 1_000_000_000;

/// A rate with a second's worth of burst (the generic cell rate algorithm: one number says
/// when the next line is due).
#[derive(Clone, Copy, Debug)]
struct Rate {
    period_ns: u64,
}

impl Rate {
    fn per_second(lines: u32) -> Self {
        let period_ns = SECOND_NS / u64::from(lines.max(1));
        Self { period_ns }
    }

    fn admits(self, due_ns: u64, now_ns: u64) -> bool {
        due_ns.saturating_add(self.period_ns) <= now_ns.saturating_add(SECOND_NS)
    }

    fn after(self, due_ns: u64, now_ns: u64) -> u64 {
        due_ns.max(now_ns).saturating_add(self.period_ns)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Share {
    due_ns: u64,
    suppressed: u64,
}

/// Says which lines are written. Time is given, in nanoseconds of a monotonic clock.
#[derive(Debug)]
pub(super) struct Limiter {
    one: Rate,
    all: Rate,
    all_due_ns: u64,
    shares: BTreeMap<String, Share>,
}

impl Limiter {
    pub(super) fn new(pod_per_second: u32, per_second: u32) -> Self {
        Self {
            one: Rate::per_second(pod_per_second),
            all: Rate::per_second(per_second),
            all_due_ns: 0,
            shares: BTreeMap::new(),
        }
    }

    /// Whether a line about `key` may be written; otherwise it is counted.
    pub(super) fn admit(&mut self, key: &str, now_ns: u64) -> bool {
        let full = self.shares.len() >= KEYS_MAX && !self.shares.contains_key(key);
        let key = if full { "" } else { key };
        let share = self.shares.entry(key.to_owned()).or_default();
        let admitted =
            self.one.admits(share.due_ns, now_ns) && self.all.admits(self.all_due_ns, now_ns);
        if admitted {
            share.due_ns = self.one.after(share.due_ns, now_ns);
            self.all_due_ns = self.all.after(self.all_due_ns, now_ns);
        } else {
            share.suppressed += 1;
        }
        admitted
    }

    /// What was suppressed since it was asked last, by key. Forgets who was quiet.
    pub(super) fn take_suppressed(&mut self, now_ns: u64) -> Vec<(String, u64)> {
        let mut taken = Vec::new();
        for (key, share) in &mut self.shares {
            if share.suppressed > 0 {
                taken.push((key.clone(), share.suppressed));
                share.suppressed = 0;
            }
        }
        self.shares.retain(|_, share| share.due_ns > now_ns);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(limiter: &mut Limiter, key: &str, lines: u32, now_ns: u64) -> usize {
        (0..lines).filter(|_| limiter.admit(key, now_ns)).count()
    }

    #[test]
    fn a_pod_has_a_seconds_worth_at_once_and_then_its_rate() {
        let mut limiter = Limiter::new(10, 1000);
        let start = 5 * SECOND_NS;
        assert_eq!(admitted(&mut limiter, "a", 100, start), 10);
        assert_eq!(admitted(&mut limiter, "a", 100, start + SECOND_NS / 10), 1);
        assert_eq!(admitted(&mut limiter, "a", 100, start + 2 * SECOND_NS), 10);
        let suppressed = limiter.take_suppressed(start);
        assert_eq!(suppressed, [("a".to_owned(), 90 + 99 + 90)]);
        assert!(limiter.take_suppressed(start).is_empty());
    }

    #[test]
    fn one_pod_takes_nothing_from_another_until_all_is_used() {
        let mut limiter = Limiter::new(10, 15);
        assert_eq!(admitted(&mut limiter, "a", 1000, 0), 10);
        assert_eq!(admitted(&mut limiter, "b", 1000, 0), 5);
        assert_eq!(admitted(&mut limiter, "c", 10, 0), 0);
        assert_eq!(limiter.take_suppressed(0).len(), 3);
    }

    #[test]
    fn what_is_quiet_is_forgotten_and_keys_are_bounded() {
        let mut limiter = Limiter::new(1, 100_000);
        for key in 0..2 * KEYS_MAX {
            limiter.admit(&key.to_string(), 0);
        }
        assert!(limiter.shares.len() <= KEYS_MAX + 1);
        limiter.take_suppressed(10 * SECOND_NS);
        assert!(limiter.shares.is_empty());
    }
}
