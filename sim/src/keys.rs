//! Keys from the simulator's seed: the driver that stands where the node channel does in
//! production. Same seed, same keys; nothing else about the dataplane differs.

use ring::hkdf;
use sluice_crypto::esp::Spi;
use sluice_crypto::key::{Algorithm, EspKey, KeyError};
use sluice_crypto::lifecycle::ExporterSecret;

/// Makes ESP keys and other secrets from one seed.
#[derive(Debug)]
pub struct SeedKeys {
    prk: hkdf::Prk,
}

struct Len(usize);

impl hkdf::KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

impl SeedKeys {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"sluice simulator");
        Self {
            prk: salt.extract(&seed.to_be_bytes()),
        }
    }

    /// `len` bytes (at most 8160, RFC 5869 section 2.3) that belong to a purpose: the
    /// parts of its name are kept apart by their lengths.
    #[must_use]
    pub fn bytes(&self, purpose: &[&[u8]], len: usize) -> Vec<u8> {
        let mut info = Vec::new();
        for part in purpose {
            info.extend((part.len() as u64).to_be_bytes());
            info.extend(*part);
        }
        let mut out = vec![0; len];
        let filled = self
            .prk
            .expand(&[&info], Len(len))
            .and_then(|okm| okm.fill(&mut out))
            .is_ok();
        debug_assert!(filled, "HKDF gives at most 255 blocks");
        out
    }

    /// A number that belongs to a purpose.
    #[must_use]
    pub fn number(&self, purpose: &[&[u8]]) -> u64 {
        let bytes = self.bytes(purpose, 8);
        bytes.iter().fold(0, |word, b| word << 8 | u64::from(*b))
    }

    /// What both ends of a session export from it.
    #[must_use]
    pub fn secret(&self, session: u64) -> [u8; ExporterSecret::LEN] {
        let mut secret = [0; ExporterSecret::LEN];
        let bytes = self.bytes(&[b"session", &session.to_be_bytes()], secret.len());
        secret
            .iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = from);
        secret
    }

    /// Two words, for the key of a table's hash.
    #[must_use]
    pub fn hash_key(&self, node: &str) -> [u64; 2] {
        let bytes = self.bytes(&[b"hash", node.as_bytes()], 16);
        let word = |at: usize| {
            bytes
                .iter()
                .skip(at)
                .take(8)
                .fold(0u64, |word, b| word << 8 | u64::from(*b))
        };
        [word(0), word(8)]
    }

    /// The key of one of several SAs of a direction and epoch; of the first, [`Self::esp`].
    ///
    /// # Errors
    /// As there.
    pub fn child(
        &self,
        algorithm: Algorithm,
        from: &str,
        to: &str,
        epoch: u32,
        child: u8,
    ) -> Result<EspKey, KeyError> {
        if child == 0 {
            return self.esp(algorithm, from, to, epoch);
        }
        let epoch = epoch.to_be_bytes();
        let purpose: [&[u8]; 5] = [b"esp", from.as_bytes(), to.as_bytes(), &epoch, &[child]];
        EspKey::from_keymat(algorithm, &self.bytes(&purpose, algorithm.keymat_len()))
    }

    /// The key of an SA: one direction between two nodes in one epoch.
    ///
    /// # Errors
    /// None that can occur: the length is the algorithm's own.
    pub fn esp(
        &self,
        algorithm: Algorithm,
        from: &str,
        to: &str,
        epoch: u32,
    ) -> Result<EspKey, KeyError> {
        let purpose: [&[u8]; 4] = [b"esp", from.as_bytes(), to.as_bytes(), &epoch.to_be_bytes()];
        EspKey::from_keymat(algorithm, &self.bytes(&purpose, algorithm.keymat_len()))
    }

    /// The SPI that `to` expects it under.
    #[must_use]
    pub fn spi(&self, from: &str, to: &str, epoch: u32) -> Spi {
        let purpose: [&[u8]; 4] = [b"spi", from.as_bytes(), to.as_bytes(), &epoch.to_be_bytes()];
        let word = self
            .bytes(&purpose, 4)
            .iter()
            .fold(0u32, |word, b| word << 8 | u32::from(*b));
        // 1 to 255 are reserved (RFC 4303 section 2.1).
        Spi(word | 0x8000_0000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_direction_epoch_and_seed() {
        let keymat = |seed, from, to, epoch| {
            let keys = SeedKeys::new(seed);
            let key = keys.esp(Algorithm::Aes256Gcm16, from, to, epoch).unwrap();
            key.expose_keymat().to_vec()
        };
        let base = keymat(1, "a", "b", 0);
        assert_eq!(base.len(), 36);
        assert_eq!(base, keymat(1, "a", "b", 0));
        for other in [
            keymat(2, "a", "b", 0),
            keymat(1, "b", "a", 0),
            keymat(1, "a", "b", 1),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn names_that_run_together_are_kept_apart() {
        let keys = SeedKeys::new(1);
        assert_ne!(keys.spi("ab", "c", 0), keys.spi("a", "bc", 0));
    }
}
