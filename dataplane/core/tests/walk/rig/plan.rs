//! What a node is told: a snapshot in the making.

use std::sync::Arc;

use sluice_dataplane_core::addr::Addr;
use sluice_dataplane_core::hash::HashKey;
use sluice_dataplane_core::moves::Moves;
use sluice_dataplane_core::names::DomainId;
use sluice_dataplane_core::names::patterns::{Pattern, Patterns};
use sluice_dataplane_core::snapshot::{
    self, Encryption, Endpoint, EndpointIndex, IdentityId, Interface, Peer, Place, PolicyIndex,
    PortKind, PortState, Snapshot,
};
use sluice_dataplane_core::table::policy::{
    Action, Direction, PolicyTable, Row, Ruling, Tier, Transport,
};
use sluice_dataplane_core::table::prefix::{Owner, PrefixTable};

use super::places::*;
use super::{OTHER, PEER_C};

const KEY: HashKey = HashKey([11, 13]);

/// The rule that speaks where no row does.
pub(crate) const FALLBACK_RULE: u32 = 999;

/// What a pod may: rows, and what holds without one.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    rows: Vec<Row>,
    ingress: bool,
    egress: bool,
    /// Domain names, their numbers, and the peers that rows name for them.
    names: Vec<(&'static str, u32, u32)>,
    shadow: Option<Box<Policy>>,
}

impl Policy {
    pub(crate) const OPEN: Self = Self::defaulting(true, true);
    pub(crate) const CLOSED: Self = Self::defaulting(false, false);

    pub(crate) const fn defaulting(ingress: bool, egress: bool) -> Self {
        Self {
            rows: Vec::new(),
            ingress,
            egress,
            shadow: None,
            names: Vec::new(),
        }
    }

    /// What a pod may that may ask any resolver, and speak HTTPS with this name's addresses.
    pub(crate) fn naming(name: &'static str, domain: u32, identity: u32) -> Self {
        Self::defaulting(true, false)
            .allow_out(Transport::Udp, 53)
            .allow_out(Transport::Tcp, 53)
            .and_name(name, domain, identity)
    }

    /// Adds another name.
    pub(crate) fn and_name(mut self, name: &'static str, domain: u32, identity: u32) -> Self {
        self.names.push((name, domain, identity));
        let peer = Some(IdentityId(identity));
        self.row(Direction::Egress, peer, Some(Transport::Tcp), 443, true)
    }

    /// What would hold if its shadow policies were enforced.
    pub(crate) fn shadowed_by(mut self, shadow: Self) -> Self {
        self.shadow = Some(Box::new(shadow));
        self
    }

    /// Adds a row for one port, or all of them for port 0.
    pub(crate) fn row(
        mut self,
        direction: Direction,
        peer: Option<IdentityId>,
        transport: Option<Transport>,
        port: u16,
        allow: bool,
    ) -> Self {
        self.rows.push(Row {
            direction,
            tier: Tier::Namespace,
            peer,
            transport,
            port_base: port,
            port_len: if port == 0 { 0 } else { 16 },
            action: if allow { Action::Allow } else { Action::Deny },
            rule: self.rows.len() as u32,
        });
        self
    }

    pub(crate) fn allow_in(self, transport: Transport, port: u16) -> Self {
        self.row(Direction::Ingress, None, Some(transport), port, true)
    }

    pub(crate) fn allow_out(self, transport: Transport, port: u16) -> Self {
        self.row(Direction::Egress, None, Some(transport), port, true)
    }

    fn table(&self) -> PolicyTable {
        let fallback = |allow| Ruling {
            allow,
            rule: FALLBACK_RULE,
        };
        PolicyTable::build(
            KEY,
            &self.rows,
            fallback(self.ingress),
            fallback(self.egress),
        )
        .with_patterns(Patterns::build(KEY, &self.patterns()))
    }

    fn patterns(&self) -> Vec<Pattern<'_>> {
        let pattern = |&(text, domain, identity): &(&'static str, u32, u32)| Pattern {
            text,
            domain: DomainId(domain),
            identity: IdentityId(identity),
        };
        self.names.iter().map(pattern).collect()
    }
}

