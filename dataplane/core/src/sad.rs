//! The security association database of one worker (RFC 4301 section 4.4.2): it owns its
//! SAs, so sequence numbers and replay windows have one writer.

use sluice_crypto::esp::{InboundSa, OutboundSa, Outer, Spi, Transport, Tunnel};
use sluice_intrinsics::prefetch_many;

use crate::addr::Addr;
use crate::lane::lane_hash;
use crate::marked::Marked;
use crate::meta::Meta;
use crate::path_mtu::PathMtu;
use crate::snapshot::PeerIndex;
use crate::steer::Shares;
use crate::tick::Tick;
use crate::wire::QuotedEsp;

/// SAs of one direction, at most.
pub const SAS_MAX: usize = 8192;

/// Sending SAs to one peer, at most (architecture, decision 4).
pub const CHILDREN_MAX: usize = 32;

/// Places looked at for one SPI, at most.
const PROBES_MAX: usize = 64;
const SLOTS: usize = SAS_MAX * 2;

/// What of a packet an SA protects (RFC 4301 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All of it, header included, behind outer headers. Between Sluice nodes always.
    Tunnel,
    /// What its IP header carries, between the peer's own address and this pod's: an SA's two
    /// addresses are its selectors (RFC 4301 section 4.4.1.1).
    Transport {
        /// The pod's.
        pod: Addr,
    },
}

/// A receiving SA and whose it is.
#[derive(Debug)]
pub struct Inbound {
    /// The SA; boxed so that it is moved in and out without allocation on the worker.
    pub sa: Box<InboundSa>,
    /// The node whose packets it carries.
    pub peer: PeerIndex,
    /// What of them it protects.
    pub mode: Mode,
}

/// A sending SA and where its packets go.
#[derive(Debug)]
pub struct Outbound {
    /// The SA.
    pub sa: Box<OutboundSa>,
    /// The outer header. In transport mode its destination is the one that packets must have.
    pub tunnel: Tunnel,
    /// What of a packet it protects.
    pub mode: Mode,
}

impl Outbound {
    /// One of its parts.
    #[must_use]
    pub const fn new(sa: Box<OutboundSa>, tunnel: Tunnel, mode: Mode) -> Self {
        Self { sa, tunnel, mode }
    }

    /// Where its packets go.
    #[must_use]
    pub const fn destination(&self) -> Addr {
        match self.tunnel.outer {
            Outer::V4 { dst, .. } => Addr::v4(dst),
            Outer::V6 { dst, .. } => Addr::v6(dst),
        }
    }

    /// Its transport mode, if that is its mode.
    #[must_use]
    pub const fn transport(&self) -> Option<Transport> {
        match self.mode {
            Mode::Tunnel => None,
            Mode::Transport { .. } => Some(Transport {
                udp_encap: self.tunnel.udp_encap,
            }),
        }
    }

    /// The largest packet, with IP headers of `ip_header_len` bytes, that a link or a path of
    /// `link_mtu` takes sealed.
    #[must_use]
    pub const fn packet_mtu(&self, link_mtu: usize, ip_header_len: usize) -> usize {
        match self.transport() {
            None => self.tunnel.inner_mtu(link_mtu),
            Some(transport) => transport.packet_mtu(link_mtu, ip_header_len),
        }
    }
}

/// Whether a packet was sent that somebody quotes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quoted {
    /// By an SA that is here, and of late.
    Sent,
    /// Such an SA has sent no such packet, or not of late.
    NotSent,
    /// By the child of this number, if at all, which another worker has.
    Elsewhere(usize),
    /// Nobody has such an SA.
    Unknown,
}

/// Packets that an SA may have sent since one that is quoted: at ten million a second what
/// goes within 100 ms.
const QUOTED_AGE_MAX: u64 = 1 << 20;

