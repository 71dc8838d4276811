//! SAs on their way out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sluice_crypto::esp::Spi;
use sluice_dataplane_core::command::Command;
use sluice_dataplane_core::snapshot::PeerIndex;

use crate::workers::{Full, Workers};

/// What is to go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Retire {
    /// A receiving SA.
    Inbound(Spi),
    /// The sending SAs to a peer.
    Outbound(PeerIndex),
}

/// What is to go and has found no room on the way to the workers yet, in order. One generation
/// can take away more peers, each with all its lanes, than commands can be under way.
#[derive(Debug, Default)]
pub(crate) struct Retiring {
    waiting: VecDeque<Retire>,
    /// Answers that workers owe, by peer.
    owed: BTreeMap<PeerIndex, usize>,
    /// Peers whose receiving SAs have been told to go, too, before their sending ones.
    leaving: BTreeSet<PeerIndex>,
}

impl Retiring {
    /// What a peer that goes has: its receiving SAs first, its sending ones last.
    pub(crate) fn push(&mut self, it: Retire) {
        if let Retire::Outbound(peer) = it {
            self.leaving.insert(peer);
        }
        self.waiting.push_back(it);
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends what there is room for.
    pub(crate) fn send(&mut self, workers: &mut Workers) {
        while let Some(it) = self.waiting.front().copied() {
            let told = match it {
                Retire::Inbound(spi) => workers.tell_owner(spi, Command::RetireInbound(spi)),
                Retire::Outbound(peer) => self.now(peer, workers),
            };
            if told.is_err() {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// Retires the sending SAs to a peer at every worker.
    pub(crate) fn now(&mut self, peer: PeerIndex, workers: &mut Workers) -> Result<(), Full> {
        let count = workers.count();
        workers.tell_all((0..count).map(|_| Command::RetireOutbound(peer)))?;
        *self.owed.entry(peer).or_default() += count;
        Ok(())
    }

    /// A worker has no sending SA to a peer any more; whether that was the last that any had of
    /// a peer that goes, receiving ones included: each worker obeys in order.
    pub(crate) fn is_over(&mut self, peer: PeerIndex) -> bool {
        let Some(owed) = self.owed.get_mut(&peer) else {
            return false;
        };
        *owed = owed.saturating_sub(1);
        if *owed == 0 {
            self.owed.remove(&peer);
        }
        let waits = |it: &Retire| matches!(it, Retire::Outbound(other) if *other == peer);
        let is_over = !self.owed.contains_key(&peer) && !self.waiting.iter().any(waits);
        is_over && self.leaving.remove(&peer)
    }
}
