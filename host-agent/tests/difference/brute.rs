//! The difference equals what the evaluator says of every pair of pods, nodes and addresses
//! at every port around every boundary.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use proptest::prelude::*;
use sluice_host_agent::cluster::{Cluster, Pod, PodRanges, PortSpec};
use sluice_host_agent::difference::{
    Cause, Comparison, Difference, End, Family, Now, Owners, Side,
};
use sluice_host_agent::evaluate::{Party, Query, evaluate};
use sluice_offload_api::model::{Direction, IpPrefix, NodeName, PodRef, Protocol, Verdict};

use crate::world::{World, world};

/// An end as it is compared: a workload on a network, nodes, or a block.
type EndKey = (String, Option<String>);
/// One flow that changed.
type Point = (EndKey, EndKey, Now, Cause, Family, Protocol, Option<u16>);

/// Both folders.
#[derive(Clone, Debug)]
struct Pair {
    clusters: [Cluster; 2],
    owners: Owners,
}

/// What happens to a pod.
#[derive(Clone, Copy, Debug)]
enum Change {
    Keeps,
    /// It has the other world's labels and ports, and runs where that one does.
    Becomes,
    Comes,
    Goes,
}

fn pair() -> impl Strategy<Value = Pair> {
    let change = prop_oneof![
        3 => Just(Change::Keeps),
        2 => Just(Change::Becomes),
        1 => Just(Change::Comes),
        1 => Just(Change::Goes),
    ];
    let policies_stay = proptest::bool::weighted(0.3);
    (
        world(),
        world(),
        prop::collection::vec(change, 7),
        policies_stay,
    )
        .prop_map(|(before, after, changes, stay)| make(before, after, &changes, stay))
}

fn make(first: World, second: World, changes: &[Change], stay: bool) -> Pair {
    let mut before = first.cluster;
    let mut after = second.cluster.clone();
    if stay {
        // Then what differs is labels of namespaces, nodes and pods.
        after.policies.clone_from(&before.policies);
        after.cluster_policies.clone_from(&before.cluster_policies);
        after.multi_policies.clone_from(&before.multi_policies);
    }
    after.pods.clear();
    let others: Vec<&Pod> = second.cluster.pods.values().collect();
    let mut owners = Owners::new();
    let pods: Vec<_> = before.pods.values().cloned().collect();
    for (n, pod) in pods.iter().enumerate() {
        let mut next = pod.clone();
        let change = changes.get(n).copied().unwrap_or(Change::Keeps);
        if let (Change::Becomes, Some(other)) = (change, others.get(n)) {
            next.labels.clone_from(&other.labels);
            next.ports.clone_from(&other.ports);
            next.node.clone_from(&other.node);
            next.completed = other.completed;
        }
        // The first ones are two, so that one stands for both.
        let copies = if n < 3 && !pod.host_network { 2 } else { 1 };
        for copy in 0..copies {
            let [old, new] = [pod, &next].map(|it| twin(it, copy));
            owners.insert(old.pod.clone(), pod.pod.name.clone());
            if !matches!(change, Change::Goes) {
                after.pods.insert(new.pod.clone(), new);
            }
            before.pods.remove(&old.pod);
            if !matches!(change, Change::Comes) {
                before.pods.insert(old.pod.clone(), old);
            }
        }
    }
    Pair {
        clusters: [before, after],
        owners,
    }
}

/// The pod, or a second one like it with addresses of its own.
fn twin(pod: &Pod, copy: u8) -> Pod {
    let mut twin = pod.clone();
    if copy == 0 {
        return twin;
    }
    twin.pod.name.push('b');
    twin.uid = format!("{}b", pod.uid.0).as_str().into();
    let own = twin.ips.iter_mut();
    let ips = own.chain(twin.interfaces.iter_mut().flat_map(|it| &mut it.ips));
    for ip in ips {
        *ip = match *ip {
            IpAddr::V4(ip) => IpAddr::from((ip.to_bits() + 100).to_be_bytes()),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() + 0x100)),
        };
    }
    twin
}

/// Someone who may be an end, in both folders.
struct Someone {
    key: EndKey,
    pod: Option<PodRef>,
    node: Option<NodeName>,
    v4: bool,
    /// Who that is in each folder.
    at: [Option<(Party, IpAddr)>; 2],
    /// The nodes that a pod is on.
    on: [Option<NodeName>; 2],
}

