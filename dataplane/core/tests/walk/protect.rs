//! Between nodes everything is ESP, and what ESP brings is believed only as far as the
//! node that sent it may speak.

use sluice_crypto::aead::{Aead, RingAead};
use sluice_crypto::esp::{InboundSa, Spi};
use sluice_crypto::key::Algorithm;
use sluice_dataplane_core::addr::Addr;
use sluice_dataplane_core::command::{Command, Reply};
use sluice_dataplane_core::wire::build::{Body, FrameSpec};
use sluice_dataplane_core::wire::checksum;

use crate::rig::*;

const V4: bool = true;
const V6: bool = false;
/// An index of neither side's own.
const FOREIGN: Spi = Spi(0x4000_0001);

fn inner_from_b(dst: Addr) -> FrameSpec {
    Side::B.pod_sends(0, dst, udp(1000, 2000))
}

/// What `frame` from B's node is dropped for at A.
fn refused(rig: &mut Rig, frame: &[u8], reason: &str) {
    rig.a.drops(UPLINK, frame, reason);
}

fn every_protection() -> Vec<Protection> {
    let mut all = Vec::new();
    for algorithm in Algorithm::ALL {
        for bits in 0..8 {
            all.push(Protection {
                algorithm,
                esn: bits & 1 != 0,
                udp_encap: bits & 2 != 0,
                outer_v4: bits & 4 != 0,
            });
        }
    }
    all
}

#[test]
fn every_packet_arrives_as_it_was_and_never_in_clear_on_the_wire() {
    for how in every_protection() {
        let mut rig = Rig::protected_by(how);
        for v4 in [V4, V6] {
            for body in [udp(1000, 53), tcp(1001, 443, SYN), echo(77, false)] {
                for pad in 0..5 {
                    let there = Side::A.pod_sends(0, Side::B.pod(1, v4), body);
                    let there = with_payload(there, [MARKER, &[7; 5][..pad]].concat()).build();
                    rig.a.deliver(VF0, &there);
                    rig.a.poll();
                    rig.carry();
                    rig.b.poll();
                    let got = rig.b.take(VF1);
                    assert_eq!(got.len(), 1, "{how:?} inner v4 {v4} {body:?}");
                    assert_eq!(packet(&got[0]), packet(&there), "{how:?}");
                }
            }
        }
        assert_eq!(rig.wire.len(), 30);
        assert!(!rig.seen_on_wire(MARKER), "{how:?}");
        rig.a.expect_delta(&[
            ("vf0.rx", 30),
            ("vf0.forwarded", 30),
            ("uplink.tx", 30),
            ("sealed", 30),
            ("flow.miss", 6),
            ("flow.hit", 24),
            ("flows", 6),
        ]);
        rig.b.expect_delta(&[
            ("uplink.rx", 30),
            ("uplink.forwarded", 30),
            ("vf1.tx", 30),
            ("opened", 30),
            ("flow.miss", 6),
            ("flow.hit", 24),
            ("flows", 6),
        ]);
    }
}

#[test]
fn the_tagged_vf_is_protected_both_ways() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let there = Side::A.pod_sends(2, Side::B.pod(2, v4), udp(5, 6)).build();
        rig.a.deliver(VF2, &there);
        rig.settle();
        let got = rig.b.take(VF2);
        assert_eq!(meta(&got[0]).vlan, VF2_VLAN);
        assert_eq!(packet(&got[0]), packet(&there));
    }
}

#[test]
fn the_hosts_of_two_nodes_reach_each_others_pods_through_esp() {
    for v4 in [V4, V6] {
        let mut rig = Rig::new();
        let there = Side::A
            .host_sends(Side::B.pod(0, v4), tcp(1, 80, SYN))
            .build();
        rig.a.deliver(HOST, &there);
        rig.settle();
        assert_eq!(packet(&rig.b.take(VF0)[0]), packet(&there));
        let back = Side::B
            .pod_sends(0, Side::A.node(v4), tcp(80, 1, SYN | ACK))
            .build();
        rig.b.deliver(VF0, &back);
        rig.settle();
        assert_eq!(packet(&rig.a.take(HOST)[0]), packet(&back));
        assert!(!rig.seen_on_wire(MARKER));
        rig.a.expect_delta(&[
            ("host.rx", 1),
            ("host.forwarded", 1),
            ("host.tx", 1),
            ("uplink.rx", 1),
            ("uplink.forwarded", 1),
            ("uplink.tx", 1),
            ("sealed", 1),
            ("opened", 1),
        ]);
    }
}

