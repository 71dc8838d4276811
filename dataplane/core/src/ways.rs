//! The ways that packets went lately, by their headers.
//!
//! What the walk finds for a packet, its flow, its SA, the port it leaves by, holds for those
//! with the same headers as long as the snapshot does and the flow is there. A small table, in the
//! cache of its core and for all its ports: who sends packets of many different headers costs the
//! others of that core their ways, which then take the walk as if there weren't any.

use crate::flow::table::FlowSlot;
use crate::hash::HashKey;
use crate::meta::Meta;
use crate::snapshot::{PeerIndex, PortIndex};
use crate::wire::parse::Headers;

/// A way takes three cache lines.
const WAYS_PER_SET: usize = 2;
const SETS: usize = 256;

/// The way of packets with the same headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) headers: Headers,
    /// The port they come in by.
    pub(crate) in_port: PortIndex,
    /// The snapshot that the rest was found under.
    pub(crate) epoch: u64,
    /// Of one of them: lengths, and what is past the ports, are others' to read.
    pub(crate) meta: Meta,
    /// Whether the flow's key is the other way round.
    pub(crate) is_turned: bool,
    pub(crate) slot: FlowSlot,
    pub(crate) leg: Leg,
}

/// Where packets go, and what is put in front of them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Leg {
    /// To another node, by one of its SAs.
    Sealed(PeerIndex),
    /// To a pod here.
    Local(PortIndex),
}

/// The table.
#[derive(Debug)]
pub(crate) struct Ways {
    key: HashKey,
    sets: Box<[Set]>,
}

/// Ways that meet in one place. The one that was kept last comes first.
type Set = [Option<Way>; WAYS_PER_SET];

impl Ways {
    pub(crate) fn new(key: HashKey) -> Self {
        Self {
            key,
            sets: (0..SETS).map(|_| Set::default()).collect(),
        }
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "less than the sets")]
    fn set(&self, headers: &Headers) -> usize {
        ((u128::from(headers.hash(self.key)) * SETS as u128) >> 64) as usize
    }

    /// The way of packets with these headers that come in by a port, if it was found under this
    /// snapshot.
    #[inline]
    pub(crate) fn find(&self, headers: &Headers, in_port: PortIndex, epoch: u64) -> Option<&Way> {
        let set = self.sets.get(self.set(headers))?;
        let is_it =
            |way: &&Way| way.headers.are(headers) && way.in_port == in_port && way.epoch == epoch;
        set.iter().flatten().find(is_it)
    }

    /// Keeps a way in place of what was there.
    pub(crate) fn keep(&mut self, way: Way) {
        let set = self.set(&way.headers);
        let Some([first, second]) = self.sets.get_mut(set) else {
            return;
        };
        let is_same = |it: &Way| it.headers.are(&way.headers) && it.in_port == way.in_port;
        if !first.as_ref().is_some_and(is_same) {
            *second = first.take();
        }
        *first = Some(way);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_takes_three_cache_lines() {
        assert!(size_of::<Option<Way>>() <= 3 * 64);
    }
}
