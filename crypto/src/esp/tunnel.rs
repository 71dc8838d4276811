//! The outer headers of a tunnel: IPv4 or IPv6, then UDP where a NAT needs it.
//!
//! ```text
//!   | IPv4, 20 bytes or IPv6, 40 bytes | UDP, 8 bytes, optional | ESP ... |
//!   |<--------------- header_len ---------------------------->|
//! ```

use super::udp::PORT_NAT_T;
use super::{ESP_HEADER_LEN, OutboundSa, PROTOCOL_ESP, TRAILER_FIXED_LEN};
use crate::aead::TAG_LEN;

const IPV4_HEADER_LEN: usize = 20;
const IPV6_HEADER_LEN: usize = 40;
pub(super) const UDP_HEADER_LEN: usize = 8;
pub(super) const PROTOCOL_UDP: u8 = 17;

/// Time to live and hop limit of every outer header.
const TTL: u8 = 64;

/// Version 4, header of five 32-bit words.
const IPV4_VERSION_IHL: u8 = 0x45;
const IPV4_DONT_FRAGMENT: u16 = 0x4000;

/// The addresses of a tunnel's two ends, in network byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outer {
    /// IPv4 outside.
    V4 {
        /// Our address.
        src: [u8; 4],
        /// The peer's address.
        dst: [u8; 4],
    },
    /// IPv6 outside.
    V6 {
        /// Our address.
        src: [u8; 16],
        /// The peer's address.
        dst: [u8; 16],
    },
}

/// Everything about the outer headers that stays the same from packet to packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tunnel {
    /// The outer addresses.
    pub outer: Outer,
    /// Whether ESP travels in UDP between ports 4500 (RFC 3948).
    pub udp_encap: bool,
}

impl Tunnel {
    /// Bytes of outer headers before the ESP header.
    #[must_use]
    pub const fn header_len(&self) -> usize {
        self.ip_header_len() + if self.udp_encap { UDP_HEADER_LEN } else { 0 }
    }

    /// Bytes that the tunnel adds to an inner packet of `inner_len` bytes: outer headers, ESP
    /// header, padding, trailer and ICV. Both algorithms add the same.
    #[must_use]
    pub const fn overhead(&self, inner_len: usize) -> usize {
        self.header_len() + ESP_HEADER_LEN + OutboundSa::trailer_len(inner_len)
    }

    /// The largest inner packet whose sealed form, outer headers included, is at most
    /// `link_mtu` bytes; 0 if there is none. Exact: one byte more would not fit.
    #[must_use]
    pub const fn inner_mtu(&self, link_mtu: usize) -> usize {
        let fixed = self.header_len() + ESP_HEADER_LEN + TAG_LEN;
        // What is left holds inner packet, padding and trailer, a multiple of four in all.
        let encrypted = link_mtu.saturating_sub(fixed) & !3;
        encrypted.saturating_sub(TRAILER_FIXED_LEN)
    }

    /// Writes the outer headers into `header`, for an ESP packet of `esp_len` bytes after it.
    ///
    /// `inner_tos` is the inner TOS or traffic class byte. `inner_dont_fragment` is the inner
    /// IPv4 DF bit; pass `true` for IPv6. `ident` fills the IPv4 identification and is unused
    /// over IPv6; without DF, it must not repeat while a fragment could still be under way.
    ///
    /// DF is copied from the inner packet, so that path MTU discovery inside the tunnel sees
    /// what the path does. DSCP and ECN are copied whole (RFC 6040 normal mode). TTL and hop
    /// limit are 64, the IPv6 flow label is 0. The UDP checksum is 0, over IPv6 too (RFC 6935,
    /// RFC 6936 section 4: the ICV covers what it would).
    ///
    /// # Errors
    /// [`TunnelError::HeaderLength`] unless `header` is [`Self::header_len`] bytes,
    /// [`TunnelError::TooLong`] if a length field could not hold the packet. Nothing is written.
    pub fn write(
        &self,
        header: &mut [u8],
        esp_len: usize,
        inner_tos: u8,
        inner_dont_fragment: bool,
        ident: u16,
    ) -> Result<(), TunnelError> {
        let wrong_length = TunnelError::HeaderLength {
            expected: self.header_len(),
            got: header.len(),
        };
        if header.len() != self.header_len() {
            return Err(wrong_length);
        }
        let udp_payload = esp_len.saturating_add(self.header_len() - self.ip_header_len());
        let (protocol, udp_len) = if self.udp_encap {
            (PROTOCOL_UDP, length_field(udp_payload)?)
        } else {
            (PROTOCOL_ESP, 0)
        };
        let udp = match &self.outer {
            Outer::V4 { src, dst } => {
                let (ip, udp) = header
                    .split_first_chunk_mut::<IPV4_HEADER_LEN>()
                    .ok_or(wrong_length)?;
                let total_len = length_field(udp_payload.saturating_add(IPV4_HEADER_LEN))?;
                let flags = if inner_dont_fragment {
                    IPV4_DONT_FRAGMENT
                } else {
                    0
                };
                *ip = ipv4(inner_tos, total_len, ident, flags, protocol, *src, *dst);
                udp
            }
            Outer::V6 { src, dst } => {
                let (ip, udp) = header
                    .split_first_chunk_mut::<IPV6_HEADER_LEN>()
                    .ok_or(wrong_length)?;
                *ip = ipv6(inner_tos, length_field(udp_payload)?, protocol, src, dst);
                udp
            }
        };
        write_udp(udp, udp_len);
        Ok(())
    }

