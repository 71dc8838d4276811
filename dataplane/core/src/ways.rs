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
    pub(crate) to: To,
}

/// What packets with the same headers go to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum To {
    /// They are ESP for us, whatever is inside.
    Opening,
    Flow(Step),
}

/// Which flow packets are of, and what that comes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
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
    #![allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]

    use super::*;
    use crate::wire::build::{Body, FrameSpec};

    fn way(src_port: u16, in_port: u16) -> Way {
        let (src, dst) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let body = Body::Udp {
            src_port,
            dst_port: 1,
        };
        let frame = FrameSpec::new(src, dst, body).build();
        Way {
            headers: Headers::read(&frame).unwrap(),
            in_port: PortIndex(in_port),
            epoch: 7,
            meta: crate::wire::parse(&frame).unwrap(),
            to: To::Opening,
        }
    }

    fn ways_of(ways: &Ways, all: &[Way], epoch: u64) -> usize {
        let find = |it: &&Way| {
            let found = ways.find(&it.headers, it.in_port, epoch);
            assert!(found.is_none_or(|way| way.meta == it.meta && way.in_port == it.in_port));
            found.is_some()
        };
        all.iter().filter(find).count()
    }

    #[test]
    fn a_hundred_ways_stand_beside_each_other_and_of_thousands_some_do() {
        let mut ways = Ways::new(HashKey([3, 5]));
        let all: Vec<_> = (0..50)
            .flat_map(|port| [way(port, 1), way(port, 2)])
            .collect();
        all.iter().for_each(|it| ways.keep(*it));
        // Three may meet in a set of two.
        assert!(ways_of(&ways, &all, 7) > 90);
        assert_eq!(ways_of(&ways, &all, 8), 0, "of another snapshot");
        let others: Vec<_> = (1000..5000).map(|port| way(port, 1)).collect();
        for it in &others {
            ways.keep(*it);
            assert_eq!(ways_of(&ways, &[*it], 7), 1);
        }
        let left = ways_of(&ways, &others, 7) + ways_of(&ways, &all, 7);
        assert_eq!(
            left,
            WAYS_PER_SET * SETS,
            "no place is lost, and none taken twice"
        );
    }

    #[test]
    fn a_way_that_is_found_anew_takes_its_own_place() {
        let mut ways = Ways::new(HashKey([3, 5]));
        let all: Vec<_> = (0..50).map(|port| way(port, 1)).collect();
        let places = |ways: &Ways| ways.sets.iter().flatten().flatten().count();
        let mut first = None;
        for epoch in 7..20 {
            all.iter().for_each(|it| ways.keep(Way { epoch, ..*it }));
            assert_eq!(
                ways_of(&ways, &all, epoch),
                all.len(),
                "none met two others"
            );
            assert_eq!(*first.get_or_insert(places(&ways)), places(&ways));
        }
    }

    #[test]
    fn a_way_takes_three_cache_lines() {
        assert!(size_of::<Option<Way>>() <= 3 * 64);
    }
}
