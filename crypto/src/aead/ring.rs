//! The default backend: AES-GCM and ChaCha20-Poly1305 from ring.

use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};

use super::{Aead, AeadError, NONCE_LEN, TAG_LEN};
use crate::key::{Algorithm, KeyError};

/// AES-128-GCM, AES-256-GCM or ChaCha20-Poly1305 by ring, with AES-NI, VAES or the Arm crypto extensions where the
/// CPU has them. Which one is decided at run time by ring.
///
/// ring wants to own the nonce sequence. An ESP nonce is part of the packet, so this uses ring's
/// `LessSafeKey` and takes over the duty not to repeat one; see [`Aead`].
pub struct RingAead(LessSafeKey);

impl Aead for RingAead {
    fn from_key(algorithm: Algorithm, key: &[u8]) -> Result<Self, KeyError> {
        let cipher = match algorithm {
            Algorithm::Aes128Gcm16 => &AES_128_GCM,
            Algorithm::Aes256Gcm16 => &AES_256_GCM,
            Algorithm::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        // ring refuses a key for its length only.
        let unbound = UnboundKey::new(cipher, key).map_err(|_| KeyError::KeyLength {
            algorithm,
            expected: algorithm.key_len(),
            got: key.len(),
        })?;
        Ok(Self(LessSafeKey::new(unbound)))
    }

    fn seal_with_tag(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        data: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) -> Result<(), AeadError> {
        let too_long = AeadError::TooLong {
            len_bytes: data.len(),
        };
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let sealed = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(aad), data)
            .map_err(|_| too_long)?;
        *tag = sealed.as_ref().try_into().map_err(|_| too_long)?;
        Ok(())
    }

    fn open_in_place(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        data_and_tag: &mut [u8],
    ) -> Result<usize, AeadError> {
        let len_bytes = data_and_tag.len();
        let plain_len = len_bytes
            .checked_sub(TAG_LEN)
            .ok_or(AeadError::Truncated { len_bytes })?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        match self.0.open_in_place(nonce, Aad::from(aad), data_and_tag) {
            Ok(plain) => Ok(plain.len()),
            Err(_) => Err(AeadError::Forged {
                len_bytes: plain_len,
            }),
        }
    }
}

impl std::fmt::Debug for RingAead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RingAead(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: [u8; NONCE_LEN] = [9; NONCE_LEN];

    fn aead() -> RingAead {
        RingAead::from_key(Algorithm::Aes128Gcm16, &[1; 16]).expect("16 bytes is a key")
    }

    #[test]
    fn a_wrong_key_length_names_expected_and_got() {
        for algorithm in Algorithm::ALL {
            for got in (0..=64).filter(|len| *len != algorithm.key_len()) {
                let error = RingAead::from_key(algorithm, &vec![0; got]).expect_err("refused");
                let expected = algorithm.key_len();
                assert_eq!(
                    error,
                    KeyError::KeyLength {
                        algorithm,
                        expected,
                        got
                    }
                );
            }
        }
    }

    #[test]
    fn an_input_shorter_than_a_tag_is_truncated_not_forged() {
        for len_bytes in 0..TAG_LEN {
            let mut data = vec![0; len_bytes];
            let error = aead()
                .open_in_place(&NONCE, b"", &mut data)
                .expect_err("too short");
            assert_eq!(error, AeadError::Truncated { len_bytes });
        }
    }

    #[test]
    fn a_lone_tag_opens_to_nothing() {
        let mut tag = aead()
            .seal_in_place(&NONCE, b"aad", &mut [])
            .expect("empty is fine");
        assert_eq!(aead().open_in_place(&NONCE, b"aad", &mut tag), Ok(0));
    }

    #[test]
    fn a_changed_aad_nonce_or_tag_is_forged() {
        let mut sealed = b"payload".to_vec();
        let tag = aead()
            .seal_in_place(&NONCE, b"aad", &mut sealed)
            .expect("short");
        sealed.extend_from_slice(&tag);
        let forged = Err(AeadError::Forged { len_bytes: 7 });
        assert_eq!(
            aead().open_in_place(&NONCE, b"aae", &mut sealed.clone()),
            forged
        );
        assert_eq!(
            aead().open_in_place(&[8; NONCE_LEN], b"aad", &mut sealed.clone()),
            forged
        );
        let mut other_tag = sealed.clone();
        other_tag[7] ^= 1;
        assert_eq!(aead().open_in_place(&NONCE, b"aad", &mut other_tag), forged);
        assert_eq!(aead().open_in_place(&NONCE, b"aad", &mut sealed), Ok(7));
        assert_eq!(&sealed[..7], b"payload");
    }
}
