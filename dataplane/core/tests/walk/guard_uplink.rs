//! From the wire comes ESP for us, and plaintext for pods only from outside the cluster.

use sluice_dataplane_core::addr::{Addr, Mac};
use sluice_dataplane_core::wire;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};

use crate::rig::*;

const V4: bool = true;
const V6: bool = false;

fn peer(v4: bool) -> (Mac, Addr) {
    (Side::B.uplink_mac(), Side::B.tunnel(v4))
}

#[test]
fn plaintext_between_pods_and_nodes_of_the_cluster_is_refused() {
    let mut rig = Rig::new();
    for v4 in [V4, V6] {
        let pod = Side::A.pod(0, v4);
        for src in [
            Side::B.pod(0, v4),
            c_pod(v4),
            Side::B.node(v4),
            Side::A.node(v4),
        ] {
            let frame = Side::A.wire_sends(src, pod, udp(1, 2));
            rig.a.drops(UPLINK, &frame.build(), "plaintext");
        }
        // A remote pod's never comes in clear, whoever it is for.
        for dst in [Side::A.node(v4), stranger(v4)] {
            let frame = Side::A.wire_sends(Side::B.pod(0, v4), dst, udp(1, 2));
            rig.a.drops(UPLINK, &frame.build(), "plaintext");
        }
    }
}

#[test]
fn this_nodes_own_addresses_do_not_come_from_the_wire() {
    let mut rig = Rig::new();
    for v4 in [V4, V6] {
        let group = if v4 {
            Addr::v4([224, 0, 0, 251])
        } else {
            Addr(0xff02 << 112 | 0xfb)
        };
        for src in [Side::A.pod(1, v4), Side::A.tunnel(v4)] {
            for dst in [Side::A.pod(0, v4), Side::A.node(v4), stranger(v4), group] {
                let frame = Side::A.wire_sends(src, dst, udp(1, 2));
                rig.a.drops(UPLINK, &frame.build(), "spoofed-ip");
            }
        }
    }
    let as_pod = (GATEWAY_MAC, Side::A.pod(1, V6));
    for kind in [133, 134, 137, 143] {
        let mut message = vec![kind, 0, 0, 0];
        message.extend([0; 36]);
        let frame = icmpv6(as_pod, (Side::A.uplink_mac(), Side::A.node(V6)), message);
        rig.a.drops(UPLINK, &frame, "spoofed-ip");
    }
}

#[test]
fn a_source_that_no_wire_carries_does_not_reach_a_pod() {
    let mut rig = Rig::new();
    let v4 = [
        [0, 0, 0, 0],
        [0, 0, 0, 9],
        [127, 0, 0, 1],
        [255, 255, 255, 255],
    ];
    let v6 = [0, 1].map(Addr);
    for src in v4.map(Addr::v4).into_iter().chain(v6) {
        let pod = Side::A.pod(0, src.is_v4());
        let frame = Side::A.wire_sends(src, pod, udp(1, 2));
        rig.a.drops(UPLINK, &frame.build(), "spoofed-ip");
    }
}

#[test]
fn outside_reaches_a_pod_where_policy_lets_it() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let sent = Side::A.wire_sends(stranger(v4), Side::A.pod(0, v4), tcp(1, 443, SYN));
        let got = rig.a.push_one(UPLINK, &sent.build(), VF0);
        assert_eq!(packet(&got), packet(&sent.build()));
        rig.a.expect_delta(&[
            ("uplink.rx", 1),
            ("uplink.forwarded", 1),
            ("vf0.tx", 1),
            ("flow.miss", 1),
            ("flows", 1),
        ]);
        let back = Side::A.pod_sends(0, stranger(v4), tcp(443, 1, SYN | ACK));
        let got = rig.a.push_one(VF0, &back.build(), UPLINK);
        let want = FrameSpec {
            eth_src: Side::A.uplink_mac(),
            eth_dst: station_mac(gateway(v4)).unwrap(),
            ..back
        };
        assert_eq!(got, want.build());
    }
    let mut rig = Rig::judging(Policy::CLOSED, Policy::OPEN);
    let sent = Side::A.wire_sends(stranger(V4), Side::A.pod(0, V4), tcp(1, 443, SYN));
    rig.a.deliver(UPLINK, &sent.build());
    rig.a.poll();
    rig.a.expect_delta(&[
        ("uplink.rx", 1),
        ("uplink.drop.policy-ingress", 1),
        ("flow.miss", 1),
    ]);
}

