//! TCP as a bump in the wire follows it: how far the connection has come, and which
//! segments are of it.
//!
//! The bounds are those of van Rooij, "Real Stateful TCP Packet Filtering in IP Filter"
//! (2001), which netfilter uses too. What makes them safe: each end's segments pass here
//! before the other end has them. So nobody acknowledges what wasn't seen here, nobody
//! sends past an edge that wasn't seen here, and nobody has more under way than the
//! greatest window seen here. A segment outside is one that its receiver wouldn't take
//! either.

use crate::flow::table::{INITIATOR, RESPONDER};
use crate::meta::tcp_flag::{ACK, FIN, RST, SYN};
use crate::reason::DropReason;
use crate::wire::segment::{SCALE_MAX, Segment};

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// The initiator's SYN was seen.
    SynSent,
    /// The responder's too, and neither is acknowledged (RFC 9293 figure 8).
    SimultaneousOpen,
    /// The responder acknowledged the initiator's SYN. Also: picked up in its midst, and
    /// only one end has spoken.
    SynReceived,
    /// Both ends acknowledged what the other sent.
    Established,
    /// This end sent FIN, the other didn't.
    HalfClosed(usize),
    /// Both sent FIN.
    LastAck,
    /// Both FINs are acknowledged.
    TimeWait,
    /// Reset.
    Closed,
}

/// What a segment that passes did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// It shows that its connection lives, and may have moved it on.
    Alive,
    /// It changed nothing: its receiver has to look at it and answer.
    Unmoved,
}

/// Whether a RST ended it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Life {
    Going,
    Reset,
}

/// [`End::bits`]: sent a SYN.
const SENT_SYN: u8 = 1;
/// Sent an acknowledgement: `acked` is set.
const SENT_ACK: u8 = 2;
/// Sent a FIN: `end` is past it.
const SENT_FIN: u8 = 4;
/// Was seen only in the midst of its connection: its scale is unknown.
const PICKED_UP: u8 = 8;
/// Of the initiator: `syn_again` is set. Of the responder: `acked` is the number of an
/// acknowledgement that answered a SYN (RFC 5961 section 4's challenge).
const NOTED: u8 = 16;
/// Sent more than is known: its numbers were learned, or it sent fragments.
const SENT_MORE: u8 = 32;

/// [`End::scale`] of an end that offered none.
const NO_SCALE: u8 = u8::MAX;

/// What one end has sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct End {
    /// Past the last byte it sent.
    end: u32,
    /// Past the last byte that the other end let it send; while its SYN isn't
    /// acknowledged, past the SYN.
    edge: u32,
    /// The greatest number it acknowledged.
    acked: u32,
    /// The greatest window it offered: the header's field, to be scaled once the
    /// connection is open; before that in bytes.
    window: u16,
    /// The shift it offered, or [`NO_SCALE`].
    scale: u8,
    bits: u8,
}

impl End {
    const SILENT: Self = Self {
        end: 0,
        edge: 0,
        acked: 0,
        window: 0,
        scale: NO_SCALE,
        bits: 0,
    };

    /// Whether all of these are set.
    const fn has(&self, bits: u8) -> bool {
        self.bits & bits == bits
    }

    /// What a SYN tells of its sender.
    fn from_syn(s: &Segment) -> Self {
        Self {
            end: s.end(),
            edge: s.seq.wrapping_add(1),
            acked: s.ack,
            window: s.window,
            scale: s.scale.unwrap_or(NO_SCALE),
            bits: SENT_SYN,
        }
    }
}

/// A connection, in either direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tcp {
    ends: [End; 2],
    /// Past the last SYN of the initiator's that isn't the one the flow began with, and
    /// its scale.
    syn_again: u32,
    syn_again_scale: u8,
    /// The lower half of the number past the SYN that the flow began with: what has it too
    /// is taken for a late copy.
    syn_low: u16,
    life: Life,
}

const _: () = assert!(size_of::<Tcp>() <= 40);

/// Whether `a` is left of `b` on the circle of sequence numbers.
//= RFC 9293 section 3.4: comparisons are to be made modulo 2^32
const fn before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() < 0
}

