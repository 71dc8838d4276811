//! The simulated cluster: nodes with agents and dataplanes, pods and hosts, one network,
//! one clock, one seed.

mod agent;
mod api;
mod attacking;
mod bindings;
mod breaking;
mod certificates;
mod clock;
mod cni;
mod crew;
mod datagram;
mod disk;
mod due;
mod excuses;
mod joining;
mod keying;
mod lasting;
mod marks;
mod net;
mod node;
mod plan;
mod probing;
mod programs;
mod rekeying;
mod resolving;
mod rogue;
mod sockets;
mod stale;
mod station;
mod unsettled;
mod watching;
mod whereabouts;
mod wire_check;
mod wire_faults;
mod working;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sluice_crypto::key::Algorithm;
use sluice_dataplane_core::mem::MemPool;
use sluice_dataplane_core::tick::Tick;
use sluice_host_agent::cluster::{Cluster, EncryptionSetup, Node, Pod};
use sluice_offload_api::model::{IpPrefix, NodeName, PodRef, PodUid};

pub use agent::AgentError;
pub use breaking::BreakError;
pub use certificates::CertificateError;
pub use clock::DRIFT_PPM_MAX;
pub use marks::MARKS;
pub(crate) use node::FIRST_VF;
pub use node::NodeError;
pub use plan::{DEFAULT_NODES, NODES_MAX, PODS_PER_NODE_MAX, PlanError};
pub use resolving::{DNS_PORT, Exchange};
pub use stale::Api;
pub(crate) use stale::ApiThen;
pub use wire_check::MARKER;
pub use working::WorkError;

use self::bindings::Announcements;

use self::api::Server;
use self::keying::Keying;
use self::lasting::Lasting;
use self::marks::Marks;
use self::net::{Arrival, At, Net};
use self::node::SimNode;
use self::plan::MacOf;
use self::stale::{Stale, Why};
use self::station::{Spoken, Station};
use self::whereabouts::Whereabouts;
use crate::happening::Happening;
use crate::probe::Family;
use crate::report::{Binding, Captured, DropCount, ExposedSa, WireProof};
use crate::sighting::Sighting;

/// How often an idle dataplane is polled, at first and at least.
const IDLE_POLL_NS: u64 = 10 * Tick::MS;
const IDLE_POLL_NS_MAX: u64 = 10 * Tick::SECOND;
/// The same while a key waits for silence, which counts only where somebody listens.
const DRAIN_POLL_NS: u64 = 250 * Tick::MS;
/// By how much time that has passed an idle poll may be further off than the one before.
const IDLE_SHARE: u64 = 64;
/// Rounds of agents, dataplanes and keying until all must be in step, and one more for each
/// node: a dataplane takes a few keys at a time.
const ROUNDS_MAX: usize = 64;
/// Flows that a dataplane has room for, if nobody says.
const FLOWS_MAX: usize = 1 << 16;
/// VFs beyond those that the first manifests need.
const SPARE_VFS: u16 = 16;
/// Frames that arrive until everything that was sent must have come to rest, and how many more
/// for each two nodes and every node that hears what they ask: of a peer's MAC they ask all.
const ARRIVALS_MAX: usize = 200_000;
const ARRIVALS_MAX_PER_QUESTION: usize = 4;
/// How long neighbours have to answer after something changed.
const SETTLE_NS: u64 = 50 * Tick::MS;

