//! The backend of the SAs: ring, and `libipsec-mb` where there is one, for short packets or all.

use sluice_intrinsics::prefetch_many;

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

/// What an SA seals and opens with.
///
/// One key in ring and, with the feature `ipsec-mb` and where the library has the cipher, in
/// [`ImbAead`], which has the shorter packets or all. What one seals the other opens, and which of
/// them had a packet can't be seen on it. Ring's is apart, as the other's is: an SA's own lines are
/// few, and of the keys only one is needed.
#[derive(Debug)]
pub enum Backend {
    /// With AVX-512, VAES and VPCLMULQDQ: at 8192 bytes it is a quarter ahead yet.
    Every(ImbAead),
    /// Without them.
    Short {
        /// Bytes of the longest packet that is `short`'s.
        short_max: usize,
        /// What has the shorter ones.
        short: ImbAead,
        /// What has the others.
        long: Box<RingAead>,
    },
    /// The library is not there, or not for this cipher.
    Ring(Box<RingAead>),
}

impl Backend {
    fn narrow(algorithm: Algorithm, short: ImbAead, key: &[u8]) -> Result<Self, KeyError> {
        Ok(Self::Short {
            short_max: short_max(algorithm),
            short,
            long: Box::new(RingAead::from_key(algorithm, key)?),
        })
    }

    /// As on a machine without AVX-512.
    #[cfg(all(test, target_arch = "x86_64"))]
    pub(super) fn without_avx512(algorithm: Algorithm, key: &[u8]) -> Result<Self, KeyError> {
        Self::narrow(algorithm, ImbAead::from_key(algorithm, key)?, key)
    }
}

impl Aead for Backend {
    fn from_key(algorithm: Algorithm, key: &[u8]) -> Result<Self, KeyError> {
        match ImbAead::from_key(algorithm, key) {
            Ok(it) if it.is_wide() => Ok(Self::Every(it)),
            Ok(short) => Self::narrow(algorithm, short, key),
            Err(_) => Ok(Self::Ring(Box::new(RingAead::from_key(algorithm, key)?))),
        }
    }

    #[inline]
    fn seal_with_tag(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        data: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) -> Result<(), AeadError> {
        match self {
            Self::Every(imb) => imb.seal_with_tag(nonce, aad, data, tag),
            Self::Short {
                short_max, short, ..
            } if data.len() <= *short_max => short.seal_with_tag(nonce, aad, data, tag),
            Self::Short { long, .. } | Self::Ring(long) => {
                long.seal_with_tag(nonce, aad, data, tag)
            }
        }
    }

    #[inline]
    fn expect(&self, len_bytes: usize) {
        match self {
            Self::Every(imb) => imb.expect(len_bytes),
            Self::Short {
                short_max, short, ..
            } if len_bytes <= *short_max => short.expect(len_bytes),
            Self::Short { long, .. } | Self::Ring(long) => prefetch_many(&**long),
        }
    }

    #[inline]
    fn open_in_place(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        data_and_tag: &mut [u8],
    ) -> Result<usize, AeadError> {
        match self {
            Self::Every(imb) => imb.open_in_place(nonce, aad, data_and_tag),
            Self::Short {
                short_max, short, ..
            } if data_and_tag.len() <= short_max + TAG_LEN => {
                short.open_in_place(nonce, aad, data_and_tag)
            }
            Self::Short { long, .. } | Self::Ring(long) => {
                long.open_in_place(nonce, aad, data_and_tag)
            }
        }
    }
}
