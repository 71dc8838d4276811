//! The libraries whose ciphers are measured alone.

use aes_gcm::aead::consts::{U12, U16};
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes128Gcm, Aes256Gcm, KeyInit, Nonce, Tag};
use aws_lc_rs::aead as aws;
use chacha20poly1305::ChaCha20Poly1305;
use ring::aead as ring;
use sluice_crypto::aead::TAG_LEN;
use sluice_crypto::key::Algorithm;

use super::bare::{Cipher, Passes};

/// As much as ESP authenticates beside the packet, with 64-bit sequence numbers.
const AAD: [u8; 12] = [3; 12];
const NONCE: [u8; 12] = [1; 12];

/// A cipher with its key; `None` where the library hasn't the algorithm.
pub(super) type Make = fn(Algorithm) -> Option<Box<dyn Passes>>;

/// What the others are measured beside.
pub(super) const RING: (&str, Make) = ("ring", with_ring);

/// Each library there is.
pub(super) const ALL: &[(&str, Make)] = &[
    RING,
    ("aws-lc-rs", with_aws_lc),
    ("RustCrypto", with_rust_crypto),
    #[cfg(feature = "dpdk")]
    ("ipsec-mb", multi_buffer::alone),
];

/// What SAs use where there are two: no library, and no faster than the faster of both.
pub(super) const BY_SIZE: &[(&str, Make)] = &[
    #[cfg(feature = "dpdk")]
    ("ipsec-mb/ring", multi_buffer::by_size),
];

fn key(algorithm: Algorithm) -> Vec<u8> {
    vec![7; algorithm.key_len()]
}

fn boxed(cipher: impl Cipher + 'static) -> Box<dyn Passes> {
    Box::new(cipher)
}

struct Ring(ring::LessSafeKey);

fn with_ring(algorithm: Algorithm) -> Option<Box<dyn Passes>> {
    let cipher = match algorithm {
        Algorithm::Aes128Gcm16 => &ring::AES_128_GCM,
        Algorithm::Aes256Gcm16 => &ring::AES_256_GCM,
        Algorithm::ChaCha20Poly1305 => &ring::CHACHA20_POLY1305,
    };
    let key = ring::UnboundKey::new(cipher, &key(algorithm)).ok()?;
    Some(boxed(Ring(ring::LessSafeKey::new(key))))
}

impl Cipher for Ring {
    #[inline]
    fn seal(&self, body: &mut [u8], tag: &mut [u8; TAG_LEN]) -> bool {
        let nonce = ring::Nonce::assume_unique_for_key(NONCE);
        let (key, aad) = (&self.0, ring::Aad::from(AAD));
        let sealed = key.seal_in_place_separate_tag(nonce, aad, body);
        sealed.is_ok_and(|it| write(tag, it.as_ref()))
    }

    #[inline]
    fn open(&self, body_and_tag: &mut [u8]) -> bool {
        let nonce = ring::Nonce::assume_unique_for_key(NONCE);
        let (key, aad) = (&self.0, ring::Aad::from(AAD));
        key.open_in_place(nonce, aad, body_and_tag).is_ok()
    }
}

struct AwsLc(aws::LessSafeKey);

fn with_aws_lc(algorithm: Algorithm) -> Option<Box<dyn Passes>> {
    let cipher = match algorithm {
        Algorithm::Aes128Gcm16 => &aws::AES_128_GCM,
        Algorithm::Aes256Gcm16 => &aws::AES_256_GCM,
        Algorithm::ChaCha20Poly1305 => &aws::CHACHA20_POLY1305,
    };
    let key = aws::UnboundKey::new(cipher, &key(algorithm)).ok()?;
    Some(boxed(AwsLc(aws::LessSafeKey::new(key))))
}

impl Cipher for AwsLc {
    #[inline]
    fn seal(&self, body: &mut [u8], tag: &mut [u8; TAG_LEN]) -> bool {
        let nonce = aws::Nonce::assume_unique_for_key(NONCE);
        let (key, aad) = (&self.0, aws::Aad::from(AAD));
        let sealed = key.seal_in_place_separate_tag(nonce, aad, body);
        sealed.is_ok_and(|it| write(tag, it.as_ref()))
    }

