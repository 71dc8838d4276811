//! A dataplane with its ports, and its counters seen whole.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use sluice_dataplane_core::command::{ClearPage, Command, FlowPage, Reply};
use sluice_dataplane_core::counters::{Counters, PortCounters};
use sluice_dataplane_core::mem::{MemPool, MemPort};
use sluice_dataplane_core::port::Frame;
use sluice_dataplane_core::reason::DropReason;
use sluice_dataplane_core::snapshot::{PortIndex, Snapshot};
use sluice_dataplane_core::steer::{Handoff, Shares};
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::verdict::VerdictRecord;
use sluice_dataplane_core::worker::{Worker, WorkerConfig, WorkerHandle};

use super::START;
use super::places::PORT_NAMES;
use super::plan::Plan;

pub(crate) const FLOWS: usize = 1024;
pub(crate) const HASH_KEY: [u64; 2] = [0x5eed, 0xcafe];
/// Frames that a port's transmit queue holds.
pub(crate) const TX_MAX: usize = 256;

/// The same tests run with one worker, and with several as `crew`: see Cargo.toml.
pub(crate) const WORKERS: usize = if matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"crew") {
    3
} else {
    1
};
/// Whether what a worker has room for is what the dataplane has.
pub(crate) const ALONE: bool = WORKERS == 1;
const LANES: usize = WORKERS.next_power_of_two();

pub(crate) struct Node {
    pub(crate) crew: Vec<(Worker<MemPort>, WorkerHandle)>,
    pub(crate) shares: Shares,
    /// Which workers have to answer each command.
    answers: VecDeque<Vec<usize>>,
    pub(crate) plan: Plan,
    pub(crate) now: Tick,
    pub(crate) pool: MemPool,
    /// Whether polls must neither allocate nor free.
    pub(crate) counting: bool,
    out: [Vec<Vec<u8>>; PORT_NAMES.len()],
    bytes: [[u64; 2]; PORT_NAMES.len()],
    before: BTreeMap<String, u64>,
    /// As of the last call of [`Self::last_drop`].
    drops_before: BTreeMap<String, u64>,
}

impl Node {
    pub(crate) fn new(plan: Plan) -> Self {
        Self::sized(plan, FLOWS, TX_MAX)
    }

    pub(crate) fn sized(plan: Plan, flows: usize, tx_max: usize) -> Self {
        let mut node = Self::bare(plan, flows, tx_max);
        node.publish();
        node
    }

    /// A node as it starts, before it is told anything.
    pub(crate) fn unpublished(plan: Plan) -> Self {
        Self::bare(plan, FLOWS, TX_MAX)
    }

    /// A node as it starts after a crash: it picks up connections until then.
    pub(crate) fn picking_up(plan: Plan, until: Tick) -> Self {
        let config = WorkerConfig {
            pickup_until: until,
            ..WorkerConfig::new(FLOWS, HASH_KEY)
        };
        let mut node = Self::configured(plan, &config, TX_MAX);
        node.publish();
        node
    }

    fn bare(plan: Plan, flows: usize, tx_max: usize) -> Self {
        Self::configured(plan, &WorkerConfig::new(flows, HASH_KEY), tx_max)
    }

    pub(crate) fn configured(plan: Plan, config: &WorkerConfig, tx_max: usize) -> Self {
        let pool = MemPool::new(512);
        let handoffs = Handoff::crew(WORKERS, LANES, PORT_NAMES.len()).unwrap();
        let shares = handoffs[0].shares();
        let one = |handoff| {
            let ports = PORT_NAMES.map(|_| MemPort::new(&pool, tx_max)).into();
            Worker::of_crew(ports, config, handoff).unwrap()
        };
        let mut node = Self {
            crew: handoffs.into_iter().map(one).collect(),
            shares,
            answers: VecDeque::new(),
            plan,
            now: START,
            pool,
            counting: false,
            out: Default::default(),
            bytes: Default::default(),
            before: BTreeMap::new(),
            drops_before: BTreeMap::new(),
        };
        node.rebase();
        node
    }

    /// Sends the plan on its way; the next poll adopts it.
    pub(crate) fn publish(&mut self) {
        let snapshot = self.plan.snapshot();
        self.publish_one(snapshot);
    }

