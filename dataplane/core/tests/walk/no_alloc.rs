//! A warmed worker neither allocates nor frees, whatever comes.

use sluice_dataplane_core::addr::Addr;
use sluice_dataplane_core::command::{Command, FlowPage};
use sluice_dataplane_core::reason::DropReason;
use sluice_dataplane_core::snapshot::ROUTER_MAC;
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::wire::build::{Body, fragments, piece};

use crate::rig::*;

fn warmed(how: Protection) -> Rig {
    let mut rig = Rig::protected_by(how);
    // Flows, SAs and neighbours have their memory from the start; this warms what is
    // lazy in the libraries below.
    traffic(&mut rig, 0);
    rig.a.counting = true;
    rig.b.counting = true;
    rig
}

/// Some of everything that a pod, a host and a wire can send.
fn traffic(rig: &mut Rig, round: u16) {
    let port = 1000 + round;
    for v4 in [true, false] {
        let (near, far) = (Side::A.pod(1, v4), Side::B.pod(0, v4));
        for dst in [
            near,
            far,
            stranger(v4),
            Side::A.node(v4),
            c_pod(v4),
            service(v4),
        ] {
            for body in [
                udp(port, 53),
                tcp(port, 443, SYN),
                tcp(port, 443, ACK),
                tcp(port, 444, ACK),
                echo(port, false),
                echo(port, true),
                Body::Sctp {
                    src_port: port,
                    dst_port: 5,
                    chunk: 1,
                },
                Body::Other { protocol: 47 },
            ] {
                let spec = Side::A.pod_sends(0, dst, body);
                rig.a.deliver(VF0, &spec.build());
                let long = with_payload(spec, vec![9; 1440]);
                rig.a.deliver(VF0, &long.build());
            }
            let probe = Side::A.host_sends(dst, tcp(port, 10, SYN));
            rig.a.deliver(HOST, &probe.build());
        }
        rig.settle();
        for body in [
            udp(53, port),
            tcp(443, port, SYN | ACK),
            tcp(443, port, RST),
            echo(port, true),
        ] {
            rig.b
                .deliver(VF0, &Side::B.pod_sends(0, Side::A.pod(0, v4), body).build());
            rig.a
                .deliver(VF1, &Side::A.pod_sends(1, Side::A.pod(0, v4), body).build());
        }
        let asked = Side::A.pod_sends(0, near, udp(port, 53));
        let me = (Side::A.vf_mac(1), near);
        let error = error_about(&asked, 3, me, (ROUTER_MAC, Side::A.pod(0, v4)));
        rig.a.deliver(VF1, &error.build());
        rig.settle();
    }
    nuisances(rig, round);
    pieces(rig, round);
    rig.settle();
    for node in [&mut rig.a, &mut rig.b] {
        for port in [VF0, VF1, VF2, HOST] {
            node.take(port);
        }
    }
    rig.wire.clear();
    rig.outside.clear();
}

/// Datagrams in fragments: whole ones in both orders, to pods here and there and from
/// there, and ones that clash, repeat, or never get their first.
fn pieces(rig: &mut Rig, round: u16) {
    let id = u32::from(round) * 10;
    for v4 in [true, false] {
        for dst in [Side::A.pod(1, v4), Side::B.pod(0, v4), c_pod(v4)] {
            let spec = Side::A.pod_sends(0, dst, udp(1000 + round, 53));
            let whole = with_payload(spec, vec![round as u8; 100]).build();
            let forth = fragments(&whole, id, 40);
            let back = fragments(&whole, id + 1, 40);
            forth.iter().chain(back.iter().rev()).for_each(|fragment| {
                rig.a.deliver(VF0, fragment);
            });
            for (id, start, end) in [
                (id + 2, 40, 80),
                (id + 3, 40, 80),
                (id + 3, 72, 88),
                (id + 4, 0, 40),
                (id + 4, 0, 40),
                (id + 5, 0, 8),
            ] {
                rig.a.deliver(VF0, &piece(&whole, id, start..end, true));
            }
        }
        let spec = Side::A.wire_sends(stranger(v4), Side::A.pod(0, v4), udp(53, round));
        let whole = with_payload(spec, vec![1; 100]).build();
        for fragment in fragments(&whole, id, 40).iter().rev() {
            rig.a.deliver(UPLINK, fragment);
        }
    }
    // More than may wait.
    let spec = Side::A.pod_sends(2, Side::A.pod(1, true), udp(1, 2));
    let whole = with_payload(spec, vec![1; 100]).build();
    for n in 0..20 {
        rig.a
            .deliver(VF2, &piece(&whole, id << 8 | n, 40..80, true));
    }
    rig.a.drain();
}

