//! A checked state becomes a snapshot.

use core::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sluice_dataplane_core::addr::{Addr, Mac};
use sluice_dataplane_core::hash::HashKey;
use sluice_dataplane_core::names::patterns::{Pattern, Patterns};
use sluice_dataplane_core::snapshot::{
    self, Encryption, EndpointIndex, IdentityId, Interface, Place, PolicyIndex, PortKind,
    PortState, Snapshot,
};
use sluice_dataplane_core::table::policy::{
    Action, Direction, PolicyTable, Row, Ruling, Tier, Transport,
};
use sluice_dataplane_core::table::prefix::{Owner, PrefixTable};
use sluice_mutants::{Mutant, is};
use sluice_offload_api::model::{self, IpPrefix};
use sluice_offload_api::refusal::{Refusal, RefusalReason};
use sluice_offload_api::state::State;

use crate::bindings::Bindings;
use crate::former::Former;
use crate::indices::{
    DomainNumbers, EndpointGenerations, PeerNumbers, PortNames, is_encrypted_anew, renamed,
};

/// What a state is compiled with.
pub(crate) struct Build<'a> {
    pub(crate) ports: &'a PortNames,
    pub(crate) peers: &'a PeerNumbers,
    pub(crate) generations: &'a EndpointGenerations,
    pub(crate) bindings: &'a Bindings,
    pub(crate) former: &'a Former,
    pub(crate) domains: &'a DomainNumbers,
    pub(crate) hash_key: HashKey,
}

/// What was built last, and from what.
pub(crate) struct Last<'a> {
    pub(crate) state: &'a State,
    pub(crate) snapshot: &'a Snapshot,
    /// The table of prefixes before that one, if the worker has given it back, and the
    /// prefixes that differ between the two.
    pub(crate) spare: Option<(PrefixTable, &'a BTreeSet<IpPrefix>)>,
    /// Addresses of which nodes have said something else since.
    pub(crate) moved: &'a BTreeSet<IpAddr>,
}

/// What came of it.
pub(crate) struct Built {
    pub(crate) snapshot: Snapshot,
    /// The prefixes that differ from the last snapshot's; `None` if all were built.
    pub(crate) touched: Option<BTreeSet<IpPrefix>>,
}

/// Prefixes that are changed one by one, at most; more than a part of all, and the table is
/// built anew.
const PART: usize = 8;

