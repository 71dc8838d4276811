//! What a comparison costs follows identities, not pods.

use sluice_host_agent::cluster::{Cluster, LabelSelector, Labels, NamespacedName, Node, Pod};
use sluice_host_agent::difference::Difference;

use super::compare;

const IDENTITIES: usize = 20;

/// So many pods of 20 kinds, evenly, on two nodes; and a policy that lets kind 1 reach kind 0.
fn crowd(pods: u16, port: u16) -> Cluster {
    let mut cluster = Cluster::default();
    for (node, last) in [("n0", 1), ("n1", 2)] {
        let node_of = Node {
            ips: vec![[10, 9, 0, last].into()],
            ..Node::default()
        };
        cluster.nodes.insert(node.into(), node_of);
    }
    for n in 0..pods {
        let mut pod = Pod::new("shop", &format!("p{n:05}"));
        let [high, low] = n.to_be_bytes();
        pod.ips = vec![[10, 0, high, low].into()];
        pod.node = Some(if n % 2 == 0 { "n0" } else { "n1" }.into());
        let kind = usize::from(n) / 2 % IDENTITIES;
        pod.labels.insert("kind".to_owned(), kind.to_string());
        cluster.pods.insert(pod.pod.clone(), pod);
    }
    let kind = |kind: &str| LabelSelector {
        match_labels: Labels::from([("kind".to_owned(), kind.to_owned())]),
        match_expressions: Vec::new(),
    };
    use sluice_host_agent::cluster::{NetworkPolicy, Peer, PortRule, PortSpec, Rule};
    let rule = Rule {
        peers: vec![Peer::Pods {
            namespaces: None,
            pods: Some(kind("1")),
        }],
        ports: vec![PortRule {
            protocol: sluice_offload_api::model::Protocol::Tcp,
            ports: PortSpec::Range {
                first: port,
                last: port,
            },
        }],
    };
    let policy = NetworkPolicy {
        pod_selector: kind("0"),
        ingress: Some(vec![rule]),
        ..NetworkPolicy::default()
    };
    let name = NamespacedName {
        namespace: "shop".to_owned(),
        name: "p".to_owned(),
    };
    cluster.policies.insert(name, policy);
    cluster
}

fn of(pods: u16) -> Difference {
    compare(&crowd(pods, 80), &crowd(pods, 81)).difference()
}

#[test]
fn ten_thousand_pods_of_twenty_identities_cost_what_eighty_do() {
    let (few, many) = (of(80), of(10_000));
    assert_eq!(few.work, many.work);
    // Twenty kinds and the two nodes, before and after.
    assert_eq!(many.work.identities, 2 * (IDENTITIES + 1));
    // Everyone towards the one that the policy is for: twenty kinds, the nodes, outside.
    assert_eq!(many.work.pairs, IDENTITIES + 2);
    // TCP in four pieces (to 79, 80, 81, from 82), UDP, SCTP and ICMP in one; in two folders.
    assert_eq!(many.work.flows, many.work.pairs * 7 * 2);
    let changes: Vec<_> = many
        .changes
        .iter()
        .map(|it| (it.now, it.flows.clone()))
        .collect();
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert_eq!(few.changes, many.changes);
}
