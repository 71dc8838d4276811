//! Any value of each type, whether or not a state would take it.

use core::net::IpAddr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::answer::{Answer, Refused};
use crate::model::{
    Action, Capacity, Direction, DropCount, Encryption, Endpoint, Fallback, Fill, FlowEnd,
    FlowRecord, FlowState, FlowVerdict, Generation, Identity, IdentityId, Interface, IpPrefix,
    Lease, MacAddr, NameRecord, NodeName, PairCrossing, PairEnd, PairLine, PairRecord, PairsRest,
    Peer, Place, PodRef, PodUid, Policy, PolicyId, PolicyRow, Port, PortBlock, PortCounters,
    PortKind, PortName, PortStatus, Prefix, Protocol, RuleIndex, SaAlgorithm, SaDirection,
    SaFingerprint, SaRecord, ShadowRuling, ShadowTable, Status, Tier, Verdict,
};
use crate::refusal::RefusalCode;
use crate::transaction::{Key, Mode, Object, Op, Transaction};

/// Any MAC.
pub fn mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_map(MacAddr)
}

/// Any prefix; half of them hosts.
pub fn ip_prefix() -> impl Strategy<Value = IpPrefix> {
    (any::<IpAddr>(), 0u8..=128, any::<bool>()).prop_map(|(addr, len, host)| {
        // IPv4 in IPv6 form is no prefix.
        let addr = addr.to_canonical();
        let len = len % (IpPrefix::host(addr).len() + 1);
        match IpPrefix::masked(addr, len) {
            Ok(prefix) if !host => prefix,
            _ => IpPrefix::host(addr),
        }
    })
}

/// Any block of ports.
pub fn port_block() -> impl Strategy<Value = PortBlock> {
    (any::<u16>(), 0u8..=16).prop_map(|(port, len)| PortBlock::masked(port, len))
}

/// Any address of an uplink.
pub fn interface() -> impl Strategy<Value = Interface> {
    let gateway = option::of(any::<IpAddr>());
    (any::<IpAddr>(), any::<u8>(), gateway).prop_map(|(addr, prefix_len, gateway)| Interface {
        addr,
        prefix_len,
        gateway,
    })
}

fn port_kind() -> impl Strategy<Value = PortKind> {
    prop_oneof![
        any::<u16>().prop_map(|index| PortKind::Vf { index }),
        vec(interface(), 0..3).prop_map(|interfaces| PortKind::Uplink { interfaces }),
        Just(PortKind::Host),
    ]
}

/// Any port.
pub fn port() -> impl Strategy<Value = Port> {
    let vlan = option::of(any::<u16>());
    (any::<String>(), port_kind(), mac(), any::<u16>(), vlan).prop_map(
        |(name, kind, mac, mtu, vlan)| Port {
            name: PortName(name),
            kind,
            mac,
            mtu,
            vlan,
        },
    )
}

/// Any endpoint.
pub fn endpoint() -> impl Strategy<Value = Endpoint> {
    let interface = any::<String>();
    let names = (any::<String>(), interface, any::<String>(), any::<String>());
    let numbers = (any::<u32>(), any::<u32>(), mac());
    let ips = vec(any::<IpAddr>(), 0..10);
    (names, any::<String>(), numbers, ips).prop_map(
        |((uid, interface, namespace, name), port, (identity, policy, mac), ips)| Endpoint {
            pod_uid: PodUid(uid),
            interface,
            pod: PodRef { namespace, name },
            port: PortName(port),
            identity: IdentityId(identity),
            policy: PolicyId(policy),
            mac,
            ips,
        },
    )
}

/// Any address that a pod knows by a name.
pub fn name() -> impl Strategy<Value = NameRecord> {
    let domain = select(vec!["db.example.com", "*.example.com"]);
    let domain = domain.prop_filter_map("a pattern", |it| it.parse().ok());
    (any::<(String, IpAddr, u32)>(), domain).prop_map(|((uid, ip, left_ms), domain)| NameRecord {
        endpoint: PodUid(uid),
        ip,
        domain,
        left_ms,
    })
}

