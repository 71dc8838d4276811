//! The cipher alone, on the bytes that ESP has it work on.

use std::hint::black_box;

use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use sluice_crypto::aead::TAG_LEN;
use sluice_crypto::key::Algorithm;

use super::bursts::Packet;

/// As much as ESP authenticates beside the packet, with 64-bit sequence numbers.
const AAD: [u8; 12] = [3; 12];

/// ring's AEAD, as fast as it is here for packets of more than 256 bytes.
pub(super) struct Bare(LessSafeKey);

impl Bare {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        let cipher = match algorithm {
            Algorithm::Aes128Gcm16 => &AES_128_GCM,
            Algorithm::Aes256Gcm16 => &AES_256_GCM,
            Algorithm::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        let key = vec![7; algorithm.key_len()];
        Self(LessSafeKey::new(
            UnboundKey::new(cipher, &key).expect("of the right length"),
        ))
    }

    /// The same nonce each time: nobody ever sees what is sealed here.
    fn nonce() -> Nonce {
        Nonce::assume_unique_for_key([1; 12])
    }

    /// Seals a packet and its trailer.
    #[inline]
    pub(super) fn seal(&self, packet: &mut Packet<'_>) {
        let Some((body, icv)) = packet.body_and_icv().split_last_chunk_mut::<TAG_LEN>() else {
            return;
        };
        let tag = self
            .0
            .seal_in_place_separate_tag(Self::nonce(), Aad::from(AAD), black_box(body));
        if let Ok(tag) = tag {
            icv.copy_from_slice(tag.as_ref());
        }
    }

    /// Opens one.
    #[inline]
    pub(super) fn open(&self, packet: &mut Packet<'_>) {
        let body = black_box(packet.body_and_icv());
        let opened = self.0.open_in_place(Self::nonce(), Aad::from(AAD), body);
        let _ = black_box(opened);
    }
}
