//! Ports that their destination doesn't have.

use std::collections::{BTreeMap, BTreeSet};

use sluice_offload_api::model::{Direction, Protocol};

use super::hints::{meant, nearest};
use super::view::{PodKind, Policy, RuleView, View};
use super::{Code, Finding};
use crate::cluster::{Peer, PortSpec};

/// A rule's ports: names that no destination has, and numbers that no subject declares.
pub(super) fn ports(
    view: &View<'_>,
    policy: &Policy<'_>,
    rule: &RuleView<'_>,
    findings: &mut Vec<Finding>,
) {
    let destinations: Vec<&PodKind> = match rule.direction {
        Direction::Ingress => view.subjects(policy).collect(),
        Direction::Egress => {
            let pods = view.pods.keys().filter(|it| !it.host_network);
            pods.filter(|it| is_peer(view, policy, rule, it)).collect()
        }
    };
    // Who nobody is has been said.
    if destinations.is_empty() {
        return;
    }
    let find = |code, message: String, help: String| Finding {
        code,
        object: policy.object.clone(),
        path: format!("{}.ports", rule.path()),
        message,
        help,
    };
    // A ClusterNetworkPolicy's name is one of each protocol.
    let mut names: BTreeMap<&str, BTreeSet<Protocol>> = BTreeMap::new();
    for it in &rule.rule.ports {
        if let PortSpec::Named(name) = &it.ports {
            names.entry(name).or_default().insert(it.protocol);
        }
    }
    for (name, protocols) in names {
        let named = |it: &&PodKind| {
            let mut ports = it.ports.iter();
            ports.any(|(its, protocol, _)| {
                its.as_deref() == Some(name) && protocols.contains(protocol)
            })
        };
        if destinations.iter().any(named) {
            continue;
        }
        let all = destinations.iter().flat_map(|it| &it.ports);
        let others: BTreeSet<_> = all.clone().filter_map(|it| it.0.as_deref()).collect();
        let hint = match all.clone().find(|it| it.0.as_deref() == Some(name)) {
            Some((_, protocol, _)) => format!("; it is a port of {}", text(*protocol)),
            None => meant(nearest(name, others)),
        };
        let message = format!("no pod that this is to has a port named `{name}`{hint}");
        let help = "correct the name or the protocol, or give the container's port this name";
        findings.push(find(Code::UnknownPortName, message, help.to_owned()));
    }
    if rule.direction == Direction::Egress {
        return;
    }
    for it in &rule.rule.ports {
        let PortSpec::Range { first, last } = it.ports else {
            continue;
        };
        // Who declares nothing says nothing: declaring is not required.
        let declared = destinations.iter().flat_map(|pods| &pods.ports);
        let mut declared = declared.filter(|port| port.1 == it.protocol).peekable();
        if declared.peek().is_none() || declared.any(|port| (first..=last).contains(&port.2)) {
            continue;
        }
        let ports = if first == last {
            format!("{first}")
        } else {
            format!("{first}-{last}")
        };
        let protocol = text(it.protocol);
        let message = format!("no pod that this is for declares a port {protocol} {ports}");
        let help = "check the number; a Service's port is not its pods' (targetPort is)";
        findings.push(find(Code::UndeclaredPort, message, help.to_owned()));
    }
}

/// Whether pods may be who an egress rule is to.
fn is_peer(view: &View<'_>, policy: &Policy<'_>, rule: &RuleView<'_>, pods: &PodKind) -> bool {
    let peers = &rule.rule.peers;
    peers.is_empty()
        || peers.iter().any(|it| match it {
            Peer::Pods {
                namespaces,
                pods: selector,
            } => {
                let in_namespace = match namespaces {
                    None => policy.namespace == Some(pods.namespace.as_str()),
                    Some(it) => {
                        let labels = view.namespaces.get(&pods.namespace);
                        labels.is_some_and(|labels| it.matches(labels))
                    }
                };
                let selected = selector.as_ref().is_none_or(|it| it.matches(&pods.labels));
                in_namespace && selected
            }
            // Blocks may be pods' too, by addresses that aren't looked at here.
            Peer::Block { .. } => true,
            Peer::Nodes(_) | Peer::Domain(_) => false,
        })
}

const fn text(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
        Protocol::Icmp => "ICMP",
    }
}
