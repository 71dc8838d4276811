//! Several workers that poll as they please, are told a snapshot one after the other, and meet
//! floods: what `walk` can't show with workers that take turns.

use core::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use sluice_dataplane_core::addr::Addr;
use sluice_dataplane_core::flow::key::Tuple;
use sluice_dataplane_core::lane::flow_hash;
use sluice_dataplane_core::names::learned::LearnLimits;
use sluice_dataplane_core::port::Frame;
use sluice_dataplane_core::reason::DropReason;
use sluice_dataplane_core::snapshot::PortIndex;
use sluice_dataplane_core::worker::WorkerConfig;

use crate::rig::*;

const V4: bool = true;

impl Node {
    /// Gives a frame to one worker's queue.
    fn to(&mut self, worker: usize, port: PortIndex, bytes: &[u8]) {
        let frame = self.pool.frame(bytes).unwrap();
        self.crew[worker].0.ports_mut()[usize::from(port.0)].deliver(frame);
    }

    fn turn(&mut self, worker: usize) {
        self.crew[worker].0.poll(self.now);
    }

    fn turn_of_all(&mut self) {
        (0..WORKERS).for_each(|worker| self.turn(worker));
    }

    /// What has come out by a port.
    fn out_by(&mut self, port: PortIndex) -> Vec<Vec<u8>> {
        let port = usize::from(port.0);
        let mut out = Vec::new();
        for (worker, _) in &mut self.crew {
            let port = &mut worker.ports_mut()[port];
            out.extend(std::iter::from_fn(|| port.collect()).map(|it| it.bytes().to_vec()));
        }
        out
    }

    fn dropped(&self, port: PortIndex, reason: DropReason) -> u64 {
        self.counted().port(port).dropped(reason)
    }

    /// A frame of a VF to somebody, whose flow is one worker's.
    fn owned(&self, worker: usize, vf: usize, dst: Addr) -> Vec<u8> {
        let frames = (1000..).map(|port| Side::A.pod_sends(vf, dst, udp(port, 9)).build());
        let mut its = frames.filter(|it| {
            let hash = flow_hash(&Tuple::from(&meta(it)));
            self.shares.of_hash(hash) == worker
        });
        its.next().unwrap()
    }
}

/// ESP from anybody, for an SA that would be worker 1's.
fn garbage() -> Vec<u8> {
    let mut esp = vec![0u8; 40];
    esp[..4].copy_from_slice(&0x3000_0001u32.to_be_bytes());
    let (from, to) = (Side::B.tunnel(V4), Side::A.tunnel(V4));
    with_payload(Side::A.wire_sends(from, to, udp(4500, 4500)), esp).build()
}

#[test]
fn a_frame_by_every_port_and_poll_fills_no_ring() {
    let mut rig = Rig::new();
    let node = &mut rig.a;
    let [pod0, pod1] = [0, 1].map(|pod| Side::A.pod(pod, V4));
    let vfs = [(VF0, 0, pod1), (VF1, 1, pod0), (VF2, 2, pod0)];
    let frames = vfs.map(|(port, vf, dst)| (port, node.owned(1, vf, dst)));
    for _ in 0..2_000 {
        for (port, frame) in &frames {
            node.to(0, *port, frame);
        }
        node.to(0, UPLINK, &garbage());
        node.turn_of_all();
        assert!(node.out_by(VF0).len() + node.out_by(VF1).len() <= 6);
    }
    for (port, _) in frames {
        assert_eq!(node.dropped(port, DropReason::Handoff), 0, "{port:?}");
    }
}

#[test]
fn a_worker_that_is_late_loses_what_its_ports_own_ring_would_and_no_less() {
    let mut rig = Rig::new();
    let node = &mut rig.a;
    let frame = node.owned(1, 0, Side::A.pod(1, V4));
    let mut sent = 0;
    while node.dropped(VF0, DropReason::Handoff) == 0 {
        (0..32).for_each(|_| node.to(0, VF0, &frame));
        node.turn(0);
        sent += 32;
        assert!(sent < 2_000, "nothing bounds what waits");
    }
    let lost = node.dropped(VF0, DropReason::Handoff);
    let held = sent - lost;
    assert!(
        held >= 500,
        "{held} of {sent} wait for a worker that is late"
    );
    node.turn(1);
    let passed = node.out_by(VF1).len() as u64;
    let more_than_the_port_takes = held - passed;
    assert_eq!(
        node.dropped(VF0, DropReason::TxFull),
        more_than_the_port_takes
    );
    assert_eq!(node.dropped(VF0, DropReason::Handoff), lost);
}

