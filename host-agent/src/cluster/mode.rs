//! Shadow mode: policies that are asked and counted, and not obeyed.

use core::net::IpAddr;

use super::{Cluster, Pod};

/// Whether a policy is in force.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Mode {
    /// It is.
    #[default]
    Enforce,
    /// It neither isolates nor allows nor denies; what it would do is counted.
    Shadow,
}

/// Which policies a question is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PolicySet {
    /// Those in force.
    Enforced,
    /// Those in shadow mode too, as if they were enforced.
    WithShadow,
}

impl PolicySet {
    /// Whether a policy of this mode belongs to it.
    #[must_use]
    pub const fn has(self, mode: Mode) -> bool {
        matches!((self, mode), (Self::WithShadow, _) | (_, Mode::Enforce))
    }
}

impl Cluster {
    /// Whether a policy in shadow mode is for the pod's interface at an address: the primary
    /// one, unless a secondary one has it.
    #[must_use]
    pub fn is_shadowed(&self, pod: &Pod, ip: IpAddr) -> bool {
        if let Some(interface) = pod.interface_at(ip) {
            let mut policies = self.multi_policies_of(pod, interface);
            return policies.any(|(_, it)| it.policy.mode == Mode::Shadow);
        }
        let own = self.policies_of(pod).any(|(_, it)| it.mode == Mode::Shadow);
        own || {
            let cluster = self.cluster_policies_of(pod);
            cluster.iter().any(|(_, it)| it.mode == Mode::Shadow)
        }
    }

    /// The policies in shadow mode, as people name them: `NetworkPolicy shop/cart`.
    #[must_use]
    pub fn shadow_policies(&self) -> Vec<String> {
        let own = self.policies.iter();
        let own = own.filter(|(_, it)| it.mode == Mode::Shadow);
        let cluster = self.cluster_policies.iter();
        let cluster = cluster.filter(|(_, it)| it.mode == Mode::Shadow);
        let multi = self.multi_policies.iter();
        let multi = multi.filter(|(_, it)| it.policy.mode == Mode::Shadow);
        own.map(|(name, _)| format!("NetworkPolicy {name}"))
            .chain(cluster.map(|(name, _)| format!("ClusterNetworkPolicy {name}")))
            .chain(multi.map(|(name, _)| format!("MultiNetworkPolicy {name}")))
            .collect()
    }
}
