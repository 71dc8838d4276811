//! Flows: what begins one, what belongs to one, what ends one.

use sluice_dataplane_core::addr::Addr;
use sluice_dataplane_core::command::{Command, FlowPage, FlowView, Reply};
use sluice_dataplane_core::flow::state::FlowState;
use sluice_dataplane_core::meta::proto;
use sluice_dataplane_core::snapshot::ROUTER_MAC;
use sluice_dataplane_core::table::policy::{Direction, Transport};
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};

use crate::rig::*;

const V4: bool = true;
const V6: bool = false;

/// May speak to anyone, may be spoken to by no one.
fn outgoing() -> Policy {
    Policy::defaulting(false, true)
}

fn sctp(src_port: u16, dst_port: u16, chunk: u8) -> Body {
    Body::Sctp {
        src_port,
        dst_port,
        chunk,
    }
}

/// First packet and answer of each protocol.
fn exchanges() -> [(Body, Body); 4] {
    [
        (udp(1000, 53), udp(53, 1000)),
        (tcp(1000, 80, SYN), tcp(80, 1000, SYN | ACK)),
        (sctp(1000, 38412, 1), sctp(38412, 1000, 2)),
        (echo(9, false), echo(9, true)),
    ]
}

fn a_to_b(v4: bool, body: Body) -> Vec<u8> {
    Side::A.pod_sends(0, Side::B.pod(0, v4), body).build()
}

fn b_to_a(v4: bool, body: Body) -> Vec<u8> {
    Side::B.pod_sends(0, Side::A.pod(0, v4), body).build()
}

