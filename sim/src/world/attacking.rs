//! What an attacker may try: another one's address, frames that were on the wire before, and
//! frames that no pod may send.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sluice_dataplane_core::addr::Mac;
use sluice_dataplane_core::meta::proto;
use sluice_dataplane_core::wire::arp;
use sluice_dataplane_core::wire::build::{Body, FrameSpec, fragments};
use sluice_offload_api::model::Protocol;

use super::World;
use super::net::At;
use super::probing::{PLAIN, Question, packet};
use super::station::Station;
use super::wire_check::is_esp;
use crate::input::{Attack, Send};
use crate::probe::{Family, Party, Probe, ProbeError};
use crate::sighting::Way;

/// Everybody on a link, and every IPv6 node of it (RFC 4291 section 2.7.1).
const BROADCAST: Mac = Mac([0xff; 6]);
const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Of neighbour discovery (RFC 4861 section 7.1.2).
const HOP_LIMIT: u8 = 255;
/// ICMPv6 types (RFC 4861 sections 4.2 and 4.4), and the option with a link-layer address.
const ROUTER_ADVERT: u8 = 134;
const NEIGHBOR_ADVERT: u8 = 136;
const OVERRIDE: u8 = 0x20;
const TARGET_LINK_LAYER: u8 = 2;
/// DHCP's ports (RFC 2131 section 4.1), and BOOTREPLY.
const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
const BOOTREPLY: u8 = 2;
/// The first port of a flood.
const FLOOD_PORT: u16 = 1_024;
/// Flows of a flood of UDP that are answered at a time.
const ANSWERED_TOGETHER: usize = 16;

impl World {
    /// Sends what nobody may send, or too much of what one may: what it was, and how many
    /// frames of it came to somebody or onto the wire. A flood's may, each for itself.
    ///
    /// # Errors
    /// [`ProbeError`] if it can't be sent.
    pub fn attack(&mut self, attack: &Attack) -> Result<(String, usize), ProbeError> {
        self.marks.add("attacked");
        let (from, frame, about) = match attack {
            Attack::Flood { probe, frames } => {
                self.flood(probe, *frames)?;
                let protocol = format!("{:?}", probe.protocol).to_uppercase();
                let (from, to) = (&probe.from, &probe.to);
                return Ok((
                    format!("{frames} flows of {protocol} from {from} to {to}"),
                    0,
                ));
            }
            Attack::RogueNode {
                address_of, probe, ..
            } => {
                let passed = self.rogue(probe, address_of)?;
                let (from, to) = (&probe.from, &probe.to);
                return Ok((
                    format!("the node of {from} speaks as {address_of} to {to}"),
                    passed,
                ));
            }
            Attack::Arp { from, address_of } => {
                let address = self.address(address_of, Family::Ipv4)?;
                let frame = self
                    .attacker(from)
                    .map(|(_, mac)| announcement(mac, address));
                (
                    from,
                    frame.flatten(),
                    format!("ARP of {from} as {address_of}"),
                )
            }
            Attack::NeighborAdvert { from, address_of } => {
                let target = self.address(address_of, Family::Ipv6)?;
                let own = self.address(from, Family::Ipv6)?;
                let frame = self
                    .attacker(from)
                    .map(|(_, mac)| neighbor_advert(mac, own, target));
                let about = format!("neighbour advertisement of {from} as {address_of}");
                (from, frame, about)
            }
            Attack::RouterAdvert { from } => {
                let own = self.address(from, Family::Ipv6)?;
                let frame = self.attacker(from).map(|(_, mac)| router_advert(mac, own));
                (from, frame, format!("router advertisement of {from}"))
            }
            Attack::DhcpOffer { from } => {
                let own = self.address(from, Family::Ipv4)?;
                let frame = self.attacker(from).map(|(_, mac)| dhcp_offer(mac, own));
                (from, frame, format!("DHCP offer of {from}"))
            }
        };
        let before = self.sightings.len();
        if let (Some((at, _)), Some(frame)) = (self.attacker(from), frame.clone()) {
            self.send_from(at, vec![frame]);
        }
        self.settle();
        let seen = self.sightings.get(before..).unwrap_or_default();
        let body = frame.as_deref().and_then(|it| it.get(12..));
        let is_it = |it: &[u8]| body.is_some_and(|body| it.get(12..) == Some(body));
        let out = |way| matches!(way, Way::Delivered | Way::OnWire);
        let passed = seen.iter().filter(|it| out(it.way) && is_it(&it.frame));
        Ok((about, passed.count()))
    }

    /// Where a pod's frames enter, and its MAC; nothing if it isn't plugged in.
    fn attacker(&self, from: &Party) -> Option<(At, Mac)> {
        let at = self.place_of(from, IpAddr::V4(Ipv4Addr::UNSPECIFIED))?;
        let At::Behind(node, port) = at else {
            return None;
        };
        Some((at, self.nodes.get(node)?.station(port)?.mac))
    }

    /// Begins so many connections, each from a port of its own.
    fn flood(&mut self, probe: &Probe, frames: usize) -> Result<(), ProbeError> {
        let question = self.question(probe)?;
        let Some(at) = self.place_of(&probe.from, question.src) else {
            return Ok(());
        };
        let next_hop = self.next_hop(at, &question);
        for ip in [question.src, question.dst] {
            let pod = self.api().pod_uid(ip).cloned();
            self.crowded.extend(pod);
            self.cut_lasting_at(ip);
        }
        for (port, sent) in (FLOOD_PORT..).zip(0..frames) {
            let spec = packet(&question, port);
            let frames = self.station_at(at).map(|it| it.utter(spec, next_hop));
            self.send_from(at, frames.unwrap_or_default());
            // A flow without an answer gives way to the next; those of UDP are there to stay.
            if question.protocol == Protocol::Udp && sent % ANSWERED_TOGETHER == 0 {
                self.settle();
            }
        }
        self.settle();
        self.station_at(at).map(Station::finish);
        Ok(())
    }

