//! The control thread: the one owner of [`Control`].

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use sluice_crypto::esp::Spi;
use sluice_crypto::scrub_stack;
use sluice_dataplane_control::{Control, Event, ProgramError, SaConfig, Vitals as ControlVitals};
use sluice_dataplane_core::sad::Mode;
use sluice_dataplane_core::tick::Tick;
use sluice_offload_api::model::{
    self, FlowRecord, Generation, NameRecord, NodeName, PairRecord, PairsRest, PodUid, SaDirection,
    SaRecord,
};
use sluice_offload_api::{Refused, Transaction};
use tokio::sync::oneshot;

use super::ages::SaAges;
use super::client::{NoSuch, Programmed, Request, Vitals};
use super::clock::Clock;
use super::crew::Counted;
use super::downgrades::Downgrades;
use super::roles;
use super::watcher::Watcher;
use crate::checkpoint::Checkpoint;
use crate::config::PortConfig;
use crate::keys::{KeyDriver, KeyEvent, Retirement, SaCommand};
use crate::lab_keys::LabKeys;
use crate::ports::Links;
use crate::verdict_log::VerdictLog;

/// Between two looks at what the worker has done.
const TURN: Duration = Duration::from_millis(1);
/// Requests answered in one turn, at most.
const REQUESTS_PER_TURN_MAX: usize = 16;
/// Commands of the key driver carried out in one turn, at most.
const SA_COMMANDS_PER_TURN_MAX: usize = 256;
/// Verdicts read in one turn, at most: the ring's length.
const VERDICTS_PER_TURN_MAX: usize = 4096;
/// Between two reports of what SAs have carried.
const USAGE_EVERY_NS: u64 = Tick::SECOND;
/// Between two times of forgetting addresses that nobody knows.
const FORGET_EVERY_NS: u64 = 60 * Tick::SECOND;
/// Between two looks at what has crossed the wire in clear.
const CLEAR_EVERY_NS: u64 = Tick::SECOND;
/// Transactions that wait for the one before them, at most.
const WAITING_MAX: usize = 2;

/// What the control thread is made of.
pub(super) struct ControlLoop<L> {
    pub(super) control: Control,
    pub(super) ports: Vec<PortConfig>,
    pub(super) links: L,
    pub(super) keys: Box<dyn KeyDriver>,
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) checkpoint_fault: Option<String>,
    pub(super) lab_keys: Option<LabKeys>,
    pub(super) verdict_log: Option<VerdictLog>,
    pub(super) watcher: Watcher,
    pub(super) clock: Clock,
    pub(super) counted: Counted,
    pub(super) requests: Receiver<Request>,
    pub(super) sas: Receiver<SaCommand>,
    pub(super) state: LoopState,
}

type NameReply = oneshot::Sender<Result<Vec<NameRecord>, NoSuch>>;
type FlowReply = oneshot::Sender<Result<Vec<FlowRecord>, NoSuch>>;
type Waiting = (Box<Transaction>, oneshot::Sender<Programmed>);

/// What it keeps between turns.
#[derive(Debug, Default)]
pub(super) struct LoopState {
    under_way: Option<oneshot::Sender<Programmed>>,
    /// SAs that are to come and to go, in order. They wait while the workers have no room.
    held: VecDeque<SaCommand>,
    waiting: VecDeque<Waiting>,
    flow_askers: Vec<(Option<PodUid>, FlowReply)>,
    name_askers: Vec<(Option<PodUid>, NameReply)>,
    sa_askers: Vec<(Option<NodeName>, oneshot::Sender<Vec<SaRecord>>)>,
    pair_askers: Vec<oneshot::Sender<(Vec<PairRecord>, PairsRest)>>,
    ages: SaAges,
    downgrades: Downgrades,
    /// When it is looked at next what has crossed the wire in clear,
    clear_at: Tick,
    /// and how many packets had when it was looked at last.
    clear_seen: u64,
    clear_asked: bool,
    /// When the key driver is told next what its SAs have carried.
    usage_at: Tick,
    usage_asked: bool,
    /// When addresses are forgotten next that nobody knows.
    unknown_at: Tick,
    /// When workers were last asked for their SAs.
    sas_asked: Option<Instant>,
    /// By worker: its polls when they were looked at last, and when they last had grown.
    polls: Vec<(u64, Tick)>,
}

