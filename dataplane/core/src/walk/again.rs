//! Stage again: packets with the headers of one whose flow the walk has found go its way.
//!
//! They go from port to port in one turn, before all other stages. What is a packet's own is
//! still asked of each: its checks, its place in the flow, its length, its number. One for which
//! there is no way, or that isn't plain sailing, goes through the walk before any behind it, so
//! nothing overtakes; then its way is known.

use crate::addr::Mac;
use crate::batch::{Batch, Path};
use crate::counters::Counters;
use crate::flow::key::{FlowKey, Tuple};
use crate::flow::state::Packet;
use crate::flow::table::FlowTable;
use crate::meta::{Meta, proto, tcp_flag};
use crate::names::DNS_PORT;
use crate::neighbor::Neighbors;
use crate::port::{Frame, Port};
use crate::reason::DropReason;
use crate::route::Attach;
use crate::sad::{Child, Outbound, Sad};
use crate::snapshot::{PortIndex, PortKind, PortState, ROUTER_MAC, Snapshot};
use crate::tick::Tick;
use crate::walk::egress::{LastHop, macs_to, write_ethernet};
use crate::walk::seal::{accepts, seal_one};
use crate::walk::track::{Known, goes_to, known};
use crate::walk::{Walk, steer};
use crate::ways::{Leg, Way};
use crate::wire::parse::{Headers, parse_again};

/// Strangers in a row after which the rest of a burst counts as such: it is full of them, and
/// they are walked together.
const STRANGERS_MAX: u32 = 4;

/// A packet whose way is worth knowing, when the walk has found it.
pub(crate) struct Newcomer {
    at: usize,
    headers: Headers,
}

/// Lets those at the head of a burst that know their way go it. Only from a VF and from the host:
/// what comes in by the wire is to be opened, or asked whose MAC it has.
pub(crate) fn again<P: Port>(walk: &mut Walk<'_, P>) {
    if !comes_in_clear(walk) {
        return;
    }
    let (ways, in_port, epoch) = (&*walk.ways, walk.batch.in_port, walk.handoff.epoch);
    let mut road = Road {
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
    let mut headers = head(road.batch);
    while let Some(found) = &headers
        && let Some(way) = ways.find(found, in_port, epoch)
        && let Some(next) = road.follow(way)
    {
        headers = next;
    }
    road.went.count(road.counters, in_port);
}

fn comes_in_clear<P: Port>(walk: &Walk<'_, P>) -> bool {
    let in_port = walk.snapshot.port(walk.batch.in_port);
    matches!(in_port.kind, PortKind::Vf | PortKind::Host)
}

/// The headers of the frame at the head.
#[inline]
fn head<F: Frame>(batch: &Batch<F>) -> Option<Headers> {
    let (_, frame) = batch.first()?;
    Headers::read(frame.bytes())
}

/// What packets on their way need of the walk.
struct Road<'a, P: Port> {
    batch: &'a mut Batch<P::Frame>,
    flows: &'a mut FlowTable,
    sad: &'a mut Sad,
    ports: &'a mut [P],
    neighbors: &'a Neighbors<P::Frame>,
    snapshot: &'a Snapshot,
    counters: &'a Counters,
    now: Tick,
    last_hop: LastHop,
    went: Went,
}

/// A [`Leg`] with all that it needs in hand.
enum Dressing<'a> {
    /// An SA and, outermost, from and to which MAC.
    Sealed(&'a mut Outbound, [Mac; 2]),
    /// The Ethernet header of a pod's port.
    Local(PortState),
}

impl<P: Port> Road<'_, P> {
    /// Lets the one at the head go by the way of its headers, and all behind it that have the
    /// same. The headers of who is at the head then; `None` if one of them has to take the walk.
    #[inline]
    fn follow(&mut self, way: &Way) -> Option<Option<Headers>> {
        let flows = &mut *self.flows;
        let tuple = Tuple::from(&way.meta);
        let found = flows.find_again(way.slot, &tuple, way.is_turned, self.now)?;
        let mut meta = way.meta;
        let (out, mtu, mut leg) = match way.leg {
            Leg::Sealed(peer) => {
                let out = self.snapshot.uplink?;
                let Some(Child::Here(outbound)) = self.sad.outbound_mut(peer, &meta) else {
                    return None;
                };
                let destination = outbound.destination();
                let last = self.last_hop.filter(|(to, _)| *to == destination);
                let macs = match last {
                    Some((_, macs)) => macs,
                    None => macs_to(self.snapshot, self.neighbors, out, destination)?,
                };
                self.last_hop = Some((destination, macs));
                if !accepts(outbound, &meta) {
                    return None;
                }
                let link_mtu = usize::from(self.snapshot.port(out).mtu);
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
                    let sealed = seal_one(outbound, &mut frame, &meta, mtu, *macs);
                    self.went.sealed += u64::from(sealed.is_ok());
                    sealed.map(|_| ())
                }
                Dressing::Local(port) => {
                    write_ethernet(&mut frame, &meta, port, ROUTER_MAC, port.mac)
                }
            };
            let len = frame.bytes().len() as u64;
            match dressed.map(|()| port.tx(frame)) {
                Ok(Ok(())) => {
                    self.went.sent += 1;
                    self.went.bytes += len;
                }
                Ok(Err(_refused)) => own.drop(DropReason::TxFull),
                Err(reason) => own.drop(reason),
            }
            let next = head(self.batch);
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

    fn count(mut self, counters: &Counters, in_port: PortIndex) {
        self.leave_by(PortIndex(u16::MAX), counters);
        counters.port(in_port).forwarded.add(self.forwarded);
        counters.flow_hit.add(self.taken);
        counters.sealed.add(self.sealed);
    }
}

