//! The central property: two nodes' compiled tables together say what the evaluator says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod world;

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use sluice_host_agent::cluster::{Cluster, PortSpec};
use sluice_host_agent::compile::{Sides, judge_knowing};
use sluice_host_agent::evaluate::{Judgement, Party, Query, egress_knowing, ingress};
use sluice_host_agent::identity::IdentityTable;
use sluice_host_agent::validate::{POINTS_MAX, Sweep, validate};
use sluice_offload_api::State;
use sluice_offload_api::model::{Action, Direction, PodRef, Protocol, Verdict};
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
        check(&world, &states(&world))?;
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