impl<L: Links> ControlLoop<L> {
    /// Until told to stop, or nobody can ask any more.
    pub(super) fn run(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            match self.requests.recv_timeout(TURN) {
                Ok(request) => {
                    self.answer(request);
                    for _ in 1..REQUESTS_PER_TURN_MAX {
                        let Ok(request) = self.requests.try_recv() else {
                            break;
                        };
                        self.answer(request);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.turn();
        }
    }

    /// Takes in what the worker has done, and lets those act who wait for it.
    pub(super) fn turn(&mut self) {
        self.control.poll();
        while let Some(event) = self.control.next_event() {
            self.on_event(event);
        }
        self.carry_out(Vec::new());
        for _ in 0..SA_COMMANDS_PER_TURN_MAX {
            // Who has more to ask for waits, too.
            if !self.state.held.is_empty() {
                break;
            }
            let Ok(command) = self.sas.try_recv() else {
                break;
            };
            self.carry_out(vec![command]);
        }
        // A driver's turn comes when all that it wanted before was tried.
        if self.state.held.is_empty() {
            let mut commands = Vec::new();
            self.keys.on_tick(self.clock.now(), &mut commands);
            self.carry_out(commands);
        }
        self.begin_waiting();
        self.answer_flows();
        self.answer_names();
        self.forget_unknown();
        self.ask_usage();
        self.answer_sas();
        self.answer_pairs();
        self.tell_downgrades();
        self.hand_out_verdicts();
        let now = self.clock.now();
        let known = &mut self.state.polls;
        for (worker, polls) in self.counted.polls().enumerate() {
            match known.get_mut(worker) {
                Some(it) if it.0 == polls => {}
                Some(it) => *it = (polls, now),
                None => known.push((polls, now)),
            }
        }
    }

    /// Sends a transaction on its way before anybody can ask for one.
    pub(super) fn program_first(&mut self, tx: &Transaction) -> Result<(), ProgramError> {
        roles::check(tx, &self.ports)?;
        self.control.program(tx)
    }

    /// Whether a generation is in force and the key driver has what it needs for it.
    pub(super) fn is_ready(&self) -> bool {
        self.control.state().generation > Generation(0) && self.keys.is_ready()
    }

    fn on_event(&mut self, event: Event) {
        let event = match event {
            Event::Applied(generation) => return self.on_applied(generation),
            Event::PeerAdded(node) => {
                let outer = self.control.outer_addresses(&node);
                KeyEvent::PeerAdded { node, outer }
            }
            Event::PeerRemoved(node) => {
                // Not for another that may come by its name.
                self.state.held.retain(|it| !it.is_about(&node));
                KeyEvent::PeerRemoved { node }
            }
            Event::InboundInstalled(node, spi) => KeyEvent::InboundInstalled { node, spi },
            Event::OutboundInstalled(node, spi) => KeyEvent::OutboundInstalled { node, spi },
            Event::SaRefused(node, spi) => KeyEvent::Refused {
                node: Some(node).filter(|it| !it.0.is_empty()),
                spi,
            },
        };
        let begun = match &event {
            KeyEvent::InboundInstalled { node, spi } => Some((node, SaDirection::Inbound, spi)),
            KeyEvent::OutboundInstalled { node, spi } => Some((node, SaDirection::Outbound, spi)),
            _ => None,
        };
        if let Some((node, direction, spi)) = begun {
            let now = self.clock.now();
            self.state.ages.begin(node.clone(), direction, spi.0, now);
        }
        if let KeyEvent::Refused { spi, .. } = &event {
            tracing::error!(%spi, "the worker refused an SA");
        }
        let mut commands = Vec::new();
        self.keys.on_event(event, &mut commands);
        self.carry_out(commands);
    }

    /// Carries out commands, after those that wait, and leaves nothing of their keys on the stack.
    fn carry_out(&mut self, commands: Vec<SaCommand>) {
        self.state.held.extend(commands);
        if !self.state.held.is_empty() {
            self.carry_out_held();
            scrub_stack();
        }
        if self.state.held.is_empty() {
            // Freed, and so wiped: what was moved out of it left its bytes.
            self.state.held = VecDeque::new();
        }
    }

    /// Whether there is room for a command.
    fn takes(&self, command: &SaCommand) -> bool {
        match command {
            SaCommand::Bind(..) => true,
            SaCommand::InstallInbound(_, SaConfig { spi, .. })
            | SaCommand::Retire(Retirement::Inbound(spi)) => self.control.takes_inbound(*spi),
            SaCommand::InstallOutbound(..) | SaCommand::Retire(Retirement::Outbound(..)) => {
                self.control.takes_outbound()
            }
        }
    }

    /// Carries out what waits, and what its failure gives rise to, while there is room for it; a
    /// driver that never gives up is cut off and asked again at the next turn. A frame of its own,
    /// below which the stack is wiped.
    #[inline(never)]
    fn carry_out_held(&mut self) {
        for _ in 0..SA_COMMANDS_PER_TURN_MAX.max(self.state.held.len()) {
            // In order: one that there is no room for holds up those behind it.
            if !self.state.held.front().is_some_and(|it| self.takes(it)) {
                return;
            }
            let Some(command) = self.state.held.pop_front() else {
                return;
            };
            if let Err(failed) = self.carry_out_one(command) {
                let mut more = Vec::new();
                self.keys.on_event(failed, &mut more);
                self.state.held.extend(more);
            }
        }
    }

    /// Carries out one; on failure what the key driver is to be told.
    fn carry_out_one(&mut self, command: SaCommand) -> Result<(), KeyEvent> {
        let (node, spi, done) = match command {
            SaCommand::InstallInbound(node, sa) => {
                let spi = sa.spi;
                let done = self.control.install_inbound(&node, sa);
                (node, spi, done)
            }
            SaCommand::InstallOutbound(node, sa, max) => {
                if let Some((keys, (src, dst))) = self
                    .lab_keys
                    .as_mut()
                    .zip(self.control.outer_addresses(&node))
                {
                    let src = match sa.mode {
                        Mode::Tunnel => src,
                        Mode::Transport { pod } => pod.into(),
                    };
                    keys.write((src, dst), &sa);
                }
                let spi = sa.spi;
                let done = self.control.install_outbound_within(&node, sa, max);
                (node, spi, done)
            }
            SaCommand::Bind(node, addr, pod, true) => {
                self.control.announce_binding(&node, addr, pod);
                return Ok(());
            }
            SaCommand::Bind(node, addr, pod, false) => {
                self.control.withdraw_binding(&node, addr, &pod);
                return Ok(());
            }
            SaCommand::Retire(retirement) => {
                let done = match &retirement {
                    Retirement::Inbound(spi) => self.control.retire_inbound(*spi),
                    Retirement::Outbound(node, spi) => {
                        self.control.retire_outbound(node, *spi).map(drop)
                    }
                };
                return done.map_err(|error| {
                    let spi = retirement.spi();
                    tracing::error!(%spi, %error, "an SA was not retired; it is tried again");
                    KeyEvent::NotRetired(retirement)
                });
            }
        };
        done.map_err(|error| {
            tracing::error!(%spi, %error, "an SA was not installed");
            KeyEvent::Failed { node, spi, error }
        })
    }

    fn on_applied(&mut self, generation: Generation) {
        let kept = match &self.checkpoint {
            None => Ok(()),
            Some(checkpoint) => checkpoint
                .store(self.control.state(), self.control.former())
                .map_err(|error| {
                    format!(
                        "can't write the checkpoint {}: {error}",
                        checkpoint.path().display()
                    )
                }),
        };
        let done = match kept {
            Ok(()) => {
                self.checkpoint_fault = None;
                tracing::info!(%generation, "in force");
                Programmed::Ack(generation)
            }
            Err(fault) => {
                tracing::error!(%generation, "in force, but not acknowledged: {fault}");
                self.checkpoint_fault = Some(fault.clone());
                Programmed::NotKept(fault)
            }
        };
        let endpoints = self.control.state().endpoints.values();
        let pods = endpoints.flat_map(|it| it.ips.iter().map(|ip| (*ip, it.pod_uid.clone())));
        let mut commands = Vec::new();
        self.keys.on_event(
            KeyEvent::Pods {
                pods: pods.collect(),
            },
            &mut commands,
        );
        self.carry_out(commands);
        if let Some(reply) = self.state.under_way.take() {
            // An agent that has gone away reads the status when it is back.
            drop(reply.send(done));
        }
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Program(tx, reply) => {
                if self.state.waiting.len() >= WAITING_MAX {
                    drop(reply.send(Programmed::Busy));
                    return;
                }
                self.state.waiting.push_back((tx, reply));
                self.begin_waiting();
            }
            Request::Status(lease, reply) => {
                let links_up = self.links.up();
                let uptime_ms = self.clock.uptime_ms();
                let vitals = ControlVitals {
                    uptime_ms,
                    lease,
                    links_up,
                };
                drop(reply.send(self.control.status(&vitals)));
            }
            Request::Counters(reply) => drop(reply.send(self.control.port_counters())),
            Request::Flows(endpoint, reply) => {
                if self.state.flow_askers.is_empty() && self.state.pair_askers.is_empty() {
                    self.control.request_flows();
                }
                self.state.flow_askers.push((endpoint, reply));
            }
            Request::Names(endpoint, reply) => {
                if self.state.name_askers.is_empty() {
                    self.control.request_names();
                }
                self.state.name_askers.push((endpoint, reply));
            }
            Request::Sas(peer, reply) => {
                if self.state.sa_askers.is_empty() {
                    self.ask_sas();
                }
                self.state.sa_askers.push((peer, reply));
            }
            Request::Pairs(reply) => {
                if self.state.pair_askers.is_empty() {
                    if self.state.flow_askers.is_empty() {
                        self.control.request_flows();
                    }
                    self.ask_sas();
                    self.control.request_clear();
                }
                self.state.pair_askers.push(reply);
            }
            Request::Watch(to, reply) => {
                self.watcher.begin(to);
                let _ = reply.send(());
            }
            Request::Order(order, answer) => {
                let (now, mut commands) = (self.clock.now(), Vec::new());
                self.keys.on_order(*order, answer, now, &mut commands);
                self.carry_out(commands);
                scrub_stack();
            }
            Request::Vitals(reply) => {
                // Of one worker that stands still the flows do, too.
                let polled_at = self.state.polls.iter().map(|it| it.1).min();
                let polled_at = polled_at.unwrap_or(Tick(0));
                let silent_ns = self.clock.now().since(polled_at);
                drop(reply.send(Vitals {
                    checkpoint_fault: self.checkpoint_fault.clone(),
                    worker_silent_ms: silent_ns / Tick::MS,
                    flow_outcomes: self.control.flow_counters(),
                    lost: self.links.lost(),
                    verdicts_suppressed:
                        self.verdict_log.as_ref().map_or(0, VerdictLog::suppressed),
                }));
            }
        }
    }

    fn begin_waiting(&mut self) {
        // One that nobody waits for is still carried out: it came whole.
        while self.state.under_way.is_none()
            && let Some((tx, reply)) = self.state.waiting.pop_front()
        {
            let in_force = self.control.state().generation;
            let started = match roles::check(&tx, &self.ports) {
                Ok(()) => self.control.program(&tx),
                Err(refusal) => Err(refusal.into()),
            };
            match started {
                Ok(()) => self.state.under_way = Some(reply),
                Err(ProgramError::Refused(refusal)) => {
                    tracing::warn!(%in_force, %refusal, "a transaction was refused");
                    let refused = Refused::new(in_force, &refusal);
                    drop(reply.send(Programmed::Refused(refused)));
                }
                Err(ProgramError::Pending { .. }) => {
                    // The first generation is still on its way, and nobody waits for it.
                    self.state.waiting.push_front((tx, reply));
                    return;
                }
                Err(ProgramError::Worker(error)) => {
                    tracing::error!(%error, "a transaction could not be carried out");
                    drop(reply.send(Programmed::Gone));
                }
            }
        }
    }

    fn answer_names(&mut self) {
        let askers = &mut self.state.name_askers;
        askers.retain(|(_, reply)| !reply.is_closed());
        if askers.is_empty() {
            return;
        }
        let Some(names) = self.control.names() else {
            return;
        };
        let endpoints = &self.control.state().endpoints;
        for (uid, reply) in askers.drain(..) {
            let found = match uid {
                None => Ok(names.to_vec()),
                Some(uid) if !endpoints.values().any(|it| it.pod_uid == uid) => Err(NoSuch(uid)),
                Some(uid) => {
                    let of = names.iter().filter(|it| it.endpoint == uid);
                    Ok(of.cloned().collect())
                }
            };
            drop(reply.send(found));
        }
    }

    fn answer_flows(&mut self) {
        self.state
            .flow_askers
            .retain(|(_, reply)| !reply.is_closed());
        if self.state.flow_askers.is_empty() {
            return;
        }
        let Some(flows) = self.control.flows() else {
            return;
        };
        let endpoints = &self.control.state().endpoints;
        for (uid, reply) in self.state.flow_askers.drain(..) {
            let found = match uid {
                None => Ok(flows.to_vec()),
                Some(uid) => {
                    // All the pod's interfaces, each of which is an endpoint.
                    let its = endpoints.values().filter(|it| it.pod_uid == uid);
                    let ips: Vec<_> = its.flat_map(|it| &it.ips).collect();
                    if ips.is_empty() {
                        Err(NoSuch(uid))
                    } else {
                        let of =
                            |it: &&FlowRecord| ips.contains(&&it.src) || ips.contains(&&it.dst);
                        Ok(flows.iter().filter(of).cloned().collect())
                    }
                }
            };
            drop(reply.send(found));
        }
    }

    fn ask_usage(&mut self) {
        let now = self.clock.now();
        if !self.keys.wants_usage() || now < self.state.usage_at {
            return;
        }
        self.state.usage_at = now + USAGE_EVERY_NS;
        if self.state.sa_askers.is_empty() {
            self.ask_sas();
        }
        self.state.usage_asked = true;
    }

    fn forget_unknown(&mut self) {
        let now = self.clock.now();
        if now >= self.state.unknown_at {
            self.state.unknown_at = now + FORGET_EVERY_NS;
            self.control.forget_unknown();
        }
    }

    fn ask_sas(&mut self) {
        let now = Instant::now();
        if self.control.request_sas() {
            self.state.sas_asked = Some(now);
        }
    }

    fn answer_sas(&mut self) {
        self.state.sa_askers.retain(|(_, reply)| !reply.is_closed());
        if self.state.sa_askers.is_empty() && !self.state.usage_asked {
            return;
        }
        let Some(sas) = self.control.sas() else {
            return;
        };
        let sas = self.state.ages.told(sas, self.clock.now());
        for (peer, reply) in self.state.sa_askers.drain(..) {
            let of = |it: &&SaRecord| peer.is_none() || it.peer == peer;
            drop(reply.send(sas.iter().filter(of).cloned().collect()));
        }
        if !core::mem::take(&mut self.state.usage_asked) {
            return;
        }
        let Some(asked) = self.state.sas_asked else {
            return;
        };
        let mut commands = Vec::new();
        for sa in sas {
            let Some(node) = sa.peer.clone() else {
                continue;
            };
            let used = KeyEvent::Used {
                node,
                direction: sa.direction,
                spi: Spi(sa.spi),
                packets: sa.packets,
                bytes: sa.bytes,
                asked,
            };
            self.keys.on_event(used, &mut commands);
        }
        self.carry_out(commands);
    }

    fn answer_pairs(&mut self) {
        self.state.pair_askers.retain(|reply| !reply.is_closed());
        let is_waiting = self.control.flows().is_none() || self.control.clear().is_none();
        if self.state.pair_askers.is_empty() || is_waiting {
            return;
        }
        let Some(sas) = self.control.sas() else {
            return;
        };
        let sas = self.state.ages.told(sas, self.clock.now());
        let Some(pairs) = self.control.pairs(&sas) else {
            return;
        };
        for reply in self.state.pair_askers.drain(..) {
            drop(reply.send(pairs.clone()));
        }
    }

    /// Once in a while, if anything has crossed the wire in clear since, tells of the pairs
    /// that are new to it.
    fn tell_downgrades(&mut self) {
        if self.state.clear_asked
            && let Some(page) = self.control.clear()
        {
            self.state.clear_asked = false;
            let state = self.control.state();
            let (told, more) = self.state.downgrades.note(&page.pairs, state);
            for it in told {
                let node = self.control.node_of(it.peer);
                let node = node.map_or("one that is gone", |it| it.0.as_str());
                let setting = it.setting.map_or("gone", model::Encryption::as_str);
                let (from, to, way) = (it.from, it.to, it.way);
                tracing::warn!(
                    from,
                    to,
                    node,
                    way,
                    setting,
                    "packets cross the wire in clear, as the settings of both ends let them"
                );
            }
            if more > 0 {
                tracing::warn!(more, "more pairs do: `sluicectl sa --matrix` has them all");
            }
        }
        let now = self.clock.now();
        if now < self.state.clear_at {
            return;
        }
        self.state.clear_at = now + CLEAR_EVERY_NS;
        let counted = self.control.clear_packets();
        if counted != self.state.clear_seen {
            self.state.clear_seen = counted;
            self.state.clear_asked = true;
            self.control.request_clear();
        }
    }

    fn hand_out_verdicts(&mut self) {
        for _ in 0..VERDICTS_PER_TURN_MAX {
            let Some(line) = self.control.next_verdict() else {
                return;
            };
            self.watcher.note(&line);
            if let Some(log) = &mut self.verdict_log {
                log.note(&line, self.control.state());
            }
        }
    }
}
