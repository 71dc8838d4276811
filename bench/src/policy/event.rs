//! One event of a large cluster, from the agent to the dataplane and back.

use std::time::Instant;

use anyhow::{Context, bail, ensure};
use prost::Message;
use sluice_dataplane_control::{Control, ControlConfig, Event};
use sluice_dataplane_core::mem::{MemPool, MemPort};
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::worker::{Worker, WorkerConfig};
use sluice_host_agent::agent::{Agent, Attachment, DeviceNames, Journal};
use sluice_host_agent::cluster::{Cluster, Pod};
use sluice_host_agent::compile::NodeSetup;
use sluice_host_agent::vf::VfTable;
use sluice_offload_api::convert::{Assembler, to_requests};
use sluice_offload_api::model::{Generation, PodRef};
use sluice_offload_api::proto::ProgramRequest;
use sluice_offload_api::{Answer, Limits, Transaction};

use crate::policy::cluster::{KINDS, Size, app};

const HASH_KEY: [u64; 2] = [3, 5];
const INSTANCE: u64 = 7;
/// Kinds of events.
const EVENTS: usize = 4;

/// A node's agent and its dataplane, in one process: the contract's messages between them are
/// encoded and decoded, and no socket is in between.
pub(crate) struct Rig {
    agent: Agent,
    control: Control,
    worker: Worker<MemPort>,
    now: Tick,
}

impl Rig {
    /// The pods of the node have their VFs, and the agent has compiled the cluster.
    pub(crate) fn new(cluster: Cluster, setup: NodeSetup, vfs: &VfTable) -> anyhow::Result<Self> {
        let attachment = |(n, it): (usize, &sluice_host_agent::vf::VfBinding)| Attachment {
            container: format!("c{n}"),
            ifname: "eth0".to_owned(),
            uid: it.uid.clone(),
            pod: it.pod.clone(),
            port: it.port.clone(),
            network: None,
            ips: it.ips.clone(),
        };
        let journal = Journal {
            attachments: vfs.iter().enumerate().map(attachment).collect(),
            ..Journal::default()
        };
        let mut ports = vec![setup.uplink.name.clone(), setup.host.name.clone()];
        ports.extend(setup.vfs.iter().map(|it| it.name.clone()));
        let pool = MemPool::new(1);
        let in_memory = ports.iter().map(|_| MemPort::new(&pool, 1)).collect();
        let config = WorkerConfig::new(1 << 10, HASH_KEY);
        let (worker, handle) = Worker::new(in_memory, &config)?;
        let config = ControlConfig {
            ports,
            hash_key: HASH_KEY,
            instance: INSTANCE,
        };
        let (mut agent, left_out) = Agent::new(setup, DeviceNames::default(), journal);
        ensure!(left_out.is_empty(), "a pod got no VF");
        agent.on_cluster(cluster);
        if let Some(fault) = agent.compile_fault() {
            bail!("{fault}");
        }
        Ok(Self {
            agent,
            control: Control::new(config, handle),
            worker,
            now: Tick(Tick::SECOND),
        })
    }

    /// The agent meets the dataplane and brings it to the whole state.
    pub(crate) fn connect(&mut self) -> anyhow::Result<()> {
        self.agent.on_connect(INSTANCE, Generation(0));
        self.settle()
    }

    /// Changes the cluster; milliseconds until the dataplane has acknowledged it.
    fn change(&mut self, change: impl FnOnce(&mut Cluster)) -> anyhow::Result<f64> {
        let began = Instant::now();
        ensure!(self.agent.on_change(change), "there is no cluster");
        self.settle()?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        if let Some(fault) = self.agent.compile_fault() {
            bail!("{fault}");
        }
        Ok(took)
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        let Some(tx) = self.agent.next_transaction() else {
            bail!("nothing to tell the dataplane");
        };
        self.control.program(&over_the_wire(tx)?)?;
        // The worker takes a snapshot between two bursts.
        self.now = self.now + 1_000;
        self.worker.poll(self.now);
        self.control.poll();
        while let Some(event) = self.control.next_event() {
            if let Event::Applied(generation) = event {
                self.agent.on_answer(Answer::Ack { generation });
            }
        }
        ensure!(self.agent.is_settled(), "it was not acknowledged");
        Ok(())
    }
}

/// What the dataplane gets of a transaction that the agent sends.
fn over_the_wire(tx: Transaction) -> anyhow::Result<Transaction> {
    let mut assembler = Assembler::new(Limits::MAX);
    let mut arrived = None;
    for message in to_requests(tx) {
        let message = ProgramRequest::decode(message.encode_to_vec().as_slice())?;
        arrived = assembler.on_message(message)?;
    }
    arrived.context("no transaction at the commit")
}

/// The milliseconds of each of so many events, in turn: a pod comes, it changes kind, one that
/// was there, on this node or any other, changes kind, and the first goes again.
pub(crate) fn run(rig: &mut Rig, size: Size, events: usize) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::with_capacity(events);
    for event in 0..u32::try_from(events)? {
        let turn = event / u32::try_from(EVENTS)?;
        let namespace = format!("ns{}", turn * 7 % u32::from(size.namespaces));
        let name = PodRef {
            namespace: namespace.clone(),
            name: format!("new{turn}"),
        };
        // One of those that were there, spread over all nodes.
        let known = turn.wrapping_mul(9973) % size.pods;
        let known = PodRef {
            namespace: format!("ns{}", known % u32::from(size.namespaces)),
            name: format!("p{known}"),
        };
        let [_, _, high, low] = turn.to_be_bytes();
        let took = rig.change(|cluster| match event % u32::try_from(EVENTS).unwrap_or(1) {
            0 => {
                let mut pod = Pod::new(&namespace, &name.name);
                pod.node = Some(format!("n{}", turn % u32::from(size.nodes)).as_str().into());
                pod.labels = app(turn % KINDS);
                // As a StatefulSet's: an identity of its own that comes and goes with it.
                if turn.is_multiple_of(2) {
                    pod.labels.insert("pod-name".to_owned(), name.name.clone());
                }
                pod.ips = vec![[11, 0, high, low].into()];
                cluster.pods.insert(pod.pod.clone(), pod);
            }
            1 => relabel(cluster, &name),
            2 => relabel(cluster, &known),
            _ => drop(cluster.pods.remove(&name)),
        })?;
        times.push(took);
    }
    Ok(times)
}

/// Makes a pod the next kind.
fn relabel(cluster: &mut Cluster, name: &PodRef) {
    let Some(pod) = cluster.pods.get_mut(name) else {
        return;
    };
    let is_of = |kind: &u32| {
        app(*kind)
            .iter()
            .all(|it| pod.labels.get(it.0) == Some(it.1))
    };
    let kind = (0..KINDS).find(is_of).unwrap_or(0);
    pod.labels.extend(app((kind + 1) % KINDS));
}