/// A pod behind a VF.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) addrs: Vec<Addr>,
    pub(crate) policy: Policy,
    pub(crate) generation: u32,
    pub(crate) born: u32,
}

/// One node's next snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) side: Side,
    pub(crate) generation: u64,
    pub(crate) pods: [Option<Pod>; VFS],
    pub(crate) uplink_mtu: u16,
    pub(crate) vf_mtu: u16,
    /// The family that peers' tunnels are in.
    pub(crate) outer_v4: bool,
    /// Whether C's own address is known as that of a host of the cluster.
    pub(crate) host_c: bool,
    /// What some addresses want of the way between nodes; all others require encryption.
    pub(crate) settings: Vec<(Addr, Encryption)>,
    /// Whether C is a node without a dataplane, and known for it.
    pub(crate) unprotected_c: bool,
    /// Pods of the other side whose addresses are nobody's: by [`Side::pod`].
    pub(crate) revoked: Vec<usize>,
    /// Those that nothing is known of any more.
    pub(crate) gone: Vec<usize>,
    last_endpoint_generation: u32,
    /// Addresses that changed hands.
    moves: Moves,
}

impl Plan {
    /// Three pods that may do everything.
    pub(crate) fn open(side: Side) -> Self {
        let pod = |vf: usize| {
            Some(Pod {
                addrs: vec![side.pod(vf, true), side.pod(vf, false)],
                policy: Policy::OPEN,
                generation: 1 + vf as u32,
                born: 1 + vf as u32,
            })
        };
        Self {
            side,
            generation: 1,
            pods: [pod(0), pod(1), pod(2)],
            uplink_mtu: 1500,
            vf_mtu: 1500,
            outer_v4: true,
            host_c: false,
            settings: Vec::new(),
            unprotected_c: false,
            revoked: Vec::new(),
            gone: Vec::new(),
            last_endpoint_generation: VFS as u32,
            moves: Moves::default(),
        }
    }

    pub(crate) fn pod(&mut self, vf: usize) -> &mut Pod {
        self.pods[vf].as_mut().unwrap()
    }

    /// Gives a pod another policy, as a generation would.
    pub(crate) fn repolicy(&mut self, vf: usize, policy: Policy) {
        self.pod(vf).policy = policy;
        self.touch(vf);
    }

    /// An address changes hands, and no pod's generation with it.
    pub(crate) fn move_address(&mut self, addr: Addr) {
        self.last_endpoint_generation += 1;
        self.moves.set(addr, self.last_endpoint_generation);
    }

    /// Addresses want something else of the way between nodes, as a generation would say it.
    pub(crate) fn set_encryption(&mut self, addrs: &[Addr], to: Encryption) {
        for addr in addrs {
            self.settings.push((*addr, to));
            self.move_address(*addr);
        }
    }

    /// Moves a pod's generation: something it is judged by has changed.
    pub(crate) fn touch(&mut self, vf: usize) {
        self.last_endpoint_generation += 1;
        self.pod(vf).generation = self.last_endpoint_generation;
    }

