//! The end that takes: acknowledges what it has, at once, and holds what came too early.

use std::collections::BTreeMap;

use sluice_dataplane_core::meta::tcp_flag;

use super::{MSS, Seen, Segment, number, offset, stream};

/// Parts that are held until what is before them has come, at most: a window of them.
const EARLY_MAX: usize = 256;

/// A receiver of one connection.
#[derive(Debug)]
pub(crate) struct Receiver {
    isn: u32,
    /// The peer's, once it has spoken.
    peer_isn: Option<u32>,
    /// The offset that it waits for.
    next: u64,
    /// Parts beyond it: first and last offset.
    early: BTreeMap<u64, u64>,
    /// What the stream must say.
    text: &'static [u8],
    intact: bool,
    /// The stream is over and it has all of it.
    over: bool,
}

impl Receiver {
    pub(crate) const fn new(isn: u32, text: &'static [u8]) -> Self {
        Self {
            isn,
            peer_isn: None,
            next: 0,
            early: BTreeMap::new(),
            text,
            intact: true,
            over: false,
        }
    }

    /// Bytes that it has in their order.
    pub(crate) fn received(&self) -> u64 {
        self.next - u64::from(self.over)
    }

    /// Whether every byte was what it must be.
    pub(crate) const fn is_intact(&self) -> bool {
        self.intact
    }

    /// What it says to a segment.
    pub(crate) fn on_segment(&mut self, seen: &Seen<'_>) -> Vec<Segment> {
        if seen.flags & tcp_flag::SYN != 0 {
            let known = *self.peer_isn.get_or_insert(seen.seq);
            return if known == seen.seq {
                vec![self.say(tcp_flag::SYN | tcp_flag::ACK)]
            } else {
                Vec::new()
            };
        }
        let Some(peer_isn) = self.peer_isn else {
            return Vec::new();
        };
        let fin = seen.flags & tcp_flag::FIN != 0;
        if seen.data.is_empty() && !fin {
            return Vec::new();
        }
        let expected = number(peer_isn, self.next);
        let Some(first) = offset(seen.seq, self.next, expected) else {
            return vec![self.say(tcp_flag::ACK)];
        };
        let end = first + seen.data.len() as u64;
        self.intact &= seen.data == stream(self.text, first..end);
        // The FIN is a byte of its own behind the rest.
        self.take(first, end);
        if fin && self.next >= end {
            self.over = true;
            self.next = self.next.max(end + 1);
        }
        if self.over {
            // Its own stream is empty: it ends with the peer's.
            return vec![self.say(tcp_flag::ACK | tcp_flag::FIN)];
        }
        vec![self.say(tcp_flag::ACK)]
    }

    fn take(&mut self, first: u64, end: u64) {
        if first > self.next {
            if end > first && self.early.len() < EARLY_MAX {
                let known = self.early.entry(first).or_insert(end);
                *known = (*known).max(end);
            }
            return;
        }
        self.next = self.next.max(end);
        while let Some((first, end)) = self.early.first_key_value().map(|it| (*it.0, *it.1)) {
            if first > self.next {
                break;
            }
            self.next = self.next.max(end);
            self.early.remove(&first);
        }
    }

    fn say(&self, flags: u8) -> Segment {
        let syn = flags & tcp_flag::SYN != 0;
        let seq = if syn { self.isn } else { number(self.isn, 0) };
        Segment {
            flags,
            seq,
            ack: self.peer_isn.map_or(0, |isn| number(isn, self.next)),
            mss: syn.then_some(MSS),
            data: 0..0,
        }
    }
}
