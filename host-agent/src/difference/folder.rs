//! A cluster as it is compared: every pod somewhere, every pod with an address.

use core::net::IpAddr;
use std::collections::BTreeMap;

use sluice_offload_api::model::{NodeName, PodRef, Protocol};

use super::blocks::{Blocks, PartId};
use super::workload::{Owners, Workload};
use crate::cluster::{Cluster, Labels, NamespacedName, Node, Pod};
use crate::evaluate::Party;

/// The node of pods that are on none yet, and of those that stand for others: it is no
/// object, so no policy is for it and no flow is from it.
pub(super) const ELSEWHERE: &str = "";
/// What a cluster's nodes are called if its manifests have none.
pub(super) const SOME_NODE: &str = "*";

/// Where on a pod or node an address is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Slot {
    /// A secondary interface's name.
    interface: Option<String>,
    /// The family.
    v4: bool,
    /// Its place among those of the interface and family.
    index: usize,
}

/// All that policies can tell of an address: its identity.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Key {
    /// A pod's.
    Pod {
        namespace: String,
        labels: Labels,
        /// Named ports.
        ports: Vec<(String, Protocol, u16)>,
        /// The network of a secondary interface.
        network: Option<NamespacedName>,
        part: PartId,
    },
    /// A node's.
    Node { labels: Labels, part: PartId },
}

/// Who stands for all addresses with a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stand {
    pub(super) key: Key,
    pub(super) party: Party,
    pub(super) ip: IpAddr,
}

/// A [`Stand`]'s place in its [`Folder`].
pub(super) type StandId = usize;

/// A pod and the keys of its addresses.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) workload: Workload,
    pub(super) node: Option<NodeName>,
    pub(super) slots: BTreeMap<Slot, StandId>,
}

/// One side of a comparison.
#[derive(Clone, Debug, Default)]
pub(super) struct Folder {
    /// All objects, with what manifests leave to scheduler and IPAM made up.
    pub(super) placed: Cluster,
    /// The same with one pod for each key and no other.
    pub(super) reduced: Cluster,
    pub(super) stands: Vec<Stand>,
    pub(super) pods: BTreeMap<PodRef, Seen>,
    pub(super) nodes: BTreeMap<NodeName, BTreeMap<Slot, StandId>>,
    /// Pods whose addresses were made up.
    pub(super) unaddressed: usize,
}

/// Gives every pod a node and addresses, one of each family if it has none. Also says how many
/// pods had none.
pub(super) fn place(cluster: &Cluster, blocks: &Blocks) -> (Cluster, usize) {
    let mut placed = cluster.clone();
    let mut unaddressed = 0;
    let spare = |n| {
        [true, false]
            .into_iter()
            .filter_map(move |v4| blocks.spare(v4, n))
    };
    for pod in placed.pods.values_mut() {
        if pod.node.is_none() {
            pod.node = Some(ELSEWHERE.into());
        }
        if !pod.owns_addresses() {
            continue;
        }
        if pod.ips.is_empty() {
            pod.ips = spare(1).collect();
            unaddressed += 1;
        }
        for (interface, n) in pod.interfaces.iter_mut().zip(2..) {
            if interface.ips.is_empty() {
                interface.ips = spare(n).collect();
            }
        }
    }
    for node in placed.nodes.values_mut() {
        if node.ips.is_empty() {
            node.ips = spare(0).collect();
        }
    }
    (placed, unaddressed)
}

impl Folder {
    /// Reads a placed cluster once, pod by pod.
    pub(super) fn of(
        placed: Cluster,
        unaddressed: usize,
        owners: &Owners,
        blocks: &Blocks,
    ) -> Self {
        let mut folder = Self {
            reduced: Cluster {
                pods: Default::default(),
                ..placed.clone()
            },
            unaddressed,
            ..Self::default()
        };
        let mut ids = BTreeMap::new();
        for (name, pod) in placed.pods.iter().filter(|(_, it)| it.owns_addresses()) {
            let seen = Seen {
                workload: Workload::of(pod, owners),
                node: pod.node.clone(),
                slots: folder.pod_slots(pod, blocks, &mut ids),
            };
            folder.pods.insert(name.clone(), seen);
        }
        for (name, node) in &placed.nodes {
            let slots = folder.node_slots(name, node, blocks, &mut ids);
            folder.nodes.insert(name.clone(), slots);
        }
        folder.placed = placed;
        folder
    }

    fn pod_slots(
        &mut self,
        pod: &Pod,
        blocks: &Blocks,
        ids: &mut BTreeMap<Key, StandId>,
    ) -> BTreeMap<Slot, StandId> {
        let PodRef { namespace, name } = pod.pod.clone();
        let party = Party::Pod {
            ns: namespace.clone(),
            name,
        };
        let named = pod.ports.iter().filter_map(|it| {
            let name = it.name.clone()?;
            Some((name, it.protocol, it.number))
        });
        let mut ports: Vec<_> = named.collect();
        ports.sort();
        ports.dedup();
        let primary = core::iter::once((None, None, &pod.ips));
        let more = pod.interfaces.iter();
        let more = more.map(|it| (Some(it.name.clone()), Some(it.network.clone()), &it.ips));
        let mut slots = BTreeMap::new();
        for (interface, network, ips) in primary.chain(more) {
            for (slot, ip) in numbered(interface.as_ref(), ips) {
                let Some(part) = blocks.part_of(ip) else {
                    continue;
                };
                let key = Key::Pod {
                    namespace: namespace.clone(),
                    labels: pod.labels.clone(),
                    ports: ports.clone(),
                    network: network.clone(),
                    part,
                };
                let id = self.intern(key, &party, ip, ids, Some(pod));
                slots.insert(slot, id);
            }
        }
        slots
    }

    fn node_slots(
        &mut self,
        name: &NodeName,
        node: &Node,
        blocks: &Blocks,
        ids: &mut BTreeMap<Key, StandId>,
    ) -> BTreeMap<Slot, StandId> {
        let party = Party::Node(name.clone());
        let mut slots = BTreeMap::new();
        for (slot, ip) in numbered(None, &node.ips) {
            let Some(part) = blocks.part_of(ip) else {
                continue;
            };
            let labels = node.labels.clone();
            let id = self.intern(Key::Node { labels, part }, &party, ip, ids, None);
            slots.insert(slot, id);
        }
        slots
    }

    fn intern(
        &mut self,
        key: Key,
        party: &Party,
        ip: IpAddr,
        ids: &mut BTreeMap<Key, StandId>,
        pod: Option<&Pod>,
    ) -> StandId {
        if let Some(id) = ids.get(&key) {
            return *id;
        }
        let id = self.stands.len();
        ids.insert(key.clone(), id);
        self.stands.push(Stand {
            key,
            party: party.clone(),
            ip,
        });
        if let Some(pod) = pod {
            let node = Some(ELSEWHERE.into());
            let stand = Pod {
                node,
                ..pod.clone()
            };
            self.reduced.pods.insert(pod.pod.clone(), stand);
        }
        id
    }
}

/// Addresses with their slots.
fn numbered<'a>(
    interface: Option<&'a String>,
    ips: &'a [IpAddr],
) -> impl Iterator<Item = (Slot, IpAddr)> + 'a {
    let family = |v4: bool| ips.iter().filter(move |it| it.is_ipv4() == v4).enumerate();
    [true, false].into_iter().flat_map(move |v4| {
        let slot = move |(index, ip): (usize, &IpAddr)| {
            let interface = interface.cloned();
            (
                Slot {
                    interface,
                    v4,
                    index,
                },
                *ip,
            )
        };
        family(v4).map(slot)
    })
}
