//! The packet inside an ICMP error: whose flow the error belongs to.
//!
//! A router quotes as little as the IP header and eight bytes (RFC 792), and what it
//! quotes was itself on the wire, so lengths in it may exceed what is there and its
//! checksum may be stale. Only what a flow's key needs is read.

use sluice_crypto::esp::{PORT_NAT_T, Spi};

use crate::addr::Addr;
use crate::meta::{Meta, proto};
use crate::wire::bytes::{array, be16, be32};
use crate::wire::parse::{icmp_has_id, icmpv6_has_id, walk_extensions};

/// The tuple of a packet that an ICMP error complains of, as its sender sent it. Ports
/// are as in [`Meta`]: both the identifier for ICMP echo, 0 for protocols without.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Embedded {
    /// The sender of the packet: who the error is for.
    pub src: Addr,
    /// Where the packet was going.
    pub dst: Addr,
    /// Source port or identifier.
    pub src_port: u16,
    /// Destination port or identifier.
    pub dst_port: u16,
    /// The second word of the transport header: TCP's sequence number, SCTP's
    /// verification tag; 0 for protocols without ports.
    pub number: u32,
    /// The transport protocol, [`proto`].
    pub protocol: u8,
}

/// ICMP header in front of the quoted packet.
const ICMP_LEN: usize = 8;
const UDP_LEN: usize = 8;
/// What every router quotes of the transport header.
//= RFC 792: "The internet header plus the first 64 bits of the original datagram's data."
const TRANSPORT_QUOTED_MIN: usize = 8;

/// The tuple quoted by the ICMP error that `frame` is. `None` if it isn't one, if too
/// little is quoted, if a later fragment is (it has no ports), or another ICMP error
/// (which nobody may answer with one), or anything an address or length of which is
/// impossible.
#[must_use]
pub fn embedded(frame: &[u8], meta: &Meta) -> Option<Embedded> {
    let (tuple, transport) = quoted(frame, meta)?;
    let (src_port, dst_port) = ports(tuple.protocol, tuple.src.is_v4(), transport)?;
    Some(Embedded {
        src_port,
        dst_port,
        number: be32(transport, 4).unwrap_or(0),
        ..tuple
    })
}

/// An ESP packet that an ICMP error complains of, as it was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QuotedEsp {
    /// Its sender.
    pub src: Addr,
    /// Where it was going.
    pub dst: Addr,
    /// Its SPI.
    pub spi: Spi,
    /// The low half of its sequence number.
    pub seq: u32,
}

/// The ESP packet quoted by the ICMP error that `frame` is, in UDP or not. `None` if it isn't
/// one, or quotes less than the ESP header: in UDP eight bytes more than every router quotes.
#[must_use]
pub fn quoted_esp(frame: &[u8], meta: &Meta) -> Option<QuotedEsp> {
    let (
        Embedded {
            src, dst, protocol, ..
        },
        transport,
    ) = quoted(frame, meta)?;
    let at = match protocol {
        proto::ESP => 0,
        proto::UDP if be16(transport, 2)? == PORT_NAT_T => UDP_LEN,
        _ => return None,
    };
    Some(QuotedEsp {
        src,
        dst,
        spi: Spi(be32(transport, at)?),
        seq: be32(transport, at + 4)?,
    })
}

/// What an ICMP error quotes.
fn quoted<'a>(frame: &'a [u8], meta: &Meta) -> Option<(Embedded, &'a [u8])> {
    if !meta.icmp_error {
        return None;
    }
    let message = frame.get(usize::from(meta.l4_off)..usize::from(meta.l3_end))?;
    let packet = message.get(ICMP_LEN..)?;
    if meta.src.is_v4() {
        quoted_v4(packet)
    } else {
        quoted_v6(packet)
    }
}

/// Addresses and protocol, and the quoted part of the transport header.
fn quoted_v4(packet: &[u8]) -> Option<(Embedded, &[u8])> {
    let [version_ihl, ..]: [u8; 20] = array(packet, 0)?;
    let header_len = usize::from(version_ihl & 0x0f) * 4;
    let total_len = usize::from(be16(packet, 2)?);
    let fragment_offset = be16(packet, 6)? & 0x1fff;
    if version_ihl >> 4 != 4 || header_len < 20 || total_len < header_len || fragment_offset != 0 {
        return None;
    }
    let [protocol] = array(packet, 9)?;
    let (src, dst) = (Addr::v4(array(packet, 12)?), Addr::v4(array(packet, 16)?));
    let transport = packet.get(header_len..total_len.min(packet.len()))?;
    Some((
        Embedded {
            src,
            dst,
            src_port: 0,
            dst_port: 0,
            number: 0,
            protocol,
        },
        transport,
    ))
}

