//! Ports, endpoints, identities, prefixes and peers.

use super::field::{
    enumerate, enumeration, ip, ip_bytes, ips, mac, message, messages, octet, required, short,
};
use super::{ConvertError, ConvertReason};
use crate::model::{
    DomainPattern, Encryption, Endpoint, EndpointKey, Identity, IdentityId, Interface, IpPrefix,
    NodeName, Peer, Place, PodRef, PodUid, PolicyId, Port, PortKind, PortName, Prefix,
};
use crate::proto;

impl TryFrom<proto::Port> for Port {
    type Error = ConvertError;

    fn try_from(wire: proto::Port) -> Result<Self, ConvertError> {
        use proto::port::Kind;
        let kind = match required("kind", wire.kind)? {
            Kind::Vf(proto::Vf { index }) => PortKind::Vf {
                index: short("vf.index", index)?,
            },
            Kind::Uplink(proto::Uplink { interfaces }) => PortKind::Uplink {
                interfaces: messages("uplink.interfaces", interfaces)?,
            },
            Kind::Host(proto::Unit {}) => PortKind::Host,
        };
        Ok(Self {
            name: PortName(wire.name),
            kind,
            mac: mac("mac", &wire.mac)?,
            mtu: short("mtu", wire.mtu)?,
            vlan: wire.vlan.map(|vlan| short("vlan", vlan)).transpose()?,
        })
    }
}

impl From<Port> for proto::Port {
    fn from(port: Port) -> Self {
        use proto::port::Kind;
        let kind = match port.kind {
            PortKind::Vf { index } => Kind::Vf(proto::Vf {
                index: index.into(),
            }),
            PortKind::Uplink { interfaces } => Kind::Uplink(proto::Uplink {
                interfaces: interfaces.into_iter().map(Into::into).collect(),
            }),
            PortKind::Host => Kind::Host(proto::Unit {}),
        };
        Self {
            name: port.name.0,
            kind: Some(kind),
            mac: port.mac.0.to_vec(),
            mtu: port.mtu.into(),
            vlan: port.vlan.map(Into::into),
        }
    }
}

impl TryFrom<proto::Interface> for Interface {
    type Error = ConvertError;

    fn try_from(wire: proto::Interface) -> Result<Self, ConvertError> {
        let gateway = wire.gateway.map(|gateway| ip("gateway", &gateway));
        Ok(Self {
            addr: ip("addr", &wire.addr)?,
            prefix_len: octet("prefix_len", wire.prefix_len)?,
            gateway: gateway.transpose()?,
        })
    }
}

impl From<Interface> for proto::Interface {
    fn from(interface: Interface) -> Self {
        Self {
            addr: ip_bytes(interface.addr),
            prefix_len: interface.prefix_len.into(),
            gateway: interface.gateway.map(ip_bytes),
        }
    }
}

impl TryFrom<proto::Endpoint> for Endpoint {
    type Error = ConvertError;

    fn try_from(wire: proto::Endpoint) -> Result<Self, ConvertError> {
        let proto::PodRef { namespace, name } = required("pod", wire.pod)?;
        Ok(Self {
            pod_uid: PodUid(wire.pod_uid),
            interface: wire.interface,
            pod: PodRef { namespace, name },
            port: PortName(wire.port),
            identity: IdentityId(wire.identity),
            policy: PolicyId(wire.policy),
            mac: mac("mac", &wire.mac)?,
            ips: ips("ips", &wire.ips)?,
        })
    }
}

impl From<Endpoint> for proto::Endpoint {
    fn from(endpoint: Endpoint) -> Self {
        let PodRef { namespace, name } = endpoint.pod;
        Self {
            pod_uid: endpoint.pod_uid.0,
            interface: endpoint.interface,
            pod: Some(proto::PodRef { namespace, name }),
            port: endpoint.port.0,
            identity: endpoint.identity.0,
            policy: endpoint.policy.0,
            mac: endpoint.mac.0.to_vec(),
            ips: endpoint.ips.into_iter().map(ip_bytes).collect(),
        }
    }
}

impl From<proto::EndpointName> for EndpointKey {
    fn from(wire: proto::EndpointName) -> Self {
        Self {
            pod_uid: PodUid(wire.pod_uid),
            interface: wire.interface,
        }
    }
}

impl From<EndpointKey> for proto::EndpointName {
    fn from(key: EndpointKey) -> Self {
        Self {
            pod_uid: key.pod_uid.0,
            interface: key.interface,
        }
    }
}