    /// Puts a new pod behind a VF, in place of whoever was there.
    pub(crate) fn replace_pod(&mut self, vf: usize, addrs: Vec<Addr>, policy: Policy) {
        self.last_endpoint_generation += 1;
        self.pods[vf] = Some(Pod {
            addrs,
            policy,
            generation: self.last_endpoint_generation,
            born: self.last_endpoint_generation,
        });
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        let side = self.side;
        let port = |kind, mac, mtu| PortState {
            kind,
            mac,
            mtu,
            vlan: 0,
            endpoint: None,
        };
        let mut ports = vec![
            port(PortKind::Uplink, side.uplink_mac(), self.uplink_mtu),
            port(PortKind::Host, side.host_mac(), 1500),
        ];
        let (mut endpoints, mut policies, mut prefixes) = (vec![], vec![], vec![]);
        for (vf, pod) in self.pods.iter().enumerate() {
            let mut state = port(PortKind::Vf, side.vf_mac(vf), self.vf_mtu);
            state.vlan = if vf == 2 { VF2_VLAN } else { 0 };
            if let Some(pod) = pod {
                let index = EndpointIndex(endpoints.len() as u16);
                state.endpoint = Some(index);
                endpoints.push(Endpoint {
                    port: Side::vf_port(vf),
                    addrs: pod.addrs.clone(),
                    policy: PolicyIndex(policies.len() as u32),
                    generation: pod.generation,
                    born: pod.born,
                });
                policies.push(snapshot::Policy {
                    id: 100 + vf as u32,
                    table: pod.policy.table(),
                    shadow: pod.policy.shadow.as_ref().map(|it| it.table()),
                });
                let (identity, place) = (pod_id(side as u8, vf), Place::LocalPod(index));
                prefixes.extend(pod.addrs.iter().map(|a| host(*a, identity, place)));
            }
            ports.push(state);
        }
        self.add_world(&mut prefixes);
        for (addr, _, owner) in &mut prefixes {
            let setting = self.settings.iter().rev().find(|it| it.0 == *addr);
            owner.encryption = setting.map_or(Encryption::Required, |it| it.1);
        }
        Arc::new(Snapshot {
            generation: self.generation,
            ports,
            uplink: Some(UPLINK),
            host: Some(HOST),
            interfaces: [true, false].map(|v4| self.interface(v4)).to_vec(),
            endpoints,
            policies,
            peers: vec![
                Some(Peer::Protected {
                    tunnel: side.other().tunnel(self.outer_v4),
                }),
                Some(if self.unprotected_c {
                    Peer::Unprotected
                } else {
                    Peer::Protected {
                        tunnel: c_tunnel(self.outer_v4),
                    }
                }),
            ]
            .into(),
            prefixes: PrefixTable::build(KEY, &prefixes),
            moves: self.moves.clone(),
        })
    }

    fn interface(&self, v4: bool) -> Interface {
        Interface {
            addr: self.side.tunnel(v4),
            prefix_len: if v4 { 24 } else { 64 },
            gateway: Some(gateway(v4)),
        }
    }

    /// Everybody but this node's pods.
    fn add_world(&self, prefixes: &mut Vec<(Addr, u8, Owner)>) {
        let (side, other) = (self.side, self.side.other());
        for v4 in [true, false] {
            let node = |node: Side, place| host(node.node(v4), node_id(node as u8), place);
            prefixes.push(node(side, Place::LocalNode));
            prefixes.push(node(other, Place::RemoteNode(OTHER)));
            let ordinary = side.ordinary_pod(v4);
            prefixes.push(host(ordinary, pod_id(side as u8, 9), Place::LocalNode));
            for vf in 0..VFS {
                let identity = pod_id(other as u8, vf);
                let place = if self.revoked.contains(&vf) {
                    Place::Nobody
                } else {
                    Place::RemotePod(OTHER)
                };
                if !self.gone.contains(&vf) {
                    prefixes.push(host(other.pod(vf, v4), identity, place));
                }
            }
            prefixes.push(host(c_pod(v4), pod_id(3, 0), Place::RemotePod(PEER_C)));
            if self.host_c {
                let place = Place::RemoteNode(PEER_C);
                prefixes.push(host(c_tunnel(v4), node_id(3), place));
            }
            prefixes.push(host(service(v4), SERVICE_ID, Place::ServiceVip));
            let everywhere = if v4 { Addr::v4([0; 4]) } else { Addr(0) };
            let outside = Owner::new(OUTSIDE_ID, Place::Outside);
            prefixes.push((everywhere, 0, outside));
        }
    }
}

fn host(addr: Addr, identity: IdentityId, place: Place) -> (Addr, u8, Owner) {
    let len = if addr.is_v4() { 32 } else { 128 };
    (addr, len, Owner::new(identity, place))
}