/// Any identity.
pub fn identity() -> impl Strategy<Value = Identity> {
    let domain = select(vec![None, Some("db.example.com"), Some("*.example.com")]);
    let encryption = select(Encryption::ALL.to_vec());
    (any::<u32>(), any::<String>(), domain, encryption).prop_map(
        |(id, label, domain, encryption)| Identity {
            id: IdentityId(id),
            label,
            domain: domain.and_then(|it| it.parse().ok()),
            encryption,
        },
    )
}

/// Any place.
pub fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        Just(Place::LocalPod),
        Just(Place::LocalNode),
        any::<String>().prop_map(|node| Place::RemotePod(NodeName(node))),
        any::<String>().prop_map(|node| Place::RemoteNode(NodeName(node))),
        Just(Place::Outside),
        Just(Place::ServiceVip),
        Just(Place::Nobody),
    ]
}

/// Any prefix and whose it is.
pub fn prefix() -> impl Strategy<Value = Prefix> {
    let uid = prop::option::of("[a-z0-9-]{1,36}".prop_map(PodUid));
    (ip_prefix(), any::<u32>(), place(), uid).prop_map(|(prefix, identity, place, pod_uid)| {
        Prefix {
            prefix,
            identity: IdentityId(identity),
            place,
            pod_uid,
        }
    })
}

/// Any peer.
pub fn peer() -> impl Strategy<Value = Peer> {
    let parts = (any::<String>(), vec(any::<IpAddr>(), 0..3), any::<bool>());
    parts.prop_map(|(node, tunnel_ips, unprotected)| Peer {
        node: NodeName(node),
        tunnel_ips,
        unprotected,
    })
}

fn verdict() -> impl Strategy<Value = Verdict> {
    select(&[Verdict::Allow, Verdict::Deny][..])
}

fn protocol() -> impl Strategy<Value = Option<Protocol>> {
    let all = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp, Protocol::Icmp];
    option::of(select(all.to_vec()))
}

/// Any row.
pub fn policy_row() -> impl Strategy<Value = PolicyRow> {
    let direction = select(&[Direction::Ingress, Direction::Egress][..]);
    let match_ = (
        direction,
        select(&Tier::ALL[..]),
        option::of(any::<u32>()),
        protocol(),
        port_block(),
    );
    let action = select(&[Action::Allow, Action::Deny, Action::Pass][..]);
    (match_, action, any::<u32>()).prop_map(
        |((direction, tier, peer, protocol, ports), action, rule)| PolicyRow {
            direction,
            tier,
            peer: peer.map(IdentityId),
            protocol,
            ports,
            action,
            rule: RuleIndex(rule),
        },
    )
}

fn fallback() -> impl Strategy<Value = Fallback> {
    (verdict(), any::<u32>()).prop_map(|(verdict, rule)| Fallback {
        verdict,
        rule: RuleIndex(rule),
    })
}

/// Any policy.
pub fn policy() -> impl Strategy<Value = Policy> {
    (any::<u32>(), table(), option::of(table())).prop_map(|(id, table, shadow)| {
        let id = PolicyId(id);
        let shadow = shadow.map(|it| Box::new(ShadowTable::new(Policy { id, ..it })));
        Policy {
            id,
            shadow,
            ..table
        }
    })
}

/// A table without a number or a shadow.
fn table() -> impl Strategy<Value = Policy> {
    let rules = vec(any::<String>(), 0..4);
    let rows = vec(policy_row(), 0..8);
    (fallback(), fallback(), rules, rows).prop_map(|(ingress, egress, rules, rows)| Policy {
        id: PolicyId(0),
        ingress,
        egress,
        rules,
        rows,
        shadow: None,
    })
}

/// Any object.
pub fn object() -> impl Strategy<Value = Object> {
    prop_oneof![
        port().prop_map(Object::Port),
        endpoint().prop_map(Object::Endpoint),
        identity().prop_map(Object::Identity),
        prefix().prop_map(Object::Prefix),
        policy().prop_map(Object::Policy),
        peer().prop_map(Object::Peer),
    ]
}

/// Any key.
pub fn key() -> impl Strategy<Value = Key> {
    object().prop_map(|object| object.key())
}

/// Any operation.
pub fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => object().prop_map(Op::Add),
        1 => key().prop_map(Op::Keep),
        1 => key().prop_map(Op::Del),
    ]
}

