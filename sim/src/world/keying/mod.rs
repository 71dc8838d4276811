//! Who has which SA. Each dataplane has the machines of production, one a peer
//! ([`SaLifecycle`]); what is played here is what is around them: sessions, whose secrets come
//! from the seed, time, and the way to the control side.

mod absent;
mod channel;
mod trust;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sluice_crypto::esp::Spi;
use sluice_crypto::key::{Algorithm, EspKey};
use sluice_crypto::lifecycle::{
    ExporterSecret, Install, LANES_MAX, Limits, PeerConfig, SaAction, SaEvent, SaLifecycle,
    SessionId, SpiBlock, Summary, TimeMs, Timing,
};
use sluice_crypto::replay::ReplayWindow;
use sluice_dataplane_control::{Child, Event, SaConfig, SaError};
use sluice_dataplane_core::sad::Mode;
use sluice_dataplane_core::tick::Tick;
use sluice_offload_api::model::{NodeName, SaDirection, SaRecord};
use sluice_svid::{Chain, Role, SvidError};

use self::absent::Absent;
pub(crate) use self::channel::Passing;
use self::channel::{Channel, Delivery, Ground, News, Standing};
use super::WorldConfig;
use super::certificates::{CertificateError, Certificates, Shown};
use super::node::SimNode;
use super::wire_faults::WireFaults;
use crate::dice::Dice;
use crate::keys::SeedKeys;
use crate::report::ExposedSa;

/// What nodes are called in keys: the order of these, and so who dials, is that of their names and
/// of their certificates' IDs.
const TRUST_DOMAIN: &str = "spiffe://sluice/node";

/// The keying of all nodes.
#[derive(Debug)]
pub(crate) struct Keying {
    keys: SeedKeys,
    terms: Terms,
    pub(super) certificates: Certificates,
    /// When nodes look again at what peers have shown.
    look_at: Tick,
    channel: Channel,
    /// Those that run, by name.
    lives: BTreeMap<NodeName, Life>,
    /// How many lives each has had.
    begun: BTreeMap<NodeName, u64>,
    absent: Absent,
    /// How many times a sending SA, or those of an epoch, took the place of one before.
    pub(crate) replaced: u64,
    pub(crate) exposed: Vec<ExposedSa>,
}

/// What all SAs have in common.
#[derive(Debug)]
struct Terms {
    algorithm: Algorithm,
    esn: bool,
    udp_encap: bool,
    /// The number of each SA's first packet.
    first: u64,
    limits: Limits,
    /// Child SAs that nodes want, where more than one.
    lanes: BTreeMap<NodeName, u8>,
    lanes_by_default: u8,
}

impl Terms {
    fn lanes(&self, node: &NodeName) -> u8 {
        let by_default = self.lanes_by_default;
        self.lanes.get(node).copied().unwrap_or(by_default)
    }
}

/// The key driver of a dataplane, from its start to its end.
#[derive(Debug)]
struct Life {
    next_block: u32,
    peers: BTreeMap<NodeName, Peer>,
    /// What is to be done at its control side, in this order.
    todo: VecDeque<(NodeName, SaAction)>,
}

#[derive(Debug)]
struct Peer {
    machine: SaLifecycle,
    deadline: Option<TimeMs>,
    /// Whether it receives by more than one pair: one that it had before waits for silence.
    drains: bool,
    inbound: BTreeSet<Spi>,
    outbound: BTreeSet<Spi>,
}

/// What is around the nodes when something is done.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) now: Tick,
    /// Of the wires that their sessions take.
    pub(crate) faults: &'a WireFaults,
}

/// The nodes as a session sees them.
struct Field<'a> {
    nodes: &'a [SimNode],
    lives: &'a BTreeMap<NodeName, Life>,
    certificates: &'a Certificates,
    around: Around<'a>,
}

impl<'a> Field<'a> {
    const fn of(
        nodes: &'a [SimNode],
        lives: &'a BTreeMap<NodeName, Life>,
        certificates: &'a Certificates,
        around: Around<'a>,
    ) -> Self {
        Self {
            nodes,
            lives,
            certificates,
            around,
        }
    }

    fn node(&self, name: &NodeName) -> Option<&SimNode> {
        self.nodes.iter().find(|it| it.is_named(&name.0))
    }
}

