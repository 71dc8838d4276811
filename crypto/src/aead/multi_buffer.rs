//! AES-GCM by `libipsec-mb`, where the build has it (feature `ipsec-mb`) and the machine too.

use sluice_intrinsics::prefetch_many;
use sluice_ipsec_mb::Key;
use subtle::ConstantTimeEq;

use super::{Aead, AeadError, NONCE_LEN, TAG_LEN};
use crate::key::{Algorithm, KeyError};

/// AES-128-GCM or AES-256-GCM by Intel's Multi-Buffer library, one packet a call. There is no key
/// on another architecture than x86-64, nor where the library isn't installed.
#[derive(Debug)]
pub struct ImbAead(Key);

/// What one nonce may encrypt with AES-GCM (NIST SP 800-38D section 5.2.1.1).
const LEN_MAX: u64 = (1 << 36) - 32;

impl ImbAead {
    /// Whether it is the fastest for packets of any length: with AVX-512.
    pub(super) const fn is_wide(&self) -> bool {
        self.0.is_wide()
    }
}

impl Aead for ImbAead {
    fn from_key(algorithm: Algorithm, key: &[u8]) -> Result<Self, KeyError> {
        if algorithm == Algorithm::ChaCha20Poly1305 {
            return Err(KeyError::NoBackend { algorithm });
        }
        if key.len() != algorithm.key_len() {
            return Err(KeyError::KeyLength {
                algorithm,
                expected: algorithm.key_len(),
                got: key.len(),
            });
        }
        Key::new(key)
            .map(Self)
            .ok_or(KeyError::NoBackend { algorithm })
    }

    #[inline]
    fn seal_with_tag(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        data: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) -> Result<(), AeadError> {
        if data.len() as u64 > LEN_MAX {
            let len_bytes = data.len();
            return Err(AeadError::TooLong { len_bytes });
        }
        self.0.seal(nonce, aad, data, tag);
        Ok(())
    }

    #[inline]
    fn expect(&self, len_bytes: usize) {
        self.0.lines(len_bytes).for_each(prefetch_many);
    }

    #[inline]
    fn open_in_place(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        data_and_tag: &mut [u8],
    ) -> Result<usize, AeadError> {
        let len_bytes = data_and_tag.len();
        let (data, tag) = data_and_tag
            .split_last_chunk_mut::<TAG_LEN>()
            .ok_or(AeadError::Truncated { len_bytes })?;
        let len_bytes = data.len();
        let expected = self.0.open(nonce, aad, data);
        // As one number: byte by byte it took as long as a block of the cipher.
        let same = u128::from_ne_bytes(expected).ct_eq(&u128::from_ne_bytes(*tag));
        if bool::from(same) {
            Ok(len_bytes)
        } else {
            // What was decrypted is nobody's to see.
            data.fill(0);
            Err(AeadError::Forged { len_bytes })
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a failed assumption in a test is a failed test"
)]
mod tests {
    use super::*;
    use crate::aead::{Backend, RingAead};

    const NONCE: [u8; NONCE_LEN] = [7; NONCE_LEN];
    const AAD: [u8; 12] = [3; 12];
    const AES: [Algorithm; 2] = [Algorithm::Aes128Gcm16, Algorithm::Aes256Gcm16];

    fn raw(algorithm: Algorithm) -> Vec<u8> {
        (1..).take(algorithm.key_len()).collect()
    }

    fn keyed<A: Aead>(algorithm: Algorithm) -> A {
        A::from_key(algorithm, &raw(algorithm)).expect("the library is there")
    }

    fn agree(
        ours: &impl Aead,
        algorithm: Algorithm,
        lens: impl Iterator<Item = usize>,
        aad: &[u8],
    ) {
        let ring: RingAead = keyed(algorithm);
        for len in lens {
            let clear: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let (mut a, mut b) = (clear.clone(), clear.clone());
            let tag = ours.seal_in_place(&NONCE, aad, &mut a).unwrap();
            assert_eq!(tag, ring.seal_in_place(&NONCE, aad, &mut b).unwrap());
            assert_eq!(a, b, "{len}");
            a.extend(tag);
            let opened = ours.open_in_place(&NONCE, aad, &mut a.clone());
            assert_eq!(opened, Ok(len));
            for at in [0, len / 2, len, len + TAG_LEN - 1] {
                let mut forged = a.clone();
                forged[at] ^= 0x40;
                let opened = ours.open_in_place(&NONCE, aad, &mut forged);
                assert_eq!(opened, Err(AeadError::Forged { len_bytes: len }), "{at}");
            }
            let opened = ours.open_in_place(&NONCE, &[4; 12], &mut a);
            assert_eq!(opened, Err(AeadError::Forged { len_bytes: len }));
        }
    }

    #[test]
    fn it_agrees_with_ring_on_every_length_of_a_packet() {
        for algorithm in AES {
            let ours: ImbAead = keyed(algorithm);
            agree(
                &ours,
                algorithm,
                (1..300).chain((300..9_000).step_by(97)),
                &AAD,
            );
        }
    }

    #[test]
    fn one_key_goes_by_either_of_both_as_its_packets_are_long() {
        for algorithm in AES {
            // Every length that a frame can have, on either side of where it changes over.
            // With and without the upper half of the number among what is authenticated.
            for aad in [&AAD[..], &AAD[..8]] {
                let here: Backend = keyed(algorithm);
                agree(&here, algorithm, (1..1_600).chain([8192]), aad);
                // And as without AVX-512, on a machine that has it.
                let narrow = Backend::without_avx512(algorithm, &raw(algorithm)).unwrap();
                agree(&narrow, algorithm, (1..1_600).chain([8192]), aad);
            }
        }
    }

    #[test]
    fn what_it_has_not_and_what_is_no_key_is_refused() {
        let chacha = ImbAead::from_key(Algorithm::ChaCha20Poly1305, &[0; 32]);
        assert!(matches!(chacha, Err(KeyError::NoBackend { .. })));
        let short = ImbAead::from_key(Algorithm::Aes256Gcm16, &[0; 16]);
        assert!(matches!(short, Err(KeyError::KeyLength { got: 16, .. })));
        let ours: ImbAead = keyed(Algorithm::Aes128Gcm16);
        let cut = ours.open_in_place(&NONCE, &AAD, &mut [0; TAG_LEN - 1]);
        assert_eq!(cut, Err(AeadError::Truncated { len_bytes: 15 }));
    }

    #[test]
    fn the_cipher_that_it_has_not_is_rings_alone() {
        let chacha = Algorithm::ChaCha20Poly1305;
        agree(&keyed::<Backend>(chacha), chacha, 1..100, &AAD);
        assert!(Backend::from_key(Algorithm::Aes128Gcm16, &[0; 15]).is_err());
    }
}
