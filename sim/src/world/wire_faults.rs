//! Faults of the wires: what may happen to a frame on its way, drawn from the seed.

use std::collections::BTreeSet;
use std::sync::Arc;

use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::wire::ethernet::HEADER_LEN;

use super::keying::Passing;
use super::net::is_neighbor;
use crate::dice::Dice;
use crate::fault::{Fault, Heal};

/// How far behind an overtaken frame or a second copy may come, in nanoseconds: some hundred
/// frames of a link.
const LATE_NS_MAX: usize = 2_000_000;

/// The wires' faults.
#[derive(Debug)]
pub(crate) struct WireFaults {
    dice: Dice,
    loss: u8,
    duplication: u8,
    reordering: u8,
    corruption: u8,
    delay_ns: u64,
    /// Pairs of nodes by number, the smaller first.
    partitions: BTreeSet<(usize, usize)>,
    /// Frames that didn't arrive, or not as they were.
    pub(crate) hits: u64,
    /// How many of each kind.
    tally: Tally,
}

/// Frames that something has happened to.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    lost: u64,
    duplicated: u64,
    reordered: u64,
    corrupted: u64,
    delayed: u64,
    parted: u64,
}

/// A frame that arrives.
#[derive(Debug)]
pub(crate) struct Passage {
    pub(crate) frame: Arc<[u8]>,
    /// How much later than over a whole wire.
    pub(crate) late_ns: u64,
    /// Not as it was sent, or a second time.
    pub(crate) touched: bool,
}

