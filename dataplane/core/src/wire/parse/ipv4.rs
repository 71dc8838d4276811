//! The IPv4 header (RFC 791 section 3.1).

use super::{fragment_kind, offset, transport};
use crate::addr::Addr;
use crate::meta::{FragKind, FrameKind, Meta};
use crate::reason::DropReason;
use crate::wire::bytes::{array, be16};
use crate::wire::checksum::Sum;

/// Length of a header without options.
const HEADER_LEN_MIN: usize = 20;
/// Longest datagram: what the total length can say.
const TOTAL_LEN_MAX: usize = 65_535;

const FLAG_RESERVED: u16 = 0x8000;
const FLAG_DONT_FRAGMENT: u16 = 0x4000;
const FLAG_MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET_MASK: u16 = 0x1fff;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_LOOSE_SOURCE_ROUTE: u8 = 131;
const OPTION_STRICT_SOURCE_ROUTE: u8 = 137;

/// Parses the packet at `meta.l3_off`; the frame may be longer than the packet.
pub(super) fn parse(frame: &[u8], meta: &mut Meta) -> Result<(), DropReason> {
    let l3_off = usize::from(meta.l3_off);
    let header: [u8; HEADER_LEN_MIN] = array(frame, l3_off).ok_or(DropReason::Truncated)?;
    let (Some(total_len), Some(flags), Some(src), Some(dst)) = (
        be16(&header, 2),
        be16(&header, 6),
        array(&header, 12),
        array(&header, 16),
    ) else {
        return Err(DropReason::Truncated);
    };
    let (version_ihl, protocol) = (header[0], header[9]);
    let header_len = usize::from(version_ihl & 0x0f) * 4;
    let total_len = usize::from(total_len);
    if version_ihl >> 4 != 4 || header_len < HEADER_LEN_MIN || total_len < header_len {
        return Err(DropReason::Malformed);
    }
    let l4_off = l3_off + header_len;
    let l3_end = l3_off + total_len;
    let frame = frame.get(..l3_end).ok_or(DropReason::Truncated)?;
    let whole_header = frame.get(l3_off..l4_off).ok_or(DropReason::Truncated)?;
    //= RFC 1122 section 3.2.1.2: "A host MUST verify the IP header checksum on every
    //= received datagram and silently discard every datagram that has a bad checksum."
    if !Sum::new().bytes(whole_header).verifies() {
        return Err(DropReason::BadChecksum);
    }
    options(whole_header.get(HEADER_LEN_MIN..).unwrap_or(&[]))?;

    //= RFC 791 section 3.1: "Bit 0: reserved, must be zero"
    //= RFC 1122 section 3.2.1.3: "the IP source address MUST be one of its own IP
    //= addresses (but not a broadcast or multicast address)"
    if flags & FLAG_RESERVED != 0 || is_multicast(src) {
        return Err(DropReason::Malformed);
    }
    meta.kind = FrameKind::Ip;
    meta.src = Addr::v4(src);
    meta.dst = Addr::v4(dst);
    meta.tos = header[1];
    meta.protocol = protocol;
    meta.l4_off = offset(l4_off)?;
    meta.l3_end = offset(l3_end)?;
    meta.dont_fragment = flags & FLAG_DONT_FRAGMENT != 0;
    meta.frag = fragment_kind(
        protocol,
        usize::from(flags & FRAGMENT_OFFSET_MASK) * 8,
        flags & FLAG_MORE_FRAGMENTS != 0,
        total_len - header_len,
        TOTAL_LEN_MAX - header_len,
    )?;
    if meta.frag == FragKind::Later {
        return Ok(());
    }
    transport::parse(frame, meta)
}

