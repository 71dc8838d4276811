//! Nothing comes to anyone more often than it was sent, or that nobody sent.

use std::collections::hash_map::Entry;

use super::Oracle;
use super::packet::{Identity, Packet};
use crate::fold::FoldMap;
use crate::sighting::{Sighting, Way};
use crate::world::Api;

/// How often each packet was sent, less how often it came; nothing of those that all came.
#[derive(Debug, Default)]
pub(super) struct Replay(FoldMap<Identity, usize>);

impl Oracle for Replay {
    fn name(&self) -> &'static str {
        "replay"
    }

    fn see(
        &mut self,
        seen: &Sighting,
        packet: Option<&Packet<'_>>,
        api: &Api<'_>,
    ) -> Option<String> {
        // ICMP errors are of dataplanes' own making.
        let packet = packet.filter(|it| !it.error)?;
        match seen.way {
            Way::Sent => *self.0.entry(packet.identity()).or_default() += 1,
            // Nothing protects what goes in clear by design: the wire may send it again.
            Way::OffWire if seen.touched && !packet.is_sealed(api) => {
                *self.0.entry(packet.identity()).or_default() += 1;
            }
            Way::Delivered if !seen.touched && is_for(seen, packet) => {
                let Entry::Occupied(mut left) = self.0.entry(packet.identity()) else {
                    return Some(format!("{packet} was delivered more often than sent"));
                };
                if *left.get() > 1 {
                    *left.get_mut() -= 1;
                } else {
                    left.remove();
                }
            }
            _ => {}
        }
        None
    }
}

/// The switch floods what it doesn't know: that is for nobody there.
fn is_for(seen: &Sighting, packet: &Packet<'_>) -> bool {
    seen.who.as_ref().is_some_and(|it| it.mac == packet.eth_dst)
}