impl WireFaults {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed, "wires"),
            loss: 0,
            duplication: 0,
            reordering: 0,
            corruption: 0,
            delay_ns: 0,
            partitions: BTreeSet::new(),
            hits: 0,
            tally: Tally::default(),
        }
    }

    /// How many frames of each kind there were.
    pub(crate) const fn marks(&self) -> [(&'static str, u64); 6] {
        let it = &self.tally;
        [
            ("lost", it.lost),
            ("duplicated", it.duplicated),
            ("reordered", it.reordered),
            ("corrupted", it.corrupted),
            ("delayed", it.delayed),
            ("parted", it.parted),
        ]
    }

    /// Breaks something of the wires; partitions by [`Self::part`].
    pub(crate) fn begin(&mut self, fault: &Fault) {
        match fault {
            Fault::Loss(percent) => self.loss = percent.value(),
            Fault::Duplication(percent) => self.duplication = percent.value(),
            Fault::Reordering(percent) => self.reordering = percent.value(),
            Fault::Corruption(percent) => self.corruption = percent.value(),
            Fault::Delay(span) => self.delay_ns = span.ns,
            // Those of nodes, and of pairs of them.
            _ => {}
        }
    }

    /// Whether it was broken; partitions by [`Self::join`].
    pub(crate) fn end(&mut self, heal: &Heal) -> bool {
        let was = |percent: &mut u8| core::mem::take(percent) != 0;
        match heal {
            Heal::Loss => was(&mut self.loss),
            Heal::Duplication => was(&mut self.duplication),
            Heal::Reordering => was(&mut self.reordering),
            Heal::Corruption => was(&mut self.corruption),
            Heal::Delay => core::mem::take(&mut self.delay_ns) != 0,
            Heal::All => {
                let dice = self.dice.clone();
                let (hits, tally) = (self.hits, self.tally);
                *self = Self {
                    dice,
                    hits,
                    tally,
                    ..Self::new(0)
                };
                true
            }
            _ => false,
        }
    }

    /// Two nodes don't hear each other any more.
    pub(crate) fn part(&mut self, a: usize, b: usize) {
        self.partitions.insert((a.min(b), a.max(b)));
    }

    /// A node is gone: it is parted from nobody any more.
    pub(crate) fn forget(&mut self, node: usize) {
        self.partitions.retain(|it| it.0 != node && it.1 != node);
    }

    /// They do again; whether they didn't.
    pub(crate) fn join(&mut self, a: usize, b: usize) -> bool {
        self.partitions.remove(&(a.min(b), a.max(b)))
    }

    /// Whether anything is broken.
    pub(crate) fn any(&self) -> bool {
        let percents = [
            self.loss,
            self.duplication,
            self.reordering,
            self.corruption,
        ];
        percents.iter().any(|it| *it > 0) || self.delay_ns > 0 || !self.partitions.is_empty()
    }

    /// What sessions between two nodes feel of it, whose packets take the same wires.
    pub(crate) fn passing(&self, a: usize, b: usize) -> Passing {
        Passing {
            parted: self.partitions.contains(&(a.min(b), a.max(b))),
            loss: self.loss,
            delay_ns: self.delay_ns,
        }
    }

    /// Whether bits turn.
    pub(crate) const fn corrupts(&self) -> bool {
        self.corruption > 0
    }

    /// Whether a frame may not arrive.
    pub(crate) fn swallow(&self) -> bool {
        self.loss > 0 || self.corruption > 0 || !self.partitions.is_empty()
    }

    /// What becomes of a frame from a node to another, by their numbers; `None` is the
    /// outside. Nothing, one frame, or two.
    pub(crate) fn pass(
        &mut self,
        from: Option<usize>,
        to: Option<usize>,
        frame: Arc<[u8]>,
    ) -> Vec<Passage> {
        if !self.any() {
            return vec![Passage {
                frame,
                late_ns: 0,
                touched: false,
            }];
        }
        if let (Some(a), Some(b)) = (from, to)
            && self.partitions.contains(&(a.min(b), a.max(b)))
        {
            self.hits += 1;
            self.tally.parted += 1;
            return Vec::new();
        }
        let corrupt = self.dice.chance(self.corruption);
        if self.dice.chance(self.loss) || corrupt && is_neighbor(&frame) {
            self.hits += 1;
            self.tally.lost += 1;
            return Vec::new();
        }
        let mut passages = vec![self.passage(frame.clone(), corrupt)];
        if self.dice.chance(self.duplication) {
            let mut second = self.passage(frame, false);
            second.touched = true;
            self.tally.duplicated += 1;
            second.late_ns += self.lateness();
            passages.push(second);
        }
        passages
    }

    fn passage(&mut self, mut frame: Arc<[u8]>, corrupt: bool) -> Passage {
        if corrupt && let Some(bits) = frame.len().checked_sub(HEADER_LEN).map(|len| len * 8) {
            self.hits += 1;
            self.tally.corrupted += 1;
            let bit = self.dice.below(bits);
            let mut turned = frame.to_vec();
            if let Some(byte) = turned.get_mut(HEADER_LEN + bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            frame = turned.into();
        }
        let overtaken = self.dice.chance(self.reordering);
        self.tally.reordered += u64::from(overtaken);
        self.tally.delayed += u64::from(self.delay_ns > 0);
        let late_ns = self.delay_ns + if overtaken { self.lateness() } else { 0 };
        Passage {
            frame,
            late_ns,
            touched: corrupt,
        }
    }

    fn lateness(&mut self) -> u64 {
        let ns = self.dice.within(1, LATE_NS_MAX);
        u64::try_from(ns).unwrap_or(Tick::MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Percent;

    fn arrivals(faults: &mut WireFaults) -> Vec<Passage> {
        let frame: Arc<[u8]> = Arc::from([0u8; 100]);
        (0..1_000)
            .flat_map(|_| faults.pass(Some(0), Some(1), frame.clone()))
            .collect()
    }

    #[test]
    fn whole_wires_change_nothing() {
        let mut faults = WireFaults::new(1);
        let arrived = arrivals(&mut faults);
        assert!(arrived.iter().all(|it| it.late_ns == 0 && !it.touched));
        assert_eq!((arrived.len(), faults.hits), (1_000, 0));
    }

    #[test]
    fn each_fault_is_as_often_as_it_says_and_ends() {
        let mut faults = WireFaults::new(1);
        let about = |count: usize, percent: usize| count.abs_diff(percent * 10) < 60;
        faults.begin(&Fault::Loss(Percent::new(20)));
        assert!(about(arrivals(&mut faults).len(), 80));
        assert!(faults.end(&Heal::Loss) && !faults.end(&Heal::Loss));

        faults.begin(&Fault::Duplication(Percent::new(30)));
        assert!(about(arrivals(&mut faults).len(), 130));
        assert!(faults.end(&Heal::Duplication));

        faults.begin(&Fault::Reordering(Percent::new(40)));
        let late = arrivals(&mut faults);
        assert!(about(late.iter().filter(|it| it.late_ns > 0).count(), 40));
        assert!(faults.end(&Heal::Reordering));

        let hits = faults.hits;
        faults.begin(&Fault::Corruption(Percent::new(50)));
        let turned = arrivals(&mut faults);
        let turned = turned.iter().filter(|it| it.touched);
        let bits = turned.map(|it| it.frame.iter().map(|b| b.count_ones()).sum::<u32>());
        let bits: Vec<_> = bits.collect();
        assert!(about(bits.len(), 50) && bits.iter().all(|it| *it == 1));
        assert_eq!(faults.hits - hits, bits.len() as u64);
        assert!(faults.end(&Heal::Corruption) && !faults.any());
    }

    #[test]
    fn a_partition_is_for_two_nodes_in_both_ways() {
        let mut faults = WireFaults::new(1);
        faults.part(2, 0);
        let mut passes = |a, b| !faults.pass(a, b, Arc::from([0; 60])).is_empty();
        assert!(!passes(Some(0), Some(2)) && !passes(Some(2), Some(0)));
        assert!(passes(Some(0), Some(1)) && passes(Some(0), None));
        assert!(faults.join(0, 2) && !faults.join(0, 2));
    }
}
