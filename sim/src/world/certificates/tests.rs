//! Certificates of a whole world, and those of an authority by themselves.

use std::collections::BTreeSet;

use ring::digest::{SHA256, digest};
use sluice_host_agent::cluster::{Cluster, Node};
use sluice_svid::check_leaf;

use super::super::{World, WorldConfig};
use super::*;
use crate::fault::{Fault, Heal, Program};

const HOUR_NS: u64 = 3_600 * Tick::SECOND;

fn boot(nodes: &[&str], peers_only: &[&str]) -> World {
    let mut cluster = Cluster::default();
    for name in nodes.iter().chain(peers_only) {
        cluster.nodes.insert((*name).into(), Node::default());
    }
    let peers_only: BTreeSet<_> = peers_only.iter().map(|it| (*it).into()).collect();
    let config = WorldConfig {
        peers_only,
        ..WorldConfig::default()
    };
    World::boot(cluster, config).unwrap()
}

fn serials(world: &World) -> Vec<(&str, u64)> {
    let held = world.keying.certificates.held.iter();
    held.map(|it| (it.0.0.as_str(), it.1.serial)).collect()
}

fn shown(world: &World, node: &str) -> Option<Shown> {
    let node = world.nodes.iter().find(|it| it.is_named(node)).unwrap();
    let certificates = &world.keying.certificates;
    certificates.shown_by(node, world.net.now)
}

#[test]
fn bytes_are_of_the_seed_and_the_same_on_every_machine() {
    let leaf = |seed: u64, serial| {
        let keys = SeedKeys::new(seed);
        let authority = Authority::new(&keys, "ca", BEGIN_SECS).unwrap();
        let domain = TrustDomain::new(DOMAIN).unwrap();
        let id = SpiffeId::of_node(&domain, &"a".into()).unwrap();
        let validity = Validity {
            not_before: BEGIN_SECS,
            not_after: BEGIN_SECS + 60,
        };
        let leaf = authority.issue(&keys, "a", &id, serial, validity).unwrap();
        assert_eq!(check_leaf(&leaf, &domain), Ok(id));
        leaf
    };
    let hex = |of: &[u8]| of.iter().map(|it| format!("{it:02x}")).collect::<String>();
    let digested = hex(digest(&SHA256, &leaf(1, 1)).as_ref());
    assert_eq!(
        digested,
        "11af28347a99b305f7d6b8f54ab57131d84de278b14ed69133aa66dfacb9dde2"
    );
    assert_ne!(leaf(1, 1), leaf(2, 1));
    // Another key each time, too.
    assert_ne!(leaf(1, 1), leaf(1, 2));
}

#[test]
fn nodes_renew_in_good_time_and_a_peer_where_nobody_is_costs_nothing() {
    let mut world = boot(&["a", "b"], &["c", "d"]);
    assert_eq!(serials(&world), [("a", 1), ("b", 1)]);
    let first = shown(&world, "a").unwrap();
    world.run_for(RENEW_SECS * Tick::SECOND - HOUR_NS);
    assert_eq!(serials(&world), [("a", 1), ("b", 1)]);
    assert_eq!(shown(&world, "a").unwrap(), first);
    world.run_for(2 * HOUR_NS);
    assert_eq!(serials(&world), [("a", 2), ("b", 2)]);
    assert_ne!(shown(&world, "a").unwrap(), first);
    world.run_for(100 * HOUR_NS);
    assert_eq!(serials(&world), [("a", 10), ("b", 10)]);
    assert!(world.keying.marks().iter().all(|it| it.1 == 0));
    // With nobody to show it to there is nothing to sign.
    let alone = boot(&["a"], &["c", "d"]);
    let held = alone.keying.certificates.held.values();
    assert!(held.clone().all(|it| it.made.get().is_none()) && held.count() == 1);
}

#[test]
fn who_starts_anew_gets_another_and_goes_by_the_old_one_while_the_authority_is_away() {
    let mut world = boot(&["a", "b"], &[]);
    let b = || Program::Dataplane("b".to_owned());
    let first = shown(&world, "b").unwrap();
    world.restart(&b()).unwrap();
    let second = shown(&world, "b").unwrap();
    assert_ne!(second, first);
    world.fault(&Fault::CaAway).unwrap();
    world.restart(&b()).unwrap();
    assert_eq!(shown(&world, "b").unwrap(), second);
    let (a, b) = (NodeName::from("a"), NodeName::from("b"));
    assert!(world.keying.has_keys(&a, &b));
    // What was on the disk went with the machine.
    world.replace("b").unwrap();
    assert_eq!(shown(&world, "b"), None);
    assert!(!world.keying.has_keys(&a, &b) && !world.is_whole());
    world.heal(&Heal::CaAway).unwrap();
    assert!(shown(&world, "b").is_some() && world.is_whole());
    assert!(world.keying.has_keys(&a, &b));
}

#[test]
fn a_session_ends_when_the_grace_is_over_and_its_keys_stay() {
    let mut world = boot(&["a", "b"], &[]);
    world.fault(&Fault::CaAway).unwrap();
    let (a, b) = (NodeName::from("a"), NodeName::from("b"));
    world.run_for(LIFETIME_SECS * Tick::SECOND);
    assert!(world.keying.has_keys(&a, &b));
    world.run_for(15 * Tick::SECOND);
    assert!(world.keying.has_keys(&a, &b), "within the grace");
    world.run_for(30 * Tick::SECOND);
    assert!(!world.keying.has_keys(&a, &b));
    // The session is over, what was made by it is not.
    assert!(world.epochs().values().all(Option::is_some));
    world.run_for(2 * HOUR_NS);
    assert!(world.epochs().values().all(Option::is_none));
}
