//! A VF sends as its own pod or not at all.

use sluice_dataplane_core::addr::{Addr, Mac};
use sluice_dataplane_core::snapshot::ROUTER_MAC;
use sluice_dataplane_core::wire;
use sluice_dataplane_core::wire::build::FrameSpec;

use crate::rig::*;

const V4: bool = true;
const V6: bool = false;

fn pod_mac() -> Mac {
    Side::A.vf_mac(0)
}

fn pod(v4: bool) -> (Mac, Addr) {
    (pod_mac(), Side::A.pod(0, v4))
}

fn good(v4: bool) -> FrameSpec {
    Side::A.pod_sends(0, Side::A.pod(1, v4), udp(1000, 53))
}

/// The link-local address that a kernel makes of its MAC.
fn link_local(mac: Mac) -> Addr {
    let [a, b, c, d, e, f] = mac.0;
    Addr::v6([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ])
}

#[test]
fn a_pods_own_frame_reaches_its_neighbour_with_the_routers_mac() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let sent = good(v4);
        let got = rig.a.push_one(VF0, &sent.build(), VF1);
        let want = FrameSpec {
            eth_src: ROUTER_MAC,
            eth_dst: Side::A.vf_mac(1),
            ..sent
        };
        assert_eq!(got, want.build());
        rig.a.expect_delta(&[
            ("vf0.rx", 1),
            ("vf0.forwarded", 1),
            ("vf1.tx", 1),
            ("flow.miss", 1),
            ("flows", 1),
        ]);
    }
}

#[test]
fn another_source_mac_is_spoofed() {
    let mut rig = Rig::new();
    for mac in [
        Side::A.vf_mac(1),
        ROUTER_MAC,
        Side::A.host_mac(),
        Mac([0; 6]),
    ] {
        for v4 in [V4, V6] {
            let frame = FrameSpec {
                eth_src: mac,
                ..good(v4)
            };
            rig.a.drops(VF0, &frame.build(), "spoofed-mac");
        }
    }
}

#[test]
fn another_source_address_is_spoofed() {
    let mut rig = Rig::new();
    for v4 in [V4, V6] {
        for src in [
            Side::A.pod(1, v4),
            Side::B.pod(0, v4),
            Side::A.node(v4),
            Side::A.tunnel(v4),
            stranger(v4),
        ] {
            let frame = FrameSpec {
                src: src.into(),
                ..good(v4)
            };
            rig.a.drops(VF0, &frame.build(), "spoofed-ip");
        }
    }
}

#[test]
fn a_tag_on_an_untagged_vf_and_another_or_none_on_a_tagged_one_are_spoofed() {
    let mut rig = Rig::new();
    let tagged = FrameSpec {
        vlan: Some(7),
        ..good(V4)
    };
    rig.a.drops(VF0, &tagged.build(), "spoofed-vlan");
    for vlan in [None, Some(8), Some(0)] {
        let frame = FrameSpec {
            vlan,
            ..Side::A.pod_sends(2, Side::A.pod(0, V4), udp(1, 2))
        };
        rig.a.drops(VF2, &frame.build(), "spoofed-vlan");
    }
}

#[test]
fn a_priority_tag_counts_as_none() {
    let mut rig = Rig::new();
    let sent = FrameSpec {
        vlan: Some(0),
        ..good(V4)
    };
    let got = rig.a.push_one(VF0, &sent.build(), VF1);
    assert_eq!(packet(&got), packet(&sent.build()));
    assert_eq!(meta(&got).l3_off, 14, "the tag stays behind");
}

#[test]
fn a_tagged_vf_speaks_and_hears_with_its_tag_and_others_without() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let sent = Side::A.pod_sends(2, Side::A.pod(0, v4), udp(5, 6));
        let got = rig.a.push_one(VF2, &sent.build(), VF0);
        assert_eq!((meta(&got).vlan, packet(&got)), (0, packet(&sent.build())));
        let answer = Side::A.pod_sends(0, Side::A.pod(2, v4), udp(6, 5));
        let got = rig.a.push_one(VF0, &answer.build(), VF2);
        let want = FrameSpec {
            vlan: Some(VF2_VLAN),
            eth_src: ROUTER_MAC,
            eth_dst: Side::A.vf_mac(2),
            ..answer
        };
        assert_eq!(got, want.build());
    }
}

