//! Frames that nobody means well with: nothing panics, every one is counted, and what
//! pods say stays off the wire.

use std::sync::Arc;

use sluice_dataplane_core::frag::LIFETIME_NS;
use sluice_dataplane_core::reason::DropReason;
use sluice_dataplane_core::snapshot::{Peers, PortIndex, PortState, Snapshot};
use sluice_dataplane_core::table::policy::Direction;
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::wire::build::{Body, FrameSpec, piece};

use crate::rig::*;
use crate::soak;

/// Frames of the long run; about a second.
/// Mutated frames, unless `SLUICE_FRAMES` says otherwise (`make soak`).
const FRAMES: u64 = 1_000_000;
const BURST: usize = 32;

/// What the host and outside say in place of the marker.
fn harmless(spec: FrameSpec) -> FrameSpec {
    with_payload(spec, b"of no concern to anyone".to_vec())
}

pub(crate) fn bodies() -> Vec<Body> {
    let syn_mss = Body::Tcp {
        src_port: 1,
        dst_port: 2,
        flags: SYN,
        seq: 1,
        ack: 0,
        mss: Some(1460),
    };
    let sctp = Body::Sctp {
        src_port: 1,
        dst_port: 2,
        chunk: 1,
    };
    let others = [0, 43, 44, 50, 51, 59, 60].map(|protocol| Body::Other { protocol });
    let mut all = vec![
        udp(1, 2),
        udp(4500, 4500),
        tcp(1, 2, SYN),
        tcp(1, 2, ACK),
        syn_mss,
    ];
    all.extend([sctp, echo(3, false), echo(3, true)]);
    all.extend(others);
    all
}

/// Sound frames to start from, with the ports they come by.
fn corpus() -> Vec<(PortIndex, Vec<u8>)> {
    let mut all = Vec::new();
    for v4 in [true, false] {
        for body in bodies() {
            for dst in [
                Side::A.pod(1, v4),
                Side::B.pod(0, v4),
                Side::A.node(v4),
                stranger(v4),
            ] {
                all.push((VF0, Side::A.pod_sends(0, dst, body).build()));
                all.push((VF2, Side::A.pod_sends(2, dst, body).build()));
                let from_host = Side::A.host_sends(dst, body);
                all.push((HOST, harmless(from_host).build()));
            }
            for dst in [Side::A.pod(0, v4), Side::A.tunnel(v4), Side::A.node(v4)] {
                let from_wire = Side::A.wire_sends(stranger(v4), dst, body);
                all.push((UPLINK, harmless(from_wire).build()));
            }
        }
        let long = Side::A.pod_sends(0, Side::B.pod(0, v4), udp(1, 2));
        let long = with_payload(long, MARKER.repeat(66));
        all.push((VF0, long.build()));
    }
    all.extend(neighbour_corpus());
    all
}

fn neighbour_corpus() -> Vec<(PortIndex, Vec<u8>)> {
    let pod = |v4| (Side::A.vf_mac(0), Side::A.pod(0, v4));
    let host = |v4| (Side::A.host_mac(), Side::A.node(v4));
    let peer = |v4| (Side::B.uplink_mac(), Side::B.tunnel(v4));
    let us = |v4| (Side::A.uplink_mac(), Side::A.tunnel(v4));
    vec![
        (VF0, who_has(pod(true), gateway(true))),
        (VF0, solicit(pod(false), gateway(false))),
        (HOST, who_has(host(true), Side::B.pod(0, true))),
        (HOST, solicit(host(false), Side::A.pod(0, false))),
        (UPLINK, who_has(peer(true), us(true).1)),
        (UPLINK, solicit(peer(false), us(false).1)),
        (
            UPLINK,
            arp(2, [us(true).0, peer(true).0], peer(true), us(true)),
        ),
        (
            UPLINK,
            advertise(peer(false), us(false), peer(false).1, peer(false).0),
        ),
    ]
}

