//! Stage seal: packets for other nodes become ESP, or are dropped. There is no third way.

use sluice_crypto::esp::{
    ESP_HEADER_LEN, NEXT_HEADER_IPV4, NEXT_HEADER_IPV6, OutboundSa, SealError,
};

use crate::addr::{Addr, Mac};
use crate::ahead::Ahead;
use crate::meta::{FragKind, Meta, proto, tcp_flag};
use crate::mutant::{self, Mutant};
use crate::port::{Frame, Port};
use crate::reason::DropReason;
use crate::route::Attach;
use crate::sad::{Child, Mode, Outbound, Sad};
use crate::snapshot::PeerIndex;
use crate::walk::Walk;
use crate::walk::egress::{LastHop, to_next_hop};
use crate::walk::refuse::refuse_size;
use crate::walk::{steer, transport};
use crate::wire::{ethernet, tcp};

/// IP and TCP header without options, what an MSS leaves out (RFC 9293 section 3.7.1).
const TCP_IPV4_LEN: u16 = 40;
const TCP_IPV6_LEN: u16 = 60;

pub(crate) fn seal<P: Port>(walk: &mut Walk<'_, P>) {
    let mut ahead = expect(walk);
    let mut last = LastHop::default();
    walk.each(u32::MAX, |walk, at| {
        let Some(slot) = walk.batch.slot(at) else {
            return;
        };
        let Some(peer) = slot.to.peer() else { return };
        ahead.turn(expect_sa(walk.sad), expect_key(walk.sad));
        let Some(uplink) = walk.snapshot.uplink else {
            walk.drop(at, DropReason::NoPort);
            return;
        };
        if mutant::is(Mutant::ClearAlways)
            || mutant::is(Mutant::ClearWithoutSa) && walk.sad.children(peer).is_none()
        {
            if let Some(slot) = walk.batch.slot(at) {
                slot.to = Attach::Port(uplink);
            }
            return;
        }
        let meta = slot.meta;
        let (outbound, path) = match walk.sad.outbound_mut(peer, &meta) {
            Some(Child::Here(outbound, path)) => (outbound, path),
            Some(Child::Elsewhere(number)) => {
                steer::seal_elsewhere(walk, at, peer, number);
                return;
            }
            None => {
                walk.drop(at, DropReason::NoSa);
                return;
            }
        };
        if !accepts(outbound, &meta) {
            walk.drop(at, DropReason::NoSa);
            return;
        }
        let link_mtu = walk.snapshot.port(uplink).mtu;
        let link_mtu = path.within(usize::from(link_mtu), walk.now);
        let mtu = outbound.packet_mtu(link_mtu, meta.l3_header_len());
        if meta.l3_len() > mtu {
            refuse_size(walk, at, u16::try_from(mtu).unwrap_or(u16::MAX));
            return;
        }
        // Whichever these are: those of the next hop come when it is known.
        let macs = [meta.eth_src, meta.eth_dst];
        let sealed = match slot.frame.as_mut() {
            Some(frame) => seal_one(outbound, frame, &meta, mtu, &macs),
            None => return,
        };
        match sealed {
            Ok(destination) => {
                walk.counters.sealed.add(1);
                to_next_hop(walk, at, uplink, destination, &mut last);
            }
            Err(reason) => walk.drop(at, reason),
        }
    });
}

/// A packet's SA, and its length: whose it is, its number, and bytes.
type Needs = (PeerIndex, usize, usize);

/// What the SAs of a burst's packets are, the first of them asked for.
fn expect<P: Port>(walk: &mut Walk<'_, P>) -> Ahead<Needs> {
    let mut last = None;
    walk.each(u32::MAX, |walk, at| {
        if let Some(peer) = walk.batch.slot(at).and_then(|slot| slot.to.peer())
            && last.replace(peer) != Some(peer)
        {
            walk.sad.expect_children(peer);
        }
    });
    let mut ahead = Ahead::new((PeerIndex(0), 0, 0));
    let mut last = None;
    walk.each(u32::MAX, |walk, at| {
        let Some(slot) = walk.batch.slot(at) else {
            return;
        };
        if let Some(peer) = slot.to.peer() {
            let number = walk.sad.number_for(peer, &slot.meta);
            let is_same = last.replace((peer, number)) == Some((peer, number));
            ahead.push((peer, number, slot.meta.l3_len()), is_same);
        }
    });
    ahead.begin(expect_sa(walk.sad), expect_key(walk.sad));
    ahead
}

