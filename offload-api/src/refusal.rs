//! Why a transaction was refused, and where in it.

use core::fmt;
use core::net::IpAddr;

use crate::convert::ConvertError;
use crate::limits::{MTU_MAX, MTU_MIN, VLAN_MAX};
use crate::model::{
    DomainPattern, Endpoint, Generation, IdentityId, MacAddr, NodeName, PodRef, PodUid, PortName,
    Protocol, RuleIndex,
};
use crate::transaction::Key;

/// A refused transaction. Nothing has changed.
///
/// It prints as one line that a person can act on:
/// `ops[3].add.endpoint.ips[1]: 10.0.0.5 already belongs to pod shop/db (uid 7c0f); give
/// each its own`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{path}: {why}")]
pub struct Refusal {
    /// The field at fault, as it is called in the `.proto`: `ops[3].add.endpoint.ips[1]`,
    /// `begin.delta.base`, `commit.generation`. For a state checked on its own:
    /// `endpoints[7c0f].ips[1]`.
    pub path: String,
    /// What is wrong with it.
    pub why: RefusalReason,
}

impl Refusal {
    /// A refusal at `path`.
    #[must_use]
    pub fn new(path: impl Into<String>, why: impl Into<RefusalReason>) -> Self {
        Self {
            path: path.into(),
            why: why.into(),
        }
    }

    /// What kind of fault it is, for programs.
    #[must_use]
    pub const fn code(&self) -> RefusalCode {
        self.why.code()
    }
}

impl From<ConvertError> for Refusal {
    fn from(error: ConvertError) -> Self {
        Self::new(error.path, error.why)
    }
}

/// What kind of fault it is: enough for an agent to choose what to do next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RefusalCode {
    /// A message isn't what the contract says. A bug of the sender.
    Malformed,
    /// A message came when it may not. A bug of the sender.
    Sequence,
    /// The base or generation doesn't follow what is in force: read the status, send a
    /// snapshot with a higher generation.
    Stale,
    /// An operation that isn't allowed here: kept in a delta, missing, or one of two on the
    /// same object. A snapshot of added objects heals it.
    Operation,
    /// More than the dataplane can hold.
    Capacity,
    /// A value that can't be.
    Value,
    /// Two objects claim the same thing.
    Conflict,
    /// An object refers to one that isn't there or isn't fit.
    Reference,
    /// The dataplane can't do it: a port it doesn't have, a feature it lacks.
    Unsupported,
}

/// A pod by both its names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pod {
    /// Its name.
    pub pod: PodRef,
    /// Its UID.
    pub uid: PodUid,
    /// Which of its interfaces; empty is the primary one.
    pub interface: String,
}

impl From<&Endpoint> for Box<Pod> {
    fn from(endpoint: &Endpoint) -> Self {
        Self::new(Pod {
            pod: endpoint.pod.clone(),
            uid: endpoint.pod_uid.clone(),
            interface: endpoint.interface.clone(),
        })
    }
}

impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.interface.is_empty() {
            return write!(f, "pod {} (uid {})", self.pod, self.uid);
        }
        let (pod, interface, uid) = (&self.pod, &self.interface, &self.uid);
        write!(f, "interface {interface} of pod {pod} (uid {uid})")
    }
}

/// Who has an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Owner {
    /// The dataplane itself, on its uplink.
    Uplink(PortName),
    /// A pod.
    Pod(Box<Pod>),
    /// Another node's dataplane.
    Peer(NodeName),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uplink(port) => write!(f, "the dataplane's own port {port}"),
            Self::Pod(pod) => pod.fmt(f),
            Self::Peer(node) => write!(f, "peer {node}"),
        }
    }
}

/// Shows a protocol or its absence.
fn or_any(protocol: &Option<Protocol>) -> &'static str {
    match protocol {
        None => "any protocol",
        Some(Protocol::Tcp) => "TCP",
        Some(Protocol::Udp) => "UDP",
        Some(Protocol::Sctp) => "SCTP",
        Some(Protocol::Icmp) => "ICMP",
    }
}

