//! An address that its node has taken back is nobody's: it is spoken to by no way, and
//! nobody speaks as it, until the cluster's state has followed.

use sluice_dataplane_core::wire::build::FrameSpec;

use crate::rig::*;

const V4: bool = true;
const V6: bool = false;

/// B's first pod was taken back, at A.
fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.a.replan(|p| p.revoked = vec![0]);
    rig.a.rebase();
    rig
}

#[test]
fn nobody_speaks_as_a_revoked_address_also_not_its_own_node() {
    let mut rig = rig();
    let mut forger = Forger::new(Side::B, Protection::default(), 1);
    for v4 in [V4, V6] {
        let seal = |forger: &mut Forger, vf| {
            let inner = Side::B.pod_sends(vf, Side::A.pod(0, v4), udp(1000, 53));
            forger.seal(packet(&inner.build()), if v4 { 4 } else { 41 })
        };
        let revoked = seal(&mut forger, 0);
        rig.a.drops(UPLINK, &revoked, "identity-unknown");
        let other = seal(&mut forger, 1);
        rig.a.push_one(UPLINK, &other, VF0);
        let clear = Side::A.wire_sends(Side::B.pod(0, v4), Side::A.pod(0, v4), udp(1, 2));
        rig.a.rebase();
        rig.a.drops(UPLINK, &clear.build(), "plaintext");
    }
}

#[test]
fn nobody_speaks_to_a_revoked_address_in_clear_or_otherwise() {
    let mut rig = rig();
    for v4 in [V4, V6] {
        let dst = Side::B.pod(0, v4);
        let from_pod = Side::A.pod_sends(0, dst, udp(1000, 53)).build();
        rig.a.deliver(VF0, &from_pod);
        rig.a.poll();
        rig.a.expect_delta(&[
            ("vf0.rx", 1),
            ("vf0.drop.identity-unknown", 1),
            ("flow.miss", 1),
        ]);
        rig.a.rebase();
        let from_host = Side::A.host_sends(dst, udp(1000, 53)).build();
        rig.a.drops(HOST, &from_host, "identity-unknown");
        let from_wire = Side::A.wire_sends(stranger(v4), dst, udp(1000, 53)).build();
        rig.a.drops(UPLINK, &from_wire, "not-for-us");
    }
}

#[test]
fn a_flow_to_an_address_that_is_revoked_ends_and_one_beside_it_stays() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let to = |vf| {
            Side::A
                .pod_sends(0, Side::B.pod(vf, v4), udp(1000, 53))
                .build()
        };
        for vf in [0, 1] {
            rig.a.push_one(VF0, &to(vf), UPLINK);
        }
        rig.a.replan(|p| {
            p.revoked = vec![0];
            p.touch(0);
        });
        rig.a.rebase();
        rig.a.deliver(VF0, &to(0));
        rig.a.poll();
        rig.a.expect_delta(&[
            ("vf0.rx", 1),
            ("vf0.drop.identity-unknown", 1),
            ("flow.stale", 1),
        ]);
        rig.a.push_one(VF0, &to(1), UPLINK);
        let back = FrameSpec {
            ttl: 64,
            ..Side::B.pod_sends(0, Side::A.pod(0, v4), udp(53, 1000))
        };
        let mut forger = Forger::new(Side::B, Protection::default(), 1);
        let back = forger.seal(packet(&back.build()), if v4 { 4 } else { 41 });
        rig.a.rebase();
        rig.a.drops(UPLINK, &back, "identity-unknown");
    }
}

#[test]
fn what_was_said_in_esp_does_not_go_on_in_clear_when_the_other_pod_is_gone() {
    for v4 in [V4, V6] {
        for revoked_first in [false, true] {
            let mut rig = Rig::new();
            let frame = |src_port| {
                Side::A
                    .pod_sends(0, Side::B.pod(0, v4), udp(src_port, 53))
                    .build()
            };
            rig.a.push_one(VF0, &frame(1000), UPLINK);
            let refused = [
                ("vf0.rx", 1),
                ("vf0.drop.identity-unknown", 1),
                ("flow.stale", 1),
            ];
            if revoked_first {
                rig.a.replan(|p| {
                    p.revoked = vec![0];
                    p.move_address(Side::B.pod(0, v4));
                });
                rig.a.rebase();
                rig.a.deliver(VF0, &frame(1000));
                rig.a.poll();
                rig.a.expect_delta(&refused);
            }
            // Its address is one outside now, and the pod may speak to anyone.
            rig.a.replan(|p| {
                p.revoked.clear();
                p.gone = vec![0];
                p.move_address(Side::B.pod(0, v4));
            });
            for _ in 0..2 {
                rig.a.rebase();
                rig.a.deliver(VF0, &frame(1000));
                rig.a.poll();
                rig.a.expect_delta(&refused);
            }
            // It comes back, and so does the flow.
            rig.a.replan(|p| {
                p.gone.clear();
                p.move_address(Side::B.pod(0, v4));
            });
            rig.a.push_one(VF0, &frame(1000), UPLINK);
        }
    }
}