impl Build<'_> {
    /// Compiles a state that [`State::apply`] has checked.
    ///
    /// # Errors
    /// A port that this dataplane doesn't have.
    pub(crate) fn snapshot(&self, state: &State, last: Option<Last<'_>>) -> Result<Built, Refusal> {
        let mut next = Snapshot::closed(self.ports.len());
        next.generation = state.generation.0;
        next.moves = self.generations.moves().clone();
        self.fill_ports(state, &mut next)?;

        let policies: BTreeMap<_, _> = state.policies.keys().zip(0u32..).collect();
        let identities = state.identities.values();
        let named = LazyCell::new(|| -> BTreeMap<_, _> {
            let named = identities.filter_map(|it| Some((it.id, it.domain.as_ref()?)));
            named.collect()
        });
        let is_renamed = last
            .as_ref()
            .is_none_or(|it| !renamed(it.state, state).is_empty());
        let before = |policy: &model::Policy| {
            let Last {
                state, snapshot, ..
            } = last.as_ref().filter(|_| !is_renamed)?;
            let before = state.policies.get(&policy.id)?;
            // Nearly always one and the same.
            if !core::ptr::eq(before, policy) && before != policy && !is(Mutant::TableKept) {
                return None;
            }
            let at = snapshot
                .policies
                .binary_search_by_key(&policy.id.0, |it| it.id);
            snapshot.policies.get(at.ok()?).cloned()
        };
        next.policies = state
            .policies
            .values()
            .map(|policy| {
                before(policy).unwrap_or_else(|| snapshot::Policy {
                    id: policy.id.0,
                    table: self
                        .table(policy)
                        .with_patterns(self.patterns(&named, policy)),
                    shadow: policy.shadow_table().map(|it| self.table(it)),
                })
            })
            .collect();

        let mut owners = BTreeMap::new();
        for (endpoint, number) in state.endpoints.values().zip(0u16..) {
            let (index, port, policy) = (
                EndpointIndex(number),
                self.port(&endpoint.port)?,
                policies.get(&endpoint.policy).copied().unwrap_or(u32::MAX),
            );
            owners.extend(endpoint.ips.iter().map(|ip| (*ip, index)));
            if let Some(port) = next.ports.get_mut(usize::from(port.0)) {
                port.endpoint = Some(index);
            }
            let generations = self.generations.of(&endpoint.key());
            next.endpoints.push(snapshot::Endpoint {
                port,
                addrs: endpoint.ips.iter().copied().map(Addr::from).collect(),
                policy: PolicyIndex(policy),
                generation: generations.current,
                born: generations.born,
            });
        }
        let mut peers = vec![None; self.peers.len()];
        for peer in state.peers.values() {
            let tunnel = tunnel_ip(&peer.tunnel_ips, &next.interfaces);
            let index = self.peers.index(&peer.node);
            let Some(slot) = index.and_then(|it| peers.get_mut(usize::from(it.0))) else {
                continue;
            };
            *slot = if peer.unprotected {
                Some(snapshot::Peer::Unprotected)
            } else {
                tunnel.map(|tunnel| snapshot::Peer::Protected { tunnel })
            };
        }
        next.peers = peers.into();
        let touched = last.as_ref().and_then(|last| touched(last, state));
        next.prefixes = match (last, &touched) {
            (Some(last), Some(touched)) => {
                let (mut table, behind) = match last.spare {
                    Some((table, behind)) => (table, Some(behind)),
                    None => (last.snapshot.prefixes.clone(), None),
                };
                for prefix in touched.iter().chain(behind.into_iter().flatten()) {
                    let owner = self.owner(state, prefix, &owners);
                    table.set(prefix.addr().into(), prefix.len(), owner);
                }
                debug_assert!(
                    self.is_as_built((last.state, state), &owners, &table),
                    "a prefix was forgotten"
                );
                table
            }
            _ => PrefixTable::build(self.hash_key, &self.all_owners(state, &owners)),
        };
        Ok(Built {
            snapshot: next,
            touched,
        })
    }

    /// All prefixes, also those that the state doesn't know: that nodes announced, or that were
    /// pods' before.
    fn all_owners(
        &self,
        state: &State,
        owners: &BTreeMap<IpAddr, EndpointIndex>,
    ) -> Vec<(Addr, u8, Owner)> {
        let known = state.prefixes.keys().copied();
        let nobodys = self.bindings.claimed().chain(self.former.iter());
        let nobodys: BTreeSet<_> = nobodys.map(IpPrefix::host).collect();
        let unknown = nobodys
            .into_iter()
            .filter(|it| !state.prefixes.contains_key(it));
        let owner = |it: IpPrefix| {
            let owner = self.owner(state, &it, owners)?;
            Some((it.addr().into(), it.len(), owner))
        };
        known.chain(unknown).filter_map(owner).collect()
    }

    /// Whether a table that was changed answers as one that is built, for the first address of
    /// each prefix that there is or was. Debug builds ask.
    fn is_as_built(
        &self,
        (before, after): (&State, &State),
        owners: &BTreeMap<IpAddr, EndpointIndex>,
        table: &PrefixTable,
    ) -> bool {
        let all = self.all_owners(after, owners);
        let built = PrefixTable::build(self.hash_key, &all);
        let gone = before.prefixes.keys().map(|it| it.addr().into());
        let mut addrs = all.iter().map(|it| it.0).chain(gone);
        addrs.all(|it| table.find(it) == built.find(it))
    }

    /// Who has a prefix; an address that the state doesn't know is nobody's if a node announced it,
    /// or a pod had it before.
    fn owner(
        &self,
        state: &State,
        prefix: &IpPrefix,
        owners: &BTreeMap<IpAddr, EndpointIndex>,
    ) -> Option<Owner> {
        let Some(known) = state.prefixes.get(prefix) else {
            let addr = prefix.addr();
            let claimed = self.bindings.claims(addr).then_some(Place::Nobody);
            let place = claimed.or_else(|| self.former.place(addr));
            let place = place.filter(|_| *prefix == IpPrefix::host(addr))?;
            return Some(Owner::new(IdentityId(0), place));
        };
        let identity = state.identities.get(&known.identity);
        Some(Owner {
            identity: IdentityId(known.identity.0),
            place: self.place(known, owners)?,
            encryption: identity.map_or(Encryption::Required, |it| match it.encryption {
                model::Encryption::Off => Encryption::Off,
                model::Encryption::Preferred => Encryption::Preferred,
                model::Encryption::Required => Encryption::Required,
            }),
        })
    }

    fn port(&self, name: &model::PortName) -> Result<snapshot::PortIndex, Refusal> {
        self.ports.index(name).ok_or_else(|| {
            Refusal::new(
                format!("ports[{name}].name"),
                RefusalReason::PortNotHere {
                    port: name.clone(),
                    known: self.ports.iter().cloned().collect(),
                },
            )
        })
    }

    fn fill_ports(&self, state: &State, next: &mut Snapshot) -> Result<(), Refusal> {
        for port in state.ports.values() {
            let index = self.port(&port.name)?;
            let kind = match &port.kind {
                model::PortKind::Vf { .. } => PortKind::Vf,
                model::PortKind::Host => {
                    next.host = Some(index);
                    PortKind::Host
                }
                model::PortKind::Uplink { interfaces } => {
                    next.uplink = Some(index);
                    next.interfaces = interfaces
                        .iter()
                        .map(|i| Interface {
                            addr: i.addr.into(),
                            prefix_len: i.prefix_len,
                            gateway: i.gateway.map(Addr::from),
                        })
                        .collect();
                    PortKind::Uplink
                }
            };
            if let Some(slot) = next.ports.get_mut(usize::from(index.0)) {
                *slot = PortState {
                    kind,
                    mac: Mac(port.mac.0),
                    mtu: port.mtu,
                    vlan: port.vlan.unwrap_or(0),
                    endpoint: None,
                };
            }
        }
        Ok(())
    }

    fn table(&self, policy: &model::Policy) -> PolicyTable {
        let rows: Vec<_> = policy
            .rows
            .iter()
            .map(|row| Row {
                direction: match row.direction {
                    model::Direction::Ingress => Direction::Ingress,
                    model::Direction::Egress => Direction::Egress,
                },
                tier: match row.tier {
                    model::Tier::Admin => Tier::Admin,
                    model::Tier::Namespace => Tier::Namespace,
                    model::Tier::Baseline => Tier::Baseline,
                },
                peer: row.peer.map(|p| IdentityId(p.0)),
                transport: row.protocol.map(|p| match p {
                    model::Protocol::Tcp => Transport::Tcp,
                    model::Protocol::Udp => Transport::Udp,
                    model::Protocol::Sctp => Transport::Sctp,
                    model::Protocol::Icmp => Transport::Icmp,
                }),
                port_base: row.ports.base(),
                port_len: row.ports.len(),
                action: match row.action {
                    model::Action::Allow => Action::Allow,
                    model::Action::Deny => Action::Deny,
                    model::Action::Pass => Action::Pass,
                },
                rule: row.rule.0,
            })
            .collect();
        let fallback = |f: &model::Fallback| Ruling {
            allow: matches!(f.verdict, model::Verdict::Allow),
            rule: f.rule.0,
        };
        PolicyTable::build(
            self.hash_key,
            &rows,
            fallback(&policy.ingress),
            fallback(&policy.egress),
        )
    }

    /// The domain names that a policy's rows name, of those that identities stand for. Those of
    /// its shadow count too: what nobody learned, no shadow could tell of.
    fn patterns(
        &self,
        named: &BTreeMap<model::IdentityId, &model::DomainPattern>,
        policy: &model::Policy,
    ) -> Patterns {
        let mut patterns: Vec<Pattern<'_>> = Vec::new();
        let shadow = policy.shadow_table().into_iter().flat_map(|it| &it.rows);
        let rows = policy.rows.iter().chain(shadow);
        let rows = rows.filter(|_| !named.is_empty());
        for peer in rows.filter_map(|it| it.peer) {
            let Some(domain) = named.get(&peer) else {
                continue;
            };
            let pattern = Pattern {
                text: domain.as_str(),
                domain: self.domains.of(domain),
                identity: IdentityId(peer.0),
            };
            if !patterns.contains(&pattern) {
                patterns.push(pattern);
            }
        }
        Patterns::build(self.hash_key, &patterns)
    }

    fn place(
        &self,
        prefix: &model::Prefix,
        owners: &BTreeMap<IpAddr, EndpointIndex>,
    ) -> Option<Place> {
        Some(match &prefix.place {
            _ if self.bindings.revoke(prefix) => Place::Nobody,
            // A policy names the one address as a block; that makes nobody known.
            model::Place::Outside if prefix.prefix == IpPrefix::host(prefix.prefix.addr()) => {
                let former = self.former.place(prefix.prefix.addr());
                former.unwrap_or(Place::Outside)
            }
            model::Place::LocalPod => Place::LocalPod(*owners.get(&prefix.prefix.addr())?),
            model::Place::LocalNode => Place::LocalNode,
            model::Place::RemotePod(node) => Place::RemotePod(self.peers.index(node)?),
            model::Place::RemoteNode(node) => Place::RemoteNode(self.peers.index(node)?),
            model::Place::Outside => Place::Outside,
            model::Place::ServiceVip => Place::ServiceVip,
            model::Place::Nobody => Place::Nobody,
        })
    }
}

