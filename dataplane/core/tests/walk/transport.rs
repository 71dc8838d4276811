//! ESP in transport mode: between a pod and a host that isn't ours, and for nobody else.

use sluice_crypto::key::Algorithm;
use sluice_dataplane_core::addr::{Addr, Mac};
use sluice_dataplane_core::command::{Command, Reply};
use sluice_dataplane_core::reason::DropReason;
use sluice_dataplane_core::snapshot::ROUTER_MAC;
use sluice_dataplane_core::wire::build::{Body, FrameSpec, fragments};
use sluice_dataplane_core::wire::{checksum, icmp};

use crate::hostile::{bodies, mutate, repair};
use crate::rig::*;

const V4: bool = true;
const V6: bool = false;
const ROUTER: Mac = ROUTER_MAC;

fn every_protection() -> impl Iterator<Item = Protection> {
    Algorithm::ALL.into_iter().flat_map(|algorithm| {
        (0..8).map(move |bits| Protection {
            algorithm,
            esn: bits & 1 != 0,
            udp_encap: bits & 2 != 0,
            outer_v4: bits & 4 != 0,
        })
    })
}

fn both_families() -> [Protection; 2] {
    [V4, V6].map(|outer_v4| Protection {
        outer_v4,
        ..Protection::default()
    })
}

/// What C sends in clear, before its own IPsec.
fn from_c(dst: Addr, body: Body) -> FrameSpec {
    spec((C_MAC, c_tunnel(dst.is_v4())), (ROUTER, dst), body)
}

#[test]
fn every_packet_arrives_as_it_was_in_both_directions_and_never_in_clear() {
    for how in every_protection() {
        let (mut rig, mut host) = Rig::with_foreign(how);
        let v4 = how.outer_v4;
        let (pod, c) = (Side::A.pod(0, v4), c_tunnel(v4));
        for body in [udp(1000, 53), tcp(1001, 443, SYN), echo(77, false)] {
            for pad in 0..5 {
                let payload = [MARKER, &[7; 5][..pad]].concat();
                let there = with_payload(Side::A.pod_sends(0, c, body), payload.clone()).build();
                rig.a.deliver(VF0, &there);
                rig.settle();
                let frame = rig.outside.pop().expect("a frame to C");
                assert_eq!(frame[..6], C_MAC.0);
                assert_eq!(host.opens(&frame), packet(&there), "{how:?} {body:?}");

                let back = with_payload(from_c(pod, reversed(body)), payload).build();
                let got = rig.a.push_one(UPLINK, &host.seals(packet(&back)), VF0);
                assert_eq!(packet(&got), packet(&back), "{how:?} {body:?}");
            }
        }
        assert!(!rig.seen_on_wire(MARKER), "{how:?}");
        let counters = &rig.a.counted();
        assert_eq!((counters.sealed.read(), counters.opened.read()), (15, 15));
    }
}

/// What answers a body.
fn reversed(body: Body) -> Body {
    match body {
        Body::Udp { src_port, dst_port } => udp(dst_port, src_port),
        Body::Tcp {
            src_port, dst_port, ..
        } => tcp(dst_port, src_port, SYN | ACK),
        Body::IcmpEcho { id, .. } => echo(id, true),
        other => other,
    }
}

#[test]
fn every_counter_of_a_packet_there_and_back() {
    for how in both_families() {
        let (mut rig, mut host) = Rig::with_foreign(how);
        let there = Side::A.pod_sends(0, host.addr(), udp(1, 2)).build();
        rig.a.deliver(VF0, &there);
        rig.settle();
        rig.a.take(UPLINK);
        rig.a.rebase();
        rig.a.deliver(VF0, &there);
        rig.a.poll();
        rig.a.expect_delta(&[
            ("vf0.rx", 1),
            ("vf0.forwarded", 1),
            ("uplink.tx", 1),
            ("sealed", 1),
            ("flow.hit", 1),
        ]);
        let back = from_c(Side::A.pod(0, how.outer_v4), udp(2, 1)).build();
        rig.a.push_one(UPLINK, &host.seals(packet(&back)), VF0);
        rig.a.expect_delta(&[
            ("uplink.rx", 1),
            ("uplink.forwarded", 1),
            ("vf0.tx", 1),
            ("opened", 1),
            ("flow.hit", 1),
        ]);
    }
}

