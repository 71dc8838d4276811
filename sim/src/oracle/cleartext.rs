//! Nothing between pods of different nodes, or between a pod and another node, is on the wire
//! in clear, unless the settings of both ends let it: neither what it says nor whom it is for.

use std::collections::BTreeSet;

use sluice_host_agent::evaluate::Crossing;

use super::Oracle;
use super::packet::{Identity, Packet};
use crate::sighting::{Sighting, Spot, Way};
use crate::world::{Api, MARKER};

/// Whether a byte is one of the marker's.
const IN_MARKER: [bool; 256] = {
    let (mut is, mut at) = ([false; 256], 0);
    while at < MARKER.len() {
        is[MARKER[at] as usize] = true;
        at += 1;
    }
    is
};

/// Whether the marker is in a frame. Wherever it begins, one byte of it is where its length goes
/// into the frame without a rest: only those are asked for first.
fn has_marker(frame: &[u8]) -> bool {
    let len = MARKER.len();
    let begins = |at: usize| frame.get(at..).is_some_and(|it| it.starts_with(MARKER));
    let asked = frame.iter().enumerate().skip(len - 1).step_by(len);
    let mut asked = asked.filter(|it| IN_MARKER.get(usize::from(*it.1)) == Some(&true));
    asked.any(|(at, _)| (at + 1 - len..=at).any(begins))
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

    fn see(
        &mut self,
        seen: &Sighting,
        packet: Option<&Packet<'_>>,
        api: &Api<'_>,
    ) -> Option<String> {
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
            || packet.is_some_and(|it| !inside(it.dst) && self.waited.contains(&it.identity()));
        if has_marker(&seen.frame) && !has_waited() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_is_found_wherever_it_is_and_nothing_else_for_it() {
        for before in 0..3 * MARKER.len() {
            for after in 0..3 * MARKER.len() {
                // Bytes that are asked for, and aren't it.
                let fill = |n: usize| MARKER.iter().rev().copied().cycle().take(n);
                let frame: Vec<u8> = fill(before).chain(fill(after)).collect();
                assert!(!has_marker(&frame));
                let frame: Vec<u8> = fill(before)
                    .chain(MARKER.iter().copied())
                    .chain(fill(after))
                    .collect();
                assert!(has_marker(&frame));
                assert!(!has_marker(&frame[..before + MARKER.len() - 1]));
            }
        }
    }
}
