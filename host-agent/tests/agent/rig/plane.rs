//! A real dataplane over ports in memory: worker and control side on a thread of their own,
//! as a daemon has them, asked by messages.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sluice_crypto::esp::Spi;
use sluice_crypto::key::{Algorithm, EspKey};
use sluice_crypto::replay::ReplayWindow;
use sluice_dataplane_control::{
    Child, Control, ControlConfig, Event, ProgramError, SaConfig, Vitals,
};
use sluice_dataplane_core::mem::{MemPool, MemPort};
use sluice_dataplane_core::port::Frame as _;
use sluice_dataplane_core::sad::Mode;
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::worker::{Worker, WorkerConfig};
use sluice_offload_api::model::{
    FlowRecord, FlowVerdict, Lease, NameRecord, PairRecord, PairsRest, PortCounters, PortName,
    SaRecord, Status,
};
use sluice_offload_api::{Answer, Refusal, Refused, State, Transaction};
use tokio::sync::{mpsc, oneshot};

/// Its ports in their order.
pub(crate) const PORTS: [&str; 4] = ["uplink", "host", "pf0vf0", "pf0vf1"];
pub(crate) const UPLINK: usize = 0;
pub(crate) const VF0: usize = 2;
pub(crate) const VF1: usize = 3;

type Job = Box<dyn FnOnce(&mut Plane) + Send>;

/// The near end. The plane ends with the last of them.
#[derive(Clone)]
pub(crate) struct PlaneHandle(Sender<Job>);

pub(crate) struct Plane {
    control: Control,
    worker: Worker<MemPort>,
    pool: MemPool,
    start: Instant,
    /// Nothing is polled: a dataplane that hangs.
    stuck: bool,
    programmed: Option<oneshot::Sender<Answer>>,
    verdicts: Option<mpsc::Sender<FlowVerdict>>,
}

impl PlaneHandle {
    pub(crate) fn start() -> (Self, JoinHandle<()>) {
        let (jobs, queue) = channel();
        let thread = thread::spawn(move || Plane::new().run(&queue));
        (Self(jobs), thread)
    }

    fn send(&self, job: impl FnOnce(&mut Plane) + Send + 'static) {
        self.0.send(Box::new(job)).expect("the plane runs");
    }

    /// Has something done by the plane, and waits for it.
    pub(crate) fn with<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Plane) -> T + Send + 'static,
    ) -> T {
        let (sender, receiver) = channel();
        self.send(move |plane| drop(sender.send(job(plane))));
        receiver
            .recv_timeout(Duration::from_secs(20))
            .expect("the plane answers")
    }

    /// The same for those who may not block.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Plane) -> T + Send + 'static,
    ) -> T {
        let (sender, receiver) = oneshot::channel();
        self.send(move |plane| drop(sender.send(job(plane))));
        receiver.await.expect("the plane answers")
    }

    pub(crate) async fn program(&self, transaction: Transaction) -> Answer {
        let (sender, receiver) = oneshot::channel();
        self.send(move |plane| plane.program(&transaction, sender));
        receiver.await.expect("the plane answers")
    }

    pub(crate) async fn refuse(&self, refusal: Refusal) -> Answer {
        self.ask(move |plane| plane.refused(&refusal)).await
    }

    /// What a pod sends; what the pods got.
    pub(crate) fn exchange(&self, port: usize, frame: Vec<u8>) -> Vec<usize> {
        self.with(move |plane| plane.exchange(port, &frame))
    }

    pub(crate) fn state(&self) -> State {
        self.with(|plane| plane.control.state().clone())
    }

    pub(crate) fn dropped(&self, port: usize, reason: &'static str) -> u64 {
        self.with(move |plane| {
            let counters = plane.control.port_counters().swap_remove(port);
            let drops = counters.drops.iter().filter(|it| it.reason == reason);
            drops.map(|it| it.frames).sum()
        })
    }

    /// Whether somebody watches its verdicts.
    pub(crate) fn is_watched(&self) -> bool {
        self.with(|plane| plane.verdicts.is_some())
    }

    /// An SA from a peer, with this key and salt.
    pub(crate) fn install_sa(&self, peer: &'static str, keymat: [u8; 20]) {
        self.with(move |plane| {
            let key = EspKey::from_keymat(Algorithm::Aes128Gcm16, &keymat).expect("20 bytes");
            let config = SaConfig {
                spi: Spi(0x1001),
                key,
                esn: true,
                window: ReplayWindow::DEFAULT,
                udp_encap: false,
                mode: Mode::Tunnel,
                child: Child::ONLY,
            };
            let installed = plane.control.install_inbound(&peer.into(), config);
            installed.expect("a peer of the generation in force");
            plane.step();
        });
    }

    /// An SA to a peer, and the peer's MAC on the wire: what is for it can leave.
    pub(crate) fn reach(&self, peer: &'static str, addr: [u8; 4], own: [u8; 4]) {
        self.with(move |plane| {
            let key = EspKey::from_keymat(Algorithm::Aes256Gcm16, &[7; 36]).expect("36 bytes");
            let config = SaConfig {
                spi: Spi(0x2001),
                key,
                esn: true,
                window: ReplayWindow::DEFAULT,
                udp_encap: false,
                mode: Mode::Tunnel,
                child: Child::ONLY,
            };
            let installed = plane.control.install_outbound(&peer.into(), config);
            installed.expect("a peer of the generation in force");
            let (mac, theirs) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 0xb]);
            let mut answer = [mac, theirs].concat();
            answer.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2]);
            answer.extend([&theirs[..], &addr, &mac, &own].concat());
            let answer = plane.pool.frame(&answer).expect("a short frame");
            plane.worker.ports_mut()[UPLINK].deliver(answer);
            plane.step();
        });
    }

    pub(crate) fn set_stuck(&self, stuck: bool) {
        self.with(move |plane| plane.stuck = stuck);
    }
}

