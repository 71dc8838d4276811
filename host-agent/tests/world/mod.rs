//! Random small clusters that collide a lot: few labels, few names, nested blocks that pods
//! and nodes are in.

#![allow(dead_code, reason = "each test uses a part")]

use std::net::IpAddr;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use sluice_host_agent::cluster::{
    Cluster, ClusterPolicy, ClusterRule, ContainerPort, EncryptionSetup, Interface as PodInterface,
    LabelSelector, Labels, Mode, MultiPolicy, Namespace, NamespacedName, NetworkPolicy, Node,
    Operator, Peer, Pod, PortRule, PortSpec, Requirement, Rule, RuleAction, Service,
};
use sluice_host_agent::compile::{HostSetup, NodeSetup, UplinkSetup, compile};
use sluice_host_agent::evaluate::KnownNames;
use sluice_host_agent::identity::IdentityTable;
use sluice_host_agent::vf::{VfSlot, VfTable};
use sluice_offload_api::model::{
    Encryption, EndpointKey, Interface, IpPrefix, MacAddr, NodeName, PodRef, PortName, Protocol,
    Tier,
};
use sluice_offload_api::{SharedMap, State};

pub(crate) const NODES: [&str; 3] = ["n0", "n1", "n2"];
const NAMESPACES: [&str; 3] = ["a", "b", "c"];
const PORT_NAMES: [&str; 2] = ["web", "dns"];
const PORTS: [u16; 5] = [1, 53, 80, 8080, 65535];
/// Nested and overlapping, around the pods (10.0.0.x, fd00::x), the nodes (10.9.0.x) and
/// outside.
const BLOCKS: [&str; 14] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.0.0/24",
    "10.0.0.0/29",
    "10.0.0.4/30",
    "10.0.0.3/32",
    "10.9.0.0/16",
    "10.9.0.1/32",
    "192.0.2.0/24",
    "192.0.2.0/25",
    "::/0",
    "fd00::/64",
    "fd00::4/126",
    "2001:db8::/32",
];
/// Outside the cluster, the last a service's.
pub(crate) const OUTSIDE: [&str; 7] = [
    "192.0.2.1",
    "192.0.2.200",
    "203.0.113.1",
    "10.0.0.7",
    "2001:db8::1",
    "fd00::7",
    "10.96.0.1",
];

/// Prefixes that may be pods' alone: with pods and without, around and inside blocks, with a
/// node's address and a service's.
const RANGES: [&str; 7] = [
    "10.0.0.0/24",
    "10.0.0.0/29",
    "10.0.0.0/8",
    "192.0.2.128/25",
    "203.0.113.1/32",
    "10.96.0.0/16",
    "fd00::/64",
];

/// Patterns of domain names that overlap.
const PATTERNS: [&str; 5] = [
    "example.com",
    "*.example.com",
    "a.example.com",
    "*.b.example.com",
    "example.org",
];
/// What every pod's resolver said.
const NAMES: [(&str, &str); 9] = [
    ("example.com", "192.0.2.1"),
    ("a.example.com", "192.0.2.1"),
    ("x.example.com", "192.0.2.200"),
    ("y.b.example.com", "203.0.113.1"),
    ("other.net", "203.0.113.1"),
    ("Example.COM.", "2001:db8::1"),
    ("b.example.com", "fd00::7"),
    // A pod's, a node's and a service's: names are for what is outside.
    ("a.example.com", "10.0.0.1"),
    ("a.example.com", "10.96.0.1"),
];

/// What every pod of these clusters was told.
pub(crate) fn known_names() -> KnownNames {
    let answers = NAMES.iter().copied().chain([("example.com", "10.9.0.1")]);
    answers
        .map(|(name, ip)| (name, ip.parse().unwrap()))
        .collect()
}

/// A cluster, and which of its pods have VFs.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) on_vf: Vec<PodRef>,
    /// Secondary interfaces on VFs, by pod and name.
    pub(crate) secondary_on_vf: Vec<(PodRef, String)>,
    /// What its operator says.
    pub(crate) encryption: EncryptionSetup,
}

