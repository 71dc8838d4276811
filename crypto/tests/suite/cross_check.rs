//! Property: ring and the RustCrypto project agree on every input.

use proptest::prelude::*;
use sluice_crypto::aead::{Aead, RingAead};
use sluice_crypto::key::Algorithm;

use crate::second_opinion::RustCryptoAead;

fn algorithm() -> impl Strategy<Value = Algorithm> {
    prop::sample::select(Algorithm::ALL.to_vec())
}

proptest! {
    #[test]
    fn both_backends_seal_to_the_same_bytes_and_open_each_other(
        algorithm in algorithm(),
        key in any::<[u8; 32]>(),
        nonce: [u8; 12],
        aad in prop::collection::vec(any::<u8>(), 0..40),
        plain in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let key = &key[..algorithm.key_len()];
        let ring = RingAead::from_key(algorithm, key).unwrap();
        let other = RustCryptoAead::from_key(algorithm, key).unwrap();
        let seal = |aead: &dyn Aead| {
            let mut sealed = plain.clone();
            let tag = aead.seal_in_place(&nonce, &aad, &mut sealed).unwrap();
            sealed.extend(tag);
            sealed
        };
        let sealed = seal(&ring);
        prop_assert_eq!(&sealed, &seal(&other));

        for aead in [&ring as &dyn Aead, &other] {
            let mut opened = sealed.clone();
            prop_assert_eq!(aead.open_in_place(&nonce, &aad, &mut opened), Ok(plain.len()));
            prop_assert_eq!(&opened[..plain.len()], &plain[..]);
        }
    }

    #[test]
    fn both_backends_refuse_the_same_garbage(
        algorithm in algorithm(),
        key in any::<[u8; 32]>(),
        nonce: [u8; 12],
        garbage in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let key = &key[..algorithm.key_len()];
        let ring = RingAead::from_key(algorithm, key).unwrap();
        let other = RustCryptoAead::from_key(algorithm, key).unwrap();
        prop_assert_eq!(
            ring.open_in_place(&nonce, b"", &mut garbage.clone()),
            other.open_in_place(&nonce, b"", &mut garbage.clone())
        );
    }
}