/// Refuses source routes and options that don't fit their header.
//= RFC 7126 sections 4.3 and 4.4: drop packets with a source route by default; the
//= destination in their header isn't where they go
fn options(mut options: &[u8]) -> Result<(), DropReason> {
    // At most 40 bytes, and each turn takes at least one.
    while let [kind, rest @ ..] = options {
        options = match *kind {
            OPTION_END => return Ok(()),
            OPTION_NOP => rest,
            OPTION_LOOSE_SOURCE_ROUTE | OPTION_STRICT_SOURCE_ROUTE => {
                return Err(DropReason::Malformed);
            }
            _ => match rest.first() {
                Some(&len) if len >= 2 => options
                    .get(usize::from(len)..)
                    .ok_or(DropReason::Malformed)?,
                _ => return Err(DropReason::Malformed),
            },
        };
    }
    Ok(())
}

const fn is_multicast([first, ..]: [u8; 4]) -> bool {
    first >> 4 == 0xe
}

#[cfg(test)]
mod tests {
    use crate::meta::{FragKind, Meta, proto};
    use crate::reason::DropReason;
    use crate::wire::build::{Body, FrameSpec};
    use crate::wire::checksum;
    use crate::wire::parse;

    fn spec(body: Body, len: usize) -> FrameSpec {
        let (src, dst) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        FrameSpec {
            payload: vec![0; len],
            ..FrameSpec::new(src, dst, body)
        }
    }

    fn udp(len: usize) -> Vec<u8> {
        spec(
            Body::Udp {
                src_port: 1000,
                dst_port: 53,
            },
            len,
        )
        .build()
    }

    fn tcp(len: usize) -> Vec<u8> {
        let body = Body::Tcp {
            src_port: 1,
            dst_port: 2,
            flags: 2,
            seq: 0,
            ack: 0,
            mss: None,
        };
        spec(body, len).build()
    }

