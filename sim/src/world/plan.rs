//! Where pods run and what addresses everything has, where the manifests don't say: the
//! parts of scheduler and IPAM.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sluice_dataplane_core::addr::Mac;
use sluice_host_agent::cluster::{Cluster, EncryptionSetup, Node, Pod};
use sluice_offload_api::model::{Interface, NodeName};

use crate::probe::Family;

/// Nodes of a world, at most.
pub const NODES_MAX: usize = 1000;
/// Nodes that share a network of addresses, where they have none of their own.
const NODES_PER_NETWORK: u16 = 200;
/// Nodes where no manifest has any.
pub const DEFAULT_NODES: [&str; 2] = ["node-a", "node-b"];
/// Pods' interfaces behind VFs of one node, at most.
pub const PODS_PER_NODE_MAX: usize = 200;

/// The underlay's networks: benchmarking space (RFC 2544) and a unique local one, so that
/// no manifest's address meets them by chance.
const UNDERLAY_V4: [u8; 2] = [198, 18];
const UNDERLAY_V6: u16 = 0xfd5c;
const UNDERLAY_V4_LEN: u8 = 15;
const UNDERLAY_V6_LEN: u8 = 64;

/// The number of the first secondary network that addresses are made up for, behind those of
/// the pods of as many nodes; where there are more it is further off.
const SECONDARY: u16 = 512;
const SECONDARY_OF_MANY: u16 = 2048;
/// The number of the second network of nodes' own addresses; the first is 0.
const MORE_NODES: u16 = 1024;

/// A node's number, and its machine's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct NodeNumber {
    /// Its place in the order of names.
    pub(crate) place: u16,
    /// How many machines it has had before this one.
    pub(crate) machine: u8,
}

fn underlay_v4(host: u8, last: u8) -> IpAddr {
    let [a, b] = UNDERLAY_V4;
    IpAddr::V4(Ipv4Addr::new(a, b, host, last))
}

fn underlay_v6(host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(UNDERLAY_V6, 0, 0, 0, 0, 0, 0, host))
}

/// The outside's address on the underlay: the default gateway.
pub(crate) fn gateway(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => underlay_v4(255, 254),
        Family::Ipv6 => underlay_v6(0xffff),
    }
}

/// What a pod has for its default gateway: link-local addresses that nobody has, so that
/// the dataplane answers for them as for everything.
pub(crate) const fn pod_gateway(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1)),
        Family::Ipv6 => IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
    }
}

/// A dataplane's own addresses, in the order its peers prefer.
fn tunnel_ips(place: u16, underlay: Family) -> Vec<IpAddr> {
    let number = place.saturating_add(1);
    let [high, low] = number.to_be_bytes();
    let v4 = underlay_v4(high, low);
    let v6 = underlay_v6(number);
    match underlay {
        Family::Ipv4 => vec![v4, v6],
        Family::Ipv6 => vec![v6, v4],
    }
}

/// An address of a dataplane with its network and gateway.
pub(crate) fn interface(addr: IpAddr) -> Interface {
    let (prefix_len, family) = match addr {
        IpAddr::V4(_) => (UNDERLAY_V4_LEN, Family::Ipv4),
        IpAddr::V6(_) => (UNDERLAY_V6_LEN, Family::Ipv6),
    };
    Interface {
        addr,
        prefix_len,
        gateway: Some(gateway(family)),
    }
}

/// What a station is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MacOf {
    Uplink(NodeNumber),
    Host(NodeNumber),
    Vf(NodeNumber, u16),
    Outside,
}

/// Everyone's MAC, locally administered.
pub(crate) fn mac(of: MacOf) -> Mac {
    let at = |node: NodeNumber, [high, low]: [u8; 2]| {
        let [far, near] = node.place.to_be_bytes();
        Mac([2, node.machine, far, near, high, low])
    };
    match of {
        MacOf::Uplink(node) => at(node, [0xff, 1]),
        MacOf::Host(node) => at(node, [0xff, 2]),
        MacOf::Vf(node, index) => at(node, index.to_be_bytes()),
        MacOf::Outside => Mac([2, 0, 0, 0xff, 0xff, 0xff]),
    }
}

/// A cluster that doesn't fit into a world.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Too many nodes.
    #[error("{count} nodes are more than the {NODES_MAX} a simulated cluster has")]
    Nodes {
        /// How many.
        count: usize,
    },
    /// Too many pods on a node.
    #[error("node {node} has {count} pods behind VFs, more than the {PODS_PER_NODE_MAX}")]
    Pods {
        /// The node.
        node: NodeName,
        /// How many.
        count: usize,
    },
    /// A node without a dataplane that isn't there.
    #[error("unprotected_nodes names {node}; there is no such node")]
    NoSuchUnprotected {
        /// The node.
        node: NodeName,
    },
    /// A pod on a node that isn't there.
    #[error("pod {pod} is on node {node}, which has no manifest; add it or leave nodeName out")]
    NoSuchNode {
        /// `namespace/name`.
        pod: String,
        /// The node.
        node: NodeName,
    },
}

