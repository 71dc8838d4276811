//! A packet whose headers are those of one that was parsed: what differs is read, the rest is
//! compared.
//!
//! ```text
//!            0          14                                      l4
//!   IPv4     | Ethernet | ver ihl tos [len id] flags ttl proto [sum] src dst | ports ...
//!   IPv6     | Ethernet | ver class label [len] next hops src dst            | ports ...
//! ```
//! What stands in brackets may differ, and all past the ports.

use super::{offset, transport};
use crate::meta::{Meta, proto};
use crate::wire::bytes::{array, be16};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, HEADER_LEN};

const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
/// Sixteen bytes at once.
const PIECE_LEN: usize = 16;

/// A piece of a header: where it is, and of which bits.
type Piece = (usize, u128);

/// Of Ethernet and IPv4 without options, and the ports; pieces overlap.
const IPV4: [Piece; 3] = [
    (0, u128::MAX),
    (16, but(&[0, 1, 2, 3, 8, 9])),
    (22, but(&[2, 3])),
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

/// The headers of a packet that is whole, untagged, without options or extensions, and TCP or
/// UDP, as most are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Again {
    /// With the sum of those words of its header that a packet like it has too.
    V4([u128; IPV4.len()], Sum),
    V6([u128; IPV6.len()]),
}

impl Again {
    /// `None` if it isn't such a packet. Nothing else is checked: that is for who parses it.
    pub(crate) fn of(frame: &[u8]) -> Option<Self> {
        const NOT_WHOLE: u16 = 0xbfff;
        let has_ports = |protocol| matches!(protocol, proto::TCP | proto::UDP);
        let version = *frame.get(HEADER_LEN)?;
        match be16(frame, 12)? {
            ETHERTYPE_IPV4 => {
                let header: [u8; IPV4_LEN] = array(frame, HEADER_LEN)?;
                let is_whole = be16(&header, 6)? & NOT_WHOLE == 0;
                if version != 0x45 || !is_whole || !has_ports(header[9]) {
                    return None;
                }
                let mut shared = header;
                for at in [2, 3, 4, 5, 10, 11] {
                    shared[at] = 0;
                }
                Some(Self::V4(pieces(frame, &IPV4)?, Sum::new().bytes(&shared)))
            }
            ETHERTYPE_IPV6 => {
                let next_header = *frame.get(HEADER_LEN + 6)?;
                let is_plain = version >> 4 == 6 && has_ports(next_header);
                is_plain.then_some(Self::V6(pieces(frame, &IPV6)?))
            }
            _ => None,
        }
    }

    /// Whether a frame has these headers.
    #[inline]
    pub(crate) fn is_of(&self, frame: &[u8]) -> bool {
        match self {
            Self::V4(want, _) => is_same(frame, &IPV4, want),
            Self::V6(want) => is_same(frame, &IPV6, want),
        }
    }

    /// Parses a frame that may have these headers, into the [`Meta`] of the packet that they are
    /// of. `false` if it hasn't, or isn't as it should be: what [`super::parse_into`] says of it
    /// is then to be asked; what stands in `meta` means nothing.
    #[inline]
    pub(crate) fn parse(&self, frame: &[u8], meta: &mut Meta) -> bool {
        self.is_of(frame) && self.rest(frame, meta).is_some()
    }

    /// What differs.
    #[inline]
    fn rest(&self, frame: &[u8], meta: &mut Meta) -> Option<()> {
        let l3_end = match self {
            Self::V4(_, rest) => {
                let [l0, l1, i0, i1]: [u8; 4] = array(frame, HEADER_LEN + 2)?;
                let len = u16::from_be_bytes([l0, l1]);
                let words = rest.word(len).word(u16::from_be_bytes([i0, i1]));
                if !words.word(be16(frame, HEADER_LEN + 10)?).verifies() {
                    return None;
                }
                HEADER_LEN + usize::from(len)
            }
            Self::V6(_) => HEADER_LEN + IPV6_LEN + usize::from(be16(frame, HEADER_LEN + 4)?),
        };
        // Shorter than its header: no transport header is in it, as the next line finds.
        meta.l3_end = offset(l3_end).ok()?;
        transport::parse(frame.get(..l3_end)?, meta).ok()
    }
}

#[inline]
fn pieces<const N: usize>(frame: &[u8], of: &[Piece; N]) -> Option<[u128; N]> {
    let mut all = [0; N];
    for (to, (at, mask)) in all.iter_mut().zip(of) {
        *to = u128::from_ne_bytes(array(frame, *at)?) & mask;
    }
    Some(all)
}

/// All of them are looked at, which is faster than to stop at the first that differs.
#[inline]
fn is_same<const N: usize>(frame: &[u8], of: &[Piece; N], want: &[u128; N]) -> bool {
    pieces(frame, of).is_some_and(|it| {
        let differences = it.iter().zip(want).map(|(it, want)| it ^ want);
        differences.fold(0, |all, it| all | it) == 0
    })
}
