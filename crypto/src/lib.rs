//! ESP, AEAD backends, replay windows and SA key material for Sluice.
//!
//! A pure core: bytes in, bytes out. Nothing here opens a socket, reads a clock, draws
//! randomness or logs. Keys arrive ready made as RFC 4106 key material, packets arrive as
//! slices the caller owns, and every packet operation works in place without allocating.
//!
//! | module | what it owns |
//! |---|---|
//! | [`aead`] | the [`aead::Aead`] trait and its default backend over ring |
//! | [`key`] | [`key::EspKey`]: key and salt, checked once, zeroized on drop |
//! | [`replay`] | [`replay::ReplayWindow`]: which sequence numbers were already accepted |
//! | [`esp`] | the packet format, [`esp::OutboundSa`], [`esp::InboundSa`], tunnel headers |
//! | [`lifecycle`] | per peer: agree on SAs, install, rekey, retire; key derivation |
//! | [`scrub_stack`] | what a computation with a key leaves behind |
//!
//! ```
//! use sluice_crypto::esp::{ESP_HEADER_LEN, InboundSa, NEXT_HEADER_IPV4, OutboundSa, Spi};
//! use sluice_crypto::key::{Algorithm, EspKey};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let keymat = [7u8; 20]; // 16 bytes of key, 4 of salt
//! let spi = Spi::new(0x1001)?;
//! let mut out = OutboundSa::new(spi, EspKey::from_keymat(Algorithm::Aes128Gcm16, &keymat)?, true);
//! let key = EspKey::from_keymat(Algorithm::Aes128Gcm16, &keymat)?;
//! let mut inbound = InboundSa::new(spi, key, true, 1024)?;
//!
//! let inner = b"an inner IPv4 packet";
//! let mut esp = vec![0; ESP_HEADER_LEN + inner.len() + OutboundSa::trailer_len(inner.len())];
//! esp[ESP_HEADER_LEN..][..inner.len()].copy_from_slice(inner);
//! assert_eq!(out.seal(&mut esp, inner.len(), NEXT_HEADER_IPV4)?, 1);
//!
//! let opened = inbound.open(&mut esp)?;
//! assert_eq!(&esp[opened.inner], inner);
//! # Ok(())
//! # }
//! ```

pub mod aead;
pub mod esp;
pub mod key;
pub mod lifecycle;
pub mod replay;
mod scrub;

pub use self::scrub::scrub_stack;