/// Fills in what the manifests leave open: two nodes if there are none, a node for each
/// pod, addresses of both families for nodes and pods that have none. `numbers` are the nodes'
/// that were there before, and keep them; they give the addresses.
///
/// # Errors
/// [`PlanError`].
pub(crate) fn place(
    cluster: &mut Cluster,
    underlay: Family,
    encryption: &EncryptionSetup,
    numbers: &mut BTreeMap<NodeName, u16>,
) -> Result<(), PlanError> {
    if cluster.nodes.is_empty() {
        for name in DEFAULT_NODES {
            cluster.nodes.insert(name.into(), Node::default());
        }
    }
    if cluster.nodes.len() > NODES_MAX {
        return Err(PlanError::Nodes {
            count: cluster.nodes.len(),
        });
    }
    let names: Vec<_> = cluster.nodes.keys().cloned().collect();
    schedule(cluster, &names)?;
    if let Some(node) = encryption.unprotected().find(|it| !names.contains(it)) {
        return Err(PlanError::NoSuchUnprotected { node: node.clone() });
    }
    for name in &names {
        if !numbers.contains_key(name) {
            let next = numbers.values().max().map_or(0, |it| it.saturating_add(1));
            numbers.insert(name.clone(), next);
        }
    }
    let numbered: Vec<_> = names
        .iter()
        .filter_map(|name| Some((*numbers.get(name)?, name)))
        .collect();
    assign(cluster, &numbered, underlay, encryption);
    Ok(())
}

/// Gives each pod without a node the one that has the fewest, the first by name of those.
fn schedule(cluster: &mut Cluster, names: &[NodeName]) -> Result<(), PlanError> {
    let mut load: BTreeMap<NodeName, usize> = names.iter().map(|n| (n.clone(), 0)).collect();
    for pod in cluster.pods.values().filter(|p| !p.completed) {
        let Some(node) = &pod.node else { continue };
        let Some(count) = load.get_mut(node) else {
            return Err(PlanError::NoSuchNode {
                pod: pod.pod.to_string(),
                node: node.clone(),
            });
        };
        *count += 1 + pod.interfaces.len();
    }
    // Whoever is copied is no longer shared with the version before, so only who must be.
    let nowhere = cluster.pods.iter();
    let nowhere = nowhere.filter(|(_, p)| !p.completed && p.node.is_none());
    let nowhere: Vec<_> = nowhere.map(|it| it.0.clone()).collect();
    for name in nowhere {
        let Some(pod) = cluster.pods.get_mut(&name) else {
            continue;
        };
        let Some((node, count)) = load.iter_mut().min_by_key(|(name, count)| (**count, *name))
        else {
            continue;
        };
        *count += 1 + pod.interfaces.len();
        pod.node = Some(node.clone());
    }
    match load
        .into_iter()
        .find(|(_, count)| *count > PODS_PER_NODE_MAX)
    {
        Some((node, count)) => Err(PlanError::Pods { node, count }),
        None => Ok(()),
    }
}

/// Candidate addresses of one network, in both families.
fn candidates(network: u16) -> impl Iterator<Item = [IpAddr; 2]> {
    let [high, low] = network.to_be_bytes();
    (1..=u8::MAX).map(move |n| {
        [
            IpAddr::V4(Ipv4Addr::new(10, 244u8.wrapping_add(high), low, n)),
            IpAddr::V6(Ipv6Addr::new(
                0xfd10,
                0x244,
                0,
                network,
                0,
                0,
                0,
                u16::from(n),
            )),
        ]
    })
}