#[allow(clippy::cast_possible_truncation, reason = "half of it is wanted")]
const fn low_half(n: u32) -> u16 {
    n as u16
}

/// Whether `n` is in `low..=high` of that circle.
const fn within(n: u32, low: u32, high: u32) -> bool {
    !before(n, low) && !before(high, n)
}

impl Tcp {
    /// A connection that its initiator's SYN begins.
    #[must_use]
    pub fn begun(syn: &Segment) -> Self {
        Self {
            syn_low: low_half(syn.end()),
            ..Self::with([End::from_syn(syn), End::SILENT])
        }
    }

    /// A connection in its midst, by a segment that `from` sent. Its numbers are learned
    /// from the segments; its windows, whose scale only the SYNs had, are taken to be
    /// the most that TCP has. So a forger has to guess one of two rather than one of
    /// thousands; netfilter doesn't check such a connection at all.
    #[must_use]
    pub fn picked_up(s: &Segment, from: usize) -> Self {
        let (unknown, bits) = (1 << 30, PICKED_UP | SENT_MORE);
        let speaker = End {
            end: s.end(),
            edge: s.end().wrapping_add(unknown),
            acked: s.ack,
            window: u16::MAX,
            scale: SCALE_MAX,
            bits: bits | SENT_ACK,
        };
        let silent = End {
            end: s.ack,
            edge: s.ack.wrapping_add(unknown),
            acked: s.end(),
            window: u16::MAX,
            scale: SCALE_MAX,
            bits,
        };
        Self::with(if from == INITIATOR {
            [speaker, silent]
        } else {
            [silent, speaker]
        })
    }

    const fn with(ends: [End; 2]) -> Self {
        Self {
            ends,
            syn_again: 0,
            syn_again_scale: NO_SCALE,
            syn_low: 0,
            life: Life::Going,
        }
    }

    /// How far it has come.
    #[must_use]
    pub fn phase(&self) -> Phase {
        let [i, r] = &self.ends;
        if self.life == Life::Reset {
            return Phase::Closed;
        }
        if !self.is_open() {
            return match (i.has(PICKED_UP) || r.has(SENT_ACK), r.has(SENT_SYN)) {
                (true, _) => Phase::SynReceived,
                (false, true) => Phase::SimultaneousOpen,
                (false, false) => Phase::SynSent,
            };
        }
        match (i.has(SENT_FIN), r.has(SENT_FIN)) {
            (false, false) => Phase::Established,
            (true, false) => Phase::HalfClosed(INITIATOR),
            (false, true) => Phase::HalfClosed(RESPONDER),
            (true, true) if r.acked == i.end && i.acked == r.end => Phase::TimeWait,
            (true, true) => Phase::LastAck,
        }
    }