/// The sending SAs to a peer: as many as the one of both ends with more lanes has. Each of
/// several workers has those that are its own.
#[derive(Debug)]
pub struct Children {
    /// The SPI of the first, whoever has it.
    base: Spi,
    /// Where all of them send,
    to: Addr,
    /// and what the path there takes.
    path: PathMtu,
    /// Alone, mostly: where one is enough it is found without a way round.
    first: Option<Outbound>,
    rest: Box<[Option<Outbound>]>,
}

/// The SA that a packet goes by.
#[derive(Debug)]
pub enum Child<'a> {
    /// One that is here, and what the path takes that it sends by.
    Here(&'a mut Outbound, PathMtu),
    /// The one with this number, which another worker has.
    Elsewhere(usize),
}

impl From<Outbound> for Children {
    fn from(only: Outbound) -> Self {
        Self {
            base: only.sa.spi(),
            to: only.destination(),
            path: PathMtu::default(),
            first: Some(only),
            rest: Box::default(),
        }
    }
}

impl Children {
    /// Of several, by their numbers. `None` if there are none, or more than
    /// [`CHILDREN_MAX`].
    #[must_use]
    pub fn new(all: Vec<Outbound>) -> Option<Self> {
        if all.len() > CHILDREN_MAX {
            return None;
        }
        let mut all = all.into_iter();
        let first = all.next()?;
        Some(Self {
            base: first.sa.spi(),
            to: first.destination(),
            path: PathMtu::default(),
            first: Some(first),
            rest: all.map(Some).collect(),
        })
    }

    /// Each worker's part, by worker.
    #[must_use]
    pub fn split(mut self, shares: Shares) -> Vec<Self> {
        let count = self.count();
        let mut part = |worker| {
            let mut numbers = (0..count).map(|number| {
                let is_its = shares.of_child(number) == worker;
                let place = match number.checked_sub(1) {
                    None => Some(&mut self.first),
                    Some(at) => self.rest.get_mut(at),
                };
                place.filter(|_| is_its).and_then(Option::take)
            });
            Self {
                base: self.base,
                to: self.to,
                path: self.path,
                first: numbers.next().flatten(),
                rest: numbers.collect(),
            }
        };
        (0..shares.workers()).map(&mut part).collect()
    }

    /// How many.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.rest.len() + 1
    }

    /// Those that are here, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Outbound> {
        self.first.iter().chain(self.rest.iter().flatten())
    }

    /// The SPI of the first, by which all of them are named.
    #[inline]
    #[must_use]
    pub const fn base(&self) -> Spi {
        self.base
    }

    /// The number of the one that a packet goes by.
    #[inline]
    fn number_for(&self, meta: &Meta) -> usize {
        if self.rest.is_empty() {
            return 0;
        }
        usize::from(lane_hash(meta)) % self.count()
    }

    #[inline]
    fn get(&self, number: usize) -> Option<&Outbound> {
        let place = self.rest.get(number.wrapping_sub(1));
        place.unwrap_or(&self.first).as_ref()
    }

    #[inline]
    fn get_mut(&mut self, number: usize) -> Option<&mut Outbound> {
        let place = self.rest.get_mut(number.wrapping_sub(1));
        place.unwrap_or(&mut self.first).as_mut()
    }
}

#[derive(Debug, Default)]
enum Slot {
    #[default]
    Empty,
    /// Was held: a search goes on past it.
    Gone,
    /// With its SPI, so that a search needs no SA's own memory.
    Held(Spi, Inbound),
}

/// Why an SA wasn't installed; it comes back with the refusal.
#[derive(Debug)]
pub struct Refused<T>(pub T);

/// The SAD.
#[derive(Debug)]
pub struct Sad {
    inbound: Box<[Slot]>,
    outbound: Box<[Option<Children>]>,
    held: usize,
    /// Where in each of the two there is one: what is asked for all of them now and then is
    /// asked between two bursts.
    inbound_at: Marked,
    outbound_at: Marked,
}

