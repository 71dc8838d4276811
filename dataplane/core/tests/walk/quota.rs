//! What one VF may have of the flow table, and that it can't take what another needs.

use sluice_dataplane_core::flow::key::{FlowKey, Tuple};
use sluice_dataplane_core::flow::quota::Quotas;
use sluice_dataplane_core::flow::table::{CHAIN_MAX, SWEEP_MAX};
use sluice_dataplane_core::hash::HashKey;
use sluice_dataplane_core::meta::proto;
use sluice_dataplane_core::snapshot::PortIndex;
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::worker::WorkerConfig;

use crate::rig::*;

const V4: bool = true;

fn node(flows: usize, quotas: Quotas) -> Node {
    let config = WorkerConfig {
        quotas,
        ..WorkerConfig::new(flows, HASH_KEY)
    };
    let mut node = Node::configured(Plan::open(Side::A), &config, 256);
    node.publish();
    node.poll();
    node.take(UPLINK);
    node.rebase();
    node
}

const fn quotas(flows_max: usize, half_open_max: usize) -> Quotas {
    Quotas {
        flows_max,
        half_open_max,
    }
}

fn ask(from: usize, to: usize, port: u16) -> Vec<u8> {
    Side::A
        .pod_sends(from, Side::A.pod(to, V4), udp(port, 9))
        .build()
}

fn answer(from: usize, to: usize, port: u16) -> Vec<u8> {
    Side::A
        .pod_sends(from, Side::A.pod(to, V4), udp(9, port))
        .build()
}

#[test]
fn a_full_table_drops_and_never_passes_untracked() {
    if !ALONE {
        return; // Each worker has room of its own.
    }
    let mut node = node(4, Quotas::NONE);
    for port in 0..4 {
        node.push_one(VF0, &ask(0, 1, port), VF1);
        node.push_one(VF1, &answer(1, 0, port), VF0);
    }
    node.rebase();
    for port in 4..6 {
        node.deliver(VF0, &ask(0, 1, port));
    }
    node.poll();
    node.expect_delta(&[
        ("vf0.rx", 2),
        ("vf0.drop.flow-table-full", 2),
        ("flow.miss", 2),
    ]);
    // Flows that are there go on, and time makes room again.
    node.push_one(VF0, &ask(0, 1, 0), VF1);
    node.now = node.now + 122 * Tick::SECOND;
    node.poll();
    node.push_one(VF0, &ask(0, 1, 5), VF1);
}

#[test]
fn a_vf_at_its_quota_gives_up_what_is_half_open_and_then_gets_no_more() {
    if !ALONE {
        return; // Each worker has room of its own.
    }
    let mut node = node(1024, quotas(4, 2));
    for port in 0..3 {
        node.push_one(VF0, &ask(0, 1, port), VF1);
    }
    node.expect_delta(&[
        ("vf0.rx", 3),
        ("vf0.forwarded", 3),
        ("vf1.tx", 3),
        ("flow.miss", 3),
        ("flows", 2),
        ("flows.evicted", 1),
    ]);
    for port in 3..7 {
        node.push_one(VF0, &ask(0, 1, port), VF1);
        node.push_one(VF1, &answer(1, 0, port), VF0);
    }
    node.rebase();
    node.deliver(VF0, &ask(0, 1, 7));
    node.poll();
    node.expect_delta(&[("vf0.rx", 1), ("vf0.drop.flow-quota", 1), ("flow.miss", 1)]);
    // The one that is spoken to has a quota of its own.
    node.push_one(VF1, &ask(1, 0, 8), VF0);
}

#[test]
fn a_pod_does_not_pay_for_the_flows_of_the_one_before_it_on_its_vf() {
    let mut node = node(1024, quotas(200, 200));
    for port in 1000..1200 {
        node.push_one(VF0, &ask(0, 1, port), VF1);
        node.push_one(VF1, &answer(1, 0, port), VF0);
    }
    node.push_one(VF2, &ask(2, 1, 7), VF1);
    node.rebase();
    node.replan(|plan| {
        let addrs = plan.pod(0).addrs.clone();
        plan.replace_pod(0, addrs, Policy::OPEN);
    });
    for _ in 0..200 / SWEEP_MAX + 1 {
        node.poll();
    }
    node.expect_delta(&[("flows", -200)]);
    node.push_one(VF0, &ask(0, 1, 7), VF1);
    // Those of pods that stayed have stayed.
    node.rebase();
    node.replan(|plan| plan.touch(2));
    for _ in 0..20 {
        node.poll();
    }
    node.expect_delta(&[]);
}

