//! Addresses to stand for identities.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::{BTreeMap, BTreeSet};

use sluice_offload_api::State;
use sluice_offload_api::model::{
    Direction, Endpoint, IdentityId, IpPrefix, Place, PodRef, Prefix, Protocol,
};

use super::OF_EACH_FAMILY;
use crate::cluster::{Cluster, Holder, PortRule, PortSpec};
use crate::compile::domains::{Domains, example, patterns};
use crate::evaluate::{KnownNames, Party};

/// What a rule can tell apart: direction, protocol and port.
pub(super) type End = (Direction, Protocol, Option<u16>);

/// What only rules without ports match, and port rules never.
pub(super) fn without_ports() -> BTreeSet<End> {
    [Direction::Ingress, Direction::Egress]
        .into_iter()
        .flat_map(|it| [(it, Protocol::Icmp, None), (it, Protocol::Tcp, Some(0))])
        .collect()
}

/// Both ends of a range of ports, and the ports just outside.
pub(super) fn around(first: u16, last: u16) -> impl Iterator<Item = u16> {
    let outside = [first.checked_sub(1), last.checked_add(1)];
    [first, last]
        .into_iter()
        .chain(outside.into_iter().flatten())
}

/// An address and who has it.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) ip: IpAddr,
    pub(super) party: Party,
    /// What the other end was told of it,
    pub(super) names: KnownNames,
    /// and the identities it has by that.
    pub(super) domains: Vec<IdentityId>,
}

/// Outside addresses with names, at most; two at least for each pattern.
const NAMED_MAX: usize = 512;

/// Who can be the other end of a flow.
pub(super) struct Who<'a> {
    cluster: &'a Cluster,
    /// For each identity some of each family that have it, as far as could be found.
    by_identity: BTreeMap<IdentityId, Vec<Peer>>,
    holders: BTreeMap<IpAddr, Holder>,
}

impl<'a> Who<'a> {
    pub(super) fn new(cluster: &'a Cluster, state: &State) -> Self {
        let mut who = Self {
            cluster,
            by_identity: BTreeMap::new(),
            holders: holders(cluster),
        };
        for prefix in state.prefixes.values() {
            let known = who.of(prefix.identity);
            let v4 = prefix.prefix.addr().is_ipv4();
            if known.iter().filter(|it| it.ip.is_ipv4() == v4).count() >= OF_EACH_FAMILY {
                continue;
            }
            let Some(peer) = who.of_prefix(state, prefix) else {
                continue;
            };
            if !known
                .iter()
                .any(|it| (it.ip.is_ipv4(), &it.party) == (v4, &peer.party))
            {
                who.by_identity
                    .entry(prefix.identity)
                    .or_default()
                    .push(peer);
            }
        }
        who.add_named(state);
        who
    }

    /// For each pattern of domain names a name that it is for, as one of outside addresses
    /// of different blocks: a rule for the block may be before or behind the one for the name.
    fn add_named(&mut self, state: &State) {
        let patterns: Vec<_> = patterns(state).collect();
        if patterns.is_empty() {
            return;
        }
        let domains = Domains::new(state);
        let outside = |it: &Peer| {
            // The address of a service is nobody's either.
            let place = || longest(state, it.ip).map(|it| &it.place);
            matches!(it.party, Party::Outside(_)) && place() == Some(&Place::Outside)
        };
        let all = self.by_identity.values();
        let of_family = |v4: bool| -> Vec<Peer> {
            let its = |them: &Vec<Peer>| {
                let mut its = them.iter().filter(|it| it.ip.is_ipv4() == v4);
                its.next().filter(|it| outside(it)).cloned()
            };
            all.clone().filter_map(its).collect()
        };
        let bases = [of_family(true), of_family(false)];
        let bases_max = (NAMED_MAX / patterns.len()).max(1);
        for (id, pattern) in patterns {
            let name = example(pattern);
            let of = bases.iter().flat_map(|them| {
                let stride = them.len().div_ceil(bases_max).max(1);
                them.iter().step_by(stride)
            });
            let named = of.map(|base| Peer {
                names: [(name.as_str(), base.ip)].into_iter().collect(),
                domains: domains.of(&name),
                ..base.clone()
            });
            self.by_identity.insert(id, named.collect());
        }
    }

    /// Those that stand for an identity.
    pub(super) fn of(&self, identity: IdentityId) -> &[Peer] {
        self.by_identity.get(&identity).map_or(&[], Vec::as_slice)
    }

    /// Those of all identities.
    pub(super) fn all(&self) -> impl Iterator<Item = &Peer> {
        self.by_identity.values().flatten()
    }

