//! What comes to anyone was sent by whoever has its source address.

use super::Oracle;
use super::packet::{Identity, Packet};
use crate::fold::FoldSet;
use crate::sighting::{Sighting, Spot, Way};
use crate::world::Api;

/// Packets that their source's owner has sent.
#[derive(Debug, Default)]
pub(super) struct Spoof(FoldSet<Identity>);

impl Oracle for Spoof {
    fn name(&self) -> &'static str {
        "spoof"
    }

    fn see(
        &mut self,
        seen: &Sighting,
        packet: Option<&Packet<'_>>,
        api: &Api<'_>,
    ) -> Option<String> {
        let packet = packet.filter(|it| !it.error)?;
        let outside = || !api.is_pod(packet.src) || api.is_unprotected(packet.src);
        let owns = || {
            seen.who
                .as_ref()
                .is_some_and(|it| it.ips.contains(&packet.src))
        };
        match (seen.way, &seen.spot) {
            (Way::Sent, Spot::Outside) if outside() => self.add(packet),
            (Way::Sent, Spot::Vf(..) | Spot::Host(_)) if owns() => self.add(packet),
            // The wire may turn any bit of what goes in clear by design.
            (Way::OffWire, _) if seen.touched && !packet.is_sealed(api) && outside() => {
                self.add(packet);
            }
            (Way::Delivered, _)
                if !seen.touched
                    && seen.who.as_ref().is_some_and(|it| it.mac == packet.eth_dst)
                    && !self.0.contains(&packet.identity()) =>
            {
                return Some(format!(
                    "{packet} was delivered, and whoever has its source address never sent it"
                ));
            }
            _ => {}
        }
        None
    }
}

impl Spoof {
    fn add(&mut self, packet: &Packet<'_>) {
        self.0.insert(packet.identity());
    }
}
