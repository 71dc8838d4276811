//! All kinds of objects that a cluster is made of.

use sluice_offload_api::SharedMap;
use sluice_offload_api::model::{NodeName, PodRef};

use super::Reflector;
use crate::cluster::{
    Cluster, ClusterPolicy, MultiPolicy, Namespace, NamespacedName, NetworkPolicy, Node, Pod,
    Service,
};

/// A list and a watch of each kind.
#[derive(Clone, Debug, Default)]
pub struct Watches {
    /// Namespaces.
    pub namespaces: Reflector<String, Namespace>,
    /// Nodes.
    pub nodes: Reflector<NodeName, Node>,
    /// Pods.
    pub pods: Reflector<PodRef, Pod>,
    /// `NetworkPolicy`.
    pub policies: Reflector<NamespacedName, NetworkPolicy>,
    /// `ClusterNetworkPolicy`.
    pub cluster_policies: Reflector<String, ClusterPolicy>,
    /// `MultiNetworkPolicy`.
    pub multi_policies: Reflector<NamespacedName, MultiPolicy>,
    /// Services.
    pub services: Reflector<NamespacedName, Service>,
}

fn known<K: Ord + Clone, V: PartialEq>(kind: &Reflector<K, V>) -> Option<SharedMap<K, V>> {
    kind.known().cloned()
}

impl Watches {
    /// The cluster as far as the API has told; `None` before each kind has been listed once: a
    /// policy that isn't known would not be enforced.
    #[must_use]
    pub fn cluster(&self) -> Option<Cluster> {
        Some(Cluster {
            namespaces: known(&self.namespaces)?,
            nodes: known(&self.nodes)?,
            pods: known(&self.pods)?,
            policies: known(&self.policies)?,
            cluster_policies: known(&self.cluster_policies)?,
            multi_policies: known(&self.multi_policies)?,
            services: known(&self.services)?,
            ..Cluster::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Page, Version};
    use super::*;

    fn listed<K: Ord + Clone, V: PartialEq>(kind: &mut Reflector<K, V>) {
        kind.on_page(Page {
            items: Vec::new(),
            version: Version("1".to_owned()),
            more: None,
        });
    }

    #[test]
    fn there_is_no_cluster_before_the_last_kind_is_listed() {
        let all: [fn(&mut Watches); 7] = [
            |it| listed(&mut it.namespaces),
            |it| listed(&mut it.nodes),
            |it| listed(&mut it.pods),
            |it| listed(&mut it.policies),
            |it| listed(&mut it.cluster_policies),
            |it| listed(&mut it.multi_policies),
            |it| listed(&mut it.services),
        ];
        for last in 0..all.len() {
            let mut watches = Watches::default();
            for (_, list) in all.iter().enumerate().filter(|it| it.0 != last) {
                list(&mut watches);
            }
            assert!(watches.cluster().is_none(), "without kind {last}");
            all[last](&mut watches);
            assert_eq!(watches.cluster(), Some(Cluster::default()));
        }
    }
}
