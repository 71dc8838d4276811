//! Whole frames from a description, for tests, the simulator and benches.
//!
//! Not for the hot path: it allocates, and computes every checksum from scratch.

use core::net::{IpAddr, Ipv6Addr};
use core::ops::Range;

use crate::addr::{Addr, Mac};
use crate::meta::proto;
use crate::wire::checksum;
use crate::wire::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN};

/// A frame to build. Fields are public to be set one by one after [`Self::new`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrameSpec {
    /// Ethernet source.
    pub eth_src: Mac,
    /// Ethernet destination.
    pub eth_dst: Mac,
    /// VLAN id, twelve bits, if the frame is to carry a tag.
    pub vlan: Option<u16>,
    /// IP source.
    pub src: IpAddr,
    /// IP destination, of the same family: mixed families give an IPv6 packet with a
    /// v4-mapped address, which parse refuses.
    pub dst: IpAddr,
    /// The transport header.
    pub body: Body,
    /// What follows it; at most about 65 000 bytes, or length fields saturate.
    pub payload: Vec<u8>,
    /// TTL or hop limit.
    pub ttl: u8,
    /// IPv4 TOS or IPv6 traffic class.
    pub tos: u8,
    /// The DF bit; without meaning for IPv6.
    pub dont_fragment: bool,
}

/// The transport header of a [`FrameSpec`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body {
    /// TCP with a window of 65 535.
    Tcp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
        /// Flag bits, [`crate::meta::tcp_flag`].
        flags: u8,
        /// Sequence number.
        seq: u32,
        /// Acknowledgement number.
        ack: u32,
        /// Value of a maximum segment size option, if there is to be one.
        mss: Option<u16>,
    },
    /// UDP with its checksum.
    Udp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
    },
    /// SCTP with one chunk, whose fixed fields (of DATA, INIT and INIT ACK) are zero but
    /// for an initiate tag, and whose rest is the payload. The verification tag is 0
    /// for INIT and 1 otherwise.
    Sctp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
        /// Chunk type: 0 DATA, 1 INIT, 2 INIT ACK (RFC 9260 section 3.2).
        chunk: u8,
    },
    /// ICMP or ICMPv6 echo, by the family of the addresses.
    IcmpEcho {
        /// Identifier.
        id: u16,
        /// Sequence number.
        seq: u16,
        /// Whether it is the reply.
        reply: bool,
    },
    /// No header here: the payload is all that follows the IP header. If `protocol` is
    /// ICMP or ICMPv6 and the payload starts with such a header, its checksum is set.
    Other {
        /// The IANA protocol number.
        protocol: u8,
    },
}

impl FrameSpec {
    /// A frame between two made-up MACs: no tag, no payload, TTL 64, DF set.
    #[must_use]
    pub const fn new(src: IpAddr, dst: IpAddr, body: Body) -> Self {
        Self {
            eth_src: Mac([0x02, 0, 0, 0, 0, 0x01]),
            eth_dst: Mac([0x02, 0, 0, 0, 0, 0x02]),
            vlan: None,
            src,
            dst,
            body,
            payload: Vec::new(),
            ttl: 64,
            tos: 0,
            dont_fragment: true,
        }
    }

