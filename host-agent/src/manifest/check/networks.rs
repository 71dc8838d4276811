//! A pod's secondary interfaces, by the annotations of the network plumbing working group's
//! multi-network specification (version 1.3).

use core::net::IpAddr;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde_saphyr::Spanned;
use sluice_offload_api::limits::IPS_PER_ENDPOINT_MAX;

use super::{Addresses, addresses, is_name};
use crate::cluster::{Interface, NamespacedName, PRIMARY_INTERFACE};
use crate::manifest::error::{ManifestError, ManifestFault};
use crate::manifest::read::At;
use crate::manifest::wire::Annotations;
use crate::text::Spot;

/// The networks that a pod asks for.
const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// What the runtime made of it.
const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";
/// The networks that a MultiNetworkPolicy is for.
const POLICY_FOR: &str = "k8s.v1.cni.cncf.io/policy-for";

/// Secondary interfaces of a pod, at most.
const INTERFACES_MAX: usize = 32;
/// Bytes of an interface's name, at most: Linux's `IFNAMSIZ` less the zero.
const IFNAME_LEN_MAX: usize = 15;

/// An annotation's text and where it is.
type Annotation<'a> = Option<&'a Spanned<String>>;

fn annotation<'a>(annotations: Option<&'a Annotations>, name: &str) -> Annotation<'a> {
    annotations?.get(name)?.as_ref()
}

/// The networks of a MultiNetworkPolicy; none without the annotation.
pub(super) fn policy_for(
    at: &At<'_>,
    namespace: &str,
    annotations: Option<&Annotations>,
) -> Result<BTreeSet<NamespacedName>, ManifestError> {
    let Some(text) = annotation(annotations, POLICY_FOR) else {
        return Ok(BTreeSet::new());
    };
    let spot = at.spot(text.referenced);
    if text.value.trim().is_empty() {
        return Ok(BTreeSet::new());
    }
    let names = text.value.split(',');
    names
        .map(|it| network(at, spot, namespace, it.trim()))
        .collect()
}

/// A pod's secondary interfaces, with the addresses that the runtime reports, and where
/// those are.
///
/// The names follow from what was asked for, as the runtime gives them. Where the status says
/// otherwise, neither is believed: a person can have written it before the runtime did.
/// `primary` are the pod's own addresses.
pub(super) fn interfaces(
    at: &At<'_>,
    namespace: &str,
    primary: &[IpAddr],
    annotations: Option<&Annotations>,
) -> Result<(Vec<Interface>, Addresses), ManifestError> {
    let (mut interfaces, mut found) = (Vec::new(), Addresses::new());
    if let Some(text) = annotation(annotations, NETWORKS) {
        asked(at, namespace, text, &mut interfaces)?;
    }
    if let Some(text) = annotation(annotations, STATUS) {
        reported(at, namespace, primary, text, &mut interfaces)?;
        let spot = at.spot(text.referenced);
        let ips = interfaces.iter().flat_map(|it| &it.ips);
        found.extend(ips.map(|ip| (*ip, spot)));
    }
    let spot = annotation(annotations, STATUS).or(annotation(annotations, NETWORKS));
    let spot = spot.map(|it| at.spot(it.referenced));
    if let Some(spot) = spot {
        bounds(at, spot, primary, &interfaces)?;
    }
    Ok((interfaces, found))
}

/// What the whole must hold.
fn bounds(
    at: &At<'_>,
    spot: Spot,
    primary: &[IpAddr],
    interfaces: &[Interface],
) -> Result<(), ManifestError> {
    at_most(at, spot, interfaces.len(), INTERFACES_MAX)?;
    let mut seen: Vec<(&str, IpAddr)> = primary.iter().map(|ip| ("primary", *ip)).collect();
    for it in interfaces {
        let (count, max) = (it.ips.len(), IPS_PER_ENDPOINT_MAX);
        if count > max {
            return Err(at.fault(spot, ManifestFault::TooManyIps { count, max }));
        }
        for &ip in &it.ips {
            if let Some((other, _)) = seen.iter().find(|(_, had)| *had == ip) {
                let (first, second) = ((*other).to_owned(), it.name.clone());
                let fault = ManifestFault::IpTwice { ip, first, second };
                return Err(at.fault(spot, fault));
            }
        }
        seen.extend(it.ips.iter().map(|ip| (it.name.as_str(), *ip)));
    }
    Ok(())
}

/// Of networks, before anything compares each with all.
fn at_most(at: &At<'_>, spot: Spot, count: usize, max: usize) -> Result<(), ManifestError> {
    if count <= max {
        return Ok(());
    }
    let (what, min) = ("networks of a pod", 0);
    let fault = ManifestFault::Items {
        what,
        count,
        min,
        max,
    };
    Err(at.fault(spot, fault))
}

/// What a pod asks for, in the long form. It has more fields; none says which interface.
#[derive(Deserialize)]
struct Asked {
    name: String,
    namespace: Option<String>,
    interface: Option<String>,
}

