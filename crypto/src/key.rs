//! Key material of one SA: the algorithm, its key and its salt.
//!
//! ```text
//! RFC 4106 section 8.1, "KEYMAT", in this order:
//!
//!   Aes128Gcm16   |<----- key, 16 bytes ----->|<- salt, 4 ->|   20 bytes
//!   Aes256Gcm16   |<----- key, 32 bytes ----->|<- salt, 4 ->|   36 bytes
//!
//! RFC 7634 section 2, "KEYMAT", the same:
//!
//!   ChaCha20Poly1305  |<--- key, 32 bytes --->|<- salt, 4 ->|   36 bytes
//! ```

use std::fmt;

use ring::digest;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::aead::{Aead, Backend};

/// Length of the salt in bytes, for every algorithm here.
///
//= RFC 4106 section 4
//# The salt field is a four-octet value that is assigned at the beginning of the security
//# association, and then remains constant for the life of the security association.
pub const SALT_LEN: usize = 4;

/// Separates this fingerprint from any other use of SHA-256 over the same bytes.
const FINGERPRINT_LABEL: &[u8] = b"sluice esp keymat fingerprint v1\0";

/// The ciphers Sluice speaks in ESP, all with an 8-byte IV and a 16-byte ICV.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// AES-128 in GCM, IKEv2 transform 20 with a 128-bit key.
    Aes128Gcm16,
    /// AES-256 in GCM, IKEv2 transform 20 with a 256-bit key.
    Aes256Gcm16,
    /// ChaCha20 with Poly1305 (RFC 7634), IKEv2 transform 28: for cores without AES
    /// instructions.
    ChaCha20Poly1305,
}

impl Algorithm {
    /// Every algorithm, for parsers and tests.
    pub const ALL: [Self; 3] = [Self::Aes128Gcm16, Self::Aes256Gcm16, Self::ChaCha20Poly1305];

    /// Length of the cipher's key in bytes, without the salt.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm16 => 16,
            Self::Aes256Gcm16 | Self::ChaCha20Poly1305 => 32,
        }
    }

    /// Length of key and salt in bytes: what [`EspKey::from_keymat`] takes.
    #[must_use]
    pub const fn keymat_len(self) -> usize {
        self.key_len() + SALT_LEN
    }

    /// The name used in configuration and output, the same that strongSwan uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm16 => "aes128gcm16",
            Self::Aes256Gcm16 => "aes256gcm16",
            Self::ChaCha20Poly1305 => "chacha20poly1305",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
            .ok_or_else(|| UnknownAlgorithm {
                name: name.to_owned(),
            })
    }
}

/// A name that no [`Algorithm`] has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown ESP algorithm {name:?}; known are aes128gcm16, aes256gcm16 and chacha20poly1305")]
pub struct UnknownAlgorithm {
    /// The name as it was given.
    pub name: String,
}

/// Why key material was refused. Carries lengths only, never a byte of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Key and salt together have the wrong length.
    #[error(
        "{algorithm} needs {expected} bytes of key material ({} of key, then {SALT_LEN} of salt), \
         got {got}",
        algorithm.key_len()
    )]
    KeymatLength {
        /// The algorithm the material was meant for.
        algorithm: Algorithm,
        /// Bytes it needs.
        expected: usize,
        /// Bytes there were.
        got: usize,
    },
    /// A bare cipher key has the wrong length.
    #[error("{algorithm} needs a key of {expected} bytes, got {got}")]
    KeyLength {
        /// The algorithm the key was meant for.
        algorithm: Algorithm,
        /// Bytes it needs.
        expected: usize,
        /// Bytes there were.
        got: usize,
    },
    /// The backend can't do it, or isn't there.
    #[error("this backend has no {algorithm} on this machine")]
    NoBackend {
        /// The algorithm asked for.
        algorithm: Algorithm,
    },
}

