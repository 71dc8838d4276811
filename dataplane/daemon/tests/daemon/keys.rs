//! The seam to a key driver: what it hears, and what is done that it asks for.

use crossbeam_channel::{Receiver, Sender, unbounded};
use sluice_crypto::esp::Spi;
use sluice_crypto::key::{Algorithm, EspKey};
use sluice_dataplane::checkpoint::Checkpoint;
use sluice_dataplane::keys::{KeyDriver, KeyEvent, Retirement, SaCommand};
use sluice_dataplane::runtime::{Dataplane, Opening};
use sluice_dataplane_control::{Child, Former, SaConfig};
use sluice_dataplane_core::sad::Mode;
use sluice_offload_api::model::{NodeName, SaDirection};
use sluice_offload_api::testing::sample;

use super::rig::spelled::has_key;
use super::rig::wires::wires;
use super::rig::{Files, PATIENCE, PORTS, run};

/// Tells the test everything, and does nothing by itself.
struct Tells(Sender<KeyEvent>);

impl KeyDriver for Tells {
    fn on_event(&mut self, event: KeyEvent, _out: &mut Vec<SaCommand>) {
        self.0.send(event).unwrap();
    }

    fn wants_usage(&self) -> bool {
        true
    }
}

/// A dataplane that waits for its first generation.
const NOTHING_YET: Opening = Opening {
    first: None,
    former: Former::new(),
    checkpoint: None,
    checkpoint_fault: None,
    exit_when_idle: None,
};

fn sa(spi: u32) -> SaConfig {
    SaConfig {
        spi: Spi(spi),
        key: EspKey::from_keymat(Algorithm::Aes128Gcm16, &[7; 20]).unwrap(),
        esn: true,
        window: 64,
        udp_encap: false,
        mode: Mode::Tunnel,
        child: Child::ONLY,
    }
}

/// Asks for as many SAs as it is told at once, when a peer comes.
struct Asks(u32, Sender<KeyEvent>);

impl KeyDriver for Asks {
    fn on_event(&mut self, event: KeyEvent, out: &mut Vec<SaCommand>) {
        if let KeyEvent::PeerAdded { node, .. } = &event {
            let spis = 0x1000..0x1000 + self.0;
            out.extend(spis.map(|spi| SaCommand::InstallInbound(node.clone(), sa(spi))));
        }
        self.1.send(event).unwrap();
    }
}

/// The next event that isn't about usage or pods.
fn heard(events: &Receiver<KeyEvent>) -> KeyEvent {
    loop {
        match events.recv_timeout(PATIENCE).unwrap() {
            KeyEvent::Used { .. } | KeyEvent::Pods { .. } => {}
            event => return event,
        }
    }
}

#[test]
fn a_driver_installs_hears_of_it_and_of_use_and_retires() {
    let files = Files::new();
    let config = files.config(&format!("{PORTS}listen:\n  unix: {{path: agent.sock}}\n"));
    let (_wires, set) = wires(config.ports.len());
    let (tell, events) = unbounded();
    let dataplane = Dataplane::start(&config, set, NOTHING_YET, |_| Box::new(Tells(tell))).unwrap();
    let b = NodeName::from("b");
    let (client, sas) = (dataplane.client(), dataplane.sas());
    run(async {
        client.program(sample().to_snapshot()).await.unwrap();
        let KeyEvent::PeerAdded { node, outer } = heard(&events) else {
            panic!("a peer came, and the driver wasn't told")
        };
        let outer = outer.unwrap();
        assert_eq!(node, b);
        assert_eq!(
            (outer.0.to_string(), outer.1.to_string()),
            ("192.0.2.1".to_owned(), "192.0.2.2".to_owned())
        );

        sas.send(SaCommand::InstallInbound(b.clone(), sa(0x1000)))
            .unwrap();
        sas.send(SaCommand::InstallOutbound(b.clone(), sa(0x2000), 1000))
            .unwrap();
        let installed = [heard(&events), heard(&events)];
        assert!(
            matches!(
                &installed,
                [
                    KeyEvent::InboundInstalled {
                        spi: Spi(0x1000),
                        ..
                    },
                    KeyEvent::OutboundInstalled {
                        spi: Spi(0x2000),
                        ..
                    },
                ]
            ),
            "{installed:?}"
        );
        // One that is there already, and one of nobody.
        sas.send(SaCommand::InstallInbound(b.clone(), sa(0x1000)))
            .unwrap();
        let again = heard(&events);
        assert!(
            matches!(
                again,
                KeyEvent::Refused {
                    spi: Spi(0x1000),
                    ..
                }
            ),
            "{again:?}"
        );
        sas.send(SaCommand::InstallInbound("x".into(), sa(0x3000)))
            .unwrap();
        let nobody = heard(&events);
        assert!(
            matches!(
                nobody,
                KeyEvent::Failed {
                    spi: Spi(0x3000),
                    ..
                }
            ),
            "{nobody:?}"
        );

        let used = loop {
            let event = events.recv_timeout(PATIENCE).unwrap();
            if let KeyEvent::Used {
                direction: SaDirection::Outbound,
                ..
            } = event
            {
                break event;
            }
        };
        assert!(
            matches!(
                &used,
                KeyEvent::Used {
                    spi: Spi(0x2000),
                    packets: 0,
                    bytes: 0,
                    ..
                }
            ),
            "{used:?}"
        );
        let told = client.sas(Some(b.clone())).await.unwrap();
        let aged = told.iter().filter(|it| it.age_ms.is_some());
        assert_eq!((told.len(), aged.count()), (2, 2), "{told:?}");

        sas.send(SaCommand::Retire(Retirement::Outbound(
            b.clone(),
            Spi(0x2000),
        )))
        .unwrap();
        sas.send(SaCommand::Retire(Retirement::Inbound(Spi(0x1000))))
            .unwrap();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !client.sas(Some(b.clone())).await.unwrap().is_empty() {
            assert!(
                tokio::time::Instant::now() < deadline,
                "the SAs are still there"
            );
        }
    });
    dataplane.stop();
}