    const fn ip_header_len(&self) -> usize {
        match self.outer {
            Outer::V4 { .. } => IPV4_HEADER_LEN,
            Outer::V6 { .. } => IPV6_HEADER_LEN,
        }
    }
}

/// Why outer headers were not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TunnelError {
    /// The slice is not as long as the headers.
    #[error("the outer headers take {expected} bytes, got {got}")]
    HeaderLength {
        /// Bytes they take.
        expected: usize,
        /// Bytes there were.
        got: usize,
    },
    /// The packet exceeds a 16-bit length field.
    #[error("a length of {len} does not fit the outer header, which holds {max}")]
    TooLong {
        /// What the field would have to say.
        len: usize,
        /// The most it can say.
        max: u16,
    },
}

fn length_field(len: usize) -> Result<u16, TunnelError> {
    u16::try_from(len).map_err(|_| TunnelError::TooLong { len, max: u16::MAX })
}

/// Writes the UDP header of ESP in UDP, whose `udp_len` counts itself; nothing where there is no
/// room for one.
pub(super) fn write_udp(udp: &mut [u8], udp_len: u16) {
    if let Some(udp) = udp.first_chunk_mut::<UDP_HEADER_LEN>() {
        let ([p0, p1], [l0, l1]) = (PORT_NAT_T.to_be_bytes(), udp_len.to_be_bytes());
        //= RFC 3948 section 2.1
        //# the IPv4 UDP Checksum SHOULD be transmitted as a zero value
        *udp = [p0, p1, p0, p1, l0, l1, 0, 0];
    }
}

/// An IPv4 header without options.
///
//= RFC 791 section 3.1
fn ipv4(
    tos: u8,
    total_len: u16,
    ident: u16,
    flags: u16,
    protocol: u8,
    src: [u8; 4],
    dst: [u8; 4],
) -> [u8; IPV4_HEADER_LEN] {
    let ([l0, l1], [i0, i1]) = (total_len.to_be_bytes(), ident.to_be_bytes());
    let [f0, f1] = flags.to_be_bytes();
    let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (src, dst);
    let header = |[c0, c1]: [u8; 2]| {
        [
            IPV4_VERSION_IHL,
            tos,
            l0,
            l1,
            i0,
            i1,
            f0,
            f1,
            TTL,
            protocol,
            c0,
            c1,
            s0,
            s1,
            s2,
            s3,
            d0,
            d1,
            d2,
            d3,
        ]
    };
    header(checksum(&header([0, 0])).to_be_bytes())
}

/// An IPv6 header with flow label 0.
///
//= RFC 8200 section 3
fn ipv6(
    traffic_class: u8,
    payload_len: u16,
    next_header: u8,
    src: &[u8; 16],
    dst: &[u8; 16],
) -> [u8; IPV6_HEADER_LEN] {
    let word = (6 << 28) | (u32::from(traffic_class) << 20);
    let ([w0, w1, w2, w3], [l0, l1]) = (word.to_be_bytes(), payload_len.to_be_bytes());
    let mut header = [0; IPV6_HEADER_LEN];
    let fixed = [w0, w1, w2, w3, l0, l1, next_header, TTL];
    for (to, from) in header.iter_mut().zip(fixed.iter().chain(src).chain(dst)) {
        *to = *from;
    }
    header
}

