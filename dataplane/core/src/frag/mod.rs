//! Fragments judged by their first: virtual reassembly.
//!
//! Only a datagram's first fragment has ports. It is tracked and judged like a whole
//! packet; the later ones go where it went, or nowhere. One that comes before its first
//! waits here. Nothing is put together: the receiver does that, and what passes here can
//! be put together in one way only, because overlaps end their datagram.
//!
//! Pure like the rest of the walk: time is an argument, all memory is taken at creation,
//! and every list is bounded. What is bounded is shared fairly: whoever holds most gives
//! way, its oldest first, so that a flood of one pod or peer costs only its own.

mod key;
mod queues;
mod ranges;
mod table;
#[cfg(test)]
mod tests;

pub use key::{Key, Payer};
pub use table::{Arrival, DatagramSlot, Fragments, Learned, Waiting};

use crate::tick::Tick;

/// Fragments of one datagram, at most. The longest datagram has 52 of 1,280 bytes, the
/// least that an IPv6 link carries.
pub const FRAGMENTS_MAX: usize = 64;

/// Datagrams known at a time, at most.
pub const DATAGRAMS_MAX: usize = 2048;

/// Datagrams of one payer whose first fragment has been judged, at most. Each of its others
/// has a frame that waits, so [`WAITING_PER_SHARE_MAX`] is their bound.
pub const DATAGRAMS_PER_SHARE_MAX: usize = 128;

/// Frames that wait for their first fragment, at most. They come out of the ports' pool.
pub const WAITING_MAX: usize = 512;

/// Frames of one payer that wait, at most: more than a whole datagram and a burst.
pub const WAITING_PER_SHARE_MAX: usize = 128;

/// How long a datagram is remembered, from its first fragment to arrive.
///
/// A receiver waits 30 s (Linux, IPv4) or 60 s (RFC 8200 section 4.5), for paths around
/// the world whose fragments lose each other; but a sender sends them back to back. Here
/// the frames that wait are a pool's, and an IPv4 identification that is used again
/// within this time would be taken for the old datagram's: with 5 s that takes 13,000
/// datagrams a second between two hosts, with 30 s it takes 2,200 (RFC 4963).
pub const LIFETIME_NS: u64 = 5 * Tick::SECOND;

/// Datagrams ended by one [`Fragments::expire`], at most.
pub const EXPIRE_MAX: usize = 64;
