//! What a new generation changes for flows that the old one judged.

use sluice_dataplane_core::snapshot::PortIndex;
use sluice_dataplane_core::table::policy::{Direction, Transport};

use crate::rig::*;

const V4: bool = true;

fn local(from: usize, to: usize, src_port: u16, dst_port: u16) -> Vec<u8> {
    Side::A
        .pod_sends(from, Side::A.pod(to, V4), udp(src_port, dst_port))
        .build()
}

/// A flow from vf0 to vf1 that has passed both ways.
fn with_flow() -> Rig {
    let mut rig = Rig::new();
    rig.a.push_one(VF0, &local(0, 1, 1000, 53), VF1);
    rig.a.push_one(VF1, &local(1, 0, 53, 1000), VF0);
    rig.a.rebase();
    rig
}

fn stale_drop(node: &mut Node, port: &str, reason: &str) {
    node.expect_delta(&[
        (&format!("{port}.rx"), 1),
        (&format!("{port}.drop.{reason}"), 1),
        ("flow.stale", 1),
        ("flows", -1),
    ]);
}

#[test]
fn a_flow_that_egress_denies_ends_with_its_next_packet_in_either_direction() {
    for (port, name, frame) in [
        (VF0, "vf0", local(0, 1, 1000, 53)),
        (VF1, "vf1", local(1, 0, 53, 1000)),
    ] {
        let mut rig = with_flow();
        rig.a.replan(|p| p.repolicy(0, Policy::CLOSED));
        rig.a.rebase();
        rig.a.deliver(port, &frame);
        rig.a.poll();
        stale_drop(&mut rig.a, name, "policy-egress");
    }
}

#[test]
fn a_flow_that_ingress_denies_ends_with_its_next_packet_in_either_direction() {
    for (port, name, frame) in [
        (VF0, "vf0", local(0, 1, 1000, 53)),
        (VF1, "vf1", local(1, 0, 53, 1000)),
    ] {
        let mut rig = with_flow();
        rig.a
            .replan(|p| p.repolicy(1, Policy::defaulting(false, true)));
        rig.a.rebase();
        rig.a.deliver(port, &frame);
        rig.a.poll();
        stale_drop(&mut rig.a, name, "policy-ingress");
    }
}

#[test]
fn a_burst_of_a_flow_newly_denied_ends_at_its_first_packet() {
    let mut rig = with_flow();
    rig.a.replan(|p| p.repolicy(0, Policy::CLOSED));
    rig.a.rebase();
    for _ in 0..5 {
        rig.a.deliver(VF0, &local(0, 1, 1000, 53));
    }
    rig.a.poll();
    rig.a.expect_delta(&[
        ("vf0.rx", 5),
        ("vf0.drop.policy-egress", 5),
        ("flow.stale", 5),
        ("flows", -1),
    ]);
}

#[test]
fn a_flow_still_allowed_goes_on_without_loss() {
    let mut rig = with_flow();
    for round in 0..10 {
        let keep = Policy::CLOSED.allow_out(Transport::Udp, 53);
        rig.a
            .replan(|p| p.repolicy(round % 2, if round % 2 == 0 { keep } else { Policy::OPEN }));
        for _ in 0..2 {
            rig.a.deliver(VF0, &local(0, 1, 1000, 53));
            rig.a.deliver(VF1, &local(1, 0, 53, 1000));
        }
        rig.a.poll();
        assert_eq!((rig.a.take(VF0).len(), rig.a.take(VF1).len()), (2, 2));
    }
    // The two packets of vf0's burst find the flow stale; vf1's come after its judgement.
    rig.a.expect_delta(&[
        ("vf0.rx", 20),
        ("vf0.forwarded", 20),
        ("vf0.tx", 20),
        ("vf1.rx", 20),
        ("vf1.forwarded", 20),
        ("vf1.tx", 20),
        ("flow.stale", 20),
        ("flow.hit", 20),
    ]);
}

