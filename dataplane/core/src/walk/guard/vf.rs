//! A VF sends as its own pod or not at all: MAC, VLAN, IP, ARP and ND.

use super::{Arrival, Claim, Guarded, Neighbor, Question, is_group, link_local};
use crate::addr::Addr;
use crate::meta::{FrameKind, Meta, NdKind, proto};
use crate::mutant;
use crate::reason::DropReason;
use crate::snapshot::{Endpoint, ROUTER_MAC};

/// Ports that only a DHCP server sends from (RFC 2131 section 4.1, RFC 8415 section 7.2).
const DHCP_SERVER_PORT: u16 = 67;
const DHCPV6_SERVER_PORT: u16 = 547;

pub(super) fn guard(arrival: &Arrival<'_>) -> Guarded {
    let Arrival {
        snapshot,
        port,
        meta,
        frame,
    } = arrival;
    let Some(endpoint) = port.endpoint.and_then(|e| snapshot.endpoint(e)) else {
        return Guarded::Drop(DropReason::NoEndpoint);
    };
    if meta.eth_src != port.mac {
        return Guarded::Drop(DropReason::SpoofedMac);
    }
    if meta.vlan != port.vlan {
        return Guarded::Drop(DropReason::SpoofedVlan);
    }
    match Neighbor::read(frame, meta) {
        Err(reason) => return Guarded::Drop(reason),
        Ok(Some(message)) => return guard_neighbor(arrival, endpoint, message),
        Ok(None) => {}
    }
    match (meta.kind, meta.nd) {
        (FrameKind::Ip, NdKind::None) => {}
        (FrameKind::Ip, NdKind::RouterSolicit | NdKind::Mld) => {
            return Guarded::Drop(DropReason::Multicast);
        }
        (FrameKind::Ip, _) => return Guarded::Drop(DropReason::SpoofedNd),
        _ => return Guarded::Drop(DropReason::EtherType),
    }
    if !endpoint.addrs.contains(&meta.src) && !mutant::any_source(meta.src.is_v4()) {
        return Guarded::Drop(unowned_source(meta));
    }
    if meta.protocol == proto::UDP && matches!(meta.src_port, DHCP_SERVER_PORT | DHCPV6_SERVER_PORT)
    {
        return Guarded::Drop(DropReason::DhcpServer);
    }
    if meta.eth_dst.is_group() || is_group(meta.dst) {
        return Guarded::Drop(DropReason::Multicast);
    }
    if meta.eth_dst != ROUTER_MAC {
        return Guarded::Drop(DropReason::NotForUs);
    }
    Guarded::Track
}

/// A DHCP client or a kernel coming up speaks from the unspecified address: noise, not
/// an attack. Anything else that isn't the pod's is.
fn unowned_source(meta: &Meta) -> DropReason {
    let unspecified = meta.src == Addr::UNSPECIFIED || meta.src == Addr::v4([0; 4]);
    let link_local = meta.src == link_local(meta.eth_src);
    if (unspecified || link_local) && is_group(meta.dst) {
        DropReason::Multicast
    } else {
        DropReason::SpoofedIp
    }
}

fn guard_neighbor(arrival: &Arrival<'_>, endpoint: &Endpoint, message: Neighbor) -> Guarded {
    let meta = arrival.meta;
    let spoofed = match meta.kind {
        FrameKind::Arp => DropReason::SpoofedArp,
        _ => DropReason::SpoofedNd,
    };
    let owns = |addr| endpoint.addrs.contains(&addr) || addr == link_local(meta.eth_src);
    match message {
        Neighbor::Question(Question {
            sender,
            sender_mac,
            target,
            probe,
        }) => {
            if sender_mac != meta.eth_src || !(probe || owns(sender)) {
                Guarded::Drop(spoofed)
            } else if probe || owns(target) {
                // Duplicate address detection or a gratuitous announcement: an answer
                // would tell the pod that somebody has its address.
                if owns(target) {
                    Guarded::Drop(DropReason::NeighborProbe)
                } else {
                    Guarded::Drop(spoofed)
                }
            } else {
                Guarded::Answer(ROUTER_MAC)
            }
        }
        Neighbor::Claim(Claim { sender, addr, mac }) => {
            if mac == meta.eth_src && owns(addr) && owns(sender) {
                Guarded::Drop(DropReason::NeighborProbe)
            } else {
                Guarded::Drop(spoofed)
            }
        }
    }
}