#[test]
fn options_and_extension_headers_stay_in_clear_in_front() {
    for how in both_families() {
        let (mut rig, mut host) = Rig::with_foreign(how);
        let plain = Side::A.pod_sends(0, host.addr(), udp(1, 2)).build();
        let mut sent = plain[..14].to_vec();
        let inner = packet(&plain);
        if how.outer_v4 {
            // Router alert (RFC 2113).
            let mut head = inner[..20].to_vec();
            head[0] = 0x46;
            head.extend([0x94, 4, 0, 0]);
            let len = inner.len() as u16 + 4;
            head[2..4].copy_from_slice(&len.to_be_bytes());
            head[10..12].fill(0);
            let sum = checksum::of(&head);
            head[10..12].copy_from_slice(&sum.to_be_bytes());
            sent.extend([&head, &inner[20..]].concat());
        } else {
            let mut head = inner[..40].to_vec();
            let carried = core::mem::replace(&mut head[6], 0);
            let len = inner.len() as u16 - 40 + 16;
            head[4..6].copy_from_slice(&len.to_be_bytes());
            // Hop by hop, then destination options, of padding.
            head.extend([60, 0, 1, 4, 0, 0, 0, 0]);
            head.extend([carried, 0, 1, 4, 0, 0, 0, 0]);
            sent.extend([&head, &inner[40..]].concat());
        }
        rig.a.deliver(VF0, &sent);
        rig.settle();
        let frame = rig.outside.pop().expect("a frame to C");
        let header_len = header_of(packet(&sent)).0;
        assert_eq!(usize::from(meta(&frame).l4_off), 14 + header_len);
        assert_eq!(host.opens(&frame), packet(&sent));
        // And back with the same, to the same pod.
        let mut back = packet(&sent).to_vec();
        let (a, b) = if how.outer_v4 { (12, 16) } else { (8, 24) };
        let len = b - a;
        for at in 0..len {
            back.swap(a + at, b + at);
        }
        let ports = header_len;
        back.swap(ports, ports + 2);
        back.swap(ports + 1, ports + 3);
        let got = rig.a.push_one(UPLINK, &host.seals(&back), VF0);
        assert_eq!(packet(&got), back);
    }
}

#[test]
fn only_the_host_itself_is_reached_by_its_sa() {
    for how in both_families() {
        let (mut rig, _) = Rig::with_foreign(how);
        let v4 = how.outer_v4;
        // A pod behind the host, and the host's address of the other family.
        for dst in [c_pod(v4), c_tunnel(!v4)] {
            rig.a
                .deliver(VF0, &Side::A.pod_sends(0, dst, udp(1, 2)).build());
            rig.a.poll();
            rig.a.expect_delta(&[
                ("vf0.rx", 1),
                ("vf0.drop.no-sa", 1),
                ("flow.miss", 1),
                ("flows", 1),
            ]);
        }
        let frame = Side::A.host_sends(c_pod(v4), udp(1, 2)).build();
        rig.a.drops(HOST, &frame, "no-sa");
        rig.carry();
        assert!(rig.wire.is_empty());
    }
}

#[test]
fn only_the_sas_own_host_speaks_by_it() {
    for how in both_families() {
        let (mut rig, mut host) = Rig::with_foreign(how);
        let v4 = how.outer_v4;
        let pod = Side::A.pod(0, v4);
        let from = |src| spec((C_MAC, src), (ROUTER, pod), udp(1, 2)).build();
        let other_node = host.seals(packet(&from(Side::B.node(v4))));
        rig.a.drops(UPLINK, &other_node, "identity-unknown");
        for src in [c_pod(v4), Side::B.pod(0, v4)] {
            let frame = host.seals(packet(&from(src)));
            rig.a.drops(UPLINK, &frame, "plaintext");
        }
        let ours = host.seals(packet(&from(Side::A.pod(1, v4))));
        rig.a.drops(UPLINK, &ours, "spoofed-ip");
        // To a pod of another node it would have to go back on the wire.
        let elsewhere = from_c(Side::B.pod(0, v4), udp(1, 2)).build();
        let frame = host.seals(packet(&elsewhere));
        rig.a.drops(UPLINK, &frame, "not-for-us");
    }
}

