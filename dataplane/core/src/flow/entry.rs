//! One flow's entry, packed.

use crate::flow::key::{FlowKey, Tuple};
use crate::flow::state::{FlowState, Track};
use crate::names::DomainId;
use crate::route::{Attach, RuleRef};
use crate::snapshot::{PeerIndex, PortIndex};
use crate::tick::Tick;

/// Which end of a flow.
pub const INITIATOR: usize = 0;
/// The other end.
pub const RESPONDER: usize = 1;

/// The initiator's tuple is the key turned round.
const TURNED: u8 = 1;
const LIVE: u8 = 2;
/// The initiator's end is a peer, not a port.
const PEER: [u8; 2] = [4, 8];

/// The responder's end pays for it.
const RESPONDER_PAYS: u8 = 16;
/// The end is a node in clear, not a port.
const CLEAR: [u8; 2] = [32, 64];

/// A time in milliseconds modulo 2^32, good for deadlines up to 24 days away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Deadline(u32);

/// The furthest deadline: half of what the 32 bits can tell apart, and half again, for
/// entries that nobody looks at for as long.
const DEADLINE_MS_MAX: u32 = 1 << 30;

impl Deadline {
    pub(crate) fn after(now: Tick, timeout_ns: u64) -> Self {
        let whole_ms = timeout_ns.div_ceil(Tick::MS);
        let ms = u32::try_from(whole_ms).map_or(DEADLINE_MS_MAX, |ms| ms.min(DEADLINE_MS_MAX));
        Self(Self::ms_of(now).wrapping_add(ms))
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "modulo 2^32 milliseconds, see the type"
    )]
    const fn ms_of(at: Tick) -> u32 {
        (at.0 / Tick::MS) as u32
    }

    /// Whether `now` is the deadline or later.
    pub(crate) const fn is_over(self, now: Tick) -> bool {
        self.later_ms(Self(Self::ms_of(now))) <= 0
    }

    /// Its number.
    pub(crate) const fn ms(self) -> u32 {
        self.0
    }

    /// The deadline of a number.
    pub(crate) const fn from_ms(ms: u32) -> Self {
        Self(ms)
    }

    /// By how many milliseconds this is later than the other.
    pub(crate) const fn later_ms(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0).cast_signed()
    }

    /// The number of the second, of 1024 ms and modulo 2^22, that it is in.
    pub(crate) const fn second(self) -> u32 {
        self.0 >> 10
    }
}

/// A flow: both directions in one entry.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    key: FlowKey,
    ends: [u16; 2],
    bits: u8,
    /// See [`Self::domain`].
    domain: [u8; 3],
    /// The rule's number in its policy; there are 4096 of one at most.
    rule: u16,
    policy: u32,
    generations: [u32; 2],
    /// The next entry in its bucket, or in the list of free ones.
    pub(super) next: u32,
    /// When the entry ends if no packet comes.
    pub(super) expires: Deadline,
    packets: [u32; 2],
    /// What is remembered of its packets.
    pub(super) track: Track,
}

impl Flow {
    pub(super) fn new(key: FlowKey, turned: bool, payer: usize, track: Track) -> Self {
        let turned = if turned { TURNED } else { 0 };
        let payer = if payer == RESPONDER {
            RESPONDER_PAYS
        } else {
            0
        };
        Self {
            key,
            ends: [u16::MAX; 2],
            bits: LIVE | turned | payer,
            domain: [0; 3],
            rule: 0,
            policy: RuleRef::NO_POLICY,
            generations: [0; 2],
            next: u32::MAX,
            expires: Deadline::after(Tick(0), 0),
            packets: [0; 2],
            track,
        }
    }

    /// The tuple of the initiator's packets.
    #[must_use]
    pub const fn tuple(&self) -> Tuple {
        self.key.tuple(self.is_turned())
    }

    /// Where the initiator's and where the responder's packets come from and go to.
    #[inline]
    #[must_use]
    pub const fn ends(&self) -> [Attach; 2] {
        let [initiator, responder] = self.ends;
        [
            self.attach(initiator, INITIATOR),
            self.attach(responder, RESPONDER),
        ]
    }

