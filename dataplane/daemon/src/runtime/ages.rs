//! How old SAs are: the worker has no clock to say it by.

use std::collections::{BTreeMap, BTreeSet};

use sluice_dataplane_core::tick::Tick;
use sluice_offload_api::model::{NodeName, SaDirection, SaRecord};

/// For so long one is remembered that the worker doesn't tell of: what it tells may be from
/// before the SA was installed.
const UNTOLD_NS: u64 = 60 * Tick::SECOND;

/// An SA: its peer, whether it receives, its SPI.
type Key = (NodeName, bool, u32);

/// Since when each SA is in force.
#[derive(Debug, Default)]
pub(super) struct SaAges(BTreeMap<Key, Tick>);

impl SaAges {
    /// One is in force from now on.
    pub(super) fn begin(&mut self, node: NodeName, direction: SaDirection, spi: u32, now: Tick) {
        let key = (node, direction == SaDirection::Inbound, spi);
        self.0.insert(key, now);
    }

    /// All SAs as the worker tells of them, with their ages. Those that are gone are forgotten.
    pub(super) fn told(&mut self, sas: &[SaRecord], now: Tick) -> Vec<SaRecord> {
        let key = |sa: &SaRecord| {
            let inbound = sa.direction == SaDirection::Inbound;
            Some((sa.peer.clone()?, inbound, sa.spi))
        };
        let held: BTreeSet<Key> = sas.iter().filter_map(key).collect();
        self.0
            .retain(|key, since| held.contains(key) || now.since(*since) < UNTOLD_NS);
        let aged = sas.iter().map(|sa| SaRecord {
            age_ms: key(sa)
                .and_then(|it| self.0.get(&it))
                .map(|since| now.since(*since) / Tick::MS),
            ..sa.clone()
        });
        aged.collect()
    }
}

#[cfg(test)]
mod tests {
    use sluice_offload_api::model::{SaAlgorithm, SaFingerprint};

    use super::*;

    fn sa(direction: SaDirection, spi: u32) -> SaRecord {
        SaRecord {
            spi,
            peer: Some("b".into()),
            direction,
            algorithm: SaAlgorithm::Aes256Gcm16,
            fingerprint: SaFingerprint([0; 8]),
            packets: 0,
            bytes: 0,
            age_ms: None,
        }
    }

    #[test]
    fn each_sa_has_its_own_age_and_one_that_is_gone_is_forgotten() {
        use SaDirection::{Inbound, Outbound};
        let second = |n: u64| Tick(n * Tick::SECOND);
        let mut ages = SaAges::default();
        ages.begin("b".into(), Inbound, 1, second(0));
        ages.begin("b".into(), Outbound, 1, second(3));
        let both = [sa(Inbound, 1), sa(Outbound, 1), sa(Inbound, 2)];
        let told = |ages: &mut SaAges, sas: &[SaRecord], at| -> Vec<_> {
            let told = ages.told(sas, second(at)).into_iter();
            told.map(|it| it.age_ms).collect()
        };
        assert_eq!(told(&mut ages, &both, 5), [Some(5_000), Some(2_000), None]);
        // A list from before the SA was there doesn't make it forgotten.
        ages.begin("b".into(), Inbound, 2, second(6));
        assert_eq!(told(&mut ages, &[], 7), []);
        assert_eq!(told(&mut ages, &both[2..], 8), [Some(2_000)]);
        assert_eq!(told(&mut ages, &[], 200), []);
        assert!(ages.0.is_empty());
    }
}
