//! Oracles: what must hold of any world, read off the frames beside the wires and the API's
//! objects. None of them knows anything of agents or dataplanes; what they share with those
//! is how a header is read.
//!
//! One file each, one map each: an oracle that is wrong should be so alone.

mod aside;
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

pub(crate) use self::aside::beside;
use self::packet::{Packet, is_plainly_whole};
use crate::report::ExposedSa;
use crate::sighting::{Sighting, Way};
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
trait Oracle: fmt::Debug + Send {
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
    policy: policy::Policy,
    each: Vec<Box<dyn Oracle>>,
    nonce: nonce::Nonce,
    counted: counted::Counted,
    found: usize,
}

impl Default for Oracles {
    fn default() -> Self {
        Self {
            policy: policy::Policy::default(),
            each: vec![
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
        let mut breaches = self.see(&world.api(), self.fresh_sas(world), sightings);
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

    /// No more of them than anyone reads.
    fn tell(&mut self, mut breaches: Vec<Breach>) -> Vec<Breach> {
        breaches.truncate(BREACHES_MAX.saturating_sub(self.found));
        self.found += breaches.len();
        breaches
    }

    /// SAs of a world that have come since it was looked at.
    fn fresh_sas<'a>(&self, world: &'a World) -> &'a [ExposedSa] {
        world.sas().get(self.nonce.known()..).unwrap_or_default()
    }

    /// Looks at frames; `sas` are those that have come since it was done last.
    fn see(&mut self, api: &Api<'_>, sas: &[ExposedSa], sightings: &[Sighting]) -> Vec<Breach> {
        let mut breaches = Vec::new();
        self.nonce.learn(sas);
        for seen in sightings {
            self.counted.see(seen);
            if self.is_of_no_interest(seen) {
                continue;
            }
            let packet = Packet::read(&seen.frame);
            let packet = packet.as_ref();
            let mut found = |oracle, what: Option<String>| {
                let at = seen.at;
                breaches.extend(what.map(|what| Breach { oracle, at, what }));
            };
            found("nonce", self.nonce.see(seen, packet));
            found(self.policy.name(), self.policy.see(seen, packet, api));
            for oracle in &mut self.each {
                found(oracle.name(), oracle.see(seen, packet, api));
            }
        }
        breaches
    }

    /// Whether a frame is but on its way from where it was seen to where it will be, as most are
    /// that dataplanes receive: nobody has to read it.
    fn is_of_no_interest(&self, seen: &Sighting) -> bool {
        let is_on_its_way = match seen.way {
            Way::Taken => !self.policy.waits(),
            Way::OffWire => !seen.touched,
            Way::Sent | Way::OnWire | Way::Delivered => false,
        };
        // Of a datagram in pieces the policy oracle notes its ports wherever it sees them.
        is_on_its_way && is_plainly_whole(&seen.frame)
    }
}
