//! Fragments: judged by their first, held for it, and never passed without it.

mod clashes;
mod shares;
mod tracked;
mod ways;

use sluice_dataplane_core::addr::Addr;
use sluice_dataplane_core::frag::LIFETIME_NS;
use sluice_dataplane_core::table::policy::Transport;
use sluice_dataplane_core::wire::build::{Body, FrameSpec, fragments, piece};

use crate::rig::*;

const V4: bool = true;
const V6: bool = false;
const ID: u32 = 0x77;

/// A datagram of 108 bytes from A's first pod to `dst`.
fn datagram(dst: Addr, body: Body) -> Vec<u8> {
    with_payload(Side::A.pod_sends(0, dst, body), (0..100).collect()).build()
}

/// The same in three fragments.
fn three(dst: Addr, body: Body) -> Vec<Vec<u8>> {
    let pieces = fragments(&datagram(dst, body), ID, 48);
    assert!(pieces.len() == 3);
    pieces
}

fn near(v4: bool) -> Addr {
    Side::A.pod(1, v4)
}

/// The data of the datagram that these frames are fragments of, whatever their order.
fn reassembled(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut pieces: Vec<_> = frames
        .iter()
        .map(|frame| {
            let meta = meta(frame);
            let place = sluice_dataplane_core::wire::fragment(frame, &meta).unwrap();
            let data_len = usize::from(place.end - place.start);
            let end = usize::from(meta.l3_end);
            (place.start, place.end, frame[end - data_len..end].to_vec())
        })
        .collect();
    pieces.sort();
    let mut data = Vec::new();
    for (start, end, bytes) in pieces {
        assert_eq!(usize::from(start), data.len(), "no hole and no overlap");
        data.extend(bytes);
        assert_eq!(usize::from(end), data.len());
    }
    data
}

/// What a datagram's fragments carry.
fn data_of(frame: &[u8]) -> &[u8] {
    &frame[usize::from(meta(frame).l4_off)..]
}

fn is_first(frame: &[u8]) -> bool {
    sluice_dataplane_core::wire::fragment(frame, &meta(frame)).is_some_and(|f| f.start == 0)
}

const ORDERS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

#[test]
fn fragments_pass_in_any_order_and_any_bursts_the_first_one_first() {
    for v4 in [V4, V6] {
        let whole = datagram(near(v4), udp(1000, 53));
        let pieces = three(near(v4), udp(1000, 53));
        // A bit for each gap between two fragments: whether a burst ends there.
        for (order, gaps) in ORDERS.iter().flat_map(|o| (0..4).map(move |g| (o, g))) {
            let mut rig = Rig::new();
            for (nth, at) in order.iter().enumerate() {
                rig.a.deliver(VF0, &pieces[*at]);
                if gaps & 1 << nth != 0 {
                    rig.a.poll();
                }
            }
            rig.a.poll();
            let out = rig.a.take(VF1);
            assert!(is_first(&out[0]), "{order:?} {gaps}");
            assert_eq!(reassembled(&out), data_of(&whole), "{order:?} {gaps}");
            rig.a.expect_delta(&[
                ("vf0.rx", 3),
                ("vf0.forwarded", 3),
                ("vf1.tx", 3),
                ("flow.miss", 1),
                ("flow.hit", 2),
                ("flows", 1),
            ]);
        }
    }
}

/// What waits for its first leaves right behind it, also where a packet that knows its way stands
/// among them.
#[test]
fn fragments_around_a_packet_of_a_known_flow_keep_together() {
    if !ALONE {
        // They are several workers' there, and no burst of one.
        return;
    }
    let mut rig = Rig::new();
    let known = Side::A.pod_sends(0, near(V4), udp(7, 8)).build();
    for _ in 0..3 {
        rig.a.deliver(VF0, &known);
        rig.a.poll();
    }
    rig.a.take(VF1);
    let [first, second, third] = &three(near(V4), udp(5, 6))[..] else {
        panic!("three");
    };
    for frame in [second, first, &known, third] {
        rig.a.deliver(VF0, frame);
    }
    rig.a.poll();
    let got = rig.a.take(VF1);
    let got: Vec<_> = got.iter().map(|it| packet(it)).collect();
    let want = [first, &known, second, third].map(|it| packet(it));
    assert_eq!(got, want);
}

#[test]
fn a_port_rule_never_passes_an_unclassified_fragment() {
    for v4 in [V4, V6] {
        for order in ORDERS {
            let mut plan = Plan::open(Side::A);
            plan.repolicy(1, Policy::CLOSED.allow_in(Transport::Udp, 53));
            let mut rig = Rig::with(plan, Plan::open(Side::B), Protection::default());
            let (allowed, denied) = (
                three(near(v4), udp(1000, 53)),
                three(near(v4), udp(1000, 54)),
            );
            for at in order {
                rig.a.deliver(VF0, &denied[at]);
                rig.a.poll();
            }
            assert!(rig.a.take(VF1).is_empty());
            rig.a.expect_delta(&[
                ("vf0.rx", 3),
                ("flow.miss", 1),
                ("vf0.drop.policy-ingress", 1),
                ("vf0.drop.fragment-refused", 2),
            ]);
            // The denied datagram is over: the same identification is free again.
            for at in order {
                rig.a.deliver(VF0, &allowed[at]);
                rig.a.poll();
            }
            assert_eq!(rig.a.take(VF1).len(), 3);
        }
    }
}