/// Any transaction.
pub fn transaction() -> impl Strategy<Value = Transaction> {
    let mode = option::of(any::<u64>()).prop_map(|base| match base {
        Some(base) => Mode::Delta {
            base: Generation(base),
        },
        None => Mode::Snapshot,
    });
    (mode, vec(op(), 0..8), any::<u64>()).prop_map(|(mode, ops, generation)| Transaction {
        mode,
        ops,
        generation: Generation(generation),
    })
}

/// Any answer.
pub fn answer() -> impl Strategy<Value = Answer> {
    let code = select(vec![
        RefusalCode::Malformed,
        RefusalCode::Sequence,
        RefusalCode::Stale,
        RefusalCode::Operation,
        RefusalCode::Capacity,
        RefusalCode::Value,
        RefusalCode::Conflict,
        RefusalCode::Reference,
        RefusalCode::Unsupported,
    ]);
    let refused = (any::<u64>(), any::<String>(), code, any::<String>());
    prop_oneof![
        any::<u64>().prop_map(|generation| Answer::Ack {
            generation: Generation(generation),
        }),
        refused.prop_map(|(generation, path, code, text)| Answer::Refused(Refused {
            generation: Generation(generation),
            path,
            code,
            text,
        })),
    ]
}

fn capacity() -> impl Strategy<Value = Capacity> {
    any::<[(u32, u32); 7]>().prop_map(|fills| {
        let fills = fills.map(|(used, max)| Fill { used, max });
        let [
            ports,
            endpoints,
            identities,
            prefixes,
            policies,
            rows,
            peers,
        ] = fills;
        Capacity {
            ports,
            endpoints,
            identities,
            prefixes,
            policies,
            rows,
            peers,
        }
    })
}

/// Any status.
pub fn status() -> impl Strategy<Value = Status> {
    let lease = select(&[Lease::Never, Lease::Held, Lease::Expired][..]);
    let ports = vec((any::<String>(), any::<bool>()), 0..4);
    let numbers = any::<(u64, u64, u16, u64, Option<u64>, u64)>();
    (any::<String>(), lease, capacity(), ports, numbers).prop_map(
        |(version, lease, capacity, ports, numbers)| {
            let (instance, generation, workers, uptime_ms, pending, flows) = numbers;
            let port = |(name, link_up)| PortStatus {
                name: PortName(name),
                link_up,
            };
            Status {
                version,
                instance,
                generation: Generation(generation),
                lease,
                workers,
                uptime_ms,
                capacity,
                ports: ports.into_iter().map(port).collect(),
                pending: pending.map(Generation),
                flows,
            }
        },
    )
}

/// Any port's counters.
pub fn port_counters() -> impl Strategy<Value = PortCounters> {
    let drops = vec(any::<(String, u64)>(), 0..4);
    (any::<String>(), any::<[u64; 10]>(), drops).prop_map(|(port, numbers, drops)| {
        let [
            rx_frames,
            rx_bytes,
            tx_frames,
            tx_bytes,
            forwarded,
            consumed,
            waiting,
            originated,
            shadow_would_deny,
            shadow_would_allow,
        ] = numbers;
        let drop = |(reason, frames)| DropCount { reason, frames };
        PortCounters {
            port: PortName(port),
            rx_frames,
            rx_bytes,
            tx_frames,
            tx_bytes,
            drops: drops.into_iter().map(drop).collect(),
            forwarded,
            consumed,
            waiting,
            originated,
            shadow_would_deny,
            shadow_would_allow,
        }
    })
}

fn flow_end() -> impl Strategy<Value = FlowEnd> {
    prop_oneof![
        any::<String>().prop_map(|name| FlowEnd::Port(PortName(name))),
        any::<String>().prop_map(|name| FlowEnd::Node(NodeName(name))),
        any::<String>().prop_map(|name| FlowEnd::Clear(NodeName(name))),
        Just(FlowEnd::Gone),
    ]
}

/// Any flow.
pub fn flow() -> impl Strategy<Value = FlowRecord> {
    let state = select(vec![
        FlowState::Opening,
        FlowState::Established,
        FlowState::ClosingInitiator,
        FlowState::ClosingResponder,
        FlowState::Closed,
    ]);
    let tuple = any::<(u8, IpAddr, IpAddr, u16, u16)>();
    let rest = any::<(Option<String>, u64, u64)>();
    (tuple, flow_end(), flow_end(), state, rest).prop_map(
        |(tuple, initiator, responder, state, rest)| {
            let (protocol, src, dst, src_port, dst_port) = tuple;
            let (rule, forward_packets, reverse_packets) = rest;
            FlowRecord {
                protocol,
                src,
                dst,
                src_port,
                dst_port,
                initiator,
                responder,
                state,
                rule,
                forward_packets,
                reverse_packets,
            }
        },
    )
}

