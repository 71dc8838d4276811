//! Ports, flags and types of the transport header.

use crate::meta::{FragKind, Meta, NdKind, proto};
use crate::reason::DropReason;
use crate::wire::bytes::array;

/// Length of a TCP header without options.
pub(super) const TCP_LEN_MIN: usize = 20;
const UDP_LEN: usize = 8;
const SCTP_LEN: usize = 12;
const ICMP_LEN: usize = 8;

/// Fills in what the transport header at `meta.l4_off` says; `frame` ends where the
/// packet does. Not for later fragments. Protocols without ports need no header.
pub(super) fn parse(frame: &[u8], meta: &mut Meta) -> Result<(), DropReason> {
    let l4 = frame
        .get(usize::from(meta.l4_off)..)
        .ok_or(DropReason::Truncated)?;
    match (meta.protocol, meta.src.is_v4()) {
        (proto::TCP, _) => tcp(l4, meta),
        (proto::UDP, _) => udp(l4, meta),
        (proto::SCTP, _) => {
            let header: [u8; SCTP_LEN] = array(l4, 0).ok_or(DropReason::Truncated)?;
            ports(&header, meta)
        }
        (proto::ICMP, true) => icmp(l4, meta),
        (proto::ICMPV6, false) => icmpv6(l4, meta),
        // The other family's ICMP means nothing, and would pass for this one's later.
        (proto::ICMP, false) | (proto::ICMPV6, true) => Err(DropReason::Malformed),
        _ => Ok(()),
    }
}

fn ports(header: &[u8], meta: &mut Meta) -> Result<(), DropReason> {
    let [a, b, c, d] = array(header, 0).ok_or(DropReason::Truncated)?;
    meta.src_port = u16::from_be_bytes([a, b]);
    meta.dst_port = u16::from_be_bytes([c, d]);
    Ok(())
}

//= RFC 1858 section 3: a first fragment must hold the whole TCP header, or a filter
//= can't see the flags it filters by
fn tcp(l4: &[u8], meta: &mut Meta) -> Result<(), DropReason> {
    let header: [u8; TCP_LEN_MIN] = array(l4, 0).ok_or(DropReason::Truncated)?;
    let [.., data_offset, flags, _, _, _, _, _, _] = header;
    let header_len = usize::from(data_offset >> 4) * 4;
    if header_len < TCP_LEN_MIN {
        return Err(DropReason::Malformed);
    }
    if header_len > l4.len() {
        return Err(DropReason::Truncated);
    }
    meta.tcp_flags = flags;
    ports(&header, meta)
}

fn udp(l4: &[u8], meta: &mut Meta) -> Result<(), DropReason> {
    let header: [u8; UDP_LEN] = array(l4, 0).ok_or(DropReason::Truncated)?;
    let [.., len_hi, len_lo, _, _] = header;
    let len = usize::from(u16::from_be_bytes([len_hi, len_lo]));
    //= RFC 768: "the minimum value of the length is eight"
    if len < UDP_LEN {
        return Err(DropReason::Malformed);
    }
    // Of a whole datagram the length may fall short (RFC 9868 puts options there); in a
    // first fragment it counts what is still to come.
    let fits = if meta.frag == FragKind::First {
        len >= l4.len()
    } else {
        len <= l4.len()
    };
    if !fits {
        return Err(DropReason::Malformed);
    }
    ports(&header, meta)
}

fn icmp(l4: &[u8], meta: &mut Meta) -> Result<(), DropReason> {
    let [kind, _, _, _, id_hi, id_lo, _, _] =
        array::<ICMP_LEN>(l4, 0).ok_or(DropReason::Truncated)?;
    meta.icmp_type = kind;
    //= RFC 1122 section 3.2.2: "ICMP error messages: Destination Unreachable, Redirect,
    //= Source Quench, Time Exceeded, Parameter Problem"
    meta.icmp_error = matches!(kind, 3 | 4 | 5 | 11 | 12);
    if icmp_has_id(kind) {
        meta.src_port = u16::from_be_bytes([id_hi, id_lo]);
        meta.dst_port = meta.src_port;
    }
    Ok(())
}

/// Echo, timestamp, information and address mask, and their replies
/// (RFC 792, RFC 950).
pub(in crate::wire) const fn icmp_has_id(kind: u8) -> bool {
    matches!(kind, 0 | 8 | 13..=18)
}

/// Echo and its reply (RFC 4443 section 4).
pub(in crate::wire) const fn icmpv6_has_id(kind: u8) -> bool {
    matches!(kind, 128 | 129)
}

fn icmpv6(l4: &[u8], meta: &mut Meta) -> Result<(), DropReason> {
    let [kind, _, _, _, id_hi, id_lo, _, _] =
        array::<ICMP_LEN>(l4, 0).ok_or(DropReason::Truncated)?;
    meta.icmp_type = kind;
    //= RFC 4443 section 2.1: "error messages have message types from 0 to 127"
    meta.icmp_error = kind < 128;
    meta.nd = match kind {
        130 | 131 | 132 | 143 => NdKind::Mld,
        133 => NdKind::RouterSolicit,
        134 => NdKind::RouterAdvert,
        135 => NdKind::NeighborSolicit,
        136 => NdKind::NeighborAdvert,
        137 => NdKind::Redirect,
        _ => NdKind::None,
    };
    if icmpv6_has_id(kind) {
        meta.src_port = u16::from_be_bytes([id_hi, id_lo]);
        meta.dst_port = meta.src_port;
    }
    Ok(())
}
