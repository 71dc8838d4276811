//! Packets of known flows take a shorter way: it must be a way to the same.

mod opened;

use std::collections::{BTreeMap, BTreeSet};

use sluice_dataplane_core::command::{Command, FlowView};
use sluice_dataplane_core::meta::{FragKind, proto};
use sluice_dataplane_core::port::BURST_MAX;
use sluice_dataplane_core::sad::Mode;
use sluice_dataplane_core::snapshot::PortIndex;
use sluice_dataplane_core::table::policy::Transport;
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::verdict::VerdictRecord;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};
use sluice_dataplane_core::wire::checksum;

use crate::rig::*;
use crate::track::flows;

const V4: bool = true;
/// Of the first pod, then of the host.
const FLOWS_TRIED: usize = 12;
const OF_THE_POD: usize = 8;
/// Frames of a burst, at least. No datagram ends in the next.
const ROUGHLY: usize = BURST_MAX - 2 * RUN_MAX;
/// Packets of a flow in a row, at most.
const RUN_MAX: usize = 8;
/// Where datagrams are cut, in units of eight bytes past the IP header.
const CUT_AT: u16 = 4;

/// Two nodes that are told the same: one gets bursts, the other their packets one by one, and
/// each of them has to take the walk.
struct Twins {
    bursts: Rig,
    singles: Rig,
}

impl Twins {
    fn new(how: Protection) -> Self {
        let new = || {
            let mut rig = Rig::protected_by(how);
            (0..FLOWS_TRIED).for_each(|flow| shake_hands(&mut rig, flow));
            rig.a.verdicts();
            rig
        };
        Self {
            bursts: new(),
            singles: new(),
        }
    }

    /// The same frames come in; what leaves by each port, and what is known and counted in the end.
    fn send(&mut self, port: PortIndex, burst: &[Vec<u8>]) {
        self.deliver(port, burst);
        self.compare(port);
    }

    fn deliver(&mut self, port: PortIndex, burst: &[Vec<u8>]) {
        for frame in burst {
            self.bursts.a.deliver(port, frame);
        }
        self.bursts.a.drain();
        for frame in burst {
            // Under another snapshot nothing has a way: each takes the walk.
            self.singles.a.replan(|_| {});
            self.singles.a.deliver(port, frame);
            self.singles.a.poll();
        }
    }

    /// The pod of the other node answers: its packets come as ESP, each by itself to both.
    fn answer(&mut self, frame: &[u8]) {
        for rig in [&mut self.bursts, &mut self.singles] {
            rig.b.deliver(VF1, frame);
            rig.b.poll();
            rig.carry();
        }
        self.compare(UPLINK);
    }

    fn compare(&mut self, in_port: PortIndex) {
        for port in [VF0, VF1, UPLINK, HOST] {
            let take = |rig: &mut Rig| {
                let mut sent = rig.a.take(port);
                // What is sealed overtakes another flow's packets that aren't, and so do errors
                // about it; fragments that have waited for their first leave last.
                sent.sort_by_key(|it| {
                    let meta = meta(it);
                    (meta.protocol == proto::ESP, meta.frag == FragKind::Later)
                });
                if port == in_port {
                    sent.sort();
                }
                sent
            };
            let (burst, single) = (take(&mut self.bursts), take(&mut self.singles));
            assert_eq!(burst.len(), single.len(), "{port:?}");
            for (at, (burst, single)) in burst.iter().zip(&single).enumerate() {
                assert_eq!(burst, single, "{port:?}, frame {at}");
            }
        }
        self.compare_state();
    }

    fn compare_state(&mut self) {
        let (bursts, singles) = (counted(&self.bursts), counted(&self.singles));
        let differ = |(name, _): &(&String, &u64)| bursts.get(*name) != singles.get(*name);
        let differing: Vec<_> = singles.iter().filter(differ).collect();
        assert!(differing.is_empty(), "{differing:?}");
        let [known, known_singly] = [&mut self.bursts, &mut self.singles].map(known_flows);
        assert_eq!(known, known_singly);
        let [said, said_singly] = [&mut self.bursts, &mut self.singles].map(verdicts);
        assert_eq!(said, said_singly);
    }

    /// Mostly nothing; or what a way was found by becomes another: a policy, a pod, an SA.
    fn change(&mut self, dice: &mut Seeded, how: Protection) {
        let (change, vf) = (dice.below(30), dice.below(2));
        let udp = || Policy::CLOSED.allow_out(Transport::Udp, PORT);
        for rig in [&mut self.bursts, &mut self.singles] {
            rig.a.counting = false;
            match change {
                0..=4 => rig
                    .a
                    .replan(|plan| plan.repolicy(vf, policy(change, udp()))),
                5 => rig.a.replan(|plan| {
                    let addrs = plan.pod(1).addrs.clone();
                    plan.replace_pod(1, addrs, Policy::OPEN);
                }),
                6 => {
                    let children = outbound(Side::A, how).into();
                    rig.a.command(Command::InstallOutbound(OTHER, children));
                    rig.a.poll();
                    rig.a.reply();
                }
                7 => {
                    rig.a.command(Command::RetireOutbound(OTHER));
                    rig.a.poll();
                    rig.a.reply();
                }
                _ => {}
            }
            rig.a.counting = true;
        }
    }

