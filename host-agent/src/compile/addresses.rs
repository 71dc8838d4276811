//! Which prefixes there are, and who and where each is.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::{BTreeMap, BTreeSet};

use sluice_offload_api::model::{Direction, Encryption, IpPrefix, NodeName, Place, PodRef, PodUid};

use super::{Bound, NodeSetup};
use crate::cluster::{AddressIndex, Cluster, Holder, Peer, Pod, PodRanges, PortSpec, Rule};
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
        Place::LocalPod | Place::LocalNode | Place::Outside | Place::ServiceVip | Place::Nobody => {
            None
        }
    }
}

/// All prefixes: the world, every block of every policy, every range of pods' addresses, every
/// address of the cluster.
///
/// An address that nobody of the cluster has has the longest block or range that contains it as
/// its longest prefix. Every other that contains it is shorter, so contains that one too: the
/// blocks and ranges of the prefix are those of the address. An address of the cluster has a
/// prefix of its own.
pub(super) fn owners(
    cluster: &Cluster,
    index: &AddressIndex,
    setup: &NodeSetup,
    bound: &Bound<'_>,
) -> BTreeMap<IpPrefix, Owner> {
    let blocks = blocks(cluster);
    let ranges = PodRanges::of(cluster);
    let names = egress_port_names(cluster);
    let mut owners = BTreeMap::new();
    let wide = blocks.iter().copied().chain(ranges.iter());
    for prefix in world().into_iter().chain(wide) {
        let blocks = blocks
            .iter()
            .copied()
            .filter(|it| it.covers(&prefix))
            .collect();
        owners.insert(prefix, no_ones(blocks, ranges.cover(&prefix)));
    }
    let is_bound = |name: &PodRef, inside: &str| bound.contains_key(&(name, inside));
    let is_name = |name: &str| names.contains(name);
    for (ip, holder) in index.iter() {
        let Some(held) = held(cluster, setup, holder, is_bound, is_name) else {
            continue;
        };
        let blocks = blocks
            .iter()
            .copied()
            .filter(|it| it.contains(ip))
            .collect();
        owners.insert(IpPrefix::host(ip), held.within(blocks));
    }
    owners
}

/// Addresses that nobody of the cluster has: somebody's outside, unless only pods have such.
pub(super) fn no_ones(blocks: BTreeSet<IpPrefix>, is_for_pods: bool) -> Owner {
    let place = if is_for_pods {
        Place::Nobody
    } else {
        Place::Outside
    };
    let held = Held {
        subject: Subject::Outside,
        place,
        pod_uid: None,
        encryption: Encryption::Required,
    };
    held.within(blocks)
}

/// An address of the cluster, but for the blocks that it is in.
pub(super) struct Held {
    subject: Subject,
    place: Place,
    pod_uid: Option<PodUid>,
    encryption: Encryption,
}

impl Held {
    /// With the blocks.
    pub(super) fn within(self, blocks: BTreeSet<IpPrefix>) -> Owner {
        Owner {
            key: IdentityKey {
                subject: self.subject,
                blocks,
                encryption: self.encryption,
            },
            place: self.place,
            pod_uid: self.pod_uid,
        }
    }
}

/// What `holder` has; `is_bound` says which interfaces of this node's pods are endpoints, `is_name` which
/// port names any egress rule uses. `None` for a pod that isn't there.
pub(super) fn held(
    cluster: &Cluster,
    setup: &NodeSetup,
    holder: &Holder,
    is_bound: impl Fn(&PodRef, &str) -> bool,
    is_name: impl Fn(&str) -> bool,
) -> Option<Held> {
    let mut pod_uid = None;
    let mut encryption = setup.encryption.of_nodes();
    // Where nothing is known of the way, none is loose enough.
    let at_least = |node: &NodeName| {
        let is_known = *node == setup.node || setup.encryption.is_reached(cluster, node);
        if is_known {
            Encryption::Off
        } else {
            Encryption::Required
        }
    };
    let (subject, place) = match holder {
        Holder::Pod(name) | Holder::Interface(name, _) => {
            let pod = cluster.pods.get(name)?;
            let inside = match holder {
                Holder::Interface(_, inside) => inside.as_str(),
                _ => "",
            };
            let place = match pod.node.as_ref() {
                Some(node) if *node != setup.node => {
                    pod_uid = pod.given_uid().cloned();
                    Place::RemotePod(node.clone())
                }
                _ if is_bound(name, inside) => Place::LocalPod,
                _ => Place::LocalNode,
            };
            encryption = setup.encryption.of_pod(cluster, pod);
            encryption = pod
                .node
                .as_ref()
                .map_or(encryption, |it| encryption.max(at_least(it)));
            (pod_subject(pod, inside, is_name), place)
        }
        Holder::Node(name) if *name == setup.node => {
            (Subject::Node { name: name.clone() }, Place::LocalNode)
        }
        Holder::Node(name) => {
            encryption = encryption.max(at_least(name));
            (
                Subject::Node { name: name.clone() },
                Place::RemoteNode(name.clone()),
            )
        }
        Holder::Service(_) => {
            encryption = Encryption::Required;
            (Subject::Outside, Place::ServiceVip)
        }
    };
    Some(Held {
        subject,
        place,
        pod_uid,
        encryption,
    })
}

pub(super) fn world() -> [IpPrefix; 2] {
    let zero = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    zero.map(|addr| IpPrefix::masked(addr, 0).unwrap_or(IpPrefix::host(addr)))
}

fn blocks(cluster: &Cluster) -> BTreeSet<IpPrefix> {
    let both = [Direction::Ingress, Direction::Egress].map(|it| cluster.rules(it));
    both.into_iter().flatten().flat_map(blocks_of).collect()
}

/// The blocks and exceptions of a rule.
pub(super) fn blocks_of(rule: &Rule) -> impl Iterator<Item = IpPrefix> {
    let of = |peer: &Peer| match peer {
        Peer::Block { cidr, except } => [*cidr].into_iter().chain(except.iter().copied()).collect(),
        _ => Vec::new(),
    };
    rule.peers.iter().flat_map(of)
}

/// The port names whose numbers on another pod matter to some table.
fn egress_port_names(cluster: &Cluster) -> BTreeSet<&str> {
    cluster
        .rules(Direction::Egress)
        .flat_map(names_of)
        .collect()
}

/// The port names of a rule.
pub(super) fn names_of(rule: &Rule) -> impl Iterator<Item = &str> {
    rule.ports.iter().filter_map(|port| match &port.ports {
        PortSpec::Named(name) => Some(name.as_str()),
        PortSpec::Any | PortSpec::Range { .. } => None,
    })
}

fn pod_subject(pod: &Pod, interface: &str, is_name: impl Fn(&str) -> bool) -> Subject {
    Subject::Pod {
        namespace: pod.pod.namespace.clone(),
        network: pod.interface(interface).map(|it| it.network.clone()),
        labels: pod.labels.clone(),
        ports: named_ports(pod, is_name),
    }
}

/// A pod's named ports, of some names only.
pub(super) fn named_ports(pod: &Pod, is_name: impl Fn(&str) -> bool) -> NamedPorts {
    let mut ports = NamedPorts::default();
    for port in &pod.ports {
        if let Some(name) = port.name.as_deref().filter(|it| is_name(it)) {
            ports.insert(name, port.protocol, port.number);
        }
    }
    ports
}
