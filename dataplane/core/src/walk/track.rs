//! Stage track: each packet's flow. What has none, or one that another generation judged,
//! is marked for the next stage.

use crate::addr::Addr;
use crate::batch::Path;
use crate::flow::key::Tuple;
use crate::flow::state::Packet;
use crate::flow::table::{Flow, FlowTable, Found, INITIATOR, RESPONDER};
use crate::meta::{FragKind, Meta};
use crate::mutant::{self, Mutant};
use crate::path_mtu;
use crate::port::{Frame, Port};
use crate::reason::DropReason;
use crate::route::Attach;
use crate::snapshot::Snapshot;
use crate::tick::Tick;
use crate::walk::Walk;
use crate::walk::opening::begins_again;
use crate::wire::embedded::{self, Embedded};
use crate::wire::icmp;

pub(crate) fn track<P: Port>(walk: &mut Walk<'_, P>) {
    // Packets of one flow come in a row, and nothing in this stage judges a flow anew.
    let mut last: Option<(Tuple, Found)> = None;
    walk.each(u32::MAX, |walk, at| {
        let Some(slot) = walk.batch.slot(at) else {
            return;
        };
        if slot.path != Path::Tracked {
            return;
        }
        let (meta, from) = (slot.meta, slot.from);
        if meta.frag == FragKind::Later {
            // It has no ports to be judged by, and collect lets none through to here.
            walk.drop(at, DropReason::FragmentNoFirst);
            return;
        }
        if meta.icmp_error {
            let frame = slot.frame.as_ref();
            if frame.is_some_and(|f| asks_too_little(f.bytes(), &meta)) {
                walk.drop(at, DropReason::IcmpMtu);
                return;
            }
            let inside = frame.and_then(|f| embedded::embedded(f.bytes(), &meta));
            match error_route(walk.snapshot, walk.flows, &meta, inside, from, walk.now) {
                Ok(to) => slot.to = to,
                Err(reason) => walk.drop(at, reason),
            }
            return;
        }
        let Some(frame) = slot.frame.as_ref() else {
            return;
        };
        let packet = Packet::read(frame.bytes(), &meta);
        let tuple = Tuple::from(&meta);
        let known = match last {
            Some((of, found)) if of == tuple && walk.flows.is_current(found, walk.now) => {
                Known::Fresh(found)
            }
            _ => {
                let found = walk.flows.find(tuple, walk.now);
                known(walk.snapshot, walk.flows, found)
            }
        };
        slot.found = known.found();
        last = match known {
            Known::Fresh(found) => Some((tuple, found)),
            Known::Stale(_) | Known::Unknown => None,
        };
        match known {
            Known::Fresh(found) if !begins_again(walk.flows, &meta, &packet, found) => {
                match pass(walk.flows, found, &packet, from, walk.now) {
                    Ok(to) => {
                        slot.to = to;
                        walk.counters.flow_hit.add(1);
                    }
                    Err(reason) => walk.drop(at, reason),
                }
            }
            Known::Stale(_) => {
                walk.counters.flow_stale.add(1);
                walk.batch.judge |= 1 << at;
            }
            Known::Fresh(_) | Known::Unknown => {
                walk.counters.flow_miss.add(1);
                walk.batch.judge |= 1 << at;
            }
        }
    });
}

/// What the table says of a packet.
#[derive(Clone, Copy)]
pub(crate) enum Known {
    /// Its flow was judged by what is in force.
    Fresh(Found),
    /// Its flow was judged by something older.
    Stale(Found),
    /// It has none.
    Unknown,
}

impl Known {
    const fn found(self) -> Option<Found> {
        match self {
            Self::Fresh(found) | Self::Stale(found) => Some(found),
            Self::Unknown => None,
        }
    }
}

#[inline]
pub(crate) fn known(snapshot: &Snapshot, flows: &FlowTable, found: Option<Found>) -> Known {
    match found.and_then(|found| Some((found, flows.flow(found.slot)?))) {
        Some((found, flow)) if is_fresh(snapshot, flow) => Known::Fresh(found),
        Some((found, _)) => Known::Stale(found),
        None => Known::Unknown,
    }
}

