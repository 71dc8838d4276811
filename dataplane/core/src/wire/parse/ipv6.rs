//! The IPv6 header (RFC 8200 section 3).

use super::{extension, fragment_kind, offset, transport};
use crate::addr::Addr;
use crate::meta::{FragKind, FrameKind, Meta, NdKind};
use crate::reason::DropReason;
use crate::wire::bytes::{array, be16, be32};

/// Length of the fixed header.
const HEADER_LEN: usize = 40;
/// Longest payload: what the payload length can say.
const PAYLOAD_LEN_MAX: usize = 65_535;

/// Parses the packet at `meta.l3_off`; the frame may be longer than the packet.
pub(super) fn parse(frame: &[u8], meta: &mut Meta) -> Result<(), DropReason> {
    let l3_off = usize::from(meta.l3_off);
    let header: [u8; HEADER_LEN] = array(frame, l3_off).ok_or(DropReason::Truncated)?;
    let (Some(first_word), Some(payload_len), Some(src), Some(dst)) = (
        be32(&header, 0),
        be16(&header, 4),
        array(&header, 8),
        array(&header, 24),
    ) else {
        return Err(DropReason::Truncated);
    };
    let (src, dst) = (Addr::v6(src), Addr::v6(dst));
    if first_word >> 28 != 6 || is_multicast(src) || src.is_v4() || dst.is_v4() {
        //= RFC 4291 section 2.7: "Multicast addresses must not be used as source addresses"
        //= RFC 4942 section 2.2: v4-mapped addresses have no business on the wire
        return Err(DropReason::Malformed);
    }
    let [.., tos] = (first_word >> 20).to_be_bytes();
    let next_header = header[6];
    let l3_end = l3_off + HEADER_LEN + usize::from(payload_len);
    let frame = frame.get(..l3_end).ok_or(DropReason::Truncated)?;
    let chain = extension::walk(frame, l3_off + HEADER_LEN, next_header)?;

    meta.kind = FrameKind::Ip;
    meta.src = src;
    meta.dst = dst;
    meta.tos = tos;
    meta.protocol = chain.protocol;
    meta.l4_off = offset(chain.l4_off)?;
    meta.l3_end = offset(l3_end)?;
    meta.dont_fragment = true;
    if let Some(fragment) = chain.fragment {
        meta.frag = fragment_kind(
            chain.protocol,
            usize::from(fragment.offset_bytes),
            fragment.more,
            l3_end.saturating_sub(fragment.data_off),
            PAYLOAD_LEN_MAX,
        )?;
        if meta.frag == FragKind::Later {
            return Ok(());
        }
    }
    transport::parse(frame, meta)?;
    //= RFC 6980 section 5: "Nodes MUST silently ignore the following Neighbor Discovery
    //= ... messages if the packets carrying them include an IPv6 Fragmentation Header"
    if chain.fragment.is_some() && !matches!(meta.nd, NdKind::None | NdKind::Mld) {
        return Err(DropReason::Malformed);
    }
    Ok(())
}

fn is_multicast(addr: Addr) -> bool {
    addr.0 >> 120 == 0xff
}
