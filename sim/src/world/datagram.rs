//! Datagrams of UDP in one go: most of what stations say, byte for byte what
//! [`FrameSpec::build`] makes of it header by header.

use core::net::IpAddr;

use sluice_dataplane_core::meta::proto;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};
use sluice_dataplane_core::wire::checksum;
use sluice_dataplane_core::wire::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, HEADER_LEN};

const V4_LEN: usize = 20;
const V6_LEN: usize = 40;
const UDP_LEN: usize = 8;
const DONT_FRAGMENT: u16 = 0x4000;

/// The frame of a description, with a payload for its own.
pub(super) fn build(mut spec: FrameSpec, payload: &[u8]) -> Vec<u8> {
    datagram(&spec, payload).unwrap_or_else(|| {
        spec.payload = payload.to_vec();
        spec.build()
    })
}

/// None if it is anything but a whole datagram without a tag.
fn datagram(spec: &FrameSpec, payload: &[u8]) -> Option<Vec<u8>> {
    let Body::Udp { src_port, dst_port } = spec.body else {
        return None;
    };
    if spec.vlan.is_some() {
        return None;
    }
    let len = u16::try_from(UDP_LEN + payload.len()).ok()?;
    let mut frame = Vec::with_capacity(HEADER_LEN + V6_LEN + usize::from(len));
    frame.extend_from_slice(&spec.eth_dst.0);
    frame.extend_from_slice(&spec.eth_src.0);
    match (spec.src, spec.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let total = len.checked_add(u16::try_from(V4_LEN).ok()?)?;
            let flags = if spec.dont_fragment { DONT_FRAGMENT } else { 0 };
            let mut header = [0; V4_LEN];
            let [length, flags] = [total, flags].map(u16::to_be_bytes);
            header[..2].copy_from_slice(&[0x45, spec.tos]);
            header[2..4].copy_from_slice(&length);
            header[6..8].copy_from_slice(&flags);
            header[8..10].copy_from_slice(&[spec.ttl, proto::UDP]);
            header[12..16].copy_from_slice(&src.octets());
            header[16..].copy_from_slice(&dst.octets());
            let sum = checksum::of(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
            frame.extend_from_slice(&header);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let first = 6u32 << 28 | u32::from(spec.tos) << 20;
            frame.extend_from_slice(&ETHERTYPE_IPV6.to_be_bytes());
            frame.extend_from_slice(&first.to_be_bytes());
            frame.extend_from_slice(&len.to_be_bytes());
            frame.extend_from_slice(&[proto::UDP, spec.ttl]);
            frame.extend_from_slice(&src.octets());
            frame.extend_from_slice(&dst.octets());
        }
        _ => return None,
    }
    let mut header = [0; UDP_LEN];
    header[..2].copy_from_slice(&src_port.to_be_bytes());
    header[2..4].copy_from_slice(&dst_port.to_be_bytes());
    header[4..6].copy_from_slice(&len.to_be_bytes());
    let sum = checksum::pseudo(spec.src.into(), spec.dst.into(), proto::UDP, len.into());
    //= RFC 768: "If the computed checksum is zero, it is transmitted as all ones"
    let sum = match sum.bytes(&header).bytes(payload).checksum() {
        0 => 0xffff,
        sum => sum,
    };
    header[6..].copy_from_slice(&sum.to_be_bytes());
    frame.extend_from_slice(&header);
    frame.extend_from_slice(payload);
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    #[test]
    fn a_datagram_is_what_its_description_builds() {
        let ips = ["10.1.2.3", "fd00::1:2", "192.0.2.255", "fe80::ffff:9"];
        let ips = ips.map(|it| it.parse::<IpAddr>().unwrap());
        let mut dice = Dice::new(1, "datagrams");
        for len in (0..2_000).chain([65_507, 65_508, 65_527, 65_528, 70_000]) {
            let pick = |dice: &mut Dice| ips[dice.below(ips.len())];
            let port = |dice: &mut Dice| u16::try_from(dice.below(1 << 16)).unwrap();
            let body = Body::Udp {
                src_port: port(&mut dice),
                dst_port: port(&mut dice),
            };
            let (src, dst) = (pick(&mut dice), pick(&mut dice));
            let mut spec = FrameSpec::new(src, dst, body);
            spec.vlan = dice.chance(10).then_some(7);
            spec.dont_fragment = dice.chance(50);
            [spec.ttl, spec.tos, ..] = dice.draw().to_be_bytes();
            let payload: Vec<u8> = (0..len).map(|_| dice.draw().to_be_bytes()[0]).collect();
            let built = build(spec.clone(), &payload);
            spec.payload = payload;
            assert_eq!(built, spec.build(), "{len} bytes from {src} to {dst}");
        }
    }

    #[test]
    fn a_checksum_of_zero_is_sent_as_all_ones() {
        let ip = |it: &str| it.parse::<IpAddr>().unwrap();
        let body = Body::Udp {
            src_port: 1,
            dst_port: 2,
        };
        let mut spec = FrameSpec::new(ip("10.0.0.1"), ip("10.0.0.2"), body);
        let zeros = (0..=u16::MAX).map(|it| it.to_be_bytes().to_vec());
        let same = zeros.filter(|it| {
            spec.payload.clone_from(it);
            let whole = spec.build();
            assert_eq!(build(spec.clone(), it), whole);
            whole[40..42] == [0xff, 0xff]
        });
        assert!(same.count() > 0);
    }
}
