//! The host port speaks for its node, never for a pod behind a VF.

use sluice_dataplane_core::addr::{Addr, Mac};
use sluice_dataplane_core::snapshot::ROUTER_MAC;
use sluice_dataplane_core::wire::build::FrameSpec;

use crate::rig::*;

const V4: bool = true;
const V6: bool = false;

fn host(v4: bool) -> (Mac, Addr) {
    (Side::A.host_mac(), Side::A.node(v4))
}

const ALL_NODES: (Mac, Addr) = (Mac([0x33, 0x33, 0, 0, 0, 1]), Addr(0xff02 << 112 | 1));

#[test]
fn a_pods_mac_on_the_host_port_is_spoofed() {
    let mut rig = Rig::new();
    for dst in [Side::A.pod(1, V4), stranger(V4), Side::B.pod(0, V6)] {
        let frame = FrameSpec {
            eth_src: Side::A.vf_mac(0),
            ..Side::A.host_sends(dst, udp(1, 2))
        };
        rig.a.drops(HOST, &frame.build(), "spoofed-mac");
    }
}

#[test]
fn a_pods_address_on_the_host_port_is_spoofed_whoever_it_is_sent_to() {
    let mut rig = Rig::new();
    for v4 in [V4, V6] {
        let group = if v4 {
            Addr::v4([224, 0, 0, 251])
        } else {
            Addr(0xff02 << 112 | 0xfb)
        };
        for dst in [
            Side::A.pod(1, v4),
            Side::B.pod(0, v4),
            stranger(v4),
            Side::B.node(v4),
            group,
        ] {
            let frame = FrameSpec {
                src: Side::A.pod(0, v4).into(),
                ..Side::A.host_sends(dst, udp(1, 2))
            };
            rig.a.drops(HOST, &frame.build(), "spoofed-ip");
        }
    }
}

#[test]
fn neighbour_discovery_with_a_pods_address_is_spoofed() {
    let mut rig = Rig::new();
    let as_pod = (Side::A.host_mac(), Side::A.pod(0, V6));
    for kind in [133, 134, 137, 143] {
        let mut message = vec![kind, 0, 0, 0];
        message.extend([0; 36]);
        rig.a
            .drops(HOST, &icmpv6(as_pod, ALL_NODES, message), "spoofed-ip");
    }
    rig.a
        .drops(HOST, &solicit(as_pod, gateway(V6)), "spoofed-nd");
    let claim = advertise(as_pod, ALL_NODES, Side::A.node(V6), Side::A.host_mac());
    rig.a.drops(HOST, &claim, "spoofed-nd");
    let claim = advertise(host(V6), ALL_NODES, as_pod.1, Side::A.host_mac());
    rig.a.drops(HOST, &claim, "spoofed-nd");
}

#[test]
fn arp_with_a_pods_address_is_spoofed() {
    let mut rig = Rig::new();
    let as_pod = (Side::A.host_mac(), Side::A.pod(0, V4));
    let eth = [Mac::BROADCAST, as_pod.0];
    for frame in [
        who_has(as_pod, gateway(V4)),
        who_has(as_pod, as_pod.1),
        arp(2, eth, as_pod, (Mac::BROADCAST, as_pod.1)),
        who_has((as_pod.0, Addr::v4([0; 4])), as_pod.1),
    ] {
        rig.a.drops(HOST, &frame, "spoofed-arp");
    }
}

#[test]
fn the_host_finds_every_pod_at_the_router() {
    let mut rig = Rig::new();
    for pod in [Side::A.pod(0, V4), Side::B.pod(1, V4), c_pod(V4)] {
        let answer = rig.a.push_one(HOST, &who_has(host(V4), pod), HOST);
        let want = arp(2, [host(V4).0, ROUTER_MAC], (ROUTER_MAC, pod), host(V4));
        assert_eq!(answer, want);
        rig.a.expect_delta(&[
            ("host.rx", 1),
            ("host.consumed", 1),
            ("host.originated", 1),
            ("host.tx", 1),
        ]);
    }
    for pod in [Side::A.pod(0, V6), Side::B.pod(1, V6)] {
        let answer = rig.a.push_one(HOST, &solicit(host(V6), pod), HOST);
        assert_eq!(meta(&answer).eth_src, ROUTER_MAC);
    }
}

