//! Headers as a few words: packets with the same ones differ in their lengths, and little else.
//!
//! ```text
//!            0          14                                      l4
//!   IPv4     | Ethernet | ver ihl tos [len id] flags ttl proto [sum] src dst | ports ...
//!   IPv6     | Ethernet | ver class label [len] next hops src dst            | ports ...
//! ```
//! What stands in brackets may differ, and all past the ports.

use super::{offset, transport};
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

    /// Whether the packet that they were read of is whole, without options or extensions, and TCP
    /// or UDP, as most are. Nothing else is checked: that is for who parses it.
    pub(crate) fn are_plain(frame: &[u8]) -> bool {
        const NOT_WHOLE: u16 = 0xbfff;
        let byte = |at: usize| frame.get(HEADER_LEN + at).copied();
        let (version, protocol) = match be16(frame, 12) {
            Some(ETHERTYPE_IPV4) => {
                let flags = be16(frame, HEADER_LEN + 6);
                let is_whole = flags.is_some_and(|it| it & NOT_WHOLE == 0);
                (byte(0).filter(|it| is_whole && *it == 0x45), byte(9))
            }
            Some(ETHERTYPE_IPV6) => (byte(0).filter(|it| it >> 4 == 6), byte(6)),
            _ => return false,
        };
        version.is_some() && matches!(protocol, Some(proto::TCP | proto::UDP))
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
        // Of IPv4 the second piece but one has it all; of IPv6 each has its part.
        let [_, a, b, c] = self.0;
        let all = b ^ a.rotate_left(64) ^ c.rotate_left(32);
        key.quick(all as u64, (all >> 64) as u64)
    }
}

/// Parses a frame of plain [`Headers`] into the [`Meta`] of another one that has the same. `false`
/// if it isn't as it should be, lengths that nest among it: what [`super::parse_into`] says of it is then to be asked, and
/// what stands in `meta` means nothing.
#[inline]
pub(crate) fn parse_again(frame: &[u8], meta: &mut Meta) -> bool {
    rest(frame, meta).is_some()
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
