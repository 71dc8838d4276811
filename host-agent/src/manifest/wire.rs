//! The fields that are read, as Kubernetes has them. Values that can be wrong keep their
//! place; what may be null may also be left out, as for the API server.

use core::fmt;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, Visitor};
use serde_saphyr::Spanned;

use crate::cluster::Labels;

/// Of any object: enough to know how to read it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Header {
    pub(super) api_version: Option<Spanned<String>>,
    pub(super) kind: Option<Spanned<String>>,
    pub(super) metadata: Option<HeaderMetadata>,
}

#[derive(Deserialize)]
pub(super) struct HeaderMetadata {
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
}

/// Of a list: what its items are.
#[derive(Deserialize)]
pub(super) struct ListHeader {
    pub(super) items: Option<Vec<Header>>,
}

#[derive(Deserialize)]
pub(super) struct Metadata {
    pub(super) name: Spanned<String>,
    pub(super) namespace: Option<Spanned<String>>,
    pub(super) uid: Option<String>,
    pub(super) labels: Option<Labels>,
    pub(super) annotations: Option<BTreeMap<String, Option<Spanned<String>>>>,
}

#[derive(Deserialize)]
pub(super) struct Namespace {
    pub(super) metadata: Metadata,
}

#[derive(Deserialize)]
pub(super) struct Node {
    pub(super) metadata: Metadata,
    pub(super) status: Option<NodeStatus>,
}

#[derive(Deserialize)]
pub(super) struct NodeStatus {
    pub(super) addresses: Option<Vec<NodeAddress>>,
}

#[derive(Deserialize)]
pub(super) struct NodeAddress {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) address: Spanned<String>,
}

#[derive(Deserialize)]
pub(super) struct Pod {
    pub(super) metadata: Metadata,
    pub(super) spec: Option<PodSpec>,
    pub(super) status: Option<PodStatus>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodSpec {
    pub(super) node_name: Option<String>,
    pub(super) host_network: Option<bool>,
    pub(super) containers: Option<Vec<Container>>,
}

#[derive(Deserialize)]
pub(super) struct Container {
    pub(super) ports: Option<Vec<ContainerPort>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContainerPort {
    pub(super) name: Option<String>,
    pub(super) container_port: Spanned<NumberOrName>,
    pub(super) protocol: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
pub(super) struct PodStatus {
    #[serde(rename = "podIPs")]
    pub(super) pod_ips: Option<Vec<PodIp>>,
    #[serde(rename = "podIP")]
    pub(super) pod_ip: Option<Spanned<String>>,
    #[serde(rename = "hostIP")]
    pub(super) host_ip: Option<Spanned<String>>,
    pub(super) phase: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct PodIp {
    pub(super) ip: Spanned<String>,
}

#[derive(Deserialize)]
pub(super) struct Service {
    pub(super) metadata: Metadata,
    pub(super) spec: Option<ServiceSpec>,
}

#[derive(Deserialize)]
pub(super) struct ServiceSpec {
    #[serde(rename = "clusterIPs")]
    pub(super) cluster_ips: Option<Vec<Spanned<String>>>,
    #[serde(rename = "clusterIP")]
    pub(super) cluster_ip: Option<Spanned<String>>,
}

/// From here on an unknown field is an error: it may be a rule, misspelt.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NetworkPolicy {
    #[serde(rename = "apiVersion")]
    _api_version: Option<IgnoredAny>,
    #[serde(rename = "kind")]
    _kind: Option<IgnoredAny>,
    pub(super) metadata: Metadata,
    pub(super) spec: PolicySpec,
    #[serde(rename = "status")]
    _status: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PolicySpec {
    pub(super) pod_selector: Option<Selector>,
    pub(super) policy_types: Option<Vec<Spanned<String>>>,
    pub(super) ingress: Option<Vec<IngressRule>>,
    pub(super) egress: Option<Vec<EgressRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IngressRule {
    pub(super) from: Option<Vec<Spanned<Peer>>>,
    pub(super) ports: Option<Vec<Port>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EgressRule {
    pub(super) to: Option<Vec<Spanned<Peer>>>,
    pub(super) ports: Option<Vec<Port>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Peer {
    pub(super) pod_selector: Option<Selector>,
    pub(super) namespace_selector: Option<Selector>,
    pub(super) ip_block: Option<IpBlock>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IpBlock {
    pub(super) cidr: Spanned<String>,
    pub(super) except: Option<Vec<Spanned<String>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Port {
    pub(super) protocol: Option<Spanned<String>>,
    pub(super) port: Option<Spanned<NumberOrName>>,
    pub(super) end_port: Option<Spanned<NumberOrName>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Selector {
    pub(super) match_labels: Option<Labels>,
    pub(super) match_expressions: Option<Vec<Requirement>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Requirement {
    pub(super) key: String,
    pub(super) operator: Spanned<String>,
    pub(super) values: Option<Vec<String>>,
}

/// Kubernetes' IntOrString. A quoted number is a name, as it is for the API server.
#[derive(Debug)]
pub(super) enum NumberOrName {
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
