//! The settings of both ends: sealed, in clear, or never, and each of them only as both let it.

use sluice_dataplane_core::addr::{Addr, Mac};
use sluice_dataplane_core::clear::ClearSum;
use sluice_dataplane_core::command::{ClearPage, Command, Reply};
use sluice_dataplane_core::route::Attach;
use sluice_dataplane_core::snapshot::Encryption::{self, Off, Preferred, Required};
use sluice_dataplane_core::snapshot::ROUTER_MAC;
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::wire::build::fragments;

use crate::rig::*;

const ALL: [Encryption; 3] = [Off, Preferred, Required];
const V4: bool = true;
const V6: bool = false;

/// What A's and B's first pods want, as a node is told of both.
fn plan(side: Side, a: Encryption, b: Encryption) -> Plan {
    let mut plan = Plan::open(side);
    set(&mut plan, a, b);
    plan
}

fn set(plan: &mut Plan, a: Encryption, b: Encryption) {
    for v4 in [V4, V6] {
        plan.set_encryption(&[Side::A.pod(0, v4)], a);
        plan.set_encryption(&[Side::B.pod(0, v4)], b);
    }
    plan.touch(0);
}

fn rig(a: Encryption, b: Encryption) -> Rig {
    let (a, b) = (plan(Side::A, a, b), plan(Side::B, a, b));
    Rig::with(a, b, Protection::default())
}

fn rig_without_sas(a: Encryption, b: Encryption) -> Rig {
    Rig::without_sas(plan(Side::A, a, b), plan(Side::B, a, b))
}

/// A packet from A's first pod to B's, as A's dataplane would put it on the wire in clear.
fn in_clear(v4: bool) -> Vec<u8> {
    let src = (Side::A.uplink_mac(), Side::A.pod(0, v4));
    let dst = (Side::B.uplink_mac(), Side::B.pod(0, v4));
    spec(src, dst, udp(7, 8)).build()
}

#[test]
fn only_what_both_ends_turn_off_goes_in_clear_and_is_let_in() {
    for (a, b) in ALL.into_iter().flat_map(|a| ALL.map(|b| (a, b))) {
        for v4 in [V4, V6] {
            let mut rig = rig(a, b);
            let is_clear = (a, b) == (Off, Off);
            let there = Side::A.pod_sends(0, Side::B.pod(0, v4), udp(1, 2)).build();
            rig.a.deliver(VF0, &there);
            rig.settle();
            assert_eq!(packet(&rig.b.take(VF0)[0]), packet(&there), "{a:?} {b:?}");
            let back = Side::B.pod_sends(0, Side::A.pod(0, v4), udp(2, 1)).build();
            rig.b.deliver(VF0, &back);
            rig.settle();
            assert_eq!(packet(&rig.a.take(VF0)[0]), packet(&back), "{a:?} {b:?}");
            assert_eq!(rig.seen_on_wire(MARKER), is_clear, "{a:?} {b:?}");
            let way = |clear: &'static str, sealed: &'static str| {
                (if is_clear { clear } else { sealed }, 1)
            };
            rig.a.expect_delta(&[
                ("vf0.rx", 1),
                ("vf0.forwarded", 1),
                ("vf0.tx", 1),
                ("uplink.rx", 1),
                ("uplink.forwarded", 1),
                ("uplink.tx", 1),
                way("clear.sent", "sealed"),
                way("clear.received", "opened"),
                ("flow.miss", 1),
                ("flow.hit", 1),
                ("flows", 1),
            ]);
            // And nobody who says that he is A's pod gets in otherwise.
            rig.b.rebase();
            if is_clear {
                rig.b.push_one(UPLINK, &in_clear(v4), VF0);
            } else {
                rig.b.drops(UPLINK, &in_clear(v4), "plaintext");
            }
        }
    }
}

