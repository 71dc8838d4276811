//! The verdict log: what the dataplane decided, one JSON document a line, within a rate.
//!
//! It has a thread of its own, so that a slow disk holds up nothing else; what comes faster
//! than it writes is counted as lost.

mod limit;
mod line;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use sluice_offload_api::State;
use sluice_offload_api::model::FlowVerdict;

pub(super) use line::protocol;

use super::config::VerdictLogConfig;
use crate::incident::VERDICTS_MAX;
use crate::local::LogView;
use limit::Limiter;
use line::Names;

/// Verdicts that wait to be written, at most.
const WAITING_MAX: usize = 4096;
/// Between two summaries of what was suppressed.
const SUMMARY_EVERY: Duration = Duration::from_secs(1);

/// The log's near end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct VerdictLog {
    sender: SyncSender<FlowVerdict>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// What verdicts are named by.
    state: Mutex<Arc<State>>,
    /// The last ones, whatever of them is written: for a look back.
    last: Mutex<VecDeque<FlowVerdict>>,
    // Each is only counted up, and read for people: no order with anything else.
    written: AtomicU64,
    suppressed: AtomicU64,
    lost: AtomicU64,
    failed: AtomicU64,
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl VerdictLog {
    /// Opens the log.
    ///
    /// # Errors
    /// Those of opening its file, and of starting its thread.
    pub fn start(config: &VerdictLogConfig) -> io::Result<Self> {
        let out: Box<dyn Write + Send> = match &config.path {
            None => Box::new(io::stdout()),
            Some(path) => Box::new(open(path)?),
        };
        let (sender, verdicts) = sync_channel(WAITING_MAX);
        let shared = Arc::new(Shared::default());
        let mut writer = Writer {
            out,
            allowed: config.allowed,
            limiter: Limiter::new(config.pod_per_second, config.per_second),
            names: Names::default(),
            shared: Arc::clone(&shared),
            start: Instant::now(),
        };
        let thread = thread::Builder::new().name("verdict-log".to_owned());
        thread.spawn(move || writer.run(&verdicts))?;
        Ok(Self { sender, shared })
    }

    /// Takes a verdict; never waits for the disk.
    pub fn offer(&self, verdict: FlowVerdict) {
        let mut last = self.last();
        if last.len() == VERDICTS_MAX {
            last.pop_front();
        }
        last.push_back(verdict.clone());
        drop(last);
        if self.sender.try_send(verdict).is_err() {
            count(&self.shared.lost, 1);
        }
    }

    fn last(&self) -> MutexGuard<'_, VecDeque<FlowVerdict>> {
        let last = self.shared.last.lock();
        last.unwrap_or_else(PoisonError::into_inner)
    }

    /// The last verdicts, oldest first, those too that the log leaves out.
    #[must_use]
    pub fn last_verdicts(&self) -> Vec<FlowVerdict> {
        self.last().iter().cloned().collect()
    }

    /// The dataplane has lost some before they came here.
    pub fn on_lost(&self, verdicts: u64) {
        count(&self.shared.lost, verdicts);
    }

    /// Verdicts from now on are named by this state.
    pub fn on_state(&self, state: State) {
        let mut shared = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *shared = Arc::new(state);
    }

    /// What became of the verdicts so far.
    #[must_use]
    pub fn view(&self) -> LogView {
        let read = |it: &AtomicU64| it.load(Ordering::Relaxed);
        LogView {
            written: read(&self.shared.written),
            suppressed: read(&self.shared.suppressed),
            lost: read(&self.shared.lost),
            failed: read(&self.shared.failed),
        }
    }
}

/// Appends: who rotates the file copies and truncates it.
fn open(path: &std::path::Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640).open(path)
}

struct Writer {
    out: Box<dyn Write + Send>,
    allowed: bool,
    limiter: Limiter,
    names: Names,
    shared: Arc<Shared>,
    start: Instant,
}

impl Writer {
    fn run(&mut self, verdicts: &Receiver<FlowVerdict>) {
        let mut summary_due = self.start + SUMMARY_EVERY;
        loop {
            let left = summary_due.saturating_duration_since(Instant::now());
            match verdicts.recv_timeout(left) {
                Ok(verdict) => self.on_verdict(&verdict),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() >= summary_due {
                self.summarize();
                summary_due = Instant::now() + SUMMARY_EVERY;
            }
        }
        self.summarize();
    }

    fn on_verdict(&mut self, verdict: &FlowVerdict) {
        if verdict.denied.is_none() && !self.allowed {
            return;
        }
        let state = {
            let state = self.shared.state.lock();
            Arc::clone(&state.unwrap_or_else(PoisonError::into_inner))
        };
        if !self.names.are_of(&state) {
            self.names = Names::of(state);
        }
        if !self
            .limiter
            .admit(self.names.key(verdict), now_ns(self.start))
        {
            count(&self.shared.suppressed, 1);
            return;
        }
        let line = serde_json::to_string(&self.names.line(verdict, time_ms()));
        self.write(line);
    }

    fn summarize(&mut self) {
        for (pod, suppressed) in self.limiter.take_suppressed(now_ns(self.start)) {
            let line = json!({"time_ms": time_ms(), "pod": pod, "suppressed": suppressed});
            self.write(Ok(line.to_string()));
        }
    }

    fn write(&mut self, line: serde_json::Result<String>) {
        let written = line.map_err(io::Error::from).and_then(|mut line| {
            line.push('\n');
            self.out.write_all(line.as_bytes())?;
            self.out.flush()
        });
        let counter = match written {
            Ok(()) => &self.shared.written,
            Err(_) => &self.shared.failed,
        };
        count(counter, 1);
    }
}

fn now_ns(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn time_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
