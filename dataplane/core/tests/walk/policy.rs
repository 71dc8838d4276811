//! Who may speak to whom, judged at the source, at the destination, or at both.

use sluice_dataplane_core::reason::DropReason;
use sluice_dataplane_core::route::{Attach, RuleRef};
use sluice_dataplane_core::table::policy::{Direction, Transport};
use sluice_dataplane_core::wire::build::{Body, FrameSpec};

use crate::rig::*;

const V4: bool = true;
const V6: bool = false;

/// The counters of a first packet that policy denies.
fn denied(node: &mut Node, port: &str, reason: &str) {
    node.expect_delta(&[
        (&format!("{port}.rx"), 1),
        (&format!("{port}.drop.{reason}"), 1),
        ("flow.miss", 1),
    ]);
}

#[test]
fn egress_is_judged_at_the_source_and_ingress_at_the_destination() {
    let web_only = Policy::CLOSED.allow_out(Transport::Tcp, 443);
    let web_server = Policy::CLOSED.allow_in(Transport::Tcp, 443);
    for v4 in [V4, V6] {
        let mut rig = Rig::judging(web_only.clone(), web_server.clone());
        let dst = Side::B.pod(0, v4);
        rig.a
            .deliver(VF0, &Side::A.pod_sends(0, dst, tcp(1, 443, SYN)).build());
        rig.settle();
        assert_eq!(rig.b.take(VF0).len(), 1);
        rig.a.rebase();
        rig.b.rebase();
        rig.a
            .deliver(VF0, &Side::A.pod_sends(0, dst, tcp(1, 80, SYN)).build());
        rig.settle();
        denied(&mut rig.a, "vf0", "policy-egress");
        // A's vf1 may send anything, and B's vf0 takes only what it serves.
        rig.a
            .deliver(VF1, &Side::A.pod_sends(1, dst, tcp(1, 80, SYN)).build());
        rig.settle();
        rig.b.expect_delta(&[
            ("uplink.rx", 1),
            ("uplink.drop.policy-ingress", 1),
            ("opened", 1),
            ("flow.miss", 1),
        ]);
    }
}

#[test]
fn on_one_node_both_ends_must_allow() {
    let (yes, no) = (Policy::OPEN, Policy::CLOSED);
    for (source, destination, reason) in [
        (&yes, &yes, None),
        (&no, &yes, Some("policy-egress")),
        (&yes, &no, Some("policy-ingress")),
        (&no, &no, Some("policy-egress")),
    ] {
        let mut plan = Plan::open(Side::A);
        plan.pod(0).policy = source.clone();
        plan.pod(1).policy = destination.clone();
        let mut rig = Rig::with(plan, Plan::open(Side::B), Protection::default());
        let frame = Side::A.pod_sends(0, Side::A.pod(1, V4), udp(1, 2)).build();
        let passed = rig.a.push(VF0, &frame, VF1).len();
        match reason {
            None => assert_eq!(passed, 1),
            Some(reason) => denied(&mut rig.a, "vf0", reason),
        }
    }
}

#[test]
fn the_verdict_names_the_rule_at_either_end() {
    let mut plan = Plan::open(Side::A);
    plan.pod(0).policy = Policy::CLOSED
        .allow_out(Transport::Udp, 7)
        .allow_out(Transport::Tcp, 8);
    plan.pod(1).policy = Policy::CLOSED
        .allow_in(Transport::Udp, 9)
        .allow_in(Transport::Tcp, 8);
    let mut rig = Rig::with(plan, Plan::open(Side::B), Protection::default());
    let rule = |policy, rule| Some(RuleRef { policy, rule });
    for (body, denied, egress, ingress) in [
        (tcp(1, 8, SYN), None, rule(100, 1), rule(101, 1)),
        (
            udp(1, 7),
            Some(DropReason::PolicyIngress),
            rule(100, 0),
            rule(101, FALLBACK_RULE),
        ),
        (
            udp(1, 9),
            Some(DropReason::PolicyEgress),
            rule(100, FALLBACK_RULE),
            None,
        ),
    ] {
        rig.a
            .deliver(VF0, &Side::A.pod_sends(0, Side::A.pod(1, V4), body).build());
        rig.a.poll();
        let verdicts = rig.a.verdicts();
        assert_eq!(verdicts.len(), 1);
        let v = verdicts[0];
        assert_eq!(
            (v.denied, v.rules.egress, v.rules.ingress),
            (denied, egress, ingress)
        );
        assert_eq!((v.port, v.generation, v.at), (VF0, 1, rig.a.now));
        assert_eq!(v.to, denied.is_none().then_some(Attach::Port(VF1)));
    }
}

#[test]
fn a_row_for_a_peer_is_about_that_peer_alone() {
    let from_b1 = Policy::CLOSED.row(Direction::Ingress, Some(pod_id(2, 1)), None, 0, true);
    let mut rig = Rig::judging(from_b1, Policy::OPEN);
    for (vf, passes) in [(0, 0), (1, 1)] {
        rig.b.deliver(
            Side::vf_port(vf),
            &Side::B.pod_sends(vf, Side::A.pod(0, V6), udp(1, 2)).build(),
        );
        rig.settle();
        assert_eq!(rig.a.take(VF0).len(), passes);
    }
}

