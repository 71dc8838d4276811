//! Stage classify: the verdict on flows that are new or that an older generation judged.

use crate::flow::key::Tuple;
use crate::flow::table::{Found, NewFlow};
use crate::judge::{Denied, Judgement, Rules, judge};
use crate::meta::Meta;
use crate::port::Port;
use crate::reason::DropReason;
use crate::route::Attach;
use crate::verdict::VerdictRecord;
use crate::walk::Walk;
use crate::walk::opening::{may_begin, turns_round};
use crate::walk::track::{Known, known, pass};

pub(crate) fn classify<P: Port>(walk: &mut Walk<'_, P>) {
    walk.each(walk.batch.judge, |walk, at| {
        let Some(slot) = walk.batch.slot(at) else {
            return;
        };
        let (meta, from) = (slot.meta, slot.from);
        // A packet before this one in the burst may have made the flow or judged it.
        let found = walk.flows.find(Tuple::from(&meta), walk.now);
        let passed = match known(walk.snapshot, walk.flows, found) {
            Known::Fresh(found) => go_on(walk, found, &meta, from),
            Known::Stale(found) => rejudge(walk, found, &meta, from),
            Known::Unknown => begin(walk, &meta, from),
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
    from: Attach,
) -> Result<Attach, DropReason> {
    if turns_round(meta, found) {
        let tuple = Tuple::from(meta);
        let judged = judge(walk.snapshot, &tuple);
        record(walk, &tuple, judged.as_ref());
        judged.map_err(|denied| denied.reason)?;
    }
    pass(walk.flows, found, meta, from, walk.now)
}

/// Judges a flow again, by its initiator's tuple whichever end spoke.
fn rejudge<P: Port>(
    walk: &mut Walk<'_, P>,
    found: Found,
    meta: &Meta,
    from: Attach,
) -> Result<Attach, DropReason> {
    let tuple = walk
        .flows
        .flow(found.slot)
        .ok_or(DropReason::WrongPath)?
        .tuple();
    match judge(walk.snapshot, &tuple) {
        Ok(judgement) if !is_of_these_pods(walk, found, &judgement) => {
            walk.flows.remove(found.slot);
            begin(walk, meta, from)
        }
        Ok(judgement) => {
            record(walk, &tuple, Ok(&judgement));
            let (flow, _) = walk
                .flows
                .flow_mut(found.slot)
                .ok_or(DropReason::WrongPath)?;
            flow.ends = judgement.ends;
            flow.generations = judgement.generations;
            flow.rule = judgement.rules.last();
            go_on(walk, found, meta, from)
        }
        Err(denied) => {
            record(walk, &tuple, Err(&denied));
            walk.flows.remove(found.slot);
            Err(denied.reason)
        }
    }
}

/// Whether the pods at a flow's ends are still those that it was judged for. A pod that
/// came or left took the flow's right with it: who has its address now never spoke.
pub(crate) fn is_of_these_pods<P: Port>(
    walk: &Walk<'_, P>,
    found: Found,
    judgement: &Judgement,
) -> bool {
    let Some(flow) = walk.flows.flow(found.slot) else {
        return false;
    };
    let mut ends = flow.generations.iter().zip(judgement.ends);
    ends.all(|(&judged, end)| match end {
        Attach::Port(port) => match walk.snapshot.endpoint_of(port) {
            Some(endpoint) => judged >= endpoint.born,
            None => judged == 0,
        },
        Attach::Peer(_) => judged == 0,
    })
}

/// Judges a flow for the first time, on the packet that would begin it.
fn begin<P: Port>(walk: &mut Walk<'_, P>, meta: &Meta, from: Attach) -> Result<Attach, DropReason> {
    may_begin(meta)?;
    let tuple = Tuple::from(meta);
    let judgement = judge(walk.snapshot, &tuple).map_err(|denied| {
        record(walk, &tuple, Err(&denied));
        denied.reason
    })?;
    let [came_by, _] = judgement.ends;
    if came_by != from {
        return Err(DropReason::WrongPath);
    }
    let new = NewFlow {
        tuple,
        ends: judgement.ends,
        generations: judgement.generations,
        rule: judgement.rules.last(),
    };
    let slot = walk
        .flows
        .insert(new, walk.now)
        .map_err(|_| DropReason::FlowTableFull)?;
    record(walk, &tuple, Ok(&judgement));
    let found = Found {
        slot,
        from_initiator: true,
    };
    pass(walk.flows, found, meta, from, walk.now)
}

pub(crate) fn record<P: Port>(
    walk: &mut Walk<'_, P>,
    tuple: &Tuple,
    outcome: Result<&Judgement, &Denied>,
) {
    let (denied, rules, to): (_, Rules, _) = match outcome {
        Ok(judgement) => (None, judgement.rules, Some(judgement.ends[1])),
        Err(denied) => (Some(denied.reason), denied.rules, None),
    };
    let taken = walk.verdicts.push(VerdictRecord {
        at: walk.now,
        generation: walk.snapshot.generation,
        port: walk.batch.in_port,
        tuple: *tuple,
        denied,
        rules,
        to,
    });
    if !taken {
        walk.counters.verdicts_lost.add(1);
    }
}
