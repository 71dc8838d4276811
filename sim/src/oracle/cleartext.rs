//! Nothing between pods of different nodes, or between a pod and another node, is on the wire
//! in clear, unless the settings of both ends let it: neither what it says nor whom it is for.

use sluice_host_agent::evaluate::Crossing;

use super::Oracle;
use super::packet::Packet;
use crate::sighting::{Sighting, Spot, Way};
use crate::world::{Api, MARKER};

#[derive(Debug, Default)]
pub(super) struct Cleartext;

impl Oracle for Cleartext {
    fn name(&self) -> &'static str {
        "cleartext"
    }

    fn see(&mut self, seen: &Sighting, packet: Option<&Packet>, api: &Api<'_>) -> Option<String> {
        // What the outside puts there is its own.
        if seen.way != Way::OnWire || seen.spot == Spot::Outside {
            return None;
        }
        if seen.frame.windows(MARKER.len()).any(|it| it == MARKER) {
            return Some("a pod's payload was on the wire in clear".to_owned());
        }
        let packet = packet.filter(|it| !it.is_sealed(api))?;
        let (from, to) = (packet.src, packet.dst);
        let inside = |ip| api.is_pod(ip) || api.is_node(ip);
        if api.crossing(from, to) == Crossing::Clear {
            return None;
        }
        let protected = api.is_pod(from) && inside(to) || api.is_pod(to) && inside(from);
        protected.then(|| format!("{packet} was on the wire in clear"))
    }
}
