//! ClusterNetworkPolicy's spec.

use serde_saphyr::{Location, Spanned};
use sluice_offload_api::model::{Direction, Protocol, Tier};

use super::number;
use super::policy::{is_port_name, prefix, selector};
use crate::cluster::{
    ClusterPolicy, ClusterRule, LabelSelector, Mode, Peer, PortRule, PortSpec, Rule, RuleAction,
};
use crate::manifest::error::{ManifestError, ManifestFault};
use crate::manifest::read::At;
use crate::manifest::wire::{NumberOrName, cluster_policy as fields};

/// Rules in one direction, peers or protocols in one rule, networks in one peer, at most
/// (the API's `MaxItems`).
const ITEMS_MAX: usize = 25;
/// Characters of a rule's name, at most.
const RULE_NAME_CHARS_MAX: usize = 100;
const PRIORITY_MAX: u16 = 1000;

/// A policy, and what of it is not as its author may think.
pub(super) fn policy(
    at: &At<'_>,
    spec: fields::Spec,
    mode: Mode,
) -> Result<(ClusterPolicy, Vec<String>), ManifestError> {
    let tier = match spec.tier.value.as_str() {
        "Admin" => Tier::Admin,
        "Baseline" => Tier::Baseline,
        _ => {
            let spot = at.spot(spec.tier.referenced);
            let text = spec.tier.value;
            return Err(at.fault(spot, ManifestFault::Tier { text }));
        }
    };
    let priority = u16::try_from(spec.priority.value).ok();
    let priority = priority.filter(|it| *it <= PRIORITY_MAX).ok_or_else(|| {
        let priority = spec.priority.value;
        at.fault(
            at.spot(spec.priority.referenced),
            ManifestFault::Priority { priority },
        )
    })?;
    let (namespaces, pods) = subject(at, spec.subject)?;
    let mut notes = Vec::new();
    let ingress = rules(at, Direction::Ingress, spec.ingress, &mut notes)?;
    let egress = rules(at, Direction::Egress, spec.egress, &mut notes)?;
    let policy = ClusterPolicy {
        tier,
        priority,
        namespaces,
        pods,
        ingress,
        egress,
        mode,
    };
    Ok((policy, notes))
}

fn subject(
    at: &At<'_>,
    wire: Spanned<fields::Subject>,
) -> Result<(LabelSelector, LabelSelector), ManifestError> {
    match (wire.value.namespaces, wire.value.pods) {
        (Some(namespaces), None) => Ok((selector(at, namespaces)?, LabelSelector::default())),
        (None, Some(pods)) => namespaced_pod(at, pods),
        (None, None) | (Some(_), Some(_)) => {
            let spot = at.spot(wire.referenced);
            Err(at.fault(spot, ManifestFault::Subject))
        }
    }
}

fn namespaced_pod(
    at: &At<'_>,
    wire: fields::NamespacedPod,
) -> Result<(LabelSelector, LabelSelector), ManifestError> {
    let namespaces = selector(at, wire.namespace_selector.unwrap_or_default())?;
    Ok((namespaces, selector(at, wire.pod_selector)?))
}

/// The rules of a direction, and what their author should know of them.
fn rules<R: Into<fields::Rule>>(
    at: &At<'_>,
    direction: Direction,
    list: Option<Spanned<Vec<R>>>,
    notes: &mut Vec<String>,
) -> Result<Vec<ClusterRule>, ManifestError> {
    let Some(list) = list else {
        return Ok(Vec::new());
    };
    items(at, list.referenced, "rules", list.value.len(), 0)?;
    let word = match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    let mut rules = Vec::new();
    for (index, wire) in list.value.into_iter().enumerate() {
        let (rule, note) = rule(at, direction, wire.into())?;
        notes.extend(note.map(|note| format!("{word}[{index}] {note}")));
        rules.push(rule);
    }
    Ok(rules)
}

