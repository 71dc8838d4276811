//! Stage open: ESP for us becomes the packet inside it, or is dropped.
//!
//! Order as RFC 4303 section 3.4 has it: SA by SPI, window check, integrity, window
//! commit, trailer; then the inner packet is parsed and its source must belong to the node
//! whose SA carried it (RFC 4301 section 5.2 step 4, with nodes for selectors). In transport
//! mode the inner packet is the outer header with what ESP carried behind it.

use sluice_crypto::esp::{self, ESP_HEADER_LEN, NEXT_HEADER_DUMMY, OpenError, Spi, UdpEncap};

use crate::ahead::Ahead;
use crate::batch::{Opened, Path, Slot};
use crate::meta::{Meta, NdKind, proto};
use crate::mutant::{self, Mutant};
use crate::port::{Frame, Port};
use crate::reason::DropReason;
use crate::route::Attach;
use crate::sad::{Mode, Sad};
use crate::snapshot::{PeerIndex, Place, PortIndex, Snapshot};
use crate::walk::again::outer;
use crate::walk::{Walk, transport};
use crate::ways::{Step, To, Ways};
use crate::wire::parse::{Headers, parse_again};
use crate::wire::{self, ethernet, ip};

/// Bytes of a UDP header.
const UDP_HEADER_LEN: usize = 8;

/// Those in `known` have outer headers that are known.
pub(crate) fn open<P: Port>(walk: &mut Walk<'_, P>, known: u32) {
    if walk.batch.esp & walk.batch.live == 0 {
        return;
    }
    let mut ahead = expect(walk);
    let (in_port, epoch) = (walk.batch.in_port, walk.handoff.epoch);
    walk.each(walk.batch.esp, |walk, at| {
        let Some(slot) = walk.batch.slot(at) else {
            return;
        };
        ahead.turn(expect_sa(walk.sad), expect_within(walk.sad));
        if slot.path != Path::Esp {
            return;
        }
        let unknown = if known >> at & 1 == 0 {
            outer::unknown(slot)
        } else {
            None
        };
        let ways = WaysFrom {
            ways: walk.ways,
            in_port,
            epoch,
        };
        match open_one(walk.snapshot, walk.sad, &ways, slot) {
            Ok(()) => {
                walk.counters.opened.add(1);
                if let Some(it) = unknown {
                    outer::remember(walk, it);
                }
            }
            Err(reason) => walk.drop(at, reason),
        }
    });
}

/// The ways of what comes by a port, under a snapshot.
struct WaysFrom<'a> {
    ways: &'a Ways,
    in_port: PortIndex,
    epoch: u64,
}

/// What the SAs of a burst's packets are, the first of them asked for.
fn expect<P: Port>(walk: &mut Walk<'_, P>) -> Ahead<Needs> {
    let mut last = Spi(0);
    let mut ahead = Ahead::new((last, 0));
    walk.each(walk.batch.esp, |walk, at| {
        let Some(slot) = walk.batch.slot(at) else {
            return;
        };
        let spi = spi_of(slot).unwrap_or(last);
        if spi != last {
            walk.sad.expect_spi(spi);
        }
        ahead.push((spi, slot.meta.l3_len()), spi == last);
        last = spi;
    });
    ahead.begin(expect_sa(walk.sad), expect_within(walk.sad));
    ahead
}

/// A packet's SPI, and its length in bytes.
type Needs = (Spi, usize);

fn expect_sa(sad: &Sad) -> impl Fn(Needs) {
    |(spi, _)| sad.expect_inbound(spi)
}

fn expect_within(sad: &Sad) -> impl Fn(Needs) {
    |(spi, len)| sad.expect_within(spi, len)
}

/// The SPI of a frame with ESP.
pub(crate) fn spi_of<F: Frame>(slot: &Slot<F>) -> Option<Spi> {
    if slot.path != Path::Esp {
        return None;
    }
    let bytes = slot.frame.as_ref()?.bytes();
    let start = esp_start(bytes, &slot.meta).ok()?;
    let spi = bytes.get(start..)?.first_chunk()?;
    Some(Spi(u32::from_be_bytes(*spi)))
}

