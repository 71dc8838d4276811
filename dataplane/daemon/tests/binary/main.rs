//! The binary as people run it: what it says, and its exit codes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that can't go on must fail"
)]

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

const GOOD: &str = "node: a
ports:
  - {name: uplink, kind: uplink, device: net_null0}
listen:
  unix: {path: agent.sock}
checkpoint: last
";

fn run(args: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_sluice-dataplane"))
        .args(args)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn check(folder: &Path, config: &str) -> (i32, String, String) {
    let path = folder.join("dataplane.yaml");
    std::fs::write(&path, config).unwrap();
    run(&["--config", path.to_str().unwrap(), "--check"])
}

#[test]
fn help_has_examples_and_exit_codes() {
    let (code, out, _) = run(&["--help"]);
    assert_eq!(code, 0);
    for part in ["Examples:", "--check", "Exit codes:", "SIGTERM"] {
        assert!(out.contains(part), "{part} is not in\n{out}");
    }
}

/// The owner of a process's memory: its user, or root if it gives nothing away.
fn owner_of_memory(pid: u32) -> u32 {
    std::fs::metadata(format!("/proc/{pid}/mem")).unwrap().uid()
}

#[test]
fn before_it_reads_a_key_its_memory_is_closed_to_its_own_user() {
    const NOBODY: u32 = 65_534;
    // For root all are open: then as another user, by a copy that this one may read. A program
    // that its user may not read is closed as it is.
    let folder = tempfile::tempdir().unwrap();
    let own = rustix::process::geteuid();
    let user = if own.is_root() { NOBODY } else { own.as_raw() };
    let open_to_all = Permissions::from_mode(0o777);
    std::fs::set_permissions(folder.path(), open_to_all.clone()).unwrap();
    let names = ["config", "program", "ike", "other"];
    let [config, program, ike, other] = names.map(|it| folder.path().join(it));
    std::fs::copy(env!("CARGO_BIN_EXE_sluice-dataplane"), &program).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_sluice-ike"), &ike).unwrap();
    std::fs::copy("/bin/cat", &other).unwrap();
    // Whoever reads it waits for what is written.
    let mode = Mode::from_raw_mode(0o600);
    mknodat(CWD, &config, FileType::Fifo, mode, 0).unwrap();
    for path in [&config, &program, &ike, &other] {
        std::fs::set_permissions(path, open_to_all.clone()).unwrap();
    }
    let owner_of = |program: &Path, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).arg(&config).uid(user);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.as_mut().unwrap();
        // Opened when the other end is.
        let deadline = Instant::now() + Duration::from_secs(20);
        let writer = loop {
            let (flags, mode) = (OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty());
            match rustix::fs::open(&config, flags, mode) {
                Ok(writer) => break writer,
                Err(error) => assert!(Instant::now() < deadline, "nobody reads: {error}"),
            }
            assert_eq!(child.try_wait().unwrap(), None, "it ended");
            std::thread::sleep(Duration::from_millis(1));
        };
        let owner = owner_of_memory(child.id());
        drop(writer);
        let status = child.wait().unwrap();
        (owner, status.code())
    };
    assert_eq!(owner_of(&other, &[]), (user, Some(0)), "any other program");
    // An empty file is no configuration.
    assert_eq!(owner_of(&program, &["--config"]), (0, Some(2)));
    // It takes no keys from a pipe that others may read.
    let reads = ["--dataplane", "/nowhere/sas.sock", "--log"];
    assert_eq!(owner_of(&ike, &reads), (0, Some(2)));
}

#[test]
fn a_good_configuration_is_checked_and_nothing_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, err) = check(folder.path(), GOOD);
    assert_eq!(
        (code, out.as_str()),
        (0, "the configuration is good\n"),
        "{err}"
    );
    assert!(!folder.path().join("agent.sock").exists());
}

#[test]
fn a_broken_checkpoint_is_told_by_the_check() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("last"), "half").unwrap();
    let (code, out, _) = check(folder.path(), GOOD);
    assert_eq!(code, 0, "the dataplane starts, closed");
    assert!(out.contains("cut short: 4 bytes of 48"), "{out}");
}

#[test]
fn a_bad_configuration_is_shown_at_its_line_with_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, err) = check(folder.path(), &GOOD.replace("kind: uplink", "kind: up"));
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("dataplane.yaml:3:"), "{err}");
    assert!(
        err.contains("{name: uplink, kind: up,"),
        "the line is not shown:\n{err}"
    );
}

