//! Which prefixes there are, and who and where each is.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::{BTreeMap, BTreeSet};

use sluice_offload_api::model::{Direction, IpPrefix, NodeName, Place, PodUid};

use super::{Bound, NodeSetup};
use crate::cluster::{AddressIndex, Cluster, Holder, Peer, Pod, PortRule, PortSpec};
use crate::identity::{IdentityKey, NamedPorts, Subject};

/// Who and where a prefix's addresses are.
pub(super) struct Owner {
    pub(super) key: IdentityKey,
    pub(super) place: Place,
    /// Of another node's pod, if the API says it.
    pub(super) pod_uid: Option<PodUid>,
}

/// The node whose tunnel leads to a place, if one does.
pub(super) const fn needs_peer(place: &Place) -> Option<&NodeName> {
    match place {
        Place::RemotePod(node) | Place::RemoteNode(node) => Some(node),
        Place::LocalPod | Place::LocalNode | Place::Outside | Place::ServiceVip => None,
    }
}

/// All prefixes: the world, every block of every policy, every address of the cluster.
///
/// An address outside the cluster has the longest block that contains it as its longest
/// prefix. Every other block that contains it is shorter, so contains that block too: the
/// blocks of the prefix are the blocks of the address. An address of the cluster has a
/// prefix of its own.
pub(super) fn owners(
    cluster: &Cluster,
    index: &AddressIndex,
    setup: &NodeSetup,
    bound: &Bound<'_>,
) -> BTreeMap<IpPrefix, Owner> {
    let blocks = blocks(cluster);
    let names = egress_port_names(cluster);
    let mut owners = BTreeMap::new();
    for prefix in world().into_iter().chain(blocks.iter().copied()) {
        let blocks = blocks
            .iter()
            .copied()
            .filter(|it| it.covers(&prefix))
            .collect();
        let key = IdentityKey {
            subject: Subject::Outside,
            blocks,
        };
        owners.insert(
            prefix,
            Owner {
                key,
                place: Place::Outside,
                pod_uid: None,
            },
        );
    }
    for (ip, holder) in index.iter() {
        let mut pod_uid = None;
        let (subject, place) = match holder {
            Holder::Pod(name) | Holder::Interface(name, _) => {
                let Some(pod) = cluster.pods.get(name) else {
                    continue;
                };
                let inside = match holder {
                    Holder::Interface(_, inside) => inside.as_str(),
                    _ => "",
                };
                let place = match pod.node.as_ref() {
                    Some(node) if *node != setup.node => {
                        pod_uid = pod.given_uid().cloned();
                        Place::RemotePod(node.clone())
                    }
                    _ if bound.contains_key(&(name, inside)) => Place::LocalPod,
                    _ => Place::LocalNode,
                };
                (pod_subject(pod, inside, &names), place)
            }
            Holder::Node(name) if *name == setup.node => {
                (Subject::Node { name: name.clone() }, Place::LocalNode)
            }
            Holder::Node(name) => (
                Subject::Node { name: name.clone() },
                Place::RemoteNode(name.clone()),
            ),
            Holder::Service(_) => (Subject::Outside, Place::ServiceVip),
        };
        let blocks = blocks
            .iter()
            .copied()
            .filter(|it| it.contains(ip))
            .collect();
        let key = IdentityKey { subject, blocks };
        let owner = Owner {
            key,
            place,
            pod_uid,
        };
        owners.insert(IpPrefix::host(ip), owner);
    }
    owners
}

fn world() -> [IpPrefix; 2] {
    let zero = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    zero.map(|addr| IpPrefix::masked(addr, 0).unwrap_or(IpPrefix::host(addr)))
}

fn blocks(cluster: &Cluster) -> BTreeSet<IpPrefix> {
    let mut blocks = BTreeSet::new();
    let both = [Direction::Ingress, Direction::Egress].map(|it| cluster.rules(it));
    for peer in both.into_iter().flatten().flat_map(|rule| &rule.peers) {
        if let Peer::Block { cidr, except } = peer {
            blocks.insert(*cidr);
            blocks.extend(except);
        }
    }
    blocks
}

/// The port names whose numbers on another pod matter to some table.
fn egress_port_names<'a>(cluster: &'a Cluster) -> BTreeSet<&'a str> {
    let ports = cluster
        .rules(Direction::Egress)
        .flat_map(|rule| &rule.ports);
    let name = |port: &'a PortRule| match &port.ports {
        PortSpec::Named(name) => Some(name.as_str()),
        PortSpec::Any | PortSpec::Range { .. } => None,
    };
    ports.filter_map(name).collect()
}

fn pod_subject(pod: &Pod, interface: &str, names: &BTreeSet<&str>) -> Subject {
    Subject::Pod {
        namespace: pod.pod.namespace.clone(),
        network: pod.interface(interface).map(|it| it.network.clone()),
        labels: pod.labels.clone(),
        ports: named_ports(pod, names),
    }
}

/// A pod's named ports, of these names only.
pub(super) fn named_ports(pod: &Pod, names: &BTreeSet<&str>) -> NamedPorts {
    let mut ports = NamedPorts::default();
    for port in &pod.ports {
        if let Some(name) = port.name.as_deref().filter(|it| names.contains(it)) {
            ports.insert(name, port.protocol, port.number);
        }
    }
    ports
}