/// What a world is made with.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    /// Keys and all other randomness come from it.
    pub seed: u64,
    /// The algorithm of all SAs.
    pub algorithm: Algorithm,
    /// 64-bit sequence numbers.
    pub esn: bool,
    /// The family of the outer headers.
    pub underlay: Family,
    /// ESP in UDP 4500.
    pub udp_encap: bool,
    /// Pods whose VF a device plugin chose: its index on the pod's node. The others get
    /// the first that are free.
    pub vfs: BTreeMap<PodRef, u16>,
    /// Flows that each dataplane has room for.
    pub flows_max: usize,
    /// The number of each SA's first packet.
    pub sa_first: u64,
    /// Packets that a sending SA seals, at most.
    pub sa_packets_max: u64,
    /// How much too fast nodes' clocks run, in parts per million; too slow below 0.
    pub drift_ppm: BTreeMap<NodeName, i32>,
    /// Workers of each dataplane,
    pub workers: u8,
    /// but for these nodes'.
    pub workers_at: BTreeMap<NodeName, u8>,
    /// Child SAs that nodes want with each other, a direction; where nothing is said the least
    /// power of two that has one for each worker. Of two nodes the greater number holds.
    pub lanes: BTreeMap<NodeName, u8>,
    /// What the operator says of encryption, to every node. Nodes without a dataplane have
    /// their pods and themselves where the outside is.
    pub encryption: EncryptionSetup,
    /// Prefixes whose addresses only pods have, by the operator's word.
    pub pod_cidrs: BTreeSet<IpPrefix>,
    /// Nodes that are objects of the API and peers for ESP and no more: the others have SAs
    /// with them and hear of their pods, and nobody is there.
    pub peers_only: BTreeSet<NodeName>,
    /// What was on the wire is kept, for captures, for those who send it again, and as proof of
    /// what was not in clear: without, there is none of these.
    pub keeps_wire: bool,
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            algorithm: Algorithm::Aes256Gcm16,
            esn: true,
            underlay: Family::Ipv4,
            udp_encap: false,
            vfs: BTreeMap::new(),
            flows_max: FLOWS_MAX,
            sa_first: 1,
            sa_packets_max: u64::MAX,
            drift_ppm: BTreeMap::new(),
            workers: 1,
            workers_at: BTreeMap::new(),
            lanes: BTreeMap::new(),
            encryption: EncryptionSetup::default(),
            pod_cidrs: BTreeSet::new(),
            peers_only: BTreeSet::new(),
            keeps_wire: true,
        }
    }
}

impl WorldConfig {
    /// Workers of a node's dataplane.
    pub(crate) fn workers_of(&self, node: &NodeName) -> u8 {
        self.workers_at.get(node).copied().unwrap_or(self.workers)
    }

    /// Child SAs that a node wants with each other, a direction.
    pub(crate) fn lanes_of(&self, node: &NodeName) -> u8 {
        let by_default = || self.workers_of(node).next_power_of_two();
        self.lanes.get(node).copied().unwrap_or_else(by_default)
    }

    /// The same of a node of which nothing is said.
    pub(crate) const fn lanes_by_default(&self) -> u8 {
        self.workers.next_power_of_two()
    }

    /// The same of all of which something is.
    pub(crate) fn known_lanes(&self) -> BTreeMap<NodeName, u8> {
        let named = self.lanes.keys().chain(self.workers_at.keys());
        named.map(|it| (it.clone(), self.lanes_of(it))).collect()
    }

    /// Whether a node has an agent and a dataplane here.
    fn is_whole(&self, name: &NodeName, node: &Node) -> bool {
        !self.encryption.is_unprotected(name, node) && !self.peers_only.contains(name)
    }
}

/// Why a world couldn't be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The cluster doesn't fit.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A node failed.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// There is no authority for certificates.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Agents, dataplanes and keys didn't come to rest.
    #[error("the cluster is not in step after {ROUNDS_MAX} rounds and more; this is a bug")]
    Restless,
}

/// A simulated cluster.
#[derive(Debug)]
pub struct World {
    cluster: Cluster,
    /// The API server, which has the same.
    server: Arc<Server>,
    config: WorldConfig,
    /// Those that are there, and those that were: what frames are under way to has a number.
    nodes: Vec<SimNode>,
    /// The nodes' numbers, by which they have addresses.
    numbers: BTreeMap<NodeName, u16>,
    pool: MemPool,
    spoken: Spoken,
    outside: Station,
    net: Net,
    keying: Keying,
    /// When life cycles are told next what their SAs have carried.
    usage_at: Tick,
    /// When they forget next what nobody knows.
    forget_at: Tick,
    announcements: Announcements,
    whereabouts: Arc<Whereabouts>,
    stale: Stale,
    /// What second agents know of the cluster, by node.
    rivals_saw: BTreeMap<NodeName, Cluster>,
    marks: Marks,
    /// Frames that wait for a dataplane that does nothing.
    held: Vec<Arrival>,
    /// What was seen and not asked for yet.
    sightings: Vec<Sighting>,
    /// Nobody will ever ask.
    unwatched: bool,
    /// What happened and was not asked for yet.
    happenings: Vec<Happening>,
    /// Pods that flooded another one, or were flooded: their share of the flow table may be
    /// taken.
    crowded: BTreeSet<PodUid>,
    /// How far clocks were set back, all in all, in nanoseconds.
    set_back_ns: u64,
    /// Frames went round without end.
    storm: bool,
    probes: u16,
    /// TCP connections that go on, by name, and how many there ever were.
    lasting: BTreeMap<String, Lasting>,
    connections: u16,
    /// How many probes were sent.
    asked: u64,
    /// Datagrams that were sent in pieces.
    fragments: u32,
}

