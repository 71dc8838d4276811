//! SCTP as a bump in the wire follows it: the tags by which each end knows its packets.
//!
//! Each end chooses a tag and every packet to it carries that (RFC 9260 section 8.5), so a
//! forger has to guess 32 bits. What must be let through without (INIT, a HEARTBEAT of a
//! restarted association) changes nothing before the other end has answered it.

use crate::flow::table::{INITIATOR, RESPONDER};
use crate::flow::tcp::Taken;
use crate::reason::DropReason;
use crate::wire::sctp::{Chunks, chunk};

/// The handshake is complete.
const OPEN: u8 = 1;
/// The initiator, the responder, sent SHUTDOWN.
const SHUT: [u8; 2] = [2, 4];
/// Aborted or shut down.
const CLOSED: u8 = 8;
/// Picked up in its midst: a tag that isn't known is learned from any packet.
const PICKED_UP: u8 = 16;

/// What the initiator, the responder, offers is a tag that the other end's HEARTBEAT had,
/// not one of its own INIT or INIT ACK.
const GUESSED: [u8; 2] = [32, 64];

/// How far an association has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// The handshake isn't complete.
    Opening,
    /// It is.
    Established,
    /// This end sent SHUTDOWN.
    Closing(usize),
    /// Shut down or aborted.
    Closed,
}

/// An association, in either direction. A tag of 0 isn't known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sctp {
    /// The tag that each end chose: packets of the other carry it.
    tags: [u32; 2],
    /// One that each end offers in a new handshake, not in force.
    offers: [u32; 2],
    bits: u8,
}

impl Sctp {
    /// An association that its initiator's INIT begins, or a second path of one, which
    /// begins with HEARTBEAT (RFC 9260 section 5.4).
    #[must_use]
    pub const fn begun(p: &Chunks) -> Self {
        // That of an INIT is 0.
        Self::with([p.init_tag, p.tag], 0)
    }

    /// An association in its midst, by a packet that `from` sent.
    #[must_use]
    pub const fn picked_up(p: &Chunks, from: usize) -> Self {
        let tags = if from == INITIATOR {
            [0, p.tag]
        } else {
            [p.tag, 0]
        };
        Self::with(tags, PICKED_UP)
    }

    const fn with(tags: [u32; 2], bits: u8) -> Self {
        Self {
            tags,
            offers: [0; 2],
            bits,
        }
    }

    const fn has(&self, bit: u8) -> bool {
        self.bits & bit != 0
    }

