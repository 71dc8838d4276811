//! What is too long for its way: clamped, refused, and told so only to who may hear it.

use sluice_dataplane_core::addr::Addr;
use sluice_dataplane_core::snapshot::ROUTER_MAC;
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};
use sluice_dataplane_core::wire::{embedded, icmp};

use crate::rig::*;

const V4: bool = true;
const V6: bool = false;

fn syn(flags: u8, mss: u16) -> Body {
    Body::Tcp {
        src_port: 1,
        dst_port: 2,
        flags,
        seq: 1,
        ack: 0,
        mss: Some(mss),
    }
}

/// The largest inner packet over a 1500 byte link.
fn inner_mtu(how: Protection) -> usize {
    outbound(Side::A, how).tunnel.inner_mtu(1500)
}

/// A UDP packet from A's vf0 of `len` bytes in all.
fn udp_of_len(dst: Addr, len: usize) -> FrameSpec {
    let headers = if dst.is_v4() { 28 } else { 48 };
    let payload = MARKER.iter().copied().cycle().take(len - headers).collect();
    with_payload(Side::A.pod_sends(0, dst, udp(7, 8)), payload)
}

#[test]
fn a_syn_leaves_room_for_the_tunnel_in_both_directions() {
    for how in [
        Protection::default(),
        Protection {
            outer_v4: false,
            udp_encap: true,
            ..Protection::default()
        },
    ] {
        for v4 in [V4, V6] {
            let mut rig = Rig::protected_by(how);
            let mss = inner_mtu(how) as u16 - if v4 { 40 } else { 60 };
            let there = Side::A.pod_sends(0, Side::B.pod(0, v4), syn(SYN, 1460));
            rig.a.deliver(VF0, &there.build());
            rig.settle();
            let want = FrameSpec {
                body: syn(SYN, mss),
                ..there
            };
            assert_eq!(packet(&rig.b.take(VF0)[0]), packet(&want.build()));
            let back = Body::Tcp {
                src_port: 2,
                dst_port: 1,
                flags: SYN | ACK,
                seq: 1,
                ack: 2,
                mss: Some(9000),
            };
            let back = Side::B.pod_sends(0, Side::A.pod(0, v4), back);
            rig.b.deliver(VF0, &back.build());
            rig.settle();
            let got = rig.a.take(VF0);
            let at = if v4 { 20 + 20 + 2 } else { 40 + 20 + 2 };
            assert_eq!(packet(&got[0])[at..at + 2], mss.to_be_bytes());
        }
    }
}

#[test]
fn an_mss_that_fits_or_stays_on_the_node_is_left_alone() {
    let mut rig = Rig::new();
    let small = Side::A.pod_sends(0, Side::B.pod(0, V4), syn(SYN, 536));
    rig.a.deliver(VF0, &small.build());
    rig.settle();
    assert_eq!(packet(&rig.b.take(VF0)[0]), packet(&small.build()));
    let local = Side::A
        .pod_sends(0, Side::A.pod(1, V4), syn(SYN, 1460))
        .build();
    assert_eq!(packet(&rig.a.push_one(VF0, &local, VF1)), packet(&local));
}

#[test]
fn a_packet_too_big_for_the_tunnel_comes_back_as_the_size_that_passes() {
    for outer_v4 in [V4, V6] {
        for udp_encap in [false, true] {
            let how = Protection {
                outer_v4,
                udp_encap,
                ..Protection::default()
            };
            for v4 in [V4, V6] {
                let mut rig = Rig::protected_by(how);
                let (mtu, dst) = (inner_mtu(how), Side::B.pod(0, v4));
                let fits = udp_of_len(dst, mtu).build();
                rig.a.deliver(VF0, &fits);
                rig.settle();
                assert_eq!(packet(&rig.b.take(VF0)[0]), packet(&fits));
                assert!(rig.wire[0].len() <= 1514 && rig.wire[0].len() > 1510);
                rig.a.rebase();
                let long = udp_of_len(dst, mtu + 1);
                let error = rig.a.push_one(VF0, &long.build(), VF0);
                let m = meta(&error);
                assert_eq!(icmp::next_hop_mtu(&error, &m), Some(mtu as u32));
                assert_eq!((m.eth_src, m.eth_dst), (ROUTER_MAC, Side::A.vf_mac(0)));
                assert_eq!((m.src, m.dst), (Side::A.tunnel(v4), Side::A.pod(0, v4)));
                let quoted = embedded(&error, &m).unwrap();
                assert_eq!((quoted.dst, quoted.dst_port), (dst, 8));
                rig.a.expect_delta(&[
                    ("vf0.rx", 1),
                    ("vf0.drop.too-big", 1),
                    ("vf0.originated", 1),
                    ("vf0.tx", 1),
                    ("flow.hit", 1),
                ]);
            }
        }
    }
}

#[test]
fn a_packet_too_big_for_its_neighbour_comes_back_too() {
    for v4 in [V4, V6] {
        let mut plan = Plan::open(Side::A);
        plan.vf_mtu = 1400;
        let mut rig = Rig::with(plan, Plan::open(Side::B), Protection::default());
        let fits = udp_of_len(Side::A.pod(2, v4), 1400).build();
        assert_eq!(rig.a.push(VF0, &fits, VF2).len(), 1);
        let long = udp_of_len(Side::A.pod(2, v4), 1401).build();
        let error = rig.a.push_one(VF0, &long, VF0);
        assert_eq!(icmp::next_hop_mtu(&error, &meta(&error)), Some(1400));
    }
}

