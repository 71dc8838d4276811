//! Identities that stand for domains' names.

use std::net::IpAddr;

use sluice_dataplane_core::addr::Mac;
use sluice_dataplane_core::snapshot::ROUTER_MAC;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};
use sluice_offload_api::State;
use sluice_offload_api::model::{
    Action, Direction, Encryption, Identity, IdentityId, PolicyId, PolicyRow, PortBlock, Protocol,
    RuleIndex, Tier,
};

use crate::rig::{Rig, VF0, VF1, ip};

/// `shop/cart` asks `shop/db` for a name's address and is told 198.51.100.1; whether it may
/// then speak with that.
fn may_by_name(rig: &mut Rig, port: u16) -> bool {
    let to = |dst: &str, body, payload: &[u8]| {
        let mut spec = FrameSpec::new(ip("10.0.0.1"), ip(dst), body);
        spec.eth_src = Mac([2, 0, 0, 0, 0, 1]);
        spec.eth_dst = ROUTER_MAC;
        spec.payload = payload.to_vec();
        spec
    };
    let denied = rig.dropped(VF0, "policy-egress");
    let body = Body::Udp {
        src_port: port,
        dst_port: 443,
    };
    rig.send(VF0, &to("198.51.100.1", body, b"x"));
    rig.dropped(VF0, "policy-egress") == denied
}

fn resolve(rig: &mut Rig) {
    let question = b"\x02db\x07example\x03com\0\0\x01\0\x01";
    let query = [&b"\0\x07\x01\0\0\x01\0\0\0\0\0\0"[..], question].concat();
    let record = b"\xc0\x0c\0\x01\0\x01\0\0\x02\x58\0\x04\xc6\x33\x64\x01";
    let header = b"\0\x07\x81\x80\0\x01\0\x01\0\0\0\0";
    let answer = [&header[..], question, record].concat();
    for (port, own, other, ports, payload) in [
        (VF0, 1, 2, (4000, 53), query),
        (VF1, 2, 1, (53, 4000), answer),
    ] {
        let body = Body::Udp {
            src_port: ports.0,
            dst_port: ports.1,
        };
        let addr = |n| IpAddr::from([10, 0, 0, n]);
        let mut spec = FrameSpec::new(addr(own), addr(other), body);
        spec.eth_src = Mac([2, 0, 0, 0, 0, own]);
        spec.eth_dst = ROUTER_MAC;
        spec.payload = payload;
        rig.send(port, &spec);
    }
}

/// `shop/cart` may ask `shop/db`, which may be asked, and speak with identity 70.
fn name(state: &mut State, domain: &str) {
    let identity = Identity {
        id: IdentityId(70),
        label: domain.to_owned(),
        domain: Some(domain.parse().unwrap()),
        encryption: Encryption::Required,
    };
    state.identities.insert(identity.id, identity);
    let row = |direction, peer, rule| PolicyRow {
        direction,
        tier: Tier::Namespace,
        peer: Some(IdentityId(peer)),
        protocol: Some(Protocol::Udp),
        ports: PortBlock::ANY,
        action: Action::Allow,
        rule: RuleIndex(rule),
    };
    for (policy, rows) in [
        (
            1,
            vec![row(Direction::Egress, 2, 0), row(Direction::Egress, 70, 0)],
        ),
        (2, vec![row(Direction::Ingress, 1, 0)]),
    ] {
        let policy = state.policies.get_mut(&PolicyId(policy)).unwrap();
        policy
            .rows
            .retain(|it| rows.iter().all(|new| new.key() != it.key()));
        policy.rows.extend(rows);
        policy.rows.sort_by_key(PolicyRow::key);
    }
}

#[test]
fn an_identity_that_stands_for_another_name_has_none_of_the_addresses_of_the_first() {
    let mut rig = Rig::programmed();
    rig.change(|state| name(state, "db.example.com")).unwrap();
    assert!(!may_by_name(&mut rig, 1));
    resolve(&mut rig);
    assert!(may_by_name(&mut rig, 2));
    rig.control.request_names();
    rig.step();
    let names = rig.control.names().unwrap().to_vec();
    assert_eq!(names.len(), 1);
    assert_eq!(
        (
            names[0].endpoint.0.as_str(),
            names[0].ip,
            names[0].domain.as_str()
        ),
        ("u-cart", ip("198.51.100.1"), "db.example.com")
    );
    // The rows are the same, down to the identity's number.
    rig.change(|state| name(state, "*.example.org")).unwrap();
    assert!(!may_by_name(&mut rig, 3));
    // Not even for the first name itself, once it had gone: what was learned had no owner.
    rig.change(|state| name(state, "db.example.com")).unwrap();
    assert!(!may_by_name(&mut rig, 4));
    resolve(&mut rig);
    assert!(may_by_name(&mut rig, 5));
    // Under another number it is the same name.
    rig.change(|state| {
        let identity = state.identities.remove(&IdentityId(70)).unwrap();
        let mut identity = (*identity).clone();
        identity.id = IdentityId(71);
        state.identities.insert(identity.id, identity);
        let policy = state.policies.get_mut(&PolicyId(1)).unwrap();
        for row in &mut policy.rows {
            row.peer = row
                .peer
                .map(|it| if it.0 == 70 { IdentityId(71) } else { it });
        }
    })
    .unwrap();
    assert!(may_by_name(&mut rig, 6));
}
