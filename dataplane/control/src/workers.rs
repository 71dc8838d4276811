//! The workers of a dataplane, told and asked together.

use std::sync::Arc;

use sluice_crypto::esp::Spi;
use sluice_dataplane_core::command::{Command, Reply};
use sluice_dataplane_core::counters::Counters;
use sluice_dataplane_core::publish::PublishError;
use sluice_dataplane_core::snapshot::Snapshot;
use sluice_dataplane_core::steer::Shares;
use sluice_dataplane_core::verdict::VerdictRecord;
use sluice_dataplane_core::worker::WorkerHandle;

/// All workers of a dataplane, in order, and how lanes are spread over them.
#[derive(Debug)]
pub struct Workers {
    all: Vec<WorkerHandle>,
    shares: Shares,
    /// Whose verdict is read next.
    next: usize,
}

/// As many handles as workers are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{handles} handles are not {workers} workers'")]
pub struct WrongCrew {
    /// Handles that are there.
    pub handles: usize,
    /// Workers that there should be.
    pub workers: usize,
}

impl From<WorkerHandle> for Workers {
    fn from(only: WorkerHandle) -> Self {
        Self {
            all: vec![only],
            shares: Shares::ONE,
            next: 0,
        }
    }
}

/// A worker has too many commands waiting, or is gone; nobody was told anything.
pub(crate) struct Full;

impl Workers {
    /// Those of one crew ([`sluice_dataplane_core::steer::Handoff::crew`]), in its order.
    ///
    /// # Errors
    /// [`WrongCrew`].
    pub fn new(all: Vec<WorkerHandle>, shares: Shares) -> Result<Self, WrongCrew> {
        if all.len() != shares.workers() {
            return Err(WrongCrew {
                handles: all.len(),
                workers: shares.workers(),
            });
        }
        Ok(Self {
            all,
            shares,
            next: 0,
        })
    }

    pub(crate) const fn count(&self) -> usize {
        self.all.len()
    }

    pub(crate) const fn shares(&self) -> Shares {
        self.shares
    }

    /// Sends a snapshot to every worker. One that is gone ends the dataplane, whatever the
    /// others have taken by then.
    pub(crate) fn publish(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), PublishError> {
        let mut all = self.all.iter_mut();
        all.try_for_each(|it| it.snapshots.publish(Arc::clone(snapshot)))
    }

    /// Hands over what workers have given back; whether all use the last one published.
    pub(crate) fn reclaim_into(&mut self, mut take: impl FnMut(Arc<Snapshot>)) -> bool {
        let mut all = true;
        for it in &mut self.all {
            all &= it.snapshots.reclaim_into(&mut take);
        }
        all
    }

    /// Tells the owner of a receiving SA.
    pub(crate) fn tell_owner(&mut self, spi: Spi, command: Command) -> Result<(), Full> {
        self.tell(self.shares.of_spi(spi), command)
    }

    /// Tells one.
    pub(crate) fn tell(&mut self, worker: usize, command: Command) -> Result<(), Full> {
        let handle = self.all.get_mut(worker).ok_or(Full)?;
        handle.commands.send(command).map_err(|_| Full)
    }

    /// Whether the owner of a receiving SA takes one more command.
    pub(crate) fn owner_has_room(&self, spi: Spi) -> bool {
        let owner = self.all.get(self.shares.of_spi(spi));
        owner.is_some_and(|it| it.commands.has_room())
    }

    /// Whether each takes one more command.
    pub(crate) fn have_room(&self) -> bool {
        self.all.iter().all(|it| it.commands.has_room())
    }

    /// Tells each its own, or nobody anything if one of them has no room.
    pub(crate) fn tell_all(
        &mut self,
        commands: impl IntoIterator<Item = Command>,
    ) -> Result<(), Full> {
        if !self.have_room() {
            return Err(Full);
        }
        let mut both = self.all.iter_mut().zip(commands);
        both.try_for_each(|(it, command)| it.commands.send(command).map_err(|_| Full))
    }

    /// The next answer of any, and whose it is.
    pub(crate) fn next_reply(&mut self) -> Option<(usize, Reply)> {
        let mut all = self.all.iter_mut().enumerate();
        all.find_map(|(worker, it)| Some((worker, it.commands.next_reply()?)))
    }

    /// The next verdict of any, from all in turn.
    pub(crate) fn next_verdict(&mut self) -> Option<VerdictRecord> {
        for _ in 0..self.all.len() {
            let at = self.next % self.all.len();
            if let Some(verdict) = self.all.get_mut(at)?.verdicts.next() {
                return Some(verdict);
            }
            self.next = at + 1;
        }
        None
    }

    /// What all have counted together.
    pub(crate) fn counters(&self) -> Counters {
        Counters::total(self.all.iter().map(|it| &*it.counters))
    }
}
