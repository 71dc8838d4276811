//! A worker: one core, its ports, its flows, its SAs, run to completion.

use std::sync::Arc;

use crate::batch::Batch;
use crate::clear::ClearPairs;
use crate::command::{self, COMMANDS_PER_POLL_MAX, Command, Inbox, Outbox, Reply, SaView};
use crate::counters::Counters;
use crate::flow::quota::Quotas;
use crate::flow::state::Timeouts;
use crate::flow::table::FlowTable;
use crate::frag::Fragments;
use crate::hash::HashKey;
use crate::mutant::{self, Mutant};
use crate::names::asked::Questions;
use crate::names::learned::{LearnLimits, Learned, PATTERNS_PER_ADDR_MAX};
use crate::neighbor::Neighbors;
use crate::port::Port;
use crate::publish::{self, Publisher, Subscriber};
use crate::reason::DropReason;
use crate::sad::Sad;
use crate::snapshot::{PORTS_MAX, PortIndex, Snapshot};
use crate::steer::Handoff;
use crate::tick::Tick;
use crate::too_big::Budgets;
use crate::verdict::{self, VerdictSink, Verdicts};
use crate::walk::again::Come;
use crate::walk::steer::Entry;
use crate::walk::{
    Walk, again, classify, egress, fragments, guard, names, neighbors, open, parse, path_mtu, seal,
    steer, track,
};
use crate::ways::Ways;

/// What a worker is made with.
#[derive(Clone, Copy, Debug)]
pub struct WorkerConfig {
    /// Flows it has room for.
    pub flows: usize,
    /// The key of its tables' hashes, drawn at boot.
    pub hash_key: [u64; 2],
    /// How long flows may be silent.
    pub timeouts: Timeouts,
    /// What one VF may have of the flows.
    pub quotas: Quotas,
    /// Until when TCP connections are picked up in their midst, where policy would allow
    /// them as new: for those that stood when a dataplane crashed (30 s from its start
    /// are enough for a retransmission). `Tick(0)`: never.
    pub pickup_until: Tick,
    /// What is learned of domain names.
    pub names: LearnLimits,
}

impl WorkerConfig {
    /// A worker for so many flows, with the defaults for all else. `hash_key` is random.
    #[must_use]
    pub fn new(flows: usize, hash_key: [u64; 2]) -> Self {
        Self {
            flows,
            hash_key,
            timeouts: Timeouts::default(),
            quotas: Quotas::of(flows),
            pickup_until: Tick(0),
            names: LearnLimits::default(),
        }
    }
}

/// The control side of a worker.
#[derive(Debug)]
pub struct WorkerHandle {
    /// Snapshots to it.
    pub snapshots: Publisher<Snapshot>,
    /// Commands to it.
    pub commands: Outbox,
    /// Verdicts from it.
    pub verdicts: Verdicts,
    /// Its counters.
    pub counters: Arc<Counters>,
}

/// A worker over its ports. At its start every port is closed.
#[derive(Debug)]
pub struct Worker<P: Port> {
    ports: Vec<P>,
    snapshot: Subscriber<Snapshot>,
    inbox: Inbox,
    verdicts: VerdictSink,
    counters: Arc<Counters>,
    flows: FlowTable,
    fragments: Fragments<P::Frame>,
    sad: Sad,
    neighbors: Neighbors<P::Frame>,
    budgets: Budgets,
    batch: Batch<P::Frame>,
    pickup_until: Tick,
    questions: Questions,
    learned: Learned,
    /// Whether any policy of the snapshot in force names domains.
    follows_names: bool,
    clear: ClearPairs,
    handoff: Handoff<P::Frame>,
    ways: Ways,
    /// As of the snapshot in force, see [`pods_of`].
    pods: (usize, u32),
}

/// More ports than a worker takes.
#[derive(Debug, thiserror::Error)]
#[error("{count} ports are more than the {PORTS_MAX} that a worker takes")]
pub struct TooManyPorts {
    /// How many were given.
    pub count: usize,
}

impl<P: Port> Worker<P> {
    /// A worker without others and the handle to it.
    ///
    /// # Errors
    /// [`TooManyPorts`].
    pub fn new(ports: Vec<P>, config: &WorkerConfig) -> Result<(Self, WorkerHandle), TooManyPorts> {
        Self::of_crew(ports, config, Handoff::alone())
    }

