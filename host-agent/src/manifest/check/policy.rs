//! NetworkPolicy's spec.

use serde_saphyr::Spanned;
use sluice_offload_api::model::IpPrefix;

use super::{number, protocol};
use crate::cluster::{
    LabelSelector, Mode, NetworkPolicy, Operator, Peer, PortRule, PortSpec, Requirement, Rule,
};
use crate::manifest::error::{ManifestError, ManifestFault};
use crate::manifest::read::At;
use crate::manifest::wire;
use crate::manifest::wire::NumberOrName;

/// A policy, and what of it has no effect.
pub(super) fn policy(
    at: &At<'_>,
    spec: wire::PolicySpec,
    mode: Mode,
) -> Result<(NetworkPolicy, Option<&'static str>), ManifestError> {
    let mut ingress = Vec::new();
    for rule in spec.ingress.unwrap_or_default() {
        ingress.push(self::rule(at, rule.from, rule.ports)?);
    }
    let mut egress = Vec::new();
    for rule in spec.egress.unwrap_or_default() {
        egress.push(self::rule(at, rule.to, rule.ports)?);
    }
    // "If this field is not specified, it will default based on the existence of ingress or
    // egress rules; policies that contain an egress section are assumed to affect egress,
    // and all policies to affect ingress" (NetworkPolicySpec). An empty list is as none.
    let types = spec.policy_types.unwrap_or_default();
    let (mut has_ingress, mut has_egress) =
        (types.is_empty(), types.is_empty() && !egress.is_empty());
    for text in types {
        match text.value.as_str() {
            "Ingress" => has_ingress = true,
            "Egress" => has_egress = true,
            _ => {
                let spot = at.spot(text.referenced);
                return Err(at.fault(spot, ManifestFault::PolicyType { text: text.value }));
            }
        }
    }
    let unused = if !has_ingress && !ingress.is_empty() {
        Some("its ingress rules have no effect: policyTypes has no Ingress")
    } else if !has_egress && !egress.is_empty() {
        Some("its egress rules have no effect: policyTypes has no Egress")
    } else {
        None
    };
    let policy = NetworkPolicy {
        pod_selector: selector(at, spec.pod_selector.unwrap_or_default())?,
        ingress: has_ingress.then_some(ingress),
        egress: has_egress.then_some(egress),
        mode,
    };
    Ok((policy, unused))
}

fn rule(
    at: &At<'_>,
    peers: Option<Vec<Spanned<wire::Peer>>>,
    ports: Option<Vec<wire::Port>>,
) -> Result<Rule, ManifestError> {
    let peers = peers.unwrap_or_default().into_iter().map(|it| peer(at, it));
    let ports = ports.unwrap_or_default().into_iter().map(|it| port(at, it));
    Ok(Rule {
        peers: peers.collect::<Result<_, _>>()?,
        ports: ports.collect::<Result<_, _>>()?,
    })
}

fn peer(at: &At<'_>, wire: Spanned<wire::Peer>) -> Result<Peer, ManifestError> {
    let spot = at.spot(wire.referenced);
    let wire::Peer {
        pod_selector,
        namespace_selector,
        ip_block,
    } = wire.value;
    match (ip_block, namespace_selector, pod_selector) {
        (Some(block), None, None) => self::block(at, block),
        (Some(_), ..) => Err(at.fault(spot, ManifestFault::BlockAndSelector)),
        (None, None, None) => Err(at.fault(spot, ManifestFault::EmptyPeer)),
        (None, namespaces, pods) => Ok(Peer::Pods {
            namespaces: namespaces.map(|it| selector(at, it)).transpose()?,
            pods: pods.map(|it| selector(at, it)).transpose()?,
        }),
    }
}

