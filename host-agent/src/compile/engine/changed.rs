//! What is different between two versions of a cluster.

use std::collections::BTreeSet;

use sluice_mutants::{Mutant, is};
use sluice_offload_api::model::{Direction, IdentityId, NodeName, PodRef, PolicyId};
use sluice_offload_api::shared::Change;

use crate::cluster::{
    Cluster, ClusterPolicy, MultiPolicy, Namespace, NamespacedName, NetworkPolicy, Node, Pod, Rule,
    Service,
};
use crate::identity::IdentityTable;

/// The objects that differ, by kind.
pub(super) struct Changed<'a> {
    pub(super) nodes: Vec<Change<'a, NodeName, Node>>,
    pub(super) pods: Vec<Change<'a, PodRef, Pod>>,
    pub(super) services: Vec<Change<'a, NamespacedName, Service>>,
    policies: Vec<Change<'a, NamespacedName, NetworkPolicy>>,
    cluster_policies: Vec<Change<'a, String, ClusterPolicy>>,
    multi_policies: Vec<Change<'a, NamespacedName, MultiPolicy>>,
    /// By name: pods, and the namespaces of NetworkPolicies and MultiNetworkPolicies.
    pod_names: BTreeSet<&'a PodRef>,
    policy_namespaces: BTreeSet<&'a str>,
    namespaces: BTreeSet<&'a str>,
    /// Namespaces whose word on encryption is another.
    pub(super) encrypted_anew: Vec<&'a str>,
}

impl<'a> Changed<'a> {
    pub(super) fn between(before: &'a Cluster, after: &'a Cluster) -> Self {
        // By name, so that a kind of object that comes to be isn't forgotten here.
        let Cluster {
            namespaces,
            nodes,
            pods,
            policies,
            cluster_policies,
            multi_policies,
            services,
            // The engine asks for ranges themselves.
            pod_cidrs: _,
            vacated: _,
        } = before;
        let namespaces: Vec<Change<'_, String, Namespace>> = namespaces.changes(&after.namespaces);
        let mut pods = pods.changes(&after.pods);
        if is(Mutant::LabelsForgotten) {
            let uid = |pod: Option<&'a Pod>| pod.map(|it| &it.uid);
            pods.retain(|it| uid(it.before) != uid(it.after));
        }
        let policies = policies.changes(&after.policies);
        let multi_policies = multi_policies.changes(&after.multi_policies);
        let own = policies.iter().map(|it| it.key);
        let own = own.chain(multi_policies.iter().map(|it| it.key));
        Self {
            nodes: nodes.changes(&after.nodes),
            services: services.changes(&after.services),
            cluster_policies: cluster_policies.changes(&after.cluster_policies),
            pod_names: pods.iter().map(|it| it.key).collect(),
            policy_namespaces: own.map(|it| it.namespace.as_str()).collect(),
            encrypted_anew: namespaces.iter().filter_map(encrypted_anew).collect(),
            namespaces: namespaces.iter().map(|it| it.key.as_str()).collect(),
            pods,
            policies,
            multi_policies,
        }
    }

    /// Whether other policies may be for some pod now, or a pod that `is_ours` was or is among
    /// those that changed.
    pub(super) fn concerns(&self, is_ours: impl Fn(&Pod) -> bool) -> bool {
        !self.namespaces.is_empty()
            || !self.policies.is_empty()
            || !self.cluster_policies.is_empty()
            || !self.multi_policies.is_empty()
            || self.pods.iter().any(|it| {
                let mut both = it.before.into_iter().chain(it.after);
                both.any(&is_ours)
            })
    }

    /// Whether other policies may be for the pod now, or its own ports be others.
    pub(super) fn is_judged_anew(&self, pod: &PodRef) -> bool {
        let namespace = pod.namespace.as_str();
        !self.cluster_policies.is_empty()
            || self.policy_namespaces.contains(namespace)
            || self.namespaces.contains(namespace)
            || self.pod_names.contains(pod)
    }

    /// The rules of changed policies as they were and as they are, and whether they are.
    pub(super) fn rules(&self) -> impl Iterator<Item = (Direction, &'a Rule, bool)> {
        let own = self.policies.iter().flat_map(|it| {
            let versions = [(it.before, false), (it.after, true)].into_iter();
            versions.flat_map(|(policy, is_new)| {
                both(move |direction| {
                    let rules = policy.and_then(|it| it.rules(direction));
                    rules.into_iter().flatten()
                })
                .map(move |(direction, rule)| (direction, rule, is_new))
            })
        });
        let cluster = self.cluster_policies.iter().flat_map(|it| {
            let versions = [(it.before, false), (it.after, true)].into_iter();
            versions.flat_map(|(policy, is_new)| {
                both(move |direction| {
                    let rules = policy.into_iter().flat_map(move |it| it.rules(direction));
                    rules.filter_map(|it| it.flows.as_ref())
                })
                .map(move |(direction, rule)| (direction, rule, is_new))
            })
        });
        let multi = self.multi_policies.iter().flat_map(|it| {
            let versions = [(it.before, false), (it.after, true)].into_iter();
            versions.flat_map(|(multi, is_new)| {
                both(move |direction| {
                    let rules = multi.and_then(|it| it.policy.rules(direction));
                    rules.into_iter().flatten()
                })
                .map(move |(direction, rule)| (direction, rule, is_new))
            })
        });
        own.chain(cluster).chain(multi)
    }

    /// The identities that rules may match otherwise, though they are whose they were.
    pub(super) fn matched_anew(&self, identities: &IdentityTable) -> Vec<IdentityId> {
        let of_namespaces = self
            .namespaces
            .iter()
            .flat_map(|it| identities.of_namespace(it));
        let of_nodes = self.nodes.iter().flat_map(|it| identities.of_node(it.key));
        of_namespaces.chain(of_nodes).map(|(_, id)| id).collect()
    }

    /// The tables that changed policies are in.
    pub(super) fn tables(&self, identities: &IdentityTable) -> Vec<PolicyId> {
        let own: BTreeSet<_> = self.policies.iter().map(|it| it.key).collect();
        let cluster: BTreeSet<_> = self.cluster_policies.iter().map(|it| it.key).collect();
        let multi: BTreeSet<_> = self.multi_policies.iter().map(|it| it.key).collect();
        if own.is_empty() && cluster.is_empty() && multi.is_empty() {
            return Vec::new();
        }
        let of_them = identities.policies().filter(|(key, _)| {
            key.policies.iter().any(|it| own.contains(it))
                || key.cluster_policies.iter().any(|it| cluster.contains(it))
                || key
                    .multi_policies
                    .iter()
                    .flatten()
                    .any(|it| multi.contains(it))
        });
        of_them.map(|(_, id)| id).collect()
    }
}

fn encrypted_anew<'a>(it: &Change<'a, String, Namespace>) -> Option<&'a str> {
    let word = |namespace: Option<&Namespace>| namespace.and_then(|it| it.encryption);
    (word(it.before) != word(it.after)).then_some(it.key.as_str())
}

fn both<'a, I: Iterator<Item = &'a Rule>>(
    rules: impl Fn(Direction) -> I,
) -> impl Iterator<Item = (Direction, &'a Rule)> {
    [Direction::Ingress, Direction::Egress]
        .into_iter()
        .flat_map(move |direction| rules(direction).map(move |rule| (direction, rule)))
}