#[test]
fn the_lowest_rule_decides() {
    let policy = Policy::CLOSED
        .row(
            Direction::Egress,
            Some(OUTSIDE_ID),
            Some(Transport::Udp),
            53,
            false,
        )
        .row(Direction::Egress, None, None, 0, true);
    let mut rig = Rig::judging(policy, Policy::OPEN);
    rig.a
        .deliver(VF0, &Side::A.pod_sends(0, stranger(V4), udp(1, 53)).build());
    rig.a.poll();
    denied(&mut rig.a, "vf0", "policy-egress");
    assert_eq!(
        rig.a
            .push(
                VF0,
                &Side::A.pod_sends(0, stranger(V4), udp(1, 54)).build(),
                UPLINK
            )
            .len(),
        1
    );
}

#[test]
fn a_pods_own_node_is_known_by_its_identity_and_not_by_its_port() {
    // What the agent puts in every table: the node may, whatever else may not.
    let own_node = Policy::CLOSED.row(Direction::Ingress, Some(node_id(1)), None, 0, true);
    for v4 in [V4, V6] {
        let mut rig = Rig::judging(own_node.clone(), Policy::CLOSED);
        let probe = Side::A
            .host_sends(Side::A.pod(0, v4), tcp(1, 8080, SYN))
            .build();
        assert_eq!(rig.a.push(HOST, &probe, VF0).len(), 1);
        let answer = Side::A
            .pod_sends(0, Side::A.node(v4), tcp(8080, 1, SYN | ACK))
            .build();
        assert_eq!(
            rig.a.push(VF0, &answer, HOST).len(),
            1,
            "the answer is of the flow"
        );
        rig.a.rebase();
        rig.a.deliver(
            VF0,
            &Side::A
                .pod_sends(0, Side::A.node(v4), tcp(1, 10250, SYN))
                .build(),
        );
        rig.a.poll();
        denied(&mut rig.a, "vf0", "policy-egress");
        // The node's ordinary pods come by the same port and are not the node.
        let ordinary = FrameSpec {
            src: Side::A.ordinary_pod(v4).into(),
            ..Side::A.host_sends(Side::A.pod(0, v4), tcp(1, 8080, SYN))
        };
        rig.a.deliver(HOST, &ordinary.build());
        rig.a.poll();
        denied(&mut rig.a, "host", "policy-ingress");
        // Another node is a stranger like any other.
        rig.a.deliver(
            HOST,
            &Side::A
                .host_sends(Side::B.pod(0, v4), tcp(1, 80, SYN))
                .build(),
        );
        rig.settle();
        assert!(rig.b.take(VF0).is_empty());
    }
}

#[test]
fn icmp_is_one_protocol_in_both_families_and_has_no_ports() {
    let ping_only = Policy::CLOSED.allow_out(Transport::Icmp, 0);
    for v4 in [V4, V6] {
        let mut rig = Rig::judging(ping_only.clone(), Policy::OPEN);
        for id in [0, 1, 443, 65_535] {
            let frame = Side::A
                .pod_sends(0, Side::A.pod(1, v4), echo(id, false))
                .build();
            assert_eq!(rig.a.push(VF0, &frame, VF1).len(), 1, "identifier {id}");
        }
        rig.a.rebase();
        rig.a.deliver(
            VF0,
            &Side::A.pod_sends(0, Side::A.pod(1, v4), udp(0, 0)).build(),
        );
        rig.a.poll();
        denied(&mut rig.a, "vf0", "policy-egress");
    }
}

#[test]
fn a_protocol_that_rows_cannot_name_passes_only_by_a_row_for_any() {
    let named = [
        Transport::Tcp,
        Transport::Udp,
        Transport::Sctp,
        Transport::Icmp,
    ]
    .into_iter()
    .fold(Policy::CLOSED, |p, t| p.allow_out(t, 0));
    let any = Policy::CLOSED.row(Direction::Egress, None, None, 0, true);
    for (policy, passes) in [(named, false), (any, true)] {
        for v4 in [V4, V6] {
            let mut rig = Rig::judging(policy.clone(), Policy::OPEN);
            // Also ESP of the pod's own, and AH: they are protocols like any other here.
            for protocol in [47, 50, 51, 89, 132 + 1, 255] {
                let body = Body::Other { protocol };
                let frame = Side::A.pod_sends(0, Side::A.pod(1, v4), body).build();
                let got = rig.a.push(VF0, &frame, VF1);
                assert_eq!(!got.is_empty(), passes, "protocol {protocol}");
            }
        }
    }
}

#[test]
fn without_a_policy_nothing_passes() {
    let mut rig = Rig::new();
    let mut snapshot = (*rig.a.plan.snapshot()).clone();
    snapshot.policies.clear();
    rig.a.publish_one(snapshot.into());
    rig.a.deliver(
        VF0,
        &Side::A.pod_sends(0, Side::A.pod(1, V4), udp(1, 2)).build(),
    );
    rig.a.poll();
    denied(&mut rig.a, "vf0", "policy-egress");
}
