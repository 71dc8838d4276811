//! From a stream of messages to transactions.

use prost::Message as _;

use super::{ConvertError, ConvertReason};
use crate::limits::Limits;
use crate::model::Generation;
use crate::proto::ProgramRequest;
use crate::proto::program_request::Step;
use crate::refusal::{Refusal, RefusalReason};
use crate::transaction::{Key, Mode, Object, Op, Transaction};

/// Eats the messages of a stream one by one and gives a transaction at each commit.
///
/// ```text
///            Begin                  Commit: Transaction
///   idle ------------> open ----------------------------> idle
///    |                  |                                  ^
///    | anything else    | a fault                          |
///    | but Commit       v             Commit: nothing      |
///    '---- Refusal --> skipping ---------------------------'
/// ```
///
/// So each commit is answered once, by what [`Assembler::on_message`] returned for it or
/// for a message before it. A commit on its own is refused.
#[derive(Debug)]
pub struct Assembler {
    limits: Limits,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Open(Open),
    Skipping,
}

/// A transaction of which some has come.
#[derive(Debug)]
struct Open {
    mode: Mode,
    ops: Vec<Op>,
    bytes: usize,
}

impl Default for Assembler {
    fn default() -> Self {
        Self::new(Limits::MAX)
    }
}

impl Assembler {
    /// One for a new stream. It holds at most `limits.ops` operations that came in
    /// `limits.transaction_bytes` bytes.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            phase: Phase::Idle,
        }
    }

    /// Takes the next message; gives a transaction if it was the commit of one.
    ///
    /// # Errors
    /// Why the transaction is refused, once; its other messages up to the commit are
    /// skipped.
    pub fn on_message(&mut self, message: ProgramRequest) -> Result<Option<Transaction>, Refusal> {
        let ends = matches!(message.step, Some(Step::Commit(_)));
        let (next, result) = match core::mem::replace(&mut self.phase, Phase::Skipping) {
            Phase::Skipping => (Phase::Skipping, Ok(None)),
            Phase::Idle => match begin(message) {
                Ok(open) => (Phase::Open(open), Ok(None)),
                Err(refusal) => (Phase::Skipping, Err(refusal)),
            },
            Phase::Open(mut open) => match open.on_message(message, &self.limits) {
                Ok(None) => (Phase::Open(open), Ok(None)),
                Ok(Some(generation)) => (Phase::Idle, Ok(Some(open.close(generation)))),
                Err(refusal) => (Phase::Skipping, Err(refusal)),
            },
        };
        self.phase = if ends { Phase::Idle } else { next };
        result
    }

    /// Whether a transaction has begun and not ended: what a stream that breaks now loses.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }
}

/// The first message of a transaction.
fn begin(message: ProgramRequest) -> Result<Open, Refusal> {
    let bytes = message.encoded_len();
    let path = match message.step {
        Some(Step::Begin(begin)) => {
            let mode = Mode::try_from(begin).map_err(|error| error.inside("begin"))?;
            let ops = Vec::new();
            return Ok(Open { mode, ops, bytes });
        }
        Some(Step::Add(_)) => "add",
        Some(Step::Keep(_)) => "keep",
        Some(Step::Del(_)) => "del",
        Some(Step::Commit(_)) => "commit",
        None => return Err(ConvertError::new("step", ConvertReason::Absent).into()),
    };
    Err(Refusal::new(path, RefusalReason::NotOpen))
}

impl Open {
    /// Any further message; gives the generation if it was the commit.
    fn on_message(
        &mut self,
        message: ProgramRequest,
        limits: &Limits,
    ) -> Result<Option<Generation>, Refusal> {
        let index = self.ops.len();
        let at = || format!("ops[{index}]");
        self.bytes = self.bytes.saturating_add(message.encoded_len());
        let too_many = |what, count, max| {
            let why = RefusalReason::TooMany { what, count, max };
            Err(Refusal::new(at(), why))
        };
        if self.bytes > limits.transaction_bytes {
            return too_many("bytes", self.bytes, limits.transaction_bytes);
        }
        let op = match message.step {
            Some(Step::Add(add)) => Object::try_from(add)
                .map(Op::Add)
                .map_err(|error| error.inside("add")),
            Some(Step::Keep(keep)) => Key::try_from(keep)
                .map(Op::Keep)
                .map_err(|error| error.inside("keep")),
            Some(Step::Del(del)) => Key::try_from(del)
                .map(Op::Del)
                .map_err(|error| error.inside("del")),
            Some(Step::Commit(commit)) => return Ok(Some(Generation(commit.generation))),
            Some(Step::Begin(_)) => {
                return Err(Refusal::new("begin", RefusalReason::AlreadyOpen));
            }
            None => Err(ConvertError::new("", ConvertReason::Absent)),
        };
        let op = op.map_err(|error| error.inside(&at()))?;
        if index >= limits.ops {
            return too_many("operations", index.saturating_add(1), limits.ops);
        }
        self.ops.push(op);
        Ok(None)
    }

    fn close(self, generation: Generation) -> Transaction {
        Transaction {
            mode: self.mode,
            ops: self.ops,
            generation,
        }
    }
}
