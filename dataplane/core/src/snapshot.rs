//! Everything of one generation that workers read: ports, endpoints, prefixes, policies
//! and peers. Built whole on the control side, published at a burst boundary, immutable.

use crate::addr::{Addr, Mac};
use crate::moves::Moves;
use crate::table::policy::PolicyTable;
use crate::table::prefix::{Owner, PrefixTable};

/// The MAC that pods see for everything that isn't themselves: the dataplane answers
/// ARP and ND with it. Locally administered, the same on every node, so a pod's
/// neighbour table stays true wherever it runs.
pub const ROUTER_MAC: Mac = Mac([0x02, 0x53, 0x4c, 0x55, 0x49, 0x43]);

/// Ports of one worker, at most.
pub const PORTS_MAX: usize = 1024;

/// Addresses of one endpoint, at most.
pub const ENDPOINT_ADDRS_MAX: usize = 8;

/// A port by its place in the worker's list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PortIndex(pub u16);

/// Another node by its place in [`Snapshot::peers`]; stays the same while the node is
/// known, because flows and SAs hold it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PeerIndex(pub u16);

impl PeerIndex {
    /// No peer's: beyond all that there can be.
    pub const NONE: Self = Self(u16::MAX);
}

/// A pod behind a VF by its place in [`Snapshot::endpoints`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndpointIndex(pub u16);

/// A policy by its place in [`Snapshot::policies`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PolicyIndex(pub u32);

/// A numeric identity; 0 is nobody's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct IdentityId(pub u32);

/// What a port is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortKind {
    /// A VF's representor.
    Vf,
    /// The wire to the other nodes.
    Uplink,
    /// The host's own function.
    Host,
    /// In the worker's list, but not in this generation: all its frames are dropped.
    Closed,
}

/// A port as this generation has it.
#[derive(Clone, Copy, Debug)]
pub struct PortState {
    /// What it is for.
    pub kind: PortKind,
    /// Its station's MAC; on an uplink the dataplane's own.
    pub mac: Mac,
    /// The largest IP packet in bytes.
    pub mtu: u16,
    /// The VLAN of its frames; 0 is untagged.
    pub vlan: u16,
    /// The pod behind it. VFs only.
    pub endpoint: Option<EndpointIndex>,
}

impl PortState {
    /// A port that nobody may use.
    pub const CLOSED: Self = Self {
        kind: PortKind::Closed,
        mac: Mac([0; 6]),
        mtu: 0,
        vlan: 0,
        endpoint: None,
    };
}

/// A pod behind a VF.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its port.
    pub port: PortIndex,
    /// Its addresses.
    pub addrs: Vec<Addr>,
    /// Its policy.
    pub policy: PolicyIndex,
    /// Rises whenever anything that its flows were judged by changed. Never 0 and never
    /// used again, also not by the next pod on the same VF.
    pub generation: u32,
    /// The generation that the pod came to this node with. What an older one judged was
    /// another pod's, though it had the same VF or the same address.
    pub born: u32,
}

/// Where an address is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Behind a VF of this node.
    LocalPod(EndpointIndex),
    /// This node, behind the host port.
    LocalNode,
    /// A pod of another node.
    RemotePod(PeerIndex),
    /// A pod's that is gone and maybe another's by now, or one that only pods have and no pod
    /// that is known: nobody may be spoken to there, and nobody may speak as it.
    Nobody,
    /// Another node.
    RemoteNode(PeerIndex),
    /// Outside the cluster, behind the uplink.
    Outside,
    /// A service address.
    ServiceVip,
}

/// The dataplane's own address on the uplink.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interface {
    /// The address.
    pub addr: Addr,
    /// Length of the on-link prefix, of the family's own bits.
    pub prefix_len: u8,
    /// Next hop for the rest.
    pub gateway: Option<Addr>,
}

impl Interface {
    /// Who must be asked for the MAC on the way to `dst`: itself on the link, else the
    /// gateway. `None` across families or without a gateway.
    #[must_use]
    pub fn next_hop(&self, dst: Addr) -> Option<Addr> {
        if dst.is_v4() != self.addr.is_v4() {
            return None;
        }
        let len = u32::from(self.prefix_len) + if dst.is_v4() { 96 } else { 0 };
        let mask = u128::MAX.checked_shl(128 - len.min(128)).unwrap_or(0);
        if dst.0 & mask == self.addr.0 & mask {
            Some(dst)
        } else {
            self.gateway
        }
    }
}

/// What one end of a packet between nodes wants of the way. Of both ends' the greater, the
/// stricter, holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Encryption {
    /// In clear.
    Off,
    /// Sealed with a node that has a dataplane, in clear with one that has none.
    Preferred,
    /// Sealed, or dropped.
    #[default]
    Required,
}

/// Another node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// It has a dataplane.
    Protected {
        /// Where its ESP goes, in this node's order of preference; from the interface of the
        /// same family.
        tunnel: Addr,
    },
    /// It has none, and the operator says so.
    Unprotected,
}

impl Peer {
    /// Where its ESP goes, if it has a dataplane.
    #[must_use]
    pub const fn tunnel(self) -> Option<Addr> {
        match self {
            Self::Protected { tunnel } => Some(tunnel),
            Self::Unprotected => None,
        }
    }
}