impl Ground for Field<'_> {
    fn standing(&self, node: &NodeName, peer: &NodeName) -> Standing {
        match self.node(node) {
            Some(it) if it.dead => Standing::Dead,
            Some(it) if it.stalled => Standing::Stalls,
            Some(_) => {
                let life = self.lives.get(node);
                Standing::Works(life.is_some_and(|it| it.peers.contains_key(peer)))
            }
            None => Standing::Dead,
        }
    }

    fn passing(&self, a: &NodeName, b: &NodeName) -> Passing {
        match (self.node(a), self.node(b)) {
            (Some(a), Some(b)) => self.around.faults.passing(a.index, b.index),
            _ => Passing::default(),
        }
    }

    fn shows(&self, node: &NodeName) -> Option<Shown> {
        let node = self.node(node)?;
        self.certificates.shown_by(node, self.around.now)
    }

    fn accepts(
        &self,
        node: &NodeName,
        peer: &NodeName,
        shown: &Shown,
        role: Role,
    ) -> Result<Chain, SvidError> {
        let peers = self.lives.get(node).map(|it| it.peers.keys());
        let dialling = peers.into_iter().flatten().filter(|it| *it < node).cloned();
        let what = "nobody is there";
        let node = self.node(node).ok_or(SvidError::Encoding { what })?;
        let at = (node, self.around.now);
        self.certificates.check(at, peer, shown, role, dialling)
    }
}

impl Keying {
    pub(crate) fn new(seed: u64, config: &WorldConfig) -> Result<Self, CertificateError> {
        let default = Limits::default();
        let hard_packets = config.sa_packets_max.min(default.hard_packets).max(2);
        Ok(Self {
            keys: SeedKeys::new(seed),
            certificates: Certificates::new(seed)?,
            look_at: Tick(0),
            terms: Terms {
                algorithm: config.algorithm,
                esn: config.esn,
                udp_encap: config.udp_encap,
                first: config.sa_first,
                limits: Limits {
                    hard_packets,
                    soft_packets: default.soft_packets.min(hard_packets - 1),
                    ..default
                },
                lanes: config.known_lanes(),
                lanes_by_default: config.lanes_by_default(),
            },
            channel: Channel::new(Dice::new(seed, "channel")),
            lives: BTreeMap::new(),
            begun: BTreeMap::new(),
            absent: Absent::new(config.peers_only.clone()),
            replaced: 0,
            exposed: Vec::new(),
        })
    }

    /// Tells the life cycles what happened at a node.
    pub(crate) fn on_event(
        &mut self,
        nodes: &[SimNode],
        at: usize,
        event: &Event,
        around: Around<'_>,
    ) {
        let Some(node) = nodes.get(at) else {
            return;
        };
        let me = &node.name;
        match event {
            Event::PeerAdded(peer) if self.absent.is(peer) => self.renew_absent(me, peer),
            Event::PeerAdded(peer) => self.add_peer(nodes, node, peer, around),
            Event::PeerRemoved(peer) => self.remove_peer(nodes, me, peer, around),
            Event::InboundInstalled(peer, spi) => {
                let event = SaEvent::InboundInstalled(*spi);
                self.tell(nodes, me, peer, event, around);
            }
            Event::OutboundInstalled(peer, spi) => {
                let event = SaEvent::OutboundInstalled(*spi);
                self.tell(nodes, me, peer, event, around);
            }
            Event::SaRefused(peer, spi) => self.refused(nodes, me, peer, *spi, around),
            Event::Applied(_) => {}
        }
    }

    /// Does all that is due, once: deadlines, what arrives, what is to be installed. Whether there
    /// was anything.
    pub(crate) fn act(&mut self, nodes: &mut [SimNode], around: Around<'_>) -> bool {
        let mut acted = false;
        // As often as what peers have shown is looked at.
        let tends = around.now >= self.look_at;
        for number in 0..nodes.len() {
            let Some(node) = nodes.get(number).filter(|it| it.works()) else {
                continue;
            };
            if tends {
                self.certificates.tend(node, around.now);
            }
            let (name, ms) = (node.name.clone(), ms(node, around.now));
            let due = self.lives.get(&name).into_iter().flat_map(|it| &it.peers);
            let due = due.filter(|it| it.1.deadline.is_some_and(|at| at <= ms));
            let due: Vec<_> = due.map(|it| it.0.clone()).collect();
            for peer in due {
                acted = true;
                if let Some(it) = self.peer(&name, &peer) {
                    it.machine.on_deadline(ms);
                }
                self.perform(nodes, &name, &peer, around);
            }
        }
        let field = Field::of(nodes, &self.lives, &self.certificates, around);
        for it in self.channel.arrivals(around.now, &field) {
            acted = true;
            self.deliver(nodes, it, around);
        }
        acted |= self.look_again(nodes, around);
        for number in 0..nodes.len() {
            acted |= self.carry_out(nodes, number, around);
        }
        acted
    }