    /// Time passes, and who is asked for a MAC answers.
    fn advance(&mut self, ns: u64) {
        for rig in [&mut self.bursts, &mut self.singles] {
            rig.advance(ns);
            rig.settle();
        }
    }
}

/// Nothing is allowed, or some of it, or mostly everything.
fn policy(dice: usize, some: Policy) -> Policy {
    match dice {
        0 => Policy::CLOSED,
        1 => some,
        _ => Policy::OPEN,
    }
}

/// All counters but those of what a flow is found as: a burst's packets find it as it was before
/// them, unless they come in a train.
fn counted(rig: &Rig) -> BTreeMap<String, u64> {
    let mut all = rig.a.counters();
    all.retain(|name, _| !["flow.hit", "flow.miss", "flow.stale"].contains(&name.as_str()));
    all
}

/// In an order that doesn't depend on which came first.
fn known_flows(rig: &mut Rig) -> Vec<FlowView> {
    rig.a.counting = false;
    let mut all = flows(&mut rig.a);
    rig.a.counting = true;
    all.sort_by_key(|it| {
        (
            it.tuple.src,
            it.tuple.dst,
            it.tuple.protocol,
            it.tuple.src_port,
        )
    });
    all
}

/// What was said of each flow; of one that is new in a burst more than once.
fn verdicts(rig: &mut Rig) -> BTreeSet<String> {
    let of = |it: VerdictRecord| {
        format!(
            "{:?}",
            VerdictRecord {
                generation: 0,
                ..it
            }
        )
    };
    rig.a.verdicts().into_iter().map(of).collect()
}

/// Whether a flow is IPv4, whether it is TCP, and what it goes to.
fn kind(flow: usize) -> (bool, bool, Side) {
    let to = if flow & 4 == 0 { Side::A } else { Side::B };
    (flow & 1 == 0, flow & 2 == 0, to)
}

const PORT: u16 = 443;

fn port(flow: usize) -> u16 {
    40_000 + flow as u16
}

/// Where it begins: at the first pod, or at the host, which speaks to the pod next to it.
fn source(flow: usize) -> PortIndex {
    if flow < OF_THE_POD { VF0 } else { HOST }
}

/// A packet of it, as its initiator sends it.
fn sends(flow: usize, body: Body) -> FrameSpec {
    let (v4, _, to) = kind(flow);
    match source(flow) {
        HOST => Side::A.host_sends(Side::A.pod(1, v4), body),
        _ => Side::A.pod_sends(0, to.pod(1, v4), body),
    }
}

/// A packet of it, as who was spoken to sends it, and where that is.
fn answers(flow: usize, body: Body) -> (Side, FrameSpec) {
    let (v4, _, to) = kind(flow);
    match source(flow) {
        HOST => (Side::A, Side::A.pod_sends(1, Side::A.node(v4), body)),
        _ => (to, to.pod_sends(1, Side::A.pod(0, v4), body)),
    }
}

/// A connection opens, whose next numbers are 1 at both ends.
fn shake_hands(rig: &mut Rig, flow: usize) {
    let (_, is_tcp, _) = kind(flow);
    if !is_tcp {
        return;
    }
    let there = |flags, seq, ack| sends(flow, tcp_at(port(flow), PORT, flags, seq, ack)).build();
    let (to, back) = answers(flow, tcp_at(PORT, port(flow), SYN | ACK, 0, 1));
    rig.a.deliver(source(flow), &there(SYN, 0, 0));
    rig.settle();
    match to {
        Side::A => rig.a.deliver(VF1, &back.build()),
        Side::B => rig.b.deliver(VF1, &back.build()),
    }
    rig.settle();
    rig.a.deliver(source(flow), &there(ACK, 1, 1));
    rig.settle();
    for port in [VF0, VF1, UPLINK, HOST] {
        rig.a.take(port);
    }
}

