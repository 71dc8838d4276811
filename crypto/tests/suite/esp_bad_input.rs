//! What a receiver refuses, and that refusing changes nothing it should not.

use proptest::prelude::*;
use sluice_crypto::aead::{Aead, RingAead};
use sluice_crypto::esp::{
    ESP_HEADER_LEN, ESP_LEN_MIN, InboundSa, NEXT_HEADER_DUMMY, NEXT_HEADER_IPV4, OpenError,
    OutboundSa, SealError, Spi,
};
use sluice_crypto::key::Algorithm;

use crate::esp_identity::framed;
use crate::test_key;

const SPI: Spi = Spi(0x0010_0003);
const SEED: u8 = 5;

fn pair(algorithm: Algorithm, esn: bool) -> (OutboundSa, InboundSa) {
    let inbound = InboundSa::new(SPI, test_key(algorithm, SEED), esn, 1024).unwrap();
    (
        OutboundSa::new(SPI, test_key(algorithm, SEED), esn),
        inbound,
    )
}

#[test]
fn a_flip_of_any_bit_is_refused_and_changes_no_state() {
    for algorithm in Algorithm::ALL {
        for esn in [false, true] {
            let (mut out, mut inbound) = pair(algorithm, esn);
            let inner = [0x45; 41];
            for _ in 0..3 {
                let mut esp = framed(&inner);
                out.seal(&mut esp, inner.len(), NEXT_HEADER_IPV4).unwrap();
                inbound.open(&mut esp).unwrap();
            }
            let mut sealed = framed(&inner);
            out.seal(&mut sealed, inner.len(), NEXT_HEADER_IPV4)
                .unwrap();
            for bit in 0..sealed.len() * 8 {
                assert_flip_is_refused(&mut inbound, &sealed, bit);
            }
            let opened = inbound.open(&mut sealed).unwrap();
            assert_eq!(
                &sealed[opened.inner], inner,
                "the genuine packet still opens"
            );
        }
    }
}

fn assert_flip_is_refused(inbound: &mut InboundSa, sealed: &[u8], bit: usize) {
    let before = (inbound.window().clone(), inbound.packets(), inbound.bytes());
    let mut flipped = sealed.to_vec();
    flipped[bit / 8] ^= 1 << (bit % 8);
    let error = inbound.open(&mut flipped).expect_err("a flipped bit");
    // Only a flip in the sequence number can meet the window before the ICV.
    let by_window = matches!(error, OpenError::Stale { .. } | OpenError::Seen { .. });
    assert!(
        matches!(error, OpenError::Forged { .. }) || (by_window && (4..8).contains(&(bit / 8))),
        "bit {bit}: {error:?}"
    );
    assert_eq!(
        (inbound.window().clone(), inbound.packets(), inbound.bytes()),
        before
    );
}

proptest! {
    #[test]
    fn a_flip_anywhere_in_a_packet_of_any_length_is_refused(
        algorithm in prop::sample::select(Algorithm::ALL.to_vec()),
        esn: bool,
        inner in prop::collection::vec(any::<u8>(), 0..1500),
        at: prop::sample::Index,
    ) {
        let (mut out, mut inbound) = pair(algorithm, esn);
        let mut sealed = framed(&inner);
        out.seal(&mut sealed, inner.len(), NEXT_HEADER_IPV4).unwrap();
        let bit = at.index(sealed.len() * 8);
        assert_flip_is_refused(&mut inbound, &sealed, bit);
        inbound.open(&mut sealed).unwrap();
    }

    #[test]
    fn bytes_of_any_kind_are_refused_without_a_trace(
        esn: bool,
        mut garbage in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let (_, mut inbound) = pair(Algorithm::Aes128Gcm16, esn);
        let before = inbound.window().clone();
        prop_assert!(inbound.open(&mut garbage).is_err());
        prop_assert_eq!(inbound.window(), &before);
        prop_assert_eq!((inbound.packets(), inbound.bytes()), (0, 0));
    }
}

#[test]
fn every_truncation_of_a_packet_is_refused() {
    let (mut out, mut inbound) = pair(Algorithm::Aes256Gcm16, true);
    let mut sealed = framed(&[7; 20]);
    out.seal(&mut sealed, 20, NEXT_HEADER_IPV4).unwrap();
    for len in 0..sealed.len() {
        let error = inbound
            .open(&mut sealed.clone()[..len])
            .expect_err("cut short");
        if len < ESP_LEN_MIN {
            assert_eq!(
                error,
                OpenError::Truncated {
                    len,
                    min: ESP_LEN_MIN
                }
            );
        } else {
            assert_eq!(error, OpenError::Forged { seq: 1 });
        }
    }
    inbound.open(&mut sealed).unwrap();
}

#[test]
fn a_packet_of_another_sa_key_or_esn_mode_is_forged() {
    let (mut out, mut inbound) = pair(Algorithm::Aes128Gcm16, true);
    let mut sealed = framed(&[7; 20]);
    out.seal(&mut sealed, 20, NEXT_HEADER_IPV4).unwrap();
    let key = |seed| test_key(Algorithm::Aes128Gcm16, seed);
    let mut without_esn = InboundSa::new(SPI, key(SEED), false, 1024).unwrap();
    let mut other_key = InboundSa::new(SPI, key(SEED + 1), true, 1024).unwrap();
    for sa in [&mut without_esn, &mut other_key] {
        assert_eq!(
            sa.open(&mut sealed.clone()),
            Err(OpenError::Forged { seq: 1 })
        );
    }
    let mut readdressed = sealed.clone();
    readdressed[3] ^= 1;
    assert_eq!(
        inbound.open(&mut readdressed),
        Err(OpenError::Forged { seq: 1 })
    );
}

