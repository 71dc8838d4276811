//! Whom selectors select and policies are for, read once more: what the compiler reads them with is
//! what is held against this.

use crate::cluster::{
    Cluster, ClusterPolicy, Interface, LabelSelector, Labels, MultiPolicy, NAMESPACE_NAME_LABEL,
    NamespacedName, NetworkPolicy, Operator, Pod,
};
use sluice_offload_api::SharedMap;

/// "A label selector is a label query over a set of resources. The result of matchLabels and
/// matchExpressions are ANDed" (metav1.LabelSelector). An expression's values are those that it
/// lets through, or that it doesn't; a label that is absent is not one of any values.
pub(super) fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    all_hold(selector, |key| labels.get(key).map(String::as_str))
}

fn all_hold<'a>(selector: &LabelSelector, label: impl Fn(&str) -> Option<&'a str>) -> bool {
    for (key, wanted) in &selector.match_labels {
        match label(key) {
            Some(value) if value == wanted => {}
            Some(_) | None => return false,
        }
    }
    for requirement in &selector.match_expressions {
        let value = label(&requirement.key);
        let holds = match (&requirement.operator, value) {
            (Operator::Exists, value) => value.is_some(),
            (Operator::DoesNotExist, value) => value.is_none(),
            (Operator::In(listed), Some(value)) => listed.contains(value),
            (Operator::NotIn(listed), Some(value)) => !listed.contains(value),
            (Operator::In(_), None) => false,
            (Operator::NotIn(_), None) => true,
        };
        if !holds {
            return false;
        }
    }
    true
}

/// Whether a namespace is selected: by its labels and the one that its name gives it.
pub(super) fn selects_namespace(cluster: &Cluster, selector: &LabelSelector, name: &str) -> bool {
    let own = cluster.namespaces.get(name);
    all_hold(selector, |key| match own {
        _ if key == NAMESPACE_NAME_LABEL => Some(name),
        Some(namespace) => namespace.labels.get(key).map(String::as_str),
        None => None,
    })
}

/// A namespace's policies: the map has them side by side, and every point that an agent checks asks
/// for them.
fn of_namespace<'a, V>(
    all: &'a SharedMap<NamespacedName, V>,
    namespace: &'a str,
) -> impl Iterator<Item = (&'a NamespacedName, &'a V)> {
    let first = NamespacedName {
        namespace: namespace.to_owned(),
        name: String::new(),
    };
    all.range(first..)
        .take_while(move |(name, _)| name.namespace == namespace)
}

/// Whether a policy of its namespace is for a pod.
fn is_for(selector: &LabelSelector, pod: &Pod) -> bool {
    pod.owns_addresses() && selects(selector, &pod.labels)
}

/// The NetworkPolicies of a pod, by name: "policyTypes" are for who asks for its rules.
pub(super) fn network_policies<'a>(
    cluster: &'a Cluster,
    pod: &'a Pod,
) -> impl Iterator<Item = (&'a NamespacedName, &'a NetworkPolicy)> {
    let all = of_namespace(&cluster.policies, &pod.pod.namespace);
    all.filter(|(_, it)| is_for(&it.pod_selector, pod))
}

/// The MultiNetworkPolicies of a pod's interface, by name.
pub(super) fn multi_policies<'a>(
    cluster: &'a Cluster,
    pod: &'a Pod,
    interface: &'a Interface,
) -> impl Iterator<Item = (&'a NamespacedName, &'a MultiPolicy)> {
    let all = of_namespace(&cluster.multi_policies, &pod.pod.namespace);
    let own = all.filter(|(_, it)| is_for(&it.policy.pod_selector, pod));
    own.filter(|(_, it)| it.networks.contains(&interface.network))
}

/// The ClusterNetworkPolicies of a pod, the lowest priority of a tier first, and of the same
/// priority by name.
pub(super) fn cluster_policies<'a>(
    cluster: &'a Cluster,
    pod: &'a Pod,
) -> impl Iterator<Item = (&'a String, &'a ClusterPolicy)> {
    let all = cluster.cluster_policies.iter();
    let mut own: Vec<_> = all
        .filter(|(_, policy)| {
            pod.owns_addresses()
                && selects_namespace(cluster, &policy.namespaces, &pod.pod.namespace)
                && selects(&policy.pods, &pod.labels)
        })
        .collect();
    // They come by name, and stay so among those of one priority.
    own.sort_by_key(|(_, policy)| policy.priority);
    own.into_iter()
}
