//! Policies as manifests.

use serde_json::{Value, json};
use sluice_offload_api::model::{Protocol, Tier};

use super::objects::{named, object, protocol, selector};
use crate::cluster::{
    ClusterPolicy, ClusterRule, Mode, MultiPolicy, NamespacedName, NetworkPolicy, Peer, PortRule,
    PortSpec, Rule, RuleAction,
};

/// A field that no version of the API has: who reads it takes the rule as one that it doesn't
/// know all of, and fails closed, as it did where the rule came from.
const UNKNOWN: &str = "unknownToTheAgent";

fn annotated(mut metadata: Value, annotations: &[(&str, String)], mode: Mode) -> Value {
    for (name, text) in annotations {
        metadata["annotations"][*name] = json!(text);
    }
    if mode == Mode::Shadow {
        metadata["annotations"]["sluice.dev/mode"] = json!("shadow");
    }
    metadata
}

pub(super) fn network_policy(name: &NamespacedName, policy: &NetworkPolicy) -> Value {
    let metadata = annotated(named(name), &[], policy.mode);
    let rest = json!({"spec": spec(policy)});
    object("networking.k8s.io/v1", "NetworkPolicy", metadata, rest)
}

pub(super) fn multi_policy(name: &NamespacedName, policy: &MultiPolicy) -> Value {
    let networks: Vec<_> = policy.networks.iter().map(ToString::to_string).collect();
    let networks = [("k8s.v1.cni.cncf.io/policy-for", networks.join(","))];
    let metadata = annotated(named(name), &networks, policy.policy.mode);
    let rest = json!({"spec": spec(&policy.policy)});
    object(
        "k8s.cni.cncf.io/v1beta1",
        "MultiNetworkPolicy",
        metadata,
        rest,
    )
}

fn spec(policy: &NetworkPolicy) -> Value {
    let mut types = Vec::new();
    let mut spec = json!({"podSelector": selector(&policy.pod_selector)});
    let sides = [
        ("Ingress", "ingress", "from", &policy.ingress),
        ("Egress", "egress", "to", &policy.egress),
    ];
    for (kind, field, peers, rules) in sides {
        if let Some(rules) = rules {
            types.push(kind);
            let rules = rules.iter().map(|it| rule(it, peers));
            spec[field] = Value::Array(rules.collect());
        }
    }
    spec["policyTypes"] = json!(types);
    spec
}

fn rule(rule: &Rule, peers: &str) -> Value {
    let mut fields = json!({});
    if !rule.peers.is_empty() {
        fields[peers] = rule.peers.iter().map(peer).collect();
    }
    if !rule.ports.is_empty() {
        fields["ports"] = rule.ports.iter().map(port).collect();
    }
    fields
}

fn peer(peer: &Peer) -> Value {
    match peer {
        Peer::Pods { namespaces, pods } => {
            let mut fields = json!({});
            if let Some(it) = namespaces {
                fields["namespaceSelector"] = selector(it);
            }
            if let Some(it) = pods {
                fields["podSelector"] = selector(it);
            }
            fields
        }
        Peer::Block { cidr, except } => {
            let except: Vec<_> = except.iter().map(ToString::to_string).collect();
            json!({"ipBlock": {"cidr": cidr.to_string(), "except": except}})
        }
        // NetworkPolicies have neither.
        Peer::Nodes(_) | Peer::Domain(_) => json!({UNKNOWN: {}}),
    }
}

fn port(it: &PortRule) -> Value {
    let mut fields = json!({"protocol": protocol(it.protocol)});
    match &it.ports {
        PortSpec::Any => {}
        PortSpec::Range { first, last } => {
            fields["port"] = json!(first);
            if first != last {
                fields["endPort"] = json!(last);
            }
        }
        PortSpec::Named(name) => fields["port"] = json!(name),
    }
    fields
}

pub(super) fn cluster_policy(name: &str, policy: &ClusterPolicy) -> Value {
    let subject = json!({"pods": {
        "namespaceSelector": selector(&policy.namespaces),
        "podSelector": selector(&policy.pods),
    }});
    let rules = |rules: &[ClusterRule], peers: &str| {
        let rules = rules.iter().map(|it| cluster_rule(it, peers));
        rules.collect::<Vec<_>>()
    };
    let spec = json!({
        "tier": match policy.tier {
            Tier::Baseline => "Baseline",
            Tier::Admin | Tier::Namespace => "Admin",
        },
        "priority": policy.priority,
        "subject": subject,
        "ingress": rules(&policy.ingress, "from"),
        "egress": rules(&policy.egress, "to"),
    });
    let metadata = annotated(json!({"name": name}), &[], policy.mode);
    let api = "policy.networking.k8s.io/v1alpha2";
    object(api, "ClusterNetworkPolicy", metadata, json!({"spec": spec}))
}

fn cluster_rule(rule: &ClusterRule, peers: &str) -> Value {
    let mut fields = json!({"action": match rule.action {
        RuleAction::Accept => "Accept",
        RuleAction::Deny => "Deny",
        RuleAction::Pass => "Pass",
    }});
    if let Some(name) = &rule.name {
        fields["name"] = json!(name);
    }
    match rule.flows.as_ref().filter(|it| !it.peers.is_empty()) {
        // It had something that isn't known, and so it has again.
        None => fields[peers] = json!([{UNKNOWN: {}}]),
        Some(flows) => {
            fields[peers] = flows.peers.iter().map(cluster_peer).collect();
            let protocols: Vec<_> = flows.ports.iter().filter_map(cluster_port).collect();
            if !protocols.is_empty() {
                fields["protocols"] = Value::Array(protocols);
            }
        }
    }
    fields
}

fn cluster_peer(peer: &Peer) -> Value {
    match peer {
        Peer::Pods {
            namespaces: Some(namespaces),
            pods: None,
        } => json!({"namespaces": selector(namespaces)}),
        Peer::Pods { namespaces, pods } => {
            let all = Default::default();
            let namespaces = selector(namespaces.as_ref().unwrap_or(&all));
            let pods = selector(pods.as_ref().unwrap_or(&all));
            json!({"pods": {"namespaceSelector": namespaces, "podSelector": pods}})
        }
        Peer::Nodes(nodes) => json!({"nodes": selector(nodes)}),
        Peer::Domain(name) => json!({"domainNames": [name.to_string()]}),
        Peer::Block { cidr, except } if except.is_empty() => {
            json!({"networks": [cidr.to_string()]})
        }
        // These have no exceptions.
        Peer::Block { .. } => json!({UNKNOWN: {}}),
    }
}

/// A name is one entry for all protocols: that of TCP stands for it.
fn cluster_port(it: &PortRule) -> Option<Value> {
    let port = match &it.ports {
        PortSpec::Named(name) => {
            let named = it.protocol == Protocol::Tcp;
            return named.then(|| json!({"destinationNamedPort": name}));
        }
        // These have no other way to say it.
        PortSpec::Any => json!({"destinationPort": {"range": {"start": 1, "end": u16::MAX}}}),
        PortSpec::Range { first, last } if first == last => {
            json!({"destinationPort": {"number": first}})
        }
        PortSpec::Range { first, last } => {
            json!({"destinationPort": {"range": {"start": first, "end": last}}})
        }
    };
    let field = protocol(it.protocol).to_lowercase();
    Some(json!({field: port}))
}
