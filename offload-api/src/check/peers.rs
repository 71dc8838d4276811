//! Peers: where their ESP goes.

use core::net::IpAddr;

use super::{Check, Claim, Station, is_station};
use crate::refusal::{Refusal, RefusalReason};
use crate::transaction::Key;

impl Check<'_> {
    pub(super) fn peers(&self) -> Result<(), Refusal> {
        for peer in self.state.peers.values() {
            let key = || Key::Peer(peer.node.clone());
            if peer.unprotected {
                // Whether it has a dataplane decides what may go there in clear.
                let Some(&ip) = peer.tunnel_ips.first() else {
                    continue;
                };
                let node = peer.node.clone();
                let why = RefusalReason::TunnelOfUnprotected { node, ip };
                return self.fault(&key(), "unprotected", why);
            }
            if peer.tunnel_ips.is_empty() {
                return self.fault(&key(), "tunnel_ips", RefusalReason::NoIps);
            }
            let mut families = [false; 2];
            for (index, &ip) in peer.tunnel_ips.iter().enumerate() {
                let seen = &mut families[usize::from(ip.is_ipv6())];
                let why = if !is_station(ip) {
                    RefusalReason::IpNotUnicast { ip }
                } else if core::mem::replace(seen, true) {
                    RefusalReason::SecondOfFamily { ip }
                } else {
                    continue;
                };
                return self.fault(&key(), &format!("tunnel_ips[{index}]"), why);
            }
        }
        Ok(())
    }

    /// The peers' addresses.
    pub(super) fn peer_ips(&self) -> impl Iterator<Item = (IpAddr, Claim<Station<'_>>)> {
        self.state.peers.values().flat_map(|peer| {
            peer.tunnel_ips.iter().enumerate().map(|(index, &ip)| {
                let claim = Claim {
                    key: Key::Peer(peer.node.clone()),
                    field: format!("tunnel_ips[{index}]"),
                    holder: Station::Peer(peer),
                };
                (ip, claim)
            })
        })
    }
}