fn is_fresh(snapshot: &Snapshot, flow: &Flow) -> bool {
    let generation = |end: Attach, other: Addr| match end {
        Attach::Port(port) => snapshot
            .endpoint_of(port)
            .map_or(0, |it| snapshot.generation_towards(it, other)),
        Attach::Peer(_) | Attach::Clear(_) => 0,
    };
    let (tuple, [from, to]) = (flow.tuple(), flow.ends());
    flow.generations() == [generation(from, tuple.dst), generation(to, tuple.src)]
        || mutant::is(Mutant::StaleGeneration)
}

/// Whether the pods at a flow's ends are still those that it was judged for. A pod that
/// came or left took the flow's right with it: who has its address now never spoke.
pub(crate) fn is_of_these_pods(
    snapshot: &Snapshot,
    generations: [u32; 2],
    ends: [Attach; 2],
) -> bool {
    let mut ends = generations.iter().zip(ends);
    ends.all(|(&judged, end)| match end {
        Attach::Port(port) => match snapshot.endpoint_of(port) {
            Some(endpoint) => judged >= endpoint.born,
            None => judged == 0,
        },
        Attach::Peer(_) | Attach::Clear(_) => judged == 0,
    })
}

/// Lets a packet of a judged flow pass: it must have come the flow's own way. Where to.
pub(crate) fn pass(
    flows: &mut FlowTable,
    found: Found,
    packet: &Packet,
    from: Attach,
    now: Tick,
) -> Result<Attach, DropReason> {
    let to = goes_to(flows, found, from)?;
    flows.take(found, packet, now)?;
    Ok(to)
}

/// Where packets of a judged flow go that come by `from`, if that is the flow's own way.
pub(crate) fn goes_to(flows: &FlowTable, found: Found, from: Attach) -> Result<Attach, DropReason> {
    let flow = flows.flow(found.slot).ok_or(DropReason::WrongPath)?;
    let [initiator, responder] = flow.ends();
    let (came_by, to) = if found.from_initiator {
        (initiator, responder)
    } else {
        (responder, initiator)
    };
    if !came_by.admits(from) && !mutant::any_way(flow.tuple().src.is_v4()) {
        return Err(DropReason::WrongPath);
    }
    Ok(to)
}

/// Whether an error asks for packets smaller than a path has to carry whole: it would slow
/// its receiver down, or have it fragment, for nothing.
fn asks_too_little(frame: &[u8], meta: &Meta) -> bool {
    let floor = path_mtu::least(meta.src.is_v4());
    icmp::quoted_mtu(frame, meta).is_some_and(|mtu| mtu < floor)
}

/// An ICMP error passes with the flow it complains of: to the end whose packet stands in
/// it, by the way that packet went (RFC 5927 section 4 has the dangers of less).
fn error_route(
    snapshot: &Snapshot,
    flows: &mut FlowTable,
    meta: &Meta,
    inside: Option<Embedded>,
    from: Attach,
    now: Tick,
) -> Result<Attach, DropReason> {
    let inside = inside
        .filter(|t| t.src == meta.dst)
        .ok_or(DropReason::IcmpNoFlow)?;
    let found = flows
        .find(Tuple::from(&inside), now)
        .ok_or(DropReason::IcmpNoFlow)?;
    let flow = flows.flow(found.slot).ok_or(DropReason::IcmpNoFlow)?;
    // A stale flow is judged by its own next packet; until then its errors wait too.
    if !is_fresh(snapshot, flow) {
        return Err(DropReason::IcmpNoFlow);
    }
    let (sender, receiver) = if found.from_initiator {
        (INITIATOR, RESPONDER)
    } else {
        (RESPONDER, INITIATOR)
    };
    let end = flow.ends()[receiver];
    // Routers on the way speak of what goes in clear, and not as the node.
    let by_router =
        matches!(end, Attach::Clear(_)) && snapshot.uplink.map(Attach::Port) == Some(from);
    if !end.admits(from) && !by_router {
        return Err(DropReason::WrongPath);
    }
    if !flow.track().may_have_sent(inside.number, sender) {
        return Err(DropReason::IcmpNotSent);
    }
    Ok(flow.ends()[sender])
}
