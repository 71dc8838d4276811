//! One worker thread, one control thread, and the order in which they come up:
//!
//! ```text
//! ports open ─► worker polls, receives nothing ─► first generation and its keys in force
//!            ─► worker receives ─► agents are let in
//! ```
//! So no frame is ever judged by less than the last acknowledged generation.

mod ages;
mod client;
mod clock;
mod control;
mod downgrades;
mod roles;
mod watcher;
mod worker;

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::bounded;
use ring::rand::{SecureRandom, SystemRandom};
use sluice_dataplane_control::{Control, ControlConfig, ProgramError};
use sluice_dataplane_core::counters::Counters;
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::worker::{TooManyPorts, Worker, WorkerConfig, WorkerHandle};
use sluice_offload_api::Transaction;
use tokio::sync::oneshot;

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::keys::{KeyDriver, SaSender};
use crate::lab_keys::{LabKeys, LabKeysError};
use crate::ports::{Gated, OPEN_MAX, PortError, PortSet};
use crate::verdict_log::{VerdictLog, VerdictLogError};

pub(crate) use client::Programmed;
pub use client::{ControlClient, NoSuch, Silent, Vitals};
pub use clock::Clock;
pub(crate) use roles::check as check_roles;
pub use worker::{LoopStats, WorkerEnd};

use client::REQUESTS_MAX;
use control::{ControlLoop, LoopState};
use watcher::Watcher;
use worker::{Pace, Signals};

/// Commands of a key driver that wait for the control thread, at most.
const SA_COMMANDS_MAX: usize = 1024;
/// How long the first generation and its keys may take to be in force.
const FIRST_MAX: Duration = Duration::from_secs(60);

/// What is in force before the first frame.
#[derive(Debug)]
pub struct Opening {
    /// The first generation; `None`: everything is closed until an agent comes.
    pub first: Option<Transaction>,
    /// Where acknowledged generations are kept.
    pub checkpoint: Option<Checkpoint>,
    /// Why there is no first generation though there should be.
    pub checkpoint_fault: Option<String>,
    /// End when no frame came for so long.
    pub exit_when_idle: Option<Duration>,
}

/// How long after the start connections are picked up in their midst, if another dataplane
/// ran before: a few retransmissions.
const PICKUP: Tick = Tick(30 * Tick::SECOND);

impl Opening {
    /// A generation from a checkpoint means that flows stood when the last dataplane ended.
    /// On the clock whose zero is the start.
    fn pickup_until(&self) -> Tick {
        if self.checkpoint.is_some() && self.first.is_some() {
            PICKUP
        } else {
            Tick(0)
        }
    }
}