/// What is wrong, with the values that show it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefusalReason {
    /// A message isn't what the contract says.
    #[error(transparent)]
    Malformed(#[from] crate::convert::ConvertReason),
    /// An operation or commit before a begin.
    #[error("no transaction is open; send Begin first")]
    NotOpen,
    /// A begin inside a transaction.
    #[error("a transaction is already open; send Commit before the next Begin")]
    AlreadyOpen,

    /// The delta is relative to a generation that isn't in force.
    #[error(
        "the change is relative to generation {base}, but {current} is in force; \
         send a snapshot"
    )]
    StaleBase {
        /// What it is relative to.
        base: Generation,
        /// What is in force.
        current: Generation,
    },
    /// The generation doesn't rise.
    #[error("generation {generation} is not above {current}, which is in force")]
    GenerationNotRising {
        /// The transaction's.
        generation: Generation,
        /// The one in force.
        current: Generation,
    },

    /// A keep in a delta.
    #[error("a delta keeps whatever it does not mention; leave out {key}, or send a snapshot")]
    KeepInDelta {
        /// The object.
        key: Key,
    },
    /// An object to keep or delete isn't there.
    #[error("there is no {key}; add it, or leave it out")]
    Missing {
        /// The object.
        key: Key,
    },
    /// Two operations on one object.
    #[error("ops[{first}] is about {key} already; send one operation an object")]
    Twice {
        /// The object.
        key: Key,
        /// The earlier operation.
        first: usize,
    },

    /// More than fits.
    #[error("{count} {what} are too many; at most {max} fit")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are, or would be.
        count: usize,
        /// How many fit.
        max: usize,
    },

    /// An empty name.
    #[error("is empty; give a name")]
    Empty,
    /// A long name.
    #[error("{len} bytes are too long; at most {max} fit")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// A control character, which could take over the terminal it is shown on.
    #[error("has the control character {char:?} in it; use printable text")]
    ControlCharacter {
        /// The character.
        char: char,
    },
    /// Identity 0.
    #[error("identity 0 is never used; number identities from 1")]
    IdentityZero,
    /// An MTU out of range.
    #[error("an MTU of {mtu} bytes is not within {MTU_MIN} to {MTU_MAX}")]
    Mtu {
        /// The MTU in bytes.
        mtu: u16,
    },
    /// A VLAN out of range.
    #[error("VLAN {vlan} is not within 1 to {VLAN_MAX}; leave it out for untagged")]
    Vlan {
        /// The VLAN.
        vlan: u16,
    },
    /// A VLAN on another port than a VF.
    #[error("VLAN {vlan} is on a port that is not a VF; only VFs have one")]
    VlanNotVf {
        /// The VLAN.
        vlan: u16,
    },
    /// A MAC no station can have.
    #[error("{mac} is not a station's address (group bit set, or all zero)")]
    MacNotUnicast {
        /// The MAC.
        mac: MacAddr,
    },
    /// An address no station can have.
    #[error("{ip} is not a unicast address that a station can have")]
    IpNotUnicast {
        /// The address.
        ip: IpAddr,
    },
    /// A prefix length over the family's.
    #[error("prefix length {len} is over {max}, the longest for {ip}")]
    PrefixLen {
        /// The address.
        ip: IpAddr,
        /// The length in bits.
        len: u8,
        /// The longest in bits.
        max: u8,
    },
    /// A gateway that isn't on the interface's link.
    #[error("gateway {gateway} is not another station on the link of {ip}/{len}")]
    GatewayOffLink {
        /// The gateway.
        gateway: IpAddr,
        /// The interface's address.
        ip: IpAddr,
        /// Its prefix length in bits.
        len: u8,
    },
    /// Two addresses of a family where one may be.
    #[error("{ip} is the second address of its family; at most one may be")]
    SecondOfFamily {
        /// The second address.
        ip: IpAddr,
    },
    /// No addresses.
    #[error("has no address; at least one is needed")]
    NoIps,
    /// A peer without a dataplane that has an address for ESP.
    #[error("node {node} is unprotected and has {ip} for ESP; leave one of the two out")]
    TunnelOfUnprotected {
        /// The peer.
        node: NodeName,
        /// The first address.
        ip: IpAddr,
    },
    /// A local pod's prefix of more than one address.
    #[error("a local pod's prefix has one address, not /{len}")]
    NotHost {
        /// The length in bits.
        len: u8,
    },
    /// A UID at a prefix that isn't a remote pod's one address.
    #[error("only one address of a pod of another node has a pod UID; leave it out")]
    PodUidNotThere,
    /// Rows out of order.
    #[error(
        "the row sorts before the one above it; sort by direction, tier, peer, protocol, ports"
    )]
    RowsUnsorted,
    /// Two rows of one key.
    #[error("the row has the same key as the one above it; keep the one of the lower rule")]
    RowTwice,
    /// A rule that isn't there.
    #[error("there is no rule {}; the policy has {rules}", .rule.0)]
    NoRule {
        /// The rule.
        rule: RuleIndex,
        /// How many there are.
        rules: usize,
    },
    /// Ports of a protocol that has none.
    #[error("{} has no ports; use the block of all ports, or TCP, UDP or SCTP", or_any(.protocol))]
    PortsWithoutProtocol {
        /// The row's protocol.
        protocol: Option<Protocol>,
    },

    /// A MAC that another port has.
    #[error("{mac} already belongs to port {port}; give each its own")]
    MacTaken {
        /// The MAC.
        mac: MacAddr,
        /// Who has it.
        port: PortName,
    },
    /// A VF that another port is.
    #[error("VF {index} is port {port} already; name each VF once")]
    VfTaken {
        /// The VF's index.
        index: u16,
        /// The other port.
        port: PortName,
    },
    /// A second uplink.
    #[error("port {port} is the uplink already; there can be one")]
    SecondUplink {
        /// The other.
        port: PortName,
    },
    /// A second host port.
    #[error("port {port} is the host's already; there can be one")]
    SecondHost {
        /// The other.
        port: PortName,
    },
    /// A port that another endpoint is on.
    #[error("port {port} already belongs to {pod}; give each its own")]
    PortTaken {
        /// The port.
        port: PortName,
        /// The other pod.
        pod: Box<Pod>,
    },
    /// An address that somebody has.
    #[error("{ip} already belongs to {owner}; give each its own")]
    IpTaken {
        /// The address.
        ip: IpAddr,
        /// Who has it.
        owner: Owner,
    },

    /// A reference to nothing.
    #[error("{from} needs {to}, which there is not; have both in force, or neither")]
    Dangling {
        /// The object that refers.
        from: Box<Key>,
        /// What it refers to.
        to: Box<Key>,
    },
    /// An endpoint on a port that isn't a VF.
    #[error("pod {pod} is on port {port}, which is not a VF; pods have VFs")]
    PortNotVf {
        /// The pod.
        pod: PodRef,
        /// The port.
        port: PortName,
    },
    /// An endpoint whose MAC isn't its port's.
    #[error("pod {pod} has MAC {mac}, but its port {port} has {port_mac}; they must be one")]
    MacMismatch {
        /// The pod.
        pod: PodRef,
        /// Its MAC.
        mac: MacAddr,
        /// Its port.
        port: PortName,
        /// The port's MAC.
        port_mac: MacAddr,
    },
    /// An endpoint's address that isn't a local pod's by its prefix.
    #[error("pod {pod} has {ip}, which no local-pod prefix says; add one of that address")]
    NoLocalPrefix {
        /// The pod.
        pod: PodRef,
        /// The address.
        ip: IpAddr,
    },
    /// A local pod's prefix that no endpoint has.
    #[error("{ip} is a local pod's, but no endpoint has it; add the endpoint with it")]
    NoLocalPod {
        /// The address.
        ip: IpAddr,
    },
    /// An endpoint and its prefix of different identities.
    #[error(
        "pod {pod} has identity {endpoint}, but {ip} has {prefix} by its prefix; \
         they must be one"
    )]
    IdentityMismatch {
        /// The pod.
        pod: PodRef,
        /// The endpoint's identity.
        endpoint: IdentityId,
        /// The address.
        ip: IpAddr,
        /// The prefix's identity.
        prefix: IdentityId,
    },
    /// A row of a domain's identity that is not one of egress that allows.
    #[error(
        "identity {identity} stands for the domain {domain}, which only egress rows that \
         allow may name"
    )]
    DomainRow {
        /// The identity.
        identity: IdentityId,
        /// The names it stands for.
        domain: DomainPattern,
    },
    /// An address that has a domain's identity.
    #[error(
        "identity {identity} stands for the domain {domain}, which nobody has of itself; give \
         it another identity"
    )]
    DomainHeld {
        /// The identity.
        identity: IdentityId,
        /// The names it stands for.
        domain: DomainPattern,
    },

    /// A port that this dataplane doesn't have.
    #[error("this dataplane has no port {port}; it has {}", list(.known))]
    PortNotHere {
        /// The name.
        port: PortName,
        /// Those it has.
        known: Vec<PortName>,
    },
    /// Something that this dataplane can't do.
    #[error("this dataplane cannot do it: {what}")]
    Unsupported {
        /// What it is.
        what: String,
    },
}

