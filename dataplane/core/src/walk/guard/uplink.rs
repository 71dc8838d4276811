//! The wire: ESP for us is opened; plaintext reaches a pod only from outside the cluster.

use sluice_crypto::esp::PORT_NAT_T;

use super::{Arrival, Claim, Guarded, Neighbor, Question, is_group, is_local_pod};
use crate::addr::Addr;
use crate::crossing::{crossing, stricter};
use crate::meta::{FragKind, FrameKind, Meta, NdKind, proto};
use crate::mutant::{self, Mutant};
use crate::reason::DropReason;
use crate::route::Attach;
use crate::snapshot::{PeerIndex, Place, Snapshot};
use crate::table::prefix::Owner;
use crate::wire::icmp;

pub(super) fn guard(arrival: &Arrival<'_>) -> Guarded {
    let Arrival {
        snapshot,
        port,
        meta,
        frame,
    } = arrival;
    let unchanged = snapshot
        .host
        .map_or(Guarded::Drop(DropReason::NoRoute), Guarded::Unchanged);
    if meta.vlan != 0 {
        // The underlay is untagged; tagged frames are the host's own business.
        return unchanged;
    }
    match Neighbor::read(frame, meta) {
        Err(reason) => return Guarded::Drop(reason),
        Ok(Some(message)) => return guard_neighbor(arrival, message, unchanged),
        Ok(None) => {}
    }
    if meta.kind != FrameKind::Ip {
        return unchanged;
    }
    if meta.src.is_martian() && is_local_pod(snapshot, meta.dst) {
        return Guarded::Drop(DropReason::SpoofedIp);
    }
    // Before anything that passes unjudged: router messages and multicast name a pod too.
    if is_ours(snapshot, meta.src) {
        return Guarded::Drop(DropReason::SpoofedIp);
    }
    if meta.nd != NdKind::None || is_group(meta.dst) {
        return unchanged;
    }
    if snapshot.is_own(meta.dst) {
        // A fragment of ESP can't be opened, and has no SPI after the first.
        if meta.frag != FragKind::Whole {
            return Guarded::Drop(DropReason::Fragment);
        }
        return if meta.eth_dst != port.mac {
            Guarded::Drop(DropReason::NotForUs)
        } else if is_esp(meta) {
            Guarded::Open
        } else if icmp::quoted_mtu(frame, meta).is_some() {
            Guarded::TooBig
        } else {
            Guarded::Drop(DropReason::NotForUs)
        };
    }
    guard_plaintext(arrival, unchanged)
}

fn is_esp(meta: &Meta) -> bool {
    meta.protocol == proto::ESP || meta.protocol == proto::UDP && meta.dst_port == PORT_NAT_T
}

/// Whether an address is this dataplane's or one of its pods': the wire never speaks as it.
fn is_ours(snapshot: &Snapshot, addr: Addr) -> bool {
    is_local_pod(snapshot, addr) || snapshot.is_own(addr)
}

fn guard_plaintext(arrival: &Arrival<'_>, unchanged: Guarded) -> Guarded {
    let Arrival {
        snapshot,
        port,
        meta,
        ..
    } = arrival;
    let (source, destination) = (snapshot.owner(meta.src), snapshot.owner(meta.dst));
    let place = |owner: Option<Owner>| owner.map(|o| o.place);
    match (place(destination), place(source)) {
        // Transport mode, from host to pod: if the node has such an SA. What isn't
        // ESP after all is lost, also where both ends let it come in clear.
        (Some(Place::LocalPod(_)), Some(Place::RemoteNode(_)))
            if is_esp(meta) && meta.eth_dst == port.mac =>
        {
            if meta.frag == FragKind::Whole {
                Guarded::Open
            } else {
                Guarded::Drop(DropReason::Fragment)
            }
        }
        (Some(Place::LocalPod(_)), Some(Place::RemotePod(_)))
            if mutant::is(Mutant::PlaintextLetIn) =>
        {
            Guarded::Track
        }
        (Some(to), Some(Place::RemotePod(node) | Place::RemoteNode(node)))
            if may_be_clear(snapshot, node, source.zip(destination)) && is_taken(arrival, to) =>
        {
            match to {
                Place::LocalPod(_) => Guarded::Clear(node, None),
                _ => snapshot
                    .host
                    .map_or(Guarded::Drop(DropReason::NoPort), |host| {
                        Guarded::Clear(node, Some(host))
                    }),
            }
        }
        // Between pods and nodes of the cluster PROTECT is what policy wants
        // (RFC 4301 section 5.2: inbound that bypassed where it should not have).
        (
            Some(Place::LocalPod(_)),
            Some(Place::RemotePod(_) | Place::Nobody | Place::RemoteNode(_) | Place::LocalNode),
        )
        | (_, Some(Place::RemotePod(_) | Place::Nobody)) => Guarded::Drop(DropReason::Plaintext),
        (Some(Place::LocalPod(_)), _) if meta.eth_dst == port.mac => Guarded::Track,
        (Some(Place::LocalPod(_) | Place::RemotePod(_) | Place::Nobody), _) => {
            Guarded::Drop(DropReason::NotForUs)
        }
        _ => unchanged,
    }
}

/// Whether both ends let a packet from another node come in clear, to a pod or from one.
fn may_be_clear(snapshot: &Snapshot, node: PeerIndex, ends: Option<(Owner, Owner)>) -> bool {
    let Some((source, destination)) = ends else {
        return false;
    };
    let with_a_pod = match destination.place {
        Place::LocalPod(_) => true,
        Place::LocalNode => matches!(source.place, Place::RemotePod(_)),
        _ => false,
    };
    with_a_pod && crossing(snapshot, node, stricter(source, destination)) == Ok(Attach::Clear(node))
}

/// Whether a frame has the MAC that its destination is known by on the wire: the host answers
/// for itself there.
fn is_taken(arrival: &Arrival<'_>, to: Place) -> bool {
    let Arrival {
        snapshot,
        port,
        meta,
        ..
    } = arrival;
    let host = snapshot.host.filter(|_| to == Place::LocalNode);
    meta.eth_dst == port.mac || host.is_some_and(|it| snapshot.port(it).mac == meta.eth_dst)
}

fn guard_neighbor(arrival: &Arrival<'_>, message: Neighbor, unchanged: Guarded) -> Guarded {
    let Arrival {
        snapshot,
        port,
        meta,
        ..
    } = arrival;
    match message {
        Neighbor::Question(Question {
            sender,
            target,
            probe,
            ..
        }) => {
            if is_ours(snapshot, sender) {
                return Guarded::Drop(match meta.kind {
                    FrameKind::Arp => DropReason::SpoofedArp,
                    _ => DropReason::SpoofedNd,
                });
            }
            if !(snapshot.is_own(target) || is_local_pod(snapshot, target)) {
                unchanged
            } else if probe {
                Guarded::Drop(DropReason::NeighborProbe)
            } else {
                Guarded::Answer(port.mac)
            }
        }
        Neighbor::Claim(Claim { addr, mac, .. }) if meta.eth_dst == port.mac => {
            Guarded::Learn(addr, mac)
        }
        Neighbor::Claim(_) => unchanged,
    }
}
