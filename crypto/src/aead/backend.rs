//! The backend of the SAs: ring, and `libipsec-mb` where there is one, for short packets or all.

use sluice_intrinsics::prefetch;

use super::{Aead, AeadError, ImbAead, NONCE_LEN, RingAead, TAG_LEN};
use crate::key::{Algorithm, KeyError};

/// Up to so many bytes `libipsec-mb` has a packet, with AES-128 and with AES-256, where there is no
/// AVX-512.
///
/// A call costs it less than ring, a byte more, and a rest that fills no block of 16 costs ring
/// 40 ns: three packets of four have one, as ESP pads to 4. So measured on AMD EPYC with VAES
/// (docs/encryption.md); fixed and not measured at start, so that a node does the same every day.
const SHORT_MAX: [usize; 2] = [600, 528];

const fn short_max(algorithm: Algorithm) -> usize {
    let [short, shorter] = SHORT_MAX;
    match algorithm {
        Algorithm::Aes128Gcm16 => short,
        Algorithm::Aes256Gcm16 | Algorithm::ChaCha20Poly1305 => shorter,
    }
}

/// With AVX-512, VAES and VPCLMULQDQ it has every packet: at 8192 bytes it is a quarter ahead yet.
const EVERY: usize = 1 << 17;

/// What an SA seals and opens with.
///
/// One key in ring and, with the feature `ipsec-mb` and where the library has the cipher, in
/// [`ImbAead`] too, which has the shorter packets. What one seals the other opens, and which of
/// them had a packet can't be seen on it.
#[derive(Debug)]
pub struct Backend {
    /// Bytes of the longest packet that is `short`'s.
    short_max: usize,
    short: Option<ImbAead>,
    /// Apart, as the other's is: an SA's own lines are few, and of the keys only one is needed.
    long: Box<RingAead>,
}

#[cfg(all(test, target_arch = "x86_64"))]
impl Backend {
    /// As on a machine without AVX-512.
    pub(super) const fn narrow(mut self, algorithm: Algorithm) -> Self {
        self.short_max = short_max(algorithm);
        self
    }
}

impl Aead for Backend {
    fn from_key(algorithm: Algorithm, key: &[u8]) -> Result<Self, KeyError> {
        // Not there, or not for this cipher: ring has it all.
        let imb = ImbAead::from_key(algorithm, key).ok();
        let is_wide = imb.as_ref().is_some_and(ImbAead::is_wide);
        Ok(Self {
            short_max: if is_wide { EVERY } else { short_max(algorithm) },
            long: Box::new(RingAead::from_key(algorithm, key)?),
            short: imb,
        })
    }

    #[inline]
    fn seal_with_tag(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        data: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) -> Result<(), AeadError> {
        match &self.short {
            Some(short) if data.len() <= self.short_max => {
                short.seal_with_tag(nonce, aad, data, tag)
            }
            _ => self.long.seal_with_tag(nonce, aad, data, tag),
        }
    }

    #[inline]
    fn expect(&self, len_bytes: usize) {
        match &self.short {
            Some(short) if len_bytes <= self.short_max => short.expect(len_bytes),
            _ => prefetch(&*self.long),
        }
    }

    #[inline]
    fn open_in_place(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        data_and_tag: &mut [u8],
    ) -> Result<usize, AeadError> {
        match &self.short {
            Some(short) if data_and_tag.len() <= self.short_max + TAG_LEN => {
                short.open_in_place(nonce, aad, data_and_tag)
            }
            _ => self.long.open_in_place(nonce, aad, data_and_tag),
        }
    }
}
