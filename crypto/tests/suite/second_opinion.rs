//! The `aes-gcm` and `chacha20poly1305` crates behind the same trait, to hold ring against.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes128Gcm, Aes256Gcm, KeyInit, Nonce, Tag};
use chacha20poly1305::ChaCha20Poly1305;
use sluice_crypto::aead::{Aead, AeadError, NONCE_LEN, TAG_LEN};
use sluice_crypto::key::{Algorithm, KeyError};

/// The same ciphers by the RustCrypto project.
pub(crate) enum RustCryptoAead {
    Aes128(Box<Aes128Gcm>),
    Aes256(Box<Aes256Gcm>),
    ChaCha(Box<ChaCha20Poly1305>),
}

impl Aead for RustCryptoAead {
    fn from_key(algorithm: Algorithm, key: &[u8]) -> Result<Self, KeyError> {
        match algorithm {
            Algorithm::Aes128Gcm16 => {
                Aes128Gcm::new_from_slice(key).map(|gcm| Self::Aes128(Box::new(gcm)))
            }
            Algorithm::Aes256Gcm16 => {
                Aes256Gcm::new_from_slice(key).map(|gcm| Self::Aes256(Box::new(gcm)))
            }
            Algorithm::ChaCha20Poly1305 => {
                ChaCha20Poly1305::new_from_slice(key).map(|it| Self::ChaCha(Box::new(it)))
            }
        }
        .map_err(|_| KeyError::KeyLength {
            algorithm,
            expected: algorithm.key_len(),
            got: key.len(),
        })
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
        let (nonce, data) = (Nonce::from(*nonce), InOutBuf::from(data));
        let sealed = match self {
            Self::Aes128(gcm) => gcm.encrypt_inout_detached(&nonce, aad, data),
            Self::Aes256(gcm) => gcm.encrypt_inout_detached(&nonce, aad, data),
            Self::ChaCha(it) => it.encrypt_inout_detached(&nonce, aad, data),
        };
        *tag = sealed.map_err(|_| too_long)?.into();
        Ok(())
    }

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
        let (nonce, tag, data) = (Nonce::from(*nonce), Tag::from(*tag), InOutBuf::from(data));
        match self {
            Self::Aes128(gcm) => gcm.decrypt_inout_detached(&nonce, aad, data, &tag),
            Self::Aes256(gcm) => gcm.decrypt_inout_detached(&nonce, aad, data, &tag),
            Self::ChaCha(it) => it.decrypt_inout_detached(&nonce, aad, data, &tag),
        }
        .map(|()| len_bytes)
        .map_err(|_| AeadError::Forged { len_bytes })
    }
}
