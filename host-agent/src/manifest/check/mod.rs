//! From fields to objects that hold what they promise.

mod addresses;
mod cluster_policy;
pub(crate) mod encryption;
mod mode;
mod networks;
mod policy;

use serde_saphyr::Spanned;
use sluice_offload_api::limits::{IPS_PER_ENDPOINT_MAX, NAME_LEN_MAX};
use sluice_offload_api::model::{PodRef, Protocol};

use super::error::{ManifestError, ManifestFault};
use super::kinds::Wire;
use super::read::{At, ManifestObject, Note, Object};
use super::wire;
use crate::cluster::{ContainerPort, MultiPolicy, Namespace, NamespacedName, Node, Pod, Service};

/// The annotation of a node with its dataplane's addresses for ESP.
const TUNNEL_IPS: &str = "sluice.dev/tunnel-ips";

/// An object from its fields; `None` if it is of a kind that is ignored.
pub(super) fn object(
    at: &At<'_>,
    wire: Wire,
    notes: &mut Vec<Note>,
) -> Result<Option<ManifestObject>, ManifestError> {
    let owner = match &wire {
        Wire::Pod(it) => owner(&it.metadata),
        _ => None,
    };
    let (object, spot, addresses) = match wire {
        Wire::Ignored => return Ok(None),
        Wire::Namespace(wire::Namespace { metadata }) => {
            let spot = at.spot(metadata.name.referenced);
            let name = name(at, metadata.name)?;
            let (what, annotations) = (format!("Namespace {name}"), metadata.annotations.as_ref());
            let namespace = Namespace {
                labels: metadata.labels.unwrap_or_default(),
                encryption: encryption::encryption(at, &what, annotations, notes),
            };
            (Object::Namespace(name, namespace), spot, Vec::new())
        }
        Wire::Node(it) => {
            let spot = at.spot(it.metadata.name.referenced);
            let (object, addresses) = node(at, it, notes)?;
            (object, spot, addresses)
        }
        Wire::Pod(it) => {
            let spot = at.spot(it.metadata.name.referenced);
            let (pod, addresses) = pod(at, it, notes)?;
            (Object::Pod(pod), spot, addresses)
        }
        Wire::Policy(it) => {
            let spot = at.spot(it.metadata.name.referenced);
            let name = namespaced(at, it.metadata.namespace, it.metadata.name)?;
            let mode = mode::mode(at, &it.metadata.annotations)?;
            let (policy, unused) = policy::policy(at, it.spec, mode)?;
            notes.extend(unused.map(|text| at.note(spot, format!("NetworkPolicy {name}: {text}"))));
            (Object::Policy(name, policy), spot, Vec::new())
        }
        Wire::ClusterPolicy(it) => {
            let spot = at.spot(it.metadata.name.referenced);
            let name = name(at, it.metadata.name)?;
            let mode = mode::mode(at, &it.metadata.annotations)?;
            let (policy, told) = cluster_policy::policy(at, it.spec, mode)?;
            let note = |text| at.note(spot, format!("ClusterNetworkPolicy {name}: {text}"));
            notes.extend(told.into_iter().map(note));
            (Object::ClusterPolicy(name, policy), spot, Vec::new())
        }
        Wire::MultiPolicy(it) => {
            let spot = at.spot(it.metadata.name.referenced);
            let name = namespaced(at, it.metadata.namespace, it.metadata.name)?;
            let annotations = it.metadata.annotations.as_ref();
            let networks = networks::policy_for(at, &name.namespace, annotations)?;
            let mode = mode::mode(at, &it.metadata.annotations)?;
            let (policy, unused) = policy::policy(at, it.spec, mode)?;
            let mut note = |text: &str| {
                notes.push(at.note(spot, format!("MultiNetworkPolicy {name}: {text}")))
            };
            if networks.is_empty() {
                note(
                    "it is for nobody: name networks in the annotation \
                     k8s.v1.cni.cncf.io/policy-for",
                );
            }
            unused.into_iter().for_each(note);
            (
                Object::MultiPolicy(name, MultiPolicy { networks, policy }),
                spot,
                Vec::new(),
            )
        }
        Wire::Service(it) => {
            let spot = at.spot(it.metadata.name.referenced);
            let name = namespaced(at, it.metadata.namespace, it.metadata.name)?;
            let texts = it.spec.map_or_else(Vec::new, |spec| {
                spec.cluster_ips
                    .unwrap_or_else(|| spec.cluster_ip.into_iter().collect())
            });
            let texts = texts
                .into_iter()
                .filter(|it| !matches!(it.value.as_str(), "None" | ""));
            let addresses = addresses::ips(at, texts)?;
            let vips = addresses.iter().map(|it| it.0).collect();
            (Object::Service(name, Service { vips }), spot, addresses)
        }
    };
    Ok(Some(ManifestObject {
        object,
        spot,
        addresses,
        owner,
        source: at.source.clone(),
    }))
}

