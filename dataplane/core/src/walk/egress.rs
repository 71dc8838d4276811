//! Stage egress: what is still on its way leaves by its port with the right MACs.

use crate::addr::{Addr, Mac};
use crate::batch::Path;
use crate::clear::{ClearPair, Way};
use crate::meta::Meta;
use crate::mutant::{self, Mutant};
use crate::neighbor::{Neighbors, Waiting};
use crate::port::{Frame, Port};
use crate::reason::DropReason;
use crate::route::Attach;
use crate::snapshot::{PortIndex, PortKind, PortState, ROUTER_MAC, Snapshot};
use crate::tick::Tick;
use crate::walk::Walk;
use crate::walk::refuse::refuse_size;
use crate::wire::ethernet;

/// The way that the packet before went, for a burst's packets that go one way: where to, and
/// the MACs.
pub(crate) type LastHop = Option<(Addr, [Mac; 2])>;

pub(crate) fn egress<P: Port>(walk: &mut Walk<'_, P>) {
    let mut last = LastHop::default();
    walk.each(u32::MAX, |walk, at| {
        let Some(slot) = walk.batch.slot(at) else {
            return;
        };
        let from = slot.from;
        let (out, node) = match (slot.to, walk.snapshot.uplink) {
            (Attach::Port(out), _) => (out, None),
            (Attach::Clear(node), Some(uplink)) => (uplink, Some(node)),
            (Attach::Clear(_), None) => {
                walk.drop(at, DropReason::NoPort);
                return;
            }
            (Attach::Peer(_), _) => {
                // Seal left none of these; if it did, nothing leaves in clear.
                walk.drop(at, DropReason::NoSa);
                return;
            }
        };
        if slot.path == Path::Unchanged {
            walk.send(at, out);
            return;
        }
        let port = walk.snapshot.port(out);
        if slot.meta.l3_len() > usize::from(port.mtu) {
            refuse_size(walk, at, port.mtu);
            return;
        }
        // A dataplane takes what is for its pods; one that is past a router is behind the same
        // router as its pods.
        let meta = slot.meta;
        let tunnel = node.and_then(|node| walk.snapshot.peer(node)?.tunnel());
        let destination = tunnel.unwrap_or(meta.dst);
        let Some(frame) = slot.frame.as_mut() else {
            return;
        };
        let written = match port.kind {
            PortKind::Vf | PortKind::Host => {
                write_ethernet(frame, &meta, &port, ROUTER_MAC, port.mac)
            }
            // The MACs follow with the next hop.
            PortKind::Uplink => write_ethernet(frame, &meta, &port, port.mac, port.mac),
            PortKind::Closed => Err(DropReason::NoPort),
        };
        let clear = match (node, from) {
            (Some(node), _) => Some((node, Way::Sent)),
            (None, Attach::Clear(node)) => Some((node, Way::Received)),
            (None, Attach::Port(_) | Attach::Peer(_)) => None,
        };
        let clear = clear.map(|(node, way)| walk.crossing(&meta, node, way));
        match (written, port.kind) {
            (Err(reason), _) => walk.drop(at, reason),
            (Ok(()), PortKind::Uplink) => {
                to_next_hop_as(walk, at, out, destination, clear, &mut last)
            }
            (Ok(()), PortKind::Vf) if mutant::is(Mutant::WrongVf) => {
                walk.send(at, PortIndex(out.0 + 1));
            }
            (Ok(()), _) => walk.send_as(at, out, clear),
        }
    });
}

