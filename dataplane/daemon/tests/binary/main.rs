//! The binary as people run it: what it says, and its exit codes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that can't go on must fail"
)]

use std::path::Path;
use std::process::{Command, Output};

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
fn a_request_is_made_once_and_its_key_stays_here() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dataplane.yaml");
    let channel = "node_channel: {listen: '127.0.0.1:0', trust_domain: test, svid: node.pem, \
                   key: node.key, anchors: ca.pem}\n";
    std::fs::write(&path, format!("{GOOD}{channel}")).unwrap();
    let args = ["--config", path.to_str().unwrap(), "--make-request"];
    let (code, out, err) = run(&args);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.starts_with("-----BEGIN CERTIFICATE REQUEST-----"),
        "{out}"
    );
    assert!(!out.contains("PRIVATE"), "{out}");
    let key = std::fs::metadata(folder.path().join("node.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    let (code, out, _) = run(&args);
    assert_eq!(
        (code, out.as_str()),
        (2, ""),
        "a key that is there is never replaced"
    );
    std::fs::write(&path, GOOD).unwrap();
    let (code, _, err) = run(&args);
    assert_eq!(code, 2);
    assert!(err.contains("no `node_channel`"), "{err}");
}
