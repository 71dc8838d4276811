//! How far a flow has come, and so how long it may be silent.

use crate::meta::{Meta, proto, tcp_flag};
use crate::tick::Tick;

/// A flow's state. Window checks come with the complete tracker; this is the part that
/// decides what may start a flow and when an entry ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FlowState {
    /// Only the initiator has spoken.
    Opening,
    /// Both have.
    Established,
    /// TCP: the initiator sent FIN.
    ClosingInitiator,
    /// TCP: the responder sent FIN.
    ClosingResponder,
    /// TCP: both sent FIN, or one RST.
    Closed,
}

/// How long a flow may be silent before its entry ends, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// TCP before the answer.
    pub tcp_opening_ns: u64,
    /// TCP in its life.
    pub tcp_established_ns: u64,
    /// TCP after one FIN.
    pub tcp_closing_ns: u64,
    /// TCP after both FINs or a RST.
    pub tcp_closed_ns: u64,
    /// Anything else before the answer.
    pub other_opening_ns: u64,
    /// UDP and ICMP once answered.
    pub udp_established_ns: u64,
    /// SCTP once answered.
    pub sctp_established_ns: u64,
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
        }
    }
}

impl FlowState {
    /// The state after a packet that policy let pass. `from_initiator` is its direction.
    #[must_use]
    pub const fn after(self, meta: &Meta, from_initiator: bool) -> Self {
        if meta.protocol == proto::TCP {
            return self.after_tcp(meta.tcp_flags, from_initiator);
        }
        match (self, from_initiator) {
            (Self::Opening, false) => Self::Established,
            (state, _) => state,
        }
    }

    const fn after_tcp(self, flags: u8, from_initiator: bool) -> Self {
        if flags & tcp_flag::RST != 0 {
            return Self::Closed;
        }
        let fin = flags & tcp_flag::FIN != 0;
        let syn = flags & tcp_flag::SYN != 0;
        match self {
            // The same tuple used again after its end.
            Self::Closed if syn && from_initiator => Self::Opening,
            Self::Opening if !from_initiator && !fin => Self::Established,
            Self::Opening | Self::Established if fin => {
                if from_initiator {
                    Self::ClosingInitiator
                } else {
                    Self::ClosingResponder
                }
            }
            Self::ClosingInitiator if fin && !from_initiator => Self::Closed,
            Self::ClosingResponder if fin && from_initiator => Self::Closed,
            state => state,
        }
    }

    /// How long the flow may be silent from here, in nanoseconds.
    #[must_use]
    pub const fn timeout_ns(self, protocol: u8, t: &Timeouts) -> u64 {
        match (protocol, self) {
            (proto::TCP, Self::Opening) => t.tcp_opening_ns,
            (proto::TCP, Self::Established) => t.tcp_established_ns,
            (proto::TCP, Self::ClosingInitiator | Self::ClosingResponder) => t.tcp_closing_ns,
            (proto::TCP, Self::Closed) => t.tcp_closed_ns,
            (proto::SCTP, Self::Established) => t.sctp_established_ns,
            (_, Self::Established) => t.udp_established_ns,
            _ => t.other_opening_ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(flags: u8) -> Meta {
        Meta {
            protocol: proto::TCP,
            tcp_flags: flags,
            ..Meta::default()
        }
    }

    #[test]
    fn a_tcp_flow_opens_lives_and_closes() {
        let mut state = FlowState::Opening;
        let steps = [
            (tcp_flag::SYN, true, FlowState::Opening),
            (tcp_flag::SYN | tcp_flag::ACK, false, FlowState::Established),
            (tcp_flag::ACK, true, FlowState::Established),
            (
                tcp_flag::FIN | tcp_flag::ACK,
                true,
                FlowState::ClosingInitiator,
            ),
            (tcp_flag::ACK, false, FlowState::ClosingInitiator),
            (tcp_flag::FIN | tcp_flag::ACK, false, FlowState::Closed),
            (tcp_flag::SYN, true, FlowState::Opening),
            (tcp_flag::RST, false, FlowState::Closed),
        ];
        for (flags, from_initiator, want) in steps {
            state = state.after(&tcp(flags), from_initiator);
            assert_eq!(state, want);
        }
    }

    #[test]
    fn a_retransmitted_syn_is_not_an_established_flow() {
        let state = FlowState::Opening.after(&tcp(tcp_flag::SYN), true);
        assert_eq!(state, FlowState::Opening);
    }
}
