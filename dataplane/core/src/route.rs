//! Where a packet comes from and where it goes.

use crate::snapshot::{PeerIndex, PortIndex};

/// An end of a flow: where its packets come from, and where packets to it go.
///
/// As a destination this is the SPD's disposition (RFC 4301 section 4.4.1): a port means
/// BYPASS and so does a node in clear, a peer means PROTECT with that peer's SA; DISCARD never
/// gets this far, it is a [`crate::reason::DropReason`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attach {
    /// In clear by a port of this node: a VF, the host, or the uplink.
    Port(PortIndex),
    /// Through ESP to or from another node.
    Peer(PeerIndex),
    /// In clear to or from another node, as the settings of both ends let it.
    Clear(PeerIndex),
}

impl Attach {
    /// Whether what came by `from` may have come from this end. What may come in clear may
    /// come sealed by the same node too: the two ends hear of a setting one after the other.
    #[must_use]
    pub fn admits(self, from: Self) -> bool {
        match (self, from) {
            (Self::Clear(node), Self::Peer(peer)) => node == peer,
            (own, from) => own == from,
        }
    }

    /// The node that it is through ESP to.
    #[inline]
    #[must_use]
    pub const fn peer(self) -> Option<PeerIndex> {
        match self {
            Self::Peer(peer) => Some(peer),
            Self::Port(_) | Self::Clear(_) => None,
        }
    }
}

/// A rule of a policy of the generation that judged, for counters and people.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RuleRef {
    /// [`crate::snapshot::Policy::id`]; [`Self::NO_POLICY`] if none spoke.
    pub policy: u32,
    /// Index of the rule in its policy.
    pub rule: u32,
}

impl RuleRef {
    /// No policy had a say: no end is an endpoint of this node under judgement.
    pub const NO_POLICY: u32 = u32::MAX;
}

impl Default for RuleRef {
    fn default() -> Self {
        Self {
            policy: Self::NO_POLICY,
            rule: 0,
        }
    }
}
