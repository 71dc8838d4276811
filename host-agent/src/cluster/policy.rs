//! NetworkPolicy (`networking.k8s.io/v1`) and the parts of rules, with what its fields leave to inference made
//! plain.

use sluice_offload_api::model::{Direction, DomainPattern, IpPrefix, Protocol};

use super::{LabelSelector, Mode};

/// A NetworkPolicy.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NetworkPolicy {
    /// The pods of its namespace that it is for.
    pub pod_selector: LabelSelector,
    /// If it isolates those pods towards them, what it allows. `Some` exactly if
    /// `policyTypes`, given or inferred, has Ingress.
    pub ingress: Option<Vec<Rule>>,
    /// The same from them.
    pub egress: Option<Vec<Rule>>,
    /// Whether it is in force.
    pub mode: Mode,
}

impl NetworkPolicy {
    /// The rules of a direction, if it isolates in it.
    #[must_use]
    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// A rule: allows what matches one of its peers and one of its ports.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rule {
    /// Who; empty is anyone.
    pub peers: Vec<Peer>,
    /// What; empty is anything, protocols that policies can't name too.
    pub ports: Vec<PortRule>,
}

/// Who a rule is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Peer {
    /// Pods. At least one of the two is there.
    Pods {
        /// In which namespaces; `None` is the policy's own.
        namespaces: Option<LabelSelector>,
        /// Which; `None` is all.
        pods: Option<LabelSelector>,
    },
    /// Nodes with these labels, and their hostNetwork pods. ClusterNetworkPolicies only.
    Nodes(LabelSelector),
    /// What is outside the cluster and has an address that the pod's resolver gave for such a
    /// name. Egress rules of ClusterNetworkPolicies that accept only.
    Domain(DomainPattern),
    /// Addresses, whoever has them.
    Block {
        /// Those of this prefix.
        cidr: IpPrefix,
        /// But none of these, each within `cidr`.
        except: Vec<IpPrefix>,
    },
}

/// Destination ports that a rule is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortRule {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// Which of its ports.
    pub ports: PortSpec,
}

/// Some ports of a protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PortSpec {
    /// All.
    Any,
    /// Those in a range.
    Range {
        /// The first, at least 1.
        first: u16,
        /// The last.
        last: u16,
    },
    /// Those that the destination pod gave this name.
    Named(String),
}
