//! Nothing between pods of different nodes, or between a pod and another node, is on the wire
//! in clear, unless the settings of both ends let it: neither what it says nor whom it is for.

use std::collections::BTreeSet;

use sluice_host_agent::evaluate::Crossing;

use super::Oracle;
use super::packet::{Identity, Packet};
use crate::sighting::{Sighting, Spot, Way};
use crate::world::{Api, MARKER};

/// Whether the marker is in a frame. Its first byte is asked for first: windows of every frame
/// are most of what an oracle does.
fn has_marker(frame: &[u8]) -> bool {
    let Some((first, _)) = MARKER.split_first() else {
        return false;
    };
    let mut at = frame.iter().enumerate().filter(|it| it.1 == first);
    at.any(|(at, _)| frame.get(at..).is_some_and(|it| it.starts_with(MARKER)))
}

#[derive(Debug, Default)]
pub(super) struct Cleartext {
    /// Packets that wait for a dataplane that does nothing. It judges them when it goes on, by
    /// what is then: one for a pod that has gone meanwhile, of a flow that it never had, is for
    /// the outside.
    waited: BTreeSet<Identity>,
}

impl Oracle for Cleartext {
    fn name(&self) -> &'static str {
        "cleartext"
    }

    fn see(&mut self, seen: &Sighting, packet: Option<&Packet>, api: &Api<'_>) -> Option<String> {
        if let (Way::Sent, Spot::Vf(node, _) | Spot::Host(node)) = (seen.way, &seen.spot)
            && api.is_stalled(node)
        {
            self.waited.extend(packet.map(Packet::identity));
        }
        // What the outside puts there is its own.
        if seen.way != Way::OnWire || seen.spot == Spot::Outside {
            return None;
        }
        let inside = |ip| api.is_pod(ip) || api.is_node(ip);
        let has_waited =
            packet.is_some_and(|it| !inside(it.dst) && self.waited.contains(&it.identity()));
        if has_marker(&seen.frame) && !has_waited {
            return Some("a pod's payload was on the wire in clear".to_owned());
        }
        let packet = packet.filter(|it| !it.is_sealed(api))?;
        let (from, to) = (packet.src, packet.dst);
        if api.crossing(from, to) == Crossing::Clear {
            return None;
        }
        let protected = api.is_pod(from) && inside(to) || api.is_pod(to) && inside(from);
        protected.then(|| format!("{packet} was on the wire in clear"))
    }
}
