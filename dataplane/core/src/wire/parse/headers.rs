//! Headers as a few words: packets with the same ones differ in their lengths, and little else.
//!
//! ```text
//!            0          14                                      l4
//!   IPv4     | Ethernet | ver ihl tos [len id] flags ttl proto [sum] src dst | ports ...
//!   IPv6     | Ethernet | ver class label [len] next hops src dst            | ports ...
//! ```
//! What stands in brackets may differ, and all past the ports. Of ESP the marks, the flow label and
//! the SPI, which stands where others have ports, may differ too; what came out of an SA has the
//! peer's number for an Ethernet header.

use super::{NEXT_HEADER_IPV4, NEXT_HEADER_IPV6, offset, transport};
use crate::hash::HashKey;
use crate::meta::{Meta, proto};
use crate::wire::bytes::{array, be16};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, HEADER_LEN};

const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
/// Sixteen bytes at once.
const PIECE_LEN: usize = 16;

/// A piece of a header: where it is, and which of its bits count.
type Piece = (usize, u128);

/// Of Ethernet and IPv4 without options, and the ports; pieces overlap. The last is none.
const IPV4: [Piece; 4] = [
    (0, u128::MAX),
    (16, but(&[0, 1, 2, 3, 8, 9])),
    (22, but(&[2, 3])),
    (0, 0),
];
/// Of Ethernet and IPv6 without extensions, and the ports.
const IPV6: [Piece; 4] = [
    (0, u128::MAX),
    (16, but(&[2, 3])),
    (32, u128::MAX),
    (42, u128::MAX),
];

/// The same of ESP. Left out are its SPI, and marks and flow label, which are the inner packet's.
const ESP_IPV4: [Piece; 4] = [
    (0, but(&[15])),
    IPV4[1],
    (22, but(&[2, 3, 12, 13, 14, 15])),
    IPV4[3],
];
const ESP_IPV6: [Piece; 4] = [
    (0, but(&[14, 15])),
    (16, but(&[0, 1, 2, 3])),
    IPV6[2],
    (42, but(&[12, 13, 14, 15])),
];

/// All bits but those of some bytes.
const fn but(bytes: &[usize]) -> u128 {
    let mut mask = [0xff; PIECE_LEN];
    let mut at = 0;
    while at < bytes.len() {
        mask[bytes[at]] = 0;
        at += 1;
    }
    u128::from_ne_bytes(mask)
}

/// The headers of a packet without a VLAN tag, that may be anything: only of one that
/// [is plain](Self::are_plain) they say all that parse would find, but for what differs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Headers([u128; 4]);

impl Headers {
    /// `None` if it isn't IP, or too short for IP and ports.
    #[inline]
    pub(crate) fn read(frame: &[u8]) -> Option<Self> {
        match be16(frame, 12)? {
            ETHERTYPE_IPV4 => pieces(frame, &IPV4),
            ETHERTYPE_IPV6 => pieces(frame, &IPV6),
            _ => None,
        }
    }

    /// Of a frame that is ESP, or UDP, in which there may be some. `None` of others.
    #[inline]
    pub(crate) fn read_esp(frame: &[u8]) -> Option<Self> {
        let ethertype = be16(frame, 12)?;
        match (plain_protocol(frame, ethertype)?, ethertype) {
            (proto::ESP, ETHERTYPE_IPV4) => pieces(frame, &ESP_IPV4),
            (proto::ESP, _) => pieces(frame, &ESP_IPV6),
            // Its ports say whether it is to be opened.
            (proto::UDP, _) => Self::read(frame),
            _ => None,
        }
    }

    /// Of what came out of an SA of a peer: the packet behind room for an Ethernet header, in which
    /// anything may stand, and its kind by the ESP trailer. No frame has the same for its own, which
    /// have an ethertype where these have none.
    #[inline]
    pub(crate) fn read_inner(frame: &[u8], next_header: u8, peer: u16) -> Option<Self> {
        let mut headers = match next_header {
            NEXT_HEADER_IPV4 => pieces(frame, &IPV4),
            NEXT_HEADER_IPV6 => pieces(frame, &IPV6),
            _ => None,
        }?;
        let [a, b] = peer.to_ne_bytes();
        let [.., version, marks] = headers.0[0].to_ne_bytes();
        let mut all = [0; PIECE_LEN];
        [all[0], all[1], all[2]] = [next_header, a, b];
        [all[14], all[15]] = [version, marks];
        headers.0[0] = u128::from_ne_bytes(all);
        Some(headers)
    }

