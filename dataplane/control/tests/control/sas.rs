//! Keys to the worker and away again.

use sluice_crypto::esp::Spi;
use sluice_dataplane_control::{Child, Event, SaConfig, SaError};
use sluice_dataplane_core::snapshot::PeerIndex;
use sluice_offload_api::model::{NodeName, SaDirection};

use crate::rig::{Rig, sa};

#[test]
fn sas_are_installed_shown_by_fingerprint_and_go_with_their_peer() {
    let mut rig = Rig::programmed();
    let b = NodeName::from("b");
    rig.control.install_inbound(&b, sa(0x1000)).unwrap();
    rig.control.install_outbound(&b, sa(0x2000)).unwrap();
    assert_eq!(
        rig.step(),
        [
            Event::InboundInstalled(b.clone(), Spi(0x1000)),
            Event::OutboundInstalled(b.clone(), Spi(0x2000)),
        ]
    );
    rig.control.install_inbound(&b, sa(0x1000)).unwrap();
    assert_eq!(rig.step(), [Event::SaRefused(b.clone(), Spi(0x1000))]);

    rig.control.request_sas();
    rig.step();
    let sas = rig.control.sas().unwrap().to_vec();
    let shown: Vec<_> = sas.iter().map(|s| (s.spi, s.direction)).collect();
    assert_eq!(
        shown,
        [
            (0x1000, SaDirection::Inbound),
            (0x2000, SaDirection::Outbound)
        ]
    );
    let key = sa(1).key;
    assert!(
        sas.iter()
            .all(|s| s.fingerprint.to_string() == key.fingerprint().to_string())
    );
    assert!(
        !format!("{sas:?}").contains("07070707"),
        "key bytes in the read side"
    );

    let events = rig
        .change(|next| {
            next.peers.clear();
            next.prefixes
                .retain(|_, p| !format!("{:?}", p.place).starts_with("Remote"));
        })
        .unwrap();
    assert!(
        events.contains(&Event::PeerRemoved(b.clone())),
        "{events:?}"
    );
    rig.step();
    rig.control.request_sas();
    rig.step();
    assert_eq!(rig.control.sas(), Some([].as_slice()));
    let unknown = rig.control.install_inbound(&b, sa(0x3000)).unwrap_err();
    assert!(matches!(unknown, SaError::UnknownPeer { .. }), "{unknown}");
}

#[test]
fn a_sending_sa_is_retired_only_while_it_is_the_one_in_force() {
    let mut rig = Rig::programmed();
    let b = NodeName::from("b");
    let outbound = |rig: &mut Rig| -> Vec<_> {
        rig.control.request_sas();
        rig.step();
        rig.control.sas().unwrap().iter().map(|s| s.spi).collect()
    };
    rig.control.install_outbound(&b, sa(0x2000)).unwrap();
    rig.control.install_outbound(&b, sa(0x2001)).unwrap();
    rig.step();
    let late = rig.control.retire_outbound(&b, Spi(0x2000)).unwrap();
    assert!(!late, "it was replaced, and what replaced it must stay");
    assert_eq!(outbound(&mut rig), [0x2001]);
    assert!(rig.control.retire_outbound(&b, Spi(0x2001)).unwrap());
    assert!(!rig.control.retire_outbound(&b, Spi(0x2001)).unwrap());
    assert!(
        !rig.control
            .retire_outbound(&"c".into(), Spi(0x2001))
            .unwrap()
    );
    assert_eq!(outbound(&mut rig), []);
    // The peer keeps its number: it can be given another.
    rig.control
        .install_outbound_within(&b, sa(0x2002), 5)
        .unwrap();
    assert_eq!(
        rig.step(),
        [Event::OutboundInstalled(b.clone(), Spi(0x2002))]
    );
    assert_eq!(outbound(&mut rig), [0x2002]);
}

/// With 32 lanes each, a few dozen peers have more SAs than commands can be under way.
#[test]
fn all_sas_of_a_peer_that_goes_are_retired_however_many() {
    let mut rig = Rig::programmed();
    let b = NodeName::from("b");
    let many = 1500u32;
    for spi in 0..many {
        rig.control.install_inbound(&b, sa(0x1000 + spi)).unwrap();
        rig.step();
    }
    rig.change(|next| {
        next.peers.clear();
        next.prefixes
            .retain(|_, p| !format!("{:?}", p.place).starts_with("Remote"));
    })
    .unwrap();
    for _ in 0..200 {
        rig.step();
    }
    rig.control.request_sas();
    rig.step();
    assert_eq!(rig.control.sas(), Some([].as_slice()));
}

fn child(spi: u32, number: u8, of: u8) -> SaConfig {
    SaConfig {
        child: Child { number, of },
        ..sa(spi)
    }
}

fn sending(rig: &mut Rig) -> Vec<u32> {
    rig.control.request_sas();
    rig.step();
    rig.control.sas().unwrap().iter().map(|s| s.spi).collect()
}