#[test]
fn a_missing_first_is_waited_for_and_then_given_up() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let pieces = three(near(v4), udp(1000, 53));
        rig.a.deliver(VF0, &pieces[1]);
        rig.a.deliver(VF0, &pieces[2]);
        rig.a.poll();
        rig.a.expect_delta(&[("vf0.rx", 2), ("vf0.waiting", 2)]);
        let ready = rig.a.pool.ready();
        rig.advance(LIFETIME_NS - 1);
        rig.a.poll();
        rig.a.expect_delta(&[]);
        rig.advance(1);
        rig.a.poll();
        rig.a
            .expect_delta(&[("vf0.waiting", -2), ("vf0.drop.fragment-no-first", 2)]);
        assert_eq!(rig.a.pool.ready(), ready + 2, "their memory is back");
        // Nor is anything known of it any more.
        rig.a.deliver(VF0, &pieces[0]);
        rig.a.poll();
        assert_eq!(rig.a.take(VF1).len(), 1);
        rig.a.rebase();
        rig.a.deliver(VF0, &pieces[1]);
        rig.a.poll();
        assert_eq!(rig.a.take(VF1).len(), 1);
        rig.advance(LIFETIME_NS);
        rig.a.poll();
        rig.a.rebase();
        rig.a.deliver(VF0, &pieces[2]);
        rig.a.poll();
        rig.a.expect_delta(&[("vf0.rx", 1), ("vf0.waiting", 1)]);
    }
}

#[test]
fn an_identification_is_used_again_after_its_datagram() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        for port in 1..20 {
            for fragment in three(near(v4), udp(port, 53)) {
                rig.a.push_one(VF0, &fragment, VF1);
            }
        }
    }
}

#[test]
fn fragments_of_different_datagrams_do_not_mix() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let whole = datagram(near(v4), udp(1000, 53));
        rig.a.push_one(VF0, &piece(&whole, ID, 0..48, true), VF1);
        rig.a.rebase();
        let from_other_pod = with_payload(
            Side::A.pod_sends(1, Side::A.pod(2, v4), udp(1000, 53)),
            vec![0; 100],
        );
        let other_dst = datagram(Side::A.pod(2, v4), udp(1000, 53));
        for (port, other) in [
            (VF0, piece(&whole, ID + 1, 48..108, false)),
            (VF0, piece(&other_dst, ID, 48..108, false)),
            (VF1, piece(&from_other_pod.build(), ID, 48..108, false)),
        ] {
            rig.a.deliver(port, &other);
        }
        rig.a.poll();
        rig.a.expect_delta(&[
            ("vf0.rx", 2),
            ("vf0.waiting", 2),
            ("vf1.rx", 1),
            ("vf1.waiting", 1),
        ]);
    }
    // In IPv4 the protocol tells datagrams apart too.
    let mut rig = Rig::new();
    let first = piece(&datagram(near(V4), udp(1000, 53)), ID, 0..48, true);
    rig.a.push_one(VF0, &first, VF1);
    rig.a.rebase();
    let other = piece(&datagram(near(V4), tcp(1, 2, SYN)), ID, 48..108, false);
    rig.a.deliver(VF0, &other);
    rig.a.poll();
    rig.a.expect_delta(&[("vf0.rx", 1), ("vf0.waiting", 1)]);
}

#[test]
fn protocols_without_ports_are_judged_by_their_first_as_well() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let gre = Body::Other { protocol: 47 };
        let spec = with_payload(Side::A.pod_sends(0, near(v4), gre), vec![0; 108]);
        let mut pieces = fragments(&spec.build(), ID, 48);
        pieces.rotate_left(1);
        for fragment in &pieces {
            rig.a.deliver(VF0, fragment);
        }
        rig.a.poll();
        assert_eq!(rig.a.take(VF1).len(), 3);
    }
}

#[test]
fn a_burst_of_whole_datagrams_of_more_fragments_than_a_burst_has_frames() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let spec: FrameSpec = Side::A.pod_sends(0, near(v4), udp(1000, 53));
        let whole = with_payload(spec, vec![8; 60 * 16 - 8]).build();
        let mut pieces = fragments(&whole, ID, 16);
        pieces.reverse();
        for fragment in &pieces {
            rig.a.deliver(VF0, fragment);
        }
        rig.a.drain();
        let out = rig.a.take(VF1);
        assert!(is_first(&out[0]));
        assert_eq!(reassembled(&out), data_of(&whole));
    }
}
