//! Counters: one writer, any number of readers.

use crate::reason::{DropReason, REASONS};
use crate::snapshot::PortIndex;
use crate::sync::{AtomicU64, Ordering};

/// A number that one thread raises and others read.
///
/// Relaxed on both sides: a reader wants a recent value, and orders nothing by it. The
/// single writer makes load and store enough; no locked instruction is issued.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owning worker may.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }

    /// A recent value.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One port's counters. `rx = consumed + forwarded + drops`, see [`Self::balance`].
#[derive(Debug)]
pub struct PortCounters {
    /// Frames received.
    pub rx: Counter,
    /// Their bytes.
    pub rx_bytes: Counter,
    /// Frames given to the transmit queue.
    pub tx: Counter,
    /// Their bytes.
    pub tx_bytes: Counter,
    /// Received frames that left by some port as themselves (perhaps sealed or opened).
    pub forwarded: Counter,
    /// Received frames that the dataplane answered or took in itself: ARP, ND.
    pub consumed: Counter,
    /// Frames the dataplane sent here of its own: ARP, ND, ICMP errors.
    pub originated: Counter,
    /// Received frames that wait for their next hop's MAC or their first fragment: rises
    /// and falls.
    pub waiting: Counter,
    /// Verdicts on flows of the pod behind the port that a shadow policy would turn into a
    /// denial: verdicts, not frames.
    pub shadow_would_deny: Counter,
    /// Those that it would turn into an allowance.
    pub shadow_would_allow: Counter,
    drops: [Counter; REASONS],
}

impl Default for PortCounters {
    fn default() -> Self {
        Self {
            rx: Counter::default(),
            rx_bytes: Counter::default(),
            tx: Counter::default(),
            tx_bytes: Counter::default(),
            forwarded: Counter::default(),
            consumed: Counter::default(),
            originated: Counter::default(),
            waiting: Counter::default(),
            shadow_would_deny: Counter::default(),
            shadow_would_allow: Counter::default(),
            drops: core::array::from_fn(|_| Counter::default()),
        }
    }
}

impl PortCounters {
    /// Counts a drop.
    #[inline]
    pub fn drop(&self, reason: DropReason) {
        if let Some(counter) = self.drops.get(reason as usize) {
            counter.add(1);
        }
    }

    /// Frames dropped for a reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).map_or(0, Counter::read)
    }

    /// Frames dropped for any reason.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().map(Counter::read).sum()
    }

    fn add(&self, other: &Self) {
        // All of them, so that none is forgotten.
        let Self {
            rx,
            rx_bytes,
            tx,
            tx_bytes,
            forwarded,
            consumed,
            originated,
            waiting,
            shadow_would_deny,
            shadow_would_allow,
            drops,
        } = other;
        for (to, from) in [
            (&self.rx, rx),
            (&self.rx_bytes, rx_bytes),
            (&self.tx, tx),
            (&self.tx_bytes, tx_bytes),
            (&self.forwarded, forwarded),
            (&self.consumed, consumed),
            (&self.originated, originated),
            (&self.waiting, waiting),
            (&self.shadow_would_deny, shadow_would_deny),
            (&self.shadow_would_allow, shadow_would_allow),
        ] {
            to.add(from.read());
        }
        for (to, from) in self.drops.iter().zip(drops) {
            to.add(from.read());
        }
    }

    /// Received frames that none of the other counters accounts for: 0 between polls, or
    /// a frame was lost without a reason.
    #[must_use]
    pub fn balance(&self) -> i128 {
        i128::from(self.rx.read())
            - i128::from(self.forwarded.read())
            - i128::from(self.consumed.read())
            - i128::from(self.waiting.read())
            - i128::from(self.dropped_total())
    }
}

/// All counters of one worker.
#[derive(Debug)]
pub struct Counters {
    ports: Vec<PortCounters>,
    /// For frames of a port index that isn't there; nothing can reach it.
    stray: PortCounters,
    /// Frames whose flow was in the table and judged by the generation in force.
    pub flow_hit: Counter,
    /// Frames whose flow wasn't in the table.
    pub flow_miss: Counter,
    /// Frames whose flow was judged again.
    pub flow_stale: Counter,
    /// Flows now in the table: rises and falls.
    pub flows: Counter,
    /// Half-open flows that ended to make room for others.
    pub flows_evicted: Counter,
    /// Frames sealed.
    pub sealed: Counter,
    /// Frames opened.
    pub opened: Counter,
    /// Frames handed to another worker, who owns their flow or their SA.
    pub handed: Counter,
    /// News for another worker that found no room.
    pub news_lost: Counter,
    /// Packets for other nodes that the uplink took in clear, as both ends' settings let them.
    pub clear_sent: Counter,
    /// Their bytes, from the IP header on.
    pub clear_sent_bytes: Counter,
    /// Packets from other nodes that came in clear and left by the port that they were for.
    pub clear_received: Counter,
    /// Their bytes, from the IP header on.
    pub clear_received_bytes: Counter,
    /// Verdict records lost because the reader was slow.
    pub verdicts_lost: Counter,
    /// Answers of resolvers that taught a pod an address of a name that its policy names.
    pub names_learned: Counter,
    /// Addresses that pods know by names: rises and falls.
    pub names: Counter,
    /// Addresses that a pod was told and that there was no room for.
    pub names_full: Counter,
    /// Answers for pods whose policy names domains that could not be read.
    pub names_malformed: Counter,
    /// Such answers to questions that were not seen, or had their answer.
    pub names_unasked: Counter,
}

