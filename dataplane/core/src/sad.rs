//! The security association database of one worker (RFC 4301 section 4.4.2): it owns its
//! SAs, so sequence numbers and replay windows have one writer.

use sluice_crypto::esp::{InboundSa, Mode, OutboundSa, Outer, Spi, Transport, Tunnel};
use sluice_crypto::replay::ReplayWindow;
use sluice_intrinsics::prefetch;

use crate::addr::Addr;
use crate::snapshot::PeerIndex;

/// SAs of one direction, at most.
pub const SAS_MAX: usize = 8192;

/// Places looked at for one SPI, at most.
const PROBES_MAX: usize = 64;
const SLOTS: usize = SAS_MAX * 2;

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
            Mode::Transport => Some(Transport {
                udp_encap: self.tunnel.udp_encap,
            }),
        }
    }

    /// The largest packet, with IP headers of `ip_header_len` bytes, that a link of `link_mtu`
    /// takes sealed.
    #[must_use]
    pub const fn packet_mtu(&self, link_mtu: usize, ip_header_len: usize) -> usize {
        match self.transport() {
            None => self.tunnel.inner_mtu(link_mtu),
            Some(transport) => transport.packet_mtu(link_mtu, ip_header_len),
        }
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
    outbound: Box<[Option<Outbound>]>,
    held: usize,
}

impl Default for Sad {
    fn default() -> Self {
        Self {
            inbound: (0..SLOTS).map(|_| Slot::Empty).collect(),
            outbound: (0..SAS_MAX).map(|_| None).collect(),
            held: 0,
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

    /// Has the receiving SA of an SPI brought into the cache, for a packet soon to be opened.
    #[inline]
    pub fn expect_inbound(&self, spi: Spi) {
        if let Some(inbound) = self.held_at(spi) {
            prefetch(&*inbound.sa);
        }
    }

    /// The same for the part of its replay window that the packet will ask. When the SA itself
    /// is on its way: where the window is stands in it.
    #[inline]
    pub fn expect_window(&self, spi: Spi) {
        let window = self.held_at(spi).map(|it| it.sa.window());
        if let Some(word) = window.and_then(ReplayWindow::top_word) {
            prefetch(word);
        }
    }

    /// Has the sending SA to a peer brought into the cache.
    #[inline]
    pub fn expect_outbound(&self, peer: PeerIndex) {
        if let Some(Some(outbound)) = self.outbound.get(usize::from(peer.0)) {
            prefetch(&*outbound.sa);
        }
    }

    fn held_at(&self, spi: Spi) -> Option<&Inbound> {
        match self.inbound.get(self.place(spi)?) {
            Some(Slot::Held(_, inbound)) => Some(inbound),
            _ => None,
        }
    }

    /// The sending SA to a peer.
    #[inline]
    pub fn outbound_mut(&mut self, peer: PeerIndex) -> Option<&mut Outbound> {
        self.outbound.get_mut(usize::from(peer.0))?.as_mut()
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
            if let Some(slot) = self.inbound.get_mut((home(spi) + i) % SLOTS)
                && !matches!(slot, Slot::Held(..))
            {
                *slot = Slot::Held(spi, inbound);
                self.held += 1;
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
        match core::mem::replace(slot, Slot::Gone) {
            Slot::Held(_, inbound) => Some(inbound),
            Slot::Empty | Slot::Gone => None,
        }
    }

    /// A planted bug's: takes a receiving SA from a peer out.
    pub(crate) fn retire_inbound_of(&mut self, peer: PeerIndex) {
        let before = self.inbound().find(|it| it.peer == peer);
        if let Some(spi) = before.map(|it| it.sa.spi()) {
            self.retire_inbound(spi);
        }
    }

    /// Puts the sending SA to a peer in force; the one it replaces comes back.
    ///
    /// # Errors
    /// Hands it back if the peer's number is over the bound.
    pub fn install_outbound(
        &mut self,
        peer: PeerIndex,
        outbound: Outbound,
    ) -> Result<Option<Outbound>, Refused<Outbound>> {
        match self.outbound.get_mut(usize::from(peer.0)) {
            Some(slot) => Ok(slot.replace(outbound)),
            None => Err(Refused(outbound)),
        }
    }

    /// Takes the sending SA to a peer out.
    pub fn retire_outbound(&mut self, peer: PeerIndex) -> Option<Outbound> {
        self.outbound.get_mut(usize::from(peer.0))?.take()
    }

    /// All receiving SAs.
    pub fn inbound(&self) -> impl Iterator<Item = &Inbound> {
        self.inbound.iter().filter_map(|s| match s {
            Slot::Held(_, inbound) => Some(inbound),
            _ => None,
        })
    }

    /// All sending SAs with their peers.
    pub fn outbound(&self) -> impl Iterator<Item = (PeerIndex, &Outbound)> {
        (0u16..)
            .zip(self.outbound.iter())
            .filter_map(|(i, o)| Some((PeerIndex(i), o.as_ref()?)))
    }
}
