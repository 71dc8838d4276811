//! The IPv4 header (RFC 791 section 3.1).

use super::{fragment_kind, offset, transport};
use crate::addr::Addr;
use crate::meta::{FragKind, FrameKind, Meta};
use crate::reason::DropReason;
use crate::wire::bytes::{array, be16};
use crate::wire::checksum::Sum;

/// Length of a header without options.
const HEADER_LEN_MIN: usize = 20;
/// Longest datagram: what the total length can say.
const TOTAL_LEN_MAX: usize = 65_535;

const FLAG_RESERVED: u16 = 0x8000;
const FLAG_DONT_FRAGMENT: u16 = 0x4000;
const FLAG_MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET_MASK: u16 = 0x1fff;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_LOOSE_SOURCE_ROUTE: u8 = 131;
const OPTION_STRICT_SOURCE_ROUTE: u8 = 137;

/// Parses the packet at `meta.l3_off`; the frame may be longer than the packet.
pub(super) fn parse(frame: &[u8], meta: &mut Meta) -> Result<(), DropReason> {
    let l3_off = usize::from(meta.l3_off);
    let header: [u8; HEADER_LEN_MIN] = array(frame, l3_off).ok_or(DropReason::Truncated)?;
    let (Some(total_len), Some(flags), Some(src), Some(dst)) = (
        be16(&header, 2),
        be16(&header, 6),
        array(&header, 12),
        array(&header, 16),
    ) else {
        return Err(DropReason::Truncated);
    };
    let (version_ihl, protocol) = (header[0], header[9]);
    let header_len = usize::from(version_ihl & 0x0f) * 4;
    let total_len = usize::from(total_len);
    if version_ihl >> 4 != 4 || header_len < HEADER_LEN_MIN || total_len < header_len {
        return Err(DropReason::Malformed);
    }
    let l4_off = l3_off + header_len;
    let l3_end = l3_off + total_len;
    let frame = frame.get(..l3_end).ok_or(DropReason::Truncated)?;
    let whole_header = frame.get(l3_off..l4_off).ok_or(DropReason::Truncated)?;
    //= RFC 1122 section 3.2.1.2: "A host MUST verify the IP header checksum on every
    //= received datagram and silently discard every datagram that has a bad checksum."
    if !Sum::new().bytes(whole_header).verifies() {
        return Err(DropReason::BadChecksum);
    }
    options(whole_header.get(HEADER_LEN_MIN..).unwrap_or(&[]))?;

    //= RFC 791 section 3.1: "Bit 0: reserved, must be zero"
    //= RFC 1122 section 3.2.1.3: "the IP source address MUST be one of its own IP
    //= addresses (but not a broadcast or multicast address)"
    if flags & FLAG_RESERVED != 0 || is_multicast(src) {
        return Err(DropReason::Malformed);
    }
    meta.kind = FrameKind::Ip;
    meta.src = Addr::v4(src);
    meta.dst = Addr::v4(dst);
    meta.tos = header[1];
    meta.protocol = protocol;
    meta.l4_off = offset(l4_off)?;
    meta.l3_end = offset(l3_end)?;
    meta.dont_fragment = flags & FLAG_DONT_FRAGMENT != 0;
    meta.frag = fragment_kind(
        protocol,
        usize::from(flags & FRAGMENT_OFFSET_MASK) * 8,
        flags & FLAG_MORE_FRAGMENTS != 0,
        total_len - header_len,
        TOTAL_LEN_MAX - header_len,
    )?;
    if meta.frag == FragKind::Later {
        return Ok(());
    }
    transport::parse(frame, meta)
}

/// Refuses source routes and options that don't fit their header.
//= RFC 7126 sections 4.3 and 4.4: drop packets with a source route by default; the
//= destination in their header isn't where they go
fn options(mut options: &[u8]) -> Result<(), DropReason> {
    // At most 40 bytes, and each turn takes at least one.
    while let [kind, rest @ ..] = options {
        options = match *kind {
            OPTION_END => return Ok(()),
            OPTION_NOP => rest,
            OPTION_LOOSE_SOURCE_ROUTE | OPTION_STRICT_SOURCE_ROUTE => {
                return Err(DropReason::Malformed);
            }
            _ => match rest.first() {
                Some(&len) if len >= 2 => options
                    .get(usize::from(len)..)
                    .ok_or(DropReason::Malformed)?,
                _ => return Err(DropReason::Malformed),
            },
        };
    }
    Ok(())
}

const fn is_multicast([first, ..]: [u8; 4]) -> bool {
    first >> 4 == 0xe
}