/// The dataplane didn't start. Nothing is left open.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Too many ports.
    #[error(transparent)]
    Ports(#[from] TooManyPorts),
    /// The verdict log.
    #[error(transparent)]
    VerdictLog(#[from] VerdictLogError),
    /// A laboratory's key file.
    #[error(transparent)]
    LabKeys(#[from] LabKeysError),
    /// A thread.
    #[error("can't start the {name} thread: {error}")]
    Thread {
        /// Its name.
        name: &'static str,
        /// Why.
        error: std::io::Error,
    },
    /// The core.
    #[error("can't bind the worker to core {core}: {error}; give it a core of this process")]
    Core {
        /// The core.
        core: u16,
        /// Why.
        error: std::io::Error,
    },
    /// The operating system gives no randomness.
    #[error("the operating system gave no random bytes")]
    Random,
    /// The ports took too long.
    #[error("the worker did not start within {} s", OPEN_MAX.as_secs())]
    WorkerSilent,
    /// The first generation.
    #[error("the first generation was not taken: {0}")]
    First(#[from] ProgramError),
    /// The first generation's keys.
    #[error(
        "policy and keys were not in force within {} s; the log says which SA failed",
        FIRST_MAX.as_secs()
    )]
    FirstSilent,
}

/// A dataplane that runs. Dropped, it stops.
#[derive(Debug)]
pub struct Dataplane {
    client: ControlClient,
    sas: SaSender,
    counters: Arc<Counters>,
    stats: Arc<LoopStats>,
    signals: Arc<Signals>,
    control_stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    ended: Option<oneshot::Receiver<WorkerEnd>>,
    control_ended: Option<oneshot::Receiver<()>>,
}

/// What the worker's thread says when it is set up.
type Born = Result<(WorkerHandle, Arc<Counters>), StartError>;

impl Dataplane {
    /// Opens the ports and starts both threads. Returns when the first generation and its
    /// keys are in force and frames are received, or when nothing is open any more.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start<S: PortSet>(
        config: &Config,
        mut set: S,
        opening: Opening,
        keys: impl FnOnce(SaSender) -> Box<dyn KeyDriver>,
    ) -> Result<Self, StartError> {
        let verdict_log = config
            .verdict_log
            .as_ref()
            .map(VerdictLog::open)
            .transpose()?;
        let lab_keys = config
            .node_channel
            .as_ref()
            .and_then(|it| it.lab_key_file.as_deref())
            .map(LabKeys::open)
            .transpose()?;
        let [hash_a, hash_b, instance] = random_words()?;
        let hash_key = [hash_a, hash_b];
        let clock = Clock::start();
        let links = set.open(config)?;

        let signals = Arc::<Signals>::default();
        let stats = Arc::<LoopStats>::default();
        let (born, birth) = bounded::<Born>(1);
        let (end, ended) = oneshot::channel();
        let pace = Pace {
            clock,
            idle: config.worker.idle,
            exit_when_idle: opening.exit_when_idle,
        };
        let worker_config = WorkerConfig {
            flows: usize::try_from(config.worker.flows).unwrap_or(usize::MAX),
            hash_key,
            timeouts: config.worker.timeouts,
            quotas: config.worker.quotas,
            pickup_until: opening.pickup_until(),
            names: config.worker.names,
        };
        let core = config.worker.core;
        let thread = {
            let (signals, stats) = (Arc::clone(&signals), Arc::clone(&stats));
            let name = "sluice-worker";
            let body = move || {
                let (seat, mut worker) = match enter(set, core, &worker_config) {
                    Ok((seat, worker, handle)) => {
                        let counters = Arc::clone(&handle.counters);
                        if born.send(Ok((handle, counters))).is_err() {
                            return;
                        }
                        (seat, worker)
                    }
                    Err(error) => {
                        drop(born.send(Err(error)));
                        return;
                    }
                };
                let why = worker::run(&mut worker, pace, &signals, &stats);
                // Ports close before the news: who hears it may open them again.
                drop(worker);
                drop(seat);
                let _ = end.send(why);
            };
            Builder::new().name(name.to_owned()).spawn(body)
        };
        let thread = thread.map_err(|error| StartError::Thread {
            name: "worker",
            error,
        })?;
        let control_stop = Arc::<AtomicBool>::default();
        let (request_tx, requests) = bounded(REQUESTS_MAX);
        let (sa_tx, sas) = bounded(SA_COMMANDS_MAX);
        let waited = birth
            .recv_timeout(OPEN_MAX)
            .map_err(|_| StartError::WorkerSilent)?;
        let (handle, counters) = waited?;
        // From here on dropping this value ends the worker.
        let mut this = Self {
            client: ControlClient(request_tx),
            sas: SaSender(sa_tx),
            counters,
            stats: Arc::clone(&stats),
            signals,
            control_stop,
            threads: vec![thread],
            ended: Some(ended),
            control_ended: None,
        };
        let names = config.port_names();
        let control_config = ControlConfig {
            ports: names,
            hash_key,
            instance,
        };
        let mut control = ControlLoop {
            control: Control::new(control_config, handle),
            ports: config.ports.clone(),
            links,
            keys: keys(this.sas.clone()),
            checkpoint: opening.checkpoint,
            checkpoint_fault: opening.checkpoint_fault,
            lab_keys,
            verdict_log,
            watcher: Watcher::new(Arc::clone(&this.counters)),
            clock,
            stats,
            requests,
            sas,
            state: LoopState::default(),
        };
        if let Some(first) = &opening.first {
            control.program_first(first)?;
            wait_until_ready(&mut control, clock)?;
        }
        this.signals.go.store(true, Ordering::Relaxed);
        let stop = Arc::clone(&this.control_stop);
        let (end, control_ended) = oneshot::channel::<()>();
        this.control_ended = Some(control_ended);
        let thread = Builder::new()
            .name("sluice-control".to_owned())
            .spawn(move || {
                control.run(&stop);
                // Not sent, only dropped: also when the thread breaks.
                drop(end);
            })
            .map_err(|error| StartError::Thread {
                name: "control",
                error,
            })?;
        this.threads.push(thread);
        Ok(this)
    }

    /// The way to the control thread.
    #[must_use]
    pub const fn client(&self) -> &ControlClient {
        &self.client
    }

    /// The way for a key driver.
    #[must_use]
    pub const fn sas(&self) -> &SaSender {
        &self.sas
    }

    /// The worker's counters.
    #[must_use]
    pub const fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// What the worker's loop did.
    #[must_use]
    pub const fn stats(&self) -> &Arc<LoopStats> {
        &self.stats
    }

    /// Waits until the worker has ended; `None` if it or the control thread broke: a dataplane
    /// that can't be programmed would let nobody in and revoke nothing. Tells once.
    pub async fn ended(&mut self) -> Option<WorkerEnd> {
        let worker = self.ended.as_mut()?;
        let control = self.control_ended.as_mut()?;
        let end = tokio::select! {
            biased;
            end = worker => end.ok(),
            _ = control => None,
        };
        self.ended = None;
        end
    }

    /// Ends the worker at its next burst boundary; [`Self::ended`] tells when its ports are
    /// closed.
    pub fn stop_worker(&self) {
        self.signals.stop.store(true, Ordering::Relaxed);
    }

    /// Ends the worker at its next burst boundary, closes the ports, ends the control thread.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.signals.stop.store(true, Ordering::Relaxed);
        self.control_stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the dataplane broke");
            }
        }
    }
}