enumerate!(proto::Encryption, Encryption {
    Off <=> Off,
    Preferred <=> Preferred,
    Required <=> Required,
});

impl TryFrom<proto::Identity> for Identity {
    type Error = ConvertError;

    fn try_from(wire: proto::Identity) -> Result<Self, ConvertError> {
        // An agent or a checkpoint from before there was a setting must not close a node.
        let encryption = match wire.encryption {
            0 => Encryption::Required,
            given => enumeration::<proto::Encryption, _>("encryption", given)?,
        };
        Ok(Self {
            id: IdentityId(wire.id),
            label: wire.label,
            domain: wire.domain.map(domain).transpose()?,
            encryption,
        })
    }
}

impl From<Identity> for proto::Identity {
    fn from(identity: Identity) -> Self {
        Self {
            id: identity.id.0,
            label: identity.label,
            domain: identity.domain.map(String::from),
            encryption: proto::Encryption::from(identity.encryption).into(),
        }
    }
}

pub(super) fn domain(text: String) -> Result<DomainPattern, ConvertError> {
    DomainPattern::try_from(text).map_err(|why| ConvertError::new("domain", why))
}

impl TryFrom<proto::IpPrefix> for IpPrefix {
    type Error = ConvertError;

    fn try_from(wire: proto::IpPrefix) -> Result<Self, ConvertError> {
        let addr = ip("addr", &wire.addr)?;
        let len = octet("len", wire.len)?;
        Self::new(addr, len).map_err(|why| ConvertError::new("", ConvertReason::Prefix(why)))
    }
}

impl From<IpPrefix> for proto::IpPrefix {
    fn from(prefix: IpPrefix) -> Self {
        Self {
            addr: ip_bytes(prefix.addr()),
            len: prefix.len().into(),
        }
    }
}

impl TryFrom<proto::Prefix> for Prefix {
    type Error = ConvertError;

    fn try_from(wire: proto::Prefix) -> Result<Self, ConvertError> {
        use proto::prefix::Place as Wire;
        let place = match required("place", wire.place)? {
            Wire::LocalPod(proto::Unit {}) => Place::LocalPod,
            Wire::LocalNode(proto::Unit {}) => Place::LocalNode,
            Wire::RemotePod(node) => Place::RemotePod(NodeName(node)),
            Wire::RemoteNode(node) => Place::RemoteNode(NodeName(node)),
            Wire::Outside(proto::Unit {}) => Place::Outside,
            Wire::ServiceVip(proto::Unit {}) => Place::ServiceVip,
            Wire::Nobody(proto::Unit {}) => Place::Nobody,
        };
        Ok(Self {
            prefix: message("prefix", wire.prefix)?,
            identity: IdentityId(wire.identity),
            place,
            pod_uid: Some(PodUid(wire.pod_uid)).filter(|it| !it.0.is_empty()),
        })
    }
}

impl From<Prefix> for proto::Prefix {
    fn from(prefix: Prefix) -> Self {
        use proto::prefix::Place as Wire;
        let place = match prefix.place {
            Place::LocalPod => Wire::LocalPod(proto::Unit {}),
            Place::LocalNode => Wire::LocalNode(proto::Unit {}),
            Place::RemotePod(node) => Wire::RemotePod(node.0),
            Place::RemoteNode(node) => Wire::RemoteNode(node.0),
            Place::Outside => Wire::Outside(proto::Unit {}),
            Place::ServiceVip => Wire::ServiceVip(proto::Unit {}),
            Place::Nobody => Wire::Nobody(proto::Unit {}),
        };
        Self {
            prefix: Some(prefix.prefix.into()),
            identity: prefix.identity.0,
            place: Some(place),
            pod_uid: prefix.pod_uid.map_or_else(String::new, |it| it.0),
        }
    }
}

impl TryFrom<proto::Peer> for Peer {
    type Error = ConvertError;

    fn try_from(wire: proto::Peer) -> Result<Self, ConvertError> {
        Ok(Self {
            node: NodeName(wire.node),
            tunnel_ips: ips("tunnel_ips", &wire.tunnel_ips)?,
            unprotected: wire.unprotected,
        })
    }
}

impl From<Peer> for proto::Peer {
    fn from(peer: Peer) -> Self {
        Self {
            node: peer.node.0,
            tunnel_ips: peer.tunnel_ips.into_iter().map(ip_bytes).collect(),
            unprotected: peer.unprotected,
        }
    }
}