    /// When something is due next that is on its way, after now.
    pub(crate) fn due(&self, now: Tick) -> Option<Tick> {
        self.channel.due(now)
    }

    /// Fresh keys between all nodes are wanted.
    pub(crate) fn renew_all(&mut self, nodes: &[SimNode], around: Around<'_>) {
        let works = |it: &&SimNode| it.works();
        for node in nodes.iter().filter(works) {
            let peers = self.lives.get(&node.name).map(|it| it.peers.keys());
            let peers: Vec<_> = peers.into_iter().flatten().cloned().collect();
            for peer in &peers {
                // Of the two it is the one that dials; the other would but ask it to.
                if node.name < *peer {
                    self.tell(nodes, &node.name, peer, SaEvent::RekeyWanted, around);
                }
            }
            for peer in self.absent.peers_of(&node.name) {
                self.renew_absent(&node.name, &peer);
            }
        }
    }

    /// What SAs have carried, as a node's control side tells it, that has asked just now.
    pub(crate) fn used(
        &mut self,
        nodes: &[SimNode],
        me: &NodeName,
        sas: &[SaRecord],
        around: Around<'_>,
    ) {
        let Some(node) = nodes.iter().find(|it| it.name == *me) else {
            return;
        };
        let asked = ms(node, around.now);
        for sa in sas {
            let (Some(peer), spi) = (&sa.peer, Spi(sa.spi)) else {
                continue;
            };
            let event = match sa.direction {
                SaDirection::Inbound => SaEvent::InboundUsed {
                    spi,
                    packets: sa.packets,
                    asked,
                },
                SaDirection::Outbound => SaEvent::OutboundUsed {
                    spi,
                    packets: sa.packets,
                    bytes: sa.bytes,
                },
            };
            self.tell(nodes, me, peer, event, around);
        }
    }

    /// A node's dataplane is dead, with all that its key driver knew.
    pub(crate) fn on_kill(&mut self, nodes: &[SimNode], node: &NodeName, around: Around<'_>) {
        if self.lives.remove(node).is_some() {
            self.absent.forget_all(node);
            self.certificates.on_kill(node);
            let field = Field::of(nodes, &self.lives, &self.certificates, around);
            self.channel.kill(node, around.now, &field);
        }
    }

    /// Whether all that can have keys with each other has: one pair of SAs, or so many while those
    /// before are not silent yet, and nothing under way.
    pub(crate) fn is_at_rest(
        &self,
        nodes: &[SimNode],
        pairs_max: usize,
        around: Around<'_>,
    ) -> bool {
        let field = Field::of(nodes, &self.lives, &self.certificates, around);
        let works = |name: &NodeName| field.node(name).is_some_and(SimNode::works);
        self.lives
            .iter()
            .filter(|it| works(it.0))
            .all(|(me, life)| {
                let peers = life.peers.iter();
                let mut reached = peers.filter_map(|(peer, it)| {
                    let back = self.lives.get(peer)?.peers.get(me)?;
                    let parted = field.passing(me, peer).parted;
                    (me < peer && works(peer) && !parted).then_some((peer, it, back))
                });
                life.todo.is_empty()
                    && reached.all(|(peer, it, back)| {
                        let ends = [it.machine.summary(), back.machine.summary()];
                        let [a, b] = &ends;
                        let settled = ends.iter().all(|it| {
                            let few = it.receiving.len() <= pairs_max;
                            it.session.is_some() && !it.unfinished && it.sending.is_some() && few
                        });
                        let same = a.session == b.session && a.sending == b.sending;
                        // One may still hear what the other knows.
                        settled && same
                            || self.is_refused(nodes, me, peer) && self.channel.is_quiet(me, peer)
                    })
            })
    }

