//! Questions on their way: an answer counts once, and only to who asked.

use crate::flow::entry::Deadline;
use crate::flow::key::Tuple;
use crate::hash::HashKey;
use crate::names::message::{Asked, Message};
use crate::snapshot::PortIndex;
use crate::tick::Tick;

/// Questions of one port that can wait for their answers. A later one may take an earlier
/// one's place, whose answer then teaches nothing.
pub const ASKED_MAX: usize = 256;
/// How long an answer may take, in nanoseconds: resolvers' clients give up before that.
const ANSWER_NS_MAX: u64 = 10 * Tick::SECOND;

/// The questions of all ports of a worker.
#[derive(Debug)]
pub struct Questions {
    key: HashKey,
    /// By port and hash; 0 is none. All zero at the start, so memory that no port needs is
    /// never touched.
    tags: Box<[u64]>,
    /// Milliseconds, see [`Deadline`].
    until: Box<[u32]>,
}

impl Questions {
    /// Room for the questions of so many ports.
    #[must_use]
    pub fn new(key: HashKey, ports: usize) -> Self {
        Self {
            key,
            tags: vec![0; ports * ASKED_MAX].into_boxed_slice(),
            until: vec![0; ports * ASKED_MAX].into_boxed_slice(),
        }
    }

    /// What tells a question from others: who asks whom, the message's number, its name and
    /// what is asked of it. `tuple` is the asker's.
    fn tag(&self, tuple: &Tuple, message: &Message<'_>) -> u64 {
        let halves = |it: u128| {
            #[allow(clippy::cast_possible_truncation, reason = "the two halves")]
            let both = ((it >> 64) as u64, it as u64);
            both
        };
        let ((a, b), (c, d)) = (halves(tuple.src.0), halves(tuple.dst.0));
        let asked = match message.asked {
            None => 0,
            Some(Asked::V4) => 1,
            Some(Asked::V6) => 2,
        };
        let numbers = u64::from(tuple.src_port) << 48
            | u64::from(tuple.protocol) << 40
            | asked << 32
            | u64::from(message.id);
        let name = message.name.hash(self.key);
        // Never 0, which is none.
        self.key.hash([a, b, c, d, numbers, name]) | 1
    }

    #[allow(clippy::cast_possible_truncation, reason = "less than ASKED_MAX")]
    fn place(port: PortIndex, tag: u64) -> usize {
        usize::from(port.0) * ASKED_MAX + (tag >> 32) as usize % ASKED_MAX
    }

    /// Notes a question that the pod behind `port` asks.
    pub fn ask(&mut self, port: PortIndex, tuple: &Tuple, message: &Message<'_>, now: Tick) {
        let tag = self.tag(tuple, message);
        let at = Self::place(port, tag);
        if let (Some(slot), Some(until)) = (self.tags.get_mut(at), self.until.get_mut(at)) {
            *slot = tag;
            *until = Deadline::after(now, ANSWER_NS_MAX).ms();
        }
    }

    /// Whether an answer is to a question that the pod behind `port` asked and that had no
    /// answer yet.
    #[must_use]
    pub fn take(
        &mut self,
        port: PortIndex,
        tuple: &Tuple,
        message: &Message<'_>,
        now: Tick,
    ) -> bool {
        let tag = self.tag(tuple, message);
        let at = Self::place(port, tag);
        let (Some(slot), Some(until)) = (self.tags.get_mut(at), self.until.get(at)) else {
            return false;
        };
        if *slot != tag || Deadline::from_ms(*until).is_over(now) {
            return false;
        }
        *slot = 0;
        true
    }
}
