//! The binary, as a person or a script runs it: what it prints, where, and its exit code.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed assumption in a test is a failed test"
)]

mod bad_input;
mod beyond_bounds;
mod captures;
mod connectivity;
mod determinism;
mod diff;
mod documents;
mod expectations;
mod golden;
mod links;
mod lint;
mod replay;
mod reports;
mod samples;
mod scale;
mod schema;
mod wireshark;
mod workers;
mod workload;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// An empty folder of a test's own.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// What a run came to.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    /// Its stdout, all of it one JSON document.
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }
}

/// Runs the binary at the repository's root.
fn sluice_sim(args: &[&str]) -> Ran {
    sluice_sim_in(&root(), args)
}

fn sluice_sim_in(folder: &Path, args: &[&str]) -> Ran {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_sluice-sim"))
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    Ran {
        code: status.code(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

/// `connectivity` over a set of sim/manifests, as JSON.
fn connectivity(set: &str, more: &[&str]) -> Ran {
    let (manifests, probes) = (
        format!("sim/manifests/{set}"),
        format!("sim/manifests/{set}-probes.yaml"),
    );
    let mut args = vec!["connectivity", "--manifests", &manifests, "--probes"];
    args.extend([probes.as_str(), "--output", "json"]);
    args.extend(more);
    sluice_sim(&args)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
