//! Endpoints.

use super::{accept, del_endpoint, endpoint, ip, net, port, prefix, refuse_ops};
use crate::model::{Endpoint, IdentityId, MacAddr, PolicyId, PortKind};

fn cart(change: impl FnOnce(&mut Endpoint)) -> String {
    refuse_ops(vec![endpoint("u-cart", change)])
}

#[test]
fn an_endpoint_has_a_vf_of_its_own() {
    assert_eq!(
        cart(|it| it.port = "vf7".into()),
        "ops[0].add.endpoint.port: endpoint u-cart needs port vf7, which there is not; have \
         both in force, or neither"
    );
    assert_eq!(
        cart(|it| it.port = "host".into()),
        "ops[0].add.endpoint.port: pod shop/cart is on port host, which is not a VF; pods \
         have VFs"
    );
    let onto_db = |it: &mut Endpoint| {
        it.port = "vf1".into();
        it.mac = MacAddr([2, 0, 0, 0, 0, 2]);
    };
    assert_eq!(
        cart(onto_db),
        "ops[0].add.endpoint.port: port vf1 already belongs to pod shop/db (uid u-db); give \
         each its own"
    );
}

#[test]
fn an_endpoint_has_its_ports_mac() {
    assert_eq!(
        cart(|it| it.mac = MacAddr([2, 0, 0, 0, 0, 9])),
        "ops[0].add.endpoint.mac: pod shop/cart has MAC 02:00:00:00:00:09, but its port vf0 \
         has 02:00:00:00:00:01; they must be one"
    );
    assert_eq!(
        refuse_ops(vec![port("vf0", |it| it.mac = MacAddr([2, 0, 0, 0, 0, 9]))]),
        "ops[0].add.port.mac: pod shop/cart has MAC 02:00:00:00:00:01, but its port vf0 has \
         02:00:00:00:00:09; they must be one",
        "the port changed, so the port is at fault"
    );
    accept(vec![
        port("vf0", |it| it.mac = MacAddr([2, 0, 0, 0, 0, 9])),
        endpoint("u-cart", |it| it.mac = MacAddr([2, 0, 0, 0, 0, 9])),
    ]);
    assert_eq!(
        refuse_ops(vec![port("vf0", |it| {
            it.kind = PortKind::Host;
            it.name = "vf0".into();
        })]),
        "ops[0].add.port.host: port host is the host's already; there can be one"
    );
}

#[test]
fn a_port_that_stops_being_a_vf_is_at_fault() {
    let host = super::Op::Del(super::Key::Port("host".into()));
    assert_eq!(
        refuse_ops(vec![host, port("vf0", |it| it.kind = PortKind::Host)]),
        "ops[1].add.port.vf: pod shop/cart is on port vf0, which is not a VF; pods have VFs"
    );
}

#[test]
fn an_endpoints_identity_and_policy_exist() {
    assert_eq!(
        cart(|it| it.identity = IdentityId(70)),
        "ops[0].add.endpoint.identity: endpoint u-cart needs identity 70, which there is \
         not; have both in force, or neither"
    );
    assert_eq!(
        cart(|it| it.policy = PolicyId(70)),
        "ops[0].add.endpoint.policy: endpoint u-cart needs policy 70, which there is not; \
         have both in force, or neither"
    );
}

#[test]
fn an_endpoint_has_one_to_eight_usable_addresses() {
    assert_eq!(
        cart(|it| it.ips.clear()),
        "ops[0].add.endpoint.ips: has no address; at least one is needed"
    );
    assert_eq!(
        cart(|it| it.ips = vec![ip("10.0.0.1"); 9]),
        "ops[0].add.endpoint.ips: 9 addresses are too many; at most 8 fit"
    );
    for bad in [
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "127.0.0.1",
        "::",
        "::1",
        "ff02::1",
    ] {
        assert_eq!(
            cart(|it| it.ips[1] = ip(bad)),
            format!(
                "ops[0].add.endpoint.ips[1]: {bad} is not a unicast address that a station \
                 can have"
            )
        );
    }
}

#[test]
fn an_address_has_one_owner() {
    assert_eq!(
        cart(|it| it.ips[1] = it.ips[0]),
        "ops[0].add.endpoint.ips[1]: 10.0.0.1 already belongs to pod shop/cart (uid u-cart); \
         give each its own"
    );
    // Also two pods of one identity, whose prefixes agree.
    let db = [
        endpoint("u-db", |it| {
            it.identity = IdentityId(1);
            it.ips.push(ip("10.0.0.1"));
        }),
        prefix("10.0.0.2/32", |it| it.identity = IdentityId(1)),
    ];
    assert_eq!(
        refuse_ops(db.to_vec()),
        "ops[0].add.endpoint.ips[1]: 10.0.0.1 already belongs to pod shop/cart (uid u-cart); \
         give each its own"
    );
    // Of two that are both new, the later is at fault whatever the order of their keys.
    let mut both = db.to_vec();
    both.push(endpoint("u-cart", |_| {}));
    assert_eq!(
        refuse_ops(both),
        "ops[2].add.endpoint.ips[0]: 10.0.0.1 already belongs to pod shop/db (uid u-db); \
         give each its own"
    );
    let of_the_uplink = [
        endpoint("u-db", |it| it.ips = vec![ip("192.0.2.1")]),
        super::del_prefix("10.0.0.2/32"),
        prefix("10.0.0.2/32", |it| it.prefix = net("192.0.2.1/32")),
    ];
    assert_eq!(
        refuse_ops(of_the_uplink.to_vec()),
        "ops[0].add.endpoint.ips[0]: 192.0.2.1 already belongs to the dataplane's own port \
         uplink; give each its own"
    );
}

#[test]
fn an_endpoint_and_its_prefixes_say_the_same() {
    assert_eq!(
        cart(|it| it.ips[0] = ip("10.0.0.9")),
        "ops[0].add.endpoint.ips[0]: pod shop/cart has 10.0.0.9, which no local-pod prefix \
         says; add one of that address"
    );
    assert_eq!(
        cart(|it| it.identity = IdentityId(3)),
        "ops[0].add.endpoint.identity: pod shop/cart has identity 3, but 10.0.0.1 has 1 by \
         its prefix; they must be one"
    );
    assert_eq!(
        refuse_ops(vec![prefix("10.0.0.1/32", |it| it.identity = IdentityId(3))]),
        "ops[0].add.prefix.identity: pod shop/cart has identity 1, but 10.0.0.1 has 3 by its \
         prefix; they must be one"
    );
    // An ipBlock may hold one family's address and not the other's.
    let state = accept(vec![prefix("fd00::1/128", |it| {
        it.identity = IdentityId(3)
    })]);
    let second = &state.prefixes[&"fd00::1/128".parse().unwrap()];
    assert_eq!(second.identity, IdentityId(3));
}

#[test]
fn an_endpoint_can_go_with_its_prefixes() {
    let state = accept(vec![super::del_prefix("10.0.0.2/32"), del_endpoint("u-db")]);
    assert_eq!(state.endpoints.len(), 1);
}
