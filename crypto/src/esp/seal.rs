//! The sending end of a security association.

use std::fmt;

use zeroize::Zeroizing;

use super::sa::{EspHeader, Spi};
use super::seq::{Exhausted, SeqCounter};
use super::{ESP_HEADER_LEN, TRAILER_FIXED_LEN, trailer};
use crate::aead::{Aead, AeadError, Backend, TAG_LEN};
use crate::key::{Algorithm, EspKey, Fingerprint, KeyError, SALT_LEN};

/// Seals packets under one key, each with the next sequence number.
///
/// Owned by exactly one worker. It can't be cloned, and its counter neither repeats nor goes
/// back, so no nonce is used twice under its key.
// With libipsec-mb in two cache lines, and not in parts of three.
#[repr(align(64))]
pub struct OutboundSa<A = Backend> {
    spi: Spi,
    algorithm: Algorithm,
    fingerprint: Fingerprint,
    esn: bool,
    counter: SeqCounter,
    packets: u64,
    bytes: u64,
    salt: Zeroizing<[u8; SALT_LEN]>,
    aead: A,
}

#[cfg(feature = "ipsec-mb")]
const _: () = assert!(size_of::<OutboundSa>() <= 128, "two cache lines");

impl OutboundSa {
    /// An SA that will send its first packet with number 1. `esn` says whether numbers have 64
    /// bits or 32; both ends must agree.
    #[must_use]
    pub fn new(spi: Spi, key: EspKey, esn: bool) -> Self {
        Self::starting_at(spi, key, esn, 1)
    }

    /// As [`Self::new`], but the first packet has number `first` (0 counts as 1).
    ///
    /// For the two ends that agreed on it, and for tests near the ends of the number space.
    /// Never a way to carry a used key on: a sender that lost its place must get a new key.
    #[must_use]
    pub fn starting_at(spi: Spi, key: EspKey, esn: bool, first: u64) -> Self {
        let (algorithm, fingerprint) = (key.algorithm(), key.fingerprint());
        let (aead, salt) = key.into_parts();
        Self {
            spi,
            algorithm,
            fingerprint,
            esn,
            counter: SeqCounter::starting_at(first, esn),
            packets: 0,
            bytes: 0,
            salt,
            aead,
        }
    }

    /// Bytes that follow `inner_len` bytes of inner packet: padding to a 4-byte boundary, pad
    /// length, next header and ICV.
    #[must_use]
    pub const fn trailer_len(inner_len: usize) -> usize {
        trailer::pad_len(inner_len) + TRAILER_FIXED_LEN + TAG_LEN
    }

    /// Length of the whole ESP packet around `inner_len` bytes of inner packet.
    #[must_use]
    pub const fn sealed_len(inner_len: usize) -> usize {
        inner_len.saturating_add(ESP_HEADER_LEN + Self::trailer_len(inner_len))
    }
}

impl<A: Aead> OutboundSa<A> {
    /// As [`OutboundSa::new`], over another backend.
    ///
    /// # Errors
    /// [`KeyError`] if the backend refuses the key.
    pub fn with_backend(spi: Spi, key: EspKey, esn: bool) -> Result<Self, KeyError> {
        let aead = A::from_key(key.algorithm(), key.key())?;
        let OutboundSa {
            algorithm,
            fingerprint,
            counter,
            salt,
            ..
        } = OutboundSa::new(spi, key, esn);
        Ok(Self {
            spi,
            algorithm,
            fingerprint,
            esn,
            counter,
            packets: 0,
            bytes: 0,
            salt,
            aead,
        })
    }

