//! Fields of the IP header that the walk changes.

use crate::meta::{FrameKind, Meta};
use crate::wire::bytes::{array, be16, put};
use crate::wire::checksum::update16;

/// The two ECN bits of TOS and traffic class (RFC 3168 section 5).
pub const ECN_MASK: u8 = 0x03;
/// Congestion experienced.
pub const ECN_CE: u8 = 0x03;

/// Sets the IPv4 TOS, with the header checksum, or the IPv6 traffic class, and leaves
/// `meta.tos` to the caller. `false`, and no change, if `frame` isn't IP.
#[must_use]
pub fn set_tos(frame: &mut [u8], meta: &Meta, tos: u8) -> bool {
    meta.kind == FrameKind::Ip
        && if meta.src.is_v4() {
            set_v4(frame, meta, tos)
        } else {
            set_v6(frame, meta, tos)
        }
        .is_some()
}

/// As [`set_tos`], for the ECN bits alone: `ecn`'s low two.
#[must_use]
pub fn set_ecn(frame: &mut [u8], meta: &Meta, ecn: u8) -> bool {
    set_tos(frame, meta, meta.tos & !ECN_MASK | ecn & ECN_MASK)
}

fn set_v4(frame: &mut [u8], meta: &Meta, tos: u8) -> Option<()> {
    let l3_off = usize::from(meta.l3_off);
    let [version_ihl, old_tos] = array(frame, l3_off)?;
    let checksum = be16(frame, l3_off + 10)?;
    let old = u16::from_be_bytes([version_ihl, old_tos]);
    let new = u16::from_be_bytes([version_ihl, tos]);
    put(frame, l3_off, new.to_be_bytes())?;
    put(
        frame,
        l3_off + 10,
        update16(checksum, old, new).to_be_bytes(),
    )
}

fn set_v6(frame: &mut [u8], meta: &Meta, tos: u8) -> Option<()> {
    let l3_off = usize::from(meta.l3_off);
    let word = be16(frame, l3_off)? & 0xf00f | u16::from(tos) << 4;
    put(frame, l3_off, word.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::build::{Body, FrameSpec};
    use crate::wire::parse;

    #[test]
    fn every_tos_can_be_set_and_parses_back_with_nothing_else_changed() {
        for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let body = Body::Udp {
                src_port: 1,
                dst_port: 2,
            };
            let spec = FrameSpec {
                tos: 0xb9,
                ..FrameSpec::new(src.parse().unwrap(), dst.parse().unwrap(), body)
            };
            for tos in 0..=u8::MAX {
                let mut frame = spec.build();
                let meta = parse(&frame).unwrap();
                assert!(set_tos(&mut frame, &meta, tos));
                assert_eq!(
                    frame,
                    FrameSpec {
                        tos,
                        ..spec.clone()
                    }
                    .build()
                );
                assert_eq!(parse(&frame).unwrap().tos, tos);
            }
        }
    }

    #[test]
    fn setting_ecn_leaves_the_code_point() {
        let body = Body::Udp {
            src_port: 1,
            dst_port: 2,
        };
        let (src, dst) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        let mut frame = FrameSpec {
            tos: 0xb9,
            ..FrameSpec::new(src, dst, body)
        }
        .build();
        let meta = parse(&frame).unwrap();
        assert!(set_ecn(&mut frame, &meta, ECN_CE));
        assert_eq!(parse(&frame).unwrap().tos, 0xbb);
    }

    #[test]
    fn a_frame_that_is_not_ip_or_is_too_short_is_left_alone() {
        let mut frame = [0x45; 20];
        let meta = Meta {
            kind: FrameKind::Other,
            l3_off: 14,
            ..Meta::default()
        };
        assert!(!set_tos(&mut frame, &meta, 1));
        let meta = Meta {
            l3_off: 14,
            src: crate::addr::Addr::v4([1; 4]),
            ..Meta::default()
        };
        assert!(!set_tos(&mut frame, &meta, 1));
        assert_eq!(frame, [0x45; 20]);
    }
}