#[test]
fn an_endpoint_that_did_not_change_keeps_its_hits() {
    let mut rig = with_flow();
    rig.a.replan(|p| p.repolicy(2, Policy::CLOSED));
    rig.a.rebase();
    rig.a.push_one(VF0, &local(0, 1, 1000, 53), VF1);
    rig.a.expect_delta(&[
        ("vf0.rx", 1),
        ("vf0.forwarded", 1),
        ("vf1.tx", 1),
        ("flow.hit", 1),
    ]);
}

#[test]
fn an_answer_of_a_flow_newly_denied_may_begin_one_of_its_own() {
    let mut rig = with_flow();
    rig.a
        .replan(|p| p.repolicy(0, Policy::defaulting(true, false)));
    rig.a.push(VF0, &local(0, 1, 1000, 53), VF1);
    rig.a.rebase();
    rig.a.push_one(VF1, &local(1, 0, 53, 1000), VF0);
    rig.a.expect_delta(&[
        ("vf1.rx", 1),
        ("vf1.forwarded", 1),
        ("vf0.tx", 1),
        ("flow.miss", 1),
        ("flows", 1),
    ]);
}

#[test]
fn an_error_about_a_stale_flow_waits_for_the_flows_own_judgement() {
    use sluice_dataplane_core::snapshot::ROUTER_MAC;
    let mut rig = with_flow();
    let there = Side::A.pod_sends(0, Side::A.pod(1, V4), udp(1000, 53));
    let error = error_about(
        &there,
        3,
        (Side::A.vf_mac(1), Side::A.pod(1, V4)),
        (ROUTER_MAC, Side::A.pod(0, V4)),
    );
    rig.a.replan(|p| p.touch(0));
    rig.a.rebase();
    rig.a.drops(VF1, &error.build(), "icmp-no-flow");
    rig.a.push_one(VF0, &there.build(), VF1);
    rig.a.push_one(VF1, &error.build(), VF0);
}

/// Tells what a stranger's late answer does after `change`; vf0's pod had asked.
fn late_answer(change: impl FnOnce(&mut Plan), to: PortIndex) -> usize {
    let mut rig = Rig::new();
    let ask = Side::A.pod_sends(0, stranger(V4), udp(1000, 53)).build();
    rig.a.push_one(VF0, &ask, UPLINK);
    let answer = Side::A
        .wire_sends(stranger(V4), Side::A.pod(0, V4), udp(53, 1000))
        .build();
    rig.a.push_one(UPLINK, &answer, VF0);
    rig.a.replan(change);
    rig.a.push(UPLINK, &answer, to).len()
}

#[test]
fn a_new_pod_behind_the_same_vf_does_not_inherit_flows() {
    let closed_in = Policy::defaulting(false, true);
    let same_address = vec![Side::A.pod(0, V4)];
    let passed = late_answer(|p| p.replace_pod(0, same_address, closed_in), VF0);
    assert_eq!(passed, 0, "the new pod never asked");
}

#[test]
fn a_new_pod_elsewhere_with_an_old_ones_address_does_not_inherit_flows() {
    let passed = late_answer(
        |p| {
            let addrs = vec![Side::A.pod(0, V4)];
            p.pods[0] = None;
            p.replace_pod(1, addrs, Policy::defaulting(false, true));
        },
        VF1,
    );
    assert_eq!(passed, 0);
}

#[test]
fn the_same_pod_under_another_policy_keeps_its_flows() {
    let closed_in = Policy::defaulting(false, true);
    assert_eq!(late_answer(|p| p.repolicy(0, closed_in), VF0), 1);
}

#[test]
fn a_pod_that_left_the_node_takes_its_flows_along() {
    // vf1's pod asks vf0's; then that one is gone, and its address somewhere outside.
    let mut rig = Rig::new();
    rig.a.push_one(VF1, &local(1, 0, 1000, 53), VF0);
    rig.a.replan(|p| {
        p.pods[0] = None;
        p.repolicy(1, Policy::defaulting(false, true));
    });
    let late = Side::A.wire_sends(Side::A.pod(0, V4), Side::A.pod(1, V4), udp(53, 1000));
    assert!(rig.a.push(UPLINK, &late.build(), VF1).is_empty());
}

