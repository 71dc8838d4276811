//! Addresses to stand for identities.

use core::cell::{OnceCell, RefCell};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use sluice_offload_api::SharedMap;
use sluice_offload_api::model::{
    Direction, IdentityId, IpPrefix, NodeName, PodRef, Prefix, Protocol,
};

use super::directory::Directory;
use super::{OF_EACH_FAMILY, Seat};
use crate::cluster::{Cluster, Holder, PortRule, PortSpec};
use crate::compile::domains::{Domains, example, patterns};
use crate::evaluate::{self, KnownNames};

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

/// An address and who has it: all of it looked up once, and asked of for each point.
#[derive(Clone)]
pub(super) struct Peer<'a> {
    pub(super) ip: IpAddr,
    /// Its longest prefix in the index.
    pub(super) prefix: &'a Prefix,
    whose: Whose<'a>,
    /// The same, as far as policy is concerned.
    pub(super) end: evaluate::End<'a>,
    pub(super) is_service_vip: bool,
    /// What the other end was told of it,
    pub(super) names: KnownNames,
    /// and the identities it has by that.
    pub(super) domains: Vec<IdentityId>,
    /// The ports that it has names for.
    pub(super) named_ports: Vec<(Protocol, u16)>,
}

/// Who has an address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose<'a> {
    Pod(&'a PodRef),
    Node(&'a NodeName),
    /// Someone outside the cluster, or a service.
    Outside(IpAddr),
}

/// Outside addresses with names, at most; two at least for each pattern.
const NAMED_MAX: usize = 512;

/// Peers that stand for "anyone" in a row, at most.
const ANYONE_MAX: usize = 64;

/// Who can be the other end of a flow.
pub(super) struct Who<'a> {
    cluster: &'a Cluster,
    directory: &'a Directory,
    some: OnceCell<Vec<Peer<'a>>>,
    /// Those that stand for the identities of domain names.
    named: OnceCell<BTreeMap<IdentityId, Peers<'a>>>,
    /// Those that were asked for by their identity: many rows are about one, and each row is
    /// gone through to be counted and to be compared.
    of: RefCell<BTreeMap<IdentityId, Peers<'a>>>,
}

/// Peers that stand for one identity.
pub(super) type Peers<'a> = Rc<[Peer<'a>]>;

impl<'a> Who<'a> {
    pub(super) const fn new(directory: &'a Directory) -> Self {
        Self {
            cluster: directory.cluster(),
            directory,
            some: OnceCell::new(),
            named: OnceCell::new(),
            of: RefCell::new(BTreeMap::new()),
        }
    }

