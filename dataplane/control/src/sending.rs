//! Sending SAs on their way to the workers: all of a peer's go in force at once.

use std::collections::BTreeMap;

use sluice_crypto::esp::Spi;
use sluice_crypto::lifecycle::LANES_MAX;
use sluice_dataplane_core::sad::{CHILDREN_MAX, Children, Outbound};
use sluice_dataplane_core::snapshot::PeerIndex;

use crate::events::{Child, SaError};

/// The sending SAs of all peers.
#[derive(Debug, Default)]
pub(crate) struct Sending {
    /// Those of a peer that are there already, until the last comes.
    gathering: BTreeMap<PeerIndex, (u8, Vec<Outbound>)>,
    /// Those that were sent to the workers last.
    sent: BTreeMap<PeerIndex, Vec<Spi>>,
    /// Those that workers have to acknowledge, by the first, and how many still have to.
    awaited: BTreeMap<(PeerIndex, Spi), (usize, Vec<Spi>)>,
}

impl Sending {
    /// Takes one in. With the last of a peer's all of them come back, to be sent. The first
    /// begins anew: those before it are of an exchange that failed.
    ///
    /// # Errors
    /// [`SaError::Child`]; what was there of the peer's is given up.
    pub(crate) fn gather(
        &mut self,
        peer: PeerIndex,
        child: Child,
        outbound: Outbound,
    ) -> Result<Option<Children>, SaError> {
        let before = self.gathering.remove(&peer);
        let (of, mut all) = match before {
            Some(before) if child.number > 0 => before,
            _ => (child.of, Vec::new()),
        };
        // Of one exchange are those of one block of SPIs.
        let block = |it: &Outbound| it.sa.spi().0 / u32::from(LANES_MAX);
        let is_sibling = all.first().is_none_or(|it| block(it) == block(&outbound));
        let is_next = usize::from(child.number) == all.len() && child.of == of && is_sibling;
        if !is_next || child.number >= of || usize::from(of) > CHILDREN_MAX {
            let next = u8::try_from(all.len()).unwrap_or(u8::MAX);
            return Err(SaError::Child { child, next });
        }
        all.push(outbound);
        if all.len() < usize::from(of) {
            self.gathering.insert(peer, (of, all));
            return Ok(None);
        }
        Ok(Children::new(all))
    }

    /// These were sent to so many workers.
    pub(crate) fn sent(&mut self, peer: PeerIndex, spis: Vec<Spi>, workers: usize) {
        if let Some(first) = spis.first() {
            let awaited = (workers, spis.clone());
            self.awaited.insert((peer, *first), awaited);
        }
        self.sent.insert(peer, spis);
    }

    /// A worker has its part of those that begin with this one. All of them, if it was the
    /// last.
    pub(crate) fn acknowledged(&mut self, peer: PeerIndex, first: Spi) -> Vec<Spi> {
        let awaited = self.awaited.get_mut(&(peer, first));
        let Some((left, _)) = awaited else {
            return Vec::new();
        };
        *left = left.saturating_sub(1);
        if *left > 0 {
            return Vec::new();
        }
        let all = self.awaited.remove(&(peer, first));
        all.map_or_else(Vec::new, |(_, all)| all)
    }

    /// Those of a peer that wait for their others are given up.
    pub(crate) fn abandon(&mut self, peer: PeerIndex) {
        self.gathering.remove(&peer);
    }

    /// An SA that still waits for its others is given up with them.
    pub(crate) fn give_up(&mut self, peer: PeerIndex, spi: Spi) {
        let gathered = self.gathering.get(&peer);
        if gathered.is_some_and(|(_, all)| all.iter().any(|it| it.sa.spi() == spi)) {
            self.gathering.remove(&peer);
        }
    }

    /// Whether a peer's SA is one of those that were sent last.
    pub(crate) fn is_last(&self, peer: PeerIndex, spi: Spi) -> bool {
        self.sent.get(&peer).is_some_and(|it| it.contains(&spi))
    }

    /// A peer's are on their way out.
    pub(crate) fn forget(&mut self, peer: PeerIndex) {
        self.abandon(peer);
        self.sent.remove(&peer);
    }

    /// How many were sent last, of all peers.
    pub(crate) fn count(&self) -> usize {
        self.sent.values().map(Vec::len).sum()
    }
}
