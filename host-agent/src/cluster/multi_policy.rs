//! MultiNetworkPolicy (`k8s.cni.cncf.io`): NetworkPolicy for pods' secondary interfaces.

use std::collections::BTreeSet;

use super::{Cluster, Interface, NamespacedName, NetworkPolicy, Pod};

/// A MultiNetworkPolicy.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MultiPolicy {
    /// The networks that it is for, and that its selectors' pods count on: the annotation
    /// `k8s.v1.cni.cncf.io/policy-for`. Without any it is for nobody.
    pub networks: BTreeSet<NamespacedName>,
    /// What it says, as a NetworkPolicy does.
    pub policy: NetworkPolicy,
}

impl Cluster {
    /// The MultiNetworkPolicies of a pod's secondary interface, in order: those of the pod's
    /// namespace that select it and are for the interface's network.
    pub fn multi_policies_of<'a>(
        &'a self,
        pod: &'a Pod,
        interface: &'a Interface,
    ) -> impl Iterator<Item = (&'a NamespacedName, &'a MultiPolicy)> {
        let first = NamespacedName {
            namespace: pod.pod.namespace.clone(),
            name: String::new(),
        };
        let is_for = |it: &MultiPolicy| {
            it.networks.contains(&interface.network) && it.policy.pod_selector.matches(&pod.labels)
        };
        self.multi_policies
            .range(first..)
            .take_while(|(name, _)| name.namespace == pod.pod.namespace)
            .filter(move |(_, policy)| pod.owns_addresses() && is_for(policy))
    }

    /// Whether any pod has an interface on a network, an address there or none.
    #[must_use]
    pub fn has_network(&self, network: &NamespacedName) -> bool {
        let mut interfaces = self.pods.values().flat_map(|it| &it.interfaces);
        interfaces.any(|it| it.network == *network)
    }
}