#[test]
fn a_question_on_a_tagged_vf_is_answered_with_the_tag() {
    let mut rig = Rig::new();
    let sender = (Side::A.vf_mac(2), Side::A.pod(2, V4));
    let mut question = who_has(sender, gateway(V4));
    question.splice(12..12, [0x81, 0, 0, 7]);
    let answer = rig.a.push_one(VF2, &question, VF2);
    let m = meta(&answer);
    assert_eq!((m.vlan, m.eth_src, m.eth_dst), (7, ROUTER_MAC, sender.0));
    let sender = (Side::A.vf_mac(2), Side::A.pod(2, V6));
    let mut question = solicit(sender, gateway(V6));
    question.splice(12..12, [0x81, 0, 0, 7]);
    let answer = rig.a.push_one(VF2, &question, VF2);
    let m = meta(&answer);
    assert_eq!((m.vlan, m.eth_src, m.eth_dst), (7, ROUTER_MAC, sender.0));
}

#[test]
fn other_ethertypes_are_dropped() {
    let mut rig = Rig::new();
    for ethertype in [0x88cc_u16, 0x8863, 0x0000, 0x8847] {
        let mut frame = good(V4).build();
        frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
        rig.a.drops(VF0, &frame, "ether-type");
    }
    let mut stacked = good(V4).build();
    stacked.splice(12..12, [0x88, 0xa8, 0, 7]);
    rig.a.drops(VF0, &stacked, "vlan-stacked");
}

#[test]
fn an_arp_question_of_the_pod_is_answered_with_the_routers_mac() {
    let mut rig = Rig::new();
    for target in [
        gateway(V4),
        Side::B.pod(0, V4),
        Side::A.pod(1, V4),
        stranger(V4),
    ] {
        let answer = rig.a.push_one(VF0, &who_has(pod(V4), target), VF0);
        let want = arp(2, [pod_mac(), ROUTER_MAC], (ROUTER_MAC, target), pod(V4));
        assert_eq!(answer, want);
        rig.a.expect_delta(&[
            ("vf0.rx", 1),
            ("vf0.consumed", 1),
            ("vf0.originated", 1),
            ("vf0.tx", 1),
        ]);
    }
}

#[test]
fn a_solicitation_of_the_pod_is_answered_with_the_routers_mac() {
    let mut rig = Rig::new();
    for sender in [pod(V6), (pod_mac(), link_local(pod_mac()))] {
        for target in [gateway(V6), Side::B.pod(0, V6), link_local(ROUTER_MAC)] {
            let answer = rig.a.push_one(VF0, &solicit(sender, target), VF0);
            let m = meta(&answer);
            let nd = wire::nd::Nd::read(&answer, &m).unwrap();
            assert_eq!((m.eth_src, m.eth_dst), (ROUTER_MAC, pod_mac()));
            assert_eq!((m.src, m.dst), (target, sender.1));
            assert_eq!((nd.target, nd.link_layer), (target, Some(ROUTER_MAC)));
            assert!(nd.solicited);
            rig.a.expect_delta(&[
                ("vf0.rx", 1),
                ("vf0.consumed", 1),
                ("vf0.originated", 1),
                ("vf0.tx", 1),
            ]);
        }
    }
}

