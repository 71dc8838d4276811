//! Later fragments and their flow: as it stands when they come.

use sluice_dataplane_core::frag::LIFETIME_NS;
use sluice_dataplane_core::reason::DropReason;
use sluice_dataplane_core::wire::build::{Body, fragments};

use super::{ID, V4, V6, near, three};
use crate::rig::*;

#[test]
fn a_fragmented_reply_finds_its_flow() {
    for v4 in [V4, V6] {
        let mut plan = Plan::open(Side::A);
        plan.repolicy(0, Policy::defaulting(false, true));
        plan.repolicy(1, Policy::defaulting(true, false));
        let mut rig = Rig::with(plan, Plan::open(Side::B), Protection::default());
        let reply = Side::A.pod_sends(1, Side::A.pod(0, v4), udp(53, 1000));
        let reply = with_payload(reply, vec![3; 100]).build();
        let [first, middle, last] = fragments(&reply, ID, 48).try_into().unwrap();
        // Before the question nothing may pass.
        for fragment in [&first, &middle, &last] {
            assert!(rig.a.push(VF1, fragment, VF0).is_empty());
        }
        let question = Side::A.pod_sends(0, near(v4), udp(1000, 53));
        rig.a.push_one(VF0, &question.build(), VF1);
        rig.a.rebase();
        for fragment in [&first, &middle, &last] {
            rig.a.push_one(VF1, fragment, VF0);
        }
        rig.a.expect_delta(&[
            ("vf1.rx", 3),
            ("vf1.forwarded", 3),
            ("vf0.tx", 3),
            ("flow.hit", 3),
        ]);
    }
}

#[test]
fn a_fragmented_icmp_error_goes_with_the_flow_it_quotes() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let asked = with_payload(Side::A.pod_sends(0, near(v4), udp(1000, 53)), vec![0; 200]);
        rig.a.push_one(VF0, &asked.build(), VF1);
        rig.a.rebase();
        let router = sluice_dataplane_core::snapshot::ROUTER_MAC;
        let (from, to) = ((Side::A.vf_mac(1), near(v4)), (router, Side::A.pod(0, v4)));
        let kind = if v4 { 3 } else { 1 };
        let error = error_about(&asked, kind, from, to).build();
        let pieces = fragments(&error, ID, 128);
        assert_eq!(pieces.len(), 2);
        rig.a.deliver(VF1, &pieces[1]);
        rig.a.deliver(VF1, &pieces[0]);
        rig.a.poll();
        assert_eq!(rig.a.take(VF0).len(), 2);
        rig.a.expect_delta(&[
            ("vf1.rx", 2),
            ("vf1.forwarded", 2),
            ("vf0.tx", 2),
            ("flow.hit", 1),
        ]);
        // One that quotes no flow takes its later fragments with it.
        let other = Side::A.pod_sends(0, near(v4), udp(1001, 53));
        let other = with_payload(other, vec![0; 200]);
        let error = error_about(&other, kind, from, to).build();
        let pieces = fragments(&error, ID, 128);
        rig.a.drops(VF1, &pieces[0], "icmp-no-flow");
        rig.a.drops(VF1, &pieces[1], "fragment-refused");
        // Nor does one go on whose flow must be judged again.
        let error = error_about(&asked, kind, from, to).build();
        let pieces = fragments(&error, ID, 128);
        rig.a.push_one(VF1, &pieces[0], VF0);
        rig.a.replan(|p| p.touch(0));
        rig.a.rebase();
        rig.a.deliver(VF1, &pieces[1]);
        rig.a.poll();
        rig.a.expect_delta(&[
            ("vf1.rx", 1),
            ("flow.stale", 1),
            ("vf1.drop.icmp-no-flow", 1),
        ]);
    }
}

#[test]
fn a_change_of_policy_ends_a_datagram_halfway() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let pieces = three(near(v4), udp(1000, 53));
        rig.a.push_one(VF0, &pieces[0], VF1);
        // A generation that still allows it changes nothing.
        rig.a.replan(|p| p.touch(1));
        rig.a.rebase();
        rig.a.push_one(VF0, &pieces[1], VF1);
        rig.a.expect_delta(&[
            ("vf0.rx", 1),
            ("vf0.forwarded", 1),
            ("vf1.tx", 1),
            ("flow.stale", 1),
        ]);
        rig.a.verdicts();
        rig.a.replan(|p| p.repolicy(1, Policy::CLOSED));
        rig.a.rebase();
        rig.a.deliver(VF0, &pieces[2]);
        rig.a.poll();
        rig.a.expect_delta(&[
            ("vf0.rx", 1),
            ("vf0.drop.policy-ingress", 1),
            ("flow.stale", 1),
        ]);
        let said = rig.a.verdicts();
        assert_eq!(said.len(), 1);
        assert!(said[0].denied.is_some());
    }
}

#[test]
fn what_was_denied_halfway_stays_denied() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let pieces = three(near(v4), udp(1000, 53));
        rig.a.push_one(VF0, &pieces[0], VF1);
        rig.a.replan(|p| p.repolicy(1, Policy::CLOSED));
        rig.a.rebase();
        rig.a.push(VF0, &pieces[1], VF1);
        rig.a.replan(|p| p.repolicy(1, Policy::OPEN));
        rig.a.rebase();
        rig.a.drops(VF0, &pieces[2], "fragment-refused");
    }
}

