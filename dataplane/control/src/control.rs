//! The control side of a dataplane.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use sluice_crypto::esp::{InboundSa, OutboundSa, Outer, Spi, Tunnel};
use sluice_dataplane_core::command::{ClearPage, Command, Reply};
use sluice_dataplane_core::counters::Counters;
use sluice_dataplane_core::hash::HashKey;
use sluice_dataplane_core::publish::PublishError;
use sluice_dataplane_core::sad::{Inbound, Mode, Outbound};
use sluice_dataplane_core::snapshot::{PeerIndex, PortIndex, Snapshot};
use sluice_dataplane_core::table::prefix::PrefixTable;
use sluice_offload_api::model::{
    FlowRecord, Generation, IpPrefix, Lease, NameRecord, NodeName, PairRecord, PairsRest, PodUid,
    PortCounters, PortName, PortStatus, SaRecord, Status,
};
use sluice_offload_api::refusal::Refusal;
use sluice_offload_api::state::State;
use sluice_offload_api::transaction::Transaction;

use crate::asking::Asking;
use crate::bindings::Bindings;
use crate::build::{Build, Built, Last};
use crate::events::{Event, SaConfig, SaError};
use crate::former::Former;
use crate::indices::{DomainNumbers, EndpointGenerations, PeerNumbers, PortNames};
use crate::pairs::{Pairs, Sources, TOLD_MAX};
use crate::read::{Namer, VerdictLine, capacity, port_counters};
use crate::retiring::{Retire, Retiring};
use crate::sending::Sending;
use crate::workers::Workers;

/// What a [`Control`] is made with.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// The names of the worker's ports, in its order.
    pub ports: Vec<PortName>,
    /// The key of its tables' hashes, drawn at boot.
    pub hash_key: [u64; 2],
    /// Drawn at boot: tells this life of the dataplane from the one before.
    pub instance: u64,
}

/// What only the driver of a [`Control`] knows of its state.
#[derive(Clone, Debug)]
pub struct Vitals {
    /// Milliseconds since the start.
    pub uptime_ms: u64,
    /// The agent's heartbeat.
    pub lease: Lease,
    /// Whether each port's link is up, in the order of [`ControlConfig::ports`].
    pub links_up: Vec<bool>,
}

/// Why a transaction was not taken; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It is wrong.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The one before it isn't in force yet.
    #[error("generation {pending} is still on its way to the worker; wait for its Ack")]
    Pending {
        /// The generation in between.
        pending: Generation,
    },
    /// The worker doesn't take it.
    #[error("the worker takes no snapshot")]
    Worker(#[from] PublishError),
}

/// A snapshot that is on its way to the worker.
#[derive(Debug)]
enum UnderWay {
    /// A generation.
    Generation(Pending),
    /// The one in force again, by what other nodes have announced since.
    Bindings,
}

#[derive(Debug)]
struct Pending {
    state: State,
    added: Vec<NodeName>,
    removed: Vec<(NodeName, PeerIndex)>,
}

/// The peers that stay and have no dataplane any more: their SAs go.
fn without_dataplane(
    before: &State,
    after: &State,
    peers: &PeerNumbers,
) -> Vec<(NodeName, PeerIndex)> {
    let had = |node: &NodeName| before.peers.get(node).is_some_and(|it| !it.unprotected);
    let lost = after.peers.values();
    let lost = lost.filter(|it| it.unprotected && had(&it.node));
    lost.filter_map(|it| Some((it.node.clone(), peers.index(&it.node)?)))
        .collect()
}

