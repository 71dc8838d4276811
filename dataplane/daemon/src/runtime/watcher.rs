//! Who reads verdicts as they fall.

use std::sync::Arc;

use sluice_dataplane_control::VerdictLine;
use sluice_dataplane_core::counters::Counters;
use sluice_offload_api::model::FlowVerdict;
use tokio::sync::mpsc;

/// One reader at most. Nobody waits for it: what it is too slow for is lost and counted.
#[derive(Debug)]
pub(super) struct Watcher {
    counters: Arc<Counters>,
    reader: Option<Reader>,
}

#[derive(Debug)]
struct Reader {
    to: mpsc::Sender<FlowVerdict>,
    /// Verdicts that didn't fit on their way to it.
    missed: u64,
    /// What the worker had lost when it began.
    lost_before: u64,
}

impl Watcher {
    pub(super) const fn new(counters: Arc<Counters>) -> Self {
        Self {
            counters,
            reader: None,
        }
    }

    /// The next reader; the stream of the one before ends.
    pub(super) fn begin(&mut self, to: mpsc::Sender<FlowVerdict>) {
        let lost_before = self.counters.verdicts_lost.read();
        self.reader = Some(Reader {
            to,
            missed: 0,
            lost_before,
        });
    }

    /// Hands a verdict over.
    pub(super) fn note(&mut self, line: &VerdictLine) {
        let Some(reader) = &mut self.reader else {
            return;
        };
        let lost = self
            .counters
            .verdicts_lost
            .read()
            .wrapping_sub(reader.lost_before);
        let verdict = line.record(lost.wrapping_add(reader.missed));
        match reader.to.try_send(verdict) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => reader.missed += 1,
            Err(mpsc::error::TrySendError::Closed(_)) => self.reader = None,
        }
    }
}
