//! A node: its agent, its dataplane, and who is behind its ports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sluice_dataplane_control::{Control, Event, ProgramError, WrongCrew};
use sluice_dataplane_core::mem::MemPool;
use sluice_dataplane_core::port::Frame;
use sluice_dataplane_core::steer::BadShares;
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::worker::TooManyPorts;
use sluice_host_agent::cluster::Cluster;
use sluice_offload_api::model::{NodeName, PodRef, PodUid, PortCounters, PortName};

use super::agent::{Agent, AgentError, FIRST_INSTANCE};
use super::clock::NodeClock;
use super::cni::{self, Given};
use super::crew::{Crew, Size};
use super::disk::Disk;
use super::net::{At, Net};
use super::plan::{self, MacOf, NodeNumber};
use super::station::{Spoken, Station};
use crate::keys::SeedKeys;
use crate::sighting::{AtNode, Spot};

/// The dataplane's ports in its worker's order; VFs follow.
pub(super) const UPLINK: u16 = 0;
const HOST: u16 = 1;
pub(crate) const FIRST_VF: u16 = 2;

/// Polls until the workers must have emptied their ports.
const POLLS_MAX: usize = 1 << 16;

/// What the names of VFs' ports begin with.
const VF_NAME: &str = "pf0vf";

/// The name of a VF's port.
pub(crate) fn vf_name(index: u16) -> PortName {
    PortName(format!("{VF_NAME}{index}"))
}

/// What a dataplane has started with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Start {
    /// Its checkpoint.
    Checkpoint,
    /// Nothing: there is none.
    Nothing,
    /// Nothing: the checkpoint was damaged.
    Refused,
}

/// Who of two agents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Speaker {
    First,
    Rival,
}

/// A pod's interface on its VF.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Plug {
    uid: PodUid,
    port: u16,
}

/// A node of the world.
#[derive(Debug)]
pub(crate) struct SimNode {
    pub(crate) name: NodeName,
    /// The same for observers.
    shown: AtNode,
    pub(crate) number: NodeNumber,
    /// Its place among the world's nodes.
    pub(crate) index: usize,
    pub(crate) agent: Agent,
    pub(crate) control: Control,
    crew: Crew,
    /// What has come to its dataplane's ports since that has worked last.
    arrived: Vec<(u16, Arc<[u8]>)>,
    pool: MemPool,
    spoken: Spoken,
    size: Size,
    /// Which VF each pod was given at its ADD.
    given: Given,
    /// Who is behind a port: the host, and the pods whose VFs are attached.
    behind: BTreeMap<u16, Station>,
    /// Where each pod's interface is whose ADD has returned; the primary one has no name.
    attached: BTreeMap<(PodRef, String), Plug>,
    /// Ports whose pod is gone, and whose VF waits for an agent that takes it back.
    orphaned: BTreeSet<u16>,
    /// It was taken away; what is left of it are its counters.
    pub(crate) left: bool,
    /// Its dataplane doesn't run: nothing passes.
    pub(crate) dead: bool,
    /// Its dataplane does nothing: frames wait.
    pub(crate) stalled: bool,
    /// Of the machine that it is on.
    pub(crate) clock: NodeClock,
    /// What its dataplane has on disk; nothing before the first acknowledgement.
    checkpoint: Option<Disk>,
    /// Another agent that speaks for it.
    pub(crate) rival: Option<Agent>,
    /// What that one says is in force.
    pub(crate) follows_rival: bool,
    /// Transactions that were refused for what they were based on, and made good.
    pub(crate) rebased: u64,
    instance: u64,
    /// Counters of the dataplane's lives before this one.
    past: Vec<PortCounters>,
}

