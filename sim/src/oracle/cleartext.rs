//! Nothing between pods of different nodes, or between a pod and another node, is on the wire
//! in clear, unless the settings of both ends let it: neither what it says nor whom it is for.

use sluice_host_agent::evaluate::Crossing;

use super::Oracle;
use super::packet::Packet;
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
pub(super) struct Cleartext;

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
        // What the outside puts there is its own.
        if seen.way != Way::OnWire || seen.spot == Spot::Outside {
            return None;
        }
        let inside = |ip| api.is_pod(ip) || api.is_node(ip);
        if has_marker(&seen.frame) {
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
