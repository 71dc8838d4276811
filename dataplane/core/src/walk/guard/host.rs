//! The host port speaks for this node and its ordinary pods, never for a pod behind a VF.

use super::{Arrival, Claim, Guarded, Neighbor, Question, is_local_pod};
use crate::addr::Addr;
use crate::crossing::{crossing, stricter};
use crate::meta::{FrameKind, NdKind};
use crate::reason::DropReason;
use crate::snapshot::{Encryption, Place, PortKind, ROUTER_MAC, Snapshot};

pub(super) fn guard(arrival: &Arrival<'_>) -> Guarded {
    let Arrival {
        snapshot,
        meta,
        frame,
        ..
    } = arrival;
    let of_a_pod =
        |p: &&crate::snapshot::PortState| p.kind == PortKind::Vf && p.mac == meta.eth_src;
    if snapshot.ports.iter().find(of_a_pod).is_some() {
        return Guarded::Drop(DropReason::SpoofedMac);
    }
    let unchanged = snapshot
        .uplink
        .map_or(Guarded::Drop(DropReason::NoPort), Guarded::Unchanged);
    match Neighbor::read(frame, meta) {
        Err(reason) => return Guarded::Drop(reason),
        Ok(Some(message)) => return guard_neighbor(arrival, message, unchanged),
        Ok(None) => {}
    }
    if meta.kind != FrameKind::Ip {
        return unchanged;
    }
    // Before anything that passes unjudged: router messages and multicast name a pod too.
    if is_local_pod(snapshot, meta.src) {
        return Guarded::Drop(DropReason::SpoofedIp);
    }
    if is_nobodys(snapshot, meta.src) {
        return Guarded::Drop(DropReason::IdentityUnknown);
    }
    if meta.nd != NdKind::None {
        return unchanged;
    }
    match snapshot.owner(meta.dst).map(|o| o.place) {
        Some(Place::LocalPod(_)) => Guarded::Track,
        Some(Place::RemotePod(peer)) => {
            let (source, destination) = (snapshot.owner(meta.src), snapshot.owner(meta.dst));
            let here = source.filter(|it| it.place == Place::LocalNode);
            // Who isn't of this node has no say.
            let setting = here
                .zip(destination)
                .map_or(Encryption::Required, |(a, b)| stricter(a, b));
            crossing(snapshot, peer, setting).map_or_else(Guarded::Drop, Guarded::Route)
        }
        // In clear it may not go either.
        Some(Place::Nobody) => Guarded::Drop(DropReason::IdentityUnknown),
        // What is at this machine goes by no wire. A kernel that doesn't know whose it is, as of a pod
        // whose VF is closed, would send it on to its gateway.
        Some(Place::LocalNode) => Guarded::Drop(DropReason::NoRoute),
        _ => unchanged,
    }
}

fn guard_neighbor(arrival: &Arrival<'_>, message: Neighbor, unchanged: Guarded) -> Guarded {
    let spoofed = match arrival.meta.kind {
        FrameKind::Arp => DropReason::SpoofedArp,
        _ => DropReason::SpoofedNd,
    };
    match message {
        Neighbor::Question(Question {
            sender,
            target,
            probe,
            ..
        }) => {
            if is_local_pod(arrival.snapshot, sender) {
                Guarded::Drop(spoofed)
            } else if is_pod(arrival.snapshot, target) {
                // Only a probe asks without a sender: an address taken by a pod is taken.
                if probe {
                    Guarded::Drop(spoofed)
                } else {
                    Guarded::Answer(ROUTER_MAC)
                }
            } else {
                unchanged
            }
        }
        Neighbor::Claim(Claim { addr, sender, .. })
            if is_local_pod(arrival.snapshot, addr) || is_local_pod(arrival.snapshot, sender) =>
        {
            Guarded::Drop(spoofed)
        }
        Neighbor::Claim(_) => unchanged,
    }
}

fn is_nobodys(snapshot: &Snapshot, addr: Addr) -> bool {
    snapshot.owner(addr).map(|o| o.place) == Some(Place::Nobody)
}

/// Whether the host reaches an address through the dataplane. It reaches its gateway by itself,
/// whatever anybody says of the gateway's address.
fn is_pod(snapshot: &Snapshot, addr: Addr) -> bool {
    let mut interfaces = snapshot.interfaces.iter();
    if interfaces.any(|it| it.gateway == Some(addr)) {
        return false;
    }
    matches!(
        snapshot.owner(addr).map(|o| o.place),
        Some(Place::LocalPod(_) | Place::RemotePod(_) | Place::Nobody)
    )
}