#[test]
fn a_replayed_packet_is_dropped_and_a_late_one_within_the_window_is_not() {
    let mut rig = Rig::new();
    let inner = inner_from_b(Side::A.pod(0, V4)).build();
    let mut forger = Forger::new(Side::B, Protection::default(), 1);
    let sealed: Vec<_> = (0..1026).map(|_| forger.seal(packet(&inner), 4)).collect();
    assert_eq!(rig.a.push(UPLINK, &sealed[1025], VF0).len(), 1);
    assert_eq!(rig.a.push(UPLINK, &sealed[2], VF0).len(), 1, "at the edge");
    rig.a.rebase();
    refused(&mut rig, &sealed[1025], "esp-duplicate");
    refused(&mut rig, &sealed[2], "esp-duplicate");
    refused(&mut rig, &sealed[1], "esp-stale");
}

/// A with a window of so many numbers for what B sends.
fn with_window(size: usize) -> Rig {
    let mut rig = Rig::new();
    let how = Protection::default();
    let mut receiving = inbound(Side::A, how);
    let key = key(how.algorithm, Side::A as u8);
    *receiving.sa = InboundSa::new(spi(Side::A), key, how.esn, size).unwrap();
    rig.a.command(Command::RetireInbound(spi(Side::A)));
    rig.a.command(Command::InstallInbound(receiving));
    rig.a.poll();
    assert!(matches!(rig.a.reply(), Reply::InboundRetired(_, Some(_))));
    assert!(matches!(rig.a.reply(), Reply::InboundInstalled(_)));
    rig.a.rebase();
    rig
}

#[test]
fn of_200_then_81_then_201_in_one_burst_a_window_of_64_drops_the_81() {
    let mut rig = with_window(64);
    let inner = inner_from_b(Side::A.pod(0, V4)).build();
    for seq in [200, 81, 201] {
        let frame = Forger::new(Side::B, Protection::default(), seq).seal(packet(&inner), 4);
        rig.a.deliver(UPLINK, &frame);
    }
    rig.a.poll();
    assert_eq!(rig.a.take(VF0).len(), 2);
    rig.a.expect_delta(&[
        ("uplink.rx", 3),
        ("uplink.forwarded", 2),
        ("uplink.drop.esp-stale", 1),
        ("vf0.tx", 2),
        ("opened", 2),
        ("flow.miss", 2),
        ("flows", 1),
    ]);
}

#[test]
fn every_window_loses_nothing_that_is_late_by_less_over_2_to_the_32() {
    for size in [64, 128, 1024, 4096] {
        let mut rig = with_window(size);
        let inner = inner_from_b(Side::A.pod(0, V4)).build();
        let mut forger = Forger::new(Side::B, Protection::default(), (1 << 32) - size as u64);
        let sealed: Vec<_> = (0..2 * size)
            .map(|_| forger.seal(packet(&inner), 4))
            .collect();
        let (before, after) = sealed.split_at(size);
        // Each half from its last to its first: late by one less than the window.
        for frame in before.iter().rev().chain(after.iter().rev()) {
            rig.a.deliver(UPLINK, frame);
        }
        rig.a.drain();
        assert_eq!(rig.a.take(VF0).len(), 2 * size, "window {size}");
        rig.a.rebase();
        rig.a.drops(UPLINK, &after[0], "esp-duplicate");
        rig.a.drops(UPLINK, &before[size - 1], "esp-stale");
    }
}

