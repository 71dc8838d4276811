//! The cipher alone, on as many bytes as a frame's packet has.

use std::hint::black_box;

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// Ethernet header of the frames whose packets are sealed.
pub const ETHERNET_LEN: usize = 14;

/// ring's AES-128-GCM and a packet to seal with it.
#[derive(Debug)]
pub struct Bare {
    key: LessSafeKey,
    packet: Vec<u8>,
}

impl Bare {
    /// For frames of `frame_len` bytes.
    #[must_use]
    pub fn new(frame_len: usize) -> Self {
        let cipher = UnboundKey::new(&AES_128_GCM, &[7; 16]).expect("of the right length");
        Self {
            key: LessSafeKey::new(cipher),
            packet: vec![0x5a; frame_len - ETHERNET_LEN],
        }
    }

    /// Seals the packet in place, once.
    pub fn seal(&mut self) {
        // The same nonce each time: nobody ever sees what is sealed here.
        let nonce = Nonce::assume_unique_for_key([1; 12]);
        let body = black_box(self.packet.as_mut_slice());
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from([0; 12]), body);
        let _ = black_box(tag);
    }
}
