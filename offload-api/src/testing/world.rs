//! Random states that hold together.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::any::policy_row;
use crate::model::{
    Encryption, Endpoint, Fallback, Generation, Identity, IdentityId, IpPrefix, MacAddr, NodeName,
    Peer, Place, PodRef, Policy, PolicyId, PolicyRow, Port, PortBlock, PortKind, Prefix, Protocol,
    RuleIndex, ShadowTable, Verdict,
};
use crate::state::State;
use crate::transaction::Object;

/// Identities in every state, numbered from 1.
const IDENTITIES: u32 = 6;
/// Policies in every state, numbered from 0.
const POLICIES: u32 = 3;
/// Rules of every policy.
const RULES: u32 = 4;

/// A valid state of a handful of pods, peers, policies and prefixes under `generation`.
/// Any two share most of their keys, so their difference has all kinds of operations.
pub fn state(generation: u64) -> impl Strategy<Value = State> {
    let vfs = btree_map(0u8..6, (any::<bool>(), option::of(pod())), 0..6);
    let peers = btree_map(0u8..4, (any::<bool>(), 0u8..3), 0..4);
    let policies = vec((any::<bool>(), vec(policy_row(), 0..6)), POLICIES as usize);
    let outside = btree_map(0u8..8, (1..=IDENTITIES, any::<bool>()), 0..5);
    (vfs, peers, policies, outside, any::<u8>()).prop_map(
        move |(vfs, peers, policies, outside, label)| {
            let mut state = State {
                generation: Generation(generation),
                ..State::default()
            };
            for id in 1..=IDENTITIES {
                state.put(Object::Identity(Identity {
                    id: IdentityId(id),
                    label: format!("shop{{app={}}}", u32::from(label) & id),
                    domain: None,
                    encryption: match (label.wrapping_add(u8::try_from(id).unwrap_or(0))) % 4 {
                        0 => Encryption::Off,
                        1 => Encryption::Preferred,
                        _ => Encryption::Required,
                    },
                }));
            }
            for (id, (allow, rows)) in (0..POLICIES).zip(policies) {
                let mut made = policy(id, allow, &rows);
                if id % 2 == 1 {
                    let shadow = policy(id, !allow, rows.split_at(rows.len() / 2).0);
                    made.shadow = Some(Box::new(ShadowTable::new(shadow)));
                }
                state.put(Object::Policy(made));
            }
            for (index, (jumbo, pod)) in vfs {
                put_vf(&mut state, index, jumbo, pod);
            }
            for (index, (dual, pods)) in peers {
                put_peer(&mut state, index, dual, pods);
            }
            for (index, (id, vip)) in outside {
                let addr = IpAddr::V4(Ipv4Addr::new(172, 16, index, 0));
                let prefix = IpPrefix::masked(addr, 24 - index % 2);
                let place = if vip {
                    Place::ServiceVip
                } else {
                    Place::Outside
                };
                if let Ok(prefix) = prefix {
                    put_prefix(&mut state, prefix, id, place);
                }
            }
            state
        },
    )
}

/// A pod's number, identity, policy, and whether it has IPv6 too.
fn pod() -> impl Strategy<Value = (u8, u32, u32, bool)> {
    (0u8..3, 1..=IDENTITIES, 0..POLICIES, any::<bool>())
}

fn put_prefix(state: &mut State, prefix: IpPrefix, id: u32, place: Place) {
    let pod_uid = match &place {
        Place::RemotePod(node) => Some(format!("uid-{node}-{id}").as_str().into()),
        _ => None,
    };
    state.put(Object::Prefix(Prefix {
        prefix,
        identity: IdentityId(id),
        place,
        pod_uid,
    }));
}

fn put_vf(state: &mut State, index: u8, jumbo: bool, pod: Option<(u8, u32, u32, bool)>) {
    let name = format!("pf0vf{index}");
    let mac = MacAddr([2, 0, 0, 0, 1, index]);
    state.put(Object::Port(Port {
        name: name.as_str().into(),
        kind: PortKind::Vf {
            index: index.into(),
        },
        mac,
        mtu: if jumbo { 9000 } else { 1500 },
        vlan: jumbo.then_some(100),
    }));
    let Some((number, identity, policy, dual)) = pod else {
        return;
    };
    let mut ips = vec![IpAddr::V4(Ipv4Addr::new(10, 0, number, index + 1))];
    if dual {
        let (number, index) = (number.into(), u16::from(index) + 1);
        ips.push(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, number, index).into());
    }
    for &ip in &ips {
        put_prefix(state, IpPrefix::host(ip), identity, Place::LocalPod);
    }
    state.put(Object::Endpoint(Endpoint {
        pod_uid: format!("uid-{index}-{number}").as_str().into(),
        interface: String::new(),
        pod: PodRef {
            namespace: "shop".to_owned(),
            name: format!("pod-{index}"),
        },
        port: name.as_str().into(),
        identity: IdentityId(identity),
        policy: PolicyId(policy),
        mac,
        ips,
    }));
}

fn put_peer(state: &mut State, index: u8, dual: bool, pods: u8) {
    let node = NodeName(format!("node-{index}"));
    let mut tunnel_ips = vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, index + 1))];
    if dual {
        let index = u16::from(index) + 1;
        tunnel_ips.push(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, index).into());
    }
    for &ip in &tunnel_ips {
        let place = Place::RemoteNode(node.clone());
        put_prefix(state, IpPrefix::host(ip), 1, place);
    }
    for pod in 0..pods {
        let ip = IpAddr::V4(Ipv4Addr::new(10, 1 + index, 0, pod));
        let place = Place::RemotePod(node.clone());
        put_prefix(state, IpPrefix::host(ip), 1 + u32::from(pod), place);
    }
    state.put(Object::Peer(Peer {
        node,
        tunnel_ips,
        unprotected: false,
    }));
}

/// A policy of what can be kept of any rows.
fn policy(id: u32, allow: bool, rows: &[PolicyRow]) -> Policy {
    let rows: BTreeMap<_, _> = rows
        .iter()
        .map(|row| {
            let has_ports = !matches!(row.protocol, None | Some(Protocol::Icmp));
            let row = PolicyRow {
                peer: row.peer.map(|peer| IdentityId(peer.0 % IDENTITIES + 1)),
                ports: if has_ports { row.ports } else { PortBlock::ANY },
                rule: RuleIndex(row.rule.0 % RULES),
                ..*row
            };
            (row.key(), row)
        })
        .collect();
    let verdict = if allow { Verdict::Allow } else { Verdict::Deny };
    let rule = RuleIndex(0);
    Policy {
        id: PolicyId(id),
        ingress: Fallback { verdict, rule },
        egress: Fallback { verdict, rule },
        rules: (0..RULES)
            .map(|rule| format!("policy {id}, rule {rule}"))
            .collect(),
        rows: rows.into_values().collect(),
        shadow: None,
    }
}