/// The Internet checksum of an IPv4 header whose checksum field is 0.
///
//= RFC 1071 section 1
pub(super) fn checksum(header: &[u8]) -> u16 {
    // By 32 bits, and folded once: borrow by borrow each pair waits for the one before.
    let (words, _) = header.as_chunks::<4>();
    let sum = words
        .iter()
        .map(|word| u64::from(u32::from_be_bytes(*word)))
        .sum::<u64>();
    // Below 2^37 of at most 32 words, then below 2^18, 2^16 + 4 and 2^16.
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let [.., high, low] = ((sum & 0xffff) + (sum >> 16)).to_be_bytes();
    !u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: Outer = Outer::V4 {
        src: [192, 168, 0, 1],
        dst: [192, 168, 0, 199],
    };
    const V6: Outer = Outer::V6 {
        src: [0x11; 16],
        dst: [0x22; 16],
    };

    fn tunnels() -> impl Iterator<Item = Tunnel> {
        [V4, V6]
            .into_iter()
            .flat_map(|outer| [false, true].map(|udp_encap| Tunnel { outer, udp_encap }))
    }

    fn written(tunnel: Tunnel, esp_len: usize, tos: u8, dont_fragment: bool) -> Vec<u8> {
        let mut header = vec![0xee; tunnel.header_len()];
        tunnel
            .write(&mut header, esp_len, tos, dont_fragment, 0)
            .expect("it fits");
        header
    }

    #[test]
    fn header_lengths_are_those_of_the_headers() {
        let lengths: Vec<usize> = tunnels().map(|tunnel| tunnel.header_len()).collect();
        assert_eq!(lengths, [20, 28, 40, 48]);
    }

    // The IPv4 header is a much-cited checksum example: 4500 0073 0000 4000 4011 b861, from
    // 192.168.0.1 to 192.168.0.199.
    #[test]
    fn an_ipv4_header_in_udp_matches_a_known_one() {
        let header = written(
            Tunnel {
                outer: V4,
                udp_encap: true,
            },
            0x73 - 28,
            0,
            true,
        );
        assert_eq!(
            header,
            [
                0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8,
                0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7, // UDP: 4500, 4500, 95 bytes, no checksum
                0x11, 0x94, 0x11, 0x94, 0x00, 0x5f, 0x00, 0x00
            ]
        );
    }

    #[test]
    fn an_ipv6_header_carries_traffic_class_length_and_protocol() {
        let header = written(
            Tunnel {
                outer: V6,
                udp_encap: false,
            },
            0x0102,
            0xb9,
            true,
        );
        assert_eq!(
            header[..8],
            [0x6b, 0x90, 0, 0, 0x01, 0x02, PROTOCOL_ESP, TTL]
        );
        assert_eq!(header[8..24], [0x11; 16]);
        assert_eq!(header[24..], [0x22; 16]);
        let in_udp = written(
            Tunnel {
                outer: V6,
                udp_encap: true,
            },
            0x0102,
            0xb9,
            true,
        );
        assert_eq!(in_udp[4..7], [0x01, 0x0a, PROTOCOL_UDP]);
        assert_eq!(in_udp[40..], [0x11, 0x94, 0x11, 0x94, 0x01, 0x0a, 0, 0]);
    }

    #[test]
    fn tos_and_dont_fragment_are_copied_out() {
        let tunnel = Tunnel {
            outer: V4,
            udp_encap: false,
        };
        for tos in 0..=255 {
            for dont_fragment in [false, true] {
                let header = written(tunnel, 100, tos, dont_fragment);
                assert_eq!(header[1], tos);
                assert_eq!(header[6], if dont_fragment { 0x40 } else { 0 });
            }
        }
    }

    #[test]
    fn every_ipv4_header_sums_to_all_ones() {
        let tunnel = Tunnel {
            outer: V4,
            udp_encap: false,
        };
        for ident in 0..=u16::MAX {
            let mut header = [0; IPV4_HEADER_LEN];
            tunnel
                .write(&mut header, 52, 0, false, ident)
                .expect("it fits");
            let sum: u32 = header
                .chunks(2)
                .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
                .sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "ident {ident}");
        }
    }

    #[test]
    fn the_inner_mtu_is_the_largest_inner_packet_that_fits() {
        for tunnel in tunnels() {
            for link_mtu in 100..=9216 {
                let inner = tunnel.inner_mtu(link_mtu);
                assert!(inner + tunnel.overhead(inner) <= link_mtu, "{link_mtu}");
                assert!(
                    inner + 1 + tunnel.overhead(inner + 1) > link_mtu,
                    "{link_mtu}"
                );
            }
        }
    }

    #[test]
    fn a_link_too_small_for_the_headers_has_an_inner_mtu_of_zero() {
        for tunnel in tunnels() {
            for link_mtu in 0..tunnel.header_len() + 36 {
                assert_eq!(tunnel.inner_mtu(link_mtu), 0);
            }
        }
        assert_eq!(
            Tunnel {
                outer: V4,
                udp_encap: false
            }
            .inner_mtu(1500),
            1446
        );
    }

    #[test]
    fn a_packet_that_overflows_a_length_field_is_refused_and_nothing_written() {
        for tunnel in tunnels() {
            let ip_in_length = if tunnel.ip_header_len() == 20 {
                tunnel.header_len()
            } else {
                tunnel.header_len() - 40
            };
            let most = usize::from(u16::MAX) - ip_in_length;
            let mut header = vec![0xee; tunnel.header_len()];
            assert_eq!(tunnel.write(&mut header, most, 0, true, 0), Ok(()));
            let untouched = vec![0xee; tunnel.header_len()];
            for esp_len in [most + 1, usize::MAX] {
                let mut header = untouched.clone();
                let error = tunnel.write(&mut header, esp_len, 0, true, 0);
                assert!(
                    matches!(error, Err(TunnelError::TooLong { .. })),
                    "{error:?}"
                );
                assert_eq!(header, untouched);
            }
        }
    }

    #[test]
    fn a_slice_of_another_length_is_refused() {
        for tunnel in tunnels() {
            let expected = tunnel.header_len();
            for got in (0..64).filter(|got| *got != expected) {
                let error = tunnel.write(&mut vec![0; got], 100, 0, true, 0);
                assert_eq!(error, Err(TunnelError::HeaderLength { expected, got }));
            }
        }
    }
}
