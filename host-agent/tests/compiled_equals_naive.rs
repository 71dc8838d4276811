//! The central property: two nodes' compiled tables together say what the evaluator says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod world;

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use sluice_host_agent::cluster::{Cluster, PortSpec};
use sluice_host_agent::compile::{self, Sides, judge_knowing};
use sluice_host_agent::evaluate::{self, Judgement, Party, Query, egress_knowing, ingress};
use sluice_host_agent::identity::IdentityTable;
use sluice_host_agent::validate::{POINTS_MAX, Sweep, validate};
use sluice_offload_api::State;
use sluice_offload_api::model::{Action, Direction, NodeName, PodRef, Protocol, Verdict};
use world::{NODES, OUTSIDE, World, known_names, world};

/// Everyone who could be an end of a flow, by each of their addresses.
fn parties(cluster: &Cluster) -> Vec<(Party, IpAddr)> {
    let mut parties = Vec::new();
    for pod in cluster.pods.values() {
        let PodRef {
            namespace: ns,
            name,
        } = pod.pod.clone();
        let party = Party::Pod { ns, name };
        let more = pod.interfaces.iter().flat_map(|it| &it.ips);
        let ips = pod.ips.iter().chain(more);
        parties.extend(ips.map(|&ip| (party.clone(), ip)));
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
    let ours = |party: &Party, ip| match party {
        Party::Pod { ns, name } => {
            let pod = PodRef {
                namespace: ns.clone(),
                name: name.clone(),
            };
            world.is_on_vf(&pod, ip)
        }
        _ => false,
    };
    let egress = egress_knowing(&world.cluster, query, &known_names());
    let egress = egress.filter(|_| ours(&query.from, query.from_ip));
    let ingress = ingress(&world.cluster, query).filter(|_| ours(&query.to, query.to_ip));
    Judgement::of(egress, ingress)
}

fn states(world: &World) -> Vec<State> {
    let state = |node: &&str| world.state(node, &mut IdentityTable::default());
    NODES.iter().map(state).collect()
}

/// Compares everything that rules could tell apart.
fn check(world: &World, states: &[State]) -> Result<(), TestCaseError> {
    let (parties, ports) = (parties(&world.cluster), ports(&world.cluster));
    let names = known_names();
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
                    for state in states {
                        let sides = judge_knowing(state, from_ip, to_ip, protocol, port, &names);
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

/// Compares how what one node sends to another crosses the wire. A node without a dataplane
/// decides nothing; nor does any between nodes themselves, or a node and who is no pod.
fn check_crossing(world: &World, states: &[State]) -> Result<(), TestCaseError> {
    let ips: Vec<IpAddr> = parties(&world.cluster).into_iter().map(|it| it.1).collect();
    let node_of = |ip: IpAddr| {
        let pod = world.cluster.pod_at(ip);
        let mut nodes = world.cluster.nodes.iter();
        let own = || nodes.find(|(_, it)| it.ips.contains(&ip)).map(|it| it.0);
        pod.and_then(|it| it.node.as_ref()).or_else(own)
    };
    let is_policed = |ip: IpAddr| {
        let pod = world.cluster.pod_at(ip);
        pod.is_some_and(|it| world.is_on_vf(&it.pod, ip))
    };
    for (node, state) in NODES.iter().zip(states) {
        let own = NodeName::from(*node);
        if world.cluster.nodes[&own].tunnel_ips.is_empty() {
            continue;
        }
        for &from in &ips {
            for &to in &ips {
                let is_here = [from, to].map(|ip| node_of(ip) == Some(&own));
                let is_pod = [from, to].map(|ip| world.cluster.pod_at(ip).is_some());
                // An ordinary pod and another node itself pass the dataplane as nodes do.
                let as_nodes = |here: usize, there: usize| {
                    is_here[here] && !is_policed([from, to][here]) && !is_pod[there]
                };
                if from.is_ipv4() != to.is_ipv4()
                    || is_here == [false; 2]
                    || as_nodes(0, 1)
                    || as_nodes(1, 0)
                {
                    continue;
                }
                let naive = evaluate::crossing(&world.cluster, &world.encryption, from, to);
                let compiled = compile::crossing(state, from, to);
                prop_assert_eq!(compiled, naive, "{} to {} on {}", from, to, node);
            }
        }
    }
    Ok(())
}

/// What a compiler may get wrong.
#[derive(Clone, Debug)]
enum Fault {
    /// A row does something else.
    Row(Index, Action),
    /// A row is missing.
    Gone(Index),
    /// What holds without a row is turned round.
    Fallback(Index, Direction),
}

fn fault() -> impl Strategy<Value = Fault> {
    let action = select(vec![Action::Allow, Action::Deny, Action::Pass]);
    let direction = select(vec![Direction::Ingress, Direction::Egress]);
    prop_oneof![
        (any::<Index>(), action).prop_map(|(at, to)| Fault::Row(at, to)),
        any::<Index>().prop_map(Fault::Gone),
        (any::<Index>(), direction).prop_map(|(at, which)| Fault::Fallback(at, which)),
    ]
}

impl Fault {
    fn put_into(&self, state: &mut State) {
        // Tables nobody has judge nothing.
        let used: BTreeSet<_> = state.endpoints.values().map(|it| it.policy).collect();
        let of_used = state
            .policies
            .values_mut()
            .filter(|it| used.contains(&it.id));
        let mut policies: Vec<_> = of_used.collect();
        let rows: Vec<_> = policies
            .iter()
            .enumerate()
            .flat_map(|(policy, it)| (0..it.rows.len()).map(move |row| (policy, row)))
            .collect();
        match self {
            Self::Row(at, action) if !rows.is_empty() => {
                let (policy, row) = rows[at.index(rows.len())];
                policies[policy].rows[row].action = *action;
            }
            Self::Gone(at) if !rows.is_empty() => {
                let (policy, row) = rows[at.index(rows.len())];
                policies[policy].rows.remove(row);
            }
            Self::Fallback(at, direction) if !policies.is_empty() => {
                let at = at.index(policies.len());
                let fallback = match direction {
                    Direction::Ingress => &mut policies[at].ingress,
                    Direction::Egress => &mut policies[at].egress,
                };
                fallback.verdict = match fallback.verdict {
                    Verdict::Allow => Verdict::Deny,
                    Verdict::Deny => Verdict::Allow,
                };
            }
            _ => {}
        }
    }
}

/// How many random clusters: a share, or what `make soak` asks for.
fn cases(share: u32) -> u32 {
    match std::env::var("SLUICE_CASES") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => share,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(2048)))]

    #[test]
    fn compiled_tables_say_what_the_evaluator_says(world in world()) {
        let states = states(&world);
        check(&world, &states)?;
        check_crossing(&world, &states)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(512)))]

    #[test]
    fn validation_agrees_with_what_was_compiled(
        world in world(),
        change in world(),
        turn in any::<usize>(),
    ) {
        for node in NODES {
            let mut identities = IdentityTable::default();
            let before = world.state(node, &mut identities);
            let first = validate(&world.cluster, &State::default(), &before, turn, POINTS_MAX);
            prop_assert_eq!(first.map(|it| it.left), Ok(0));
            let after = change.state(node, &mut identities);
            let then = validate(&change.cluster, &before, &after, turn, POINTS_MAX);
            prop_assert_eq!(then.map(|it| it.left), Ok(0));
            let mut sweep = Sweep::default();
            while !{
                let swept = sweep.step(&change.cluster, &after, 7);
                prop_assert_eq!(swept.found, None);
                swept.round
            } {}
        }
    }

    #[test]
    fn validation_and_sweep_find_what_the_whole_comparison_finds(
        world in world(),
        node in 0..NODES.len(),
        fault in fault(),
    ) {
        let good = states(&world);
        let mut bad = good.clone();
        fault.put_into(&mut bad[node]);
        if check(&world, &bad).is_ok() {
            return Ok(());
        }
        let found = validate(&world.cluster, &State::default(), &bad[node], 0, POINTS_MAX);
        prop_assert!(found.is_err(), "from nothing");
        let found = validate(&world.cluster, &good[node], &bad[node], 0, POINTS_MAX);
        prop_assert!(found.is_err(), "as a change");
        let mut sweep = Sweep::default();
        let mut found = false;
        while !found {
            let swept = sweep.step(&world.cluster, &bad[node], 7);
            found = swept.found.is_some();
            prop_assert!(found || !swept.round, "by the sweep");
        }
    }
}
