//! The task that owns every peer: commands, sessions and time in; events and status out.

mod actions;
mod trust;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::UnixTime;
use sluice_crypto::esp::Spi;
use sluice_crypto::lifecycle::{PeerConfig, SaEvent, SaLifecycle, SessionId, SpiBlock, TimeMs};
use sluice_crypto::scrub_stack;
use sluice_offload_api::model::NodeName;
use sluice_svid::{Anchors, Chain, IdError, SpiffeId, SvidError};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::api::{COMMANDS_MAX, Command, Config, EVENTS_MAX, Event, PEERS_MAX, PeerStatus, Status};
use crate::binding::Bindings;
use crate::codec::{Wire, encode};
use crate::identity::{Identity, Source, Stamp};
use crate::listen::{Accepted, Gate, listen};
use crate::session::{AbortOnDrop, FromSession, Session, SessionError, Up};
use crate::workload::{self, News};

/// Dials under way at once; the others wait their turn. Bounds how many peers rekey at once, and
/// leaves room beside peers that don't answer, each of which holds a turn for a while.
pub const DIALS_MAX: usize = 128;

/// Messages of sessions that wait for the driver.
const MESSAGES_MAX: usize = 256;

/// Events that wait for room in the daemon's queue before the driver stops listening to others.
const OUTBOX_MAX: usize = 1024;

/// Bytes that peers are told at once, or little more.
const ANNOUNCING_MAX: usize = 1 << 16;

