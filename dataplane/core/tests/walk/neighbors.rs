//! Next hops on the wire: asked in time, waited for within bounds.

use sluice_dataplane_core::addr::{Addr, Mac};
use sluice_dataplane_core::neighbor::{ASKING_PER_PORT_MAX, WAITING_PER_PORT_MAX};
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::wire;

use crate::rig::*;

const V4: bool = true;
const V6: bool = false;
const NEW: Mac = Mac([2, 0xdd, 0, 0, 0, 1]);

fn to_new() -> Vec<u8> {
    Side::A.pod_sends(0, on_link(1), udp(1, 2)).build()
}

/// `addr` at `mac` says so to A.
fn answer(mac: Mac, addr: Addr) -> Vec<u8> {
    let us = (Side::A.uplink_mac(), Side::A.tunnel(V4));
    arp(2, [us.0, mac], (mac, addr), us)
}

/// Whom a frame asks for.
fn asked_for(frame: &[u8]) -> Option<Addr> {
    let m = wire::parse(frame).unwrap();
    if let Some(arp) = wire::arp::Arp::read(frame, &m) {
        return (arp.op == 1).then_some(arp.target_ip);
    }
    wire::nd::Nd::read(frame, &m).ok().map(|nd| nd.target)
}

#[test]
fn the_first_packet_waits_for_its_next_hop_and_leaves_on_the_answer() {
    let mut rig = Rig::new();
    let question = rig.a.push_one(VF0, &to_new(), UPLINK);
    assert_eq!(asked_for(&question), Some(on_link(1)));
    assert_eq!(meta(&question).eth_dst, Mac::BROADCAST);
    rig.a.expect_delta(&[
        ("vf0.rx", 1),
        ("vf0.waiting", 1),
        ("uplink.originated", 1),
        ("uplink.tx", 1),
        ("flow.miss", 1),
        ("flows", 1),
    ]);
    let sent = rig.a.push_one(UPLINK, &answer(NEW, on_link(1)), UPLINK);
    assert_eq!(packet(&sent), packet(&to_new()));
    assert_eq!(
        (meta(&sent).eth_src, meta(&sent).eth_dst),
        (Side::A.uplink_mac(), NEW)
    );
    rig.a.expect_delta(&[
        ("uplink.rx", 1),
        ("uplink.consumed", 1),
        ("vf0.waiting", -1),
        ("vf0.forwarded", 1),
        ("uplink.tx", 1),
    ]);
    rig.a.push_one(VF0, &to_new(), UPLINK);
}

#[test]
fn ipv6_waits_and_leaves_likewise() {
    let mut rig = Rig::new();
    let next_hop = Addr(gateway(V6).0 - 1);
    let frame = Side::A.pod_sends(0, next_hop, udp(1, 2)).build();
    let question = rig.a.push_one(VF0, &frame, UPLINK);
    assert_eq!(asked_for(&question), Some(next_hop));
    let us = (Side::A.uplink_mac(), Side::A.tunnel(V6));
    let sent = rig.a.push_one(
        UPLINK,
        &advertise((NEW, next_hop), us, next_hop, NEW),
        UPLINK,
    );
    assert_eq!((packet(&sent), meta(&sent).eth_dst), (packet(&frame), NEW));
}

#[test]
fn sealed_packets_wait_too_and_never_in_clear() {
    let mut rig = Rig::new();
    // An SA to C appears before C's next hop has answered again.
    rig.a.replan(|p| p.outer_v4 = true);
    let mut late = outbound(Side::A, Protection::default());
    late.tunnel.outer = sluice_crypto::esp::Outer::V4 {
        src: Side::A.tunnel(V4).to_v4(),
        dst: on_link(4).to_v4(),
    };
    rig.a
        .command(sluice_dataplane_core::command::Command::InstallOutbound(
            PEER_C,
            late.into(),
        ));
    let frame = Side::A.pod_sends(0, c_pod(V4), udp(1, 2)).build();
    rig.a.push_one(VF0, &frame, UPLINK);
    let sent = rig.a.push_one(UPLINK, &answer(NEW, on_link(4)), UPLINK);
    assert_eq!((meta(&sent).protocol, meta(&sent).eth_dst), (50, NEW));
    assert!(!contains(&sent, MARKER));
}

