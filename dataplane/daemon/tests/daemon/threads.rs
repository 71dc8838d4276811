//! What becomes of the daemon when one of its threads does.

use sluice_dataplane::keys::{KeyDriver, KeyEvent, NoKeys, SaCommand};
use sluice_dataplane::runtime::{Dataplane, Opening, StartError, WorkerEnd};
use sluice_offload_api::model::Lease;
use sluice_offload_api::testing::sample;

use super::rig::wires::wires;
use super::rig::{Files, PORTS, run};

/// A driver with a bug.
struct Breaks;

impl KeyDriver for Breaks {
    fn on_event(&mut self, _event: KeyEvent, _out: &mut Vec<SaCommand>) {
        panic!("a driver breaks, as this test wants");
    }
}

const fn opening() -> Opening {
    Opening {
        first: None,
        former: sluice_dataplane_control::Former::new(),
        checkpoint: None,
        checkpoint_fault: None,
        exit_when_idle: None,
    }
}

fn config(files: &Files) -> sluice_dataplane::config::Config {
    files.config(&format!("{PORTS}listen:\n  unix: {{path: agent.sock}}\n"))
}

#[test]
fn a_control_thread_that_breaks_ends_the_dataplane_and_closes_its_ports() {
    let files = Files::new();
    let config = config(&files);
    let (wires, set) = wires(config.ports.len());
    let mut dataplane = Dataplane::start(&config, set, opening(), |_| Box::new(Breaks)).unwrap();
    run(async {
        assert!(dataplane.client().status(Lease::Never).await.is_ok());
        // The sample has a peer, and of that the driver hears.
        assert!(
            dataplane
                .client()
                .program(sample().to_snapshot())
                .await
                .is_err()
        );
        assert_eq!(dataplane.ended().await, None);
    });
    dataplane.stop();
    assert_eq!(wires.open.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[test]
fn a_worker_that_is_told_to_stop_says_so_and_its_numbers_stay() {
    let files = Files::new();
    let config = config(&files);
    let (wires, set) = wires(config.ports.len());
    let mut dataplane = Dataplane::start(&config, set, opening(), |_| Box::new(NoKeys)).unwrap();
    run(async {
        dataplane.stop_worker();
        assert_eq!(dataplane.ended().await, Some(WorkerEnd::Stopped));
        assert_eq!(wires.open.load(std::sync::atomic::Ordering::SeqCst), 0);
        assert_eq!(dataplane.client().counters().await.unwrap().len(), 4);
        assert_eq!(dataplane.ended().await, None, "it tells once");
    });
    dataplane.stop();
}

#[test]
fn a_core_that_is_not_there_opens_nothing() {
    let files = Files::new();
    let text = format!("{PORTS}listen:\n  unix: {{path: agent.sock}}\n");
    let config = files.config(&text.replace("worker:", "worker:\n  core: 60000"));
    let (wires, set) = wires(config.ports.len());
    let error = Dataplane::start(&config, set, opening(), |_| Box::new(NoKeys)).unwrap_err();
    assert!(
        matches!(error, StartError::Core { core: 60_000, .. }),
        "{error}"
    );
    assert_eq!(wires.open.load(std::sync::atomic::Ordering::SeqCst), 0);
}
