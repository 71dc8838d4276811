//! The fields of a TCP segment that a flow's window is judged by.

use crate::meta::{FragKind, Meta, proto, tcp_flag};
use crate::wire::bytes::array;

/// Length of the header without options.
const HEADER_LEN_MIN: usize = 20;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_SCALE: u8 = 3;
const OPTION_SCALE_LEN: u8 = 3;

/// The greatest shift of a window.
//= RFC 7323 section 2.3: "If a Window Scale option is received with a shift.cnt value
//= larger than 14, the TCP SHOULD log the error but MUST use 14 instead of the
//= specified value"
pub const SCALE_MAX: u8 = 14;

/// A segment as its flow sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number; without meaning unless the ACK flag is set.
    pub ack: u32,
    /// The window field as it stands in the header, not scaled.
    pub window: u16,
    /// [`tcp_flag`].
    pub flags: u8,
    /// The shift of the window scale option of a SYN, at most [`SCALE_MAX`].
    pub scale: Option<u8>,
    /// Bytes of data.
    pub data_len: u16,
    /// Whether it is the first fragment of a segment: more data follows, how much isn't
    /// known.
    pub is_cut: bool,
}

impl Segment {
    /// The segment in a frame; `None` if it has no TCP header: another protocol, or a
    /// later fragment. Of a first fragment the data counts that is in it.
    #[must_use]
    pub fn read(frame: &[u8], meta: &Meta) -> Option<Self> {
        if meta.protocol != proto::TCP || meta.frag == FragKind::Later {
            return None;
        }
        let segment = frame.get(usize::from(meta.l4_off)..usize::from(meta.l3_end))?;
        let header: [u8; HEADER_LEN_MIN] = array(segment, 0)?;
        let [
            _,
            _,
            _,
            _,
            s0,
            s1,
            s2,
            s3,
            a0,
            a1,
            a2,
            a3,
            offset,
            flags,
            w0,
            w1,
            ..,
        ] = header;
        let header_len = usize::from(offset >> 4) * 4;
        let data_len = segment.len().checked_sub(header_len)?;
        let scale = if flags & tcp_flag::SYN == 0 {
            None
        } else {
            scale_of(segment.get(HEADER_LEN_MIN..header_len)?)
        };
        Some(Self {
            seq: u32::from_be_bytes([s0, s1, s2, s3]),
            ack: u32::from_be_bytes([a0, a1, a2, a3]),
            window: u16::from_be_bytes([w0, w1]),
            flags,
            scale,
            data_len: u16::try_from(data_len).ok()?,
            is_cut: meta.frag == FragKind::First,
        })
    }

    /// The sequence number just past the segment: SYN and FIN count as a byte each.
    //= RFC 9293 section 3.4: "SEG.LEN = the number of octets occupied by the data in the
    //= segment (counting SYN and FIN)"
    #[must_use]
    pub const fn end(&self) -> u32 {
        let syn = (self.flags & tcp_flag::SYN != 0) as u32;
        let fin = (self.flags & tcp_flag::FIN != 0) as u32;
        self.seq
            .wrapping_add(self.data_len as u32)
            .wrapping_add(syn + fin)
    }
}

/// The shift of the window scale option; the walk ends at the first option that doesn't
/// fit the header.
fn scale_of(options: &[u8]) -> Option<u8> {
    let mut at = 0;
    // At most 40 bytes, and each turn takes at least one.
    while let Some(&kind) = options.get(at) {
        at += match kind {
            OPTION_END => return None,
            OPTION_NOP => 1,
            _ => match *options.get(at + 1)? {
                OPTION_SCALE_LEN if kind == OPTION_SCALE => {
                    return Some((*options.get(at + 2)?).min(SCALE_MAX));
                }
                len if len >= 2 => usize::from(len),
                _ => return None,
            },
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::build::{Body, FrameSpec};
    use crate::wire::parse;

    fn frame(flags: u8, payload: &[u8]) -> Vec<u8> {
        let body = Body::Tcp {
            src_port: 1,
            dst_port: 2,
            flags,
            seq: 0xffff_fffe,
            ack: 9,
            mss: Some(1460),
        };
        FrameSpec {
            payload: payload.to_vec(),
            ..FrameSpec::new(
                "10.0.0.1".parse().unwrap(),
                "10.0.0.2".parse().unwrap(),
                body,
            )
        }
        .build()
    }

    #[test]
    fn a_segment_ends_past_its_data_and_its_flags_without_ethernet_padding() {
        let mut bytes = frame(tcp_flag::SYN | tcp_flag::FIN, &[1, 2, 3]);
        let meta = parse(&bytes).unwrap();
        bytes.extend([0; 9]);
        let segment = Segment::read(&bytes, &meta).unwrap();
        let fields = (segment.seq, segment.ack, segment.window, segment.data_len);
        assert_eq!(fields, (0xffff_fffe, 9, 0xffff, 3));
        assert_eq!(segment.end(), 3);
    }

    #[test]
    fn the_scale_is_read_past_other_options_and_cut_to_fourteen() {
        for (options, want) in [
            (&[1, 3, 3, 7][..], Some(7)),
            (&[2, 4, 5, 0xb4, 1, 3, 3, 14], Some(14)),
            (&[3, 3, 255, 0], Some(14)),
            (&[0, 3, 3, 7], None),
            (&[3, 4, 7, 0], None),
            (&[3, 1, 7, 0], None),
            (&[1, 1, 3, 3], None),
            (&[8, 0, 3, 3, 7, 0, 0, 0], None),
            (&[], None),
        ] {
            assert_eq!(scale_of(options), want, "{options:?}");
        }
    }

    #[test]
    fn only_a_syns_options_are_read() {
        let body = Body::Other {
            protocol: proto::TCP,
        };
        for (flags, want) in [(tcp_flag::SYN, Some(5)), (tcp_flag::ACK, None)] {
            let mut header = [0u8; 24];
            header[12] = 0x60;
            header[13] = flags;
            header[20..24].copy_from_slice(&[1, 3, 3, 5]);
            let spec = FrameSpec {
                payload: header.to_vec(),
                ..FrameSpec::new("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap(), body)
            };
            let bytes = spec.build();
            let segment = Segment::read(&bytes, &parse(&bytes).unwrap()).unwrap();
            assert_eq!((segment.scale, segment.data_len), (want, 0));
        }
    }
}