/// The control side of a dataplane.
#[derive(Debug)]
pub struct Control {
    ports: PortNames,
    hash_key: HashKey,
    instance: u64,
    workers: Workers,
    state: State,
    under_way: Option<UnderWay>,
    peers: PeerNumbers,
    generations: EndpointGenerations,
    bindings: Bindings,
    former: Former,
    /// Addresses of which `bindings` say otherwise than when the newest snapshot was built.
    moved: BTreeSet<IpAddr>,
    domains: DomainNumbers,
    snapshot: Arc<Snapshot>,
    /// The prefixes in which the newest snapshot differs from the one before; `None` if that
    /// isn't known, and the next one is built whole.
    touched: Option<BTreeSet<IpPrefix>>,
    /// The table of prefixes of the one before, once the worker has given it back: the next
    /// one is made of it.
    spare: Option<PrefixTable>,
    /// Whether a snapshot was built under this life's hash key.
    is_keyed: bool,
    inbound: BTreeMap<Spi, NodeName>,
    sending: Sending,
    retiring: Retiring,
    events: VecDeque<Event>,
    asking: Asking,
}

impl Control {
    /// A dataplane that was told nothing yet: every port is closed.
    #[must_use]
    pub fn new(config: ControlConfig, workers: impl Into<Workers>) -> Self {
        let ports = PortNames::new(config.ports);
        Self {
            snapshot: Arc::new(Snapshot::closed(ports.len())),
            ports,
            hash_key: HashKey(config.hash_key),
            instance: config.instance,
            workers: workers.into(),
            state: State::default(),
            under_way: None,
            peers: PeerNumbers::default(),
            generations: EndpointGenerations::default(),
            bindings: Bindings::default(),
            former: Former::default(),
            moved: BTreeSet::new(),
            domains: DomainNumbers::default(),
            touched: None,
            spare: None,
            is_keyed: false,
            inbound: BTreeMap::new(),
            sending: Sending::default(),
            retiring: Retiring::default(),
            events: VecDeque::new(),
            asking: Asking::default(),
        }
    }

    /// The state that every worker uses.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Addresses that nobody has any more, to be kept beside [`Self::state`].
    #[must_use]
    pub const fn former(&self) -> &Former {
        &self.former
    }

    /// What was kept of those, before the state is programmed that was kept with them.
    pub fn recall(&mut self, former: Former) {
        self.moved.extend(former.iter());
        self.former = former;
    }

    /// Takes a transaction: checks it whole, compiles it, sends it to the workers.
    /// [`Event::Applied`] follows when all of them use it.
    ///
    /// # Errors
    /// [`ProgramError`]; what was in force stays.
    pub fn program(&mut self, tx: &Transaction) -> Result<(), ProgramError> {
        if let Some(under_way) = &self.under_way {
            let pending = match under_way {
                UnderWay::Generation(pending) => pending.state.generation,
                UnderWay::Bindings => self.state.generation,
            };
            return Err(ProgramError::Pending { pending });
        }
        let next = self.state.apply(tx)?;
        self.moved.extend(self.former.note(&self.state, &next));
        // Hundreds of nodes, of which hardly ever one changes.
        let same_peers = self.state.peers == next.peers;
        let mut peers = (!same_peers).then(|| self.peers.clone());
        let mut removed = peers.as_mut().map_or_else(Vec::new, |it| it.renew(&next));
        let mut generations = self.generations.clone();
        generations.renew(&self.state, &next);
        generations.renew_addresses(&self.moved);
        let mut domains = self.domains.clone();
        domains.renew(&next);
        let spare = self.spare.take();
        let build = self.build(
            peers.as_ref().unwrap_or(&self.peers),
            &generations,
            &domains,
        );
        let Built { snapshot, touched } = build.snapshot(&next, self.last(spare))?;
        let snapshot = Arc::new(snapshot);
        self.workers.publish(&snapshot)?;
        let forgotten = self.former.forget(&self.state, &next);
        self.moved.clear();
        self.moved.extend(forgotten);
        self.touched = touched;
        self.is_keyed = true;

        let mut added = Vec::new();
        if !same_peers || self.snapshot.interfaces != snapshot.interfaces {
            let now = peers.as_ref().unwrap_or(&self.peers);
            let moved = |node: &NodeName| {
                let tunnel = |s: &Snapshot, p: &PeerNumbers| s.peer(p.index(node)?)?.tunnel();
                tunnel(&self.snapshot, &self.peers) != tunnel(&snapshot, now)
            };
            // Of one without a dataplane there is nobody to agree on keys with.
            let protected = next.peers.values().filter(|it| !it.unprotected);
            let protected = protected.map(|it| &it.node);
            added.extend(protected.filter(|node| moved(node)).cloned());
            removed.extend(without_dataplane(&self.state, &next, &self.peers));
        }
        if let Some(peers) = peers {
            self.peers = peers;
        }
        self.generations = generations;
        self.domains = domains;
        self.snapshot = snapshot;
        self.under_way = Some(UnderWay::Generation(Pending {
            state: next,
            added,
            removed,
        }));
        Ok(())
    }

