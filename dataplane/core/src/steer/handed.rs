//! What one worker hands to another.

use crate::addr::{Addr, Mac};
use crate::batch::Path;
use crate::meta::Meta;
use crate::names::DomainId;
use crate::route::Attach;
use crate::snapshot::{PeerIndex, PortIndex};

/// A frame for its owner.
#[derive(Debug)]
pub(crate) struct Handed<F> {
    /// The port it came by.
    pub(crate) in_port: PortIndex,
    pub(crate) frame: F,
    pub(crate) how: How,
}

/// How far it has come: where the owner's walk goes on with it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    /// As it arrived, from the beginning; `collected` if it is a fragment and the worker that
    /// gathers its datagram has seen whose flow it is of.
    Arrived { collected: bool },
    /// Out of an SA of this peer's, from there on.
    Opened { meta: Meta, from: PeerIndex },
    /// Let through to a peer, to be sealed by an SA of the receiver's.
    Judged {
        meta: Meta,
        path: Path,
        from: Attach,
        to: PeerIndex,
    },
    /// An ICMP error of the dataplane's own to a peer, to be sealed likewise.
    Originated { meta: Meta, to: PeerIndex },
}

impl How {
    /// What it is to a worker that uses another snapshot than its sender: what was judged is
    /// judged anew, from the beginning, and an error of our own is given up.
    pub(crate) const fn elsewhen(self, distance: u64) -> Option<Self> {
        match self {
            same if distance == 0 => Some(same),
            Self::Judged { .. } => Some(Self::Arrived { collected: false }),
            // A peer's number is another's after two.
            Self::Originated { .. } => None,
            Self::Opened { .. } if distance > 1 => None,
            other => Some(other),
        }
    }

    /// Frames that one burst can have together.
    pub(crate) const fn goes_with(&self, other: &Self) -> bool {
        matches!(
            (self, other),
            (Self::Arrived { .. }, Self::Arrived { .. })
                | (Self::Opened { .. }, Self::Opened { .. })
                | (Self::Judged { .. }, Self::Judged { .. })
        )
    }
}

/// What one worker has learned and all have to know.
#[derive(Clone, Copy, Debug)]
pub(crate) enum News {
    /// A neighbour's answer on the uplink.
    Neighbor(Addr, Mac),
    /// What the path to a peer's tunnel address takes, in bytes.
    PathMtu(Addr, u16),
    /// A resolver's answer to the pod that came to a port with a generation.
    Name {
        pod: (PortIndex, u32),
        addr: Addr,
        domain: DomainId,
        ttl_s: u32,
    },
}
