//! How a packet crosses the wire, read off the objects.

use core::net::IpAddr;

use sluice_offload_api::model::{Encryption, NodeName};

use crate::cluster::{Cluster, EncryptionSetup};

/// How a packet gets from one end to the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crossing {
    /// Encrypted, or not at all.
    Sealed,
    /// In clear.
    Clear,
    /// Not at all.
    Never,
    /// It is no business of encryption: within one node, between nodes themselves, or with the
    /// outside.
    NotOurs,
}

/// An end: its node, its setting, and whether it is a pod.
struct End<'a> {
    node: &'a NodeName,
    setting: Encryption,
    is_pod: bool,
}

/// How a packet between two addresses crosses the wire, by the settings of both ends and what
/// their nodes are.
#[must_use]
pub fn crossing(cluster: &Cluster, setup: &EncryptionSetup, from: IpAddr, to: IpAddr) -> Crossing {
    let (Some(from), Some(to)) = (end(cluster, setup, from), end(cluster, setup, to)) else {
        return Crossing::NotOurs;
    };
    if from.node == to.node || !(from.is_pod || to.is_pod) {
        return Crossing::NotOurs;
    }
    let stricter = from.setting.max(to.setting);
    let (mut listed, mut unknown) = (false, false);
    for name in [from.node, to.node] {
        match cluster.nodes.get(name) {
            Some(node) if !node.tunnel_ips.is_empty() => {}
            Some(node) if setup.is_unprotected(name, node) => listed = true,
            _ => unknown = true,
        }
    }
    match stricter {
        _ if unknown => Crossing::Never,
        Encryption::Required if listed => Crossing::Never,
        Encryption::Preferred if listed => Crossing::Clear,
        Encryption::Off => Crossing::Clear,
        Encryption::Required | Encryption::Preferred => Crossing::Sealed,
    }
}

fn end<'a>(cluster: &'a Cluster, setup: &EncryptionSetup, ip: IpAddr) -> Option<End<'a>> {
    if let Some(pod) = cluster.pod_at(ip) {
        return Some(End {
            node: pod.node.as_ref()?,
            setting: setup.of_pod(cluster, pod),
            is_pod: true,
        });
    }
    let mut nodes = cluster.nodes.iter();
    let own = nodes.find(|(_, node)| node.ips.contains(&ip));
    let shared = || {
        let mut pods = cluster.pods.values();
        pods.find_map(|pod| pod.host_node().filter(|_| pod.ips.contains(&ip)))
    };
    Some(End {
        node: own.map(|it| it.0).or_else(shared)?,
        setting: setup.of_nodes(),
        is_pod: false,
    })
}