#[test]
fn that_there_is_no_sa_lets_nothing_out_in_clear() {
    for (a, b) in ALL.into_iter().flat_map(|a| ALL.map(|b| (a, b))) {
        for v4 in [V4, V6] {
            let mut rig = rig_without_sas(a, b);
            let there = Side::A.pod_sends(0, Side::B.pod(0, v4), udp(1, 2)).build();
            rig.a.deliver(VF0, &there);
            rig.settle();
            let dropped = rig.a.last_drop(VF0);
            if (a, b) == (Off, Off) {
                assert_eq!((dropped.as_str(), rig.b.take(VF0).len()), ("none", 1));
            } else {
                assert_eq!(dropped, "no-sa", "{a:?} {b:?}");
                assert!(rig.wire.is_empty(), "{a:?} {b:?}");
            }
        }
    }
}

#[test]
fn one_pods_setting_is_not_its_neighbours() {
    let mut rig = rig(Off, Off);
    for v4 in [V4, V6] {
        for (from, to) in [(1, 0), (0, 1), (1, 1)] {
            let there = Side::A.pod_sends(from, Side::B.pod(to, v4), udp(1, 2));
            rig.a.deliver(Side::vf_port(from), &there.build());
            rig.settle();
            assert_eq!(rig.b.take(Side::vf_port(to)).len(), 1);
        }
    }
    assert!(!rig.seen_on_wire(MARKER));
}

#[test]
fn an_established_flow_is_sealed_with_the_next_packet_after_its_setting() {
    for v4 in [V4, V6] {
        let mut rig = rig(Off, Off);
        let syn = Side::A.pod_sends(0, Side::B.pod(0, v4), tcp(9, 80, SYN));
        rig.a.deliver(VF0, &syn.build());
        rig.settle();
        let answer = Side::B.pod_sends(0, Side::A.pod(0, v4), tcp(80, 9, SYN | ACK));
        rig.b.deliver(VF0, &answer.build());
        rig.settle();
        assert_eq!((rig.b.take(VF0).len(), rig.a.take(VF0).len()), (1, 1));
        assert!(rig.seen_on_wire(MARKER));
        rig.wire.clear();

        // A hears of it first: it seals, and B takes that where it would take plaintext.
        rig.a.replan(|plan| set(plan, Required, Off));
        rig.a.rebase();
        let ack = Side::A
            .pod_sends(0, Side::B.pod(0, v4), tcp(9, 80, ACK))
            .build();
        rig.a.deliver(VF0, &ack);
        rig.settle();
        assert_eq!(packet(&rig.b.take(VF0)[0]), packet(&ack));
        assert!(!rig.seen_on_wire(MARKER));
        rig.a.expect_delta(&[
            ("vf0.rx", 1),
            ("vf0.forwarded", 1),
            ("uplink.tx", 1),
            ("sealed", 1),
            ("flow.stale", 1),
        ]);
        // What B still says in clear, A no longer takes.
        let back = Side::B
            .pod_sends(0, Side::A.pod(0, v4), tcp(80, 9, ACK))
            .build();
        rig.b.deliver(VF0, &back);
        rig.settle();
        assert_eq!(rig.a.last_drop(UPLINK), "plaintext");
        assert!(rig.a.take(VF0).is_empty());
        rig.wire.clear();

        rig.b.replan(|plan| set(plan, Required, Off));
        rig.b.deliver(VF0, &back);
        rig.settle();
        assert_eq!(packet(&rig.a.take(VF0)[0]), packet(&back));
        assert!(!rig.seen_on_wire(MARKER));
        // The flow is the one that it was.
        assert_eq!(rig.a.counted().flows.read(), 1);
    }
}

#[test]
fn a_flow_that_is_turned_off_goes_on_in_clear() {
    let mut rig = rig(Required, Off);
    let there = Side::A.pod_sends(0, Side::B.pod(0, V4), udp(1, 2)).build();
    rig.a.deliver(VF0, &there);
    rig.settle();
    assert!(!rig.seen_on_wire(MARKER));
    for node in [&mut rig.a, &mut rig.b] {
        node.replan(|plan| set(plan, Off, Off));
    }
    rig.a.deliver(VF0, &there);
    rig.settle();
    assert_eq!(rig.b.take(VF0).len(), 2);
    assert!(rig.seen_on_wire(MARKER));
}

