//! Authenticated encryption behind one trait, so that a backend is a choice and never a
//! dependency of the packet code.
//!
//! [`Backend`] is what SAs use: [`RingAead`], and another beside it where that is faster. The tests
//! implement the same trait over the `aes-gcm` and `chacha20poly1305` crates, which share no code
//! with ring, and hold the two against each other.

#[cfg(feature = "ipsec-mb")]
mod backend;
#[cfg(feature = "ipsec-mb")]
mod multi_buffer;
mod ring;

use crate::key::{Algorithm, KeyError};

#[cfg(feature = "ipsec-mb")]
pub use self::backend::Backend;
#[cfg(feature = "ipsec-mb")]
pub use self::multi_buffer::ImbAead;
pub use self::ring::RingAead;

/// What an SA seals and opens with: ring. The feature `ipsec-mb` puts another beside it.
#[cfg(not(feature = "ipsec-mb"))]
pub type Backend = RingAead;

/// Length of the authentication tag in bytes. ESP calls it the integrity check value, ICV.
///
//= RFC 4106 section 6
//# Implementations MUST support a full-length 16-octet ICV
pub const TAG_LEN: usize = 16;

/// Length of a nonce in bytes: a 4-byte salt, then the 8-byte IV of the packet.
pub const NONCE_LEN: usize = 12;

/// One key, ready to seal and open. Works in place and never allocates.
///
/// The trait takes the nonce as an argument and so trusts its caller never to seal twice with
/// the same one. In this crate that caller is [`crate::esp::OutboundSa`], which derives it from
/// a counter that can't be cloned or set back.
pub trait Aead {
    /// Expands `key`, which must be exactly [`Algorithm::key_len`] bytes.
    ///
    /// # Errors
    /// [`KeyError::KeyLength`] for any other length.
    fn from_key(algorithm: Algorithm, key: &[u8]) -> Result<Self, KeyError>
    where
        Self: Sized;

    /// Encrypts `data` in place and writes the tag over `aad` and the ciphertext where it is to
    /// stand: read back it would be waited for.
    ///
    /// # Errors
    /// [`AeadError::TooLong`] if `data` exceeds what one nonce may encrypt (GCM: 64 GiB less 32
    /// bytes; ChaCha20: 256 GiB less 64). `data` is then unspecified and must not be sent.
    fn seal_with_tag(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        data: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) -> Result<(), AeadError>;

    /// The same with the tag returned.
    ///
    /// # Errors
    /// As [`Self::seal_with_tag`].
    #[inline]
    fn seal_in_place(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        data: &mut [u8],
    ) -> Result<[u8; TAG_LEN], AeadError> {
        let mut tag = [0; TAG_LEN];
        self.seal_with_tag(nonce, aad, data, &mut tag)?;
        Ok(tag)
    }

    /// Checks the tag at the end of `data_and_tag`, decrypts in place and returns the length of
    /// the plaintext, which starts at index 0.
    ///
    /// # Errors
    /// [`AeadError::Truncated`] if there is no room for a tag, [`AeadError::Forged`] if it does
    /// not match. `data_and_tag` is then unspecified: a backend may have written to it.
    fn open_in_place(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        data_and_tag: &mut [u8],
    ) -> Result<usize, AeadError>;

    /// Asks for what a packet of `len_bytes` will need of the key, where that isn't in `self`, to
    /// be brought into the cache. For many keys in turn; whatever the length, nothing else
    /// happens.
    #[inline]
    fn expect(&self, _len_bytes: usize) {}
}

/// Why sealing or opening failed. Carries lengths only, never data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AeadError {
    /// The tag does not match the key, nonce, associated data and ciphertext.
    #[error("the tag over {len_bytes} bytes of ciphertext does not match")]
    Forged {
        /// Length of the ciphertext without its tag.
        len_bytes: usize,
    },
    /// The input is shorter than a tag.
    #[error("{len_bytes} bytes is shorter than a tag of {TAG_LEN}")]
    Truncated {
        /// Length of the whole input.
        len_bytes: usize,
    },
    /// The input is longer than one nonce may encrypt.
    #[error("{len_bytes} bytes is more than one nonce may encrypt")]
    TooLong {
        /// Length of the plaintext.
        len_bytes: usize,
    },
}
