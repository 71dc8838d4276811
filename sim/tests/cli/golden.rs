//! The same bytes on every machine: what runs left is known by its digest. Debug and release builds,
//! CPUs with AVX-512 and without, x86 and Arm must agree with these lines.
//!
//! A change of what a run does changes them, and a change that should do nothing doesn't. With
//! `SLUICE_WRITE_GOLDEN=1` the test writes them anew.

use std::fmt::Write as _;
use std::{env, fs};

use ring::digest::{SHA256, digest};

use super::{root, scratch, sluice_sim_in, text};

/// With faults, rekeys, TCP and restarts among them; and with several workers.
const SCENARIOS: [(&str, &str); 7] = [
    ("quickstart", "1"),
    ("everything-at-once", "1"),
    ("everything-at-once", "3"),
    ("lossy-wires", "1"),
    ("rekey-storm", "1"),
    ("transfers", "1"),
    ("upgrade-under-load", "3"),
];
const FILES: [&str; 3] = ["wire.pcap", "esp_sa", "report.json"];

#[test]
fn runs_leave_the_same_bytes_on_every_machine() {
    let mut got = String::new();
    for (scenario, workers) in SCENARIOS {
        let path = root().join(format!("sim/scenarios/{scenario}.yaml"));
        let folder = scratch(&format!("golden-{scenario}-{workers}"));
        let ran = sluice_sim_in(&folder, &["run", text(&path), "--workers", workers]);
        assert_eq!(ran.code, Some(0), "{scenario}: {}", ran.stderr);
        for file in FILES {
            let bytes = fs::read(folder.join("sluice-out").join(file)).unwrap();
            write!(got, "{scenario} {workers} {file} ").unwrap();
            for byte in digest(&SHA256, &bytes).as_ref() {
                write!(got, "{byte:02x}").unwrap();
            }
            got.push('\n');
        }
    }
    let path = root().join("sim/tests/cli/golden.txt");
    if env::var_os("SLUICE_WRITE_GOLDEN").is_some() {
        fs::write(&path, &got).unwrap();
    }
    assert_eq!(got, fs::read_to_string(path).unwrap());
}
