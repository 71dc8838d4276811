//! The cluster as lints look at it: kinds of pods, and policies of all types as one.

use std::collections::{BTreeMap, BTreeSet};

use sluice_offload_api::model::{Direction, Protocol};

use crate::cluster::{Cluster, LabelSelector, Labels, Mode, NamespacedName, Pod, Rule};
use crate::difference::{Owners, owner_of};
use crate::evaluate::{cluster_rule_name, multi_rule_name, rule_name};

/// Pods that lints can't tell apart.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct PodKind {
    pub(super) namespace: String,
    pub(super) labels: Labels,
    pub(super) ports: Vec<(Option<String>, Protocol, u16)>,
    pub(super) networks: BTreeSet<NamespacedName>,
    /// They have their nodes' addresses: no policy is for them.
    pub(super) host_network: bool,
}

/// A policy of any type.
pub(super) struct Policy<'a> {
    /// `NetworkPolicy shop/cart`.
    pub(super) object: String,
    /// Its own, if it has one.
    pub(super) namespace: Option<&'a str>,
    /// The namespaces that it is for, if it says.
    pub(super) namespaces: Option<&'a LabelSelector>,
    pub(super) pods: &'a LabelSelector,
    /// A MultiNetworkPolicy's.
    pub(super) networks: Option<&'a BTreeSet<NamespacedName>>,
    pub(super) mode: Mode,
    pub(super) rules: Vec<RuleView<'a>>,
}

/// A rule.
pub(super) struct RuleView<'a> {
    pub(super) direction: Direction,
    pub(super) index: usize,
    pub(super) rule: &'a Rule,
    /// Its name in verdicts.
    pub(super) name: String,
}

impl RuleView<'_> {
    /// `spec.ingress[0]`.
    pub(super) fn path(&self) -> String {
        let word = word(self.direction);
        format!("spec.{word}[{}]", self.index)
    }
}

pub(super) const fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// What lints look at.
pub(super) struct View<'a> {
    pub(super) cluster: &'a Cluster,
    /// Kinds, each with the workloads that its pods are of.
    pub(super) pods: BTreeMap<PodKind, BTreeSet<String>>,
    pub(super) namespaces: BTreeMap<String, Labels>,
    pub(super) policies: Vec<Policy<'a>>,
}

const BOTH: [Direction; 2] = [Direction::Ingress, Direction::Egress];

impl<'a> View<'a> {
    pub(super) fn of(cluster: &'a Cluster, owners: &Owners) -> Self {
        let mut pods: BTreeMap<PodKind, BTreeSet<String>> = BTreeMap::new();
        let mut names: BTreeSet<&String> = cluster.namespaces.keys().collect();
        for pod in cluster.pods.values().filter(|it| !it.completed) {
            names.insert(&pod.pod.namespace);
            let workload = owner_of(pod, owners).unwrap_or(&pod.pod.name);
            let workloads = pods.entry(kind(pod)).or_default();
            workloads.insert(workload.to_owned());
        }
        let labels = |it: &String| (it.clone(), cluster.namespace_labels(it));
        Self {
            cluster,
            pods,
            namespaces: names.into_iter().map(labels).collect(),
            policies: policies(cluster),
        }
    }

    /// The pods that a policy is for.
    pub(super) fn subjects<'v>(
        &'v self,
        policy: &'v Policy<'_>,
    ) -> impl Iterator<Item = &'v PodKind> {
        let all = self.pods.keys().filter(|it| !it.host_network);
        all.filter(|it| self.is_for(policy, it))
    }

    /// Whether a policy is for pods of a kind, leaving aside whose addresses they have.
    pub(super) fn is_for(&self, policy: &Policy<'_>, pods: &PodKind) -> bool {
        let own = policy.namespace.is_none_or(|it| it == pods.namespace);
        let namespaces = policy.namespaces.is_none_or(|it| {
            let labels = self.namespaces.get(&pods.namespace);
            labels.is_some_and(|labels| it.matches(labels))
        });
        let networks = policy
            .networks
            .is_none_or(|it| !it.is_disjoint(&pods.networks));
        own && namespaces && networks && policy.pods.matches(&pods.labels)
    }
}

fn kind(pod: &Pod) -> PodKind {
    let port = |it: &crate::cluster::ContainerPort| (it.name.clone(), it.protocol, it.number);
    let mut ports: Vec<_> = pod.ports.iter().map(port).collect();
    ports.sort();
    ports.dedup();
    let networks = pod.interfaces.iter().map(|it| it.network.clone());
    PodKind {
        namespace: pod.pod.namespace.clone(),
        labels: pod.labels.clone(),
        ports,
        networks: networks.collect(),
        host_network: pod.host_network,
    }
}

fn policies(cluster: &Cluster) -> Vec<Policy<'_>> {
    let mut all = Vec::new();
    for (name, policy) in &cluster.policies {
        let rules = BOTH.into_iter().flat_map(|direction| {
            let rules = policy.rules(direction).unwrap_or_default();
            rules.iter().enumerate().map(move |(index, rule)| RuleView {
                direction,
                index,
                rule,
                name: rule_name(name, direction, index),
            })
        });
        all.push(Policy {
            object: format!("NetworkPolicy {name}"),
            namespace: Some(&name.namespace),
            namespaces: None,
            pods: &policy.pod_selector,
            networks: None,
            mode: policy.mode,
            rules: rules.collect(),
        });
    }
    for (name, policy) in &cluster.cluster_policies {
        let rules = BOTH.into_iter().flat_map(|direction| {
            let rules = policy.rules(direction).iter().enumerate();
            rules.filter_map(move |(index, it)| {
                Some(RuleView {
                    direction,
                    index,
                    rule: it.flows.as_ref()?,
                    name: cluster_rule_name(name, policy, direction, index),
                })
            })
        });
        all.push(Policy {
            object: format!("ClusterNetworkPolicy {name}"),
            namespace: None,
            namespaces: Some(&policy.namespaces),
            pods: &policy.pods,
            networks: None,
            mode: policy.mode,
            rules: rules.collect(),
        });
    }
    for (name, multi) in &cluster.multi_policies {
        let rules = BOTH.into_iter().flat_map(|direction| {
            let rules = multi.policy.rules(direction).unwrap_or_default();
            rules.iter().enumerate().map(move |(index, rule)| RuleView {
                direction,
                index,
                rule,
                name: multi_rule_name(name, direction, index),
            })
        });
        all.push(Policy {
            object: format!("MultiNetworkPolicy {name}"),
            namespace: Some(&name.namespace),
            namespaces: None,
            pods: &multi.policy.pod_selector,
            networks: Some(&multi.networks),
            mode: multi.policy.mode,
            rules: rules.collect(),
        });
    }
    all
}