    const fn attach(&self, index: u16, end: usize) -> Attach {
        if self.bits & PEER[end] != 0 {
            Attach::Peer(PeerIndex(index))
        } else if self.bits & CLEAR[end] != 0 {
            Attach::Clear(PeerIndex(index))
        } else {
            Attach::Port(PortIndex(index))
        }
    }

    /// The generations of the initiator's and the responder's endpoint that judged it;
    /// 0 where that end is no endpoint of this node.
    #[inline]
    #[must_use]
    pub const fn generations(&self) -> [u32; 2] {
        self.generations
    }

    /// The rule that allowed it.
    #[must_use]
    pub const fn rule(&self) -> RuleRef {
        RuleRef {
            policy: self.policy,
            rule: self.rule as u32,
        }
    }

    /// The pattern of domain names that its destination was known by, if that is why it was
    /// allowed: it stays while policy names the pattern, though the name's time be over.
    #[must_use]
    pub const fn domain(&self) -> DomainId {
        let [a, b, c] = self.domain;
        DomainId(u32::from_be_bytes([0, a, b, c]))
    }

    /// Packets from the initiator and from the responder, modulo 2^32.
    #[must_use]
    pub const fn packets(&self) -> [u32; 2] {
        self.packets
    }

    /// How far it has come.
    #[must_use]
    pub fn state(&self) -> FlowState {
        self.track.state()
    }

    /// Whether its end was seen, so that what begins a flow begins a new one.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.track.is_over()
    }

    /// What is remembered of its packets.
    #[must_use]
    pub const fn track(&self) -> &Track {
        &self.track
    }

    pub(super) const fn key(&self) -> &FlowKey {
        &self.key
    }

    pub(super) const fn is_turned(&self) -> bool {
        self.bits & TURNED != 0
    }

    /// The end that pays for it.
    pub(super) const fn payer(&self) -> usize {
        if self.bits & RESPONDER_PAYS != 0 {
            RESPONDER
        } else {
            INITIATOR
        }
    }

    pub(super) const fn is_live(&self) -> bool {
        self.bits & LIVE != 0
    }

    pub(super) const fn end(&mut self) {
        self.bits &= !LIVE;
    }

    pub(super) fn judge(
        &mut self,
        ends: [Attach; 2],
        generations: [u32; 2],
        rule: RuleRef,
        domain: DomainId,
    ) {
        let bits = PEER.into_iter().zip(CLEAR);
        for ((end, index), (peer, clear)) in ends.iter().zip(&mut self.ends).zip(bits) {
            self.bits &= !(peer | clear);
            match *end {
                Attach::Port(port) => *index = port.0,
                Attach::Peer(node) => {
                    self.bits |= peer;
                    *index = node.0;
                }
                Attach::Clear(node) => {
                    self.bits |= clear;
                    *index = node.0;
                }
            }
        }
        self.generations = generations;
        self.policy = rule.policy;
        self.rule = u16::try_from(rule.rule).unwrap_or(u16::MAX);
        // One too high for its bytes would be another.
        let known = if domain <= DomainId::MAX {
            domain
        } else {
            DomainId::NONE
        };
        let [_, a, b, c] = known.0.to_be_bytes();
        self.domain = [a, b, c];
    }

    pub(super) fn count(&mut self, end: usize) {
        if let Some(packets) = self.packets.get_mut(end) {
            *packets = packets.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_comes_when_it_is_due_also_where_its_number_starts_over() {
        for start_ms in [0, 77, u64::from(u32::MAX) - 3, 1 << 40] {
            let start = Tick(start_ms * Tick::MS + 5);
            let deadline = Deadline::after(start, 10 * Tick::MS);
            let due = Tick((start_ms + 10) * Tick::MS);
            assert!(!deadline.is_over(start) && !deadline.is_over(due - 1));
            assert!(deadline.is_over(due) && deadline.is_over(due + 20 * 86_400 * Tick::SECOND));
            assert_eq!(deadline.later_ms(Deadline::after(start, 0)), 10);
        }
    }

    #[test]
    fn a_timeout_of_for_ever_is_cut_and_one_of_nothing_is_over_at_once() {
        assert!(!Deadline::after(Tick(9), u64::MAX).is_over(Tick(9)));
        assert!(Deadline::after(Tick(9), 0).is_over(Tick(9)));
    }
}