/// Key and salt of one SA in one direction.
///
/// Made once, then moved into the SA that uses it: it can't be cloned, because two senders with
/// one key repeat nonces and the cipher then loses both secrecy and integrity. Build it twice from the
/// same key material only for the two ends of one direction. The material is zeroized on drop,
/// `Debug` prints the algorithm and [`Self::fingerprint`] only.
pub struct EspKey {
    algorithm: Algorithm,
    /// On the heap so that moving the key leaves no copy behind on a stack.
    keymat: Zeroizing<Box<[u8]>>,
    salt: Zeroizing<[u8; SALT_LEN]>,
    /// Expanded here, where a wrong length is still an error someone can read, so that making
    /// an SA can't fail. On the heap as well: an expanded key begins with the key.
    aead: Box<Backend>,
}

impl EspKey {
    /// Takes `keymat`, the key followed by the salt. The caller still owns, and should erase,
    /// its own copy.
    ///
    /// # Errors
    /// [`KeyError::KeymatLength`] unless `keymat` is [`Algorithm::keymat_len`] bytes.
    ///
    //= RFC 4106 section 8.1
    //# The KEYMAT requested for each AES-GCM key is 20 octets. The first 16 octets are the 128-bit
    //# AES key, and the remaining four octets are used as the salt value in the nonce.
    pub fn from_keymat(algorithm: Algorithm, keymat: &[u8]) -> Result<Self, KeyError> {
        let wrong_length = KeyError::KeymatLength {
            algorithm,
            expected: algorithm.keymat_len(),
            got: keymat.len(),
        };
        if keymat.len() != algorithm.keymat_len() {
            return Err(wrong_length);
        }
        let (key, salt) = keymat.split_last_chunk::<SALT_LEN>().ok_or(wrong_length)?;
        Ok(Self {
            algorithm,
            keymat: Zeroizing::new(keymat.into()),
            salt: Zeroizing::new(*salt),
            aead: Box::new(Backend::from_key(algorithm, key)?),
        })
    }

    /// The algorithm this key is for.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// A name for the key that is safe to print. Equal for the two ends of one direction.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(FINGERPRINT_LABEL);
        context.update(self.algorithm.name().as_bytes());
        context.update(&self.keymat);
        let mut bytes = [0; Fingerprint::LEN];
        for (to, from) in bytes.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Fingerprint(bytes)
    }

    /// Whether both hold the same key and salt, compared in constant time.
    ///
    /// The two directions of a pair of nodes must never answer `true` here: both count from 1,
    /// so they would seal under the same nonces. A configuration that gives keys by hand is
    /// expected to check.
    #[must_use]
    pub fn same_keymat(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && bool::from(self.keymat.ct_eq(&other.keymat))
    }

    /// The key and salt in the clear.
    ///
    /// Only for the lab switch that writes a key file for Wireshark. No other code may call it:
    /// what it returns is what every frame's secrecy rests on.
    #[must_use]
    pub fn expose_keymat(&self) -> &[u8] {
        &self.keymat
    }

    /// The bare cipher key, for another backend.
    pub(crate) fn key(&self) -> &[u8] {
        self.keymat
            .get(..self.algorithm.key_len())
            .unwrap_or_default()
    }

    /// Leaves what an SA keeps; the key bytes themselves are erased here.
    pub(crate) fn into_parts(self) -> (Backend, Zeroizing<[u8; SALT_LEN]>) {
        (*self.aead, self.salt)
    }
}

impl fmt::Debug for EspKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EspKey({} {})", self.algorithm, self.fingerprint())
    }
}

/// The first 8 bytes of SHA-256 over a label, the algorithm's name and the key material.
///
/// It tells keys apart and reveals nothing about a key drawn at random. It does not protect a
/// guessable one: a lab key of all zeroes has a fingerprint anyone can compute.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; Fingerprint::LEN]);

impl Fingerprint {
    /// Length in bytes; printed as twice as many hex digits.
    pub const LEN: usize = 8;