impl World {
    /// Boots a cluster: places what the manifests leave open, starts agents and
    /// dataplanes, and lets them converge.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn boot(mut cluster: Cluster, config: WorldConfig) -> Result<Self, WorldError> {
        let mut numbers = BTreeMap::new();
        let (underlay, encryption) = (config.underlay, &config.encryption);
        plan::place(&mut cluster, underlay, encryption, &mut numbers)?;
        cluster.pod_cidrs.extend(&config.pod_cidrs);
        let pool = MemPool::default();
        let net = Net::new(config.seed, config.keeps_wire);
        let gateways = vec![plan::gateway(Family::Ipv4), plan::gateway(Family::Ipv6)];
        let spoken = Spoken::default();
        let mut outside = Station::new(plan::mac(MacOf::Outside), gateways, &pool, &spoken);
        outside.anyone = true;
        let keying = Keying::new(config.seed, &config)?;
        let mut world = Self {
            cluster: Cluster::default(),
            server: Arc::default(),
            config,
            nodes: Vec::new(),
            numbers,
            pool,
            spoken,
            outside,
            net,
            keying,
            usage_at: Tick(0),
            forget_at: Tick(0),
            announcements: Announcements::default(),
            whereabouts: Arc::default(),
            stale: Stale::default(),
            rivals_saw: BTreeMap::new(),
            marks: Marks::default(),
            held: Vec::new(),
            sightings: Vec::new(),
            unwatched: false,
            happenings: Vec::new(),
            crowded: BTreeSet::new(),
            set_back_ns: 0,
            storm: false,
            probes: 0,
            lasting: BTreeMap::new(),
            connections: 0,
            asked: 0,
            fragments: 0,
        };
        world.renew_nodes(&cluster)?;
        world.net.plug(At::Outside);
        world.converge(cluster)?;
        world.wait_for_keys(usize::MAX);
        Ok(world)
    }

    /// Gives the cluster's objects a new state: agents compile, dataplanes converge.
    ///
    /// # Errors
    /// [`WorldError`]; what was in force at a node that refused stays in force there.
    pub fn apply(&mut self, mut cluster: Cluster) -> Result<(), WorldError> {
        self.keep_places(&mut cluster);
        let (underlay, encryption) = (self.config.underlay, &self.config.encryption);
        plan::place(&mut cluster, underlay, encryption, &mut self.numbers)?;
        cluster.pod_cidrs.extend(&self.config.pod_cidrs);
        self.renew_nodes(&cluster)?;
        self.converge(cluster)?;
        self.wait_for_keys(usize::MAX);
        Ok(())
    }

    /// A pod that is known and whose manifest leaves it open stays where it is.
    fn keep_places(&self, cluster: &mut Cluster) {
        let is_open = |pod: &Pod| {
            pod.node.is_none()
                || pod.ips.is_empty()
                || pod.interfaces.iter().any(|it| it.ips.is_empty())
        };
        let open = cluster.pods.iter().filter(|it| is_open(it.1));
        let open: Vec<_> = open.map(|it| it.0.clone()).collect();
        for name in &open {
            let Some(pod) = cluster.pods.get_mut(name) else {
                continue;
            };
            if let Some(known) = self.cluster.pods.get(name).filter(|k| k.uid == pod.uid) {
                pod.node = pod.node.take().or_else(|| known.node.clone());
                if pod.ips.is_empty() {
                    pod.ips.clone_from(&known.ips);
                }
                for it in pod.interfaces.iter_mut().filter(|it| it.ips.is_empty()) {
                    let known = known.interface(&it.name);
                    let known = known.filter(|known| known.network == it.network);
                    it.ips = known.map(|it| it.ips.clone()).unwrap_or_default();
                }
            }
        }
        let is_open = |it: &Node| it.ips.is_empty() || it.tunnel_ips.is_empty();
        let open = cluster.nodes.iter().filter(|it| is_open(it.1));
        let open: Vec<_> = open.map(|it| it.0.clone()).collect();
        for name in &open {
            let Some(node) = cluster.nodes.get_mut(name) else {
                continue;
            };
            if let Some(known) = self.cluster.nodes.get(name) {
                if node.ips.is_empty() {
                    node.ips.clone_from(&known.ips);
                }
                if node.tunnel_ips.is_empty() {
                    node.tunnel_ips.clone_from(&known.tunnel_ips);
                }
            }
        }
    }

    fn converge(&mut self, cluster: Cluster) -> Result<(), WorldError> {
        self.show(cluster)?;
        self.run_for(SETTLE_NS);
        Ok(())
    }

    /// Agents look at the objects as they are from now on, and all comes in step that can at once.
    fn show(&mut self, cluster: Cluster) -> Result<(), WorldError> {
        Arc::make_mut(&mut self.server).set(&cluster);
        self.stale.look(&cluster, &self.server);
        for node in self.nodes.iter_mut().filter(|it| !it.left) {
            for why in self.stale.why(&node.name) {
                self.marks.add(why.name());
            }
            if self.stale.rests(&node.name) {
                continue;
            }
            let (reach, server) = self.stale.api(&node.name, &self.server);
            let Some(mut seen) = node.agent.listen(server, reach, &mut self.marks) else {
                continue;
            };
            // The operator's, as the agent's configuration has them.
            seen.pod_cidrs.clone_from(&cluster.pod_cidrs);
            let slow_disk = self.stale.is(&node.name, Why::SlowDisk);
            node.observe(&seen, &cluster, slow_disk)
                .map_err(NodeError::from)?;
        }
        let before = core::mem::replace(&mut self.cluster, cluster);
        self.stale.begin_anew();
        Arc::make_mut(&mut self.whereabouts).renew(&before, &self.cluster);
        if !self.config.peers_only.is_empty() {
            let peers = &self.config.peers_only;
            self.announcements
                .of_peers(&self.cluster, peers, &mut self.nodes);
        }
        // An address may have moved to another node, and nobody tells the gateway: until its
        // entry grows old it sends to where the address was.
        self.outside.forget_neighbors();
        self.bring_in_step()?;
        self.attach();
        Ok(())
    }

    /// Brings pods up and down, as far as CNI can.
    fn attach(&mut self) {
        for node in self.nodes.iter_mut().filter(|it| !it.left) {
            let waits = node.dead
                || node.agent.is_blind()
                || self.stale.rests(&node.name)
                || self.stale.is(&node.name, Why::SlowDisk);
            node.attach(&self.cluster, waits);
        }
    }

    /// Runs agents, dataplanes and keying until none has anything to do.
    fn bring_in_step(&mut self) -> Result<(), WorldError> {
        for _ in 0..ROUNDS_MAX + self.cluster.nodes.len() {
            let mut events = Vec::new();
            for (at, node) in self.nodes.iter_mut().enumerate() {
                node.poll(&mut self.net);
                let rests = self.stale.rests(&node.name);
                let happened = node.reconcile(self.net.now, rests)?;
                events.extend(happened.into_iter().map(|event| (at, event)));
            }
            if !self.heed(&events) {
                self.note_speakers();
                return Ok(());
            }
        }
        Err(WorldError::Restless)
    }

    /// Notes whose word is in force where.
    fn note_speakers(&mut self) {
        for node in &mut self.nodes {
            for _ in 0..core::mem::take(&mut node.rebased) {
                self.marks.add("stale-base");
            }
            let rests = self.stale.rests(&node.name) || node.agent.is_blind();
            if !node.dead && !rests && node.agent.settled().is_some() {
                self.stale.told(&node.name);
            }
            // Also where it was the last to speak to a dataplane that has started anew.
            let saw = self.rivals_saw.get(&node.name);
            let saw = saw.filter(|_| node.follows_rival).cloned();
            self.stale.follow(&node.name, saw);
        }
        self.note_revoked();
    }

    /// Lets virtual time pass, in nanoseconds.
    pub fn run_for(&mut self, ns: u64) {
        let begin = self.net.now;
        let end = begin + ns;
        let mut left = self.arrivals_max();
        while self.net.now < end {
            // Nobody looks on when a day passes in which nothing is sent.
            let passed = self.net.now.since(begin);
            let longest = if self.keying.drains() {
                DRAIN_POLL_NS
            } else {
                IDLE_POLL_NS_MAX
            };
            let step = (passed / IDLE_SHARE).clamp(IDLE_POLL_NS, longest);
            let due = self.keying.due(self.net.now).unwrap_or(end);
            let tick = (self.net.now + step).min(end).min(due);
            self.deliver_until(tick, &mut left);
            self.net.now = tick;
            for node in &mut self.nodes {
                node.poll(&mut self.net);
            }
            self.tend_keys();
        }
    }

    /// Lets every frame that is under way arrive, and what it causes.
    fn settle(&mut self) {
        self.deliver_until(Tick(u64::MAX), &mut self.arrivals_max());
    }

    const fn arrivals_max(&self) -> usize {
        let nodes = self.nodes.len();
        ARRIVALS_MAX + ARRIVALS_MAX_PER_QUESTION * nodes * nodes * nodes
    }

    /// No more than `left` of them: what goes round without end is a storm, and ends there.
    fn deliver_until(&mut self, until: Tick, left: &mut usize) {
        loop {
            let arrivals = self.net.next(until);
            if arrivals.is_empty() {
                return;
            }
            *left = left.saturating_sub(arrivals.len());
            if *left == 0 {
                self.storm = true;
                continue;
            }
            let mut woken = vec![false; self.nodes.len()];
            for arrival in arrivals {
                if let Some(node) = self.arrive(arrival)
                    && let Some(woken) = woken.get_mut(node)
                {
                    *woken = true;
                }
            }
            for (node, _) in self.nodes.iter_mut().zip(woken).filter(|(_, woken)| *woken) {
                node.poll(&mut self.net);
            }
        }
    }

    /// Takes a frame to where it arrives; the number of a node whose dataplane must poll.
    fn arrive(&mut self, arrival: Arrival) -> Option<usize> {
        if let At::Dataplane(index, port) = arrival.at {
            let node = self.nodes.get(index)?;
            if node.dead {
                self.net.faults.hits += 1;
                return None;
            }
            if node.stalled {
                self.hold(arrival);
                return None;
            }
            self.note_arrival(&arrival);
            if let Some(node) = self.nodes.get_mut(index) {
                node.deliver(port, arrival.frame);
            }
            return Some(index);
        }
        if let At::Behind(index, port) = arrival.at
            && self
                .nodes
                .get(index)
                .is_some_and(|it| it.left || it.is_orphaned(port))
        {
            // Nobody is there any more, and the VF is not taken back yet.
            self.net.faults.hits += 1;
            return None;
        }
        self.note_arrival(&arrival);
        let station = self.station_at(arrival.at)?;
        station.sockets.now = arrival.time;
        let frames = station.receive(&arrival.frame);
        self.send_from(arrival.at, frames);
        None
    }

    /// The objects as they are, with what was filled in.
    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What the API says, and what of it each node has seen.
    #[must_use]
    pub fn api(&self) -> Api<'_> {
        Api {
            cluster: &self.cluster,
            stale: &self.stale,
            encryption: &self.config.encryption,
            whereabouts: &self.whereabouts,
        }
    }

    /// Whether frames went round without end, and were left to: a fault of the world.
    #[must_use]
    pub const fn is_stormy(&self) -> bool {
        self.storm
    }

    /// Virtual time since boot.
    #[must_use]
    pub const fn now(&self) -> Tick {
        self.net.now
    }

    /// Pods, VFs and identities, by node and pod.
    #[must_use]
    pub fn bindings(&self) -> Vec<Binding> {
        let mut bindings = Vec::new();
        for node in self.nodes.iter().filter(|it| !it.left) {
            let state = node.control.state();
            let endpoints = state.endpoints.values();
            let by_pod: BTreeMap<_, _> = endpoints.map(|e| ((&e.pod, &e.interface), e)).collect();
            for ((pod, interface), endpoint) in by_pod {
                let policies = self.cluster.pods.get(pod).map(|p| {
                    if let Some(it) = p.interface(interface) {
                        let multi = self.cluster.multi_policies_of(p, it);
                        return multi.map(|(name, _)| format!("Multi:{name}")).collect();
                    }
                    let own = self.cluster.policies_of(p);
                    let own = own.map(|(name, _)| name.to_string());
                    let cluster = self.cluster.cluster_policies_of(p).into_iter();
                    own.chain(cluster.map(|(name, _)| name.clone())).collect()
                });
                let identity = state.identities.get(&endpoint.identity);
                bindings.push(Binding {
                    node: node.name.to_string(),
                    pod: endpoint.name(),
                    vf: endpoint.port.to_string(),
                    ips: endpoint.ips.clone(),
                    identity: endpoint.identity.0,
                    label: identity.map(|i| i.label.clone()).unwrap_or_default(),
                    policies: policies.unwrap_or_default(),
                });
            }
        }
        bindings
    }

    /// How many frames were on the wire between the nodes.
    #[must_use]
    pub const fn wire_frames(&self) -> usize {
        self.net.captured
    }

    /// Every frame that was on the wire between the nodes; none unless the world keeps them.
    #[must_use]
    pub fn wire(&self) -> &[Captured] {
        &self.net.wire
    }

    /// What the wire shows.
    #[must_use]
    pub fn wire_proof(&self) -> WireProof {
        wire_check::prove(&self.net.wire)
    }

    /// Every SA there was, with its key, for Wireshark.
    #[must_use]
    pub fn sas(&self) -> &[ExposedSa] {
        &self.keying.exposed
    }

    /// Drop counters that aren't zero, by node, port and reason.
    #[must_use]
    pub fn drops(&self) -> Vec<DropCount> {
        let mut drops: Vec<DropCount> = Vec::new();
        for node in &self.nodes {
            for line in node.counters() {
                for it in &line.drops {
                    let (node, port) = (node.name.to_string(), line.port.to_string());
                    let mut known = drops.iter_mut();
                    let same = known.find(|has| {
                        has.node == node && has.port == port && has.reason == it.reason
                    });
                    match same {
                        // Of a life of the dataplane before.
                        Some(has) => has.frames += it.frames,
                        None => drops.push(DropCount {
                            node,
                            port,
                            reason: it.reason.clone(),
                            frames: it.frames,
                        }),
                    }
                }
            }
        }
        drops
    }

    /// Frames that each node's dataplane says it has received, by its uplink and by the rest.
    #[must_use]
    pub fn received(&self) -> Vec<(String, u64, u64)> {
        // Of all machines that have had a name.
        let mut all: BTreeMap<&NodeName, (u64, u64)> = BTreeMap::new();
        for node in &self.nodes {
            let (uplink, rest) = all.entry(&node.name).or_default();
            for line in node.counters() {
                if line.port.0 == "uplink" {
                    *uplink += line.rx_frames;
                } else {
                    *rest += line.rx_frames;
                }
            }
        }
        let all = all.into_iter();
        all.map(|(name, (uplink, rest))| (name.to_string(), uplink, rest))
            .collect()
    }

    /// Frames that a dataplane received and that no counter accounts for: 0, or a frame
    /// was lost in silence.
    #[must_use]
    pub fn unaccounted(&self) -> i128 {
        let lines = self.nodes.iter().flat_map(SimNode::counters);
        lines.map(|line| line.unaccounted().abs()).sum()
    }
}
