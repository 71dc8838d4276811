//! What the cluster is: namespaces, nodes, pods, policies and service addresses.
//!
//! The maps are public and may be changed at any time; nothing is cached from them. The
//! simulator places pods and gives them addresses here before its agents look.

mod addresses;
mod cluster_policy;
mod encryption;
mod mode;
mod multi_policy;
mod objects;
mod policy;
mod ranges;
mod selector;

use core::net::IpAddr;
use std::collections::BTreeSet;

pub use addresses::{AddressIndex, AddressTaken, Holder};
pub use cluster_policy::{ClusterPolicy, ClusterRule, RuleAction};
pub use encryption::{EncryptionSetup, LoosestAboveDefault};
pub use mode::{Mode, PolicySet};
pub use multi_policy::MultiPolicy;
pub use objects::{
    ContainerPort, Interface, Namespace, NamespacedName, Node, PRIMARY_INTERFACE, Pod, Service,
};
pub use policy::{NetworkPolicy, Peer, PortRule, PortSpec, Rule};
pub use ranges::{PodCidrError, PodRanges, pod_cidr};
pub use selector::{LabelSelector, Labels, Operator, Requirement};
use sluice_offload_api::SharedMap;
use sluice_offload_api::model::{Direction, IpPrefix, NodeName, PodRef};

/// The label that every namespace has and that holds its name.
pub const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Everything the agent knows of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Namespaces by name. One that is only referred to needs no entry.
    pub namespaces: SharedMap<String, Namespace>,
    /// Nodes by name.
    pub nodes: SharedMap<NodeName, Node>,
    /// Pods by namespace and name.
    pub pods: SharedMap<PodRef, Pod>,
    /// NetworkPolicies. The order of the keys, namespace before name, is the order in
    /// which rules are tried and named.
    pub policies: SharedMap<NamespacedName, NetworkPolicy>,
    /// ClusterNetworkPolicies by name.
    pub cluster_policies: SharedMap<String, ClusterPolicy>,
    /// MultiNetworkPolicies, in the order in which their rules are tried and named.
    pub multi_policies: SharedMap<NamespacedName, MultiPolicy>,
    /// Services, for their addresses.
    pub services: SharedMap<NamespacedName, Service>,
    /// Prefixes whose addresses only pods have, by the operator's word; if there are none, those
    /// that the nodes have for their pods are: [`PodRanges`].
    pub pod_cidrs: BTreeSet<IpPrefix>,
    /// Addresses of interfaces that this node has taken back (CNI DEL) while their pods are still
    /// listed: only pods have these, too, and none is known to.
    pub vacated: BTreeSet<IpAddr>,
}

impl Cluster {
    /// A namespace's labels with [`NAMESPACE_NAME_LABEL`], which its name alone gives it.
    #[must_use]
    pub fn namespace_labels(&self, name: &str) -> Labels {
        let namespace = self.namespaces.get(name);
        let mut labels = namespace.map_or_else(Labels::new, |it| it.labels.clone());
        labels.insert(NAMESPACE_NAME_LABEL.to_owned(), name.to_owned());
        labels
    }

    /// Whether a selector selects a namespace, by [`Self::namespace_labels`].
    #[must_use]
    pub fn is_namespace_of(&self, selector: &LabelSelector, name: &str) -> bool {
        let own = self.namespaces.get(name).map(|it| &it.labels);
        selector.matches_by(|key| {
            if key == NAMESPACE_NAME_LABEL {
                return Some(name);
            }
            own?.get(key).map(String::as_str)
        })
    }

    /// The policies that isolate or allow anything for a pod, or would if they weren't in
    /// shadow mode: those of its namespace whose
    /// selector matches it, in order. None for a pod that has no address of its own.
    pub fn policies_of<'a>(
        &'a self,
        pod: &'a Pod,
    ) -> impl Iterator<Item = (&'a NamespacedName, &'a NetworkPolicy)> {
        let first = NamespacedName {
            namespace: pod.pod.namespace.clone(),
            name: String::new(),
        };
        self.policies
            .range(first..)
            .take_while(|(name, _)| name.namespace == pod.pod.namespace)
            .filter(|(_, policy)| pod.owns_addresses() && policy.pod_selector.matches(&pod.labels))
    }

    /// Every policy's rules in a direction.
    pub fn rules(&self, direction: Direction) -> impl Iterator<Item = &Rule> {
        let own = self
            .policies
            .values()
            .filter_map(move |it| it.rules(direction))
            .flatten();
        let cluster = self
            .cluster_policies
            .values()
            .flat_map(move |it| it.rules(direction));
        let multi = self.multi_policies.values();
        let multi = multi.filter_map(move |it| it.policy.rules(direction));
        own.chain(cluster.filter_map(|it| it.flows.as_ref()))
            .chain(multi.flatten())
    }

    /// Whether only pods have the address. Linear in the nodes; [`PodRanges`] are not.
    #[must_use]
    pub fn is_for_pods(&self, ip: IpAddr) -> bool {
        let of_nodes = || {
            let mut all = self.nodes.values().flat_map(|it| &it.pod_cidrs);
            all.any(|it| it.contains(ip))
        };
        if self.vacated.contains(&ip) {
            true
        } else if self.pod_cidrs.is_empty() {
            of_nodes()
        } else {
            self.pod_cidrs.iter().any(|it| it.contains(ip))
        }
    }

    /// Whether the address is a service's.
    #[must_use]
    pub fn is_service_vip(&self, ip: IpAddr) -> bool {
        self.services.values().any(|it| it.vips.contains(&ip))
    }

    /// The pod that has the address as its own, on any interface. Linear; [`AddressIndex`]
    /// is not.
    #[must_use]
    pub fn pod_at(&self, ip: IpAddr) -> Option<&Pod> {
        let has = |pod: &&Pod| pod.ips.contains(&ip) || pod.interface_at(ip).is_some();
        let mut pods = self.pods.values().filter(|pod| pod.owns_addresses());
        pods.find(has)
    }
}
