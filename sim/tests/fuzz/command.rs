//! The command: what it prints, its exit codes, and what it saves.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

use super::scratch;

fn fuzz(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-sim"));
    let Output {
        status,
        stdout,
        stderr,
    } = command.arg("fuzz").args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn the_same_seeds_give_the_same_bytes() {
    let args = ["--seeds", "10..20", "--output", "json"];
    let (code, first, _) = fuzz(&args);
    assert_eq!(code, Some(0), "{first}");
    assert_eq!(fuzz(&args).1, first);
    let json: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(json["seeds"], 10);
    assert_eq!(json["failures"], Value::Array(Vec::new()));
    assert!(json["probes"].as_u64().unwrap() > 50);
}

#[test]
fn what_it_draws_is_a_scenario_that_run_plays() {
    let out = scratch("fuzz-draw");
    let out_text = out.to_str().unwrap();
    let (code, ..) = fuzz(&["--seeds", "42", "--draw-only", "--out", out_text]);
    assert_eq!(code, Some(0));
    let scenario = out.join("seed-42/scenario.yaml");
    let text = fs::read_to_string(&scenario).unwrap();
    assert!(
        text.contains("seed: 42") && text.contains("- probe: "),
        "{text}"
    );
    let played = Command::new(env!("CARGO_BIN_EXE_sluice-sim"))
        .args(["run", scenario.to_str().unwrap(), "--output", "json"])
        .current_dir(&out)
        .output()
        .unwrap();
    assert!(played.status.success());
    let report: Value = serde_json::from_slice(&played.stdout).unwrap();
    assert_eq!(report["scenario"], "seed-42");
}

#[test]
fn no_range_of_seeds_is_bad_input() {
    for wrong in ["9..3", "x", "-1"] {
        let (code, stdout, stderr) = fuzz(&[&format!("--seeds={wrong}")]);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
        assert!(stderr.contains("seeds"), "{stderr}");
    }
    let (code, _, stderr) = fuzz(&["--seeds", "0.."]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("--minutes"), "{stderr}");
}
