//! The workers of one dataplane, with a card in front of them.

use sluice_dataplane_control::{Control, ControlConfig, Workers};
use sluice_dataplane_core::mem::{MemPool, MemPort};
use sluice_dataplane_core::steer::Handoff;
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::worker::{Worker, WorkerConfig};
use sluice_offload_api::model::PortName;

use super::node::NodeError;
use crate::dice::Dice;

/// Frames that a port's transmit queue holds.
const TX_MAX: usize = 4096;
/// Flows that a worker has room for, at least.
const FLOWS_MIN: usize = 64;

/// How big a dataplane is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Its ports, uplink and host among them.
    pub(crate) ports: u16,
    /// Flows that all its workers together have room for.
    pub(crate) flows_max: usize,
    /// Its workers.
    pub(crate) workers: u8,
    /// Its lanes, spread over them.
    pub(crate) lanes: u8,
}

/// The workers. Each has a queue of its own at every port, and the card knows nothing of
/// flows, lanes or SAs: what it brings to the wrong worker is theirs to hand over.
#[derive(Debug)]
pub(crate) struct Crew {
    all: Vec<Worker<MemPort>>,
    /// Which of them get to work next: cores don't keep time with each other.
    turns: Dice,
}

impl Crew {
    /// A dataplane that was told nothing yet.
    pub(crate) fn start(
        size: Size,
        names: Vec<PortName>,
        hash_key: [u64; 2],
        instance: u64,
        pool: &MemPool,
    ) -> Result<(Self, Control), NodeError> {
        let workers = usize::from(size.workers);
        let lanes = usize::from(size.lanes.max(size.workers));
        let handoffs = Handoff::crew(workers, lanes, usize::from(size.ports))?;
        let flows = (size.flows_max / workers).max(FLOWS_MIN);
        let config = WorkerConfig::new(flows, hash_key);
        let shares = handoffs.first().map(Handoff::shares);
        let (mut all, mut handles) = (Vec::new(), Vec::new());
        for handoff in handoffs {
            let ports = (0..size.ports).map(|_| MemPort::new(pool, TX_MAX));
            let (worker, handle) = Worker::of_crew(ports.collect(), &config, handoff)?;
            all.push(worker);
            handles.push(handle);
        }
        let handles = Workers::new(handles, shares.unwrap_or_default())?;
        let config = ControlConfig {
            ports: names,
            hash_key,
            instance,
        };
        let [seed, _] = hash_key;
        let crew = Self {
            all,
            turns: Dice::new(seed, "turns"),
        };
        Ok((crew, Control::new(config, handles)))
    }

    /// Lets each worker poll once. How many frames there were, those handed over among them.
    pub(crate) fn poll(&mut self, now: Tick) -> usize {
        self.all.iter_mut().map(|it| it.poll(now)).sum()
    }

    /// The same, after some of several have polled while the others were slow.
    pub(crate) fn poll_unevenly(&mut self, now: Tick) -> usize {
        let mut frames = 0;
        if self.all.len() > 1 {
            for worker in &mut self.all {
                if self.turns.chance(50) {
                    frames += worker.poll(now);
                }
            }
        }
        frames + self.poll(now)
    }

    /// The port where a worker will receive a frame.
    pub(crate) fn receiving(&mut self, port: u16, frame: &[u8]) -> Option<&mut MemPort> {
        let queue = match self.all.len() {
            0 | 1 => 0,
            workers => queue(frame) % workers,
        };
        let worker = self.all.get_mut(queue)?;
        worker.ports_mut().get_mut(usize::from(port))
    }

    /// All workers' queues of all ports, by port.
    pub(crate) fn ports(&mut self) -> impl Iterator<Item = (u16, &mut MemPort)> {
        let workers = self.all.iter_mut();
        workers.flat_map(|worker| (0u16..).zip(worker.ports_mut()))
    }
}

/// What a card makes of a frame's addresses and ports, or whatever stands there: always the
/// same for the same bytes, and another one for the way back.
fn queue(frame: &[u8]) -> usize {
    const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
    let is_v4 = frame.get(12..14) == Some(&ETHERTYPE_IPV4);
    let (start, len) = if is_v4 { (26, 12) } else { (22, 36) };
    let tuple = frame.iter().skip(start).take(len);
    // FNV-1a: any hash does that isn't the dataplane's.
    let hash = tuple.fold(0x811c_9dc5u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    (hash >> 8) as usize
}