#[test]
fn in_clear_only_from_the_nodes_own_mac_and_to_ours() {
    for v4 in [V4, V6] {
        let mut rig = rig(Off, Off);
        let from = |mac: Mac, to: Mac, src: Addr| {
            spec((mac, src), (to, Side::B.pod(0, v4)), udp(7, 8)).build()
        };
        let (own, ours) = (Side::A.uplink_mac(), Side::B.uplink_mac());
        let pod = Side::A.pod(0, v4);
        rig.b
            .drops(UPLINK, &from(GATEWAY_MAC, ours, pod), "spoofed-mac");
        rig.b
            .drops(UPLINK, &from(own, Side::B.host_mac(), pod), "plaintext");
        rig.b
            .drops(UPLINK, &from(own, ours, Side::A.pod(1, v4)), "plaintext");
        rig.b
            .drops(UPLINK, &from(own, ours, c_pod(v4)), "plaintext");
        rig.b
            .drops(UPLINK, &from(own, ours, Side::B.pod(1, v4)), "spoofed-ip");
    }
}

#[test]
fn a_node_that_says_nothing_of_its_mac_is_not_believed() {
    // Nobody has answered yet.
    let mut node = Node::new(plan(Side::B, Off, Off));
    node.deliver(UPLINK, &in_clear(V4));
    node.poll();
    assert_eq!(node.last_drop(UPLINK), "spoofed-mac");
    assert!(node.take(VF0).is_empty());
}

#[test]
fn fragments_of_what_goes_in_clear_go_in_clear() {
    for v4 in [V4, V6] {
        let mut rig = rig(Off, Off);
        let whole = Side::A.pod_sends(0, Side::B.pod(0, v4), udp(1, 2));
        let whole = with_payload(whole, [MARKER, &[5; 2000]].concat());
        for piece in fragments(&whole.build(), 77, 1000) {
            rig.a.deliver(VF0, &piece);
        }
        rig.settle();
        assert!(rig.b.take(VF0).len() > 1);
        assert_eq!(rig.a.counted().sealed.read(), 0);
        assert_eq!(rig.a.last_drop(VF0), "none");
        assert_eq!(rig.b.last_drop(UPLINK), "none");
    }
}

#[test]
fn what_is_too_long_in_clear_is_told_in_clear() {
    let mut rig = rig(Off, Off);
    let there = Side::A.pod_sends(0, Side::B.pod(0, V4), udp(1, 2));
    rig.a.deliver(VF0, &there.build());
    rig.settle();
    rig.b.take(VF0);
    rig.b.replan(|plan| {
        plan.vf_mtu = 1280;
        plan.touch(0);
    });
    let long = with_payload(there, vec![5; 1400]);
    rig.a.deliver(VF0, &long.build());
    rig.settle();
    let told = rig.a.take(VF0);
    assert!(told.len() == 1 && meta(&told[0]).icmp_error);
    assert_eq!(rig.b.last_drop(UPLINK), "too-big");
}

#[test]
fn routers_speak_of_what_goes_in_clear_and_not_of_what_is_sealed() {
    for (setting, reason) in [(Off, "none"), (Required, "wrong-path")] {
        let mut rig = rig(setting, setting);
        let there = Side::A.pod_sends(0, Side::B.pod(0, V4), udp(1, 2));
        rig.a.deliver(VF0, &there.build());
        rig.settle();
        let router = (GATEWAY_MAC, gateway(V4));
        let ours = (Side::A.uplink_mac(), Side::A.pod(0, V4));
        rig.a
            .deliver(UPLINK, &error_about(&there, 3, router, ours).build());
        rig.a.poll();
        assert_eq!(rig.a.last_drop(UPLINK), reason);
    }
}

