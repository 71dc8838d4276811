//! SAs at work on a pass of packets, each packet of the next SA.

use std::time::Duration;

use anyhow::Context;
use sluice_crypto::esp::{InboundSa, NEXT_HEADER_IPV4, OutboundSa, Spi};
use sluice_crypto::key::{Algorithm, EspKey};
use sluice_crypto::replay::ReplayWindow;
use sluice_dataplane_core::ahead::Ahead;
use sluice_dataplane_core::port::BURST_MAX;
use sluice_intrinsics::prefetch_many;

use super::bursts::Bursts;
use crate::timing::timed;

/// The lowest SPI that is not reserved, and a bit.
const FIRST_SPI: u32 = 0x1000;
/// From one SA to the next in turn: a prime, so that each has its turn and no prefetcher can
/// follow.
const STRIDE: usize = 7_919;

fn key(algorithm: Algorithm, spi: u32) -> anyhow::Result<EspKey> {
    let mut keymat = vec![7; algorithm.keymat_len()];
    keymat
        .iter_mut()
        .zip(spi.to_be_bytes())
        .for_each(|(byte, of)| *byte = of);
    EspKey::from_keymat(algorithm, &keymat).context("a key")
}

fn outbound(algorithm: Algorithm, count: u32) -> anyhow::Result<Vec<OutboundSa>> {
    let spis = FIRST_SPI..FIRST_SPI + count;
    spis.map(|spi| Ok(OutboundSa::new(Spi(spi), key(algorithm, spi)?, true)))
        .collect()
}

/// SAs in turn. What the packets of a burst read of theirs is asked for as the walk does.
struct Turns<T> {
    sas: Vec<T>,
    turn: usize,
    ahead: Ahead<(usize, usize)>,
    /// Of the burst under way, how many are left.
    left: usize,
}

impl<T> Turns<T> {
    const fn new(sas: Vec<T>) -> Self {
        Self {
            sas,
            turn: 0,
            ahead: Ahead::new((0, 0)),
            left: 0,
        }
    }

    /// The next, for a packet of `bytes`; `near` asks for what an SA has elsewhere.
    #[inline]
    fn next(&mut self, bytes: usize, near: impl Fn(&T, usize)) -> Option<&mut T> {
        let len = self.sas.len();
        let ask_far = |(at, _)| self.sas.get(at).into_iter().for_each(prefetch_many);
        let ask_near = |(at, bytes)| self.sas.get(at).into_iter().for_each(|sa| near(sa, bytes));
        if self.left == 0 {
            self.left = BURST_MAX;
            self.ahead = Ahead::new((0, 0));
            for nth in 1..=BURST_MAX {
                let at = (self.turn + nth * STRIDE) % len;
                self.ahead.push((at, bytes), nth > 1 && len == 1);
            }
            self.ahead.begin(ask_far, ask_near);
        }
        self.ahead.turn(ask_far, ask_near);
        self.left -= 1;
        self.turn = (self.turn + STRIDE) % len;
        self.sas.get_mut(self.turn)
    }
}

/// What the next packet asks of the key, and where its bit is.
fn within(sa: &InboundSa, esp_len: usize) {
    if let Some(word) = sa.window().top_word() {
        prefetch_many(word);
    }
    sa.expect_key(esp_len);
}

/// Sending SAs.
pub(super) struct Senders {
    sas: Turns<OutboundSa>,
    packets: Bursts,
    /// Packets that were not sealed.
    pub(super) refused: usize,
}

impl Senders {
    pub(super) fn new(algorithm: Algorithm, lens: &[usize], count: u32) -> anyhow::Result<Self> {
        Ok(Self {
            sas: Turns::new(outbound(algorithm, count)?),
            packets: Bursts::new(lens),
            refused: 0,
        })
    }

    /// Seals a pass of packets.
    fn seal(&mut self) {
        let Self {
            sas,
            packets,
            refused,
        } = self;
        packets.each(|it| {
            let sealed = sas
                .next(it.len, OutboundSa::expect_key)
                .map(|sa| sa.seal(it.whole, it.len, NEXT_HEADER_IPV4));
            *refused += usize::from(!matches!(sealed, Some(Ok(_))));
        });
    }

    /// Seals a pass of packets: how long it took.
    pub(super) fn pass(&mut self) -> Duration {
        timed(|| self.seal())
    }
}

/// Receiving SAs. Those who send to them are made for each packet: kept, they would be as many SAs
/// again, with caches to fill.
pub(super) struct Receivers {
    algorithm: Algorithm,
    /// Of each SA the number that its next packet has.
    numbers: Vec<u64>,
    /// Whose packet was sealed last.
    turn: usize,
    sas: Turns<InboundSa>,
    packets: Bursts,
    /// Packets that were not opened.
    pub(super) refused: usize,
}

impl Receivers {
    pub(super) fn new(algorithm: Algorithm, lens: &[usize], count: u32) -> anyhow::Result<Self> {
        let inbound = |spi| -> anyhow::Result<_> {
            let window = ReplayWindow::DEFAULT;
            let key = key(algorithm, spi)?;
            Ok(InboundSa::new(Spi(spi), key, true, window)?)
        };
        let spis = FIRST_SPI..FIRST_SPI + count;
        Ok(Self {
            algorithm,
            numbers: spis.clone().map(|_| 1).collect(),
            turn: 0,
            sas: Turns::new(spis.map(inbound).collect::<Result<_, _>>()?),
            packets: Bursts::new(lens),
            refused: 0,
        })
    }

    /// Seals a pass of packets.
    fn seal(&mut self) {
        let len = self.numbers.len();
        self.packets.each(|it| {
            self.turn = (self.turn + STRIDE) % len;
            let Some(number) = self.numbers.get_mut(self.turn) else {
                return;
            };
            let sealed = u32::try_from(self.turn).ok().and_then(|nth| {
                let key = key(self.algorithm, FIRST_SPI + nth).ok()?;
                let mut sa = OutboundSa::starting_at(Spi(FIRST_SPI + nth), key, true, *number);
                sa.seal(it.whole, it.len, NEXT_HEADER_IPV4).ok()
            });
            *number += 1;
            self.refused += usize::from(sealed.is_none());
        });
    }

    /// Opens a pass of packets, sealed beforehand: how long the opening took.
    pub(super) fn pass(&mut self) -> Duration {
        self.seal();
        let Self {
            sas,
            packets,
            refused,
            ..
        } = self;
        timed(|| {
            packets.each(|it| {
                let opened = sas.next(it.whole.len(), within).map(|sa| sa.open(it.whole));
                *refused += usize::from(!matches!(opened, Some(Ok(_))));
            });
        })
    }
}
