//! One pod, one direction: the tiers in their order, and in each the first rule that decides.

use std::collections::BTreeSet;

use sluice_offload_api::model::{Direction, Tier};

use super::{
    Ask, End, Flow, KnownNames, NO_POLICY, Ruling, cluster_rule_name, isolation_name,
    multi_isolation_name, multi_rule_name, rule_name, who,
};
use crate::cluster::{
    Cluster, Interface, NamespacedName, Peer, Pod, PortRule, PortSpec, Rule, RuleAction,
};

/// Judges a flow at its end `subject`: "Admin tier, NetworkPolicy tier, Baseline tier"
/// (ClusterNetworkPolicySpec); what none of them decides may be.
pub(super) fn judge(ask: Ask<'_>, subject: &Pod, direction: Direction) -> Ruling {
    let own = match direction {
        Direction::Ingress => ask.flow.to.ip,
        Direction::Egress => ask.flow.from.ip,
    };
    if let Some(interface) = subject.interface_at(own) {
        return multi_policies(ask, (subject, interface), direction)
            .unwrap_or_else(|| Ruling::allow(NO_POLICY));
    }
    cluster_policies(ask, subject, direction, Tier::Admin)
        .or_else(|| network_policies(ask, subject, direction))
        .or_else(|| cluster_policies(ask, subject, direction, Tier::Baseline))
        .unwrap_or_else(|| Ruling::allow(NO_POLICY))
}

/// "If no policies select a pod in a direction, it is non-isolated for it. If any do, the
/// only allowed connections are those allowed by some rule of some such policy" (Kubernetes,
/// Network Policies).
fn network_policies(ask: Ask<'_>, subject: &Pod, direction: Direction) -> Option<Ruling> {
    let mut isolated_by = None;
    let policies = who::network_policies(ask.cluster, subject);
    for (name, policy) in policies.filter(|(_, it)| ask.set.has(it.mode)) {
        let Some(rules) = policy.rules(direction) else {
            continue;
        };
        isolated_by = isolated_by.or(Some(name));
        for (index, rule) in rules.iter().enumerate() {
            let scope = Scope::of(name);
            if rule_matches(ask, direction, scope, rule) {
                return Some(Ruling::allow(rule_name(name, direction, index)));
            }
        }
    }
    isolated_by.map(|name| Ruling::deny(isolation_name(name, direction)))
}

/// Nothing else is for a secondary interface. "MultiNetworkPolicy is identical to Kubernetes
/// NetworkPolicy" (its CRD), so isolation and union are too.
fn multi_policies(
    ask: Ask<'_>,
    (pod, interface): (&Pod, &Interface),
    direction: Direction,
) -> Option<Ruling> {
    let mut isolated_by = None;
    let policies = who::multi_policies(ask.cluster, pod, interface);
    for (name, multi) in policies.filter(|(_, it)| ask.set.has(it.policy.mode)) {
        let Some(rules) = multi.policy.rules(direction) else {
            continue;
        };
        isolated_by = isolated_by.or(Some(name));
        for (index, rule) in rules.iter().enumerate() {
            let scope = Scope {
                networks: Some(&multi.networks),
                ..Scope::of(name)
            };
            if rule_matches(ask, direction, scope, rule) {
                return Some(Ruling::allow(multi_rule_name(name, direction, index)));
            }
        }
    }
    isolated_by.map(|name| Ruling::deny(multi_isolation_name(name, direction)))
}

/// Where a rule's selectors look for pods.
#[derive(Clone, Copy, Default)]
struct Scope<'a> {
    /// The policy's own namespace, if it has one.
    namespace: Option<&'a str>,
    /// The networks of a MultiNetworkPolicy; `None` is pods' primary interfaces.
    networks: Option<&'a BTreeSet<NamespacedName>>,
}

impl<'a> Scope<'a> {
    fn of(policy: &'a NamespacedName) -> Self {
        Self {
            namespace: Some(&policy.namespace),
            networks: None,
        }
    }
}