/// Puts an Ethernet header, with the port's VLAN tag if it has one, in front of the packet
/// in place of whatever was there.
pub(crate) fn write_ethernet<F: Frame>(
    frame: &mut F,
    meta: &Meta,
    port: &PortState,
    src: Mac,
    dst: Mac,
) -> Result<(), DropReason> {
    let header_len = ethernet::header_len(port.vlan);
    let l3_off = usize::from(meta.l3_off);
    frame.truncate(usize::from(meta.l3_end));
    if l3_off >= header_len {
        frame.trim_front(l3_off - header_len);
    } else if !frame.grow_front(header_len - l3_off) {
        return Err(DropReason::NoHeadroom);
    }
    let ethertype = if meta.src.is_v4() {
        ethernet::ETHERTYPE_IPV4
    } else {
        ethernet::ETHERTYPE_IPV6
    };
    if ethernet::write_tagged(frame.bytes_mut(), src, dst, port.vlan, ethertype) {
        Ok(())
    } else {
        Err(DropReason::NoHeadroom)
    }
}

/// The MACs of a frame that leaves by the uplink towards an IP destination, ours and the next
/// hop's, if that is known.
pub(crate) fn macs_to<F>(
    snapshot: &Snapshot,
    neighbors: &mut Neighbors<F>,
    uplink: PortIndex,
    destination: Addr,
    now: Tick,
) -> Option<[Mac; 2]> {
    let next_hop = snapshot.interface_for(destination)?.next_hop(destination)?;
    Some([
        snapshot.port(uplink).mac,
        neighbors.mac_to_use(next_hop, now)?,
    ])
}

/// Sends a frame by the uplink towards an IP destination; if the next hop's MAC isn't
/// known it waits.
#[inline]
pub(crate) fn to_next_hop<P: Port>(
    walk: &mut Walk<'_, P>,
    at: usize,
    uplink: PortIndex,
    destination: Addr,
    last: &mut LastHop,
) {
    to_next_hop_as(walk, at, uplink, destination, None, last);
}

fn to_next_hop_as<P: Port>(
    walk: &mut Walk<'_, P>,
    at: usize,
    uplink: PortIndex,
    destination: Addr,
    clear: Option<ClearPair>,
    last: &mut LastHop,
) {
    let known = last.filter(|(to, _)| *to == destination);
    let [own, mac] = if let Some((_, macs)) = known {
        macs
    } else {
        let interface = walk.snapshot.interface_for(destination);
        let Some(next_hop) = interface.and_then(|i| i.next_hop(destination)) else {
            walk.drop(at, DropReason::NoRoute);
            return;
        };
        let own = walk.snapshot.port(uplink).mac;
        let Some(mac) = walk.neighbors.mac_to_use(next_hop, walk.now) else {
            wait(walk, at, next_hop, clear);
            return;
        };
        *last = Some((destination, [own, mac]));
        [own, mac]
    };
    let Some(slot) = walk.slot(at) else { return };
    match slot
        .frame
        .as_mut()
        .map(|f| ethernet::rewrite(f.bytes_mut(), own, mac))
    {
        Some(true) => walk.send_as(at, uplink, clear),
        _ => walk.drop(at, DropReason::NoHeadroom),
    }
}

fn wait<P: Port>(walk: &mut Walk<'_, P>, at: usize, next_hop: Addr, clear: Option<ClearPair>) {
    let in_port = walk.batch.in_port;
    let generation = walk.snapshot.newest_generation(in_port);
    let wanted = walk.neighbors.want(next_hop, in_port, walk.now);
    // What is in clear may have to be sealed by the time that the answer comes, and no
    // generation of an endpoint would tell.
    let may_change = walk.snapshot.endpoint_of(in_port).is_none() && clear.is_some();
    if !wanted || may_change {
        walk.drop(at, DropReason::NextHop);
        return;
    }
    let Some(frame) = walk.batch.take(at) else {
        return;
    };
    let waiting = Waiting {
        next_hop,
        in_port,
        generation,
        frame,
        clear,
    };
    match walk.neighbors.hold(waiting, walk.now) {
        Ok(()) => walk.counters.port(in_port).waiting.add(1),
        Err(_frame) => walk.counters.port(in_port).drop(DropReason::NextHop),
    }
}
