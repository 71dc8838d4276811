//! What a fragment says of its datagram: which one, and which bytes of it.

use crate::meta::{FragKind, FrameKind, Meta};
use crate::wire::bytes::{array, be16};
use crate::wire::parse::walk_extensions;

/// A fragment's place in its datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// The datagram's identification, 16 bits in IPv4 and 32 in IPv6: one of its sender,
    /// receiver and, in IPv4, protocol.
    pub id: u32,
    /// Where its data starts in the datagram's, in bytes; a multiple of 8.
    pub start: u16,
    /// Where its data ends; above `start`.
    pub end: u16,
    /// Whether it is the last.
    pub last: bool,
}

const FLAG_MORE_FRAGMENTS_V4: u16 = 0x2000;
const OFFSET_MASK_V4: u16 = 0x1fff;

/// Reads the fragment that `frame` is; `meta` is parse's, which has checked that the
/// fields can be. `None` if it is none: an IPv6 atomic fragment is a whole packet.
#[must_use]
pub fn fragment(frame: &[u8], meta: &Meta) -> Option<Fragment> {
    if meta.kind != FrameKind::Ip || meta.frag == FragKind::Whole {
        return None;
    }
    let packet = frame.get(usize::from(meta.l3_off)..usize::from(meta.l3_end))?;
    if meta.src.is_v4() {
        read_v4(packet)
    } else {
        read_v6(packet)
    }
}

//= RFC 791 section 3.1: identification, flags and fragment offset; the offset "is measured
//= in units of 8 octets"
fn read_v4(packet: &[u8]) -> Option<Fragment> {
    let [version_ihl] = array(packet, 0)?;
    let data = packet.get(usize::from(version_ihl & 0x0f) * 4..)?;
    let word = be16(packet, 6)?;
    placed(
        u32::from(be16(packet, 4)?),
        usize::from(word & OFFSET_MASK_V4) * 8,
        data.len(),
        word & FLAG_MORE_FRAGMENTS_V4 == 0,
    )
}

fn read_v6(packet: &[u8]) -> Option<Fragment> {
    const HEADER_LEN: usize = 40;
    let [next_header] = array(packet, 6)?;
    let chain = walk_extensions(packet, HEADER_LEN, next_header).ok()?;
    let header = chain.fragment?;
    let data = packet.get(header.data_off..)?;
    let start = usize::from(header.offset_bytes);
    placed(header.id, start, data.len(), !header.more)
}

fn placed(id: u32, start: usize, len: usize, last: bool) -> Option<Fragment> {
    Some(Fragment {
        id,
        start: u16::try_from(start).ok()?,
        end: u16::try_from(start + len).ok()?,
        last,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::proto;
    use crate::wire::build::{Body, FrameSpec, fragments};
    use crate::wire::parse;

    fn spec(src: &str, dst: &str) -> FrameSpec {
        let body = Body::Udp {
            src_port: 1000,
            dst_port: 53,
        };
        FrameSpec {
            payload: vec![7; 92],
            ..FrameSpec::new(src.parse().unwrap(), dst.parse().unwrap(), body)
        }
    }

    #[test]
    fn every_fragment_of_a_datagram_says_where_it_belongs() {
        for (src, dst, id) in [
            ("10.0.0.1", "10.0.0.2", 0xbeef),
            ("fd00::1", "fd00::2", 0xdead_beef),
        ] {
            let read: Vec<_> = fragments(&spec(src, dst).build(), id, 48)
                .iter()
                .map(|frame| {
                    let meta = parse(frame).unwrap();
                    assert_eq!(meta.protocol, proto::UDP);
                    fragment(frame, &meta).unwrap()
                })
                .collect();
            let piece = |start, end, last| Fragment {
                id,
                start,
                end,
                last,
            };
            assert_eq!(
                read,
                [
                    piece(0, 48, false),
                    piece(48, 96, false),
                    piece(96, 100, true)
                ]
            );
        }
    }

    #[test]
    fn a_whole_packet_and_an_atomic_fragment_are_none() {
        for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let frame = spec(src, dst).build();
            assert_eq!(fragment(&frame, &parse(&frame).unwrap()), None);
        }
        let frames = fragments(&spec("fd00::1", "fd00::2").build(), 9, 1000);
        assert_eq!(frames.len(), 1);
        let meta = parse(&frames[0]).unwrap();
        assert_eq!((meta.frag, meta.dst_port), (FragKind::Whole, 53));
        assert_eq!(fragment(&frames[0], &meta), None);
    }

    #[test]
    fn a_meta_of_another_frame_reads_nothing_past_the_end() {
        let frame = spec("10.0.0.1", "10.0.0.2").build();
        let meta = parse(&fragments(&frame, 1, 48)[0]).unwrap();
        for len in 0..60 {
            assert_eq!(fragment(&frame[..len], &meta), None, "{len}");
        }
    }
}