#[test]
fn another_pod_is_not_spoken_for_nor_to_by_a_pods_sa() {
    for how in both_families() {
        let (mut rig, mut host) = Rig::with_foreign(how);
        let v4 = how.outer_v4;
        let [own, other] = [0, 1].map(|pod| Side::A.pod(pod, v4));
        let sent = Side::A.pod_sends(1, host.addr(), udp(1, 2)).build();
        rig.a.deliver(VF1, &sent);
        rig.a.poll();
        rig.a.expect_delta(&[
            ("vf1.rx", 1),
            ("vf1.drop.no-sa", 1),
            ("flow.miss", 1),
            ("flows", 1),
        ]);
        rig.carry();
        assert!(rig.wire.is_empty() && rig.outside.is_empty());

        // On the way somebody writes another pod's address in front of what is authentic.
        let good = host.seals(packet(&from_c(own, udp(2, 1)).build()));
        let mut turned = packet(&good).to_vec();
        if v4 {
            turned[16..20].copy_from_slice(&other.to_v4());
        } else {
            turned[24..40].copy_from_slice(&other.to_v6());
        }
        rig.a.drops(UPLINK, &readdressed(&good, turned), "esp-mode");
        assert_eq!(
            rig.a.push(UPLINK, &good, VF0).len(),
            1,
            "its number is left"
        );
    }
}

#[test]
fn an_sa_of_one_mode_opens_nothing_in_the_other_and_loses_no_number_by_it() {
    for how in both_families() {
        let (mut rig, mut host) = Rig::with_foreign(how);
        let v4 = how.outer_v4;
        let to_pod = from_c(Side::A.pod(0, v4), udp(1, 2)).build();
        let sealed = host.seals(packet(&to_pod));
        // C's packet, sent to the dataplane's own address.
        let mut tunnelled = packet(&sealed).to_vec();
        let ours = Side::A.tunnel(v4);
        if v4 {
            tunnelled[16..20].copy_from_slice(&ours.to_v4());
        } else {
            tunnelled[24..40].copy_from_slice(&ours.to_v6());
        }
        let tunnelled = readdressed(&sealed, tunnelled);
        rig.a.drops(UPLINK, &tunnelled, "esp-mode");
        assert_eq!(rig.a.push(UPLINK, &sealed, VF0).len(), 1);
        rig.a.rebase();

        // B's tunnel, sent to a pod by B's node.
        let inner = Side::B.pod_sends(0, Side::A.pod(0, v4), udp(3, 4)).build();
        let next_header = if v4 { 4 } else { 41 };
        let good = Forger::new(Side::B, how, 1).seal(packet(&inner), next_header);
        let mut bare = packet(&good).to_vec();
        let (src, dst) = (Side::B.node(v4), Side::A.pod(0, v4));
        if v4 {
            bare[12..16].copy_from_slice(&src.to_v4());
            bare[16..20].copy_from_slice(&dst.to_v4());
        } else {
            bare[8..24].copy_from_slice(&src.to_v6());
            bare[24..40].copy_from_slice(&dst.to_v6());
        }
        let bare = readdressed(&good, bare);
        rig.a.drops(UPLINK, &bare, "esp-mode");
        assert_eq!(rig.a.push(UPLINK, &good, VF0).len(), 1);
    }
}

