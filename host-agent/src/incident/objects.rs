//! Objects of a cluster as manifests: what [`crate::manifest`] reads back as the same.

use serde_json::{Map, Value, json};
use sluice_offload_api::model::{Encryption, Protocol};

use super::policies::{cluster_policy, multi_policy, network_policy};
use crate::cluster::{Cluster, Interface, LabelSelector, NamespacedName, Node, Operator, Pod};
use crate::manifest::ENCRYPTION;

/// Every object of a cluster, kind by kind, each in the order of names. Of each the fields
/// that are read, and nothing else: there was nothing else to write down.
#[must_use]
pub fn objects(cluster: &Cluster) -> Vec<Value> {
    let namespaces = cluster.namespaces.iter().map(|(name, it)| {
        let mut metadata = json!({"name": name, "labels": it.labels});
        annotate_encryption(&mut metadata, it.encryption);
        object("v1", "Namespace", metadata, Value::Null)
    });
    let nodes = cluster.nodes.iter().map(|(name, it)| node(&name.0, it));
    let pods = cluster.pods.values().map(pod);
    let services = cluster.services.iter().map(|(name, it)| {
        let spec = json!({"clusterIPs": it.vips});
        object("v1", "Service", named(name), json!({"spec": spec}))
    });
    let own = cluster.policies.iter();
    let own = own.map(|(name, it)| network_policy(name, it));
    let of_cluster = cluster.cluster_policies.iter();
    let of_cluster = of_cluster.map(|(name, it)| cluster_policy(name, it));
    let multi = cluster.multi_policies.iter();
    let multi = multi.map(|(name, it)| multi_policy(name, it));
    namespaces
        .chain(nodes)
        .chain(pods)
        .chain(services)
        .chain(own)
        .chain(of_cluster)
        .chain(multi)
        .collect()
}

/// An object with the fields of `rest`.
pub(super) fn object(api_version: &str, kind: &str, metadata: Value, rest: Value) -> Value {
    let mut fields = Map::new();
    fields.insert("apiVersion".to_owned(), api_version.into());
    fields.insert("kind".to_owned(), kind.into());
    fields.insert("metadata".to_owned(), metadata);
    if let Value::Object(rest) = rest {
        fields.extend(rest);
    }
    Value::Object(fields)
}

pub(super) fn named(name: &NamespacedName) -> Value {
    json!({"namespace": name.namespace, "name": name.name})
}

/// Adds the annotation of what an object asks for, if it does.
fn annotate_encryption(metadata: &mut Value, asked: Option<Encryption>) {
    if let Some(asked) = asked {
        metadata["annotations"][ENCRYPTION] = json!(asked.as_str());
    }
}

fn node(name: &str, node: &Node) -> Value {
    let tunnel: Vec<_> = node.tunnel_ips.iter().map(ToString::to_string).collect();
    let mut metadata = json!({"name": name, "labels": node.labels});
    if !tunnel.is_empty() {
        metadata["annotations"] = json!({"sluice.dev/tunnel-ips": tunnel.join(",")});
    }
    let addresses = node.ips.iter();
    let addresses = addresses.map(|ip| json!({"type": "InternalIP", "address": ip}));
    let status = json!({"addresses": addresses.collect::<Vec<_>>()});
    let mut rest = json!({"status": status});
    if !node.pod_cidrs.is_empty() {
        let cidrs = node.pod_cidrs.iter().map(ToString::to_string);
        rest["spec"] = json!({"podCIDRs": cidrs.collect::<Vec<_>>()});
    }
    object("v1", "Node", metadata, rest)
}

fn pod(pod: &Pod) -> Value {
    let mut metadata = json!({
        "namespace": pod.pod.namespace,
        "name": pod.pod.name,
        "labels": pod.labels,
    });
    if let Some(uid) = pod.given_uid() {
        metadata["uid"] = json!(uid.0);
    }
    if !pod.interfaces.is_empty() {
        metadata["annotations"] = networks(&pod.interfaces);
    }
    annotate_encryption(&mut metadata, pod.encryption);
    let ports = pod.ports.iter().map(|it| {
        let mut port = json!({"containerPort": it.number, "protocol": protocol(it.protocol)});
        if let Some(name) = &it.name {
            port["name"] = json!(name);
        }
        port
    });
    let mut spec = json!({"containers": [{"name": "-", "ports": ports.collect::<Vec<_>>()}]});
    if let Some(node) = &pod.node {
        spec["nodeName"] = json!(node.0);
    }
    if pod.host_network {
        spec["hostNetwork"] = json!(true);
    }
    let ips = pod.ips.iter().map(|ip| json!({"ip": ip}));
    let mut status = json!({"podIPs": ips.collect::<Vec<_>>()});
    if pod.completed {
        status["phase"] = json!("Succeeded");
    }
    let rest = json!({"spec": spec, "status": status});
    object("v1", "Pod", metadata, rest)
}

/// The annotations of secondary interfaces: what was asked for, and what came of it.
fn networks(interfaces: &[Interface]) -> Value {
    let asked = interfaces.iter().map(|it| {
        let network = &it.network;
        json!({"namespace": network.namespace, "name": network.name, "interface": it.name})
    });
    let asked = Value::Array(asked.collect());
    // The pod's own network first, so that nobody has to guess which it is.
    let mut told = vec![json!({"name": "-", "interface": "eth0", "default": true})];
    for it in interfaces {
        let network = it.reported.as_ref().unwrap_or(&it.network).to_string();
        told.push(json!({"name": network, "interface": it.name, "ips": it.ips}));
    }
    json!({
        "k8s.v1.cni.cncf.io/networks": asked.to_string(),
        "k8s.v1.cni.cncf.io/network-status": Value::Array(told).to_string(),
    })
}

pub(super) fn selector(selector: &LabelSelector) -> Value {
    let expressions = selector.match_expressions.iter().map(|it| {
        let (operator, values) = match &it.operator {
            Operator::In(values) => ("In", Some(values)),
            Operator::NotIn(values) => ("NotIn", Some(values)),
            Operator::Exists => ("Exists", None),
            Operator::DoesNotExist => ("DoesNotExist", None),
        };
        let mut expression = json!({"key": it.key, "operator": operator});
        if let Some(values) = values {
            expression["values"] = json!(values);
        }
        expression
    });
    let expressions: Vec<_> = expressions.collect();
    json!({"matchLabels": selector.match_labels, "matchExpressions": expressions})
}

pub(super) const fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
        Protocol::Icmp => "ICMP",
    }
}
