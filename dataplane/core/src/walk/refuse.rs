//! What is too long for its way: dropped, and its sender told the size that would pass
//! (RFC 1191, RFC 8201), as often as the budget allows.
//!
//! The error quotes the packet, so it goes back the way the packet came: sealed if that
//! was sealed. A quote in clear would undo what the tunnel is for.

use sluice_crypto::esp::{NEXT_HEADER_IPV4, NEXT_HEADER_IPV6};

use crate::addr::{Addr, Mac};
use crate::meta::Meta;
use crate::port::{Frame, Port};
use crate::reason::DropReason;
use crate::route::Attach;
use crate::sad::Child;
use crate::snapshot::{PeerIndex, PortIndex, PortKind, ROUTER_MAC, Snapshot};
use crate::steer::{Handed, How};
use crate::walk::Walk;
use crate::walk::seal::{accepts, seal_one};
use crate::wire::{self, ethernet, icmp};

/// Drops a frame that is longer than the `mtu` of its way.
pub(crate) fn refuse_size<P: Port>(walk: &mut Walk<'_, P>, at: usize, mtu: u16) {
    let in_port = walk.batch.in_port;
    let Some(slot) = walk.batch.slot(at) else {
        return;
    };
    let (meta, from, to) = (slot.meta, slot.from, slot.to);
    let Some(mut frame) = walk.batch.take(at) else {
        return;
    };
    walk.counters.port(in_port).drop(DropReason::TooBig);
    if !walk
        .budgets
        .spend(payer(walk.snapshot, in_port, to), walk.now)
    {
        return;
    }
    let (mac, name) = speaker(walk, &meta, from);
    if !icmp::too_big_in_place(&mut frame, &meta, mtu, mac, name) {
        return;
    }
    match from {
        Attach::Port(_) | Attach::Clear(_) => walk.originate(in_port, frame),
        Attach::Peer(peer) => originate_sealed(walk, peer, frame, &meta),
    }
}

/// On whose account an error goes: the VF's that the packet came by, or is for.
fn payer(snapshot: &Snapshot, from: PortIndex, to: Attach) -> PortIndex {
    match to {
        Attach::Port(port) if snapshot.port(from).kind != PortKind::Vf => port,
        _ => from,
    }
}

/// Whose MAC and address an error carries.
fn speaker<P: Port>(walk: &Walk<'_, P>, meta: &Meta, from: Attach) -> (Mac, Addr) {
    let in_port = walk.snapshot.port(walk.batch.in_port);
    let mac = match in_port.kind {
        // The router's is the same on every node: on the wire it would be everywhere.
        PortKind::Uplink => in_port.mac,
        _ => ROUTER_MAC,
    };
    let own = walk.snapshot.interface_for(meta.src).map(|i| i.addr);
    let name = match from {
        Attach::Port(_) | Attach::Clear(_) => own.unwrap_or(meta.dst),
        // In a tunnel only the node's pods and the node itself may speak.
        Attach::Peer(_) => meta.dst,
    };
    (mac, name)
}

/// Sends an error about a packet that came out of a tunnel back into it. Where that isn't
/// possible right now there is no error: the next packet too long brings another.
fn originate_sealed<P: Port>(
    walk: &mut Walk<'_, P>,
    peer: PeerIndex,
    frame: P::Frame,
    refused: &Meta,
) {
    let next_header = if refused.src.is_v4() {
        NEXT_HEADER_IPV4
    } else {
        NEXT_HEADER_IPV6
    };
    let (l3_off, end) = (usize::from(refused.l3_off), frame.bytes().len());
    let Ok(meta) = wire::parse_inner(frame.bytes(), l3_off, end, next_header) else {
        return;
    };
    seal_and_send(walk, peer, frame, &meta);
}

/// The same once it is a packet, by the worker who has the SA.
pub(crate) fn seal_and_send<P: Port>(
    walk: &mut Walk<'_, P>,
    peer: PeerIndex,
    mut frame: P::Frame,
    meta: &Meta,
) {
    let Some(uplink) = walk.snapshot.uplink else {
        return;
    };
    let (outbound, path) = match walk.sad.outbound_mut(peer, meta) {
        Some(Child::Here(outbound, path)) => (outbound, path),
        Some(Child::Elsewhere(number)) => {
            let owner = walk.handoff.shares().of_child(number);
            let handed = Handed {
                in_port: uplink,
                frame,
                how: How::Originated {
                    meta: *meta,
                    to: peer,
                },
            };
            // Without room there is no error, as without an SA.
            if walk.handoff.hand(owner, handed).is_ok() {
                walk.counters.handed.add(1);
            }
            return;
        }
        None => return,
    };
    let port = walk.snapshot.port(uplink);
    let link_mtu = path.within(usize::from(port.mtu), walk.now);
    let mtu = outbound.packet_mtu(link_mtu, meta.l3_header_len());
    if meta.l3_len() > mtu || !accepts(outbound, meta) {
        return;
    }
    let macs = [meta.eth_src, meta.eth_dst];
    let Ok(destination) = seal_one(outbound, &mut frame, meta, mtu, &macs) else {
        return;
    };
    walk.counters.sealed.add(1);
    let next_hop = walk
        .snapshot
        .interface_for(destination)
        .and_then(|i| i.next_hop(destination));
    if let Some(mac) = next_hop.and_then(|hop| walk.neighbors.mac(hop))
        && ethernet::rewrite(frame.bytes_mut(), port.mac, mac)
    {
        walk.originate(uplink, frame);
    }
}