    /// Whether any life cycle waits for silence, and has to be called in time.
    pub(crate) fn drains(&self) -> bool {
        let mut peers = self.lives.values().flat_map(|it| it.peers.values());
        peers.any(|it| it.drains)
    }

    /// The epoch by which each node sends to each other one that it knows.
    pub(crate) fn epochs(&self) -> BTreeMap<(NodeName, NodeName), Option<u64>> {
        let lives = self.lives.iter();
        let ways = lives.flat_map(|(me, it)| it.peers.iter().map(move |it| (me, it)));
        ways.map(|(me, (peer, it))| ((me.clone(), peer.clone()), it.machine.summary().sending))
            .collect()
    }

    /// Whether two nodes have a session with each other and the keys from it.
    pub(crate) fn has_keys(&self, a: &NodeName, b: &NodeName) -> bool {
        let summary = |me, peer| Some(self.lives.get(me)?.peers.get(peer)?.machine.summary());
        let (Some(a), Some(b)) = (summary(a, b), summary(b, a)) else {
            return false;
        };
        let has = |it: &Summary| it.session.is_some() && it.sending.is_some();
        has(&a) && has(&b) && a.session == b.session
    }

    /// Whether two nodes can have no SAs: no family of addresses in common.
    fn is_refused(&self, nodes: &[SimNode], me: &NodeName, peer: &NodeName) -> bool {
        let node = nodes.iter().find(|it| it.is_named(&me.0));
        node.is_some_and(|it| it.control.outer_addresses(peer).is_none())
    }

    fn peer(&mut self, me: &NodeName, peer: &NodeName) -> Option<&mut Peer> {
        self.lives.get_mut(me)?.peers.get_mut(peer)
    }

    /// The life of a node that works; it begins when there is none.
    fn life(&mut self, me: &NodeName) -> &mut Life {
        let Self { keys, begun, .. } = self;
        self.lives.entry(me.clone()).or_insert_with(|| {
            let lives = begun.entry(me.clone()).or_default();
            *lives += 1;
            // Drawn, so that it does not receive at the SPIs of its former life.
            let block = keys.number(&[b"block", me.0.as_bytes(), &lives.to_be_bytes()]);
            Life {
                next_block: u32::try_from(block & u64::from(u32::MAX)).unwrap_or(0),
                peers: BTreeMap::new(),
                todo: VecDeque::new(),
            }
        })
    }

    fn add_peer(&mut self, nodes: &[SimNode], node: &SimNode, peer: &NodeName, around: Around<'_>) {
        let me = &node.name;
        self.certificates.tend(node, around.now);
        if self.life(me).peers.contains_key(peer) {
            // It has another address: the sending SA has the one before.
            self.tell(nodes, me, peer, SaEvent::RekeyWanted, around);
            return;
        }
        let lives = self.begun.get(me).copied().unwrap_or(0).to_be_bytes();
        let now = around.now.0.to_be_bytes();
        let purpose = |what| [what, me.0.as_bytes(), peer.0.as_bytes(), &lives, &now];
        let config = PeerConfig {
            local: format!("{TRUST_DOMAIN}/{}", me.0),
            peer: format!("{TRUST_DOMAIN}/{}", peer.0),
            instance: self.keys.number(&purpose(b"instance")),
            jitter_seed: self.keys.number(&purpose(b"jitter")),
            lanes: self.terms.lanes(me).clamp(1, LANES_MAX),
            algorithms: vec![self.terms.algorithm],
            esn: self.terms.esn,
            limits: self.terms.limits,
            timing: Timing::default(),
        };
        let Ok(machine) = SaLifecycle::new(config, ms(node, around.now)) else {
            debug_assert!(false, "the limits are in order and names differ");
            return;
        };
        let it = Peer {
            machine,
            deadline: None,
            drains: false,
            inbound: BTreeSet::new(),
            outbound: BTreeSet::new(),
        };
        self.life(me).peers.insert(peer.clone(), it);
        self.perform(nodes, me, peer, around);
    }

