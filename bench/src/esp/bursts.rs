//! Packets to be sealed in place, each with room for what ESP puts around it.

use sluice_crypto::esp::{ESP_HEADER_LEN, OutboundSa};

/// Packets of a pass: a few bursts, so that one after the other is not in the nearest cache.
pub(super) const PACKETS: usize = 120;

/// A packet's bytes.
pub(super) struct Packet<'a> {
    /// The ESP packet.
    pub(super) whole: &'a mut [u8],
    /// Bytes of the inner packet, which begins behind the ESP header.
    pub(super) len: usize,
}

impl Packet<'_> {
    /// The inner packet with ESP's trailer, and the ICV behind it.
    pub(super) fn body_and_icv(&mut self) -> &mut [u8] {
        self.whole.get_mut(ESP_HEADER_LEN..).unwrap_or_default()
    }
}

/// The packets of a pass.
pub(super) struct Bursts(Vec<(Vec<u8>, usize)>);

impl Bursts {
    /// Of inner packets of these lengths in turn.
    pub(super) fn new(lens: &[usize]) -> Self {
        let packet = |&len: &usize| (vec![0x5a; OutboundSa::sealed_len(len)], len);
        Self(lens.iter().map(packet).cycle().take(PACKETS).collect())
    }

    /// Each in turn.
    #[inline]
    pub(super) fn each(&mut self, mut take: impl FnMut(&mut Packet<'_>)) {
        for (whole, len) in &mut self.0 {
            let len = *len;
            take(&mut Packet { whole, len });
        }
    }
}