/// Of what is left, those at the head that are for the walk together, and the first of them if
/// its way is worth knowing.
pub(crate) fn strangers<P: Port>(walk: &mut Walk<'_, P>) -> (u32, Option<Newcomer>) {
    let all = walk.batch.live;
    if !comes_in_clear(walk) {
        return (all, None);
    }
    let (in_port, epoch) = (walk.batch.in_port, walk.handoff.epoch);
    let plain_at = |at| {
        let bytes = walk.batch.frame(at)?.bytes();
        Headers::read(bytes).filter(|_| Headers::are_plain(bytes))
    };
    let has_way = |it: &Headers| walk.ways.find(it, in_port, epoch).is_some();
    let at = all.trailing_zeros() as usize;
    // Fragments of a datagram are to be seen in one walk, however many there are.
    let Some(headers) = plain_at(at) else {
        return (all, None);
    };
    let newcomer = Newcomer { at, headers };
    if has_way(&newcomer.headers) {
        // It couldn't go its way, and neither can those like it: not each by itself.
        return (all, Some(newcomer));
    }
    let (mut mask, mut left) = (1u32 << at, all & all.wrapping_sub(1));
    while left != 0 && mask.count_ones() < STRANGERS_MAX {
        let at = left.trailing_zeros() as usize;
        match plain_at(at) {
            None => return (all, Some(newcomer)),
            Some(it) if has_way(&it) => return (mask, Some(newcomer)),
            Some(_) => {}
        }
        mask |= 1 << at;
        left &= left - 1;
    }
    (all, Some(newcomer))
}

/// Keeps the way of a packet that has gone through the walk, if the next goes the same.
pub(crate) fn remember<P: Port>(walk: &mut Walk<'_, P>, it: &Newcomer) {
    if let Some(way) = way_of(walk, it) {
        walk.ways.keep(way);
    }
}

fn way_of<P: Port>(walk: &mut Walk<'_, P>, it: &Newcomer) -> Option<Way> {
    let slot = walk.batch.slot(it.at)?;
    // What was dropped before its flow was asked for may stand here as another frame left it, and
    // nobody has said that it may be sent. The first packet of a flow has none yet.
    if slot.path != Path::Tracked || slot.found.is_none() {
        return None;
    }
    let (meta, from) = (slot.meta, slot.from);
    let tuple = Tuple::from(&meta);
    let is_dns = meta.src_port == DNS_PORT || meta.dst_port == DNS_PORT;
    if walk.follows_names && is_dns || !steer::is_here(walk, &tuple) {
        return None;
    }
    let found = walk.flows.find(tuple, walk.now);
    let Known::Fresh(found) = known(walk.snapshot, walk.flows, found) else {
        return None;
    };
    let leg = match goes_to(walk.flows, found, from).ok()? {
        Attach::Peer(peer) => match walk.sad.outbound_mut(peer, &meta) {
            Some(Child::Here(_)) => Leg::Sealed(peer),
            // Another worker's to seal, always.
            Some(Child::Elsewhere(_)) | None => return None,
        },
        Attach::Port(out) if walk.snapshot.port(out).kind == PortKind::Vf => Leg::Local(out),
        Attach::Port(_) | Attach::Clear(_) => return None,
    };
    let (_, is_turned) = FlowKey::of(tuple);
    Some(Way {
        headers: it.headers,
        in_port: walk.batch.in_port,
        epoch: walk.handoff.epoch,
        meta,
        is_turned,
        slot: found.slot,
        leg,
    })
}

/// Whether it neither begins nor ends a connection, which is for the walk to see.
fn is_midst(meta: &Meta) -> bool {
    const TURNS: u8 = tcp_flag::SYN | tcp_flag::FIN | tcp_flag::RST;
    meta.protocol != proto::TCP || meta.tcp_flags & (TURNS | tcp_flag::ACK) == tcp_flag::ACK
}
