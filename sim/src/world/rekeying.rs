//! Keys and their renewal as time passes, while packets are under way.

use core::ops::Range;
use std::collections::BTreeMap;

use sluice_dataplane_control::Event;
use sluice_dataplane_core::tick::Tick;
use sluice_offload_api::model::NodeName;

use super::probing::packet;
use super::{ROUNDS_MAX, World, WorldError};
use crate::probe::{Probe, ProbeError};

/// How often life cycles are told what their SAs have carried, as in the daemon.
const USAGE_EVERY_NS: u64 = Tick::SECOND;
/// How often nodes forget addresses that nobody knows.
const FORGET_EVERY_NS: u64 = 60 * Tick::SECOND;
/// How long keys may take: who was dead for long is dialled every 12.5 s.
const KEYS_NS_MAX: u64 = 30 * Tick::SECOND;
/// How often it is looked whether they are there, at first and later.
const KEYS_STEP_NS: Range<u64> = 100_000..50 * Tick::MS;

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

    /// Fresh keys between all nodes, make before break, and those before are gone.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn rekey(&mut self) -> Result<(), WorldError> {
        self.begin_rekey();
        self.wait_for_keys(1);
        self.bring_in_step()
    }

    /// All life cycles want fresh keys; they come as time passes.
    pub fn begin_rekey(&mut self) {
        let around = self.net.around();
        self.keying.renew_all(&self.nodes, around);
        self.tend_keys();
    }

    /// Lets time pass until whoever can have keys with each other has, and no more than so many
    /// pairs of them, as those before go when they are silent. Not for ever: what can't be
    /// doesn't come.
    pub fn wait_for_keys(&mut self, pairs_max: usize) {
        let end = self.net.now + KEYS_NS_MAX;
        self.tend_keys();
        let mut step = KEYS_STEP_NS.start;
        while !self.keys_are_at_rest(pairs_max) && self.net.now < end {
            self.run_for(step);
            step = (step * 2).min(KEYS_STEP_NS.end);
        }
    }

    /// The epoch of the keys by which each node sends to each other one.
    #[must_use]
    pub fn epochs(&self) -> BTreeMap<(NodeName, NodeName), Option<u64>> {
        self.keying.epochs()
    }

    fn keys_are_at_rest(&self, pairs_max: usize) -> bool {
        let around = self.net.around();
        self.keying.is_at_rest(&self.nodes, pairs_max, around)
    }

    /// A node's dataplane dies, and its key driver with it.
    pub(super) fn lose_keys(&mut self, node: &NodeName) {
        let around = self.net.around();
        self.keying.on_kill(&self.nodes, node, around);
    }

    /// Does all that key drivers have to do by now.
    pub(super) fn tend_keys(&mut self) {
        self.tell_usage();
        for _ in 0..ROUNDS_MAX {
            let mut events = Vec::new();
            for (at, node) in self.nodes.iter_mut().enumerate().filter(|it| it.1.works()) {
                events.extend(node.events().into_iter().map(|event| (at, event)));
            }
            if !self.heed(&events) {
                return;
            }
            for node in &mut self.nodes {
                node.poll(&mut self.net);
            }
        }
    }

    /// Tells key drivers and who announces what happened, and lets them do what is due. Whether
    /// there was anything.
    pub(super) fn heed(&mut self, events: &[(usize, Event)]) -> bool {
        let around = self.net.around();
        for (at, event) in events {
            self.keying.on_event(&self.nodes, *at, event, around);
            match event {
                Event::Applied(_) => self.announcements.on_applied(&mut self.nodes, *at),
                Event::PeerAdded(peer) => {
                    if let Some(node) = self.nodes.get_mut(*at) {
                        self.announcements.of_peer(peer, node);
                    }
                }
                _ => {}
            }
        }
        let acted = self.keying.act(&mut self.nodes, around);
        for (at, event) in events {
            self.note_event(*at, event);
        }
        acted || !events.is_empty()
    }

    /// Tells life cycles what their SAs have carried, as often as a dataplane does.
    fn tell_usage(&mut self) {
        if self.net.now < self.usage_at {
            return;
        }
        if self.net.now >= self.forget_at {
            self.forget_at = self.net.now + FORGET_EVERY_NS;
            let working = self.nodes.iter_mut().filter(|it| it.works());
            working.for_each(|it| it.control.forget_unknown());
        }
        self.usage_at = self.net.now + USAGE_EVERY_NS;
        for at in 0..self.nodes.len() {
            let Some(node) = self.nodes.get_mut(at).filter(|it| it.works()) else {
                continue;
            };
            if !node.control.request_sas() {
                continue;
            }
            node.poll(&mut self.net);
            node.control.poll();
            let sas = node.control.sas().unwrap_or_default().to_vec();
            let name = node.name.clone();
            let around = self.net.around();
            self.keying.used(&self.nodes, &name, &sas, around);
        }
    }

    /// How many times keys from one node to another have taken the place of those before.
    #[must_use]
    pub const fn keys_replaced(&self) -> u64 {
        self.keying.replaced
    }
}
