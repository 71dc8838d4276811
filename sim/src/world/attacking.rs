//! What an attacker may try: another one's address, and frames that were on the wire before.

use std::net::IpAddr;

use super::World;
use super::probing::{PLAIN, Question, packet};
use super::station::Station;
use super::wire_check::is_esp;
use crate::probe::{Family, Party, Probe, ProbeError};

impl World {
    /// Sends the first packet of a probe from where the probe is from, with another one's
    /// source address.
    ///
    /// # Errors
    /// [`ProbeError`] if it can't be sent.
    pub fn spoof(&mut self, probe: &Probe, address_of: IpAddr) -> Result<(), ProbeError> {
        let probe = Probe {
            family: Some(Family::of(address_of)),
            ..probe.clone()
        };
        let honest = self.question(&probe)?;
        let Some(at) = self.place_of(&probe.from, honest.src) else {
            return Ok(());
        };
        let forged = Question {
            src: address_of,
            ..honest
        };
        let mut spec = packet(&forged, self.fresh_port());
        spec.payload = PLAIN.to_vec();
        let next_hop = self.next_hop(at, &forged);
        let station = self.station_at(at);
        let frames = station.map(|it| it.utter(spec, next_hop));
        self.send_from(at, frames.unwrap_or_default());
        self.settle();
        self.station_at(at).map(Station::finish);
        Ok(())
    }

    /// Puts the last so many ESP frames on the wire once more, oldest first; how many there
    /// were.
    pub fn replay(&mut self, frames: usize) -> usize {
        let esp = self.net.wire.iter().rev().filter(|it| is_esp(&it.bytes));
        let mut again: Vec<_> = esp.take(frames).map(|it| it.bytes.clone()).collect();
        again.reverse();
        for frame in &again {
            self.net.replay(frame);
        }
        self.settle();
        again.len()
    }

    /// The first address of a family that a party has.
    ///
    /// # Errors
    /// [`ProbeError`] if it has none.
    pub fn address(&self, party: &Party, family: Family) -> Result<IpAddr, ProbeError> {
        let ips = self.addresses(party, None)?;
        let found = ips.into_iter().find(|ip| Family::of(*ip) == family);
        found.ok_or_else(|| ProbeError::NoAddress {
            party: party.to_string(),
            family,
        })
    }
}