    /// Turns `esp` into a sealed packet, in place, and returns its full sequence number.
    ///
    /// `esp` is [`ESP_HEADER_LEN`] bytes of anything, `inner_len` bytes of inner packet, then
    /// [`OutboundSa::trailer_len`] bytes of anything, and nothing else. `next_header` says what
    /// the inner packet is: [`super::NEXT_HEADER_IPV4`] or [`super::NEXT_HEADER_IPV6`].
    ///
    /// # Errors
    /// [`SealError::WrongLength`] if `esp` is not exactly that long, [`SealError::Exhausted`] if
    /// every number is used; both leave the bytes as they were, which is plaintext.
    /// [`SealError::Aead`] if the backend refused. **On any error the bytes must not be sent.**
    /// No error gives a number back, so none is used twice.
    #[inline]
    pub fn seal(
        &mut self,
        esp: &mut [u8],
        inner_len: usize,
        next_header: u8,
    ) -> Result<u64, SealError> {
        let expected = OutboundSa::sealed_len(inner_len);
        let wrong_length = SealError::WrongLength {
            expected,
            got: esp.len(),
        };
        if esp.len() != expected {
            return Err(wrong_length);
        }
        let (header, rest) = esp
            .split_first_chunk_mut::<ESP_HEADER_LEN>()
            .ok_or(wrong_length)?;
        let (body, icv) = rest.split_last_chunk_mut::<TAG_LEN>().ok_or(wrong_length)?;
        let tail = body.get_mut(inner_len..).ok_or(wrong_length)?;

        // From here on the number is spent, whatever happens.
        let seq = self.counter.advance()?;
        trailer::write(tail, next_header);
        let fields = EspHeader::of(self.spi, seq);
        fields.write(header);
        let aad = fields.aad(seq, self.esn);
        self.aead
            .seal_with_tag(&fields.nonce(&self.salt), aad.as_slice(), body, icv)?;

        self.packets += 1;
        self.bytes = self.bytes.saturating_add(inner_len as u64);
        Ok(seq)
    }

    /// Has what sealing `inner_len` bytes needs of the key brought into the cache. When the SA
    /// itself is on its way: where the key is stands in it.
    #[inline]
    pub fn expect_key(&self, inner_len: usize) {
        self.aead.expect(inner_len);
    }
}

impl<A> OutboundSa<A> {
    /// The index this SA writes into its packets.
    #[must_use]
    pub fn spi(&self) -> Spi {
        self.spi
    }

    /// The cipher.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// A printable name for the key.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Whether sequence numbers have 64 bits.
    #[must_use]
    pub fn esn(&self) -> bool {
        self.esn
    }

    /// The number the next packet will have. Meaningless once [`Self::remaining`] is 0.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.counter.peek()
    }

    /// Packets that can still be sealed before [`SealError::Exhausted`].
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.counter.remaining()
    }

    /// The last number this SA may use.
    #[must_use]
    pub fn hard_limit(&self) -> u64 {
        self.counter.limit()
    }

    /// Sets the last number this SA may use: at most, and by default, 2^64 - 1 with ESN and
    /// 2^32 - 1 without. Higher ones are cut to that; one already passed refuses at once.
    pub fn set_hard_limit(&mut self, limit: u64) {
        self.counter.set_limit(limit);
    }

    /// Packets sealed.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Bytes of inner packets sealed, without ESP's own.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl<A> fmt::Debug for OutboundSa<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundSa")
            .field("spi", &self.spi)
            .field("algorithm", &self.algorithm)
            .field("fingerprint", &self.fingerprint)
            .field("esn", &self.esn)
            .field("counter", &self.counter)
            .field("packets", &self.packets)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// Why a packet was not sealed. The bytes must not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The slice is not header, inner packet and trailer.
    #[error("sealing needs a slice of {expected} bytes, got {got}")]
    WrongLength {
        /// Bytes the inner packet needs in all.
        expected: usize,
        /// Bytes there were.
        got: usize,
    },
    /// Every number this SA may use is used; it needs a new key.
    #[error("all sequence numbers up to {limit} are used")]
    Exhausted {
        /// The last number this SA may use.
        limit: u64,
    },
    /// The backend refused. The number is spent.
    #[error("the cipher refused")]
    Aead(#[from] AeadError),
}

impl From<Exhausted> for SealError {
    fn from(Exhausted { limit }: Exhausted) -> Self {
        Self::Exhausted { limit }
    }
}