#[test]
fn a_frame_for_a_pod_at_another_mac_is_not_for_us() {
    let mut rig = Rig::new();
    for eth_dst in [Side::A.host_mac(), Side::B.uplink_mac(), Mac::BROADCAST] {
        let frame = FrameSpec {
            eth_dst,
            ..Side::A.wire_sends(stranger(V4), Side::A.pod(0, V4), udp(1, 2))
        };
        rig.a.drops(UPLINK, &frame.build(), "not-for-us");
    }
    let remote = Side::A.wire_sends(stranger(V4), Side::B.pod(0, V4), udp(1, 2));
    rig.a.drops(UPLINK, &remote.build(), "not-for-us");
}

#[test]
fn esp_at_another_mac_is_not_for_us_and_not_opened() {
    let mut rig = Rig::new();
    let inner = Side::B.pod_sends(0, Side::A.pod(0, V4), udp(1, 2)).build();
    let good = Forger::new(Side::B, Protection::default(), 1).seal(packet(&inner), 4);
    for mac in [Side::A.host_mac(), Mac::BROADCAST, Side::B.uplink_mac()] {
        let mut frame = good.clone();
        frame[..6].copy_from_slice(&mac.0);
        rig.a.drops(UPLINK, &frame, "not-for-us");
    }
    assert_eq!(
        rig.a.push(UPLINK, &good, VF0).len(),
        1,
        "its number was not spent"
    );
}

#[test]
fn fragments_of_esp_are_dropped_as_fragments() {
    let mut rig = Rig::new();
    let inner = Side::B.pod_sends(0, Side::A.pod(0, V4), udp(1, 2)).build();
    for udp_encap in [false, true] {
        let how = Protection {
            udp_encap,
            ..Protection::default()
        };
        let mut good = Forger::new(Side::B, how, 1).seal(packet(&inner), 4);
        // A first fragment's data is a multiple of eight.
        let len = good.len() - (good.len() - 34) % 8;
        good.truncate(len);
        good[16..18].copy_from_slice(&(len as u16 - 14).to_be_bytes());
        good[24..26].fill(0);
        let sum = wire::checksum::of(&good[14..34]);
        good[24..26].copy_from_slice(&sum.to_be_bytes());
        rig.a
            .drops(UPLINK, &fragmented(good.clone(), 0, true), "fragment");
        rig.a.drops(UPLINK, &fragmented(good, 3, false), "fragment");
    }
}

#[test]
fn our_own_address_speaks_nothing_but_esp() {
    let mut rig = Rig::new();
    for v4 in [V4, V6] {
        let to_us = |body| {
            Side::A
                .wire_sends(stranger(v4), Side::A.tunnel(v4), body)
                .build()
        };
        for body in [
            echo(1, false),
            tcp(1, 22, SYN),
            udp(1, 4499),
            Body::Other { protocol: 51 },
        ] {
            rig.a.drops(UPLINK, &to_us(body), "not-for-us");
        }
        let keepalive = with_payload(
            Side::A.wire_sends(stranger(v4), Side::A.tunnel(v4), udp(4500, 4500)),
            vec![0xff],
        );
        rig.a.drops(UPLINK, &keepalive.build(), "not-for-us");
        let ike = FrameSpec {
            payload: vec![0; 40],
            ..keepalive
        };
        rig.a.drops(UPLINK, &ike.build(), "not-for-us");
    }
}

