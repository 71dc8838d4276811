//! Settings of encryption, as the contract says them and frames feel them.

use sluice_dataplane_control::Event;
use sluice_offload_api::State;
use sluice_offload_api::model::{Encryption, IdentityId, PolicyId, Verdict};

use crate::rig::{Rig, VF0, ip, sa, syn};

/// A segment from `shop/cart` to the pod of node b, with this source port.
fn to_b(rig: &mut Rig, src_port: u16) {
    let mut spec = syn(src_port, 80);
    spec.dst = ip("10.0.1.1");
    rig.send(VF0, &spec);
}

/// `shop/cart` may go anywhere.
fn open(state: &mut State) {
    let cart = state.policies.get_mut(&PolicyId(1)).unwrap();
    cart.rows.clear();
    cart.egress.verdict = Verdict::Allow;
}

fn set(state: &mut State, setting: Encryption) {
    let far = state.prefixes[&"10.0.1.1/32".parse().unwrap()].identity;
    for id in [IdentityId(1), far] {
        state.identities.get_mut(&id).unwrap().encryption = setting;
    }
}

/// Frames that wait for their next hop in clear, and those that had no SA.
fn waiting_and_unsealed(rig: &Rig) -> (u64, u64) {
    (rig.counters(VF0).waiting, rig.dropped(VF0, "no-sa"))
}

#[test]
fn an_identity_that_wants_something_else_moves_the_flows_that_stand() {
    let mut rig = Rig::programmed();
    rig.change(open).unwrap();
    to_b(&mut rig, 1);
    assert_eq!(waiting_and_unsealed(&rig), (0, 1));
    // No prefix, endpoint or number changes, only what the identities want.
    rig.change(|state| set(state, Encryption::Off)).unwrap();
    to_b(&mut rig, 1);
    assert_eq!(waiting_and_unsealed(&rig), (1, 1));
    rig.change(|state| set(state, Encryption::Preferred))
        .unwrap();
    to_b(&mut rig, 1);
    assert_eq!(waiting_and_unsealed(&rig), (1, 2));
    rig.change(|state| set(state, Encryption::Required))
        .unwrap();
    to_b(&mut rig, 1);
    assert_eq!(waiting_and_unsealed(&rig), (1, 3));
}

#[test]
fn a_node_without_a_dataplane_gets_no_keys_and_what_it_had_goes() {
    let mut rig = Rig::programmed();
    rig.change(open).unwrap();
    let b = "b".into();
    rig.control.install_inbound(&b, sa(0x100)).unwrap();
    rig.control.install_outbound(&b, sa(0x200)).unwrap();
    rig.step();
    let unprotected = |state: &mut State| {
        let peer = state.peers.get_mut(&"b".into()).unwrap();
        peer.tunnel_ips.clear();
        peer.unprotected = true;
    };
    let events = rig.change(unprotected).unwrap();
    assert!(
        events.contains(&Event::PeerRemoved("b".into())),
        "{events:?}"
    );
    rig.step();
    rig.control.request_sas();
    rig.step();
    assert_eq!(rig.control.sas(), Some([].as_slice()));
    assert!(rig.control.install_outbound(&b, sa(0x300)).is_err());
    to_b(&mut rig, 1);
    assert_eq!(rig.dropped(VF0, "unprotected"), 1);
    rig.change(|state| set(state, Encryption::Preferred))
        .unwrap();
    to_b(&mut rig, 1);
    assert_eq!(rig.dropped(VF0, "unprotected"), 1);

    // It gets one: sealed, or nothing.
    let events = rig.change(|state| {
        let peer = state.peers.get_mut(&"b".into()).unwrap();
        peer.tunnel_ips = vec![ip("192.0.2.2")];
        peer.unprotected = false;
    });
    let added = Event::PeerAdded("b".into());
    assert!(events.unwrap().contains(&added));
    to_b(&mut rig, 1);
    assert_eq!(rig.dropped(VF0, "no-sa"), 1);
}
