//! What both ends of a security association share: its index, its nonce and its AAD.

use std::fmt;

use super::ESP_HEADER_LEN;
use crate::aead::NONCE_LEN;
use crate::key::SALT_LEN;

/// Security parameters index: the number by which a receiver finds the SA.
///
/// The field is public because a receiver looks up whatever number arrived. Allocate one with
/// [`Spi::new`], which refuses the reserved ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Spi(pub u32);

impl Spi {
    /// Lowest index that is not reserved.
    pub const MIN: Self = Self(256);

    /// An index for an SA.
    ///
    /// # Errors
    /// [`ReservedSpi`] for 0 to 255.
    ///
    //= RFC 4303 section 2.1
    //# The set of SPI values in the range 1 through 255 are reserved by the Internet Assigned
    //# Numbers Authority (IANA) for future use
    pub const fn new(spi: u32) -> Result<Self, ReservedSpi> {
        if spi < Self::MIN.0 {
            Err(ReservedSpi { spi })
        } else {
            Ok(Self(spi))
        }
    }
}

impl TryFrom<u32> for Spi {
    type Error = ReservedSpi;

    fn try_from(spi: u32) -> Result<Self, ReservedSpi> {
        Self::new(spi)
    }
}

impl fmt::Display for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08x}", self.0)
    }
}

impl fmt::Debug for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spi({self})")
    }
}

/// An index that no SA may have: 0 means "none", 1 to 255 belong to IANA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("SPI {spi} is reserved; an SA needs 256 or above")]
pub struct ReservedSpi {
    /// The index as it was given.
    pub spi: u32,
}

/// The first 16 bytes of an ESP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EspHeader {
    pub(super) spi: [u8; 4],
    pub(super) seq_low: [u8; 4],
    pub(super) iv: [u8; 8],
}

impl EspHeader {
    /// The header of the packet with number `seq`. The IV is that number, so it can't repeat
    /// before the number does.
    ///
    //= RFC 4106 section 3.1
    //# For a given key, the IV MUST NOT repeat.
    pub(super) fn of(spi: Spi, seq: u64) -> Self {
        let iv = seq.to_be_bytes();
        let [_, _, _, _, a, b, c, d] = iv;
        Self {
            spi: spi.0.to_be_bytes(),
            seq_low: [a, b, c, d],
            iv,
        }
    }

    pub(super) fn read(bytes: &[u8; ESP_HEADER_LEN]) -> Self {
        let [s0, s1, s2, s3, q0, q1, q2, q3, iv @ ..] = *bytes;
        Self {
            spi: [s0, s1, s2, s3],
            seq_low: [q0, q1, q2, q3],
            iv,
        }
    }

    pub(super) fn write(self, bytes: &mut [u8; ESP_HEADER_LEN]) {
        let ([s0, s1, s2, s3], [q0, q1, q2, q3]) = (self.spi, self.seq_low);
        let [i0, i1, i2, i3, i4, i5, i6, i7] = self.iv;
        *bytes = [
            s0, s1, s2, s3, q0, q1, q2, q3, i0, i1, i2, i3, i4, i5, i6, i7,
        ];
    }

    /// Salt, then the packet's IV.
    ///
    //= RFC 4106 section 4
    pub(super) fn nonce(&self, salt: &[u8; SALT_LEN]) -> [u8; NONCE_LEN] {
        let ([s0, s1, s2, s3], [i0, i1, i2, i3, i4, i5, i6, i7]) = (*salt, self.iv);
        [s0, s1, s2, s3, i0, i1, i2, i3, i4, i5, i6, i7]
    }

    /// The associated data for `seq`, whose low half is this header's.
    ///
    //= RFC 4106 section 5
    pub(super) fn aad(&self, seq: u64, esn: bool) -> Aad {
        let [s0, s1, s2, s3] = self.spi;
        let [h0, h1, h2, h3, l0, l1, l2, l3] = seq.to_be_bytes();
        if esn {
            Aad::Extended([s0, s1, s2, s3, h0, h1, h2, h3, l0, l1, l2, l3])
        } else {
            Aad::Short([s0, s1, s2, s3, l0, l1, l2, l3])
        }
    }
}

/// Associated data of one packet, without or with the high half of the number.
pub(super) enum Aad {
    Short([u8; 8]),
    Extended([u8; 12]),
}

impl Aad {
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Short(bytes) => bytes,
            Self::Extended(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_indices_are_refused_by_number() {
        for spi in 0..=255 {
            assert_eq!(Spi::new(spi), Err(ReservedSpi { spi }));
            assert_eq!(Spi::try_from(spi), Err(ReservedSpi { spi }));
        }
        assert_eq!(Spi::new(256), Ok(Spi::MIN));
        assert_eq!(Spi::new(u32::MAX), Ok(Spi(u32::MAX)));
        assert_eq!(Spi(0x1234).to_string(), "0x00001234");
    }

    #[test]
    fn a_header_reads_back_as_it_was_written() {
        let header = EspHeader::of(Spi(0x0102_0304), 0x1112_1314_1516_1718);
        let mut bytes = [0; ESP_HEADER_LEN];
        header.write(&mut bytes);
        assert_eq!(
            bytes,
            [
                1, 2, 3, 4, 0x15, 0x16, 0x17, 0x18, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18
            ]
        );
        assert_eq!(EspHeader::read(&bytes), header);
    }

    #[test]
    fn the_aad_carries_the_high_half_only_with_esn() {
        let seq = 0x1112_1314_1516_1718;
        let header = EspHeader::of(Spi(0x0102_0304), seq);
        let short = header.aad(seq, false);
        assert_eq!(short.as_slice(), [1, 2, 3, 4, 0x15, 0x16, 0x17, 0x18]);
        let extended = header.aad(seq, true);
        assert_eq!(
            extended.as_slice(),
            [1, 2, 3, 4, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]
        );
    }
}