/// The first matching rule of the policy with the lowest priority number decides; Pass
/// leaves it to the next tier.
fn cluster_policies(
    ask: Ask<'_>,
    subject: &Pod,
    direction: Direction,
    tier: Tier,
) -> Option<Ruling> {
    let policies = who::cluster_policies(ask.cluster, subject);
    for (name, policy) in policies.filter(|(_, it)| it.tier == tier && ask.set.has(it.mode)) {
        for (index, rule) in policy.rules(direction).iter().enumerate() {
            let Some(flows) = &rule.flows else {
                continue;
            };
            if rule_matches(ask, direction, Scope::default(), flows) {
                let rule_name = cluster_rule_name(name, policy, direction, index);
                return match rule.action {
                    RuleAction::Accept => Some(Ruling::allow(rule_name)),
                    RuleAction::Deny => Some(Ruling::deny(rule_name)),
                    RuleAction::Pass => None,
                };
            }
        }
    }
    None
}

/// A rule matches if any of its peers does and any of its ports does; one without peers
/// matches everyone, one without ports everything.
fn rule_matches(ask: Ask<'_>, direction: Direction, scope: Scope<'_>, rule: &Rule) -> bool {
    let Ask { flow, names, .. } = ask;
    let other = match direction {
        Direction::Ingress => flow.from,
        Direction::Egress => flow.to,
    };
    let peer = rule.peers.is_empty()
        || rule
            .peers
            .iter()
            .any(|it| peer_matches(ask.cluster, scope, it, other, names));
    let port = rule.ports.is_empty() || rule.ports.iter().any(|it| port_matches(flow, it));
    peer && port
}

/// Selectors match pods only, and both of a peer's must match; blocks match addresses,
/// whoever has them. A pod counts on the interfaces that the policy is for, and no others;
/// domains are what is outside the cluster.
fn peer_matches(
    cluster: &Cluster,
    scope: Scope<'_>,
    peer: &Peer,
    other: End<'_>,
    names: &KnownNames,
) -> bool {
    match peer {
        Peer::Block { cidr, except } => {
            cidr.contains(other.ip) && !except.iter().any(|it| it.contains(other.ip))
        }
        Peer::Domain(pattern) => {
            other.pod.is_none() && other.node.is_none() && names.is(other.ip, pattern)
        }
        Peer::Nodes(selector) => {
            let node = other.node.and_then(|name| cluster.nodes.get(name));
            node.is_some_and(|node| who::selects(selector, &node.labels))
        }
        Peer::Pods { namespaces, pods } => {
            let ip = other.ip;
            let Some(other) = other.pod else {
                return false;
            };
            let on_network = match (scope.networks, other.network_at(ip)) {
                (None, on) => on.is_none(),
                (Some(networks), Some(on)) => networks.contains(on),
                (Some(_), None) => false,
            };
            let namespace = &other.pod.namespace;
            let in_namespace = match namespaces {
                Some(selector) => who::selects_namespace(cluster, selector, namespace),
                None => scope.namespace == Some(namespace.as_str()),
            };
            on_network
                && in_namespace
                && pods
                    .as_ref()
                    .is_none_or(|selector| who::selects(selector, &other.labels))
        }
    }
}

/// A named port is whatever the destination pod calls so.
fn port_matches(flow: Flow<'_>, rule: &PortRule) -> bool {
    if rule.protocol != flow.protocol {
        return false;
    }
    match (&rule.ports, flow.port) {
        (PortSpec::Any, _) => true,
        (_, None) => false,
        (PortSpec::Range { first, last }, Some(port)) => (*first..=*last).contains(&port),
        (PortSpec::Named(name), Some(port)) => {
            let destination = flow.to.pod;
            destination.is_some_and(|pod| pod.named_ports(name, rule.protocol).any(|it| it == port))
        }
    }
}
