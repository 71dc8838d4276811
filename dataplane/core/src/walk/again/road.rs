//! Packets on a known way, from port to port.

use crate::addr::Mac;
use crate::batch::Batch;
use crate::counters::{Counters, PortCounters};
use crate::flow::key::Tuple;
use crate::flow::state::Packet;
use crate::flow::table::FlowTable;
use crate::meta::{Meta, proto, tcp_flag};
use crate::neighbor::Neighbors;
use crate::port::{Frame, Port};
use crate::reason::DropReason;
use crate::sad::{Child, Outbound, Sad};
use crate::snapshot::{PortIndex, PortState, ROUTER_MAC, Snapshot};
use crate::tick::Tick;
use crate::walk::Walk;
use crate::walk::egress::{LastHop, macs_to, write_ethernet};
use crate::walk::seal::{accepts, seal_one};
use crate::ways::{Leg, Step, Way, Ways};
use crate::wire::parse::{Headers, parse_again};

/// What packets on their way need of the walk.
pub(super) struct Road<'a, P: Port> {
    pub(super) batch: &'a mut Batch<P::Frame>,
    flows: &'a mut FlowTable,
    sad: &'a mut Sad,
    ports: &'a mut [P],
    neighbors: &'a mut Neighbors<P::Frame>,
    snapshot: &'a Snapshot,
    counters: &'a Counters,
    now: Tick,
    last_hop: LastHop,
    went: Went,
}

/// A [`Leg`] with all that it needs in hand.
enum Dressing<'a> {
    /// An SA and, outermost, from and to which MAC.
    Sealed(&'a mut Outbound, &'a [Mac; 2]),
    /// The Ethernet header of a pod's port.
    Local(PortState),
}

impl<'a, P: Port> Road<'a, P> {
    pub(super) fn of(walk: &'a mut Walk<'_, P>) -> (Self, &'a Ways) {
        let road = Self {
            batch: walk.batch,
            flows: walk.flows,
            sad: walk.sad,
            ports: walk.ports,
            neighbors: walk.neighbors,
            snapshot: walk.snapshot,
            counters: walk.counters,
            now: walk.now,
            last_hop: None,
            went: Went::default(),
        };
        (road, walk.ways)
    }

    /// Counts those that went.
    pub(super) fn end(self, in_port: PortIndex) {
        self.went.count(self.counters, in_port);
    }

    /// Lets one that was opened take its step to a pod here. `None` if it has to take the walk.
    #[inline]
    pub(super) fn go_on(&mut self, at: usize, step: Step) -> Option<()> {
        let Leg::Local(out) = step.leg else {
            return None;
        };
        let own = self.counters.port(self.batch.in_port);
        let (to, port) = (
            self.snapshot.port(out),
            self.ports.get_mut(usize::from(out.0))?,
        );
        let slot = self.batch.slot(at)?;
        let tuple = Tuple::from(&slot.meta);
        let found = self
            .flows
            .find_again(step.slot, &tuple, step.is_turned, self.now)?;
        if !is_midst(&slot.meta) || slot.meta.l3_len() > usize::from(to.mtu) {
            return None;
        }
        let packet = Packet::read(slot.frame.as_ref()?.bytes(), &slot.meta);
        // Where it isn't taken nothing has changed: the walk finds the same, and counts it.
        self.flows.take(found, &packet, self.now).ok()?;
        let meta = slot.meta;
        let mut frame = self.batch.take(at)?;
        self.went.leave_by(out, self.counters);
        self.went.taken += 1;
        let dressed = write_ethernet(&mut frame, &meta, &to, ROUTER_MAC, to.mac);
        self.went.leave(dressed, frame, port, own);
        Some(())
    }

