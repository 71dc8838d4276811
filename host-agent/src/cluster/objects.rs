//! The objects other than policies, as far as the agent needs them.

use core::fmt;
use core::net::IpAddr;

use sluice_offload_api::model::{Encryption, IpPrefix, NodeName, PodRef, PodUid, Protocol};

use super::Labels;

/// The name of a policy or service.
#[derive(
    Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize,
)]
pub struct NamespacedName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A namespace.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Namespace {
    /// Its labels as written; [`super::Cluster::namespace_labels`] adds the implicit one.
    pub labels: Labels,
    /// The setting of its pods that have none themselves: the annotation
    /// `sluice.dev/encryption`.
    pub encryption: Option<Encryption>,
}

/// A node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Node {
    /// Its labels.
    pub labels: Labels,
    /// Its InternalIPs: the host's, and those of its hostNetwork pods.
    pub ips: Vec<IpAddr>,
    /// Its dataplane's addresses for ESP, at most one a family: the annotation
    /// `sluice.dev/tunnel-ips`.
    pub tunnel_ips: Vec<IpAddr>,
    /// Prefixes that its pods' addresses are taken from: `spec.podCIDRs`.
    pub pod_cidrs: Vec<IpPrefix>,
}

/// A pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pod {
    /// Its namespace and name; the key in [`super::Cluster::pods`].
    pub pod: PodRef,
    /// Its UID; `namespace/name` where the manifest has none.
    pub uid: PodUid,
    /// Its labels.
    pub labels: Labels,
    /// The node it is on; `None` until it is scheduled.
    pub node: Option<NodeName>,
    /// It has its node's addresses and is judged as the node.
    pub host_network: bool,
    /// The ports of its containers.
    pub ports: Vec<ContainerPort>,
    /// Its addresses, the primary one first; none until they are assigned.
    pub ips: Vec<IpAddr>,
    /// Its secondary interfaces, by the order in which it was given them.
    pub interfaces: Vec<Interface>,
    /// It is over (phase Succeeded or Failed); its addresses may be another's.
    pub completed: bool,
    /// Its setting, as it asks for it: the annotation `sluice.dev/encryption`.
    pub encryption: Option<Encryption>,
}

/// The UID of a pod whose manifest gives none: no UID has a slash.
fn unnamed_uid(namespace: &str, name: &str) -> PodUid {
    PodUid(format!("{namespace}/{name}"))
}

/// A pod's secondary interface: it is on a network of its own, and MultiNetworkPolicies are
/// for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Its name inside the pod: `net1`.
    pub name: String,
    /// Its network: the NetworkAttachmentDefinition that it was made by.
    pub network: NamespacedName,
    /// Another network, if the runtime reports that one in place of what was asked for. The
    /// interface stays closed then, and no address counts as its.
    pub reported: Option<NamespacedName>,
    /// Its addresses; none until they are known.
    pub ips: Vec<IpAddr>,
}

impl Pod {
    /// An unscheduled pod without labels, ports or addresses.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            pod: PodRef {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            },
            uid: unnamed_uid(namespace, name),
            labels: Labels::new(),
            node: None,
            host_network: false,
            ports: Vec::new(),
            ips: Vec::new(),
            interfaces: Vec::new(),
            completed: false,
            encryption: None,
        }
    }

    /// Its UID, if the manifest has one.
    #[must_use]
    pub fn given_uid(&self) -> Option<&PodUid> {
        let PodRef { namespace, name } = &self.pod;
        Some(&self.uid).filter(|it| **it != unnamed_uid(namespace, name))
    }

    /// Whether its addresses are its own: it runs, on some node, and not in that node's
    /// network. Policies select only such pods.
    #[must_use]
    pub fn owns_addresses(&self) -> bool {
        !self.completed && !self.host_network && self.node.is_some()
    }

    /// The secondary interface of this name.
    #[must_use]
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|it| it.name == name)
    }

    /// The secondary interface that has an address; `None` if it is the primary one's.
    #[must_use]
    pub fn interface_at(&self, ip: IpAddr) -> Option<&Interface> {
        self.interfaces.iter().find(|it| it.ips.contains(&ip))
    }

    /// The network that an address is on; `None` if it is the primary interface's.
    #[must_use]
    pub fn network_at(&self, ip: IpAddr) -> Option<&NamespacedName> {
        self.interface_at(ip).map(|it| &it.network)
    }

    /// The node whose addresses it uses, if it runs in its node's network.
    #[must_use]
    pub fn host_node(&self) -> Option<&NodeName> {
        self.node
            .as_ref()
            .filter(|_| self.host_network && !self.completed)
    }

    /// The numbers of its ports with this name and protocol.
    pub fn named_ports<'a>(
        &'a self,
        name: &'a str,
        protocol: Protocol,
    ) -> impl Iterator<Item = u16> + 'a {
        let same = move |port: &&ContainerPort| {
            port.protocol == protocol && port.name.as_deref() == Some(name)
        };
        self.ports.iter().filter(same).map(|port| port.number)
    }
}

/// The primary interface's name inside a pod, whatever annotations say of it: container
/// runtimes have no other.
pub const PRIMARY_INTERFACE: &str = "eth0";

/// A port that a container says it listens on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContainerPort {
    /// Its name, which policies may use.
    pub name: Option<String>,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// Its number.
    pub number: u16,
}

/// A service.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Service {
    /// Its cluster addresses; none if it is headless.
    pub vips: Vec<IpAddr>,
}