impl SimNode {
    pub(crate) fn new(
        name: &NodeName,
        index: usize,
        number: NodeNumber,
        (agent, given): (Agent, Given),
        size: Size,
        keys: &SeedKeys,
        (pool, spoken): (&MemPool, &Spoken),
    ) -> Result<Self, NodeError> {
        let (crew, control) = start(size, keys.hash_key(&name.0), FIRST_INSTANCE, pool)?;
        let host = Station::new(plan::mac(MacOf::Host(number)), Vec::new(), pool, spoken);
        Ok(Self {
            name: name.clone(),
            shown: name.clone().into(),
            number,
            index,
            agent,
            control,
            crew,
            arrived: Vec::new(),
            pool: pool.clone(),
            spoken: spoken.clone(),
            size,
            given,
            behind: BTreeMap::from([(HOST, host)]),
            attached: BTreeMap::new(),
            orphaned: BTreeSet::new(),
            left: false,
            dead: false,
            stalled: false,
            clock: NodeClock::default(),
            checkpoint: None,
            rival: None,
            follows_rival: false,
            rebased: 0,
            instance: FIRST_INSTANCE,
            past: Vec::new(),
        })
    }

    /// Its dataplane dies with all it had, flows and SAs and frames too.
    pub(crate) fn kill(&mut self) {
        if !self.dead {
            self.dead = true;
            self.stalled = false;
            self.follows_rival = false;
            self.past.extend(self.control.port_counters());
            self.agent.on_disconnect();
            if let Some(rival) = &mut self.rival {
                rival.on_disconnect();
            }
        }
    }

    /// Its dataplane starts: with every port closed but for what its checkpoint opens, until
    /// the agent has told it all.
    pub(crate) fn start_again(&mut self, keys: &SeedKeys, now: Tick) -> Result<Start, NodeError> {
        self.kill();
        self.instance += 1;
        let hash_key = keys.hash_key(&format!("{} {}", self.name.0, self.instance));
        let started = start(self.size, hash_key, self.instance, &self.pool)?;
        (self.crew, self.control) = started;
        self.arrived.clear();
        self.dead = false;
        let started_with = match self.checkpoint.as_ref().map(Disk::load) {
            None => Start::Nothing,
            Some(Err(_damaged)) => Start::Refused,
            Some(Ok(kept)) => {
                self.control.recall(kept.former);
                let programmed = self.control.program(&kept.transaction);
                programmed.map_err(|error| self.failed(error))?;
                self.crew.poll(self.clock.at(now));
                self.control.poll();
                Start::Checkpoint
            }
        };
        let observed = self.control.state().generation;
        self.agent.on_connect(self.instance, observed);
        if let Some(rival) = &mut self.rival {
            rival.on_connect(self.instance, observed);
        }
        Ok(started_with)
    }

    /// A bit turns in what its dataplane has on disk; whether there is anything.
    pub(crate) fn damage_checkpoint(&mut self, keys: &SeedKeys) -> bool {
        let instance = self.instance;
        let [which, _] = keys.hash_key(&format!("{} {instance} turned", self.name.0));
        let kept = self.checkpoint.as_mut();
        kept.map(|it| it.turn(which)).is_some()
    }

    /// Its machine and its DPU are others from now on, with empty disks and other MACs, under
    /// the same name and addresses. To be started.
    pub(crate) fn replace(&mut self, agent: Agent, number: NodeNumber) {
        self.kill();
        self.number = number;
        self.agent = agent;
        self.rival = None;
        self.checkpoint = None;
        self.clock = NodeClock::default();
        let mac = plan::mac(MacOf::Host(number));
        let host = Station::new(mac, Vec::new(), &self.pool, &self.spoken);
        self.given.clear();
        self.behind = BTreeMap::from([(HOST, host)]);
        self.attached.clear();
        self.orphaned.clear();
    }

    /// It is switched off and taken away.
    pub(crate) fn leave(&mut self) {
        self.kill();
        self.left = true;
        self.rival = None;
        self.given.clear();
        self.behind.clear();
        self.attached.clear();
        self.orphaned.clear();
    }

    /// Whether its dataplane is there and does something.
    pub(crate) const fn works(&self) -> bool {
        !self.left && !self.dead && !self.stalled
    }