    /// How far it has come.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        if self.has(CLOSED) {
            Phase::Closed
        } else if !self.has(OPEN) {
            Phase::Opening
        } else if self.has(SHUT[INITIATOR]) {
            Phase::Closing(INITIATOR)
        } else if self.has(SHUT[RESPONDER]) {
            Phase::Closing(RESPONDER)
        } else {
            Phase::Established
        }
    }

    /// Whether end `from` may have sent a packet with this tag.
    //= RFC 9260 section 10, ICMP8 and ICMP9: a tag that is neither the peer's nor that of
    //= an INIT under way is discarded
    #[must_use]
    pub fn may_have_sent(&self, tag: u32, from: usize) -> bool {
        let from = from.min(RESPONDER);
        if tag == 0 {
            return !self.has(OPEN) || self.offers[from] != 0;
        }
        self.is_tag_or_offer(tag, 1 - from)
    }

    /// Takes a packet of end `from`.
    ///
    /// # Errors
    /// [`DropReason::Malformed`] for chunks that may not stand together,
    /// [`DropReason::SctpTag`] for a tag that isn't the other end's. Nothing has changed.
    pub fn take(&mut self, p: &Chunks, from: usize) -> Result<Taken, DropReason> {
        let (from, to) = (from.min(RESPONDER), 1 - from.min(RESPONDER));
        if p.kinds == 0 {
            return Err(DropReason::Malformed);
        }
        if self.has(PICKED_UP) && self.tags[to] == 0 && !p.has(chunk::INIT) {
            self.tags[to] = p.tag;
        }
        let taken = if p.has(chunk::INIT) {
            Some(self.take_init(p, from))
        } else if p.has(chunk::INIT_ACK) {
            self.take_init_ack(p, from)
        } else if p.has(chunk::COOKIE_ECHO | chunk::COOKIE_ACK) {
            self.take_cookie(p, from)
        } else if p.has(chunk::ABORT | chunk::SHUTDOWN_COMPLETE) {
            self.take_end(p, from)
        } else if p.has(chunk::HEARTBEAT) && !p.has(chunk::OTHER) {
            Some(self.take_heartbeat(p, to))
        } else if p.has(chunk::HEARTBEAT_ACK) && !p.has(chunk::OTHER) {
            self.take_heartbeat_ack(p, from)
        } else {
            self.take_other(p, from)
        };
        taken.ok_or(DropReason::SctpTag)
    }

    fn is_tag(&self, tag: u32, of: usize) -> bool {
        tag != 0 && tag == self.tags[of]
    }

    fn is_tag_or_offer(&self, tag: u32, of: usize) -> bool {
        let offered = tag == self.offers[of] && !self.has(GUESSED[of]);
        tag != 0 && (tag == self.tags[of] || offered)
    }

    fn offer(&mut self, tag: u32, of: usize, is_guess: bool) {
        self.offers[of] = tag;
        self.bits &= !GUESSED[of];
        if is_guess {
            self.bits |= GUESSED[of];
        }
    }

    fn take_init(&mut self, p: &Chunks, from: usize) -> Taken {
        if self.tags[from] == 0 {
            self.tags[from] = p.init_tag;
        } else if self.tags[from] != p.init_tag {
            self.offer(p.init_tag, from, false);
        }
        Taken::Unmoved
    }

    fn take_init_ack(&mut self, p: &Chunks, from: usize) -> Option<Taken> {
        if !self.is_tag_or_offer(p.tag, 1 - from) {
            return None;
        }
        let first = self.tags[from] == 0;
        if first {
            self.tags[from] = p.init_tag;
        } else if self.tags[from] != p.init_tag {
            self.offer(p.init_tag, from, false);
        }
        Some(if first { Taken::Alive } else { Taken::Unmoved })
    }

    /// A cookie proves that its sender has the other end's answer: what either offered is
    /// now in force.
    //= RFC 9260 section 5.2.4: the tags of the cookie are those of the association from
    //= then on
    fn take_cookie(&mut self, p: &Chunks, from: usize) -> Option<Taken> {
        let to = 1 - from;
        if !self.is_tag_or_offer(p.tag, to) {
            return None;
        }
        if p.tag != self.tags[to] {
            self.tags[to] = p.tag;
            self.offers[to] = 0;
            self.bits &= PICKED_UP;
        }
        if p.has(chunk::COOKIE_ACK) {
            self.bits |= OPEN;
        }
        Some(Taken::Alive)
    }

    //= RFC 9260 section 8.5.1: rules for ABORT and SHUTDOWN COMPLETE: the receiver's tag,
    //= or with the T bit the sender's own
    fn take_end(&mut self, p: &Chunks, from: usize) -> Option<Taken> {
        let to = 1 - from;
        let of = if p.reflected { from } else { to };
        if self.is_tag(p.tag, of) {
            self.bits |= CLOSED;
            return Some(Taken::Alive);
        }
        // To an INIT, or a SHUTDOWN ACK of an older association.
        let answers = self.is_tag_or_offer(p.tag, of);
        answers.then_some(Taken::Unmoved)
    }

    /// A path's first, or one after a restart that another path has seen.
    fn take_heartbeat(&mut self, p: &Chunks, to: usize) -> Taken {
        if self.tags[to] == 0 {
            self.tags[to] = p.tag;
        } else if self.tags[to] != p.tag {
            self.offer(p.tag, to, true);
            return Taken::Unmoved;
        }
        Taken::Alive
    }

    fn take_heartbeat_ack(&mut self, p: &Chunks, from: usize) -> Option<Taken> {
        let to = 1 - from;
        if self.tags[to] == 0 {
            self.tags[to] = p.tag;
        } else if !self.is_tag(p.tag, to) {
            // It answers a HEARTBEAT with a tag that wasn't known: both have restarted.
            if !self.has(GUESSED[from]) {
                return None;
            }
            self.tags[from] = self.offers[from];
            self.tags[to] = p.tag;
            self.offers = [0; 2];
            self.bits &= !(GUESSED[from] | GUESSED[to]);
        }
        if self.tags[from] != 0 {
            self.bits |= OPEN;
        }
        Some(Taken::Alive)
    }

    fn take_other(&mut self, p: &Chunks, from: usize) -> Option<Taken> {
        let to = 1 - from;
        if !self.is_tag(p.tag, to) {
            //= RFC 9260 section 9.2: in SHUTDOWN-ACK-SENT an INIT is answered with
            //= SHUTDOWN ACK, and that (section 8.4) with SHUTDOWN COMPLETE, its tag reflected
            let older = p.has(chunk::SHUTDOWN_ACK) && from == RESPONDER && !self.has(OPEN);
            if older && p.tag != 0 {
                self.offer(p.tag, to, false);
                return Some(Taken::Unmoved);
            }
            return None;
        }
        if self.has(PICKED_UP) && self.tags[from] != 0 {
            self.bits |= OPEN;
        }
        if p.has(chunk::SHUTDOWN) {
            self.bits |= SHUT[from];
        }
        Some(Taken::Alive)
    }
}
