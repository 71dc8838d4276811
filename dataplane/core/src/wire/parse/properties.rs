//! Properties of parse over built, mutated and arbitrary frames.

use core::net::IpAddr;

use proptest::prelude::*;

use super::{
    Headers, NEXT_HEADER_IPV4, NEXT_HEADER_IPV6, parse, parse_again, parse_esp_again, parse_inner,
};
use crate::addr::{Addr, Mac};
use crate::meta::{FragKind, FrameKind, Meta, NdKind, proto};
use crate::port::Frame;
use crate::reason::DropReason;
use crate::wire::arp::{reply_in_place, write_request};
use crate::wire::build::{Body, FrameSpec};
use crate::wire::embedded::{embedded, quoted_esp};
use crate::wire::fragment::fragment;
use crate::wire::icmp::{next_hop_mtu, too_big_in_place};
use crate::wire::ip::set_tos;
use crate::wire::nd::{Nd, advertise_in_place, write_solicit};
use crate::wire::tcp::clamp_mss;
use crate::wire::test_frame::TestFrame;

/// What every stage after parse relies on.
fn assert_invariants(frame: &[u8], meta: &Meta) {
    assert!(meta.l3_off <= meta.l4_off, "{meta:?}");
    assert!(meta.l4_off <= meta.l3_end, "{meta:?}");
    assert!(usize::from(meta.l3_end) <= frame.len(), "{meta:?}");
    assert!(meta.vlan < 0xfff, "{meta:?}");
    assert!(!meta.eth_src.is_group(), "{meta:?}");
    if meta.kind != FrameKind::Ip {
        return;
    }
    assert_eq!(meta.src.is_v4(), meta.dst.is_v4(), "{meta:?}");
    let l4_len = usize::from(meta.l3_end - meta.l4_off);
    let l4_len_min = match meta.protocol {
        _ if meta.frag == FragKind::Later => 0,
        proto::TCP => 20,
        proto::SCTP => 12,
        proto::UDP | proto::ICMP | proto::ICMPV6 => 8,
        _ => 0,
    };
    assert!(l4_len >= l4_len_min, "{meta:?}");
    if meta.nd != NdKind::None {
        assert_eq!(
            (meta.protocol, meta.src.is_v4()),
            (proto::ICMPV6, false),
            "{meta:?}"
        );
    }
    match (meta.frag, fragment(frame, meta)) {
        (FragKind::Whole, read) => assert_eq!(read, None),
        (kind, Some(read)) => {
            assert!(read.start < read.end, "{read:?}");
            assert_eq!(read.start == 0, kind == FragKind::First, "{read:?}");
            assert!(read.last || read.end % 8 == 0, "{read:?}");
            assert!(!(read.last && read.start == 0), "{read:?}");
        }
        (_, None) => panic!("parse let a fragment through that can't be read: {meta:?}"),
    }
    if meta.frag == FragKind::Later {
        let blank = (
            meta.src_port,
            meta.dst_port,
            meta.tcp_flags,
            meta.icmp_error,
        );
        assert_eq!(blank, (0, 0, 0, false), "{meta:?}");
    }
}

/// Parses and, if that works, reads whatever else reads received frames.
fn exercise(frame: &[u8]) -> bool {
    let Ok(meta) = parse(frame) else { return false };
    assert_invariants(frame, &meta);
    read_and_change(frame, &meta);
    let from = if meta.src.is_v4() {
        Addr::v4([10, 0, 0, 9])
    } else {
        Addr::v6([0xfd; 16])
    };
    let mut answer = TestFrame::new(frame);
    if too_big_in_place(&mut answer, &meta, 1400, Mac([2; 6]), from) {
        let meta = parse(answer.bytes()).unwrap();
        assert_eq!(next_hop_mtu(answer.bytes(), &meta), Some(1400));
    }
    true
}

/// Everything that takes a received frame and its `Meta`, only to see that none panics.
fn read_and_change(frame: &[u8], meta: &Meta) {
    let mac = Mac([2; 6]);
    let _ = embedded(frame, meta);
    let _ = fragment(frame, meta);
    let _ = (next_hop_mtu(frame, meta), quoted_esp(frame, meta));
    let mut copy = frame.to_vec();
    let _ = clamp_mss(&mut copy, meta, 500);
    let _ = set_tos(&mut copy, meta, 1);
    let _ = reply_in_place(&mut copy, meta, mac);
    let mut answer = TestFrame::new(frame);
    if let Ok(nd) = Nd::read(frame, meta) {
        let _ = advertise_in_place(&mut answer, meta, &nd, mac, true);
    }
    let mut answer = TestFrame::new(frame);
    let _ = too_big_in_place(&mut answer, meta, 1400, mac, meta.dst);
}

fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    let v4 = (any::<[u8; 4]>(), any::<[u8; 4]>()).prop_map(|(mut src, dst)| {
        if src[0] >> 4 == 0xe {
            src[0] = 10;
        }
        (src.into(), dst.into())
    });
    let v6 = (any::<[u8; 16]>(), any::<[u8; 16]>()).prop_map(|(mut src, mut dst)| {
        src[0] = 0xfd;
        dst[0] |= 1;
        (src.into(), dst.into())
    });
    prop_oneof![v4, v6]
}

fn bodies() -> impl Strategy<Value = Body> {
    let ports = (any::<u16>(), any::<u16>());
    prop_oneof![
        (ports, any::<(u8, u32, u32)>(), any::<Option<u16>>()).prop_map(
            |((src_port, dst_port), (flags, seq, ack), mss)| Body::Tcp {
                src_port,
                dst_port,
                flags,
                seq,
                ack,
                mss
            }
        ),
        ports.prop_map(|(src_port, dst_port)| Body::Udp { src_port, dst_port }),
        (ports, 0u8..=14).prop_map(|((src_port, dst_port), chunk)| Body::Sctp {
            src_port,
            dst_port,
            chunk
        }),
        any::<(u16, u16, bool)>().prop_map(|(id, seq, reply)| Body::IcmpEcho { id, seq, reply }),
        prop_oneof![
            Just(proto::ESP),
            Just(47),
            Just(51),
            Just(proto::NONE),
            Just(253)
        ]
        .prop_map(|protocol| Body::Other { protocol }),
    ]
}

prop_compose! {
    fn specs()(
        (src, dst) in addresses(),
        body in bodies(),
        macs in any::<([u8; 6], [u8; 6])>(),
        vlan in proptest::option::of(0u16..0xfff),
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        (ttl, tos, dont_fragment) in any::<(u8, u8, bool)>(),
    ) -> FrameSpec {
        let (mut eth_src, eth_dst) = (Mac(macs.0), Mac(macs.1));
        eth_src.0[0] &= 0xfe;
        FrameSpec { eth_src, eth_dst, vlan, src, dst, body, payload, ttl, tos, dont_fragment }
    }
}