#[test]
fn peers_and_gateways_are_asked_for_as_soon_as_they_are_known() {
    let mut node = Node::new(Plan::open(Side::A));
    node.poll();
    let mut asked: Vec<_> = node
        .take(UPLINK)
        .iter()
        .filter_map(|f| asked_for(f))
        .collect();
    asked.sort();
    let mut want = vec![Side::B.tunnel(V4), c_tunnel(V4), gateway(V4), gateway(V6)];
    // Each worker asks for itself.
    want = want.repeat(WORKERS);
    want.sort();
    assert_eq!(asked, want);
    let asked = 4 * WORKERS as i64;
    node.expect_delta(&[("uplink.originated", asked), ("uplink.tx", asked)]);
}

#[test]
fn a_frame_whose_next_hop_never_answers_is_dropped_after_three_seconds() {
    let mut rig = Rig::new();
    rig.a.push_one(VF0, &to_new(), UPLINK);
    let mut questions = 1;
    rig.a.rebase();
    for _ in 0..29 {
        rig.advance(100 * Tick::MS);
        rig.a.poll();
        questions += rig.a.take(UPLINK).len();
    }
    assert_eq!(questions, 3, "one a second");
    rig.a.rebase();
    rig.advance(100 * Tick::MS);
    rig.a.poll();
    rig.a
        .expect_delta(&[("vf0.waiting", -1), ("vf0.drop.next-hop", 1)]);
    // The next packet asks again.
    assert_eq!(rig.a.push(VF0, &to_new(), UPLINK).len(), 1);
}

#[test]
fn more_waiting_frames_than_a_pod_has_room_for_are_counted_drops_and_leave_room_for_anothers() {
    let mut rig = Rig::new();
    let over = 10;
    for _ in 0..WAITING_PER_PORT_MAX + over {
        rig.a.deliver(VF0, &to_new());
    }
    rig.a.drain();
    let (room, over) = (WAITING_PER_PORT_MAX as i64, over as i64);
    rig.a.expect_delta(&[
        ("vf0.rx", room + over),
        ("vf0.waiting", room),
        ("vf0.drop.next-hop", over),
        ("uplink.originated", 1),
        ("uplink.tx", 1),
        ("flow.miss", 32),
        ("flow.hit", room + over - 32),
        ("flows", 1),
    ]);
    let other = Side::A.pod_sends(1, on_link(1), udp(1, 2)).build();
    rig.a.deliver(VF1, &other);
    rig.a.poll();
    rig.a.take(UPLINK);
    assert_eq!(
        rig.a.push(UPLINK, &answer(NEW, on_link(1)), UPLINK).len(),
        WAITING_PER_PORT_MAX + 1
    );
}

#[test]
fn a_pod_that_sends_to_all_of_the_link_leaves_anothers_next_hop_alone() {
    let mut rig = Rig::new();
    let other = Side::A.pod_sends(1, on_link(1), udp(1, 2)).build();
    rig.a.push(VF1, &other, UPLINK);
    rig.a.push(UPLINK, &answer(NEW, on_link(1)), UPLINK);
    let net = Addr(on_link(1).0 & !0xff);
    rig.a.take(UPLINK);
    rig.a.rebase();
    for n in (2..250)
        .map(|n| Addr(net.0 + n))
        .filter(|n| *n != on_link(1))
    {
        rig.a
            .deliver(VF0, &Side::A.pod_sends(0, n, udp(1, 2)).build());
        rig.a.poll();
    }
    let asked = rig
        .a
        .take(UPLINK)
        .iter()
        .filter_map(|f| asked_for(f))
        .count();
    assert!(asked <= ASKING_PER_PORT_MAX * WORKERS, "{asked}");
    let sent = rig.a.push_one(VF1, &other, UPLINK);
    assert_eq!(meta(&sent).eth_dst, NEW);
    // And a new one is asked for.
    let new = Side::A.pod_sends(1, Addr(net.0 + 251), udp(1, 2)).build();
    let question = rig.a.push_one(VF1, &new, UPLINK);
    assert_eq!(asked_for(&question), Some(Addr(net.0 + 251)));
}