    const fn build<'a>(
        &'a self,
        peers: &'a PeerNumbers,
        generations: &'a EndpointGenerations,
        domains: &'a DomainNumbers,
    ) -> Build<'a> {
        Build {
            ports: &self.ports,
            peers,
            generations,
            domains,
            bindings: &self.bindings,
            former: &self.former,
            hash_key: self.hash_key,
        }
    }

    /// What the next snapshot can be made of.
    fn last(&self, spare: Option<PrefixTable>) -> Option<Last<'_>> {
        self.is_keyed.then(|| Last {
            state: &self.state,
            snapshot: &self.snapshot,
            spare: spare.zip(self.touched.as_ref()),
            moved: &self.moved,
        })
    }

    /// Another node announces that an address is this pod's. Where the agent says otherwise,
    /// the address is nobody's from one of the next [`Self::poll`]s on, until they agree.
    pub fn announce_binding(&mut self, node: &NodeName, addr: IpAddr, pod: PodUid) {
        if self.is_protected_peer(node) {
            self.change_bindings(addr, |bindings| bindings.announce(node, addr, pod));
        }
    }

    /// Another node takes back that an address is this pod's: it is nobody's while the agent
    /// still says so.
    pub fn withdraw_binding(&mut self, node: &NodeName, addr: IpAddr, pod: &PodUid) {
        if self.is_protected_peer(node) {
            let is_known = self.newest().prefixes.get(&IpPrefix::host(addr)).is_some();
            let forgotten = self.change_bindings(addr, |bindings| {
                bindings.withdraw(node, addr, pod, is_known)
            });
            self.moved.extend(forgotten);
        }
    }

    /// To be called about once a minute: addresses that a node took back before the agent knew of
    /// them are nobody's from then until the second time, and no longer; those that pods or nodes
    /// had before they went, for a quarter of an hour.
    pub fn forget_unknown(&mut self) {
        self.moved.extend(self.bindings.forget_unknown());
        self.moved.extend(self.former.age());
    }

    /// Whether there are words of a node to listen to: of one that is no peer any more they may still
    /// be on their way, and nobody would take them back.
    fn is_protected_peer(&self, node: &NodeName) -> bool {
        let peer = self.newest().peers.get(node);
        peer.is_some_and(|it| !it.unprotected)
    }

    /// The state that is in force or on its way.
    const fn newest(&self) -> &State {
        match &self.under_way {
            Some(UnderWay::Generation(pending)) => &pending.state,
            Some(UnderWay::Bindings) | None => &self.state,
        }
    }

    fn change_bindings<T>(&mut self, addr: IpAddr, change: impl FnOnce(&mut Bindings) -> T) -> T {
        let before = self.bindings.withhold(self.newest(), addr);
        let done = change(&mut self.bindings);
        if before != self.bindings.withhold(self.newest(), addr) {
            self.moved.insert(addr);
        }
        done
    }

    /// Sends the state in force once more, as the bindings have it now.
    fn publish_bindings(&mut self) {
        let mut generations = self.generations.clone();
        generations.renew_addresses(&self.moved);
        // Neither fails: the same state was built before, and nothing else is under way. If
        // one did, `moved` stays and it is tried again.
        let spare = self.spare.take();
        let build = self.build(&self.peers, &generations, &self.domains);
        let Ok(Built { snapshot, touched }) = build.snapshot(&self.state, self.last(spare)) else {
            return;
        };
        let snapshot = Arc::new(snapshot);
        if self.workers.publish(&snapshot).is_ok() {
            self.generations = generations;
            self.snapshot = snapshot;
            self.moved.clear();
            self.touched = touched;
            self.under_way = Some(UnderWay::Bindings);
        }
    }

    /// Looks at what the workers have done since.
    pub fn poll(&mut self) {
        let mut bindings_done = false;
        let spare = &mut self.spare;
        // Freed here by the last who had it, and what is big and nearly right is kept.
        let keep = |retired| {
            if let Ok(retired) = Arc::try_unwrap(retired) {
                *spare = Some(Snapshot::into_prefixes(retired));
            }
        };
        if self.workers.reclaim_into(keep) {
            match self.under_way.take() {
                Some(UnderWay::Generation(pending)) => self.adopt(pending),
                Some(UnderWay::Bindings) => bindings_done = true,
                None => {}
            }
        }
        // A generation that waits goes between two of these, and takes them along: a peer that
        // announces without end holds nobody up.
        if !self.moved.is_empty() && self.under_way.is_none() && !bindings_done {
            self.publish_bindings();
        }
        while let Some((worker, reply)) = self.workers.next_reply() {
            self.note(worker, reply);
        }
        self.retiring.send(&mut self.workers);
        self.asking.send(&mut self.workers);
    }

    /// The next thing that happened; call until `None`.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn adopt(&mut self, pending: Pending) {
        self.state = pending.state;
        let gone = self.bindings.keep_peers(&self.state, &self.former);
        self.moved.extend(gone);
        for (node, index) in pending.removed {
            let spis: Vec<_> = self
                .inbound
                .iter()
                .filter(|(_, n)| **n == node)
                .map(|(s, _)| *s)
                .collect();
            for spi in spis {
                self.inbound.remove(&spi);
                self.retiring.push(Retire::Inbound(spi));
            }
            self.sending.forget(index);
            self.retiring.push(Retire::Outbound(index));
            self.events.push_back(Event::PeerRemoved(node));
        }
        self.events
            .extend(pending.added.into_iter().map(Event::PeerAdded));
        self.events.push_back(Event::Applied(self.state.generation));
    }

    fn note(&mut self, worker: usize, reply: Reply) {
        match reply {
            Reply::InboundInstalled(spi) => {
                if let Some(node) = self.inbound.get(&spi).cloned() {
                    self.events.push_back(Event::InboundInstalled(node, spi));
                }
            }
            Reply::OutboundInstalled(peer, first, _replaced) => {
                let spis = self.sending.acknowledged(peer, first);
                if let Some(node) = self.peers.node(peer) {
                    let installed = |spi| Event::OutboundInstalled(node.clone(), spi);
                    self.events.extend(spis.into_iter().map(installed));
                }
            }
            Reply::InboundRefused(refused) => {
                let spi = refused.sa.spi();
                if let Some(node) = self.peers.node(refused.peer).cloned() {
                    self.events.push_back(Event::SaRefused(node, spi));
                }
            }
            Reply::OutboundRefused(refused) => {
                let refused = refused.iter().map(|it| it.sa.spi());
                let refused = refused.map(|spi| Event::SaRefused(NodeName(String::new()), spi));
                self.events.extend(refused);
            }
            Reply::InboundRetired(..) => {}
            Reply::OutboundRetired(peer, _) => {
                if self.retiring.is_over(peer) {
                    self.peers.release(peer);
                }
            }
            Reply::Flows(page) => {
                let namer = Self::namer(&self.state, &self.ports, &self.peers);
                let flows = page.flows.iter().map(|f| namer.flow(f));
                self.asking.flows.extend(flows);
                self.asking.on_flows(worker, &page);
            }
            Reply::Names(page) => {
                let endpoints = self.state.endpoints.values();
                let pods: BTreeMap<_, _> = endpoints.map(|it| (&it.port, &it.pod_uid)).collect();
                // What has left since the page was written has no name any more.
                let names = page.names.iter().filter_map(|it| {
                    let pod = pods.get(self.ports.name(it.port)?)?;
                    Some(NameRecord {
                        endpoint: (*pod).clone(),
                        ip: it.addr.into(),
                        domain: self.domains.pattern(it.domain)?.clone(),
                        left_ms: it.left_ms,
                    })
                });
                self.asking.names.extend(names);
                self.asking.on_names(worker, &page);
            }
            Reply::Clear(page) => self.asking.on_clear(page),
            Reply::Sas(sas) => {
                let namer = Self::namer(&self.state, &self.ports, &self.peers);
                let sas = sas.iter().map(|s| namer.sa(s));
                self.asking.on_sas(sas);
            }
        }
    }

    /// Whether a receiving SA can come or go now and not be [`SaError::Busy`].
    #[must_use]
    pub fn takes_inbound(&self, spi: Spi) -> bool {
        self.workers.owner_has_room(spi)
    }

    /// The same of a sending one.
    #[must_use]
    pub fn takes_outbound(&self) -> bool {
        self.retiring.is_empty() && self.workers.have_room()
    }

    /// Installs a receiving SA from a peer. [`Event::InboundInstalled`] follows.
    ///
    /// # Errors
    /// [`SaError`]; nothing has changed.
    pub fn install_inbound(&mut self, node: &NodeName, config: SaConfig) -> Result<(), SaError> {
        let peer = self.peer(node)?;
        let (spi, mode) = (config.spi, config.mode);
        let sa = Box::new(InboundSa::new(spi, config.key, config.esn, config.window)?);
        let command = Command::InstallInbound(Inbound { sa, peer, mode });
        let told = self.workers.tell_owner(spi, command);
        told.map_err(|_| SaError::Busy)?;
        self.inbound.insert(spi, node.clone());
        Ok(())
    }

    /// Puts a sending SA to a peer in force, once the last of its
    /// [children](SaConfig::child) is here. [`Event::OutboundInstalled`] follows.
    ///
    /// # Errors
    /// [`SaError`]; nothing has changed.
    pub fn install_outbound(&mut self, node: &NodeName, config: SaConfig) -> Result<(), SaError> {
        self.install_outbound_within(node, config, u64::MAX)
    }

    /// [`Self::install_outbound`] of an SA that refuses beyond `packets_max` packets, if its
    /// sequence numbers reach that far.
    ///
    /// # Errors
    /// [`SaError`]; nothing has changed.
    pub fn install_outbound_within(
        &mut self,
        node: &NodeName,
        config: SaConfig,
        packets_max: u64,
    ) -> Result<(), SaError> {
        self.install_outbound_numbered(node, config, 1..=packets_max)
    }

    /// [`Self::install_outbound`] of an SA with these sequence numbers: it refuses beyond the
    /// last, or where they can't be told apart any more. The key must be fresh all the same.
    ///
    /// # Errors
    /// [`SaError`]; nothing has changed.
    pub fn install_outbound_numbered(
        &mut self,
        node: &NodeName,
        config: SaConfig,
        numbers: RangeInclusive<u64>,
    ) -> Result<(), SaError> {
        let peer = self.peer(node)?;
        let Some(outer) = self.outer(peer, config.mode) else {
            self.sending.abandon(peer);
            return Err(SaError::NoTunnel { node: node.clone() });
        };
        // What retires the peer's sending SAs would take these along.
        if !self.retiring.is_empty() {
            self.sending.abandon(peer);
            return Err(SaError::Busy);
        }
        let (spi, mode, child) = (config.spi, config.mode, config.child);
        let first = *numbers.start();
        let sa = OutboundSa::starting_at(spi, config.key, config.esn, first);
        let mut sa = Box::new(sa);
        sa.set_hard_limit((*numbers.end()).min(sa.hard_limit()));
        let tunnel = Tunnel {
            outer,
            udp_encap: config.udp_encap,
        };
        let outbound = Outbound::new(sa, tunnel, mode);
        let Some(children) = self.sending.gather(peer, child, outbound)? else {
            return Ok(());
        };
        let spis = children.iter().map(|it| it.sa.spi()).collect();
        // Each sends by its own from now on, and none by another's: that they begin one after
        // the other changes nothing.
        let parts = children.split(self.workers.shares()).into_iter();
        let commands = parts.map(|part| Command::InstallOutbound(peer, part));
        let told = self.workers.tell_all(commands);
        told.map_err(|_| SaError::Busy)?;
        self.sending.sent(peer, spis, self.workers.count());
        Ok(())
    }

    /// Takes a sending SA out of use, and those that came in force with it, if it is still in
    /// force: what goes to the peer is dropped from then on. Whether it was.
    ///
    /// # Errors
    /// [`SaError::Busy`].
    pub fn retire_outbound(&mut self, node: &NodeName, spi: Spi) -> Result<bool, SaError> {
        let Some(peer) = self.peers.index(node) else {
            return Ok(false);
        };
        self.sending.give_up(peer, spi);
        if !self.sending.is_last(peer, spi) {
            return Ok(false);
        }
        let told = self.retiring.now(peer, &mut self.workers);
        told.map_err(|_| SaError::Busy)?;
        self.sending.forget(peer);
        Ok(true)
    }

    /// Takes a receiving SA out of use.
    ///
    /// # Errors
    /// [`SaError::Busy`].
    pub fn retire_inbound(&mut self, spi: Spi) -> Result<(), SaError> {
        let told = self.workers.tell_owner(spi, Command::RetireInbound(spi));
        told.map_err(|_| SaError::Busy)?;
        self.inbound.remove(&spi);
        Ok(())
    }

    fn peer(&self, node: &NodeName) -> Result<PeerIndex, SaError> {
        self.peers
            .index(node)
            .ok_or_else(|| SaError::UnknownPeer { node: node.clone() })
    }

    fn outer(&self, peer: PeerIndex, mode: Mode) -> Option<Outer> {
        let dst = self.snapshot.peer(peer)?.tunnel()?;
        let src = match mode {
            Mode::Tunnel => self.snapshot.interface_for(dst)?.addr,
            Mode::Transport { pod } => Some(pod).filter(|pod| pod.is_v4() == dst.is_v4())?,
        };
        Some(if dst.is_v4() {
            Outer::V4 {
                src: src.to_v4(),
                dst: dst.to_v4(),
            }
        } else {
            Outer::V6 {
                src: src.to_v6(),
                dst: dst.to_v6(),
            }
        })
    }

    /// The outer source and destination of what goes to a peer.
    #[must_use]
    pub fn outer_addresses(&self, node: &NodeName) -> Option<(IpAddr, IpAddr)> {
        let dst = self.snapshot.peer(self.peers.index(node)?)?.tunnel()?;
        let src = self.snapshot.interface_for(dst)?.addr;
        Some((src.into(), dst.into()))
    }

    const fn namer<'a>(
        state: &'a State,
        ports: &'a PortNames,
        peers: &'a PeerNumbers,
    ) -> Namer<'a> {
        Namer {
            state,
            ports,
            peers,
        }
    }

    /// How the dataplane is.
    #[must_use]
    pub fn status(&self, vitals: &Vitals) -> Status {
        let link_up = vitals
            .links_up
            .iter()
            .copied()
            .chain(core::iter::repeat(false));
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.instance,
            generation: self.state.generation,
            lease: vitals.lease,
            workers: u16::try_from(self.workers.count()).unwrap_or(u16::MAX),
            uptime_ms: vitals.uptime_ms,
            capacity: capacity(&self.state),
            ports: self
                .ports
                .iter()
                .cloned()
                .zip(link_up)
                .map(|(name, link_up)| PortStatus { name, link_up })
                .collect(),
            pending: match &self.under_way {
                Some(UnderWay::Generation(pending)) => Some(pending.state.generation),
                Some(UnderWay::Bindings) | None => None,
            },
            flows: self.counters().flows.read(),
        }
    }

    /// What all workers have counted together.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.workers.counters()
    }

    /// Every port's counters.
    #[must_use]
    pub fn port_counters(&self) -> Vec<PortCounters> {
        let counters = self.counters();
        self.ports
            .iter()
            .zip(0u16..)
            .map(|(name, index)| port_counters(name.clone(), counters.port(PortIndex(index))))
            .collect()
    }

    /// Frames by flow table outcome: hit, miss, judged again.
    #[must_use]
    pub fn flow_counters(&self) -> [u64; 3] {
        let c = self.counters();
        [&c.flow_hit, &c.flow_miss, &c.flow_stale].map(|it| it.read())
    }

    /// The next verdict.
    #[must_use]
    pub fn next_verdict(&mut self) -> Option<VerdictLine> {
        let record = self.workers.next_verdict()?;
        Some(Self::namer(&self.state, &self.ports, &self.peers).verdict(&record))
    }

    /// Asks the workers for their flows; [`Self::flows`] has them after some polls.
    pub fn request_flows(&mut self) {
        self.asking.ask_flows();
        self.asking.send(&mut self.workers);
    }

    /// The flows asked for, when all of them are there.
    #[must_use]
    pub fn flows(&self) -> Option<&[FlowRecord]> {
        self.asking.flows()
    }

    /// Asks the workers which addresses pods know by names; [`Self::names`] has them after
    /// some polls.
    pub fn request_names(&mut self) {
        self.asking.ask_names();
        self.asking.send(&mut self.workers);
    }

    /// The names asked for, when all of them are there.
    #[must_use]
    pub fn names(&self) -> Option<&[NameRecord]> {
        self.asking.names()
    }

    /// Asks the workers for their SAs; [`Self::sas`] has them after a poll. `false` if they have
    /// been asked already and not all have answered, which is what it has then.
    pub fn request_sas(&mut self) -> bool {
        let room = 2 * (self.inbound.len() + self.sending.count() + 1);
        let is_new = self.asking.ask_sas(room);
        self.asking.send(&mut self.workers);
        is_new
    }

    /// Asks the workers what has crossed the wire in clear; [`Self::clear`] has it after a
    /// poll.
    pub fn request_clear(&mut self) {
        self.asking.ask_clear();
        self.asking.send(&mut self.workers);
    }

    /// What has crossed the wire in clear, once that was asked for and is there.
    #[must_use]
    pub const fn clear(&self) -> Option<&ClearPage> {
        self.asking.clear()
    }

    /// Packets that have crossed the wire in clear: that left, or came and were delivered.
    #[must_use]
    pub fn clear_packets(&self) -> u64 {
        let counters = self.counters();
        let sent = counters.clear_sent.read();
        sent.wrapping_add(counters.clear_received.read())
    }

    /// The node that has a number in what the worker tells; `None`: it is gone since.
    #[must_use]
    pub fn node_of(&self, peer: PeerIndex) -> Option<&NodeName> {
        self.peers.node(peer)
    }

    /// How packets between this node and others cross the wire, by pair of identities, once
    /// flows and what was in clear are there: ask for both. `sas` are those of
    /// [`Self::sas`], with their ages if somebody knows them.
    #[must_use]
    pub fn pairs(&self, sas: &[SaRecord]) -> Option<(Vec<PairRecord>, PairsRest)> {
        let sources = Sources {
            state: &self.state,
            snapshot: &self.snapshot,
            sas,
        };
        let mut pairs = Pairs::default();
        for flow in self.flows()? {
            pairs.flow(flow, |ip| sources.identity(ip));
        }
        pairs.clear(self.clear()?, |peer| self.peers.node(peer).cloned());
        Some(pairs.told(TOLD_MAX, |key| sources.standing(key)))
    }

    /// The SAs asked for.
    #[must_use]
    pub fn sas(&self) -> Option<&[SaRecord]> {
        self.asking.sas()
    }
}