/// A datagram in the pieces that a sender would make of it, and in others: so few
/// identifications that they meet in every order.
fn pieces(random: &mut Seeded) -> (PortIndex, Vec<u8>) {
    let v4 = random.below(2) == 0;
    let body = bodies()[random.below(8)];
    let (port, spec) = match random.below(5) {
        0 => (VF0, Side::A.pod_sends(0, Side::A.pod(1, v4), body)),
        1 => (VF0, Side::A.pod_sends(0, Side::B.pod(0, v4), body)),
        2 => (VF2, Side::A.pod_sends(2, Side::A.pod(0, v4), body)),
        3 => {
            let dst = Side::A.pod(1, v4);
            (UPLINK, Side::A.wire_sends(stranger(v4), dst, body))
        }
        _ => (HOST, Side::A.host_sends(Side::A.pod(0, v4), body)),
    };
    let spec = if port == VF0 { spec } else { harmless(spec) };
    let payload = spec.payload.repeat(4);
    let whole = with_payload(spec, payload).build();
    let cuts = [0, 8, 16, 24, 40, 48, 64, 96];
    let (from, to) = (random.below(8), random.below(8));
    let range = cuts[from.min(to)]..(cuts[from.max(to)] + 8 + random.below(4) / 3);
    let id = random.below(6) as u32;
    (port, piece(&whole, id, range, random.below(4) > 0))
}