#[test]
fn the_host_is_told_too() {
    let mut rig = Rig::new();
    let payload = vec![0; 1470];
    let long = with_payload(Side::A.host_sends(Side::B.pod(0, V4), udp(1, 2)), payload);
    let error = rig.a.push_one(HOST, &long.build(), HOST);
    let mtu = inner_mtu(Protection::default()) as u32;
    assert_eq!(icmp::next_hop_mtu(&error, &meta(&error)), Some(mtu));
    assert_eq!(meta(&error).eth_dst, Side::A.host_mac());
}

#[test]
fn an_opened_packet_too_big_for_its_pod_is_never_quoted_on_the_wire_in_clear() {
    for v4 in [V4, V6] {
        let mut plan = Plan::open(Side::B);
        plan.vf_mtu = 1300;
        let mut rig = Rig::with(Plan::open(Side::A), plan, Protection::default());
        let long = udp_of_len(Side::B.pod(0, v4), 1301);
        rig.a.deliver(VF0, &long.build());
        rig.settle();
        assert!(!rig.seen_on_wire(MARKER));
        assert!(rig.wire.iter().all(|f| meta(f).protocol == 50), "ESP alone");
        rig.b.expect_delta(&[
            ("uplink.rx", 1),
            ("uplink.drop.too-big", 1),
            ("uplink.originated", 1),
            ("uplink.tx", 1),
            ("opened", 1),
            ("sealed", 1),
            ("flow.miss", 1),
            ("flows", 1),
        ]);
        // The sender hears of it through the tunnel, from the pod it can't reach.
        let errors = rig.a.take(VF0);
        assert_eq!(errors.len(), 1);
        let m = meta(&errors[0]);
        assert_eq!(icmp::next_hop_mtu(&errors[0], &m), Some(1300));
        assert_eq!((m.src, m.dst), (Side::B.pod(0, v4), Side::A.pod(0, v4)));
    }
}

#[test]
fn outside_is_told_from_the_uplinks_own_mac() {
    for v4 in [V4, V6] {
        let mut plan = Plan::open(Side::A);
        plan.vf_mtu = 1300;
        let mut rig = Rig::with(plan, Plan::open(Side::B), Protection::default());
        let long = Side::A.wire_sends(stranger(v4), Side::A.pod(0, v4), udp(1, 2));
        let long = with_payload(long, vec![1; 1300]);
        let error = rig.a.push_one(UPLINK, &long.build(), UPLINK);
        let m = meta(&error);
        assert_eq!((m.eth_src, m.eth_dst), (Side::A.uplink_mac(), GATEWAY_MAC));
        assert_eq!((m.src, m.dst), (Side::A.tunnel(v4), stranger(v4)));
        assert_eq!(icmp::next_hop_mtu(&error, &m), Some(1300));
    }
}

#[test]
fn errors_have_a_budget_and_drops_are_counted_all_the_same() {
    let mut rig = Rig::new();
    let long = udp_of_len(Side::B.pod(0, V4), 1480).build();
    for _ in 0..60 {
        rig.a.deliver(VF0, &long);
    }
    rig.a.drain();
    assert_eq!(rig.a.take(VF0).len(), 50);
    rig.a.expect_delta(&[
        ("vf0.rx", 60),
        ("vf0.drop.too-big", 60),
        ("vf0.originated", 50),
        ("vf0.tx", 50),
        ("flow.miss", 32),
        ("flow.hit", 28),
        ("flows", 1),
    ]);
    rig.advance(10 * Tick::MS);
    assert_eq!(rig.a.push(VF0, &long, VF0).len(), 1);
    assert_eq!(rig.a.push(VF0, &long, VF0).len(), 0);
}

#[test]
fn a_pod_that_draws_errors_takes_none_of_the_others() {
    let mut rig = Rig::new();
    let to = Side::B.pod(0, V4);
    let of = |pod| {
        let mut long = Side::A.pod_sends(pod, to, udp(7, 8));
        long.payload.resize(1480 - 28, 7);
        long.build()
    };
    for _ in 0..60 {
        rig.a.deliver(VF0, &of(0));
    }
    rig.a.drain();
    assert_eq!(rig.a.take(VF0).len(), 50);
    for _ in 0..50 {
        assert_eq!(rig.a.push(VF1, &of(1), VF1).len(), 1);
    }
    assert_eq!(rig.a.push(VF1, &of(1), VF1).len(), 0);
}

#[test]
fn an_error_is_not_answered_with_an_error() {
    let mut rig = Rig::new();
    let flow = Side::A.pod_sends(0, Side::B.pod(0, V4), udp(5, 6));
    rig.a.deliver(VF0, &flow.build());
    let answer = Side::B.pod_sends(0, Side::A.pod(0, V4), udp(6, 5));
    rig.settle();
    rig.a.rebase();
    let pod = (Side::A.vf_mac(0), Side::A.pod(0, V4));
    let mut long = error_about(&answer, 3, pod, (ROUTER_MAC, Side::B.pod(0, V4)));
    long.payload.resize(1470, 0);
    rig.a.drops(VF0, &long.build(), "too-big");
}
