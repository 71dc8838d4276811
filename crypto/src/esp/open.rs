//! The receiving end of a security association.

use std::fmt;
use std::ops::Range;

use sluice_mutants::{Mutant, is};
use zeroize::Zeroizing;

use super::sa::{EspHeader, Spi};
use super::{ESP_HEADER_LEN, ESP_LEN_MIN, trailer};
use crate::aead::{Aead, Backend, TAG_LEN};
use crate::key::{Algorithm, EspKey, Fingerprint, KeyError, SALT_LEN};
use crate::replay::{ReplayError, ReplayWindow, WindowError};

/// How many numbers the half on the wire can tell apart.
const SUBSPACE: u64 = 1 << 32;

/// Opens packets under one key and accepts each sequence number once.
///
/// Owned by exactly one worker, so the window needs no lock.
// With libipsec-mb in two cache lines, and not in parts of three.
#[repr(align(64))]
pub struct InboundSa<A = Backend> {
    spi: Spi,
    algorithm: Algorithm,
    fingerprint: Fingerprint,
    esn: bool,
    window: ReplayWindow,
    packets: u64,
    bytes: u64,
    salt: Zeroizing<[u8; SALT_LEN]>,
    aead: A,
}

#[cfg(feature = "ipsec-mb")]
const _: () = assert!(size_of::<InboundSa>() <= 128, "two cache lines");

/// What was inside a packet that opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Where the inner packet lies in the slice that was opened. A peer may have lengthened it
    /// with traffic-flow padding (RFC 4303 section 2.7), so the inner header's own length says
    /// where the packet ends; for a dummy the content means nothing.
    pub inner: Range<usize>,
    /// What the inner packet claims to be: [`super::NEXT_HEADER_IPV4`],
    /// [`super::NEXT_HEADER_IPV6`], [`super::NEXT_HEADER_DUMMY`] to be dropped, or anything
    /// else a peer with the key wrote.
    pub next_header: u8,
    /// The full sequence number.
    pub seq: u64,
}

impl InboundSa {
    /// An SA that expects numbers from 1. `esn` as at the sender; `window` is how many numbers
    /// reordering may span, [`ReplayWindow::DEFAULT`] unless there is a reason.
    ///
    /// # Errors
    /// [`WindowError`] unless `window` is a multiple of 64 from 64 to 4096.
    pub fn new(spi: Spi, key: EspKey, esn: bool, window: usize) -> Result<Self, WindowError> {
        Ok(Self::with_window(spi, key, esn, ReplayWindow::new(window)?))
    }

    /// An SA that goes on from `window`, for a planned handover.
    #[must_use]
    pub fn with_window(spi: Spi, key: EspKey, esn: bool, window: ReplayWindow) -> Self {
        let (algorithm, fingerprint) = (key.algorithm(), key.fingerprint());
        let (aead, salt) = key.into_parts();
        Self {
            spi,
            algorithm,
            fingerprint,
            esn,
            window,
            packets: 0,
            bytes: 0,
            salt,
            aead,
        }
    }
}

impl<A: Aead> InboundSa<A> {
    /// As [`InboundSa::with_window`], over another backend.
    ///
    /// # Errors
    /// [`KeyError`] if the backend refuses the key.
    pub fn with_backend(
        spi: Spi,
        key: EspKey,
        esn: bool,
        window: ReplayWindow,
    ) -> Result<Self, KeyError> {
        let aead = A::from_key(key.algorithm(), key.key())?;
        let (algorithm, fingerprint) = (key.algorithm(), key.fingerprint());
        let (_, salt) = key.into_parts();
        Ok(Self {
            spi,
            algorithm,
            fingerprint,
            esn,
            window,
            packets: 0,
            bytes: 0,
            salt,
            aead,
        })
    }