    /// Whether its end was seen: a SYN of the same tuple is then a new connection.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.phase(), Phase::TimeWait | Phase::Closed)
    }

    /// Whether both ends acknowledged what the other sent.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        let [i, r] = &self.ends;
        i.has(SENT_ACK) && r.has(SENT_ACK)
    }

    /// Takes a segment of end `from`.
    ///
    /// # Errors
    /// [`DropReason::TcpFlags`] for flags that no TCP sets together,
    /// [`DropReason::TcpWindow`] for a segment outside its window. Nothing has changed.
    pub fn take(&mut self, s: &Segment, from: usize) -> Result<Taken, DropReason> {
        let from = from.min(RESPONDER);
        const SYN_ACK: u8 = SYN | ACK;
        const RST_ACK: u8 = RST | ACK;
        const FIN_ACK: u8 = FIN | ACK;
        let taken = match s.flags & (SYN | ACK | RST | FIN) {
            // RFC 9293 has no reason to fragment what begins a connection.
            SYN if s.is_cut => None,
            SYN => Some(self.take_syn(s, from)),
            SYN_ACK => self.take_syn_ack(s, from),
            RST | RST_ACK => self.take_rst(s, from),
            ACK | FIN_ACK => self.take_data(s, from),
            _ => return Err(DropReason::TcpFlags),
        };
        taken.ok_or(DropReason::TcpWindow)
    }

    /// Whether end `from` may have sent a segment that starts at `seq` and is still under
    /// way.
    //= RFC 5927 section 4.1: the sequence number in the payload of an ICMP error has to be
    //= in SND.UNA =< SEG.SEQ < SND.NXT
    // A pure acknowledgement, to which this applies as well, has SND.NXT.
    #[must_use]
    pub fn may_have_sent(&self, seq: u32, from: usize) -> bool {
        let from = from.min(RESPONDER);
        let (me, other) = (&self.ends[from], &self.ends[1 - from]);
        let first = if other.has(SENT_ACK) || other.has(PICKED_UP) {
            me.end.wrapping_sub(self.window_of(1 - from) + 1)
        } else {
            me.edge.wrapping_sub(1)
        };
        let again = from == INITIATOR && me.has(NOTED) && seq == self.syn_again.wrapping_sub(1);
        again || within(seq, first, me.end)
    }

    /// A SYN passes whatever its number: who has the connection answers with a challenge,
    /// who hasn't begins anew. It changes nothing; what it says is noted in case the
    /// other end answers it with a SYN ACK.
    //= RFC 5961 section 4.2: "If the SYN bit is set, irrespective of the sequence number,
    //= TCP MUST send an ACK (also referred to as challenge ACK) to the remote peer"
    fn take_syn(&mut self, s: &Segment, from: usize) -> Taken {
        if from == RESPONDER {
            let r = &mut self.ends[RESPONDER];
            if r.has(SENT_SYN) || r.has(PICKED_UP) {
                return Taken::Unmoved;
            }
            *r = End::from_syn(s);
            return Taken::Alive;
        }
        let open = self.is_open();
        let i = &mut self.ends[INITIATOR];
        if self.syn_low != low_half(s.end()) {
            i.bits |= NOTED;
            self.syn_again = s.end();
            self.syn_again_scale = s.scale.unwrap_or(NO_SCALE);
        } else if !open {
            // The responder may have had no other.
            i.window = i.window.max(s.window);
        }
        Taken::Unmoved
    }

    fn take_syn_ack(&mut self, s: &Segment, from: usize) -> Option<Taken> {
        // One in the window was sent before, or is a late answer to a late SYN.
        let me = &self.ends[from];
        let is_known = me.has(SENT_SYN | SENT_ACK) || me.has(PICKED_UP);
        if is_known && self.is_in_window(s, from) {
            return Some(self.take_syn_ack_again(s, from));
        }
        if from == RESPONDER && self.answers_syn_again(s) {
            // Both ends begin anew, whatever was here before.
            self.ends = [
                End {
                    end: self.syn_again,
                    edge: self.syn_again,
                    acked: 0,
                    // Not noted: the most that a SYN can offer.
                    window: u16::MAX,
                    scale: self.syn_again_scale,
                    bits: SENT_SYN,
                },
                End::SILENT,
            ];
            self.syn_low = low_half(self.syn_again);
            self.life = Life::Going;
            self.answer(s, from);
            return Some(Taken::Alive);
        }
        if self.is_open() || self.life == Life::Reset {
            return None;
        }
        // Until the other end has acknowledged one of them, the number that answers its
        // SYN is all that a SYN ACK needs: each may come from another sequence number
        // (SYN cookies, a balancer).
        if !self.ends[1 - from].has(SENT_SYN) || !self.acknowledges_syn(s, from) {
            return None;
        }
        self.answer(s, from);
        Some(Taken::Alive)
    }

    /// The other end may have had no other, and then goes by the window that this offers.
    fn take_syn_ack_again(&mut self, s: &Segment, from: usize) -> Taken {
        let open = self.is_open();
        let shift = if open { self.shift_of(from) } else { 0 };
        let me = &mut self.ends[from];
        me.window = me.window.max(s.window.div_ceil(1 << shift));
        let other = &mut self.ends[1 - from];
        let edge = s.ack.wrapping_add(u32::from(s.window));
        if before(other.edge, edge) {
            other.edge = edge;
        }
        if open { Taken::Unmoved } else { Taken::Alive }
    }

    fn answers_syn_again(&self, s: &Segment) -> bool {
        self.ends[INITIATOR].has(NOTED) && s.ack == self.syn_again
    }

    /// Whether `from` acknowledges the other end's SYN for the first time, or once more.
    fn acknowledges_syn(&self, s: &Segment, from: usize) -> bool {
        let (me, other) = (&self.ends[from], &self.ends[1 - from]);
        if me.has(SENT_ACK) {
            s.ack == me.acked
        } else {
            within(s.ack, other.edge, other.end)
        }
    }

    /// Learns from a SYN ACK that `from` answers the other end's SYN with.
    fn answer(&mut self, s: &Segment, from: usize) {
        let other = &mut self.ends[1 - from];
        other.edge = s.ack.wrapping_add(u32::from(s.window));
        let other_acked = other.has(SENT_ACK);
        let was = self.ends[from];
        let mut me = End::from_syn(s);
        me.bits |= SENT_ACK;
        if from == INITIATOR {
            me.bits |= was.bits & NOTED;
        }
        if other_acked {
            me.edge = was.edge;
        }
        self.ends[from] = me;
        self.open_if_both_acked();
    }

    /// The windows so far, in bytes, become fields of their headers, rounded up.
    fn open_if_both_acked(&mut self) {
        if !self.is_open() || self.ends[INITIATOR].has(PICKED_UP) {
            return;
        }
        let shifts = [self.shift_of(INITIATOR), self.shift_of(RESPONDER)];
        for (end, shift) in self.ends.iter_mut().zip(shifts) {
            end.window = end.window.div_ceil(1 << shift);
        }
    }

    //= RFC 7323 section 2.2: both ends have to send the option in their SYN for windows to
    //= be scaled in either direction
    const fn shift_of(&self, end: usize) -> u8 {
        let [i, r] = &self.ends;
        match (end, i.scale, r.scale) {
            (_, NO_SCALE, _) | (_, _, NO_SCALE) => 0,
            (INITIATOR, shift, _) | (_, _, shift) => shift,
        }
    }

    /// The greatest window that an end offered, in bytes. At least 1: a window of none is
    /// probed with a byte.
    fn window_of(&self, end: usize) -> u32 {
        let window = u32::from(self.ends[end].window);
        let shift = if self.is_open() || self.ends[end].has(PICKED_UP) {
            self.shift_of(end)
        } else {
            0
        };
        (window << shift).max(1)
    }

    //= RFC 5961 section 3.2: "If the RST bit is set and the sequence number is outside the
    //= current receive window, silently drop the segment. ... exactly matches the next
    //= expected sequence number (RCV.NXT), then TCP MUST reset the connection. ... does
    //= not exactly match ... yet is within the current receive window, TCP MUST send an
    //= acknowledgment (challenge ACK)"
    fn take_rst(&mut self, s: &Segment, from: usize) -> Option<Taken> {
        let (me, other) = (&self.ends[from], &self.ends[1 - from]);
        let acks = s.flags & ACK != 0;
        // No one is there for a SYN.
        let refuses = from == RESPONDER
            && acks
            && (self.answers_syn_again(s) || !self.is_open() && self.acknowledges_syn(s, from));
        // RCV.NXT isn't known here, but where it can be: what was acknowledged, or all
        // that was sent and whose acknowledgement is still under way.
        let exact = s.seq == me.end && (me.has(SENT_SYN) || me.has(PICKED_UP))
            || other.has(SENT_ACK) && s.seq == other.acked;
        // Nobody but the initiator knows of a SYN that nobody answered.
        let unheard = from == INITIATOR && self.phase() == Phase::SynSent;
        if refuses || exact && !unheard {
            self.life = Life::Reset;
            return Some(Taken::Alive);
        }
        let challenged = if self.is_open() {
            within(s.seq, other.acked, self.edge_of(from))
        } else {
            // To who answered a SYN with a challenge, what it acknowledged is exact; here
            // the flow is still the SYN's.
            from == INITIATOR && other.has(NOTED) && s.seq == other.acked
        };
        challenged.then_some(Taken::Unmoved)
    }

    fn take_data(&mut self, s: &Segment, from: usize) -> Option<Taken> {
        let (me, other) = (&self.ends[from], &self.ends[1 - from]);
        if !me.has(SENT_SYN) && !me.has(PICKED_UP) {
            return self.take_challenge(s);
        }
        if !other.has(SENT_SYN) && !other.has(PICKED_UP) {
            return None;
        }
        let first = !me.has(SENT_ACK) && other.has(SENT_SYN);
        if first && !within(s.ack, other.edge, other.end) || !self.is_in_window(s, from) {
            return None;
        }
        self.advance(s, from);
        Some(Taken::Alive)
    }

    /// An acknowledgement from an end that has sent no SYN: it has an older connection
    /// and challenges. The RST that answers has the number acknowledged.
    fn take_challenge(&mut self, s: &Segment) -> Option<Taken> {
        if s.data_len != 0 || s.flags & FIN != 0 {
            return None;
        }
        let responder = &mut self.ends[RESPONDER];
        responder.acked = s.ack;
        responder.bits |= NOTED;
        Some(Taken::Unmoved)
    }

    /// Past the last byte that an end may send.
    fn edge_of(&self, end: usize) -> u32 {
        let (me, other) = (&self.ends[end], &self.ends[1 - end]);
        if other.has(SENT_ACK) || other.has(PICKED_UP) {
            me.edge
        } else {
            // Before its SYN is acknowledged: what the other end's SYN grants.
            me.edge.wrapping_add(self.window_of(1 - end))
        }
    }

    /// The four bounds. A byte is given on either side: a window of none is probed with
    /// one past the edge, which then is under way beside a full window, and where the
    /// next segment starts.
    fn is_in_window(&self, s: &Segment, from: usize) -> bool {
        let (me, other) = (&self.ends[from], &self.ends[1 - from]);
        let (mine, others) = (self.window_of(from), self.window_of(1 - from));
        let oldest = me.end.wrapping_sub(others + 1);
        let newest = self.edge_of(from).wrapping_add(1);
        if before(newest, s.seq) || before(s.end(), oldest) {
            return false;
        }
        //= RFC 5961 section 5.2: "the ACK value is considered acceptable only if it is in
        //= the range of ((SND.UNA - MAX.SND.WND) <= SEG.ACK <= SND.NXT)"
        // SND.UNA itself is at most a window left of what was sent.
        let oldest_ack = other.end.wrapping_sub(2 * mine + 1);
        let newest_ack = if other.has(SENT_MORE) && before(other.end, other.edge) {
            other.edge
        } else {
            other.end
        };
        within(s.ack, oldest_ack, newest_ack)
    }

    /// Takes note of a segment in the window.
    fn advance(&mut self, s: &Segment, from: usize) {
        let was_open = self.is_open();
        let bytes = u32::from(s.window) << self.shift_of(from);
        self.ends[1 - from].edge = self.edge_of(1 - from);
        let me = &mut self.ends[from];
        if before(me.end, s.end()) {
            me.end = s.end();
        }
        if !me.has(SENT_ACK) || before(me.acked, s.ack) {
            me.acked = s.ack;
        }
        me.bits |= SENT_ACK;
        if s.flags & FIN != 0 {
            me.bits |= SENT_FIN;
        }
        if s.is_cut {
            me.bits |= SENT_MORE;
        }
        if !was_open {
            self.open_if_both_acked();
        }
        let open = self.is_open() || self.ends[from].has(PICKED_UP);
        let me = &mut self.ends[from];
        let window = if open {
            s.window
        } else {
            u16::try_from(bytes).unwrap_or(u16::MAX)
        };
        me.window = me.window.max(window);
        let other = &mut self.ends[1 - from];
        if other.has(SENT_MORE) && before(other.end, s.ack) {
            other.end = s.ack;
        }
        let edge = s.ack.wrapping_add(bytes);
        if before(other.edge, edge) {
            other.edge = edge;
        }
    }
}
