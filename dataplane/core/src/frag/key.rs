//! Which datagram a fragment belongs to, and whose memory it takes.

use crate::addr::Addr;
use crate::hash::HashKey;
use crate::route::Attach;
use crate::snapshot::{PeerIndex, PortIndex};

/// What all fragments of one datagram have in common.
//= RFC 791 section 3.2: source, destination, protocol and identification together
//= RFC 8200 section 4.5: source, destination and fragment identification
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// IP source.
    pub src: Addr,
    /// IP destination.
    pub dst: Addr,
    /// The identification, [`crate::wire::Fragment::id`].
    pub id: u32,
    /// The protocol. IPv4 only, else 0: behind an IPv6 fragment header each fragment may
    /// name another, and the first's is what counts.
    pub protocol: u8,
    /// Where it came from: nobody completes what came another way.
    pub from: Attach,
    /// The generation that the sending pod came with, 0 if it isn't of this node: a new
    /// pod with an old one's address doesn't complete the old one's.
    pub born: u32,
}

impl Key {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the halves of the addresses"
    )]
    pub(super) fn hash(&self, key: HashKey) -> u64 {
        let (way, number) = match self.from {
            Attach::Port(port) => (0, port.0),
            Attach::Peer(peer) => (1, peer.0),
            Attach::Clear(peer) => (2, peer.0),
        };
        key.hash([
            self.src.0 as u64,
            (self.src.0 >> 64) as u64,
            self.dst.0 as u64,
            (self.dst.0 >> 64) as u64,
            u64::from(self.id) | u64::from(self.protocol) << 32 | way << 40,
            u64::from(self.born) | u64::from(number) << 32,
        ])
    }
}

/// Whose share of the memory a datagram takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payer {
    /// The pod behind this port, for what it sends.
    Sender(PortIndex),
    /// The pod behind this port, for what is sent to it in clear: a flood from outside
    /// costs the pod that it is aimed at.
    Receiver(PortIndex),
    /// Another node, for what it sends through ESP.
    Peer(PeerIndex),
}

/// Shares of the peers. Two peers have the same one if their numbers differ by a multiple.
const PEER_SHARES: usize = 256;

impl Payer {
    /// How many shares there are with so many ports.
    pub(super) const fn shares(ports: usize) -> usize {
        2 * ports + PEER_SHARES
    }

    /// The number of the payer's share; `None` for a port that isn't there.
    pub(super) fn share(self, ports: usize) -> Option<usize> {
        let port = |port: PortIndex| Some(usize::from(port.0)).filter(|&at| at < ports);
        match self {
            Self::Sender(at) => port(at),
            Self::Receiver(at) => port(at).map(|at| ports + at),
            Self::Peer(peer) => Some(2 * ports + usize::from(peer.0) % PEER_SHARES),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_payer_has_a_share_of_its_own_and_no_other_port_has_any() {
        let ports = 3;
        let mut seen = BTreeSet::new();
        for n in 0..3 {
            seen.insert(Payer::Sender(PortIndex(n)).share(ports).unwrap());
            seen.insert(Payer::Receiver(PortIndex(n)).share(ports).unwrap());
        }
        for n in 0..256 {
            seen.insert(Payer::Peer(PeerIndex(n)).share(ports).unwrap());
        }
        assert_eq!(seen, (0..Payer::shares(ports)).collect());
        assert_eq!(Payer::Sender(PortIndex(3)).share(ports), None);
        assert_eq!(Payer::Receiver(PortIndex(u16::MAX)).share(ports), None);
    }

    #[test]
    fn whatever_tells_datagrams_apart_is_in_the_hash() {
        let key = Key {
            src: Addr::v4([10, 0, 0, 1]),
            dst: Addr::v4([10, 0, 0, 2]),
            id: 7,
            protocol: 17,
            from: Attach::Port(PortIndex(1)),
            born: 0,
        };
        let others = [
            Key {
                src: key.dst,
                ..key
            },
            Key {
                dst: key.src,
                ..key
            },
            Key { id: 8, ..key },
            Key { protocol: 6, ..key },
            Key {
                from: Attach::Port(PortIndex(2)),
                ..key
            },
            Key {
                from: Attach::Peer(PeerIndex(1)),
                ..key
            },
            Key { born: 1, ..key },
        ];
        let hash = |key: &Key| key.hash(HashKey([3, 5]));
        let hashes: BTreeSet<u64> = others.iter().chain([&key]).map(hash).collect();
        assert_eq!(hashes.len(), 8);
    }
}
