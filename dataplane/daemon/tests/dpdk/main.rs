//! The binary on real DPDK ports, without root or hardware: files and nothing as devices.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that can't go on must fail"
)]

mod run;

use std::path::Path;
use std::process::Command;

use sluice_offload_api::testing::sample;

use run::{Child, frames_of, program, sluice, write_pcap};

#[test]
fn scapy_and_the_static_mode_exchange_esp_both_ways() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scapy_static.py");
    let done = Command::new("/usr/bin/python3")
        .arg(script)
        .arg("--bin")
        .arg(env!("CARGO_BIN_EXE_sluice-dataplane"))
        .output()
        .expect("Debian's python3 runs scapy");
    println!("{}", String::from_utf8_lossy(&done.stdout));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
}

/// Serving, on these devices.
fn config(eal: &str, [uplink, host, vf0, vf1]: [&str; 4]) -> String {
    format!(
        "node: a
eal: {eal}
ports:
  - {{name: uplink, kind: uplink, device: '{uplink}'}}
  - {{name: host, kind: host, device: '{host}'}}
  - {{name: vf0, kind: vf, device: '{vf0}'}}
  - {{name: vf1, kind: vf, device: '{vf1}'}}
worker: {{flows: 1024, idle: {{policy: adaptive}}}}
listen:
  unix: {{path: agent.sock}}
checkpoint: last
"
    )
}

const NOTHING: [&str; 4] = [
    "net_null0,no-rx=1",
    "net_null1,no-rx=1",
    "net_null2,no-rx=1",
    "net_null3,no-rx=1",
];
const MEMORY: &str = "{no_huge_mib: 64}";

#[test]
fn ports_that_do_not_come_up_are_named_and_nothing_is_left_open() {
    let cases = [
        ("net_frobnicate0", "net_frobnicate0"),
        ("net_af_packet0,iface=sluice-none", "sluice-none"),
        ("net_af_packet0,ifce=lo", "ifce"),
        ("net_pcap0,rx_pcap=/nonexistent.pcap", "/nonexistent.pcap"),
        ("net_null0,no-rx=1", "net_null0"),
    ];
    for (device, part) in cases {
        let folder = tempfile::tempdir().unwrap();
        let devices = [
            "net_null0,no-rx=1",
            "net_null1,no-rx=1",
            device,
            "net_null3,no-rx=1",
        ];
        let (code, out, err) = sluice(folder.path(), &config(MEMORY, devices), &[]);
        assert_eq!((code, out.as_str()), (1, ""), "{device}: {err}");
        assert!(
            err.contains("port vf0") && err.contains(part),
            "{device}: {err}"
        );
        assert!(!folder.path().join("agent.sock").exists(), "{device}");
    }
}

#[test]
fn too_little_memory_is_an_error_and_nothing_is_left_open() {
    let folder = tempfile::tempdir().unwrap();
    for eal in ["{no_huge_mib: 2}", "{hugepages_mib: 65536}"] {
        let (code, out, err) = sluice(folder.path(), &config(eal, NOTHING), &[]);
        assert_eq!((code, out.as_str()), (1, ""), "{eal}: {err}");
        assert!(err.contains("DPDK") && err.contains("MiB"), "{eal}: {err}");
        assert!(!folder.path().join("agent.sock").exists(), "{eal}");
    }
}

#[test]
fn told_to_end_it_closes_its_ports_and_says_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let child = Child::start(
            folder.path(),
            &config(MEMORY, NOTHING),
            &["--output", "json"],
        );
        child.signal(signal);
        let (code, out, err) = child.wait();
        assert_eq!(code, Some(0), "{err}");
        let summary: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(summary["ended"], "stopped");
        assert_eq!(summary["ports"][2]["port"], "vf0");
        assert!(!folder.path().join("agent.sock").exists());
    }
}

#[test]
fn killed_and_started_again_policy_comes_before_the_first_frame() {
    let folder = tempfile::tempdir().unwrap();
    let first = Child::start(folder.path(), &config(MEMORY, NOTHING), &[]);
    program(&folder.path().join("agent.sock"), &sample());
    first.signal(rustix::process::Signal::KILL);
    assert_eq!(first.wait().0, None, "killed by the signal");

    // Now frames wait on the ports from the first moment on: one that policy denies, one that
    // it allows.
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (denied, allowed) = (run::cart_to_db(1, 80), run::cart_to_db(2, 5432));
    write_pcap(Path::new(&at("in.pcap")), &[&denied, &allowed]);
    let vf0 = format!(
        "net_pcap0,rx_pcap={},tx_pcap={}",
        at("in.pcap"),
        at("vf0.pcap")
    );
    let vf1 = format!("net_pcap1,tx_pcap={}", at("vf1.pcap"));
    let devices = [
        "net_null0,no-rx=1",
        "net_null1,no-rx=1",
        vf0.as_str(),
        vf1.as_str(),
    ];
    let text = config(MEMORY, devices);
    let again = Child::start(folder.path(), &text, &["--output", "json"]);
    again.wait_for_frames("vf0", 2);
    again.signal(rustix::process::Signal::TERM);
    let (code, out, err) = again.wait();
    assert_eq!(code, Some(0), "{err}");
    let summary: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(summary["generation"], 7, "{out}");
    let drops = &summary["ports"][2]["drops"];
    assert_eq!(
        *drops,
        serde_json::json!([{"reason": "policy-egress", "frames": 1}]),
        "{out}"
    );
    let sent = frames_of(Path::new(&at("vf1.pcap")));
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0][14..], allowed[14..], "the packet is unchanged");
}

#[test]
fn killed_with_a_checkpoint_cut_short_it_comes_back_closed() {
    let folder = tempfile::tempdir().unwrap();
    let first = Child::start(folder.path(), &config(MEMORY, NOTHING), &[]);
    program(&folder.path().join("agent.sock"), &sample());
    first.signal(rustix::process::Signal::KILL);
    first.wait();
    let last = folder.path().join("last");
    let whole = std::fs::read(&last).unwrap();
    std::fs::write(&last, &whole[..whole.len() - 1]).unwrap();

    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    write_pcap(Path::new(&at("in.pcap")), &[&run::cart_to_db(2, 5432)]);
    let vf0 = format!(
        "net_pcap0,rx_pcap={},tx_pcap={}",
        at("in.pcap"),
        at("vf0.pcap")
    );
    let vf1 = format!("net_pcap1,tx_pcap={}", at("vf1.pcap"));
    let text = config(
        MEMORY,
        ["net_null0,no-rx=1", "net_null1,no-rx=1", &vf0, &vf1],
    );
    let again = Child::start(folder.path(), &text, &["--output", "json"]);
    again.wait_for_frames("vf0", 1);
    again.signal(rustix::process::Signal::TERM);
    let (code, out, err) = again.wait();
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("cut short"), "{err}");
    let summary: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(summary["generation"], 0);
    assert_eq!(frames_of(Path::new(&at("vf1.pcap"))).len(), 0);
}
