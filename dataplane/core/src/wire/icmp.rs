//! ICMP errors about packet size: made in place from the packet that was too big, and
//! read when another router sent one (RFC 1191, RFC 8201).

use crate::addr::{Addr, Mac};
use crate::meta::{FragKind, FrameKind, Meta, NdKind, proto};
use crate::port::Frame;
use crate::wire::bytes::{array, be16, be32, put};
use crate::wire::checksum::{self, Sum};
use crate::wire::ethernet::{self, HEADER_LEN, VLAN_TAG_LEN};

/// ICMP destination unreachable (RFC 792).
pub const DESTINATION_UNREACHABLE: u8 = 3;
/// Its code "fragmentation needed and DF set".
pub const FRAGMENTATION_NEEDED: u8 = 4;
/// ICMPv6 packet too big (RFC 4443 section 3.2).
pub const PACKET_TOO_BIG: u8 = 2;

/// Bytes of the offending IPv4 packet that an error quotes, at most.
//= RFC 1812 section 4.3.2.3: "SHOULD contain as much of the original datagram as possible
//= without the length of the ICMP datagram exceeding 576 bytes"
pub const QUOTE_LEN_MAX_V4: usize = 576 - IPV4_LEN - ICMP_LEN;
/// Bytes of the offending IPv6 packet that an error quotes, at most.
//= RFC 4443 section 3.2: "As much of invoking packet as possible without the ICMPv6
//= packet exceeding the minimum IPv6 MTU"
pub const QUOTE_LEN_MAX_V6: usize = 1280 - IPV6_LEN - ICMP_LEN;

const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const ICMP_LEN: usize = 8;
const HOP_LIMIT: u8 = 64;
/// Internetwork control: what RFC 1812 section 4.3.2.5 wants errors sent with.
const TOS_CONTROL: u8 = 0xc0;

/// Turns a packet that is too big for the way ahead into the error that tells its
/// sender so: from `from` at `router_mac`, the next hop's MTU being `mtu` bytes. Any
/// VLAN tag stays. `meta` no longer describes the frame afterwards.
///
/// `false`, and no change, if nobody may be told (see below), `from` is of the other
/// family, or there is no headroom. That the packet has DF set is the caller's to check.
///
/// Multicast gets no answer in IPv6 either, though RFC 4443 section 2.4 (e.3) would allow
/// one: none is forwarded here.
#[must_use]
pub fn too_big_in_place(
    frame: &mut impl Frame,
    meta: &Meta,
    mtu: u16,
    router_mac: Mac,
    from: Addr,
) -> bool {
    if !may_be_answered(meta) || from.is_v4() != meta.src.is_v4() {
        return false;
    }
    let l3_off = usize::from(meta.l3_off);
    let Some(tag) = VlanTag::of(frame.bytes(), l3_off) else {
        return false;
    };
    let (header_len, quote_len_max) = if meta.src.is_v4() {
        (IPV4_LEN + ICMP_LEN, QUOTE_LEN_MAX_V4)
    } else {
        (IPV6_LEN + ICMP_LEN, QUOTE_LEN_MAX_V6)
    };
    let packet_len = usize::from(meta.l3_end.saturating_sub(meta.l3_off));
    let len = header_len + packet_len.min(quote_len_max);
    if frame.bytes().len() < usize::from(meta.l3_end) || !frame.grow_front(header_len) {
        return false;
    }
    frame.truncate(l3_off + len);
    let bytes = frame.bytes_mut();
    // The headers of Ethernet and the error now stand before the quoted packet.
    // Long enough for all of it, so `false` can't come halfway.
    ethernet::rewrite(bytes, router_mac, meta.eth_src)
        && tag.put(bytes).is_some()
        && bytes
            .get_mut(l3_off..)
            .and_then(|packet| {
                if meta.src.is_v4() {
                    write_v4(packet, from, meta.src, mtu)
                } else {
                    write_v6(packet, from, meta.src, mtu)
                }
            })
            .is_some()
}

