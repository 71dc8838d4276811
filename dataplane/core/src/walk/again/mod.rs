//! Stage again: packets with the headers of one whose flow the walk has found go its way.
//!
//! They go from port to port in one turn, before all other stages; those that come in as ESP when
//! they have been opened. What is a packet's own is still asked of each: its checks, its place in
//! the flow, its length, its number. One for which there is no way, or that isn't plain sailing,
//! goes through the walk before any of its flow behind it, so none overtakes; then its way is known.

pub(crate) mod outer;
mod road;

use crate::batch::{Batch, Path, Slot};
use crate::flow::key::{FlowKey, Tuple};
use crate::meta::FragKind;
use crate::names::DNS_PORT;
use crate::port::{Frame, Port};
use crate::route::Attach;
use crate::sad::Child;
use crate::snapshot::PortKind;
use crate::walk::again::road::Road;
use crate::walk::track::{Known, goes_to, known};
use crate::walk::{Walk, steer};
use crate::ways::{Leg, Step, To, Way};
use crate::wire::parse::Headers;

/// Strangers in a row after which the rest of a burst counts as such: it is full of them, and
/// they are walked together.
const STRANGERS_MAX: u32 = 4;

/// A packet whose way is worth knowing, when the walk has found it.
pub(crate) struct Newcomer {
    at: usize,
    headers: Headers,
}

/// What a burst's packets have on them where they come in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Come {
    /// Their own headers: from a VF and from the host.
    InClear,
    /// Those of ESP, mostly: by the wire. The rest is asked whose MAC it has.
    Sealed,
    /// By a port that is closed.
    Not,
}

pub(crate) fn come<P: Port>(walk: &Walk<'_, P>) -> Come {
    match walk.snapshot.port(walk.batch.in_port).kind {
        PortKind::Vf | PortKind::Host => Come::InClear,
        PortKind::Uplink => Come::Sealed,
        PortKind::Closed => Come::Not,
    }
}

/// Lets those at the head of a burst that know their way go it.
pub(crate) fn again<P: Port>(walk: &mut Walk<'_, P>) {
    match come(walk) {
        Come::InClear => in_clear(walk),
        Come::Sealed => opened(walk),
        Come::Not => {}
    }
}

fn in_clear<P: Port>(walk: &mut Walk<'_, P>) {
    let (in_port, epoch) = (walk.batch.in_port, walk.handoff.epoch);
    let (mut road, ways) = Road::of(walk);
    let mut headers = head(road.batch);
    while let Some(found) = &headers
        && let Some(way) = ways.find(found, in_port, epoch)
        && let To::Flow(step) = &way.to
        && let Some(next) = road.follow(way, step)
    {
        headers = next;
    }
    road.end(in_port);
}

fn opened<P: Port>(walk: &mut Walk<'_, P>) {
    let in_port = walk.batch.in_port;
    let (mut road, _) = Road::of(walk);
    let mut refused = None;
    while let Some((at, step)) = road.batch.first_step() {
        if road.go_on(at, step).is_none() {
            refused = Some(step.slot);
            break;
        }
    }
    road.end(in_port);
    if let Some(flow) = refused {
        // It couldn't go its way, and neither can those like it: not each by itself.
        walk.each(u32::MAX, |walk, at| {
            let opened = walk.batch.slot(at).and_then(|it| it.opened.as_mut());
            if let Some(opened) = opened
                && opened.step.is_some_and(|it| it.slot == flow)
            {
                opened.step = None;
            }
        });
    }
}

/// The headers of the frame at the head.
#[inline]
fn head<F: Frame>(batch: &Batch<F>) -> Option<Headers> {
    let (_, frame) = batch.first()?;
    Headers::read(frame.bytes())
}

/// Of what is left, those at the head that are for the walk together, and the first of them if
/// its way is worth knowing.
pub(crate) fn strangers<P: Port>(walk: &mut Walk<'_, P>) -> (u32, Option<Newcomer>) {
    match come(walk) {
        Come::InClear => strangers_in_clear(walk),
        Come::Sealed => strangers_opened(walk),
        Come::Not => (walk.batch.live, None),
    }
}

