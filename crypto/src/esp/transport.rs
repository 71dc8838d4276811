//! Transport mode: ESP between a packet's own IP header and what it carries (RFC 4303
//! section 3.1.1).
//!
//! ```text
//!   before   | IPv4 header, options          |                          | TCP, UDP, ... |
//!            | IPv6 header, extension headers |
//!   after    | the same, protocol 50 or 17   | UDP, optional | ESP ... the rest, sealed |
//! ```
//!
//! The addresses stay, so both must be those of the SA's two ends. What stands in front of ESP
//! is not covered by the ICV: it is the receiver's to hold the addresses against the SA.

use super::tunnel::{PROTOCOL_UDP, UDP_HEADER_LEN, checksum, write_udp};
use super::{ESP_HEADER_LEN, PROTOCOL_ESP, TRAILER_FIXED_LEN};
use crate::aead::TAG_LEN;

const IPV4_HEADER_LEN_MIN: usize = 20;
const IPV4_TOTAL_LEN_AT: usize = 2;
const IPV4_FRAGMENT_AT: usize = 6;
const IPV4_PROTOCOL_AT: usize = 9;
const IPV4_CHECKSUM_AT: usize = 10;
/// More fragments, and the offset: neither is set in a whole packet.
const IPV4_FRAGMENT_MASK: u16 = 0x3fff;

const IPV6_HEADER_LEN: usize = 40;
const IPV6_PAYLOAD_LEN_AT: usize = 4;
const IPV6_NEXT_HEADER_AT: usize = 6;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// Everything about an SA's transport mode that stays the same from packet to packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Transport {
    /// Whether ESP travels in UDP between ports 4500 (RFC 3948). Only where no NAT changes the
    /// addresses: the checksums inside are of those that the sender knew.
    pub udp_encap: bool,
}

impl Transport {
    /// Bytes that go between the IP headers and the ESP header.
    #[must_use]
    pub const fn header_len(&self) -> usize {
        if self.udp_encap { UDP_HEADER_LEN } else { 0 }
    }

    /// The largest packet with IP headers of `ip_header_len` bytes whose sealed form is at most
    /// `link_mtu` bytes; 0 if there is none. Exact: one byte more would not fit.
    #[must_use]
    pub const fn packet_mtu(&self, link_mtu: usize, ip_header_len: usize) -> usize {
        let fixed = ip_header_len + self.header_len() + ESP_HEADER_LEN + TAG_LEN;
        let encrypted = link_mtu.saturating_sub(fixed) & !3;
        if encrypted < TRAILER_FIXED_LEN {
            return 0;
        }
        ip_header_len + encrypted - TRAILER_FIXED_LEN
    }

    /// Makes the IP header of a whole packet that of its sealed form, and says what it carried:
    /// the next header to seal it under.
    ///
    /// `header` is the IP header with its options or extension headers, then
    /// [`Self::header_len`] bytes of anything, and nothing else. `esp_len` is how long the ESP
    /// packet behind it will be. All else in the header, TTL and flags too, stays.
    ///
    /// # Errors
    /// [`TransportError`]; nothing is written.
    pub fn shield(&self, header: &mut [u8], esp_len: usize) -> Result<u8, TransportError> {
        let ip_len = header
            .len()
            .checked_sub(self.header_len())
            .ok_or(TransportError::NotIp)?;
        let (ip, udp) = header
            .split_at_mut_checked(ip_len)
            .ok_or(TransportError::NotIp)?;
        let payload_len = self.header_len().saturating_add(esp_len);
        let protocol = if self.udp_encap {
            PROTOCOL_UDP
        } else {
            PROTOCOL_ESP
        };
        let udp_len = length_field(payload_len)?;
        let carried = rewrite(ip, payload_len, protocol)?;
        if self.udp_encap {
            write_udp(udp, udp_len);
        }
        Ok(carried)
    }
}

/// Makes the IP header of a sealed packet that of what was inside: `payload_len` bytes of
/// `next_header`.
///
/// `header` is the IP header with its options or extension headers and nothing else; UDP is cut
/// out by the caller.
///
/// # Errors
/// [`TransportError`]; nothing is written.
pub fn unshield(
    header: &mut [u8],
    payload_len: usize,
    next_header: u8,
) -> Result<(), TransportError> {
    rewrite(header, payload_len, next_header).map(|_was| ())
}