/// Questions, spoofs, garbage, forgeries, and a next hop that never answers.
fn nuisances(rig: &mut Rig, round: u16) {
    let pod = (Side::A.vf_mac(0), Side::A.pod(0, true));
    let pod_v6 = (Side::A.vf_mac(0), Side::A.pod(0, false));
    let host = (Side::A.host_mac(), Side::A.node(true));
    rig.a.deliver(VF0, &who_has(pod, gateway(true)));
    rig.a.deliver(VF0, &who_has((pod.0, gateway(true)), pod.1));
    rig.a.deliver(VF0, &solicit(pod_v6, gateway(false)));
    rig.a.deliver(HOST, &who_has(host, Side::B.pod(0, true)));
    rig.a
        .deliver(UPLINK, &who_has((GATEWAY_MAC, gateway(true)), pod.1));
    rig.a
        .deliver(UPLINK, &solicit((GATEWAY_MAC, gateway(false)), pod_v6.1));
    rig.a.deliver(VF0, &[round as u8; 40]);
    let silent = on_link((round % 100) as u8);
    for _ in 0..3 {
        rig.a
            .deliver(VF0, &Side::A.pod_sends(0, silent, udp(1, 2)).build());
    }
    let inner = Side::B
        .pod_sends(0, Side::A.pod(0, true), udp(9, 9))
        .build();
    let mut forger = Forger::new(Side::B, Protection::default(), 1 << 20 | u64::from(round));
    let mut forged = forger.seal(packet(&inner), 4);
    rig.a.deliver(UPLINK, &forged);
    rig.a.deliver(UPLINK, &forged);
    forged[60] ^= 1;
    rig.a.deliver(UPLINK, &forged);
    let foreign = Side::B.pod_sends(0, c_pod(true), udp(9, 9)).build();
    rig.a.deliver(UPLINK, &forger.seal(packet(&foreign), 4));
    rig.a.deliver(
        UPLINK,
        &Side::A
            .wire_sends(stranger(true), pod.1, udp(1, round))
            .build(),
    );
    rig.a.deliver(
        UPLINK,
        &Side::A
            .wire_sends(Addr::v4([10, 2, 0, 10]), pod.1, udp(1, 2))
            .build(),
    );
}

#[test]
fn mixed_traffic() {
    for outer_v4 in [true, false] {
        let mut rig = warmed(Protection {
            outer_v4,
            ..Protection::default()
        });
        for round in 1..40 {
            rig.advance(37 * Tick::MS);
            traffic(&mut rig, round);
        }
    }
}

#[test]
fn transport_mode_there_back_and_refused() {
    for outer_v4 in [true, false] {
        let how = Protection {
            outer_v4,
            ..Protection::default()
        };
        let (mut rig, mut host) = Rig::with_foreign(how);
        for round in 0..40 {
            rig.a.counting = round > 0;
            let (pod, c) = (Side::A.pod(0, outer_v4), host.addr());
            let there = Side::A.pod_sends(0, c, udp(1000 + round, 53));
            rig.a.deliver(VF0, &there.build());
            let long = with_payload(there.clone(), vec![9; 1500 - 28]);
            rig.a.deliver(VF0, &long.build());
            let whole = with_payload(there, vec![9; 100]).build();
            for fragment in fragments(&whole, u32::from(round), 40) {
                rig.a.deliver(VF0, &fragment);
            }
            let from_c = spec((C_MAC, c), (ROUTER_MAC, pod), udp(53, 1000 + round));
            let mut sealed = host.seals(packet(&from_c.build()));
            rig.a.deliver(UPLINK, &sealed);
            rig.a.deliver(UPLINK, &sealed);
            sealed[70] ^= 1;
            rig.a.deliver(UPLINK, &sealed);
            rig.settle();
            assert_eq!(rig.outside.len(), 1);
            rig.outside.clear();
            rig.wire.clear();
            assert!(!rig.a.take(VF0).is_empty());
        }
    }
}

