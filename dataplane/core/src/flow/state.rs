//! How far a flow has come, and so how long it may be silent.

use crate::flow::sctp::{self, Sctp};
use crate::flow::table::{INITIATOR, RESPONDER};
use crate::flow::tcp::{Phase, Taken, Tcp};
use crate::meta::{Meta, proto, tcp_flag};
use crate::reason::DropReason;
use crate::tick::Tick;
use crate::wire::sctp::{Chunks, chunk};
use crate::wire::segment::Segment;

/// How far a flow has come, the same for all protocols.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FlowState {
    /// Half-open: only the initiator has spoken, or TCP's handshake isn't complete.
    Opening,
    /// Both have.
    Established,
    /// The initiator sent FIN or SHUTDOWN.
    ClosingInitiator,
    /// The responder sent FIN or SHUTDOWN.
    ClosingResponder,
    /// Both sent FIN, or it was shut down, reset or aborted.
    Closed,
}

/// How long a flow may be silent before its entry ends, in nanoseconds; rounded up to
/// milliseconds, and at most 12 days.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// TCP before its handshake is complete.
    pub tcp_opening_ns: u64,
    /// TCP in its life.
    pub tcp_established_ns: u64,
    /// TCP after a FIN, until both are acknowledged.
    pub tcp_closing_ns: u64,
    /// TCP after both FINs are acknowledged, or a RST.
    pub tcp_closed_ns: u64,
    /// Anything else before the answer, and UDP and ICMP after one question and its answer.
    pub other_opening_ns: u64,
    /// UDP and ICMP once the initiator has spoken again after an answer.
    pub udp_established_ns: u64,
    /// SCTP in its life.
    pub sctp_established_ns: u64,
    /// SCTP after SHUTDOWN, until it is complete.
    pub sctp_closing_ns: u64,
    /// SCTP after SHUTDOWN COMPLETE or ABORT.
    pub sctp_closed_ns: u64,
}

impl Default for Timeouts {
    /// Near Linux's nf_conntrack; TCP's five days are cut to two hours, RFC 5382's least.
    fn default() -> Self {
        Self {
            tcp_opening_ns: 60 * Tick::SECOND,
            tcp_established_ns: 7_440 * Tick::SECOND,
            tcp_closing_ns: 120 * Tick::SECOND,
            tcp_closed_ns: 10 * Tick::SECOND,
            other_opening_ns: 30 * Tick::SECOND,
            udp_established_ns: 120 * Tick::SECOND,
            sctp_established_ns: 7_440 * Tick::SECOND,
            sctp_closing_ns: 60 * Tick::SECOND,
            sctp_closed_ns: 10 * Tick::SECOND,
        }
    }
}

/// A packet as its flow sees it.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// The protocol, [`proto`].
    pub protocol: u8,
    /// What it says.
    pub says: Says,
}

/// What a packet says to its flow.
#[derive(Clone, Copy, Debug)]
pub enum Says {
    /// That it is there: of another protocol, or a later fragment, which follows its first.
    Nothing,
    /// A TCP segment.
    Tcp(Segment),
    /// An SCTP packet.
    Sctp(Chunks),
}

impl Packet {
    /// The packet in a frame.
    #[inline]
    #[must_use]
    pub fn read(frame: &[u8], meta: &Meta) -> Self {
        let says = match meta.protocol {
            proto::TCP => Segment::read(frame, meta).map(Says::Tcp),
            proto::SCTP => Chunks::read(frame, meta).map(Says::Sctp),
            _ => None,
        };
        Self {
            protocol: meta.protocol,
            says: says.unwrap_or(Says::Nothing),
        }
    }

    /// Whether a connection that was begun elsewhere can be picked up by it.
    //= RFC 9293 section 3.10.7.4: "if the ACK bit is off, drop the segment"
    #[must_use]
    pub fn is_midstream(&self) -> bool {
        const STARTS_OR_ENDS: u8 = tcp_flag::SYN | tcp_flag::RST;
        const MIDST: u16 = chunk::OTHER | chunk::HEARTBEAT_ACK | chunk::SHUTDOWN;
        const NOT_MIDST: u16 = chunk::ABORT | chunk::COOKIE_ECHO | chunk::COOKIE_ACK;
        match &self.says {
            Says::Tcp(s) => s.flags & (STARTS_OR_ENDS | tcp_flag::ACK) == tcp_flag::ACK,
            Says::Sctp(p) => p.tag != 0 && p.has(MIDST) && !p.has(NOT_MIDST),
            Says::Nothing => false,
        }
    }

    /// Whether it is of a kind that begins a connection: a SYN alone, an INIT. One in
    /// fragments doesn't: where it ends isn't known, and nobody fragments a SYN.
    #[must_use]
    pub fn is_opening(&self) -> bool {
        const FLAGS: u8 = tcp_flag::SYN | tcp_flag::ACK | tcp_flag::RST | tcp_flag::FIN;
        match &self.says {
            Says::Tcp(s) => s.flags & FLAGS == tcp_flag::SYN && !s.is_cut,
            Says::Sctp(p) => p.has(chunk::INIT),
            Says::Nothing => false,
        }
    }
}