impl World {
    pub(crate) fn setup(node: &str) -> NodeSetup {
        let n = NODES.iter().position(|it| *it == node).unwrap();
        let n = u8::try_from(n).unwrap();
        let vf = |index: u8| VfSlot {
            index: index.into(),
            name: PortName(format!("pf0vf{index}")),
            mac: MacAddr([2, n, 0, 0, 1, index]),
            mtu: 1500,
            vlan: None,
        };
        let interface = Interface {
            addr: IpAddr::from([172, 16, 0, n + 1]),
            prefix_len: 24,
            gateway: None,
        };
        NodeSetup {
            node: node.into(),
            uplink: UplinkSetup {
                name: "uplink".into(),
                mac: MacAddr([2, n, 0, 0, 0, 1]),
                mtu: 9000,
                interfaces: vec![interface],
            },
            host: HostSetup {
                name: "host".into(),
                mac: MacAddr([2, n, 0, 0, 0, 2]),
                mtu: 1500,
            },
            vfs: (0..30).map(vf).collect(),
            encryption: EncryptionSetup::default(),
        }
    }

    pub(crate) fn vfs(&self, node: &str) -> VfTable {
        let (mut table, setup) = (VfTable::default(), Self::setup(node));
        for name in &self.on_vf {
            let pod = &self.cluster.pods[name];
            if pod.node.as_ref().is_some_and(|it| it.0 == node) {
                table.assign(&pod.uid, name, &[], &setup.vfs).unwrap();
            }
        }
        for (name, interface) in &self.secondary_on_vf {
            let pod = &self.cluster.pods[name];
            if pod.node.as_ref().is_some_and(|it| it.0 == node) {
                let key = EndpointKey {
                    pod_uid: pod.uid.clone(),
                    interface: interface.clone(),
                };
                let slots = &setup.vfs;
                table.assign_interface(&key, name, &[], slots).unwrap();
            }
        }
        table
    }

    pub(crate) fn state(&self, node: &str, identities: &mut IdentityTable) -> State {
        let setup = NodeSetup {
            encryption: self.encryption.clone(),
            ..Self::setup(node)
        };
        compile(&self.cluster, &setup, &self.vfs(node), identities).unwrap()
    }

    /// Whether policy for the pod's interface with this address is Sluice's.
    pub(crate) fn is_on_vf(&self, pod: &PodRef, ip: IpAddr) -> bool {
        let known = self.cluster.pods.get(pod);
        match known.and_then(|it| it.interface_at(ip)) {
            None => self.on_vf.contains(pod),
            Some(it) => {
                let mut on_vf = self.secondary_on_vf.iter();
                on_vf.any(|(name, interface)| name == pod && *interface == it.name)
            }
        }
    }
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map(select(vec!["k", "l"]), select(vec!["x", "y", "z"]), 0..3).prop_map(|it| {
        it.into_iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect()
    })
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let values = || {
        subsequence(vec!["x", "y", "z"], 1..3)
            .prop_map(|it| it.into_iter().map(str::to_owned).collect())
    };
    let operator = prop_oneof![
        values().prop_map(Operator::In),
        values().prop_map(Operator::NotIn),
        Just(Operator::Exists),
        Just(Operator::DoesNotExist),
    ];
    (select(vec!["k", "l"]), operator).prop_map(|(key, operator)| Requirement {
        key: key.to_owned(),
        operator,
    })
}

fn selector() -> impl Strategy<Value = LabelSelector> {
    let by_name = select(NAMESPACES.to_vec()).prop_map(|name| {
        let key = "kubernetes.io/metadata.name".to_owned();
        LabelSelector {
            match_labels: Labels::from([(key, name.to_owned())]),
            match_expressions: Vec::new(),
        }
    });
    let general = (
        prop_oneof![2 => Just(Labels::new()), 1 => labels()],
        prop_oneof![2 => Just(Vec::new()).boxed(), 1 => vec(requirement(), 1..3).boxed()],
    )
        .prop_map(|(match_labels, match_expressions)| LabelSelector {
            match_labels,
            match_expressions,
        });
    prop_oneof![5 => general, 1 => by_name]
}

fn block() -> impl Strategy<Value = Peer> {
    let blocks: Vec<IpPrefix> = BLOCKS.iter().map(|it| it.parse().unwrap()).collect();
    select(blocks.clone()).prop_flat_map(move |cidr| {
        let within = |it: &&IpPrefix| cidr.covers(it) && **it != cidr;
        let inner: Vec<IpPrefix> = blocks.iter().filter(within).copied().collect();
        let most = inner.len().min(2);
        subsequence(inner, 0..=most).prop_map(move |except| Peer::Block { cidr, except })
    })
}

