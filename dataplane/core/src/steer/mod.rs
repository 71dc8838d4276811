//! Several workers: which of them owns what, and how it gets what another one received.
//!
//! A flow, an SA and a datagram's fragments have one owner each, so none needs a lock
//! (architecture, decision 4). Where the network card can't bring a frame to its owner the
//! worker that received it hands it over, by a bounded ring for each pair of workers.

mod handed;
mod handoff;
mod ring;

pub(crate) use handed::{Handed, How, News};
pub use handoff::{Handoff, frames_between};

use sluice_crypto::esp::Spi;
use sluice_crypto::lifecycle::LANES_MAX;

use crate::sad::CHILDREN_MAX;

/// Workers of one dataplane, at most: as many as there can be lanes.
pub const WORKERS_MAX: usize = CHILDREN_MAX;

/// How lanes are spread over workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shares {
    workers: u8,
    lanes: u8,
}

/// Numbers of workers and lanes that don't go together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{workers} workers need as many lanes or more, at most {WORKERS_MAX}, not {lanes}")]
pub struct BadShares {
    /// Workers.
    pub workers: usize,
    /// Lanes.
    pub lanes: usize,
}

impl Default for Shares {
    fn default() -> Self {
        Self::ONE
    }
}

impl Shares {
    /// One worker that owns everything.
    pub const ONE: Self = Self {
        workers: 1,
        lanes: 1,
    };

    /// So many lanes, spread over so many workers.
    ///
    /// # Errors
    /// [`BadShares`]: no worker, fewer lanes than workers, or more than [`WORKERS_MAX`].
    pub fn new(workers: usize, lanes: usize) -> Result<Self, BadShares> {
        if workers == 0 || lanes < workers || lanes > WORKERS_MAX {
            return Err(BadShares { workers, lanes });
        }
        let narrow = |it| u8::try_from(it).map_err(|_| BadShares { workers, lanes });
        Ok(Self {
            workers: narrow(workers)?,
            lanes: narrow(lanes)?,
        })
    }

    /// How many workers there are.
    #[must_use]
    pub const fn workers(self) -> usize {
        self.workers as usize
    }

    /// Whose the flows of a hash are ([`crate::lane::flow_hash`]).
    #[inline]
    #[must_use]
    pub const fn of_hash(self, hash: u16) -> usize {
        hash as usize % self.lanes as usize % self.workers as usize
    }

    /// Whose the child SA of a number is. Where lanes are a power of two, as those of the
    /// other node are, it is the owner of the flows that go by it.
    #[inline]
    #[must_use]
    pub const fn of_child(self, number: usize) -> usize {
        number % self.lanes as usize % self.workers as usize
    }

    /// Whose a receiving SA is: a child's number is in its SPI's low bits. One that another
    /// program numbered has some owner too, the same for all its packets.
    #[inline]
    #[must_use]
    pub const fn of_spi(self, spi: Spi) -> usize {
        self.of_child(spi.0 as usize % LANES_MAX as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_has_lanes_and_no_lane_is_without_a_worker() {
        for workers in 1..=WORKERS_MAX {
            for lanes in workers..=WORKERS_MAX {
                let shares = Shares::new(workers, lanes).unwrap();
                let mut lanes_of = vec![0; workers];
                (0..lanes).for_each(|child| lanes_of[shares.of_child(child)] += 1);
                let (least, most) = (lanes_of.iter().min(), lanes_of.iter().max());
                assert!(most.unwrap() - least.unwrap() <= 1, "{lanes_of:?}");
            }
        }
        for (workers, lanes) in [(0, 1), (2, 1), (1, WORKERS_MAX + 1)] {
            assert!(Shares::new(workers, lanes).is_err(), "{workers} of {lanes}");
        }
    }

    /// What makes handing over between opening and tracking needless between Sluice nodes.
    #[test]
    fn who_has_a_childs_sa_has_its_flows_whatever_the_other_nodes_lanes() {
        for (own, other) in [(1, 2), (2, 4), (4, 2), (8, 32), (32, 8)] {
            let children = usize::max(own, other);
            let mut workers = 1..=own;
            assert!(workers.all(|workers| {
                let shares = Shares::new(workers, own).unwrap();
                let child = |hash: u16| usize::from(hash) % children;
                (0..=u16::MAX).all(|it| shares.of_hash(it) == shares.of_child(child(it)))
            }));
        }
    }
}
