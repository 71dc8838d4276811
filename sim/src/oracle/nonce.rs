//! No sender uses a sequence number twice under one key: be it that an SA comes again with the
//! key it had, or that two SAs have one. Which key an SA has is what the world shows Wireshark.

use std::collections::BTreeMap;

use super::packet::Packet;
use crate::fold::FoldMap;
use crate::report::ExposedSa;
use crate::sighting::{Sighting, Spot, Way};

/// What a number was used under: a key by its number here, or where it isn't shown the SPI.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Under {
    Key(usize),
    Spi(u32),
}

#[derive(Debug, Default)]
pub(super) struct Nonce {
    /// Keys by what they are made of.
    keys: BTreeMap<Vec<u8>, usize>,
    by_spi: FoldMap<u32, usize>,
    /// How many of the world's SAs were looked at.
    known: usize,
    /// By sender and key.
    used: FoldMap<Spot, FoldMap<Under, Numbers>>,
}

/// The low halves of sequence numbers: no run sends 2^32 packets. Those of one SA come one after
/// the other, so 64 of them are a word.
#[derive(Debug, Default)]
struct Numbers(FoldMap<u32, u64>);

impl Numbers {
    /// Whether it wasn't there before.
    fn insert(&mut self, number: u32) -> bool {
        let word = self.0.entry(number / 64).or_default();
        let bit = 1 << (number % 64);
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }
}

impl Nonce {
    /// How many SAs it has the keys of.
    pub(super) const fn known(&self) -> usize {
        self.known
    }

    /// Notes the keys of SAs that have come since.
    pub(super) fn learn(&mut self, sas: &[ExposedSa]) {
        for sa in sas {
            let fresh = self.keys.len();
            let key = *self.keys.entry(sa.keymat.clone()).or_insert(fresh);
            self.by_spi.insert(sa.spi, key);
        }
        self.known += sas.len();
    }

    pub(super) fn see(&mut self, seen: &Sighting, packet: Option<&Packet<'_>>) -> Option<String> {
        if seen.way != Way::OnWire {
            return None;
        }
        let (spi, seq) = packet?.esp?;
        let key = self.by_spi.get(&spi).copied();
        let under = key.map_or(Under::Spi(spi), Under::Key);
        let used = match self.used.get_mut(&seen.spot) {
            Some(used) => used,
            None => self.used.entry(seen.spot.clone()).or_default(),
        };
        let fresh = used.entry(under).or_default().insert(seq);
        (!fresh).then(|| format!("SPI {spi:#010x} has sequence number {seq} twice under its key"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_crypto::key::Algorithm;
    use sluice_dataplane_core::tick::Tick;
    use sluice_dataplane_core::wire::build::{Body, FrameSpec};

    fn sa(spi: u32, keymat: u8) -> ExposedSa {
        ExposedSa {
            src: "198.18.0.1".parse().unwrap(),
            dst: "198.18.0.2".parse().unwrap(),
            spi,
            algorithm: Algorithm::Aes128Gcm16,
            keymat: vec![keymat; 20],
            esn: true,
        }
    }

    fn esp(spi: u32, seq: u32) -> Sighting {
        let sa = sa(spi, 0);
        let mut spec = FrameSpec::new(sa.src, sa.dst, Body::Other { protocol: 50 });
        spec.payload = [spi.to_be_bytes(), seq.to_be_bytes(), [0; 4], [0; 4]].concat();
        Sighting {
            at: Tick(0),
            way: Way::OnWire,
            spot: Spot::Uplink("one".into()),
            who: None,
            touched: false,
            frame: spec.build().into(),
        }
    }

    #[test]
    fn two_sas_with_one_key_may_not_share_a_number() {
        let mut nonce = Nonce::default();
        nonce.learn(&[sa(0x100, 1), sa(0x200, 2)]);
        nonce.learn(&[sa(0x300, 1)]);
        let mut see = |spi, seq| {
            let seen = esp(spi, seq);
            nonce
                .see(&seen, Packet::read(&seen.frame).as_ref())
                .is_some()
        };
        assert!(!see(0x100, 7) && !see(0x200, 7) && !see(0x300, 8));
        assert!(see(0x300, 7), "another SPI, and the same key");
        assert!(see(0x200, 7), "the same SA");
        assert!(!see(0x900, 1) && see(0x900, 1), "a key that nobody shows");
    }
}