    pub(crate) fn publish_one(&mut self, snapshot: Arc<Snapshot>) {
        for (_, handle) in &mut self.crew {
            handle.snapshots.publish(Arc::clone(&snapshot)).unwrap();
        }
    }

    /// Changes the plan and has the worker adopt it.
    pub(crate) fn replan(&mut self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.plan);
        self.plan.generation += 1;
        self.publish();
        self.poll();
        for (_, handle) in &mut self.crew {
            assert!(handle.snapshots.reclaim(), "adopted at the poll");
        }
    }

    pub(crate) fn command(&mut self, command: Command) {
        let all = (0..self.crew.len()).collect();
        let (to, commands) = match command {
            Command::InstallInbound(it) => (
                vec![self.shares.of_spi(it.sa.spi())],
                vec![Command::InstallInbound(it)],
            ),
            Command::RetireInbound(spi) => (
                vec![self.shares.of_spi(spi)],
                vec![Command::RetireInbound(spi)],
            ),
            Command::InstallOutbound(peer, children) => {
                let parts = children.split(self.shares).into_iter();
                let of = |part| Command::InstallOutbound(peer, part);
                (all, parts.map(of).collect())
            }
            Command::RetireOutbound(peer) => {
                let of = |_: &usize| Command::RetireOutbound(peer);
                let commands = all.iter().map(of).collect();
                (all, commands)
            }
            other if WORKERS == 1 => (all, vec![other]),
            Command::ReadFlows(page) => {
                let more = (1..self.crew.len()).map(|_| FlowPage {
                    flows: Vec::with_capacity(page.flows.capacity()),
                    ..FlowPage::default()
                });
                let more: Vec<_> = more.map(Command::ReadFlows).collect();
                let mut commands = vec![Command::ReadFlows(page)];
                commands.extend(more);
                (all, commands)
            }
            Command::ReadClear(page) => {
                let room = page.pairs.capacity();
                let of = |_: &usize| ClearPage {
                    pairs: Vec::with_capacity(room),
                    ..ClearPage::default()
                };
                let commands = all.iter().map(of).map(Command::ReadClear).collect();
                (all, commands)
            }
            // All workers know the same names.
            other => (vec![0], vec![other]),
        };
        for (worker, command) in to.iter().zip(commands) {
            self.crew[*worker].1.commands.send(command).unwrap();
        }
        self.answers.push_back(to);
    }

    pub(crate) fn reply(&mut self) -> Reply {
        self.next_reply().expect("an answer")
    }

    /// The answer of all who have to give one.
    pub(crate) fn next_reply(&mut self) -> Option<Reply> {
        let workers = self.answers.pop_front()?;
        let replies = workers.iter().map(|it| {
            let reply = self.crew[*it].1.commands.next_reply();
            reply.expect("an answer of each")
        });
        replies.reduce(|all, one| match (all, one) {
            (Reply::Flows(mut all), Reply::Flows(one)) => {
                all.flows.extend(one.flows);
                all.done &= one.done;
                Reply::Flows(all)
            }
            (Reply::OutboundInstalled(peer, spi, all), Reply::OutboundInstalled(p, s, one)) => {
                assert_eq!((p, s, one.is_some()), (peer, spi, all.is_some()));
                Reply::OutboundInstalled(peer, spi, all)
            }
            (Reply::Clear(mut all), Reply::Clear(one)) => {
                all.add(&one);
                Reply::Clear(all)
            }
            (Reply::OutboundRefused(all), Reply::OutboundRefused(one)) => {
                assert_eq!(all.base(), one.base());
                Reply::OutboundRefused(all)
            }
            (Reply::OutboundRetired(peer, all), Reply::OutboundRetired(p, one)) => {
                assert_eq!((p, one.is_some()), (peer, all.is_some()));
                Reply::OutboundRetired(peer, all)
            }
            (all, one) => panic!("{all:?} and {one:?}"),
        })
    }

    /// What all workers have counted.
    pub(crate) fn counted(&self) -> Counters {
        Counters::total(self.crew.iter().map(|(_, handle)| &*handle.counters))
    }

    /// The worker that the card brings a frame to: the same one for the same addresses and
    /// ports in the same order, and no other rule.
    fn receiver(bytes: &[u8]) -> usize {
        let is_v4 = bytes.get(12..14) == Some(&[0x08, 0x00]);
        let tuple = if is_v4 { 26..38 } else { 22..58 };
        let sum = bytes.iter().skip(tuple.start).take(tuple.len());
        let sum = sum.fold(7usize, |sum, it| sum * 31 % 65_521 + usize::from(*it));
        sum.checked_rem(WORKERS).unwrap_or(0)
    }

    pub(crate) fn deliver(&mut self, port: PortIndex, bytes: &[u8]) {
        let at = usize::from(port.0);
        self.bytes[at][0] += bytes.len() as u64;
        let frame = self.pool.frame(bytes).expect("a frame that fits");
        let worker = Self::receiver(bytes);
        self.crew[worker].0.ports_mut()[at].deliver(frame);
    }

    /// One poll, of several workers until nothing is between them any more; then whatever was
    /// sent stands in the node's out trays.
    pub(crate) fn poll(&mut self) {
        for round in 0.. {
            assert!(round < 10_000, "frames go round and round");
            let frames = self.poll_crew();
            self.collect();
            // The second is for what the first has told the others.
            if ALONE || round > 0 && frames == 0 {
                break;
            }
        }
        for (at, name) in PORT_NAMES.iter().enumerate() {
            let crew = self.crew.iter();
            let balance: i128 = crew.map(|(_, it)| it.counters.ports()[at].balance()).sum();
            // What one worker holds back another may have received: their sum is modulo 2^64.
            assert_eq!(
                balance.rem_euclid(1 << 64),
                0,
                "{name} lost a frame without a reason"
            );
        }
    }

    fn poll_crew(&mut self) -> usize {
        let mut frames = 0;
        for (worker, _) in &mut self.crew {
            if self.counting {
                let info = allocation_counter::measure(|| frames += worker.poll(self.now));
                let (made, held) = (info.count_total, info.count_current);
                assert_eq!(
                    (made, held),
                    (0, 0),
                    "allocations made, and made less freed"
                );
            } else {
                frames += worker.poll(self.now);
            }
        }
        frames
    }

    fn collect(&mut self) {
        for (worker, _) in &mut self.crew {
            for (at, port) in worker.ports_mut().iter_mut().enumerate() {
                while let Some(frame) = port.collect() {
                    self.bytes[at][1] += frame.bytes().len() as u64;
                    self.out[at].push(frame.bytes().to_vec());
                }
            }
        }
    }

    /// Polls until every frame delivered was received.
    pub(crate) fn drain(&mut self) {
        let waits = |(worker, _): &mut (Worker<MemPort>, _)| {
            worker.ports_mut().iter().any(|p| p.backlog() > 0)
        };
        while self.crew.iter_mut().any(waits) {
            self.poll();
        }
    }

    /// Delivers, polls, and takes what came out by `out`.
    pub(crate) fn push(&mut self, port: PortIndex, bytes: &[u8], out: PortIndex) -> Vec<Vec<u8>> {
        self.deliver(port, bytes);
        self.poll();
        self.take(out)
    }

    /// The one frame that comes out by `out` when `bytes` come in by `port`.
    pub(crate) fn push_one(&mut self, port: PortIndex, bytes: &[u8], out: PortIndex) -> Vec<u8> {
        let mut frames = self.push(port, bytes, out);
        assert_eq!(
            frames.len(),
            1,
            "frames by {}; {}",
            PORT_NAMES[usize::from(out.0)],
            self.last_drop(port)
        );
        frames.remove(0)
    }

    /// The one reason for which a frame that comes in by `port` is dropped, all counters
    /// considered.
    pub(crate) fn drops(&mut self, port: PortIndex, bytes: &[u8], reason: &str) {
        self.deliver(port, bytes);
        self.poll();
        let name = PORT_NAMES[usize::from(port.0)];
        self.expect_delta(&[
            (&format!("{name}.rx"), 1),
            (&format!("{name}.drop.{reason}"), 1),
        ]);
        assert!(self.out.iter().all(Vec::is_empty), "nothing leaves");
    }

    /// The reason of the drop that `port` counted since the last call of this; of the last
    /// in their order if there was more than one.
    pub(crate) fn last_drop(&mut self, port: PortIndex) -> String {
        let prefix = format!("{}.drop.", PORT_NAMES[usize::from(port.0)]);
        let after = self.counters();
        let reason = after.iter().rev().find(|(name, n)| {
            name.starts_with(&prefix) && self.drops_before.get(*name).map_or(**n > 0, |b| b < *n)
        });
        let reason = reason
            .map_or("none", |(name, _)| &name[prefix.len()..])
            .to_owned();
        self.drops_before = after;
        reason
    }

    /// What was sent by a port since the last call.
    pub(crate) fn take(&mut self, port: PortIndex) -> Vec<Vec<u8>> {
        core::mem::take(&mut self.out[usize::from(port.0)])
    }

    pub(crate) fn verdicts(&mut self) -> Vec<VerdictRecord> {
        let crew = self.crew.iter_mut();
        crew.flat_map(|(_, it)| std::iter::from_fn(|| it.verdicts.next()))
            .collect()
    }

    /// Forgets what has moved so far.
    pub(crate) fn rebase(&mut self) {
        self.before = self.counters();
    }

    /// Every counter that moved since the last call moved by this much, and no other did.
    ///
    /// Bytes are not named: they are what the frames delivered and collected had.
    pub(crate) fn expect_delta(&mut self, want: &[(&str, i64)]) {
        let after = self.counters();
        let got: BTreeMap<&str, i64> = after
            .iter()
            .map(|(name, n)| {
                let before = self.before.get(name).copied().unwrap_or(0);
                (name.as_str(), n.wrapping_sub(before).cast_signed())
            })
            .filter(|(_, moved)| *moved != 0)
            .collect();
        let mut wanted = BTreeMap::new();
        for (name, moved) in want {
            assert!(after.contains_key(*name), "no counter is called {name}");
            *wanted.entry(*name).or_insert(0) += *moved;
        }
        wanted.retain(|_, moved| *moved != 0);
        assert_eq!(got, wanted, "left: what moved, right: what should have");
        self.before = after;
    }

    /// All counters by name.
    pub(crate) fn counters(&self) -> BTreeMap<String, u64> {
        let c = &self.counted();
        let mut all: BTreeMap<String, u64> = [
            ("flow.hit", &c.flow_hit),
            ("flow.miss", &c.flow_miss),
            ("flow.stale", &c.flow_stale),
            ("flows", &c.flows),
            ("flows.evicted", &c.flows_evicted),
            ("sealed", &c.sealed),
            ("opened", &c.opened),
            ("clear.sent", &c.clear_sent),
            ("clear.received", &c.clear_received),
            ("verdicts-lost", &c.verdicts_lost),
            ("names", &c.names),
            ("names.learned", &c.names_learned),
            ("names.full", &c.names_full),
            ("names.malformed", &c.names_malformed),
            ("names.unasked", &c.names_unasked),
        ]
        .map(|(name, counter)| (name.to_owned(), counter.read()))
        .into();
        for ((port, name), bytes) in c.ports().iter().zip(PORT_NAMES).zip(self.bytes) {
            assert_eq!(port.tx_bytes.read(), bytes[1], "{name} sent other bytes");
            assert!(
                port.rx_bytes.read() <= bytes[0],
                "{name} received more bytes"
            );
            add_port(&mut all, name, port);
        }
        all
    }
}

fn add_port(all: &mut BTreeMap<String, u64>, name: &str, port: &PortCounters) {
    for (what, counter) in [
        ("rx", &port.rx),
        ("tx", &port.tx),
        ("forwarded", &port.forwarded),
        ("consumed", &port.consumed),
        ("originated", &port.originated),
        ("shadow_would_deny", &port.shadow_would_deny),
        ("shadow_would_allow", &port.shadow_would_allow),
        ("waiting", &port.waiting),
    ] {
        all.insert(format!("{name}.{what}"), counter.read());
    }
    for reason in DropReason::ALL {
        all.insert(
            format!("{name}.drop.{}", reason.name()),
            port.dropped(*reason),
        );
    }
}
