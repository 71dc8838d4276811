//! A frame's bytes to [`Meta`], or the reason it goes no further.
//!
//! Every frame passes here once before any stage looks at it, unless it has the headers of one that
//! did and `headers.rs` parses what differs, so later stages may rely on what is checked here: lengths nest (`l3_off <= l4_off <= l3_end <= len`), the
//! transport header's fixed part is inside the packet (a later fragment has none), and
//! an IPv6 address is never v4-mapped.
//!
//! Transport checksums are not verified: the NIC does that on receive, and a wrong one
//! is the receiving pod's to find. Where the dataplane itself acts on a message (ND, path
//! MTU) the module that does so verifies it. Whether a source address may be used at all
//! (unspecified, broadcast, somebody else's) is the guard's question.

mod extension;
mod headers;
mod ipv4;
mod ipv6;
#[cfg(test)]
mod properties;
mod transport;

use crate::addr::Mac;
use crate::meta::{FragKind, FrameKind, Meta, proto};
use crate::reason::DropReason;
use crate::wire::bytes::{array, be16};
use crate::wire::ethernet::{
    ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_QINQ_OLD,
    ETHERTYPE_VLAN, HEADER_LEN, VLAN_TAG_LEN,
};

pub(super) use extension::walk as walk_extensions;
pub use extension::{EXTENSION_BYTES_MAX, EXTENSIONS_MAX, OPTIONS_MAX};
pub(crate) use headers::{Headers, parse_again, parse_esp_again};
pub(super) use transport::{icmp_has_id, icmpv6_has_id};

/// Next header of an IPv4 packet in a tunnel (RFC 2003).
pub const NEXT_HEADER_IPV4: u8 = 4;
/// Next header of an IPv6 packet in a tunnel (RFC 2473).
pub const NEXT_HEADER_IPV6: u8 = 41;

/// Parses a frame that starts with its Ethernet header.
///
/// For [`FrameKind::Arp`] and [`FrameKind::Other`] the VLAN and the offsets are set too:
/// `l3_off` and `l4_off` to the first byte past the Ethernet header, `l3_end` to the
/// end of the ARP packet or of the frame.
///
/// # Errors
/// [`DropReason::Truncated`], [`DropReason::Malformed`], [`DropReason::BadChecksum`],
/// [`DropReason::VlanStacked`], [`DropReason::ExtensionHeaders`] or
/// [`DropReason::FragmentTiny`].
pub fn parse(frame: &[u8]) -> Result<Meta, DropReason> {
    let mut meta = Meta::default();
    parse_into(frame, &mut meta)?;
    Ok(meta)
}

/// The same into the place where it is to stand: moved there it would be read while its fields
/// are still being written, which costs more than they do. On an error what stands there
/// means nothing.
///
/// # Errors
/// As [`parse`].
#[inline]
pub fn parse_into(frame: &[u8], meta: &mut Meta) -> Result<(), DropReason> {
    *meta = Meta::default();
    match ethernet(frame, meta)? {
        ETHERTYPE_IPV4 => ipv4::parse(frame, meta),
        ETHERTYPE_IPV6 => ipv6::parse(frame, meta),
        ETHERTYPE_ARP => arp(frame, meta),
        _ => {
            other(frame, meta);
            Ok(())
        }
    }
}

/// Parses the IP packet that ESP decapsulation left at `l3_off..l3_end` of `frame`;
/// `next_header` is the ESP trailer's, 4 or 41. The MACs and the VLAN are left zero.
///
/// The packet's own length decides where it ends: what follows up to the given `l3_end`
/// is traffic flow confidentiality padding and the result's `l3_end` is before it.
///
/// # Errors
/// As [`parse`]; [`DropReason::Malformed`] too for another `next_header`, or one that
/// contradicts the packet's version.
//= RFC 4303 section 2.7: in tunnel mode the inner IP header's length field tells the
//= receiver where the packet ends and the padding starts
pub fn parse_inner(
    frame: &[u8],
    l3_off: usize,
    l3_end: usize,
    next_header: u8,
) -> Result<Meta, DropReason> {
    let frame = frame.get(..l3_end).ok_or(DropReason::Truncated)?;
    let mut meta = Meta {
        l3_off: offset(l3_off)?,
        ..Meta::default()
    };
    match next_header {
        NEXT_HEADER_IPV4 => ipv4::parse(frame, &mut meta)?,
        NEXT_HEADER_IPV6 => ipv6::parse(frame, &mut meta)?,
        _ => return Err(DropReason::Malformed),
    }
    Ok(meta)
}