pub(crate) fn flows(node: &mut Node) -> Vec<FlowView> {
    let page = FlowPage {
        flows: Vec::with_capacity(100),
        ..FlowPage::default()
    };
    node.command(Command::ReadFlows(page));
    node.poll();
    match node.reply() {
        Reply::Flows(page) => {
            assert!(page.done);
            page.flows
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn answers_pass_although_the_initiator_may_not_be_spoken_to() {
    for v4 in [V4, V6] {
        for (there, back) in exchanges() {
            let mut rig = Rig::judging(outgoing(), Policy::defaulting(true, false));
            rig.b.deliver(VF0, &b_to_a(v4, there));
            rig.settle();
            rig.b.expect_delta(&[
                ("vf0.rx", 1),
                ("vf0.drop.policy-egress", 1),
                ("flow.miss", 1),
            ]);
            rig.a.deliver(VF0, &a_to_b(v4, there));
            rig.settle();
            assert_eq!(rig.b.take(VF0).len(), 1, "{there:?}");
            rig.b.deliver(VF0, &b_to_a(v4, back));
            rig.settle();
            assert_eq!(packet(&rig.a.take(VF0)[0]), packet(&b_to_a(v4, back)));
            rig.a.expect_delta(&[
                ("vf0.rx", 1),
                ("vf0.tx", 1),
                ("vf0.forwarded", 1),
                ("uplink.rx", 1),
                ("uplink.tx", 1),
                ("uplink.forwarded", 1),
                ("sealed", 1),
                ("opened", 1),
                ("flow.miss", 1),
                ("flow.hit", 1),
                ("flows", 1),
            ]);
        }
    }
}

#[test]
fn both_ends_on_one_node_share_one_flow() {
    for (there, back) in exchanges() {
        let mut plan = Plan::open(Side::A);
        plan.pod(0).policy = outgoing();
        plan.pod(1).policy = Policy::defaulting(true, false);
        let mut rig = Rig::with(plan, Plan::open(Side::B), Protection::default());
        let there = Side::A.pod_sends(0, Side::A.pod(1, V4), there).build();
        let back = Side::A.pod_sends(1, Side::A.pod(0, V4), back).build();
        rig.a.push_one(VF0, &there, VF1);
        rig.a.push_one(VF1, &back, VF0);
        rig.a.expect_delta(&[
            ("vf0.rx", 1),
            ("vf0.tx", 1),
            ("vf0.forwarded", 1),
            ("vf1.rx", 1),
            ("vf1.tx", 1),
            ("vf1.forwarded", 1),
            ("flow.miss", 1),
            ("flow.hit", 1),
            ("flows", 1),
        ]);
        assert_eq!(flows(&mut rig.a)[0].packets, [1, 1]);
    }
}

#[test]
fn tcp_begins_with_a_syn_alone() {
    let mut rig = Rig::new();
    for flags in [
        SYN | ACK,
        ACK,
        FIN | ACK,
        RST,
        RST | ACK,
        SYN | FIN,
        SYN | RST,
        0,
        0x18,
    ] {
        rig.a.deliver(VF0, &a_to_b(V4, tcp(1, 80, flags)));
        rig.a.poll();
        rig.a
            .expect_delta(&[("vf0.rx", 1), ("vf0.drop.tcp-no-flow", 1), ("flow.miss", 1)]);
    }
    // ECN setup (RFC 3168 section 6.1.1) is no obstacle.
    rig.a
        .push_one(VF0, &a_to_b(V4, tcp(1, 80, SYN | 0xc0)), UPLINK);
}

#[test]
fn a_syn_and_its_retransmission_in_one_burst_are_one_flow() {
    let mut rig = Rig::new();
    for _ in 0..2 {
        rig.a.deliver(VF0, &a_to_b(V4, tcp(1, 80, SYN)));
    }
    rig.settle();
    assert_eq!(rig.b.take(VF0).len(), 2);
    rig.a.expect_delta(&[
        ("vf0.rx", 2),
        ("vf0.forwarded", 2),
        ("uplink.tx", 2),
        ("sealed", 2),
        ("flow.miss", 2),
        ("flows", 1),
    ]);
    let flow = flows(&mut rig.a)[0];
    assert_eq!((flow.state, flow.packets), (FlowState::Opening, [2, 0]));
}

#[test]
fn a_burst_of_a_new_flow_passes_whole_and_in_order() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let frame = |n: u8| {
            let spec = Side::A.pod_sends(0, Side::A.pod(1, v4), udp(5, 6));
            with_payload(spec, vec![n; 20]).build()
        };
        for n in 0..32 {
            rig.a.deliver(VF0, &frame(n));
        }
        rig.a.poll();
        let got = rig.a.take(VF1);
        assert_eq!(got.len(), 32);
        for (n, got) in (0..).zip(&got) {
            assert_eq!(packet(got), packet(&frame(n)));
        }
        rig.a.expect_delta(&[
            ("vf0.rx", 32),
            ("vf0.forwarded", 32),
            ("vf1.tx", 32),
            ("flow.miss", 32),
            ("flows", 1),
        ]);
    }
}

#[test]
fn an_icmp_answer_without_its_question_is_dropped() {
    let mut rig = Rig::new();
    let drops = |rig: &mut Rig, frame: &[u8]| {
        rig.a.deliver(VF0, frame);
        rig.a.poll();
        rig.a.expect_delta(&[
            ("vf0.rx", 1),
            ("vf0.drop.icmp-no-flow", 1),
            ("flow.miss", 1),
        ]);
    };
    drops(&mut rig, &a_to_b(V4, echo(1, true)));
    drops(&mut rig, &a_to_b(V6, echo(1, true)));
    for kind in [14, 16, 18] {
        let body = Body::Other {
            protocol: proto::ICMP,
        };
        let spec = Side::A.pod_sends(0, Side::B.pod(0, V4), body);
        drops(
            &mut rig,
            &with_payload(spec, vec![kind, 0, 0, 0, 0, 7, 0, 0]).build(),
        );
    }
    // The answer to another question.
    rig.a.push_one(
        VF0,
        &Side::A
            .pod_sends(0, Side::A.pod(1, V4), echo(5, false))
            .build(),
        VF1,
    );
    rig.a.rebase();
    rig.a.deliver(
        VF1,
        &Side::A
            .pod_sends(1, Side::A.pod(0, V4), echo(6, true))
            .build(),
    );
    rig.a.poll();
    rig.a.expect_delta(&[
        ("vf1.rx", 1),
        ("vf1.drop.icmp-no-flow", 1),
        ("flow.miss", 1),
    ]);
}

#[test]
fn who_was_spoken_to_may_answer_and_not_begin() {
    for v4 in [V4, V6] {
        for (there, back, again) in [
            (
                tcp(1000, 80, SYN),
                tcp(80, 1000, SYN | ACK),
                tcp(80, 1000, SYN),
            ),
            (echo(9, false), echo(9, true), echo(9, false)),
        ] {
            let mut rig = Rig::judging(outgoing(), Policy::OPEN);
            rig.a.deliver(VF0, &a_to_b(v4, there));
            rig.settle();
            rig.b.deliver(VF0, &b_to_a(v4, back));
            rig.settle();
            assert_eq!(rig.a.take(VF0).len(), 1);
            rig.a.rebase();
            rig.b.deliver(VF0, &b_to_a(v4, again));
            rig.settle();
            assert!(rig.a.take(VF0).is_empty(), "{again:?}");
            rig.a.expect_delta(&[
                ("uplink.rx", 1),
                ("uplink.drop.policy-ingress", 1),
                ("opened", 1),
                ("flow.miss", 1),
            ]);
            // The flow itself goes on.
            rig.b.deliver(VF0, &b_to_a(v4, back));
            rig.settle();
            assert_eq!(rig.a.take(VF0).len(), 1);
        }
    }
}

#[test]
fn who_may_speak_both_ways_may_ping_both_ways_with_one_identifier() {
    let mut rig = Rig::new();
    for round in 0..3 {
        rig.a.deliver(VF0, &a_to_b(V4, echo(9, round == 2)));
        rig.settle();
        rig.b.deliver(VF0, &b_to_a(V4, echo(9, round == 0)));
        rig.settle();
        assert_eq!((rig.a.take(VF0).len(), rig.b.take(VF0).len()), (1, 1));
    }
}

#[test]
fn an_icmp_error_passes_with_its_flow_to_the_end_it_concerns() {
    for v4 in [V4, V6] {
        let kinds: &[u8] = if v4 { &[3, 4, 11, 12] } else { &[1, 2, 3, 4] };
        let mut rig = Rig::judging(outgoing(), Policy::OPEN);
        let there = Side::A.pod_sends(0, Side::B.pod(0, v4), udp(1000, 53));
        rig.a.deliver(VF0, &there.build());
        rig.settle();
        rig.a.rebase();
        for &kind in kinds {
            let (from, to) = (
                (Side::B.vf_mac(0), Side::B.pod(0, v4)),
                (ROUTER_MAC, Side::A.pod(0, v4)),
            );
            let error = error_about(&there, kind, from, to).build();
            rig.b.deliver(VF0, &error);
            rig.settle();
            let got = rig.a.take(VF0);
            assert_eq!(got.len(), 1, "type {kind}");
            assert_eq!(packet(&got[0]), packet(&error));
        }
        rig.a.expect_delta(&[
            ("uplink.rx", 4),
            ("uplink.forwarded", 4),
            ("vf0.tx", 4),
            ("opened", 4),
        ]);
    }
}

#[test]
fn an_icmp_error_of_a_router_outside_passes_with_its_flow() {
    for v4 in [V4, V6] {
        let mut rig = Rig::judging(outgoing(), Policy::OPEN);
        let there = Side::A.pod_sends(0, stranger(v4), udp(1000, 53));
        rig.a.push_one(VF0, &there.build(), UPLINK);
        rig.a.rebase();
        let kind = if v4 { 11 } else { 3 };
        let router = (GATEWAY_MAC, gateway(v4));
        let to = (Side::A.uplink_mac(), Side::A.pod(0, v4));
        let error = error_about(&there, kind, router, to);
        rig.a.push_one(UPLINK, &error.build(), VF0);
        rig.a
            .expect_delta(&[("uplink.rx", 1), ("uplink.forwarded", 1), ("vf0.tx", 1)]);
        // It is about no flow of ours, or about one to somebody else.
        for (src_port, dst) in [(1001, stranger(v4)), (1000, on_link_of(v4))] {
            let never = FrameSpec {
                dst: dst.into(),
                body: udp(src_port, 53),
                ..there.clone()
            };
            let error = error_about(&never, kind, router, to);
            rig.a.drops(UPLINK, &error.build(), "icmp-no-flow");
        }
        // It quotes a packet that its receiver never sent.
        let mut other = error_about(&there, kind, router, to);
        other.dst = Side::A.pod(1, v4).into();
        rig.a.drops(UPLINK, &other.build(), "icmp-no-flow");
    }
}

fn on_link_of(v4: bool) -> Addr {
    if v4 { on_link(9) } else { c_tunnel(false) }
}

#[test]
fn an_icmp_error_that_comes_the_wrong_way_is_dropped() {
    let mut rig = Rig::new();
    let there = Side::A.pod_sends(0, Side::A.pod(1, V4), udp(1000, 53));
    rig.a.push_one(VF0, &there.build(), VF1);
    rig.a.rebase();
    let to = (ROUTER_MAC, Side::A.pod(0, V4));
    // Another pod, and the sender itself, complain of a flow between two others.
    let bystander = (Side::A.vf_mac(2), Side::A.pod(2, V4));
    let mut error = error_about(&there, 3, bystander, to);
    error.vlan = Some(VF2_VLAN);
    rig.a.drops(VF2, &error.build(), "wrong-path");
    let itself = (Side::A.vf_mac(0), Side::A.pod(0, V4));
    rig.a.drops(
        VF0,
        &error_about(&there, 3, itself, to).build(),
        "wrong-path",
    );
    let remote = Side::B.pod_sends(0, Side::A.pod(0, V4), udp(1, 1));
    let remote = FrameSpec {
        payload: error_about(&there, 3, itself, to).payload,
        body: Body::Other {
            protocol: proto::ICMP,
        },
        ..remote
    };
    let sealed = Forger::new(Side::B, Protection::default(), 1).seal(packet(&remote.build()), 4);
    rig.a.deliver(UPLINK, &sealed);
    rig.a.poll();
    rig.a.expect_delta(&[
        ("uplink.rx", 1),
        ("uplink.drop.wrong-path", 1),
        ("opened", 1),
    ]);
}

#[test]
fn a_flows_packet_that_comes_by_another_way_is_dropped() {
    let mut rig = Rig::new();
    let there = Side::A.pod_sends(0, stranger(V4), udp(1000, 53));
    rig.a.push_one(VF0, &there.build(), UPLINK);
    rig.a.rebase();
    let answer = FrameSpec {
        src: stranger(V4).into(),
        ..Side::A.host_sends(Side::A.pod(0, V4), udp(53, 1000))
    };
    rig.a.drops(HOST, &answer.build(), "wrong-path");
}

#[test]
fn a_pod_that_speaks_to_itself_has_one_flow() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let own = Side::A.pod(0, v4);
        for (body, back) in exchanges() {
            rig.a
                .push_one(VF0, &Side::A.pod_sends(0, own, body).build(), VF0);
            rig.a
                .push_one(VF0, &Side::A.pod_sends(0, own, back).build(), VF0);
        }
        // Also between one port and itself, where nothing tells the directions apart.
        rig.a
            .push_one(VF0, &Side::A.pod_sends(0, own, udp(7, 7)).build(), VF0);
        rig.a
            .push_one(VF0, &Side::A.pod_sends(0, own, udp(7, 7)).build(), VF0);
        assert_eq!(flows(&mut rig.a).len(), 5);
    }
}