    /// The frame's bytes from Ethernet header to the end of the packet, not padded.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut frame = [self.eth_dst.0, self.eth_src.0].concat();
        if let Some(vlan) = self.vlan {
            frame.extend(ETHERTYPE_VLAN.to_be_bytes());
            frame.extend((vlan & 0x0fff).to_be_bytes());
        }
        let transport = self.transport();
        if let (IpAddr::V4(_), IpAddr::V4(_)) = (self.src, self.dst) {
            frame.extend(ETHERTYPE_IPV4.to_be_bytes());
            frame.extend(self.header_v4(transport.len()));
        } else {
            frame.extend(ETHERTYPE_IPV6.to_be_bytes());
            frame.extend(self.header_v6(transport.len()));
        }
        frame.extend(transport);
        frame
    }

    /// The IP protocol number.
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        match self.body {
            Body::Tcp { .. } => proto::TCP,
            Body::Udp { .. } => proto::UDP,
            Body::Sctp { .. } => proto::SCTP,
            Body::IcmpEcho { .. } if self.is_v4() => proto::ICMP,
            Body::IcmpEcho { .. } => proto::ICMPV6,
            Body::Other { protocol } => protocol,
        }
    }

    const fn is_v4(&self) -> bool {
        self.src.is_ipv4() && self.dst.is_ipv4()
    }

    fn header_v4(&self, transport_len: usize) -> Vec<u8> {
        let flags = if self.dont_fragment { 0x4000u16 } else { 0 };
        let mut header = vec![0x45, self.tos];
        header.extend(len16(20 + transport_len));
        header.extend([0, 0]);
        header.extend(flags.to_be_bytes());
        header.extend([self.ttl, self.protocol(), 0, 0]);
        header.extend(Addr::from(self.src).to_v4());
        header.extend(Addr::from(self.dst).to_v4());
        set(&mut header, 10, checksum::of);
        header
    }

    fn header_v6(&self, transport_len: usize) -> Vec<u8> {
        let mut header = (6u32 << 28 | u32::from(self.tos) << 20)
            .to_be_bytes()
            .to_vec();
        header.extend(len16(transport_len));
        header.extend([self.protocol(), self.ttl]);
        header.extend(mapped(self.src).octets());
        header.extend(mapped(self.dst).octets());
        header
    }

    /// Transport header and payload.
    fn transport(&self) -> Vec<u8> {
        let mut bytes = match self.body {
            Body::Tcp {
                src_port,
                dst_port,
                flags,
                seq,
                ack,
                mss,
            } => {
                let mut header = [src_port.to_be_bytes(), dst_port.to_be_bytes()].concat();
                header.extend([seq.to_be_bytes(), ack.to_be_bytes()].concat());
                let data_offset = if mss.is_some() { 0x60 } else { 0x50 };
                header.extend([data_offset, flags, 0xff, 0xff, 0, 0, 0, 0]);
                if let Some(mss) = mss {
                    header.extend([2, 4]);
                    header.extend(mss.to_be_bytes());
                }
                header
            }
            Body::Udp { src_port, dst_port } => {
                let mut header = [src_port.to_be_bytes(), dst_port.to_be_bytes()].concat();
                header.extend(len16(8 + self.payload.len()));
                header.extend([0, 0]);
                header
            }
            Body::Sctp {
                src_port,
                dst_port,
                chunk,
            } => {
                return sctp(src_port, dst_port, chunk, &self.payload);
            }
            Body::IcmpEcho { id, seq, reply } => {
                let kind = match (self.is_v4(), reply) {
                    (true, false) => 8,
                    (true, true) => 0,
                    (false, false) => 128,
                    (false, true) => 129,
                };
                let mut header = vec![kind, 0, 0, 0];
                header.extend([id.to_be_bytes(), seq.to_be_bytes()].concat());
                header
            }
            Body::Other { .. } => Vec::new(),
        };
        bytes.extend(&self.payload);
        match self.protocol() {
            proto::TCP => set(&mut bytes, 16, |b| self.pseudo_checksum(b)),
            //= RFC 768: "If the computed checksum is zero, it is transmitted as all ones"
            proto::UDP => set(&mut bytes, 6, |b| match self.pseudo_checksum(b) {
                0 => 0xffff,
                checksum => checksum,
            }),
            proto::ICMP => set(&mut bytes, 2, checksum::of),
            proto::ICMPV6 => set(&mut bytes, 2, |b| self.pseudo_checksum(b)),
            _ => {}
        }
        bytes
    }

    fn pseudo_checksum(&self, bytes: &[u8]) -> u16 {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let sum = if self.is_v4() {
            checksum::pseudo(self.src.into(), self.dst.into(), self.protocol(), len)
        } else {
            let (src, dst) = (mapped(self.src).octets(), mapped(self.dst).octets());
            checksum::pseudo_v6(src, dst, self.protocol(), len)
        };
        sum.bytes(bytes).checksum()
    }
}

/// The fragments of a frame's packet, `data_len` bytes of data each (a multiple of 8) but
/// for the last. For [`piece`]'s frames only. An IPv6 packet that fits becomes an atomic
/// fragment (RFC 6946).
#[must_use]
pub fn fragments(frame: &[u8], id: u32, data_len: usize) -> Vec<Vec<u8>> {
    let len = frame.len().saturating_sub(Ip::of(frame).data_off);
    (0..len)
        .step_by(data_len.max(8))
        .map(|start| {
            let end = (start + data_len).min(len);
            piece(frame, id, start..end, end < len)
        })
        .collect()
}

/// One fragment of a frame's packet: its data's bytes in this range, with zeroes past its
/// end. The frame has no padding, its packet no options or extension headers.
///
/// `data.start` is a multiple of 8 below 65 536; nothing else needs to be right.
#[must_use]
pub fn piece(frame: &[u8], id: u32, data: Range<usize>, more: bool) -> Vec<u8> {
    const FRAGMENT: u8 = 44;
    let ip = Ip::of(frame);
    let offset = u16::try_from(data.start).unwrap_or(u16::MAX) & 0xfff8;
    let (headers, whole) = frame.split_at(ip.data_off.min(frame.len()));
    let bytes = data.clone().map(|at| whole.get(at).copied().unwrap_or(0));
    let mut fragment = headers.to_vec();
    if let Some(header) = fragment.get_mut(ip.header_off..)
        && ip.v4
    {
        let [_, _, id_hi, id_lo] = id.to_be_bytes();
        let [len_hi, len_lo] = len16(20 + data.len());
        let [hi, lo] = (offset >> 3 | if more { 0x2000 } else { 0 }).to_be_bytes();
        if let [_, _, rest @ ..] = header
            && let Some(fields) = rest.first_chunk_mut()
        {
            *fields = [len_hi, len_lo, id_hi, id_lo, hi, lo];
        }
        set(header, 10, checksum::of);
    } else if let Some([_, _, _, _, len_hi, len_lo, next, ..]) = fragment.get_mut(ip.header_off..) {
        [*len_hi, *len_lo] = len16(8 + data.len());
        let protocol = core::mem::replace(next, FRAGMENT);
        let [hi, lo] = (offset | u16::from(more)).to_be_bytes();
        fragment.extend([protocol, 0, hi, lo]);
        fragment.extend(id.to_be_bytes());
    }
    fragment.extend(bytes);
    fragment
}