/// The name of an object's controller, or else of its first owner.
fn owner(metadata: &wire::Metadata) -> Option<String> {
    let owners = metadata.owners.as_deref().unwrap_or_default();
    let controller = owners.iter().find(|it| it.controller == Some(true));
    let owner = controller.or(owners.first())?;
    owner.name.clone().filter(|it| !it.is_empty())
}

type Addresses = Vec<(core::net::IpAddr, crate::text::Spot)>;

fn node(
    at: &At<'_>,
    wire: wire::Node,
    notes: &mut Vec<Note>,
) -> Result<(Object, Addresses), ManifestError> {
    let spot = at.spot(wire.metadata.name.referenced);
    let internal = wire
        .status
        .and_then(|it| it.addresses)
        .unwrap_or_default()
        .into_iter();
    let internal = internal
        .filter(|it| it.kind == "InternalIP")
        .map(|it| it.address);
    let mut addresses = addresses::ips(at, internal)?;
    let ips = addresses.iter().map(|it| it.0).collect();
    let annotation = wire
        .metadata
        .annotations
        .and_then(|mut it| it.remove(TUNNEL_IPS))
        .flatten();
    let tunnel = addresses::tunnel_ips(at, annotation)?;
    let tunnel_ips = tunnel.iter().map(|it| it.0).collect();
    addresses.extend(tunnel);
    let labels = wire.metadata.labels.unwrap_or_default();
    let name = name(at, wire.metadata.name)?;
    let (pod_cidrs, told) = addresses::pod_cidrs(wire.spec);
    let note = |text| at.note(spot, format!("Node {name}: {text}"));
    notes.extend(told.into_iter().map(note));
    Ok((
        Object::Node(
            name.as_str().into(),
            Node {
                labels,
                ips,
                tunnel_ips,
                pod_cidrs,
            },
        ),
        addresses,
    ))
}