/// All peers, by [`PeerIndex`]; `None` where one has gone.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    all: Box<[Option<Peer>]>,
    /// Sorted, for whoever sends what quotes an address of a peer's.
    by_tunnel: Box<[(Addr, PeerIndex)]>,
}

impl Peers {
    /// Whose tunnel address it is.
    #[must_use]
    pub fn at(&self, tunnel: Addr) -> Option<PeerIndex> {
        let at = self.by_tunnel.partition_point(|it| it.0 < tunnel);
        let (addr, peer) = self.by_tunnel.get(at)?;
        (*addr == tunnel).then_some(*peer)
    }
}

impl From<Vec<Option<Peer>>> for Peers {
    fn from(all: Vec<Option<Peer>>) -> Self {
        let indices = (0..=u16::MAX).map(PeerIndex);
        let tunnels = indices.zip(&all);
        let tunnels = tunnels.filter_map(|(index, it)| Some(((*it)?.tunnel()?, index)));
        let mut by_tunnel: Vec<_> = tunnels.collect();
        by_tunnel.sort_unstable();
        Self {
            all: all.into(),
            by_tunnel: by_tunnel.into(),
        }
    }
}

impl core::ops::Deref for Peers {
    type Target = [Option<Peer>];

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

/// A compiled policy and its name.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The agent's number for it: what [`crate::route::RuleRef`] carries.
    pub id: u32,
    /// Its rows.
    pub table: PolicyTable,
    /// What would hold if shadow policies were enforced: asked beside `table`, and counted.
    pub shadow: Option<PolicyTable>,
}

/// One generation.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The generation's number; 0 before the first.
    pub generation: u64,
    /// By [`PortIndex`], as long as the worker's list.
    pub ports: Vec<PortState>,
    /// The uplink, if there is one.
    pub uplink: Option<PortIndex>,
    /// The host port, if there is one.
    pub host: Option<PortIndex>,
    /// The dataplane's own addresses on the uplink.
    pub interfaces: Vec<Interface>,
    /// By [`EndpointIndex`].
    pub endpoints: Vec<Endpoint>,
    /// By [`PolicyIndex`].
    pub policies: Vec<Policy>,
    /// Who is at the other ends of tunnels, or has none.
    pub peers: Peers,
    /// Address to owner.
    pub prefixes: PrefixTable,
    /// When addresses changed owners.
    pub moves: Moves,
}

impl Snapshot {
    /// What a dataplane starts with: every port closed, nobody known.
    #[must_use]
    pub fn closed(ports: usize) -> Self {
        Self {
            generation: 0,
            ports: vec![PortState::CLOSED; ports],
            uplink: None,
            host: None,
            interfaces: Vec::new(),
            endpoints: Vec::new(),
            policies: Vec::new(),
            peers: Peers::default(),
            prefixes: PrefixTable::build(crate::hash::HashKey([0, 0]), &[]),
            moves: Moves::default(),
        }
    }

    /// The table of prefixes, to make another of it.
    #[must_use]
    pub fn into_prefixes(self) -> PrefixTable {
        self.prefixes
    }

    /// A port; one that the generation doesn't have is closed.
    #[inline]
    #[must_use]
    pub fn port(&self, index: PortIndex) -> PortState {
        self.ports
            .get(usize::from(index.0))
            .copied()
            .unwrap_or(PortState::CLOSED)
    }

    /// An endpoint.
    #[inline]
    #[must_use]
    pub fn endpoint(&self, index: EndpointIndex) -> Option<&Endpoint> {
        self.endpoints.get(usize::from(index.0))
    }

    /// The endpoint behind a port.
    #[inline]
    #[must_use]
    pub fn endpoint_of(&self, port: PortIndex) -> Option<&Endpoint> {
        self.endpoint(self.port(port).endpoint?)
    }

    /// What an endpoint judges its flows to an address by: a newer number, and they are judged
    /// again.
    #[inline]
    #[must_use]
    pub fn generation_towards(&self, endpoint: &Endpoint, other: Addr) -> u32 {
        endpoint.generation.max(self.moves.at(other))
    }

    /// The same for a port and whatever address; 0 if no endpoint is behind it.
    #[inline]
    #[must_use]
    pub fn newest_generation(&self, port: PortIndex) -> u32 {
        let endpoint = self.endpoint_of(port);
        endpoint.map_or(0, |e| e.generation.max(self.moves.last()))
    }

    /// A peer.
    #[inline]
    #[must_use]
    pub fn peer(&self, index: PeerIndex) -> Option<Peer> {
        self.peers.get(usize::from(index.0)).copied().flatten()
    }

    /// Who has an address.
    #[inline]
    #[must_use]
    pub fn owner(&self, addr: Addr) -> Option<Owner> {
        self.prefixes.find(addr)
    }

    /// Whether an address is the dataplane's own on the uplink.
    #[inline]
    #[must_use]
    pub fn is_own(&self, addr: Addr) -> bool {
        self.interfaces.iter().any(|i| i.addr == addr)
    }

    /// The interface that reaches an address of its family.
    #[must_use]
    pub fn interface_for(&self, dst: Addr) -> Option<&Interface> {
        self.interfaces
            .iter()
            .find(|i| i.addr.is_v4() == dst.is_v4())
    }
}