impl Counters {
    /// For a worker with so many ports.
    #[must_use]
    pub fn new(ports: usize) -> Self {
        Self {
            ports: (0..ports).map(|_| PortCounters::default()).collect(),
            stray: PortCounters::default(),
            flow_hit: Counter::default(),
            flow_miss: Counter::default(),
            flow_stale: Counter::default(),
            flows: Counter::default(),
            flows_evicted: Counter::default(),
            sealed: Counter::default(),
            opened: Counter::default(),
            handed: Counter::default(),
            news_lost: Counter::default(),
            clear_sent: Counter::default(),
            clear_sent_bytes: Counter::default(),
            clear_received: Counter::default(),
            clear_received_bytes: Counter::default(),
            verdicts_lost: Counter::default(),
            names_learned: Counter::default(),
            names: Counter::default(),
            names_full: Counter::default(),
            names_malformed: Counter::default(),
            names_unasked: Counter::default(),
        }
    }

    /// What several workers with the same ports have counted together.
    #[must_use]
    pub fn total<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut total = Self::new(0);
        for it in all {
            total.add(it);
        }
        for port in &mut total.ports {
            // One worker's may be below 0, and between two looks so may the sum.
            if port.waiting.read() > u64::MAX / 2 {
                port.waiting = Counter::default();
            }
        }
        total
    }

    fn add(&mut self, other: &Self) {
        // All of them, so that none is forgotten.
        let Self {
            ports,
            stray,
            flow_hit,
            flow_miss,
            flow_stale,
            flows,
            flows_evicted,
            sealed,
            opened,
            handed,
            news_lost,
            clear_sent,
            clear_sent_bytes,
            clear_received,
            clear_received_bytes,
            verdicts_lost,
            names_learned,
            names,
            names_full,
            names_malformed,
            names_unasked,
        } = other;
        let len = ports.len().max(self.ports.len());
        self.ports.resize_with(len, PortCounters::default);
        for (to, from) in self.ports.iter_mut().zip(ports) {
            to.add(from);
        }
        self.stray.add(stray);
        for (to, from) in [
            (&self.flow_hit, flow_hit),
            (&self.flow_miss, flow_miss),
            (&self.flow_stale, flow_stale),
            (&self.flows, flows),
            (&self.flows_evicted, flows_evicted),
            (&self.sealed, sealed),
            (&self.opened, opened),
            (&self.handed, handed),
            (&self.news_lost, news_lost),
            (&self.clear_sent, clear_sent),
            (&self.clear_sent_bytes, clear_sent_bytes),
            (&self.clear_received, clear_received),
            (&self.clear_received_bytes, clear_received_bytes),
            (&self.verdicts_lost, verdicts_lost),
            (&self.names_learned, names_learned),
            (&self.names_full, names_full),
            (&self.names_malformed, names_malformed),
            (&self.names_unasked, names_unasked),
        ] {
            to.add(from.read());
        }
        // All are told the same.
        let known = names.read().max(self.names.read());
        self.names = Counter(AtomicU64::new(known));
    }

    /// One port's.
    #[inline]
    #[must_use]
    pub fn port(&self, index: PortIndex) -> &PortCounters {
        self.ports.get(usize::from(index.0)).unwrap_or(&self.stray)
    }

    /// All ports', in order.
    #[must_use]
    pub fn ports(&self) -> &[PortCounters] {
        &self.ports
    }
}

#[cfg(all(test, feature = "loom"))]
mod interleavings {
    use loom::sync::Arc;
    use loom::thread;

    use super::Counter;
    use crate::sync::bounded;

    #[test]
    fn a_reader_never_sees_less_than_before_nor_less_than_it_was_told_of() {
        loom::model(|| {
            let counter = Arc::new(Counter::default());
            let (done, told) = bounded(1);
            let writer = {
                let counter = Arc::clone(&counter);
                thread::spawn(move || {
                    counter.add(1);
                    counter.add(1);
                    assert!(done.try_send(()).is_ok());
                    counter.add(1);
                })
            };
            let mut before = 0;
            for _ in 0..2 {
                let is_told = told.try_recv().is_ok();
                let now = counter.read();
                assert!(now >= before && now <= 3);
                assert!(
                    !is_told || now >= 2,
                    "an answer came before what it answers for"
                );
                before = now;
            }
            writer.join().unwrap();
            assert_eq!(counter.read(), 3, "one writer loses nothing");
        });
    }
}
