//! Oracles on a thread of their own, beside a world that goes on.
//!
//! What they see, and in which order, is the same as if the world had waited for them: batches of
//! sightings go over one channel, each with what the API said when it was full.

use std::panic::resume_unwind;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread;

use super::{Breach, Oracles};
use crate::report::ExposedSa;
use crate::sighting::Sighting;
use crate::world::{ApiThen, World};

/// Batches under way, at most: then the world waits, so that frames don't fill the memory.
const BATCHES_MAX: usize = 8;
/// Sightings that are worth waking somebody for.
const SEEN_MIN: usize = 2_048;

/// What was seen, and what has to be known to judge it.
struct Batch {
    sightings: Vec<Sighting>,
    /// SAs that have come since the batch before.
    sas: Vec<ExposedSa>,
    /// What the API says, if it said something else before.
    api: Option<ApiThen>,
}

/// Does some work on a world while oracles look at what is seen there, as often as it calls the
/// second of its arguments. What they have found when it is done, in the order in which it was
/// seen. What was seen since the last of these calls is left to see.
pub(crate) fn beside<T>(
    oracles: &mut Oracles,
    world: &mut World,
    work: impl FnOnce(&mut World, &mut dyn FnMut(&mut World)) -> T,
) -> (T, Vec<Breach>) {
    let (batches, looked_at) = mpsc::sync_channel(BATCHES_MAX);
    let (give_back, spent) = mpsc::channel();
    let mut feed = Feed {
        batches,
        spent,
        seen: Vec::new(),
        sas: oracles.nonce.known(),
        edition: None,
        api: None,
    };
    thread::scope(|scope| {
        let looking = scope.spawn(move || look(oracles, &looked_at, &give_back));
        let done = work(world, &mut |world| feed.glance(world));
        feed.send(world);
        // No more of them.
        drop(feed);
        match looking.join() {
            Ok(breaches) => (done, breaches),
            Err(panic) => resume_unwind(panic),
        }
    })
}

/// The world's side.
struct Feed {
    batches: SyncSender<Batch>,
    spent: Receiver<Vec<Sighting>>,
    /// What was seen, all of it under one edition of the API.
    seen: Vec<Sighting>,
    /// How many SAs the oracles know.
    sas: usize,
    /// Of the API, if it was seen under one.
    edition: Option<u64>,
    /// What it says, if they weren't told yet.
    api: Option<ApiThen>,
}

impl Feed {
    /// Takes what was seen until now.
    fn glance(&mut self, world: &mut World) {
        let edition = Some(world.api().edition());
        if self.edition != edition {
            self.send(world);
            self.api = Some(world.api_then());
            self.edition = edition;
        }
        let mut sightings = world.take_sightings();
        self.seen.append(&mut sightings);
        world.give_back(sightings);
        if self.seen.len() >= SEEN_MIN {
            self.send(world);
        }
    }

    /// Gives it to the oracles.
    fn send(&mut self, world: &World) {
        if self.seen.is_empty() {
            return;
        }
        // Freed by who has made them: else two threads would count one node's name at once.
        let room = self.spent.try_recv().map(|mut spent| {
            spent.clear();
            spent
        });
        let sas = world.sas().get(self.sas..).unwrap_or_default().to_vec();
        self.sas += sas.len();
        let batch = Batch {
            sightings: core::mem::replace(&mut self.seen, room.unwrap_or_default()),
            sas,
            api: self.api.take(),
        };
        // Nobody hears it only if oracles have panicked, which is told when they are waited for.
        drop(self.batches.send(batch));
    }
}

/// The oracles' side: until there are no more batches.
fn look(
    oracles: &mut Oracles,
    batches: &Receiver<Batch>,
    give_back: &Sender<Vec<Sighting>>,
) -> Vec<Breach> {
    let (mut breaches, mut api) = (Vec::new(), None);
    for batch in batches {
        api = batch.api.or(api);
        let Some(api) = &api else { continue };
        let found = oracles.see(&api.api(), &batch.sas, &batch.sightings);
        breaches.extend(oracles.tell(found));
        // The world may have ended meanwhile.
        drop(give_back.send(batch.sightings));
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Party, Probe, ProbePort};
    use crate::scale::Scale;
    use sluice_offload_api::model::Protocol;

    const SMALL: Scale = Scale {
        nodes: 3,
        whole: 3,
        pods: 6,
        dual_stack: false,
        rate: 0,
        flows: 1,
        seed: 1,
    };

    /// Packets that nobody saw being sent.
    fn cast(world: &mut World, glance: &mut dyn FnMut(&mut World)) {
        let pod = |name: &str| Party::Pod {
            namespace: "tenant-000".to_owned(),
            name: name.to_owned(),
        };
        let probe = Probe {
            from: pod("pod-0000-000"),
            to: pod("pod-0001-000"),
            from_network: None,
            to_network: None,
            protocol: Protocol::Udp,
            port: Some(ProbePort::Number(8_080)),
            family: None,
            source_port: None,
            expect: None,
        };
        for round in 0..5 {
            world.cast(&probe, b"whose is it").unwrap();
            drop(world.take_sightings());
            world.run_for(20_000_000);
            if round == 2 {
                // Another edition of the API, and other keys.
                world.apply(world.cluster().clone()).unwrap();
                world.rekey().unwrap();
            }
            glance(world);
        }
    }

    #[test]
    fn who_looks_beside_finds_what_who_looks_in_between_finds() {
        let boot = || {
            let mut world = SMALL.boot(SMALL.cluster().unwrap()).unwrap();
            let mut oracles = Oracles::default();
            assert_eq!(oracles.watch(&mut world), Vec::new());
            (world, oracles)
        };
        let (mut world, mut oracles) = boot();
        let mut in_between = Vec::new();
        cast(&mut world, &mut |world| {
            in_between.extend(oracles.watch(world));
        });
        let (mut world, mut oracles) = boot();
        let ((), found) = beside(&mut oracles, &mut world, cast);
        assert!(found.len() >= 5, "{found:?}");
        assert_eq!(found, in_between);
        assert_eq!(oracles.watch(&mut world), Vec::new());
    }
}