/// As [`quoted_v4`].
fn quoted_v6(packet: &[u8]) -> Option<(Embedded, &[u8])> {
    let [version, ..]: [u8; 40] = array(packet, 0)?;
    let (src, dst) = (Addr::v6(array(packet, 8)?), Addr::v6(array(packet, 24)?));
    if version >> 4 != 6 || src.is_v4() || dst.is_v4() {
        return None;
    }
    let packet = packet.get(..packet.len().min(40 + usize::from(be16(packet, 4)?)))?;
    let [next_header] = array(packet, 6)?;
    let chain = walk_extensions(packet, 40, next_header).ok()?;
    if chain.fragment.is_some_and(|f| f.offset_bytes != 0) {
        return None;
    }
    let transport = packet.get(chain.l4_off..)?;
    Some((
        Embedded {
            src,
            dst,
            src_port: 0,
            dst_port: 0,
            number: 0,
            protocol: chain.protocol,
        },
        transport,
    ))
}

fn ports(protocol: u8, v4: bool, transport: &[u8]) -> Option<(u16, u16)> {
    match protocol {
        proto::TCP | proto::UDP | proto::SCTP => {
            let [a, b, c, d, ..] = array::<TRANSPORT_QUOTED_MIN>(transport, 0)?;
            Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
        }
        proto::ICMP | proto::ICMPV6 => {
            let [kind, _, _, _, hi, lo, ..] = array::<TRANSPORT_QUOTED_MIN>(transport, 0)?;
            let has_id = match protocol {
                proto::ICMP => v4 && icmp_has_id(kind),
                _ => !v4 && icmpv6_has_id(kind),
            };
            let id = u16::from_be_bytes([hi, lo]);
            has_id.then_some((id, id))
        }
        _ => Some((0, 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::build::{Body, FrameSpec};
    use crate::wire::parse;

    /// An ICMP error of the first `quote_len` bytes of `inner`'s packet, back to its sender.
    fn error(inner: &FrameSpec, quote_len: usize) -> Vec<u8> {
        let packet = inner.build().split_off(14);
        let kind = if inner.src.is_ipv4() { 11 } else { 3 };
        let mut payload = vec![kind, 0, 0, 0, 0, 0, 0, 0];
        payload.extend(&packet[..quote_len.min(packet.len())]);
        let protocol = if inner.src.is_ipv4() {
            proto::ICMP
        } else {
            proto::ICMPV6
        };
        let mut outer = FrameSpec::new(inner.dst, inner.src, Body::Other { protocol });
        outer.payload = payload;
        outer.build()
    }

    fn read(frame: &[u8]) -> Option<Embedded> {
        embedded(frame, &parse(frame).unwrap())
    }

    fn udp(src: &str, dst: &str) -> FrameSpec {
        FrameSpec::new(
            src.parse().unwrap(),
            dst.parse().unwrap(),
            Body::Udp {
                src_port: 1000,
                dst_port: 53,
            },
        )
    }

    #[test]
    fn header_and_eight_bytes_are_enough_for_the_tuple() {
        for (spec, header) in [
            (udp("10.0.0.1", "10.0.0.2"), 20),
            (udp("fd00::1", "fd00::2"), 40),
        ] {
            let expected = Embedded {
                src: spec.src.into(),
                dst: spec.dst.into(),
                src_port: 1000,
                dst_port: 53,
                number: be32(&spec.build(), 14 + header + 4).unwrap(),
                protocol: proto::UDP,
            };
            assert_eq!(read(&error(&spec, header + 8)), Some(expected));
            assert_eq!(read(&error(&spec, header + 7)), None);
            assert_eq!(read(&error(&spec, header - 1)), None);
            assert_eq!(read(&error(&spec, 0)), None);
        }
    }

    #[test]
    fn a_quoted_echo_gives_its_identifier_and_a_quoted_error_nothing() {
        for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
            let echo = FrameSpec::new(
                src,
                dst,
                Body::IcmpEcho {
                    id: 77,
                    seq: 1,
                    reply: false,
                },
            );
            let found = read(&error(&echo, 500)).unwrap();
            assert_eq!((found.src_port, found.dst_port), (77, 77));
            let protocol = found.protocol;
            let mut quoted_error = FrameSpec::new(src, dst, Body::Other { protocol });
            quoted_error.payload = vec![3, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(read(&error(&quoted_error, 500)), None);
        }
    }

    #[test]
    fn a_quoted_later_fragment_has_no_tuple() {
        let mut frame = error(&udp("10.0.0.1", "10.0.0.2"), 100);
        let quoted = 14 + 20 + 8;
        frame[quoted + 7] = 1;
        assert_eq!(read(&frame), None);
    }

    #[test]
    fn quoted_extension_headers_are_walked_up_to_a_later_fragment() {
        let quoted = 14 + 40 + 8;
        for (offset, found) in [(0, true), (1, true), (8, false)] {
            let mut frame = error(&udp("fd00::1", "fd00::2"), 100);
            frame.splice(
                quoted + 40..quoted + 40,
                [proto::UDP, 0, 0, offset, 0, 0, 0, 9],
            );
            frame[19] += 8;
            frame[quoted + 5] += 8;
            frame[quoted + 6] = 44;
            assert_eq!(
                read(&frame).map(|e| e.src_port),
                found.then_some(1000),
                "{offset}"
            );
        }
    }

    #[test]
    fn a_packet_that_is_no_error_quotes_nothing() {
        assert_eq!(read(&udp("10.0.0.1", "10.0.0.2").build()), None);
    }
}
