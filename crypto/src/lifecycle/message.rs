//! What two life cycles say to each other. Typed here; the driver's codec gives them bytes.

use core::fmt;

use crate::esp::{ReservedSpi, Spi};
use crate::key::Algorithm;

/// Most child SAs a direction, as many as the low bits of an SPI tell apart.
pub const LANES_MAX: u8 = 32;

/// Most algorithms in a [`Hello`].
pub const ALGORITHMS_MAX: usize = 8;

/// Most epochs in a [`Hello`]'s `sending`.
pub const SENDING_MAX: usize = 16;

/// Longest SPIFFE ID in bytes (SPIFFE-ID section 2.3 asks that 2048 be supported).
pub const SPIFFE_ID_LEN_MAX: usize = 2048;

/// The SPIs of one epoch at one receiver: a block of [`LANES_MAX`], the child in the low bits.
///
/// ```text
///   31                          5 4         0
///  +-----------------------------+-----------+
///  |  block, 8 and up            |   child   |
///  +-----------------------------+-----------+
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiBlock(u32);

impl SpiBlock {
    /// The block that begins at `base`; its low bits are cleared.
    ///
    /// # Errors
    /// [`ReservedSpi`] if it would hold reserved numbers.
    pub const fn new(base: u32) -> Result<Self, ReservedSpi> {
        let base = base & !(LANES_MAX as u32 - 1);
        match Spi::new(base) {
            Ok(_) => Ok(Self(base)),
            Err(reserved) => Err(reserved),
        }
    }

    /// The next one from a running number on, which goes past it: the block of `next`, or the
    /// first that holds no reserved numbers.
    pub fn take(next: &mut u32) -> Self {
        loop {
            let base = *next;
            *next = base.wrapping_add(u32::from(LANES_MAX));
            // At most the lowest eight blocks are reserved.
            if let Ok(block) = Self::new(base) {
                return block;
            }
        }
    }

    /// Its first SPI.
    #[must_use]
    pub const fn base(self) -> u32 {
        self.0
    }

    /// The SPI of a child; numbers from [`LANES_MAX`] on wrap.
    #[must_use]
    pub const fn spi(self, child: u8) -> Spi {
        Spi(self.0 | (child % LANES_MAX) as u32)
    }
}

impl fmt::Debug for SpiBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpiBlock({})", Spi(self.0))
    }
}

/// The first message of both ends on a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The sender's SPIFFE ID: the one that its certificate shows.
    pub spiffe_id: String,
    /// Tells one life of the sender from another.
    pub instance: u64,
    /// Counts the initiator's sessions within one instance; 0 from a responder.
    pub attempt: u64,
    /// Lowest epoch that the sender has not used; the greater of both ends' is taken.
    pub epoch_floor: u64,
    /// Where the sender receives.
    pub receive: SpiBlock,
    /// Child SAs that the sender wants a direction; the greater of both ends' is taken.
    pub lanes: u8,
    /// What the sender speaks, best first; the initiator's first that both speak is taken.
    pub algorithms: Vec<Algorithm>,
    /// Whether the sender wants extended sequence numbers; taken if both do.
    pub esn: bool,
    /// Epochs that the sender sends by, or may at any moment, besides this session's. Final: it
    /// has given up all others.
    pub sending: Vec<u64>,
}

/// One message between two life cycles.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// Who, and on what terms.
    Hello(Hello),
    /// Every worker of the sender receives by this epoch's SAs: send.
    Ready {
        /// The session's epoch.
        epoch: u64,
    },
    /// The sender no longer sends by any epoch below this one.
    Delete {
        /// The epoch it sends by now.
        below: u64,
    },
    /// The session is alive; repeats what a lost `Delete` said.
    Ping {
        /// The epoch that the sender sends by; 0 for none.
        sending: u64,
        /// The responder asks the initiator for a new session.
        rekey_wanted: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_no_reserved_spi_and_its_children_differ_in_the_low_bits() {
        assert!(SpiBlock::new(255).is_err());
        let block = SpiBlock::new(0x1234_5678).expect("not reserved");
        assert_eq!(block.base(), 0x1234_5660);
        assert_eq!(block.spi(0), Spi(0x1234_5660));
        assert_eq!(block.spi(31), Spi(0x1234_567f));
        assert_eq!(block.spi(32), block.spi(0));
        let mut next = u32::MAX;
        let bases = [(); 3].map(|()| SpiBlock::take(&mut next).base());
        assert_eq!(bases, [0xffff_ffe0, 0x100, 0x120], "past those reserved");
    }
}
