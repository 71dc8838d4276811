//! Stages collect and settle: later fragments go where their first goes.
//!
//! Collect lets the first of a datagram on to be tracked and judged, and settle tells its
//! datagram what came of that. A later one takes no part in either: it follows the flow of
//! its first as that stands when it comes, or waits for the first.

use crate::batch::Path;
use crate::counters::Counters;
use crate::flow::key::Tuple;
use crate::flow::state::Packet;
use crate::flow::table::{INITIATOR, RESPONDER};
use crate::frag::{Arrival, DatagramSlot, Key, Learned, Payer, Waiting};
use crate::meta::{FragKind, Meta};
use crate::names::DomainId;
use crate::port::{BURST_MAX, Frame, Port};
use crate::reason::DropReason;
use crate::route::Attach;
use crate::snapshot::{Place, PortIndex, PortKind, Snapshot};
use crate::walk::classify::record;
use crate::walk::opening::turns_round;
use crate::walk::track::{Known, is_of_these_pods, known};
use crate::walk::{Walk, steer};
use crate::wire;

/// Before track: firsts go on, later ones follow or wait, and what doesn't fit is dropped.
pub(crate) fn collect<P: Port>(walk: &mut Walk<'_, P>) {
    walk.each(u32::MAX, |walk, at| {
        let Some(slot) = walk.batch.slot(at) else {
            return;
        };
        if slot.path != Path::Tracked || slot.meta.frag == FragKind::Whole {
            return;
        }
        let (meta, from) = (slot.meta, slot.from);
        let frame = slot.frame.as_ref();
        let Some(piece) = frame.and_then(|f| wire::fragment(f.bytes(), &meta)) else {
            walk.drop(at, DropReason::Malformed);
            return;
        };
        let key = Key {
            src: meta.src,
            dst: meta.dst,
            id: piece.id,
            protocol: if meta.src.is_v4() { meta.protocol } else { 0 },
            from,
            born: born(walk.snapshot, from),
        };
        let payer = payer(walk.snapshot, &meta, from);
        let lost = &mut lose(walk.counters);
        match walk.fragments.arrive(&key, payer, piece, walk.now, lost) {
            Arrival::First(datagram) => {
                slot.datagram = Some(datagram);
                walk.batch.firsts |= 1 << at;
            }
            Arrival::Hold(datagram) => hold(walk, at, datagram, from),
            Arrival::Follow(datagram, learned) => {
                match (follow(walk, learned, from), walk.slot(at)) {
                    (Ok(to), Some(slot)) => (slot.path, slot.to) = (Path::Later, to),
                    (Err(reason), _) => {
                        walk.fragments.refuse(datagram, lost);
                        walk.drop(at, reason);
                    }
                    (Ok(_), None) => {}
                }
            }
            Arrival::HandOver(owner) => steer::hand_flow(walk, at, owner),
            Arrival::Drop(reason) => walk.drop(at, reason),
        }
    });
}

/// The first of a datagram goes to the worker whose flow it is of.
pub(crate) fn hand_over<P: Port>(walk: &mut Walk<'_, P>, at: usize, owner: usize) {
    let datagram = walk.slot(at).and_then(|slot| slot.datagram.take());
    walk.batch.firsts &= !(1 << at);
    let lost = &mut lose(walk.counters);
    let handed = datagram.map_or(Ok(()), |it| walk.fragments.hand_over(it, owner, lost));
    match handed {
        Ok(()) => steer::hand_flow(walk, at, owner),
        Err(reason) => walk.drop(at, reason),
    }
}

/// After classify: what became of the firsts, the dropped ones too.
pub(crate) fn settle<P: Port>(walk: &mut Walk<'_, P>) {
    let mut left = core::mem::take(&mut walk.batch.firsts);
    while left != 0 {
        let at = left.trailing_zeros() as usize;
        left &= left - 1;
        let passed = walk.batch.live & 1 << at != 0;
        let Some(slot) = walk.batch.slot(at) else {
            continue;
        };
        let (to, datagram) = (slot.to, slot.datagram.take());
        let Some(datagram) = datagram else { continue };
        let lost = &mut lose(walk.counters);
        match learn(walk, at).filter(|_| passed) {
            None => walk.fragments.refuse(datagram, lost),
            Some(learned) => {
                if let Err(reason) = walk.fragments.pass(datagram, learned, to, lost) {
                    walk.drop(at, reason);
                }
            }
        }
    }
}

/// After a burst: fills the batch with frames whose first has passed in it. Whether there
/// were any. They go as the first does, which was judged a moment ago.
pub(crate) fn resume<P: Port>(walk: &mut Walk<'_, P>) -> bool {
    let Some(in_port) = walk.fragments.ready_port() else {
        return false;
    };
    walk.batch.begin(in_port);
    let counters = walk.counters.port(in_port);
    for _ in 0..BURST_MAX {
        if walk.fragments.ready_port() != Some(in_port) {
            break;
        }
        let Some(ready) = walk.fragments.next_ready() else {
            break;
        };
        counters.waiting.add(u64::MAX); // one less: the counter wraps
        if let Some(owner) = ready.owner {
            steer::waited(walk, ready, owner);
            continue;
        }
        walk.counters.flow_hit.add(1);
        if walk.batch.push(ready.frame).is_err() {
            counters.drop(DropReason::NoHeadroom);
            continue;
        }
        if let Some(slot) = walk.batch.last() {
            slot.path = Path::Later;
            (slot.meta, slot.from, slot.to) = (ready.meta, ready.from, ready.to);
        }
    }
    true
}