/// The networks that were asked for. Both forms are the specification's; which it is, is
/// decided as Multus does: by a bracket, brace or quote.
fn asked(
    at: &At<'_>,
    namespace: &str,
    text: &Spanned<String>,
    interfaces: &mut Vec<Interface>,
) -> Result<(), ManifestError> {
    let spot = at.spot(text.referenced);
    let asked: Vec<Asked> = if text.value.contains(['[', '{', '"']) {
        json(at, spot, NETWORKS, &text.value)?
    } else if text.value.trim().is_empty() {
        Vec::new()
    } else {
        text.value.split(',').map(|it| short(it.trim())).collect()
    };
    at_most(at, spot, asked.len(), INTERFACES_MAX)?;
    // "net1" is the first: the pod's own network counts as 0.
    for (number, it) in (1usize..).zip(asked) {
        let theirs = it.namespace.as_deref().filter(|it| !it.is_empty());
        let network = named(at, spot, theirs.unwrap_or(namespace), &it.name)?;
        let name = it.interface.filter(|it| !it.is_empty());
        let name = name.unwrap_or_else(|| format!("net{number}"));
        let name = ifname(at, spot, name)?;
        if interfaces.iter().any(|other| other.name == name) {
            return Err(at.fault(spot, ManifestFault::InterfaceTwice { name }));
        }
        // Who may write annotations must not get at the pod's own network by them.
        if name == PRIMARY_INTERFACE {
            continue;
        }
        interfaces.push(Interface {
            name,
            network,
            reported: None,
            ips: Vec::new(),
        });
    }
    Ok(())
}

/// `namespace/name@interface`, of which only the name must be there.
fn short(text: &str) -> Asked {
    let (network, interface) = match text.split_once('@') {
        Some((network, interface)) => (network, Some(interface.to_owned())),
        None => (text, None),
    };
    let (namespace, name) = match network.split_once('/') {
        Some((namespace, name)) => (Some(namespace.to_owned()), name),
        None => (None, network),
    };
    Asked {
        name: name.to_owned(),
        namespace,
        interface,
    }
}

/// What the runtime reports of an interface.
#[derive(Deserialize)]
struct Reported {
    name: String,
    interface: Option<String>,
    ips: Option<Vec<String>>,
    default: Option<bool>,
}

fn reported(
    at: &At<'_>,
    namespace: &str,
    primary: &[IpAddr],
    text: &Spanned<String>,
    interfaces: &mut Vec<Interface>,
) -> Result<(), ManifestError> {
    let spot = at.spot(text.referenced);
    if text.value.trim().is_empty() {
        return Ok(());
    }
    let list: Vec<Reported> = json(at, spot, STATUS, &text.value)?;
    // The pod's own network is one more.
    at_most(at, spot, list.len(), INTERFACES_MAX + 1)?;
    let told = list.iter().any(|it| it.default == Some(true));
    let mut seen: Vec<String> = Vec::new();
    for it in list {
        let ips = it.ips.unwrap_or_default();
        let ips = ips.iter().map(|ip| addresses::ip(at, spot, ip));
        let ips = ips.collect::<Result<Vec<_>, _>>()?;
        let own = ips.iter().all(|ip| primary.contains(ip));
        // That it is the default must not take addresses out of sight that aren't the pod's own.
        // An old runtime doesn't say which is; the pod's addresses do.
        let is_primary = it.default == Some(true) && (own || primary.is_empty())
            || !told && !ips.is_empty() && own;
        if is_primary {
            continue;
        }
        let network = network(at, spot, namespace, &it.name)?;
        let Some(name) = it.interface.filter(|it| !it.is_empty()) else {
            if ips.is_empty() {
                continue;
            }
            let network = network.to_string();
            return Err(at.fault(spot, ManifestFault::NoInterface { network }));
        };
        let name = ifname(at, spot, name)?;
        if seen.contains(&name) {
            return Err(at.fault(spot, ManifestFault::InterfaceTwice { name }));
        }
        seen.push(name.clone());
        if name == PRIMARY_INTERFACE {
            continue;
        }
        let Some(known) = interfaces.iter_mut().find(|it| it.name == name) else {
            interfaces.push(Interface {
                name,
                network,
                reported: None,
                ips,
            });
            continue;
        };
        if known.network == network {
            known.ips = ips;
        } else {
            known.reported = Some(network);
        }
    }
    Ok(())
}

/// A list in JSON, which YAML contains.
fn json<T: serde::de::DeserializeOwned>(
    at: &At<'_>,
    spot: Spot,
    annotation: &'static str,
    text: &str,
) -> Result<Vec<T>, ManifestError> {
    serde_saphyr::from_str(text).map_err(|error| {
        let why = at.message(&error);
        at.fault(spot, ManifestFault::Annotation { annotation, why })
    })
}

/// `namespace/name`, or a name in `namespace`.
fn network(
    at: &At<'_>,
    spot: Spot,
    namespace: &str,
    text: &str,
) -> Result<NamespacedName, ManifestError> {
    let (namespace, name) = text.split_once('/').unwrap_or((namespace, text));
    named(at, spot, namespace.trim(), name.trim())
}

fn named(
    at: &At<'_>,
    spot: Spot,
    namespace: &str,
    name: &str,
) -> Result<NamespacedName, ManifestError> {
    if !is_name(namespace) || !is_name(name) {
        let text = format!("{namespace}/{name}");
        return Err(at.fault(spot, ManifestFault::Network { text }));
    }
    Ok(NamespacedName {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

fn ifname(at: &At<'_>, spot: Spot, name: String) -> Result<String, ManifestError> {
    let is_plain = |it: char| !it.is_whitespace() && !it.is_control() && it != '/' && it != ':';
    if name.len() <= IFNAME_LEN_MAX && name.chars().all(is_plain) && name != "." && name != ".." {
        return Ok(name);
    }
    Err(at.fault(spot, ManifestFault::InterfaceName { name }))
}