    /// Lets the one at the head go by the way of its headers, and all behind it that have the
    /// same. The headers of who is at the head then; `None` if one of them has to take the walk.
    #[inline]
    pub(super) fn follow(&mut self, way: &Way, step: &Step) -> Option<Option<Headers>> {
        let flows = &mut *self.flows;
        let tuple = Tuple::from(&way.meta);
        let found = flows.find_again(step.slot, &tuple, step.is_turned, self.now)?;
        let mut meta = way.meta;
        let (out, mtu, mut leg) = match step.leg {
            Leg::Sealed(peer) => {
                let out = self.snapshot.uplink?;
                let Some(Child::Here(outbound, path)) = self.sad.outbound_mut(peer, &meta) else {
                    return None;
                };
                let destination = outbound.destination();
                if !matches!(&self.last_hop, Some((to, _)) if *to == destination) {
                    let macs = macs_to(self.snapshot, self.neighbors, out, destination, self.now)?;
                    self.last_hop = Some((destination, macs));
                }
                let (_, macs) = self.last_hop.as_ref()?;
                if !accepts(outbound, &meta) {
                    return None;
                }
                let link_mtu = usize::from(self.snapshot.port(out).mtu);
                let link_mtu = path.within(link_mtu, self.now);
                let mtu = outbound.packet_mtu(link_mtu, meta.l3_header_len());
                (out, mtu, Dressing::Sealed(outbound, macs))
            }
            Leg::Local(out) => {
                let port = self.snapshot.port(out);
                (out, usize::from(port.mtu), Dressing::Local(port))
            }
        };
        let own = self.counters.port(self.batch.in_port);
        let port = self.ports.get_mut(usize::from(out.0))?;
        self.went.leave_by(out, self.counters);
        while let Some((at, frame)) = self.batch.first()
            && parse_again(frame.bytes(), &mut meta)
            && Tuple::from(&meta) == tuple
            && is_midst(&meta)
            && meta.l3_len() <= mtu
            // Where it isn't taken nothing has changed: the walk finds the same, and counts it.
            && flows.take(found, &Packet::read(frame.bytes(), &meta), self.now).is_ok()
            && let Some(mut frame) = self.batch.take(at)
        {
            self.went.taken += 1;
            let dressed = match &mut leg {
                Dressing::Sealed(outbound, macs) => {
                    let sealed = seal_one(outbound, &mut frame, &meta, mtu, macs);
                    self.went.sealed += u64::from(sealed.is_ok());
                    sealed.map(|_| ())
                }
                Dressing::Local(port) => {
                    write_ethernet(&mut frame, &meta, port, ROUTER_MAC, port.mac)
                }
            };
            self.went.leave(dressed, frame, port, own);
            let next = super::head(self.batch);
            if !next.as_ref().is_some_and(|it| it.are(&way.headers)) {
                return Some(next);
            }
        }
        None
    }
}

/// What is counted once for many.
#[derive(Default)]
struct Went {
    taken: u64,
    sealed: u64,
    forwarded: u64,
    out: PortIndex,
    /// By that port.
    sent: u64,
    bytes: u64,
}

impl Went {
    /// From now on they leave by another port, maybe.
    #[inline]
    fn leave_by(&mut self, out: PortIndex, counters: &Counters) {
        if out == self.out {
            return;
        }
        let before = counters.port(self.out);
        before.tx.add(self.sent);
        before.tx_bytes.add(self.bytes);
        self.forwarded += self.sent;
        (self.out, self.sent, self.bytes) = (out, 0, 0);
    }

    /// One leaves, if all that it needs is on it.
    #[inline]
    fn leave<P: Port>(
        &mut self,
        dressed: Result<(), DropReason>,
        frame: P::Frame,
        port: &mut P,
        own: &PortCounters,
    ) {
        let len = frame.bytes().len() as u64;
        match dressed.map(|()| port.tx(frame)) {
            Ok(Ok(())) => {
                self.sent += 1;
                self.bytes += len;
            }
            Ok(Err(_refused)) => own.drop(DropReason::TxFull),
            Err(reason) => own.drop(reason),
        }
    }

    fn count(mut self, counters: &Counters, in_port: PortIndex) {
        self.leave_by(PortIndex(u16::MAX), counters);
        counters.port(in_port).forwarded.add(self.forwarded);
        counters.flow_hit.add(self.taken);
        counters.sealed.add(self.sealed);
    }
}

/// Whether it neither begins nor ends a connection, which is for the walk to see.
fn is_midst(meta: &Meta) -> bool {
    const TURNS: u8 = tcp_flag::SYN | tcp_flag::FIN | tcp_flag::RST;
    meta.protocol != proto::TCP || meta.tcp_flags & (TURNS | tcp_flag::ACK) == tcp_flag::ACK
}