    #[inline]
    fn open(&self, body_and_tag: &mut [u8]) -> bool {
        let nonce = aws::Nonce::assume_unique_for_key(NONCE);
        let (key, aad) = (&self.0, aws::Aad::from(AAD));
        key.open_in_place(nonce, aad, body_and_tag).is_ok()
    }
}

/// Puts a tag where it is to stand; not one of another length.
#[inline]
fn write(tag: &mut [u8; TAG_LEN], made: &[u8]) -> bool {
    let made = <[u8; TAG_LEN]>::try_from(made);
    made.is_ok_and(|made| {
        *tag = made;
        true
    })
}

struct RustCrypto<A>(A);

fn with_rust_crypto(algorithm: Algorithm) -> Option<Box<dyn Passes>> {
    fn keyed<A: AeadInOut<NonceSize = U12, TagSize = U16> + KeyInit + 'static>(
        key: &[u8],
    ) -> Option<Box<dyn Passes>> {
        Some(boxed(RustCrypto(A::new_from_slice(key).ok()?)))
    }
    let key = key(algorithm);
    match algorithm {
        Algorithm::Aes128Gcm16 => keyed::<Aes128Gcm>(&key),
        Algorithm::Aes256Gcm16 => keyed::<Aes256Gcm>(&key),
        Algorithm::ChaCha20Poly1305 => keyed::<ChaCha20Poly1305>(&key),
    }
}

impl<A: AeadInOut<NonceSize = U12, TagSize = U16>> Cipher for RustCrypto<A> {
    #[inline]
    fn seal(&self, body: &mut [u8], tag: &mut [u8; TAG_LEN]) -> bool {
        let (nonce, body) = (Nonce::from(NONCE), InOutBuf::from(body));
        let sealed = self.0.encrypt_inout_detached(&nonce, &AAD, body);
        sealed.is_ok_and(|it| write(tag, &it))
    }

    #[inline]
    fn open(&self, body_and_tag: &mut [u8]) -> bool {
        let Some((body, tag)) = body_and_tag.split_last_chunk_mut::<TAG_LEN>() else {
            return false;
        };
        let (nonce, body, tag) = (Nonce::from(NONCE), InOutBuf::from(body), Tag::from(*tag));
        let opened = self.0.decrypt_inout_detached(&nonce, &AAD, body, &tag);
        opened.is_ok()
    }
}

#[cfg(feature = "dpdk")]
mod multi_buffer {
    use sluice_crypto::aead::{Aead, Backend, ImbAead, TAG_LEN};
    use sluice_crypto::key::Algorithm;

    use super::super::bare::{Cipher, Passes};
    use super::{AAD, NONCE, boxed, key};

    struct Ours<A>(A);

    fn keyed<A: Aead + 'static>(algorithm: Algorithm) -> Option<Box<dyn Passes>> {
        let aead = A::from_key(algorithm, &key(algorithm)).ok()?;
        Some(boxed(Ours(aead)))
    }

    pub(super) fn alone(algorithm: Algorithm) -> Option<Box<dyn Passes>> {
        keyed::<ImbAead>(algorithm)
    }

    pub(super) fn by_size(algorithm: Algorithm) -> Option<Box<dyn Passes>> {
        keyed::<Backend>(algorithm)
    }

    impl<A: Aead> Cipher for Ours<A> {
        #[inline]
        fn seal(&self, body: &mut [u8], tag: &mut [u8; TAG_LEN]) -> bool {
            self.0.seal_with_tag(&NONCE, &AAD, body, tag).is_ok()
        }

        #[inline]
        fn open(&self, body_and_tag: &mut [u8]) -> bool {
            self.0.open_in_place(&NONCE, &AAD, body_and_tag).is_ok()
        }
    }
}
