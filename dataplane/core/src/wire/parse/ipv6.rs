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
        // The headers that stand in every fragment count in the whole packet's payload.
        let repeated_len = fragment.header_off() - l3_off - HEADER_LEN;
        meta.frag = fragment_kind(
            chain.protocol,
            usize::from(fragment.offset_bytes),
            fragment.more,
            l3_end.saturating_sub(fragment.data_off),
            PAYLOAD_LEN_MAX - repeated_len,
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

#[cfg(test)]
mod tests {
    use crate::meta::proto;
    use crate::reason::DropReason;
    use crate::wire::build::{Body, FrameSpec};
    use crate::wire::parse;

    fn udp() -> Vec<u8> {
        let (src, dst) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        FrameSpec::new(
            src,
            dst,
            Body::Udp {
                src_port: 1,
                dst_port: 2,
            },
        )
        .build()
    }

    #[test]
    fn a_header_that_contradicts_the_frame_is_refused() {
        let changed = |at: usize, value| {
            let mut frame = udp();
            frame[at] = value;
            parse(&frame).err()
        };
        assert_eq!(changed(14, 0x60), None);
        assert_eq!(changed(14, 0x40), Some(DropReason::Malformed), "version");
        assert_eq!(
            changed(19, 9),
            Some(DropReason::Truncated),
            "payload past the frame"
        );
        assert_eq!(
            changed(19, 7),
            Some(DropReason::Truncated),
            "payload without UDP header"
        );
        assert_eq!(
            changed(22, 0xff),
            Some(DropReason::Malformed),
            "multicast source"
        );
        assert_eq!(changed(38, 0xff), None, "multicast destination");
    }

    #[test]
    fn v4_mapped_addresses_are_malformed_on_either_side() {
        for at in [22, 38] {
            let mut frame = udp();
            frame[at..at + 10].fill(0);
            frame[at + 10..at + 12].fill(0xff);
            assert_eq!(parse(&frame), Err(DropReason::Malformed));
        }
    }

    #[test]
    fn a_jumbogram_is_refused() {
        let mut frame = udp();
        frame.splice(54..54, [17, 0, 0xc2, 4, 0, 1, 0, 0]);
        (frame[19], frame[20]) = (0, 0);
        assert!(parse(&frame).is_err());
        frame[19] = 16;
        assert_eq!(parse(&frame), Err(DropReason::Malformed));
    }

    #[test]
    fn a_packet_without_payload_or_next_header_parses() {
        let (src, dst) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        let body = Body::Other {
            protocol: proto::NONE,
        };
        let meta = parse(&FrameSpec::new(src, dst, body).build()).unwrap();
        assert_eq!(
            (meta.protocol, meta.l4_off, meta.l3_end),
            (proto::NONE, 54, 54)
        );
    }
}