#[test]
fn arp_in_anybody_elses_name_is_spoofed() {
    let mut rig = Rig::new();
    let other = (Side::A.vf_mac(1), Side::A.pod(1, V4));
    let eth = [Mac::BROADCAST, pod_mac()];
    for frame in [
        // The neighbour's address, the neighbour's MAC inside, or both.
        arp(1, eth, (pod_mac(), other.1), (Mac::default(), gateway(V4))),
        arp(1, eth, (other.0, pod(V4).1), (Mac::default(), gateway(V4))),
        arp(1, eth, other, (Mac::default(), gateway(V4))),
        // Claims of the gateway's and the neighbour's address, asked for and not.
        arp(2, eth, (pod_mac(), gateway(V4)), other),
        arp(2, [other.0, pod_mac()], (pod_mac(), other.1), other),
        arp(
            1,
            eth,
            (pod_mac(), gateway(V4)),
            (Mac::default(), gateway(V4)),
        ),
        // A claim that the pod's address is somewhere else.
        arp(2, eth, (other.0, pod(V4).1), other),
        // A probe for an address that isn't the pod's.
        who_has((pod_mac(), Addr::v4([0; 4])), other.1),
    ] {
        rig.a.drops(VF0, &frame, "spoofed-arp");
    }
    let foreign_mac = arp(
        1,
        [Mac::BROADCAST, other.0],
        other,
        (Mac::default(), gateway(V4)),
    );
    rig.a.drops(VF0, &foreign_mac, "spoofed-mac");
}

#[test]
fn neighbour_discovery_in_anybody_elses_name_is_spoofed() {
    let mut rig = Rig::new();
    let other = (Side::A.vf_mac(1), Side::A.pod(1, V6));
    let all = (
        Mac([0x33, 0x33, 0, 0, 0, 1]),
        "ff02::1".parse::<core::net::IpAddr>().unwrap().into(),
    );
    let gw = gateway(V6);
    for frame in [
        solicit((pod_mac(), other.1), gw),
        solicit((pod_mac(), link_local(other.0)), gw),
        // Its own address at somebody else's MAC, somebody else's at its own.
        advertise(pod(V6), all, pod(V6).1, other.0),
        advertise(pod(V6), all, other.1, pod_mac()),
        advertise(pod(V6), all, gw, pod_mac()),
        advertise((pod_mac(), other.1), all, other.1, pod_mac()),
        advertise((pod_mac(), other.1), all, pod(V6).1, pod_mac()),
        solicit((pod_mac(), Addr::UNSPECIFIED), other.1),
    ] {
        rig.a.drops(VF0, &frame, "spoofed-nd");
    }
    // The link-layer option names another MAC than the frame.
    let mut liar = solicit(pod(V6), gw);
    let at = liar.len() - 1;
    liar[at] ^= 1;
    liar[56..58].fill(0);
    let m = meta(&liar);
    let sum = wire::checksum::pseudo(m.src, m.dst, 58, 32).bytes(&liar[54..]);
    liar[56..58].copy_from_slice(&sum.checksum().to_be_bytes());
    rig.a.drops(VF0, &liar, "spoofed-nd");
}

#[test]
fn probes_and_announcements_of_the_pods_own_address_get_no_answer() {
    let mut rig = Rig::new();
    let own = pod(V4);
    let eth = [Mac::BROADCAST, own.0];
    for frame in [
        who_has((own.0, Addr::v4([0; 4])), own.1),
        who_has(own, own.1),
        arp(2, eth, own, (Mac::BROADCAST, own.1)),
        solicit((own.0, Addr::UNSPECIFIED), Side::A.pod(0, V6)),
        solicit((own.0, Addr::UNSPECIFIED), link_local(own.0)),
        advertise(
            pod(V6),
            (Mac([0x33, 0x33, 0, 0, 0, 1]), Addr(0xff02 << 112 | 1)),
            pod(V6).1,
            own.0,
        ),
    ] {
        rig.a.drops(VF0, &frame, "neighbor-probe");
    }
}

