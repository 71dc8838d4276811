//! A flow as the policy oracle has it: who began it, at each of its ends.
//!
//! Who began it is one thing for TCP, SCTP and ICMP, whose answers begin nothing. Of UDP a
//! node can't tell: where it has no flow any more, an answer begins one of its own, and from
//! then on it is the other end that answers there. The other end's node knows nothing of it.
//! So each end has those that may have begun it there: one, but where the flow may have gone.

use std::net::IpAddr;

use sluice_dataplane_core::meta::proto;
use sluice_dataplane_core::tick::Tick;
use sluice_host_agent::evaluate::Query;
use sluice_offload_api::model::{PodUid, Protocol, Verdict};

use super::packet::Packet;
use crate::world::Api;

/// How long nothing is said in a flow until it may have gone, in nanoseconds: a dataplane
/// forgets one without an answer in half a minute.
const SILENCE_NS_MAX: u64 = 20 * Tick::SECOND;

/// An address and a port.
type Socket = (IpAddr, u16);

/// The end of a packet's way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// Whether policy speaks of a packet.
pub(super) const fn is_policed(packet: &Packet<'_>) -> bool {
    protocol(packet.protocol).is_some()
}

const fn protocol(number: u8) -> Option<Protocol> {
    match number {
        proto::TCP => Some(Protocol::Tcp),
        proto::UDP => Some(Protocol::Udp),
        proto::SCTP => Some(Protocol::Sctp),
        proto::ICMP | proto::ICMPV6 => Some(Protocol::Icmp),
        _ => None,
    }
}

/// One way of a flow: from whom to whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Course {
    src: Socket,
    dst: Socket,
}

impl Course {
    const fn of(packet: &Packet<'_>) -> Self {
        Self {
            src: (packet.src, packet.src_port),
            dst: (packet.dst, packet.dst_port),
        }
    }

    fn query(self, number: u8, api: &Api<'_>) -> Option<Query> {
        let protocol = protocol(number)?;
        let Self { src, dst } = self;
        Some(Query {
            from: api.party(src.0),
            to: api.party(dst.0),
            protocol,
            port: (protocol != Protocol::Icmp).then_some(dst.1),
            from_ip: src.0,
            to_ip: dst.0,
        })
    }
}

/// A flow.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    /// The way of its first packet.
    first: Course,
    /// At the first packet's source, and at its destination; where one node has both, at the
    /// source.
    at: [AtNode; 2],
}

/// A flow of UDP as one node has it.
#[derive(Clone, Debug, Default)]
struct AtNode {
    /// The ways it may have begun by.
    begun: Vec<Course>,
    /// It may have gone since.
    is_loose: bool,
    /// The pods of the node's ends when it was seen last.
    pods: [Option<PodUid>; 2],
    seen: Tick,
}

impl Flow {
    pub(super) fn begun_by(packet: &Packet<'_>) -> Self {
        Self {
            first: Course::of(packet),
            at: [AtNode::default(), AtNode::default()],
        }
    }

    /// Whether the node at an end of a packet's way lets it pass, where it is seen now.
    pub(super) fn passes(
        &mut self,
        end: End,
        packet: &Packet<'_>,
        api: &Api<'_>,
        now: Tick,
    ) -> bool {
        let here = Passage::new(end, packet, api);
        if packet.protocol != proto::UDP {
            return here.allows(self.first);
        }
        let at = self.at_mut(&here);
        let pods = here.pods();
        let silent_ns = now.0.saturating_sub(at.seen.0);
        let is_same = at.pods.each_ref().map(Option::as_ref) == pods;
        let goes_on = is_same && !at.is_loose && silent_ns <= SILENCE_NS_MAX;
        if goes_on && !at.begun.is_empty() && at.begun.iter().all(|it| here.allows(*it)) {
            // Nothing to begin, and nothing to forget.
            at.seen = now;
            return true;
        }
        let mut begun = at.begun.clone();
        begun.retain(|it| here.allows(*it));
        let is_denied = begun.len() < at.begun.len();
        at.is_loose |= begun.is_empty() || is_denied || !is_same || silent_ns > SILENCE_NS_MAX;
        if at.is_loose && !begun.contains(&here.course) && here.allows(here.course) {
            begun.push(here.course);
        }
        if !is_same {
            at.pods = pods.map(Option::<&PodUid>::cloned);
        }
        at.seen = now;
        let passes = !begun.is_empty();
        if passes {
            at.begun = begun;
            at.is_loose = false;
        }
        passes
    }

    /// Whether the node at an end would let a packet pass that is under way there. If it
    /// wouldn't, it has no such flow any more when the packet has come.
    pub(super) fn would_pass(&mut self, end: End, packet: &Packet<'_>, api: &Api<'_>) -> bool {
        let here = Passage::new(end, packet, api);
        if packet.protocol != proto::UDP {
            return here.allows(self.first);
        }
        let at = self.at_mut(&here);
        let mut allowed = at.begun.iter().filter(|it| here.allows(**it));
        let is_allowed = allowed.next().is_some();
        at.is_loose |= at.begun.iter().any(|it| !here.allows(*it));
        is_allowed || here.allows(here.course)
    }

    /// What denies it, for people.
    pub(super) fn denial(&self, packet: &Packet<'_>, api: &Api<'_>) -> String {
        let judged = [self.first, Course::of(packet)]
            .into_iter()
            .filter_map(|it| Some(api.judge(&it.query(packet.protocol, api)?)));
        let rule = judged.filter_map(|it| it.rule.filter(|_| it.verdict == Verdict::Deny));
        let rule = rule.into_iter().next();
        rule.unwrap_or_else(|| "nobody's".to_owned())
    }

    fn at_mut(&mut self, here: &Passage<'_>) -> &mut AtNode {
        let is_at_source = (here.end == End::Source) == (here.course == self.first);
        let [source, destination] = &mut self.at;
        if here.has_both || is_at_source {
            source
        } else {
            destination
        }
    }
}

/// A packet at the node of one end of its way.
struct Passage<'a> {
    end: End,
    course: Course,
    protocol: u8,
    /// The node has the other end too, and one flow for both.
    has_both: bool,
    api: &'a Api<'a>,
}

impl<'a> Passage<'a> {
    fn new(end: End, packet: &Packet<'_>, api: &'a Api<'a>) -> Self {
        Self {
            end,
            course: Course::of(packet),
            protocol: packet.protocol,
            has_both: api.share_a_node_at(packet.src, packet.dst),
            api,
        }
    }

    /// Whether the node allows a flow that began by a way, which is this one or back.
    fn allows(&self, begun: Course) -> bool {
        let Some(protocol) = protocol(self.protocol) else {
            return true;
        };
        let Course { src, dst } = begun;
        let port = (protocol != Protocol::Icmp).then_some(dst.1);
        let [goes, comes] = self.api.sides(src.0, dst.0, protocol, port);
        let is_at_source = (self.end == End::Source) == (begun == self.course);
        match (self.has_both, is_at_source) {
            (true, _) => goes && comes,
            (false, true) => goes,
            (false, false) => comes,
        }
    }

    fn pods(&self) -> [Option<&'a PodUid>; 2] {
        let Course { src, dst } = self.course;
        let [mut source, mut destination] = [src, dst].map(|it| self.api.pod_uid(it.0));
        match (self.has_both, self.end) {
            (true, _) => {}
            (false, End::Source) => destination = None,
            (false, End::Destination) => source = None,
        }
        // The same whichever end speaks.
        if source > destination {
            core::mem::swap(&mut source, &mut destination);
        }
        [source, destination]
    }
}
