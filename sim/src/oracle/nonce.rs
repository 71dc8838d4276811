//! No sender uses a sequence number twice under one key: an SPI is one key's, and never given
//! again.

use std::collections::BTreeSet;

use super::Oracle;
use super::packet::Packet;
use crate::sighting::{Sighting, Spot, Way};
use crate::world::Api;

/// Sender, SPI and the low half of the sequence number: no run sends 2^32 packets.
#[derive(Debug, Default)]
pub(super) struct Nonce(BTreeSet<(Spot, u32, u32)>);

impl Oracle for Nonce {
    fn name(&self) -> &'static str {
        "nonce"
    }

    fn see(&mut self, seen: &Sighting, packet: Option<&Packet>, _: &Api<'_>) -> Option<String> {
        if seen.way != Way::OnWire {
            return None;
        }
        let (spi, seq) = packet?.esp?;
        let fresh = self.0.insert((seen.spot.clone(), spi, seq));
        (!fresh).then(|| format!("SPI {spi:#010x} has sequence number {seq} twice"))
    }
}