fn pod(
    at: &At<'_>,
    wire: wire::Pod,
    notes: &mut Vec<Note>,
) -> Result<(Pod, Addresses), ManifestError> {
    let spot = at.spot(wire.metadata.name.referenced);
    let NamespacedName { namespace, name } =
        namespaced(at, wire.metadata.namespace, wire.metadata.name)?;
    let (spec, status) = (
        wire.spec.unwrap_or_default(),
        wire.status.unwrap_or_default(),
    );
    let mut pod = Pod::new(&namespace, &name);
    pod.pod = PodRef { namespace, name };
    if let Some(uid) = wire.metadata.uid.filter(|it| !it.is_empty()) {
        pod.uid = uid.as_str().into();
    }
    pod.labels = wire.metadata.labels.unwrap_or_default();
    pod.node = spec
        .node_name
        .filter(|it| !it.is_empty())
        .map(|it| it.as_str().into());
    pod.host_network = spec.host_network.unwrap_or(false);
    pod.completed = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    // An init container that is restarted is a sidecar: it runs and listens beside the rest.
    let is_sidecar = |it: &wire::Container| it.restart_policy.as_deref() == Some("Always");
    let inits = spec.init_containers.unwrap_or_default().into_iter();
    let containers = spec.containers.unwrap_or_default().into_iter();
    let ports = containers.chain(inits.filter(is_sidecar));
    for port in ports.flat_map(|it| it.ports.unwrap_or_default()) {
        pod.ports.push(container_port(at, port)?);
    }
    let several = status.pod_ips.unwrap_or_default();
    let mut texts: Vec<_> = several.into_iter().map(|it| it.ip).collect();
    if texts.is_empty() {
        texts.extend(status.pod_ip);
    }
    if texts.is_empty() && pod.host_network {
        texts.extend(status.host_ip);
    }
    let mut addresses = addresses::ips(at, texts.into_iter().filter(|it| !it.value.is_empty()))?;
    pod.ips = addresses.iter().map(|it| it.0).collect();
    let (count, max) = (pod.ips.len(), IPS_PER_ENDPOINT_MAX);
    if count > max {
        return Err(at.fault(spot, ManifestFault::TooManyIps { count, max }));
    }
    let annotations = wire.metadata.annotations.as_ref();
    let what = format!("Pod {}", pod.pod);
    pod.encryption = encryption::encryption(at, &what, annotations, notes);
    // A pod in its node's network gets none, whatever it asks for.
    if !pod.host_network {
        let (interfaces, more) =
            networks::interfaces(at, &pod.pod.namespace, &pod.ips, annotations)?;
        pod.interfaces = interfaces;
        addresses.extend(more);
    }
    Ok((pod, addresses))
}

fn container_port(at: &At<'_>, wire: wire::ContainerPort) -> Result<ContainerPort, ManifestError> {
    let port = &wire.container_port;
    let number = match &port.value {
        wire::NumberOrName::Number(text) | wire::NumberOrName::Name(text) => {
            number(at, port, text)?
        }
    };
    let protocol = protocol(at, wire.protocol)?;
    Ok(ContainerPort {
        name: wire.name.filter(|it| !it.is_empty()),
        protocol,
        number,
    })
}

/// A port number.
fn number<T>(at: &At<'_>, value: &Spanned<T>, text: &str) -> Result<u16, ManifestError> {
    let fault = || ManifestFault::PortRange {
        port: text.to_owned(),
    };
    let number = text.parse().ok().filter(|it| *it > 0);
    number.ok_or_else(|| at.fault(at.spot(value.referenced), fault()))
}

/// A protocol that policies name; TCP if none is given.
fn protocol(at: &At<'_>, text: Option<Spanned<String>>) -> Result<Protocol, ManifestError> {
    let Some(text) = text else {
        return Ok(Protocol::Tcp);
    };
    match text.value.as_str() {
        "TCP" => Ok(Protocol::Tcp),
        "UDP" => Ok(Protocol::Udp),
        "SCTP" => Ok(Protocol::Sctp),
        _ => Err(at.fault(
            at.spot(text.referenced),
            ManifestFault::Protocol { text: text.value },
        )),
    }
}

fn namespaced(
    at: &At<'_>,
    namespace: Option<Spanned<String>>,
    own: Spanned<String>,
) -> Result<NamespacedName, ManifestError> {
    let namespace = match namespace.filter(|it| !it.value.is_empty()) {
        Some(namespace) => name(at, namespace)?,
        None => "default".to_owned(),
    };
    Ok(NamespacedName {
        namespace,
        name: name(at, own)?,
    })
}

fn name(at: &At<'_>, name: Spanned<String>) -> Result<String, ManifestError> {
    if is_name(&name.value) {
        return Ok(name.value);
    }
    Err(at.fault(
        at.spot(name.referenced),
        ManifestFault::Name { name: name.value },
    ))
}

/// Whether Kubernetes could have the name.
fn is_name(name: &str) -> bool {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || it == '-' || it == '.';
    (1..=NAME_LEN_MAX).contains(&name.len()) && name.chars().all(is_plain)
}
