//! The command's output: which cases, and that what it says of each agrees with itself. How
//! long anything took is not looked at.

#![allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]

use std::process::{Command, Output};

use serde_json::Value;

#[cfg(not(feature = "dpdk"))]
const PORTS: &str = "mem";
#[cfg(feature = "dpdk")]
const PORTS: &str = "all";

#[cfg(not(feature = "dpdk"))]
const CASES: &[&str] = &[
    "mem/uplink-esp-to-vf",
    "mem/vf-to-uplink-esp",
    "mem/vf-to-vf",
];
#[cfg(feature = "dpdk")]
const CASES: &[&str] = &[
    "mem/uplink-esp-to-vf",
    "mem/vf-to-uplink-esp",
    "mem/vf-to-vf",
    "pcap-to-null/vf-to-uplink-esp",
    "pcap-to-null/vf-to-vf",
];

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-bench"));
    command.args(args).output().unwrap()
}

#[test]
fn every_case_and_length_is_in_the_json_with_numbers_that_agree() {
    let args = [
        "walk",
        "--ports",
        PORTS,
        "--round-ms",
        "1",
        "--output",
        "json",
    ];
    let ran = run(&args);
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    let all: Vec<Value> = serde_json::from_slice(&ran.stdout).unwrap();
    let named: Vec<_> = all
        .iter()
        .map(|one| {
            (
                one["case"].as_str().unwrap(),
                one["frame_bytes"].as_u64().unwrap(),
            )
        })
        .collect();
    let expected: Vec<_> = CASES
        .iter()
        .flat_map(|case| [60, 512, 1420].map(|len| (*case, len)))
        .collect();
    assert_eq!(named, expected);
    for one in &all {
        let number = |key: &str| one[key].as_f64().unwrap();
        let (ns, mpps) = (number("ns_per_packet"), number("mpps"));
        assert!(ns > 0.0 && number("baseline_ns") > 0.0);
        assert!((ns - number("baseline_ns") - number("net_ns")).abs() < 0.01);
        // Both are rounded to three decimals.
        assert!((1000.0 / ns - mpps).abs() < 0.001);
        let esp = one["case"].as_str().unwrap().contains("esp");
        assert_eq!(one["bare_aead_ns"].is_f64(), esp);
        assert!(one["peer"].is_null() && one["ratio"].is_null());
    }
}

#[test]
fn a_person_gets_a_table_and_the_machine_beside_it() {
    let ran = run(&["walk", "--round-ms", "1"]);
    let (out, said) = (
        String::from_utf8(ran.stdout).unwrap(),
        String::from_utf8(ran.stderr).unwrap(),
    );
    assert_eq!(out.lines().count(), 1 + 9, "{out}");
    assert!(said.contains("CPUs") && said.contains("Linux"), "{said}");
}

#[test]
fn what_it_does_not_know_is_bad_input() {
    let args: &[&[&str]] = &[
        &["walk", "--ports", "nic"],
        &["walk", "--round-ms", "0"],
        &["swim"],
    ];
    for args in args {
        assert_eq!(run(args).status.code(), Some(2), "{args:?}");
    }
}