    /// Parses `frame` after `change`, with its header checksum made right again.
    fn changed(mut frame: Vec<u8>, change: impl Fn(&mut Vec<u8>)) -> Result<Meta, DropReason> {
        change(&mut frame);
        let end = 14 + usize::from(frame[14] & 0xf) * 4;
        if end >= 34 {
            frame[24..26].fill(0);
            let sum = checksum::of(&frame[14..end]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        parse(&frame)
    }

    /// Parses the fragment that `frame`'s packet becomes with this flags and offset word.
    fn fragment(frame: Vec<u8>, word: u16) -> Result<Meta, DropReason> {
        changed(frame, |f| f[20..22].copy_from_slice(&word.to_be_bytes()))
    }

    /// Parses a UDP packet with `options`, a multiple of four bytes.
    fn with_options(options: &[u8]) -> Result<Meta, DropReason> {
        changed(udp(0), |f| {
            f.splice(34..34, options.iter().copied());
            f[14] += u8::try_from(options.len() / 4).unwrap();
            f[17] += u8::try_from(options.len()).unwrap();
        })
    }

    #[test]
    fn header_lengths_that_contradict_each_other_are_malformed() {
        assert_eq!(
            changed(udp(9), |f| f[14] = 0x65),
            Err(DropReason::Malformed),
            "version"
        );
        assert_eq!(
            changed(udp(9), |f| f[14] = 0x44),
            Err(DropReason::Malformed),
            "IHL"
        );
        assert_eq!(
            changed(udp(9), |f| f[17] = 19),
            Err(DropReason::Malformed),
            "total length"
        );
        assert_eq!(
            changed(udp(9), |f| f[17] += 1),
            Err(DropReason::Truncated),
            "past the frame"
        );
        assert_eq!(
            changed(udp(9), |f| f[20] = 0x80),
            Err(DropReason::Malformed),
            "reserved flag"
        );
        assert_eq!(
            changed(udp(9), |f| f[26] = 224),
            Err(DropReason::Malformed),
            "source"
        );
    }

    #[test]
    fn a_header_whose_checksum_is_off_by_a_bit_is_refused() {
        let mut frame = udp(0);
        frame[22] ^= 1;
        assert_eq!(parse(&frame), Err(DropReason::BadChecksum));
    }

    #[test]
    fn options_are_skipped_but_a_source_route_is_refused() {
        let meta = with_options(&[0x94, 4, 0, 0]).unwrap(); // router alert
        assert_eq!((meta.l4_off, meta.src_port), (38, 1000));
        assert!(with_options(&[1, 1, 1, 0]).is_ok());
        // What follows the end of the list is padding, whatever it looks like.
        assert!(with_options(&[0, 131, 3, 4]).is_ok());
        for route in [131, 137] {
            assert_eq!(with_options(&[route, 3, 4, 0]), Err(DropReason::Malformed));
            assert_eq!(with_options(&[1, route, 3, 4]), Err(DropReason::Malformed));
            assert_eq!(with_options(&[1, 1, 1, route]), Err(DropReason::Malformed));
        }
    }

    #[test]
    fn options_that_do_not_fit_the_header_are_malformed() {
        for options in [[7, 0, 0, 0], [7, 1, 0, 0], [7, 5, 0, 0], [1, 1, 1, 7]] {
            assert_eq!(
                with_options(&options),
                Err(DropReason::Malformed),
                "{options:?}"
            );
        }
    }

    #[test]
    fn fragments_are_told_apart_by_offset_and_more() {
        assert_eq!(fragment(udp(8), 0x4000).unwrap().frag, FragKind::Whole);
        let later = fragment(udp(9), 0x0002).unwrap();
        assert_eq!(
            (later.frag, later.src_port, later.protocol),
            (FragKind::Later, 0, proto::UDP)
        );
        assert_eq!(fragment(udp(8), 0x2002).unwrap().frag, FragKind::Later);
        let first = fragment(udp(8), 0x2000).unwrap();
        assert_eq!((first.frag, first.src_port), (FragKind::First, 1000));
    }

    #[test]
    fn fragments_that_cannot_be_reassembled_are_malformed() {
        assert_eq!(
            fragment(udp(9), 0x2000),
            Err(DropReason::Malformed),
            "not of 8 bytes"
        );
        assert_eq!(
            fragment(udp(0), 0x1fff),
            Err(DropReason::Malformed),
            "past 65535 bytes"
        );
        let empty = spec(
            Body::Other {
                protocol: proto::UDP,
            },
            0,
        )
        .build();
        assert_eq!(
            fragment(empty, 0x2000),
            Err(DropReason::Malformed),
            "no data"
        );
    }

    #[test]
    fn a_first_fragment_without_the_whole_transport_header_is_tiny() {
        let first = |protocol, len| fragment(spec(Body::Other { protocol }, len).build(), 0x2000);
        assert_eq!(first(proto::TCP, 16), Err(DropReason::FragmentTiny));
        assert_eq!(first(proto::SCTP, 8), Err(DropReason::FragmentTiny));
        // Options of TCP count as its header.
        let options = |f: &mut Vec<u8>| (f[20], f[46]) = (0x20, 0x80);
        assert_eq!(changed(tcp(4), options), Err(DropReason::FragmentTiny));
        assert!(changed(tcp(12), options).is_ok());
    }

    #[test]
    fn a_first_fragments_udp_length_counts_what_is_still_to_come() {
        let first = |len| changed(udp(8), |f| (f[20], f[39]) = (0x20, len));
        assert_eq!(first(15), Err(DropReason::Malformed));
        assert!(first(16).is_ok());
        assert!(first(200).is_ok());
    }

    #[test]
    fn a_later_fragment_inside_the_transport_header_is_refused_as_tiny() {
        assert_eq!(fragment(tcp(0), 0x0001), Err(DropReason::FragmentTiny));
        assert_eq!(fragment(tcp(0), 0x0002), Err(DropReason::FragmentTiny));
        assert_eq!(fragment(tcp(0), 0x0003).unwrap().frag, FragKind::Later);
        let sctp = spec(
            Body::Other {
                protocol: proto::SCTP,
            },
            16,
        )
        .build();
        let at = |word| fragment(sctp.clone(), word).map(|m| m.frag);
        assert_eq!(at(0x2001), Err(DropReason::FragmentTiny));
        assert_eq!(at(0x2002), Ok(FragKind::Later));
        assert_eq!(fragment(udp(0), 0x0001).unwrap().frag, FragKind::Later);
    }
}