    fn remove_peer(
        &mut self,
        nodes: &[SimNode],
        me: &NodeName,
        peer: &NodeName,
        around: Around<'_>,
    ) {
        self.absent.forget(me, peer);
        let Some(life) = self.lives.get_mut(me) else {
            return;
        };
        life.todo.retain(|it| it.0 != *peer);
        let Some(gone) = life.peers.remove(peer) else {
            return;
        };
        let inbound = gone.inbound.into_iter().map(SaAction::RetireInbound);
        let outbound = gone.outbound.into_iter().map(SaAction::RetireOutbound);
        let todo = inbound.chain(outbound).map(|it| (peer.clone(), it));
        life.todo.extend(todo);
        let field = Field::of(nodes, &self.lives, &self.certificates, around);
        self.channel.part(me, peer, around.now, &field);
    }

    fn tell(
        &mut self,
        nodes: &[SimNode],
        me: &NodeName,
        peer: &NodeName,
        event: SaEvent,
        around: Around<'_>,
    ) {
        let Some(node) = nodes.iter().find(|it| it.is_named(&me.0)) else {
            return;
        };
        let now = ms(node, around.now);
        if let Some(it) = self.peer(me, peer) {
            it.machine.on_event(event, now);
            self.perform(nodes, me, peer, around);
        }
    }

    fn refused(
        &mut self,
        nodes: &[SimNode],
        me: &NodeName,
        peer: &NodeName,
        spi: Spi,
        around: Around<'_>,
    ) {
        // Nobody says which way; an SPI is one of the two.
        self.tell(nodes, me, peer, SaEvent::InboundRefused(spi), around);
        self.tell(nodes, me, peer, SaEvent::OutboundRefused(spi), around);
    }

    fn deliver(&mut self, nodes: &[SimNode], it: Delivery, around: Around<'_>) {
        let session = SessionId(it.session);
        let event = match it.news {
            News::Up => {
                let mut secret = self.keys.secret(it.session);
                SaEvent::SessionUp {
                    session,
                    secret: ExporterSecret::take_from(&mut secret),
                    receive: self.block(&it.node),
                }
            }
            News::Down => SaEvent::SessionDown { session },
            News::Failed => SaEvent::DialFailed,
            News::Said(message) => SaEvent::Received { session, message },
        };
        self.tell(nodes, &it.node, &it.peer, event, around);
    }

    /// SPIs that a life has given to no other session.
    fn block(&mut self, me: &NodeName) -> SpiBlock {
        SpiBlock::take(&mut self.life(me).next_block)
    }

    /// Does what a life cycle wants done by now; what is the control side's waits its turn.
    fn perform(&mut self, nodes: &[SimNode], me: &NodeName, peer: &NodeName, around: Around<'_>) {
        while let Some(action) = self.peer(me, peer).and_then(|it| it.machine.next_action()) {
            let field = Field::of(nodes, &self.lives, &self.certificates, around);
            let now = around.now;
            match action {
                SaAction::Dial => self.channel.dial(me, peer, now, &field),
                SaAction::Send(session, message) => {
                    self.channel.say(session.0, me, message, now, &field);
                }
                SaAction::Close(session, _) => self.channel.close(session.0, me, now, &field),
                SaAction::Established(..) => {}
                SaAction::InstallInbound(_)
                | SaAction::InstallOutbound(_)
                | SaAction::RetireInbound(_)
                | SaAction::RetireOutbound(_) => {
                    if let Some(life) = self.lives.get_mut(me) {
                        life.todo.push_back((peer.clone(), action));
                    }
                }
            }
        }
        if let Some(it) = self.peer(me, peer) {
            it.deadline = it.machine.next_deadline();
            it.drains = it.machine.summary().receiving.len() > 1;
        }
    }

    /// Does at a node's control side what waits, until that has too much to do. Whether it did
    /// anything.
    fn carry_out(&mut self, nodes: &mut [SimNode], number: usize, around: Around<'_>) -> bool {
        let mut acted = false;
        loop {
            let Some(node) = nodes.get_mut(number).filter(|it| it.works()) else {
                return acted;
            };
            let me = node.name.clone();
            let Some(life) = self.lives.get_mut(&me) else {
                return acted;
            };
            let Some((peer, action)) = life.todo.pop_front() else {
                return acted;
            };
            acted = true;
            match self.carry_out_one(node, &peer, &action) {
                Ok(()) => {}
                Err(SaError::Busy) => {
                    // In order: it holds up those behind it.
                    self.life(&me).todo.push_front((peer, action));
                    return acted;
                }
                Err(_) => {
                    if let SaAction::InstallInbound(sa) | SaAction::InstallOutbound(sa) = &action {
                        self.refused(nodes, &me, &peer, sa.spi, around);
                    }
                }
            }
        }
    }