/// Makes a sound frame unsound in one to four places, or leaves it.
pub(crate) fn mutate(random: &mut Seeded, frame: &mut Vec<u8>) {
    for _ in 0..random.below(5) {
        let len = frame.len().max(1);
        // Half of the time in the headers.
        let reach = if random.below(2) == 0 { 80 } else { len };
        let at = random.below(len.min(reach));
        match random.below(7) {
            0 => frame.truncate(at),
            1 => frame.extend(std::iter::repeat_n(random.next() as u8, random.below(100))),
            2 if at < frame.len() => frame[at] ^= 1 << random.below(8),
            3 if at < frame.len() => frame[at] = random.next() as u8,
            4 if at < frame.len() => frame[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            5 if at < frame.len() => {
                let to = (at + random.below(16)).min(frame.len());
                frame.drain(at..to);
            }
            6 => {
                let bytes: Vec<u8> = (0..random.below(12)).map(|_| random.next() as u8).collect();
                frame.splice(at.min(frame.len())..at.min(frame.len()), bytes);
            }
            _ => {}
        }
    }
}

/// Makes the header checksum of an IPv4 packet right again, so that the rest is looked at.
pub(crate) fn repair(frame: &mut [u8]) {
    if frame.len() >= 34 && frame[12..14] == [8, 0] {
        let repaired = fragmented(
            frame.to_vec(),
            u16::from_be_bytes([frame[20], frame[21]]),
            false,
        );
        frame.copy_from_slice(&repaired);
    }
}

/// Pods that speak to anyone in the cluster and to nobody outside it.
fn within_the_cluster() -> Policy {
    [Direction::Ingress, Direction::Egress]
        .into_iter()
        .fold(Policy::OPEN, |p, d| {
            p.row(d, Some(OUTSIDE_ID), None, 0, false)
        })
}

fn received(node: &Node) -> u64 {
    let counted = node.counted();
    let ports = counted.ports();
    ports.iter().map(|p| p.rx.read()).sum()
}

#[test]
fn mutated_frames_on_every_port_are_counted_and_keep_to_their_ways() {
    let mut plan = Plan::open(Side::A);
    for vf in 0..VFS {
        plan.repolicy(vf, within_the_cluster());
    }
    let mut rig = Rig::with(plan, Plan::open(Side::B), Protection::default());
    let (corpus, mut random) = (corpus(), Seeded(0x510_1ce));
    let mut forger = Forger::new(Side::B, Protection::default(), 1);
    let (mut delivered, mut sealed, mut opened_ports) = (received(&rig.a), 0, 0);
    let rounds = soak::amount("SLUICE_FRAMES", FRAMES) / BURST as u64;
    for round in 0..rounds {
        soak::tell(round, rounds, "bursts of mutated frames");
        for _ in 0..BURST {
            let (mut port, mut frame) = corpus[random.below(corpus.len())].clone();
            let inner = Side::B.pod_sends(
                0,
                Side::A.pod(random.below(3), true),
                bodies()[random.below(15)],
            );
            match random.below(8) {
                // ESP whose outside, or whose inside, is unsound.
                0 => {
                    frame = forger.seal(packet(&inner.build()), 4);
                    port = UPLINK;
                    mutate(&mut random, &mut frame);
                    repair(&mut frame);
                }
                1 => {
                    let mut inner = inner.build();
                    mutate(&mut random, &mut inner);
                    repair(&mut inner);
                    let next_header = [4, 4, 4, 41, 59, random.next() as u8][random.below(6)];
                    frame = forger.seal(inner.get(14..).unwrap_or_default(), next_header);
                    port = UPLINK;
                }
                2 => {
                    mutate(&mut random, &mut frame);
                }
                3 => {
                    (port, frame) = pieces(&mut random);
                    if random.below(3) == 0 {
                        mutate(&mut random, &mut frame);
                        repair(&mut frame);
                    }
                }
                _ => {
                    mutate(&mut random, &mut frame);
                    repair(&mut frame);
                }
            }
            frame.truncate(9000);
            delivered += 1;
            rig.a.deliver(port, &frame);
        }
        rig.advance(random.below(50) as u64 * Tick::MS);
        rig.a.poll();
        for frame in rig.a.take(UPLINK) {
            assert!(!contains(&frame, MARKER), "in clear after round {round}");
            sealed += usize::from(frame.get(23) == Some(&50));
        }
        opened_ports += rig.a.take(VF0).len() + rig.a.take(VF1).len() + rig.a.take(VF2).len();
        rig.a.take(HOST);
        rig.a.verdicts();
    }
    rig.a.drain();
    assert_eq!(received(&rig.a), delivered);
    assert!(
        sealed > 1000 && opened_ports > 1000,
        "{sealed} sealed, {opened_ports} to pods"
    );
}

#[test]
fn fragments_in_any_pieces_are_all_accounted_for() {
    let mut rig = Rig::new();
    let mut random = Seeded(0xf4a6);
    let mut forger = Forger::new(Side::B, Protection::default(), 1);
    for _ in 0..60_000 / BURST {
        for _ in 0..BURST {
            let (port, frame) = pieces(&mut random);
            if random.below(8) == 0 && port == VF0 {
                let spec = Side::B.pod_sends(0, Side::A.pod(2, true), udp(1, 2));
                let whole = with_payload(spec, MARKER.repeat(4)).build();
                let start = random.below(10) * 8;
                let inner = piece(&whole, 1, start..start + 8, random.below(6) > 0);
                rig.a
                    .deliver(UPLINK, &forger.seal(inner.get(14..).unwrap_or_default(), 4));
            } else {
                rig.a.deliver(port, &frame);
            }
        }
        rig.advance(random.below(300) as u64 * Tick::MS);
        rig.a.poll();
        for port in [UPLINK, HOST, VF0, VF1, VF2] {
            rig.a.take(port);
        }
        rig.a.verdicts();
    }
    let counted = rig.a.counted();
    let ports = counted.ports();
    // The walk has been where this test means to send it.
    for reason in [
        DropReason::FragmentTiny,
        DropReason::FragmentOverlap,
        DropReason::FragmentDuplicate,
        DropReason::FragmentNoFirst,
        DropReason::FragmentRefused,
        DropReason::Malformed,
    ] {
        assert!(ports.iter().any(|p| p.dropped(reason) > 0), "{reason:?}");
    }
    assert!(ports.iter().map(|p| p.forwarded.read()).sum::<u64>() > 1000);
    // In the end nothing waits, and every buffer is back in the pool.
    rig.advance(LIFETIME_NS);
    for _ in 0..20 {
        rig.a.poll();
    }
    let counted = rig.a.counted();
    let ports = counted.ports();
    assert!(ports.iter().all(|p| p.waiting.read() == 0));
    assert!(rig.a.pool.ready() >= 512);
}

/// A snapshot in which some things are missing, closed, or absurd.
fn shaken(random: &mut Seeded, plan: &mut Plan) -> Arc<Snapshot> {
    let vf = random.below(VFS);
    match random.below(4) {
        0 => plan.pods[vf] = None,
        1 => plan.replace_pod(
            vf,
            vec![Side::A.pod(vf, random.below(2) == 0)],
            Policy::OPEN,
        ),
        2 if plan.pods[vf].is_some() => plan.repolicy(vf, Policy::CLOSED),
        _ => {}
    }
    plan.vf_mtu = [1500, 1280, 576, 68, 0, u16::MAX][random.below(6)];
    plan.uplink_mtu = [1500, 9000, 1280, 100, 0, u16::MAX][random.below(6)];
    let mut snapshot = (*plan.snapshot()).clone();
    match random.below(10) {
        0 => snapshot.uplink = None,
        1 => snapshot.host = None,
        2 => snapshot.interfaces.clear(),
        3 => snapshot.peers = Peers::default(),
        4 => snapshot.policies.clear(),
        5 => snapshot.endpoints.clear(),
        6 => snapshot.ports[random.below(PORT_NAMES.len())] = PortState::CLOSED,
        7 => snapshot.ports.truncate(random.below(PORT_NAMES.len())),
        8 => snapshot.uplink = Some(PortIndex(random.below(7) as u16)),
        _ => {}
    }
    Arc::new(snapshot)
}

#[test]
fn no_frame_under_no_snapshot_panics_or_gets_lost() {
    let mut rig = Rig::new();
    let (corpus, mut random) = (corpus(), Seeded(77));
    let mut forger = Forger::new(Side::B, Protection::default(), 1);
    for _ in 0..2_000 {
        if random.below(3) == 0 {
            let mut plan = rig.a.plan.clone();
            let snapshot = shaken(&mut random, &mut plan);
            rig.a.plan = plan;
            rig.a.publish_one(snapshot);
        }
        for _ in 0..BURST {
            let (port, mut frame) = corpus[random.below(corpus.len())].clone();
            let port = match random.below(5) {
                4 => {
                    let (port, fragment) = pieces(&mut random);
                    frame = fragment;
                    port
                }
                0 => PortIndex(random.below(PORT_NAMES.len()) as u16),
                1 => {
                    let inner = Side::B
                        .pod_sends(0, Side::A.pod(0, true), udp(1, 2))
                        .build();
                    frame = forger.seal(packet(&inner), 4);
                    UPLINK
                }
                _ => port,
            };
            if random.below(3) == 0 {
                mutate(&mut random, &mut frame);
            }
            rig.a.deliver(port, &frame);
        }
        rig.advance(random.below(400) as u64 * Tick::MS);
        rig.a.poll();
        for port in [UPLINK, HOST, VF0, VF1, VF2] {
            rig.a.take(port);
        }
        rig.a.verdicts();
    }
    // And then it is as it was.
    rig.a.plan = Plan::open(Side::A);
    rig.a.plan.generation = 9999;
    for vf in 0..VFS {
        let addrs = vec![Side::A.pod(vf, true), Side::A.pod(vf, false)];
        // Numbers past all that the shaking used.
        for _ in 0..2000 {
            rig.a.plan.touch(vf);
        }
        rig.a.plan.replace_pod(vf, addrs, Policy::OPEN);
    }
    rig.a.publish();
    rig.settle();
    rig.a.take(VF1);
    let frame = Side::A
        .pod_sends(0, Side::A.pod(1, true), udp(60_000, 2))
        .build();
    rig.a.push_one(VF0, &frame, VF1);
}
