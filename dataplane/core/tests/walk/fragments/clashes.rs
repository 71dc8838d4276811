//! Fragments that no sender sends who means well.

use core::ops::Range;

use sluice_dataplane_core::frag::FRAGMENTS_MAX;
use sluice_dataplane_core::wire::build::{Body, fragments, piece};

use super::{ID, V4, V6, datagram, near};
use crate::rig::*;

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
        // Where the flow is another worker's, the one who gathers the pieces stops it earlier.
        let judged = i64::from(ALONE);
        rig.a.expect_delta(&[
            ("vf0.rx", 3),
            ("flow.miss", judged),
            ("flows", judged),
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
            (sctp, Some(8), 24),
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
            let first = piece(&whole, ID, 0..enough, true);
            if matches!(body, Body::Tcp { .. }) {
                // Whole, but nobody begins a connection in fragments.
                rig.a.deliver(VF0, &first);
                rig.a.poll();
                rig.a
                    .expect_delta(&[("vf0.rx", 1), ("vf0.drop.tcp-no-flow", 1), ("flow.miss", 1)]);
            } else {
                rig.a.push_one(VF0, &first, VF1);
            }
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