#[test]
fn an_answer_from_a_group_mac_is_not_believed() {
    let mut rig = Rig::new();
    rig.a.push_one(VF0, &to_new(), UPLINK);
    let us = (Side::A.uplink_mac(), Side::A.tunnel(V4));
    let mut liar = answer(NEW, on_link(1));
    liar[22] |= 1; // the sender MAC inside
    rig.a.rebase();
    rig.a.drops(UPLINK, &liar, "malformed");
    let group = (Mac([0x33, 0x33, 0, 0, 0, 1]), gateway(V6));
    let liar = advertise(
        (NEW, gateway(V6)),
        (us.0, Side::A.tunnel(V6)),
        group.1,
        group.0,
    );
    rig.a.drops(UPLINK, &liar, "malformed");
}

#[test]
fn a_next_hop_that_moved_is_followed_and_known_ones_are_refreshed_in_silence() {
    let mut rig = Rig::new();
    rig.a.push_one(VF0, &to_new(), UPLINK);
    rig.a.push_one(UPLINK, &answer(NEW, on_link(1)), UPLINK);
    let moved = Mac([2, 0xdd, 0, 0, 0, 2]);
    assert!(
        rig.a
            .push(UPLINK, &answer(moved, on_link(1)), UPLINK)
            .is_empty()
    );
    let sent = rig.a.push_one(VF0, &to_new(), UPLINK);
    assert_eq!(meta(&sent).eth_dst, moved);
    rig.advance(31 * Tick::SECOND);
    rig.a.poll();
    let asked: Vec<_> = rig
        .a
        .take(UPLINK)
        .iter()
        .filter_map(|f| asked_for(f))
        .collect();
    assert!(asked.contains(&on_link(1)) && asked.contains(&Side::B.tunnel(V4)));
    let sent = rig.a.push(VF0, &to_new(), UPLINK);
    assert_eq!(
        meta(&sent[0]).eth_dst,
        moved,
        "good until the questions stay unanswered"
    );
}

#[test]
fn a_frame_that_waits_when_its_pod_is_judged_anew_does_not_leave() {
    for replace in [false, true] {
        let mut rig = Rig::new();
        rig.a.push_one(VF0, &to_new(), UPLINK);
        rig.a.replan(|p| {
            if replace {
                p.pods[0] = None;
            } else {
                p.repolicy(0, Policy::CLOSED);
            }
        });
        rig.a.take(UPLINK);
        rig.a.rebase();
        let sent = rig.a.push(UPLINK, &answer(NEW, on_link(1)), UPLINK);
        assert!(sent.is_empty(), "policy in force denies it");
        rig.a.expect_delta(&[
            ("uplink.rx", 1),
            ("uplink.consumed", 1),
            ("vf0.waiting", -1),
            ("vf0.drop.next-hop", 1),
        ]);
    }
}

#[test]
fn without_a_gateway_what_is_off_the_link_has_no_route() {
    let mut rig = Rig::new();
    let mut snapshot = (*rig.a.plan.snapshot()).clone();
    for interface in &mut snapshot.interfaces {
        interface.gateway = None;
    }
    rig.a.publish_one(snapshot.into());
    for v4 in [V4, V6] {
        rig.a
            .deliver(VF0, &Side::A.pod_sends(0, stranger(v4), udp(1, 2)).build());
        rig.a.poll();
        rig.a.expect_delta(&[
            ("vf0.rx", 1),
            ("vf0.drop.no-route", 1),
            ("flow.miss", 1),
            ("flows", 1),
        ]);
    }
}
