//! Opening what was sealed gives back what went in, whoever does which.

use proptest::prelude::*;
use sluice_crypto::aead::{Aead, RingAead};
use sluice_crypto::esp::{ESP_HEADER_LEN, InboundSa, NEXT_HEADER_IPV6, Opened, OutboundSa, Spi};
use sluice_crypto::key::Algorithm;
use sluice_crypto::replay::ReplayWindow;

use crate::second_opinion::RustCryptoAead;
use crate::test_key;

const SPI: Spi = Spi(0x0010_0003);

#[test]
fn every_inner_length_from_0_to_2000_survives_ring_to_ring() {
    every_inner_length_survives::<RingAead, RingAead>(1);
}

#[test]
fn every_inner_length_survives_between_ring_and_aes_gcm() {
    every_inner_length_survives::<RingAead, RustCryptoAead>(7);
    every_inner_length_survives::<RustCryptoAead, RingAead>(7);
}

fn every_inner_length_survives<S: Aead, O: Aead>(stride: usize) {
    for algorithm in Algorithm::ALL {
        for esn in [false, true] {
            let mut out = OutboundSa::<S>::with_backend(SPI, test_key(algorithm, 1), esn).unwrap();
            let window = ReplayWindow::new(64).unwrap();
            let mut inbound =
                InboundSa::<O>::with_backend(SPI, test_key(algorithm, 1), esn, window).unwrap();
            for inner_len in (0..=2000).step_by(stride) {
                let inner: Vec<u8> = (0..=255).cycle().take(inner_len).collect();
                let expected_seq = out.next_seq();
                let mut esp = framed(&inner);
                let seq = out.seal(&mut esp, inner_len, NEXT_HEADER_IPV6).unwrap();
                assert_eq!(seq, expected_seq);
                assert_eq!(esp.len() % 4, 0);
                let opened = inbound.open(&mut esp).unwrap();
                let range = ESP_HEADER_LEN..ESP_HEADER_LEN + inner_len;
                assert_eq!(opened.next_header, NEXT_HEADER_IPV6);
                assert_eq!(&esp[range.clone()], inner);
                assert_eq!(
                    opened,
                    Opened {
                        inner: range,
                        next_header: NEXT_HEADER_IPV6,
                        seq
                    }
                );
            }
            assert_eq!(
                (out.packets(), out.bytes()),
                (inbound.packets(), inbound.bytes())
            );
            assert_eq!(out.packets() + 1, out.next_seq());
            assert_eq!(out.fingerprint(), inbound.fingerprint());
        }
    }
}

/// `inner` with room for what sealing adds; the room holds rubbish.
pub(crate) fn framed(inner: &[u8]) -> Vec<u8> {
    let mut esp = vec![0xee; OutboundSa::sealed_len(inner.len())];
    esp[ESP_HEADER_LEN..][..inner.len()].copy_from_slice(inner);
    esp
}

proptest! {
    #[test]
    fn any_inner_packet_under_any_key_survives(
        algorithm in prop::sample::select(Algorithm::ALL.to_vec()),
        seed: u8,
        esn: bool,
        first in prop_oneof![1u64..1000, any::<u32>().prop_map(u64::from)],
        next_header: u8,
        inner in prop::collection::vec(any::<u8>(), 0..3000),
    ) {
        let key = || test_key(algorithm, seed);
        let mut out = OutboundSa::starting_at(SPI, key(), esn, first);
        let mut inbound = InboundSa::new(SPI, key(), esn, 1024).unwrap();
        let mut esp = framed(&inner);
        let seq = out.seal(&mut esp, inner.len(), next_header).unwrap();
        prop_assert_eq!(seq, first.max(1));
        prop_assert_eq!(&esp[..4], &SPI.0.to_be_bytes());
        prop_assert_eq!(&esp[4..8], &seq.to_be_bytes()[4..]);
        prop_assert_eq!(&esp[8..16], &seq.to_be_bytes());
        let opened = inbound.open(&mut esp).unwrap();
        prop_assert_eq!(opened.next_header, next_header);
        prop_assert_eq!(&esp[opened.inner], &inner);
    }
}
