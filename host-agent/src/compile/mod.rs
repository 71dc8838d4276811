//! From a cluster to what one node's dataplane holds.
//!
//! Exactness rests on one fact: for every address, the longest prefix in the state leads
//! to the identity of everything that any rule could ask about that address. The rest is
//! writing each rule out over identities and port blocks.

mod addresses;
pub(crate) mod domains;
mod engine;
mod lookup;
mod node;
mod table;

use core::net::IpAddr;
use std::collections::BTreeMap;

pub use engine::{Engine, Touched};
pub use lookup::{Sides, crossing, judge, judge_knowing, longest_prefix, lookup, lookup_any};
pub use node::{HostSetup, NodeSetup, UplinkSetup};
use sluice_mutants::{Mutant, is};
use sluice_offload_api::model::{
    Direction, DomainPattern, Endpoint, EndpointKey, Identity, IpPrefix, NodeName, Peer, PodRef,
    PolicyId, PortName, Prefix,
};
use sluice_offload_api::{Limits, SharedMap, State};

use crate::cluster::{
    AddressIndex, AddressTaken, Cluster, Interface, Node, Peer as RulePeer, Pod, Rule,
};
use crate::identity::{Full, IdentityKey, IdentityTable, PolicyKey};
use crate::vf::{VfSlot, VfTable};

/// Why there is no state for a cluster. The last one stays in force then.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CompileError {
    /// Two have one address.
    #[error(transparent)]
    Address(#[from] AddressTaken),
    /// More identities or policies than the dataplane can hold.
    #[error(transparent)]
    Full(#[from] Full),
    /// A pod is bound to a VF that the node doesn't have.
    #[error("pod {pod} is bound to VF {port}, which is not among the node's; delete the pod")]
    UnknownVf {
        /// The pod.
        pod: PodRef,
        /// The VF's port.
        port: PortName,
    },
}

/// Compiles a cluster for one node. The state's generation is 0: the reconciler gives it
/// one. `identities` keeps its numbers for what stays, and is journalled by the caller.
///
/// An endpoint whose table does not fit comes out closed: its one rule says why.
///
/// # Errors
/// [`CompileError`]; `identities` may have lost numbers then, never changed one.
pub fn compile(
    cluster: &Cluster,
    setup: &NodeSetup,
    vfs: &VfTable,
    identities: &mut IdentityTable,
) -> Result<State, CompileError> {
    compile_within(cluster, setup, vfs, identities, &Limits::MAX)
}

/// [`compile`] for a dataplane that holds fewer rows in one policy than the contract allows.
///
/// # Errors
/// Those of [`compile`].
pub fn compile_within(
    cluster: &Cluster,
    setup: &NodeSetup,
    vfs: &VfTable,
    identities: &mut IdentityTable,
    limits: &Limits,
) -> Result<State, CompileError> {
    let index = AddressIndex::build(cluster)?;
    let bound = bound_pods(cluster, setup, vfs)?;
    let owners = addresses::owners(cluster, &index, setup, &bound);
    let keys: BTreeMap<_, PolicyKey> = bound
        .iter()
        .map(|(at, it)| (*at, table::policy_key(cluster, it.pod, it.interface)))
        .collect();
    identities.renumber(
        owners
            .values()
            .map(|owner| owner.key.clone())
            .chain(domain_keys(cluster))
            .collect(),
        keys.values().cloned().collect(),
    )?;

    let mut state = State {
        ports: setup.ports(),
        peers: peers(cluster, setup),
        ..State::default()
    };
    for (key, id) in identities.identities() {
        state.identities.insert(
            id,
            Identity {
                id,
                label: key.label(),
                domain: key.pattern().cloned(),
                encryption: key.encryption,
            },
        );
    }
    for (prefix, owner) in owners {
        if let Some(node) = addresses::needs_peer(&owner.place)
            && !state.peers.contains_key(node)
        {
            let peer = peer(node, &Node::default());
            state.peers.insert(node.clone(), peer);
        }
        // Always there: it was numbered above.
        if let Some(identity) = identities.identity(&owner.key) {
            state.prefixes.insert(
                prefix,
                Prefix {
                    prefix,
                    identity,
                    place: owner.place,
                    pod_uid: owner.pod_uid,
                },
            );
        }
    }
    let numbered: Vec<(&IdentityKey, _)> = identities.identities().collect();
    let rules = table::Rules::new(cluster, &setup.node, &numbered);
    for (key, id) in identities.policies() {
        state.policies.insert(id, rules.table(key, id, limits));
    }
    table::close_the_largest(&mut state.policies, limits.rows);
    for (at, it) in bound {
        let policy = keys.get(&at).and_then(|key| identities.policy(key));
        // Always there: `bound` has only interfaces with an address and a key.
        if let Some(endpoint) = policy.and_then(|policy| endpoint(&state, at, &it, policy)) {
            state.endpoints.insert(endpoint.key(), endpoint);
        }
    }
    Ok(state)
}

/// The identities of all domain names that rules name.
fn domain_keys(cluster: &Cluster) -> impl Iterator<Item = IdentityKey> {
    let patterns = cluster.rules(Direction::Egress).flat_map(patterns_of);
    patterns.cloned().map(IdentityKey::domain)
}

/// The domain names of a rule.
fn patterns_of(rule: &Rule) -> impl Iterator<Item = &DomainPattern> {
    rule.peers.iter().filter_map(|peer| match peer {
        RulePeer::Domain(pattern) => Some(pattern),
        _ => None,
    })
}

/// An interface on its VF; `None` if the state has no prefix of its first address.
fn endpoint(
    state: &State,
    (name, interface): (&PodRef, &str),
    it: &BoundInterface<'_>,
    policy: PolicyId,
) -> Option<Endpoint> {
    let first = IpPrefix::host(*it.ips().first()?);
    Some(Endpoint {
        pod_uid: it.pod.uid.clone(),
        interface: interface.to_owned(),
        pod: name.clone(),
        port: it.slot.name.clone(),
        identity: state.prefixes.get(&first)?.identity,
        policy,
        mac: it.slot.mac,
        ips: it.ips().to_vec(),
    })
}

/// This node's pods' interfaces that are to be endpoints: alive, with an address and a VF.
/// By pod and interface; empty is the primary one.
type Bound<'a> = BTreeMap<(&'a PodRef, &'a str), BoundInterface<'a>>;

/// One of them.
struct BoundInterface<'a> {
    pod: &'a Pod,
    /// `None` is the primary one.
    interface: Option<&'a Interface>,
    slot: &'a VfSlot,
}