type Entered<S> = (
    <S as PortSet>::Seat,
    Worker<Gated<<S as PortSet>::Port>>,
    WorkerHandle,
);

/// Makes the worker, in its own thread.
fn enter<S: PortSet>(
    set: S,
    core: Option<u16>,
    config: &WorkerConfig,
) -> Result<Entered<S>, StartError> {
    if let Some(core) = core {
        pin(core).map_err(|error| StartError::Core { core, error })?;
    }
    let (seat, ports) = set.enter()?;
    let ports = ports.into_iter().map(Gated::new).collect();
    let (worker, handle) = Worker::new(ports, config)?;
    Ok((seat, worker, handle))
}

fn pin(core: u16) -> std::io::Result<()> {
    let core = usize::from(core);
    let mut set = rustix::thread::CpuSet::new();
    if core >= rustix::thread::CpuSet::MAX_CPU {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

fn wait_until_ready<L: crate::ports::Links>(
    control: &mut ControlLoop<L>,
    clock: Clock,
) -> Result<(), StartError> {
    let deadline = clock.now() + u64::try_from(FIRST_MAX.as_nanos()).unwrap_or(u64::MAX);
    loop {
        control.turn();
        if control.is_ready() {
            return Ok(());
        }
        if clock.now() >= deadline {
            return Err(StartError::FirstSilent);
        }
        // The worker has to poll in between; nothing can be waited on for that.
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn random_words() -> Result<[u64; 3], StartError> {
    let random = SystemRandom::new();
    let mut words = [0; 3];
    for word in &mut words {
        let mut bytes = [0; 8];
        random.fill(&mut bytes).map_err(|_| StartError::Random)?;
        *word = u64::from_ne_bytes(bytes);
    }
    Ok(words)
}