    /// One of several workers, over its own queues of the same ports in the same order, with
    /// one of [`Handoff::crew`]'s. All are told the same snapshots; an SA, and a command for
    /// it, goes to the worker that [`crate::steer::Shares`] says.
    ///
    /// # Errors
    /// [`TooManyPorts`].
    pub fn of_crew(
        ports: Vec<P>,
        config: &WorkerConfig,
        handoff: Handoff<P::Frame>,
    ) -> Result<(Self, WorkerHandle), TooManyPorts> {
        if ports.len() > PORTS_MAX {
            return Err(TooManyPorts { count: ports.len() });
        }
        let counters = Arc::new(Counters::new(ports.len()));
        let (publisher, subscriber) = publish::channel(Arc::new(Snapshot::closed(ports.len())));
        let (outbox, inbox) = command::channel();
        let (sink, verdicts) = verdict::channel();
        let key = HashKey(config.hash_key);
        let fragments = Fragments::new(ports.len(), key);
        let flows = FlowTable::new(config.flows, key, config.timeouts)
            .with_quotas(ports.len(), config.quotas);
        let questions = Questions::new(key, ports.len());
        let learned = Learned::new(key, ports.len(), config.names);
        let budgets = Budgets::new(ports.len());
        let worker = Self {
            ports,
            snapshot: subscriber,
            inbox,
            verdicts: sink,
            counters: Arc::clone(&counters),
            flows,
            fragments,
            sad: Sad::default(),
            neighbors: Neighbors::new(key),
            budgets,
            batch: Batch::new(),
            pickup_until: config.pickup_until,
            questions,
            learned,
            follows_names: false,
            clear: ClearPairs::new(key),
            handoff,
            ways: Ways::new(key),
            pods: (0, 0),
        };
        let handle = WorkerHandle {
            snapshots: publisher,
            commands: outbox,
            verdicts,
            counters,
        };
        Ok((worker, handle))
    }

    /// Takes a burst from each port through the walk, and what other workers have handed over.
    /// How many frames there were.
    pub fn poll(&mut self, now: Tick) -> usize {
        let renewed = self.snapshot.advance();
        self.handoff.epoch = self.snapshot.taken();
        self.obey(now);
        if renewed {
            let mut policies = self.snapshot.current().policies.iter();
            self.follows_names = policies.any(|it| !it.table.patterns().is_empty());
        }
        let mut frames = 0;
        if !self.handoff.is_alone() {
            steer::hear(&mut self.walk(now));
        }
        for other in 0..self.handoff.others() {
            frames += self.take_over(other, now);
        }
        for index in 0..self.ports.len() {
            frames += self.receive(index);
            if self.batch.live != 0 {
                let mut walk = self.walk(now);
                // What a pod was told before it sent these has been told here before now.
                steer::hear(&mut walk);
                run(&mut walk);
            }
        }
        self.flows.expire(now);
        // Flows of a pod that left would wait for their end at the cost of who has its VF.
        let snapshot = self.snapshot.current();
        if renewed {
            let pods = pods_of(snapshot);
            if pods != self.pods {
                self.flows.begin_sweep();
            }
            self.pods = pods;
        }
        self.flows
            .sweep(|flow| track::is_of_these_pods(snapshot, flow.generations(), flow.ends()));
        self.learned.tend(snapshot, now);
        let names = self.learned.len() as u64;
        let counted = self.counters.names.read();
        self.counters.names.add(names.wrapping_sub(counted));
        let flows = self.flows.len() as u64;
        let counted = self.counters.flows.read();
        self.counters.flows.add(flows.wrapping_sub(counted));
        self.counters.flows_evicted.add(self.flows.take_evicted());
        let mut walk = self.walk(now);
        if renewed {
            neighbors::pin(&mut walk);
        }
        neighbors::tend(&mut walk);
        fragments::tend(&mut walk);
        for port in &mut self.ports {
            port.flush();
        }
        frames
    }

    /// The worker's ports, for a driver that fills and empties them.
    pub fn ports_mut(&mut self) -> &mut [P] {
        &mut self.ports
    }

