//! The stages of the walk, one file each, in packet order.
//!
//! A stage is a function over the live frames of the batch. It may drop a frame, which
//! takes it off its way and counts one reason, or write down in the frame's slot what the
//! next stages need.

pub(crate) mod again;
pub(crate) mod classify;
pub(crate) mod egress;
pub(crate) mod fragments;
pub(crate) mod guard;
pub(crate) mod names;
pub(crate) mod neighbors;
pub(crate) mod open;
mod opening;
pub(crate) mod parse;
pub(crate) mod path_mtu;
mod refuse;
pub(crate) mod seal;
pub(crate) mod steer;
pub(crate) mod track;
mod transport;

use crate::addr::Addr;
use crate::batch::{Batch, Slot};
use crate::clear::{ClearPair, ClearPairs, ClearSum, Way};
use crate::counters::Counters;
use crate::expect::Owners;
use crate::flow::key::Tuple;
use crate::flow::table::FlowTable;
use crate::frag::Fragments;
use crate::judge::{Denied, Judgement, Told, judge_between};
use crate::meta::Meta;
use crate::mutant::{self, Mutant};
use crate::names::DomainId;
use crate::names::asked::Questions;
use crate::names::learned::Learned;
use crate::neighbor::Neighbors;
use crate::port::{Frame, Port};
use crate::reason::DropReason;
use crate::sad::Sad;
use crate::snapshot::{IdentityId, PeerIndex, PortIndex, Snapshot};
use crate::steer::{Handed, Handoff, How};
use crate::tick::Tick;
use crate::too_big::Budgets;
use crate::verdict::VerdictSink;
use crate::ways::Ways;

/// What the stages work on: one worker's state, borrowed for one burst.
pub(crate) struct Walk<'a, P: Port> {
    pub(crate) now: Tick,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) ports: &'a mut [P],
    pub(crate) batch: &'a mut Batch<P::Frame>,
    pub(crate) flows: &'a mut FlowTable,
    pub(crate) fragments: &'a mut Fragments<P::Frame>,
    pub(crate) sad: &'a mut Sad,
    pub(crate) neighbors: &'a mut Neighbors<P::Frame>,
    pub(crate) budgets: &'a mut Budgets,
    pub(crate) counters: &'a Counters,
    pub(crate) verdicts: &'a VerdictSink,
    pub(crate) pickup_until: Tick,
    pub(crate) questions: &'a mut Questions,
    pub(crate) learned: &'a mut Learned,
    /// Whether any policy names domains.
    pub(crate) follows_names: bool,
    pub(crate) clear: &'a mut ClearPairs,
    pub(crate) handoff: &'a mut Handoff<P::Frame>,
    pub(crate) ways: &'a mut Ways,
    /// Addresses that the packet at hand is between, and whose they are.
    pub(crate) known: Option<([Addr; 2], Owners)>,
}