    /// Sends the first packet of a probe from where the probe is from, with another one's
    /// source address.
    ///
    /// # Errors
    /// [`ProbeError`] if it can't be sent.
    pub fn spoof(&mut self, probe: &Probe, address_of: IpAddr) -> Result<(), ProbeError> {
        let probe = Probe {
            family: Some(Family::of(address_of)),
            ..probe.clone()
        };
        let honest = self.question(&probe)?;
        let Some(at) = self.place_of(&probe.from, honest.src) else {
            return Ok(());
        };
        let forged = Question {
            src: address_of,
            ..honest
        };
        let mut spec = packet(&forged, self.fresh_port());
        spec.payload = PLAIN.to_vec();
        let next_hop = self.next_hop(at, &forged);
        self.utter(at, spec, next_hop, None);
        Ok(())
    }

    /// Sends the first packet of a probe with so many bytes of payload, whole or in fragments
    /// with so many bytes of data each, and asks for no answer.
    ///
    /// # Errors
    /// [`ProbeError`] if it can't be sent.
    pub fn send(&mut self, sent: &Send) -> Result<(), ProbeError> {
        let Send { probe, size, .. } = sent;
        let question = self.question(probe)?;
        let Some(at) = self.place_of(&probe.from, question.src) else {
            return Ok(());
        };
        let next_hop = self.next_hop(at, &question);
        // A small one first, so that the next hop is known.
        let mut spec = packet(&question, self.fresh_port());
        self.utter(at, spec.clone(), next_hop, None);
        spec.payload = PLAIN.iter().copied().cycle().take(*size).collect();
        spec.dont_fragment = sent.fragment.is_none();
        self.utter(at, spec, next_hop, sent.fragment);
        Ok(())
    }

    /// Sends a packet that is no question, and lets all come to rest.
    fn utter(&mut self, at: At, spec: FrameSpec, next_hop: IpAddr, fragment: Option<usize>) {
        self.fragments = self.fragments.wrapping_add(1);
        let id = self.fragments;
        let station = self.station_at(at);
        let mut frames = station.map_or_else(Vec::new, |it| it.utter(spec, next_hop));
        if let Some(data_len) = fragment {
            let pieces = frames.iter().flat_map(|it| fragments(it, id, data_len));
            frames = pieces.collect();
        }
        self.send_from(at, frames);
        self.settle();
        self.station_at(at).map(Station::finish);
    }

    /// Puts the last so many ESP frames on the wire once more, oldest first; how many there
    /// were.
    pub fn replay(&mut self, frames: usize) -> usize {
        let esp = self.net.wire.iter().rev().filter(|it| is_esp(&it.bytes));
        let mut again: Vec<_> = esp.take(frames).map(|it| it.bytes.clone()).collect();
        again.reverse();
        for frame in &again {
            self.net.replay(frame);
        }
        self.settle();
        again.len()
    }

    /// The first address of a family that a party has.
    ///
    /// # Errors
    /// [`ProbeError`] if it has none.
    pub fn address(&self, party: &Party, family: Family) -> Result<IpAddr, ProbeError> {
        let ips = self.addresses(party, None)?;
        let found = ips.into_iter().find(|ip| Family::of(*ip) == family);
        found.ok_or_else(|| ProbeError::NoAddress {
            party: party.to_string(),
            family,
        })
    }
}

/// An ARP announcement: whoever has this address is here.
fn announcement(mac: Mac, address: IpAddr) -> Option<Vec<u8>> {
    let mut frame = vec![0; arp::FRAME_LEN];
    let len = arp::write_request(&mut frame, mac, address.into(), address.into())?;
    frame.truncate(len);
    Some(frame)
}

fn to_all_nodes(mac: Mac, own: IpAddr, message: Vec<u8>) -> Vec<u8> {
    let body = Body::Other {
        protocol: proto::ICMPV6,
    };
    let mut spec = FrameSpec::new(own, ALL_NODES.into(), body);
    spec.eth_src = mac;
    spec.eth_dst = ALL_NODES_MAC;
    spec.ttl = HOP_LIMIT;
    spec.payload = message;
    spec.build()
}

fn neighbor_advert(mac: Mac, own: IpAddr, target: IpAddr) -> Vec<u8> {
    let mut message = vec![NEIGHBOR_ADVERT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    if let IpAddr::V6(target) = target {
        message.extend(target.octets());
    }
    message.extend([TARGET_LINK_LAYER, 1]);
    message.extend(mac.0);
    to_all_nodes(mac, own, message)
}

/// Of a default router for half an hour, with no prefix.
fn router_advert(mac: Mac, own: IpAddr) -> Vec<u8> {
    let mut message = vec![ROUTER_ADVERT, 0, 0, 0, 64, 0];
    message.extend(1_800u16.to_be_bytes());
    message.extend([0; 8]);
    to_all_nodes(mac, own, message)
}

fn dhcp_offer(mac: Mac, own: IpAddr) -> Vec<u8> {
    let body = Body::Udp {
        src_port: DHCP_SERVER,
        dst_port: DHCP_CLIENT,
    };
    let mut spec = FrameSpec::new(own, Ipv4Addr::BROADCAST.into(), body);
    spec.eth_src = mac;
    spec.eth_dst = BROADCAST;
    // The fixed part of a message (RFC 2131 section 2).
    spec.payload = vec![0; 240];
    if let Some(op) = spec.payload.first_mut() {
        *op = BOOTREPLY;
    }
    spec.build()
}