/// A packet of one of a few flows, plain or odd in one of the ways that end a train; in one frame,
/// or in two.
fn frame(
    dice: &mut Seeded,
    flow: usize,
    [seq, ack]: [&mut u32; 2],
    datagrams: &mut u16,
) -> Vec<Vec<u8>> {
    let (v4, tcp_flow, to) = kind(flow);
    // Numbers of what is sealed would say in which order fragments have left.
    let may_be_cut = v4 && !tcp_flow && (source(flow) == HOST || matches!(to, Side::A));
    // Most are plain.
    let odd = dice.below(40);
    let ports = (port(flow), PORT);
    let len = match odd {
        0 => 1_460,
        1 => 0,
        10 | 11 if may_be_cut => usize::from(CUT_AT - 1) * 8,
        _ => 1 + dice.below(200),
    };
    let body = if tcp_flow {
        let flags = match odd {
            2 => ACK | FIN,
            3 => 0,
            4 => ACK | SYN,
            _ => ACK,
        };
        tcp_at(ports.0, ports.1, flags, *seq, *ack)
    } else {
        udp(ports.0, ports.1)
    };
    if tcp_flow && odd > 4 {
        *seq = seq.wrapping_add(len as u32);
    }
    let mut spec = with_payload(sends(flow, body), vec![odd as u8; len]);
    spec.tos = if odd == 5 { 3 } else { 0 };
    let mut frame = spec.build();
    match odd {
        6 => {
            let at = dice.below(60).min(frame.len() - 1);
            frame[at] ^= 1 << dice.below(8);
        }
        7 => frame.extend([0; 9]),
        8 => frame.truncate(frame.len() - 1),
        9 if v4 => {
            // Another identification, which is everybody's own.
            frame[18] = dice.below(256) as u8;
            frame[24..26].fill(0);
            let sum = checksum::of(&frame[14..34]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        // A datagram in two parts, one way round or the other.
        10 | 11 if may_be_cut => {
            *datagrams += 1;
            frame[18..20].copy_from_slice(&datagrams.to_be_bytes());
            let first = fragmented(frame.clone(), 0, true);
            let later = fragmented(frame, CUT_AT, false);
            return if odd == 10 {
                vec![first, later]
            } else {
                vec![later, first]
            };
        }
        _ => {}
    }
    vec![frame]
}

/// An answer in one of the flows, and where from.
fn answer(dice: &mut Seeded, flow: usize, [seq, ack]: [&mut u32; 2]) -> (Side, Vec<u8>) {
    let (_, tcp_flow, _) = kind(flow);
    let len = 1 + dice.below(200);
    let body = if tcp_flow {
        tcp_at(PORT, port(flow), ACK, *ack, *seq)
    } else {
        udp(PORT, port(flow))
    };
    if tcp_flow {
        *ack = ack.wrapping_add(len as u32);
    }
    let (from, spec) = answers(flow, body);
    (from, with_payload(spec, vec![7; len]).build())
}

#[test]
fn a_burst_is_its_packets_one_by_one() {
    if !ALONE {
        // Several workers take turns, and what is between them comes later.
        return;
    }
    for seed in 1..=40 {
        let mut dice = Seeded(seed);
        let how = Protection {
            outer_v4: seed % 2 == 0,
            ..Protection::default()
        };
        let mut twins = Twins::new(how);
        // The next numbers of both ends.
        let mut seqs = [[1u32; 2]; FLOWS_TRIED];
        let mut datagrams = [0u16; FLOWS_TRIED];
        for _ in 0..60 {
            let from = [VF0, VF0, HOST, VF1][dice.below(4)];
            let mut burst = Vec::new();
            while burst.len() < ROUGHLY {
                let flow = dice.below(FLOWS_TRIED);
                let is_here = |it: Side| matches!(it, Side::A);
                let (_, _, to) = kind(flow);
                for _ in 0..1 + dice.below(RUN_MAX) {
                    let [seq, ack] = &mut seqs[flow];
                    if from == source(flow) {
                        burst.extend(frame(&mut dice, flow, [seq, ack], &mut datagrams[flow]));
                    } else if from == VF1 && (source(flow) == HOST || is_here(to)) {
                        burst.push(answer(&mut dice, flow, [seq, ack]).1);
                    }
                }
            }
            twins.send(from, &burst);
            let flow = dice.below(OF_THE_POD);
            let [seq, ack] = &mut seqs[flow];
            if let (Side::B, frame) = answer(&mut dice, flow, [seq, ack]) {
                twins.answer(&frame);
            }
            // Some end of what nobody answered, and some of what was, is in the longer ones.
            let quiet_s = match dice.below(20) {
                0 => 20 + dice.below(120),
                1 => dice.below(35),
                _ => 0,
            };
            twins.advance(quiet_s as u64 * Tick::SECOND + dice.below(40) as u64 * Tick::MS);
            twins.change(&mut dice, how);
        }
    }
}

/// A pod that may be connected to and may not connect.
#[test]
fn what_begins_something_in_a_known_flow_is_judged_by_itself() {
    let mut rig = Rig::judging(Policy::CLOSED.allow_in(Transport::Tcp, PORT), Policy::OPEN);
    let (server, client) = (Side::A.pod(0, V4), Side::B.pod(1, V4));
    let there = |flags, seq, ack| {
        let body = tcp_at(port(0), PORT, flags, seq, ack);
        Side::B.pod_sends(1, server, body).build()
    };
    let back = |flags, seq, ack| {
        let body = tcp_at(PORT, port(0), flags, seq, ack);
        Side::A.pod_sends(0, client, body).build()
    };
    rig.b.deliver(VF1, &there(SYN, 0, 0));
    rig.settle();
    rig.a.deliver(VF0, &back(SYN | ACK, 0, 1));
    rig.settle();
    rig.b.deliver(VF1, &there(ACK, 1, 1));
    rig.settle();
    rig.a.rebase();
    for flags in [ACK, ACK, ACK, ACK, SYN, ACK] {
        rig.a
            .deliver(VF0, &back(flags, 1, if flags == SYN { 0 } else { 1 }));
    }
    rig.a.poll();
    rig.a.expect_delta(&[
        ("vf0.rx", 6),
        ("vf0.forwarded", 5),
        ("vf0.drop.policy-egress", 1),
        ("uplink.tx", 5),
        ("sealed", 5),
        ("flow.hit", 5),
        ("flow.miss", 1),
    ]);
}

/// A rig in which a flow of A's pod to B's is known: the third packet has gone its way.
fn known() -> (Rig, Vec<u8>) {
    let mut rig = Rig::new();
    let frame = Side::A.pod_sends(0, Side::B.pod(0, V4), udp(7, 8)).build();
    for _ in 0..3 {
        rig.a.deliver(VF0, &frame);
        rig.a.poll();
    }
    rig.settle();
    rig.a.rebase();
    (rig, frame)
}

#[test]
fn a_known_way_is_its_own_ports_alone() {
    let (mut rig, frame) = known();
    rig.a.drops(VF1, &frame, "spoofed-mac");
}

#[test]
fn a_flow_whose_time_is_over_has_no_way() {
    let (mut rig, frame) = known();
    rig.advance(200 * Tick::SECOND);
    rig.a.deliver(VF0, &frame);
    rig.a.poll();
    let counters = rig.a.counters();
    assert_eq!(counters["flow.miss"], 2, "it begins anew");
}

#[test]
fn an_answer_on_a_known_way_is_the_responders() {
    let mut rig = Rig::new();
    let there = Side::B.pod_sends(0, Side::A.pod(0, V4), udp(7, 8)).build();
    let back = Side::A.pod_sends(0, Side::B.pod(0, V4), udp(8, 7)).build();
    rig.b.deliver(VF0, &there);
    rig.settle();
    for _ in 0..4 {
        rig.a.deliver(VF0, &back);
        rig.a.poll();
    }
    let [flow] = &flows(&mut rig.a)[..] else {
        panic!("one flow");
    };
    assert_eq!(flow.packets, [1, 4]);
}

#[test]
fn a_known_way_ends_where_its_sa_becomes_another_pods() {
    let (mut rig, frame) = known();
    let mut pods = outbound(Side::A, Protection::default());
    pods.mode = Mode::Transport {
        pod: Side::A.pod(1, V4),
    };
    rig.a.command(Command::InstallOutbound(OTHER, pods.into()));
    rig.a.poll();
    rig.a.reply();
    rig.a.deliver(VF0, &frame);
    rig.a.poll();
    rig.a
        .expect_delta(&[("vf0.rx", 1), ("vf0.drop.no-sa", 1), ("flow.hit", 1)]);
}

/// What the guard refuses has no way, though its flow may be known.
#[test]
fn a_frame_that_was_dropped_leaves_no_way() {
    let (mut rig, frame) = known();
    let mut elsewhere = frame.clone();
    elsewhere[0] ^= 2;
    let mut spoofed = frame.clone();
    spoofed[11] ^= 1;
    for _ in 0..3 {
        rig.a.drops(VF0, &elsewhere, "not-for-us");
        rig.a.drops(VF0, &spoofed, "spoofed-mac");
    }
    // Nor has what is malformed past the ports, by a flow of other ports.
    let to = Side::B.pod(0, V4);
    let portless = Side::A.pod_sends(0, to, udp(0, 0)).build();
    for _ in 0..3 {
        rig.a.deliver(VF0, &portless);
        rig.a.poll();
    }
    rig.a.take(UPLINK);
    rig.a.rebase();
    let good = Side::A.pod_sends(0, to, udp(9, 10)).build();
    let mut malformed = good.clone();
    malformed[38..40].copy_from_slice(&7u16.to_be_bytes());
    for _ in 0..3 {
        rig.a.drops(VF0, &malformed, "malformed");
    }
    rig.a.verdicts();
    rig.a.deliver(VF0, &good);
    rig.a.poll();
    assert_eq!(rig.a.verdicts().len(), 1, "it is judged");
}
