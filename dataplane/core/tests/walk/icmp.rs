//! ICMP errors: they pass with a flow that they may really be about, and with no other.
//! RFC 5927; path MTU floors of RFC 8201 and RFC 791.

use sluice_dataplane_core::meta::proto;
use sluice_dataplane_core::snapshot::ROUTER_MAC;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};

use crate::rig::*;
use crate::tcp::{C, S, Talk, Who};

const V4: bool = true;
const V6: bool = false;

/// "Host unreachable" about `offending`, from who it was for, back to vf0.
fn unreachable(offending: &FrameSpec) -> Vec<u8> {
    let from = (Side::A.vf_mac(1), Side::A.pod(1, V4));
    error_about(offending, 3, from, (ROUTER_MAC, Side::A.pod(0, V4))).build()
}

#[test]
fn an_error_about_tcp_quotes_what_is_under_way() {
    let mut talk = Talk::established();
    assert_eq!(talk.send(Who::Client, ACK, 1, 1, 1000), Ok(()));
    let window = 65_535;
    for (seq, passes) in [
        (C + 1, true),
        (C + 500, true),
        // A pure acknowledgement.
        (C + 1001, true),
        (C + 1002, false),
        ((C + 1001).wrapping_sub(window + 1), true),
        ((C + 1001).wrapping_sub(window + 2), false),
        (C.wrapping_add(1 << 31), false),
    ] {
        let sent = tcp_at(40_000, 80, ACK, seq, S + 1);
        let error = unreachable(&Side::A.pod_sends(0, Side::A.pod(1, V4), sent));
        talk.rig.a.rebase();
        if passes {
            talk.rig.a.push_one(VF1, &error, VF0);
        } else {
            talk.rig.a.drops(VF1, &error, "icmp-not-sent");
        }
    }
}

#[test]
fn an_error_about_a_syn_quotes_its_number() {
    let mut rig = Rig::new();
    let syn = |seq| Side::A.pod_sends(0, Side::A.pod(1, V4), tcp_at(7, 80, SYN, seq, 0));
    rig.a.push_one(VF0, &syn(0).build(), VF1);
    rig.a.push_one(VF1, &unreachable(&syn(0)), VF0);
    rig.a.rebase();
    for seq in [u32::MAX, 1000] {
        rig.a.drops(VF1, &unreachable(&syn(seq)), "icmp-not-sent");
    }
}

#[test]
fn an_error_about_sctp_quotes_the_tag_or_an_init() {
    let mut rig = Rig::new();
    let packet = |chunk| {
        let body = Body::Sctp {
            src_port: 7,
            dst_port: 8,
            chunk,
        };
        Side::A.pod_sends(0, Side::A.pod(1, V4), body)
    };
    rig.a.push_one(VF0, &packet(1).build(), VF1);
    rig.a.push_one(VF1, &unreachable(&packet(1)), VF0);
    rig.a.rebase();
    // The responder has no tag yet.
    rig.a.drops(VF1, &unreachable(&packet(0)), "icmp-not-sent");
}

/// An error that asks for packets of `mtu` bytes, about a flow that is there.
fn too_big(v4: bool, mtu: u32) -> Vec<u8> {
    let sent = Side::A.pod_sends(0, Side::A.pod(1, v4), udp(1, 2));
    let from = (Side::A.vf_mac(1), Side::A.pod(1, v4));
    let kind = if v4 { 3 } else { 2 };
    let mut error = error_about(&sent, kind, from, (ROUTER_MAC, Side::A.pod(0, v4)));
    error.payload[1] = if v4 { 4 } else { 0 };
    error.payload[4..8].copy_from_slice(&mtu.to_be_bytes());
    error.build()
}

#[test]
fn an_error_that_asks_for_less_than_every_link_carries_is_dropped() {
    for (v4, floor) in [(V4, 576), (V6, 1280)] {
        let mut rig = Rig::new();
        let sent = Side::A.pod_sends(0, Side::A.pod(1, v4), udp(1, 2));
        rig.a.push_one(VF0, &sent.build(), VF1);
        for mtu in [floor, floor + 1, 1500, 9000] {
            rig.a.push_one(VF1, &too_big(v4, mtu), VF0);
        }
        rig.a.rebase();
        // 0 is what routers older than RFC 1191 say.
        for mtu in [0, 1, 68, floor - 1] {
            rig.a.drops(VF1, &too_big(v4, mtu), "icmp-mtu");
        }
    }
}

#[test]
fn an_echo_is_known_by_its_identifier() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let ask = |id| Side::A.pod_sends(0, Side::A.pod(1, v4), echo(id, false));
        let answer = |id| Side::A.pod_sends(1, Side::A.pod(0, v4), echo(id, true));
        rig.a.push_one(VF0, &ask(5).build(), VF1);
        rig.a.push_one(VF1, &answer(5).build(), VF0);
        rig.a.rebase();
        rig.a.deliver(VF1, &answer(6).build());
        rig.a.poll();
        rig.a.expect_delta(&[
            ("vf1.rx", 1),
            ("vf1.drop.icmp-no-flow", 1),
            ("flow.miss", 1),
        ]);
        assert_eq!(ask(5).protocol() == proto::ICMP, v4);
    }
}