    /// Opens `esp`, an ESP packet from SPI to ICV and nothing else, in place.
    ///
    /// The order is fixed: length, window, ICV, window update, trailer. A packet that fails
    /// before its ICV was checked changes nothing, so a forger can't move the window; one that
    /// fails after it came from the peer, and its number is spent.
    ///
    /// # Errors
    /// [`OpenError`] says which step refused. The bytes from [`ESP_HEADER_LEN`] on are then
    /// unspecified; drop the packet.
    #[inline]
    pub fn open(&mut self, esp: &mut [u8]) -> Result<Opened, OpenError> {
        let truncated = OpenError::Truncated {
            len: esp.len(),
            min: ESP_LEN_MIN,
        };
        if esp.len() < ESP_LEN_MIN {
            return Err(truncated);
        }
        let (header, sealed) = esp
            .split_first_chunk_mut::<ESP_HEADER_LEN>()
            .ok_or(truncated)?;
        // The AAD takes the packet's own SPI: a packet steered to the wrong SA fails its ICV.
        let fields = EspHeader::read(header);
        let seq = self.full_seq(u32::from_be_bytes(fields.seq_low));
        self.window.check(seq)?;
        if is(Mutant::ReplayBeforeIntegrity) {
            self.window.commit(seq);
        }

        let aad = fields.aad(seq, self.esn);
        let plain_len = self
            .aead
            .open_in_place(&fields.nonce(&self.salt), aad.as_slice(), sealed)
            .map_err(|_| self.forged_or_late(seq))?;
        if !is(Mutant::ReplayUncommitted) {
            self.window.commit(seq);
        }

        let plain = sealed.get(..plain_len).unwrap_or_default();
        let trailer = trailer::read(plain).map_err(|found| OpenError::BadTrailer {
            seq,
            pad_len: found.pad_len,
        })?;
        self.packets += 1;
        self.bytes = self.bytes.saturating_add(trailer.inner_len as u64);
        Ok(Opened {
            inner: ESP_HEADER_LEN..ESP_HEADER_LEN + trailer.inner_len,
            next_header: trailer.next_header,
            seq,
        })
    }

    /// Has what opening an ESP packet of `esp_len` bytes needs of the key brought into the cache.
    /// When the SA itself is on its way: where the key is stands in it.
    #[inline]
    pub fn expect_key(&self, esp_len: usize) {
        self.aead
            .expect(esp_len.saturating_sub(ESP_HEADER_LEN + TAG_LEN));
    }

    /// The name for a packet whose ICV failed under `seq`.
    ///
    /// With ESN a packet that comes too late carries a low half that appendix A2.2 reads as one
    /// almost 2^32 numbers ahead, and so fails its ICV rather than the window. Called forged it
    /// would raise an alarm over mere reordering. Nearer to the past than to the future, it is
    /// called stale. Either way it is dropped.
    fn forged_or_late(&self, seq: u64) -> OpenError {
        let ahead = seq.saturating_sub(self.window.top());
        match seq.checked_sub(SUBSPACE) {
            Some(past) if self.esn && ahead > SUBSPACE / 2 => OpenError::Stale {
                seq: past,
                edge: self.window.edge(),
            },
            _ => OpenError::Forged { seq },
        }
    }

    fn full_seq(&self, low: u32) -> u64 {
        if self.esn && !is(Mutant::EsnHighIgnored) {
            self.window.infer(low)
        } else {
            u64::from(low)
        }
    }
}

impl<A> InboundSa<A> {
    /// The index this SA was made for.
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

    /// The replay window as it stands.
    #[must_use]
    pub fn window(&self) -> &ReplayWindow {
        &self.window
    }

    /// Packets opened, dummies included.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Bytes of inner packets opened, without ESP's own.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl<A> fmt::Debug for InboundSa<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboundSa")
            .field("spi", &self.spi)
            .field("algorithm", &self.algorithm)
            .field("fingerprint", &self.fingerprint)
            .field("esn", &self.esn)
            .field("top", &self.window.top())
            .field("packets", &self.packets)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// Why a packet was not opened. Drop it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Too short to hold header, trailer and ICV.
    #[error("packet of {len} bytes is shorter than the ESP minimum {min}")]
    Truncated {
        /// Bytes there were.
        len: usize,
        /// Bytes there must be at least.
        min: usize,
    },
    /// Left of the replay window. With ESN also: the ICV failed under the number inferred, which
    /// lies so far ahead that the packet is far more likely a late one.
    #[error("sequence {seq} is left of the replay window at {edge}")]
    Stale {
        /// The packet's full number.
        seq: u64,
        /// The lowest number still accepted.
        edge: u64,
    },
    /// A number that was accepted before.
    #[error("sequence {seq} was already accepted")]
    Seen {
        /// The packet's full number.
        seq: u64,
    },
    /// The ICV does not match: changed on the way, made by someone without the key, meant for
    /// another SA, or so far from the window that the inferred number is wrong.
    #[error("the integrity check of sequence {seq} failed")]
    Forged {
        /// The full number the packet would have had.
        seq: u64,
    },
    /// Authentic, but its padding is not 1, 2, 3, ... or longer than the packet.
    #[error("sequence {seq} has a malformed trailer, pad length {pad_len}")]
    BadTrailer {
        /// The packet's full number, now spent.
        seq: u64,
        /// What its pad length field says.
        pad_len: u8,
    },
}

impl From<ReplayError> for OpenError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Stale { seq, edge } => Self::Stale { seq, edge },
            ReplayError::Seen { seq } => Self::Seen { seq },
        }
    }
}