/// The `Meta` that `spec`'s frame must have.
fn expected(spec: &FrameSpec) -> Meta {
    let l3_off = if spec.vlan.is_some() { 18 } else { 14 };
    let v4 = spec.src.is_ipv4();
    let l4_off = l3_off + if v4 { 20 } else { 40 };
    let mut meta = Meta {
        src: spec.src.into(),
        dst: spec.dst.into(),
        eth_src: spec.eth_src,
        eth_dst: spec.eth_dst,
        vlan: spec.vlan.unwrap_or(0),
        l3_off,
        l4_off,
        protocol: spec.protocol(),
        tos: spec.tos,
        dont_fragment: spec.dont_fragment || !v4,
        ..Meta::default()
    };
    let payload = u16::try_from(spec.payload.len()).unwrap();
    let l4_len = match spec.body {
        Body::Tcp {
            src_port,
            dst_port,
            flags,
            mss,
            ..
        } => {
            (meta.src_port, meta.dst_port, meta.tcp_flags) = (src_port, dst_port, flags);
            20 + if mss.is_some() { 4 } else { 0 } + payload
        }
        Body::Udp { src_port, dst_port } => {
            (meta.src_port, meta.dst_port) = (src_port, dst_port);
            8 + payload
        }
        Body::Sctp {
            src_port,
            dst_port,
            chunk,
        } => {
            (meta.src_port, meta.dst_port) = (src_port, dst_port);
            let fixed = match chunk {
                0 => 12,
                1 | 2 => 16,
                _ => 0,
            };
            (16 + fixed + payload).next_multiple_of(4)
        }
        Body::IcmpEcho { id, reply, .. } => {
            (meta.src_port, meta.dst_port) = (id, id);
            meta.icmp_type = match (v4, reply) {
                (true, reply) => {
                    if reply {
                        0
                    } else {
                        8
                    }
                }
                (false, reply) => 128 + u8::from(reply),
            };
            8 + payload
        }
        Body::Other { .. } => payload,
    };
    meta.l3_end = l4_off + l4_len;
    meta
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn parse_recovers_every_field_of_a_built_frame(spec in specs(), padding in 0usize..50) {
        let mut frame = spec.build();
        frame.resize(frame.len() + padding, 0xa5);
        prop_assert_eq!(parse(&frame), Ok(expected(&spec)));
    }

    #[test]
    fn parse_inner_finds_the_packet_at_any_offset_and_ignores_what_pads_it(
        spec in specs(), front in 0usize..100, padding in 0usize..50,
    ) {
        let expected = expected(&spec);
        let frame = spec.build();
        let packet = &frame[usize::from(expected.l3_off)..];
        let mut inner = vec![0x5a; front];
        inner.extend(packet);
        inner.resize(inner.len() + padding, 0xa5);
        let end = inner.len();
        inner.resize(end + 20, 0xa5);
        let (right, wrong) = if spec.src.is_ipv4() {
            (NEXT_HEADER_IPV4, NEXT_HEADER_IPV6)
        } else {
            (NEXT_HEADER_IPV6, NEXT_HEADER_IPV4)
        };
        let shift = |off: u16| off - expected.l3_off + u16::try_from(front).unwrap();
        let moved = Meta {
            eth_src: Mac::default(),
            eth_dst: Mac::default(),
            vlan: 0,
            l3_off: shift(expected.l3_off),
            l4_off: shift(expected.l4_off),
            l3_end: shift(expected.l3_end),
            ..expected
        };
        prop_assert_eq!(parse_inner(&inner, front, end, right), Ok(moved));
        prop_assert!(parse_inner(&inner, front, end, wrong).is_err());
        prop_assert!(parse_inner(&inner, front, front + packet.len() - 1, right).is_err());
        prop_assert!(parse_inner(&inner, front, inner.len() + 1, right).is_err());
        prop_assert!(parse_inner(&inner, front, end, proto::NONE).is_err());
    }

    #[test]
    fn a_frame_cut_short_of_its_packet_never_parses(spec in specs(), cut in any::<usize>()) {
        let frame = spec.build();
        let cut = cut % frame.len();
        prop_assert!(parse(&frame[..cut]).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn arbitrary_bytes_parse_within_bounds_or_not_at_all(
        bytes in proptest::collection::vec(any::<u8>(), 0..128), ethertype in 0usize..5,
    ) {
        let mut frame = bytes;
        let ethertype = [None, Some(0x0800u16), Some(0x86dd), Some(0x0806), Some(0x8100)][ethertype];
        if let (Some(ethertype), Some(field)) = (ethertype, frame.get_mut(12..14)) {
            field.copy_from_slice(&ethertype.to_be_bytes());
        }
        exercise(&frame);
        let _ = parse_inner(&frame, 14, frame.len(), NEXT_HEADER_IPV4);
        let _ = parse_inner(&frame, frame.len(), 14, NEXT_HEADER_IPV6);
    }

    #[test]
    fn mutated_frames_parse_within_bounds_or_not_at_all(
        spec in specs(),
        changes in proptest::collection::vec(any::<(usize, u8)>(), 1..6),
        len in any::<usize>(),
    ) {
        let mut frame = spec.build();
        let headers = frame.len().min(90);
        for (at, value) in changes {
            frame[at % headers] = value;
        }
        fix_checksum_v4(&mut frame);
        exercise(&frame);
        frame.truncate(len % (frame.len() + 1));
        exercise(&frame);
    }

    #[test]
    fn what_has_the_same_headers_parses_to_the_same(
        spec in specs(), payload in proptest::collection::vec(any::<u8>(), 0..200),
        body in bodies(), is_same in any::<bool>(),
        change in proptest::option::of((0usize..70, any::<u8>())), len in 0usize..400,
    ) {
        let first = spec.build();
        let second = FrameSpec { payload, body: if is_same { spec.body } else { body }, ..spec };
        let second = changed(&second, change, len);
        let is_plain = Headers::are_plain(&first);
        let read = |it: &[u8]| Headers::read(it).filter(|_| is_plain);
        is_parsed_again([&first[..], &second], read, parse, parse_again, change.is_none() && is_same)?;
    }

    /// The headers of ESP, in IP or in UDP, with any SPI.
    #[test]
    fn what_has_the_same_headers_of_esp_parses_to_the_same(
        spec in specs(), payload in proptest::collection::vec(any::<u8>(), 0..200),
        in_udp in any::<bool>(),
        change in proptest::option::of((0usize..70, any::<u8>())), len in 0usize..400,
    ) {
        let body = if in_udp {
            Body::Udp { src_port: 4500, dst_port: 4500 }
        } else {
            Body::Other { protocol: proto::ESP }
        };
        let first = FrameSpec { body, ..spec.clone() }.build();
        let second = changed(&FrameSpec { payload, body, ..spec }, change, len);
        let read = Headers::read_esp;
        is_parsed_again([&first[..], &second], read, parse, parse_esp_again, false)?;
    }

    /// Those of what came out of an SA, whatever stands before them.
    #[test]
    fn what_has_the_same_inner_headers_parses_to_the_same(
        spec in specs(), payload in proptest::collection::vec(any::<u8>(), 0..200),
        before in any::<[u8; 14]>(), kinds in any::<[bool; 2]>(), is_same in any::<bool>(),
        change in proptest::option::of((14usize..70, any::<u8>())), len in 0usize..400,
    ) {
        let spec = FrameSpec { vlan: None, ..spec };
        let first = spec.build();
        let mut second = changed(&FrameSpec { payload, ..spec.clone() }, change, len);
        let room = second.len().min(14);
        second[..room].copy_from_slice(&before[..room]);
        // One of the two can be said to be the other family's.
        let own = if spec.src.is_ipv4() { NEXT_HEADER_IPV4 } else { NEXT_HEADER_IPV6 };
        let other = NEXT_HEADER_IPV4 + NEXT_HEADER_IPV6 - own;
        let said = |it: &[u8]| if kinds[usize::from(it == second)] || is_same { own } else { other };
        let read = |it: &[u8]| {
            let headers = Headers::read_inner(it, said(it), 7)?;
            Headers::are_plain_inner(it, said(it)).then_some(headers)
        };
        let parse = |it: &[u8]| parse_inner(it, 14, it.len(), said(it));
        is_parsed_again([&first[..], &second], read, parse, parse_again, change.is_none() && is_same)?;
        // From another peer it has others.
        let elsewhere = Headers::read_inner(&first, own, 8);
        let here = Headers::read_inner(&first, own, 7);
        prop_assert!(!elsewhere.zip(here).is_some_and(|(a, b)| a.are(&b)));
    }

    #[test]
    fn a_meta_that_is_another_frames_makes_nothing_panic(
        own in specs(), other in specs(), len in any::<usize>(), offsets in any::<[u16; 3]>(),
        odd in any::<bool>(),
    ) {
        let frame = own.build();
        let mut meta = expected(&other);
        if odd {
            let small = |off: u16| off % 100;
            meta.l3_off = small(offsets[0]);
            meta.l4_off = small(offsets[1]);
            meta.l3_end = offsets[2] % 200;
            meta.icmp_error = offsets[0] & 0x8000 != 0;
            meta.nd = NdKind::NeighborSolicit;
            meta.tcp_flags = 2;
        }
        read_and_change(&frame[..len % (frame.len() + 1)], &meta);
    }
}

/// A frame cut short and with one byte changed, its checksum put right or not.
fn changed(spec: &FrameSpec, change: Option<(usize, u8)>, len: usize) -> Vec<u8> {
    let mut frame = spec.build();
    if let Some((at, value)) = change
        && at < frame.len()
    {
        frame[at] = value;
        if value & 1 == 0 {
            fix_checksum_v4(&mut frame);
        }
    }
    frame.truncate(len.max(frame.len() / 2));
    frame
}

/// What has the first one's headers parses to what the parser makes of it, and what the parser
/// takes does so if it `must`.
fn is_parsed_again(
    [first, second]: [&[u8]; 2],
    read: impl Fn(&[u8]) -> Option<Headers>,
    parse: impl Fn(&[u8]) -> Result<Meta, DropReason>,
    again: impl Fn(&[u8], &mut Meta) -> bool,
    must: bool,
) -> Result<(), TestCaseError> {
    let (Ok(mut meta), Some(first)) = (parse(first), read(first)) else {
        return Ok(());
    };
    let is_same = read(second).is_some_and(|it| first.are(&it));
    if is_same && again(second, &mut meta) {
        prop_assert_eq!(parse(second), Ok(meta));
    } else if must {
        prop_assert!(parse(second).is_err());
    }
    Ok(())
}

/// Makes the IPv4 header checksum right again, so that a mutation is judged by what it says.
fn fix_checksum_v4(frame: &mut [u8]) {
    let l3_off = match frame.get(12..14) {
        Some([0x08, 0x00]) => 14,
        Some([0x81, 0x00]) => 18,
        _ => return,
    };
    let Some(&first) = frame.get(l3_off) else {
        return;
    };
    let len = usize::from(first & 0x0f) * 4;
    let Some(header) = frame.get_mut(l3_off..l3_off + len) else {
        return;
    };
    if len >= 20 {
        header[10..12].fill(0);
        let checksum = crate::wire::checksum::of(header);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Frames of every kind to start mutations from, IPv6 extension chains among them.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        let (src, dst): (IpAddr, IpAddr) = (src.parse().unwrap(), dst.parse().unwrap());
        let bodies = [
            Body::Udp {
                src_port: 1,
                dst_port: 2,
            },
            Body::Tcp {
                src_port: 1,
                dst_port: 2,
                flags: 2,
                seq: 0,
                ack: 0,
                mss: Some(1460),
            },
            Body::Sctp {
                src_port: 1,
                dst_port: 2,
                chunk: 1,
            },
            Body::IcmpEcho {
                id: 1,
                seq: 2,
                reply: false,
            },
            Body::Other {
                protocol: proto::ESP,
            },
        ];
        for body in bodies {
            let mut spec = FrameSpec {
                payload: vec![0; 40],
                ..FrameSpec::new(src, dst, body)
            };
            seeds.push(spec.build());
            let packet = seeds[seeds.len() - 1][14..].to_vec();
            spec.vlan = Some(7);
            seeds.push(spec.build());
            let v4 = src.is_ipv4();
            let protocol = if v4 { proto::ICMP } else { proto::ICMPV6 };
            let mut error = FrameSpec::new(dst, src, Body::Other { protocol });
            error.payload = [vec![if v4 { 3 } else { 1 }, 4, 0, 0, 0, 0, 5, 0], packet].concat();
            seeds.push(error.build());
            if !v4 {
                // Hop-by-hop, destination options, routing, fragment, then the transport.
                let last = spec.protocol();
                let mut frame = FrameSpec { vlan: None, ..spec }.build();
                let chain = [
                    60, 0, 5, 2, 0, 0, 1, 0, 43, 0, 1, 4, 0, 0, 0, 0, 44, 0, 4, 0, 0, 0, 0, 0,
                    last, 0, 0, 0, 0, 0, 0, 9,
                ];
                frame.splice(54..54, chain);
                frame[19] += 32;
                frame[20] = 0;
                seeds.push(frame);
            }
        }
    }
    let mut arp = vec![0; 42];
    let (a, b) = (Addr::v4([10, 0, 0, 1]), Addr::v4([10, 0, 0, 2]));
    assert!(write_request(&mut arp, Mac([2; 6]), a, b).is_some());
    seeds.push(arp);
    let mut solicit = vec![0; 86];
    let (a, b) = (Addr::v6([0xfd; 16]), Addr::v6([0xfc; 16]));
    assert!(write_solicit(&mut solicit, Mac([2; 6]), a, b).is_some());
    seeds.push(solicit);
    seeds
}

#[test]
fn every_seed_frame_parses() {
    for seed in seeds() {
        parse(&seed).unwrap();
        assert!(exercise(&seed));
    }
}

#[test]
fn two_hundred_thousand_mutated_frames_parse_within_bounds_or_not_at_all() {
    let seeds = seeds();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut parsed = 0;
    for _ in 0..200_000 {
        let mut frame = seeds[random(seeds.len())].clone();
        for _ in 0..=random(4) {
            let at = random(frame.len().min(110));
            match random(3) {
                0 => frame[at] = u8::try_from(random(256)).unwrap(),
                1 => frame[at] ^= 1 << random(8),
                _ => frame[at] = [0, 1, 4, 6, 43, 44, 50, 58, 60, 0xff][random(10)],
            }
        }
        if random(8) == 0 {
            frame.truncate(random(frame.len() + 1));
        }
        if random(8) != 0 {
            fix_checksum_v4(&mut frame);
        }
        parsed += usize::from(exercise(&frame));
    }
    // Both answers must be common, or the mutations test nothing.
    assert!((20_000..180_000).contains(&parsed), "{parsed} parsed");
}
