//! The incremental compiler gives what the whole one gives, number for number, after every
//! change; also the same errors, after which it is where it was.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod world;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use sluice_host_agent::cluster::Cluster;
use sluice_host_agent::compile::{CompileError, Engine, NodeSetup, compile_within};
use sluice_host_agent::identity::IdentityTable;
use sluice_host_agent::vf::{VfSlot, VfTable};
use sluice_offload_api::model::{EndpointKey, MacAddr, PodRef, PortName};
use sluice_offload_api::{Limits, SharedMap, State};
use world::{NODES, World, world};

/// One event of a cluster, or of the node.
#[derive(Clone, Debug)]
enum Event {
    /// The pod is as in another cluster: new, relabelled, moved, over, with other addresses.
    Pod(Index),
    PodGone(Index),
    /// The pod takes an address that is perhaps another's.
    PodAt(Index, u8),
    Namespace(Index),
    NamespaceGone(Index),
    Node(Index),
    /// The node has no tunnel, or has one again.
    Tunnel(Index),
    NodeGone(Index),
    Policy(Index),
    PolicyGone(Index),
    ClusterPolicy(Index),
    ClusterPolicyGone(Index),
    MultiPolicy(Index),
    MultiPolicyGone(Index),
    Service(u8),
    /// The operator says other things of pods' addresses.
    PodCidrs,
    /// The pod gave its addresses back, and another address is given back or taken again.
    Vacated(Index, u8),
    /// The pod gets its VF or loses it.
    Vf(Index),
    /// The pod's secondary interface does.
    SecondaryVf(Index),
    /// The pod gets a VF that the node doesn't have, or loses that.
    NoVf(Index),
    /// Nothing at all.
    Again,
}

fn event() -> impl Strategy<Value = Event> {
    let index = any::<Index>;
    prop_oneof![
        6 => index().prop_map(Event::Pod),
        3 => index().prop_map(Event::PodGone),
        1 => (index(), 1u8..12).prop_map(|(pod, at)| Event::PodAt(pod, at)),
        2 => index().prop_map(Event::Namespace),
        1 => index().prop_map(Event::NamespaceGone),
        2 => index().prop_map(Event::Node),
        1 => index().prop_map(Event::Tunnel),
        1 => index().prop_map(Event::NodeGone),
        4 => index().prop_map(Event::Policy),
        2 => index().prop_map(Event::PolicyGone),
        4 => index().prop_map(Event::ClusterPolicy),
        2 => index().prop_map(Event::ClusterPolicyGone),
        3 => index().prop_map(Event::MultiPolicy),
        2 => index().prop_map(Event::MultiPolicyGone),
        1 => (0u8..20).prop_map(Event::Service),
        1 => Just(Event::PodCidrs),
        2 => (index(), 0u8..20).prop_map(|(pod, at)| Event::Vacated(pod, at)),
        3 => index().prop_map(Event::Vf),
        2 => index().prop_map(Event::SecondaryVf),
        1 => index().prop_map(Event::NoVf),
        1 => Just(Event::Again),
    ]
}

/// The key at an index of a map that isn't empty.
fn pick<K: Ord + Clone, V>(map: &SharedMap<K, V>, index: Index) -> Option<K> {
    let keys: Vec<&K> = map.keys().collect();
    (!keys.is_empty()).then(|| (*index.get(&keys)).clone())
}

/// Makes an entry as it is in another map.
fn take<K: Ord + Clone, V: Clone>(to: &mut SharedMap<K, V>, from: &SharedMap<K, V>, at: Index) {
    if let Some(key) = pick(from, at) {
        to.insert(key.clone(), from[&key].clone());
    }
}

fn drop_one<K: Ord + Clone, V>(map: &mut SharedMap<K, V>, at: Index) {
    if let Some(key) = pick(map, at) {
        map.remove(&key);
    }
}

/// What an engine is given, and changes.
#[derive(Clone)]
struct Input {
    cluster: Cluster,
    on_vf: Vec<PodRef>,
    secondary_on_vf: Vec<(PodRef, String)>,
    on_none: Vec<PodRef>,
}