#[test]
fn a_flood_by_one_port_takes_no_other_ports_place() {
    let mut rig = Rig::new();
    let node = &mut rig.a;
    let [pod0, pod1] = [0, 1].map(|pod| Side::A.pod(pod, V4));
    let (flood, quiet) = (node.owned(1, 0, pod1), node.owned(1, 1, pod0));
    for _ in 0..100 {
        // Worker 1 has more to do than worker 0, which only hands over.
        for _ in 0..20 {
            for _ in 0..32 {
                node.to(0, VF0, &flood);
                node.to(0, UPLINK, &garbage());
            }
            node.to(0, VF1, &quiet);
            node.turn(0);
        }
        node.turn(1);
        node.out_by(VF0);
        node.out_by(VF1);
    }
    assert!(node.dropped(VF0, DropReason::Handoff) > 1_000);
    assert!(node.dropped(UPLINK, DropReason::Handoff) > 1_000);
    assert_eq!(node.dropped(VF1, DropReason::Handoff), 0);
}

#[test]
fn a_snapshot_that_one_worker_has_later_costs_no_frame() {
    let mut rig = Rig::new();
    let node = &mut rig.a;
    let frame = node.owned(1, 0, Side::A.pod(1, V4));
    for late in [0, 1] {
        node.plan.generation += 1;
        let snapshot = node.plan.snapshot();
        let early = &mut node.crew[1 - late].1.snapshots;
        early.publish(Arc::clone(&snapshot)).unwrap();
        let mut out = 0;
        for _ in 0..100 {
            (0..32).for_each(|_| node.to(0, VF0, &frame));
            node.turn_of_all();
            out += node.out_by(VF1).len();
        }
        assert_eq!(out, 3_200, "worker {late} was late");
        for (worker, at) in [(late, true), (2, late == 1)] {
            if at || late == 0 {
                let handle = &mut node.crew[worker].1;
                handle.snapshots.publish(Arc::clone(&snapshot)).unwrap();
            }
        }
        node.turn_of_all();
    }
    assert_eq!(node.dropped(VF0, DropReason::Handoff), 0);
}

/// The rig's only SA is worker 0's: what is of other workers' flows is handed to it judged.
#[test]
fn what_waits_to_be_sealed_is_judged_anew_by_a_new_snapshot() {
    let mut rig = Rig::new();
    let node = &mut rig.a;
    let to = Side::B.pod(0, V4);
    let frame = node.owned(1, 0, to);
    let sealed = |node: &mut Node| {
        let out = node.out_by(UPLINK);
        out.iter().filter(|it| meta(it).protocol == 50).count()
    };
    node.turn_of_all();
    sealed(node);

    // Another address moves.
    (0..10).for_each(|_| node.to(1, VF0, &frame));
    node.turn(1);
    node.plan.move_address(c_pod(V4));
    node.plan.generation += 1;
    node.publish();
    (0..3).for_each(|_| node.turn_of_all());
    assert_eq!(sealed(node), 10, "an allowed flow lost packets");

    // Policy closes.
    (0..10).for_each(|_| node.to(1, VF0, &frame));
    node.turn(1);
    node.plan.repolicy(0, Policy::CLOSED);
    node.plan.generation += 1;
    node.publish();
    (0..3).for_each(|_| node.turn_of_all());
    assert_eq!(sealed(node), 0, "a denied flow went on");
    assert_eq!(node.dropped(VF0, DropReason::PolicyEgress), 10);
}

