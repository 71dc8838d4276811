//! One pod, one direction: isolation and the first rule that allows.

use core::net::IpAddr;

use sluice_offload_api::model::Direction;

use super::{NO_POLICY, Query, Ruling, isolation_name, pod, rule_name};
use crate::cluster::{Cluster, Peer, Pod, PortRule, PortSpec, Rule};

/// Judges a flow at its end `subject`.
///
/// "If no policies select a pod in a direction, it is non-isolated for it and all
/// connections are allowed. If any do, the only allowed ones are those allowed by some
/// rule of some such policy" (Kubernetes, Network Policies).
pub(super) fn judge(
    cluster: &Cluster,
    query: &Query,
    subject: &Pod,
    direction: Direction,
) -> Ruling {
    let mut isolated_by = None;
    for (name, policy) in cluster.policies_of(subject) {
        let Some(rules) = policy.rules(direction) else {
            continue;
        };
        isolated_by = isolated_by.or(Some(name));
        for (index, rule) in rules.iter().enumerate() {
            if rule_matches(cluster, query, direction, &name.namespace, rule) {
                return Ruling::allow(rule_name(name, direction, index));
            }
        }
    }
    match isolated_by {
        Some(name) => Ruling::deny(isolation_name(name, direction)),
        None => Ruling::allow(NO_POLICY),
    }
}

/// A rule matches if any of its peers does and any of its ports does; one without peers
/// matches everyone, one without ports everything.
fn rule_matches(
    cluster: &Cluster,
    query: &Query,
    direction: Direction,
    namespace: &str,
    rule: &Rule,
) -> bool {
    let (other, other_ip) = match direction {
        Direction::Ingress => (&query.from, query.from_ip),
        Direction::Egress => (&query.to, query.to_ip),
    };
    let other = pod(cluster, other);
    let peer = rule.peers.is_empty()
        || rule
            .peers
            .iter()
            .any(|it| peer_matches(cluster, namespace, it, other, other_ip));
    let destination = pod(cluster, &query.to);
    let port = rule.ports.is_empty()
        || rule
            .ports
            .iter()
            .any(|it| port_matches(query, it, destination));
    peer && port
}

/// Selectors match pods only, and both of a peer's must match; blocks match addresses,
/// whoever has them.
fn peer_matches(
    cluster: &Cluster,
    policy_namespace: &str,
    peer: &Peer,
    other: Option<&Pod>,
    other_ip: IpAddr,
) -> bool {
    match peer {
        Peer::Block { cidr, except } => {
            cidr.contains(other_ip) && !except.iter().any(|it| it.contains(other_ip))
        }
        Peer::Pods { namespaces, pods } => {
            let Some(other) = other else {
                return false;
            };
            let namespace = &other.pod.namespace;
            let in_namespace = match namespaces {
                Some(selector) => selector.matches(&cluster.namespace_labels(namespace)),
                None => namespace == policy_namespace,
            };
            in_namespace
                && pods
                    .as_ref()
                    .is_none_or(|selector| selector.matches(&other.labels))
        }
    }
}

/// A named port is whatever the destination pod calls so.
fn port_matches(query: &Query, rule: &PortRule, destination: Option<&Pod>) -> bool {
    if rule.protocol != query.protocol {
        return false;
    }
    match (&rule.ports, query.port) {
        (PortSpec::Any, _) => true,
        (_, None) => false,
        (PortSpec::Range { first, last }, Some(port)) => (*first..=*last).contains(&port),
        (PortSpec::Named(name), Some(port)) => {
            destination.is_some_and(|pod| pod.named_ports(name, rule.protocol).any(|it| it == port))
        }
    }
}