#[test]
fn a_replayed_packet_is_seen() {
    let (mut out, mut inbound) = pair(Algorithm::Aes128Gcm16, true);
    let mut sealed = framed(&[7; 20]);
    out.seal(&mut sealed, 20, NEXT_HEADER_IPV4).unwrap();
    inbound.open(&mut sealed.clone()).unwrap();
    assert_eq!(inbound.open(&mut sealed), Err(OpenError::Seen { seq: 1 }));
    assert_eq!(inbound.packets(), 1);
}

/// An authentic packet whose plaintext, trailer and all, is `plain`.
fn authentic(plain: &[u8], seq: u64) -> Vec<u8> {
    let key = test_key(Algorithm::Aes128Gcm16, SEED);
    let (aes_key, salt) = key.expose_keymat().split_at(16);
    let aead = RingAead::from_key(Algorithm::Aes128Gcm16, aes_key).unwrap();
    let (spi, seq) = (SPI.0.to_be_bytes(), seq.to_be_bytes());
    let nonce: [u8; 12] = [salt, &seq].concat().try_into().unwrap();
    let mut body = plain.to_vec();
    let tag = aead.seal_in_place(
        &nonce,
        &[spi, *seq.last_chunk().unwrap()].concat(),
        &mut body,
    );
    [&spi, &seq[4..], &seq, &body, &tag.unwrap()].concat()
}

#[test]
fn authentic_packets_with_bad_padding_are_refused_and_spend_their_number() {
    let (_, mut inbound) = pair(Algorithm::Aes128Gcm16, false);
    let bad: [(&[u8], u8); 6] = [
        (&[9, 9, 9, 9, 1, 1, 2, 4], 2),     // 1, 1
        (&[9, 9, 9, 9, 0, 0, 2, 4], 2),     // zeroes
        (&[9, 9, 9, 9, 2, 1, 2, 4], 2),     // downwards
        (&[9, 9, 9, 9, 1, 2, 7, 4], 7),     // reaches past the start
        (&[9, 9, 9, 9, 9, 9, 255, 4], 255), // far past it
        (&[1, 4], 1),                       // nothing there to be padding
    ];
    for (seq, (plain, pad_len)) in (1..).zip(bad) {
        let packet = authentic(plain, seq);
        let error = inbound.open(&mut packet.clone());
        assert_eq!(error, Err(OpenError::BadTrailer { seq, pad_len }));
        assert_eq!(
            inbound.open(&mut packet.clone()),
            Err(OpenError::Seen { seq })
        );
    }
    assert_eq!((inbound.packets(), inbound.bytes()), (0, 0));
}

#[test]
fn longer_padding_than_alignment_needs_is_accepted() {
    let (_, mut inbound) = pair(Algorithm::Aes128Gcm16, false);
    let mut plain = vec![9; 3];
    plain.extend(1..=255);
    plain.extend([255, NEXT_HEADER_IPV4]);
    let mut packet = authentic(&plain, 1);
    let opened = inbound.open(&mut packet).unwrap();
    assert_eq!(&packet[opened.inner], [9, 9, 9]);
}

#[test]
fn the_shortest_packet_opens_to_nothing() {
    let (_, mut inbound) = pair(Algorithm::Aes128Gcm16, false);
    let mut packet = authentic(&[0, NEXT_HEADER_IPV4], 1);
    assert_eq!(packet.len(), ESP_LEN_MIN);
    let opened = inbound.open(&mut packet).unwrap();
    assert_eq!(opened.inner, ESP_HEADER_LEN..ESP_HEADER_LEN);
}

#[test]
fn a_dummy_packet_is_opened_and_left_to_the_caller_to_drop() {
    let (mut out, mut inbound) = pair(Algorithm::Aes256Gcm16, true);
    let mut esp = framed(&[0xaa; 30]);
    out.seal(&mut esp, 30, NEXT_HEADER_DUMMY).unwrap();
    let opened = inbound.open(&mut esp).unwrap();
    assert_eq!(opened.next_header, NEXT_HEADER_DUMMY);
}

#[test]
fn sealing_a_slice_of_another_length_is_refused_and_spends_no_number() {
    let (mut out, _) = pair(Algorithm::Aes128Gcm16, true);
    for inner_len in [0, 1, 20, 100] {
        let expected = OutboundSa::sealed_len(inner_len);
        for got in [0, 15, 16, expected - 1, expected + 1] {
            let mut esp = vec![0xee; got];
            let error = out.seal(&mut esp, inner_len, NEXT_HEADER_IPV4);
            assert_eq!(error, Err(SealError::WrongLength { expected, got }));
            assert_eq!(esp, vec![0xee; got]);
        }
    }
    let huge = out.seal(&mut [0; 40], usize::MAX, NEXT_HEADER_IPV4);
    assert!(matches!(huge, Err(SealError::WrongLength { .. })));
    assert_eq!((out.next_seq(), out.packets(), out.bytes()), (1, 0, 0));
}
