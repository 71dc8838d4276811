//! What one event of a cluster makes the compiler look at, counted: the same in a small cluster
//! and in one ten times as large.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use sluice_host_agent::cluster::{
    Cluster, EncryptionSetup, LabelSelector, Labels, Mode, Namespace, NamespacedName,
    NetworkPolicy, Node, Peer, Pod, Rule,
};
use sluice_host_agent::compile::{Engine, HostSetup, NodeSetup, Touched, UplinkSetup};
use sluice_host_agent::identity::IdentityTable;
use sluice_host_agent::vf::{VfSlot, VfTable};
use sluice_offload_api::Limits;
use sluice_offload_api::model::{MacAddr, PodRef, PortName};

/// Pods that have a VF here, each in a namespace of its own with one policy.
const HERE: u32 = 8;

fn labels(all: &[(&str, String)]) -> Labels {
    let owned = all.iter().map(|(k, v)| ((*k).to_owned(), v.clone()));
    owned.collect()
}

fn pod(n: u32, namespaces: u32) -> Pod {
    let mut pod = Pod::new(&format!("ns{}", n % namespaces), &format!("p{n}"));
    pod.node = Some(if n < HERE { "here" } else { "there" }.into());
    pod.labels = labels(&[("app", format!("a{}", n % 3))]);
    let [_, a, b, c] = n.to_be_bytes();
    pod.ips = vec![[10, a, b, c].into()];
    pod
}

/// Lets the pods of a kind, in the policy's own namespace, in.
fn policy(kind: u32) -> NetworkPolicy {
    let kind = LabelSelector {
        match_labels: labels(&[("app", format!("a{kind}"))]),
        match_expressions: Vec::new(),
    };
    NetworkPolicy {
        mode: Mode::Enforce,
        pod_selector: LabelSelector::default(),
        ingress: Some(vec![Rule {
            peers: vec![Peer::Pods {
                namespaces: None,
                pods: Some(kind),
            }],
            ports: Vec::new(),
        }]),
        egress: None,
    }
}

fn policy_name(namespace: u32) -> NamespacedName {
    NamespacedName {
        namespace: format!("ns{namespace}"),
        name: "np".to_owned(),
    }
}

struct Rig {
    cluster: Cluster,
    vfs: VfTable,
    engine: Engine,
}

impl Rig {
    fn new(pods: u32) -> Self {
        let namespaces = pods / 10;
        let mut cluster = Cluster::default();
        for (name, last) in [("here", 1), ("there", 2)] {
            let node = Node {
                ips: vec![[172, 16, 0, last].into()],
                tunnel_ips: vec![[172, 16, 1, last].into()],
                ..Node::default()
            };
            cluster.nodes.insert(name.into(), node);
        }
        for n in 0..namespaces {
            let name = format!("ns{n}");
            cluster.namespaces.insert(name, Namespace::default());
            cluster.policies.insert(policy_name(n), policy(1));
        }
        for pod in (0..pods).map(|n| pod(n, namespaces)) {
            cluster.pods.insert(pod.pod.clone(), pod);
        }
        let mac = |last| MacAddr([2, 0, 0, 0, 0, last]);
        let slot = |n: u8| VfSlot {
            index: n.into(),
            name: PortName(format!("pf0vf{n}")),
            mac: mac(n),
            mtu: 1500,
            vlan: None,
        };
        let setup = NodeSetup {
            node: "here".into(),
            uplink: UplinkSetup {
                name: "uplink".into(),
                mac: mac(0xfe),
                mtu: 9000,
                interfaces: Vec::new(),
            },
            host: HostSetup {
                name: "host".into(),
                mac: mac(0xff),
                mtu: 1500,
            },
            vfs: (0..16).map(slot).collect(),
            encryption: EncryptionSetup::default(),
        };
        let mut vfs = VfTable::default();
        let is_here = |it: &&Pod| it.node.as_ref() == Some(&setup.node);
        for pod in cluster.pods.values().filter(is_here) {
            vfs.assign(&pod.uid, &pod.pod, &pod.ips, &setup.vfs)
                .unwrap();
        }
        let blank = Engine::new(setup, IdentityTable::default(), Limits::MAX);
        let (engine, first) = blank.update(&cluster, &vfs).unwrap();
        // The count counts: all of it was new.
        assert!(first.prefixes >= pods as usize, "{first:?}");
        Self {
            cluster,
            vfs,
            engine,
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut Cluster)) -> Touched {
        change(&mut self.cluster);
        let (next, touched) = self.engine.update(&self.cluster, &self.vfs).unwrap();
        self.engine = next;
        touched
    }

    /// What each event of a list looks at.
    fn run(&mut self) -> Vec<(&'static str, Touched)> {
        let stranger = |n: u32, kind: u32| {
            let mut pod = Pod::new("ns1", &format!("new{n}"));
            pod.node = Some("there".into());
            pod.labels = labels(&[("app", format!("a{kind}"))]);
            pod.ips = vec![[11, 0, 0, 1].into()];
            pod
        };
        let at = |it: &Pod| it.pod.clone();
        let new = stranger(0, 1);
        let known = PodRef {
            namespace: "ns2".to_owned(),
            name: "p2".to_owned(),
        };
        let mut all = Vec::new();
        let pod = new.clone();
        let touched = self.change(move |it| drop(it.pods.insert(at(&pod), pod)));
        all.push(("a pod of a known kind comes", touched));
        let (name, own) = (at(&new), ("pod", "new0".to_owned()));
        let touched = self.change(|it| {
            let pod = it.pods.get_mut(&name).unwrap();
            pod.labels.extend(labels(&[own]));
        });
        all.push(("it gets labels that no other has", touched));
        let touched = self.change(|it| drop(it.pods.remove(&name)));
        all.push(("it goes", touched));
        let touched = self.change(|it| {
            let pod = it.pods.get_mut(&known).unwrap();
            pod.labels = labels(&[("app", "a7".to_owned())]);
        });
        all.push(("a pod of this node is relabelled", touched));
        let touched = self.change(|it| {
            let rules = it.policies.get_mut(&policy_name(2)).unwrap();
            *rules = policy(0);
        });
        all.push(("a policy lets others in", touched));
        let touched = self.change(|it| drop(it.policies.remove(&policy_name(3))));
        all.push(("a policy goes", touched));
        all.push(("nothing happens", self.change(|_| {})));
        all
    }
}

#[test]
fn an_event_costs_what_it_touches_however_large_the_cluster_is() {
    let small = Rig::new(200).run();
    let large = Rig::new(2_000).run();
    assert_eq!(small, large);
    let most = |of: fn(&Touched) -> usize| large.iter().map(|it| of(&it.1)).max();
    assert_eq!(most(|it| it.prefixes), Some(1), "{large:?}");
    // The one that a pod leaves and the one that it comes to.
    assert!(most(|it| it.identities) <= Some(2), "{large:?}");
    assert!(most(|it| it.pods) <= Some(1), "{large:?}");
    assert!(most(|it| it.tables) <= Some(2), "{large:?}");
    let (_, nothing) = large.last().unwrap();
    assert_eq!(*nothing, Touched::default());
    // It is not that nothing is ever touched.
    let came = large.iter().find(|it| it.0 == "a policy lets others in");
    assert_eq!(came.unwrap().1.tables, 1);
}