#[test]
fn a_new_pod_neither_gets_nor_completes_the_old_ones_datagram() {
    for v4 in [V4, V6] {
        let both = |vf| vec![Side::A.pod(vf, V4), Side::A.pod(vf, V6)];
        let pieces = three(near(v4), udp(1000, 53));
        // The receiver is another.
        let mut rig = Rig::new();
        rig.a.push_one(VF0, &pieces[0], VF1);
        rig.a.replan(|p| p.replace_pod(1, both(1), Policy::OPEN));
        rig.a.rebase();
        rig.a.deliver(VF0, &pieces[1]);
        rig.a.poll();
        rig.a.expect_delta(&[
            ("vf0.rx", 1),
            // Not stale: the flow left with its pod.
            ("vf0.drop.fragment-refused", 1),
        ]);
        // The sender is another, whose datagram has the same identification.
        let mut rig = Rig::new();
        rig.a.deliver(VF0, &pieces[1]);
        rig.a.poll();
        rig.a.replan(|p| p.replace_pod(0, both(0), Policy::OPEN));
        rig.a.rebase();
        rig.a.push_one(VF0, &pieces[0], VF1);
        rig.advance(LIFETIME_NS);
        rig.a.poll();
        rig.a.expect_delta(&[
            ("vf0.rx", 1),
            ("vf0.forwarded", 1),
            ("vf1.tx", 1),
            ("flow.miss", 1),
            ("flows", 1),
            ("vf0.waiting", -1),
            ("vf0.drop.fragment-no-first", 1),
        ]);
    }
}

#[test]
fn a_responders_own_beginning_in_fragments_is_judged_by_itself() {
    for v4 in [V4, V6] {
        let mut plan = Plan::open(Side::A);
        // The second pod may answer the first's pings and send none of its own.
        plan.repolicy(1, Policy::defaulting(true, false));
        let mut rig = Rig::with(plan, Plan::open(Side::B), Protection::default());
        let ping = Side::A.pod_sends(0, near(v4), echo(5, false));
        rig.a.push_one(VF0, &ping.build(), VF1);
        rig.a.rebase();
        let back = |reply| {
            let spec = Side::A.pod_sends(1, Side::A.pod(0, v4), echo(5, reply));
            fragments(&with_payload(spec, vec![6; 100]).build(), ID, 48)
        };
        for (nth, fragment) in back(false).iter().enumerate() {
            rig.a.deliver(VF1, fragment);
            rig.a.poll();
            let reason = ["policy-egress", "fragment-refused"][nth.min(1)];
            let mut want = vec![("vf1.rx", 1)];
            let dropped = format!("vf1.drop.{reason}");
            want.push((&dropped, 1));
            if nth == 0 {
                want.push(("flow.miss", 1));
            }
            rig.a.expect_delta(&want);
        }
        for fragment in back(true) {
            rig.a.push_one(VF1, &fragment, VF0);
        }
    }
}

#[test]
fn a_responders_own_beginning_ends_when_its_own_direction_does() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let ping = Side::A.pod_sends(0, near(v4), echo(5, false));
        rig.a.push_one(VF0, &ping.build(), VF1);
        let back = Side::A.pod_sends(1, Side::A.pod(0, v4), echo(5, false));
        let back = fragments(&with_payload(back, vec![6; 100]).build(), ID, 48);
        rig.a.push_one(VF1, &back[0], VF0);
        rig.a.replan(|p| p.touch(1));
        rig.a.push_one(VF1, &back[1], VF0);
        // What it answers still may be, what it asks may not.
        rig.a
            .replan(|p| p.repolicy(1, Policy::defaulting(true, false)));
        rig.a.rebase();
        rig.a.verdicts();
        rig.a.deliver(VF1, &back[2]);
        rig.a.poll();
        rig.a.expect_delta(&[
            ("vf1.rx", 1),
            ("flow.stale", 1),
            ("vf1.drop.policy-egress", 1),
        ]);
        let said = rig.a.verdicts();
        assert_eq!(said.len(), 1);
        assert_eq!(said[0].denied, Some(DropReason::PolicyEgress));
        assert_eq!(said[0].tuple.src, near(v4));
    }
}

#[test]
fn a_tcp_segment_in_fragments_is_acknowledged_to_its_last_byte() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let body = |src_port, dst_port, flags, seq, ack| Body::Tcp {
            src_port,
            dst_port,
            flags,
            seq,
            ack,
            mss: None,
        };
        let there = |flags, seq, ack, len| {
            let body = body(1000, 80, flags, seq, ack);
            with_payload(Side::A.pod_sends(0, near(v4), body), vec![7; len]).build()
        };
        let back = |flags, seq, ack| {
            let body = body(80, 1000, flags, seq, ack);
            with_payload(Side::A.pod_sends(1, Side::A.pod(0, v4), body), vec![]).build()
        };
        rig.a.push_one(VF0, &there(SYN, 100, 0, 0), VF1);
        rig.a.push_one(VF1, &back(SYN | ACK, 500, 101), VF0);
        rig.a.push_one(VF0, &there(ACK, 101, 501, 0), VF1);
        for fragment in fragments(&there(ACK, 101, 501, 200), ID, 96) {
            rig.a.push_one(VF0, &fragment, VF1);
        }
        rig.a.push_one(VF1, &back(ACK, 501, 301), VF0);
        // And the connection goes on in whole segments.
        rig.a.push_one(VF0, &there(ACK, 301, 501, 50), VF1);
        rig.a.push_one(VF1, &back(ACK, 501, 351), VF0);
    }
}
