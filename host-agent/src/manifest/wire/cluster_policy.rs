//! ClusterNetworkPolicy's fields. Peers and protocols keep the names of fields that aren't
//! known: their rule fails closed, while any other unknown field is an error.

use core::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_saphyr::Spanned;

use super::{NumberOrName, PolicyMetadata, Selector};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::manifest) struct ClusterNetworkPolicy {
    #[serde(rename = "apiVersion")]
    _api_version: Option<IgnoredAny>,
    #[serde(rename = "kind")]
    _kind: Option<IgnoredAny>,
    pub(in crate::manifest) metadata: PolicyMetadata,
    pub(in crate::manifest) spec: Spec,
    #[serde(rename = "status")]
    _status: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::manifest) struct Spec {
    pub(in crate::manifest) tier: Spanned<String>,
    pub(in crate::manifest) priority: Spanned<i64>,
    pub(in crate::manifest) subject: Spanned<Subject>,
    pub(in crate::manifest) ingress: Option<Spanned<Vec<IngressRule>>>,
    pub(in crate::manifest) egress: Option<Spanned<Vec<EgressRule>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::manifest) struct Subject {
    pub(in crate::manifest) namespaces: Option<Selector>,
    pub(in crate::manifest) pods: Option<NamespacedPod>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::manifest) struct NamespacedPod {
    pub(in crate::manifest) namespace_selector: Option<Selector>,
    pub(in crate::manifest) pod_selector: Selector,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::manifest) struct IngressRule {
    name: Option<Spanned<String>>,
    action: Spanned<String>,
    from: Spanned<Vec<Spanned<Peer>>>,
    protocols: Option<Spanned<Vec<Spanned<Protocol>>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::manifest) struct EgressRule {
    name: Option<Spanned<String>>,
    action: Spanned<String>,
    to: Spanned<Vec<Spanned<Peer>>>,
    protocols: Option<Spanned<Vec<Spanned<Protocol>>>>,
}

/// A rule of either direction.
pub(in crate::manifest) struct Rule {
    pub(in crate::manifest) name: Option<Spanned<String>>,
    pub(in crate::manifest) action: Spanned<String>,
    pub(in crate::manifest) peers: Spanned<Vec<Spanned<Peer>>>,
    pub(in crate::manifest) protocols: Option<Spanned<Vec<Spanned<Protocol>>>>,
}

impl From<IngressRule> for Rule {
    fn from(rule: IngressRule) -> Self {
        let (name, action, peers, protocols) = (rule.name, rule.action, rule.from, rule.protocols);
        Self {
            name,
            action,
            peers,
            protocols,
        }
    }
}

impl From<EgressRule> for Rule {
    fn from(rule: EgressRule) -> Self {
        let (name, action, peers, protocols) = (rule.name, rule.action, rule.to, rule.protocols);
        Self {
            name,
            action,
            peers,
            protocols,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::manifest) struct Ports {
    pub(in crate::manifest) destination_port: Option<Port>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::manifest) struct Port {
    pub(in crate::manifest) number: Option<Spanned<NumberOrName>>,
    pub(in crate::manifest) range: Option<Range>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::manifest) struct Range {
    pub(in crate::manifest) start: Spanned<NumberOrName>,
    pub(in crate::manifest) end: Spanned<NumberOrName>,
}

/// A peer; of `from` and `to` alike.
#[derive(Default)]
pub(in crate::manifest) struct Peer {
    pub(in crate::manifest) namespaces: Option<Selector>,
    pub(in crate::manifest) pods: Option<NamespacedPod>,
    pub(in crate::manifest) nodes: Option<Selector>,
    pub(in crate::manifest) networks: Option<Spanned<Vec<Spanned<String>>>>,
    pub(in crate::manifest) domain_names: Option<Spanned<Vec<Spanned<String>>>>,
    /// The names of other fields.
    pub(in crate::manifest) unknown: Vec<String>,
}

/// What a rule says of protocols and ports.
#[derive(Default)]
pub(in crate::manifest) struct Protocol {
    pub(in crate::manifest) tcp: Option<Ports>,
    pub(in crate::manifest) udp: Option<Ports>,
    pub(in crate::manifest) sctp: Option<Ports>,
    pub(in crate::manifest) named: Option<Spanned<String>>,
    /// The names of other fields.
    pub(in crate::manifest) unknown: Vec<String>,
}

impl<'de> Deserialize<'de> for Peer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Peer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a peer")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Peer, A::Error> {
                let mut peer = Peer::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "namespaces" => peer.namespaces = map.next_value()?,
                        "pods" => peer.pods = map.next_value()?,
                        "nodes" => peer.nodes = map.next_value()?,
                        "networks" => peer.networks = map.next_value()?,
                        "domainNames" => peer.domain_names = map.next_value()?,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            peer.unknown.push(key);
                        }
                    }
                }
                Ok(peer)
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Protocol;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a protocol")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Protocol, A::Error> {
                let mut protocol = Protocol::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "tcp" => protocol.tcp = map.next_value()?,
                        "udp" => protocol.udp = map.next_value()?,
                        "sctp" => protocol.sctp = map.next_value()?,
                        "destinationNamedPort" => protocol.named = map.next_value()?,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            protocol.unknown.push(key);
                        }
                    }
                }
                Ok(protocol)
            }
        }

        deserializer.deserialize_map(Fields)
    }
}