/// MACs, VLAN and `l3_off`; the ethertype of what follows.
#[inline]
fn ethernet(frame: &[u8], meta: &mut Meta) -> Result<u16, DropReason> {
    let truncated = DropReason::Truncated;
    let eth_src: Mac = array(frame, 6).map(Mac).ok_or(truncated)?;
    //= IEEE 802.3 section 3.2.3: in the Source Address field the I/G bit is reserved, 0
    if eth_src.is_group() {
        return Err(DropReason::Malformed);
    }
    meta.eth_dst = array(frame, 0).map(Mac).ok_or(truncated)?;
    meta.eth_src = eth_src;
    let mut ethertype = be16(frame, 12).ok_or(truncated)?;
    let mut l3_off = HEADER_LEN;
    if ethertype == ETHERTYPE_VLAN {
        meta.vlan = be16(frame, HEADER_LEN).ok_or(truncated)? & VLAN_ID_MASK;
        //= IEEE 802.1Q table 9-2: FFF is reserved and not transmitted in a tag header
        if meta.vlan == VLAN_ID_RESERVED {
            return Err(DropReason::Malformed);
        }
        ethertype = be16(frame, HEADER_LEN + 2).ok_or(truncated)?;
        l3_off += VLAN_TAG_LEN;
    }
    if matches!(
        ethertype,
        ETHERTYPE_VLAN | ETHERTYPE_QINQ | ETHERTYPE_QINQ_OLD
    ) {
        return Err(DropReason::VlanStacked);
    }
    meta.l3_off = offset(l3_off)?;
    Ok(ethertype)
}

const VLAN_ID_MASK: u16 = 0x0fff;
const VLAN_ID_RESERVED: u16 = 0x0fff;

/// Checks an ARP packet of IPv4 over Ethernet, the only one there is here.
//= RFC 826: "?Do I have the hardware type in ar$hrd? ... ?Do I speak the protocol in ar$pro?"
fn arp(frame: &[u8], meta: &mut Meta) -> Result<(), DropReason> {
    use crate::wire::arp::{ARP_LEN, FIXED_FIELDS, OP_REPLY, OP_REQUEST};
    let l3_off = usize::from(meta.l3_off);
    let packet: [u8; ARP_LEN] = array(frame, l3_off).ok_or(DropReason::Truncated)?;
    let op = be16(&packet, 6).unwrap_or(0);
    let sender_mac = array(&packet, 8).map_or(Mac::BROADCAST, Mac);
    if !packet.starts_with(&FIXED_FIELDS)
        || !matches!(op, OP_REQUEST | OP_REPLY)
        || sender_mac.is_group()
    {
        return Err(DropReason::Malformed);
    }
    meta.kind = FrameKind::Arp;
    meta.l4_off = meta.l3_off;
    meta.l3_end = offset(l3_off + ARP_LEN)?;
    Ok(())
}

/// A frame of another ethertype has no structure the walk knows.
fn other(frame: &[u8], meta: &mut Meta) {
    meta.kind = FrameKind::Other;
    meta.l4_off = meta.l3_off;
    meta.l3_end = u16::try_from(frame.len()).unwrap_or(u16::MAX);
}

/// `at` as an offset of [`Meta`]. A packet of nearly 64 KiB behind its Ethernet header
/// doesn't fit one, and no link here carries it.
fn offset(at: usize) -> Result<u16, DropReason> {
    u16::try_from(at).map_err(|_| DropReason::Malformed)
}

