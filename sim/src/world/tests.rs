//! The world as a whole: frames against the evaluator.

use sluice_host_agent::cluster::{
    LabelSelector, NamespacedName, NetworkPolicy, Node, Peer, Pod, PortRule, PortSpec, Rule,
};
use sluice_offload_api::model::Protocol;

use super::*;
use crate::probe::{Party, Probe, ProbePort};

/// Two nodes, three pods; only `cart` may reach `db`, by TCP 5432.
fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    for name in ["a", "b"] {
        cluster.nodes.insert(name.into(), Node::default());
    }
    for (name, node) in [("web", "a"), ("cart", "a"), ("db", "b")] {
        let mut pod = Pod::new("shop", name);
        pod.node = Some(node.into());
        pod.labels.insert("app".to_owned(), name.to_owned());
        cluster.pods.insert(pod.pod.clone(), pod);
    }
    let app = |name: &str| LabelSelector {
        match_labels: [("app".to_owned(), name.to_owned())].into(),
        match_expressions: Vec::new(),
    };
    let policy = NetworkPolicy {
        pod_selector: app("db"),
        ingress: Some(vec![Rule {
            peers: vec![Peer::Pods { namespaces: None, pods: Some(app("cart")) }],
            ports: vec![PortRule {
                protocol: Protocol::Tcp,
                ports: PortSpec::Range { first: 5432, last: 5432 },
            }],
        }]),
        egress: None,
    };
    let name = NamespacedName { namespace: "shop".to_owned(), name: "db".to_owned() };
    cluster.policies.insert(name, policy);
    cluster
}

fn probe(from: &str, to: &str, protocol: Protocol, port: Option<u16>, family: Family) -> Probe {
    let party = |name: &str| match (name.strip_prefix("node:"), name.parse()) {
        (Some(node), _) => Party::Node(node.to_owned()),
        (None, Ok(ip)) => Party::Outside(ip),
        _ => Party::Pod { namespace: "shop".to_owned(), name: name.to_owned() },
    };
    Probe {
        from: party(from),
        to: party(to),
        protocol,
        port: port.map(ProbePort::Number),
        family: Some(family),
        expect: None,
    }
}

/// Everyone to everyone, in every protocol and both families: what differs from the
/// evaluator.
fn differences(world: &mut World) -> Vec<String> {
    let parties = ["web", "cart", "db", "node:a", "node:b"];
    let mut differences = Vec::new();
    for (family, outside) in [(Family::Ipv4, "203.0.113.9"), (Family::Ipv6, "2001:db8::9")] {
        let everyone = || parties.iter().chain([&outside]);
        for (from, to) in everyone().flat_map(|f| everyone().map(move |t| (f, t))) {
            if from == to {
                continue;
            }
            for (protocol, port) in [
                (Protocol::Tcp, Some(5432)),
                (Protocol::Tcp, Some(80)),
                (Protocol::Udp, Some(53)),
                (Protocol::Sctp, Some(5432)),
                (Protocol::Icmp, None),
            ] {
                let probe = probe(from, to, protocol, port, family);
                let seen = world.probe(&probe).unwrap();
                let want = world.expected(&probe).unwrap();
                if (seen.verdict, seen.at, &seen.rule) != (want.verdict, want.at, &want.rule) {
                    differences.push(format!("{probe:?}: {seen:?}, not {want:?}"));
                }
            }
        }
    }
    differences
}

#[test]
fn frames_show_what_the_evaluator_says_over_every_kind_of_tunnel() {
    for underlay in [Family::Ipv4, Family::Ipv6] {
        for udp_encap in [false, true] {
            let config = WorldConfig { underlay, udp_encap, ..WorldConfig::default() };
            let mut world = World::boot(cluster(), config).unwrap();
            assert_eq!(differences(&mut world), Vec::<String>::new());
            assert_eq!(world.unaccounted(), 0);
            let proof = world.wire_proof();
            assert_eq!(proof.marker_bytes_in_clear, 0);
            assert!(proof.esp_frames > 100, "{proof:?}");
        }
    }
}