/// A rule, and what its author should know of it.
fn rule(
    at: &At<'_>,
    direction: Direction,
    wire: fields::Rule,
) -> Result<(ClusterRule, Option<String>), ManifestError> {
    let fields::Rule {
        name,
        action,
        peers,
        protocols,
    } = wire;
    let action = match action.value.as_str() {
        "Accept" => RuleAction::Accept,
        "Deny" => RuleAction::Deny,
        "Pass" => RuleAction::Pass,
        _ => {
            let spot = at.spot(action.referenced);
            let text = action.value;
            return Err(at.fault(spot, ManifestFault::Action { text }));
        }
    };
    if let Some(name) = &name {
        let (count, max) = (name.value.chars().count(), RULE_NAME_CHARS_MAX);
        if count > max {
            let fault = ManifestFault::RuleName { count, max };
            return Err(at.fault(at.spot(name.referenced), fault));
        }
    }
    items(at, peers.referenced, "peers", peers.value.len(), 1)?;
    let mut unknown = Vec::new();
    let mut rule = Rule::default();
    for peer in peers.value {
        match self::peer(at, direction, action, peer)? {
            Ok(peers) => rule.peers.extend(peers),
            Err(what) => unknown.push(what),
        }
    }
    if let Some(protocols) = protocols {
        items(
            at,
            protocols.referenced,
            "protocols",
            protocols.value.len(),
            1,
        )?;
        for protocol in protocols.value {
            let spot = at.spot(protocol.referenced);
            let is_named = protocol.value.named.is_some();
            match self::protocol(at, protocol)? {
                Ok(ports) => rule.ports.extend(ports),
                Err(what) => unknown.push(what),
            }
            let is_pods = |it: &Peer| matches!(it, Peer::Pods { .. });
            if is_named && !rule.peers.iter().all(is_pods) {
                return Err(at.fault(spot, ManifestFault::NamedPortPeer));
            }
        }
    }
    let name = name.map(|it| it.value).filter(|it| !it.is_empty());
    if unknown.is_empty() {
        let flows = Some(rule);
        return Ok((
            ClusterRule {
                name,
                action,
                flows,
            },
            None,
        ));
    }
    // As the API asks where a field isn't known: fail closed.
    let (action, flows, becomes) = match action {
        RuleAction::Accept => (action, None, "the rule matches nothing"),
        RuleAction::Deny | RuleAction::Pass => {
            let all = Some(Rule::default());
            (RuleAction::Deny, all, "the rule denies everything")
        }
    };
    let note = format!("has {}: {becomes}", unknown.join(" and "));
    Ok((
        ClusterRule {
            name,
            action,
            flows,
        },
        Some(note),
    ))
}

/// What is there that isn't known.
type Unknown = String;

/// A peer, as one or more of ours.
fn peer(
    at: &At<'_>,
    direction: Direction,
    action: RuleAction,
    wire: Spanned<fields::Peer>,
) -> Result<Result<Vec<Peer>, Unknown>, ManifestError> {
    let spot = at.spot(wire.referenced);
    let peer = wire.value;
    let known = [
        peer.namespaces.is_some(),
        peer.pods.is_some(),
        peer.nodes.is_some(),
        peer.networks.is_some(),
        peer.domain_names.is_some(),
    ];
    if known.iter().filter(|it| **it).count() > 1 {
        return Err(at.fault(spot, ManifestFault::SeveralPeers));
    }
    // The API server leaves out what it doesn't know, and an empty peer remains.
    if !peer.unknown.is_empty() || !known.contains(&true) {
        return Ok(Err(unknown("peer", &peer.unknown)));
    }
    if let Some(selector) = peer.namespaces {
        let (namespaces, pods) = (Some(self::selector(at, selector)?), None);
        return Ok(Ok(vec![Peer::Pods { namespaces, pods }]));
    }
    if let Some(pods) = peer.pods {
        let (namespaces, pods) = namespaced_pod(at, pods)?;
        let (namespaces, pods) = (Some(namespaces), Some(pods));
        return Ok(Ok(vec![Peer::Pods { namespaces, pods }]));
    }
    // The API has the rest in `to` only.
    if direction == Direction::Ingress {
        return Ok(Err("a peer that from doesn't have".to_owned()));
    }
    if let Some(selector) = peer.nodes {
        return Ok(Ok(vec![Peer::Nodes(self::selector(at, selector)?)]));
    }
    if let Some(networks) = peer.networks {
        items(at, networks.referenced, "networks", networks.value.len(), 1)?;
        let block = |text: Spanned<String>| {
            let (cidr, except) = (prefix(at, &text)?, Vec::new());
            Ok(Peer::Block { cidr, except })
        };
        let blocks = networks.value.into_iter().map(block);
        return Ok(Ok(blocks.collect::<Result<_, ManifestError>>()?));
    }
    let Some(names) = peer.domain_names else {
        return Ok(Err(unknown("peer", &peer.unknown)));
    };
    items(at, names.referenced, "domainNames", names.value.len(), 1)?;
    let domains = names.value.into_iter().map(|it| domain(at, it));
    let domains = domains.collect::<Result<_, ManifestError>>()?;
    // "DomainNames is only supported for Accept rules": what nobody resolved is not known to
    // be of the name, and would slip through a denial.
    if action != RuleAction::Accept {
        return Ok(Err("domainNames, which only Accept rules have".to_owned()));
    }
    Ok(Ok(domains))
}