#[test]
fn fragments_that_wait_pass_clash_and_expire() {
    let mut rig = warmed(Protection::default());
    for round in 1..200 {
        let quiet_ms = if round % 50 == 0 { 6000 } else { 211 };
        rig.advance(quiet_ms * Tick::MS);
        pieces(&mut rig, round);
        rig.settle();
        for node in [&mut rig.a, &mut rig.b] {
            for port in [VF0, VF1, VF2, HOST] {
                node.take(port);
            }
        }
    }
    let counted = rig.a.counted();
    let vf2 = &counted.ports()[usize::from(VF2.0)];
    let dropped = |reason| vf2.dropped(reason) > 0;
    assert!(dropped(DropReason::FragmentTableFull) && dropped(DropReason::FragmentNoFirst));
}

#[test]
fn generations_that_come_and_go() {
    let mut rig = warmed(Protection::default());
    for round in 1..30 {
        for step in 0..round % 4 {
            let policy = if step == 1 {
                Policy::CLOSED
            } else {
                // Every verdict of a shadowed pod asks two tables.
                Policy::OPEN.shadowed_by(Policy::CLOSED)
            };
            rig.a.plan.repolicy(usize::from(round % 3), policy);
            rig.a.plan.generation += 1;
            rig.a.publish();
        }
        if round % 7 == 0 {
            let addrs = vec![Side::A.pod(0, true)];
            rig.a.replan(|p| p.replace_pod(0, addrs, Policy::OPEN));
        }
        traffic(&mut rig, round);
    }
}

#[test]
fn sas_that_are_installed_and_retired_and_reads() {
    let mut rig = warmed(Protection::default());
    for round in 1..30 {
        rig.a.command(Command::RetireInbound(spi(Side::A)));
        rig.a.command(Command::InstallInbound(inbound(
            Side::A,
            Protection::default(),
        )));
        rig.a.command(Command::InstallInbound(inbound(
            Side::A,
            Protection::default(),
        )));
        rig.a.command(Command::InstallOutbound(
            OTHER,
            outbound(Side::A, Protection::default()).into(),
        ));
        rig.a.command(Command::RetireOutbound(PEER_C));
        let page = FlowPage {
            flows: Vec::with_capacity(50),
            ..FlowPage::default()
        };
        rig.a.command(Command::ReadFlows(page));
        rig.a.command(Command::ReadSas(Vec::with_capacity(1)));
        rig.a.poll();
        while rig.a.next_reply().is_some() {}
        traffic(&mut rig, round);
    }
}

#[test]
fn flows_that_expire_and_a_table_that_fills() {
    let mut rig = warmed(Protection::default());
    for round in 1..60 {
        for n in 0..40 {
            let frame = Side::A.pod_sends(0, Side::A.pod(1, true), udp(round * 40 + n, 7));
            rig.a.deliver(VF0, &frame.build());
        }
        rig.a.drain();
        rig.a.take(VF1);
        if round % 30 == 0 {
            rig.advance(31 * Tick::SECOND);
            for _ in 0..20 {
                rig.settle();
            }
        }
    }
    assert!(rig.a.verdicts().len() > 1000);
}

#[test]
fn names_that_are_asked_learned_full_and_over() {
    let mut node = crate::names::cramped();
    crate::names::busy(&mut node, 0);
    node.counting = true;
    for round in 1..400 {
        node.now = node.now + 97 * Tick::MS;
        crate::names::busy(&mut node, round);
    }
    let counters = &node.counted();
    for (what, counter) in [
        ("learned", &counters.names_learned),
        ("full", &counters.names_full),
        ("malformed", &counters.names_malformed),
        ("unasked", &counters.names_unasked),
    ] {
        assert!(counter.read() > 0, "{what}");
    }
}