fn list(names: &[PortName]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<_> = names.iter().map(|name| name.0.as_str()).collect();
    names.join(", ")
}

impl RefusalReason {
    /// What kind of fault it is, for programs.
    #[must_use]
    pub const fn code(&self) -> RefusalCode {
        match self {
            Self::Malformed(_) => RefusalCode::Malformed,
            Self::NotOpen | Self::AlreadyOpen => RefusalCode::Sequence,
            Self::StaleBase { .. } | Self::GenerationNotRising { .. } => RefusalCode::Stale,
            Self::KeepInDelta { .. } | Self::Missing { .. } | Self::Twice { .. } => {
                RefusalCode::Operation
            }
            Self::TooMany { .. } => RefusalCode::Capacity,
            Self::Empty
            | Self::TooLong { .. }
            | Self::ControlCharacter { .. }
            | Self::IdentityZero
            | Self::Mtu { .. }
            | Self::Vlan { .. }
            | Self::VlanNotVf { .. }
            | Self::MacNotUnicast { .. }
            | Self::IpNotUnicast { .. }
            | Self::PrefixLen { .. }
            | Self::GatewayOffLink { .. }
            | Self::SecondOfFamily { .. }
            | Self::NoIps
            | Self::TunnelOfUnprotected { .. }
            | Self::NotHost { .. }
            | Self::PodUidNotThere
            | Self::RowsUnsorted
            | Self::RowTwice
            | Self::NoRule { .. }
            | Self::PortsWithoutProtocol { .. } => RefusalCode::Value,
            Self::MacTaken { .. }
            | Self::VfTaken { .. }
            | Self::SecondUplink { .. }
            | Self::SecondHost { .. }
            | Self::PortTaken { .. }
            | Self::IpTaken { .. } => RefusalCode::Conflict,
            Self::Dangling { .. }
            | Self::PortNotVf { .. }
            | Self::MacMismatch { .. }
            | Self::NoLocalPrefix { .. }
            | Self::NoLocalPod { .. }
            | Self::IdentityMismatch { .. }
            | Self::DomainRow { .. }
            | Self::DomainHeld { .. } => RefusalCode::Reference,
            Self::PortNotHere { .. } | Self::Unsupported { .. } => RefusalCode::Unsupported,
        }
    }
}
