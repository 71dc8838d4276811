//! Stage classify: the verdict on flows that are new or that an older generation judged.

use crate::expect::expect;
use crate::flow::key::Tuple;
use crate::flow::state::{Packet, Track};
use crate::flow::table::{Found, INITIATOR, NewFlow, RESPONDER, Refused};
use crate::judge::{Denied, Judgement, Rules, Shadows};
use crate::meta::Meta;
use crate::mutant;
use crate::names::DomainId;
use crate::port::{Frame, Port};
use crate::reason::DropReason;
use crate::route::Attach;
use crate::snapshot::{PortKind, Snapshot};
use crate::verdict::VerdictRecord;
use crate::walk::Walk;
use crate::walk::opening::{begins_anew, may_begin, turns_round};
use crate::walk::track::{Known, is_of_these_pods, known, pass};

pub(crate) fn classify<P: Port>(walk: &mut Walk<'_, P>) {
    let judged = walk.batch.judge & walk.batch.live;
    if judged == 0 {
        return;
    }
    let tuples = walk.batch.metas(judged).map(Tuple::from);
    let mut owners = expect(walk.snapshot, tuples).into_iter();
    walk.each(judged, |walk, at| {
        let owners = owners.next();
        let Some(slot) = walk.batch.slot(at) else {
            return;
        };
        let (meta, from) = (slot.meta, slot.from);
        walk.known = owners.map(|it| ([meta.src, meta.dst], it));
        let Some(frame) = slot.frame.as_ref() else {
            return;
        };
        let packet = Packet::read(frame.bytes(), &meta);
        // A packet before this one in the burst may have made the flow or judged it.
        let found = walk.flows.find(Tuple::from(&meta), walk.now);
        let passed = match known(walk.snapshot, walk.flows, found) {
            Known::Fresh(found) => go_on(walk, found, &meta, &packet, from),
            Known::Stale(found) => rejudge(walk, found, &meta, &packet, from),
            Known::Unknown => begin(walk, &meta, &packet, from),
        };
        match (passed, walk.slot(at)) {
            (Ok(to), Some(slot)) => slot.to = to,
            (Err(reason), _) => walk.drop(at, reason),
            (Ok(_), None) => {}
        }
    });
}

/// Lets a packet of a judged flow pass, unless it begins something that its own direction
/// doesn't allow. That is judged each time and leaves no flow of its own: it has this
/// one's tuple.
fn go_on<P: Port>(
    walk: &mut Walk<'_, P>,
    found: Found,
    meta: &Meta,
    packet: &Packet,
    from: Attach,
) -> Result<Attach, DropReason> {
    if begins_anew(walk.flows, packet, found) {
        return begin(walk, meta, packet, from);
    }
    if turns_round(meta, packet, found) {
        let tuple = Tuple::from(meta);
        let judged = walk.judge(&tuple, DomainId::NONE);
        record(walk, &tuple, judged.as_ref());
        judged.map_err(|denied| denied.reason)?;
    }
    pass(walk.flows, found, packet, from, walk.now)
}

/// Judges a flow again, by its initiator's tuple whichever end spoke. One whose far end is
/// nobody's any more stays to be refused: were it forgotten, and the address one outside a moment
/// later, its next datagram would begin it anew, in clear.
fn rejudge<P: Port>(
    walk: &mut Walk<'_, P>,
    found: Found,
    meta: &Meta,
    packet: &Packet,
    from: Attach,
) -> Result<Attach, DropReason> {
    let flow = walk.flows.flow(found.slot).ok_or(DropReason::WrongPath)?;
    let (tuple, generations, domain) = (flow.tuple(), flow.generations(), flow.domain());
    let before = flow.ends();
    match walk.judge(&tuple, domain) {
        Ok(judgement) if !is_of_these_pods(walk.snapshot, generations, judgement.ends) => {
            walk.flows.remove(found.slot);
            begin(walk, meta, packet, from)
        }
        Ok(judgement) if is_bared(walk.snapshot, before, judgement.ends) => {
            Err(DropReason::IdentityUnknown)
        }
        Ok(judgement) => {
            record(walk, &tuple, Ok(&judgement));
            let rule = judgement.rules.last();
            let Judgement {
                ends, generations, ..
            } = judgement;
            // Where another rule allows it now, the name may have to again.
            let known = Some(judgement.domain).filter(|it| it.is_some());
            let domain = known.unwrap_or(domain);
            walk.flows
                .rejudge(found.slot, ends, generations, rule, domain);
            go_on(walk, found, meta, packet, from)
        }
        Err(denied) => {
            record(walk, &tuple, Err(&denied));
            if denied.reason != DropReason::IdentityUnknown {
                walk.flows.remove(found.slot);
            }
            Err(denied.reason)
        }
    }
}

