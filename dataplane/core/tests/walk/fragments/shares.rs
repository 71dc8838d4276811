//! What waits is bounded, and fairly shared.

use sluice_dataplane_core::addr::Addr;
use sluice_dataplane_core::frag::{LIFETIME_NS, WAITING_MAX, WAITING_PER_SHARE_MAX};
use sluice_dataplane_core::wire::build::piece;

use super::{ID, V4, V6, near, three};
use crate::rig::*;

/// `count` later fragments of as many datagrams from a pod, by way of its VF.
fn flood(rig: &mut Rig, vf: usize, dst: Addr, count: usize) {
    let whole = with_payload(Side::A.pod_sends(vf, dst, udp(1, 2)), vec![0; 100]).build();
    for id in 0..count as u32 {
        rig.a
            .deliver(Side::vf_port(vf), &piece(&whole, id, 48..108, false));
    }
    rig.a.drain();
}

#[test]
fn one_pods_flood_costs_no_other_pod_a_datagram() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        // The other pod's datagrams are half there.
        let spec = Side::A.pod_sends(1, Side::A.pod(2, v4), udp(1000, 53));
        let whole = with_payload(spec, vec![0; 100]).build();
        for id in 0..60 {
            rig.a.deliver(VF1, &piece(&whole, id, 48..108, false));
        }
        rig.a.drain();
        rig.a.rebase();
        let count = 3000;
        flood(&mut rig, 0, near(v4), count);
        let kept = WAITING_PER_SHARE_MAX as i64;
        rig.a.expect_delta(&[
            ("vf0.rx", count as i64),
            ("vf0.waiting", kept),
            ("vf0.drop.fragment-table-full", count as i64 - kept),
        ]);
        for id in 0..60 {
            rig.a.deliver(VF1, &piece(&whole, id, 0..48, true));
        }
        rig.a.drain();
        assert_eq!(rig.a.take(VF2).len(), 120);
        rig.a.expect_delta(&[
            ("vf1.rx", 60),
            ("vf1.waiting", -60),
            ("vf1.forwarded", 120),
            ("vf2.tx", 120),
            // All firsts of the first burst miss; the first of them makes the flow.
            ("flow.miss", 32),
            ("flow.hit", 120 - 32),
            ("flows", 1),
        ]);
        // And the flooding pod's own are served too, if they are quick.
        for fragment in three(near(v4), udp(1000, 53)).iter().rev() {
            rig.a.deliver(VF0, fragment);
        }
        rig.a.poll();
        assert_eq!(rig.a.take(VF1).len(), 3);
    }
}

#[test]
fn floods_from_everywhere_leave_a_quiet_pod_its_place() {
    if !ALONE {
        return; // Each worker has room of its own.
    }
    let mut rig = Rig::new();
    let quiet = with_payload(
        Side::A.pod_sends(2, Side::A.pod(1, V4), udp(1000, 53)),
        vec![0; 100],
    );
    let quiet = quiet.build();
    rig.a.deliver(VF2, &piece(&quiet, ID, 48..108, false));
    rig.a.poll();
    // Two pods, a peer, and the outside for each of three pods.
    let mut forger = Forger::new(Side::B, Protection::default(), 1);
    for round in 0..300 {
        for (vf, dst) in [(0, near(V4)), (1, Side::A.pod(0, V4))] {
            let spec = with_payload(Side::A.pod_sends(vf, dst, udp(1, 2)), vec![0; 100]);
            let frame = piece(&spec.build(), round, 48..108, false);
            rig.a.deliver(Side::vf_port(vf), &frame);
        }
        for vf in 0..VFS {
            let spec = Side::A.wire_sends(stranger(V4), Side::A.pod(vf, V4), udp(1, 2));
            let frame = with_payload(spec, vec![0; 100]).build();
            rig.a.deliver(UPLINK, &piece(&frame, round, 48..108, false));
        }
        let spec = Side::B.pod_sends(0, Side::A.pod(0, V4), udp(1, 2));
        let inner = piece(
            &with_payload(spec, vec![0; 100]).build(),
            round,
            48..108,
            false,
        );
        rig.a.deliver(UPLINK, &forger.seal(packet(&inner), 4));
        rig.a.poll();
    }
    rig.a.drain();
    let counted = rig.a.counted();
    let ports = counted.ports();
    let waiting: u64 = ports.iter().map(|p| p.waiting.read()).sum();
    assert_eq!(waiting, WAITING_MAX as u64);
    rig.a.rebase();
    rig.a.deliver(VF2, &piece(&quiet, ID, 0..48, true));
    rig.a.poll();
    assert_eq!(rig.a.take(VF1).len(), 2);
    // Everything that waits comes to its end.
    rig.advance(LIFETIME_NS);
    for _ in 0..20 {
        rig.a.poll();
    }
    let counted = rig.a.counted();
    let ports = counted.ports();
    assert!(ports.iter().all(|p| p.waiting.read() == 0));
}

#[test]
fn held_frames_come_back_when_the_port_that_sent_them_is_closed() {
    let mut rig = Rig::new();
    let pieces = three(near(V4), udp(1000, 53));
    rig.a.deliver(VF0, &pieces[1]);
    rig.a.poll();
    rig.a.replan(|p| p.pods[0] = None);
    rig.a.rebase();
    rig.a.drops(VF0, &pieces[0], "no-endpoint");
    rig.advance(LIFETIME_NS);
    rig.a.poll();
    rig.a
        .expect_delta(&[("vf0.waiting", -1), ("vf0.drop.fragment-no-first", 1)]);
}