/// The first of a peer's addresses in a family that the uplink has an address of.
fn tunnel_ip(tunnel_ips: &[IpAddr], interfaces: &[Interface]) -> Option<Addr> {
    tunnel_ips
        .iter()
        .map(|ip| Addr::from(*ip))
        .find(|addr| interfaces.iter().any(|i| i.addr.is_v4() == addr.is_v4()))
}

/// The prefixes whose owners may differ from the last snapshot's; `None` if they are so many
/// that all are as good.
fn touched(last: &Last<'_>, after: &State) -> Option<BTreeSet<IpPrefix>> {
    let before = last.state;
    // An identity is of many prefixes, and no prefix shows that it wants something else.
    if is_encrypted_anew(before, after) {
        return None;
    }
    let changes = before.prefixes.changes(&after.prefixes);
    let mut touched: BTreeSet<IpPrefix> = changes.iter().map(|it| *it.key).collect();
    touched.extend(last.moved.iter().copied().map(IpPrefix::host));
    // Addresses may change hands between endpoints of one identity, and no prefix shows it.
    for it in before.endpoints.changes(&after.endpoints) {
        let both = it.before.into_iter().chain(it.after);
        touched.extend(both.flat_map(|it| it.ips.iter().copied().map(IpPrefix::host)));
    }
    let same_endpoints = before.endpoints.is_same(&after.endpoints);
    let same_peers = before.peers.is_same(&after.peers);
    let is_numbered_anew = !same_endpoints && !before.endpoints.keys().eq(after.endpoints.keys())
        || !same_peers && !before.peers.keys().eq(after.peers.keys());
    if is_numbered_anew {
        let all = before.endpoints.values().chain(after.endpoints.values());
        touched.extend(all.flat_map(|it| it.ips.iter().copied().map(IpPrefix::host)));
    }
    (touched.len() <= after.prefixes.len() / PART).then_some(touched)
}
