//! The fields that are read, as Kubernetes has them. Values that can be wrong keep their
//! place; what may be null may also be left out, as for the API server.

pub(in crate::manifest) mod cluster_policy;

use core::fmt;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, Visitor};
use serde_saphyr::Spanned;

use crate::cluster::Labels;

/// Of any object: enough to know how to read it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::manifest) struct Header {
    pub(in crate::manifest) api_version: Option<Spanned<String>>,
    pub(in crate::manifest) kind: Option<Spanned<String>>,
    pub(in crate::manifest) metadata: Option<HeaderMetadata>,
}

#[derive(Deserialize)]
pub(in crate::manifest) struct HeaderMetadata {
    pub(in crate::manifest) name: Option<String>,
    pub(in crate::manifest) namespace: Option<String>,
}

/// Of a list: what its items are.
#[derive(Deserialize)]
pub(in crate::manifest) struct ListHeader {
    pub(in crate::manifest) items: Option<Vec<Header>>,
}

#[derive(Deserialize)]
pub(in crate::manifest) struct Metadata {
    pub(in crate::manifest) name: Spanned<String>,
    pub(in crate::manifest) namespace: Option<Spanned<String>>,
    pub(in crate::manifest) uid: Option<String>,
    pub(in crate::manifest) labels: Option<Labels>,
    pub(in crate::manifest) annotations: Option<Annotations>,
    #[serde(rename = "ownerReferences")]
    pub(in crate::manifest) owners: Option<Vec<OwnerReference>>,
}

#[derive(Deserialize)]
pub(in crate::manifest) struct OwnerReference {
    pub(in crate::manifest) name: Option<String>,
    pub(in crate::manifest) controller: Option<bool>,
}

#[derive(Deserialize)]
pub(in crate::manifest) struct Namespace {
    pub(in crate::manifest) metadata: Metadata,
}

#[derive(Deserialize)]
pub(in crate::manifest) struct Node {
    pub(in crate::manifest) metadata: Metadata,
    pub(in crate::manifest) spec: Option<NodeSpec>,
    pub(in crate::manifest) status: Option<NodeStatus>,
}

#[derive(Deserialize)]
pub(in crate::manifest) struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pub(in crate::manifest) pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pub(in crate::manifest) pod_cidrs: Option<Vec<String>>,
}

#[derive(Deserialize)]
pub(in crate::manifest) struct NodeStatus {
    pub(in crate::manifest) addresses: Option<Vec<NodeAddress>>,
}

#[derive(Deserialize)]
pub(in crate::manifest) struct NodeAddress {
    #[serde(rename = "type")]
    pub(in crate::manifest) kind: String,
    pub(in crate::manifest) address: Spanned<String>,
}

