//! Selectors: of policies that are for nobody, of peers that are nobody, of labels that
//! nothing has.

use std::collections::BTreeSet;

use super::hints::{meant, nearest};
use super::view::{Policy, RuleView, View};
use super::{Code, Finding};
use crate::cluster::{LabelSelector, Labels, NAMESPACE_NAME_LABEL, Operator, Peer};
use crate::difference::show_labels;
use sluice_offload_api::model::Direction;

/// A policy's own selectors.
pub(super) fn subject(view: &View<'_>, policy: &Policy<'_>, findings: &mut Vec<Finding>) {
    let (namespaces_path, pods_path) = if policy.namespaces.is_some() {
        ("spec.subject", "spec.subject")
    } else {
        ("spec", "spec.podSelector")
    };
    if let Some(networks) = policy.networks {
        let nobody = networks.iter().filter(|it| !view.cluster.has_network(it));
        findings.extend(nobody.map(|network| Finding {
            code: Code::NoNetwork,
            object: policy.object.clone(),
            path: "metadata.annotations".to_owned(),
            message: format!("no pod is on network {network}"),
            help: "name a NetworkAttachmentDefinition that pods have, as namespace/name".to_owned(),
        }));
    }
    if view.subjects(policy).next().is_none() {
        let hosts = view
            .pods
            .keys()
            .any(|it| it.host_network && view.is_for(policy, it));
        let (message, help) = if hosts {
            let message = "it selects hostNetwork pods only, which have their nodes' addresses";
            (message, "no policy is for them: protect them on the node")
        } else {
            let message = "it selects no pod of these manifests, so it is for nobody";
            (
                message,
                "correct the selector or the namespace, or take the policy out",
            )
        };
        findings.push(Finding {
            code: Code::SelectsNothing,
            object: policy.object.clone(),
            path: pods_path.to_owned(),
            message: message.to_owned(),
            help: help.to_owned(),
        });
    }
    if let Some(namespaces) = policy.namespaces {
        let known = namespaces_of(view);
        unknown(
            policy,
            namespaces_path,
            namespaces,
            "namespace",
            &known,
            findings,
        );
    }
    let known = pods_of(view, policy.namespace, policy.namespaces);
    unknown(policy, pods_path, policy.pods, "pod", &known, findings);
}

/// The peers of a rule.
pub(super) fn peers(
    view: &View<'_>,
    policy: &Policy<'_>,
    rule: &RuleView<'_>,
    findings: &mut Vec<Finding>,
) {
    let field = match rule.direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    for (index, peer) in rule.rule.peers.iter().enumerate() {
        let path = if policy.namespace.is_some() {
            format!("{}.{field}[{index}]", rule.path())
        } else {
            // One peer of the file may be several of ours.
            format!("{}.{field}", rule.path())
        };
        let (found, what) = match peer {
            Peer::Pods { namespaces, pods } => {
                if let Some(selector) = namespaces {
                    let path = format!("{path}.namespaceSelector");
                    let known = namespaces_of(view);
                    unknown(policy, &path, selector, "namespace", &known, findings);
                }
                if let Some(selector) = pods {
                    let path = format!("{path}.podSelector");
                    let own = policy.namespace.filter(|_| namespaces.is_none());
                    let known = pods_of(view, own, namespaces.as_ref());
                    unknown(policy, &path, selector, "pod", &known, findings);
                }
                (
                    matches_a_pod(view, policy, namespaces.as_ref(), pods.as_ref()),
                    "pod",
                )
            }
            Peer::Nodes(selector) => {
                let known: BTreeSet<_> = view.cluster.nodes.values().map(|it| &it.labels).collect();
                // Without nodes in the manifests there is nothing to go by.
                if !known.is_empty() {
                    unknown(policy, &path, selector, "node", &known, findings);
                }
                let matches = known.iter().any(|it| selector.matches(it));
                (matches || known.is_empty(), "node")
            }
            Peer::Domain(_) | Peer::Block { .. } => (true, ""),
        };
        if !found {
            findings.push(Finding {
                code: Code::PeerMatchesNothing,
                object: policy.object.clone(),
                path,
                message: format!("{} matches no {what} of these manifests", shown(peer)),
                help: "correct the selectors, or take the peer out".to_owned(),
            });
        }
    }
}

/// A peer, in words.
fn shown(peer: &Peer) -> String {
    let selector = |it: &LabelSelector| {
        let more = if it.match_expressions.is_empty() {
            ""
        } else {
            " and expressions"
        };
        format!("{}{more}", show_labels(&it.match_labels))
    };
    match peer {
        Peer::Pods { namespaces, pods } => {
            let pods = pods.as_ref().map(|it| format!("pods {}", selector(it)));
            let namespaces = namespaces
                .as_ref()
                .map(|it| format!("namespaces {}", selector(it)));
            let parts: Vec<_> = pods.into_iter().chain(namespaces).collect();
            format!("the peer ({})", parts.join(" in "))
        }
        Peer::Nodes(it) => format!("the peer (nodes {})", selector(it)),
        Peer::Domain(_) | Peer::Block { .. } => "the peer".to_owned(),
    }
}

