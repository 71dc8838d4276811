//! A packet comes out only where its destination is.

use super::Oracle;
use super::packet::Packet;
use crate::sighting::{Sighting, Spot, Way};
use crate::world::Api;

#[derive(Debug, Default)]
pub(super) struct Isolation;

impl Oracle for Isolation {
    fn name(&self) -> &'static str {
        "isolation"
    }

    fn see(
        &mut self,
        seen: &Sighting,
        packet: Option<&Packet<'_>>,
        api: &Api<'_>,
    ) -> Option<String> {
        if seen.way != Way::Delivered {
            return None;
        }
        let Some(who) = &seen.who else {
            return Some(format!(
                "a frame came out at {:?}, where nobody is",
                seen.spot
            ));
        };
        let packet = packet?;
        match &seen.spot {
            Spot::Vf(..) if who.mac != packet.eth_dst || !who.ips.contains(&packet.dst) => {
                let pod = who
                    .pod
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                Some(format!(
                    "{packet} came out at pod {pod}, which it is not for"
                ))
            }
            Spot::Host(_) | Spot::Outside
                if who.mac == packet.eth_dst
                    && api.is_pod(packet.dst)
                    && !(seen.spot == Spot::Outside && api.is_unprotected(packet.dst)) =>
            {
                Some(format!(
                    "{packet} is for a pod and came out at {:?}",
                    seen.spot
                ))
            }
            _ => None,
        }
    }
}
