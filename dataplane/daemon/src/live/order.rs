//! What can be asked of a dataplane that runs, and what it says.

use core::time::Duration;
use std::net::IpAddr;

use sluice_crypto::esp::{ReservedSpi, Spi};
use sluice_crypto::key::KeyError;
use sluice_crypto::replay::WindowError;
use sluice_dataplane_control::{SaConfig, SaError};
use sluice_offload_api::model::{NodeName, SaDirection};
use tokio::sync::oneshot;

/// What an SA ends at, whatever happens to who gave it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Packets. A sending SA refuses the next itself; a receiving one is looked at once a
    /// second.
    pub packets_max: u64,
    /// Inner bytes, looked at once a second.
    pub bytes_max: u64,
    /// Since it was installed.
    pub age_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packets_max: 1 << 32,
            bytes_max: 2 << 40,
            age_max: Duration::from_secs(8 * 3600),
        }
    }
}

/// An SA with its key.
#[derive(Debug)]
pub struct LiveSa {
    /// The other node.
    pub peer: NodeName,
    /// Which way it goes.
    pub direction: SaDirection,
    /// Key and all.
    pub config: SaConfig,
    /// What it ends at.
    pub limits: Limits,
}

/// An SA that is to go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Removal {
    /// The other node.
    pub peer: NodeName,
    /// Which way it goes.
    pub direction: SaDirection,
    /// The SA.
    pub spi: Spi,
}

/// What is asked.
#[derive(Debug)]
pub enum Order {
    /// Install an SA. A sending one takes the place of the one before.
    Add(LiveSa),
    /// Take one out.
    Remove(Removal),
}

/// Why nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum OrderRefused {
    /// The configuration has no socket for it.
    #[error("this dataplane takes no SAs at run time: give it `static.sa_socket`")]
    NotTaken,
    /// Not a request. Says where and nothing of what stands there: it may be a key.
    #[error("not a request: wrong at byte {column}")]
    Malformed {
        /// The place in the line, from 1.
        column: usize,
    },
    /// Too long.
    #[error("a request has at most {max} bytes")]
    TooLong {
        /// How long one may be.
        max: usize,
    },
    /// Not what a field may have, or a field of the other direction. Never says what it was.
    #[error("`{field}` isn't right: {expected}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What may stand there.
        expected: &'static str,
    },
    /// Not an SPI.
    #[error(transparent)]
    Spi(#[from] ReservedSpi),
    /// Not a key of this algorithm.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Not hex.
    #[error("`keymat` has hex digits and nothing else, two for each byte of key and salt")]
    NotHex,
    /// Not a window.
    #[error(transparent)]
    Window(#[from] WindowError),
    /// No such peer.
    #[error("node {node} is no peer of this dataplane: see `static.peers`")]
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
    /// No address that transport mode could be with.
    #[error(
        "none of node {node}'s tunnel_ips is an InternalIP of it: mode transport protects packets \
         between pods and an address that is both"
    )]
    NoHost {
        /// The peer.
        node: NodeName,
    },
    /// No pod that transport mode could be for.
    #[error("{pod} is no address of a pod of this node")]
    NoPod {
        /// The address.
        pod: IpAddr,
    },
    /// It would never be used.
    #[error("{pod} is of another family than {there}, where packets to the peer go")]
    PodFamily {
        /// The pod's address.
        pod: IpAddr,
        /// The peer's.
        there: IpAddr,
    },
    /// In use.
    #[error("SPI {spi} is another SA's of this direction")]
    DuplicateSpi {
        /// The SPI.
        spi: Spi,
    },
    /// It sealed packets before, or may have: its numbers would begin at 1 again.
    #[error("this key was given before, and its nonces would repeat: agree on a new one")]
    UsedKey,
    /// There is none.
    #[error("there is no such SA, or another has taken its place")]
    NoSuchSa,
    /// Not now.
    #[error("busy with an SA of this peer; ask again")]
    Busy,
    /// No room.
    #[error("the workers did not take it: there is no room for more SAs, or its SPI is in use")]
    Full,
    /// Used keys can't be written down.
    #[error("the key can't be written down as used: {0}")]
    Ledger(String),
    /// The control side.
    #[error(transparent)]
    Control(SaError),
    /// The control thread.
    #[error("the dataplane did not answer in time")]
    Silent,
}

impl OrderRefused {
    /// Its name in an answer, for programs.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotTaken => "not-taken",
            Self::Malformed { .. } | Self::TooLong { .. } => "malformed",
            Self::Field { .. } => "field",
            Self::Spi(_) => "spi",
            Self::Key(_) | Self::NotHex => "key",
            Self::Window(_) => "window",
            Self::UnknownPeer { .. } => "unknown-peer",
            Self::NoTunnel { .. } => "no-tunnel",
            Self::NoHost { .. } => "no-host",
            Self::NoPod { .. } | Self::PodFamily { .. } => "no-pod",
            Self::DuplicateSpi { .. } => "duplicate-spi",
            Self::UsedKey => "used-key",
            Self::NoSuchSa => "no-such-sa",
            Self::Busy => "busy",
            Self::Full => "full",
            Self::Ledger(_) => "ledger",
            Self::Control(_) => "failed",
            Self::Silent => "silent",
        }
    }
}

/// The way back to who asked.
#[derive(Debug)]
pub struct Answer(pub(crate) oneshot::Sender<Result<(), OrderRefused>>);

impl Answer {
    /// It is done. Who has gone away doesn't hear it.
    pub(crate) fn done(self) {
        drop(self.0.send(Ok(())));
    }

    /// Nothing has changed.
    pub(crate) fn refuse(self, why: OrderRefused) {
        drop(self.0.send(Err(why)));
    }
}
