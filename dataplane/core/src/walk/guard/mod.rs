//! Stage guard: may this port send this frame, and is it a packet, a question or not ours?
//!
//! Each kind of port has its file: a pure function from frame to [`Guarded`]. This file
//! does what it says.

mod host;
mod uplink;
mod vf;

use crate::addr::{Addr, Mac};
use crate::batch::Path;
use crate::meta::{FrameKind, Meta, NdKind};
use crate::neighbor::Neighbors;
use crate::port::{Frame, Port};
use crate::reason::DropReason;
use crate::route::Attach;
use crate::snapshot::{Peer, PeerIndex, Place, PortIndex, PortKind, PortState, Snapshot};
use crate::walk::Walk;
use crate::walk::neighbors::learn;
use crate::wire::{arp, nd};

/// What becomes of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Guarded {
    /// On to the flow table.
    Track,
    /// ESP for us.
    Open,
    /// A router's word to us on the size of what we sealed.
    TooBig,
    /// To another node without judgement here.
    Route(Attach),
    /// In clear from another node, as both ends let it; by this port if it isn't for a pod
    /// under judgement.
    Clear(PeerIndex, Option<PortIndex>),
    /// Out by a port as it is.
    Unchanged(PortIndex),
    /// A question for a neighbour, answered with this MAC.
    Answer(Mac),
    /// An answer to a question of ours.
    Learn(Addr, Mac),
    /// Not let in.
    Drop(DropReason),
}

/// What a guard looks at.
pub(crate) struct Arrival<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) port: &'a PortState,
    pub(crate) meta: &'a Meta,
    pub(crate) frame: &'a [u8],
}

pub(crate) fn guard<P: Port>(walk: &mut Walk<'_, P>) {
    let port = walk.snapshot.port(walk.batch.in_port);
    walk.each(u32::MAX, |walk, at| {
        let snapshot = walk.snapshot;
        let Some(slot) = walk.batch.slot(at) else {
            return;
        };
        let Some(frame) = slot.frame.as_ref() else {
            return;
        };
        let arrival = Arrival {
            snapshot,
            port: &port,
            meta: &slot.meta,
            frame: frame.bytes(),
        };
        let guarded = match port.kind {
            PortKind::Vf => vf::guard(&arrival),
            PortKind::Host => host::guard(&arrival),
            PortKind::Uplink => uplink::guard(&arrival),
            PortKind::Closed => Guarded::Drop(DropReason::NoEndpoint),
        };
        match guarded {
            Guarded::Track => slot.path = Path::Tracked,
            Guarded::Open => {
                slot.path = Path::Esp;
                walk.batch.esp |= 1 << at;
            }
            Guarded::TooBig => {
                slot.path = Path::TooBig;
                walk.batch.too_big |= 1 << at;
            }
            Guarded::Route(to) => {
                slot.path = Path::Routed;
                slot.to = to;
            }
            Guarded::Clear(node, out) => {
                let meta = slot.meta;
                if !is_macs_of(snapshot, walk.neighbors, node, meta.eth_src) {
                    walk.drop(at, DropReason::SpoofedMac);
                    return;
                }
                slot.from = Attach::Clear(node);
                slot.path = Path::Tracked;
                if let Some(out) = out {
                    slot.path = Path::Routed;
                    slot.to = Attach::Port(out);
                }
            }
            Guarded::Unchanged(out) => {
                slot.path = Path::Unchanged;
                slot.to = Attach::Port(out);
            }
            Guarded::Answer(mac) => answer(walk, at, mac),
            Guarded::Learn(addr, mac) => {
                if walk.batch.take(at).is_some() {
                    walk.counters.port(walk.batch.in_port).consumed.add(1);
                    learn(walk, addr, mac);
                }
            }
            Guarded::Drop(reason) => walk.drop(at, reason),
        }
    });
}

/// Whether a frame in clear can be from a node by its source MAC. Where the node's dataplane
/// is on the link its MAC is known; past a router, or without a dataplane, any may be.
fn is_macs_of<F>(snapshot: &Snapshot, neighbors: &Neighbors<F>, node: PeerIndex, mac: Mac) -> bool {
    let Some(Peer::Protected { tunnel }) = snapshot.peer(node) else {
        return true;
    };
    let interface = snapshot.interface_for(tunnel);
    interface.and_then(|it| it.next_hop(tunnel)) != Some(tunnel)
        || neighbors.mac(tunnel) == Some(mac)
}