pub(super) fn matches_a_pod(
    view: &View<'_>,
    policy: &Policy<'_>,
    namespaces: Option<&LabelSelector>,
    pods: Option<&LabelSelector>,
) -> bool {
    let mut kinds = view.pods.keys().filter(|it| !it.host_network);
    kinds.any(|kind| {
        let in_namespace = match namespaces {
            None => policy.namespace == Some(kind.namespace.as_str()),
            Some(it) => view
                .namespaces
                .get(&kind.namespace)
                .is_some_and(|l| it.matches(l)),
        };
        let on_network = policy
            .networks
            .is_none_or(|it| !it.is_disjoint(&kind.networks));
        in_namespace && on_network && pods.is_none_or(|it| it.matches(&kind.labels))
    })
}

type LabelSets<'a> = BTreeSet<&'a Labels>;

fn namespaces_of<'v>(view: &'v View<'_>) -> LabelSets<'v> {
    view.namespaces.values().collect()
}

/// The labels of pods that a selector may be about: those of its namespaces, of all if there
/// are none such.
fn pods_of<'v>(
    view: &'v View<'_>,
    own: Option<&str>,
    namespaces: Option<&LabelSelector>,
) -> LabelSets<'v> {
    let within = |it: &str| match (own, namespaces) {
        (Some(own), _) => it == own,
        (None, Some(selector)) => view.namespaces.get(it).is_some_and(|l| selector.matches(l)),
        (None, None) => true,
    };
    let pods = view.pods.keys();
    let near: LabelSets<'v> = pods
        .clone()
        .filter(|it| within(&it.namespace))
        .map(|it| &it.labels)
        .collect();
    if near.is_empty() {
        return pods.map(|it| &it.labels).collect();
    }
    near
}

/// Requirements of a selector that nothing meets, or that exclude nothing.
fn unknown(
    policy: &Policy<'_>,
    path: &str,
    selector: &LabelSelector,
    what: &str,
    known: &LabelSets<'_>,
    findings: &mut Vec<Finding>,
) {
    let mut say = |message: String, path: String| {
        findings.push(Finding {
            code: Code::UnknownLabel,
            object: policy.object.clone(),
            path,
            message,
            help: format!("correct the label, or give it to the {what}s that are meant"),
        });
    };
    let keys: BTreeSet<&str> = known
        .iter()
        .flat_map(|it| it.keys())
        .map(String::as_str)
        .collect();
    let values = |key: &str| -> BTreeSet<&str> {
        known
            .iter()
            .filter_map(|it| it.get(key))
            .map(String::as_str)
            .collect()
    };
    let key_unknown = |key: &str| {
        (!keys.contains(key)).then(|| {
            let meant = meant(nearest(key, keys.iter().copied()));
            format!("no {what} has a label `{key}`{meant}")
        })
    };
    for (key, value) in &selector.match_labels {
        let path = format!("{path}.matchLabels");
        if let Some(message) = key_unknown(key) {
            say(message, path);
        } else if !values(key).contains(value.as_str()) {
            let meant = meant(nearest(value, values(key)));
            say(format!("no {what} has `{key}: {value}`{meant}"), path);
        }
    }
    for (index, it) in selector.match_expressions.iter().enumerate() {
        let path = format!("{path}.matchExpressions[{index}]");
        let key = it.key.as_str();
        let none_of =
            |wanted: &BTreeSet<String>| wanted.iter().all(|it| !values(key).contains(it.as_str()));
        let nearest_of = |wanted: &BTreeSet<String>| {
            let near = wanted.iter().find_map(|it| nearest(it, values(key)));
            meant(near)
        };
        match &it.operator {
            Operator::Exists | Operator::In(_) if key_unknown(key).is_some() => {
                let message = key_unknown(key).unwrap_or_default();
                say(message, path);
            }
            Operator::In(wanted) if none_of(wanted) => {
                let hint = nearest_of(wanted);
                say(
                    format!("no {what} has any of these values of `{key}`{hint}"),
                    path,
                );
            }
            // Names of namespaces that other folders have are excluded here on purpose.
            Operator::NotIn(wanted) if key != NAMESPACE_NAME_LABEL && none_of(wanted) => {
                let hint = if keys.contains(key) {
                    nearest_of(wanted)
                } else {
                    meant(nearest(key, keys.iter().copied()))
                };
                say(
                    format!("NotIn excludes no {what}: none has such a `{key}`{hint}"),
                    path,
                );
            }
            _ => {}
        }
    }
}
