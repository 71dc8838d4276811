//! A control side over a worker with ports in memory.

use std::net::IpAddr;

use sluice_crypto::esp::Spi;
use sluice_crypto::key::{Algorithm, EspKey};
use sluice_dataplane_control::{
    Child, Control, ControlConfig, Event, ProgramError, SaConfig, Workers,
};
use sluice_dataplane_core::addr::Mac;
use sluice_dataplane_core::mem::{MemFrame, MemPool, MemPort};
use sluice_dataplane_core::sad::Mode;
use sluice_dataplane_core::snapshot::ROUTER_MAC;
use sluice_dataplane_core::steer::Handoff;
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};
use sluice_dataplane_core::worker::{Worker, WorkerConfig};
use sluice_offload_api::State;
use sluice_offload_api::model::{PortCounters, PortName};
use sluice_offload_api::testing::sample;

pub(crate) const VF0: usize = 0;
pub(crate) const VF1: usize = 1;
pub(crate) const UPLINK: usize = 3;
pub(crate) const PORTS: [&str; 4] = ["vf0", "vf1", "host", "uplink"];
pub(crate) const NOW: Tick = Tick(Tick::SECOND);

/// The same tests run over one worker, and over several as `crew`.
pub(crate) const WORKERS: usize = if matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"crew") {
    3
} else {
    1
};

pub(crate) struct Rig {
    pub(crate) control: Control,
    crew: Vec<Worker<MemPort>>,
    /// Frames go to the workers in turn.
    turn: usize,
    pub(crate) pool: MemPool,
}

impl Rig {
    pub(crate) fn new(ports: &[&str]) -> Self {
        let pool = MemPool::new(8);
        let config = WorkerConfig::new(16, [1, 2]);
        let handoffs = Handoff::crew(WORKERS, WORKERS.next_power_of_two(), ports.len()).unwrap();
        let shares = handoffs[0].shares();
        let one = |handoff| {
            let mem_ports = ports.iter().map(|_| MemPort::new(&pool, 64)).collect();
            Worker::of_crew(mem_ports, &config, handoff).unwrap()
        };
        let (crew, handles) = handoffs.into_iter().map(one).unzip();
        let ports = ports.iter().map(|name| PortName::from(*name)).collect();
        let control = Control::new(
            ControlConfig {
                ports,
                hash_key: [3, 4],
                instance: 9,
            },
            Workers::new(handles, shares).unwrap(),
        );
        Self {
            control,
            crew,
            turn: 0,
            pool,
        }
    }

    pub(crate) fn programmed() -> Self {
        let mut rig = Self::new(&PORTS);
        rig.control.program(&sample().to_snapshot()).unwrap();
        rig.step();
        rig
    }

    /// Each worker once, and once more for what they have handed over.
    pub(crate) fn work(&mut self) {
        for _ in 0..WORKERS.min(2) {
            for worker in &mut self.crew {
                worker.poll(NOW);
            }
        }
    }

    pub(crate) fn deliver(&mut self, port: usize, frame: MemFrame) {
        self.turn = (self.turn + 1).checked_rem(WORKERS).unwrap_or(0);
        self.crew[self.turn].ports_mut()[port].deliver(frame);
    }

    pub(crate) fn step(&mut self) -> Vec<Event> {
        self.work();
        self.control.poll();
        std::iter::from_fn(|| self.control.next_event()).collect()
    }

    pub(crate) fn send(&mut self, port: usize, spec: &FrameSpec) {
        let frame = self.pool.frame(&spec.build()).unwrap();
        self.deliver(port, frame);
        self.step();
    }

    pub(crate) fn counters(&self, port: usize) -> PortCounters {
        self.control.port_counters().swap_remove(port)
    }

    pub(crate) fn dropped(&self, port: usize, reason: &str) -> u64 {
        let drops = self.counters(port).drops;
        drops
            .iter()
            .find(|d| d.reason == reason)
            .map_or(0, |d| d.frames)
    }

    /// A change to the sample on top of what is in force.
    pub(crate) fn change(
        &mut self,
        edit: impl FnOnce(&mut State),
    ) -> Result<Vec<Event>, ProgramError> {
        let mut next = self.control.state().clone();
        edit(&mut next);
        next.generation.0 += 1;
        let tx = self.control.state().delta_to(&next);
        self.control.program(&tx)?;
        Ok(self.step())
    }
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// `shop/cart` opens a connection to `shop/db`.
pub(crate) fn syn(src_port: u16, dst_port: u16) -> FrameSpec {
    let body = Body::Tcp {
        src_port,
        dst_port,
        flags: 2,
        seq: 1,
        ack: 0,
        mss: None,
    };
    let mut spec = FrameSpec::new(ip("10.0.0.1"), ip("10.0.0.2"), body);
    spec.eth_src = Mac([2, 0, 0, 0, 0, 1]);
    spec.eth_dst = ROUTER_MAC;
    spec
}

pub(crate) fn sa(spi: u32) -> SaConfig {
    SaConfig {
        spi: Spi(spi),
        key: EspKey::from_keymat(Algorithm::Aes128Gcm16, &[7; 20]).unwrap(),
        esn: true,
        window: 1024,
        udp_encap: false,
        mode: Mode::Tunnel,
        child: Child::ONLY,
    }
}