impl Default for Sad {
    fn default() -> Self {
        Self {
            inbound: (0..SLOTS).map(|_| Slot::Empty).collect(),
            outbound: (0..SAS_MAX).map(|_| None).collect(),
            held: 0,
            inbound_at: Marked::none_of(SLOTS),
            outbound_at: Marked::none_of(SAS_MAX),
        }
    }
}

const fn home(spi: Spi) -> usize {
    // The receiver chooses its SPIs at random; spread those of a careless configuration.
    ((spi.0.wrapping_mul(0x9e37_79b9)) >> 16) as usize
}

impl Sad {
    fn place(&self, spi: Spi) -> Option<usize> {
        for i in 0..PROBES_MAX {
            let at = (home(spi) + i) % SLOTS;
            match self.inbound.get(at) {
                Some(Slot::Held(held, _)) if *held == spi => return Some(at),
                Some(Slot::Empty) | None => return None,
                Some(_) => {}
            }
        }
        None
    }

    /// The receiving SA of an SPI.
    #[inline]
    pub fn inbound_mut(&mut self, spi: Spi) -> Option<&mut Inbound> {
        let at = self.place(spi)?;
        match self.inbound.get_mut(at) {
            Some(Slot::Held(_, inbound)) => Some(inbound),
            _ => None,
        }
    }

    /// Has the place of an SPI brought into the cache.
    #[inline]
    pub fn expect_spi(&self, spi: Spi) {
        if let Some(slot) = self.inbound.get(home(spi) % SLOTS) {
            prefetch_many(slot);
        }
    }

    /// The same for its receiving SA, for a packet soon to be opened. When the place is on its way.
    #[inline]
    pub fn expect_inbound(&self, spi: Spi) {
        if let Some(inbound) = self.held_at(spi) {
            prefetch_many(&*inbound.sa);
        }
    }

    /// The same for the parts of its replay window and of its key that a packet of `len` bytes
    /// will ask. When the SA itself is on its way: where they are stands in it.
    #[inline]
    pub fn expect_within(&self, spi: Spi, len: usize) {
        let Some(inbound) = self.held_at(spi) else {
            return;
        };
        // The one line before the many.
        if let Some(word) = inbound.sa.window().top_word() {
            prefetch_many(word);
        }
        inbound.sa.expect_key(len);
    }

    /// Has the list of a peer's sending SAs brought into the cache.
    #[inline]
    pub fn expect_children(&self, peer: PeerIndex) {
        if let Some(children) = self.outbound.get(usize::from(peer.0)) {
            prefetch_many(children);
        }
    }

    /// The number of the sending SA that a packet to a peer goes by. When the list is on its way.
    #[inline]
    #[must_use]
    pub fn number_for(&self, peer: PeerIndex, meta: &Meta) -> usize {
        self.children(peer).map_or(0, |it| it.number_for(meta))
    }

    /// Has a sending SA brought into the cache.
    #[inline]
    pub fn expect_outbound(&self, peer: PeerIndex, number: usize) {
        if let Some(child) = self.children(peer).and_then(|it| it.get(number)) {
            prefetch_many(&*child.sa);
        }
    }

    /// The same for what a packet of `len` bytes needs of its key. When the SA itself is on its
    /// way.
    #[inline]
    pub fn expect_outbound_key(&self, peer: PeerIndex, number: usize, len: usize) {
        if let Some(child) = self.children(peer).and_then(|it| it.get(number)) {
            child.sa.expect_key(len);
        }
    }

    fn held_at(&self, spi: Spi) -> Option<&Inbound> {
        match self.inbound.get(self.place(spi)?) {
            Some(Slot::Held(_, inbound)) => Some(inbound),
            _ => None,
        }
    }

