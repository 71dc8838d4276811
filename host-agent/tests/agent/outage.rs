//! Agent or dataplane gone, and back.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use serde_json::json;

use crate::rig::plane::{VF0, VF1};
use crate::rig::{ALLOW, CART, DB, DENY, NODES, Node, PODS, syn, until};

#[test]
fn add_without_a_dataplane_fails_and_leaves_nothing() {
    let mut node = Node::new(&[("a.yaml", NODES), ("b.yaml", PODS), ("c.yaml", DENY)]);
    node.configure("{unix: dataplane.sock}", 3_000);
    node.start_agent();
    until("the agent answers", || node.ctl(&["status"]).code < 2);
    let added = node.add(&CART);
    assert_eq!(added.code, 1);
    let error = added.json();
    assert_eq!(
        (&error["code"], &error["cniVersion"]),
        (&json!(11), &json!("1.0.0"))
    );
    let details = error["details"].as_str().unwrap();
    assert!(
        details.contains("does not protect the pod after 3000 ms"),
        "{details}"
    );
    assert_eq!(node.status()["agent"]["attached"], 0);
    // Only that it has been taken back.
    let journal = fs::read_to_string(node.path("state/journal.json")).unwrap();
    let squeezed: String = journal.split_whitespace().collect();
    assert!(squeezed.contains(r#""attachments":[]"#), "{journal}");
    // And nothing comes of it later.
    let plane = node.start_dataplane();
    node.wait_in_step();
    assert!(plane.state().endpoints.is_empty());
    assert_eq!(node.add(&CART).code, 0);
}

#[test]
fn add_to_a_dataplane_that_hangs_fails_and_is_taken_back() {
    let (mut node, plane) = Node::running(&[("a.yaml", NODES), ("b.yaml", PODS)]);
    node.stop_agent();
    node.configure("{unix: dataplane.sock}", 300);
    node.start_agent();
    node.wait_in_step();
    plane.set_stuck(true);
    let added = node.add(&CART);
    assert_eq!(
        (added.code, &added.json()["code"]),
        (1, &json!(11)),
        "{added:?}"
    );
    plane.set_stuck(false);
    node.wait_in_step();
    assert!(plane.state().endpoints.is_empty());
}

#[test]
fn an_asker_that_hangs_up_leaves_nothing() {
    let (node, plane) = Node::running(&[("a.yaml", NODES), ("b.yaml", PODS)]);
    plane.set_stuck(true);
    let mut asker = UnixStream::connect(node.path("agent.sock")).unwrap();
    let add = json!({"version": 1, "ask": {"add": {
        "container": "c1", "ifname": "eth0", "pod": {"namespace": "shop", "name": "cart"},
        "vf": {"port": "pf0vf0"}, "ips": ["10.1.0.2"],
    }}});
    asker.write_all(format!("{add}\n").as_bytes()).unwrap();
    until("it is attached", || node.status()["agent"]["attached"] == 1);
    drop(asker);
    until("it is taken back", || {
        node.status()["agent"]["attached"] == 0
    });
    plane.set_stuck(false);
    node.wait_in_step();
    assert!(plane.state().endpoints.is_empty());
}

#[test]
fn a_killed_agent_changes_no_verdict_and_comes_back_in_step() {
    let (mut node, plane) =
        Node::running(&[("a.yaml", NODES), ("b.yaml", PODS), ("c.yaml", ALLOW)]);
    for pod in [&CART, &DB] {
        assert_eq!(node.add(pod).code, 0);
    }
    let talks = |src_port| plane.exchange(VF0, syn("10.1.0.2", "10.1.0.3", src_port, 5432));
    assert_eq!(talks(1), [VF1]);
    let before = plane.state();
    node.kill_agent();
    assert_eq!(talks(2), [VF1]);
    assert!(
        plane
            .exchange(VF0, syn("10.1.0.2", "10.1.0.3", 3, 80))
            .is_empty()
    );
    // Nobody to ask: ADD and DEL fail, and what was attached stays.
    for command in ["ADD", "DEL"] {
        let failed = node.cni(command, &CART, &node.cni_config(&CART));
        assert_eq!(
            (failed.code, &failed.json()["code"]),
            (1, &json!(11)),
            "{failed:?}"
        );
    }
    assert_eq!(node.ctl(&["status"]).code, 2);

    node.start_agent();
    until("another generation is in force", || {
        plane.state().generation > before.generation
    });
    node.wait_in_step();
    let mut after = plane.state();
    assert_eq!(talks(4), [VF1]);
    // The same pods by the same numbers.
    after.generation = before.generation;
    assert_eq!(after, before);
    assert_eq!(node.status()["agent"]["attached"], 2);
    let checked = node.cni("CHECK", &CART, &node.cni_config(&CART));
    assert_eq!(checked.code, 0, "{checked:?}");
}

#[test]
fn a_dataplane_that_restarts_gets_everything_again() {
    let (mut node, plane) = Node::running(&[("a.yaml", NODES), ("b.yaml", PODS), ("c.yaml", DENY)]);
    assert_eq!(node.add(&CART).code, 0);
    let mut before = plane.state();
    node.server = None;
    until("the agent has seen it", || {
        node.status()["agent"]["connected"] == false
    });
    let status = node.ctl(&["status"]);
    assert_eq!(status.code, 1);
    assert!(
        status.out.contains("problem: dataplane: not connected: "),
        "{}",
        status.out
    );
    assert_eq!(node.ctl(&["drops"]).code, 2);

    let plane = node.start_dataplane();
    node.wait_in_step();
    let after = plane.state();
    before.generation = after.generation;
    assert_eq!(after, before);
    assert!(
        plane
            .exchange(VF0, syn("10.1.0.2", "10.1.0.3", 1, 80))
            .is_empty()
    );
    assert_eq!(plane.dropped(VF0, "policy-egress"), 1);
}

#[test]
fn a_lost_connection_to_the_same_dataplane_is_made_again() {
    let (mut node, plane) = Node::running(&[("a.yaml", NODES), ("b.yaml", PODS)]);
    assert_eq!(node.add(&CART).code, 0);
    let before = plane.state();
    node.serve(&plane);
    until("there is another connection", || {
        node.status()["link"]["connects"] == 2
    });
    node.wait_in_step();
    let mut after = plane.state();
    assert!(
        after.generation > before.generation,
        "a snapshot follows each connection"
    );
    after.generation = before.generation;
    assert_eq!(after, before);
}

#[test]
fn sigterm_ends_the_agent_and_its_socket() {
    let (mut node, plane) = Node::running(&[("a.yaml", NODES), ("b.yaml", PODS)]);
    assert_eq!(node.add(&CART).code, 0);
    let before = plane.state();
    assert_eq!(node.stop_agent(), Some(0));
    assert!(!node.path("agent.sock").exists());
    assert_eq!(plane.state(), before);
}

#[test]
fn a_damaged_journal_is_told_and_nothing_is_sent() {
    let (mut node, plane) = Node::running(&[("a.yaml", NODES), ("b.yaml", PODS)]);
    assert_eq!(node.add(&CART).code, 0);
    let before = plane.state();
    node.stop_agent();
    // The one before is still good: the agent runs and says so.
    let journal = node.path("state/journal.json");
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, &text[..text.len() / 2]).unwrap();
    node.start_agent();
    node.wait_in_step();
    let status = node.ctl(&["status"]);
    assert_eq!(status.code, 1);
    assert!(
        status
            .out
            .contains("problem: journal: journal.json is damaged"),
        "{}",
        status.out
    );
    // Its ADD is the one that is missing: the pod is closed, not open to all.
    assert!(plane.state().endpoints.is_empty() && !before.endpoints.is_empty());
    assert_eq!(node.add(&CART).code, 0);

    let before = plane.state();
    node.stop_agent();
    for name in ["state/journal.json", "state/journal.before.json"] {
        fs::write(node.path(name), "{").unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_sluice-agent"))
        .arg("--config")
        .arg(node.path("agent.yaml"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("remove both"), "{error}");
    assert_eq!(plane.state(), before);
}

#[test]
fn nonsense_on_the_socket_is_refused_and_bounded() {
    let (node, _plane) = Node::running(&[("a.yaml", NODES), ("b.yaml", PODS)]);
    let told = |bytes: &[u8]| {
        let mut asker = UnixStream::connect(node.path("agent.sock")).unwrap();
        // It may hang up before all is written.
        let _ = asker.write_all(bytes);
        let _ = asker.shutdown(std::net::Shutdown::Write);
        let mut answer = String::new();
        let _ = asker.read_to_string(&mut answer);
        answer
    };
    for (bytes, expected) in [
        (b"{}\n".to_vec(), "makes no sense"),
        (b"\xff\xfe\n".to_vec(), "makes no sense"),
        (b"{\"version\":1,\"ask\":\"status\"}".to_vec(), "cut short"),
        (
            b"{\"version\":9,\"ask\":\"fly\"}\n".to_vec(),
            "version 9 is not spoken here",
        ),
        (vec![b'x'; 70_000], "longer than 65536 bytes"),
    ] {
        let answer = told(&bytes);
        assert!(answer.contains(expected), "{answer}");
        assert!(answer.contains("\"kind\":\"request\""), "{answer}");
    }
    assert_eq!(node.ctl(&["status"]).code, 0);
    let mode = fs::metadata(node.path("agent.sock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_second_agent_does_not_start() {
    let (node, _plane) = Node::running(&[("a.yaml", NODES), ("b.yaml", PODS)]);
    let output = Command::new(env!("CARGO_BIN_EXE_sluice-agent"))
        .arg("--config")
        .arg(node.path("agent.yaml"))
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    let (_, error) = error.rsplit_once("error: ").expect("it ends with one");
    assert_eq!(error, "the journal: lock: another agent has this folder\n");
    assert_eq!(
        (output.status.code(), node.ctl(&["status"]).code),
        (Some(1), 0)
    );
}

#[test]
fn a_state_that_the_dataplane_refuses_refuses_add_and_is_told() {
    let (mut node, plane) = Node::running(&[("a.yaml", NODES), ("b.yaml", PODS)]);
    assert_eq!(node.add(&CART).code, 0);
    let before = plane.state();
    node.stop_agent();
    // A VF that this agent knows and the dataplane doesn't.
    let config = fs::read_to_string(node.path("agent.yaml")).unwrap();
    fs::write(
        node.path("agent.yaml"),
        config.replace("port: pf0vf1", "port: pf0vf9"),
    )
    .unwrap();
    node.start_agent();
    until("the refusal is told", || {
        let status = node.ctl(&["status"]);
        status.out.contains("problem: dataplane: ") && status.out.contains("has no port pf0vf9")
    });
    let refused = node.add(&DB);
    assert_eq!(
        (refused.code, &refused.json()["code"]),
        (1, &json!(100)),
        "{refused:?}"
    );
    assert!(
        refused.json()["details"]
            .as_str()
            .unwrap()
            .contains("has no port pf0vf9")
    );
    assert_eq!(node.status()["agent"]["attached"], 1);
    let mut config = node.cni_config(&CART);
    config["cniVersion"] = json!("1.1.0");
    let ready = node.cni("STATUS", &CART, &config);
    assert_eq!(ready.json()["code"], 50, "{ready:?}");
    assert_eq!(plane.state(), before);
}

/// Asks for the status as another user would, by a program that any user can run; what came.
fn asked_by(node: &Node, uid: u32) -> String {
    let script = r#"
        my $socket = IO::Socket::UNIX->new($ARGV[0]) or die "no connection: $!";
        $SIG{PIPE} = "IGNORE";
        print $socket "{\"version\":1,\"ask\":\"status\"}\n";
        $socket->flush;
        print scalar(<$socket>) // "";
    "#;
    let mut perl = Command::new("perl");
    let perl = perl
        .args(["-MIO::Socket::UNIX", "-e", script])
        .arg(node.path("agent.sock"));
    let output = perl.uid(uid).gid(uid).current_dir("/").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_kernel_says_who_asks_and_others_are_not_answered() {
    if !rustix::process::geteuid().is_root() {
        // `make test` runs as root.
        eprintln!("skipped: only root can ask as another user");
        return;
    }
    let (node, _plane) = Node::running(&[("a.yaml", NODES), ("b.yaml", PODS)]);
    // Even if someone opens the file to all.
    fs::set_permissions(node.temp.path(), Permissions::from_mode(0o711)).unwrap();
    fs::set_permissions(node.path("agent.sock"), Permissions::from_mode(0o666)).unwrap();
    assert!(asked_by(&node, 0).contains("\"answer\""));
    assert_eq!(asked_by(&node, 65_534), "");
    let log = fs::read_to_string(node.path("agent.0.log")).unwrap();
    assert!(log.contains("user 65534 may not ask; 0 and 0 may"), "{log}");
}
