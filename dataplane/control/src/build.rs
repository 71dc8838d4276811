//! A checked state becomes a snapshot.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sluice_dataplane_core::addr::{Addr, Mac};
use sluice_dataplane_core::hash::HashKey;
use sluice_dataplane_core::names::patterns::{Pattern, Patterns};
use sluice_dataplane_core::snapshot::{
    self, EndpointIndex, IdentityId, Interface, Place, PolicyIndex, PortKind, PortState, Snapshot,
};
use sluice_dataplane_core::table::policy::{
    Action, Direction, PolicyTable, Row, Ruling, Tier, Transport,
};
use sluice_dataplane_core::table::prefix::{Owner, PrefixTable};
use sluice_offload_api::model::{self, IpPrefix};
use sluice_offload_api::refusal::{Refusal, RefusalReason};
use sluice_offload_api::state::State;

use crate::bindings::Bindings;
use crate::indices::{DomainNumbers, EndpointGenerations, PeerNumbers, PortNames};

/// What a state is compiled with.
pub(crate) struct Build<'a> {
    pub(crate) ports: &'a PortNames,
    pub(crate) peers: &'a PeerNumbers,
    pub(crate) generations: &'a EndpointGenerations,
    pub(crate) bindings: &'a Bindings,
    pub(crate) domains: &'a DomainNumbers,
    pub(crate) hash_key: HashKey,
}

impl Build<'_> {
    /// Compiles a state that [`State::apply`] has checked.
    ///
    /// # Errors
    /// A port that this dataplane doesn't have.
    pub(crate) fn snapshot(&self, state: &State) -> Result<Snapshot, Refusal> {
        let mut next = Snapshot::closed(self.ports.len());
        next.generation = state.generation.0;
        self.fill_ports(state, &mut next)?;

        let policies: BTreeMap<_, _> = state.policies.keys().zip(0u32..).collect();
        let identities = state.identities.values();
        let named: BTreeMap<_, _> = identities
            .filter_map(|it| Some((it.id, it.domain.as_ref()?)))
            .collect();
        next.policies = state
            .policies
            .values()
            .map(|policy| snapshot::Policy {
                id: policy.id.0,
                table: self
                    .table(policy)
                    .with_patterns(self.patterns(&named, policy)),
                shadow: policy.shadow_table().map(|it| self.table(it)),
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
        next.peers = vec![None; self.peers.len()];
        for peer in state.peers.values() {
            let tunnel = tunnel_ip(&peer.tunnel_ips, &next.interfaces);
            if let (Some(index), Some(tunnel)) = (self.peers.index(&peer.node), tunnel)
                && let Some(slot) = next.peers.get_mut(usize::from(index.0))
            {
                *slot = Some(snapshot::Peer { tunnel });
            }
        }
        let mut prefixes: Vec<_> = state
            .prefixes
            .values()
            .filter_map(|p| {
                let identity = IdentityId(p.identity.0);
                let place = self.place(p, &owners)?;
                Some((
                    p.prefix.addr().into(),
                    p.prefix.len(),
                    Owner { identity, place },
                ))
            })
            .collect();
        let announced = self.bindings.announced().map(IpPrefix::host);
        let unknown = announced.filter(|it| !state.prefixes.contains_key(it));
        let nobody = Owner {
            identity: IdentityId(0),
            place: Place::Revoked,
        };
        prefixes.extend(unknown.map(|it| (it.addr().into(), it.len(), nobody)));
        next.prefixes = PrefixTable::build(self.hash_key, &prefixes);
        Ok(next)
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
            _ if self.bindings.revoke(prefix) => Place::Revoked,
            model::Place::LocalPod => Place::LocalPod(*owners.get(&prefix.prefix.addr())?),
            model::Place::LocalNode => Place::LocalNode,
            model::Place::RemotePod(node) => Place::RemotePod(self.peers.index(node)?),
            model::Place::RemoteNode(node) => Place::RemoteNode(self.peers.index(node)?),
            model::Place::Outside => Place::Outside,
            model::Place::ServiceVip => Place::ServiceVip,
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
