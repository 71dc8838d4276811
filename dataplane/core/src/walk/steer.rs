//! Stage steer: what another worker owns goes there. Three times on the way, each time as soon
//! as it is known who that is: to the owner of the SA it came by, to the owner of its flow,
//! and to the owner of the SA it leaves by. A card that steers as we do, and a peer that is
//! one of ours, leave next to nothing to do here.

use crate::batch::{Path, Slot};
use crate::flow::key::Tuple;
use crate::frag::Waiting;
use crate::lane::{flow_hash, lane_hash};
use crate::meta::{FragKind, Meta};
use crate::port::{Frame, Port};
use crate::reason::DropReason;
use crate::route::Attach;
use crate::snapshot::{PeerIndex, PortIndex};
use crate::steer::{Handed, How, News};
use crate::walk::open::{inner_path, spi_of};
use crate::walk::{Walk, fragments, names, neighbors, path_mtu, refuse};
use crate::wire;

/// After the guard: ESP to the owner of its SA, the rest to the owner of its flow, and
/// fragments to the one who gathers their datagram.
pub(crate) fn arrivals<P: Port>(walk: &mut Walk<'_, P>) {
    if walk.handoff.is_alone() {
        return;
    }
    let shares = walk.handoff.shares();
    walk.each(u32::MAX, |walk, at| {
        let Some(slot) = walk.batch.slot(at) else {
            return;
        };
        let owner = match slot.path {
            // Without an SPI it is no business of anybody's, as open will say.
            Path::Esp => spi_of(slot).map(|it| shares.of_spi(it)),
            // Fragments meet at their addresses: only the first says more.
            Path::Tracked if slot.collected => None,
            Path::Tracked if slot.meta.frag == FragKind::Whole => {
                Some(shares.of_hash(hash_of(slot)))
            }
            Path::Tracked => Some(shares.of_hash(lane_hash(&slot.meta))),
            // Only what is to be sealed needs anything of a worker's.
            Path::Routed if matches!(slot.to, Attach::Peer(_)) => {
                Some(shares.of_hash(lane_hash(&slot.meta)))
            }
            // Where it goes only what it quotes says.
            Path::Routed | Path::Later | Path::Unchanged | Path::TooBig => None,
        };
        if let Some(owner) = owner.filter(|it| !walk.handoff.is_me(*it)) {
            walk.hand(at, owner, How::Arrived { collected: false });
        }
    });
}

/// After open and collect, when all that can be known of a packet's flow is: to its owner.
pub(crate) fn flows<P: Port>(walk: &mut Walk<'_, P>) {
    if walk.handoff.is_alone() {
        return;
    }
    let shares = walk.handoff.shares();
    walk.each(u32::MAX, |walk, at| {
        let Some(slot) = walk.batch.slot(at) else {
            return;
        };
        if slot.path != Path::Tracked {
            return;
        }
        let is_first = slot.meta.frag == FragKind::First;
        let owner = shares.of_hash(hash_of(slot));
        if walk.handoff.is_me(owner) {
            return;
        }
        if is_first {
            fragments::hand_over(walk, at, owner);
        } else {
            hand_flow(walk, at, owner);
        }
    });
}

/// Whether a flow is this worker's.
pub(crate) fn is_here<P: Port>(walk: &Walk<'_, P>, tuple: &Tuple) -> bool {
    walk.handoff.is_alone() || {
        let shares = walk.handoff.shares();
        walk.handoff.is_me(shares.of_hash(flow_hash(tuple)))
    }
}

/// Before it would be sealed: to the owner of the SA.
pub(crate) fn seal_elsewhere<P: Port>(
    walk: &mut Walk<'_, P>,
    at: usize,
    peer: PeerIndex,
    child: usize,
) {
    let owner = walk.handoff.shares().of_child(child);
    if let Some(slot) = walk.slot(at) {
        let how = How::Judged {
            meta: slot.meta,
            path: slot.path,
            from: slot.from,
            to: peer,
        };
        walk.hand(at, owner, how);
    }
}

/// [`hand_flow`] of a fragment that has waited for its first.
pub(crate) fn waited<P: Port>(walk: &mut Walk<'_, P>, it: Waiting<P::Frame>, owner: usize) {
    let handed = Handed {
        in_port: it.in_port,
        frame: it.frame,
        how: to_its_flow(it.meta, it.from),
    };
    walk.hand_on(owner, handed);
}

/// To the owner of its flow.
pub(crate) fn hand_flow<P: Port>(walk: &mut Walk<'_, P>, at: usize, owner: usize) {
    let Some(slot) = walk.slot(at) else { return };
    let how = to_its_flow(slot.meta, slot.from);
    walk.hand(at, owner, how);
}