/// A with C as a node without a dataplane, of whose pod and A's these are the settings.
fn with_unprotected(a: Encryption, c: Encryption) -> Rig {
    let mut plan_a = Plan::open(Side::A);
    plan_a.unprotected_c = true;
    for v4 in [V4, V6] {
        plan_a.set_encryption(&[Side::A.pod(0, v4)], a);
        plan_a.set_encryption(&[c_pod(v4)], c);
    }
    Rig::with(plan_a, Plan::open(Side::B), Protection::default())
}

#[test]
fn a_node_without_a_dataplane_is_spoken_to_in_clear_unless_an_end_requires_more() {
    for (a, c) in ALL.into_iter().flat_map(|a| ALL.map(|c| (a, c))) {
        for v4 in [V4, V6] {
            let mut rig = with_unprotected(a, c);
            let required = a == Required || c == Required;
            let there = Side::A.pod_sends(0, c_pod(v4), udp(1, 2)).build();
            // The first waits for its next hop.
            rig.a.deliver(VF0, &there);
            rig.settle();
            let back = Side::A.wire_sends(c_pod(v4), Side::A.pod(0, v4), udp(2, 1));
            if required {
                assert_eq!(rig.a.last_drop(VF0), "unprotected", "{a:?} {c:?}");
                assert!(rig.wire.is_empty());
                rig.a.rebase();
                rig.a.drops(UPLINK, &back.build(), "plaintext");
            } else {
                assert_eq!(packet(&rig.outside[0]), packet(&there), "{a:?} {c:?}");
                let got = rig.a.push_one(UPLINK, &back.build(), VF0);
                assert_eq!(packet(&got), packet(&back.build()));
            }
        }
    }
}

#[test]
fn a_node_without_a_dataplane_reaches_the_host_by_the_hosts_own_mac_too() {
    for setting in ALL {
        let mut rig = with_unprotected(Required, setting);
        rig.a
            .replan(|plan| plan.set_encryption(&[Side::A.node(V4)], setting));
        for mac in [Side::A.host_mac(), Side::A.uplink_mac()] {
            let src = (C_MAC, c_pod(V4));
            let frame = spec(src, (mac, Side::A.node(V4)), tcp(1, 2, SYN)).build();
            rig.a.rebase();
            if setting == Required {
                rig.a.drops(UPLINK, &frame, "plaintext");
            } else {
                assert_eq!(
                    packet(&rig.a.push_one(UPLINK, &frame, HOST)),
                    packet(&frame)
                );
            }
        }
        let elsewhere = (GATEWAY_MAC, Side::A.node(V4));
        let frame = spec((C_MAC, c_pod(V4)), elsewhere, tcp(1, 2, SYN)).build();
        rig.a.rebase();
        rig.a.drops(UPLINK, &frame, "plaintext");
    }
}

#[test]
fn that_it_would_be_dropped_is_said_after_policy() {
    let mut rig = with_unprotected(Required, Off);
    rig.a.replan(|plan| plan.repolicy(0, Policy::CLOSED));
    let there = Side::A.pod_sends(0, c_pod(V4), udp(1, 2)).build();
    rig.a.deliver(VF0, &there);
    rig.a.poll();
    assert_eq!(rig.a.last_drop(VF0), "policy-egress");
}

#[test]
fn a_node_that_gets_a_dataplane_is_sealed_to_or_nothing_passes() {
    let mut rig = with_unprotected(Preferred, Preferred);
    let there = Side::A.pod_sends(0, c_pod(V4), udp(1, 2)).build();
    rig.a.deliver(VF0, &there);
    rig.settle();
    assert_eq!(rig.outside.len(), 1);
    rig.a.replan(|plan| {
        plan.unprotected_c = false;
        plan.touch(0);
    });
    rig.a.deliver(VF0, &there);
    rig.settle();
    assert_eq!(rig.a.last_drop(VF0), "no-sa");
    assert_eq!(rig.outside.len(), 1);
}

