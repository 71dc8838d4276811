//! Fragments: judged by their first, held for it, and never passed without it.

use core::ops::Range;

use sluice_dataplane_core::addr::Addr;
use sluice_dataplane_core::frag::{FRAGMENTS_MAX, LIFETIME_NS, WAITING_MAX, WAITING_PER_SHARE_MAX};
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

/// What one fragment after another does to its datagram: its range, whether more follow,
/// and where it is counted: passed, or a reason.
type Step = (Range<usize>, bool, &'static str);

const PASSES: &str = "passes";
const OVERLAP: &str = "fragment-overlap";
const DUPLICATE: &str = "fragment-duplicate";
const TINY: &str = "fragment-tiny";
const MALFORMED: &str = "malformed";

/// Each case with the first fragment before it: 0 to 48.
fn clashes() -> Vec<(&'static str, Vec<Step>)> {
    vec![
        (
            "over the end of the first",
            vec![
                (40..96, true, OVERLAP),
                (48..96, true, OVERLAP),
                (96..100, false, OVERLAP),
            ],
        ),
        (
            "over the start of the first",
            vec![(0..40, true, OVERLAP), (48..100, false, OVERLAP)],
        ),
        (
            "inside the first",
            vec![(8..16, true, OVERLAP), (48..100, false, OVERLAP)],
        ),
        (
            "over the start of a later one",
            vec![
                (64..96, true, PASSES),
                (48..72, true, OVERLAP),
                (96..100, false, OVERLAP),
            ],
        ),
        (
            "over all of a later one",
            vec![
                (64..72, true, PASSES),
                (48..96, true, OVERLAP),
                (96..100, false, OVERLAP),
            ],
        ),
        (
            "the first again, longer",
            vec![(0..56, true, OVERLAP), (48..100, false, OVERLAP)],
        ),
        (
            "the first again, exactly: it goes, the datagram stays",
            vec![(0..48, true, DUPLICATE), (48..100, false, PASSES)],
        ),
        (
            "a later one again, exactly: it goes, the datagram stays",
            vec![
                (48..56, true, PASSES),
                (48..56, true, DUPLICATE),
                (56..100, false, PASSES),
            ],
        ),
        (
            "the same range, but now the last",
            vec![
                (56..64, true, PASSES),
                (56..64, false, OVERLAP),
                (48..56, true, OVERLAP),
            ],
        ),
        (
            "a second end after the first end",
            vec![
                (56..64, false, PASSES),
                (64..72, false, OVERLAP),
                (48..56, true, OVERLAP),
            ],
        ),
        (
            "a second end before the first end",
            vec![
                (64..72, false, PASSES),
                (48..50, false, OVERLAP),
                (48..64, true, OVERLAP),
            ],
        ),
        (
            "an end before what came",
            vec![
                (64..72, true, PASSES),
                (48..56, false, OVERLAP),
                (56..64, true, OVERLAP),
            ],
        ),
        (
            "data past the end",
            vec![
                (56..64, false, PASSES),
                (72..80, true, OVERLAP),
                (48..56, true, OVERLAP),
            ],
        ),
        (
            "past 65,535 bytes, which is no fragment at all",
            vec![(65_528..65_536, false, MALFORMED), (48..100, false, PASSES)],
        ),
        (
            "not a multiple of eight, which is no fragment at all",
            vec![(48..99, true, MALFORMED), (48..100, false, PASSES)],
        ),
    ]
}

/// Sends one step's fragment by itself and accounts for it.
fn step(rig: &mut Rig, whole: &[u8], case: &str, (range, more, fate): &Step) {
    let frame = piece(whole, ID, range.clone(), *more);
    if *fate == PASSES {
        rig.a.deliver(VF0, &frame);
        rig.a.poll();
        rig.a.expect_delta(&[
            ("vf0.rx", 1),
            ("vf0.forwarded", 1),
            ("vf1.tx", 1),
            ("flow.hit", 1),
        ]);
        assert_eq!(rig.a.take(VF1).len(), 1, "{case}: {range:?}");
    } else {
        println!("{case}: {range:?}");
        rig.a.drops(VF0, &frame, fate);
    }
}

#[test]
fn fragments_that_clash_end_their_datagram() {
    for v4 in [V4, V6] {
        for (case, steps) in clashes() {
            let mut rig = Rig::new();
            let whole = datagram(near(v4), udp(1000, 53));
            rig.a.push_one(VF0, &piece(&whole, ID, 0..48, true), VF1);
            rig.a.rebase();
            for one in &steps {
                step(&mut rig, &whole, case, one);
            }
        }
    }
}

#[test]
fn a_clash_before_the_first_ends_what_waits() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let whole = datagram(near(v4), udp(1000, 53));
        rig.a.deliver(VF0, &piece(&whole, ID, 48..96, true));
        rig.a.deliver(VF0, &piece(&whole, ID, 104..108, false));
        rig.a.poll();
        rig.a.expect_delta(&[("vf0.rx", 2), ("vf0.waiting", 2)]);
        rig.a.deliver(VF0, &piece(&whole, ID, 88..104, true));
        rig.a.poll();
        rig.a.expect_delta(&[
            ("vf0.rx", 1),
            ("vf0.waiting", -2),
            ("vf0.drop.fragment-overlap", 3),
        ]);
        rig.a
            .drops(VF0, &piece(&whole, ID, 0..48, true), "fragment-overlap");
    }
}