    /// Whether it is there under a name.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        !self.left && self.name.0 == name
    }

    /// VFs of its DPU.
    pub(crate) const fn vfs(&self) -> u16 {
        self.size.ports - FIRST_VF
    }

    /// CNI gives this node's new pods a VF and takes those of the gone back, and its agent looks
    /// at the cluster: `seen` is what its watch says, `now` what is there.
    pub(crate) fn observe(
        &mut self,
        seen: &Cluster,
        now: &Cluster,
        slow_disk: bool,
    ) -> Result<(), AgentError> {
        let adds = self.given.renew(&cni::pods_of(&self.name, seen, now));
        let adds = adds.map_err(|error| AgentError::Vf {
            node: self.name.clone(),
            error,
        })?;
        self.agent.observe(seen, &adds, slow_disk)
    }

    /// Its agent starts anew.
    pub(crate) fn restart_agent(&mut self) {
        let observed = (!self.dead).then(|| self.control.state().generation);
        self.agent.restart(self.instance, observed);
    }

    /// Another agent connects, which knows what the first one does now; or, if it is there
    /// already, it connects anew with what it knew then.
    pub(crate) fn connect_rival(&mut self) {
        let observed = self.control.state().generation;
        let instance = self.instance;
        let rival = self.rival.get_or_insert_with(|| self.agent.twin());
        rival.on_disconnect();
        if !self.dead {
            rival.on_connect(instance, observed);
        }
    }

    /// The other agent ends, and the first one connects anew.
    pub(crate) fn part_from_rival(&mut self) -> bool {
        let was = self.rival.take().is_some();
        if was && !self.dead {
            self.agent.on_disconnect();
            let observed = self.control.state().generation;
            self.agent.on_connect(self.instance, observed);
        }
        was
    }

    /// The counters of all its dataplane's lives, several lines a port if it has had several.
    pub(crate) fn counters(&self) -> impl Iterator<Item = PortCounters> {
        let now = if self.dead {
            Vec::new()
        } else {
            self.control.port_counters()
        };
        self.past.iter().cloned().chain(now)
    }

    /// What a port is, for observers.
    pub(crate) fn spot(&self, port: u16) -> Spot {
        match port {
            UPLINK => Spot::Uplink(self.shown.clone()),
            HOST => Spot::Host(self.shown.clone()),
            _ => Spot::Vf(self.shown.clone(), port),
        }
    }

    /// Lets the agent bring the dataplane in step with what it knows, over the contract's wire
    /// format, unless it `rests`. What happened on the way.
    pub(crate) fn reconcile(&mut self, now: Tick, rests: bool) -> Result<Vec<Event>, NodeError> {
        let mut events = Vec::new();
        if self.dead || self.stalled {
            return Ok(events);
        }
        if !rests {
            self.speak(Speaker::First, now, &mut events)?;
        }
        self.speak(Speaker::Rival, now, &mut events)?;
        events.extend(self.events());
        Ok(events)
    }

    const fn speaker(&mut self, speaker: Speaker) -> Option<&mut Agent> {
        match speaker {
            Speaker::First => Some(&mut self.agent),
            Speaker::Rival => self.rival.as_mut(),
        }
    }

    fn speak(
        &mut self,
        speaker: Speaker,
        now: Tick,
        events: &mut Vec<Event>,
    ) -> Result<(), NodeError> {
        let now = self.clock.at(now);
        loop {
            let Some(agent) = self.speaker(speaker) else {
                return Ok(());
            };
            let Some(tx) = agent.next_transaction()? else {
                return Ok(());
            };
            let mut programmed = self.control.program(&tx);
            if let Err(ProgramError::Pending { .. }) = programmed {
                // What peers announced is still on its way to the worker.
                self.crew.poll(now);
                events.extend(self.events());
                programmed = self.control.program(&tx);
            }
            match programmed {
                Ok(()) => {
                    self.crew.poll(now);
                    events.extend(self.events());
                    self.follows_rival = speaker == Speaker::Rival;
                }
                Err(ProgramError::Refused(refusal)) => {
                    let current = self.control.state().generation;
                    let held = self.speaker(speaker).is_none_or(|agent| {
                        agent.on_refused(current, &refusal);
                        agent.is_held()
                    });
                    if held {
                        return Err(NodeError::Refused {
                            node: self.name.clone(),
                            refusal: Box::new(refusal),
                        });
                    }
                    // It took another one's generation for its own: it says all of it anew.
                    self.rebased += 1;
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    fn failed(&self, error: ProgramError) -> NodeError {
        NodeError::Program {
            node: self.name.clone(),
            error: Box::new(error),
        }
    }

    /// What happened at the dataplane since. What it acknowledges it has on disk.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        self.control.poll();
        let events: Vec<_> = core::iter::from_fn(|| self.control.next_event()).collect();
        for event in &events {
            if let Event::Applied(generation) = event {
                self.checkpoint = Some(Disk::keep(self.control.state(), self.control.former()));
                self.agent.on_ack(*generation);
                if let Some(rival) = &mut self.rival {
                    rival.on_ack(*generation);
                }
            }
        }
        events
    }

    /// Brings up the pods that were given VFs, each behind its own, as CNI ADD does when it returns,
    /// and takes down those that are gone; to be called when the dataplane is in step, for which
    /// ADD waits. Who is where, nobody asks the dataplane. If ADD and DEL wait, nobody comes.
    pub(crate) fn attach(&mut self, cluster: &Cluster, cni_waits: bool) {
        if cni_waits {
            self.lose_gone(cluster);
            return;
        }
        self.orphaned.clear();
        let plug = |(pod, uid, interface, index): (&PodRef, &PodUid, &str, u16)| {
            let port = FIRST_VF.saturating_add(index);
            let uid = uid.clone();
            ((pod.clone(), interface.to_owned()), Plug { uid, port })
        };
        let wanted: BTreeMap<_, _> = self.given.iter().map(plug).collect();
        let taken: BTreeSet<_> = wanted.values().map(|it| it.port).collect();
        self.behind
            .retain(|port, _| *port == HOST || taken.contains(port));
        for (at, Plug { port, .. }) in &wanted {
            let (pod, interface) = at;
            let ips = cluster
                .pods
                .get(pod)
                .map(|p| p.interface(interface).map_or(&p.ips, |it| &it.ips).clone())
                .unwrap_or_default();
            let mac = plan::mac(MacOf::Vf(self.number, port - FIRST_VF));
            let fresh = self.attached.get(at).is_none_or(|it| it.port != *port);
            if fresh || self.behind.get(port).is_none_or(|s| s.ips != ips) {
                let mut station = Station::new(mac, ips, &self.pool, &self.spoken);
                station.pod = Some(pod.clone());
                self.behind.insert(*port, station);
            }
        }
        self.attached = wanted;
        let ips = cluster
            .nodes
            .get(&self.name)
            .map(|n| n.ips.clone())
            .unwrap_or_default();
        if let Some(host) = self.behind.get_mut(&HOST) {
            host.move_to(ips);
        }
    }

    /// Pods that are gone say nothing any more, though their VFs are still theirs.
    fn lose_gone(&mut self, cluster: &Cluster) {
        let is_now = |pod: &PodRef, uid: &PodUid| {
            let now = cluster.pods.get(pod);
            now.is_some_and(|it| it.uid == *uid)
        };
        self.attached.retain(|(pod, _), it| is_now(pod, &it.uid));
        let ports: BTreeSet<_> = self.attached.values().map(|it| it.port).collect();
        let gone = |port: &u16| *port != HOST && !ports.contains(port);
        let gone: Vec<_> = self.behind.keys().copied().filter(gone).collect();
        for port in gone {
            self.behind.remove(&port);
            self.orphaned.insert(port);
        }
    }

    /// Whether a port's pod is gone and its VF was not taken back yet.
    pub(crate) fn is_orphaned(&self, port: u16) -> bool {
        self.orphaned.contains(&port)
    }

    /// Where a pod's interface is, if its ADD has returned.
    pub(crate) fn port_of(&self, pod: PodRef, interface: String) -> Option<u16> {
        self.attached.get(&(pod, interface)).map(|it| it.port)
    }

    /// The port that this node itself is behind.
    pub(crate) const fn host_port(&self) -> u16 {
        HOST
    }

    pub(crate) fn station(&self, port: u16) -> Option<&Station> {
        self.behind.get(&port)
    }

    pub(crate) fn station_mut(&mut self, port: u16) -> Option<&mut Station> {
        self.behind.get_mut(&port)
    }

    /// Keeps a frame for when the dataplane works: in a buffer of its own only then, so that one
    /// node after the other has the same few.
    pub(crate) fn deliver(&mut self, port: u16, frame: Arc<[u8]>) {
        self.arrived.push((port, frame));
    }

    /// Puts what has arrived where the dataplane receives it.
    fn receive(&mut self) {
        for (port, bytes) in self.arrived.drain(..) {
            if let Some(frame) = self.pool.frame(&bytes)
                && let Some(port) = self.crew.receiving(port, &bytes)
            {
                port.deliver(frame);
            }
        }
    }

    /// Lets the dataplane work until its ports are empty, and sends on what it sent.
    pub(crate) fn poll(&mut self, net: &mut Net) {
        if self.dead || self.stalled {
            return;
        }
        let now = self.clock.at(net.now);
        self.receive();
        for _ in 0..POLLS_MAX {
            let frames = self.crew.poll_unevenly(now);
            self.collect(net);
            if frames == 0 {
                return;
            }
        }
    }

    fn collect(&mut self, net: &mut Net) {
        for (index, port) in self.crew.ports() {
            while let Some(frame) = port.collect() {
                let bytes = frame.bytes().into();
                if index == UPLINK {
                    net.switch(At::Dataplane(self.index, UPLINK), bytes);
                } else {
                    net.send(At::Behind(self.index, index), bytes);
                }
            }
        }
    }

    /// The dataplane's place on the underlay's switch.
    pub(crate) const fn at_switch(&self) -> At {
        At::Dataplane(self.index, UPLINK)
    }
}

/// Ports of a dataplane with so many VFs.
pub(crate) const fn ports_of(vfs: u16) -> u16 {
    FIRST_VF + vfs
}

/// A dataplane that was told nothing yet.
fn start(
    size: Size,
    hash_key: [u64; 2],
    instance: u64,
    pool: &MemPool,
) -> Result<(Crew, Control), NodeError> {
    let names = [PortName::from("uplink"), PortName::from("host")];
    let vfs = (0..size.ports.saturating_sub(FIRST_VF)).map(vf_name);
    let names = names.into_iter().chain(vfs).collect();
    Crew::start(size, names, hash_key, instance, pool)
}

/// What went wrong at a node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The agent couldn't make a state of the cluster.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// More VFs than a dataplane's worker takes.
    #[error(transparent)]
    Ports(#[from] TooManyPorts),
    /// More workers than a dataplane takes.
    #[error(transparent)]
    Workers(#[from] BadShares),
    /// Another number of workers than of handles to them.
    #[error(transparent)]
    Crew(#[from] WrongCrew),
    /// The dataplane refused the agent's transaction; what was in force stays.
    #[error("the dataplane of {node} refused: {refusal}")]
    Refused {
        /// The node.
        node: NodeName,
        /// What it said.
        refusal: Box<sluice_offload_api::Refusal>,
    },
    /// The dataplane didn't take it.
    #[error("the dataplane of {node} did not take a transaction: {error}")]
    Program {
        /// The node.
        node: NodeName,
        /// Why.
        error: Box<ProgramError>,
    },
}