fn shadow_ruling() -> impl Strategy<Value = ShadowRuling> {
    (verdict(), any::<Option<String>>()).prop_map(|(would, rule)| ShadowRuling { would, rule })
}

/// Any verdict.
pub fn flow_verdict() -> impl Strategy<Value = FlowVerdict> {
    let tuple = any::<(u8, IpAddr, IpAddr, u16, u16)>();
    let names = any::<[Option<String>; 4]>();
    let shadows = [option::of(shadow_ruling()), option::of(shadow_ruling())];
    let rest = (option::of(flow_end()), any::<(u64, u64)>());
    (tuple, names, shadows, rest).prop_map(
        |(tuple, names, [shadow_egress, shadow_ingress], (to, (generation, lost)))| {
            let (protocol, src, dst, src_port, dst_port) = tuple;
            let [port, denied, egress, ingress] = names;
            FlowVerdict {
                generation: Generation(generation),
                port: port.map(PortName),
                protocol,
                src,
                dst,
                src_port,
                dst_port,
                denied,
                egress,
                ingress,
                shadow_egress,
                shadow_ingress,
                to,
                lost,
            }
        },
    )
}

fn sa_direction() -> impl Strategy<Value = SaDirection> {
    select(&[SaDirection::Inbound, SaDirection::Outbound][..])
}

fn sa_algorithm() -> impl Strategy<Value = SaAlgorithm> {
    select(
        &[
            SaAlgorithm::Aes128Gcm16,
            SaAlgorithm::Aes256Gcm16,
            SaAlgorithm::ChaCha20Poly1305,
        ][..],
    )
}

fn pair_end() -> impl Strategy<Value = PairEnd> {
    any::<(u32, Option<String>)>().prop_map(|(identity, label)| PairEnd {
        identity: IdentityId(identity),
        label,
    })
}

fn pair() -> impl Strategy<Value = PairRecord> {
    let crossing = select(
        &[
            PairCrossing::Sealed,
            PairCrossing::Clear,
            PairCrossing::Never,
            PairCrossing::Gone,
        ][..],
    );
    let setting = option::of(select(Encryption::ALL.to_vec()));
    let algorithm = option::of(sa_algorithm());
    let ends = (pair_end(), pair_end(), sa_direction());
    let rest = any::<(Option<String>, Option<u64>, [u64; 3])>();
    (ends, setting, crossing, algorithm, rest).prop_map(
        |((from, to, direction), setting, crossing, algorithm, (peer, sa_age_ms, counts))| {
            let [flows, clear_packets, clear_bytes] = counts;
            PairRecord {
                from,
                to,
                peer: peer.map(NodeName),
                direction,
                setting,
                crossing,
                algorithm,
                sa_age_ms,
                flows,
                clear_packets,
                clear_bytes,
            }
        },
    )
}

/// Any line about pairs.
pub fn pair_line() -> impl Strategy<Value = PairLine> {
    let rest = any::<[u64; 3]>().prop_map(|[left_out, clear_packets, clear_bytes]| {
        PairLine::Rest(PairsRest {
            left_out,
            clear_packets,
            clear_bytes,
        })
    });
    prop_oneof![pair().prop_map(PairLine::Pair), rest]
}

/// Any SA.
pub fn sa() -> impl Strategy<Value = SaRecord> {
    let (direction, algorithm) = (sa_direction(), sa_algorithm());
    let rest = any::<(u32, Option<String>, [u8; 8], u64, u64, Option<u64>)>();
    (direction, algorithm, rest).prop_map(|(direction, algorithm, rest)| {
        let (spi, peer, fingerprint, packets, bytes, age_ms) = rest;
        SaRecord {
            spi,
            peer: peer.map(NodeName),
            direction,
            algorithm,
            fingerprint: SaFingerprint(fingerprint),
            packets,
            bytes,
            age_ms,
        }
    })
}
