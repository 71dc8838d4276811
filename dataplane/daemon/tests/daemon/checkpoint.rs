//! The last acknowledged generation is in force before the first frame, or nothing is.

use sluice_dataplane::daemon;
use sluice_offload_api::Answer;
use sluice_offload_api::model::Generation;
use sluice_offload_api::testing::sample;

use super::rig::client::{dropped, program, status, unix};
use super::rig::frames::{VF0, VF1, cart_to_db, cart_to_db_later, src_port};
use super::rig::wires::wires;
use super::rig::{Files, PORTS, Running, mode, run, until};

fn text() -> String {
    format!("{PORTS}checkpoint: state/last\nlisten:\n  unix: {{path: agent.sock}}\n")
}

/// A folder in which a daemon left a checkpoint of the sample.
fn acknowledged() -> Files {
    let files = Files::new();
    std::fs::create_dir(files.path("state")).unwrap();
    let daemon = Running::start(files.config(&text()));
    run(async {
        let mut agent = unix(&files.path("agent.sock")).await;
        let answer = program(&mut agent, &sample()).await.unwrap();
        assert_eq!(
            answer,
            Answer::Ack {
                generation: Generation(7)
            }
        );
        // It is on the disk before the answer: nothing that comes later is needed.
        assert!(files.path("state/last").exists());
    });
    daemon.stop();
    files
}

#[test]
fn after_a_restart_policy_is_there_before_the_first_frame() {
    let files = acknowledged();
    let config = files.config(&text());
    let (wires, set) = wires(config.ports.len());
    // They wait at the port before anything has started.
    wires.send(VF0, cart_to_db(1, 80));
    wires.send(VF0, cart_to_db(2, 5432));
    let daemon = Running::start_with(config, wires, set).unwrap();
    assert_eq!(src_port(&daemon.wires.receive(VF1)), 2);
    let drops = run(async {
        let mut agent = unix(&files.path("agent.sock")).await;
        dropped(&mut agent, "vf0", 1).await
    });
    assert_eq!(
        drops,
        [("policy-egress".to_owned(), 1)],
        "no frame met a closed or an open port"
    );
    assert_eq!(daemon.wires.try_receive(VF1), None);
    let summary = daemon.stop();
    let vf0 = summary.ports.iter().find(|it| it.port.0 == "vf0").unwrap();
    assert_eq!((vf0.forwarded, summary.generation), (1, Generation(7)));
}

#[test]
fn connections_that_stood_before_a_restart_go_on_where_policy_allows_them() {
    // Without a checkpoint nothing stood: a segment in its midst begins nothing.
    for (files, expected) in [(Files::new(), None), (acknowledged(), Some(4))] {
        std::fs::create_dir_all(files.path("state")).unwrap();
        let daemon = Running::start(files.config(&text()));
        if expected.is_none() {
            run(async {
                let mut agent = unix(&files.path("agent.sock")).await;
                program(&mut agent, &sample()).await.unwrap();
            });
        }
        // Policy allows cart to reach db at 5432 and at no other port.
        daemon.wires.send(VF0, cart_to_db_later(3, 80));
        daemon.wires.send(VF0, cart_to_db_later(4, 5432));
        daemon.wires.send(VF0, cart_to_db(5, 5432));
        let mut passed = vec![src_port(&daemon.wires.receive(VF1))];
        if expected.is_some() {
            passed.push(src_port(&daemon.wires.receive(VF1)));
        }
        // Workers of their own have no order between two connections.
        passed.sort_unstable();
        assert_eq!(passed, expected.into_iter().chain([5]).collect::<Vec<_>>());
        daemon.stop();
    }
}

#[test]
fn a_generation_that_was_kept_is_not_taken_again_after_a_restart() {
    let files = acknowledged();
    let daemon = Running::start(files.config(&text()));
    run(async {
        let mut agent = unix(&files.path("agent.sock")).await;
        assert_eq!(status(&mut agent).await.unwrap().generation, Generation(7));
        let answer = program(&mut agent, &sample()).await.unwrap();
        assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
    });
    daemon.stop();
}

#[test]
fn cut_short_at_any_length_it_is_reported_and_nothing_of_it_is_used() {
    let files = acknowledged();
    let whole = std::fs::read(files.path("state/last")).unwrap();
    for len in 0..whole.len() {
        files.write("state/last", &whole[..len]);
        let fault = daemon::check(files.config(&text())).unwrap();
        let fault = fault.unwrap_or_else(|| panic!("{len} bytes are taken for a checkpoint"));
        assert!(fault.contains("cut short"), "{len} bytes: {fault}");
    }
    files.write("state/last", &whole);
    assert_eq!(daemon::check(files.config(&text())).unwrap(), None);
}

#[test]
fn with_a_broken_checkpoint_everything_is_closed_until_an_agent_comes() {
    let files = acknowledged();
    let whole = std::fs::read(files.path("state/last")).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for broken in [&whole[..0], &whole[..whole.len() / 2], &flipped[..]] {
        files.write("state/last", broken);
        let daemon = Running::start(files.config(&text()));
        daemon.wires.send(VF0, cart_to_db(1, 5432));
        until("the frame is taken", || {
            (daemon.wires.backlog(VF0) == 0).then_some(())
        });
        run(async {
            let mut agent = unix(&files.path("agent.sock")).await;
            assert_eq!(status(&mut agent).await.unwrap().generation, Generation(0));
            assert_eq!(daemon.wires.try_receive(VF1), None);
            let answer = program(&mut agent, &sample()).await.unwrap();
            assert_eq!(
                answer,
                Answer::Ack {
                    generation: Generation(7)
                }
            );
        });
        daemon.wires.send(VF0, cart_to_db(2, 5432));
        assert_eq!(src_port(&daemon.wires.receive(VF1)), 2);
        daemon.stop();
        assert_eq!(
            std::fs::read(files.path("state/last")).unwrap(),
            whole,
            "it was replaced"
        );
    }
}

#[test]
fn a_checkpoint_of_other_ports_is_not_used() {
    let files = acknowledged();
    let text = text().replace("vf1, kind: vf", "vf9, kind: vf");
    let fault = daemon::check(files.config(&text)).unwrap().unwrap();
    assert!(fault.contains("no port vf1"), "{fault}");
}

#[test]
fn what_can_not_be_kept_is_not_acknowledged() {
    let files = acknowledged();
    let daemon = Running::start(files.config(&text()));
    std::fs::remove_dir_all(files.path("state")).unwrap();
    run(async {
        let mut agent = unix(&files.path("agent.sock")).await;
        let mut next = sample();
        next.generation = Generation(8);
        let failed = program(&mut agent, &next).await.unwrap_err();
        assert_eq!(failed.code(), tonic::Code::Unavailable);
        assert!(
            failed.message().contains("checkpoint"),
            "{}",
            failed.message()
        );
    });
    daemon.stop();
}

#[test]
fn a_checkpoint_is_its_owners_only_and_has_no_key_in_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let files = acknowledged();
    let mode_bits = std::fs::metadata(files.path("state/last"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode_bits & 0o777, 0o600);
    // One that cannot be read is no missing one.
    std::fs::remove_file(files.path("state/last")).unwrap();
    std::fs::create_dir(files.path("state/last")).unwrap();
    mode(&files.path("state/last"), 0o700);
    let fault = daemon::check(files.config(&text())).unwrap().unwrap();
    assert!(fault.contains("can't read it"), "{fault}");
}
