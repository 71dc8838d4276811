//! How packets between nodes cross the wire, by pair of identities.

use super::{Encryption, IdentityId, NodeName, SaAlgorithm, SaDirection};

/// One end of a pair.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PairEnd {
    /// The identity.
    pub identity: IdentityId,
    /// What it stands for; `None`: it is gone since.
    pub label: Option<String>,
}

/// How packets cross the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PairCrossing {
    /// Through ESP, or not at all.
    Sealed,
    /// In clear, as the settings of both ends let them.
    Clear,
    /// Not at all: an end requires ESP, and the node has no dataplane.
    Never,
    /// Not known: an end or the node is gone since.
    Gone,
}

/// Packets from one identity to another, of which one is at another node: of pairs that have
/// flows now, or whose packets crossed the wire in clear since the dataplane's start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PairRecord {
    /// Whose they are.
    pub from: PairEnd,
    /// Whom they are for.
    pub to: PairEnd,
    /// The other node; `None`: it is gone since.
    pub peer: Option<NodeName>,
    /// Which way they go, as the SA that would protect them.
    pub direction: SaDirection,
    /// What both ends want: the stricter of their settings. `None`: an end is gone since.
    pub setting: Option<Encryption>,
    /// How they cross the wire now.
    pub crossing: PairCrossing,
    /// How the SA in use protects them; `None`: there is none, and they are dropped.
    pub algorithm: Option<SaAlgorithm>,
    /// Milliseconds since that SA was made; `None`: not known.
    pub sa_age_ms: Option<u64>,
    /// Flows now.
    pub flows: u64,
    /// Packets that crossed the wire in clear: that left, or came and were delivered.
    pub clear_packets: u64,
    /// Their bytes, from the IP header on.
    pub clear_bytes: u64,
}

/// What is not among the pairs of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PairsRest {
    /// Pairs that there was no room for in the answer.
    pub left_out: u64,
    /// Packets in clear of those, and of pairs that were counted together for want of room.
    pub clear_packets: u64,
    /// Their bytes, from the IP header on.
    pub clear_bytes: u64,
}

/// A line of the answer: pairs, and last of all exactly one [`Self::Rest`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PairLine {
    /// A pair.
    Pair(PairRecord),
    /// What is not among the pairs.
    Rest(PairsRest),
}