#[test]
fn what_the_host_sends_is_not_sealed_for_a_pod_that_has_gone_meanwhile() {
    let mut rig = Rig::new();
    let node = &mut rig.a;
    node.turn_of_all();
    node.out_by(UPLINK);
    // One whose lane isn't the SA's owner's.
    let to = [(0, true), (0, false), (1, true), (1, false), (2, true)];
    let frames = to.map(|(pod, v4)| {
        let frame = Side::A.host_sends(Side::B.pod(pod, v4), udp(7, 9)).build();
        (pod, frame)
    });
    let owner = |node: &Node, frame: &[u8]| {
        let hash = flow_hash(&Tuple::from(&meta(frame)));
        node.shares.of_hash(hash)
    };
    let elsewhere = frames.iter().find(|(_, it)| owner(node, it) != 0);
    let (pod, frame) = elsewhere.expect("three workers");
    let worker = owner(node, frame);
    node.to(worker, HOST, frame);
    node.turn(worker);
    node.plan.revoked.push(*pod);
    node.plan.generation += 1;
    node.publish();
    (0..3).for_each(|_| node.turn_of_all());
    let out = node.out_by(UPLINK);
    assert!(
        out.iter().all(|it| meta(it).protocol != 50),
        "it left sealed"
    );
    assert!(node.counted().port(HOST).dropped_total() > 0);
}

#[test]
fn a_pod_that_is_told_many_names_takes_no_other_pods_names() {
    const NAME: &str = "db.example.com";
    let mut plan = Plan::open(Side::A);
    plan.pod(0).policy = Policy::naming(NAME, 1, 200);
    plan.pod(2).policy = Policy::naming(NAME, 1, 200);
    let config = WorkerConfig {
        names: LearnLimits {
            addresses_per_vf: 2_000,
            ..LearnLimits::default()
        },
        ..WorkerConfig::new(FLOWS, HASH_KEY)
    };
    let mut node = Node::configured(plan, &config, 256);
    node.publish();
    node.poll();
    let resolver = Side::A.pod(1, V4);
    // Flows of worker 0's, which is the only one that polls at first.
    let port_of = |node: &Node, vf| {
        let mut ports = 4_000..5_000u16;
        ports.find(|port| {
            let ask = Side::A.pod_sends(vf, resolver, udp(*port, 53)).build();
            node.shares.of_hash(flow_hash(&Tuple::from(&meta(&ask)))) == 0
        })
    };
    let ports = [0, 2].map(|vf| port_of(&node, vf).unwrap());
    let talk = |node: &mut Node, vf: usize, id: u16, ips: &[IpAddr]| {
        let port = ports[vf / 2];
        let ask = Side::A.pod_sends(vf, resolver, udp(port, 53));
        let ask = with_payload(ask, dns_query(id, NAME, 1)).build();
        node.to(0, Side::vf_port(vf), &ask);
        node.turn(0);
        let records: Vec<_> = ips.iter().map(|it| dns_addr(&QUESTION, *it, 60)).collect();
        let answer = Side::A.pod_sends(1, Side::A.pod(vf, V4), udp(53, port));
        let answer = with_payload(answer, dns_answer(id, NAME, 1, &records)).build();
        node.to(0, VF1, &answer);
        node.turn(0);
        node.out_by(Side::vf_port(vf)).len()
    };
    let mut heard = 0;
    for id in 0..16u8 {
        let ips = (0..80).map(|n| IpAddr::from(Ipv4Addr::new(203, 0, id, n + 1)));
        heard += talk(&mut node, 0, u16::from(id), &ips.collect::<Vec<_>>());
    }
    assert!(
        (1..16).contains(&heard),
        "{heard} answers of many were delivered"
    );
    assert!(node.dropped(VF1, DropReason::Handoff) > 0, "the others not");
    let own = IpAddr::from(Ipv4Addr::new(198, 51, 100, 9));
    assert_eq!(talk(&mut node, 2, 7, &[own]), 1, "told");
    // And may use it, by whichever worker.
    for worker in 0..WORKERS {
        let syns = (1000..).map(|port| Side::A.pod_sends(2, own.into(), tcp(port, 443, SYN)));
        let mut its = syns.map(|it| it.build()).filter(|it| {
            let hash = flow_hash(&Tuple::from(&meta(it)));
            node.shares.of_hash(hash) == worker
        });
        let syn = its.next().unwrap();
        node.to(worker, VF2, &syn);
        node.turn(worker);
    }
    assert_eq!(node.dropped(VF2, DropReason::PolicyEgress), 0);
}
