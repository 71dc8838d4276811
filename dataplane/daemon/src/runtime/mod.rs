//! Worker threads, one control thread, and the order in which they come up:
//!
//! ```text
//! ports open ─► workers poll, receive nothing ─► first generation and its keys in force
//!            ─► workers receive ─► agents are let in
//! ```
//! So no frame is ever judged by less than the last acknowledged generation.

mod ages;
mod client;
mod clock;
mod control;
mod crew;
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
use sluice_dataplane_control::{Control, ControlConfig, Former, ProgramError, Workers, WrongCrew};
use sluice_dataplane_core::flow::quota::Quotas;
use sluice_dataplane_core::steer::BadShares;
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::worker::{TooManyPorts, WorkerConfig};
use sluice_offload_api::Transaction;
use tokio::sync::oneshot;

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::keys::{KeyDriver, SaSender};
use crate::lab_keys::{LabKeys, LabKeysError};
use crate::ports::{OPEN_MAX, PortError, PortSet};
use crate::verdict_log::{VerdictLog, VerdictLogError};

pub(crate) use client::Programmed;
pub use client::{ControlClient, NoSuch, Silent, Vitals};
pub use clock::Clock;
pub use crew::Counted;
pub(crate) use roles::check as check_roles;
pub use worker::{LoopStats, WorkerEnd};

use client::REQUESTS_MAX;
use control::{ControlLoop, LoopState};
use crew::Crew;
use watcher::Watcher;
use worker::Pace;

/// Commands of a key driver that wait for the control thread, at most.
const SA_COMMANDS_MAX: usize = 1024;
/// How long the first generation and its keys may take to be in force.
const FIRST_MAX: Duration = Duration::from_secs(60);

/// What is in force before the first frame.
#[derive(Debug)]
pub struct Opening {
    /// The first generation; `None`: everything is closed until an agent comes.
    pub first: Option<Transaction>,
    /// Addresses that nobody had any more when it was kept.
    pub former: Former,
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
    /// Too many workers.
    #[error(transparent)]
    Workers(#[from] BadShares),
    /// Ports that came up with queues for others.
    #[error(transparent)]
    Crew(#[from] WrongCrew),
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
    #[error("can't bind a worker to core {core}: {error}; give it a core of this process")]
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
    #[error("a worker did not start within {} s", OPEN_MAX.as_secs())]
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
    crew: Crew,
    control_stop: Arc<AtomicBool>,
    control: Option<JoinHandle<()>>,
    control_ended: Option<oneshot::Receiver<()>>,
}

impl Dataplane {
    /// Opens the ports and starts all threads. Returns when the first generation and its
    /// keys are in force and frames are received, or when nothing is open any more.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start<S: PortSet>(
        config: &Config,
        set: S,
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
        let (links, queues) = set.open(config)?;
        let pace = Pace {
            clock,
            idle: config.worker.idle,
            exit_when_idle: opening.exit_when_idle,
        };
        // Each worker has its part of all there is room for.
        let part = |all: usize| all.div_ceil(queues.len().max(1));
        let flows = usize::try_from(config.worker.flows).unwrap_or(usize::MAX);
        let quotas = config.worker.quotas;
        let worker_config = WorkerConfig {
            flows: part(flows),
            hash_key,
            timeouts: config.worker.timeouts,
            quotas: Quotas {
                flows_max: part(quotas.flows_max),
                half_open_max: part(quotas.half_open_max),
            },
            pickup_until: opening.pickup_until(),
            names: config.worker.names,
        };
        let (crew, handles, shares) = Crew::start(
            queues,
            (usize::from(config.lanes()), config.ports.len()),
            &config.worker.cores,
            worker_config,
            pace,
        )?;
        let control_stop = Arc::<AtomicBool>::default();
        let (request_tx, requests) = bounded(REQUESTS_MAX);
        let (sa_tx, sas) = bounded(SA_COMMANDS_MAX);
        // From here on dropping this value ends the workers.
        let mut this = Self {
            client: ControlClient(request_tx),
            sas: SaSender(sa_tx),
            crew,
            control_stop,
            control: None,
            control_ended: None,
        };
        let names = config.port_names();
        let control_config = ControlConfig {
            ports: names,
            hash_key,
            instance,
        };
        let mut control = ControlLoop {
            control: Control::new(control_config, Workers::new(handles, shares)?),
            ports: config.ports.clone(),
            links,
            keys: keys(this.sas.clone()),
            checkpoint: opening.checkpoint,
            checkpoint_fault: opening.checkpoint_fault,
            lab_keys,
            verdict_log,
            watcher: Watcher::new(this.crew.counted.clone()),
            clock,
            counted: this.crew.counted.clone(),
            requests,
            sas,
            state: LoopState::default(),
        };
        control.control.recall(opening.former.clone());
        if let Some(first) = &opening.first {
            control.program_first(first)?;
            wait_until_ready(&mut control, clock)?;
        }
        this.crew.signals.go.store(true, Ordering::Relaxed);
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
        this.control = Some(thread);
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

    /// What the workers count.
    #[must_use]
    pub const fn counted(&self) -> &Counted {
        &self.crew.counted
    }

    /// Waits until the workers have ended; `None` if one of them or the control thread broke:
    /// a dataplane that can't be programmed would let nobody in and revoke nothing. Tells once.
    pub async fn ended(&mut self) -> Option<WorkerEnd> {
        let control = self.control_ended.as_mut()?;
        let end = tokio::select! {
            biased;
            end = self.crew.ended() => end,
            _ = control => None,
        };
        self.control_ended = None;
        end
    }

    /// Ends the workers at their next burst boundary; [`Self::ended`] tells when their ports
    /// are closed.
    pub fn stop_worker(&self) {
        self.crew.stop();
    }

    /// Ends the workers at their next burst boundary, closes the ports, ends the control
    /// thread.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.crew.stop();
        self.control_stop.store(true, Ordering::Relaxed);
        if self.control.take().is_some_and(|it| it.join().is_err()) {
            tracing::error!("the control thread of the dataplane broke");
        }
    }
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