#[test]
fn a_host_and_ordinary_pods_go_by_the_same_settings() {
    for (node, pod) in ALL.into_iter().flat_map(|a| ALL.map(|b| (a, b))) {
        for v4 in [V4, V6] {
            let (mut a, mut b) = (Plan::open(Side::A), Plan::open(Side::B));
            for plan in [&mut a, &mut b] {
                plan.set_encryption(&[Side::A.node(v4)], node);
                plan.set_encryption(&[Side::B.pod(0, v4)], pod);
            }
            let mut rig = Rig::with(a, b, Protection::default());
            let there = Side::A.host_sends(Side::B.pod(0, v4), tcp(1, 80, SYN));
            rig.a.deliver(HOST, &there.build());
            rig.settle();
            assert_eq!(packet(&rig.b.take(VF0)[0]), packet(&there.build()));
            let back = Side::B.pod_sends(0, Side::A.node(v4), tcp(80, 1, SYN | ACK));
            rig.b.deliver(VF0, &back.build());
            rig.settle();
            let got = rig.a.take(HOST);
            assert_eq!(packet(&got[0]), packet(&back.build()));
            let headers = (meta(&got[0]).eth_src, meta(&got[0]).eth_dst);
            assert_eq!(headers, (ROUTER_MAC, Side::A.host_mac()));
            assert_eq!(rig.seen_on_wire(MARKER), (node, pod) == (Off, Off));
        }
    }
}

#[test]
fn nobody_speaks_for_the_host_to_have_its_packets_in_clear() {
    let (mut a, b) = (Plan::open(Side::A), Plan::open(Side::B));
    let foreign = Side::A.pod(9, V4);
    a.set_encryption(&[foreign, Side::B.pod(0, V4)], Off);
    let mut rig = Rig::with(a, b, Protection::default());
    // An address that is not this node's, by the host port.
    let spoofed = spec(
        (Side::A.host_mac(), stranger(V4)),
        (ROUTER_MAC, Side::B.pod(0, V4)),
        udp(1, 2),
    );
    rig.a.deliver(HOST, &spoofed.build());
    rig.settle();
    assert!(!rig.seen_on_wire(MARKER));
}

#[test]
fn what_a_host_says_in_clear_does_not_wait_for_a_next_hop() {
    let mut plan = Plan::open(Side::A);
    plan.set_encryption(&[Side::A.node(V4), Side::B.pod(0, V4)], Off);
    let mut node = Node::new(plan);
    // While it waited it might have to be sealed, and no pod's generation would say so.
    let there = Side::A.host_sends(Side::B.pod(0, V4), udp(1, 2)).build();
    node.deliver(HOST, &there);
    node.poll();
    assert_eq!(node.last_drop(HOST), "next-hop");
}

#[test]
fn what_waits_in_clear_does_not_leave_after_its_setting() {
    let mut node = Node::new(plan(Side::A, Off, Off));
    let there = Side::A.pod_sends(0, Side::B.pod(0, V4), udp(1, 2)).build();
    node.deliver(VF0, &there);
    node.poll();
    assert_eq!(node.last_drop(VF0), "none");
    node.replan(|plan| set(plan, Required, Off));
    let b = (Side::B.uplink_mac(), Side::B.tunnel(V4));
    let a = (Side::A.uplink_mac(), Side::A.tunnel(V4));
    node.take(UPLINK);
    node.deliver(UPLINK, &arp(2, [a.0, b.0], b, a));
    node.poll();
    assert_eq!(node.last_drop(VF0), "next-hop");
    assert!(node.take(UPLINK).is_empty());
}

