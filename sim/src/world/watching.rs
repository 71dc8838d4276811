//! What is noted of every frame, for oracles beside the wires, and of what happens, for people.

use std::sync::Arc;

use sluice_dataplane_control::Event;

use super::World;
use super::net::{Arrival, At};
use super::node::UPLINK;
use crate::happening::{Happened, Happening};
use crate::sighting::{Sighting, Spot, Way, Who};

impl World {
    /// Sends frames of who is at a place.
    pub(super) fn send_from(&mut self, at: At, frames: Vec<Vec<u8>>) {
        for frame in frames {
            let frame = Arc::from(frame);
            self.note(Way::Sent, at, false, &frame);
            match at {
                At::Outside => self.net.switch(At::Outside, frame),
                At::Behind(node, port) | At::Dataplane(node, port) => {
                    if self.nodes.get(node).is_some_and(|it| it.dead) {
                        self.net.faults.hits += 1;
                    }
                    self.net.send(At::Dataplane(node, port), frame);
                }
            }
        }
    }

    /// Notes a frame that arrives.
    pub(super) fn note_arrival(&mut self, arrival: &Arrival) {
        let Arrival { at, touched, .. } = *arrival;
        let way = match at {
            At::Behind(..) | At::Outside => Way::Delivered,
            At::Dataplane(_, UPLINK) => Way::OffWire,
            At::Dataplane(..) => Way::Taken,
        };
        self.note(way, at, touched, &arrival.frame);
    }

    fn note(&mut self, way: Way, at: At, touched: bool, frame: &Arc<[u8]>) {
        if self.unwatched {
            return;
        }
        self.note_wire();
        let Some(spot) = self.spot(at) else {
            return;
        };
        let who = self.who(at);
        self.sightings.push(Sighting {
            at: self.net.now,
            way,
            spot,
            who,
            touched,
            frame: Arc::clone(frame),
        });
    }

    /// Notes what has entered the wire since.
    fn note_wire(&mut self) {
        if self.net.entered.is_empty() {
            return;
        }
        let mut entered = core::mem::take(&mut self.net.entered);
        for (when, from, frame) in entered.drain(..) {
            if let Some(spot) = self.spot(from) {
                self.sightings.push(Sighting {
                    at: when,
                    way: Way::OnWire,
                    spot,
                    who: None,
                    touched: false,
                    frame,
                });
            }
        }
        // Its room is needed again at once.
        self.net.entered = entered;
    }

    fn spot(&self, at: At) -> Option<Spot> {
        match at {
            At::Outside => Some(Spot::Outside),
            At::Behind(node, port) | At::Dataplane(node, port) => {
                Some(self.nodes.get(node)?.spot(port))
            }
        }
    }

    fn who(&mut self, at: At) -> Option<Arc<Who>> {
        match at {
            At::Outside => Some(self.outside.who()),
            At::Behind(node, port) => Some(self.nodes.get_mut(node)?.station_mut(port)?.who()),
            At::Dataplane(..) => None,
        }
    }

    /// Everything that was seen since it was last asked for, in its order.
    pub fn take_sightings(&mut self) -> Vec<Sighting> {
        self.note_wire();
        core::mem::take(&mut self.sightings)
    }

    /// Nobody will ask for what is seen from now on, and none of it is kept.
    pub fn look_away(&mut self) {
        self.unwatched = true;
        self.net.look_away();
        self.sightings = Vec::new();
    }

    /// Takes back what was seen and is of no use any more, for the room that it has.
    pub(crate) fn give_back(&mut self, mut sightings: Vec<Sighting>) {
        if self.sightings.is_empty() {
            sightings.clear();
            self.sightings = sightings;
        }
    }

    /// Notes what a dataplane has told.
    pub(super) fn note_event(&mut self, at: usize, event: &Event) {
        let Some(node) = self.nodes.get(at).map(|it| it.name.clone()) else {
            return;
        };
        let what = match event.clone() {
            Event::Applied(generation) => Happened::InForce(generation),
            Event::InboundInstalled(from, spi) => Happened::Receives { from, spi: spi.0 },
            Event::OutboundInstalled(to, spi) => Happened::Sends { to, spi: spi.0 },
            Event::PeerAdded(_) | Event::PeerRemoved(_) | Event::SaRefused(..) => return,
        };
        let at = self.net.now;
        self.happenings.push(Happening { at, node, what });
    }

    /// Everything that happened since it was last asked for, in its order.
    pub fn take_happenings(&mut self) -> Vec<Happening> {
        core::mem::take(&mut self.happenings)
    }
}
