//! What routers between the nodes say of packets that we sealed: too big for the way ahead.
//!
//! Nobody vouches for such a message, and who could have one believed could slow a peer down. So
//! it has to quote a packet that was sent (RFC 4301 section 8.2.1, RFC 5927 section 7): our
//! address and the peer's, the SPI of an SA in use, and one of its last numbers. Who knows these
//! has seen a packet of this SA; who stands on the path could as well lose them all. It never goes
//! below what every path carries, and ends by itself.

use crate::addr::Addr;
use crate::meta::Meta;
use crate::path_mtu;
use crate::port::{Frame, Port};
use crate::reason::DropReason;
use crate::sad::Quoted;
use crate::snapshot::PeerIndex;
use crate::steer::{How, News};
use crate::walk::Walk;
use crate::wire::{self, QuotedEsp, icmp};

/// Hears the messages of a burst, each at the worker that has the SA.
pub(crate) fn hear<P: Port>(walk: &mut Walk<'_, P>) {
    walk.each(walk.batch.too_big, |walk, at| {
        let Some(slot) = walk.batch.slot(at) else {
            return;
        };
        let (meta, was_handed) = (slot.meta, slot.collected);
        let Some(frame) = slot.frame.as_ref() else {
            return;
        };
        let said = read(frame.bytes(), &meta);
        match said.and_then(|it| believe(walk, it, was_handed)) {
            Ok(Heard::Here(peer, said)) => {
                if walk.batch.take(at).is_some() {
                    walk.counters.port(walk.batch.in_port).consumed.add(1);
                    learn(walk, peer, &said);
                }
            }
            Ok(Heard::By(owner)) => walk.hand(at, owner, How::Arrived { collected: true }),
            Err(reason) => walk.drop(at, reason),
        }
    });
}

/// What a router says.
struct Said {
    quoted: QuotedEsp,
    mtu: u16,
}

/// Who takes its word.
enum Heard {
    /// This worker, of the path to this peer.
    Here(PeerIndex, Said),
    /// Another.
    By(usize),
}

fn read(frame: &[u8], meta: &Meta) -> Result<Said, DropReason> {
    let mtu = icmp::next_hop_mtu(frame, meta).ok_or(DropReason::IcmpNoFlow)?;
    if mtu < path_mtu::least(meta.src.is_v4()) {
        return Err(DropReason::IcmpMtu);
    }
    let quoted = wire::quoted_esp(frame, meta).ok_or(DropReason::IcmpNoFlow)?;
    let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
    Ok(Said { quoted, mtu })
}

fn believe<P: Port>(
    walk: &mut Walk<'_, P>,
    said: Said,
    was_handed: bool,
) -> Result<Heard, DropReason> {
    if !walk.snapshot.is_own(said.quoted.src) {
        return Err(DropReason::IcmpNoFlow);
    }
    let peer = walk.snapshot.peers.at(said.quoted.dst);
    let peer = peer.ok_or(DropReason::IcmpNoFlow)?;
    match walk.sad.find_quoted(peer, &said.quoted) {
        Quoted::Sent => Ok(Heard::Here(peer, said)),
        Quoted::Elsewhere(number) if !was_handed && walk.budgets.spend_handing(walk.now) => {
            Ok(Heard::By(walk.handoff.shares().of_child(number)))
        }
        Quoted::Elsewhere(_) | Quoted::NotSent => Err(DropReason::IcmpNotSent),
        Quoted::Unknown => Err(DropReason::IcmpNoFlow),
    }
}

/// For all SAs to that destination, of all workers: they go the same way.
fn learn<P: Port>(walk: &mut Walk<'_, P>, peer: PeerIndex, said: &Said) {
    let to = said.quoted.dst;
    if walk.sad.lower_path_mtu(peer, to, said.mtu, walk.now) && !walk.handoff.is_alone() {
        let news = News::PathMtu(to, said.mtu);
        let lost = walk.handoff.tell(walk.batch.in_port, news);
        walk.counters.news_lost.add(lost);
    }
}

/// The same, as another worker says.
pub(crate) fn learn_here<P: Port>(walk: &mut Walk<'_, P>, to: Addr, mtu: u16) {
    if let Some(peer) = walk.snapshot.peers.at(to) {
        walk.sad.lower_path_mtu(peer, to, mtu, walk.now);
    }
}
