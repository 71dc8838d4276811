//! Two backends for one key.

use super::{Aead, AeadError, NONCE_LEN, TAG_LEN};
use crate::key::{Algorithm, KeyError};

/// One key in two backends: `S` has the packets of at most `LIMIT` bytes, `L` the others.
///
/// Backends differ in what a call costs and in what a byte costs, and no one is the fastest
/// at both. Both have the whole key, and what one seals the other opens: which of them had a
/// packet can't be seen on it.
pub struct BySize<S, L, const LIMIT: usize> {
    short: S,
    long: L,
}

impl<S: Aead, L: Aead, const LIMIT: usize> Aead for BySize<S, L, LIMIT> {
    fn from_key(algorithm: Algorithm, key: &[u8]) -> Result<Self, KeyError> {
        Ok(Self {
            short: S::from_key(algorithm, key)?,
            long: L::from_key(algorithm, key)?,
        })
    }

    #[inline]
    fn seal_in_place(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        data: &mut [u8],
    ) -> Result<[u8; TAG_LEN], AeadError> {
        if data.len() <= LIMIT {
            self.short.seal_in_place(nonce, aad, data)
        } else {
            self.long.seal_in_place(nonce, aad, data)
        }
    }

    #[inline]
    fn open_in_place(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        data_and_tag: &mut [u8],
    ) -> Result<usize, AeadError> {
        if data_and_tag.len() <= LIMIT + TAG_LEN {
            self.short.open_in_place(nonce, aad, data_and_tag)
        } else {
            self.long.open_in_place(nonce, aad, data_and_tag)
        }
    }
}
