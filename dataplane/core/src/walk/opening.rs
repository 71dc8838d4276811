//! Which packets begin something: a connection, or a question that wants its answer.

use crate::flow::state::{Packet, Says};
use crate::flow::table::{Flow, FlowTable, Found};
use crate::meta::{Meta, proto};
use crate::reason::DropReason;
use crate::wire::sctp::chunk;

/// ICMP's questions: echo, timestamp, information, address mask (RFC 792, RFC 950).
const QUESTIONS: [u8; 4] = [8, 13, 15, 17];
/// Their answers.
const ANSWERS: [u8; 4] = [0, 14, 16, 18];
/// ICMPv6 echo (RFC 4443 section 4).
const QUESTION_V6: u8 = 128;
/// Its answer.
const ANSWER_V6: u8 = 129;

/// Whether a packet may begin a flow: a SYN alone for TCP, INIT or a HEARTBEAT (of a second
/// path) for SCTP, anything but an answer for ICMP.
pub(crate) fn may_begin(meta: &Meta, packet: &Packet) -> Result<(), DropReason> {
    match meta.protocol {
        proto::TCP if !packet.is_opening() => Err(DropReason::TcpNoFlow),
        proto::SCTP => match &packet.says {
            Says::Sctp(p) if p.kinds == 0 => Err(DropReason::Malformed),
            Says::Sctp(p) if p.has(chunk::INIT | chunk::HEARTBEAT) => Ok(()),
            _ => Err(DropReason::SctpNoFlow),
        },
        proto::ICMP if ANSWERS.contains(&meta.icmp_type) => Err(DropReason::IcmpNoFlow),
        proto::ICMPV6 if meta.icmp_type == ANSWER_V6 => Err(DropReason::IcmpNoFlow),
        _ => Ok(()),
    }
}

/// Whether a packet of a flow begins something that is to be judged by itself: a new
/// connection with the tuple of one that is over, or one the other way round.
pub(crate) fn begins_again(flows: &FlowTable, meta: &Meta, packet: &Packet, found: Found) -> bool {
    begins_anew(flows, packet, found) || turns_round(meta, packet, found)
}

/// Whether a packet begins a connection with the tuple of one that is over.
pub(crate) fn begins_anew(flows: &FlowTable, packet: &Packet, found: Found) -> bool {
    packet.is_opening() && flows.flow(found.slot).is_some_and(Flow::is_over)
}

/// Whether the responder of a flow begins something of its own in it: a SYN or an
/// INIT back, a question back. That it was spoken to doesn't allow that.
pub(crate) fn turns_round(meta: &Meta, packet: &Packet, found: Found) -> bool {
    !found.from_initiator
        && match meta.protocol {
            proto::TCP | proto::SCTP => packet.is_opening(),
            proto::ICMP => QUESTIONS.contains(&meta.icmp_type),
            proto::ICMPV6 => meta.icmp_type == QUESTION_V6,
            _ => false,
        }
}
