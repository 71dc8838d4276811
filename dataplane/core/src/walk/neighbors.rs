//! Between bursts: asking for next hops, and sending on what waited for an answer.

use crate::addr::{Addr, Mac};
use crate::neighbor::Waiting;
use crate::port::{Frame, Port};
use crate::reason::DropReason;
use crate::steer::News;
use crate::walk::Walk;
use crate::wire::{arp, ethernet, nd};

/// Questions sent in one poll, at most.
const QUESTIONS_MAX: usize = 32;
/// Frames given up in one poll, at most: others wait to be received.
const GIVEN_UP_MAX: usize = 32;

/// Takes a neighbour's answer, for all workers: whoever asked, one of them has received it.
pub(crate) fn learn<P: Port>(walk: &mut Walk<'_, P>, addr: Addr, mac: Mac) {
    if !walk.handoff.is_alone() {
        let lost = walk
            .handoff
            .tell(walk.batch.in_port, News::Neighbor(addr, mac));
        walk.counters.news_lost.add(lost);
    }
    learn_here(walk, addr, mac);
}

/// The same for this one: sends the frames that waited for it.
pub(crate) fn learn_here<P: Port>(walk: &mut Walk<'_, P>, addr: Addr, mac: Mac) {
    if mac.is_group() || !walk.neighbors.learn(addr, mac, walk.now) {
        return;
    }
    let Some(uplink) = walk.snapshot.uplink else {
        return;
    };
    let own = walk.snapshot.port(uplink).mac;
    while let Some(mut waiting) = walk.neighbors.release(addr) {
        let counters = walk.counters.port(waiting.in_port);
        counters.waiting.add(u64::MAX); // one less: the counter wraps
        if walk.snapshot.newest_generation(waiting.in_port) != waiting.generation {
            // Its pod is judged by something newer, which may deny it; the frame may be
            // sealed by now and can't be judged again.
            counters.drop(DropReason::NextHop);
        } else if ethernet::rewrite(waiting.frame.bytes_mut(), own, mac) {
            let Waiting {
                in_port,
                frame,
                clear,
                ..
            } = waiting;
            walk.send_for(in_port, uplink, frame, clear);
        } else {
            counters.drop(DropReason::NoHeadroom);
        }
    }
}

/// Pins the next hops of a new generation: its peers' and the gateways.
pub(crate) fn pin<P: Port>(walk: &mut Walk<'_, P>) {
    walk.neighbors.unpin_all();
    let snapshot = walk.snapshot;
    let peers = snapshot.peers.iter().flatten();
    let peers = peers.filter_map(|p| p.tunnel());
    let gateways = snapshot.interfaces.iter().filter_map(|i| i.gateway);
    let next_hops = peers.chain(gateways).filter_map(|destination| {
        let interface = snapshot.interface_for(destination)?;
        interface.next_hop(destination)
    });
    // Those that are known first: else a new one could take the place of one whose turn comes.
    for next_hop in next_hops.clone() {
        walk.neighbors.pin_known(next_hop);
    }
    for next_hop in next_hops {
        walk.neighbors.pin(next_hop, walk.now);
    }
}

/// Asks what is due and gives up on what waited too long.
pub(crate) fn tend<P: Port>(walk: &mut Walk<'_, P>) {
    for _ in 0..QUESTIONS_MAX {
        let Some(addr) = walk.neighbors.next_question(walk.now) else {
            break;
        };
        ask(walk, addr);
    }
    for _ in 0..GIVEN_UP_MAX {
        let Some(waiting) = walk.neighbors.give_up(walk.now) else {
            break;
        };
        let counters = walk.counters.port(waiting.in_port);
        counters.waiting.add(u64::MAX);
        counters.drop(DropReason::NextHop);
    }
}

fn ask<P: Port>(walk: &mut Walk<'_, P>, target: Addr) {
    let Some(uplink) = walk.snapshot.uplink else {
        return;
    };
    let own = walk.snapshot.port(uplink).mac;
    let Some(from) = walk.snapshot.interface_for(target).map(|i| i.addr) else {
        return;
    };
    let Some(port) = walk.ports.get_mut(usize::from(uplink.0)) else {
        return;
    };
    let len = if target.is_v4() {
        arp::FRAME_LEN
    } else {
        nd::SOLICIT_FRAME_LEN
    };
    let Some(mut frame) = port.alloc(len) else {
        return;
    };
    let written = if target.is_v4() {
        arp::write_request(frame.bytes_mut(), own, from, target)
    } else {
        nd::write_solicit(frame.bytes_mut(), own, from, target)
    };
    if written.is_some() {
        walk.originate(uplink, frame);
    }
}