/// The MTU that an error received from another router names, in bytes. `None` if the
/// packet is no such error, is fragmented, doesn't have its right checksum, or names no
/// MTU, as routers before RFC 1191 did.
///
/// Whether to believe it is the caller's: [`super::embedded()`] has to name a flow.
#[must_use]
pub fn next_hop_mtu(frame: &[u8], meta: &Meta) -> Option<u32> {
    if meta.frag != FragKind::Whole || !checksum_verifies(frame, meta) {
        return None;
    }
    quoted_mtu(frame, meta).filter(|mtu| *mtu != 0)
}

/// The MTU in an ICMP "fragmentation needed" or ICMPv6 "packet too big" as it stands there:
/// 0 from a router older than RFC 1191, and the checksum isn't looked at. `None` for
/// anything else.
#[must_use]
pub fn quoted_mtu(frame: &[u8], meta: &Meta) -> Option<u32> {
    if !meta.icmp_error {
        return None;
    }
    let l4_off = usize::from(meta.l4_off);
    let [kind, code] = array(frame, l4_off)?;
    match (meta.src.is_v4(), kind, code) {
        (true, DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED) => {
            be16(frame, l4_off + 6).map(u32::from)
        }
        //= RFC 4443 section 3.2: the code is "set to 0 (zero) by the originator and
        //= ignored by the receiver"
        (false, PACKET_TOO_BIG, _) => be32(frame, l4_off + 4),
        _ => None,
    }
}

/// Whether an unfragmented ICMP or ICMPv6 message has its right checksum.
#[must_use]
pub fn checksum_verifies(frame: &[u8], meta: &Meta) -> bool {
    let Some(message) = frame.get(usize::from(meta.l4_off)..usize::from(meta.l3_end)) else {
        return false;
    };
    let sum = match meta.protocol {
        proto::ICMP => Sum::new(),
        proto::ICMPV6 => {
            let len = u32::from(meta.l3_end.saturating_sub(meta.l4_off));
            checksum::pseudo(meta.src, meta.dst, proto::ICMPV6, len)
        }
        _ => return false,
    };
    sum.bytes(message).verifies()
}

//= RFC 1122 section 3.2.2: "An ICMP error message MUST NOT be sent as the result of
//= receiving: an ICMP error message, or a datagram destined to an IP broadcast or IP
//= multicast address, or a datagram sent as a link-layer broadcast, or a non-initial
//= fragment, or a datagram whose source address does not define a single host"
//= RFC 4443 section 2.4 (e): the same, and never to an ICMPv6 redirect
fn may_be_answered(meta: &Meta) -> bool {
    meta.kind == FrameKind::Ip
        && !meta.icmp_error
        && meta.nd == NdKind::None
        && meta.frag != FragKind::Later
        && !meta.eth_dst.is_group()
        && !meta.eth_src.is_group()
        && is_one_host(meta.src)
        && is_one_host(meta.dst)
}

fn is_one_host(addr: Addr) -> bool {
    if addr.is_v4() {
        // This network, loopback, multicast, and the reserved block with broadcast.
        !matches!(addr.to_v4(), [0 | 127 | 224..=255, ..])
    } else {
        addr != Addr::UNSPECIFIED && addr != LOOPBACK_V6 && addr.0 >> 120 != 0xff
    }
}

const LOOPBACK_V6: Addr = Addr(1);

/// What stands between the MACs and the packet: ethertype, or tag and ethertype.
enum VlanTag {
    Absent([u8; 2]),
    Present([u8; 6]),
}

impl VlanTag {
    fn of(frame: &[u8], l3_off: usize) -> Option<Self> {
        const TAGGED_LEN: usize = HEADER_LEN + VLAN_TAG_LEN;
        match l3_off {
            HEADER_LEN => array(frame, 12).map(Self::Absent),
            TAGGED_LEN => array(frame, 12).map(Self::Present),
            _ => None,
        }
    }

    fn put(self, frame: &mut [u8]) -> Option<()> {
        match self {
            Self::Absent(bytes) => put(frame, 12, bytes),
            Self::Present(bytes) => put(frame, 12, bytes),
        }
    }
}

