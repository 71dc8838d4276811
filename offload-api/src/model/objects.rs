//! The objects a transaction adds and deletes, apart from policies.

use core::fmt;
use core::net::IpAddr;

use super::{
    DomainPattern, Encryption, IdentityId, IpPrefix, MacAddr, NodeName, PodRef, PodUid, PolicyId,
    PortName,
};

/// What a port is for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PortKind {
    /// The representor of a virtual function.
    Vf {
        /// The VF's number on its physical function.
        index: u16,
    },
    /// The wire to the other nodes.
    Uplink {
        /// The dataplane's own addresses there, at most one a family: ESP goes from and
        /// to them.
        interfaces: Vec<Interface>,
    },
    /// The host's own network function.
    Host,
}

/// An address of the dataplane on its uplink.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Interface {
    /// The address.
    pub addr: IpAddr,
    /// Length of the on-link prefix in bits.
    pub prefix_len: u8,
    /// Next hop for what is not on the link.
    pub gateway: Option<IpAddr>,
}

/// A port of the dataplane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    /// Its name; the dataplane must know it.
    pub name: PortName,
    /// What it is for.
    pub kind: PortKind,
    /// Its station's address: the VF's, the host PF's, the dataplane's own on an uplink.
    pub mac: MacAddr,
    /// The largest IP packet in bytes, 1280 to 9216.
    pub mtu: u16,
    /// The VLAN that its frames must carry, 1 to 4094; `None` is untagged. VFs only.
    pub vlan: Option<u16>,
}

/// A pod behind a VF.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// The pod's UID: with `interface` the endpoint's key.
    pub pod_uid: PodUid,
    /// Which of the pod's interfaces: its name inside, `net1`; empty is the primary one.
    pub interface: String,
    /// Its name, for people.
    pub pod: PodRef,
    /// The VF port; one endpoint a port.
    pub port: PortName,
    /// The identity of its first address.
    pub identity: IdentityId,
    /// The policy that judges it.
    pub policy: PolicyId,
    /// The MAC it may use; its port's.
    pub mac: MacAddr,
    /// The IPs it may use; no two endpoints share one. At least one, at most 8.
    pub ips: Vec<IpAddr>,
}

/// What names an endpoint: a pod has one for each interface on a VF.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EndpointKey {
    /// The pod's UID.
    pub pod_uid: PodUid,
    /// The interface's name inside the pod; empty is the primary one.
    pub interface: String,
}

impl Endpoint {
    /// What names it.
    #[must_use]
    pub fn key(&self) -> EndpointKey {
        EndpointKey {
            pod_uid: self.pod_uid.clone(),
            interface: self.interface.clone(),
        }
    }
}

impl Endpoint {
    /// Its name for people: `shop/cart`, of a secondary interface `shop/cart@net1`.
    #[must_use]
    pub fn name(&self) -> String {
        if self.interface.is_empty() {
            return self.pod.to_string();
        }
        format!("{}@{}", self.pod, self.interface)
    }
}

impl From<PodUid> for EndpointKey {
    /// The pod's primary interface.
    fn from(pod_uid: PodUid) -> Self {
        let interface = String::new();
        Self { pod_uid, interface }
    }
}

impl From<&str> for EndpointKey {
    /// The primary interface of the pod with this UID.
    fn from(pod_uid: &str) -> Self {
        PodUid::from(pod_uid).into()
    }
}

impl fmt::Display for EndpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pod_uid.fmt(f)?;
        if self.interface.is_empty() {
            return Ok(());
        }
        write!(f, "@{}", self.interface)
    }
}

/// A numeric identity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The number.
    pub id: IdentityId,
    /// What it stands for, as shown to people: `shop{app=cart}`, `node/a`, `10.0.0.0/8`.
    pub label: String,
    /// The names that it stands for, of a policy that names domains. No prefix leads to it:
    /// an address has it for as long as a pod's resolver said so, for that pod alone.
    pub domain: Option<DomainPattern>,
    /// What its pods or its node want of the way to another node; without meaning for what is
    /// outside the cluster.
    pub encryption: Encryption,
}

/// Where the addresses of a prefix are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// A pod behind a VF of this node; an endpoint has the address.
    LocalPod,
    /// This node itself, or an ordinary pod of it: behind the host port.
    LocalNode,
    /// A pod of another node.
    RemotePod(NodeName),
    /// Another node itself.
    RemoteNode(NodeName),
    /// Outside the cluster.
    Outside,
    /// Service addresses, which nobody has.
    ServiceVip,
    /// Addresses that only pods have, and no pod that is known: nobody may be spoken to there,
    /// and nobody may speak as one of them.
    Nobody,
}

/// Whose the addresses of a prefix are. The longest prefix decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prefix {
    /// The addresses: the object's key.
    pub prefix: IpPrefix,
    /// Who has them.
    pub identity: IdentityId,
    /// Where they are.
    pub place: Place,
    /// The pod of another node, if its UID is known: frames of and to its address pass only as
    /// long as that node doesn't announce the address as another pod's, or takes its
    /// announcement back. Only of one address at [`Place::RemotePod`].
    pub pod_uid: Option<PodUid>,
}

/// Another node: its dataplane, or that it has none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// The node: the object's key.
    pub node: NodeName,
    /// Its dataplane's addresses for ESP, at most one a family; none if it is unprotected.
    pub tunnel_ips: Vec<IpAddr>,
    /// It has no dataplane, and the operator says so: what both ends let go in clear does, and
    /// all else is dropped.
    pub unprotected: bool,
}