fn peer() -> impl Strategy<Value = Peer> {
    let pods = (option::of(selector()), option::of(selector())).prop_map(|(namespaces, pods)| {
        let pods = if namespaces.is_none() {
            pods.or(Some(LabelSelector::default()))
        } else {
            pods
        };
        Peer::Pods { namespaces, pods }
    });
    prop_oneof![pods, block()]
}

fn transport() -> impl Strategy<Value = Protocol> {
    select(vec![
        Protocol::Tcp,
        Protocol::Tcp,
        Protocol::Udp,
        Protocol::Sctp,
    ])
}

fn port_rule() -> impl Strategy<Value = PortRule> {
    let range = (
        select(PORTS.to_vec()),
        prop_oneof![Just(0u16), Just(1), 0..9000u16],
    )
        .prop_map(|(first, more)| PortSpec::Range {
            first,
            last: first.saturating_add(more),
        });
    let named = select(PORT_NAMES.to_vec()).prop_map(|it| PortSpec::Named(it.to_owned()));
    let ports = prop_oneof![1 => Just(PortSpec::Any), 3 => range, 2 => named];
    (transport(), ports).prop_map(|(protocol, ports)| PortRule { protocol, ports })
}

fn rule() -> impl Strategy<Value = Rule> {
    (vec(peer(), 0..3), vec(port_rule(), 0..3)).prop_map(|(peers, ports)| Rule { peers, ports })
}

/// One policy in four is in shadow mode.
fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![3 => Just(Mode::Enforce), 1 => Just(Mode::Shadow)]
}

fn policy() -> impl Strategy<Value = NetworkPolicy> {
    (
        mode(),
        selector(),
        option::of(vec(rule(), 0..3)),
        option::of(vec(rule(), 0..3)),
    )
        .prop_map(|(mode, pod_selector, ingress, egress)| NetworkPolicy {
            mode,
            pod_selector,
            ingress,
            egress,
        })
}

/// A rule as the API takes it: peers, and named ports of pods only.
fn cluster_rule() -> impl Strategy<Value = ClusterRule> {
    let pods = (selector(), option::of(selector())).prop_map(|(namespaces, pods)| Peer::Pods {
        namespaces: Some(namespaces),
        pods,
    });
    let peer = prop_oneof![3 => pods, 1 => selector().prop_map(Peer::Nodes), 2 => block()];
    let rule = (vec(peer, 1..3), vec(port_rule(), 0..3)).prop_map(|(peers, mut ports)| {
        if peers.iter().any(|it| !matches!(it, Peer::Pods { .. })) {
            ports.retain(|it| !matches!(it.ports, PortSpec::Named(_)));
        }
        Rule { peers, ports }
    });
    let actions = vec![RuleAction::Accept, RuleAction::Deny, RuleAction::Pass];
    let flows = prop_oneof![9 => rule.prop_map(Some), 1 => Just(None)];
    (option::of("[a-z]{3}"), select(actions), flows).prop_map(|(name, action, flows)| ClusterRule {
        name,
        action,
        flows,
    })
}

/// An egress rule: one that accepts may name domains too.
fn cluster_egress_rule() -> impl Strategy<Value = ClusterRule> {
    let patterns = subsequence(PATTERNS.to_vec(), 0..3);
    (cluster_rule(), patterns).prop_map(|(mut rule, patterns)| {
        if rule.action != RuleAction::Accept || patterns.is_empty() {
            return rule;
        }
        if let Some(flows) = &mut rule.flows {
            // Often alone: beside other peers a name says little.
            if patterns.len() > 1 {
                flows.peers.clear();
            }
            let domains = patterns.iter().map(|it| Peer::Domain(it.parse().unwrap()));
            flows.peers.extend(domains);
            flows
                .ports
                .retain(|it| !matches!(it.ports, PortSpec::Named(_)));
        }
        rule
    })
}

fn cluster_policy() -> impl Strategy<Value = ClusterPolicy> {
    (
        select(vec![Tier::Admin, Tier::Baseline]),
        0..3u16,
        (mode(), selector(), selector()),
        vec(cluster_rule(), 0..4),
        vec(cluster_egress_rule(), 0..4),
    )
        .prop_map(
            |(tier, priority, (mode, namespaces, pods), ingress, egress)| ClusterPolicy {
                mode,
                tier,
                priority,
                namespaces,
                pods,
                ingress,
                egress,
            },
        )
}

fn container_port() -> impl Strategy<Value = ContainerPort> {
    (
        option::of(select(PORT_NAMES.to_vec())),
        transport(),
        select(PORTS.to_vec()),
    )
        .prop_map(|(name, protocol, number)| ContainerPort {
            name: name.map(str::to_owned),
            protocol,
            number,
        })
}