    /// The sending SA that a packet to a peer goes by, see [`lane_hash`].
    #[inline]
    pub fn outbound_mut(&mut self, peer: PeerIndex, meta: &Meta) -> Option<Child<'_>> {
        let children = self.outbound.get_mut(usize::from(peer.0))?.as_mut()?;
        let (number, path) = (children.number_for(meta), children.path);
        let child = children.get_mut(number);
        Some(child.map_or(Child::Elsewhere(number), |it| Child::Here(it, path)))
    }

    /// The sending SAs to a peer.
    #[inline]
    #[must_use]
    pub fn children(&self, peer: PeerIndex) -> Option<&Children> {
        self.outbound.get(usize::from(peer.0))?.as_ref()
    }

    /// Installs a receiving SA.
    ///
    /// # Errors
    /// Hands it back if its SPI is in use or the SAD is full.
    pub fn install_inbound(&mut self, inbound: Inbound) -> Result<(), Refused<Inbound>> {
        let spi = inbound.sa.spi();
        if self.held >= SAS_MAX || self.place(spi).is_some() {
            return Err(Refused(inbound));
        }
        for i in 0..PROBES_MAX {
            let at = (home(spi) + i) % SLOTS;
            if let Some(slot) = self.inbound.get_mut(at)
                && !matches!(slot, Slot::Held(..))
            {
                *slot = Slot::Held(spi, inbound);
                self.held += 1;
                self.inbound_at.set(at, true);
                return Ok(());
            }
        }
        Err(Refused(inbound))
    }

    /// Takes a receiving SA out.
    pub fn retire_inbound(&mut self, spi: Spi) -> Option<Inbound> {
        let at = self.place(spi)?;
        let slot = self.inbound.get_mut(at)?;
        self.held -= 1;
        self.inbound_at.set(at, false);
        let taken = core::mem::replace(slot, Slot::Gone);
        self.sweep_back_from(at);
        match taken {
            Slot::Held(_, inbound) => Some(inbound),
            Slot::Empty | Slot::Gone => None,
        }
    }

    /// Makes places empty that a search goes past to nothing: else each rekey leaves one, and looking
    /// for an SPI that nobody has takes longer with every day.
    fn sweep_back_from(&mut self, mut at: usize) {
        let next = self.inbound.get((at + 1) % SLOTS);
        if !matches!(next, Some(Slot::Empty)) {
            return;
        }
        while let Some(gone @ Slot::Gone) = self.inbound.get_mut(at) {
            *gone = Slot::Empty;
            at = (at + SLOTS - 1) % SLOTS;
        }
    }

    /// A planted bug's: takes a receiving SA from a peer out.
    pub(crate) fn retire_inbound_of(&mut self, peer: PeerIndex) {
        let before = self.inbound().find(|it| it.peer == peer);
        if let Some(spi) = before.map(|it| it.sa.spi()) {
            self.retire_inbound(spi);
        }
    }

    /// Puts the sending SAs to a peer in force, all at once; those they replace come back.
    ///
    /// # Errors
    /// Hands it back if the peer's number is over the bound.
    #[expect(
        clippy::result_large_err,
        reason = "it goes back as it came, and not by a packet's way"
    )]
    pub fn install_outbound(
        &mut self,
        peer: PeerIndex,
        outbound: Children,
    ) -> Result<Option<Children>, Refused<Children>> {
        match self.outbound.get_mut(usize::from(peer.0)) {
            Some(slot) => {
                self.outbound_at.set(usize::from(peer.0), true);
                let mut outbound = outbound;
                // The path is the same whatever the keys are.
                if let Some(before) = slot.as_ref().filter(|it| it.to == outbound.to) {
                    outbound.path = before.path;
                }
                Ok(slot.replace(outbound))
            }
            None => Err(Refused(outbound)),
        }
    }

    /// Takes the sending SAs to a peer out.
    pub fn retire_outbound(&mut self, peer: PeerIndex) -> Option<Children> {
        self.outbound_at.set(usize::from(peer.0), false);
        self.outbound.get_mut(usize::from(peer.0))?.take()
    }

    /// Whether a packet to a peer that somebody quotes was sent.
    #[must_use]
    pub fn find_quoted(&self, peer: PeerIndex, quoted: &QuotedEsp) -> Quoted {
        let Some(children) = self.children(peer).filter(|it| it.to == quoted.dst) else {
            return Quoted::Unknown;
        };
        if let Some(child) = children.iter().find(|it| it.sa.spi() == quoted.spi) {
            let next = child.sa.next_seq();
            //= RFC 4303 section 2.2.1: only the low half of the number is sent
            let ago = next.wrapping_sub(quoted.seq.into()) & u64::from(u32::MAX);
            let is_late = (1..=QUOTED_AGE_MAX).contains(&ago) && ago <= child.sa.packets();
            return if is_late {
                Quoted::Sent
            } else {
                Quoted::NotSent
            };
        }
        // Of several a child's number is in its SPI's low bits.
        let number = match children.count() {
            1 => 0,
            _ => quoted.spi.0 as usize % CHILDREN_MAX,
        };
        match children.get(number) {
            Some(_) => Quoted::Unknown,
            None if number < children.count() => Quoted::Elsewhere(number),
            None => Quoted::Unknown,
        }
    }

    /// The path to a peer's tunnel address takes no more than `mtu` bytes. Whether that is news.
    pub fn lower_path_mtu(&mut self, peer: PeerIndex, to: Addr, mtu: u16, now: Tick) -> bool {
        let children = self.outbound.get_mut(usize::from(peer.0));
        let children = children.and_then(Option::as_mut);
        children.is_some_and(|it| it.to == to && it.path.lower(mtu, now))
    }

    /// All receiving SAs.
    pub fn inbound(&self) -> impl Iterator<Item = &Inbound> {
        let held = self.inbound_at.iter();
        held.filter_map(|at| match self.inbound.get(at) {
            Some(Slot::Held(_, inbound)) => Some(inbound),
            _ => None,
        })
    }

    /// All sending SAs with their peers.
    pub fn outbound(&self) -> impl Iterator<Item = (PeerIndex, &Outbound)> {
        let peers = self.outbound_at.iter();
        peers
            .filter_map(|at| {
                let children = self.outbound.get(at)?.as_ref()?;
                Some((PeerIndex(u16::try_from(at).ok()?), children))
            })
            .flat_map(|(peer, children)| children.iter().map(move |it| (peer, it)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_crypto::key::{Algorithm, EspKey};
    use std::collections::BTreeSet;

    fn inbound(spi: Spi) -> Inbound {
        let key = EspKey::from_keymat(Algorithm::Aes128Gcm16, &[7; 20]).unwrap();
        Inbound {
            sa: Box::new(InboundSa::new(spi, key, true, 64).unwrap()),
            peer: PeerIndex(0),
            mode: Mode::Tunnel,
        }
    }

    /// SPIs whose homes are all one place or beside it, across the end of the table.
    fn crowded() -> impl Iterator<Item = Spi> {
        let all = (256..u32::MAX).map(Spi);
        all.filter(|it| (home(*it) % SLOTS + 2) % SLOTS < 4)
    }

    #[test]
    fn who_comes_and_goes_is_found_or_not_and_leaves_nothing_to_search_past() {
        let mut sad = Sad::default();
        let mut dice = 1u64;
        let spis: Vec<_> = crowded().take(40).collect();
        let mut held = BTreeSet::new();
        for _ in 0..4_000 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let spi = spis[(dice >> 33) as usize % spis.len()];
            if held.remove(&spi) {
                assert_eq!(sad.retire_inbound(spi).unwrap().sa.spi(), spi);
            } else if held.len() < 12 {
                sad.install_inbound(inbound(spi)).unwrap();
                held.insert(spi);
            }
            for it in &spis {
                assert_eq!(sad.inbound_mut(*it).is_some(), held.contains(it));
            }
        }
        for spi in held {
            sad.retire_inbound(spi).unwrap();
        }
        let used = sad.inbound.iter().filter(|it| !matches!(it, Slot::Empty));
        assert_eq!(used.count(), 0, "a search for nobody ends at once");
    }
}
