//! The central property: two nodes' compiled tables together say what the evaluator says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod world;

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;
use sluice_host_agent::cluster::{Cluster, PortSpec};
use sluice_host_agent::compile::{Sides, judge};
use sluice_host_agent::evaluate::{Judgement, Party, Query, egress, ingress};
use sluice_host_agent::identity::IdentityTable;
use sluice_offload_api::model::{Direction, PodRef, Protocol};
use world::{NODES, OUTSIDE, World, world};

/// Everyone who could be an end of a flow, by each of their addresses.
fn parties(cluster: &Cluster) -> Vec<(Party, IpAddr)> {
    let mut parties = Vec::new();
    for pod in cluster.pods.values() {
        let PodRef {
            namespace: ns,
            name,
        } = pod.pod.clone();
        let party = Party::Pod { ns, name };
        parties.extend(pod.ips.iter().map(|&ip| (party.clone(), ip)));
    }
    for (name, node) in &cluster.nodes {
        parties.extend(node.ips.iter().map(|&ip| (Party::Node(name.clone()), ip)));
    }
    for ip in OUTSIDE.map(|it| it.parse().unwrap()) {
        parties.push((Party::Outside(ip), ip));
    }
    parties
}

/// Every number that any rule or pod names, and its neighbours; and no known port.
fn ports(cluster: &Cluster) -> Vec<Option<u16>> {
    let mut ports = BTreeSet::from([0, 1, u16::MAX]);
    let mut around =
        |port: u16| ports.extend([port.saturating_sub(1), port, port.saturating_add(1)]);
    let both = [Direction::Ingress, Direction::Egress].map(|it| cluster.rules(it));
    for rule in both.into_iter().flatten() {
        for port in &rule.ports {
            if let PortSpec::Range { first, last } = port.ports {
                around(first);
                around(last);
            }
        }
    }
    for port in cluster.pods.values().flat_map(|it| &it.ports) {
        around(port.number);
    }
    ports.into_iter().map(Some).chain([None]).collect()
}

/// What the evaluator says, at those ends where policy is Sluice's.
fn expected(world: &World, query: &Query) -> Judgement {
    let ours = |party: &Party| match party {
        Party::Pod { ns, name } => world.is_on_vf(&PodRef {
            namespace: ns.clone(),
            name: name.clone(),
        }),
        _ => false,
    };
    let egress = egress(&world.cluster, query).filter(|_| ours(&query.from));
    let ingress = ingress(&world.cluster, query).filter(|_| ours(&query.to));
    Judgement::of(egress, ingress)
}

fn check(world: &World) -> Result<(), TestCaseError> {
    let states: Vec<_> = NODES
        .iter()
        .map(|node| world.state(node, &mut IdentityTable::default()))
        .collect();
    let (parties, ports) = (parties(&world.cluster), ports(&world.cluster));
    let icmp = [None];
    for (from, from_ip) in &parties {
        for (to, to_ip) in &parties {
            if from_ip == to_ip || from_ip.is_ipv4() != to_ip.is_ipv4() {
                continue;
            }
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp, Protocol::Icmp] {
                let ports = if protocol == Protocol::Icmp {
                    &icmp[..]
                } else {
                    &ports
                };
                for &port in ports {
                    let (from, to) = (from.clone(), to.clone());
                    let (from_ip, to_ip) = (*from_ip, *to_ip);
                    let query = Query {
                        from,
                        to,
                        protocol,
                        port,
                        from_ip,
                        to_ip,
                    };
                    let mut got = Sides::default();
                    for state in &states {
                        let sides = judge(state, from_ip, to_ip, protocol, port);
                        got.egress = got.egress.or(sides.egress);
                        got.ingress = got.ingress.or(sides.ingress);
                    }
                    prop_assert_eq!(got.judgement(), expected(world, &query), "{:?}", query);
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn compiled_tables_say_what_the_evaluator_says(world in world()) {
        check(&world)?;
    }
}
