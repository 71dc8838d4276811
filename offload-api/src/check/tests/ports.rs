//! Ports and peers.

use super::{accept, ip, peer, port, refuse_ops};
use crate::model::{Interface, MacAddr, Port, PortKind};

fn uplink(change: impl FnOnce(&mut Vec<Interface>)) -> String {
    refuse_ops(vec![port("uplink", |it| match &mut it.kind {
        PortKind::Uplink { interfaces } => change(interfaces),
        other => panic!("{other:?}"),
    })])
}

fn vf0(change: impl FnOnce(&mut Port)) -> String {
    refuse_ops(vec![port("vf0", change)])
}

#[test]
fn a_mac_is_a_stations() {
    assert_eq!(
        vf0(|it| it.mac = MacAddr([1, 0, 0, 0, 0, 1])),
        "ops[0].add.port.mac: 01:00:00:00:00:01 is not a station's address (group bit set, \
         or all zero)"
    );
    assert_eq!(
        vf0(|it| it.mac = MacAddr([0; 6])),
        "ops[0].add.port.mac: 00:00:00:00:00:00 is not a station's address (group bit set, \
         or all zero)"
    );
}

#[test]
fn an_mtu_is_within_bounds() {
    assert_eq!(
        vf0(|it| it.mtu = 1279),
        "ops[0].add.port.mtu: an MTU of 1279 bytes is not within 1280 to 9216"
    );
    assert_eq!(
        vf0(|it| it.mtu = 9217),
        "ops[0].add.port.mtu: an MTU of 9217 bytes is not within 1280 to 9216"
    );
    accept(vec![
        port("vf0", |it| it.mtu = 1280),
        port("vf1", |it| it.mtu = 9216),
    ]);
}

#[test]
fn a_vlan_is_a_vfs_and_within_bounds() {
    assert_eq!(
        vf0(|it| it.vlan = Some(0)),
        "ops[0].add.port.vlan: VLAN 0 is not within 1 to 4094; leave it out for untagged"
    );
    assert_eq!(
        vf0(|it| it.vlan = Some(4095)),
        "ops[0].add.port.vlan: VLAN 4095 is not within 1 to 4094; leave it out for untagged"
    );
    assert_eq!(
        refuse_ops(vec![port("host", |it| it.vlan = Some(5))]),
        "ops[0].add.port.vlan: VLAN 5 is on a port that is not a VF; only VFs have one"
    );
    accept(vec![port("vf0", |it| it.vlan = Some(4094))]);
}

#[test]
fn no_two_ports_are_the_same_thing() {
    let new = |change: fn(&mut Port)| {
        refuse_ops(vec![port("vf1", |it| {
            it.name = "new".into();
            it.mac = MacAddr([2, 0, 0, 0, 0, 9]);
            it.kind = PortKind::Vf { index: 9 };
            change(it);
        })])
    };
    assert_eq!(
        new(|it| it.mac = MacAddr([2, 0, 0, 0, 0, 1])),
        "ops[0].add.port.mac: 02:00:00:00:00:01 already belongs to port vf0; give each its own"
    );
    assert_eq!(
        new(|it| it.kind = PortKind::Vf { index: 0 }),
        "ops[0].add.port.vf.index: VF 0 is port vf0 already; name each VF once"
    );
    assert_eq!(
        new(|it| it.kind = PortKind::Host),
        "ops[0].add.port.host: port host is the host's already; there can be one"
    );
    let uplink = |it: &mut Port| {
        it.kind = PortKind::Uplink {
            interfaces: Vec::new(),
        };
    };
    assert_eq!(
        new(uplink),
        "ops[0].add.port.uplink: port uplink is the uplink already; there can be one"
    );
}

#[test]
fn an_uplinks_addresses_are_usable() {
    assert_eq!(
        uplink(|it| it[1].addr = ip("ff02::1")),
        "ops[0].add.port.uplink.interfaces[1].addr: ff02::1 is not a unicast address that a \
         station can have"
    );
    assert_eq!(
        uplink(|it| it[0].prefix_len = 33),
        "ops[0].add.port.uplink.interfaces[0].prefix_len: prefix length 33 is over 32, the \
         longest for 192.0.2.1"
    );
    assert_eq!(
        uplink(|it| it[1].addr = ip("192.0.2.9")),
        "ops[0].add.port.uplink.interfaces[1].prefix_len: prefix length 64 is over 32, the \
         longest for 192.0.2.9"
    );
    let second = |it: &mut Vec<Interface>| {
        it[1].addr = ip("192.0.2.9");
        it[1].prefix_len = 24;
    };
    assert_eq!(
        uplink(second),
        "ops[0].add.port.uplink.interfaces[1].addr: 192.0.2.9 is the second address of its \
         family; at most one may be"
    );
}

#[test]
fn a_gateway_is_another_station_on_the_link() {
    for gateway in ["192.0.3.1", "192.0.2.1", "2001:db8::9"] {
        assert_eq!(
            uplink(|it| it[0].gateway = Some(ip(gateway))),
            format!(
                "ops[0].add.port.uplink.interfaces[0].gateway: gateway {gateway} is not \
                 another station on the link of 192.0.2.1/24"
            )
        );
    }
    let link_local = |it: &mut Port| {
        if let PortKind::Uplink { interfaces } = &mut it.kind {
            interfaces[1].gateway = Some(ip("fe80::1"));
        }
    };
    accept(vec![port("uplink", link_local)]);
}

#[test]
fn a_peer_has_one_or_two_usable_addresses() {
    let ips = |ips: &[&str]| {
        refuse_ops(vec![peer(|it| {
            it.tunnel_ips = ips.iter().map(|it| ip(it)).collect();
        })])
    };
    assert_eq!(
        ips(&[]),
        "ops[0].add.peer.tunnel_ips: has no address; at least one is needed"
    );
    assert_eq!(
        ips(&["192.0.2.2", "127.0.0.1"]),
        "ops[0].add.peer.tunnel_ips[1]: 127.0.0.1 is not a unicast address that a station \
         can have"
    );
    assert_eq!(
        ips(&["::ffff:192.0.2.2"]),
        "ops[0].add.peer.tunnel_ips[0]: ::ffff:192.0.2.2 is not a unicast address that a \
         station can have"
    );
    assert_eq!(
        ips(&["192.0.2.2", "192.0.2.3"]),
        "ops[0].add.peer.tunnel_ips[1]: 192.0.2.3 is the second address of its family; at \
         most one may be"
    );
    assert_eq!(
        ips(&["192.0.2.1"]),
        "ops[0].add.peer.tunnel_ips[0]: 192.0.2.1 already belongs to the dataplane's own \
         port uplink; give each its own"
    );
    let second = peer(|it| it.node = "c".into());
    assert_eq!(
        refuse_ops(vec![second]),
        "ops[0].add.peer.tunnel_ips[0]: 192.0.2.2 already belongs to peer b; give each its own"
    );
}

#[test]
fn a_node_without_a_dataplane_has_no_address_for_esp() {
    let unprotected = |keep: usize| {
        vec![peer(move |it| {
            it.unprotected = true;
            it.tunnel_ips.truncate(keep);
        })]
    };
    assert_eq!(
        refuse_ops(unprotected(1)),
        "ops[0].add.peer.unprotected: node b is unprotected and has 192.0.2.2 for ESP; leave \
         one of the two out"
    );
    assert!(accept(unprotected(0)).peers[&"b".into()].unprotected);
}
