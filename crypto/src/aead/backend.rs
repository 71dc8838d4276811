//! The backend of the SAs: ring, and for short packets `libipsec-mb` where there is one.

use sluice_intrinsics::prefetch;

use super::{Aead, AeadError, ImbAead, NONCE_LEN, RingAead, TAG_LEN};
use crate::key::{Algorithm, KeyError};

/// Up to so many bytes `libipsec-mb` has a packet, with AES-128 and with AES-256.
///
/// A call costs it less than ring, a byte more, and a rest that fills no block of 16 costs ring
/// 40 ns: three packets of four have one, as ESP pads to 4. So measured on AMD EPYC with VAES
/// (docs/encryption.md); fixed and not measured at start, so that a node does the same every day.
const SHORT_MAX: [usize; 2] = [600, 528];

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

impl Aead for Backend {
    fn from_key(algorithm: Algorithm, key: &[u8]) -> Result<Self, KeyError> {
        let [short, shorter] = SHORT_MAX;
        Ok(Self {
            short_max: match algorithm {
                Algorithm::Aes128Gcm16 => short,
                Algorithm::Aes256Gcm16 | Algorithm::ChaCha20Poly1305 => shorter,
            },
            long: Box::new(RingAead::from_key(algorithm, key)?),
            // Not there, or not for this cipher: ring has it all.
            short: ImbAead::from_key(algorithm, key).ok(),
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