    fn carry_out_one(
        &mut self,
        node: &mut SimNode,
        peer: &NodeName,
        action: &SaAction,
    ) -> Result<(), SaError> {
        let me = node.name.clone();
        match action {
            SaAction::InstallInbound(sa) => {
                let config = self.config(sa);
                node.control.install_inbound(peer, config)?;
                if let Some(it) = self.peer(&me, peer) {
                    it.inbound.insert(sa.spi);
                }
            }
            SaAction::InstallOutbound(sa) => {
                let last = self.terms.first.saturating_add(sa.packets_max - 1);
                let numbers = self.terms.first..=last;
                let config = self.config(sa);
                node.control
                    .install_outbound_numbered(peer, config, numbers)?;
                self.expose(node, peer, sa);
                let mut replaces = false;
                if let Some(it) = self.peer(&me, peer) {
                    replaces = sa.child == 0 && !it.outbound.is_empty();
                    it.outbound.insert(sa.spi);
                }
                self.replaced += u64::from(replaces);
            }
            SaAction::RetireInbound(spi) => {
                node.control.retire_inbound(*spi)?;
                if let Some(it) = self.peer(&me, peer) {
                    it.inbound.remove(spi);
                }
            }
            SaAction::RetireOutbound(spi) => {
                node.control.retire_outbound(peer, *spi)?;
                if let Some(it) = self.peer(&me, peer) {
                    it.outbound.remove(spi);
                }
            }
            SaAction::Dial
            | SaAction::Send(..)
            | SaAction::Close(..)
            | SaAction::Established(..) => {}
        }
        Ok(())
    }

    fn config(&self, sa: &Install) -> SaConfig {
        let Install { key, spi, esn, .. } = copy(sa);
        SaConfig {
            spi,
            key,
            esn,
            window: ReplayWindow::DEFAULT,
            udp_encap: self.terms.udp_encap,
            mode: Mode::Tunnel,
            child: Child {
                number: sa.child,
                of: sa.children,
            },
        }
    }

    /// Writes an SA down for Wireshark.
    fn expose(&mut self, node: &SimNode, peer: &NodeName, sa: &Install) {
        let Some((src, dst)) = node.control.outer_addresses(peer) else {
            return;
        };
        self.exposed.push(ExposedSa {
            src,
            dst,
            spi: sa.spi.0,
            algorithm: sa.key.algorithm(),
            keymat: sa.key.expose_keymat().to_vec(),
            esn: sa.esn,
        });
    }

    /// Fresh SAs with a peer where nobody is, both ways and at once; those before go.
    fn renew_absent(&mut self, me: &NodeName, peer: &NodeName) {
        let children = self.terms.lanes(me).max(self.terms.lanes(peer));
        let (algorithm, esn) = (self.terms.algorithm, self.terms.esn);
        let packets_max = self.terms.limits.hard_packets;
        let terms = (algorithm, esn, packets_max);
        let todo = self.absent.renew(&self.keys, me, peer, children, terms);
        let todo = todo.into_iter().map(|it| (peer.clone(), it));
        self.life(me).todo.extend(todo);
    }
}

/// An SA once more. In production a key has one owner; here it is also shown to Wireshark, and
/// tried again where a control side is busy.
fn copy(sa: &Install) -> Install {
    let key = EspKey::from_keymat(sa.key.algorithm(), sa.key.expose_keymat());
    let Ok(key) = key else {
        unreachable!("it is the material of a key");
    };
    Install {
        epoch: sa.epoch,
        child: sa.child,
        children: sa.children,
        spi: sa.spi,
        key,
        esn: sa.esn,
        packets_max: sa.packets_max,
    }
}

/// A node's monotonic clock.
fn ms(node: &SimNode, now: Tick) -> TimeMs {
    TimeMs(node.clock.monotonic(now).0 / Tick::MS)
}