#[test]
fn the_host_and_a_pod_of_its_node_talk() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let there = Side::A.host_sends(Side::A.pod(0, v4), tcp(40_000, 8080, SYN));
        let got = rig.a.push_one(HOST, &there.build(), VF0);
        assert_eq!(packet(&got), packet(&there.build()));
        let back = Side::A.pod_sends(0, Side::A.node(v4), tcp(8080, 40_000, SYN | ACK));
        let got = rig.a.push_one(VF0, &back.build(), HOST);
        let want = FrameSpec {
            eth_src: ROUTER_MAC,
            eth_dst: Side::A.host_mac(),
            ..back
        };
        assert_eq!(got, want.build());
        rig.a.expect_delta(&[
            ("host.rx", 1),
            ("host.forwarded", 1),
            ("host.tx", 1),
            ("vf0.rx", 1),
            ("vf0.forwarded", 1),
            ("vf0.tx", 1),
            ("flow.miss", 1),
            ("flow.hit", 1),
            ("flows", 1),
        ]);
    }
}

#[test]
fn the_host_speaks_to_a_pod_in_nobody_elses_name() {
    let mut rig = Rig::new();
    for v4 in [V4, V6] {
        for src in [
            Side::B.pod(0, v4),
            Side::B.node(v4),
            stranger(v4),
            c_pod(v4),
        ] {
            let frame = FrameSpec {
                src: src.into(),
                ..Side::A.host_sends(Side::A.pod(0, v4), udp(1, 2))
            };
            rig.a.deliver(HOST, &frame.build());
            rig.a.poll();
            rig.a.expect_delta(&[
                ("host.rx", 1),
                ("host.drop.wrong-path", 1),
                ("flow.miss", 1),
            ]);
        }
    }
}

/// Frames that are no business of the dataplane's, in either direction.
fn other_business(from: Side) -> Vec<Vec<u8>> {
    let to = from.other();
    let src = |v4| (from.host_mac(), from.node(v4));
    let mut frames = Vec::new();
    for v4 in [V4, V6] {
        let dst = (to.host_mac(), to.node(v4));
        frames.push(spec(src(v4), dst, tcp(1, 22, SYN)).build());
        let tagged = FrameSpec {
            vlan: Some(99),
            ..spec(src(v4), dst, udp(1, 2))
        };
        frames.push(tagged.build());
        let group = if v4 {
            Addr::v4([224, 0, 0, 251])
        } else {
            Addr(0xff02 << 112 | 0xfb)
        };
        frames.push(spec(src(v4), (Mac::BROADCAST, group), udp(5353, 5353)).build());
        frames.push(
            spec(
                src(v4),
                dst,
                sluice_dataplane_core::wire::build::Body::Other { protocol: 89 },
            )
            .build(),
        );
    }
    frames.push(fragmented(
        spec(src(V4), (to.host_mac(), to.node(V4)), udp(1, 2)).build(),
        64,
        false,
    ));
    frames.push(who_has(src(V4), to.node(V4)));
    frames.push(solicit(src(V6), to.node(V6)));
    frames.push(arp(
        2,
        [to.host_mac(), from.host_mac()],
        src(V4),
        (to.host_mac(), to.node(V4)),
    ));
    frames.push(advertise(
        src(V6),
        ALL_NODES,
        from.node(V6),
        from.host_mac(),
    ));
    let mut advert = vec![134, 0, 0, 0];
    advert.extend([0; 12]);
    frames.push(icmpv6(
        (from.host_mac(), Addr(0xfe80 << 112 | 1)),
        ALL_NODES,
        advert,
    ));
    let mut lldp = [[1, 0x80, 0xc2, 0, 0, 0x0e], from.host_mac().0].concat();
    lldp.extend([0x88, 0xcc, 1, 2, 3]);
    frames.push(lldp);
    for frame in &mut frames {
        // Ethernet padding is part of what stays as it is.
        let len = frame.len().max(60) + 3;
        frame.resize(len, 0xa5);
    }
    frames
}

#[test]
fn what_is_for_this_machine_leaves_it_by_no_wire() {
    let mut rig = Rig::new();
    for v4 in [V4, V6] {
        // As a kernel sends on what it was handed and doesn't know whose it is.
        for src in [Side::A.node(v4), Side::B.pod(0, v4), stranger(v4)] {
            for dst in [Side::A.ordinary_pod(v4), Side::A.node(v4)] {
                let frame = FrameSpec {
                    src: src.into(),
                    ..Side::A.host_sends(dst, udp(1, 2))
                };
                rig.a.drops(HOST, &frame.build(), "no-route");
            }
        }
    }
}

#[test]
fn what_is_between_host_and_wire_passes_byte_for_byte() {
    let mut rig = Rig::new();
    for frame in other_business(Side::A) {
        let got = rig.a.push_one(HOST, &frame, UPLINK);
        assert_eq!(got, frame);
        rig.a
            .expect_delta(&[("host.rx", 1), ("host.forwarded", 1), ("uplink.tx", 1)]);
    }
    for frame in other_business(Side::B) {
        let got = rig.a.push_one(UPLINK, &frame, HOST);
        assert_eq!(got, frame);
        rig.a
            .expect_delta(&[("uplink.rx", 1), ("uplink.forwarded", 1), ("host.tx", 1)]);
    }
}