/// A protocol, as one or more port rules.
fn protocol(
    at: &At<'_>,
    wire: Spanned<fields::Protocol>,
) -> Result<Result<Vec<PortRule>, Unknown>, ManifestError> {
    let spot = at.spot(wire.referenced);
    let fields::Protocol {
        tcp,
        udp,
        sctp,
        named,
        unknown: others,
    } = wire.value;
    let transports = [
        (Protocol::Tcp, tcp),
        (Protocol::Udp, udp),
        (Protocol::Sctp, sctp),
    ];
    let all = transports.each_ref().map(|(protocol, _)| *protocol);
    let mut given: Vec<_> = transports
        .into_iter()
        .filter_map(|(protocol, ports)| Some((protocol, ports?)))
        .collect();
    if given.len() + usize::from(named.is_some()) > 1 {
        return Err(at.fault(spot, ManifestFault::SeveralProtocols));
    }
    if !others.is_empty() || given.is_empty() && named.is_none() {
        return Ok(Err(unknown("protocol", &others)));
    }
    if let Some((protocol, ports)) = given.pop() {
        let Some(port) = ports.destination_port else {
            return Err(at.fault(spot, ManifestFault::NoDestinationPort));
        };
        let ports = self::port(at, spot, port)?;
        return Ok(Ok(vec![PortRule { protocol, ports }]));
    }
    let name = named.map(|name| (at.spot(name.referenced), name.value));
    let Some((spot, name)) = name else {
        return Ok(Ok(Vec::new()));
    };
    if !is_port_name(&name) {
        return Err(at.fault(spot, ManifestFault::PortName { name }));
    }
    // The pod says which protocol its name is of.
    let named = |protocol| PortRule {
        protocol,
        ports: PortSpec::Named(name.clone()),
    };
    Ok(Ok(all.map(named).into()))
}

fn port(
    at: &At<'_>,
    spot: crate::text::Spot,
    wire: fields::Port,
) -> Result<PortSpec, ManifestError> {
    let of = |it: &Spanned<NumberOrName>| match &it.value {
        NumberOrName::Number(text) | NumberOrName::Name(text) => number(at, it, text),
    };
    match (wire.number, wire.range) {
        (Some(port), None) => {
            let port = of(&port)?;
            Ok(PortSpec::Range {
                first: port,
                last: port,
            })
        }
        (None, Some(fields::Range { start, end })) => {
            let (first, last) = (of(&start)?, of(&end)?);
            if first < last {
                return Ok(PortSpec::Range { first, last });
            }
            let fault = ManifestFault::PortsBackwards { first, last };
            Err(at.fault(at.spot(end.referenced), fault))
        }
        (None, None) | (Some(_), Some(_)) => Err(at.fault(spot, ManifestFault::NumberOrRange)),
    }
}

fn unknown(what: &str, fields: &[String]) -> Unknown {
    if fields.is_empty() {
        format!("a {what} of no type")
    } else {
        format!(
            "a {what} of a type that isn't known ({})",
            fields.join(", ")
        )
    }
}

/// Checks how many items a list has.
fn items(
    at: &At<'_>,
    place: Location,
    what: &'static str,
    count: usize,
    min: usize,
) -> Result<(), ManifestError> {
    let max = ITEMS_MAX;
    if (min..=max).contains(&count) {
        return Ok(());
    }
    let fault = ManifestFault::Items {
        what,
        count,
        min,
        max,
    };
    Err(at.fault(at.spot(place), fault))
}

/// A domain name in any case, perhaps with a dot at its end.
fn domain(at: &At<'_>, text: Spanned<String>) -> Result<Peer, ManifestError> {
    let name = text.value.to_ascii_lowercase();
    let pattern = name.strip_suffix('.').unwrap_or(&name).parse();
    pattern.map(Peer::Domain).map_err(|why| {
        let spot = at.spot(text.referenced);
        at.fault(spot, ManifestFault::DomainName { why })
    })
}
