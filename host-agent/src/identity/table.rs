//! The numbers of one node: never on the wire, but journalled, so that a restarted agent
//! goes on with the same.

use serde::{Deserialize, Serialize};
use sluice_offload_api::limits::{IDENTITIES_MAX, POLICIES_MAX};
use sluice_offload_api::model::{Encryption, IdentityId, NodeName, PolicyId};
use std::collections::BTreeSet;

use super::{Full, IdentityKey, NamedPorts, Numbers, Subject};
use crate::cluster::{Labels, NamespacedName};

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

    /// What an identity's number is of.
    #[must_use]
    pub fn key(&self, id: IdentityId) -> Option<&IdentityKey> {
        self.identities.key(id.0)
    }

    /// What endpoints have the table of this number by.
    #[must_use]
    pub fn policy_key(&self, id: PolicyId) -> Option<&PolicyKey> {
        self.policies.key(id.0)
    }

    /// How many identities there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.identities.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.identities.is_empty()
    }

    /// The identities of a namespace's pods.
    pub(crate) fn of_namespace(&self, name: &str) -> Vec<(&IdentityKey, IdentityId)> {
        let is_of = |key: &IdentityKey| matches!(&key.subject, Subject::Pod { namespace, .. } if namespace == name);
        self.of_subject(
            Subject::Pod {
                namespace: name.to_owned(),
                network: None,
                labels: Labels::new(),
                ports: NamedPorts::default(),
            },
            is_of,
        )
    }

    /// The identities of a node.
    pub(crate) fn of_node(&self, node: &NodeName) -> Vec<(&IdentityKey, IdentityId)> {
        let is_of =
            |key: &IdentityKey| matches!(&key.subject, Subject::Node { name } if name == node);
        self.of_subject(Subject::Node { name: node.clone() }, is_of)
    }

    /// Those from a subject on as long as they are of it.
    fn of_subject(
        &self,
        subject: Subject,
        is_of: impl Fn(&IdentityKey) -> bool,
    ) -> Vec<(&IdentityKey, IdentityId)> {
        let first = IdentityKey {
            subject,
            blocks: BTreeSet::new(),
            // The least of them.
            encryption: Encryption::Off,
        };
        self.identities
            .from(&first)
            .take_while(|(key, _)| is_of(key))
            .map(|(key, number)| (key, IdentityId(number)))
            .collect()
    }

    /// [`Self::renumber`] by what is different; without policies they stay. The same error,
    /// and nothing has changed then.
    pub(crate) fn change(
        &mut self,
        gone: Vec<IdentityKey>,
        fresh: BTreeSet<IdentityKey>,
        policies: Option<BTreeSet<PolicyKey>>,
    ) -> Result<(), Full> {
        let count = self.identities.len() + fresh.len() - gone.len();
        let (what, max) = ("identities", IDENTITIES_MAX);
        if count > max {
            return Err(Full { what, count, max });
        }
        if let Some(policies) = policies {
            self.policies.renumber(policies, "policies", POLICIES_MAX)?;
        }
        self.identities.change(gone, fresh);
        Ok(())
    }
}
