//! A large cluster, and one of its nodes.

use std::net::IpAddr;

use sluice_host_agent::cluster::{
    Cluster, EncryptionSetup, LabelSelector, Labels, Mode, Namespace, NamespacedName,
    NetworkPolicy, Node, Peer, Pod, PortRule, PortSpec, Rule,
};
use sluice_host_agent::compile::{HostSetup, NodeSetup, UplinkSetup};
use sluice_host_agent::vf::{VfSlot, VfTable};
use sluice_offload_api::model::{Interface, MacAddr, PortName, Protocol};

/// How large the cluster is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Nodes.
    pub nodes: u16,
    /// Pods, over all nodes and namespaces.
    pub pods: u32,
    /// Namespaces, each with ten policies and five kinds of pods.
    pub namespaces: u16,
}

/// The one of the issue: 1,000 nodes, 100,000 pods, 10,000 policies, 5,000 identities.
pub(super) const LARGE: Size = Size {
    nodes: 1_000,
    pods: 100_000,
    namespaces: 1_000,
};
pub(super) const SMALL: Size = Size {
    nodes: 10,
    pods: 500,
    namespaces: 20,
};

/// Kinds of pods in a namespace.
pub(super) const KINDS: u32 = 5;
pub(super) const POLICIES: u16 = 10;
const TEAMS: u16 = 50;
const HERE: &str = "n3";

pub(super) fn app(kind: u32) -> Labels {
    Labels::from([("app".to_owned(), format!("a{kind}"))])
}

fn selector(labels: Labels) -> LabelSelector {
    LabelSelector {
        match_labels: labels,
        match_expressions: Vec::new(),
    }
}

pub(super) fn cluster(size: Size) -> anyhow::Result<Cluster> {
    let mut cluster = Cluster::default();
    for n in 0..size.nodes {
        let [high, low] = n.to_be_bytes();
        let node = Node {
            labels: Labels::new(),
            ips: vec![IpAddr::from([10, 255, high, low])],
            tunnel_ips: vec![IpAddr::from([172, 16, high, low])],
            // Its pods' addresses come from all over 10.0.0.0/8.
            pod_cidrs: Vec::new(),
        };
        cluster.nodes.insert(format!("n{n}").as_str().into(), node);
    }
    for n in 0..size.namespaces {
        let labels = Labels::from([("team".to_owned(), format!("t{}", n % TEAMS))]);
        cluster.namespaces.insert(
            format!("ns{n}"),
            Namespace {
                labels,
                encryption: None,
            },
        );
        for k in 0..POLICIES {
            let name = NamespacedName {
                namespace: format!("ns{n}"),
                name: format!("np{k}"),
            };
            cluster.policies.insert(name, policy(n, k)?);
        }
    }
    for p in 0..size.pods {
        let namespace = p % u32::from(size.namespaces);
        let mut pod = Pod::new(&format!("ns{namespace}"), &format!("p{p}"));
        let node = (p / 7) % u32::from(size.nodes);
        pod.node = Some(format!("n{node}").as_str().into());
        pod.labels = app((p / u32::from(size.namespaces)) % KINDS);
        let [_, a, b, c] = p.to_be_bytes();
        pod.ips = vec![IpAddr::from([10, a, b, c])];
        cluster.pods.insert(pod.pod.clone(), pod);
    }
    Ok(cluster)
}

/// Nine of ten are between kinds of pods of a namespace; the tenth lets another team and a
/// block of addresses in.
fn policy(namespace: u16, number: u16) -> anyhow::Result<NetworkPolicy> {
    let kind = u32::from(number);
    let peers = if number == POLICIES - 1 {
        let team = format!("t{}", (namespace + 1) % TEAMS);
        vec![
            Peer::Pods {
                namespaces: Some(selector(Labels::from([("team".to_owned(), team)]))),
                pods: Some(selector(app(0))),
            },
            Peer::Block {
                cidr: format!("192.168.{}.0/24", namespace % 200).parse()?,
                except: Vec::new(),
            },
        ]
    } else {
        vec![Peer::Pods {
            namespaces: None,
            pods: Some(selector(app((kind + 1) % KINDS))),
        }]
    };
    let port = 8_000 + number;
    let ports = vec![PortRule {
        protocol: Protocol::Tcp,
        ports: PortSpec::Range {
            first: port,
            last: port,
        },
    }];
    let rules = vec![Rule { peers, ports }];
    let (ingress, egress) = if number.is_multiple_of(2) {
        (Some(rules), None)
    } else {
        (None, Some(rules))
    };
    Ok(NetworkPolicy {
        mode: Mode::Enforce,
        pod_selector: selector(app(kind % KINDS)),
        ingress,
        egress,
    })
}

pub(super) fn setup() -> NodeSetup {
    let mac = |n: u16| {
        let [high, low] = n.to_be_bytes();
        MacAddr([2, 0, 0, 0, high, low])
    };
    let slot = |n: u16| VfSlot {
        index: n,
        name: PortName(format!("pf0vf{n}")),
        mac: mac(n),
        mtu: 1500,
        vlan: None,
    };
    NodeSetup {
        node: HERE.into(),
        uplink: UplinkSetup {
            name: "uplink".into(),
            mac: mac(0xfffe),
            mtu: 9000,
            interfaces: vec![Interface {
                addr: IpAddr::from([172, 16, 0, 3]),
                prefix_len: 16,
                gateway: None,
            }],
        },
        host: HostSetup {
            name: "host".into(),
            mac: mac(0xffff),
            mtu: 9000,
        },
        vfs: (0..128).map(slot).collect(),
        encryption: EncryptionSetup::default(),
    }
}

pub(super) fn vfs(cluster: &Cluster, setup: &NodeSetup) -> anyhow::Result<VfTable> {
    let mut vfs = VfTable::default();
    let here = |pod: &&Pod| pod.node.as_ref() == Some(&setup.node);
    for pod in cluster.pods.values().filter(here) {
        vfs.assign(&pod.uid, &pod.pod, &pod.ips, &setup.vfs)?;
    }
    Ok(vfs)
}
