//! Trains: packets of one flow in a row, as segmentation in a pod's kernel makes them.
//!
//! The first of a train goes through the walk alone. What the walk found for it, its flow, its
//! SA, its next hop, holds for all that have its headers: they go from port to port in one turn
//! each, with what is a packet's own still asked of each: its checks, its place in the flow, its
//! length, its sequence number. Where one of them isn't plain sailing the train ends, and it and
//! all behind it go through the walk as any others do, so nothing overtakes.

use crate::addr::Mac;
use crate::batch::Path;
use crate::flow::key::Tuple;
use crate::flow::state::Packet;
use crate::flow::table::Found;
use crate::meta::{Meta, proto, tcp_flag};
use crate::names::DNS_PORT;
use crate::port::{Frame, Port};
use crate::reason::DropReason;
use crate::route::Attach;
use crate::sad::{Child, Outbound};
use crate::snapshot::{PeerIndex, PortIndex, PortKind, PortState, ROUTER_MAC};
use crate::walk::egress::{macs_to, write_ethernet};
use crate::walk::seal::{accepts, seal_one};
use crate::walk::track::{Known, goes_to, known};
use crate::walk::{Walk, steer};
use crate::wire::parse::Again;

/// Packets that a train has at least: a walk for one alone has its price.
const PACKETS_MIN: u32 = 4;

/// What a burst begins with, if its first few packets have the same headers. Only from a VF and
/// from the host: what comes in by the wire has to be opened first.
pub(crate) fn begins<P: Port>(walk: &mut Walk<'_, P>) -> Option<Again> {
    let live = walk.batch.live;
    if live.count_ones() < PACKETS_MIN || !comes_in_clear(walk) {
        return None;
    }
    let first = live.trailing_zeros() as usize;
    let again = Again::of(bytes_at(walk, first)?)?;
    let mut others = live & (live - 1);
    for _ in 1..PACKETS_MIN {
        let at = others.trailing_zeros() as usize;
        others &= others - 1;
        if !again.is_of(bytes_at(walk, at)?) {
            return None;
        }
    }
    Some(again)
}

fn comes_in_clear<P: Port>(walk: &Walk<'_, P>) -> bool {
    let port = walk.snapshot.port(walk.batch.in_port);
    matches!(port.kind, PortKind::Vf | PortKind::Host)
}

fn bytes_at<'w, P: Port>(walk: &'w mut Walk<'_, P>, at: usize) -> Option<&'w [u8]> {
    Some(walk.batch.slot(at)?.frame.as_ref()?.bytes())
}

/// What holds for all of a train.
struct Way {
    meta: Meta,
    found: Found,
    leg: Leg,
    /// The port that they leave by.
    out: PortIndex,
    /// The longest that leaves as it is.
    mtu: usize,
}

/// What is put in front of a packet before it leaves.
enum Leg {
    /// A node's SA and, outermost, from and to which MAC.
    Sealed(PeerIndex, [Mac; 2]),
    /// The Ethernet header of a pod's port.
    Local(PortState),
}

impl Way {
    /// The way of a flow whose packet has just been walked, if the next goes the same.
    fn of<P: Port>(walk: &mut Walk<'_, P>, first: usize) -> Option<Self> {
        let slot = walk.batch.slot(first)?;
        if slot.path != Path::Tracked {
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
        let to = goes_to(walk.flows, found, from).ok()?;
        let (leg, out, mtu) = match to {
            Attach::Peer(peer) => {
                let uplink = walk.snapshot.uplink?;
                let Some(Child::Here(outbound)) = walk.sad.outbound_mut(peer, &meta) else {
                    return None;
                };
                if !accepts(outbound, &meta) {
                    return None;
                }
                let link_mtu = usize::from(walk.snapshot.port(uplink).mtu);
                let mtu = outbound.packet_mtu(link_mtu, meta.l3_header_len());
                let to = outbound.destination();
                let macs = macs_to(walk.snapshot, walk.neighbors, uplink, to)?;
                (Leg::Sealed(peer, macs), uplink, mtu)
            }
            Attach::Port(out) => {
                let port = walk.snapshot.port(out);
                if port.kind != PortKind::Vf {
                    return None;
                }
                (Leg::Local(port), out, usize::from(port.mtu))
            }
            Attach::Clear(_) => return None,
        };
        Some(Self {
            meta,
            found,
            leg,
            out,
            mtu,
        })
    }
}

/// Takes what follows the first of a train, which has just gone through the walk, the way that
/// it went. How many these were.
pub(crate) fn follow<P: Port>(walk: &mut Walk<'_, P>, first: usize, again: &Again) -> u64 {
    let Some(way) = Way::of(walk, first) else {
        return 0;
    };
    let mut leg = match &way.leg {
        Leg::Sealed(peer, macs) => match walk.sad.outbound_mut(*peer, &way.meta) {
            Some(Child::Here(outbound)) => Dressing::Sealed(outbound, *macs),
            _ => return 0,
        },
        Leg::Local(port) => Dressing::Local(port),
    };
    let Some(out) = walk.ports.get_mut(usize::from(way.out.0)) else {
        return 0;
    };
    let (batch, flows, now) = (&mut *walk.batch, &mut *walk.flows, walk.now);
    let in_port = walk.counters.port(batch.in_port);
    let mut meta = way.meta;
    let (mut taken, mut sealed, mut sent, mut sent_bytes) = (0, 0, 0, 0);
    while batch.live != 0 {
        let at = batch.live.trailing_zeros() as usize;
        let Some(frame) = batch.slot(at).and_then(|slot| slot.frame.as_ref()) else {
            break;
        };
        if !again.parse(frame.bytes(), &mut meta) || !is_midst(&meta) || meta.l3_len() > way.mtu {
            break;
        }
        let packet = Packet::read(frame.bytes(), &meta);
        // Where it isn't taken nothing has changed: the walk finds the same, and counts it.
        if flows.take(way.found, &packet, now).is_err() {
            break;
        }
        let Some(mut frame) = batch.take(at) else {
            break;
        };
        taken += 1;
        let dressed = match &mut leg {
            Dressing::Sealed(outbound, macs) => {
                seal_one(outbound, &mut frame, &meta, way.mtu, *macs).map(|_| sealed += 1)
            }
            Dressing::Local(port) => write_ethernet(&mut frame, &meta, port, ROUTER_MAC, port.mac),
        };
        if let Err(reason) = dressed {
            in_port.drop(reason);
            continue;
        }
        let len = frame.bytes().len() as u64;
        match out.tx(frame) {
            Ok(()) => {
                sent += 1;
                sent_bytes += len;
            }
            Err(_refused) => in_port.drop(DropReason::TxFull),
        }
    }
    walk.counters.flow_hit.add(taken);
    walk.counters.sealed.add(sealed);
    in_port.forwarded.add(sent);
    let out = walk.counters.port(way.out);
    out.tx.add(sent);
    out.tx_bytes.add(sent_bytes);
    taken
}

/// A [`Leg`] with its SA in hand.
enum Dressing<'a> {
    Sealed(&'a mut Outbound, [Mac; 2]),
    Local(&'a PortState),
}

/// Whether it neither begins nor ends a connection, which is for the walk to see.
fn is_midst(meta: &Meta) -> bool {
    const TURNS: u8 = tcp_flag::SYN | tcp_flag::FIN | tcp_flag::RST;
    meta.protocol != proto::TCP || meta.tcp_flags & (TURNS | tcp_flag::ACK) == tcp_flag::ACK
}