/// Between bursts: gives up on firsts that never came.
pub(crate) fn tend<P: Port>(walk: &mut Walk<'_, P>) {
    walk.fragments.expire(walk.now, &mut lose(walk.counters));
}

/// Counts frames that waited in vain, each at the port it came by.
fn lose<F>(counters: &Counters) -> impl FnMut(Waiting<F>, DropReason) + use<'_, F> {
    |waiting, reason| {
        let port = counters.port(waiting.in_port);
        port.waiting.add(u64::MAX); // one less: the counter wraps
        port.drop(reason);
    }
}

fn hold<P: Port>(walk: &mut Walk<'_, P>, at: usize, datagram: DatagramSlot, from: Attach) {
    let in_port = walk.batch.in_port;
    let Some(slot) = walk.batch.slot(at) else {
        return;
    };
    let (meta, to) = (slot.meta, slot.to);
    let Some(frame) = walk.batch.take(at) else {
        return;
    };
    walk.counters.port(in_port).waiting.add(1);
    let waiting = Waiting {
        frame,
        meta,
        in_port,
        from,
        to,
        owner: None,
    };
    let lost = &mut lose(walk.counters);
    walk.fragments.hold(datagram, waiting, lost);
}

fn born(snapshot: &Snapshot, from: Attach) -> u32 {
    match from {
        Attach::Port(port) => snapshot.endpoint_of(port).map_or(0, |e| e.born),
        Attach::Peer(_) | Attach::Clear(_) => 0,
    }
}

/// A pod for what it sends, a peer for what it sends, and for what comes in clear from
/// anybody else the pod that it is for.
fn payer(snapshot: &Snapshot, meta: &Meta, from: Attach) -> Payer {
    let by: PortIndex = match from {
        Attach::Peer(peer) => return Payer::Peer(peer),
        Attach::Port(port) => port,
        // Anybody on the wire can say that it is this node.
        Attach::Clear(peer) => match snapshot.uplink {
            Some(uplink) => uplink,
            None => return Payer::Peer(peer),
        },
    };
    match snapshot.owner(meta.dst).map(|o| o.place) {
        Some(Place::LocalPod(index)) if snapshot.port(by).kind != PortKind::Vf => snapshot
            .endpoint(index)
            .map_or(Payer::Sender(by), |e| Payer::Receiver(e.port)),
        _ => Payer::Sender(by),
    }
}

/// What the later fragments need to know of the first, which has passed track and classify.
fn learn<P: Port>(walk: &mut Walk<'_, P>, at: usize) -> Option<Learned> {
    let slot = walk.batch.slot(at)?;
    let meta = slot.meta;
    if meta.icmp_error {
        let inside = wire::embedded(slot.frame.as_ref()?.bytes(), &meta)?;
        return Some(Learned {
            tuple: Tuple::from(&inside),
            error: true,
            begins: false,
        });
    }
    let packet = Packet::read(slot.frame.as_ref()?.bytes(), &meta);
    let tuple = Tuple::from(&meta);
    let found = walk.flows.find(tuple, walk.now)?;
    Some(Learned {
        tuple,
        error: false,
        begins: turns_round(&meta, &packet, found),
    })
}

/// Where a later fragment goes: with the flow that its first was of, if that is still
/// there, still allowed, and the fragment came the flow's own way.
fn follow<P: Port>(
    walk: &mut Walk<'_, P>,
    learned: Learned,
    from: Attach,
) -> Result<Attach, DropReason> {
    let found = walk.flows.find(learned.tuple, walk.now);
    let (found, fresh) = match known(walk.snapshot, walk.flows, found) {
        Known::Fresh(found) => (found, true),
        Known::Stale(found) => (found, false),
        Known::Unknown => return Err(DropReason::FragmentRefused),
    };
    let flow = walk.flows.flow(found.slot);
    let flow = flow.ok_or(DropReason::FragmentRefused)?;
    let (tuple, ends, generations) = (flow.tuple(), flow.ends(), flow.generations());
    let domain = flow.domain();
    let (sender, receiver) = if found.from_initiator == learned.error {
        (RESPONDER, INITIATOR)
    } else {
        (INITIATOR, RESPONDER)
    };
    if !ends[sender].admits(from) {
        return Err(DropReason::WrongPath);
    }
    if fresh {
        walk.counters.flow_hit.add(1);
        return Ok(ends[receiver]);
    }
    walk.counters.flow_stale.add(1);
    if learned.error {
        // As a whole one would: it waits for the flow's own next packet.
        return Err(DropReason::IcmpNoFlow);
    }
    // Judged here and now; the flow itself is judged by its own next packet.
    let judgement = walk.judge(&tuple, domain).map_err(|denied| {
        record(walk, &tuple, Err(&denied));
        denied.reason
    })?;
    if judgement.ends != ends || !is_of_these_pods(walk.snapshot, generations, judgement.ends) {
        return Err(DropReason::FragmentRefused);
    }
    if learned.begins {
        walk.judge(&learned.tuple, DomainId::NONE)
            .map_err(|denied| {
                record(walk, &learned.tuple, Err(&denied));
                denied.reason
            })?;
    }
    Ok(ends[receiver])
}
