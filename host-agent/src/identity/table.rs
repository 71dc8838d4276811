//! The numbers of one node: never on the wire, but journalled, so that a restarted agent
//! goes on with the same.

use serde::{Deserialize, Serialize};
use sluice_offload_api::limits::{IDENTITIES_MAX, POLICIES_MAX};
use sluice_offload_api::model::{IdentityId, PolicyId};
use std::collections::BTreeSet;

use super::{Full, IdentityKey, NamedPorts, Numbers};
use crate::cluster::NamespacedName;

/// What endpoints share a table by: the policies that select them, and the numbers of
/// their own ports by the names that these policies' ingress rules use.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct PolicyKey {
    /// The NetworkPolicies, in order.
    pub policies: Vec<NamespacedName>,
    /// The ClusterNetworkPolicies, in the order in which they are asked.
    #[serde(default)]
    pub cluster_policies: Vec<String>,
    /// Of a secondary interface the MultiNetworkPolicies, in order, and it has none of the
    /// others; `None` is a primary one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multi_policies: Option<Vec<NamespacedName>>,
    /// The named ports.
    pub ports: NamedPorts,
}

/// The numbers of identities and of compiled policies. Each compile updates them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct IdentityTable {
    identities: Numbers<IdentityKey>,
    policies: Numbers<PolicyKey>,
}

impl IdentityTable {
    /// The number of an identity, if the last compile needed it.
    #[must_use]
    pub fn identity(&self, key: &IdentityKey) -> Option<IdentityId> {
        self.identities.number(key).map(IdentityId)
    }

    /// The number of a policy, if the last compile needed it.
    #[must_use]
    pub fn policy(&self, key: &PolicyKey) -> Option<PolicyId> {
        self.policies.number(key).map(PolicyId)
    }

    /// All identities.
    pub fn identities(&self) -> impl Iterator<Item = (&IdentityKey, IdentityId)> {
        self.identities
            .iter()
            .map(|(key, number)| (key, IdentityId(number)))
    }

    /// All policies.
    pub fn policies(&self) -> impl Iterator<Item = (&PolicyKey, PolicyId)> {
        self.policies
            .iter()
            .map(|(key, number)| (key, PolicyId(number)))
    }

    /// Numbers exactly these.
    ///
    /// # Errors
    /// [`Full`] if there are more than the contract with the dataplane allows.
    pub fn renumber(
        &mut self,
        identities: BTreeSet<IdentityKey>,
        policies: BTreeSet<PolicyKey>,
    ) -> Result<(), Full> {
        self.identities
            .renumber(identities, "identities", IDENTITIES_MAX)?;
        self.policies.renumber(policies, "policies", POLICIES_MAX)
    }
}
