//! TCP's maximum segment size, lowered on the way to leave room for encapsulation.

use crate::meta::{FragKind, Meta, proto, tcp_flag};
use crate::wire::bytes::{array, be16, put};
use crate::wire::checksum::update16;

/// Length of the header without options.
const HEADER_LEN_MIN: usize = 20;
/// Where the checksum stands.
const CHECKSUM_OFF: usize = 16;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;
const OPTION_MSS_LEN: u8 = 4;

/// Lowers the maximum segment size option of a SYN or SYN ACK to `mss` if it is greater,
/// and repairs the checksum. Whether anything changed.
///
/// A SYN without the option is left so: the peer then sends at most 536 or 1220 bytes
/// (RFC 9293 section 3.7.1). The walk ends at the first option that doesn't fit the header.
#[must_use]
pub fn clamp_mss(frame: &mut [u8], meta: &Meta, mss: u16) -> bool {
    if meta.protocol != proto::TCP
        || meta.tcp_flags & tcp_flag::SYN == 0
        || meta.frag == FragKind::Later
    {
        return false;
    }
    let l4_off = usize::from(meta.l4_off);
    let Some(segment) = frame.get_mut(l4_off..usize::from(meta.l3_end)) else {
        return false;
    };
    let Some([.., data_offset]) = array::<13>(segment, 0) else {
        return false;
    };
    let header_len = usize::from(data_offset >> 4) * 4;
    let Some(header) = segment.get_mut(..header_len) else {
        return false;
    };
    let mut changed = false;
    let mut at = HEADER_LEN_MIN;
    // At most 40 bytes of options, and each turn takes at least one.
    while let Some(&kind) = header.get(at) {
        at += match kind {
            OPTION_END => break,
            OPTION_NOP => 1,
            _ => match header.get(at + 1) {
                Some(&len) if len >= 2 => {
                    if kind == OPTION_MSS && len == OPTION_MSS_LEN {
                        changed |= lower(header, at + 2, mss).is_some();
                    }
                    usize::from(len)
                }
                _ => break,
            },
        };
    }
    changed
}

/// Lowers the value at `at`; `None` if it was no greater or isn't all there.
fn lower(header: &mut [u8], at: usize, mss: u16) -> Option<()> {
    let old = be16(header, at)?;
    if old <= mss {
        return None;
    }
    let checksum = be16(header, CHECKSUM_OFF)?;
    // Options needn't be aligned: at an odd offset the two bytes belong to two words.
    let checksum = if at.is_multiple_of(2) {
        update16(checksum, old, mss)
    } else {
        update16(checksum, old.swap_bytes(), mss.swap_bytes())
    };
    put(header, at, mss.to_be_bytes())?;
    put(header, CHECKSUM_OFF, checksum.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::build::{Body, FrameSpec};
    use crate::wire::checksum;
    use crate::wire::parse;

    fn syn(flags: u8, mss: Option<u16>) -> FrameSpec {
        let body = Body::Tcp {
            src_port: 1,
            dst_port: 2,
            flags,
            seq: 7,
            ack: 0,
            mss,
        };
        FrameSpec::new("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap(), body)
    }

    fn clamp(frame: &mut [u8], mss: u16) -> bool {
        let meta = parse(frame).unwrap();
        clamp_mss(frame, &meta, mss)
    }

    #[test]
    fn a_greater_mss_is_lowered_to_the_frame_that_would_have_been_built_with_it() {
        for flags in [tcp_flag::SYN, tcp_flag::SYN | tcp_flag::ACK] {
            for mss in [0, 536, 1399] {
                let mut frame = syn(flags, Some(1460)).build();
                assert!(clamp(&mut frame, mss));
                assert_eq!(frame, syn(flags, Some(mss)).build());
            }
        }
    }

    #[test]
    fn a_smaller_or_absent_mss_or_another_segment_stays_as_it_is() {
        for spec in [
            syn(tcp_flag::SYN, Some(1400)),
            syn(tcp_flag::SYN, Some(536)),
            syn(tcp_flag::SYN, None),
            syn(tcp_flag::ACK, Some(1460)),
        ] {
            let mut frame = spec.build();
            assert!(!clamp(&mut frame, 1400));
            assert_eq!(frame, spec.build());
        }
    }

    /// A SYN whose options are `options`, with its right checksum.
    fn with_options(options: [u8; 8]) -> Vec<u8> {
        let mut frame = syn(tcp_flag::SYN, Some(0)).build();
        frame.truncate(54 + 20);
        frame.extend(options);
        frame[19] = 28;
        frame[54 + 12] = 0x70;
        frame[54 + 16..54 + 18].fill(0);
        let meta = parse(&frame).unwrap();
        let sum = checksum::pseudo(meta.src, meta.dst, proto::TCP, 28).bytes(&frame[54..]);
        frame[54 + 16..54 + 18].copy_from_slice(&sum.checksum().to_be_bytes());
        frame
    }

    #[test]
    fn an_option_at_an_odd_offset_keeps_the_checksum_right() {
        let mut frame = with_options([1, 2, 4, 0x05, 0xb4, 1, 1, 0]);
        assert!(clamp(&mut frame, 1000));
        assert_eq!(frame, with_options([1, 2, 4, 0x03, 0xe8, 1, 1, 0]));
    }

    #[test]
    fn options_that_do_not_fit_end_the_walk() {
        for options in [
            [3, 0, 2, 4, 0x05, 0xb4, 1, 1],
            [3, 1, 2, 4, 0x05, 0xb4, 1, 1],
            [3, 99, 2, 4, 0x05, 0xb4, 1, 1],
            [0, 0, 2, 4, 0x05, 0xb4, 1, 1],
            [1, 1, 1, 1, 1, 2, 4, 0xff],
            [1, 1, 1, 1, 1, 1, 1, 2],
            [2, 3, 0xff, 1, 1, 1, 1, 0],
        ] {
            let mut frame = with_options(options);
            assert!(!clamp(&mut frame, 1000), "{options:?}");
            assert_eq!(frame, with_options(options));
        }
    }
}
