//! The workers' threads: made together, ended together.

use core::sync::atomic::Ordering;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Sender, bounded};
use sluice_dataplane_core::counters::Counters;
use sluice_dataplane_core::port::Port;
use sluice_dataplane_core::steer::{Handoff, Shares};
use sluice_dataplane_core::worker::{Worker, WorkerConfig, WorkerHandle};
use tokio::sync::mpsc;

use super::StartError;
use super::worker::{self, LoopStats, Pace, Signals, WorkerEnd};
use crate::ports::{Gated, OPEN_MAX, Queues};

/// What workers count, to be read by anybody at any time.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    counters: Vec<Arc<Counters>>,
    stats: Vec<Arc<LoopStats>>,
}

impl Counted {
    /// What all workers have counted together.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters::total(self.counters.iter().map(|it| &**it))
    }

    /// What all workers' loops did together.
    #[must_use]
    pub fn stats(&self) -> LoopStats {
        LoopStats::total(self.stats.iter().map(|it| &**it))
    }

    /// Verdicts that nobody read in time.
    pub(super) fn verdicts_lost(&self) -> u64 {
        let lost = self.counters.iter().map(|it| it.verdicts_lost.read());
        lost.fold(0, u64::wrapping_add)
    }

    /// How often each worker has polled.
    pub(super) fn polls(&self) -> impl Iterator<Item = u64> {
        self.stats.iter().map(|it| it.polls.read())
    }
}

/// The threads. Dropped, they end at their next burst boundary and the ports close.
#[derive(Debug)]
pub(super) struct Crew {
    pub(super) counted: Counted,
    pub(super) signals: Arc<Signals>,
    threads: Vec<JoinHandle<()>>,
    ends: mpsc::UnboundedReceiver<Option<WorkerEnd>>,
    /// Workers whose end wasn't told.
    left: usize,
}

/// What a worker is told at its birth.
struct Cradle<Q: Queues> {
    queues: Q,
    handoff: Handoff<<Q::Port as Port>::Frame>,
    core: Option<u16>,
    config: WorkerConfig,
    pace: Pace,
    signals: Arc<Signals>,
    stats: Arc<LoopStats>,
    report: Report,
}

/// What a worker's thread says when it is set up.
type Born = Result<WorkerHandle, StartError>;

impl Crew {
    /// Starts a thread for each of the queues, on these cores. The handles are in the same
    /// order; nobody receives yet.
    pub(super) fn start<Q: Queues>(
        queues: Vec<Q>,
        (lanes, ports): (usize, usize),
        cores: &[Option<u16>],
        config: WorkerConfig,
        pace: Pace,
    ) -> Result<(Self, Vec<WorkerHandle>, Shares), StartError> {
        let handoffs = Handoff::crew(queues.len(), lanes, ports)?;
        let shares = handoffs.first().map(Handoff::shares).unwrap_or_default();
        let (end, ends) = mpsc::unbounded_channel();
        // From here on dropping this value ends whoever has started.
        let mut crew = Self {
            counted: Counted::default(),
            signals: Arc::default(),
            threads: Vec::new(),
            ends,
            left: queues.len(),
        };
        let cores = cores.iter().copied().chain(core::iter::repeat(None));
        let mut births = Vec::new();
        for ((queues, handoff), core) in queues.into_iter().zip(handoffs).zip(cores) {
            let stats = Arc::<LoopStats>::default();
            let cradle = Cradle {
                queues,
                handoff,
                core,
                config,
                pace,
                signals: Arc::clone(&crew.signals),
                stats: Arc::clone(&stats),
                report: Report {
                    to: end.clone(),
                    why: None,
                },
            };
            crew.counted.stats.push(stats);
            let (born, birth) = bounded::<Born>(1);
            births.push(birth);
            let name = format!("sluice-worker{}", crew.threads.len());
            let thread = Builder::new().name(name).spawn(move || live(cradle, &born));
            let thread = thread.map_err(|error| StartError::Thread {
                name: "worker",
                error,
            })?;
            crew.threads.push(thread);
        }
        let mut handles = Vec::new();
        for birth in births {
            let Ok(born) = birth.recv_timeout(OPEN_MAX) else {
                // Whatever it hangs in, nobody hangs with it.
                crew.threads.clear();
                return Err(StartError::WorkerSilent);
            };
            let handle = born?;
            crew.counted.counters.push(Arc::clone(&handle.counters));
            handles.push(handle);
        }
        Ok((crew, handles, shares))
    }

    /// Waits until all have ended and their ports are closed, or one of them broke: `None`.
    pub(super) async fn ended(&mut self) -> Option<WorkerEnd> {
        let mut last = None;
        while self.left > 0 {
            // One that has no more to say without having said it broke too.
            let why = self.ends.recv().await.flatten()?;
            self.left -= 1;
            last = Some(why);
        }
        last
    }

    /// Ends all at their next burst boundary.
    pub(super) fn stop(&self) {
        self.signals.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker of the dataplane broke");
            }
        }
    }
}

/// A worker's end, told also when its thread breaks.
struct Report {
    to: mpsc::UnboundedSender<Option<WorkerEnd>>,
    why: Option<WorkerEnd>,
}

impl Drop for Report {
    fn drop(&mut self) {
        // Nobody waits for it any more where the dataplane is gone.
        let _ = self.to.send(self.why);
    }
}

/// A worker's thread.
fn live<Q: Queues>(cradle: Cradle<Q>, born: &Sender<Born>) {
    let Cradle {
        queues,
        handoff,
        core,
        config,
        pace,
        signals,
        stats,
        mut report,
    } = cradle;
    let (seat, mut worker) = match enter(queues, core, &config, handoff) {
        Ok((seat, worker, handle)) => {
            if born.send(Ok(handle)).is_err() {
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
    report.why = Some(why);
}

type Entered<Q> = (
    <Q as Queues>::Seat,
    Worker<Gated<<Q as Queues>::Port>>,
    WorkerHandle,
);

/// Makes a worker, in its own thread.
fn enter<Q: Queues>(
    queues: Q,
    core: Option<u16>,
    config: &WorkerConfig,
    handoff: Handoff<<Q::Port as Port>::Frame>,
) -> Result<Entered<Q>, StartError> {
    if let Some(core) = core {
        pin(core).map_err(|error| StartError::Core { core, error })?;
    }
    let (seat, ports) = queues.enter()?;
    let ports = ports.into_iter().map(Gated::new).collect();
    let (worker, handle) = Worker::of_crew(ports, config, handoff)?;
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
