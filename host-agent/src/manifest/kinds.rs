//! What a document's objects say they are, and how to read each.

use core::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::error::{ManifestError, ManifestFault};
use super::read::At;
use super::wire;
use crate::text::Spot;

/// An object as it is read.
pub(super) enum Wire {
    Namespace(wire::Namespace),
    Node(wire::Node),
    Pod(wire::Pod),
    Policy(wire::NetworkPolicy),
    ClusterPolicy(Box<wire::cluster_policy::ClusterNetworkPolicy>),
    MultiPolicy(wire::NetworkPolicy),
    Service(wire::Service),
    Ignored,
}

/// How to read an object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    Namespace,
    Node,
    Pod,
    Policy,
    ClusterPolicy,
    MultiPolicy,
    Service,
    Ignore,
}

const NETWORK_POLICY: &str = "networking.k8s.io/v1";
const CLUSTER_NETWORK_POLICY: &str = "policy.networking.k8s.io/v1alpha2";

/// Both versions have the same fields.
const MULTI_NETWORK_POLICY: &str = "k8s.cni.cncf.io/v1beta1";
const MULTI_NETWORK_POLICY_NEXT: &str = "k8s.cni.cncf.io/v1beta2";

/// What an object says it is.
pub(super) struct Kind {
    pub(super) reader: Reader,
    pub(super) spot: Spot,
    kind: String,
    name: String,
}

impl Kind {
    pub(super) fn ignored(&self) -> String {
        let Self { kind, name, .. } = self;
        if kind.ends_with("NetworkPolicy") {
            format!("{kind} {name} is ignored: none of its rules is enforced")
        } else {
            format!("{kind} {name} is ignored")
        }
    }
}

/// What a document holds.
pub(super) enum Kinds {
    One(Kind),
    List(Vec<Kind>),
}

impl Kinds {
    pub(super) fn all(&self) -> &[Kind] {
        match self {
            Self::One(kind) => core::slice::from_ref(kind),
            Self::List(kinds) => kinds,
        }
    }
}

/// The kind of a document's object, or of each of its items if it is a list.
pub(super) fn kinds(at: &At<'_>) -> Result<Kinds, ManifestError> {
    let header: wire::Header =
        serde_saphyr::from_str(at.text()).map_err(|error| at.yaml(&error))?;
    let item = match header.kind.as_ref().map(|it| it.value.as_str()) {
        Some("List") => "",
        Some("NamespaceList") => "Namespace",
        Some("NodeList") => "Node",
        Some("PodList") => "Pod",
        Some("ServiceList") => "Service",
        Some("NetworkPolicyList") => "NetworkPolicy",
        Some("ClusterNetworkPolicyList") => "ClusterNetworkPolicy",
        Some("MultiNetworkPolicyList") => "MultiNetworkPolicy",
        _ => return Ok(Kinds::One(kind(at, header, None)?)),
    };
    let version = header.api_version;
    let list: wire::ListHeader =
        serde_saphyr::from_str(at.text()).map_err(|error| at.yaml(&error))?;
    let items = list.items.unwrap_or_default().into_iter();
    let default = (item, version.as_ref());
    Ok(Kinds::List(
        items
            .map(|it| kind(at, it, Some(default)))
            .collect::<Result<_, _>>()?,
    ))
}