    fn receive(&mut self, index: usize) -> usize {
        #[allow(clippy::cast_possible_truncation, reason = "at most PORTS_MAX ports")]
        let in_port = PortIndex(index as u16);
        self.batch.begin(in_port);
        let Some(port) = self.ports.get_mut(index) else {
            return 0;
        };
        let counters = self.counters.port(in_port);
        let batch = &mut self.batch;
        let (mut frames, mut bytes) = (0usize, 0u64);
        port.rx(&mut |frame| {
            frames += 1;
            bytes += crate::port::Frame::bytes(&frame).len() as u64;
            if batch.push(frame).is_err() {
                // A port that hands over more than a burst breaks its contract.
                counters.drop(DropReason::NoHeadroom);
            }
        });
        if frames > 0 {
            counters.rx.add(frames as u64);
            counters.rx_bytes.add(bytes);
        }
        frames
    }

    /// Takes what another worker has handed over through the rest of its walk.
    fn take_over(&mut self, other: usize, now: Tick) -> usize {
        let mut walk = self.walk(now);
        let (mut frames, all) = (0, walk.handoff.waiting(other));
        while frames < all {
            let Some((entry, count)) = steer::take(&mut walk, other) else {
                break;
            };
            frames += count;
            // As in poll: before they are judged.
            steer::hear(&mut walk);
            match entry {
                Entry::Parse => run(&mut walk),
                Entry::Collect => run_opened(&mut walk),
                Entry::Leave => leave(&mut walk),
            }
        }
        frames
    }

    fn walk(&mut self, now: Tick) -> Walk<'_, P> {
        Walk {
            now,
            snapshot: self.snapshot.current(),
            ports: &mut self.ports,
            batch: &mut self.batch,
            flows: &mut self.flows,
            fragments: &mut self.fragments,
            sad: &mut self.sad,
            neighbors: &mut self.neighbors,
            budgets: &mut self.budgets,
            counters: &self.counters,
            verdicts: &self.verdicts,
            pickup_until: self.pickup_until,
            questions: &mut self.questions,
            learned: &mut self.learned,
            follows_names: self.follows_names,
            clear: &mut self.clear,
            handoff: &mut self.handoff,
            ways: &mut self.ways,
            known: None,
        }
    }

    fn obey(&mut self, now: Tick) {
        for _ in 0..COMMANDS_PER_POLL_MAX {
            let Ok(command) = self.inbox.commands.try_recv() else {
                return;
            };
            let reply = self.obey_one(command, now);
            // Full only if the other side broke the bound; then its box is freed here.
            drop(self.inbox.replies.try_send(reply));
        }
    }

    fn obey_one(&mut self, command: Command, now: Tick) -> Reply {
        match command {
            Command::InstallInbound(inbound) if mutant::is(Mutant::SaNotInstalled) => {
                Reply::InboundInstalled(inbound.sa.spi())
            }
            Command::InstallInbound(inbound) => {
                let spi = inbound.sa.spi();
                if mutant::is(Mutant::SaReplacedAtOnce) {
                    self.sad.retire_inbound_of(inbound.peer);
                }
                match self.sad.install_inbound(inbound) {
                    Ok(()) => Reply::InboundInstalled(spi),
                    Err(refused) => Reply::InboundRefused(refused.0),
                }
            }
            Command::InstallOutbound(peer, outbound) => {
                let spi = outbound.base();
                match self.sad.install_outbound(peer, outbound) {
                    Ok(old) => Reply::OutboundInstalled(peer, spi, old),
                    Err(refused) => Reply::OutboundRefused(refused.0),
                }
            }
            Command::RetireInbound(spi) if mutant::is(Mutant::SaKept) => {
                Reply::InboundRetired(spi, None)
            }
            Command::RetireInbound(spi) => Reply::InboundRetired(spi, self.sad.retire_inbound(spi)),
            Command::RetireOutbound(peer) => {
                Reply::OutboundRetired(peer, self.sad.retire_outbound(peer))
            }
            Command::ReadFlows(mut page) => {
                let room = page.flows.capacity();
                page.done = true;
                for (index, flow) in self.flows.iter_from(page.cursor) {
                    if page.flows.len() == room {
                        page.cursor = index;
                        page.done = false;
                        break;
                    }
                    page.flows.push(flow.into());
                }
                Reply::Flows(page)
            }
            Command::ReadNames(mut page) => {
                // All patterns of an address stand in one page.
                let room = page.names.capacity().saturating_sub(PATTERNS_PER_ADDR_MAX);
                let mut last = usize::MAX;
                page.done = true;
                for (index, view) in self.learned.iter_from(page.cursor, now) {
                    if index != last && page.names.len() > room {
                        page.cursor = index;
                        page.done = false;
                        break;
                    }
                    last = index;
                    page.names.push(view);
                }
                Reply::Names(page)
            }
            Command::ReadClear(mut page) => {
                let room = page.pairs.capacity() - page.pairs.len();
                page.pairs.extend(self.clear.iter().take(room));
                page.rest = self.clear.rest();
                Reply::Clear(page)
            }
            Command::ReadSas(mut sas) => {
                let room = sas.capacity() - sas.len();
                let inbound = self.sad.inbound().map(|i| SaView {
                    spi: i.sa.spi(),
                    peer: i.peer,
                    inbound: true,
                    algorithm: i.sa.algorithm(),
                    fingerprint: i.sa.fingerprint(),
                    packets: i.sa.packets(),
                    bytes: i.sa.bytes(),
                });
                let outbound = self.sad.outbound().map(|(peer, o)| SaView {
                    spi: o.sa.spi(),
                    peer,
                    inbound: false,
                    algorithm: o.sa.algorithm(),
                    fingerprint: o.sa.fingerprint(),
                    packets: o.sa.packets(),
                    bytes: o.sa.bytes(),
                });
                sas.extend(inbound.chain(outbound).take(room));
                Reply::Sas(sas)
            }
        }
    }
}