/// Where a fragment stands in its datagram, and that it can.
///
/// `offset_bytes` and `more` are the fragment's fields, `len_bytes` the length of its
/// data, `room_bytes` how long the data of the whole datagram can be.
fn fragment_kind(
    protocol: u8,
    offset_bytes: usize,
    more: bool,
    len_bytes: usize,
    room_bytes: usize,
) -> Result<FragKind, DropReason> {
    if offset_bytes == 0 && !more {
        return Ok(FragKind::Whole);
    }
    //= RFC 8200 section 4.5: "If the length of a fragment ... is not a multiple of 8 octets
    //= and the M flag of that fragment is 1, then that fragment must be discarded"
    //= RFC 791 section 3.2: "its data portion must be broken on 8 octet boundaries"
    let ragged = more && !len_bytes.is_multiple_of(8);
    //= RFC 8200 section 4.5: "the Payload Length of the packet reassembled from that
    //= fragment would exceed 65,535 octets, then that fragment must be discarded"
    let overlong = offset_bytes + len_bytes > room_bytes;
    if ragged || overlong || len_bytes == 0 {
        return Err(DropReason::Malformed);
    }
    if offset_bytes == 0 {
        return Ok(FragKind::First);
    }
    //= RFC 1858 section 3.2.2: "IF FO=1 and PROTOCOL=TCP then DROP PACKET"
    // More than that: an acceptable first fragment has the whole header, so whatever
    // starts inside it means to overwrite ports or flags (RFC 3128).
    let header_len_min = match protocol {
        proto::TCP => transport::TCP_LEN_MIN,
        proto::SCTP => transport::SCTP_LEN,
        _ => 0,
    };
    if offset_bytes < header_len_min {
        return Err(DropReason::FragmentTiny);
    }
    Ok(FragKind::Later)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::build::{Body, FrameSpec};

    fn udp() -> Vec<u8> {
        let (src, dst) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        FrameSpec::new(
            src,
            dst,
            Body::Udp {
                src_port: 1,
                dst_port: 2,
            },
        )
        .build()
    }

    fn tagged(tags: &[u8]) -> Result<Meta, DropReason> {
        let mut frame = udp();
        frame.splice(12..12, tags.iter().copied());
        parse(&frame)
    }

    #[test]
    fn one_tag_is_read_and_its_priority_ignored() {
        let meta = tagged(&[0x81, 0x00, 0xf0, 0x64]).unwrap();
        assert_eq!((meta.vlan, meta.l3_off, meta.dst_port), (100, 18, 2));
        assert_eq!(tagged(&[0x81, 0x00, 0x20, 0x00]).unwrap().vlan, 0);
        assert_eq!(
            tagged(&[0x81, 0x00, 0x0f, 0xff]),
            Err(DropReason::Malformed)
        );
    }

    #[test]
    fn a_second_tag_or_a_service_tag_is_stacking() {
        for tags in [
            &[0x81, 0x00, 0, 1, 0x81, 0x00, 0, 2][..],
            &[0x81, 0x00, 0, 1, 0x88, 0xa8, 0, 2],
            &[0x88, 0xa8, 0, 1],
            &[0x91, 0x00, 0, 1],
        ] {
            assert_eq!(tagged(tags), Err(DropReason::VlanStacked));
        }
    }

    #[test]
    fn an_unknown_ethertype_is_other_and_ends_with_the_frame() {
        let mut frame = udp();
        frame[12..14].copy_from_slice(&[0x88, 0xcc]);
        let meta = parse(&frame).unwrap();
        assert_eq!(
            (meta.kind, meta.l3_off, meta.l4_off),
            (FrameKind::Other, 14, 14)
        );
        assert_eq!(usize::from(meta.l3_end), frame.len());
        assert!(parse(&frame[..14]).is_ok());
        assert_eq!(parse(&frame[..13]), Err(DropReason::Truncated));
    }

    #[test]
    fn a_group_source_mac_is_malformed() {
        let mut frame = udp();
        frame[6] |= 1;
        assert_eq!(parse(&frame), Err(DropReason::Malformed));
    }

    #[test]
    fn a_packet_that_ends_past_the_offsets_range_is_refused() {
        let mut frame = udp();
        frame.resize(70_000, 0);
        frame[16..18].copy_from_slice(&[0xff, 0xff]);
        frame[24..26].fill(0);
        let sum = crate::wire::checksum::of(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(parse(&frame), Err(DropReason::Malformed));
    }
}