/// Whether a flow that another node's dataplane had an end of would go on with somebody outside:
/// the pod there is gone, and what was said to it in ESP is not for the wire.
fn is_bared(snapshot: &Snapshot, before: [Attach; 2], now: [Attach; 2]) -> bool {
    let outside = snapshot.uplink.map(Attach::Port);
    let mut ends = before.into_iter().zip(now);
    ends.any(|(before, now)| matches!(before, Attach::Peer(_)) && Some(now) == outside)
}

/// Judges a flow for the first time, on the packet that would begin it.
fn begin<P: Port>(
    walk: &mut Walk<'_, P>,
    meta: &Meta,
    packet: &Packet,
    from: Attach,
) -> Result<Attach, DropReason> {
    if packet.is_midstream() && walk.now < walk.pickup_until {
        return pick_up(walk, meta, packet, from);
    }
    may_begin(meta, packet)?;
    let tuple = Tuple::from(meta);
    let judgement = walk.judge(&tuple, DomainId::NONE).map_err(|denied| {
        record(walk, &tuple, Err(&denied));
        denied.reason
    })?;
    start(walk, tuple, &judgement, INITIATOR, packet, from)
}

/// Judges a connection that stood before this worker did, by a segment of either end.
/// Which of them began it isn't known: policy is asked for both, first for the one with
/// the greater port, where clients are.
fn pick_up<P: Port>(
    walk: &mut Walk<'_, P>,
    meta: &Meta,
    packet: &Packet,
    from: Attach,
) -> Result<Attach, DropReason> {
    let sent = Tuple::from(meta);
    let mut guesses = [(sent, INITIATOR), (sent.reversed(), RESPONDER)];
    if meta.src_port < meta.dst_port {
        guesses.reverse();
    }
    for (tuple, end) in guesses {
        if let Ok(judgement) = walk.judge(&tuple, DomainId::NONE) {
            return start(walk, tuple, &judgement, end, packet, from);
        }
    }
    let Err(denied) = walk.judge(&sent, DomainId::NONE) else {
        return Err(DropReason::TcpNoFlow);
    };
    record(walk, &sent, Err(&denied));
    Err(denied.reason)
}

/// Puts an allowed flow in the table and lets its first packet pass, which is of `end`.
fn start<P: Port>(
    walk: &mut Walk<'_, P>,
    tuple: Tuple,
    judgement: &Judgement,
    end: usize,
    packet: &Packet,
    from: Attach,
) -> Result<Attach, DropReason> {
    let own = judgement.ends.get(end);
    if !own.is_some_and(|own| own.admits(from)) && !mutant::any_way(tuple.src.is_v4()) {
        return Err(DropReason::WrongPath);
    }
    let new = NewFlow {
        tuple,
        ends: judgement.ends,
        generations: judgement.generations,
        rule: judgement.rules.last(),
        domain: judgement.domain,
        payer: payer(walk.snapshot, judgement.ends),
        track: Track::of(packet, end),
    };
    // Only one that is over can be in the way.
    if let Some(over) = walk.flows.find(tuple, walk.now) {
        walk.flows.remove(over.slot);
    }
    let slot = walk.flows.insert(new, walk.now).map_err(Refused::reason)?;
    record(walk, &tuple, Ok(judgement));
    let found = Found {
        slot,
        from_initiator: end == INITIATOR,
    };
    pass(walk.flows, found, packet, from, walk.now)
}

/// The end whose VF pays for a flow: the initiator's, or if that is elsewhere the other's.
fn payer(snapshot: &Snapshot, ends: [Attach; 2]) -> usize {
    let [initiator, _] = ends;
    match initiator {
        Attach::Port(port) if snapshot.port(port).kind == PortKind::Vf => INITIATOR,
        _ => RESPONDER,
    }
}

pub(crate) fn record<P: Port>(
    walk: &mut Walk<'_, P>,
    tuple: &Tuple,
    outcome: Result<&Judgement, &Denied>,
) {
    let (denied, rules, shadows, to): (_, Rules, Shadows, _) = match outcome {
        Ok(it) => (None, it.rules, it.shadows, Some(it.ends[1])),
        Err(it) => (Some(it.reason), it.rules, it.shadows, None),
    };
    for shadow in shadows.iter() {
        let counters = walk.counters.port(shadow.port);
        if shadow.allow {
            counters.shadow_would_allow.add(1);
        } else {
            counters.shadow_would_deny.add(1);
        }
    }
    let taken = walk.verdicts.push(VerdictRecord {
        at: walk.now,
        generation: walk.snapshot.generation,
        port: walk.batch.in_port,
        tuple: *tuple,
        denied,
        rules,
        shadows,
        to,
    });
    if !taken {
        walk.counters.verdicts_lost.add(1);
    }
}