    /// The ends of all port rules of an endpoint's policies, and of its pod's others, its own named ports, and what only
    /// rules without ports match.
    pub(super) fn ends_of_rules(&self, endpoint: &Endpoint) -> BTreeSet<End> {
        let mut ends = without_ports();
        let Some(pod) = self.cluster.pods.get(&endpoint.pod) else {
            return ends;
        };
        let interface = pod.interface(&endpoint.interface);
        for direction in [Direction::Ingress, Direction::Egress] {
            let own = self.cluster.policies_of(pod);
            let own = own.filter_map(|(_, it)| it.rules(direction)).flatten();
            let cluster = self.cluster.cluster_policies_of(pod).into_iter();
            let cluster = cluster.flat_map(|(_, it)| it.rules(direction));
            let multi = interface.map(|it| self.cluster.multi_policies_of(pod, it));
            let multi = multi.into_iter().flatten();
            let multi = multi.filter_map(|(_, it)| it.policy.rules(direction));
            let rules = own
                .chain(cluster.filter_map(|it| it.flows.as_ref()))
                .chain(multi.flatten());
            for PortRule { protocol, ports } in rules.flat_map(|it| &it.ports) {
                match ports {
                    PortSpec::Any => drop(ends.insert((direction, *protocol, Some(1)))),
                    PortSpec::Range { first, last } => {
                        let ports = around(*first, *last);
                        ends.extend(ports.map(|it| (direction, *protocol, Some(it))));
                    }
                    PortSpec::Named(name) if direction == Direction::Ingress => {
                        let ports = pod.named_ports(name, *protocol);
                        ends.extend(ports.map(|it| (direction, *protocol, Some(it))));
                    }
                    // The peer's: see `named_ports`.
                    PortSpec::Named(_) => {}
                }
            }
        }
        ends
    }

    /// The ports that a peer has names for.
    pub(super) fn named_ports(&self, peer: &Peer) -> impl Iterator<Item = (Protocol, u16)> {
        let pod = match &peer.party {
            Party::Pod { ns, name } => {
                let (namespace, name) = (ns.clone(), name.clone());
                self.cluster.pods.get(&PodRef { namespace, name })
            }
            _ => None,
        };
        let ports = pod.into_iter().flat_map(|it| &it.ports);
        let named = ports.filter(|it| it.name.is_some());
        named.map(|it| (it.protocol, it.number))
    }

    /// An address that has this prefix as its longest: its first or its last, if either is.
    pub(super) fn of_prefix(&self, state: &State, prefix: &Prefix) -> Option<Peer> {
        let of = |ip: &IpAddr| longest(state, *ip).is_some_and(|it| it.prefix == prefix.prefix);
        let ip = [prefix.prefix.addr(), last(prefix.prefix)]
            .into_iter()
            .find(of)?;
        Some(Peer {
            ip,
            party: match self.holders.get(&ip) {
                Some(Holder::Pod(pod) | Holder::Interface(pod, _)) => Party::Pod {
                    ns: pod.namespace.clone(),
                    name: pod.name.clone(),
                },
                Some(Holder::Node(node)) => Party::Node(node.clone()),
                Some(Holder::Service(_)) | None => Party::Outside(ip),
            },
            names: KnownNames::default(),
            domains: Vec::new(),
        })
    }
}

/// Who has which address, read off the objects once more: the compiler's own index is part
/// of what is validated.
fn holders(cluster: &Cluster) -> BTreeMap<IpAddr, Holder> {
    let mut holders = BTreeMap::new();
    for (name, service) in &cluster.services {
        let with = |ip: &IpAddr| (*ip, Holder::Service(name.clone()));
        holders.extend(service.vips.iter().map(with));
    }
    for (name, pod) in cluster.pods.iter().filter(|(_, it)| it.owns_addresses()) {
        holders.extend(pod.ips.iter().map(|ip| (*ip, Holder::Pod(name.clone()))));
        for it in &pod.interfaces {
            let holder = Holder::Interface(name.clone(), it.name.clone());
            holders.extend(it.ips.iter().map(|ip| (*ip, holder.clone())));
        }
    }
    for (name, node) in &cluster.nodes {
        holders.extend(node.ips.iter().map(|ip| (*ip, Holder::Node(name.clone()))));
    }
    // A hostNetwork pod may have an address of its node's that the node doesn't list.
    for pod in cluster.pods.values() {
        let Some(name) = pod.host_node() else {
            continue;
        };
        holders.extend(pod.ips.iter().map(|ip| (*ip, Holder::Node(name.clone()))));
    }
    holders
}

/// The longest prefix of an address.
pub(super) fn longest(state: &State, ip: IpAddr) -> Option<&Prefix> {
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    let at = |len| state.prefixes.get(&IpPrefix::masked(ip, len).ok()?);
    (0..=bits).rev().find_map(at)
}

fn last(prefix: IpPrefix) -> IpAddr {
    let host = |bits: u32| u32::from(prefix.len()).min(bits);
    match prefix.addr() {
        IpAddr::V4(addr) => {
            let ones = u32::MAX.checked_shr(host(32)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(addr.to_bits() | ones))
        }
        IpAddr::V6(addr) => {
            let ones = u128::MAX.checked_shr(host(128)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(addr.to_bits() | ones))
        }
    }
}