#[test]
fn a_silent_flow_ends_and_its_answers_are_then_judged_as_questions() {
    let mut rig = Rig::judging(outgoing(), Policy::OPEN);
    rig.a.deliver(VF0, &a_to_b(V4, udp(1000, 53)));
    rig.settle();
    rig.b.deliver(VF0, &b_to_a(V4, udp(53, 1000)));
    rig.settle();
    // More than one question and its answer, so it may be silent for longer.
    rig.a.deliver(VF0, &a_to_b(V4, udp(1000, 53)));
    rig.settle();
    rig.a.rebase();
    rig.a.take(VF0);
    rig.advance(119 * Tick::SECOND);
    rig.b.deliver(VF0, &b_to_a(V4, udp(53, 1000)));
    rig.settle();
    assert_eq!(rig.a.take(VF0).len(), 1, "alive, and kept alive");
    rig.advance(120 * Tick::SECOND);
    rig.a.rebase();
    let mut forger = Forger::new(Side::B, Protection::default(), 50);
    let late = forger.seal(packet(&b_to_a(V4, udp(53, 1000))), 4);
    rig.a.deliver(UPLINK, &late);
    rig.a.poll();
    assert!(rig.a.take(VF0).is_empty());
    let questions = rig.a.take(UPLINK).len() as i64;
    rig.a.expect_delta(&[
        ("uplink.rx", 1),
        ("uplink.drop.policy-ingress", 1),
        ("uplink.originated", questions),
        ("uplink.tx", questions),
        ("opened", 1),
        ("flow.miss", 1),
        ("flows", -1),
    ]);
}