    /// The bytes, in the order they are printed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(algorithm: Algorithm, byte: u8) -> EspKey {
        let keymat = vec![byte; algorithm.keymat_len()];
        EspKey::from_keymat(algorithm, &keymat).expect("the length is right")
    }

    #[test]
    fn a_wrong_keymat_length_names_expected_and_got() {
        let error = EspKey::from_keymat(Algorithm::Aes128Gcm16, &[0; 16]).expect_err("no salt");
        assert_eq!(
            error.to_string(),
            "aes128gcm16 needs 20 bytes of key material (16 of key, then 4 of salt), got 16"
        );
        for algorithm in Algorithm::ALL {
            let expected = algorithm.keymat_len();
            for got in (0..=80).filter(|len| *len != expected) {
                let error = EspKey::from_keymat(algorithm, &vec![0; got]).expect_err("refused");
                assert_eq!(
                    error,
                    KeyError::KeymatLength {
                        algorithm,
                        expected,
                        got
                    }
                );
            }
        }
    }

    #[test]
    fn a_key_of_192_bits_is_nobodys() {
        for algorithm in Algorithm::ALL {
            let error = EspKey::from_keymat(algorithm, &[0; 24 + SALT_LEN]).expect_err("192 bits");
            assert_eq!(
                error,
                KeyError::KeymatLength {
                    algorithm,
                    expected: algorithm.keymat_len(),
                    got: 28
                }
            );
        }
        let unknown = "aes192gcm16".parse::<Algorithm>().expect_err("no name");
        assert!(unknown.to_string().contains("aes192gcm16"), "{unknown}");
    }

    #[test]
    fn the_salt_is_the_last_four_bytes() {
        let keymat: Vec<u8> = (0..36).collect();
        let key = EspKey::from_keymat(Algorithm::Aes256Gcm16, &keymat).expect("36 bytes");
        assert_eq!(key.key(), &keymat[..32]);
        assert_eq!(key.expose_keymat(), keymat);
        assert_eq!(*key.into_parts().1, [32, 33, 34, 35]);
    }

    #[test]
    fn debug_prints_a_fingerprint_and_no_key_byte() {
        let key = key(Algorithm::Aes128Gcm16, 0xa7);
        let shown = format!("{key:?}");
        assert_eq!(shown, format!("EspKey(aes128gcm16 {})", key.fingerprint()));
        assert!(!shown.contains("a7a7") && !shown.contains("167"), "{shown}");
    }

    #[test]
    fn fingerprints_differ_by_key_and_by_algorithm_and_agree_between_ends() {
        let ours = key(Algorithm::Aes128Gcm16, 1);
        assert_eq!(
            ours.fingerprint(),
            key(Algorithm::Aes128Gcm16, 1).fingerprint()
        );
        assert_ne!(
            ours.fingerprint(),
            key(Algorithm::Aes128Gcm16, 2).fingerprint()
        );
        assert_ne!(
            ours.fingerprint(),
            key(Algorithm::Aes256Gcm16, 1).fingerprint()
        );
        assert_eq!(ours.fingerprint().to_string().len(), 2 * Fingerprint::LEN);
    }

    #[test]
    fn the_same_keymat_for_both_directions_can_be_noticed() {
        let ours = key(Algorithm::Aes256Gcm16, 1);
        assert!(ours.same_keymat(&key(Algorithm::Aes256Gcm16, 1)));
        assert!(!ours.same_keymat(&key(Algorithm::Aes256Gcm16, 2)));
        assert!(!ours.same_keymat(&key(Algorithm::Aes128Gcm16, 1)));
    }

    #[test]
    fn algorithm_names_parse_back_and_an_unknown_one_lists_the_known() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
        }
        let error = "aes128cbc"
            .parse::<Algorithm>()
            .expect_err("no such algorithm");
        assert!(error.to_string().contains("aes128gcm16"), "{error}");
    }
}
