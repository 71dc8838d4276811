//! One small state with an object of every kind in it.

use core::net::IpAddr;

use crate::model::{
    Action, Direction, Encryption, Endpoint, Fallback, Generation, Identity, IdentityId, Interface,
    IpPrefix, MacAddr, Peer, Place, PodRef, Policy, PolicyId, PolicyRow, Port, PortBlock, PortKind,
    Prefix, Protocol, RuleIndex, Tier, Verdict,
};
use crate::state::State;
use crate::transaction::Object;

/// The state of node `a` under generation 7: pods `shop/cart` (uid `u-cart`, port `vf0`,
/// identity 1, policy 1, 10.0.0.1 and `fd00::1`) and `shop/db` (uid `u-db`, port `vf1`,
/// identity 2, policy 2, 10.0.0.2), an uplink, a host port, and the peer `b` with a pod at
/// 10.0.1.1. `cart` may open 5432/TCP to `db`.
#[must_use]
pub fn sample() -> State {
    let mut state = State {
        generation: Generation(7),
        ..State::default()
    };
    let objects = ports()
        .into_iter()
        .chain(identities())
        .chain(prefixes())
        .chain(policies())
        .chain(endpoints());
    for object in objects {
        state.put(object);
    }
    state.put(Object::Peer(Peer {
        node: "b".into(),
        tunnel_ips: vec![v4(192, 0, 2, 2), ip6(0x2001_0db8, 2)],
        unprotected: false,
    }));
    state
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(core::net::Ipv4Addr::new(a, b, c, d))
}

const fn ip6(high: u32, low: u16) -> IpAddr {
    let bits = ((high as u128) << 96) | low as u128;
    IpAddr::V6(core::net::Ipv6Addr::from_bits(bits))
}

const fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

fn ports() -> Vec<Object> {
    let port = |name: &str, kind, last| {
        Object::Port(Port {
            name: name.into(),
            kind,
            mac: mac(last),
            mtu: 1500,
            vlan: None,
        })
    };
    let interfaces = vec![
        Interface {
            addr: v4(192, 0, 2, 1),
            prefix_len: 24,
            gateway: Some(v4(192, 0, 2, 254)),
        },
        Interface {
            addr: ip6(0x2001_0db8, 1),
            prefix_len: 64,
            gateway: None,
        },
    ];
    vec![
        port("vf0", PortKind::Vf { index: 0 }, 1),
        port("vf1", PortKind::Vf { index: 1 }, 2),
        port("host", PortKind::Host, 3),
        port("uplink", PortKind::Uplink { interfaces }, 4),
    ]
}

fn identities() -> Vec<Object> {
    let identity = |(id, label): (u32, &str)| {
        Object::Identity(Identity {
            id: IdentityId(id),
            label: label.to_owned(),
            domain: None,
            encryption: Encryption::Required,
        })
    };
    let all = [
        (1, "shop{app=cart}"),
        (2, "shop{app=db}"),
        (3, "shop{app=web}"),
        (4, "node/b"),
        (5, "world"),
    ];
    all.into_iter().map(identity).collect()
}

fn prefixes() -> Vec<Object> {
    let prefix = |prefix, id, place| {
        let remote = matches!(place, Place::RemotePod(_));
        Object::Prefix(Prefix {
            prefix,
            identity: IdentityId(id),
            place,
            pod_uid: remote.then(|| "u-web".into()),
        })
    };
    let host = IpPrefix::host;
    let mut all = vec![
        prefix(host(v4(10, 0, 0, 1)), 1, Place::LocalPod),
        prefix(host(ip6(0xfd00_0000, 1)), 1, Place::LocalPod),
        prefix(host(v4(10, 0, 0, 2)), 2, Place::LocalPod),
        prefix(host(v4(10, 0, 1, 1)), 3, Place::RemotePod("b".into())),
        prefix(host(v4(192, 0, 2, 2)), 4, Place::RemoteNode("b".into())),
    ];
    all.extend(IpPrefix::masked(v4(0, 0, 0, 0), 0).map(|all| prefix(all, 5, Place::Outside)));
    all
}

fn policies() -> Vec<Object> {
    let fallback = |verdict, rule| Fallback {
        verdict,
        rule: RuleIndex(rule),
    };
    let row = |direction, peer, rule| PolicyRow {
        direction,
        tier: Tier::Namespace,
        peer: Some(IdentityId(peer)),
        protocol: Some(Protocol::Tcp),
        ports: PortBlock::masked(5432, 16),
        action: Action::Allow,
        rule: RuleIndex(rule),
    };
    let cart = Policy {
        id: PolicyId(1),
        ingress: fallback(Verdict::Deny, 0),
        egress: fallback(Verdict::Deny, 1),
        rules: vec![
            "shop/cart ingress default".to_owned(),
            "shop/cart egress default".to_owned(),
            "shop/cart egress[0]".to_owned(),
        ],
        rows: vec![row(Direction::Egress, 2, 2)],
        shadow: None,
    };
    let db = Policy {
        id: PolicyId(2),
        ingress: fallback(Verdict::Deny, 0),
        egress: fallback(Verdict::Allow, 1),
        rules: vec![
            "shop/db ingress default".to_owned(),
            "no egress policy".to_owned(),
            "shop/db ingress[0]".to_owned(),
        ],
        rows: vec![row(Direction::Ingress, 1, 2), row(Direction::Ingress, 3, 2)],
        shadow: None,
    };
    vec![Object::Policy(cart), Object::Policy(db)]
}

fn endpoints() -> Vec<Object> {
    let endpoint = |name: &str, port: &str, id, ips: &[IpAddr]| {
        Object::Endpoint(Endpoint {
            pod_uid: format!("u-{name}").as_str().into(),
            interface: String::new(),
            pod: PodRef {
                namespace: "shop".to_owned(),
                name: name.to_owned(),
            },
            port: port.into(),
            identity: IdentityId(id),
            policy: PolicyId(id),
            mac: mac(u8::try_from(id).unwrap_or(0)),
            ips: ips.to_vec(),
        })
    };
    vec![
        endpoint("cart", "vf0", 1, &[v4(10, 0, 0, 1), ip6(0xfd00_0000, 1)]),
        endpoint("db", "vf1", 2, &[v4(10, 0, 0, 2)]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    #[test]
    fn the_sample_is_valid() {
        assert_eq!(sample().validate(&Limits::MAX), Ok(()));
    }

    #[test]
    fn a_snapshot_of_the_sample_makes_it_of_nothing() {
        let made = State::default().apply(&sample().to_snapshot());
        assert_eq!(made, Ok(sample()));
    }
}
