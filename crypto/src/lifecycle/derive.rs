//! ESP keys from the secret of a TLS session.
//!
//! ```text
//!  secret   32 bytes = TLS-Exporter(label EXPORTER_LABEL, context EXPORTER_CONTEXT)
//!  PRK      = HKDF-Extract(SHA-256, salt = "sluice esp keys v1", IKM = secret)
//!  keymat   = HKDF-Expand(PRK, info, 20 or 36 bytes)          key, then 4 bytes of salt
//!
//!  info     "sluice esp sa v1"                  16 bytes
//!           direction                            1 byte   1 from the initiator, 2 to it
//!           child                                1 byte
//!           epoch                                8 bytes  big endian, as all numbers here
//!           algorithm                            1 byte   1 aes128gcm16, 2 aes256gcm16,
//!                                                         3 chacha20poly1305
//!           esn                                  1 byte   0 or 1
//!           SPI at which the initiator receives  4 bytes  this child's
//!           SPI at which the responder receives  4 bytes
//!           length, initiator's SPIFFE ID        2 bytes, then the ID
//!           length, responder's SPIFFE ID        2 bytes, then the ID
//! ```
//!
//! Every field has a fixed length or a length before it, so no two contexts make one `info`.

use core::fmt;

use ring::hkdf;
use sluice_mutants::{Mutant, is};
use zeroize::{Zeroize, Zeroizing};

use crate::esp::Spi;
use crate::key::{Algorithm, EspKey, KeyError};

/// Label of the TLS exporter (RFC 8446 section 7.5), experimental by RFC 5705 section 4.
pub const EXPORTER_LABEL: &[u8] = b"EXPERIMENTAL sluice esp v1";

/// Context of the TLS exporter. What differs by epoch is bound in `info` instead, where both
/// ends have agreed on it; the session's own transcript differs anyway.
pub const EXPORTER_CONTEXT: &[u8] = b"sluice node channel";

const EXTRACT_SALT: &[u8] = b"sluice esp keys v1";
const INFO_LABEL: &[u8] = b"sluice esp sa v1";

/// Exported from one TLS session, for one epoch. Can't be cloned; erased on drop.
pub struct ExporterSecret(Zeroizing<Box<[u8]>>);

impl ExporterSecret {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// Takes the bytes and erases where they were.
    #[must_use]
    pub fn take_from(bytes: &mut [u8; Self::LEN]) -> Self {
        let secret = Self(Zeroizing::new(bytes.as_slice().into()));
        bytes.zeroize();
        secret
    }
}

impl fmt::Debug for ExporterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExporterSecret(..)")
    }
}

/// Which way a key's packets go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Direction {
    /// Initiator to responder.
    FromInitiator,
    /// Responder to initiator.
    FromResponder,
}

/// What a key is for; both ends must hold the same to get the same key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Context<'a> {
    /// The epoch.
    pub epoch: u64,
    /// Cipher.
    pub algorithm: Algorithm,
    /// Extended sequence numbers.
    pub esn: bool,
    /// Where the initiator receives this child.
    pub initiator_spi: Spi,
    /// Where the responder receives this child.
    pub responder_spi: Spi,
    /// The initiator's SPIFFE ID.
    pub initiator: &'a str,
    /// The responder's.
    pub responder: &'a str,
}

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeriveError {
    /// An ID that its length field can't hold.
    #[error("a SPIFFE ID of {len} bytes is too long")]
    IdTooLong {
        /// Its length.
        len: usize,
    },
    /// HKDF refused; it does not for these lengths.
    #[error("HKDF refused to expand")]
    Hkdf,
    /// The key was refused.
    #[error(transparent)]
    Key(#[from] KeyError),
}

struct Len(usize);

impl hkdf::KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

/// The key of one child SA in one direction.
///
/// Pure: the same arguments give the same key, so no one may call it twice for a *sending* SA.
/// [`super::SaLifecycle`] consumes the secret and derives each once.
///
/// # Errors
/// [`DeriveError`].
///
//= RFC 5869 section 2
pub fn derive(
    secret: &ExporterSecret,
    direction: Direction,
    child: u8,
    context: &Context<'_>,
) -> Result<EspKey, DeriveError> {
    let (secret, context) = if is(Mutant::KeysAgain) {
        // Of no session: what is left is who they are, and the epoch, which begins anew.
        let spi = Spi(0);
        let anyones = Context {
            initiator_spi: spi,
            responder_spi: spi,
            ..*context
        };
        (&[0; ExporterSecret::LEN][..], anyones)
    } else {
        (&secret.0[..], *context)
    };
    let info = info(direction, child, &context)?;
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, EXTRACT_SALT).extract(secret);
    let len = context.algorithm.keymat_len();
    let mut keymat = Zeroizing::new(vec![0; len]);
    prk.expand(&[&info], Len(len))
        .and_then(|okm| okm.fill(&mut keymat))
        .map_err(|_| DeriveError::Hkdf)?;
    Ok(EspKey::from_keymat(context.algorithm, &keymat)?)
}