/// What came out of an SA can't be opened again; the rest begins anew.
const fn to_its_flow(meta: Meta, from: Attach) -> How {
    match from {
        Attach::Peer(from) => How::Opened { meta, from },
        Attach::Port(_) | Attach::Clear(_) => How::Arrived { collected: true },
    }
}

/// The hash of the flow that a packet is of or, if it is an ICMP error, speaks of. Of a
/// datagram in fragments only the first knows.
fn hash_of<F: Frame>(slot: &Slot<F>) -> u16 {
    if !slot.meta.icmp_error {
        return flow_hash(&Tuple::from(&slot.meta));
    }
    let frame = slot.frame.as_ref();
    let inside = frame.and_then(|it| wire::embedded(it.bytes(), &slot.meta));
    // Where it quotes nothing that can be read it belongs to no flow, as track will say.
    inside.map_or_else(|| lane_hash(&slot.meta), |it| flow_hash(&Tuple::from(&it)))
}

/// Where the walk goes on with a burst that was handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    /// From the beginning.
    Parse,
    /// With its fragments.
    Collect,
    /// With its way out.
    Leave,
}

/// Fills the batch with frames that another worker has handed over. Where the walk goes on
/// with them, and how many there were; `None` if there was none.
pub(crate) fn take<P: Port>(walk: &mut Walk<'_, P>, other: usize) -> Option<(Entry, usize)> {
    let mut with: Option<(PortIndex, Option<How>)> = None;
    let (mut entry, mut taken) = (Entry::Parse, 0);
    while walk.batch.live != u32::MAX {
        let next = walk.handoff.take(other, |next, distance| {
            with.is_none_or(|(port, how)| {
                let both = how.zip(next.how.elsewhen(distance));
                next.in_port == port && both.is_some_and(|(a, b)| a.goes_with(&b))
            })
        });
        let Some((handed, distance)) = next else {
            break;
        };
        taken += 1;
        let how = handed.how.elsewhen(distance);
        if with.is_none() {
            walk.batch.begin(handed.in_port);
            with = Some((handed.in_port, how));
            entry = match how {
                Some(How::Arrived { .. }) | None => Entry::Parse,
                Some(How::Opened { .. }) => Entry::Collect,
                Some(How::Judged { .. } | How::Originated { .. }) => Entry::Leave,
            };
        }
        put(walk, handed, how, distance);
    }
    (taken > 0).then_some((entry, taken))
}

/// Puts a frame that was handed over where the walk goes on with it.
fn put<P: Port>(walk: &mut Walk<'_, P>, handed: Handed<P::Frame>, how: Option<How>, distance: u64) {
    if matches!(handed.how, How::Originated { .. }) {
        // Nobody waits for it.
        if let Some(How::Originated { meta, to }) = how {
            refuse::seal_and_send(walk, to, handed.frame, &meta);
        }
        return;
    }
    let counters = walk.counters.port(handed.in_port);
    counters.waiting.add(u64::MAX); // one less: the counter wraps
    let checked = match how {
        Some(How::Opened { meta, from }) if distance > 0 => inner_path(walk.snapshot, &meta, from)
            .and_then(|path| match path {
                Path::Tracked => Ok(()),
                _ => Err(DropReason::NoRoute),
            }),
        Some(_) => Ok(()),
        None => Err(DropReason::Handoff),
    };
    if let Err(reason) = checked {
        counters.drop(reason);
        return;
    }
    if walk.batch.push(handed.frame).is_err() {
        counters.drop(DropReason::NoHeadroom);
        return;
    }
    let Some(slot) = walk.batch.last() else {
        return;
    };
    match how {
        Some(How::Arrived { collected }) => slot.collected = collected,
        Some(How::Opened { meta, from }) => {
            (slot.meta, slot.path) = (meta, Path::Tracked);
            slot.from = Attach::Peer(from);
        }
        Some(How::Judged {
            meta,
            path,
            from,
            to,
        }) => {
            (slot.meta, slot.path, slot.from) = (meta, path, from);
            slot.to = Attach::Peer(to);
        }
        Some(How::Originated { .. }) | None => {}
    }
}

/// Takes in what other workers have learned.
pub(crate) fn hear<P: Port>(walk: &mut Walk<'_, P>) {
    while let Some(news) = walk.handoff.hear() {
        match news {
            News::Neighbor(addr, mac) => neighbors::learn_here(walk, addr, mac),
            News::PathMtu(to, mtu) => path_mtu::learn_here(walk, to, mtu),
            News::Name {
                pod,
                addr,
                domain,
                ttl_s,
            } => names::heard(walk, pod, addr, domain, ttl_s),
        }
    }
}