#[test]
fn children_come_in_force_and_go_together() {
    let mut rig = Rig::programmed();
    let b = NodeName::from("b");
    rig.control.install_outbound(&b, sa(0x2000)).unwrap();
    rig.step();
    rig.control
        .install_outbound(&b, child(0x2020, 0, 3))
        .unwrap();
    rig.control
        .install_outbound(&b, child(0x2021, 1, 3))
        .unwrap();
    assert_eq!(rig.step(), [], "the third is missing");
    assert_eq!(sending(&mut rig), [0x2000]);
    rig.control
        .install_outbound(&b, child(0x2022, 2, 3))
        .unwrap();
    let all = [0x2020, 0x2021, 0x2022];
    assert_eq!(
        rig.step(),
        all.map(|spi| Event::OutboundInstalled(b.clone(), Spi(spi)))
    );
    assert_eq!(sending(&mut rig), all);
    assert!(rig.control.retire_outbound(&b, Spi(0x2021)).unwrap());
    assert_eq!(sending(&mut rig), []);
}

#[test]
fn children_of_an_exchange_that_failed_are_given_up() {
    let mut rig = Rig::programmed();
    let b = NodeName::from("b");
    rig.control
        .install_outbound(&b, child(0x2000, 0, 2))
        .unwrap();
    // The first of another exchange, and then one of neither.
    rig.control
        .install_outbound(&b, child(0x2020, 0, 2))
        .unwrap();
    let error = rig
        .control
        .install_outbound(&b, child(0x2042, 2, 3))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "child SA 2 of 3 came where number 1 is the next"
    );
    assert!(
        rig.control
            .install_outbound(&b, child(0x2021, 1, 2))
            .is_err()
    );
    assert_eq!(rig.step(), []);
    assert_eq!(sending(&mut rig), []);
    // Of another block of SPIs, which is another exchange.
    rig.control
        .install_outbound(&b, child(0x20a0, 0, 2))
        .unwrap();
    let other = rig.control.install_outbound(&b, child(0x20c1, 1, 2));
    assert!(matches!(other, Err(SaError::Child { .. })));
    // Retired while it waits for its other.
    rig.control
        .install_outbound(&b, child(0x2060, 0, 2))
        .unwrap();
    assert!(!rig.control.retire_outbound(&b, Spi(0x2060)).unwrap());
    assert!(
        rig.control
            .install_outbound(&b, child(0x2061, 1, 2))
            .is_err()
    );
    let too_many = rig.control.install_outbound(&b, child(0x2080, 0, 33));
    assert!(matches!(too_many, Err(SaError::Child { .. })));
    let none = rig.control.install_outbound(&b, child(0x2080, 0, 0));
    assert!(matches!(none, Err(SaError::Child { .. })));
}

#[test]
fn a_bad_replay_window_is_refused() {
    let mut rig = Rig::programmed();
    let config = SaConfig {
        window: 65,
        ..sa(0x1000)
    };
    let error = rig
        .control
        .install_inbound(&"b".into(), config)
        .unwrap_err();
    assert!(matches!(error, SaError::Window(_)), "{error}");
    assert_eq!(rig.step(), []);
}

#[test]
fn a_peers_number_is_free_once_its_receiving_sas_are_gone_too() {
    let mut rig = Rig::programmed();
    let b = NodeName::from("b");
    for spi in 0..120u32 {
        let one = sa(0x1000 + spi * 32);
        rig.control.install_inbound(&b, one).unwrap();
        rig.step();
    }
    rig.control.install_outbound(&b, sa(0x2000)).unwrap();
    rig.step();
    // Its limit is reached, and the answer isn't read yet when its node goes.
    assert!(rig.control.retire_outbound(&b, Spi(0x2000)).unwrap());
    rig.work();
    let before = rig.control.state().clone();
    let mut without = before.clone();
    let peer = without.peers.values().next().unwrap().clone();
    without.peers.clear();
    without
        .prefixes
        .retain(|_, it| !format!("{:?}", it.place).starts_with("Remote"));
    without.generation.0 += 1;
    rig.control.program(&before.delta_to(&without)).unwrap();
    rig.control.poll();
    rig.step();
    // Another node comes while workers still have SAs of the first.
    let mut with_c = without.clone();
    let c = NodeName::from("c");
    let mut other = peer;
    other.node = c.clone();
    with_c.peers.insert(c.clone(), other);
    with_c.generation.0 += 1;
    rig.control.program(&without.delta_to(&with_c)).unwrap();
    assert_ne!(rig.control.node_of(PeerIndex(0)), Some(&c));
    let mut events = Vec::new();
    for _ in 0..20 {
        events.extend(rig.step());
    }
    assert!(events.contains(&Event::PeerAdded(c)));
    rig.control.request_sas();
    rig.step();
    assert_eq!(rig.control.sas().map(<[_]>::len), Some(0));
}