/// Why a packet's header can't be made that of its sealed form, or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The bytes are not one IP header with its options or extension headers.
    #[error("not an IP header with its options or extension headers")]
    NotIp,
    /// The packet is a fragment. IPv6 fragment headers are refused whatever they say.
    ///
    //= RFC 4303 section 3.3.4
    //# In transport mode, ESP is applied only to whole IP datagrams (not to IP fragments).
    #[error("transport mode is for whole packets, not fragments")]
    Fragment,
    /// The length doesn't fit the header's field.
    #[error("a length of {len} does not fit the header, which holds {max}")]
    TooLong {
        /// What the field would have to say.
        len: usize,
        /// The most it can say.
        max: u16,
    },
}

fn length_field(len: usize) -> Result<u16, TransportError> {
    u16::try_from(len).map_err(|_| TransportError::TooLong { len, max: u16::MAX })
}

/// Sets what an IP header carries and how much of it; says what it carried.
fn rewrite(ip: &mut [u8], payload_len: usize, protocol: u8) -> Result<u8, TransportError> {
    match ip.first().map(|it| it >> 4) {
        Some(4) => rewrite_v4(ip, payload_len, protocol),
        Some(6) => rewrite_v6(ip, payload_len, protocol),
        _ => Err(TransportError::NotIp),
    }
}

fn rewrite_v4(ip: &mut [u8], payload_len: usize, protocol: u8) -> Result<u8, TransportError> {
    let ihl = ip.first().map_or(0, |it| usize::from(it & 0x0f) * 4);
    if ihl < IPV4_HEADER_LEN_MIN || ihl != ip.len() {
        return Err(TransportError::NotIp);
    }
    let fragment = field(ip, IPV4_FRAGMENT_AT).ok_or(TransportError::NotIp)?;
    if fragment & IPV4_FRAGMENT_MASK != 0 {
        return Err(TransportError::Fragment);
    }
    let total_len = length_field(payload_len.saturating_add(ihl))?;
    let carried = swap(ip, IPV4_PROTOCOL_AT, protocol)?;
    put(ip, IPV4_TOTAL_LEN_AT, total_len);
    put(ip, IPV4_CHECKSUM_AT, 0);
    let sum = checksum(ip);
    put(ip, IPV4_CHECKSUM_AT, sum);
    Ok(carried)
}

fn rewrite_v6(ip: &mut [u8], payload_len: usize, protocol: u8) -> Result<u8, TransportError> {
    let extensions = ip
        .len()
        .checked_sub(IPV6_HEADER_LEN)
        .ok_or(TransportError::NotIp)?;
    let payload_len = length_field(payload_len.saturating_add(extensions))?;
    let at = last_next_header(ip)?;
    let carried = swap(ip, at, protocol)?;
    put(ip, IPV6_PAYLOAD_LEN_AT, payload_len);
    Ok(carried)
}

/// Where the field stands that says what follows the last extension header.
///
/// ESP goes behind all of them, destination options too, as RFC 4303 section 3.1.1 allows.
fn last_next_header(ip: &[u8]) -> Result<usize, TransportError> {
    let (mut field, mut header) = (IPV6_NEXT_HEADER_AT, IPV6_HEADER_LEN);
    // Each turn is at least 8 bytes on.
    loop {
        let next = ip.get(field).ok_or(TransportError::NotIp)?;
        if *next == FRAGMENT {
            return Err(TransportError::Fragment);
        }
        let is_extension = matches!(*next, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS);
        match (header == ip.len(), is_extension) {
            (true, false) => return Ok(field),
            (false, true) => {}
            // Cut inside its chain, or followed by what isn't part of it.
            _ => return Err(TransportError::NotIp),
        }
        let units = ip.get(header + 1).ok_or(TransportError::NotIp)?;
        field = header;
        header += (usize::from(*units) + 1) * 8;
    }
}

fn field(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(*bytes))
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(to) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *to = value.to_be_bytes();
    }
}