/// The frame's Ethernet header, then this packet with its header checksum made right.
fn readdressed(frame: &[u8], mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 4 {
        packet[10..12].fill(0);
        let sum = checksum::of(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    [&frame[..14], &packet].concat()
}

#[test]
fn a_change_of_any_byte_past_the_spi_is_a_forgery_and_of_the_spi_unknown() {
    for how in every_protection().filter(|it| it.algorithm == Algorithm::Aes256Gcm16) {
        let (mut rig, _) = Rig::with_foreign(how);
        let mut host = Foreign::starting_at(how, 70);
        let to_pod = from_c(Side::A.pod(0, how.outer_v4), udp(1, 2)).build();
        let good = host.seals(packet(&to_pod));
        let header = if how.outer_v4 { 34 } else { 54 };
        let esp = header + if how.udp_encap { 8 } else { 0 };
        for at in esp..good.len() {
            for bit in [0, 7] {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                let reason = if at < esp + 4 {
                    "unknown-spi"
                } else {
                    "esp-forged"
                };
                rig.a.drops(UPLINK, &bad, reason);
            }
        }
        assert_eq!(rig.a.push(UPLINK, &good, VF0).len(), 1);
    }
}

#[test]
fn late_doubled_dummy_and_misshapen_packets_have_a_counter_each() {
    for how in both_families() {
        let (mut rig, mut host) = Rig::with_foreign(how);
        let to_pod = from_c(Side::A.pod(0, how.outer_v4), udp(1, 2)).build();
        let to_pod = packet(&to_pod);
        let (header_len, _) = header_of(to_pod);
        let sealed: Vec<_> = (0..66).map(|_| host.seals(to_pod)).collect();
        assert_eq!(rig.a.push(UPLINK, &sealed[65], VF0).len(), 1);
        assert_eq!(rig.a.push(UPLINK, &sealed[2], VF0).len(), 1, "at the edge");
        rig.a.rebase();
        rig.a.drops(UPLINK, &sealed[65], "esp-duplicate");
        rig.a.drops(UPLINK, &sealed[1], "esp-stale");
        let dummy = host.seals_as(to_pod, header_len, 59);
        rig.a.drops(UPLINK, &dummy, "esp-dummy");
        // TCP without room for its header, and a hop-by-hop header where none may be.
        for (cut, next_header) in [(header_len + 8, 6), (header_len, 6)] {
            let frame = host.seals_as(&to_pod[..cut], header_len, next_header);
            rig.a.drops(UPLINK, &frame, "inner-malformed");
        }
    }
}

#[test]
fn neighbour_discovery_does_not_come_by_transport_mode_either() {
    let (mut rig, mut host) = Rig::with_foreign(both_families()[1]);
    let (src, dst) = ((C_MAC, c_tunnel(V6)), (ROUTER, Side::A.pod(0, V6)));
    let mut redirect = vec![137, 0, 0, 0];
    redirect.extend([0; 36]);
    let frame = icmpv6(src, dst, redirect);
    let frame = host.seals(packet(&frame));
    rig.a.drops(UPLINK, &frame, "inner-malformed");
}

#[test]
fn plaintext_from_the_host_stays_refused() {
    for how in both_families() {
        let (mut rig, _) = Rig::with_foreign(how);
        let pod = Side::A.pod(0, how.outer_v4);
        let src = c_tunnel(how.outer_v4);
        for body in [udp(1, 2), tcp(1, 2, SYN), echo(1, false)] {
            let frame = Side::A.wire_sends(src, pod, body).build();
            rig.a.drops(UPLINK, &frame, "plaintext");
        }
        // IKE and keepalives are not a pod's either.
        for payload in [vec![0xff], vec![0, 0, 0, 0, 1, 2, 3, 4]] {
            let ike = Side::A.wire_sends(src, pod, udp(4500, 4500));
            let frame = with_payload(ike, payload).build();
            rig.a.drops(UPLINK, &frame, "not-for-us");
        }
    }
}

#[test]
fn fragments_are_neither_sealed_nor_opened() {
    for how in both_families() {
        let (mut rig, mut host) = Rig::with_foreign(how);
        let long = with_payload(Side::A.pod_sends(0, host.addr(), udp(1, 2)), vec![3; 200]);
        let pieces = fragments(&long.build(), 7, 80);
        for fragment in &pieces {
            rig.a.deliver(VF0, fragment);
        }
        rig.a.poll();
        let count = pieces.len() as i64;
        assert!(count > 1);
        rig.a.expect_delta(&[
            ("vf0.rx", count),
            ("vf0.drop.fragment", count),
            ("flow.miss", 1),
            ("flow.hit", count - 1),
            ("flows", 1),
        ]);
        rig.carry();
        assert!(rig.wire.is_empty());

        let to_pod = from_c(Side::A.pod(0, how.outer_v4), udp(1, 2)).build();
        let sealed = host.seals(packet(&to_pod));
        for fragment in fragments(&sealed, 9, 40) {
            rig.a.drops(UPLINK, &fragment, "fragment");
        }
    }
}

#[test]
fn what_is_too_long_is_told_the_size_that_passes_and_a_syn_leaves_room() {
    for udp_encap in [false, true] {
        for how in both_families() {
            let how = Protection { udp_encap, ..how };
            let v4 = how.outer_v4;
            let (mut rig, mut host) = Rig::with_foreign(how);
            let ip_len = if v4 { 20 } else { 40 };
            let mtu = outbound_to_c(how, 1).packet_mtu(1500, ip_len);
            let of_len = |len: usize| {
                let payload = vec![5; len - ip_len - 8];
                with_payload(Side::A.pod_sends(0, c_tunnel(v4), udp(1, 2)), payload).build()
            };
            rig.a.deliver(VF0, &of_len(mtu));
            rig.settle();
            let frame = rig.outside.pop().expect("it fits");
            assert!(frame.len() <= 1514 && frame.len() > 1510, "{}", frame.len());
            assert_eq!(host.opens(&frame), packet(&of_len(mtu)));
            rig.a.rebase();
            let error = rig.a.push_one(VF0, &of_len(mtu + 1), VF0);
            let m = meta(&error);
            assert_eq!(icmp::next_hop_mtu(&error, &m), Some(mtu as u32));
            rig.a.expect_delta(&[
                ("vf0.rx", 1),
                ("vf0.drop.too-big", 1),
                ("vf0.originated", 1),
                ("vf0.tx", 1),
                ("flow.hit", 1),
            ]);

            let syn = |mss| Body::Tcp {
                src_port: 9,
                dst_port: 443,
                flags: SYN,
                seq: 1,
                ack: 0,
                mss: Some(mss),
            };
            let sent = Side::A.pod_sends(0, c_tunnel(v4), syn(9000)).build();
            rig.a.deliver(VF0, &sent);
            rig.settle();
            let got = host.opens(&rig.outside.pop().expect("a SYN"));
            let mss = (mtu - ip_len - 20) as u16;
            let want = Side::A.pod_sends(0, c_tunnel(v4), syn(mss)).build();
            assert_eq!(got, packet(&want));
        }
    }
}

#[test]
fn what_the_host_sends_too_long_for_the_pod_is_answered_sealed() {
    for how in both_families() {
        let (mut rig, mut host) = Rig::with_foreign(how);
        let v4 = how.outer_v4;
        let there = Side::A.pod_sends(0, host.addr(), udp(1, 2)).build();
        rig.a.deliver(VF0, &there);
        rig.settle();
        rig.outside.clear();
        rig.a.replan(|plan| plan.vf_mtu = 1280);
        let long = from_c(Side::A.pod(0, v4), udp(2, 1));
        let long = with_payload(long, [MARKER, &[1; 1300]].concat()).build();
        rig.a.deliver(UPLINK, &host.seals(packet(&long)));
        rig.settle();
        let error = host.opens(&rig.outside.pop().expect("an error to C"));
        let error = [&there[..14], &error].concat();
        let m = meta(&error);
        assert_eq!((m.src, m.dst), (Side::A.pod(0, v4), c_tunnel(v4)));
        assert_eq!(icmp::next_hop_mtu(&error, &m), Some(1280));
        assert!(!rig.seen_on_wire(MARKER));
    }
}

#[test]
fn policy_judges_what_it_carries_as_anything_else() {
    for how in both_families() {
        let (mut rig, mut host) = Rig::with_foreign(how);
        rig.a.replan(|plan| plan.repolicy(0, Policy::CLOSED));
        rig.a.rebase();
        let v4 = how.outer_v4;
        rig.a
            .deliver(VF0, &Side::A.pod_sends(0, host.addr(), udp(1, 2)).build());
        let to_pod = from_c(Side::A.pod(0, v4), tcp(1, 2, SYN)).build();
        rig.a.deliver(UPLINK, &host.seals(packet(&to_pod)));
        rig.a.poll();
        rig.a.expect_delta(&[
            ("vf0.rx", 1),
            ("vf0.drop.policy-egress", 1),
            ("uplink.rx", 1),
            ("uplink.drop.policy-ingress", 1),
            ("opened", 1),
            ("flow.miss", 2),
        ]);
        rig.carry();
        assert!(rig.wire.is_empty());
    }
}

#[test]
fn without_esn_the_sender_stops_hard_before_the_number_wraps() {
    for how in both_families() {
        let how = Protection { esn: false, ..how };
        let (mut rig, _) = Rig::with_foreign(how);
        let last = u64::from(u32::MAX);
        let outbound = outbound_to_c(how, last - 1);
        rig.a
            .command(Command::InstallOutbound(PEER_C, outbound.into()));
        rig.a.poll();
        let replaced = rig.a.reply();
        assert!(matches!(replaced, Reply::OutboundInstalled(_, _, Some(_))));
        let frame = Side::A
            .pod_sends(0, c_tunnel(how.outer_v4), udp(1, 2))
            .build();
        for _ in 0..5 {
            rig.a.deliver(VF0, &frame);
            rig.settle();
        }
        let esp = if how.outer_v4 { 34 } else { 54 };
        let numbers: Vec<_> = rig
            .outside
            .iter()
            .map(|it| u32::from_be_bytes(it[esp + 4..esp + 8].try_into().unwrap()))
            .collect();
        assert_eq!(numbers, [u32::MAX - 1, u32::MAX]);
        let counted = rig.a.counted();
        let vf0 = &counted.ports()[usize::from(VF0.0)];
        assert_eq!(vf0.dropped(DropReason::SaExhausted), 3);
        assert!(!rig.seen_on_wire(MARKER));
    }
}

#[test]
fn sealed_packets_of_any_shape_are_counted_and_leave_by_pods_ports_only() {
    for how in both_families() {
        let (mut rig, mut host) = Rig::with_foreign(how);
        let (v4, mut random) = (how.outer_v4, Seeded(0x7a_5011));
        let kinds = [0, 1, 4, 6, 6, 17, 17, 41, 43, 44, 50, 58, 59, 60, 132, 255];
        let mut delivered = 0;
        for round in 0..300 {
            for _ in 0..32 {
                // What ESP carries, its kind, or what travels is unsound, or it is another pod's.
                let body = bodies()[random.below(bodies().len())];
                let pod = random.below(8) / 6;
                let mut frame = from_c(Side::A.pod(pod, v4), body).build();
                let header = frame[..if v4 { 34 } else { 54 }].to_vec();
                let mut payload = frame.split_off(header.len());
                if random.below(2) == 0 {
                    mutate(&mut random, &mut payload);
                }
                payload.truncate(1400);
                let (whole, kind) = (
                    [&header[14..], &payload].concat(),
                    random.below(kinds.len()),
                );
                let mut sealed = host.seals_as(&whole, header.len() - 14, kinds[kind]);
                if random.below(4) == 0 {
                    mutate(&mut random, &mut sealed);
                    repair(&mut sealed);
                }
                sealed.truncate(9000);
                rig.a.deliver(UPLINK, &sealed);
                delivered += 1;
            }
            rig.a.poll();
            for frame in rig.a.take(UPLINK) {
                assert!(!contains(&frame, MARKER), "in clear after round {round}");
            }
        }
        rig.a.drain();
        let counted = rig.a.counted();
        let uplink = &counted.ports()[usize::from(UPLINK.0)];
        let opened = rig.a.counted().opened.read();
        assert!(
            opened > delivered / 4,
            "only {opened} of {delivered} opened"
        );
        assert!(uplink.dropped(DropReason::InnerMalformed) > 0);
        assert!(uplink.dropped(DropReason::EspForged) > 0);
        assert!(uplink.dropped(DropReason::EspDummy) > 0);
        assert!(uplink.dropped(DropReason::EspMode) > 0);
    }
}
