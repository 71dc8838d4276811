//! What was decided and by which rule, for logs, metrics and tests.

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::flow::key::Tuple;
use crate::judge::{Rules, Shadows};
use crate::reason::DropReason;
use crate::route::Attach;
use crate::snapshot::PortIndex;
use crate::tick::Tick;

/// Records that wait for their reader, at most; more are lost and counted.
pub const VERDICTS_MAX: usize = 4096;

/// One verdict on a flow: when it was first seen, or judged again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VerdictRecord {
    /// When.
    pub at: Tick,
    /// The generation that judged.
    pub generation: u64,
    /// The port the packet came by.
    pub port: PortIndex,
    /// The initiator's tuple.
    pub tuple: Tuple,
    /// Why it was dropped; `None` if it was allowed.
    pub denied: Option<DropReason>,
    /// The rules that spoke.
    pub rules: Rules,
    /// Where shadow policies would have it otherwise.
    pub shadows: Shadows,
    /// Where an allowed flow's packets go.
    pub to: Option<Attach>,
}

/// The worker's side: never blocks, never allocates.
#[derive(Debug)]
pub struct VerdictSink(Sender<VerdictRecord>);

/// The reader's side.
#[derive(Debug)]
pub struct Verdicts(Receiver<VerdictRecord>);

/// A bounded ring between a worker and the control thread.
#[must_use]
pub fn channel() -> (VerdictSink, Verdicts) {
    let (tx, rx) = bounded(VERDICTS_MAX);
    (VerdictSink(tx), Verdicts(rx))
}

impl VerdictSink {
    /// Hands a record over; `false` if it was lost.
    #[inline]
    pub(crate) fn push(&self, record: VerdictRecord) -> bool {
        self.0.try_send(record).is_ok()
    }
}

impl Verdicts {
    /// The next record.
    #[must_use]
    pub fn next(&self) -> Option<VerdictRecord> {
        self.0.try_recv().ok()
    }
}
