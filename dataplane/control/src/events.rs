//! What the dataplane tells its drivers, and what the key driver tells it.

use sluice_crypto::esp::Spi;
use sluice_crypto::key::EspKey;
use sluice_dataplane_core::sad::Mode;
use sluice_offload_api::model::{Generation, NodeName};

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Every worker uses this generation: acknowledge it to the agent.
    Applied(Generation),
    /// A peer is new or its address changed: it needs keys.
    PeerAdded(NodeName),
    /// A peer is gone; its SAs are on their way out.
    PeerRemoved(NodeName),
    /// Every worker has this receiving SA: the peer may send.
    InboundInstalled(NodeName, Spi),
    /// Every worker sends by this SA.
    OutboundInstalled(NodeName, Spi),
    /// An SA couldn't be installed.
    SaRefused(NodeName, Spi),
}

/// Which of the SAs between two nodes of one direction and age it is. Packets of one flow go by
/// one of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Child {
    /// From 0.
    pub number: u8,
    /// How many there are, at most 32.
    pub of: u8,
}

impl Child {
    /// There are no others.
    pub const ONLY: Self = Self { number: 0, of: 1 };
}

/// An SA from a key driver. Not `Clone`: a key has one owner.
#[derive(Debug)]
pub struct SaConfig {
    /// The receiver's index.
    pub spi: Spi,
    /// Key, salt and algorithm.
    pub key: EspKey,
    /// 64-bit sequence numbers (RFC 4303 section 2.2.1).
    pub esn: bool,
    /// Replay window in packets, 64 to 4096; receiving SAs only.
    pub window: usize,
    /// ESP in UDP 4500 (RFC 3948); sending SAs only.
    pub udp_encap: bool,
    /// What of a packet it protects; between Sluice nodes all.
    pub mode: Mode,
    /// Which of how many; of sending SAs, which are installed in the order of their numbers,
    /// all come in force with the last.
    pub child: Child,
}

/// Why an SA was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SaError {
    /// No such peer in the generation in force.
    #[error("node {node} is not a peer of this node")]
    UnknownPeer {
        /// The name asked for.
        node: NodeName,
    },
    /// No address family in common.
    #[error("node {node} has no tunnel address of a family that the uplink has")]
    NoTunnel {
        /// The peer.
        node: NodeName,
    },
    /// Not a replay window.
    #[error(transparent)]
    Window(#[from] sluice_crypto::replay::WindowError),
    /// Not the next of those that come in force together.
    #[error("child SA {} of {} came where number {next} is the next", child.number, child.of)]
    Child {
        /// The one that came.
        child: Child,
        /// The number that was expected.
        next: u8,
    },
    /// The workers have too much to do already.
    #[error("the worker's command queue is full; try again when it has polled")]
    Busy,
}