#[test]
fn router_advertisements_and_redirects_from_a_pod_are_spoofed() {
    let mut rig = Rig::new();
    let to = (Mac([0x33, 0x33, 0, 0, 0, 1]), Addr(0xff02 << 112 | 1));
    for src in [pod(V6), (pod_mac(), link_local(pod_mac()))] {
        for kind in [134, 137] {
            let mut message = vec![kind, 0, 0, 0];
            message.extend([0; 36]);
            rig.a.drops(VF0, &icmpv6(src, to, message), "spoofed-nd");
        }
    }
}

#[test]
fn a_dhcp_server_in_a_pod_is_silenced_and_a_client_is_multicast() {
    let mut rig = Rig::new();
    let server = FrameSpec {
        body: udp(67, 68),
        ..good(V4)
    };
    rig.a.drops(VF0, &server.build(), "dhcp-server");
    let server = FrameSpec {
        body: udp(547, 546),
        ..good(V6)
    };
    rig.a.drops(VF0, &server.build(), "dhcp-server");
    let client = FrameSpec {
        src: Addr::v4([0; 4]).into(),
        dst: Addr::v4([255; 4]).into(),
        eth_dst: Mac::BROADCAST,
        body: udp(68, 67),
        ..good(V4)
    };
    rig.a.drops(VF0, &client.build(), "multicast");
}

#[test]
fn multicast_and_broadcast_go_nowhere() {
    let mut rig = Rig::new();
    for dst in [[224, 0, 0, 251], [239, 1, 2, 3], [255, 255, 255, 255]] {
        let frame = FrameSpec {
            dst: Addr::v4(dst).into(),
            ..good(V4)
        };
        rig.a.drops(VF0, &frame.build(), "multicast");
    }
    let group_mac = FrameSpec {
        eth_dst: Mac::BROADCAST,
        ..good(V4)
    };
    rig.a.drops(VF0, &group_mac.build(), "multicast");
    let group = FrameSpec {
        dst: Addr(0xff02 << 112 | 0xfb).into(),
        ..good(V6)
    };
    rig.a.drops(VF0, &group.build(), "multicast");
    let solicit_router = icmpv6(
        (pod_mac(), link_local(pod_mac())),
        (Mac([0x33, 0x33, 0, 0, 0, 2]), Addr(0xff02 << 112 | 2)),
        vec![133, 0, 0, 0, 0, 0, 0, 0],
    );
    rig.a.drops(VF0, &solicit_router, "multicast");
}

#[test]
fn a_frame_past_the_router_to_another_mac_is_not_for_us() {
    let mut rig = Rig::new();
    for mac in [Side::A.vf_mac(1), Side::A.uplink_mac(), Side::A.host_mac()] {
        let frame = FrameSpec {
            eth_dst: mac,
            ..good(V4)
        };
        rig.a.drops(VF0, &frame.build(), "not-for-us");
    }
}

#[test]
fn a_vf_without_a_pod_sends_and_receives_nothing() {
    let mut plan = Plan::open(Side::A);
    plan.pods[0] = None;
    let mut rig = Rig::with(plan, Plan::open(Side::B), Protection::default());
    rig.a.drops(VF0, &good(V4).build(), "no-endpoint");
    rig.a
        .drops(VF0, &who_has(pod(V4), gateway(V4)), "no-endpoint");
    rig.a
        .drops(VF0, &solicit(pod(V6), gateway(V6)), "no-endpoint");
    // Its address is outside's now, for all this node knows.
    let to = Side::A.pod_sends(1, Side::A.pod(0, V4), udp(1, 2));
    assert!(rig.a.push(VF1, &to.build(), VF0).is_empty());
}

#[test]
fn before_the_first_snapshot_every_port_is_closed() {
    let mut node = Node::unpublished(Plan::open(Side::A));
    node.drops(VF0, &good(V4).build(), "no-endpoint");
    node.drops(
        HOST,
        &Side::A.host_sends(stranger(V4), udp(1, 2)).build(),
        "no-endpoint",
    );
    let in_clear = Side::A.wire_sends(stranger(V4), Side::A.pod(0, V4), udp(1, 2));
    node.drops(UPLINK, &in_clear.build(), "no-endpoint");
}