fn info(direction: Direction, child: u8, context: &Context<'_>) -> Result<Vec<u8>, DeriveError> {
    let mut info = INFO_LABEL.to_vec();
    info.push(match direction {
        Direction::FromInitiator => 1,
        Direction::FromResponder => 2,
    });
    info.push(child);
    info.extend(context.epoch.to_be_bytes());
    info.push(match context.algorithm {
        Algorithm::Aes128Gcm16 => 1,
        Algorithm::Aes256Gcm16 => 2,
        Algorithm::ChaCha20Poly1305 => 3,
    });
    info.push(u8::from(context.esn));
    info.extend(context.initiator_spi.0.to_be_bytes());
    info.extend(context.responder_spi.0.to_be_bytes());
    for id in [context.initiator, context.responder] {
        let len = u16::try_from(id.len()).map_err(|_| DeriveError::IdTooLong { len: id.len() })?;
        info.extend(len.to_be_bytes());
        info.extend(id.as_bytes());
    }
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(byte: u8) -> ExporterSecret {
        ExporterSecret::take_from(&mut [byte; ExporterSecret::LEN])
    }

    fn context() -> Context<'static> {
        Context {
            epoch: 1,
            algorithm: Algorithm::Aes256Gcm16,
            esn: true,
            initiator_spi: Spi(0x1000),
            responder_spi: Spi(0x2000),
            initiator: "spiffe://t/a",
            responder: "spiffe://t/b",
        }
    }

    fn key(secret: &ExporterSecret, direction: Direction, child: u8, c: &Context<'_>) -> EspKey {
        derive(secret, direction, child, c).expect("it derives")
    }

    #[test]
    fn the_same_context_gives_the_same_key_and_any_difference_another() {
        use Direction::{FromInitiator, FromResponder};
        let (c, one) = (context(), secret(1));
        let base = key(&one, FromInitiator, 0, &c);
        assert!(base.same_keymat(&key(&secret(1), FromInitiator, 0, &c)));
        let others = [
            key(&secret(2), FromInitiator, 0, &c),
            key(&one, FromResponder, 0, &c),
            key(&one, FromInitiator, 1, &c),
            key(&one, FromInitiator, 0, &Context { epoch: 2, ..c }),
            key(&one, FromInitiator, 0, &Context { esn: false, ..c }),
            key(
                &one,
                FromInitiator,
                0,
                &Context {
                    initiator_spi: Spi(0x1001),
                    ..c
                },
            ),
            key(
                &one,
                FromInitiator,
                0,
                &Context {
                    responder_spi: Spi(0x2001),
                    ..c
                },
            ),
            key(
                &one,
                FromInitiator,
                0,
                &Context {
                    initiator: "spiffe://t/c",
                    ..c
                },
            ),
            key(
                &one,
                FromInitiator,
                0,
                &Context {
                    responder: "spiffe://t/c",
                    ..c
                },
            ),
        ];
        let mut prints: Vec<_> = others.iter().map(EspKey::fingerprint).collect();
        prints.push(base.fingerprint());
        prints.sort_unstable();
        prints.dedup();
        assert_eq!(prints.len(), others.len() + 1);
    }

    #[test]
    fn the_shorter_algorithms_key_is_no_prefix_of_the_longer_ones() {
        let (c, one) = (context(), secret(1));
        let long = key(&one, Direction::FromInitiator, 0, &c);
        let c = Context {
            algorithm: Algorithm::Aes128Gcm16,
            ..c
        };
        let short = key(&one, Direction::FromInitiator, 0, &c);
        assert_ne!(long.expose_keymat()[..20], *short.expose_keymat());
    }

    #[test]
    fn moving_a_byte_from_one_id_to_the_other_changes_the_key() {
        let (c, one) = (context(), secret(1));
        let ab = Context {
            initiator: "ab",
            responder: "c",
            ..c
        };
        let bc = Context {
            initiator: "a",
            responder: "bc",
            ..c
        };
        let of = |c| key(&one, Direction::FromInitiator, 0, c);
        assert!(!of(&ab).same_keymat(&of(&bc)));
    }

    #[test]
    fn the_bytes_it_was_taken_from_are_erased_and_debug_shows_none() {
        let mut bytes = [0xa7; ExporterSecret::LEN];
        let secret = ExporterSecret::take_from(&mut bytes);
        assert_eq!(bytes, [0; ExporterSecret::LEN]);
        assert_eq!(format!("{secret:?}"), "ExporterSecret(..)");
    }

    #[test]
    fn the_layout_is_fixed_by_this_info() {
        let info = info(Direction::FromResponder, 3, &context()).expect("short ids");
        let mut expected = b"sluice esp sa v1".to_vec();
        expected.extend([2, 3, 0, 0, 0, 0, 0, 0, 0, 1, 2, 1]);
        expected.extend([0, 0, 0x10, 0, 0, 0, 0x20, 0]);
        expected.extend(b"\x00\x0cspiffe://t/a\x00\x0cspiffe://t/b");
        assert_eq!(info, expected);
    }
}