fn everyone(pair: &Pair) -> Vec<Someone> {
    let mut all = Vec::new();
    let names: BTreeSet<_> = pair.clusters.iter().flat_map(|it| it.pods.keys()).collect();
    for name in names {
        let its = [0, 1].map(|side| {
            pair.clusters[side]
                .pods
                .get(name)
                .filter(|it| it.owns_addresses())
        });
        let Some(known) = its.into_iter().flatten().next() else {
            continue;
        };
        let owner = format!("{}/{}", name.namespace, pair.owners[name]);
        let own = known.ips.iter().map(|ip| (None, *ip));
        let more = known
            .interfaces
            .iter()
            .flat_map(|it| it.ips.iter().map(|ip| (Some(it.network.to_string()), *ip)));
        for (network, ip) in own.chain(more) {
            let party = Party::Pod {
                ns: name.namespace.clone(),
                name: name.name.clone(),
            };
            all.push(Someone {
                key: (owner.clone(), network),
                pod: Some(name.clone()),
                node: None,
                v4: ip.is_ipv4(),
                at: its.map(|it| it.map(|_| (party.clone(), ip))),
                on: its.map(|it| it.and_then(|it| it.node.clone())),
            });
        }
    }
    let blocks = blocks(pair);
    let mut groups: BTreeMap<_, Vec<&NodeName>> = BTreeMap::new();
    let group = |name: &NodeName, ip| {
        let labels = pair
            .clusters
            .each_ref()
            .map(|it| it.nodes[name].labels.clone());
        (labels, longest(&blocks, ip))
    };
    for (name, node) in &pair.clusters[0].nodes {
        for ip in &node.ips {
            groups.entry(group(name, *ip)).or_default().push(name);
        }
    }
    for (name, node) in &pair.clusters[0].nodes {
        for &ip in &node.ips {
            let names: Vec<_> = groups[&group(name, ip)]
                .iter()
                .map(|it| it.0.as_str())
                .collect();
            let at = Some((Party::Node(name.clone()), ip));
            all.push(Someone {
                key: (format!("nodes {}", names.join(" ")), None),
                pod: None,
                node: Some(name.clone()),
                v4: ip.is_ipv4(),
                at: [at.clone(), at],
                on: [None, None],
            });
        }
    }
    for (block, ip) in outside(pair, &blocks) {
        let at = Some((Party::Outside(ip), ip));
        all.push(Someone {
            key: (format!("outside {block}"), None),
            pod: None,
            node: None,
            v4: ip.is_ipv4(),
            at: [at.clone(), at],
            on: [None, None],
        });
    }
    all
}

fn blocks(pair: &Pair) -> BTreeSet<IpPrefix> {
    let mut blocks: BTreeSet<IpPrefix> = ["0.0.0.0/0", "::/0"].map(|it| it.parse().unwrap()).into();
    for cluster in &pair.clusters {
        for direction in [Direction::Ingress, Direction::Egress] {
            for peer in cluster.rules(direction).flat_map(|it| &it.peers) {
                if let sluice_host_agent::cluster::Peer::Block { cidr, except } = peer {
                    blocks.insert(*cidr);
                    blocks.extend(except);
                }
            }
        }
    }
    for cluster in &pair.clusters {
        blocks.extend(PodRanges::of(cluster).iter());
    }
    blocks
}

fn longest(blocks: &BTreeSet<IpPrefix>, ip: IpAddr) -> IpPrefix {
    *blocks
        .iter()
        .filter(|it| it.contains(ip))
        .max_by_key(|it| it.len())
        .unwrap()
}

fn beside(ip: IpAddr) -> Vec<IpAddr> {
    match ip {
        IpAddr::V4(ip) => {
            let n = ip.to_bits();
            [n.wrapping_sub(1), n, n.wrapping_add(1)]
                .map(|it| IpAddr::V4(it.into()))
                .to_vec()
        }
        IpAddr::V6(ip) => {
            let n = ip.to_bits();
            [n.wrapping_sub(1), n, n.wrapping_add(1)]
                .map(|it| IpAddr::V6(it.into()))
                .to_vec()
        }
    }
}

fn last(block: IpPrefix) -> IpAddr {
    match block.addr() {
        IpAddr::V4(ip) => {
            let ones = u32::MAX.checked_shr(block.len().into()).unwrap_or(0);
            IpAddr::V4((ip.to_bits() | ones).into())
        }
        IpAddr::V6(ip) => {
            let ones = u128::MAX.checked_shr(block.len().into()).unwrap_or(0);
            IpAddr::V6((ip.to_bits() | ones).into())
        }
    }
}

/// For each block an address of nobody that is in no smaller one, if there is one: those
/// beside the ends of blocks and beside held ones, so that every gap is tried.
fn outside(pair: &Pair, blocks: &BTreeSet<IpPrefix>) -> BTreeMap<IpPrefix, IpAddr> {
    let mut held = BTreeSet::new();
    for cluster in &pair.clusters {
        for pod in cluster.pods.values() {
            held.extend(&pod.ips);
            held.extend(pod.interfaces.iter().flat_map(|it| &it.ips));
        }
        held.extend(cluster.nodes.values().flat_map(|it| &it.ips));
        held.extend(cluster.services.values().flat_map(|it| &it.vips));
    }
    let ends = blocks.iter().flat_map(|it| [it.addr(), last(*it)]);
    let tried: BTreeSet<_> = ends.chain(held.iter().copied()).flat_map(beside).collect();
    let free = tried.into_iter().filter(|it| !held.contains(it));
    free.map(|ip| (longest(blocks, ip), ip)).collect()
}