/// A node channel that can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A name that can't stand in a SPIFFE ID.
    #[error(transparent)]
    Id(#[from] IdError),
    /// A limit or a wait makes no sense.
    #[error("the node channel's configuration: {0}")]
    Config(#[from] sluice_crypto::lifecycle::ConfigError),
    /// The files are not this node's identity.
    #[error(transparent)]
    Identity(#[from] crate::identity::IdentityError),
    /// The address can't be listened on.
    #[error("can't listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What happened.
        source: std::io::Error,
    },
    /// The system gives no random numbers.
    #[error("the system's random numbers are not to be had")]
    Random,
}

/// A running node channel. Dropped, or without its `commands`, it stops; so do its sessions.
#[derive(Debug)]
pub struct Handle {
    /// In: what the daemon says.
    pub commands: mpsc::Sender<Command>,
    /// Out: what is to be done. See [`EVENTS_MAX`] for the one rule about reading it.
    pub events: mpsc::Receiver<Event>,
    /// How it stands, always the newest.
    pub status: watch::Receiver<Status>,
    /// Where it listens.
    pub listen: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Handle {
    /// Stops it, and returns when its address is free again.
    pub async fn stop(self) {
        let Self {
            commands,
            events,
            task,
            ..
        } = self;
        drop((commands, events));
        // An error would be a panic of the task, which has been reported where it happened.
        drop(task.await);
    }
}

/// Reads what a node channel's configuration names, as [`spawn`] would, and starts nothing.
///
/// # Errors
/// [`StartError`].
pub fn check(config: &Config) -> Result<(), StartError> {
    let id = SpiffeId::of_node(&config.trust_domain, &config.node)?;
    if let Source::Files(files) = &config.identity {
        Identity::load(files, &id, &config.trust_domain)?;
    }
    Ok(peer_config(config, &id, "spiffe://x/y", 0, 0).check()?)
}

/// Starts a node channel on the current Tokio runtime. With files it has an identity at once, or
/// doesn't start. With a Workload API it starts and waits for one; until then no session begins,
/// so there are no SAs, and `identity_error` says where it waits.
///
/// # Errors
/// [`StartError`]; nothing listens then.
pub async fn spawn(config: Config) -> Result<Handle, StartError> {
    let id = SpiffeId::of_node(&config.trust_domain, &config.node)?;
    let (identity, stamp) = match &config.identity {
        Source::Files(files) => {
            let stamp = Stamp::of(files);
            let identity = Identity::load(files, &id, &config.trust_domain)?;
            (Ok(Arc::new(identity)), Some(stamp))
        }
        Source::WorkloadApi(api) => {
            let at = api.socket.display();
            let why = format!("no SVID of {id} has come yet from the Workload API at {at}");
            tracing::info!("no session begins before it comes: {why}");
            (Err(why), None)
        }
    };
    // Checked once here with any peer, so that later only a peer's own name can be at fault.
    peer_config(&config, &id, "spiffe://x/y", 0, 0).check()?;
    let addr = config.listen;
    let at = |source| StartError::Listen { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(at)?;
    let addr = listener.local_addr().map_err(at)?;

    let (commands, commands_in) = mpsc::channel(COMMANDS_MAX);
    let (events_out, events) = mpsc::channel(EVENTS_MAX);
    let (status_out, status) = watch::channel(Status {
        identity_loads: u64::from(identity.is_ok()),
        svid_not_after: identity.as_ref().ok().map(|it| it.not_after),
        identity_error: identity.as_ref().err().cloned(),
        ..Status::default()
    });
    let trusted = identity.as_ref().ok().map(|it| it.anchors.clone());
    let (gate, gate_in) = watch::channel(Gate {
        identity,
        dialling: Arc::default(),
        known: Arc::default(),
    });
    let (accepted_out, accepted) = mpsc::channel(MESSAGES_MAX);
    let (to, messages) = mpsc::channel(MESSAGES_MAX);
    let (dialled_out, dialled) = mpsc::channel(DIALS_MAX);
    let (news_out, news) = mpsc::channel(1);
    let following = match &config.identity {
        Source::Files(_) => None,
        Source::WorkloadApi(api) => {
            let domain = config.trust_domain.clone();
            let follow = workload::follow(api.clone(), id.clone(), domain, news_out);
            Some(AbortOnDrop(tokio::spawn(follow).abort_handle()))
        }
    };
    let random = SystemRandom::new();
    let mut driver = Driver {
        next_block: u32::from_be_bytes(draw(&random)?),
        random,
        id,
        now: Instant::now(),
        announcing: Vec::new(),
        looked_at: UnixTime::now(),
        start: Instant::now(),
        next_session: 1,
        peers: BTreeMap::new(),
        nodes: BTreeMap::new(),
        sessions: BTreeMap::new(),
        deadlines: BTreeSet::new(),
        logged: BTreeMap::new(),
        bindings: Bindings::default(),
        instance: 0,
        outbox: VecDeque::new(),
        status: status_out,
        gate,
        stamp,
        trusted,
        to,
        dialled_out,
        dials: Arc::new(Semaphore::new(DIALS_MAX)),
        config,
    };
    driver.instance = driver.draw_u64();
    let frame_ms = driver.config.handshake_ms_max;
    let listening = tokio::spawn(listen(listener, gate_in, frame_ms, accepted_out));
    let inputs = Inputs {
        commands: commands_in,
        accepted,
        messages,
        dialled,
        news,
    };
    let task = tokio::spawn(async move {
        driver.run(inputs, events_out).await;
        drop(following);
        listening.abort();
        drop(listening.await);
    });
    Ok(Handle {
        commands,
        events,
        status,
        listen: addr,
        task,
    })
}

fn draw<const N: usize>(random: &SystemRandom) -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    random.fill(&mut bytes).map_err(|_| StartError::Random)?;
    Ok(bytes)
}

fn peer_config(
    config: &Config,
    local: &SpiffeId,
    peer: &str,
    instance: u64,
    jitter_seed: u64,
) -> PeerConfig {
    PeerConfig {
        local: local.as_str().to_owned(),
        peer: peer.to_owned(),
        instance,
        jitter_seed,
        lanes: config.lanes,
        algorithms: config.algorithms.clone(),
        esn: true,
        limits: config.limits,
        timing: config.timing,
    }
}

struct Inputs {
    commands: mpsc::Receiver<Command>,
    accepted: mpsc::Receiver<Accepted>,
    messages: mpsc::Receiver<FromSession>,
    dialled: mpsc::Receiver<Dialled>,
    /// From a Workload API.
    news: mpsc::Receiver<News>,
}

/// How a dial turned out; `number` tells it from one for a life cycle that is gone.
struct Dialled {
    node: NodeName,
    number: u64,
    result: Result<Up, SessionError>,
}

struct Driver {
    config: Config,
    id: SpiffeId,
    random: SystemRandom,
    start: Instant,
    /// Read once an event.
    now: Instant,
    /// What all peers are told next, in whole frames.
    announcing: Vec<u8>,
    /// When peers' certificates were last looked at.
    looked_at: UnixTime,
    next_session: u64,
    next_block: u32,
    peers: BTreeMap<NodeName, Peer>,
    nodes: BTreeMap<SpiffeId, NodeName>,
    sessions: BTreeMap<SessionId, Live>,
    /// Every peer's next deadline: with thousands of peers too many to look at each time.
    deadlines: BTreeSet<(TimeMs, NodeName)>,
    /// Ours.
    bindings: Bindings,
    /// Of our bindings' numbers.
    instance: u64,
    outbox: VecDeque<Event>,
    status: watch::Sender<Status>,
    gate: watch::Sender<Gate>,
    /// Of the files, if it is they.
    stamp: Option<Stamp>,
    /// The last anchors that were good: what ends peers' SAs holds also while there is no identity.
    trusted: Option<Anchors>,
    /// When a reason was last logged: a flood must not become a flood of lines.
    logged: BTreeMap<&'static str, Instant>,
    to: mpsc::Sender<FromSession>,
    dialled_out: mpsc::Sender<Dialled>,
    dials: Arc<Semaphore>,
}

struct Peer {
    id: SpiffeId,
    management: SocketAddr,
    machine: SaLifecycle,
    /// As it stands in [`Driver::deadlines`].
    deadline: Option<TimeMs>,
    current: Option<SessionId>,
    /// SAs that the daemon has, so that all can be taken back.
    inbound: BTreeSet<Spi>,
    outbound: BTreeSet<Spi>,
    /// What the peer announced, and in which of its lives.
    bindings: Bindings,
    bindings_instance: u64,
    /// Of each session that is under way, or of which there are SAs.
    shown: BTreeMap<SessionId, Shown>,
    dial: Option<(u64, AbortOnDrop)>,
}

struct Live {
    node: NodeName,
    session: Session,
}

/// What a peer showed for a session.
struct Shown {
    chain: Chain,
    /// Since when it no longer verifies.
    doubted_since: Option<TimeMs>,
    /// Its time is over, and that was seen to.
    lapsed: bool,
}

impl Driver {
    async fn run(&mut self, mut inputs: Inputs, events: mpsc::Sender<Event>) {
        let mut reload = tokio::time::interval(Duration::from_millis(self.config.reload_ms.max(1)));
        reload.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // One that nobody owns any more would keep this loop spinning for ever.
            debug_assert!(self.deadlines.len() <= self.peers.len());
            let deadline = self.deadlines.first();
            let deadline = deadline.map(|(at, _)| self.instant(*at));
            let room = self.outbox.len() < OUTBOX_MAX;
            tokio::select! {
                permit = events.reserve(), if !self.outbox.is_empty() => {
                    let Ok(permit) = permit else { return };
                    if let Some(event) = self.outbox.pop_front() {
                        permit.send(event);
                    }
                }
                command = inputs.commands.recv(), if room => {
                    let Some(command) = command else { return };
                    self.now = Instant::now();
                    self.on_command(command);
                    // As many as have come together, so that peers are told of them at once.
                    while self.outbox.len() < OUTBOX_MAX
                        && self.announcing.len() < ANNOUNCING_MAX
                        && let Ok(command) = inputs.commands.try_recv()
                    {
                        self.on_command(command);
                    }
                    self.announce();
                }
                Some(message) = inputs.messages.recv(), if room => {
                    self.now = Instant::now();
                    self.on_session(message);
                }
                Some((from, result)) = inputs.accepted.recv(), if room => {
                    self.now = Instant::now();
                    self.on_accepted(from, result);
                }
                Some(dialled) = inputs.dialled.recv(), if room => {
                    self.now = Instant::now();
                    self.on_dialled(dialled);
                }
                Some(news) = inputs.news.recv(), if room => {
                    self.now = Instant::now();
                    self.on_news(news);
                }
                () = sleep_until(deadline), if room => {
                    self.now = Instant::now();
                    self.on_deadline();
                }
                _ = reload.tick() => {
                    self.now = Instant::now();
                    self.on_reload();
                }
            }
        }
    }

    fn now_ms(&self) -> TimeMs {
        self.ms(self.now)
    }

    /// The millisecond that has begun.
    fn ms(&self, at: Instant) -> TimeMs {
        let ms = at.duration_since(self.start).as_millis();
        TimeMs(u64::try_from(ms).unwrap_or(u64::MAX))
    }

    fn instant(&self, at: TimeMs) -> Instant {
        // A deadline falls due when its millisecond has begun.
        self.start + Duration::from_millis(at.0)
    }

    fn draw_u64(&self) -> u64 {
        // The source gave numbers at the start; should it ever fail, a number that is not
        // random still differs from the ones before.
        draw(&self.random).map_or(self.next_session, u64::from_be_bytes)
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::PeerAdded { node, management } => {
                if let Err(why) = self.add_peer(&node, management) {
                    self.outbox.push_back(Event::CommandRefused { node, why });
                }
            }
            Command::PeerRemoved { node } => self.remove_peer(&node),
            Command::InboundInstalled { node, spi } => {
                self.tell(&node, SaEvent::InboundInstalled(spi));
            }
            Command::OutboundInstalled { node, spi } => {
                self.tell(&node, SaEvent::OutboundInstalled(spi));
            }
            Command::Refused { node, spi } => {
                // The daemon does not say which way; an SPI is one of the two.
                self.tell(&node, SaEvent::InboundRefused(spi));
                self.tell(&node, SaEvent::OutboundRefused(spi));
            }
            Command::InboundUsed {
                node,
                spi,
                packets,
                asked,
            } => {
                let used = SaEvent::InboundUsed {
                    spi,
                    packets,
                    asked: self.ms(asked),
                };
                self.tell(&node, used);
            }
            Command::OutboundUsed {
                node,
                spi,
                packets,
                bytes,
            } => {
                let used = SaEvent::OutboundUsed {
                    spi,
                    packets,
                    bytes,
                };
                self.tell(&node, used);
            }
            Command::Rekey { node } => self.tell(&node, SaEvent::RekeyWanted),
            Command::AnnounceBinding(binding) => match self.bindings.announce(binding.clone()) {
                Ok(Some(_)) => self.announcing.extend(encode(&Wire::Binding(binding))),
                Ok(None) => {}
                Err(why) => {
                    let (node, why) = (self.config.node.clone(), why.to_string());
                    self.outbox.push_back(Event::CommandRefused { node, why });
                }
            },
            Command::WithdrawBinding { addr, number } => {
                if self.bindings.withdraw(addr, number).is_some() {
                    let withdrawn = Wire::Withdraw { addr, number };
                    self.announcing.extend(encode(&withdrawn));
                }
            }
        }
    }

    fn add_peer(&mut self, node: &NodeName, management: SocketAddr) -> Result<(), String> {
        if let Some(peer) = self.peers.get_mut(node) {
            let before = core::mem::replace(&mut peer.management, management).ip();
            if !peer.machine.is_initiator() && before != management.ip() {
                self.gate.send_modify(|gate| {
                    let known = Arc::make_mut(&mut gate.known);
                    known.remove(before);
                    known.add(management.ip());
                });
            }
            return Ok(());
        }
        if self.peers.len() >= PEERS_MAX {
            return Err(format!("a node has at most {PEERS_MAX} peers"));
        }
        let id = SpiffeId::of_node(&self.config.trust_domain, node).map_err(|e| e.to_string())?;
        let machine = self.machine(&id).map_err(|e| e.to_string())?;
        let peer = Peer {
            id: id.clone(),
            management,
            machine,
            deadline: None,
            current: None,
            inbound: BTreeSet::new(),
            outbound: BTreeSet::new(),
            bindings: Bindings::default(),
            bindings_instance: 0,
            shown: BTreeMap::new(),
            dial: None,
        };
        if !peer.machine.is_initiator() {
            self.gate.send_modify(|gate| {
                Arc::make_mut(&mut gate.dialling).insert(id.clone());
                Arc::make_mut(&mut gate.known).add(management.ip());
            });
        }
        self.peers.insert(node.clone(), peer);
        self.nodes.insert(id, node.clone());
        self.status.send_modify(|s| {
            s.peers.insert(node.clone(), PeerStatus::default());
        });
        self.perform(node);
        Ok(())
    }

    fn machine(
        &self,
        peer: &SpiffeId,
    ) -> Result<SaLifecycle, sluice_crypto::lifecycle::ConfigError> {
        let (instance, seed) = (self.draw_u64(), self.draw_u64());
        let config = peer_config(&self.config, &self.id, peer.as_str(), instance, seed);
        SaLifecycle::new(config, self.now_ms())
    }

    fn remove_peer(&mut self, node: &NodeName) {
        self.take_back(node);
        let Some(peer) = self.peers.remove(node) else {
            return;
        };
        self.nodes.remove(&peer.id);
        if let Some(at) = peer.deadline {
            self.deadlines.remove(&(at, node.clone()));
        }
        self.status.send_modify(|s| {
            s.peers.remove(node);
        });
        self.gate.send_modify(|gate| {
            if Arc::make_mut(&mut gate.dialling).remove(&peer.id) {
                Arc::make_mut(&mut gate.known).remove(peer.management.ip());
            }
        });
    }

    fn tell(&mut self, node: &NodeName, event: SaEvent) {
        let now = self.now_ms();
        if let Some(peer) = self.peers.get_mut(node) {
            hear(&mut peer.machine, event, now);
            self.perform(node);
        }
    }

    fn on_deadline(&mut self) {
        let now = self.now_ms();
        let due = self.deadlines.iter().take_while(|(at, _)| *at <= now);
        let due: Vec<_> = due.map(|(_, node)| node.clone()).collect();
        for node in due {
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.machine.on_deadline(now);
                self.perform(&node);
            }
        }
    }

    fn on_accepted(&mut self, from: SocketAddr, result: Result<Up, SessionError>) {
        match result {
            Ok(up) => {
                let Some(node) = self.nodes.get(&up.peer).cloned() else {
                    // It was a peer when its handshake began.
                    let why = SvidError::NotAPeer { got: up.peer };
                    self.count(&from.to_string(), None, &why.into());
                    return;
                };
                self.session_up(&node, up);
            }
            Err(why) => self.count(&from.to_string(), None, &why),
        }
    }

    fn on_dialled(&mut self, dialled: Dialled) {
        let Dialled {
            node,
            number,
            result,
        } = dialled;
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        if peer.dial.as_ref().is_none_or(|(n, _)| *n != number) {
            return;
        }
        peer.dial = None;
        match result {
            Ok(up) => self.session_up(&node, up),
            Err(why) => self.not_up(&node, &why),
        }
    }

    /// A session that there is not. Who was dialled by it waits for the next.
    fn not_up(&mut self, node: &NodeName, why: &SessionError) {
        let dials = self
            .peers
            .get(node)
            .is_some_and(|it| it.machine.is_initiator());
        self.status_of(node, |s| s.dial_failures += u64::from(dials));
        self.count(&node.0, Some(node), why);
        self.tell(node, SaEvent::DialFailed);
    }

    fn session_up(&mut self, node: &NodeName, up: Up) {
        // Its handshake may have begun under other anchors.
        if let Err(why) = self.vouched(&up.chain) {
            return self.not_up(node, &why);
        }
        let session = SessionId(self.next_session);
        self.next_session += 1;
        let receive = self.block();
        let frame_ms_max = self.config.frame_ms_max;
        let live = Live {
            node: node.clone(),
            session: Session::start(session, up.stream, frame_ms_max, &self.to),
        };
        self.sessions.insert(session, live);
        if let Some(peer) = self.peers.get_mut(node) {
            let shown = Shown {
                chain: up.chain,
                doubted_since: None,
                lapsed: false,
            };
            peer.shown.insert(session, shown);
        }
        if !up.post_quantum && self.may_log("classical") {
            tracing::warn!(%node, "has no X25519MLKEM768: its keys are of a classical exchange");
        }
        self.status_of(node, |s| s.post_quantum = up.post_quantum);
        let event = SaEvent::SessionUp {
            session,
            secret: up.secret,
            receive,
        };
        self.tell(node, event);
    }

    /// SPIs that this process has given to no other session. The first is drawn, so that a
    /// restarted node does not receive at the SPIs of its former life.
    fn block(&mut self) -> SpiBlock {
        SpiBlock::take(&mut self.next_block)
    }
}

/// At a time, or never.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => core::future::pending().await,
    }
}

/// Tells a machine, and leaves nothing of the keys that it may derive on the stack.
fn hear(machine: &mut SaLifecycle, event: SaEvent, now: TimeMs) {
    /// A frame of its own, below which the stack is wiped.
    #[inline(never)]
    fn tell(machine: &mut SaLifecycle, event: SaEvent, now: TimeMs) {
        machine.on_event(event, now);
    }
    tell(machine, event, now);
    scrub_stack();
}
