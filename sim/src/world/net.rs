//! Links, the underlay's switch, and virtual time: a queue of frames that arrive.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use sluice_dataplane_core::addr::Mac;
use sluice_dataplane_core::meta::FrameKind;
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::wire::{self, ethernet};

use super::keying::Around;
use super::wire_faults::WireFaults;
use crate::fold::FoldMap;
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
    /// A fault of the wires has done something to it.
    pub(crate) touched: bool,
    pub(crate) frame: Arc<[u8]>,
}

/// The network.
#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) now: Tick,
    /// Those that arrive after all that were sent before, first the first: all of them, unless a
    /// wire holds some up.
    soon: VecDeque<Arrival>,
    later: BinaryHeap<Reverse<Arrival>>,
    order: u64,
    /// Who is on the underlay's switch.
    switch: Vec<At>,
    /// Where the switch has seen a MAC. Never walked in an order that shows.
    stations: FoldMap<Mac, At>,
    /// Every frame that entered the switch, if they are kept.
    pub(crate) wire: Vec<Captured>,
    keeps_wire: bool,
    /// How many there were.
    pub(crate) captured: usize,
    /// Of the underlay's links.
    pub(crate) faults: WireFaults,
    /// Frames that were put on the wire and not yet asked for: who sent them, and when.
    pub(crate) entered: Vec<(Tick, At, Arc<[u8]>)>,
    /// Nobody will ask for them.
    unwatched: bool,
}

impl Net {
    pub(crate) fn new(seed: u64, keeps_wire: bool) -> Self {
        Self {
            now: Tick::default(),
            soon: VecDeque::new(),
            later: BinaryHeap::new(),
            order: 0,
            switch: Vec::new(),
            stations: FoldMap::default(),
            wire: Vec::new(),
            keeps_wire,
            captured: 0,
            faults: WireFaults::new(seed),
            entered: Vec::new(),
            unwatched: false,
        }
    }

    /// Nobody will ask for what enters.
    pub(crate) fn look_away(&mut self) {
        self.unwatched = true;
        self.entered = Vec::new();
    }

    /// What sessions between nodes feel of it.
    pub(crate) const fn around(&self) -> Around<'_> {
        Around {
            now: self.now,
            faults: &self.faults,
        }
    }

    /// Plugs someone into the underlay's switch.
    pub(crate) fn plug(&mut self, at: At) {
        self.switch.push(at);
    }

    /// Someone is gone from the switch, which forgets where it was.
    pub(crate) fn unplug(&mut self, at: At) {
        self.switch.retain(|it| *it != at);
        self.stations.retain(|_, it| *it != at);
    }

    /// Sends a frame over a link of its own, on which nothing happens to it.
    pub(crate) fn send(&mut self, at: At, frame: Arc<[u8]>) {
        self.arrive_in(LINK_NS, at, false, frame);
    }

    fn arrive_in(&mut self, ns: u64, at: At, touched: bool, frame: Arc<[u8]>) {
        self.order += 1;
        let arrival = Arrival {
            time: self.now + ns,
            order: self.order,
            at,
            touched,
            frame,
        };
        if self.soon.back().is_none_or(|it| it.time <= arrival.time) {
            self.soon.push_back(arrival);
        } else {
            self.later.push(Reverse(arrival));
        }
    }

    /// Sends a frame into the underlay's switch.
    pub(crate) fn switch(&mut self, from: At, frame: Arc<[u8]>) {
        if let Some(src) = ethernet::src(&frame) {
            self.stations.insert(src, from);
        }
        if !self.unwatched {
            self.entered.push((self.now, from, frame.clone()));
        }
        self.capture(&frame);
        let known = ethernet::dst(&frame).and_then(|dst| self.stations.get(&dst));
        let known = known.copied().filter(|_| !self.faults.any());
        if let Some(at) = known {
            if at != from {
                self.arrive_in(LINK_NS, at, false, frame);
            }
            return;
        }
        let whole = !self.faults.any();
        for at in self.ways_to(&frame).into_iter().filter(|at| *at != from) {
            if whole {
                self.arrive_in(LINK_NS, at, false, Arc::clone(&frame));
                continue;
            }
            for passage in self.faults.pass(node(from), node(at), frame.clone()) {
                let ns = LINK_NS + passage.late_ns;
                self.arrive_in(ns, at, passage.touched, passage.frame);
            }
        }
    }

    /// Someone on the underlay puts a frame on the wire that another one has sent before.
    pub(crate) fn replay(&mut self, frame: &Arc<[u8]>) {
        self.capture(frame);
        for at in self.ways_to(frame) {
            self.arrive_in(LINK_NS, at, true, Arc::clone(frame));
        }
    }

    /// Whether nothing is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.soon.is_empty() && self.later.is_empty()
    }

    fn capture(&mut self, frame: &Arc<[u8]>) {
        self.captured += 1;
        if self.keeps_wire {
            self.wire.push(Captured {
                at: self.now,
                bytes: Arc::clone(frame),
            });
        }
    }

    /// Where the switch sends a frame.
    fn ways_to(&self, frame: &[u8]) -> Vec<At> {
        let known = ethernet::dst(frame).and_then(|dst| self.stations.get(&dst));
        known.map_or_else(|| self.switch.clone(), |at| vec![*at])
    }

    /// All frames that arrive next, at one moment not after `until`.
    pub(crate) fn next(&mut self, until: Tick) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        let Some((time, _)) = self.first() else {
            return arrivals;
        };
        if time > until {
            return arrivals;
        }
        self.now = time;
        while let Some((at, is_later)) = self.first()
            && at == time
        {
            let arrival = if is_later {
                self.later.pop().map(|it| it.0)
            } else {
                self.soon.pop_front()
            };
            arrivals.extend(arrival);
        }
        arrivals
    }

    /// When the first one arrives, and whether it is one that was held up.
    fn first(&self) -> Option<(Tick, bool)> {
        let soon = self.soon.front().map(|it| (it.time, it.order));
        let later = self.later.peek().map(|it| (it.0.time, it.0.order));
        match (soon, later) {
            (Some(soon), Some(later)) if later < soon => Some((later.0, true)),
            (Some(soon), _) => Some((soon.0, false)),
            (None, later) => later.map(|it| (it.0, true)),
        }
    }
}

/// The number of the node that someone on the switch is.
const fn node(at: At) -> Option<usize> {
    match at {
        At::Dataplane(node, _) | At::Behind(node, _) => Some(node),
        At::Outside => None,
    }
}

/// Whether a frame is ARP or neighbour discovery.
pub(crate) fn is_neighbor(frame: &[u8]) -> bool {
    wire::parse(frame).is_ok_and(|meta| {
        meta.kind == FrameKind::Arp || meta.nd != sluice_dataplane_core::meta::NdKind::None
    })
}
