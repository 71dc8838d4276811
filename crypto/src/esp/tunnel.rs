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
const UDP_HEADER_LEN: usize = 8;
const PROTOCOL_UDP: u8 = 17;

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
        if let Some(udp) = udp.first_chunk_mut::<UDP_HEADER_LEN>() {
            let ([p0, p1], [l0, l1]) = (PORT_NAT_T.to_be_bytes(), udp_len.to_be_bytes());
            //= RFC 3948 section 2.1
            //# the IPv4 UDP Checksum SHOULD be transmitted as a zero value
            *udp = [p0, p1, p0, p1, l0, l1, 0, 0];
        }
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

/// The Internet checksum of a header whose checksum field is 0.
///
//= RFC 1071 section 1
fn checksum(header: &[u8; IPV4_HEADER_LEN]) -> u16 {
    let (pairs, _) = header.as_chunks::<2>();
    pairs.iter().fold(0xffff, |complement, pair| {
        // Ones' complement subtraction, folding the borrow back in.
        let (difference, borrow) = u16::overflowing_sub(complement, u16::from_be_bytes(*pair));
        difference.wrapping_sub(u16::from(borrow))
    })
}
