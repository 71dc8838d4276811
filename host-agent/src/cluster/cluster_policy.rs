//! ClusterNetworkPolicy (`policy.networking.k8s.io/v1alpha2`).

use sluice_offload_api::model::{Direction, Tier};

use super::{Cluster, LabelSelector, Mode, Pod, Rule};

/// A ClusterNetworkPolicy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterPolicy {
    /// [`Tier::Admin`] or [`Tier::Baseline`].
    pub tier: Tier,
    /// Its precedence within the tier, 0 to 1000; the lower is asked first.
    pub priority: u16,
    /// The namespaces whose pods it is for,
    pub namespaces: LabelSelector,
    /// and which of those pods.
    pub pods: LabelSelector,
    /// Its rules towards them, in order.
    pub ingress: Vec<ClusterRule>,
    /// Its rules from them, in order.
    pub egress: Vec<ClusterRule>,
    /// Whether it is in force.
    pub mode: Mode,
}

/// A rule: what is done with the flows that match it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterRule {
    /// The name that its author gave it.
    pub name: Option<String>,
    /// What is done.
    pub action: RuleAction,
    /// The flows; `None` is none at all.
    ///
    /// A rule with a peer of a type that isn't known fails closed, as the API asks: one that
    /// accepts matches nothing, any other becomes one that denies everything.
    pub flows: Option<Rule>,
}

/// What a rule does with the flows that match it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RuleAction {
    /// They may be; nobody else is asked.
    Accept,
    /// They may not; nobody else is asked.
    Deny,
    /// The next tier is asked.
    Pass,
}

impl ClusterPolicy {
    /// The rules of a direction.
    #[must_use]
    pub fn rules(&self, direction: Direction) -> &[ClusterRule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

impl Cluster {
    /// The ClusterNetworkPolicies of a pod, those in shadow mode too, in the order in which they are asked: by tier,
    /// priority and, where the API leaves the choice, name. None for a pod that has no
    /// address of its own.
    #[must_use]
    pub fn cluster_policies_of(&self, pod: &Pod) -> Vec<(&String, &ClusterPolicy)> {
        if !pod.owns_addresses() || self.cluster_policies.is_empty() {
            return Vec::new();
        }
        let namespace = self.namespace_labels(&pod.pod.namespace);
        let is_for = |policy: &ClusterPolicy| {
            policy.namespaces.matches(&namespace) && policy.pods.matches(&pod.labels)
        };
        let mut policies: Vec<_> = self
            .cluster_policies
            .iter()
            .filter(|(_, policy)| is_for(policy))
            .collect();
        policies.sort_by_key(|(name, policy)| (policy.tier, policy.priority, *name));
        policies
    }
}
