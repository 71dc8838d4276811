//! A flow as the policy oracle has it: who began it, at each of its ends.
//!
//! Who began it is one thing for TCP, SCTP and ICMP, whose answers begin nothing. Of UDP a
//! node can't tell: where it has no flow any more, an answer begins one of its own, and from
//! then on it is the other end that answers there. The other end's node knows nothing of it.
//! So each end has those that may have begun it there: one, but where the flow may have gone.

use std::cell::Cell;
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
    /// What the API said when a packet was seen last.
    said: Option<Said>,
}

/// A flow of UDP as one node has it.
#[derive(Clone, Debug, Default)]
struct AtNode {
    /// The ways it may have begun by.
    begun: Vec<Course>,
    /// It may have gone since.
    is_loose: bool,
    /// The pods of the node's ends when it was seen last,
    pods: [Option<PodUid>; 2],
    /// and by which edition of the API.
    edition: Option<u64>,
    seen: Tick,
}

impl Flow {
    pub(super) fn begun_by(packet: &Packet<'_>) -> Self {
        Self {
            first: Course::of(packet),
            at: [AtNode::default(), AtNode::default()],
            said: None,
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
        let (here, all) = self.passage(end, packet, api);
        if packet.protocol != proto::UDP {
            return here.allows(here.first);
        }
        let at = here.at_mut(all);
        let edition = Some(api.edition());
        let is_same =
            at.edition == edition || at.pods.each_ref().map(Option::as_ref) == here.pods();
        at.edition = edition;
        let silent_ns = now.0.saturating_sub(at.seen.0);
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
            at.pods = here.pods().map(Option::<&PodUid>::cloned);
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
        let (here, all) = self.passage(end, packet, api);
        if packet.protocol != proto::UDP {
            return here.allows(here.first);
        }
        let at = here.at_mut(all);
        let (mut is_allowed, mut is_denied) = (false, false);
        for begun in &at.begun {
            match here.allows(*begun) {
                true => is_allowed = true,
                false => is_denied = true,
            }
        }
        at.is_loose |= is_denied;
        is_allowed || here.allows(here.course)
    }

    /// A packet of it at the node of one end, and what the nodes have of it.
    fn passage<'a>(
        &'a mut self,
        end: End,
        packet: &Packet<'_>,
        api: &'a Api<'a>,
    ) -> (Passage<'a>, &'a mut [AtNode; 2]) {
        let Self { first, at, said } = self;
        let known = said.take().filter(|it| it.edition == api.edition());
        let said = said.insert(known.unwrap_or_else(|| Said::of(*first, api)));
        let passage = Passage {
            end,
            first: *first,
            course: Course::of(packet),
            protocol: packet.protocol,
            said,
            api,
        };
        (passage, at)
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
}

/// What the API says of a flow in one edition: asked once, and not of every packet.
#[derive(Clone, Debug)]
struct Said {
    edition: u64,
    /// One node has both ends, and one flow for both.
    has_both: bool,
    /// The pods of the first packet's source and destination.
    pods: [Option<PodUid>; 2],
    /// What each end's node says if it began by the first packet's way, and if by the way back.
    sides: [Cell<Option<[bool; 2]>>; 2],
}

impl Said {
    fn of(first: Course, api: &Api<'_>) -> Self {
        let ips = [first.src.0, first.dst.0];
        Self {
            edition: api.edition(),
            has_both: api.share_a_node_at(first.src.0, first.dst.0),
            pods: ips.map(|it| api.pod_uid(it).cloned()),
            sides: [Cell::new(None), Cell::new(None)],
        }
    }
}

/// A packet at the node of one end of its way.
struct Passage<'a> {
    end: End,
    /// The way of its flow's first packet,
    first: Course,
    /// and its own: the same or back.
    course: Course,
    protocol: u8,
    said: &'a Said,
    api: &'a Api<'a>,
}

impl<'a> Passage<'a> {
    /// Whether the node allows a flow that began by a way, which is this one or back.
    fn allows(&self, begun: Course) -> bool {
        let Some(protocol) = protocol(self.protocol) else {
            return true;
        };
        let [by_first, by_back] = &self.said.sides;
        let known = if begun == self.first {
            by_first
        } else {
            by_back
        };
        let [goes, comes] = known.get().unwrap_or_else(|| {
            let Course { src, dst } = begun;
            let port = (protocol != Protocol::Icmp).then_some(dst.1);
            let sides = self.api.sides(src.0, dst.0, protocol, port);
            known.set(Some(sides));
            sides
        });
        let is_at_source = (self.end == End::Source) == (begun == self.course);
        match (self.said.has_both, is_at_source) {
            (true, _) => goes && comes,
            (false, true) => goes,
            (false, false) => comes,
        }
    }

    /// What the node has of the flow.
    fn at_mut(&self, all: &'a mut [AtNode; 2]) -> &'a mut AtNode {
        let is_at_source = (self.end == End::Source) == (self.course == self.first);
        let [source, destination] = all;
        if self.said.has_both || is_at_source {
            source
        } else {
            destination
        }
    }

    fn pods(&self) -> [Option<&'a PodUid>; 2] {
        let [mut source, mut destination] = self.said.pods.each_ref().map(Option::as_ref);
        if self.course != self.first {
            core::mem::swap(&mut source, &mut destination);
        }
        match (self.said.has_both, self.end) {
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
