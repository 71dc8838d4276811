//! Oracles: what must hold of any world, read off the frames beside the wires and the API's
//! objects. None of them knows anything of agents or dataplanes; what they share with those
//! is how a header is read.
//!
//! One file each, one map each: an oracle that is wrong should be so alone.

mod cleartext;
mod counted;
mod flow;
mod isolation;
mod nonce;
mod packet;
mod policy;
mod replay;
mod spoof;

use core::fmt;

use sluice_dataplane_core::tick::Tick;

use self::packet::Packet;
use crate::sighting::Sighting;
use crate::world::{Api, World};

/// Breaches that are told of, at most: one fault may show on every frame.
pub const BREACHES_MAX: usize = 50;

/// Something that must not be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Breach {
    /// The oracle that found it.
    pub oracle: &'static str,
    /// When.
    pub at: Tick,
    /// What it is.
    pub what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { oracle, at, what } = self;
        write!(f, "{oracle}: {what} (at {} us)", at.0 / 1_000)
    }
}

/// One oracle.
trait Oracle: fmt::Debug {
    /// Its name.
    fn name(&self) -> &'static str;

    /// A frame was seen: what is wrong with it. `packet` is what it is, if it is IP and no
    /// neighbour discovery.
    fn see(
        &mut self,
        seen: &Sighting,
        packet: Option<&Packet<'_>>,
        api: &Api<'_>,
    ) -> Option<String>;
}

/// All of them.
#[derive(Debug)]
pub struct Oracles {
    each: Vec<Box<dyn Oracle>>,
    nonce: nonce::Nonce,
    counted: counted::Counted,
    found: usize,
}

impl Default for Oracles {
    fn default() -> Self {
        Self {
            each: vec![
                Box::<policy::Policy>::default(),
                Box::<cleartext::Cleartext>::default(),
                Box::<replay::Replay>::default(),
                Box::<spoof::Spoof>::default(),
                Box::<isolation::Isolation>::default(),
            ],
            nonce: nonce::Nonce::default(),
            counted: counted::Counted::default(),
            found: 0,
        }
    }
}

impl Oracles {
    /// Looks at what was seen of a world since it was looked at last. To be called before
    /// objects change, so that frames are held against what was said when they went.
    pub fn watch(&mut self, world: &mut World) -> Vec<Breach> {
        let sightings = world.take_sightings();
        let breaches = self.look(world, &sightings);
        world.give_back(sightings);
        breaches
    }

    /// The same of what is at hand.
    pub fn look(&mut self, world: &World, sightings: &[Sighting]) -> Vec<Breach> {
        let mut breaches = self.see(world, sightings);
        if world.is_stormy() && self.found == 0 {
            breaches.push(Breach {
                oracle: "storm",
                at: world.now(),
                what: "frames go round without end".to_owned(),
            });
        }
        for what in self.counted.compare(world) {
            breaches.push(Breach {
                oracle: "counted",
                at: world.now(),
                what,
            });
        }
        self.tell(breaches)
    }

    /// Looks at frames alone, where more will follow: what adds up only when all is at rest is
    /// for [`Self::watch`].
    pub fn glance(&mut self, world: &mut World) -> Vec<Breach> {
        let sightings = world.take_sightings();
        let breaches = self.see(world, &sightings);
        world.give_back(sightings);
        self.tell(breaches)
    }

    /// No more of them than anyone reads.
    fn tell(&mut self, mut breaches: Vec<Breach>) -> Vec<Breach> {
        breaches.truncate(BREACHES_MAX.saturating_sub(self.found));
        self.found += breaches.len();
        breaches
    }

    fn see(&mut self, world: &World, sightings: &[Sighting]) -> Vec<Breach> {
        let mut breaches = Vec::new();
        let api = world.api();
        self.nonce.learn(world.sas());
        for seen in sightings {
            let packet = Packet::read(&seen.frame);
            self.counted.see(seen);
            if let Some(what) = self.nonce.see(seen, packet.as_ref()) {
                breaches.push(Breach {
                    oracle: "nonce",
                    at: seen.at,
                    what,
                });
            }
            for oracle in &mut self.each {
                if let Some(what) = oracle.see(seen, packet.as_ref(), &api) {
                    breaches.push(Breach {
                        oracle: oracle.name(),
                        at: seen.at,
                        what,
                    });
                }
            }
        }
        breaches
    }
}
