//! All kinds at the server.

use sluice_host_agent::cluster::{
    Cluster, ClusterPolicy, MultiPolicy, Namespace, NamespacedName, NetworkPolicy, Node, Pod,
    Service,
};
use sluice_offload_api::model::{NodeName, PodRef};

use super::kind::Kind;
use crate::fault::ObjectKind;

/// What the API server has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Server {
    /// Counts every change of any object.
    version: u64,
    pub(super) namespaces: Kind<String, Namespace>,
    pub(super) nodes: Kind<NodeName, Node>,
    pub(super) pods: Kind<PodRef, Pod>,
    pub(super) policies: Kind<NamespacedName, NetworkPolicy>,
    pub(super) cluster_policies: Kind<String, ClusterPolicy>,
    pub(super) multi_policies: Kind<NamespacedName, MultiPolicy>,
    pub(super) services: Kind<NamespacedName, Service>,
}

impl Server {
    /// The objects are these from now on.
    pub(crate) fn set(&mut self, cluster: &Cluster) {
        let version = &mut self.version;
        self.namespaces.set(&cluster.namespaces, version);
        self.nodes.set(&cluster.nodes, version);
        self.pods.set(&cluster.pods, version);
        self.policies.set(&cluster.policies, version);
        self.cluster_policies
            .set(&cluster.cluster_policies, version);
        self.multi_policies.set(&cluster.multi_policies, version);
        self.services.set(&cluster.services, version);
        let version = self.version;
        self.namespaces.reach(version);
        self.nodes.reach(version);
        self.pods.reach(version);
        self.policies.reach(version);
        self.cluster_policies.reach(version);
        self.multi_policies.reach(version);
        self.services.reach(version);
    }

    /// What happened so far is no more to be had of any kind.
    pub(crate) fn forget_events(&mut self) {
        self.namespaces.forget_events();
        self.nodes.forget_events();
        self.pods.forget_events();
        self.policies.forget_events();
        self.cluster_policies.forget_events();
        self.multi_policies.forget_events();
        self.services.forget_events();
    }

    /// Of one kind it has what another has that is behind, and is of that one's version in it.
    pub(crate) fn take_over(&mut self, kind: ObjectKind, behind: &Self) {
        match kind {
            ObjectKind::Namespaces => self.namespaces.clone_from(&behind.namespaces),
            ObjectKind::Nodes => self.nodes.clone_from(&behind.nodes),
            ObjectKind::Pods => self.pods.clone_from(&behind.pods),
            ObjectKind::Policies => self.policies.clone_from(&behind.policies),
            ObjectKind::ClusterPolicies => {
                self.cluster_policies.clone_from(&behind.cluster_policies);
            }
            ObjectKind::MultiPolicies => self.multi_policies.clone_from(&behind.multi_policies),
            ObjectKind::Services => self.services.clone_from(&behind.services),
        }
    }
}