fn strangers_in_clear<P: Port>(walk: &Walk<'_, P>) -> (u32, Option<Newcomer>) {
    let all = walk.batch.live;
    let (in_port, epoch) = (walk.batch.in_port, walk.handoff.epoch);
    let plain_at = |at| {
        let bytes = walk.batch.frame(at)?.bytes();
        Headers::read(bytes).filter(|_| Headers::are_plain(bytes))
    };
    let has_way = |it: &Headers| walk.ways.find(it, in_port, epoch).is_some();
    let at = all.trailing_zeros() as usize;
    // Fragments of a datagram are to be seen in one walk, however many there are.
    let Some(headers) = plain_at(at) else {
        return (all, None);
    };
    let newcomer = Newcomer { at, headers };
    if has_way(&newcomer.headers) {
        // It couldn't go its way, and neither can those like it: not each by itself.
        return (all, Some(newcomer));
    }
    let (mut mask, mut left) = (1u32 << at, all & all.wrapping_sub(1));
    while left != 0 && mask.count_ones() < STRANGERS_MAX {
        let at = left.trailing_zeros() as usize;
        match plain_at(at) {
            None => return (all, Some(newcomer)),
            Some(it) if has_way(&it) => return (mask, Some(newcomer)),
            Some(_) => {}
        }
        mask |= 1 << at;
        left &= left - 1;
    }
    (all, Some(newcomer))
}

/// What has no flow, or one with an end that no SA is for, is of no flow with what knows its way: it
/// all goes first.
fn strangers_opened<P: Port>(walk: &mut Walk<'_, P>) -> (u32, Option<Newcomer>) {
    let (all, mut left) = (walk.batch.live, walk.batch.live);
    let (mut mask, mut count, mut is_behind) = (0, 0u32, false);
    let mut newcomer = None;
    while left != 0 {
        let at = left.trailing_zeros() as usize;
        left &= left - 1;
        let Some(slot) = walk.batch.slot(at) else {
            break;
        };
        // A flow that may come in clear from a node may come sealed from it, too.
        let may_have_way = slot.path == Path::Tracked && !matches!(slot.from, Attach::Port(_));
        if may_have_way && slot.meta.frag != FragKind::Whole {
            // Fragments of a datagram are to be seen in one walk, however many there are.
            return (all, newcomer);
        }
        is_behind |= may_have_way && slot.step().is_some();
        if may_have_way && is_behind {
            continue;
        }
        mask |= 1 << at;
        if may_have_way {
            count += 1;
            newcomer = newcomer.or_else(|| newcomer_opened(at, slot));
            if count >= STRANGERS_MAX {
                return (all, newcomer);
            }
        }
    }
    (mask, newcomer)
}

fn newcomer_opened<F: Frame>(at: usize, slot: &Slot<F>) -> Option<Newcomer> {
    let (bytes, peer) = (slot.frame.as_ref()?.bytes(), slot.from.peer()?);
    let next_header = slot.opened?.next_header;
    let headers = Headers::read_inner(bytes, next_header, peer.0)?;
    Headers::are_plain_inner(bytes, next_header).then_some(Newcomer { at, headers })
}

/// Keeps the way of a packet that has gone through the walk, if the next goes the same.
pub(crate) fn remember<P: Port>(walk: &mut Walk<'_, P>, it: &Newcomer) {
    if let Some(way) = way_of(walk, it) {
        walk.ways.keep(way);
    }
}

fn way_of<P: Port>(walk: &mut Walk<'_, P>, it: &Newcomer) -> Option<Way> {
    let slot = walk.batch.slot(it.at)?;
    // What was dropped before its flow was asked for may stand here as another frame left it, and
    // nobody has said that it may be sent. The first packet of a flow has none yet.
    if slot.path != Path::Tracked || slot.found.is_none() {
        return None;
    }
    let (meta, from) = (slot.meta, slot.from);
    let tuple = Tuple::from(&meta);
    let is_dns = meta.src_port == DNS_PORT || meta.dst_port == DNS_PORT;
    if walk.follows_names && is_dns || !steer::is_here(walk, &tuple) {
        return None;
    }
    let found = walk.flows.find(tuple, walk.now);
    let Known::Fresh(found) = known(walk.snapshot, walk.flows, found) else {
        return None;
    };
    let leg = match goes_to(walk.flows, found, from).ok()? {
        Attach::Peer(peer) => match walk.sad.outbound_mut(peer, &meta) {
            Some(Child::Here(..)) => Leg::Sealed(peer),
            // Another worker's to seal, always.
            Some(Child::Elsewhere(_)) | None => return None,
        },
        Attach::Port(out) if walk.snapshot.port(out).kind == PortKind::Vf => Leg::Local(out),
        Attach::Port(_) | Attach::Clear(_) => return None,
    };
    let (_, is_turned) = FlowKey::of(tuple);
    Some(Way {
        headers: it.headers,
        in_port: walk.batch.in_port,
        epoch: walk.handoff.epoch,
        meta,
        to: To::Flow(Step {
            is_turned,
            slot: found.slot,
            leg,
        }),
    })
}