#[test]
fn what_went_in_clear_is_counted_by_pair() {
    let mut rig = rig(Off, Off);
    let there = Side::A.pod_sends(0, Side::B.pod(0, V4), udp(1, 2)).build();
    let sealed = Side::A.pod_sends(1, Side::B.pod(0, V4), udp(1, 2)).build();
    for _ in 0..3 {
        rig.a.deliver(VF0, &there);
        rig.a.deliver(VF1, &sealed);
        rig.settle();
    }
    let bytes = 3 * packet(&there).len() as u64;
    for node in [&mut rig.a, &mut rig.b] {
        let pairs = Vec::with_capacity(10);
        node.command(Command::ReadClear(ClearPage {
            pairs,
            ..ClearPage::default()
        }));
        node.poll();
        let Reply::Clear(page) = node.reply() else {
            panic!("another answer");
        };
        let [pair] = page.pairs[..] else {
            panic!("{page:?}");
        };
        assert_eq!((pair.from, pair.to), (pod_id(1, 0), pod_id(2, 0)));
        assert_eq!(pair.peer, OTHER);
        let packets = 3;
        assert_eq!(pair.sum, ClearSum { packets, bytes });
        assert_eq!(page.rest, ClearSum::default());
    }
}

/// What a node has counted in clear: the sum of its counters, and that of its pairs.
fn counted(node: &mut Node) -> [ClearSum; 2] {
    node.command(Command::ReadClear(ClearPage {
        pairs: Vec::with_capacity(10),
        ..ClearPage::default()
    }));
    node.poll();
    let Reply::Clear(page) = node.reply() else {
        panic!("another answer");
    };
    let of_pairs = page.pairs.iter().fold(page.rest, |sum, it| ClearSum {
        packets: sum.packets + it.sum.packets,
        bytes: sum.bytes + it.sum.bytes,
    });
    let c = &node.counted();
    let of_counters = ClearSum {
        packets: c.clear_sent.read() + c.clear_received.read(),
        bytes: c.clear_sent_bytes.read() + c.clear_received_bytes.read(),
    };
    [of_counters, of_pairs]
}

#[test]
fn what_is_dropped_after_it_was_let_in_is_not_counted_in_clear() {
    for v4 in [V4, V6] {
        let mut rig = rig(Off, Off);
        let nothing = [ClearSum::default(); 2];
        // Policy denies it.
        rig.b.replan(|plan| plan.repolicy(0, Policy::CLOSED));
        rig.b.deliver(UPLINK, &in_clear(v4));
        rig.b.poll();
        assert_eq!(rig.b.last_drop(UPLINK), "policy-ingress");
        assert_eq!(counted(&mut rig.b), nothing);
        // Its port takes no packet of that length.
        rig.b.replan(|plan| {
            plan.repolicy(0, Policy::OPEN);
            plan.vf_mtu = 1280;
        });
        let src = (Side::A.uplink_mac(), Side::A.pod(0, v4));
        let dst = (Side::B.uplink_mac(), Side::B.pod(0, v4));
        let long = with_payload(spec(src, dst, udp(7, 8)), vec![5; 1300]);
        rig.b.deliver(UPLINK, &long.build());
        rig.b.poll();
        assert_eq!(rig.b.last_drop(UPLINK), "too-big");
        assert_eq!(counted(&mut rig.b), nothing);
        // Delivered, it counts.
        let short = in_clear(v4);
        rig.b.push_one(UPLINK, &short, VF0);
        let one = ClearSum {
            packets: 1,
            bytes: packet(&short).len() as u64,
        };
        assert_eq!(counted(&mut rig.b), [one; 2]);
    }
}