#[test]
fn the_wire_finds_our_address_and_our_pods_at_the_uplinks_mac() {
    let mut rig = Rig::new();
    let uplink = Side::A.uplink_mac();
    for target in [Side::A.tunnel(V4), Side::A.pod(0, V4), Side::A.pod(2, V4)] {
        let answer = rig.a.push_one(UPLINK, &who_has(peer(V4), target), UPLINK);
        let want = arp(2, [peer(V4).0, uplink], (uplink, target), peer(V4));
        assert_eq!(answer, want);
        rig.a.expect_delta(&[
            ("uplink.rx", 1),
            ("uplink.consumed", 1),
            ("uplink.originated", 1),
            ("uplink.tx", 1),
        ]);
    }
    for target in [Side::A.tunnel(V6), Side::A.pod(0, V6)] {
        let answer = rig.a.push_one(UPLINK, &solicit(peer(V6), target), UPLINK);
        let nd = wire::nd::Nd::read(&answer, &meta(&answer)).unwrap();
        assert_eq!((nd.target, nd.link_layer), (target, Some(uplink)));
    }
    rig.a.rebase();
    for target in [Side::B.pod(0, V4), Side::A.node(V4), on_link(1)] {
        let question = who_has(peer(V4), target);
        assert_eq!(rig.a.push_one(UPLINK, &question, HOST), question);
        rig.a
            .expect_delta(&[("uplink.rx", 1), ("uplink.forwarded", 1), ("host.tx", 1)]);
    }
}

#[test]
fn probes_for_our_addresses_get_no_answer() {
    let mut rig = Rig::new();
    let nobody = (peer(V4).0, Addr::v4([0; 4]));
    rig.a.drops(
        UPLINK,
        &who_has(nobody, Side::A.tunnel(V4)),
        "neighbor-probe",
    );
    rig.a.drops(
        UPLINK,
        &who_has(nobody, Side::A.pod(0, V4)),
        "neighbor-probe",
    );
    let nobody = (peer(V6).0, Addr::UNSPECIFIED);
    rig.a.drops(
        UPLINK,
        &solicit(nobody, Side::A.pod(0, V6)),
        "neighbor-probe",
    );
}

#[test]
fn questions_in_our_own_name_are_spoofed() {
    let mut rig = Rig::new();
    for own in [Side::A.tunnel(V4), Side::A.pod(0, V4)] {
        let frame = who_has((GATEWAY_MAC, own), gateway(V4));
        rig.a.drops(UPLINK, &frame, "spoofed-arp");
    }
    for own in [Side::A.tunnel(V6), Side::A.pod(0, V6)] {
        let frame = solicit((GATEWAY_MAC, own), gateway(V6));
        rig.a.drops(UPLINK, &frame, "spoofed-nd");
    }
}

#[test]
fn an_answer_nobody_asked_for_is_taken_in_and_not_believed() {
    let mut rig = Rig::new();
    let liar = (Mac([2, 6, 6, 6, 6, 6]), on_link(1));
    let to_us = [Side::A.uplink_mac(), liar.0];
    rig.a.deliver(
        UPLINK,
        &arp(2, to_us, liar, (Side::A.uplink_mac(), Side::A.tunnel(V4))),
    );
    rig.a.poll();
    rig.a
        .expect_delta(&[("uplink.rx", 1), ("uplink.consumed", 1)]);
    let sent = Side::A.pod_sends(0, on_link(1), udp(1, 2));
    rig.a.deliver(VF0, &sent.build());
    rig.a.poll();
    rig.a.expect_delta(&[
        ("vf0.rx", 1),
        ("vf0.waiting", 1),
        ("flow.miss", 1),
        ("flows", 1),
        ("uplink.originated", 1),
        ("uplink.tx", 1),
    ]);
}