/// Turns a question into its answer and sends it back.
fn answer<P: Port>(walk: &mut Walk<'_, P>, at: usize, mac: Mac) {
    let in_port = walk.batch.in_port;
    let Some(slot) = walk.batch.slot(at) else {
        return;
    };
    let meta = slot.meta;
    let Some(frame) = slot.frame.as_mut() else {
        return;
    };
    let turned = match meta.kind {
        FrameKind::Arp => arp::reply_in_place(frame.bytes_mut(), &meta, mac),
        _ => nd::Nd::read(frame.bytes(), &meta)
            .is_ok_and(|message| nd::advertise_in_place(frame, &meta, &message, mac, true)),
    };
    if !turned {
        walk.drop(at, DropReason::NoHeadroom);
        return;
    }
    if let Some(frame) = walk.batch.take(at) {
        walk.counters.port(in_port).consumed.add(1);
        walk.originate(in_port, frame);
    }
}

/// A question about a neighbour, ARP or ND, in one shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Question {
    /// The address of who asks; unspecified in a probe for one's own address.
    pub(crate) sender: Addr,
    /// The MAC of who asks, as the message says.
    pub(crate) sender_mac: Mac,
    /// The address asked for.
    pub(crate) target: Addr,
    /// A probe: nobody must answer for its sender.
    pub(crate) probe: bool,
}

/// An answer about a neighbour, ARP or ND, in one shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Claim {
    /// The address of who claims; in ARP the one that is claimed.
    pub(crate) sender: Addr,
    /// The address.
    pub(crate) addr: Addr,
    /// Where it is said to be.
    pub(crate) mac: Mac,
}

/// A neighbour message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Neighbor {
    Question(Question),
    Claim(Claim),
}

impl Neighbor {
    /// Reads ARP, neighbour solicitations and advertisements; `None` if it is none of
    /// these, an error if it is one that its RFC says to discard.
    pub(crate) fn read(frame: &[u8], meta: &Meta) -> Result<Option<Self>, DropReason> {
        match (meta.kind, meta.nd) {
            (FrameKind::Arp, _) => read_arp(frame, meta).map(Some),
            (_, NdKind::NeighborSolicit | NdKind::NeighborAdvert) => read_nd(frame, meta).map(Some),
            _ => Ok(None),
        }
    }
}

fn read_arp(frame: &[u8], meta: &Meta) -> Result<Neighbor, DropReason> {
    let arp = arp::Arp::read(frame, meta).ok_or(DropReason::Malformed)?;
    Ok(match arp.op {
        arp::OP_REQUEST => Neighbor::Question(Question {
            sender: arp.sender_ip,
            sender_mac: arp.sender_mac,
            target: arp.target_ip,
            probe: arp.is_probe(),
        }),
        arp::OP_REPLY => Neighbor::Claim(Claim {
            sender: arp.sender_ip,
            addr: arp.sender_ip,
            mac: arp.sender_mac,
        }),
        _ => return Err(DropReason::Malformed),
    })
}

fn read_nd(frame: &[u8], meta: &Meta) -> Result<Neighbor, DropReason> {
    let message = nd::Nd::read(frame, meta)?;
    let mac = message.link_layer.unwrap_or(meta.eth_src);
    Ok(if message.kind == NdKind::NeighborSolicit {
        Neighbor::Question(Question {
            sender: meta.src,
            sender_mac: mac,
            target: message.target,
            probe: message.is_probe,
        })
    } else {
        Neighbor::Claim(Claim {
            sender: meta.src,
            addr: message.target,
            mac,
        })
    })
}

/// Whether an address belongs to a pod of this node.
pub(crate) fn is_local_pod(snapshot: &Snapshot, addr: Addr) -> bool {
    matches!(
        snapshot.owner(addr).map(|o| o.place),
        Some(Place::LocalPod(_))
    )
}

/// IPv4 multicast and limited broadcast, IPv6 multicast.
pub(crate) fn is_group(addr: Addr) -> bool {
    if addr.is_v4() {
        let [first, ..] = addr.to_v4();
        first >= 224
    } else {
        addr.to_v6()[0] == 0xff
    }
}

/// The ethernet link-local address of a MAC (RFC 4291 appendix A, RFC 2464 section 4):
/// what a pod's kernel asks its neighbours with.
pub(crate) const fn link_local(mac: Mac) -> Addr {
    let [a, b, c, d, e, f] = mac.0;
    Addr::v6([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ])
}