#[test]
fn what_can_not_be_read_is_bad_input() {
    let (code, _, err) = run(&["--config", "/nonexistent/dataplane.yaml"]);
    assert_eq!(code, 2);
    assert!(err.contains("/nonexistent/dataplane.yaml"), "{err}");
    let (code, _, _) = run(&["--frobnicate"]);
    assert_eq!(code, 2);
}

/// One node with a pod that turns encryption off, as far as it may.
const STATIC: &str = "node: a
ports:
  - {name: uplink, kind: uplink, device: d0, mac: '02:00:00:00:00:01'}
  - {name: host, kind: host, device: d1, mac: '02:00:00:00:00:02'}
  - {name: vf0, kind: vf, device: d2, mac: '02:00:00:00:00:10', vf: 0}
static:
  manifests: pods.yaml
  pods: [{pod: shop/web, port: vf0}]
";

#[test]
fn every_setting_that_lets_something_go_in_clear_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let manifests = "apiVersion: v1
kind: Node
metadata: {name: a, annotations: {sluice.dev/tunnel-ips: 192.0.2.1}}
status: {addresses: [{type: InternalIP, address: 10.9.0.1}]}
---
apiVersion: v1
kind: Pod
metadata:
  namespace: shop
  name: web
  labels: {app: web}
  annotations: {sluice.dev/encryption: 'off'}
spec: {nodeName: a}
status: {podIPs: [{ip: 10.1.0.2}]}
";
    std::fs::write(folder.path().join("pods.yaml"), manifests).unwrap();
    let told = |encryption: &str| {
        let config = format!("{STATIC}  encryption: {{{encryption}}}\n");
        let (code, _, err) = check(folder.path(), &config);
        assert_eq!(code, 0, "{err}");
        let has = |text: &str| err.contains(text);
        [
            has("Pod shop/web asks for encryption `off`"),
            has("encryption is looser than the default"),
            has("lets packets between nodes go in clear"),
        ]
    };
    assert_eq!(told(""), [true, false, false]);
    assert_eq!(told("loosest: preferred"), [true, true, false]);
    assert_eq!(told("loosest: off"), [false, true, false]);
    assert_eq!(told("default: off"), [false, false, true]);
}

#[cfg(not(feature = "dpdk"))]
#[test]
fn without_dpdk_it_says_so_and_opens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dataplane.yaml");
    std::fs::write(&path, GOOD).unwrap();
    let (code, out, err) = run(&["--config", path.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.contains("built without DPDK") && err.contains("--features dpdk"),
        "{err}"
    );
    assert!(!folder.path().join("agent.sock").exists());
}

#[test]
fn a_key_is_made_once_and_stays_here_and_its_requests_are_made_again() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dataplane.yaml");
    let channel = "node_channel: {listen: '127.0.0.1:0', trust_domain: test, svid: node.pem, \
                   key: node.key, anchors: ca.pem}\n";
    // The agent is to come by the same identity, which nobody has yet.
    let tcp = "tcp: {address: '127.0.0.1:0', certificate: node.pem, key: node.key, ca: ca.pem, \
               agents: [a]}";
    let good = GOOD.replace("unix: {path: agent.sock}", tcp);
    assert_ne!(good, GOOD);
    std::fs::write(&path, format!("{good}{channel}")).unwrap();
    let args = ["--config", path.to_str().unwrap(), "--make-request"];
    let key = folder.path().join("node.key");
    let mut before = None;
    for _ in 0..2 {
        let (code, out, err) = run(&args);
        assert_eq!(code, 0, "{err}");
        let begins = out.starts_with("-----BEGIN CERTIFICATE REQUEST-----");
        assert!(begins && !out.contains("PRIVATE"), "{out}");
        let mode = std::fs::metadata(&key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let now = std::fs::read(&key).unwrap();
        assert_eq!(
            *before.get_or_insert(now.clone()),
            now,
            "the key is replaced"
        );
    }
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, _, err) = run(&args);
    assert!(code == 2 && err.contains("chmod 600"), "{err}");
    // Whoever checks wants all of it to be there.
    std::fs::write(&path, format!("{GOOD}{channel}")).unwrap();
    let (code, _, err) = run(&["--config", path.to_str().unwrap(), "--check"]);
    assert!(code == 2 && err.contains("node.pem"), "{err}");
    let api = "node_channel: {listen: '127.0.0.1:0', trust_domain: test, \
               workload_api: {socket: s}}\n";
    std::fs::write(&path, format!("{GOOD}{api}")).unwrap();
    let (code, _, err) = run(&args);
    assert_eq!(code, 2);
    assert!(err.contains("the API makes the key"), "{err}");
    std::fs::write(&path, GOOD).unwrap();
    let (code, _, err) = run(&args);
    assert_eq!(code, 2);
    assert!(err.contains("no `node_channel`"), "{err}");
}