#[derive(Deserialize)]
pub(in crate::manifest) struct Pod {
    pub(in crate::manifest) metadata: Metadata,
    pub(in crate::manifest) spec: Option<PodSpec>,
    pub(in crate::manifest) status: Option<PodStatus>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(in crate::manifest) struct PodSpec {
    pub(in crate::manifest) node_name: Option<String>,
    pub(in crate::manifest) host_network: Option<bool>,
    pub(in crate::manifest) containers: Option<Vec<Container>>,
    pub(in crate::manifest) init_containers: Option<Vec<Container>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::manifest) struct Container {
    pub(in crate::manifest) restart_policy: Option<String>,
    pub(in crate::manifest) ports: Option<Vec<ContainerPort>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::manifest) struct ContainerPort {
    pub(in crate::manifest) name: Option<String>,
    pub(in crate::manifest) container_port: Spanned<NumberOrName>,
    pub(in crate::manifest) protocol: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
pub(in crate::manifest) struct PodStatus {
    #[serde(rename = "podIPs")]
    pub(in crate::manifest) pod_ips: Option<Vec<PodIp>>,
    #[serde(rename = "podIP")]
    pub(in crate::manifest) pod_ip: Option<Spanned<String>>,
    #[serde(rename = "hostIP")]
    pub(in crate::manifest) host_ip: Option<Spanned<String>>,
    pub(in crate::manifest) phase: Option<String>,
}

#[derive(Deserialize)]
pub(in crate::manifest) struct PodIp {
    pub(in crate::manifest) ip: Spanned<String>,
}

#[derive(Deserialize)]
pub(in crate::manifest) struct Service {
    pub(in crate::manifest) metadata: Metadata,
    pub(in crate::manifest) spec: Option<ServiceSpec>,
}

#[derive(Deserialize)]
pub(in crate::manifest) struct ServiceSpec {
    #[serde(rename = "clusterIPs")]
    pub(in crate::manifest) cluster_ips: Option<Vec<Spanned<String>>>,
    #[serde(rename = "clusterIP")]
    pub(in crate::manifest) cluster_ip: Option<Spanned<String>>,
}

/// From here on an unknown field is an error: it may be a rule, misspelt.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::manifest) struct NetworkPolicy {
    #[serde(rename = "apiVersion")]
    _api_version: Option<IgnoredAny>,
    #[serde(rename = "kind")]
    _kind: Option<IgnoredAny>,
    pub(in crate::manifest) metadata: PolicyMetadata,
    pub(in crate::manifest) spec: PolicySpec,
    #[serde(rename = "status")]
    _status: Option<IgnoredAny>,
}

/// Annotations by their names.
pub(in crate::manifest) type Annotations = BTreeMap<String, Option<Spanned<String>>>;

/// A policy's metadata: all that `metav1.ObjectMeta` has, since a misspelt `namespace` is
/// another namespace.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::manifest) struct PolicyMetadata {
    pub(in crate::manifest) name: Spanned<String>,
    pub(in crate::manifest) namespace: Option<Spanned<String>>,
    #[serde(rename = "uid")]
    _uid: Option<IgnoredAny>,
    #[serde(rename = "labels")]
    _labels: Option<IgnoredAny>,
    pub(in crate::manifest) annotations: Option<Annotations>,
    #[serde(rename = "generateName")]
    _generate_name: Option<IgnoredAny>,
    #[serde(rename = "selfLink")]
    _self_link: Option<IgnoredAny>,
    #[serde(rename = "resourceVersion")]
    _resource_version: Option<IgnoredAny>,
    #[serde(rename = "generation")]
    _generation: Option<IgnoredAny>,
    #[serde(rename = "creationTimestamp")]
    _creation_timestamp: Option<IgnoredAny>,
    #[serde(rename = "deletionTimestamp")]
    _deletion_timestamp: Option<IgnoredAny>,
    #[serde(rename = "deletionGracePeriodSeconds")]
    _deletion_grace_period_seconds: Option<IgnoredAny>,
    #[serde(rename = "ownerReferences")]
    _owner_references: Option<IgnoredAny>,
    #[serde(rename = "finalizers")]
    _finalizers: Option<IgnoredAny>,
    #[serde(rename = "managedFields")]
    _managed_fields: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::manifest) struct PolicySpec {
    pub(in crate::manifest) pod_selector: Option<Selector>,
    pub(in crate::manifest) policy_types: Option<Vec<Spanned<String>>>,
    pub(in crate::manifest) ingress: Option<Vec<IngressRule>>,
    pub(in crate::manifest) egress: Option<Vec<EgressRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::manifest) struct IngressRule {
    pub(in crate::manifest) from: Option<Vec<Spanned<Peer>>>,
    pub(in crate::manifest) ports: Option<Vec<Port>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::manifest) struct EgressRule {
    pub(in crate::manifest) to: Option<Vec<Spanned<Peer>>>,
    pub(in crate::manifest) ports: Option<Vec<Port>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::manifest) struct Peer {
    pub(in crate::manifest) pod_selector: Option<Selector>,
    pub(in crate::manifest) namespace_selector: Option<Selector>,
    pub(in crate::manifest) ip_block: Option<IpBlock>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::manifest) struct IpBlock {
    pub(in crate::manifest) cidr: Spanned<String>,
    pub(in crate::manifest) except: Option<Vec<Spanned<String>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::manifest) struct Port {
    pub(in crate::manifest) protocol: Option<Spanned<String>>,
    pub(in crate::manifest) port: Option<Spanned<NumberOrName>>,
    pub(in crate::manifest) end_port: Option<Spanned<NumberOrName>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::manifest) struct Selector {
    pub(in crate::manifest) match_labels: Option<Labels>,
    pub(in crate::manifest) match_expressions: Option<Vec<Requirement>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::manifest) struct Requirement {
    pub(in crate::manifest) key: String,
    pub(in crate::manifest) operator: Spanned<String>,
    pub(in crate::manifest) values: Option<Vec<String>>,
}

/// Kubernetes' IntOrString. A quoted number is a name, as it is for the API server.
#[derive(Debug)]
pub(in crate::manifest) enum NumberOrName {
    /// A number as it is written, in range or not.
    Number(String),
    /// A name.
    Name(String),
}

impl<'de> Deserialize<'de> for NumberOrName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = NumberOrName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port number or name")
            }

            fn visit_u64<E>(self, number: u64) -> Result<NumberOrName, E> {
                Ok(NumberOrName::Number(number.to_string()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<NumberOrName, E> {
                Ok(NumberOrName::Number(number.to_string()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<NumberOrName, E> {
                Ok(NumberOrName::Number(number.to_string()))
            }

            fn visit_str<E>(self, name: &str) -> Result<NumberOrName, E> {
                Ok(NumberOrName::Name(name.to_owned()))
            }
        }

        deserializer.deserialize_any(Either)
    }
}