fn expect_sa(sad: &Sad) -> impl Fn(Needs) {
    |(peer, number, _)| sad.expect_outbound(peer, number)
}

fn expect_key(sad: &Sad) -> impl Fn(Needs) {
    |(peer, number, len)| sad.expect_outbound_key(peer, number, len)
}

/// Whether an SA is for a packet: in transport mode only for those from its pod to the host at its
/// other end.
pub(crate) fn accepts(outbound: &Outbound, meta: &Meta) -> bool {
    match outbound.mode {
        Mode::Tunnel => true,
        Mode::Transport { pod } => meta.src == pod && meta.dst == outbound.destination(),
    }
}

/// Seals the packet of a frame in place, which is at most `mtu` long, behind an Ethernet header
/// from and to these MACs; the outer destination on success.
pub(crate) fn seal_one<F: Frame>(
    outbound: &mut Outbound,
    frame: &mut F,
    meta: &Meta,
    mtu: usize,
    [from, to]: &[Mac; 2],
) -> Result<Addr, DropReason> {
    clamp(frame, meta, mtu);
    match outbound.transport() {
        None => seal_tunnel(outbound, frame, meta)?,
        Some(_) if meta.frag != FragKind::Whole => return Err(DropReason::Fragment),
        Some(mode) => {
            frame.truncate(usize::from(meta.l3_end));
            frame.trim_front(usize::from(meta.l3_off));
            transport::seal(&mut outbound.sa, mode, frame, meta)?;
        }
    }
    let destination = outbound.destination();
    let ethertype = if destination.is_v4() {
        ethernet::ETHERTYPE_IPV4
    } else {
        ethernet::ETHERTYPE_IPV6
    };
    if ethernet::write(frame.bytes_mut(), *from, *to, ethertype) {
        Ok(destination)
    } else {
        Err(DropReason::NoHeadroom)
    }
}

/// Puts the outer headers and ESP around a frame's packet, behind room for an Ethernet header.
fn seal_tunnel<F: Frame>(
    outbound: &mut Outbound,
    frame: &mut F,
    meta: &Meta,
) -> Result<(), DropReason> {
    let inner_len = meta.l3_len();
    let outer_len = outbound.tunnel.header_len();
    let trailer_len = OutboundSa::trailer_len(inner_len);
    let esp_off = ethernet::HEADER_LEN + outer_len;
    // Whatever was around the packet is written over: each change of a frame's bounds would be
    // waited for by the next.
    let (front, held_front) = (esp_off + ESP_HEADER_LEN, usize::from(meta.l3_off));
    let (end, held_end) = (usize::from(meta.l3_end) + trailer_len, frame.bytes().len());
    let has_room = if end > held_end {
        frame.grow_back(end - held_end)
    } else {
        frame.truncate(end);
        true
    } && if front > held_front {
        frame.grow_front(front - held_front)
    } else {
        frame.trim_front(held_front - front);
        true
    };
    if !has_room {
        return Err(DropReason::NoHeadroom);
    }
    let next_header = if meta.src.is_v4() {
        NEXT_HEADER_IPV4
    } else {
        NEXT_HEADER_IPV6
    };
    let (headers, esp) = frame
        .bytes_mut()
        .split_at_mut_checked(esp_off)
        .ok_or(DropReason::NoHeadroom)?;
    outbound
        .sa
        .seal(esp, inner_len, next_header)
        .map_err(reason_of)?;
    let outer = headers
        .get_mut(ethernet::HEADER_LEN..)
        .ok_or(DropReason::NoHeadroom)?;
    // DF on the outer header always: the size was checked against the way, and a fragment
    // of ESP would have to be put together before it can be opened.
    outbound
        .tunnel
        .write(outer, esp.len(), meta.tos, true, 0)
        .map_err(|_| DropReason::NoHeadroom)
}

pub(crate) const fn reason_of(error: SealError) -> DropReason {
    match error {
        SealError::Exhausted { .. } => DropReason::SaExhausted,
        _ => DropReason::NoSa,
    }
}

fn clamp<F: Frame>(frame: &mut F, meta: &Meta, mtu: usize) {
    if meta.protocol == proto::TCP && meta.tcp_flags & tcp_flag::SYN != 0 {
        let headers = if meta.src.is_v4() {
            TCP_IPV4_LEN
        } else {
            TCP_IPV6_LEN
        };
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
        // Nothing to do where the option is absent or already low enough.
        let _lowered = tcp::clamp_mss(frame.bytes_mut(), meta, mtu.saturating_sub(headers));
    }
}