impl Plane {
    fn new() -> Self {
        let pool = MemPool::new(8);
        let ports = PORTS.iter().map(|_| MemPort::new(&pool, 64)).collect();
        let config = WorkerConfig::new(64, [1, 2]);
        let (worker, handle) = Worker::new(ports, &config).expect("four ports");
        let config = ControlConfig {
            ports: PORTS.iter().map(|it| PortName::from(*it)).collect(),
            hash_key: [3, 4],
            instance: u64::from(std::process::id()) << 32 | fresh(),
        };
        Self {
            control: Control::new(config, handle),
            worker,
            pool,
            start: Instant::now(),
            stuck: false,
            programmed: None,
            verdicts: None,
        }
    }

    fn run(&mut self, queue: &Receiver<Job>) {
        loop {
            match queue.recv_timeout(Duration::from_micros(500)) {
                Ok(job) => job(self),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if !self.stuck {
                self.step();
            }
        }
    }

    fn step(&mut self) {
        let now = self.start.elapsed().as_nanos();
        self.worker
            .poll(Tick(u64::try_from(now).expect("a short test")));
        self.control.poll();
        while let Some(event) = self.control.next_event() {
            if let (Event::Applied(generation), Some(waits)) = (event, self.programmed.take()) {
                drop(waits.send(Answer::Ack { generation }));
            }
        }
        while let Some(verdict) = self.control.next_verdict() {
            if let Some(verdicts) = &self.verdicts {
                drop(verdicts.try_send(verdict.record(0)));
            }
        }
    }

    fn program(&mut self, transaction: &Transaction, answer: oneshot::Sender<Answer>) {
        match self.control.program(transaction) {
            Ok(()) => self.programmed = Some(answer),
            Err(ProgramError::Refused(refusal)) => drop(answer.send(self.refused(&refusal))),
            Err(error) => panic!("{error}"),
        }
    }

    fn refused(&self, refusal: &Refusal) -> Answer {
        Answer::Refused(Refused::new(self.control.state().generation, refusal))
    }

    fn exchange(&mut self, port: usize, frame: &[u8]) -> Vec<usize> {
        let frame = self.pool.frame(frame).expect("a short frame");
        self.worker.ports_mut()[port].deliver(frame);
        self.step();
        let ports = self.worker.ports_mut().iter_mut().enumerate();
        ports
            .filter_map(|(port, it)| {
                let sent = std::iter::from_fn(|| it.collect());
                let packets = sent.filter(|it| it.bytes().get(12..14) == Some(&[8, 0]));
                (packets.count() > 0).then_some(port)
            })
            .collect()
    }

    pub(crate) fn status(&self) -> Status {
        self.control.status(&Vitals {
            uptime_ms: u64::try_from(self.start.elapsed().as_millis()).expect("a short test"),
            lease: Lease::Held,
            links_up: vec![true; PORTS.len()],
        })
    }

    pub(crate) fn counters(&self) -> Vec<PortCounters> {
        self.control.port_counters()
    }

    pub(crate) fn flows(&mut self) -> Vec<FlowRecord> {
        self.control.request_flows();
        while self.control.flows().is_none() {
            self.step();
        }
        self.control.flows().expect("they are there").to_vec()
    }

    pub(crate) fn names(&mut self) -> Vec<NameRecord> {
        self.control.request_names();
        while self.control.names().is_none() {
            self.step();
        }
        self.control.names().expect("they are there").to_vec()
    }

    pub(crate) fn sas(&mut self) -> Vec<SaRecord> {
        self.control.request_sas();
        while self.control.sas().is_none() {
            self.step();
        }
        self.control.sas().expect("they are there").to_vec()
    }

    pub(crate) fn pairs(&mut self) -> (Vec<PairRecord>, PairsRest) {
        self.control.request_flows();
        self.control.request_clear();
        let sas = self.sas();
        loop {
            if let Some(pairs) = self.control.pairs(&sas) {
                return pairs;
            }
            self.step();
        }
    }

    pub(crate) fn watch(&mut self, verdicts: mpsc::Sender<FlowVerdict>) {
        self.verdicts = Some(verdicts);
    }
}

fn fresh() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