fn assign(
    cluster: &mut Cluster,
    names: &[(u16, &NodeName)],
    underlay: Family,
    encryption: &EncryptionSetup,
) {
    let mut taken: BTreeSet<IpAddr> = cluster
        .nodes
        .values()
        .flat_map(|n| n.ips.iter().chain(&n.tunnel_ips))
        .chain(cluster.pods.values().flat_map(|p| &p.ips))
        .chain(
            cluster
                .pods
                .values()
                .flat_map(|p| p.interfaces.iter().flat_map(|it| &it.ips)),
        )
        .chain(cluster.services.values().flat_map(|s| &s.vips))
        .copied()
        .collect();
    let mut free = |network: u16| {
        let found = candidates(network).find(|pair| pair.iter().all(|ip| !taken.contains(ip)));
        let pair = found.map(Vec::from).unwrap_or_default();
        taken.extend(&pair);
        pair
    };
    for (number, name) in names.iter().copied() {
        // Whatever a manifest says is of the real network; this one has its own.
        let tunnel_ips = if encryption.unprotected().any(|it| it == name) {
            Vec::new()
        } else {
            tunnel_ips(number, underlay)
        };
        let is_as_it_must = |it: &Node| !it.ips.is_empty() && it.tunnel_ips == tunnel_ips;
        if cluster.nodes.get(name).is_none_or(is_as_it_must) {
            continue;
        }
        let Some(node) = cluster.nodes.get_mut(name) else {
            continue;
        };
        node.tunnel_ips = tunnel_ips;
        if node.ips.is_empty() {
            // Network 0 is the nodes' own, and those from MORE_NODES on if they are many; pods
            // have 1 to NODES_MAX, and secondary networks those behind.
            let network = match number / NODES_PER_NETWORK {
                0 => 0,
                more => MORE_NODES + more,
            };
            node.ips = free(network);
        }
    }
    let interfaces = cluster.pods.values().flat_map(|p| &p.interfaces);
    let networks: BTreeSet<_> = interfaces.map(|it| it.network.clone()).collect();
    let many = names.len() >= usize::from(SECONDARY);
    let first = if many { SECONDARY_OF_MANY } else { SECONDARY };
    let networks: BTreeMap<_, _> = networks.into_iter().zip(first..).collect();
    let numbers: BTreeMap<_, _> = names.iter().map(|it| (it.1, it.0 + 1)).collect();
    let nodes = &cluster.nodes;
    let lacks = |pod: &Pod| {
        pod.host_network || pod.ips.is_empty() || pod.interfaces.iter().any(|it| it.ips.is_empty())
    };
    let lacking = cluster.pods.iter().filter(|it| lacks(it.1));
    let lacking: Vec<_> = lacking.map(|it| it.0.clone()).collect();
    for name in lacking {
        let Some(pod) = cluster.pods.get_mut(&name) else {
            continue;
        };
        let Some(node) = pod.node.as_ref() else {
            continue;
        };
        if pod.host_network {
            pod.ips = nodes.get(node).map(|n| n.ips.clone()).unwrap_or_default();
        } else if pod.ips.is_empty() && !pod.completed {
            pod.ips = free(numbers.get(node).copied().unwrap_or(0));
        }
        if !pod.owns_addresses() {
            continue;
        }
        for it in pod.interfaces.iter_mut().filter(|it| it.ips.is_empty()) {
            it.ips = networks
                .get(&it.network)
                .copied()
                .map_or(Vec::new(), &mut free);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(cluster: &mut Cluster) -> Result<(), PlanError> {
        let encryption = EncryptionSetup::default();
        place(cluster, Family::Ipv4, &encryption, &mut BTreeMap::new())
    }

    #[test]
    fn a_node_keeps_its_number_when_another_one_comes_before_it() {
        let mut numbers = BTreeMap::new();
        let encryption = EncryptionSetup::default();
        let mut placed = |names: &[&str]| {
            let mut cluster = Cluster::default();
            for name in names {
                cluster.nodes.insert((*name).into(), Node::default());
            }
            place(&mut cluster, Family::Ipv4, &encryption, &mut numbers).unwrap();
            let ips = cluster.nodes.values().map(|it| it.tunnel_ips.clone());
            ips.collect::<Vec<_>>()
        };
        let before = placed(&["b", "c"]);
        let after = placed(&["a", "b", "c"]);
        assert_eq!(before, after[1..]);
        assert!(!before.contains(&after[0]));
        let again = placed(&["a", "c"]);
        assert_eq!(again, [after[0].clone(), after[2].clone()]);
    }

    fn cluster(pods: usize) -> Cluster {
        let mut cluster = Cluster::default();
        for n in 0..pods {
            let pod = Pod::new("default", &format!("p{n:03}"));
            cluster.pods.insert(pod.pod.clone(), pod);
        }
        cluster
    }

    #[test]
    fn pods_without_a_node_are_spread_evenly_with_addresses_of_their_own() {
        let mut cluster = cluster(21);
        placed(&mut cluster).unwrap();
        let on = |name: &str| {
            cluster
                .pods
                .values()
                .filter(|p| p.node == Some(name.into()))
                .count()
        };
        assert_eq!((on("node-a"), on("node-b")), (11, 10));
        let ips: BTreeSet<_> = cluster.pods.values().flat_map(|p| &p.ips).collect();
        assert_eq!(ips.len(), 42);
    }

    #[test]
    fn addresses_in_the_manifests_stay_and_are_not_given_twice() {
        let mut cluster = cluster(3);
        let first = cluster.pods.values_mut().next().unwrap();
        first.ips = vec!["10.244.1.1".parse().unwrap()];
        placed(&mut cluster).unwrap();
        let ips: Vec<_> = cluster.pods.values().flat_map(|p| &p.ips).collect();
        assert_eq!(ips.len(), 5);
        assert_eq!(ips.iter().collect::<BTreeSet<_>>().len(), 5);
    }

    #[test]
    fn a_pod_on_an_unknown_node_is_refused_by_name() {
        let mut cluster = cluster(1);
        cluster.nodes.insert("a".into(), Node::default());
        cluster.pods.values_mut().next().unwrap().node = Some("b".into());
        let error = placed(&mut cluster).unwrap_err().to_string();
        assert!(error.contains("default/p000 is on node b"), "{error}");
    }
}