impl Input {
    fn on(&mut self, event: &Event, other: &Cluster) {
        let cluster = &mut self.cluster;
        match event {
            Event::Pod(at) => take(&mut cluster.pods, &other.pods, *at),
            Event::PodGone(at) => drop_one(&mut cluster.pods, *at),
            Event::PodAt(at, n) => {
                if let Some(name) = pick(&cluster.pods, *at) {
                    let pod = cluster.pods.get_mut(&name).unwrap();
                    pod.ips = vec![[10, 0, 0, *n].into()];
                }
            }
            Event::Namespace(at) => take(&mut cluster.namespaces, &other.namespaces, *at),
            Event::NamespaceGone(at) => drop_one(&mut cluster.namespaces, *at),
            Event::PodCidrs => cluster.pod_cidrs.clone_from(&other.pod_cidrs),
            Event::Vacated(at, n) => {
                let one = [10, 0, 0, *n].into();
                if !cluster.vacated.remove(&one) {
                    cluster.vacated.insert(one);
                }
                if let Some(name) = pick(&cluster.pods, *at) {
                    let pod = cluster.pods.get_mut(&name).unwrap();
                    cluster.vacated.extend(pod.ips.drain(..));
                }
            }
            Event::Node(at) => take(&mut cluster.nodes, &other.nodes, *at),
            Event::Tunnel(at) => {
                if let Some(name) = pick(&cluster.nodes, *at) {
                    let node = cluster.nodes.get_mut(&name).unwrap();
                    if node.tunnel_ips.is_empty() {
                        node.tunnel_ips.push([172, 16, 9, 9].into());
                    } else {
                        node.tunnel_ips.clear();
                    }
                }
            }
            Event::NodeGone(at) => drop_one(&mut cluster.nodes, *at),
            Event::Policy(at) => take(&mut cluster.policies, &other.policies, *at),
            Event::PolicyGone(at) => drop_one(&mut cluster.policies, *at),
            Event::ClusterPolicy(at) => {
                take(&mut cluster.cluster_policies, &other.cluster_policies, *at);
            }
            Event::ClusterPolicyGone(at) => drop_one(&mut cluster.cluster_policies, *at),
            Event::MultiPolicy(at) => {
                take(&mut cluster.multi_policies, &other.multi_policies, *at);
            }
            Event::MultiPolicyGone(at) => drop_one(&mut cluster.multi_policies, *at),
            Event::Service(n) => {
                for service in cluster.services.values_mut() {
                    service.vips = vec![[10, 0, 0, *n].into()];
                }
            }
            Event::Vf(at) => toggle(&mut self.on_vf, pick(&cluster.pods, *at)),
            Event::SecondaryVf(at) => {
                let pods = cluster.pods.iter();
                let all: Vec<_> = pods
                    .flat_map(|(name, pod)| {
                        let interfaces = pod.interfaces.iter();
                        interfaces.map(|it| (name.clone(), it.name.clone()))
                    })
                    .collect();
                let one = (!all.is_empty()).then(|| at.get(&all).clone());
                toggle(&mut self.secondary_on_vf, one);
            }
            Event::NoVf(at) => toggle(&mut self.on_none, pick(&cluster.pods, *at)),
            Event::Again => {}
        }
    }

    fn vfs(&self, setup: &NodeSetup) -> VfTable {
        let none = VfSlot {
            index: 99,
            name: PortName("none".to_owned()),
            mac: MacAddr([2; 6]),
            mtu: 1500,
            vlan: None,
        };
        let mut table = VfTable::default();
        for (name, slots) in self.on_vf.iter().map(|it| (it, &setup.vfs[..])).chain(
            self.on_none
                .iter()
                .map(|it| (it, core::slice::from_ref(&none))),
        ) {
            // One VF a pod; the second is not given out twice.
            if let Some(pod) = self.cluster.pods.get(name) {
                drop(table.assign(&pod.uid, name, &[], slots));
            }
        }
        for (name, interface) in &self.secondary_on_vf {
            if let Some(pod) = self.cluster.pods.get(name) {
                let key = EndpointKey {
                    pod_uid: pod.uid.clone(),
                    interface: interface.clone(),
                };
                drop(table.assign_interface(&key, name, &[], &setup.vfs));
            }
        }
        table
    }
}

fn toggle<T: PartialEq>(list: &mut Vec<T>, one: Option<T>) {
    let Some(one) = one else { return };
    match list.iter().position(|it| *it == one) {
        Some(at) => drop(list.remove(at)),
        None => list.push(one),
    }
}

/// Rows that a dataplane holds: all, few of a table, few of all tables.
fn limits() -> impl Strategy<Value = Limits> {
    let few = |rows_per_policy, rows| Limits {
        rows_per_policy,
        rows,
        ..Limits::MAX
    };
    prop_oneof![
        4 => Just(Limits::MAX),
        1 => (3usize..30).prop_map(move |it| few(it, Limits::MAX.rows)),
        1 => (3usize..60).prop_map(move |it| few(Limits::MAX.rows_per_policy, it)),
    ]
}

