//! What is taken and what is refused, and when it is in force.

use sluice_dataplane_control::{Event, ProgramError, Vitals};
use sluice_offload_api::RefusalReason;
use sluice_offload_api::model::{Generation, Lease};
use sluice_offload_api::testing::sample;
use sluice_offload_api::transaction::{Mode, Object, Op, Transaction};

use crate::rig::{PORTS, Rig, VF0, VF1, WORKERS, ip, syn};

#[test]
fn before_the_first_generation_every_port_is_closed() {
    let mut rig = Rig::new(&PORTS);
    for (port, name) in PORTS.iter().enumerate() {
        rig.send(port, &syn(1, 5432));
        assert_eq!(rig.dropped(port, "no-endpoint"), 1, "{name}");
    }
    assert!(rig.control.port_counters().iter().all(|c| c.tx_frames == 0));
}

#[test]
fn a_generation_is_applied_when_the_worker_uses_it_and_not_before() {
    let mut rig = Rig::new(&PORTS);
    let tx = sample().to_snapshot();
    rig.control.program(&tx).unwrap();
    rig.control.poll();
    assert_eq!(rig.control.next_event(), None, "the worker has not polled");
    assert_eq!(rig.control.state().generation, Generation(0));
    let pending = rig.control.program(&tx).unwrap_err();
    assert!(
        matches!(
            pending,
            ProgramError::Pending {
                pending: Generation(7)
            }
        ),
        "{pending}"
    );
    let events = rig.step();
    let added = Event::PeerAdded("b".into());
    assert_eq!(events, [added, Event::Applied(Generation(7))]);
    assert_eq!(rig.control.state(), &sample());
}

#[test]
fn a_refused_transaction_changes_nothing() {
    let mut rig = Rig::programmed();
    let refused = rig.change(|next| {
        let db = next.endpoints.get_mut(&"u-db".into()).unwrap();
        db.ips = vec![ip("10.0.0.1")];
    });
    assert!(
        matches!(refused, Err(ProgramError::Refused(_))),
        "{refused:?}"
    );
    assert_eq!(rig.control.state(), &sample());
    rig.send(VF0, &syn(1, 5432));
    assert_eq!(rig.counters(VF1).tx_frames, 1);
}

#[test]
fn a_port_that_the_dataplane_does_not_have_is_refused_with_those_it_has() {
    let mut rig = Rig::new(&["vf0", "host", "uplink"]);
    let Err(ProgramError::Refused(refusal)) = rig.control.program(&sample().to_snapshot()) else {
        panic!("taken")
    };
    assert_eq!(refusal.path, "ports[vf1].name");
    assert!(matches!(&refusal.why, RefusalReason::PortNotHere { known, .. } if known.len() == 3));
    assert_eq!(rig.step(), []);
}

#[test]
fn a_stale_delta_is_refused_and_a_snapshot_holds_whatever_is_in_force() {
    let mut rig = Rig::programmed();
    let port = sample().ports.values().next().unwrap().clone();
    let stale = Transaction {
        mode: Mode::Delta {
            base: Generation(3),
        },
        ops: vec![Op::Add(Object::Port(port))],
        generation: Generation(8),
    };
    assert!(matches!(
        rig.control.program(&stale),
        Err(ProgramError::Refused(_))
    ));
    let mut next = sample();
    next.generation = Generation(20);
    rig.control.program(&next.to_snapshot()).unwrap();
    assert_eq!(rig.step(), [Event::Applied(Generation(20))]);
}

#[test]
fn the_status_says_how_full_it_is_and_what_is_on_its_way() {
    let mut rig = Rig::new(&PORTS);
    rig.control.program(&sample().to_snapshot()).unwrap();
    let vitals = Vitals {
        uptime_ms: 5,
        lease: Lease::Held,
        links_up: vec![true],
    };
    let status = rig.control.status(&vitals);
    assert_eq!(
        (status.generation, status.pending),
        (Generation(0), Some(Generation(7)))
    );
    rig.step();
    let status = rig.control.status(&vitals);
    assert_eq!((status.generation, status.pending), (Generation(7), None));
    assert_eq!(
        (
            status.instance,
            status.uptime_ms,
            usize::from(status.workers)
        ),
        (9, 5, WORKERS)
    );
    assert_eq!(
        (status.capacity.endpoints.used, status.capacity.rows.used),
        (2, 3)
    );
    let up: Vec<_> = status.ports.iter().map(|p| p.link_up).collect();
    assert_eq!(up, [true, false, false, false]);
}
