//! What a job has still to send, and when.

use std::io::Write;

use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::wire::build::FrameSpec;

use super::agent::POD_MTU;

/// Ethernet's header and frame check sequence, which frame sizes count.
const ETHERNET_LEN: usize = 18;
const UDP_LEN: usize = 8;
/// Bytes of a datagram that tell it from others.
const NUMBER_LEN: usize = 8;

/// By time.
#[derive(Debug)]
pub(super) enum Due {
    /// The last first.
    Frames(Vec<(Tick, FrameSpec)>),
    /// Made when their time has come: a workload may have a million of them.
    Datagrams(Box<Datagrams>),
}

impl Due {
    pub(super) const NOTHING: Self = Self::Frames(Vec::new());

    /// When the next one is.
    pub(super) fn next_at(&self) -> Option<Tick> {
        match self {
            Self::Frames(frames) => frames.last().map(|it| it.0),
            Self::Datagrams(it) => it.next_at(),
        }
    }

    /// The next one.
    pub(super) fn pop(&mut self) -> Option<FrameSpec> {
        match self {
            Self::Frames(frames) => frames.pop().map(|it| it.1),
            Self::Datagrams(it) => it.pop(),
        }
    }
}

/// Numbered datagrams of a flow, evenly spaced.
#[derive(Debug)]
pub(super) struct Datagrams {
    /// All but what they say.
    spec: FrameSpec,
    /// What they say behind their number, and maybe more.
    text: Vec<u8>,
    /// Of their frames, in turn.
    sizes: Vec<u16>,
    start: Tick,
    every_ns: u64,
    sent: u64,
    packets: u64,
}

impl Datagrams {
    /// So many of them from `start` on; `text` is said over and over.
    pub(super) fn new(
        spec: FrameSpec,
        text: &[u8],
        sizes: &[u16],
        (start, every_ns): (Tick, u64),
        packets: u64,
    ) -> Self {
        let mut it = Self {
            spec,
            text: Vec::new(),
            sizes: sizes.to_vec(),
            start,
            every_ns,
            sent: 0,
            // Of no size there are none.
            packets: if sizes.is_empty() { 0 } else { packets },
        };
        it.text = text.iter().copied().cycle().take(it.longest()).collect();
        it
    }

    const fn header_len(&self) -> usize {
        if self.spec.src.is_ipv4() { 20 } else { 40 }
    }

    /// The longest payload that a pod may send whole.
    fn longest(&self) -> usize {
        usize::from(POD_MTU) - self.header_len() - UDP_LEN
    }

    fn next_at(&self) -> Option<Tick> {
        let left = self.sent < self.packets;
        left.then(|| self.start + self.sent * self.every_ns)
    }

    fn pop(&mut self) -> Option<FrameSpec> {
        self.next_at()?;
        let number = self.sent;
        self.sent += 1;
        let turn = usize::try_from(number)
            .ok()?
            .checked_rem(self.sizes.len())?;
        let size = self.sizes.get(turn).copied()?;
        let overhead = ETHERNET_LEN + self.header_len() + UDP_LEN;
        let len = usize::from(size).saturating_sub(overhead);
        let len = len.clamp(NUMBER_LEN, self.longest());
        let mut payload = Vec::with_capacity(len);
        // Into memory, where nothing fails.
        drop(write!(payload, "{number:0NUMBER_LEN$}"));
        payload.extend_from_slice(self.text.get(..len - NUMBER_LEN).unwrap_or_default());
        let mut spec = self.spec.clone();
        spec.payload = payload;
        Some(spec)
    }
}