fn same(engine: &Engine, whole: &State) -> Result<(), TestCaseError> {
    let state = engine.state();
    prop_assert_eq!(&state.identities, &whole.identities);
    prop_assert_eq!(&state.prefixes, &whole.prefixes);
    prop_assert_eq!(&state.peers, &whole.peers);
    prop_assert_eq!(&state.policies, &whole.policies);
    prop_assert_eq!(state, whole);
    Ok(())
}

fn follow(
    start: World,
    others: &[World],
    events: &[(Event, Index)],
    limits: &Limits,
) -> Result<(), TestCaseError> {
    let setup = NodeSetup {
        encryption: start.encryption,
        ..World::setup(NODES[0])
    };
    let mut input = Input {
        cluster: start.cluster,
        on_vf: start.on_vf,
        secondary_on_vf: start.secondary_on_vf,
        on_none: Vec::new(),
    };
    let mut identities = IdentityTable::default();
    let mut engine = Engine::new(setup.clone(), IdentityTable::default(), *limits);
    let events = events
        .iter()
        .map(|(event, other)| (event, &other.get(others).cluster));
    for (event, other) in [(&Event::Again, &others[0].cluster)]
        .into_iter()
        .chain(events)
    {
        let before = input.clone();
        input.on(event, other);
        let vfs = input.vfs(&setup);
        let mut tried = identities.clone();
        let whole = compile_within(&input.cluster, &setup, &vfs, &mut tried, limits);
        match (engine.update(&input.cluster, &vfs), whole) {
            (Ok((next, _)), Ok(whole)) => {
                same(&next, &whole)?;
                prop_assert_eq!(next.identities(), &tried);
                (engine, identities) = (next, tried);
            }
            (Err(error), Err(whole)) => {
                prop_assert_eq!(error, whole);
                prop_assert_eq!(engine.identities(), &identities);
                // As the agent does: what can't be is told, and then taken back or not.
                if !matches!(event, Event::PodAt(..)) {
                    input = before;
                }
            }
            (Ok(_), Err(error)) => prop_assert!(false, "{:?}: only compile says {}", event, error),
            (Err(error), Ok(_)) => prop_assert!(false, "{:?}: only engine says {}", event, error),
        }
    }
    // A restarted agent goes on with the journalled numbers, on another cluster.
    let mut tried = identities.clone();
    let cluster = &others[0].cluster;
    let vfs = VfTable::default();
    let whole = compile_within(cluster, &setup, &vfs, &mut tried, limits);
    let restarted = Engine::new(setup, identities, *limits).update(cluster, &vfs);
    match (restarted, whole) {
        (Ok((engine, _)), Ok(whole)) => {
            same(&engine, &whole)?;
            prop_assert_eq!(engine.identities(), &tried);
        }
        (restarted, whole) => prop_assert_eq!(restarted.err(), whole.err()),
    }
    Ok(())
}

proptest! {
    #[test]
    fn after_every_event_the_engine_has_what_compile_gives(
        start in world(),
        others in vec(world(), 1..4),
        events in vec((event(), any::<Index>()), 1..40),
        limits in limits(),
    ) {
        follow(start, &others, &events, &limits)?;
    }
}

/// So that the property says something: each kind of error is met.
#[test]
fn the_engine_refuses_what_compile_refuses_and_stays() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let setup = World::setup(NODES[0]);
    let mut runner = TestRunner::deterministic();
    let mut seen = [0usize; 2];
    for _ in 0..200 {
        let start = world().new_tree(&mut runner).unwrap().current();
        let events = vec(event(), 40).new_tree(&mut runner).unwrap().current();
        let other = world().new_tree(&mut runner).unwrap().current();
        let mut input = Input {
            cluster: start.cluster,
            on_vf: start.on_vf,
            secondary_on_vf: start.secondary_on_vf,
            on_none: Vec::new(),
        };
        let mut engine = Engine::new(setup.clone(), IdentityTable::default(), Limits::MAX);
        for event in events {
            let before = input.clone();
            input.on(&event, &other.cluster);
            match engine.update(&input.cluster, &input.vfs(&setup)) {
                Ok((next, _)) => engine = next,
                Err(error) => {
                    match error {
                        CompileError::Address(_) => seen[0] += 1,
                        CompileError::UnknownVf { .. } => seen[1] += 1,
                        CompileError::Full(_) => {}
                    }
                    input = before;
                }
            }
        }
    }
    assert!(seen.iter().all(|it| *it > 20), "{seen:?}");
}