/// A pod without name or addresses, which its place in the list gives it.
fn pod() -> impl Strategy<Value = (Pod, bool, [bool; 2])> {
    (
        select(NAMESPACES.to_vec()),
        select(NODES.to_vec()),
        labels(),
        vec(container_port(), 0..3),
        (proptest::bool::weighted(0.1), proptest::bool::weighted(0.1)),
        proptest::bool::weighted(0.85),
        select(vec![
            [true, true],
            [true, true],
            [true, false],
            [false, true],
        ]),
    )
        .prop_map(|(ns, node, labels, ports, (host, over), on_vf, families)| {
            let mut pod = Pod::new(ns, "");
            pod.node = Some(node.into());
            (pod.labels, pod.ports) = (labels, ports);
            (pod.host_network, pod.completed) = (host, over);
            (pod, on_vf, families)
        })
}

/// A secondary interface: its network's number, whether it is on a VF, and its families.
type Secondary = (usize, bool, [bool; 2]);

/// The networks: two in one namespace, and one of the same name in another.
const NETWORKS: [(&str, &str); 3] = [("a", "fast"), ("a", "slow"), ("b", "fast")];

fn network(number: usize) -> NamespacedName {
    let (namespace, name) = NETWORKS[number];
    NamespacedName {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

fn secondaries() -> impl Strategy<Value = Vec<Secondary>> {
    let families = select(vec![
        [true, true],
        [true, true],
        [true, false],
        [false, true],
    ]);
    let on_vf = proptest::bool::weighted(0.85);
    // Each pair of addresses is a flow to ask for: few pods have several.
    let secondary = (0..NETWORKS.len(), on_vf, families);
    prop_oneof![
        2 => Just(Vec::new()),
        3 => vec(secondary.clone(), 1),
        1 => vec(secondary, 2),
    ]
}

/// Gives pod number `n` its secondary interfaces, with addresses in some of the blocks.
fn put_secondaries(world: &mut World, pod: &PodRef, n: u8, secondaries: &[Secondary]) {
    let Some(known) = world.cluster.pods.get_mut(pod) else {
        return;
    };
    if known.host_network {
        return;
    }
    for ((number, on_vf, families), index) in secondaries.iter().zip(1u8..) {
        let name = format!("net{index}");
        let ips = [
            IpAddr::from([10, 0, index, n]),
            format!("fd00::{index}:{n}").parse().unwrap(),
        ];
        let had = ips.iter().zip(families).filter(|it| *it.1);
        known.interfaces.push(PodInterface {
            name: name.clone(),
            network: network(*number),
            reported: None,
            ips: had.map(|it| *it.0).collect(),
        });
        if *on_vf {
            world.secondary_on_vf.push((pod.clone(), name));
        }
    }
}

fn multi_policy() -> impl Strategy<Value = MultiPolicy> {
    (
        subsequence((0..NETWORKS.len()).collect::<Vec<_>>(), 0..3),
        policy(),
    )
        .prop_map(|(networks, policy)| MultiPolicy {
            networks: networks.into_iter().map(network).collect(),
            policy,
        })
}

fn nodes() -> SharedMap<NodeName, Node> {
    let node = |n: u8| Node {
        labels: Labels::new(),
        ips: vec![
            IpAddr::from([10, 9, 0, n]),
            format!("fd09::{n}").parse().unwrap(),
        ],
        tunnel_ips: vec![IpAddr::from([172, 16, 0, n])],
        pod_cidrs: Vec::new(),
    };
    NODES
        .iter()
        .zip(1..)
        .map(|(name, n)| (NodeName::from(*name), node(n)))
        .collect()
}

/// What an operator says, what namespaces and pods ask for, and whether the last node has no
/// dataplane.
type Settings = (
    EncryptionSetup,
    Vec<Option<Encryption>>,
    Vec<Option<Encryption>>,
    bool,
);

fn settings() -> impl Strategy<Value = Settings> {
    let setting = || select(Encryption::ALL.to_vec());
    let asked = move |count| vec(option::weighted(0.6, setting()), count);
    let operator = (setting(), setting(), proptest::bool::weighted(0.3));
    (operator, asked(NAMESPACES.len()), asked(7)).prop_map(
        |((a, b, unprotected), namespaces, pods)| {
            let listed = NODES[2..].iter().filter(|_| unprotected);
            let listed = listed.map(|it| NodeName::from(*it)).collect();
            let setup = EncryptionSetup::new(a.max(b), Some(a.min(b)), listed);
            (setup.unwrap(), namespaces, pods, unprotected)
        },
    )
}

/// The operator's ranges of pods' addresses, and each node's.
fn ranges() -> impl Strategy<Value = Vec<Vec<IpPrefix>>> {
    let all: Vec<IpPrefix> = RANGES.iter().map(|it| it.parse().unwrap()).collect();
    let some = move || prop_oneof![2 => Just(Vec::new()), 1 => subsequence(all.clone(), 0..3)];
    vec(some(), 1 + NODES.len())
}

pub(crate) fn world() -> impl Strategy<Value = World> {
    (
        btree_map(select(vec!["a", "b"]), labels(), 0..3),
        vec(pod(), 1..7),
        btree_map((select(NAMESPACES.to_vec()), "p[0-3]"), policy(), 0..6),
        btree_map("c[0-4]", cluster_policy(), 0..4),
        (
            btree_map(
                (select(NAMESPACES.to_vec()), "m[0-3]"),
                multi_policy(),
                0..6,
            ),
            vec(secondaries(), 7),
        ),
        (vec(labels(), NODES.len()), settings(), ranges()),
    )
        .prop_map(
            |(
                namespaces,
                pods,
                policies,
                cluster_policies,
                (multi, secondaries),
                (node_labels, (encryption, of_namespaces, of_pods, unprotected), ranges),
            )| {
                let mut nodes = nodes();
                for (node, labels) in nodes.values_mut().zip(node_labels) {
                    node.labels = labels;
                }
                let mut ranges = ranges.into_iter();
                let pod_cidrs = ranges.next().into_iter().flatten().collect();
                for (node, ranges) in nodes.values_mut().zip(ranges) {
                    // Of a wider one a Node's word isn't taken.
                    node.pod_cidrs = ranges.into_iter().filter(|it| it.len() >= 16).collect();
                }
                if let Some(node) = nodes.values_mut().last().filter(|_| unprotected) {
                    node.tunnel_ips.clear();
                }
                let mut cluster = Cluster {
                    nodes,
                    cluster_policies: cluster_policies.into_iter().collect(),
                    pod_cidrs,
                    ..Cluster::default()
                };
                for ((name, labels), encryption) in namespaces.into_iter().zip(of_namespaces) {
                    let namespace = Namespace { labels, encryption };
                    cluster.namespaces.insert(name.to_owned(), namespace);
                }
                let mut on_vf = Vec::new();
                let pods = pods.into_iter().zip(of_pods).zip(1u8..);
                for (((mut pod, vf, families), encryption), n) in pods {
                    pod.encryption = encryption;
                    pod.pod.name = format!("pod{n}");
                    pod.uid = format!("uid{n}").as_str().into();
                    let ips = [
                        IpAddr::from([10, 0, 0, n]),
                        format!("fd00::{n}").parse().unwrap(),
                    ];
                    pod.ips = match pod.host_node() {
                        Some(node) => cluster.nodes[node].ips.clone(),
                        None => ips
                            .iter()
                            .zip(families)
                            .filter(|it| it.1)
                            .map(|it| *it.0)
                            .collect(),
                    };
                    if vf {
                        on_vf.push(pod.pod.clone());
                    }
                    cluster.pods.insert(pod.pod.clone(), pod);
                }
                for ((namespace, name), policy) in policies {
                    let name = NamespacedName {
                        namespace: namespace.to_owned(),
                        name,
                    };
                    cluster.policies.insert(name, policy);
                }
                let name = NamespacedName {
                    namespace: "a".to_owned(),
                    name: "svc".to_owned(),
                };
                let vips = vec!["10.96.0.1".parse().unwrap()];
                cluster.services.insert(name, Service { vips });
                for ((namespace, name), policy) in multi {
                    let name = NamespacedName {
                        namespace: namespace.to_owned(),
                        name,
                    };
                    cluster.multi_policies.insert(name, policy);
                }
                let mut world = World {
                    cluster,
                    on_vf,
                    secondary_on_vf: Vec::new(),
                    encryption,
                };
                let pods: Vec<_> = world.cluster.pods.keys().cloned().collect();
                for ((pod, its), n) in pods.iter().zip(&secondaries).zip(1u8..) {
                    put_secondaries(&mut world, pod, n, its);
                }
                world
            },
        )
}