fn block(at: &At<'_>, wire: wire::IpBlock) -> Result<Peer, ManifestError> {
    let cidr = prefix(at, &wire.cidr)?;
    let mut excepts = Vec::new();
    for text in wire.except.unwrap_or_default() {
        let except = prefix(at, &text)?;
        if !cidr.covers(&except) || cidr == except {
            let spot = at.spot(text.referenced);
            return Err(at.fault(spot, ManifestFault::ExceptOutside { except, cidr }));
        }
        excepts.push(except);
    }
    Ok(Peer::Block {
        cidr,
        except: excepts,
    })
}

pub(super) fn prefix(at: &At<'_>, text: &Spanned<String>) -> Result<IpPrefix, ManifestError> {
    let prefix = text.value.parse();
    prefix.map_err(|error| at.fault(at.spot(text.referenced), ManifestFault::Cidr(error)))
}

fn port(at: &At<'_>, wire: wire::Port) -> Result<PortRule, ManifestError> {
    let protocol = protocol(at, wire.protocol)?;
    let end = match &wire.end_port {
        Some(end) => match &end.value {
            NumberOrName::Number(text) | NumberOrName::Name(text) => {
                Some((number(at, end, text)?, at.spot(end.referenced)))
            }
        },
        None => None,
    };
    let first = match &wire.port {
        Some(port) => match &port.value {
            NumberOrName::Number(text) => Some(number(at, port, text)?),
            NumberOrName::Name(name) if !is_port_name(name) => {
                let fault = ManifestFault::PortName { name: name.clone() };
                return Err(at.fault(at.spot(port.referenced), fault));
            }
            NumberOrName::Name(_) => None,
        },
        None => None,
    };
    let ports = match (first, end, wire.port.map(|it| it.value)) {
        (Some(port), Some((end, spot)), _) if end < port => {
            return Err(at.fault(spot, ManifestFault::EndPortBelow { end, port }));
        }
        (Some(first), Some((last, _)), _) => PortSpec::Range { first, last },
        (Some(port), None, _) => PortSpec::Range {
            first: port,
            last: port,
        },
        (None, Some((end, spot)), _) => {
            return Err(at.fault(spot, ManifestFault::EndPortAlone { end }));
        }
        (None, None, Some(NumberOrName::Name(name))) => PortSpec::Named(name),
        (None, None, _) => PortSpec::Any,
    };
    Ok(PortRule { protocol, ports })
}

/// RFC 6335 section 5.1, lower case as Kubernetes has it.
pub(super) fn is_port_name(name: &str) -> bool {
    let plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
    (1..=15).contains(&name.len())
        && name.bytes().all(plain)
        && name.bytes().any(|it| it.is_ascii_lowercase())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}

pub(super) fn selector(at: &At<'_>, wire: wire::Selector) -> Result<LabelSelector, ManifestError> {
    let expressions = wire.match_expressions.unwrap_or_default().into_iter();
    let match_expressions = expressions
        .map(|it| requirement(at, it))
        .collect::<Result<_, _>>()?;
    Ok(LabelSelector {
        match_labels: wire.match_labels.unwrap_or_default(),
        match_expressions,
    })
}

fn requirement(at: &At<'_>, wire: wire::Requirement) -> Result<Requirement, ManifestError> {
    let values: std::collections::BTreeSet<_> =
        wire.values.unwrap_or_default().into_iter().collect();
    let Spanned {
        value: operator,
        referenced,
        ..
    } = wire.operator;
    let spot = at.spot(referenced);
    let (needs_values, made) = match operator.as_str() {
        "In" => (true, Operator::In(values.clone())),
        "NotIn" => (true, Operator::NotIn(values.clone())),
        "Exists" => (false, Operator::Exists),
        "DoesNotExist" => (false, Operator::DoesNotExist),
        _ => return Err(at.fault(spot, ManifestFault::Operator { text: operator })),
    };
    match (needs_values, values.is_empty()) {
        (true, true) => Err(at.fault(spot, ManifestFault::NoValues { operator })),
        (false, false) => Err(at.fault(spot, ManifestFault::Values { operator })),
        _ => Ok(Requirement {
            key: wire.key,
            operator: made,
        }),
    }
}
