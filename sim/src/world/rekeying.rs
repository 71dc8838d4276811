//! Fresh keys while packets are under way: a rekey in its parts, and traffic that waits for
//! nothing.

use super::probing::packet;
use super::{SETTLE_NS, World, WorldError};
use crate::probe::{Probe, ProbeError};

impl World {
    /// Sends the first packet of a probe with a payload, and lets it go its way: nothing of it
    /// has arrived when this returns.
    ///
    /// # Errors
    /// [`ProbeError`] if it can't be sent.
    pub fn cast(&mut self, probe: &Probe, payload: &[u8]) -> Result<(), ProbeError> {
        let question = self.question(probe)?;
        let Some(at) = self.place_of(&probe.from, question.src) else {
            return Ok(());
        };
        let port = probe.source_port.unwrap_or_else(|| self.fresh_port());
        let mut spec = packet(&question, port);
        spec.payload = payload.to_vec();
        let next_hop = self.next_hop(at, &question);
        let station = self.station_at(at);
        let frames = station.map(|it| it.ask(spec, next_hop)).unwrap_or_default();
        self.send_from(at, frames);
        Ok(())
    }

    /// Begins to renew all keys: receivers are told theirs, and senders go on as before.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn begin_rekey(&mut self) -> Result<(), WorldError> {
        Ok(self.keying.renew_all(&mut self.nodes)?)
    }

    /// Lets receivers say that they have the keys, and senders switch to them.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn switch_keys(&mut self) -> Result<(), WorldError> {
        self.bring_in_step()
    }

    /// Waits until what was sent by the keys before must have come, and takes them away; they
    /// stay while a dataplane holds a frame, which may be sealed by them.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn end_rekey(&mut self) -> Result<(), WorldError> {
        self.run_for(SETTLE_NS);
        let alive = self.nodes.iter().filter(|it| !it.dead);
        let mut lines = alive.flat_map(|it| it.control.port_counters());
        if lines.any(|it| it.waiting > 0) {
            return self.bring_in_step();
        }
        self.run_for(SETTLE_NS);
        self.keying.retire_replaced(&mut self.nodes)?;
        self.bring_in_step()
    }

    /// How many times a key from one node to another has taken another one's place, and that
    /// is gone.
    #[must_use]
    pub const fn keys_replaced(&self) -> u64 {
        self.keying.retired
    }
}
