//! Links, the underlay's switch, and virtual time: a queue of frames that arrive.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use sluice_dataplane_core::addr::Mac;
use sluice_dataplane_core::meta::FrameKind;
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::wire::{self, ethernet};

use crate::report::Captured;

/// How long a frame takes over any link.
const LINK_NS: u64 = 5_000;

/// Who a frame arrives at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum At {
    /// A node's dataplane, by its number and its port's.
    Dataplane(usize, u16),
    /// The pod or host behind a port of a node's dataplane.
    Behind(usize, u16),
    /// The world outside.
    Outside,
}

/// A frame under way; ordered by arrival, then by who sent first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Arrival {
    pub(crate) time: Tick,
    order: u64,
    pub(crate) at: At,
    pub(crate) frame: Vec<u8>,
}

/// The network.
#[derive(Debug, Default)]
pub(crate) struct Net {
    pub(crate) now: Tick,
    queue: BinaryHeap<Reverse<Arrival>>,
    order: u64,
    /// Who is on the underlay's switch.
    switch: Vec<At>,
    /// Where the switch has seen a MAC.
    stations: BTreeMap<Mac, At>,
    /// Every frame that entered the switch.
    pub(crate) wire: Vec<Captured>,
}

impl Net {
    /// Plugs someone into the underlay's switch.
    pub(crate) fn plug(&mut self, at: At) {
        self.switch.push(at);
    }

    /// Sends a frame over a link of its own.
    pub(crate) fn send(&mut self, at: At, frame: Vec<u8>) {
        self.order += 1;
        let arrival = Arrival {
            time: self.now + LINK_NS,
            order: self.order,
            at,
            frame,
        };
        self.queue.push(Reverse(arrival));
    }

    /// Sends a frame into the underlay's switch.
    pub(crate) fn switch(&mut self, from: At, frame: Vec<u8>) {
        if let Some(src) = ethernet::src(&frame) {
            self.stations.insert(src, from);
        }
        let known = ethernet::dst(&frame)
            .and_then(|dst| self.stations.get(&dst))
            .copied();
        let to: Vec<At> = match known {
            Some(at) => vec![at],
            None => self.switch.clone(),
        };
        self.wire.push(Captured {
            at: self.now,
            bytes: frame.clone(),
        });
        for at in to.into_iter().filter(|at| *at != from) {
            self.send(at, frame.clone());
        }
    }

    /// All frames that arrive next, at one moment not after `until`.
    pub(crate) fn next(&mut self, until: Tick) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        let Some(Reverse(first)) = self.queue.peek() else {
            return arrivals;
        };
        let time = first.time;
        if time > until {
            return arrivals;
        }
        self.now = time;
        while let Some(Reverse(arrival)) = self.queue.peek() {
            if arrival.time != time {
                break;
            }
            if let Some(Reverse(arrival)) = self.queue.pop() {
                arrivals.push(arrival);
            }
        }
        arrivals
    }
}

/// Whether a frame is ARP or neighbour discovery.
pub(crate) fn is_neighbor(frame: &[u8]) -> bool {
    wire::parse(frame).is_ok_and(|meta| {
        meta.kind == FrameKind::Arp || meta.nd != sluice_dataplane_core::meta::NdKind::None
    })
}
