//! Fragments by every way there is: sealed, opened, from outside, from the host.

use sluice_dataplane_core::wire::build::{fragments, piece};

use super::{ID, ORDERS, V4, V6, data_of, datagram, reassembled, three};
use crate::rig::*;

#[test]
fn fragments_cross_the_wire_sealed_and_are_judged_at_both_ends() {
    for v4 in [V4, V6] {
        for order in ORDERS {
            let mut rig = Rig::new();
            let far = Side::B.pod(0, v4);
            for at in order {
                rig.a.deliver(VF0, &three(far, udp(1000, 53))[at]);
            }
            rig.settle();
            let out = rig.b.take(VF0);
            assert_eq!(reassembled(&out), data_of(&datagram(far, udp(1000, 53))));
            rig.a.expect_delta(&[
                ("vf0.rx", 3),
                ("vf0.forwarded", 3),
                ("uplink.tx", 3),
                ("sealed", 3),
                ("flow.miss", 1),
                ("flow.hit", 2),
                ("flows", 1),
            ]);
            rig.b.expect_delta(&[
                ("uplink.rx", 3),
                ("uplink.forwarded", 3),
                ("vf0.tx", 3),
                ("opened", 3),
                ("flow.miss", 1),
                ("flow.hit", 2),
                ("flows", 1),
            ]);
        }
    }
}

#[test]
fn fragments_inside_esp_wait_for_their_first_too() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let mut forger = Forger::new(Side::B, Protection::default(), 1);
        let inner = Side::B.pod_sends(0, Side::A.pod(0, v4), udp(1000, 53));
        let inner = with_payload(inner, vec![4; 100]).build();
        let next_header = if v4 { 4 } else { 41 };
        let pieces = fragments(&inner, ID, 48);
        let mut seal = |piece: &[u8]| forger.seal(&piece[14..], next_header);
        rig.a.deliver(UPLINK, &seal(&pieces[2]));
        rig.a.poll();
        rig.a
            .expect_delta(&[("uplink.rx", 1), ("uplink.waiting", 1), ("opened", 1)]);
        rig.a.deliver(UPLINK, &seal(&pieces[0]));
        rig.a.deliver(UPLINK, &seal(&pieces[1]));
        rig.a.poll();
        assert_eq!(reassembled(&rig.a.take(VF0)), data_of(&inner));
        // In clear it isn't the same datagram, and may not come at all.
        let in_clear = Side::A.wire_sends(Side::B.pod(0, v4), Side::A.pod(0, v4), udp(1000, 53));
        let in_clear = with_payload(in_clear, vec![4; 100]).build();
        rig.a.rebase();
        rig.a
            .drops(UPLINK, &piece(&in_clear, ID, 48..108, false), "plaintext");
        // A tiny one is told from other faults inside.
        let tcp = with_payload(
            Side::B.pod_sends(0, Side::A.pod(0, v4), tcp(1, 2, SYN)),
            vec![4; 100],
        );
        let tiny = seal(&piece(&tcp.build(), ID, 0..16, true));
        rig.a.drops(UPLINK, &tiny, "fragment-tiny");
    }
}

#[test]
fn fragments_from_outside_and_from_the_host_reach_a_pod() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let dst = Side::A.pod(0, v4);
        let outside = Side::A.wire_sends(stranger(v4), dst, udp(9, 10));
        let host = Side::A.host_sends(dst, udp(9, 10));
        for (port, spec) in [(UPLINK, outside), (HOST, host)] {
            let whole = with_payload(spec, vec![5; 100]).build();
            let mut pieces = fragments(&whole, ID, 48);
            pieces.reverse();
            for fragment in &pieces {
                rig.a.deliver(port, fragment);
                rig.a.poll();
            }
            assert_eq!(reassembled(&rig.a.take(VF0)), data_of(&whole));
        }
        rig.a.expect_delta(&[
            ("uplink.rx", 3),
            ("uplink.forwarded", 3),
            ("host.rx", 3),
            ("host.forwarded", 3),
            ("vf0.tx", 6),
            ("flow.miss", 2),
            ("flow.hit", 4),
            ("flows", 2),
        ]);
    }
}

#[test]
fn fragments_that_no_endpoint_judges_go_their_way() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        // Between the host and another node's pod: sealed, each by itself.
        let spec = Side::A.host_sends(Side::B.pod(0, v4), udp(9, 10));
        let whole = with_payload(spec, vec![5; 100]).build();
        rig.a.deliver(HOST, &piece(&whole, ID, 48..108, false));
        rig.a.poll();
        rig.a.expect_delta(&[
            ("host.rx", 1),
            ("host.forwarded", 1),
            ("uplink.tx", 1),
            ("sealed", 1),
        ]);
        // The pod's own end holds it.
        rig.settle();
        rig.b
            .expect_delta(&[("uplink.rx", 1), ("uplink.waiting", 1), ("opened", 1)]);
    }
}

#[test]
fn a_first_that_no_way_takes_takes_its_later_ones_along() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let pieces = three(c_pod(v4), udp(1000, 53));
        for fragment in pieces.iter().rev() {
            rig.a.deliver(VF0, fragment);
        }
        rig.a.poll();
        rig.a.expect_delta(&[
            ("vf0.rx", 3),
            ("flow.miss", 1),
            ("flow.hit", 2),
            ("flows", 1),
            ("vf0.drop.no-sa", 3),
        ]);
    }
}