/// Every number that a rule or pod names, and its neighbours.
fn ports(pair: &Pair) -> BTreeSet<u16> {
    let mut ports = BTreeSet::from([0, u16::MAX]);
    let mut around = |it: u16| ports.extend([it.saturating_sub(1), it, it.saturating_add(1)]);
    for cluster in &pair.clusters {
        for direction in [Direction::Ingress, Direction::Egress] {
            for rule in cluster.rules(direction).flat_map(|it| &it.ports) {
                if let PortSpec::Range { first, last } = rule.ports {
                    around(first);
                    around(last);
                }
            }
        }
        for port in cluster.pods.values().flat_map(|it| &it.ports) {
            around(port.number);
        }
    }
    ports
}

const TRANSPORTS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

fn expected(pair: &Pair) -> BTreeSet<Point> {
    let (everyone, ports) = (everyone(pair), ports(pair));
    let mut points = BTreeSet::new();
    for from in &everyone {
        for to in &everyone {
            let of_pod = from.pod.is_some() || to.pod.is_some();
            let itself = from.pod.is_some() && from.pod == to.pod;
            let own_node = from.node.is_some() && to.on.contains(&from.node);
            if !of_pod || itself || own_node || from.v4 != to.v4 {
                continue;
            }
            let there = |side: usize| from.at[side].is_some() && to.at[side].is_some();
            let cause = match (there(0), there(1)) {
                (true, true) => Cause::Changed,
                (false, true) => Cause::Added,
                (true, false) => Cause::Removed,
                (false, false) => continue,
            };
            let all = TRANSPORTS
                .iter()
                .flat_map(|it| ports.iter().map(|port| (*it, Some(*port))));
            for (protocol, port) in all.chain([(Protocol::Icmp, None)]) {
                let [before, after] = [0, 1].map(|side| {
                    allows(
                        &pair.clusters[side],
                        &from.at[side],
                        &to.at[side],
                        protocol,
                        port,
                    )
                });
                let now = match (before, after) {
                    (false, true) => Now::Allowed,
                    (true, false) => Now::Denied,
                    _ => continue,
                };
                let family = if from.v4 { Family::Ipv4 } else { Family::Ipv6 };
                let (from, to) = (from.key.clone(), to.key.clone());
                points.insert((from, to, now, cause, family, protocol, port));
            }
        }
    }
    points
}

fn allows(
    cluster: &Cluster,
    from: &Option<(Party, IpAddr)>,
    to: &Option<(Party, IpAddr)>,
    protocol: Protocol,
    port: Option<u16>,
) -> bool {
    let (Some((from, from_ip)), Some((to, to_ip))) = (from.clone(), to.clone()) else {
        return false;
    };
    let query = Query {
        from,
        to,
        protocol,
        port,
        from_ip,
        to_ip,
    };
    evaluate(cluster, &query).verdict == Verdict::Allow
}

fn key(end: &End) -> EndKey {
    match end {
        End::Workload {
            namespace,
            name,
            network,
            ..
        } => (
            format!("{namespace}/{name}"),
            network.as_ref().map(ToString::to_string),
        ),
        End::Nodes { names, count } => {
            assert_eq!(names.len(), *count);
            let names: Vec<_> = names.iter().map(|it| it.0.as_str()).collect();
            (format!("nodes {}", names.join(" ")), None)
        }
        End::Outside { block, .. } => (format!("outside {block}"), None),
    }
}

/// The same points of what was found. Names of outside addresses are for another test.
fn found(difference: &Difference, ports: &BTreeSet<u16>) -> BTreeSet<Point> {
    let mut points = BTreeSet::new();
    for change in &difference.changes {
        if matches!(&change.to, End::Outside { name: Some(_), .. }) {
            continue;
        }
        let (from, to) = (key(&change.from), key(&change.to));
        for flows in &change.flows {
            let ports: Vec<_> = match flows.range {
                None => vec![None],
                Some(range) => ports
                    .range(range.first..=range.last)
                    .map(|it| Some(*it))
                    .collect(),
            };
            assert!(!ports.is_empty(), "{flows} has no boundary");
            for family in &change.families {
                for port in &ports {
                    let (from, to) = (from.clone(), to.clone());
                    let (now, cause) = (change.now, change.cause);
                    points.insert((from, to, now, cause, *family, flows.protocol, *port));
                }
            }
        }
    }
    points
}

fn cases(share: u32) -> u32 {
    match std::env::var("SLUICE_CASES") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => share,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(96)))]

    #[test]
    fn the_difference_is_what_every_pair_at_every_boundary_says(pair in pair()) {
        let [before, after] = pair.clusters.each_ref().map(|cluster| Side {
            cluster,
            owners: &pair.owners,
        });
        let difference = Comparison::new(before, after).difference();
        prop_assert_eq!(found(&difference, &ports(&pair)), expected(&pair));
    }

    #[test]
    fn a_folder_differs_from_itself_in_nothing(one in world()) {
        let owners = Owners::new();
        let side = Side { cluster: &one.cluster, owners: &owners };
        let difference = Comparison::new(side, side).difference();
        prop_assert_eq!(&difference.changes, &[]);
        prop_assert_eq!(difference.work.pairs, 0);
    }
}
