//! Frames that a pod has no right to send, or too many of those that it has.

use serde::Deserialize;
use sluice_offload_api::model::Protocol;

use super::probes::{PortEntry, check_port};
use super::{InputError, Place, parse_party};
use crate::probe::{Family, Party, Probe, ProbePort};

/// Frames of a flood, at most.
pub const FLOOD_MAX: usize = 10_000;

/// What an attacker sends.
#[derive(Clone, Debug)]
pub enum Attack {
    /// So many flows, each from a port of its own: TCP connections that are begun and never go
    /// on, or UDP.
    Flood {
        /// The first packet of one.
        probe: Probe,
        /// How many.
        frames: usize,
    },
    /// An ARP announcement of another one's address.
    Arp {
        /// Who sends it.
        from: Party,
        /// Whose address.
        address_of: Party,
    },
    /// The same over IPv6: a neighbour advertisement.
    NeighborAdvert {
        /// Who sends it.
        from: Party,
        /// Whose address.
        address_of: Party,
    },
    /// It says that it is a router (RFC 4861 section 4.2).
    RouterAdvert {
        /// Who sends it.
        from: Party,
    },
    /// Its node's dataplane is somebody else's, who speaks as another node's pod by an SA that
    /// the two nodes have agreed on.
    RogueNode {
        /// A pod on that node.
        from: Party,
        /// Whose address.
        address_of: Party,
        /// For whom, by UDP.
        probe: Probe,
    },
    /// It answers as a DHCP server (RFC 2131) that nobody has asked.
    DhcpOffer {
        /// Who sends it.
        from: Party,
    },
}

/// Bytes of a payload, at most: a jumbo frame's.
pub const SIZE_MAX: usize = 9_000;

/// A packet of a size.
#[derive(Clone, Debug)]
pub struct Send {
    /// Who sends what.
    pub probe: Probe,
    /// Bytes of payload.
    pub size: usize,
    /// In fragments with so many bytes of data each, a multiple of 8; else whole.
    pub fragment: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SendEntry {
    from: String,
    to: String,
    protocol: Protocol,
    port: Option<PortEntry>,
    family: Option<Family>,
    size: usize,
    fragment: Option<usize>,
}

impl SendEntry {
    pub(super) fn check(self, place: &Place) -> Result<Send, InputError> {
        check_port(self.protocol, self.port.as_ref(), place)?;
        let party = |text: &str| parse_party(text).map_err(|error| place.fault(error));
        let size = self.size;
        if size > SIZE_MAX {
            let text = format!("{size} bytes of payload; write 0 to {SIZE_MAX}");
            return Err(place.fault(text));
        }
        if let Some(bytes) = self.fragment
            && (bytes == 0 || !bytes.is_multiple_of(8) || bytes > SIZE_MAX)
        {
            return Err(place.fault(format!(
                "fragments of {bytes} bytes; write a multiple of 8, 8 to {SIZE_MAX}"
            )));
        }
        Ok(Send {
            probe: Probe {
                from: party(&self.from)?,
                to: party(&self.to)?,
                from_network: None,
                to_network: None,
                source_port: None,
                protocol: self.protocol,
                port: self.port.map(|port| port.0),
                family: self.family,
                expect: None,
            },
            size,
            fragment: self.fragment,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AttackEntry {
    by: By,
    from: String,
    #[serde(rename = "as")]
    address_of: Option<String>,
    to: Option<String>,
    port: Option<u16>,
    frames: Option<usize>,
    family: Option<Family>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum By {
    SynFlood,
    UdpFlood,
    Arp,
    NeighborAdvert,
    RouterAdvert,
    DhcpOffer,
    RogueNode,
}

impl AttackEntry {
    pub(super) fn check(self, place: &Place) -> Result<Attack, InputError> {
        let party = |text: &str| parse_party(text).map_err(|error| place.fault(error));
        let from = party(&self.from)?;
        if !matches!(from, Party::Pod { .. }) {
            let text = format!("{} can't attack; name a pod", self.from);
            return Err(place.fault(text));
        }
        let is_flood = matches!(self.by, By::SynFlood | By::UdpFlood);
        let is_rogue = self.by == By::RogueNode;
        let is_as = is_rogue || matches!(self.by, By::Arp | By::NeighborAdvert);
        for (field, given, wanted) in [
            ("to", self.to.is_some(), is_flood || is_rogue),
            ("port", self.port.is_some(), is_flood || is_rogue),
            ("frames", self.frames.is_some(), is_flood),
            ("as", self.address_of.is_some(), is_as),
        ] {
            if given != wanted {
                let what = if given { "has no" } else { "needs" };
                return Err(place.fault(format!("this attack {what} `{field}`")));
            }
        }
        if self.family.is_some() && !is_flood && !is_rogue {
            return Err(place.fault("this attack has no `family`"));
        }
        let address_of = self.address_of.as_deref().map(party).transpose()?;
        Ok(match (self.by, address_of) {
            (By::Arp, Some(address_of)) => Attack::Arp { from, address_of },
            (By::NeighborAdvert, Some(address_of)) => Attack::NeighborAdvert { from, address_of },
            (By::RogueNode, Some(address_of)) => Attack::RogueNode {
                probe: Probe {
                    from: from.clone(),
                    to: party(&self.to.unwrap_or_default())?,
                    from_network: None,
                    to_network: None,
                    source_port: None,
                    protocol: Protocol::Udp,
                    port: self.port.map(ProbePort::Number),
                    family: self.family,
                    expect: None,
                },
                from,
                address_of,
            },
            (By::RouterAdvert, _) => Attack::RouterAdvert { from },
            (By::DhcpOffer, _) => Attack::DhcpOffer { from },
            _ => {
                let frames = self.frames.unwrap_or(0);
                if !(1..=FLOOD_MAX).contains(&frames) {
                    return Err(place.fault(format!(
                        "a flood of {frames} frames; write 1 to {FLOOD_MAX}"
                    )));
                }
                let port = self.port.filter(|port| *port > 0);
                let port = port.ok_or_else(|| place.fault("port 0; write 1 to 65535"))?;
                Attack::Flood {
                    frames,
                    probe: Probe {
                        from,
                        to: party(&self.to.unwrap_or_default())?,
                        from_network: None,
                        to_network: None,
                        source_port: None,
                        protocol: match self.by {
                            By::UdpFlood => Protocol::Udp,
                            _ => Protocol::Tcp,
                        },
                        port: Some(ProbePort::Number(port)),
                        family: self.family,
                        expect: None,
                    },
                }
            }
        })
    }
}