impl<'a> BoundInterface<'a> {
    fn ips(&self) -> &'a [IpAddr] {
        self.interface.map_or(&self.pod.ips, |it| &it.ips)
    }
}

fn bound_pods<'a>(
    cluster: &'a Cluster,
    setup: &'a NodeSetup,
    vfs: &VfTable,
) -> Result<Bound<'a>, CompileError> {
    let here = cluster.pods.iter().filter(|(_, pod)| is_here(pod, setup));
    bound_among(here, setup, vfs)
}

/// Whether it is a pod of this node with addresses of its own.
fn is_here(pod: &Pod, setup: &NodeSetup) -> bool {
    pod.owns_addresses() && pod.node.as_ref() == Some(&setup.node)
}

/// Those of this node's pods that are to be endpoints.
fn bound_among<'a>(
    here: impl Iterator<Item = (&'a PodRef, &'a Pod)>,
    setup: &'a NodeSetup,
    vfs: &VfTable,
) -> Result<Bound<'a>, CompileError> {
    let mut bound = Bound::new();
    for (name, pod) in here {
        for interface in core::iter::once(None).chain(pod.interfaces.iter().map(Some)) {
            let ips = interface.map_or(&pod.ips, |it| &it.ips);
            let inside = interface.map_or("", |it| it.name.as_str());
            let key = EndpointKey {
                pod_uid: pod.uid.clone(),
                interface: inside.to_owned(),
            };
            let Some(binding) = vfs.binding_of(&key).filter(|_| !ips.is_empty()) else {
                continue;
            };
            let Some(slot) = setup.vfs.iter().find(|slot| slot.name == binding.port) else {
                let port = binding.port.clone();
                return Err(CompileError::UnknownVf {
                    pod: name.clone(),
                    port,
                });
            };
            let it = BoundInterface {
                pod,
                interface,
                slot,
            };
            bound.insert((name, inside), it);
        }
    }
    if is(Mutant::VfsSwapped) {
        let mut all = bound.values_mut();
        if let (Some(one), Some(other)) = (all.next(), all.next()) {
            core::mem::swap(&mut one.slot, &mut other.slot);
        }
    }
    Ok(bound)
}

fn peers(cluster: &Cluster, setup: &NodeSetup) -> SharedMap<NodeName, Peer> {
    let nodes = cluster.nodes.iter();
    nodes
        .filter(|(name, _)| **name != setup.node)
        .map(|(name, node)| (name.clone(), peer(name, node)))
        .collect()
}

/// Another node. One that no tunnel leads to is unprotected: if the operator doesn't say so,
/// its addresses' setting is `required`, and nothing goes there.
fn peer(name: &NodeName, node: &Node) -> Peer {
    Peer {
        node: name.clone(),
        tunnel_ips: node.tunnel_ips.clone(),
        unprotected: node.tunnel_ips.is_empty(),
    }
}
