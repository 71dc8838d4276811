//! The world as a whole: frames against the evaluator.

use sluice_host_agent::cluster::{
    LabelSelector, Mode, NamespacedName, NetworkPolicy, Node, Peer, Pod, PortRule, PortSpec, Rule,
};
use sluice_offload_api::model::{Direction, Protocol, Verdict};

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
        mode: Mode::Enforce,
        pod_selector: app("db"),
        ingress: Some(vec![Rule {
            peers: vec![Peer::Pods {
                namespaces: None,
                pods: Some(app("cart")),
            }],
            ports: vec![PortRule {
                protocol: Protocol::Tcp,
                ports: PortSpec::Range {
                    first: 5432,
                    last: 5432,
                },
            }],
        }]),
        egress: None,
    };
    let name = NamespacedName {
        namespace: "shop".to_owned(),
        name: "db".to_owned(),
    };
    cluster.policies.insert(name, policy);
    cluster
}

fn probe(from: &str, to: &str, protocol: Protocol, port: Option<u16>, family: Family) -> Probe {
    let party = |name: &str| match (name.strip_prefix("node:"), name.parse()) {
        (Some(node), _) => Party::Node(node.to_owned()),
        (None, Ok(ip)) => Party::Outside(ip),
        _ => Party::Pod {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
        },
    };
    Probe {
        from: party(from),
        to: party(to),
        from_network: None,
        to_network: None,
        source_port: None,
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
            let config = WorldConfig {
                underlay,
                udp_encap,
                ..WorldConfig::default()
            };
            let mut world = World::boot(cluster(), config).unwrap();
            assert_eq!(differences(&mut world), Vec::<String>::new());
            assert_eq!(world.unaccounted(), 0);
            let proof = world.wire_proof();
            assert_eq!(proof.marker_bytes_in_clear, 0);
            assert!(proof.esp_frames > 100, "{proof:?}");
        }
    }
}

fn ask(world: &mut World, from: &str, to: &str, port: u16) -> crate::probe::Observation {
    let question = probe(from, to, Protocol::Tcp, Some(port), Family::Ipv4);
    world.probe(&question).unwrap()
}

#[test]
fn a_policy_that_changes_is_in_force_on_the_next_packet() {
    let mut world = World::boot(cluster(), WorldConfig::default()).unwrap();
    assert_eq!(ask(&mut world, "web", "db", 5432).verdict, Verdict::Deny);

    let mut open = cluster();
    open.policies.clear();
    world.apply(open).unwrap();
    let seen = ask(&mut world, "web", "db", 5432);
    assert_eq!(
        (seen.verdict, seen.rule.as_deref()),
        (Verdict::Allow, Some("no policy"))
    );
    assert!(seen.encrypted);

    world.apply(cluster()).unwrap();
    let seen = ask(&mut world, "web", "db", 5432);
    assert_eq!(
        (seen.verdict, seen.at),
        (Verdict::Deny, Some(Direction::Ingress))
    );
    assert_eq!(seen.rule.as_deref(), Some("shop/db isolates ingress"));
    assert_eq!(differences(&mut world), Vec::<String>::new());
}

#[test]
fn rekeys_lose_nothing_and_never_use_a_key_twice() {
    let mut world = World::boot(cluster(), WorldConfig::default()).unwrap();
    for _ in 0..10 {
        assert_eq!(ask(&mut world, "cart", "db", 5432).verdict, Verdict::Allow);
        world.rekey().unwrap();
    }
    assert_eq!(ask(&mut world, "cart", "db", 5432).verdict, Verdict::Allow);
    let mut keymats: Vec<_> = world.sas().iter().map(|sa| &sa.keymat).collect();
    let all = keymats.len();
    keymats.sort();
    keymats.dedup();
    assert_eq!(
        (keymats.len(), all),
        (22, 22),
        "two directions, eleven epochs"
    );
    assert_eq!(world.unaccounted(), 0);
    let esp = [
        "unknown-spi",
        "esp-stale",
        "esp-duplicate",
        "esp-forged",
        "no-sa",
    ];
    let lost: Vec<_> = world
        .drops()
        .into_iter()
        .filter(|d| esp.contains(&d.reason.as_str()))
        .collect();
    assert_eq!(lost, Vec::new());
}

#[test]
fn a_new_pod_with_an_old_pods_address_and_vf_gets_none_of_its_rights() {
    let mut world = World::boot(cluster(), WorldConfig::default()).unwrap();
    assert_eq!(ask(&mut world, "cart", "db", 5432).verdict, Verdict::Allow);
    let ips = world
        .cluster()
        .pods
        .values()
        .find(|p| p.pod.name == "cart")
        .unwrap()
        .ips
        .clone();
    let before = world.bindings();

    let mut next = cluster();
    next.pods.retain(|name, _| name.name != "cart");
    let mut thief = Pod::new("shop", "thief");
    thief.node = Some("a".into());
    thief.ips.clone_from(&ips);
    next.pods.insert(thief.pod.clone(), thief);
    world.apply(next).unwrap();
    let vf = |bindings: &[Binding], pod: &str| {
        bindings.iter().find(|b| b.pod == pod).map(|b| b.vf.clone())
    };
    assert_eq!(
        vf(&world.bindings(), "shop/thief"),
        vf(&before, "shop/cart")
    );
    let seen = ask(&mut world, "thief", "db", 5432);
    assert_eq!(
        (seen.verdict, seen.at),
        (Verdict::Deny, Some(Direction::Ingress))
    );
}

#[test]
fn a_cluster_that_can_not_be_compiled_changes_nothing() {
    let mut world = World::boot(cluster(), WorldConfig::default()).unwrap();
    let mut next = cluster();
    for pod in next.pods.values_mut() {
        pod.ips = vec!["10.1.2.3".parse().unwrap()];
    }
    let error = world.apply(next).unwrap_err().to_string();
    assert!(
        error.contains("10.1.2.3") && error.contains("shop/cart"),
        "{error}"
    );
    assert_eq!(differences(&mut world), Vec::<String>::new());
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_one_others() {
    let run = |seed| {
        let config = WorldConfig {
            seed,
            ..WorldConfig::default()
        };
        let mut world = World::boot(cluster(), config).unwrap();
        ask(&mut world, "cart", "db", 5432);
        world.wire().to_vec()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn a_host_network_pod_is_its_node() {
    let mut next = cluster();
    let web = next
        .pods
        .values_mut()
        .find(|p| p.pod.name == "web")
        .unwrap();
    web.host_network = true;
    let mut world = World::boot(next, WorldConfig::default()).unwrap();
    assert_eq!(differences(&mut world), Vec::<String>::new());
}