#[test]
fn what_waits_in_clear_is_counted_when_it_leaves() {
    let nothing = [ClearSum::default(); 2];
    let there = Side::A.pod_sends(0, Side::B.pod(0, V4), udp(1, 2)).build();
    let b = (Side::B.uplink_mac(), Side::B.tunnel(V4));
    let a = (Side::A.uplink_mac(), Side::A.tunnel(V4));
    let answer = arp(2, [a.0, b.0], b, a);

    let mut node = Node::new(plan(Side::A, Off, Off));
    node.deliver(VF0, &there);
    node.poll();
    assert_eq!(counted(&mut node), nothing);
    node.take(UPLINK);
    node.deliver(UPLINK, &answer);
    node.poll();
    assert_eq!(packet(&node.take(UPLINK)[0]), packet(&there));
    let one = ClearSum {
        packets: 1,
        bytes: packet(&there).len() as u64,
    };
    assert_eq!(counted(&mut node), [one; 2]);

    // And not at all if nobody answers.
    let mut node = Node::new(plan(Side::A, Off, Off));
    node.deliver(VF0, &there);
    node.poll();
    node.now = node.now + 10 * Tick::SECOND;
    node.poll();
    assert_eq!(node.last_drop(VF0), "next-hop");
    assert_eq!(counted(&mut node), nothing);
}

#[test]
fn what_the_uplink_does_not_take_is_not_counted_in_clear() {
    let room = 1;
    let mut node = Node::sized(plan(Side::A, Off, Off), 64, room);
    let b = (Side::B.uplink_mac(), Side::B.tunnel(V4));
    let a = (Side::A.uplink_mac(), Side::A.tunnel(V4));
    node.poll();
    node.take(UPLINK);
    node.deliver(UPLINK, &arp(2, [a.0, b.0], b, a));
    node.poll();
    node.take(UPLINK);
    let there = Side::A.pod_sends(0, Side::B.pod(0, V4), udp(1, 2)).build();
    for _ in 0..3 {
        node.deliver(VF0, &there);
    }
    node.poll();
    let left = node.take(UPLINK).len() as u64;
    assert!((1..3).contains(&left), "{left}");
    assert_eq!(node.last_drop(VF0), "tx-full");
    let sum = ClearSum {
        packets: left,
        bytes: left * packet(&there).len() as u64,
    };
    assert_eq!(counted(&mut node), [sum; 2]);
}

#[test]
fn a_verdict_says_that_a_flow_goes_in_clear() {
    let mut rig = rig(Off, Off);
    let there = Side::A.pod_sends(0, Side::B.pod(0, V4), udp(1, 2)).build();
    rig.a.deliver(VF0, &there);
    rig.settle();
    let to: Vec<_> = rig.a.verdicts().iter().map(|it| it.to).collect();
    assert_eq!(to, [Some(Attach::Clear(OTHER))]);
}

#[test]
fn a_warmed_worker_allocates_nothing_for_it() {
    let mut rig = with_unprotected(Preferred, Off);
    for node in [&mut rig.a, &mut rig.b] {
        node.replan(|plan| set(plan, Off, Off));
    }
    let talk = |rig: &mut Rig, round: u16| {
        for v4 in [V4, V6] {
            let there = Side::A.pod_sends(0, Side::B.pod(0, v4), udp(round, 2));
            rig.a.deliver(VF0, &there.build());
            rig.a
                .deliver(VF0, &with_payload(there, vec![9; 1490]).build());
            let c = Side::A.pod_sends(0, c_pod(v4), udp(round, 2));
            rig.a.deliver(VF0, &c.build());
            rig.settle();
            let back = Side::B.pod_sends(0, Side::A.pod(0, v4), udp(2, round));
            rig.b.deliver(VF0, &back.build());
            rig.settle();
            let spoofed = spec(
                (GATEWAY_MAC, Side::A.pod(0, v4)),
                (Side::B.uplink_mac(), Side::B.pod(0, v4)),
                udp(7, 8),
            );
            rig.b.deliver(UPLINK, &spoofed.build());
            rig.settle();
        }
    };
    talk(&mut rig, 1);
    rig.a.counting = true;
    rig.b.counting = true;
    for round in 2..40 {
        talk(&mut rig, round);
    }
    assert!(rig.a.counted().clear_sent.read() > 100);
}
