//! Prefixes.

use super::{del_endpoint, del_prefix, endpoint, ip, net, prefix, refuse_ops};
use crate::model::{IdentityId, Place};

#[test]
fn a_prefixs_identity_and_peer_exist() {
    assert_eq!(
        refuse_ops(vec![prefix("0.0.0.0/0", |it| it.identity = IdentityId(70))]),
        "ops[0].add.prefix.identity: prefix 0.0.0.0/0 needs identity 70, which there is not; \
         have both in force, or neither"
    );
    let remote = |place| refuse_ops(vec![prefix("0.0.0.0/0", |it| it.place = place)]);
    assert_eq!(
        remote(Place::RemotePod("c".into())),
        "ops[0].add.prefix.remote_pod: prefix 0.0.0.0/0 needs peer c, which there is not; \
         have both in force, or neither"
    );
    assert_eq!(
        remote(Place::RemoteNode("c".into())),
        "ops[0].add.prefix.remote_node: prefix 0.0.0.0/0 needs peer c, which there is not; \
         have both in force, or neither"
    );
}

#[test]
fn a_local_pods_prefix_is_an_endpoints_address() {
    let local = |text: &str| {
        refuse_ops(vec![prefix("0.0.0.0/0", |it| {
            it.place = Place::LocalPod;
            it.prefix = net(text);
        })])
    };
    assert_eq!(
        local("10.0.0.9/32"),
        "ops[0].add.prefix.local_pod: 10.0.0.9 is a local pod's, but no endpoint has it; add \
         the endpoint with it"
    );
    assert_eq!(
        local("10.0.0.0/24"),
        "ops[0].add.prefix.prefix.len: a local pod's prefix has one address, not /24"
    );
}

#[test]
fn an_endpoint_that_leaves_its_prefix_is_at_fault() {
    let alone = ": 10.0.0.2 is a local pod's, but no endpoint has it; add the endpoint with it";
    assert_eq!(
        refuse_ops(vec![del_endpoint("u-db")]),
        format!("ops[0].del.endpoint{alone}")
    );
    let moved = [
        endpoint("u-db", |it| it.ips = vec![ip("10.0.0.9")]),
        prefix("10.0.0.2/32", |it| it.prefix = net("10.0.0.9/32")),
    ];
    assert_eq!(
        refuse_ops(moved.to_vec()),
        format!("ops[0].add.endpoint.ips{alone}")
    );
}

#[test]
fn a_prefix_that_leaves_its_endpoint_is_at_fault() {
    let alone = ": pod shop/db has 10.0.0.2, which no local-pod prefix says; add one of that \
                 address";
    assert_eq!(
        refuse_ops(vec![del_prefix("10.0.0.2/32")]),
        format!("ops[0].del.prefix{alone}")
    );
    assert_eq!(
        refuse_ops(vec![prefix("10.0.0.2/32", |it| it.place = Place::Outside)]),
        format!("ops[0].add.prefix.place{alone}")
    );
}

#[test]
fn only_one_address_of_a_pod_of_another_node_has_a_pod_uid() {
    let with_uid = |uid: &str, text: &str, place| {
        refuse_ops(vec![prefix("10.0.1.1/32", |it| {
            it.prefix = net(text);
            it.place = place;
            it.pod_uid = Some(uid.into());
        })])
    };
    let b = || Place::RemotePod("b".into());
    let no = "ops[0].add.prefix.pod_uid: only one address of a pod of another node has a pod \
              UID; leave it out";
    assert_eq!(with_uid("u", "10.9.0.0/24", b()), no);
    assert_eq!(with_uid("u", "10.9.0.1/32", Place::Outside), no);
    let control = with_uid("u\u{7}", "10.9.0.1/32", b());
    assert!(
        control.starts_with("ops[0].add.prefix.pod_uid: "),
        "{control}"
    );
}