    /// For each pattern of domain names a name that it is for, as one of outside addresses
    /// of different blocks: a rule for the block may be before or behind the one for the name.
    fn named(&self) -> &BTreeMap<IdentityId, Peers<'a>> {
        self.named.get_or_init(|| {
            let identities = self.directory.identities();
            let patterns: Vec<_> = patterns(identities).collect();
            if patterns.is_empty() {
                return BTreeMap::new();
            }
            let domains = Domains::new(identities);
            let bases = [true, false].map(|v4| self.outside(v4));
            let bases_max = (NAMED_MAX / patterns.len()).max(1);
            let of = |(id, pattern)| {
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
                (id, named.collect())
            };
            patterns.into_iter().map(of).collect()
        })
    }

    /// For each identity of outside addresses one of a family.
    fn outside(&self, v4: bool) -> Vec<Peer<'a>> {
        let mut last = None;
        let mut peers = Vec::new();
        for (identity, prefix) in self.directory.outside() {
            if prefix.addr().is_ipv4() != v4 || last == Some(identity) {
                continue;
            }
            if let Some(peer) = self.of_prefix(*prefix) {
                last = Some(identity);
                // The address of a service is nobody's either.
                let is_outside = matches!(peer.whose, Whose::Outside(_));
                peers.extend(Some(peer).filter(|_| is_outside));
            }
        }
        peers
    }

    /// Those that stand for an identity: some of each family that have it, as far as could be
    /// found.
    pub(super) fn of(&self, identity: IdentityId) -> Peers<'a> {
        if let Some(named) = self.named().get(&identity) {
            return Rc::clone(named);
        }
        if let Some(known) = self.of.borrow().get(&identity) {
            return Rc::clone(known);
        }
        let families = [true, false].into_iter();
        let peers: Peers<'a> = families.flat_map(|v4| self.some_of(identity, v4)).collect();
        self.of.borrow_mut().insert(identity, Rc::clone(&peers));
        peers
    }

    fn some_of(&self, identity: IdentityId, v4: bool) -> Vec<Peer<'a>> {
        let mut known: Vec<Peer<'a>> = Vec::new();
        for prefix in self.directory.prefixes_of(identity, v4) {
            if known.len() >= OF_EACH_FAMILY {
                break;
            }
            let Some(peer) = self.of_prefix(prefix) else {
                continue;
            };
            if !known.iter().any(|it| it.whose == peer.whose) {
                known.push(peer);
            }
        }
        known
    }

    /// The cluster that is validated.
    pub(super) const fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// Those of all identities.
    pub(super) fn all(&self) -> impl Iterator<Item = Peer<'a>> {
        let identities = self.directory.identities().keys();
        identities.flat_map(|it| self.of(*it).to_vec())
    }

    /// Peers for "anyone", spread over all identities.
    pub(super) fn some(&self) -> &[Peer<'a>] {
        self.some.get_or_init(|| {
            let identities = self.directory.identities();
            let stride = identities.len().div_ceil(ANYONE_MAX).max(1);
            let spread = identities.keys().step_by(stride);
            let peers: Vec<Peer<'a>> = spread.flat_map(|it| self.of(*it).to_vec()).collect();
            let stride = peers.len().div_ceil(ANYONE_MAX).max(1);
            peers.into_iter().step_by(stride).collect()
        })
    }

    /// The ends of all port rules of an endpoint's policies, and of its pod's others, its own
    /// named ports, and what only rules without ports match.
    pub(super) fn ends_of_rules(&self, seat: &Seat<'_>) -> BTreeSet<End> {
        let mut ends = without_ports();
        let Some(pod) = seat.pod else {
            return ends;
        };
        let interface = pod.interface(&seat.endpoint.interface);
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
                    // The peer's: see [`Peer::named_ports`].
                    PortSpec::Named(_) => {}
                }
            }
        }
        ends
    }

    /// An address that has this prefix as its longest: its first or its last, if either is.
    pub(super) fn of_prefix(&self, prefix: IpPrefix) -> Option<Peer<'a>> {
        let prefixes = self.directory.prefixes();
        let of = |ip: IpAddr| {
            let longest = longest(prefixes, ip).filter(|it| it.prefix == prefix)?;
            Some((ip, longest))
        };
        let (ip, prefix) = of(prefix.addr()).or_else(|| of(last(prefix)))?;
        let mut named_ports = Vec::new();
        let (whose, end) = match self.directory.holder(ip) {
            Some(Holder::Pod(name) | Holder::Interface(name, _)) => {
                let pod = self.cluster.pods.get(name);
                let ports = pod.into_iter().flat_map(|it| &it.ports);
                let named = ports.filter(|it| it.name.is_some());
                named_ports.extend(named.map(|it| (it.protocol, it.number)));
                (Whose::Pod(name), evaluate::End::pod(ip, pod))
            }
            Some(Holder::Node(node)) => (Whose::Node(node), evaluate::End::node(ip, node)),
            Some(Holder::Service(_)) => (Whose::Outside(ip), evaluate::End::outside(ip, false)),
            None => {
                let is_nobodys = self.directory.is_for_pods(ip);
                (Whose::Outside(ip), evaluate::End::outside(ip, is_nobodys))
            }
        };
        Some(Peer {
            ip,
            prefix,
            whose,
            end,
            is_service_vip: self.directory.is_service_vip(ip),
            names: KnownNames::default(),
            domains: Vec::new(),
            named_ports,
        })
    }
}

/// The longest prefix of an address.
pub(super) fn longest(prefixes: &SharedMap<IpPrefix, Prefix>, ip: IpAddr) -> Option<&Prefix> {
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    let at = |len| prefixes.get(&IpPrefix::masked(ip, len).ok()?);
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
