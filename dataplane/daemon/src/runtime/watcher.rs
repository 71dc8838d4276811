//! Who reads verdicts as they fall.

use sluice_dataplane_control::VerdictLine;
use sluice_offload_api::model::FlowVerdict;
use tokio::sync::mpsc;

use super::crew::Counted;

/// One reader at most. Nobody waits for it: what it is too slow for is lost and counted.
#[derive(Debug)]
pub(super) struct Watcher {
    counted: Counted,
    reader: Option<Reader>,
}

#[derive(Debug)]
struct Reader {
    to: mpsc::Sender<FlowVerdict>,
    /// Verdicts that didn't fit on their way to it.
    missed: u64,
    /// What the workers had lost when it began.
    lost_before: u64,
}

impl Watcher {
    pub(super) const fn new(counted: Counted) -> Self {
        Self {
            counted,
            reader: None,
        }
    }

    /// The next reader; the stream of the one before ends.
    pub(super) fn begin(&mut self, to: mpsc::Sender<FlowVerdict>) {
        let lost_before = self.counted.verdicts_lost();
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
        let lost = self.counted.verdicts_lost();
        let lost = lost.wrapping_sub(reader.lost_before);
        let verdict = line.record(lost.wrapping_add(reader.missed));
        match reader.to.try_send(verdict) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => reader.missed += 1,
            Err(mpsc::error::TrySendError::Closed(_)) => self.reader = None,
        }
    }
}