/// What a flow remembers of its packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Track {
    /// A protocol without connections, or one that isn't known here.
    Plain {
        /// Whether the responder has spoken.
        answered: bool,
        /// Whether the initiator has spoken again after that: more than a question and its
        /// answer, of which a resolver has thousands a second.
        lasting: bool,
    },
    /// TCP.
    Tcp(Tcp),
    /// SCTP.
    Sctp(Sctp),
}

impl Track {
    /// Of a flow that this packet of end `from` begins, or is the first of to be seen.
    /// The packet itself is still to be taken.
    #[must_use]
    pub fn of(packet: &Packet, from: usize) -> Self {
        match &packet.says {
            Says::Tcp(s) if packet.is_midstream() => Self::Tcp(Tcp::picked_up(s, from)),
            Says::Tcp(s) => Self::Tcp(Tcp::begun(s)),
            Says::Sctp(p) if packet.is_midstream() => Self::Sctp(Sctp::picked_up(p, from)),
            Says::Sctp(p) => Self::Sctp(Sctp::begun(p)),
            Says::Nothing => Self::Plain {
                answered: false,
                lasting: false,
            },
        }
    }

    /// Takes a packet of end `from` that policy lets pass.
    ///
    /// # Errors
    /// Why it doesn't belong to the flow; nothing has changed.
    #[inline]
    pub fn take(&mut self, packet: &Packet, from: usize) -> Result<Taken, DropReason> {
        match (self, &packet.says) {
            (Self::Tcp(tcp), Says::Tcp(segment)) => tcp.take(segment, from),
            (Self::Sctp(sctp), Says::Sctp(chunks)) => sctp.take(chunks, from),
            (Self::Tcp(_) | Self::Sctp(_), _) => Ok(Taken::Unmoved),
            (Self::Plain { answered, lasting }, _) => {
                *lasting |= *answered && from == INITIATOR;
                *answered |= from == RESPONDER;
                Ok(Taken::Alive)
            }
        }
    }

    /// Whether its end was seen, so that what begins a flow begins a new one.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.is_over(),
            Self::Sctp(sctp) => sctp.phase() == sctp::Phase::Closed,
            Self::Plain { .. } => false,
        }
    }

    /// Whether end `from` may have sent what an ICMP error quotes: `number` is the second
    /// word of its transport header.
    #[must_use]
    pub fn may_have_sent(&self, number: u32, from: usize) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.may_have_sent(number, from),
            Self::Sctp(sctp) => sctp.may_have_sent(number, from),
            Self::Plain { .. } => true,
        }
    }

    /// Whether one end alone has spoken, or a handshake isn't complete.
    #[inline]
    #[must_use]
    pub fn is_half_open(&self) -> bool {
        match self {
            Self::Plain { answered, .. } => !answered,
            Self::Tcp(tcp) => !tcp.is_open() && !tcp.is_over(),
            Self::Sctp(sctp) => sctp.phase() == sctp::Phase::Opening,
        }
    }

    /// How far the flow has come.
    #[must_use]
    pub fn state(&self) -> FlowState {
        match self {
            Self::Plain {
                answered: false, ..
            } => FlowState::Opening,
            Self::Plain { answered: true, .. } => FlowState::Established,
            Self::Tcp(tcp) => match tcp.phase() {
                Phase::SynSent | Phase::SimultaneousOpen | Phase::SynReceived => FlowState::Opening,
                Phase::Established => FlowState::Established,
                Phase::HalfClosed(INITIATOR) => FlowState::ClosingInitiator,
                Phase::HalfClosed(_) => FlowState::ClosingResponder,
                Phase::LastAck | Phase::TimeWait | Phase::Closed => FlowState::Closed,
            },
            Self::Sctp(sctp) => match sctp.phase() {
                sctp::Phase::Opening => FlowState::Opening,
                sctp::Phase::Established => FlowState::Established,
                sctp::Phase::Closing(INITIATOR) => FlowState::ClosingInitiator,
                sctp::Phase::Closing(_) => FlowState::ClosingResponder,
                sctp::Phase::Closed => FlowState::Closed,
            },
        }
    }

    /// How long the flow may be silent from here, in nanoseconds.
    #[must_use]
    pub fn timeout_ns(&self, t: &Timeouts) -> u64 {
        match self {
            Self::Tcp(tcp) => match tcp.phase() {
                Phase::SynSent | Phase::SimultaneousOpen | Phase::SynReceived => t.tcp_opening_ns,
                Phase::Established => t.tcp_established_ns,
                Phase::HalfClosed(_) | Phase::LastAck => t.tcp_closing_ns,
                Phase::TimeWait | Phase::Closed => t.tcp_closed_ns,
            },
            Self::Sctp(sctp) => match sctp.phase() {
                sctp::Phase::Opening => t.other_opening_ns,
                sctp::Phase::Established => t.sctp_established_ns,
                sctp::Phase::Closing(_) => t.sctp_closing_ns,
                sctp::Phase::Closed => t.sctp_closed_ns,
            },
            Self::Plain { lasting: false, .. } => t.other_opening_ns,
            Self::Plain { .. } => t.udp_established_ns,
        }
    }
}