#[test]
fn a_clash_in_the_firsts_own_burst_stops_the_first_too() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let whole = datagram(near(v4), udp(1000, 53));
        rig.a.deliver(VF0, &piece(&whole, ID, 0..48, true));
        rig.a.deliver(VF0, &piece(&whole, ID, 48..96, true));
        rig.a.deliver(VF0, &piece(&whole, ID, 40..108, false));
        rig.a.poll();
        assert!(rig.a.take(VF1).is_empty());
        rig.a.expect_delta(&[
            ("vf0.rx", 3),
            ("flow.miss", 1),
            ("flows", 1),
            ("vf0.drop.fragment-overlap", 3),
        ]);
    }
}

#[test]
fn a_first_without_its_whole_transport_header_is_tiny() {
    for v4 in [V4, V6] {
        let sctp = Body::Sctp {
            src_port: 1,
            dst_port: 2,
            chunk: 1,
        };
        // The longest that is too short; UDP and ICMP headers are as long as the shortest
        // fragment there is.
        for (body, tiny, enough) in [
            (tcp(1, 2, SYN), Some(16), 24),
            (sctp, Some(8), 16),
            (udp(1, 2), None, 8),
            (echo(7, false), None, 8),
        ] {
            let mut rig = Rig::new();
            let whole = datagram(near(v4), body);
            if let Some(tiny) = tiny {
                rig.a.drops(VF0, &piece(&whole, ID, 0..tiny, true), TINY);
                // What would overwrite the header in a receiver that prefers the later one.
                rig.a.drops(VF0, &piece(&whole, ID, 8..40, true), TINY);
            }
            rig.a
                .push_one(VF0, &piece(&whole, ID, 0..enough, true), VF1);
        }
    }
}

#[test]
fn a_first_without_its_whole_header_chain_is_tiny() {
    let mut rig = Rig::new();
    let whole = datagram(near(V6), udp(1000, 53));
    let mut first = piece(&whole, ID, 0..48, true);
    // The fragment header names destination options, which are longer than the fragment.
    first[54] = 60;
    first[62..64].copy_from_slice(&[17, 9]);
    rig.a.drops(VF0, &first, TINY);
    // With options that it holds, and UDP behind them, it passes, and so does the rest.
    first.splice(62..62, [17, 0, 1, 4, 0, 0, 0, 0]);
    first.truncate(62 + 48);
    first[70..110].copy_from_slice(&whole[54..94]);
    rig.a.push_one(VF0, &first, VF1);
    let mut rest = piece(&whole, ID, 48..108, false);
    rest[54] = 60;
    rig.a.push_one(VF0, &rest, VF1);
}

#[test]
fn an_atomic_fragment_is_a_whole_packet() {
    let mut rig = Rig::new();
    let whole = datagram(near(V6), udp(1000, 53));
    let atomic = piece(&whole, ID, 0..108, false);
    // Not of a datagram that happens to have its identification, before or after it.
    rig.a.push_one(VF0, &piece(&whole, ID, 0..48, true), VF1);
    rig.a.push_one(VF0, &atomic, VF1);
    rig.a.push_one(VF0, &atomic, VF1);
    rig.a.push_one(VF0, &piece(&whole, ID, 48..108, false), VF1);
    rig.a.expect_delta(&[
        ("vf0.rx", 4),
        ("vf0.forwarded", 4),
        ("vf1.tx", 4),
        ("flow.miss", 1),
        ("flow.hit", 3),
        ("flows", 1),
    ]);
    // And judged as one.
    rig.a.replan(|p| p.repolicy(1, Policy::CLOSED));
    rig.a.deliver(VF0, &atomic);
    rig.a.poll();
    rig.a.expect_delta(&[
        ("vf0.rx", 1),
        ("vf0.drop.policy-ingress", 1),
        ("flow.stale", 1),
        ("flows", -1),
    ]);
}

#[test]
fn more_fragments_than_the_bound_end_their_datagram() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let payload = vec![0; FRAGMENTS_MAX * 8 + 100];
        let whole = with_payload(Side::A.pod_sends(0, near(v4), udp(1, 2)), payload).build();
        let pieces = fragments(&whole, ID, 8);
        for fragment in &pieces[..FRAGMENTS_MAX] {
            rig.a.push_one(VF0, fragment, VF1);
        }
        rig.a.rebase();
        for fragment in &pieces[FRAGMENTS_MAX..] {
            rig.a.drops(VF0, fragment, "fragment-many");
        }
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
            ("flow.stale", 1),
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
        rig.a.drops(UPLINK, &tiny, TINY);
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
    let ports = rig.a.handle.counters.ports();
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
    let ports = rig.a.handle.counters.ports();
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
