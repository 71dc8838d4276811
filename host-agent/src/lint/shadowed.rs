//! Rules that never decide, as others that are asked before them decide all that they match.
//!
//! The evaluator is asked about one flow for each piece that rules can tell apart, and names
//! what decided. A rule that it never names is asked about alone: what it then decides, it
//! matches; what decides that among the others, shadows it.

use std::collections::BTreeSet;

use sluice_offload_api::model::Direction;

use super::view::{Policy, RuleView, View};
use super::{Code, FLOWS_MAX, Finding};
use crate::cluster::{Cluster, Mode, Pod, PolicySet, RuleAction};
use crate::difference::{Comparison, Owners, Points, Side};
use crate::evaluate::{KnownNames, Query, Ruling, egress_by, ingress_by};

/// Rules that a message names, at most.
const SHOWN_MAX: usize = 4;

/// Finds them. False if there are too many flows to judge: then none is found.
pub(super) fn shadowed(
    cluster: &Cluster,
    owners: &Owners,
    view: &View<'_>,
    findings: &mut Vec<Finding>,
) -> bool {
    let side = Side { cluster, owners };
    let comparison = Comparison::new(side, side);
    let ends = comparison.ends();
    let points = comparison.points(&ends);
    let Some(deciders) = deciders(&points) else {
        return false;
    };
    for policy in view.policies.iter().filter(|it| it.mode == Mode::Enforce) {
        for rule in &policy.rules {
            if deciders.contains(&rule.name) {
                continue;
            }
            let by = match shadowers(&points, policy, rule) {
                Shadow::None => continue,
                Shadow::By(by) => by,
            };
            let names: Vec<_> = by
                .iter()
                .take(SHOWN_MAX)
                .map(|it| format!("`{it}`"))
                .collect();
            let more = match by.len() - names.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            findings.push(Finding {
                code: Code::ShadowedRule,
                object: policy.object.clone(),
                path: rule.path(),
                message: format!(
                    "it never decides: all that it matches is decided by {}{more}",
                    names.join(", ")
                ),
                help: "take the rule out, or put it before those".to_owned(),
            });
        }
    }
    true
}

/// The names of all that decides anything, at either end; `None` if that takes too long.
fn deciders(points: &Points<'_>) -> Option<BTreeSet<String>> {
    let mut deciders = BTreeSet::new();
    let mut left = FLOWS_MAX;
    for direction in [Direction::Ingress, Direction::Egress] {
        points.visit(
            direction,
            &has_policies(points.cluster()),
            &mut |query, names| {
                left = left.saturating_sub(1);
                let ruling = ruling(points.cluster(), direction, query, names);
                if let Some(ruling) = ruling.filter(|it| !deciders.contains(&it.rule)) {
                    deciders.insert(ruling.rule);
                }
                left > 0
            },
        );
    }
    (left > 0).then_some(deciders)
}

fn has_policies(cluster: &Cluster) -> impl Fn(&Pod, core::net::IpAddr) -> bool + '_ {
    |pod, ip| match pod.interface_at(ip) {
        Some(interface) => cluster.multi_policies_of(pod, interface).next().is_some(),
        None => {
            cluster.policies_of(pod).next().is_some()
                || !cluster.cluster_policies_of(pod).is_empty()
        }
    }
}

fn ruling(
    cluster: &Cluster,
    direction: Direction,
    query: &Query,
    names: &KnownNames,
) -> Option<Ruling> {
    match direction {
        Direction::Ingress => ingress_by(cluster, query, PolicySet::Enforced),
        Direction::Egress => egress_by(cluster, query, names, PolicySet::Enforced),
    }
}

/// What is before a rule.
enum Shadow {
    /// Nothing; or it matches nothing, which others say.
    None,
    /// These.
    By(BTreeSet<String>),
}

/// What decides whatever a rule matches that the evaluator never named.
fn shadowers(points: &Points<'_>, policy: &Policy<'_>, rule: &RuleView<'_>) -> Shadow {
    let direction = rule.direction;
    let full = points.cluster();
    let alone = alone(full, policy, rule);
    // A rule that passes on is named nowhere: it is asked as one that accepts.
    let passes = accepting(full, policy, rule);
    let judge = passes.as_ref().unwrap_or(full);
    let mut by = BTreeSet::new();
    let mut decides = false;
    points.visit(direction, &has_policies(&alone), &mut |query, names| {
        let own = ruling(&alone, direction, query, names);
        let first = own.is_some_and(|it| is_own(&it.rule, policy, rule));
        if first {
            let decider = ruling(judge, direction, query, names).map(|it| it.rule);
            decides = decider.as_ref() == Some(&rule.name);
            by.extend(decider);
        }
        !decides
    });
    if decides || by.is_empty() {
        return Shadow::None;
    }
    Shadow::By(by)
}

/// Whether a name is the first rule's of the policy in this direction, which is what a rule is
/// called alone. Its author's name for it stays.
fn is_own(name: &str, policy: &Policy<'_>, rule: &RuleView<'_>) -> bool {
    let place = format!("{}[{}]", super::view::word(rule.direction), rule.index);
    let first = format!("{}[0]", super::view::word(rule.direction));
    let own = rule.name.replacen(&place, &first, 1);
    debug_assert!(!policy.rules.is_empty());
    name == own
}

/// The cluster with this rule and no other.
fn alone(full: &Cluster, policy: &Policy<'_>, rule: &RuleView<'_>) -> Cluster {
    let mut alone = full.clone();
    let is = |kind: &str, name: &dyn core::fmt::Display| policy.object == format!("{kind} {name}");
    let keep = |rules: &mut Option<Vec<crate::cluster::Rule>>, own: bool| {
        *rules = rules.take().filter(|_| own).map(|mut it| {
            it.truncate(rule.index + 1);
            it.split_off(rule.index.min(it.len()))
        });
    };
    let (ingress, egress) = (
        rule.direction == Direction::Ingress,
        rule.direction == Direction::Egress,
    );
    alone.policies.retain(|name, _| is("NetworkPolicy", name));
    alone
        .multi_policies
        .retain(|name, _| is("MultiNetworkPolicy", name));
    alone
        .cluster_policies
        .retain(|name, _| is("ClusterNetworkPolicy", name));
    let multi = alone.multi_policies.values_mut().map(|it| &mut it.policy);
    for it in alone.policies.values_mut().chain(multi) {
        keep(&mut it.ingress, ingress);
        keep(&mut it.egress, egress);
    }
    for it in alone.cluster_policies.values_mut() {
        for (rules, own) in [(&mut it.ingress, ingress), (&mut it.egress, egress)] {
            let only = rules.get(rule.index).cloned().filter(|_| own);
            *rules = only.into_iter().collect();
            for it in rules.iter_mut().filter(|it| it.action == RuleAction::Pass) {
                it.action = RuleAction::Accept;
            }
        }
    }
    alone
}

/// The cluster in which this rule accepts, if it is one that passes on.
fn accepting(full: &Cluster, policy: &Policy<'_>, rule: &RuleView<'_>) -> Option<Cluster> {
    let name = policy.object.strip_prefix("ClusterNetworkPolicy ")?;
    let known = full.cluster_policies.get(name)?;
    let passes = known.rules(rule.direction).get(rule.index)?.action == RuleAction::Pass;
    if !passes {
        return None;
    }
    let mut accepting = full.clone();
    let it = accepting.cluster_policies.get_mut(name)?;
    let rules = match rule.direction {
        Direction::Ingress => &mut it.ingress,
        Direction::Egress => &mut it.egress,
    };
    rules.get_mut(rule.index)?.action = RuleAction::Accept;
    Some(accepting)
}
