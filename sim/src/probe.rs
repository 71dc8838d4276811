//! Questions asked with real frames, and their answers.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sluice_host_agent::cluster::NamespacedName;
use sluice_host_agent::evaluate::ShadowJudgement;
use sluice_offload_api::model::{Direction, Protocol, Verdict};

/// An address family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }
}

impl core::fmt::Display for Family {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}

/// As it is written in files.
fn protocol_name(protocol: Protocol) -> String {
    format!("{protocol:?}").to_uppercase()
}

/// Who a probe is from or to. Written `namespace/pod`, `node:NAME` or an IP address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Party {
    /// A pod.
    Pod {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// A node itself.
    Node(String),
    /// A host outside the cluster.
    Outside(IpAddr),
}

/// A destination port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProbePort {
    /// By number, 1 to 65535.
    Number(u16),
    /// By the name that the destination pod gave it.
    Name(String),
}

/// One question: can `from` reach `to`?
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// The initiator.
    pub from: Party,
    /// The responder.
    pub to: Party,
    /// The network on which the initiator is meant, if it is a pod; `None` is its primary
    /// interface.
    pub from_network: Option<NamespacedName>,
    /// The same of the responder.
    pub to_network: Option<NamespacedName>,
    /// The protocol.
    pub protocol: Protocol,
    /// The destination port; none for ICMP.
    pub port: Option<ProbePort>,
    /// The family; by default that of the initiator's first address.
    pub family: Option<Family>,
    /// The port that the initiator asks from, or its ICMP identifier: a flow that went before
    /// goes on. By default another one for each probe.
    pub source_port: Option<u16>,
    /// The answer that is right, if the asker knows.
    pub expect: Option<Verdict>,
}

/// What the frames showed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Observation {
    /// Allow if the answer's payload came back.
    pub verdict: Verdict,
    /// The side whose policy denied.
    pub at: Option<Direction>,
    /// The rule that decided, by the dataplanes' own records.
    pub rule: Option<String>,
    /// What policies in shadow mode would have made of it, by the dataplanes' records.
    pub shadow: Option<ShadowJudgement>,
    /// Whether the probe's frames crossed the wire, and all of them inside ESP.
    pub encrypted: bool,
    /// Whether a fault has swallowed or changed a frame meanwhile.
    pub touched: bool,
    /// The port the name stood for.
    pub port: Option<u16>,
    /// The family that was used.
    pub family: Family,
}

/// A probe that can't be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// No such pod.
    #[error(
        "there is no pod {namespace}/{name}; check its namespace and name, or add its manifest"
    )]
    NoPod {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// No such node.
    #[error("there is no node {name}; check its name, or add its manifest")]
    NoNode {
        /// Name.
        name: String,
    },
    /// A pod that isn't on the network.
    #[error(
        "{party} has no interface on network {network}; see the annotation \
         k8s.v1.cni.cncf.io/networks of its manifest"
    )]
    NoNetwork {
        /// The end as written.
        party: String,
        /// The network.
        network: NamespacedName,
    },
    /// An end without an address of the family.
    #[error("{party} has no {family} address; ask over a family that both ends have")]
    NoAddress {
        /// The end as written.
        party: String,
        /// The family asked for.
        family: Family,
    },
    /// A port name that the destination doesn't have.
    #[error("{party} has no {} port named `{port}`; name one that its manifest has, or write a number", protocol_name(*protocol))]
    NoPort {
        /// The destination.
        party: String,
        /// The protocol.
        protocol: Protocol,
        /// The name.
        port: String,
    },
    /// Both ends outside the cluster.
    #[error("both ends are outside the cluster: nothing here sees such a packet")]
    BothOutside,
}

impl core::fmt::Display for Party {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Pod { namespace, name } => write!(f, "{namespace}/{name}"),
            Self::Node(name) => write!(f, "node:{name}"),
            Self::Outside(ip) => ip.fmt(f),
        }
    }
}