fn swap(bytes: &mut [u8], at: usize, value: u8) -> Result<u8, TransportError> {
    let to = bytes.get_mut(at).ok_or(TransportError::NotIp)?;
    Ok(core::mem::replace(to, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::esp::OutboundSa;

    const PLAIN: Transport = Transport { udp_encap: false };
    const IN_UDP: Transport = Transport { udp_encap: true };

    /// 4500 0073 0000 4000 4011 b861, a much-cited checksum example: UDP from 192.168.0.1 to
    /// 192.168.0.199.
    const V4: [u8; 20] = [
        0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00,
        0x01, 0xc0, 0xa8, 0x00, 0xc7,
    ];

    fn v4_with_options(options: usize) -> Vec<u8> {
        let mut ip = V4.to_vec();
        ip[0] = 0x45 + u8::try_from(options / 4).expect("few");
        ip.resize(20 + options, 1);
        ip[10..12].fill(0);
        let sum = checksum(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        ip
    }

    /// An IPv6 header that carries TCP behind extension headers of these kinds and lengths.
    fn v6(extensions: &[(u8, usize)]) -> Vec<u8> {
        let mut ip = vec![0; 40];
        ip[0] = 0x6b;
        ip[7] = 64;
        ip[8..24].fill(0x11);
        ip[24..40].fill(0x22);
        let mut field = 6;
        for (kind, len) in extensions {
            ip[field] = *kind;
            field = ip.len();
            ip.extend([0, u8::try_from(len / 8 - 1).expect("short")]);
            ip.resize(field + len, 0);
        }
        ip[field] = 6;
        let payload = u16::try_from(ip.len() - 40 + 9).expect("short");
        ip[4..6].copy_from_slice(&payload.to_be_bytes());
        ip
    }

    fn sums_to_all_ones(ip: &[u8]) -> bool {
        let sum: u32 = ip
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        (sum & 0xffff) + (sum >> 16) == 0xffff
    }

    #[test]
    fn an_ipv4_header_changes_its_protocol_length_and_checksum_only() {
        let mut header = V4;
        assert_eq!(PLAIN.shield(&mut header, 100), Ok(17));
        let mut want = V4;
        want[2..4].copy_from_slice(&[0, 120]);
        want[9] = PROTOCOL_ESP;
        want[10..12].copy_from_slice(&header[10..12]);
        assert_eq!(header, want);
        assert!(sums_to_all_ones(&header));
        assert_eq!(unshield(&mut header, 0x73 - 20, 17), Ok(()));
        assert_eq!(header, V4);
    }

    #[test]
    fn in_udp_the_header_names_udp_and_the_ports_are_4500() {
        let mut header = [&V4[..], &[0xee; 8]].concat();
        assert_eq!(IN_UDP.shield(&mut header, 100), Ok(17));
        assert_eq!((header[9], &header[2..4]), (PROTOCOL_UDP, &[0, 128][..]));
        assert_eq!(header[20..], [0x11, 0x94, 0x11, 0x94, 0, 108, 0, 0]);
    }

    #[test]
    fn options_and_extension_headers_stay_in_front_and_come_back_as_they_were() {
        let extensions: [&[(u8, usize)]; 5] = [
            &[],
            &[(HOP_BY_HOP, 8)],
            &[(DESTINATION_OPTIONS, 264)],
            &[(HOP_BY_HOP, 16), (ROUTING, 24), (DESTINATION_OPTIONS, 8)],
            &[(ROUTING, 8), (ROUTING, 8)],
        ];
        let v6s = extensions.into_iter().map(v6);
        let v4s = [0, 4, 24, 40].map(v4_with_options).into_iter();
        for ip in v4s.chain(v6s) {
            let (is_v4, was) = (ip[0] >> 4 == 4, ip.clone());
            let len_at = if is_v4 { 2 } else { 4 };
            let carried = if is_v4 { 17 } else { 6 };
            let mut header = ip;
            assert_eq!(PLAIN.shield(&mut header, 64), Ok(carried));
            let fixed = if is_v4 { 0 } else { 40 };
            let len = u16::from_be_bytes([header[len_at], header[len_at + 1]]);
            assert_eq!(usize::from(len), header.len() - fixed + 64);
            assert!(!is_v4 || sums_to_all_ones(&header));
            let changed = header.iter().zip(&was).filter(|(a, b)| a != b).count();
            assert!((1..=5).contains(&changed), "{changed} bytes");
            let payload = u16::from_be_bytes([was[len_at], was[len_at + 1]]);
            let payload = usize::from(payload) + fixed - was.len();
            assert_eq!(unshield(&mut header, payload, carried), Ok(()));
            assert_eq!(header, was);
        }
    }

    #[test]
    fn fragments_are_refused_and_left_alone() {
        for flags in [0x2000u16, 0x0001, 0x1fff, 0x3fff] {
            let mut header = V4;
            header[6..8].copy_from_slice(&flags.to_be_bytes());
            let was = header;
            assert_eq!(PLAIN.shield(&mut header, 64), Err(TransportError::Fragment));
            assert_eq!(header, was);
        }
        let mut header = v6(&[(44, 8)]);
        let was = header.clone();
        assert_eq!(PLAIN.shield(&mut header, 64), Err(TransportError::Fragment));
        assert_eq!(header, was);
        // Don't fragment, and the reserved bit, say nothing of the kind.
        for flags in [0x40, 0x80] {
            let mut header = V4;
            header[6] = flags;
            assert_eq!(PLAIN.shield(&mut header, 64), Ok(17));
        }
    }

    #[test]
    fn what_is_no_ip_header_of_its_length_is_refused_and_left_alone() {
        let good = [v4_with_options(8), v6(&[(HOP_BY_HOP, 16), (ROUTING, 8)])];
        let mut bad: Vec<Vec<u8>> = good
            .iter()
            .flat_map(|it| (0..it.len()).map(|len| it[..len].to_vec()))
            .collect();
        bad.extend(good.iter().map(|it| [it, &[0; 8][..]].concat()));
        bad.extend([4u8, 0x44, 0x50, 0x70].map(|first| {
            let mut ip = V4.to_vec();
            ip[0] = first;
            ip
        }));
        let mut unknown = v6(&[(HOP_BY_HOP, 8)]);
        unknown[6] = 51;
        bad.push(unknown);
        for was in bad {
            let mut header = was.clone();
            let refused = PLAIN.shield(&mut header, 64);
            assert_eq!(refused, Err(TransportError::NotIp), "{was:02x?}");
            assert_eq!(header, was);
        }
        assert_eq!(IN_UDP.shield(&mut [0; 7], 64), Err(TransportError::NotIp));
    }

    #[test]
    fn a_length_that_overflows_its_field_is_refused_and_nothing_written() {
        for (ip, most) in [(V4.to_vec(), 65_515), (v6(&[]), 65_535)] {
            for mode in [PLAIN, IN_UDP] {
                let mut header = ip.clone();
                header.resize(ip.len() + mode.header_len(), 0xee);
                let most = most - mode.header_len();
                let was = header.clone();
                for len in [most + 1, usize::MAX] {
                    let refused = mode.shield(&mut header, len);
                    assert!(matches!(refused, Err(TransportError::TooLong { .. })));
                    assert_eq!(header, was);
                }
                assert!(mode.shield(&mut header, most).is_ok());
            }
        }
    }

    #[test]
    fn the_packet_mtu_is_the_largest_packet_that_fits() {
        for mode in [PLAIN, IN_UDP] {
            for ip_len in [20, 24, 40, 64] {
                let sealed = |packet: usize| {
                    ip_len + mode.header_len() + OutboundSa::sealed_len(packet - ip_len)
                };
                for link_mtu in 128..=9216 {
                    let packet = mode.packet_mtu(link_mtu, ip_len);
                    assert!(sealed(packet) <= link_mtu, "{link_mtu}");
                    assert!(sealed(packet + 1) > link_mtu, "{link_mtu}");
                }
                assert_eq!(mode.packet_mtu(ip_len + 35 + mode.header_len(), ip_len), 0);
            }
        }
        assert_eq!(PLAIN.packet_mtu(1500, 20), 1466);
    }
}