fn open_one<F: Frame>(
    snapshot: &Snapshot,
    sad: &mut Sad,
    ways: &WaysFrom<'_>,
    slot: &mut Slot<F>,
) -> Result<(), DropReason> {
    let frame = slot.frame.as_mut().ok_or(DropReason::EspTruncated)?;
    let outer = &slot.meta;
    let start = esp_start(frame.bytes(), outer)?;
    let (end, tos) = (usize::from(outer.l3_end), outer.tos);
    let packet = frame
        .bytes_mut()
        .get_mut(start..end)
        .ok_or(DropReason::EspTruncated)?;
    let header = packet
        .first_chunk::<ESP_HEADER_LEN>()
        .ok_or(DropReason::EspTruncated)?;
    let [s0, s1, s2, s3, ..] = *header;
    let spi = Spi(u32::from_be_bytes([s0, s1, s2, s3]));
    let inbound = sad.inbound_mut(spi).ok_or(DropReason::UnknownSpi)?;
    let (peer, mode) = (inbound.peer, inbound.mode);
    // A tunnel ends here, a transport mode SA at its pod: in the other mode, or at another pod, an
    // authentic packet would be read as something that its sender never meant. The header that says
    // where it goes is not authenticated.
    let ends_here = match mode {
        Mode::Tunnel => snapshot.is_own(outer.dst),
        Mode::Transport { pod } => pod == outer.dst,
    };
    if !ends_here {
        return Err(DropReason::EspMode);
    }
    let opened = inbound.sa.open(packet).map_err(reason_of)?;
    if opened.next_header == NEXT_HEADER_DUMMY {
        return Err(DropReason::EspDummy);
    }
    let (inner, version) = match mode {
        Mode::Tunnel => {
            let inner = start + opened.inner.start..start + opened.inner.end;
            (inner, opened.next_header)
        }
        Mode::Transport { .. } => {
            let restored = transport::restore(frame.bytes_mut(), outer, start, &opened)?;
            (restored.packet, restored.next_header)
        }
    };

    // What is left: room for an Ethernet header, then the inner packet.
    let front = inner
        .start
        .checked_sub(ethernet::HEADER_LEN)
        .ok_or(DropReason::NoHeadroom)?;
    frame.truncate(inner.end);
    frame.trim_front(front);
    slot.from = Attach::Peer(peer);
    if mode == Mode::Tunnel {
        let next_header = opened.next_header;
        let step = ways.step_of(next_header, peer, tos, frame.bytes(), &mut slot.meta);
        slot.opened = Some(Opened { next_header, step });
        if step.is_some() {
            slot.path = Path::Tracked;
            frame.truncate(usize::from(slot.meta.l3_end));
            return Ok(());
        }
    }
    let inner_end = ethernet::HEADER_LEN + inner.len();
    let mut meta = wire::parse_inner(frame.bytes(), ethernet::HEADER_LEN, inner_end, version)
        .map_err(|reason| match reason {
            DropReason::FragmentTiny => reason,
            _ => DropReason::InnerMalformed,
        })?;
    // The hop limit isn't lowered on the way, so what proves that neighbour discovery
    // comes from the link (RFC 4861 section 7.1) would prove nothing in here.
    if meta.nd != NdKind::None {
        return Err(DropReason::InnerMalformed);
    }
    frame.truncate(usize::from(meta.l3_end));
    // In transport mode there is one header, whose marks are as they arrived.
    if mode == Mode::Tunnel {
        let tos = esp::decap_ecn(tos, meta.tos).ok_or(DropReason::InnerMalformed)?;
        if tos != meta.tos {
            if !ip::set_tos(frame.bytes_mut(), &meta, tos) {
                return Err(DropReason::InnerMalformed);
            }
            meta.tos = tos;
            // Its headers are no longer those that it came with.
            slot.opened = None;
        }
    }
    slot.path = inner_path(snapshot, &meta, peer)?;
    slot.meta = meta;
    if slot.path == Path::Routed {
        slot.to = Attach::Port(snapshot.host.ok_or(DropReason::NoPort)?);
    }
    Ok(())
}

impl WaysFrom<'_> {
    /// The step of a packet in a tunnel, behind room for an Ethernet header, if those with its
    /// headers, from the same peer, have taken one. Then what is read of it stands in `meta`: what
    /// is asked below has been asked of one of them, and only lengths can differ.
    #[inline]
    fn step_of(
        &self,
        next_header: u8,
        peer: PeerIndex,
        outer_tos: u8,
        frame: &[u8],
        meta: &mut Meta,
    ) -> Option<Step> {
        let headers = Headers::read_inner(frame, next_header, peer.0)?;
        let way = self.ways.find(&headers, self.in_port, self.epoch)?;
        let To::Flow(step) = way.to else {
            return None;
        };
        // A mark to be carried over is for who writes it.
        if esp::decap_ecn(outer_tos, way.meta.tos) != Some(way.meta.tos) {
            return None;
        }
        *meta = way.meta;
        parse_again(frame, meta).then_some(step)
    }
}

/// Where the ESP header starts: at the transport header, or past UDP.
fn esp_start(frame: &[u8], outer: &Meta) -> Result<usize, DropReason> {
    let l4 = usize::from(outer.l4_off);
    if outer.protocol == proto::ESP {
        return Ok(l4);
    }
    let payload = frame.get(l4 + UDP_HEADER_LEN..usize::from(outer.l3_end));
    match esp::esp_in_udp(payload.ok_or(DropReason::EspTruncated)?) {
        UdpEncap::Esp => Ok(l4 + UDP_HEADER_LEN),
        _ => Err(DropReason::NotForUs),
    }
}

const fn reason_of(error: OpenError) -> DropReason {
    match error {
        OpenError::Truncated { .. } => DropReason::EspTruncated,
        OpenError::Stale { .. } => DropReason::EspStale,
        OpenError::Seen { .. } => DropReason::EspDuplicate,
        OpenError::Forged { .. } => DropReason::EspForged,
        OpenError::BadTrailer { .. } => DropReason::EspTrailer,
    }
}

/// An opened packet goes to a pod or to this node, and comes from the SA's node.
pub(crate) fn inner_path(
    snapshot: &Snapshot,
    meta: &Meta,
    peer: PeerIndex,
) -> Result<Path, DropReason> {
    match snapshot.owner(meta.src).map(|o| o.place) {
        Some(Place::RemotePod(owner) | Place::RemoteNode(owner))
            if owner == peer || mutant::is(Mutant::SpiOfAnyNode) => {}
        _ => return Err(DropReason::IdentityUnknown),
    }
    match snapshot.owner(meta.dst).map(|o| o.place) {
        Some(Place::LocalPod(_)) => Ok(Path::Tracked),
        Some(Place::LocalNode) => Ok(Path::Routed),
        _ => Err(DropReason::NoRoute),
    }
}