/// Where a frame's IP header and its data are.
struct Ip {
    v4: bool,
    header_off: usize,
    data_off: usize,
}

impl Ip {
    fn of(frame: &[u8]) -> Self {
        let tagged = frame.get(12..14) == Some(&ETHERTYPE_VLAN.to_be_bytes());
        let header_off = if tagged { 18 } else { 14 };
        let v4 = frame.get(header_off).is_some_and(|byte| byte >> 4 == 4);
        Self {
            v4,
            header_off,
            data_off: header_off + if v4 { 20 } else { 40 },
        }
    }
}

/// CRC32c of `bytes`, as it enters an SCTP header in little-endian order.
//= RFC 9260 appendix A
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL_REFLECTED: u32 = 0x82f6_3b78;
    let crc = bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1)
                ^ if crc & 1 == 1 {
                    POLYNOMIAL_REFLECTED
                } else {
                    0
                }
        })
    });
    !crc
}

/// An SCTP packet of one chunk, padded to four bytes.
fn sctp(src_port: u16, dst_port: u16, chunk: u8, payload: &[u8]) -> Vec<u8> {
    const DATA: u8 = 0;
    const INIT: u8 = 1;
    const INIT_ACK: u8 = 2;
    let fixed: &[u8] = match chunk {
        DATA => &[0; 12],
        INIT | INIT_ACK => &[0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1],
        _ => &[],
    };
    let tag = u32::from(chunk != INIT);
    let mut bytes = [src_port.to_be_bytes(), dst_port.to_be_bytes()].concat();
    bytes.extend(tag.to_be_bytes());
    bytes.extend([0, 0, 0, 0]);
    // DATA is a whole message: the B and E bits are set.
    bytes.extend([chunk, if chunk == DATA { 3 } else { 0 }]);
    bytes.extend(len16(4 + fixed.len() + payload.len()));
    bytes.extend(fixed);
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let crc = crc32c(&bytes);
    if let Some(field) = bytes.get_mut(8..12) {
        field.copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

/// `ip` as an IPv6 address.
const fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

fn len16(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes()
}

/// Zeroes the 16-bit field at `at`, then sets it to what `of` makes of all bytes. No
/// change if there is no such field.
fn set(bytes: &mut [u8], at: usize, of: impl FnOnce(&[u8]) -> u16) {
    if let Some(field) = bytes.get_mut(at..at + 2) {
        field.fill(0);
        let value = of(bytes).to_be_bytes();
        if let Some(field) = bytes.get_mut(at..at + 2) {
            field.copy_from_slice(&value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_of_the_check_string_is_the_published_one() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        // RFC 3720 appendix B.4: 32 bytes of zeroes.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn checksums_verify_over_the_pseudo_header_of_both_families() {
        for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let (src, dst): (IpAddr, IpAddr) = (src.parse().unwrap(), dst.parse().unwrap());
            let l4_off = if src.is_ipv4() { 34 } else { 54 };
            for body in [
                Body::Udp {
                    src_port: 1,
                    dst_port: 2,
                },
                Body::Tcp {
                    src_port: 1,
                    dst_port: 2,
                    flags: 2,
                    seq: 3,
                    ack: 4,
                    mss: Some(1400),
                },
            ] {
                let spec = FrameSpec {
                    payload: vec![1, 2, 3],
                    ..FrameSpec::new(src, dst, body)
                };
                let l4 = spec.build().split_off(l4_off);
                let len = u32::try_from(l4.len()).unwrap();
                let sum = checksum::pseudo(src.into(), dst.into(), spec.protocol(), len);
                assert!(sum.bytes(&l4).verifies());
            }
        }
    }

    #[test]
    fn an_sctp_packet_has_the_crc_of_itself_with_a_zero_field() {
        let packet = sctp(1, 2, 1, &[9; 5]);
        assert_eq!(packet.len(), 12 + 4 + 16 + 8);
        let mut zeroed = packet.clone();
        zeroed[8..12].fill(0);
        assert_eq!(packet[8..12], crc32c(&zeroed).to_le_bytes());
    }
}