/// A connection's whole life; each of its segments passes.
fn connect(node: &mut Node, (vf, port): (usize, PortIndex), src_port: u16) {
    let (to, out) = (Side::A.pod(0, V4), VF0);
    for (flags, seq, ack, is_client) in [
        (SYN, 0, 0, true),
        (SYN | ACK, 0, 1, false),
        (ACK, 1, 1, true),
        (FIN | ACK, 1, 1, true),
        (FIN | ACK, 1, 2, false),
        (ACK, 2, 2, true),
    ] {
        let spec = if is_client {
            let body = tcp_at(src_port, 80, flags, seq, ack);
            Side::A.pod_sends(vf, to, body)
        } else {
            let body = tcp_at(80, src_port, flags, seq, ack);
            Side::A.pod_sends(0, Side::A.pod(vf, V4), body)
        };
        let frame = with_payload(spec, Vec::new()).build();
        if is_client {
            node.push_one(port, &frame, out);
        } else {
            node.push_one(out, &frame, port);
        }
        node.take(VF1);
        flood(node, 3);
    }
}

/// SYNs of vf2 to everybody, each of another flow.
fn flood(node: &mut Node, bursts: usize) {
    for burst in 0..bursts {
        for n in 0..32 {
            let src_port = (node.now.0 % 60_000) as u16 + burst as u16 * 32 + n;
            let body = tcp_at(src_port, 7, SYN, 9, 0);
            let spec = Side::A.pod_sends(2, Side::A.pod(1, V4), body);
            node.deliver(VF2, &spec.build());
        }
        node.poll();
        node.take(VF1);
    }
    node.now = node.now + Tick(97).0;
}

#[test]
fn a_vf_that_floods_takes_nothing_that_another_needs() {
    // Also where the quotas promise more than there is.
    for quotas in [Quotas::of(256), quotas(256, 256)] {
        let mut node = node(256, quotas);
        flood(&mut node, 20);
        for src_port in 1000..1050 {
            connect(&mut node, (1, VF1), src_port);
        }
    }
}

#[test]
fn a_flood_from_outside_at_one_pod_costs_others_nothing_and_that_one_its_visitors() {
    let mut node = node(256, Quotas::of(256));
    for n in 0..2000 {
        let body = tcp_at(n, 80, SYN, 9, 0);
        let frame = Side::A.wire_sends(stranger(V4), Side::A.pod(0, V4), body);
        node.deliver(UPLINK, &frame.build());
    }
    node.drain();
    node.take(VF0);
    let visit = Side::A.wire_sends(stranger(V4), Side::A.pod(1, V4), udp(1, 2));
    node.push_one(UPLINK, &visit.build(), VF1);
    for port in 0..10 {
        node.push_one(VF0, &ask(0, 1, port), VF1);
        node.push_one(VF1, &answer(1, 0, port), VF0);
    }
}

#[test]
fn tuples_that_meet_in_one_place_are_dropped_and_counted() {
    if !ALONE {
        return; // Each worker has room of its own.
    }
    let mut node = node(FLOWS, Quotas::NONE);
    let meets = |tuple: Tuple| {
        let hash = FlowKey::of(tuple).0.hash(HashKey(HASH_KEY));
        hash >> (64 - FLOWS.trailing_zeros()) == 5
    };
    let tuple = |n: u32| Tuple {
        src: Side::A.pod(0, V4),
        dst: Side::A.pod(1, V4),
        src_port: (n >> 16) as u16,
        dst_port: n as u16,
        protocol: proto::UDP,
    };
    let meeting = (0..u32::MAX).map(tuple).filter(|t| meets(*t));
    for tuple in meeting.take(CHAIN_MAX + 3) {
        let body = udp(tuple.src_port, tuple.dst_port);
        let spec = Side::A.pod_sends(0, Side::A.pod(1, V4), body);
        node.deliver(VF0, &spec.build());
    }
    node.drain();
    let passed = CHAIN_MAX as i64;
    node.expect_delta(&[
        ("vf0.rx", passed + 3),
        ("vf0.forwarded", passed),
        ("vf0.drop.flow-chain", 3),
        ("vf1.tx", passed),
        ("flow.miss", passed + 3),
        ("flows", passed),
    ]);
}