#[test]
fn more_sas_than_workers_take_at_once_wait_and_none_is_given_up() {
    const SAS: u32 = 3_000;
    let files = Files::new();
    let config = files.config(&format!("{PORTS}listen:\n  unix: {{path: agent.sock}}\n"));
    let (_wires, set) = wires(config.ports.len());
    let (tell, events) = unbounded();
    let keys = |_| -> Box<dyn KeyDriver> { Box::new(Asks(SAS, tell)) };
    let dataplane = Dataplane::start(&config, set, NOTHING_YET, keys).unwrap();
    let (client, sas) = (dataplane.client(), dataplane.sas());
    run(async {
        client.program(sample().to_snapshot()).await.unwrap();
        let mut installed = 0x1000..0x1000 + SAS;
        while !installed.is_empty() {
            match heard(&events) {
                KeyEvent::PeerAdded { .. } => {}
                KeyEvent::InboundInstalled { spi, .. } => {
                    assert_eq!(Some(spi.0), installed.next(), "in order");
                }
                other => panic!("{other:?}"),
            }
        }
        // Who comes later is heard again.
        sas.send(SaCommand::InstallInbound("b".into(), sa(0x9000)))
            .unwrap();
        assert!(matches!(
            heard(&events),
            KeyEvent::InboundInstalled {
                spi: Spi(0x9000),
                ..
            }
        ));
    });
    dataplane.stop();
}

#[test]
fn a_checkpoint_has_no_key_in_it() {
    let keymat: [u8; 20] = core::array::from_fn(|at| 0xa1 ^ (u8::try_from(at).unwrap() * 11));
    let with_key = |spi| SaConfig {
        key: EspKey::from_keymat(Algorithm::Aes128Gcm16, &keymat).unwrap(),
        ..sa(spi)
    };
    let files = Files::new();
    let config = files.config(&format!("{PORTS}listen:\n  unix: {{path: agent.sock}}\n"));
    let (_wires, set) = wires(config.ports.len());
    let (tell, events) = unbounded();
    let path = files.path("last");
    let opening = Opening {
        checkpoint: Some(Checkpoint::new(path.clone())),
        ..NOTHING_YET
    };
    let dataplane = Dataplane::start(&config, set, opening, |_| Box::new(Tells(tell))).unwrap();
    let b = NodeName::from("b");
    let (client, sas) = (dataplane.client(), dataplane.sas());
    run(async {
        let mut state = sample();
        client.program(state.to_snapshot()).await.unwrap();
        assert!(matches!(heard(&events), KeyEvent::PeerAdded { .. }));
        sas.send(SaCommand::InstallInbound(b.clone(), with_key(0x1000)))
            .unwrap();
        sas.send(SaCommand::InstallOutbound(b, with_key(0x2000), 1000))
            .unwrap();
        assert!(matches!(heard(&events), KeyEvent::InboundInstalled { .. }));
        assert!(matches!(heard(&events), KeyEvent::OutboundInstalled { .. }));
        let before = std::fs::read(&path).unwrap();
        // One that is written while both are in force.
        state.generation.0 += 1;
        client.program(state.to_snapshot()).await.unwrap();
        let after = std::fs::read(&path).unwrap();
        assert_ne!(before, after);
        assert!(!has_key(&after, &keymat[..16]));
    });
    dataplane.stop();
}