/// How many pods there are and when the last was born: another pair when one has come or
/// left, the same when only policies or other nodes' pods have changed.
fn pods_of(snapshot: &Snapshot) -> (usize, u32) {
    let last_born = snapshot.endpoints.iter().map(|e| e.born).max();
    (snapshot.endpoints.len(), last_born.unwrap_or(0))
}

/// Walks of parts of a burst, at most: a sender chooses how many packets that know their way stand
/// between others.
const WALKS_MAX: usize = 4;

/// The walk: each frame of a burst goes its way if it knows one, or else through every stage; those
/// of a flow in packet order.
fn run<P: Port>(walk: &mut Walk<'_, P>) {
    let come = again::come(walk);
    if come == Come::Sealed {
        let known = again::outer::find_known(walk);
        arrive_and_open(walk, known);
    }
    again::again(walk);
    let mut walks = 0;
    while walk.batch.live != 0 {
        let (strangers, newcomer) = again::strangers(walk);
        walks += 1;
        let mask = if walks < WALKS_MAX {
            strangers
        } else {
            u32::MAX
        };
        let others = walk.batch.only(mask);
        if come != Come::Sealed {
            arrive_and_open(walk, 0);
        }
        opened_stages(walk);
        if let Some(it) = newcomer {
            again::remember(walk, &it);
        }
        walk.batch.go_on(others);
        again::again(walk);
    }
    resume(walk);
}

/// The walk up to where nothing is sealed any more. Those in `known` are known to be ESP.
fn arrive_and_open<P: Port>(walk: &mut Walk<'_, P>, known: u32) {
    walk.batch.only(!known);
    parse::parse(walk);
    guard::guard(walk);
    walk.batch.live |= known;
    walk.batch.esp |= known;
    steer::arrivals(walk);
    path_mtu::hear(walk);
    open::open(walk, known);
}

/// The walk from where nothing is sealed any more.
fn run_opened<P: Port>(walk: &mut Walk<'_, P>) {
    opened_stages(walk);
    resume(walk);
}

fn opened_stages<P: Port>(walk: &mut Walk<'_, P>) {
    fragments::collect(walk);
    steer::flows(walk);
    track::track(walk);
    classify::classify(walk);
    names::names(walk);
    fragments::settle(walk);
    leave(walk);
}

/// What has waited for these, in bursts of its own.
fn resume<P: Port>(walk: &mut Walk<'_, P>) {
    // At most as many turns as frames can wait.
    while fragments::resume(walk) {
        leave(walk);
    }
}

/// The end of the walk, for what may leave.
fn leave<P: Port>(walk: &mut Walk<'_, P>) {
    seal::seal(walk);
    egress::egress(walk);
}
