//! Sequence numbers over the life of an SA: reordering, the step over 2^32, the end.

use std::collections::BTreeSet;

use proptest::prelude::*;
use sluice_crypto::esp::{InboundSa, NEXT_HEADER_IPV4, OpenError, OutboundSa, SealError, Spi};
use sluice_crypto::key::Algorithm;
use sluice_crypto::replay::ReplayWindow;

use crate::esp_identity::framed;
use crate::test_key;

const SPI: Spi = Spi(0x0010_0003);
const INNER: [u8; 20] = [0x45; 20];
const WINDOW: usize = 1024;

fn outbound(esn: bool, first: u64) -> OutboundSa {
    OutboundSa::starting_at(SPI, test_key(Algorithm::Aes128Gcm16, 3), esn, first)
}

fn inbound(esn: bool, window: usize, seen_to: u64) -> InboundSa {
    let window = ReplayWindow::starting_at(window, seen_to).unwrap();
    InboundSa::with_window(SPI, test_key(Algorithm::Aes128Gcm16, 3), esn, window)
}

fn sealed(out: &mut OutboundSa) -> Vec<u8> {
    let mut esp = framed(&INNER);
    out.seal(&mut esp, INNER.len(), NEXT_HEADER_IPV4).unwrap();
    esp
}

#[test]
fn a_batch_of_200_81_201_at_window_64_drops_the_81() {
    for esn in [false, true] {
        let mut packets = [200, 81, 201].map(|seq| sealed(&mut outbound(esn, seq)));
        let mut inbound = inbound(esn, 64, 0);
        let results = packets
            .each_mut()
            .map(|esp| inbound.open(esp).map(|opened| opened.seq));
        assert_eq!(
            results,
            [
                Ok(200),
                Err(OpenError::Stale { seq: 81, edge: 137 }),
                Ok(201)
            ]
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Every packet is late by less than the window, the numbers step over 2^32 on the way, and
    /// each is accepted exactly once.
    #[test]
    fn with_esn_reordering_within_the_window_over_2_to_the_32_loses_nothing(
        before in 0u64..3000,
        high in prop_oneof![Just(1u64), 1u64..u64::from(u32::MAX)],
        delays in prop::collection::vec(0usize..WINDOW, 3000),
    ) {
        let first = (high << 32) - before;
        let mut out = outbound(true, first);
        let mut inbound = inbound(true, WINDOW, first - 1);
        let mut packets: Vec<(usize, Vec<u8>)> = delays
            .iter()
            .enumerate()
            .map(|(at, delay)| (at + delay, sealed(&mut out)))
            .collect();
        packets.sort_by_key(|(arrives, _)| *arrives);
        let mut seqs = BTreeSet::new();
        for (_, esp) in &packets {
            let seq = inbound.open(&mut esp.clone()).map(|opened| opened.seq);
            prop_assert!(seq.is_ok(), "{:?}", seq);
            seqs.extend(seq);
        }
        let last = first + delays.len() as u64 - 1;
        prop_assert!(seqs.iter().copied().eq(first..=last));
        for (_, mut esp) in packets {
            let error = inbound.open(&mut esp).expect_err("a replay");
            let expected = matches!(error, OpenError::Seen { .. } | OpenError::Stale { .. });
            prop_assert!(expected, "{:?}", error);
        }
        prop_assert_eq!(inbound.packets(), delays.len() as u64);
    }
}

#[test]
fn with_esn_a_gap_of_almost_2_to_the_32_is_bridged() {
    let mut inbound = inbound(true, WINDOW, 0);
    for seq in [1, u64::from(u32::MAX), (1 << 32) + 7, (2 << 32) - 1024] {
        let mut esp = sealed(&mut outbound(true, seq));
        assert_eq!(inbound.open(&mut esp).map(|opened| opened.seq), Ok(seq));
    }
}

#[test]
fn with_esn_a_gap_of_more_than_2_to_the_32_is_not_bridged_and_forges_nothing() {
    let mut inbound = inbound(true, WINDOW, 5000);
    let mut esp = sealed(&mut outbound(true, 5000 + (1 << 32) + 1));
    assert_eq!(inbound.open(&mut esp), Err(OpenError::Forged { seq: 5001 }));
    assert_eq!(inbound.window().top(), 5000);
}

#[test]
fn without_esn_the_sender_stops_at_the_last_of_32_bits_and_keeps_refusing() {
    let last = u64::from(u32::MAX);
    let mut out = outbound(false, last);
    let mut inbound = inbound(false, WINDOW, last - 1);
    let mut esp = sealed(&mut out);
    assert_eq!(inbound.open(&mut esp).map(|opened| opened.seq), Ok(last));
    for _ in 0..3 {
        assert_refuses(&mut out, last);
    }
    assert_eq!((out.packets(), out.remaining()), (1, 0));
}

#[test]
fn with_esn_the_sender_stops_at_the_last_of_64_bits() {
    let mut out = outbound(true, u64::MAX);
    let mut inbound = inbound(true, WINDOW, u64::MAX - 1);
    assert_eq!(
        inbound.open(&mut sealed(&mut out)).map(|opened| opened.seq),
        Ok(u64::MAX)
    );
    assert_refuses(&mut out, u64::MAX);
}

#[test]
fn a_hard_limit_stops_the_sender_where_it_was_set() {
    let mut out = outbound(true, 1);
    out.set_hard_limit(3);
    for _ in 0..3 {
        sealed(&mut out);
    }
    assert_refuses(&mut out, 3);
    assert_eq!((out.packets(), out.bytes(), out.hard_limit()), (3, 60, 3));
}

fn assert_refuses(out: &mut OutboundSa, limit: u64) {
    let untouched = framed(&INNER);
    let mut esp = untouched.clone();
    let error = out.seal(&mut esp, INNER.len(), NEXT_HEADER_IPV4);
    assert_eq!(error, Err(SealError::Exhausted { limit }));
    assert_eq!(
        esp, untouched,
        "nothing was written over the caller's bytes"
    );
}

#[test]
fn numbers_are_consecutive_and_never_given_twice() {
    let mut out = outbound(true, 1);
    let seqs: Vec<u64> = (0..500)
        .map(|_| {
            out.seal(&mut framed(&INNER), INNER.len(), NEXT_HEADER_IPV4)
                .unwrap()
        })
        .collect();
    assert!(seqs.into_iter().eq(1..=500));
}

#[test]
fn debug_of_an_sa_shows_its_fingerprint_and_no_key() {
    let shown = format!("{:?} {:?}", outbound(true, 1), inbound(true, 64, 0));
    let key = test_key(Algorithm::Aes128Gcm16, 3);
    assert_eq!(
        shown.matches(&key.fingerprint().to_string()).count(),
        2,
        "{shown}"
    );
    let salt = key.expose_keymat().last_chunk::<4>().unwrap();
    assert!(
        !shown.contains(&format!("{salt:?}")) && !shown.contains("salt"),
        "{shown}"
    );
}