impl<P: Port> Walk<'_, P> {
    /// Judges a flow, which was allowed before by the pattern `before` if by one.
    #[inline]
    pub(crate) fn judge(&self, tuple: &Tuple, before: DomainId) -> Result<Judgement, Denied> {
        let told = Told {
            learned: Some(self.learned),
            now: self.now,
            before,
        };
        let owners = match self.known {
            Some((ends, owners)) if ends == [tuple.src, tuple.dst] => owners,
            Some((ends, owners)) if ends == [tuple.dst, tuple.src] => owners.reversed(),
            _ => Owners::of(self.snapshot, tuple),
        };
        judge_between(self.snapshot, tuple, owners, &told)
    }

    /// Calls `each` for the frames in `mask` that are live.
    #[inline]
    pub(crate) fn each(&mut self, mask: u32, mut each: impl FnMut(&mut Self, usize)) {
        let mut left = mask & self.batch.live;
        while left != 0 {
            let at = left.trailing_zeros() as usize;
            left &= left - 1;
            each(self, at);
        }
    }

    #[inline]
    pub(crate) fn slot(&mut self, at: usize) -> Option<&mut Slot<P::Frame>> {
        self.batch.slot(at)
    }

    /// Drops a frame and counts why, at the port it came by.
    #[inline]
    pub(crate) fn drop(&mut self, at: usize, reason: DropReason) {
        let uncounted = reason == DropReason::PolicyIngress && mutant::is(Mutant::DropUncounted);
        if self.batch.take(at).is_some() && !uncounted {
            self.counters.port(self.batch.in_port).drop(reason);
        }
    }

    /// Hands a frame to the worker who owns what it needs next.
    pub(crate) fn hand(&mut self, at: usize, owner: usize, how: How) {
        let in_port = self.batch.in_port;
        if let Some(frame) = self.batch.take(at) {
            self.hand_on(
                owner,
                Handed {
                    in_port,
                    frame,
                    how,
                },
            );
        }
    }

    /// The same for a frame that came earlier. It counts as waiting until it is taken.
    pub(crate) fn hand_on(&mut self, owner: usize, handed: Handed<P::Frame>) {
        let port = self.counters.port(handed.in_port);
        match self.handoff.hand(owner, handed) {
            Ok(()) => {
                self.counters.handed.add(1);
                port.waiting.add(1);
            }
            Err(_full) => port.drop(DropReason::Handoff),
        }
    }

    /// What a packet that crosses the wire in clear counts for, once it has. Only such a
    /// packet pays for it.
    pub(crate) fn crossing(&self, meta: &Meta, peer: PeerIndex, way: Way) -> ClearPair {
        let owner = |addr| self.snapshot.owner(addr);
        let identity = |addr| owner(addr).map_or(IdentityId(0), |it| it.identity);
        let (from, to) = (identity(meta.src), identity(meta.dst));
        let sum = ClearSum {
            packets: 1,
            bytes: meta.l3_len() as u64,
        };
        ClearPair {
            from,
            to,
            peer,
            way,
            sum,
        }
    }

    /// Counts what has crossed the wire in clear.
    fn count_clear(&mut self, it: ClearPair) {
        self.clear.count(it, self.now);
        let counters = self.counters;
        let (packets, bytes) = match it.way {
            Way::Sent => (&counters.clear_sent, &counters.clear_sent_bytes),
            Way::Received => (&counters.clear_received, &counters.clear_received_bytes),
        };
        packets.add(it.sum.packets);
        bytes.add(it.sum.bytes);
    }

    /// Sends a received frame out by a port.
    #[inline]
    pub(crate) fn send(&mut self, at: usize, out: PortIndex) {
        self.send_as(at, out, None);
    }

    /// The same of what crosses the wire in clear, if it does.
    #[inline]
    pub(crate) fn send_as(&mut self, at: usize, out: PortIndex, clear: Option<ClearPair>) {
        let Some(frame) = self.batch.take(at) else {
            return;
        };
        let in_port = self.batch.in_port;
        self.send_for(in_port, out, frame, clear);
    }

    /// Sends a frame that came by `in_port` earlier or in this burst.
    pub(crate) fn send_for(
        &mut self,
        in_port: PortIndex,
        out: PortIndex,
        frame: P::Frame,
        clear: Option<ClearPair>,
    ) {
        match self.transmit(out, frame) {
            Ok(()) => {
                self.counters.port(in_port).forwarded.add(1);
                if let Some(clear) = clear {
                    self.count_clear(clear);
                }
            }
            Err(reason) => self.counters.port(in_port).drop(reason),
        }
    }

    /// Sends a frame of the dataplane's own.
    pub(crate) fn originate(&mut self, out: PortIndex, frame: P::Frame) {
        if self.transmit(out, frame).is_ok() {
            self.counters.port(out).originated.add(1);
        }
    }

    fn transmit(&mut self, out: PortIndex, frame: P::Frame) -> Result<(), DropReason> {
        let port = self
            .ports
            .get_mut(usize::from(out.0))
            .ok_or(DropReason::NoPort)?;
        let len = frame.bytes().len() as u64;
        port.tx(frame).map_err(|_refused| DropReason::TxFull)?;
        let counters = self.counters.port(out);
        counters.tx.add(1);
        counters.tx_bytes.add(len);
        Ok(())
    }
}
