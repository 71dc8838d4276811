//! Ports, flags and types of the transport header.

use crate::meta::{FragKind, Meta, NdKind, proto};
use crate::reason::DropReason;
use crate::wire::bytes::array;

/// Length of a TCP header without options.
pub(super) const TCP_LEN_MIN: usize = 20;
const UDP_LEN: usize = 8;
pub(super) const SCTP_LEN: usize = 12;
const ICMP_LEN: usize = 8;

/// Fills in what the transport header at `meta.l4_off` says; `frame` ends where the
/// packet does. Not for later fragments. Protocols without ports need no header.
///
/// A first fragment that ends inside that header is [`DropReason::FragmentTiny`].
//= RFC 1858 section 3: a first fragment must hold the whole TCP header, or a filter
//= can't see the flags it filters by
//= RFC 8200 section 4.5: "If the first fragment does not include all headers through an
//= Upper-Layer header, then that fragment should be discarded"
pub(super) fn parse(frame: &[u8], meta: &mut Meta) -> Result<(), DropReason> {
    let l4 = frame
        .get(usize::from(meta.l4_off)..)
        .ok_or(DropReason::Truncated)?;
    match header(l4, meta) {
        Err(DropReason::Truncated) if meta.frag == FragKind::First => Err(DropReason::FragmentTiny),
        read => read,
    }
}

fn header(l4: &[u8], meta: &mut Meta) -> Result<(), DropReason> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::build::{Body, FrameSpec};
    use crate::wire::parse;

    /// Parses a packet of `protocol` whose data is `l4`, IPv4 or IPv6.
    fn packet(v4: bool, protocol: u8, l4: &[u8]) -> Result<Meta, DropReason> {
        let (src, dst) = if v4 {
            ("10.0.0.1", "10.0.0.2")
        } else {
            ("fd00::1", "fd00::2")
        };
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        let spec = FrameSpec::new(src, dst, Body::Other { protocol });
        parse(
            &FrameSpec {
                payload: l4.to_vec(),
                ..spec
            }
            .build(),
        )
    }

    #[test]
    fn a_header_cut_short_is_truncated_and_a_bare_one_parses() {
        for v4 in [true, false] {
            let icmp = if v4 { proto::ICMP } else { proto::ICMPV6 };
            for (protocol, len) in [
                (proto::UDP, 8),
                (proto::TCP, 20),
                (proto::SCTP, 12),
                (icmp, 8),
            ] {
                let mut l4 = vec![0; len];
                match protocol {
                    proto::UDP => l4[5] = 8,
                    proto::TCP => l4[12] = 0x50,
                    _ => {}
                }
                assert!(packet(v4, protocol, &l4).is_ok(), "{protocol}");
                for short in 0..len {
                    let cut = packet(v4, protocol, &l4[..short]);
                    assert_eq!(cut, Err(DropReason::Truncated), "{protocol} {short}");
                }
            }
        }
    }

    #[test]
    fn a_tcp_data_offset_must_be_at_least_five_and_inside_the_packet() {
        let tcp = |data_offset: u8| {
            let mut l4 = [0; 24];
            l4[12] = data_offset << 4;
            packet(true, proto::TCP, &l4).err()
        };
        assert_eq!(tcp(4), Some(DropReason::Malformed));
        assert_eq!((tcp(5), tcp(6)), (None, None));
        assert_eq!(tcp(7), Some(DropReason::Truncated));
    }

    #[test]
    fn a_udp_length_must_be_at_least_eight_and_inside_the_packet() {
        let udp = |len: u8| packet(false, proto::UDP, &[0, 1, 0, 2, 0, len, 0, 0, 9, 9]).err();
        for (len, expected) in [
            (0, Some(DropReason::Malformed)),
            (7, Some(DropReason::Malformed)),
            (8, None),
            (10, None),
            (11, Some(DropReason::Malformed)),
        ] {
            assert_eq!(udp(len), expected, "{len}");
        }
    }

    #[test]
    fn icmp_errors_are_flagged_and_queries_have_their_identifier_as_ports() {
        for kind in 0..=u8::MAX {
            let l4 = [kind, 0, 0, 0, 0x12, 0x34, 0, 0];
            let v4 = packet(true, proto::ICMP, &l4).unwrap();
            assert_eq!(v4.icmp_error, [3, 4, 5, 11, 12].contains(&kind), "{kind}");
            let has_id = [0, 8, 13, 14, 15, 16, 17, 18].contains(&kind);
            let id = if has_id { 0x1234 } else { 0 };
            assert_eq!((v4.icmp_type, v4.src_port, v4.dst_port), (kind, id, id));
            let v6 = packet(false, proto::ICMPV6, &l4).unwrap();
            assert_eq!(v6.icmp_error, kind < 128, "{kind}");
            let id = if [128, 129].contains(&kind) {
                0x1234
            } else {
                0
            };
            assert_eq!((v6.icmp_type, v6.src_port, v6.dst_port), (kind, id, id));
            let nd = (133..=137).contains(&kind) || [130, 131, 132, 143].contains(&kind);
            assert_eq!(v6.nd != NdKind::None, nd, "{kind}");
        }
    }

    #[test]
    fn the_other_familys_icmp_is_malformed() {
        assert_eq!(
            packet(true, proto::ICMPV6, &[128; 8]),
            Err(DropReason::Malformed)
        );
        assert_eq!(
            packet(false, proto::ICMP, &[8; 8]),
            Err(DropReason::Malformed)
        );
    }

    #[test]
    fn esp_and_unknown_protocols_have_no_ports() {
        for protocol in [proto::ESP, 47, 51, 255] {
            let meta = packet(true, protocol, &[0xff; 16]).unwrap();
            assert_eq!(
                (meta.protocol, meta.l4_off, meta.l3_end),
                (protocol, 34, 50)
            );
            assert_eq!((meta.src_port, meta.dst_port, meta.tcp_flags), (0, 0, 0));
            assert!(packet(true, protocol, &[]).is_ok());
        }
    }
}
