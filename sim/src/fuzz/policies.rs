//! Policies of every kind, as their APIs have them.

use serde_json::{Map, Value, json};

use super::draw::{NAMESPACES, PORT_NAMES, PORTS, one, protocol, selector, some};
use crate::dice::Dice;

/// Blocks around pods (10.1.NODE.N, fd01:0:0:NODE::N), nodes and the outside, nested.
const BLOCKS: [&str; 12] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.0.0/30",
    "10.1.1.0/24",
    "10.9.0.0/24",
    "203.0.113.0/24",
    "203.0.113.9/32",
    "::/0",
    "fd01::/32",
    "fd01:0:0:1::/64",
    "2001:db8::/32",
];

/// What each block has inside it, for `except`.
fn inside(cidr: &str) -> &'static [&'static str] {
    match cidr {
        "0.0.0.0/0" => &["10.0.0.0/8", "203.0.113.0/24"],
        "10.0.0.0/8" => &["10.1.0.0/30", "10.9.0.0/24", "10.1.1.0/24"],
        "10.1.0.0/16" => &["10.1.0.2/32", "10.1.1.0/24"],
        "203.0.113.0/24" => &["203.0.113.9/32"],
        "::/0" => &["fd01::/32", "2001:db8::/32"],
        "fd01::/32" => &["fd01:0:0:1::/64"],
        _ => &[],
    }
}

fn block(dice: &mut Dice) -> Value {
    let cidr = one(dice, &BLOCKS, "0.0.0.0/0");
    let excepts = dice.chance(50);
    match dice.pick(inside(cidr)).filter(|_| excepts) {
        Some(except) => json!({"cidr": cidr, "except": [except]}),
        None => json!({"cidr": cidr}),
    }
}

fn peer(dice: &mut Dice) -> Value {
    match dice.below(5) {
        0 | 1 => json!({"podSelector": selector(dice)}),
        2 => json!({"namespaceSelector": selector(dice)}),
        3 => json!({"namespaceSelector": selector(dice), "podSelector": selector(dice)}),
        _ => json!({"ipBlock": block(dice)}),
    }
}

fn port(dice: &mut Dice) -> Value {
    let protocol = protocol(dice);
    match dice.below(6) {
        0 => json!({"protocol": protocol}),
        1 => json!({"protocol": protocol, "port": one(dice, &PORT_NAMES, "web")}),
        2 => {
            let first = one(dice, &PORTS, 80);
            let more = u16::try_from(dice.within(1, 9_000)).unwrap_or(1);
            let last = first.saturating_add(more);
            json!({"protocol": protocol, "port": first, "endPort": last})
        }
        _ => json!({"protocol": protocol, "port": one(dice, &PORTS, 80)}),
    }
}

/// A rule of a NetworkPolicy; no peers is everyone, no ports is every port.
fn rule(dice: &mut Dice, peers: &str) -> Value {
    let mut rule = Map::new();
    if dice.chance(80) {
        rule.insert(peers.to_owned(), json!(some(dice, 1, 2, peer)));
    }
    if dice.chance(60) {
        rule.insert("ports".to_owned(), json!(some(dice, 1, 2, port)));
    }
    Value::Object(rule)
}

fn metadata(dice: &mut Dice, name: &str, namespace: Option<&str>) -> Value {
    let mut metadata = json!({"name": name});
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    if dice.chance(12) {
        metadata["annotations"] = json!({"sluice.dev/mode": "shadow"});
    }
    metadata
}

/// A NetworkPolicy.
pub(super) fn network_policy(dice: &mut Dice) -> Value {
    let name = format!("p{}", dice.below(4));
    let namespace = one(dice, &NAMESPACES, "a");
    let mut spec = json!({"podSelector": selector(dice)});
    let types = one(dice, &["in", "in", "out", "both"], "in");
    let mut kinds = Vec::new();
    if types != "out" {
        kinds.push("Ingress");
        spec["ingress"] = json!(some(dice, 0, 2, |dice| rule(dice, "from")));
    }
    if types != "in" {
        kinds.push("Egress");
        spec["egress"] = json!(some(dice, 0, 2, |dice| rule(dice, "to")));
    }
    spec["policyTypes"] = json!(kinds);
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(dice, &name, Some(namespace)),
        "spec": spec,
    })
}

/// Pods of namespaces, as a subject or a peer.
fn pods(dice: &mut Dice) -> Value {
    if dice.chance(50) {
        return json!({"namespaces": selector(dice)});
    }
    let (namespaces, pods) = (selector(dice), selector(dice));
    json!({"pods": {"namespaceSelector": namespaces, "podSelector": pods}})
}

/// Port names are of pods: `names` if all peers are.
fn cluster_protocol(dice: &mut Dice, names: bool) -> Value {
    let kind = one(dice, &["tcp", "udp", "sctp"], "tcp");
    match dice.below(4) {
        0 if names => json!({"destinationNamedPort": one(dice, &PORT_NAMES, "web")}),
        1 => {
            let first = one(dice, &PORTS, 80);
            let last = first.saturating_add(1_000);
            if first == last {
                return json!({kind: {"destinationPort": {"number": first}}});
            }
            json!({kind: {"destinationPort": {"range": {"start": first, "end": last}}}})
        }
        _ => json!({kind: {"destinationPort": {"number": one(dice, &PORTS, 80)}}}),
    }
}

fn cluster_rule(dice: &mut Dice, peers: &str) -> Value {
    let to = peers == "to";
    let peer = |dice: &mut Dice| match dice.below(6) {
        0 if to => json!({"nodes": selector(dice)}),
        1 if to => json!({"networks": [one(dice, &BLOCKS, "0.0.0.0/0")]}),
        _ => pods(dice),
    };
    let action = one(dice, &["Accept", "Deny", "Pass"], "Deny");
    let its_peers = some(dice, 1, 2, peer);
    let is_pods = |it: &Value| it["nodes"].is_null() && it["networks"].is_null();
    let names = its_peers.iter().all(is_pods);
    let mut rule = json!({"action": action, peers: its_peers});
    if dice.chance(30) {
        rule["name"] = json!("rule");
    }
    if dice.chance(60) {
        rule["protocols"] = json!(some(dice, 1, 2, |dice| cluster_protocol(dice, names)));
    }
    rule
}

/// A ClusterNetworkPolicy.
pub(super) fn cluster_policy(dice: &mut Dice) -> Value {
    let name = format!("c{}", dice.below(4));
    let mut spec = json!({
        "tier": one(dice, &["Admin", "Baseline"], "Admin"),
        "priority": dice.below(4),
        "subject": pods(dice),
    });
    let ingress = some(dice, 0, 2, |dice| cluster_rule(dice, "from"));
    let egress = some(dice, 0, 2, |dice| cluster_rule(dice, "to"));
    for (direction, rules) in [("ingress", ingress), ("egress", egress)] {
        if !rules.is_empty() {
            spec[direction] = json!(rules);
        }
    }
    json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": metadata(dice, &name, None),
        "spec": spec,
    })
}
