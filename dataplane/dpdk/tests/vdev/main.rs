//! The crate on DPDK's virtual devices, each case in a process and a network namespace of
//! its own: an EAL can't start twice, and what a case makes goes with its namespace, also
//! when it fails or hangs.
//!
//! `cargo test -p sluice-dpdk --test vdev [-- WORD]` runs the cases whose name has the word.
//! Needs root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a failed assumption in a test is a failed test"
)]

mod bench;
mod counted;
mod faults;
mod files;
mod hot_path;
mod kernel;
mod local;
mod pages;
mod pcap;
mod pods;
mod raw;
#[path = "../../../core/tests/walk/rig/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the core's tests use more of their rig"
)]
mod rig;
mod threads;
mod verdicts;
mod wire;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use bench::Bench;
use pages::Pages;

/// Seconds that a case may take.
const CASE_SECONDS_MAX: &str = "60";

/// A case's name and what it does.
type Case = (&'static str, fn(&mut Bench));

fn cases() -> Vec<Case> {
    [
        local::CASES,
        files::CASES,
        kernel::CASES,
        counted::CASES,
        pods::CASES,
        threads::CASES,
        verdicts::CASES,
        hot_path::CASES,
        faults::CASES,
    ]
    .concat()
}

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    match args.next().as_deref() {
        Some("--case") => run_here(&args.next().unwrap(), &args.next().unwrap()),
        Some("--list") => {
            for (name, _) in cases() {
                println!("{name}: test");
            }
            ExitCode::SUCCESS
        }
        word => run_all(word.filter(|word| !word.starts_with('-')).unwrap_or("")),
    }
}

/// Runs one case in this process.
fn run_here(name: &str, memory: &str) -> ExitCode {
    let cases = cases();
    let (_, case) = cases.iter().find(|(n, _)| *n == name).expect("a case");
    let mut bench = Bench::new(memory);
    case(&mut bench);
    bench.finish();
    ExitCode::SUCCESS
}

/// Runs each case in its own process: on ordinary pages, then on hugepages.
fn run_all(word: &str) -> ExitCode {
    let (mut passed, mut failed) = (0, Vec::new());
    for memory in bench::MEMORIES {
        // Held while the cases run; gives the pages back when dropped.
        let _pages = (memory == bench::HUGE).then(Pages::reserve);
        for (name, _) in cases().iter().filter(|(name, _)| name.contains(word)) {
            match run_apart(name, memory) {
                Ok(()) => {
                    println!("test {memory}/{name} ... ok");
                    passed += 1;
                }
                Err(said) => {
                    println!("test {memory}/{name} ... FAILED\n{said}");
                    failed.push(format!("{memory}/{name}"));
                }
            }
        }
    }
    println!(
        "\nvdev: {passed} passed, {} failed {failed:?}",
        failed.len()
    );
    if failed.is_empty() && passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A folder that goes away with this.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run_apart(name: &str, memory: &str) -> Result<(), String> {
    let folder = format!("vdev-{}-{memory}-{name}", std::process::id());
    let folder = Folder(Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder));
    fs::create_dir_all(&folder.0).map_err(|e| e.to_string())?;
    // `timeout` ends a case that hangs: nothing here could end a thread inside DPDK.
    let run = Command::new("timeout")
        .args(["--kill-after=1", CASE_SECONDS_MAX])
        .arg(env::current_exe().map_err(|e| e.to_string())?)
        .args(["--case", name, memory])
        .current_dir(&folder.0)
        .env("RUST_BACKTRACE", "1")
        .output()
        .map_err(|e| e.to_string())?;
    if run.status.success() {
        return Ok(());
    }
    Err(format!(
        "{}\n{}{}",
        run.status,
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr)
    ))
}
