//! Settings of encryption, as the contract says them and frames feel them.

use sluice_dataplane_control::Event;
use sluice_offload_api::State;
use sluice_offload_api::model::{
    Encryption, IdentityId, PairCrossing, PairRecord, PairsRest, PolicyId, SaAlgorithm,
    SaDirection, Verdict,
};

use crate::rig::{Rig, UPLINK, VF0, ip, sa, syn};

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

/// The MAC of node b's dataplane is told.
fn answer(rig: &mut Rig) {
    let (own, theirs) = ([2, 0, 0, 0, 0, 4], [2, 0, 0, 0, 0, 0xb]);
    let mut frame = [own, theirs].concat();
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2]);
    frame.extend(theirs);
    frame.extend([192, 0, 2, 2]);
    frame.extend(own);
    frame.extend([192, 0, 2, 1]);
    let frame = rig.pool.frame(&frame).unwrap();
    rig.deliver(UPLINK, frame);
    rig.step();
}

fn matrix(rig: &mut Rig) -> Vec<PairRecord> {
    for request in [0, 1, 2] {
        match request {
            0 => rig.control.request_flows(),
            1 => drop(rig.control.request_sas()),
            _ => rig.control.request_clear(),
        }
        assert_eq!(
            rig.control.pairs(&[]),
            None,
            "before the worker has answered"
        );
    }
    rig.step();
    let sas = rig.control.sas().unwrap().to_vec();
    let (pairs, rest) = rig.control.pairs(&sas).unwrap();
    assert_eq!(rest, PairsRest::default());
    pairs
}

/// From cart to the pod of node b.
fn there(rig: &mut Rig) -> PairRecord {
    let mut pairs = matrix(rig).into_iter();
    let found = pairs.find(|it| it.from.identity == IdentityId(1));
    found.unwrap()
}

#[test]
fn the_matrix_says_how_each_pair_crosses_and_what_was_in_clear() {
    let mut rig = Rig::programmed();
    answer(&mut rig);
    assert_eq!(matrix(&mut rig), []);
    rig.change(open).unwrap();
    to_b(&mut rig, 1);
    let pair = there(&mut rig);
    assert_eq!(pair.from.label.as_deref(), Some("shop{app=cart}"));
    assert_eq!(
        (pair.peer, pair.direction),
        (Some("b".into()), SaDirection::Outbound)
    );
    assert_eq!(pair.setting, Some(Encryption::Required));
    assert_eq!(
        (pair.crossing, pair.algorithm),
        (PairCrossing::Sealed, None)
    );
    assert_eq!((pair.flows, pair.clear_packets), (1, 0));

    let b = "b".into();
    rig.control.install_outbound(&b, sa(0x200)).unwrap();
    rig.step();
    to_b(&mut rig, 1);
    let pair = there(&mut rig);
    assert_eq!(pair.algorithm, Some(SaAlgorithm::Aes128Gcm16));
    assert_eq!((pair.clear_packets, rig.control.clear_packets()), (0, 0));
    // What comes back has no SA that receives.
    let all = matrix(&mut rig);
    let back = all
        .iter()
        .find(|it| it.to.identity == IdentityId(1))
        .unwrap();
    assert_eq!(
        (back.direction, back.algorithm),
        (SaDirection::Inbound, None)
    );

    rig.change(|state| set(state, Encryption::Off)).unwrap();
    to_b(&mut rig, 1);
    to_b(&mut rig, 2);
    let pair = there(&mut rig);
    assert_eq!(pair.setting, Some(Encryption::Off));
    assert_eq!((pair.crossing, pair.algorithm), (PairCrossing::Clear, None));
    assert_eq!((pair.clear_packets, pair.clear_bytes), (2, 80));
    assert_eq!(rig.control.clear_packets(), 2);
    // That it was in clear stands there when it is no more.
    rig.change(|state| set(state, Encryption::Preferred))
        .unwrap();
    let pair = there(&mut rig);
    assert_eq!(pair.setting, Some(Encryption::Preferred));
    assert_eq!(
        (pair.crossing, pair.clear_packets),
        (PairCrossing::Sealed, 2)
    );
}

#[test]
fn the_matrix_has_the_age_of_the_sa_in_force() {
    let mut rig = Rig::programmed();
    rig.change(open).unwrap();
    to_b(&mut rig, 1);
    let b = "b".into();
    for spi in [0x100, 0x101] {
        rig.control.install_inbound(&b, sa(spi)).unwrap();
    }
    rig.control.install_outbound(&b, sa(0x200)).unwrap();
    let there_and_back = |rig: &mut Rig, ages: &[(u32, u64)]| {
        matrix(rig);
        let mut sas = rig.control.sas().unwrap().to_vec();
        for sa in &mut sas {
            let age = ages.iter().find(|(spi, _)| *spi == sa.spi);
            sa.age_ms = age.map(|(_, age_ms)| *age_ms);
        }
        let (pairs, _) = rig.control.pairs(&sas).unwrap();
        [SaDirection::Outbound, SaDirection::Inbound].map(|direction| {
            let mut its = pairs.iter().filter(|it| it.direction == direction);
            let (Some(pair), None) = (its.next(), its.next()) else {
                panic!("{pairs:?}")
            };
            pair.sa_age_ms
        })
    };
    // In a rekey the newer is the one that stays.
    let ages = [(0x100, 61_000), (0x101, 2_000), (0x200, 5_000)];
    assert_eq!(there_and_back(&mut rig, &ages), [Some(5_000), Some(2_000)]);
    // The new one sends in place of the old.
    rig.control.install_outbound(&b, sa(0x201)).unwrap();
    rig.step();
    let ages = [(0x100, 62_000), (0x101, 3_000), (0x201, 10)];
    assert_eq!(there_and_back(&mut rig, &ages), [Some(10), Some(3_000)]);
    // In clear none has a key.
    rig.change(|state| set(state, Encryption::Off)).unwrap();
    to_b(&mut rig, 1);
    assert_eq!(there_and_back(&mut rig, &ages), [None, None]);
}
