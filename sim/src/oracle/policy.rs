//! No frame that policy denies comes to anyone: neither of the first of a flow nor of a later
//! one, whatever was allowed before.
//!
//! Each end's node asks for its own end: the source's when a packet leaves, the destination's
//! when it comes. What has left in its time may come late, if its destination allows it then.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sluice_dataplane_core::tick::Tick;

use super::Oracle;
use super::flow::{End, Flow, is_policed};
use super::packet::{Ends, Identity, Packet};
use crate::fold::FoldMap;
use crate::sighting::{Sighting, Spot, Way};
use crate::world::Api;

/// How long a dataplane may hold what it has judged, in nanoseconds: it waits three seconds
/// for a neighbour's answer.
const HELD_NS_MAX: u64 = 4 * Tick::SECOND;

/// What was seen to be sent.
#[derive(Debug, Default)]
pub(super) struct Policy {
    flows: FoldMap<Ends, Flow>,
    sent: FoldMap<Identity, Sent>,
    /// Packets that wait for a dataplane that does nothing.
    waiting: BTreeSet<Identity>,
    /// The ports of datagrams in pieces, as their first ones have them.
    firsts: BTreeMap<Datagram, (u16, u16)>,
}

/// What pieces belong together: source, destination, protocol and identification (RFC 791
/// section 3.2).
type Datagram = (IpAddr, IpAddr, u8, u32);

/// What was made of a packet when it was sent, which may be several times: in one word, as there
/// is one for each packet of a run.
#[derive(Clone, Copy, Debug, Default)]
struct Sent(u64);

impl Sent {
    const LEFT: u64 = 1 << 63;

    /// Its source lets it go.
    const fn leave(&mut self) {
        self.0 |= Self::LEFT;
    }

    /// Its destination would let it come now.
    const fn welcome(&mut self, now: Tick) {
        self.0 = self.0 & Self::LEFT | (now.0 + 1) & !Self::LEFT;
    }

    const fn has_left(self) -> bool {
        self.0 & Self::LEFT != 0
    }

    /// When its destination would have let it come, last.
    fn welcome_at(self) -> Option<Tick> {
        (self.0 & !Self::LEFT).checked_sub(1).map(Tick)
    }
}

impl Policy {
    /// Whether a packet waits for a dataplane that does nothing.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A packet with the ports that its datagram's first piece has. Who sends pieces sends the
    /// first one first.
    fn with_ports<'a, 'b>(&mut self, packet: &'a Packet<'b>) -> Cow<'a, Packet<'b>> {
        let Some(piece) = packet.piece else {
            return Cow::Borrowed(packet);
        };
        let datagram = (packet.src, packet.dst, packet.protocol, piece.id);
        if !piece.is_later {
            let ports = (packet.src_port, packet.dst_port);
            self.firsts.insert(datagram, ports);
            return Cow::Borrowed(packet);
        }
        match self.firsts.get(&datagram) {
            Some((src, dst)) => Cow::Owned(packet.with_ports(*src, *dst)),
            None => Cow::Borrowed(packet),
        }
    }
}

impl Oracle for Policy {
    fn name(&self) -> &'static str {
        "policy"
    }

    fn see(
        &mut self,
        seen: &Sighting,
        packet: Option<&Packet<'_>>,
        api: &Api<'_>,
    ) -> Option<String> {
        let packet = packet.filter(|it| !it.error && is_policed(it))?;
        let packet = &self.with_ports(packet);
        // What waits for a dataplane that does nothing is judged when that takes it, by what is
        // then; it may know who the packet is for only now.
        let is_late = seen.way == Way::Taken
            && !self.waiting.is_empty()
            && self.waiting.remove(&packet.identity());
        if let (Way::Sent, Spot::Vf(node, _) | Spot::Host(node)) = (seen.way, &seen.spot)
            && api.is_stalled(node)
        {
            self.waiting.insert(packet.identity());
        }
        match seen.way {
            Way::Sent | Way::Taken if seen.way == Way::Sent || is_late => {
                let flow = self.flows.entry(packet.ends());
                let flow = flow.or_insert_with(|| Flow::begun_by(packet));
                let sent = self.sent.entry(packet.identity()).or_default();
                if flow.passes(End::Source, packet, api, seen.at) {
                    sent.leave();
                }
                if flow.would_pass(End::Destination, packet, api) {
                    sent.welcome(seen.at);
                }
            }
            // Nothing protects what goes in clear by design.
            Way::OffWire if seen.touched && !packet.is_sealed(api) => {
                let flow = self.flows.entry(packet.ends());
                flow.or_insert_with(|| Flow::begun_by(packet));
            }
            Way::Delivered if seen.who.as_ref().is_some_and(|it| it.mac == packet.eth_dst) => {
                // What nobody sent is another oracle's.
                let flow = self.flows.get_mut(&packet.ends())?;
                let sent = self.sent.get(&packet.identity()).copied();
                let sent = sent.unwrap_or_default();
                let left = sent.has_left() || flow.would_pass(End::Source, packet, api);
                let comes = flow.passes(End::Destination, packet, api, seen.at);
                let is_late = |at: Tick| seen.at.0.saturating_sub(at.0) <= HELD_NS_MAX;
                if !left || !(comes || sent.welcome_at().is_some_and(is_late)) {
                    let rule = flow.denial(packet, api);
                    return Some(format!(
                        "{packet} was delivered, and policy denies its flow: {rule}"
                    ));
                }
            }
            _ => {}
        }
        None
    }
}