#[test]
fn a_full_transmit_queue_is_a_counted_drop() {
    let mut node = Node::sized(Plan::open(Side::A), 64, 4);
    node.poll();
    node.take(UPLINK);
    node.rebase();
    let frame = Side::A.pod_sends(0, Side::A.pod(1, V4), udp(1, 2)).build();
    for _ in 0..7 {
        node.deliver(VF0, &frame);
    }
    node.poll();
    node.expect_delta(&[
        ("vf0.rx", 7),
        ("vf0.forwarded", 4),
        ("vf0.drop.tx-full", 3),
        ("vf1.tx", 4),
        ("flow.miss", 7),
        ("flows", 1),
    ]);
}

#[test]
fn denials_leave_no_flow_behind() {
    let policy = Policy::OPEN.row(Direction::Egress, None, Some(Transport::Udp), 9, false);
    let mut rig = Rig::judging(policy, Policy::OPEN);
    for _ in 0..3 {
        rig.a.deliver(VF0, &a_to_b(V4, udp(1, 9)));
    }
    rig.a.poll();
    rig.a.expect_delta(&[
        ("vf0.rx", 3),
        ("vf0.drop.policy-egress", 3),
        ("flow.miss", 3),
    ]);
    assert_eq!(rig.a.verdicts().len(), 3);
}
