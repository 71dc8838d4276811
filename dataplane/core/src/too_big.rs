//! How many ICMP errors a worker may send, and hand to others.

use crate::snapshot::PortIndex;
use crate::tick::Tick;

/// Errors in one go.
const BURST: u64 = 50;
/// One more after each of these (RFC 4443 section 2.4 f asks for a token bucket).
const REFILL_NS: u64 = 10 * Tick::MS;

/// A token bucket of ICMP errors for each port: a pod that draws many takes none of the others'.
/// Who sends a pod what is too long for its VF takes of the same bucket as that pod.
#[derive(Debug)]
pub(crate) struct Budgets {
    /// When a port's bucket would be full again; each error moves it ahead.
    full_at: Box<[Tick]>,
    /// The same of errors that may be another worker's: who makes them up would fill its ring.
    hands_at: Tick,
}

impl Budgets {
    /// Full ones, for so many ports.
    pub(crate) fn new(ports: usize) -> Self {
        Self {
            full_at: vec![Tick(0); ports].into_boxed_slice(),
            hands_at: Tick(0),
        }
    }

    /// Whether one more may be sent now on a port's account; if so it counts as sent.
    pub(crate) fn spend(&mut self, port: PortIndex, now: Tick) -> bool {
        let bucket = self.full_at.get_mut(usize::from(port.0));
        bucket.is_some_and(|it| spend(it, now))
    }

    /// Whether one more that came may be handed to another worker.
    pub(crate) fn spend_handing(&mut self, now: Tick) -> bool {
        spend(&mut self.hands_at, now)
    }
}

fn spend(bucket: &mut Tick, now: Tick) -> bool {
    let full_at = (*bucket).max(now);
    if full_at.since(now) > (BURST - 1) * REFILL_NS {
        return false;
    }
    *bucket = full_at + REFILL_NS;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_each_refill() {
        let mut budgets = Budgets::new(2);
        let mut spent = |port, at| budgets.spend(PortIndex(port), Tick(at));
        assert_eq!((0..1000).filter(|_| spent(0, 5)).count(), 50);
        assert_eq!((0..1000).filter(|_| spent(1, 5)).count(), 50, "its own");
        let later = (0..100).filter(|&i| spent(0, 5 + i * Tick::MS)).count();
        assert_eq!(later, 9);
        assert!(!spent(2, 5), "no such port");
    }
}
