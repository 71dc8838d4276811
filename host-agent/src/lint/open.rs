//! Namespaces with pods that no policy is for.

use std::collections::BTreeSet;

use sluice_offload_api::model::Direction;

use super::view::{Policy, View, word};
use super::{Code, Finding};
use crate::cluster::{Cluster, Mode};

/// Workloads that a message names, at most.
const SHOWN_MAX: usize = 5;

/// For each namespace and direction, the workloads whose pods' primary interfaces no policy in
/// force is for.
pub(super) fn open(cluster: &Cluster, view: &View<'_>, findings: &mut Vec<Finding>) {
    for namespace in view.namespaces.keys() {
        for direction in [Direction::Ingress, Direction::Egress] {
            let counts = |it: &&Policy<'_>| {
                let in_force = it.mode == Mode::Enforce && it.networks.is_none();
                in_force && says_something(cluster, it, direction)
            };
            let policies: Vec<_> = view.policies.iter().filter(counts).collect();
            let (mut open, mut all) = (BTreeSet::new(), BTreeSet::new());
            let its = view.pods.iter().filter(|it| it.0.namespace == *namespace);
            for (pods, workloads) in its.filter(|it| !it.0.host_network) {
                all.extend(workloads);
                if !policies.iter().any(|it| view.is_for(it, pods)) {
                    open.extend(workloads);
                }
            }
            if open.is_empty() {
                continue;
            }
            let names: Vec<_> = open.iter().take(SHOWN_MAX).map(|it| it.as_str()).collect();
            let more = match open.len() - names.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let of = format!("{} of {} workloads", open.len(), all.len());
            let whose = match direction {
                Direction::Ingress => "may be reached by anyone",
                Direction::Egress => "may reach anyone",
            };
            let kind = match direction {
                Direction::Ingress => "Ingress",
                Direction::Egress => "Egress",
            };
            findings.push(Finding {
                code: Code::OpenNamespace,
                object: format!("Namespace {namespace}"),
                path: word(direction).to_owned(),
                message: format!("{of} have no policy and {whose}: {}{more}", names.join(", ")),
                help: format!(
                    "add a NetworkPolicy with podSelector: {{}} and policyTypes: [{kind}], which denies what no other allows"
                ),
            });
        }
    }
}

/// Whether a policy says anything in a direction; a NetworkPolicy without rules does.
fn says_something(cluster: &Cluster, policy: &Policy<'_>, direction: Direction) -> bool {
    let isolates = policy
        .object
        .strip_prefix("NetworkPolicy ")
        .is_some_and(|object| {
            let mut all = cluster.policies.iter();
            all.any(|(name, it)| name.to_string() == object && it.rules(direction).is_some())
        });
    isolates || policy.rules.iter().any(|it| it.direction == direction)
}