/// An object's kind; an item of a `PodList` may leave out what its list says.
fn kind(
    at: &At<'_>,
    header: wire::Header,
    list: Option<(&str, Option<&Spanned<String>>)>,
) -> Result<Kind, ManifestError> {
    let wire::Header {
        mut api_version,
        kind,
        metadata,
    } = header;
    let (default, version) = list.unwrap_or_default();
    if kind.is_none() && !default.is_empty() {
        api_version = api_version.or_else(|| version.cloned());
    }
    let spot = at.spot(kind.as_ref().map_or(Location::UNKNOWN, |it| it.referenced));
    let kind = kind.map_or_else(|| default.to_owned(), |it| it.value);
    if kind.is_empty() || kind == "List" {
        let message = if kind.is_empty() {
            "there is no kind; a manifest has apiVersion and kind"
        } else {
            "a List is in a List; put its items into the outer one"
        };
        return Err(at.fault(
            spot,
            ManifestFault::Yaml {
                message: message.to_owned(),
            },
        ));
    }
    let version = api_version.as_ref().map_or("", |it| it.value.as_str());
    let reader = match (kind.as_str(), version) {
        ("Namespace", _) => Reader::Namespace,
        ("Node", "v1" | "") => Reader::Node,
        ("Pod", "v1" | "") => Reader::Pod,
        ("Service", "v1" | "") => Reader::Service,
        ("NetworkPolicy", NETWORK_POLICY) => Reader::Policy,
        ("ClusterNetworkPolicy", CLUSTER_NETWORK_POLICY) => Reader::ClusterPolicy,
        ("MultiNetworkPolicy", MULTI_NETWORK_POLICY | MULTI_NETWORK_POLICY_NEXT) => {
            Reader::MultiPolicy
        }
        // Kubernetes' own, of a time before these versions or after them, or misspelt.
        ("NetworkPolicy" | "ClusterNetworkPolicy" | "MultiNetworkPolicy", other)
            if is_kubernetes(other) =>
        {
            let spot = api_version
                .as_ref()
                .map_or(spot, |it| at.spot(it.referenced));
            let read = match kind.as_str() {
                "NetworkPolicy" => NETWORK_POLICY,
                "MultiNetworkPolicy" => MULTI_NETWORK_POLICY,
                _ => CLUSTER_NETWORK_POLICY,
            };
            let got = other.to_owned();
            return Err(at.fault(spot, ManifestFault::ApiVersion { kind, got, read }));
        }
        (_, version) if is_unknown(&kind, version) => {
            let version = version.to_owned();
            return Err(at.fault(spot, ManifestFault::Kind { kind, version }));
        }
        _ => Reader::Ignore,
    };
    let name = match metadata {
        Some(wire::HeaderMetadata {
            namespace: Some(ns),
            name: Some(name),
        }) => format!("{ns}/{name}"),
        Some(wire::HeaderMetadata {
            namespace: None,
            name: Some(name),
        }) => name,
        _ => "without a name".to_owned(),
    };
    Ok(Kind {
        reader,
        spot,
        kind,
        name,
    })
}

/// Whether a policy of this group is Kubernetes' own; Calico and Antrea have kinds of the
/// same names.
fn is_kubernetes(version: &str) -> bool {
    let group = version.split('/').next().unwrap_or_default();
    group.is_empty()
        || group == "extensions"
        || group == "k8s.cni.cncf.io"
        || group.ends_with("k8s.io")
}

/// Whether a kind is of a group that has policies and isn't one that the group has: it may
/// be a policy, misspelt.
fn is_unknown(kind: &str, version: &str) -> bool {
    let known: &[&str] = match version.split('/').next() {
        Some("networking.k8s.io") => &[
            "NetworkPolicy",
            "Ingress",
            "IngressList",
            "IngressClass",
            "IngressClassList",
            "IPAddress",
            "IPAddressList",
            "ServiceCIDR",
            "ServiceCIDRList",
        ],
        Some("policy.networking.k8s.io") => &[
            "ClusterNetworkPolicy",
            "AdminNetworkPolicy",
            "AdminNetworkPolicyList",
            "BaselineAdminNetworkPolicy",
            "BaselineAdminNetworkPolicyList",
        ],
        Some("k8s.cni.cncf.io") => &[
            "MultiNetworkPolicy",
            "NetworkAttachmentDefinition",
            "NetworkAttachmentDefinitionList",
            "IPAMClaim",
            "IPAMClaimList",
        ],
        _ => return false,
    };
    !known.contains(&kind)
}

impl<'de> DeserializeSeed<'de> for Reader {
    type Value = Wire;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Wire, D::Error> {
        match self {
            Self::Namespace => Deserialize::deserialize(deserializer).map(Wire::Namespace),
            Self::Node => Deserialize::deserialize(deserializer).map(Wire::Node),
            Self::Pod => Deserialize::deserialize(deserializer).map(Wire::Pod),
            Self::Policy => Deserialize::deserialize(deserializer).map(Wire::Policy),
            Self::ClusterPolicy => Deserialize::deserialize(deserializer).map(Wire::ClusterPolicy),
            Self::MultiPolicy => Deserialize::deserialize(deserializer).map(Wire::MultiPolicy),
            Self::Service => Deserialize::deserialize(deserializer).map(Wire::Service),
            Self::Ignore => IgnoredAny::deserialize(deserializer).map(|_| Wire::Ignored),
        }
    }
}

/// A list, whose items are of these kinds.
pub(super) struct List<'a>(pub(super) &'a [Kind]);

impl<'de> Visitor<'de> for List<'_> {
    type Value = Vec<Wire>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a List")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Wire>, A::Error> {
        let mut items = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" && !self.0.is_empty() {
                items = map.next_value_seed(Items(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(items)
    }
}

struct Items<'a>(&'a [Kind]);

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = Vec<Wire>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Wire>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = Vec<Wire>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the items of a List")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Wire>, A::Error> {
        let mut items = Vec::new();
        // The first reading found as many items as there are kinds.
        for kind in self.0 {
            items.extend(seq.next_element_seed(kind.reader)?);
        }
        seq.next_element::<IgnoredAny>()?;
        Ok(items)
    }
}