#[test]
fn an_authentic_packet_with_bad_padding_is_counted_apart_and_its_number_spent() {
    let mut rig = Rig::new();
    let how = Protection {
        esn: false,
        ..Protection::default()
    };
    let mut receiving = inbound(Side::A, how);
    receiving.sa = Box::new(InboundSa::new(FOREIGN, key(how.algorithm, 9), false, 64).unwrap());
    rig.a.command(Command::InstallInbound(receiving));
    rig.a.poll();
    rig.a.rebase();
    let inner = inner_from_b(Side::A.pod(0, V4)).build();
    let good = Forger::new(Side::B, how, 1).seal(packet(&inner), 4);
    let mut wrong = packet(&inner).to_vec();
    wrong.extend([1, 1, 2, 4]);
    let keymat = key(how.algorithm, 9);
    let (aes_key, salt) = keymat.expose_keymat().split_at(16);
    let aead = RingAead::from_key(how.algorithm, aes_key).unwrap();
    let (spi, seq) = (FOREIGN.0.to_be_bytes(), [0, 0, 0, 0, 0, 0, 0, 1]);
    let nonce = [salt, &seq].concat().try_into().unwrap();
    let icv = aead.seal_in_place(&nonce, &[spi, [0, 0, 0, 1]].concat(), &mut wrong);
    let esp = [&spi, &seq[4..], &seq, &wrong, &icv.unwrap()[..]].concat();
    let mut frame = good[..34].to_vec();
    frame[16..18].copy_from_slice(&(20 + esp.len() as u16).to_be_bytes());
    frame[24..26].fill(0);
    let sum = checksum::of(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend(esp);
    refused(&mut rig, &frame, "esp-trailer");
    refused(&mut rig, &frame, "esp-duplicate");
}

#[test]
fn a_change_of_any_byte_past_the_spi_is_a_forgery() {
    for how in [
        Protection::default(),
        Protection {
            esn: false,
            udp_encap: true,
            algorithm: Algorithm::Aes256Gcm16,
            ..Protection::default()
        },
    ] {
        let mut rig = Rig::protected_by(how);
        let inner = inner_from_b(Side::A.pod(0, V4)).build();
        let good = Forger::new(Side::B, how, 70).seal(packet(&inner), 4);
        let esp = 34 + if how.udp_encap { 8 } else { 0 };
        for at in esp + 4..good.len() {
            for bit in [0, 7] {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                refused(&mut rig, &bad, "esp-forged");
            }
        }
        assert_eq!(
            rig.a.push(UPLINK, &good, VF0).len(),
            1,
            "no forgery spent its number"
        );
    }
}

#[test]
fn an_spi_that_is_not_ours_is_unknown() {
    let mut rig = Rig::new();
    let inner = inner_from_b(Side::A.pod(0, V4)).build();
    let good = Forger::new(Side::B, Protection::default(), 1).seal(packet(&inner), 4);
    for at in 34..38 {
        let mut bad = good.clone();
        bad[at] ^= 1;
        refused(&mut rig, &bad, "unknown-spi");
    }
}

#[test]
fn a_packet_cut_short_is_refused_at_every_length() {
    let mut rig = Rig::new();
    let inner = inner_from_b(Side::A.pod(0, V4)).build();
    let good = Forger::new(Side::B, Protection::default(), 1).seal(packet(&inner), 4);
    for len in 34..good.len() {
        let mut cut = good[..len].to_vec();
        refused(&mut rig, &cut, "truncated");
        // The same with an outer length that admits it.
        cut[16..18].copy_from_slice(&(len as u16 - 14).to_be_bytes());
        let cut = fragmented(cut, 0x4000, false);
        let esp_len = len - 34;
        let reason = if esp_len < 34 {
            "esp-truncated"
        } else {
            "esp-forged"
        };
        refused(&mut rig, &cut, reason);
    }
    assert_eq!(rig.a.push(UPLINK, &good, VF0).len(), 1);
}

#[test]
fn a_dummy_is_dropped_by_design_and_other_next_headers_as_malformed() {
    let mut rig = Rig::new();
    let inner = inner_from_b(Side::A.pod(0, V4)).build();
    let mut forger = Forger::new(Side::B, Protection::default(), 1);
    refused(&mut rig, &forger.seal(&[0; 40], 59), "esp-dummy");
    refused(&mut rig, &forger.seal(packet(&inner), 59), "esp-dummy");
    for next_header in [41, 6, 17, 50, 0, 255] {
        let frame = forger.seal(packet(&inner), next_header);
        refused(&mut rig, &frame, "inner-malformed");
    }
}

#[test]
fn garbage_inside_is_malformed() {
    let mut rig = Rig::new();
    let mut forger = Forger::new(Side::B, Protection::default(), 1);
    let inner = inner_from_b(Side::A.pod(0, V4)).build();
    let inner = packet(&inner);
    for next_header in [4, 41] {
        for bytes in [&[][..], &[0x45], &[0x60; 39], &[0xff; 64], &inner[..27]] {
            let frame = forger.seal(bytes, next_header);
            refused(&mut rig, &frame, "inner-malformed");
        }
    }
    let mut bad_sum = inner.to_vec();
    bad_sum[10] ^= 1;
    refused(&mut rig, &forger.seal(&bad_sum, 4), "inner-malformed");
}

#[test]
fn a_node_speaks_for_its_own_pods_only() {
    let mut rig = Rig::new();
    let mut forger = Forger::new(Side::B, Protection::default(), 1);
    for v4 in [V4, V6] {
        for src in [
            c_pod(v4),
            Side::A.pod(1, v4),
            Side::A.node(v4),
            Side::A.tunnel(v4),
            stranger(v4),
            service(v4),
        ] {
            let inner = FrameSpec {
                src: src.into(),
                ..inner_from_b(Side::A.pod(0, v4))
            };
            let sealed = forger.seal(packet(&inner.build()), if v4 { 4 } else { 41 });
            refused(&mut rig, &sealed, "identity-unknown");
        }
        for dst in [
            Side::B.pod(1, v4),
            c_pod(v4),
            stranger(v4),
            Side::A.tunnel(v4),
        ] {
            let inner = inner_from_b(dst).build();
            let sealed = forger.seal(packet(&inner), if v4 { 4 } else { 41 });
            refused(&mut rig, &sealed, "no-route");
        }
    }
}

#[test]
fn neighbour_discovery_does_not_travel_in_tunnels() {
    let mut rig = Rig::new();
    let mut forger = Forger::new(Side::B, Protection::default(), 1);
    for src in [Side::B.pod(0, V6), Side::B.node(V6)] {
        let (src, dst) = (
            (Side::B.vf_mac(0), src),
            (Side::A.vf_mac(0), Side::A.pod(0, V6)),
        );
        let mut redirect = vec![137, 0, 0, 0];
        redirect.extend([0; 36]);
        for frame in [
            advertise(src, dst, gateway(V6), src.0),
            icmpv6(src, dst, redirect),
            icmpv6(
                src,
                dst,
                vec![134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            ),
        ] {
            refused(
                &mut rig,
                &forger.seal(packet(&frame), 41),
                "inner-malformed",
            );
        }
    }
}

#[test]
fn congestion_on_the_way_is_told_to_the_pod() {
    let mut rig = Rig::new();
    let mut forger = Forger::new(Side::B, Protection::default(), 1);
    for v4 in [V4, V6] {
        let next_header = if v4 { 4 } else { 41 };
        let ect = FrameSpec {
            tos: 0xba,
            ..inner_from_b(Side::A.pod(0, v4))
        };
        let frame = forger.seal_marked(packet(&ect.build()), next_header, 0xbb);
        let got = rig.a.push_one(UPLINK, &frame, VF0);
        let want = FrameSpec { tos: 0xbb, ..ect };
        assert_eq!(packet(&got), packet(&want.build()));
        // Who doesn't know of congestion marks hears of it by the loss.
        let not_ect = inner_from_b(Side::A.pod(0, v4));
        let frame = forger.seal_marked(packet(&not_ect.build()), next_header, 3);
        rig.a.rebase();
        refused(&mut rig, &frame, "inner-malformed");
    }
}

//= RFC 6040 section 4.1: "normal mode" copies the mark to the outer header
//= RFC 4301 section 8.1: a tunnel's own DF is the sender's to choose; a fragment of ESP would have
//= to be put together before it can be opened
#[test]
fn the_outer_header_has_the_pods_marks_and_is_never_to_be_fragmented() {
    for outer_v4 in [V4, V6] {
        let mut rig = Rig::protected_by(Protection {
            outer_v4,
            ..Protection::default()
        });
        for v4 in [V4, V6] {
            for (tos, dont_fragment) in [(0xba, false), (0x03, true), (0, false)] {
                let spec = FrameSpec {
                    tos,
                    ..Side::A.pod_sends(0, Side::B.pod(1, v4), udp(7, 8))
                };
                let mut frame = spec.build();
                if v4 && dont_fragment {
                    frame[20] |= 0x40;
                    frame[24..26].fill(0);
                    let sum = checksum::of(&frame[14..34]);
                    frame[24..26].copy_from_slice(&sum.to_be_bytes());
                }
                // The third goes the way that the second has found.
                for _ in 0..3 {
                    let sealed = rig.a.push_one(VF0, &frame, UPLINK);
                    let outer = meta(&sealed);
                    assert_eq!(outer.src.is_v4(), outer_v4);
                    assert_eq!(outer.tos, tos, "outer v4 {outer_v4}, inner v4 {v4}");
                    assert!(outer.dont_fragment, "outer v4 {outer_v4}, inner v4 {v4}");
                }
            }
        }
    }
}

#[test]
fn without_an_sa_nothing_leaves() {
    let mut rig = Rig::new();
    for v4 in [V4, V6] {
        let frame = Side::A.pod_sends(0, c_pod(v4), udp(1, 2)).build();
        rig.a.deliver(VF0, &frame);
        rig.a.poll();
        rig.a.expect_delta(&[
            ("vf0.rx", 1),
            ("vf0.drop.no-sa", 1),
            ("flow.miss", 1),
            ("flows", 1),
        ]);
        rig.a
            .deliver(HOST, &Side::A.host_sends(c_pod(v4), udp(1, 2)).build());
        rig.a.poll();
        rig.a
            .expect_delta(&[("host.rx", 1), ("host.drop.no-sa", 1)]);
    }
    rig.carry();
    assert!(rig.wire.is_empty());
}

#[test]
fn a_retired_sa_ends_what_it_carried_at_once() {
    let mut rig = Rig::new();
    let frame = Side::A.pod_sends(0, Side::B.pod(0, V4), udp(1, 2)).build();
    assert_eq!(rig.a.push(VF0, &frame, UPLINK).len(), 1);
    rig.a.command(Command::RetireOutbound(OTHER));
    assert!(rig.a.push(VF0, &frame, UPLINK).is_empty());
    assert!(matches!(
        rig.a.reply(),
        Reply::OutboundRetired(OTHER, Some(_))
    ));
    let mut forger = Forger::new(Side::B, Protection::default(), 1);
    let inner = inner_from_b(Side::A.pod(0, V4)).build();
    rig.a.command(Command::RetireInbound(spi(Side::A)));
    rig.a.poll();
    assert!(matches!(rig.a.reply(), Reply::InboundRetired(_, Some(_))));
    rig.a.rebase();
    refused(&mut rig, &forger.seal(packet(&inner), 4), "unknown-spi");
}

#[test]
fn an_sa_at_its_limit_sends_nothing_more_and_its_successor_goes_on() {
    let mut rig = Rig::new();
    let mut last = outbound(Side::A, Protection::default());
    last.sa.set_hard_limit(2);
    rig.a.command(Command::InstallOutbound(OTHER, last.into()));
    rig.a.poll();
    assert!(matches!(
        rig.a.reply(),
        Reply::OutboundInstalled(_, _, Some(_))
    ));
    rig.a.rebase();
    let frame = Side::A.pod_sends(0, Side::B.pod(0, V4), udp(1, 2)).build();
    for _ in 0..4 {
        rig.a.deliver(VF0, &frame);
    }
    rig.settle();
    rig.a.expect_delta(&[
        ("vf0.rx", 4),
        ("vf0.forwarded", 2),
        ("vf0.drop.sa-exhausted", 2),
        ("uplink.tx", 2),
        ("sealed", 2),
        ("flow.miss", 4),
        ("flows", 1),
    ]);
    let mut next = outbound(Side::A, Protection::default());
    *next.sa = sluice_crypto::esp::OutboundSa::starting_at(
        spi(Side::B),
        key(Algorithm::Aes128Gcm16, Side::B as u8),
        true,
        3,
    );
    rig.a.command(Command::InstallOutbound(OTHER, next.into()));
    rig.a.deliver(VF0, &frame);
    rig.settle();
    assert_eq!(rig.b.take(VF0).len(), 3);
    assert!(!rig.seen_on_wire(MARKER));
}

#[test]
fn an_spi_in_use_is_refused_and_the_sa_comes_back() {
    let mut rig = Rig::new();
    let twice = inbound(Side::A, Protection::default());
    rig.a.command(Command::InstallInbound(twice));
    rig.a.poll();
    assert!(matches!(rig.a.reply(), Reply::InboundRefused(_)));
    let far = sluice_dataplane_core::snapshot::PeerIndex(u16::MAX);
    let out = outbound(Side::A, Protection::default());
    rig.a.command(Command::InstallOutbound(far, out.into()));
    rig.a.poll();
    assert!(matches!(rig.a.reply(), Reply::OutboundRefused(_)));
}

#[test]
fn a_service_address_is_not_translated_yet() {
    let mut rig = Rig::new();
    for v4 in [V4, V6] {
        rig.a.deliver(
            VF0,
            &Side::A.pod_sends(0, service(v4), tcp(1, 443, SYN)).build(),
        );
        rig.a.poll();
        rig.a
            .expect_delta(&[("vf0.rx", 1), ("vf0.drop.service-vip", 1), ("flow.miss", 1)]);
    }
}

#[test]
fn an_unknown_protocol_is_sealed_like_any_other() {
    let mut rig = Rig::new();
    let frame = Side::A
        .pod_sends(0, Side::B.pod(0, V4), Body::Other { protocol: 47 })
        .build();
    rig.a.deliver(VF0, &frame);
    rig.settle();
    assert_eq!(packet(&rig.b.take(VF0)[0]), packet(&frame));
    assert!(!rig.seen_on_wire(MARKER));
}