/// Writes IPv4 and ICMP header in front of the quote in `packet`.
fn write_v4(packet: &mut [u8], from: Addr, to: Addr, mtu: u16) -> Option<()> {
    //= RFC 1191 section 4: the MTU is in the low 16 bits of the word that RFC 792 leaves unused
    put(
        packet,
        IPV4_LEN,
        [DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED, 0, 0, 0, 0],
    )?;
    put(packet, IPV4_LEN + 6, mtu.to_be_bytes())?;
    let sum = checksum::of(packet.get(IPV4_LEN..)?);
    put(packet, IPV4_LEN + 2, sum.to_be_bytes())?;

    let total_len = u16::try_from(packet.len()).ok()?.to_be_bytes();
    // DF with identification 0: an atomic datagram (RFC 6864 section 4.1).
    let [hi, lo] = total_len;
    put(packet, 0, [0x45, TOS_CONTROL, hi, lo, 0, 0, 0x40, 0])?;
    put(packet, 8, [HOP_LIMIT, proto::ICMP, 0, 0])?;
    put(packet, 12, from.to_v4())?;
    put(packet, 16, to.to_v4())?;
    let sum = checksum::of(packet.get(..IPV4_LEN)?);
    put(packet, 10, sum.to_be_bytes())
}

/// Writes IPv6 and ICMPv6 header in front of the quote in `packet`.
fn write_v6(packet: &mut [u8], from: Addr, to: Addr, mtu: u16) -> Option<()> {
    let payload_len = u16::try_from(packet.len().checked_sub(IPV6_LEN)?).ok()?;
    let [hi, lo] = payload_len.to_be_bytes();
    put(packet, 0, [0x60, 0, 0, 0, hi, lo, proto::ICMPV6, HOP_LIMIT])?;
    put(packet, 8, from.to_v6())?;
    put(packet, 24, to.to_v6())?;

    put(packet, IPV6_LEN, [PACKET_TOO_BIG, 0, 0, 0])?;
    put(packet, IPV6_LEN + 4, u32::from(mtu).to_be_bytes())?;
    let sum = checksum::pseudo(from, to, proto::ICMPV6, u32::from(payload_len));
    let sum = sum.bytes(packet.get(IPV6_LEN..)?).checksum();
    put(packet, IPV6_LEN + 2, sum.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::build::{Body, FrameSpec};
    use crate::wire::embedded::embedded;
    use crate::wire::parse;
    use crate::wire::test_frame::TestFrame;

    const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 9]);
    const FAMILIES: [(&str, &str, &str); 2] = [
        ("10.0.0.1", "10.0.0.2", "10.0.0.254"),
        ("fd00::1", "fd00::2", "fd00::fe"),
    ];

    fn udp(src: &str, dst: &str, len: usize) -> FrameSpec {
        let body = Body::Udp {
            src_port: 1000,
            dst_port: 53,
        };
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        FrameSpec {
            payload: vec![0xee; len],
            ..FrameSpec::new(src, dst, body)
        }
    }

    fn ip(text: &str) -> Addr {
        text.parse::<core::net::IpAddr>().unwrap().into()
    }

    fn too_big(bytes: &[u8], mtu: u16, from: &str) -> Option<Vec<u8>> {
        let mut frame = TestFrame::new(bytes);
        let meta = parse(bytes).unwrap();
        let done = too_big_in_place(&mut frame, &meta, mtu, ROUTER, ip(from));
        if !done {
            assert_eq!(frame.bytes(), bytes);
        }
        done.then(|| frame.bytes().to_vec())
    }

    #[test]
    fn the_sender_learns_the_mtu_and_which_flow_it_is_about() {
        for (src, dst, from) in FAMILIES {
            for (vlan, len) in [(None, 0), (None, 1400), (Some(7), 1401), (Some(7), 33)] {
                let spec = FrameSpec {
                    vlan,
                    ..udp(src, dst, len)
                };
                let mut bytes = spec.build();
                let sent = parse(&bytes).unwrap();
                bytes.resize(bytes.len() + 9, 0xbb); // Ethernet padding isn't quoted
                let error = too_big(&bytes, 1400, from).unwrap();
                let meta = parse(&error).unwrap();
                assert_eq!(
                    (meta.eth_src, meta.eth_dst, meta.vlan),
                    (ROUTER, spec.eth_src, vlan.unwrap_or(0))
                );
                assert_eq!((meta.src, meta.dst), (ip(from), ip(src)));
                assert_eq!(usize::from(meta.l3_end), error.len());
                assert!(meta.icmp_error);
                assert_eq!(next_hop_mtu(&error, &meta), Some(1400));
                let quoted = embedded(&error, &meta).unwrap();
                assert_eq!((quoted.src, quoted.dst), (ip(src), ip(dst)));
                assert_eq!((quoted.src_port, quoted.dst_port), (1000, 53));
                // The quote is the packet as it was, up to the bound.
                let quote = &error[usize::from(meta.l4_off) + 8..];
                let bound = if src.contains('.') { 548 } else { 1232 };
                assert_eq!(quote.len(), sent.l3_len().min(bound));
                assert_eq!(quote, &bytes[usize::from(sent.l3_off)..][..quote.len()]);
            }
        }
    }

    #[test]
    fn an_error_is_not_answered_with_an_error() {
        for (src, dst, from) in FAMILIES {
            let error = too_big(&udp(src, dst, 1400).build(), 1400, from).unwrap();
            assert_eq!(too_big(&error, 500, dst), None);
        }
    }

    #[test]
    fn later_fragments_and_multicast_get_no_answer() {
        let mut fragment = udp("10.0.0.1", "10.0.0.2", 100).build();
        fragment[20..22].copy_from_slice(&[0x00, 0x10]);
        fragment[24..26].fill(0);
        let sum = checksum::of(&fragment[14..34]);
        fragment[24..26].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(parse(&fragment).unwrap().frag, FragKind::Later);
        assert_eq!(too_big(&fragment, 1400, "10.0.0.254"), None);
        for (src, dst, from) in [
            ("10.0.0.1", "224.0.0.5", "10.0.0.254"),
            ("10.0.0.1", "255.255.255.255", "10.0.0.254"),
            ("0.0.0.0", "10.0.0.1", "10.0.0.254"),
            ("fd00::1", "ff02::1", "fd00::fe"),
            ("::", "fd00::1", "fd00::fe"),
            ("fd00::1", "fd00::2", "10.0.0.254"),
        ] {
            assert_eq!(too_big(&udp(src, dst, 9).build(), 1400, from), None);
        }
        let group = FrameSpec {
            eth_dst: Mac::BROADCAST,
            ..udp("10.0.0.1", "10.0.0.2", 9)
        };
        assert_eq!(too_big(&group.build(), 1400, "10.0.0.254"), None);
    }

    #[test]
    fn without_headroom_the_frame_stays_as_it_was() {
        let bytes = udp("10.0.0.1", "10.0.0.2", 900).build();
        let meta = parse(&bytes).unwrap();
        let mut frame = TestFrame::with_room(&bytes, 27, 0);
        assert!(!too_big_in_place(
            &mut frame,
            &meta,
            1400,
            ROUTER,
            ip("10.0.0.254")
        ));
        assert_eq!(frame.bytes(), bytes);
    }

    #[test]
    fn an_mtu_is_read_only_from_an_intact_message_that_names_one() {
        for (src, dst, from) in FAMILIES {
            let good = too_big(&udp(src, dst, 1400).build(), 1400, from).unwrap();
            let meta = parse(&good).unwrap();
            let mut broken = good.clone();
            broken[usize::from(meta.l4_off) + 7] ^= 1;
            assert_eq!(next_hop_mtu(&broken, &meta), None);
            let zero = too_big(&udp(src, dst, 1400).build(), 0, from).unwrap();
            assert_eq!(next_hop_mtu(&zero, &parse(&zero).unwrap()), None);
            let plain = udp(src, dst, 9).build();
            assert_eq!(next_hop_mtu(&plain, &parse(&plain).unwrap()), None);
        }
    }
}