    /// Whether the packet that they were read of is whole, without options or extensions, and TCP
    /// or UDP, as most are. Nothing else is checked: that is for who parses it.
    pub(crate) fn are_plain(frame: &[u8]) -> bool {
        be16(frame, 12).is_some_and(|ethertype| are_plain(frame, ethertype))
    }

    /// The same of what came out of an SA.
    pub(crate) fn are_plain_inner(frame: &[u8], next_header: u8) -> bool {
        match next_header {
            NEXT_HEADER_IPV4 => are_plain(frame, ETHERTYPE_IPV4),
            NEXT_HEADER_IPV6 => are_plain(frame, ETHERTYPE_IPV6),
            _ => false,
        }
    }

    /// All of them are looked at, which is faster than to stop at the first that differs.
    #[inline]
    pub(crate) fn are(&self, other: &Self) -> bool {
        let differences = self.0.iter().zip(other.0).map(|(a, b)| a ^ b);
        differences.fold(0, |all, it| all | it) == 0
    }

    /// For a table of them.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the halves of words")]
    pub(crate) fn hash(&self, key: HashKey) -> u64 {
        // Marks and peers are in the first piece; addresses and ports of IPv4 all in the third.
        let [first, a, b, c] = self.0;
        let all = first ^ b ^ a.rotate_left(64) ^ c.rotate_left(32);
        key.quick(all as u64, (all >> 64) as u64)
    }
}

fn are_plain(frame: &[u8], ethertype: u16) -> bool {
    let protocol = plain_protocol(frame, ethertype);
    matches!(protocol, Some(proto::TCP | proto::UDP))
}

/// The protocol of a packet that is whole, without options or extensions.
#[inline]
fn plain_protocol(frame: &[u8], ethertype: u16) -> Option<u8> {
    const NOT_WHOLE: u16 = 0xbfff;
    let byte = |at: usize| frame.get(HEADER_LEN + at).copied();
    match ethertype {
        ETHERTYPE_IPV4 => {
            let is_whole = be16(frame, HEADER_LEN + 6)? & NOT_WHOLE == 0;
            (is_whole && byte(0)? == 0x45).then_some(byte(9)?)
        }
        ETHERTYPE_IPV6 => (byte(0)? >> 4 == 6).then_some(byte(6)?),
        _ => None,
    }
}

/// Parses a frame of plain [`Headers`] into the [`Meta`] of another one that has the same. `false`
/// if it isn't as it should be, lengths that nest among it: what [`super::parse_into`] says of it is then to be asked, and
/// what stands in `meta` means nothing.
#[inline]
pub(crate) fn parse_again(frame: &[u8], meta: &mut Meta) -> bool {
    rest(frame, meta).is_some()
}

/// The same of ESP, whose marks may be others.
#[inline]
pub(crate) fn parse_esp_again(frame: &[u8], meta: &mut Meta) -> bool {
    let tos = if meta.src.is_v4() {
        frame.get(HEADER_LEN + 1).copied()
    } else {
        be16(frame, HEADER_LEN)
            .map(|it| it.to_be_bytes())
            .map(|[a, b]| a << 4 | b >> 4)
    };
    meta.tos = tos.unwrap_or(0);
    parse_again(frame, meta)
}

/// What differs.
#[inline]
fn rest(frame: &[u8], meta: &mut Meta) -> Option<()> {
    let l3_end = if meta.src.is_v4() {
        let header: [u8; IPV4_LEN] = array(frame, HEADER_LEN)?;
        if !Sum::new().bytes(&header).verifies() {
            return None;
        }
        HEADER_LEN + usize::from(be16(&header, 2)?)
    } else {
        HEADER_LEN + IPV6_LEN + usize::from(be16(frame, HEADER_LEN + 4)?)
    };
    meta.l3_end = offset(l3_end).ok()?;
    // Shorter than its header, and no transport header is in it.
    transport::parse(frame.get(..l3_end)?, meta).ok()
}

#[inline]
fn pieces(frame: &[u8], of: &[Piece; 4]) -> Option<Headers> {
    let mut all = [0; 4];
    for (to, (at, mask)) in all.iter_mut().zip(of) {
        *to = u128::from_ne_bytes(array(frame, *at)?) & mask;
    }
    Some(Headers(all))
}