#[test]
fn a_new_pod_begins_flows_of_its_own_where_its_forerunner_had_some() {
    let mut rig = with_flow();
    let addrs = vec![Side::A.pod(0, V4)];
    // Its packet comes with the generation, before the old flow was looked for.
    rig.a.plan.replace_pod(0, addrs, Policy::OPEN);
    rig.a.plan.generation += 1;
    rig.a.publish();
    rig.a.rebase();
    rig.a.push_one(VF0, &local(0, 1, 1000, 53), VF1);
    rig.a.expect_delta(&[
        ("vf0.rx", 1),
        ("vf0.forwarded", 1),
        ("vf1.tx", 1),
        ("flow.stale", 1),
    ]);
}

#[test]
fn a_removed_pod_is_cut_off_both_ways_at_once() {
    let mut rig = with_flow();
    rig.a.replan(|p| {
        p.pods[0] = None;
        p.touch(1);
    });
    rig.a.rebase();
    rig.a.drops(VF0, &local(0, 1, 1000, 53), "no-endpoint");
    assert!(rig.a.push(VF1, &local(1, 0, 53, 1000), VF0).is_empty());
}

#[test]
fn a_flow_to_an_address_that_changed_hands_is_judged_again_and_no_other() {
    let mut rig = with_flow();
    let there_and_back = [(VF0, local(0, 1, 1000, 53)), (VF1, local(1, 0, 53, 1000))];
    rig.a.replan(|p| p.move_address(Side::B.pod(0, V4)));
    rig.a.rebase();
    for (from, frame) in &there_and_back {
        let to = if *from == VF0 { VF1 } else { VF0 };
        rig.a.push_one(*from, frame, to);
    }
    let hits = [
        ("vf0.rx", 1),
        ("vf0.forwarded", 1),
        ("vf0.tx", 1),
        ("vf1.rx", 1),
        ("vf1.forwarded", 1),
        ("vf1.tx", 1),
        ("flow.hit", 2),
    ];
    rig.a.expect_delta(&hits);
    // Either end's: a flow is judged by both.
    for (pod, port, name, reason) in [
        (1, VF0, "vf0", "policy-egress"),
        (0, VF1, "vf1", "policy-egress"),
    ] {
        let mut rig = with_flow();
        rig.a.replan(|p| {
            p.pod(0).policy = Policy::CLOSED;
            p.move_address(Side::A.pod(pod, V4));
        });
        rig.a.rebase();
        let frame = there_and_back.iter().find(|it| it.0 == port);
        rig.a.deliver(port, &frame.unwrap().1);
        rig.a.poll();
        stale_drop(&mut rig.a, name, reason);
    }
}

#[test]
fn a_generation_between_two_nodes_takes_effect_at_each_on_its_own() {
    let mut rig = Rig::new();
    let there = Side::A.pod_sends(0, Side::B.pod(0, V4), udp(1, 2)).build();
    rig.a.deliver(VF0, &there);
    rig.settle();
    assert_eq!(rig.b.take(VF0).len(), 1);
    let deny = Policy::OPEN.row(Direction::Ingress, Some(pod_id(1, 0)), None, 0, false);
    rig.b.replan(|p| p.repolicy(0, deny));
    rig.b.rebase();
    rig.a.deliver(VF0, &there);
    rig.settle();
    rig.b.expect_delta(&[
        ("uplink.rx", 1),
        ("uplink.drop.policy-ingress", 1),
        ("opened", 1),
        ("flow.stale", 1),
        ("flows", -1),
    ]);
}

#[test]
fn several_generations_at_once_leave_the_newest_in_force() {
    let mut rig = with_flow();
    for policy in [Policy::CLOSED, Policy::OPEN, Policy::CLOSED, Policy::OPEN] {
        rig.a.plan.repolicy(0, policy);
        rig.a.plan.generation += 1;
        rig.a.publish();
    }
    rig.a.push_one(VF0, &local(0, 1, 1000, 53), VF1);
    assert_eq!(rig.a.verdicts().last().unwrap().generation, 5);
}
