//! Input beyond its bounds, or made of itself: exit 2 soon, with the place and what is allowed.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use super::bad_input::{manifests, refused};
use super::{Ran, scratch, sluice_sim, text};

/// Each takes a fraction of it, also where other tests have the machine.
const SOON: Duration = Duration::from_secs(5);

/// The bounds as docs/scenarios.md has them.
const FILE_BYTES: usize = 4 << 20;
const CAPTURE_BYTES: u64 = 64 << 20;
const ESP_CAPTURE_BYTES: u64 = 256 << 20;

/// A file beside the scenario.
enum Beside {
    Text(&'static str, String),
    Bytes(&'static str, Vec<u8>),
    /// So many zeroes, of which the disk has none.
    Hole(&'static str, u64),
}

impl Beside {
    fn write(&self, folder: &Path) {
        match self {
            Self::Text(name, text) => fs::write(folder.join(name), text).unwrap(),
            Self::Bytes(name, bytes) => fs::write(folder.join(name), bytes).unwrap(),
            Self::Hole(name, len) => {
                let file = File::create(folder.join(name)).unwrap();
                file.set_len(*len).unwrap();
            }
        }
    }
}

/// What runs out of bounds, and what its refusal has in its first line.
struct Case {
    name: &'static str,
    /// The scenario from its second line on.
    lines: String,
    beside: Option<Beside>,
    says: &'static [&'static str],
}

fn check(case: &Case) {
    let folder = scratch(&format!("beyond-{}", case.name));
    manifests(&folder, "");
    if let Some(beside) = &case.beside {
        beside.write(&folder);
    }
    let scenario = folder.join("scenario.yaml");
    fs::write(&scenario, format!("name: beyond\n{}", case.lines)).unwrap();
    let out = folder.join("out");
    let ran = soon(case.name, &["run", text(&scenario), "--out", text(&out)]);
    refused(&ran, case.says);
    assert!(!out.exists(), "{} has written", case.name);
    // What is that big isn't left to lie about.
    fs::remove_dir_all(&folder).unwrap();
}

fn soon(name: &str, args: &[&str]) -> Ran {
    let began = Instant::now();
    let ran = sluice_sim(args);
    let took = began.elapsed();
    assert!(took < SOON, "{name} took {took:?}");
    ran
}

/// Steps over the two pods of the manifests; they begin in line 4.
fn steps(steps: &str) -> String {
    format!("manifests: cluster.yaml\nsteps:\n{steps}")
}

/// Comments, so that nothing but their length is wrong with them.
fn long() -> String {
    "#".repeat(FILE_BYTES) + "\n"
}

/// Lists in each other.
fn deep(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

/// Ten lists, each with the one before nine times over; the first is in the first line.
fn laughs(indent: &str) -> String {
    let mut text = format!("{indent}- &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n");
    for n in 1..10 {
        let again = vec![format!("*a{}", n - 1); 9].join(", ");
        let _ = writeln!(text, "{indent}- &a{n} [{again}]");
    }
    text
}

fn capture_of(frames: usize) -> Vec<u8> {
    let mut bytes = vec![0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0];
    bytes.extend([0; 8]);
    bytes.extend([0, 0, 4, 0, 1, 0, 0, 0]);
    // Empty ones are frames too.
    bytes.extend(vec![0; 16 * frames]);
    bytes
}

const PCAP: &str =
    "  - workload:\n    - pcap: {file: big.pcap, from: n/a, map: {192.0.2.1: n/a}}\n";

fn files() -> Vec<Case> {
    vec![
        Case {
            name: "scenario",
            lines: long(),
            beside: None,
            says: &["scenario.yaml is longer than the 4194304 bytes"],
        },
        Case {
            name: "manifests",
            lines: "manifests: big.yaml\nsteps: []\n".to_owned(),
            beside: Some(Beside::Text("big.yaml", long())),
            says: &[
                "scenario.yaml:2:12: ",
                "big.yaml is longer than the 4194304 bytes",
            ],
        },
        Case {
            name: "apply",
            lines: steps("  - apply: big.yaml\n"),
            beside: Some(Beside::Text("big.yaml", long())),
            says: &[
                "scenario.yaml:4:",
                "big.yaml is longer than the 4194304 bytes",
            ],
        },
        Case {
            name: "probes-file",
            lines: steps("  - probes: big.yaml\n"),
            beside: Some(Beside::Text("big.yaml", long())),
            says: &[
                "scenario.yaml:4:",
                "big.yaml is longer than the 4194304 bytes",
            ],
        },
        Case {
            name: "capture",
            lines: steps(PCAP),
            beside: Some(Beside::Hole("big.pcap", CAPTURE_BYTES + 1)),
            says: &[
                "scenario.yaml:4:",
                "big.pcap",
                "longer than the 67108864 bytes",
            ],
        },
        Case {
            name: "capture-frames",
            lines: steps(PCAP),
            beside: Some(Beside::Bytes("big.pcap", capture_of(20_001))),
            says: &["scenario.yaml:4:", "20001", "1 to 20000"],
        },
    ]
}

fn numbers() -> Vec<Case> {
    let probe = "  - {from: n/a, to: n/b, protocol: ICMP}\n";
    vec![
        Case {
            name: "steps",
            lines: steps(&"  - wait: 1ms\n".repeat(1_001)),
            beside: None,
            says: &["scenario.yaml:4:", "1001 steps are more than 1000"],
        },
        Case {
            name: "probes",
            lines: steps("  - probes: probes.yaml\n"),
            beside: Some(Beside::Text(
                "probes.yaml",
                format!("probes:\n{}", probe.repeat(10_001)),
            )),
            says: &[
                "probes.yaml:2:",
                "10001 probes are more than the 10000 of a file",
            ],
        },
        Case {
            name: "values",
            lines: steps(&format!("  - apply: [{}]\n", "0,".repeat(250_000))),
            beside: None,
            says: &["scenario.yaml:4:", "more than 250000 values"],
        },
    ]
}

/// A fault far out in a line, as JSON without line breaks has.
#[test]
fn a_fault_in_a_line_of_any_length_is_told() {
    check(&Case {
        name: "line",
        lines: steps(&format!(
            "  - apply: {{a: [{}*gone]}}\n",
            "0, ".repeat(50_000)
        )),
        beside: None,
        says: &["scenario.yaml:4:150017: ", "unknown anchor"],
    });
}

fn shapes() -> Vec<Case> {
    const DEEP: &str = "too deep in each other; at most 64 levels are read";
    const LAUGHS: &str = "more than 250000 values, with those that aliases stand for";
    const RECURSIVE: &str =
        "the alias is recursive: it stands in what it stands for; one may only stand for what ends";
    const MANIFEST: &str = "manifests: odd.yaml\nsteps: []\n";
    let ignored =
        |data: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\n{data}");
    vec![
        Case {
            name: "deep",
            lines: steps(&format!("  - apply: {}\n", deep(65))),
            beside: None,
            says: &["scenario.yaml:4:", DEEP],
        },
        Case {
            name: "abyss",
            lines: steps(&format!("  - apply: {}\n", deep(100_000))),
            beside: None,
            says: &["scenario.yaml:4:", DEEP],
        },
        Case {
            name: "dashes",
            lines: steps(&format!("  - apply:\n    {}a\n", "- ".repeat(100_000))),
            beside: None,
            says: &["scenario.yaml:5:", DEEP],
        },
        Case {
            name: "deep-manifest",
            lines: MANIFEST.to_owned(),
            beside: Some(Beside::Text(
                "odd.yaml",
                ignored(&format!("data: {}\n", deep(100_000))),
            )),
            says: &["odd.yaml:4:", DEEP],
        },
        Case {
            name: "laughs",
            lines: steps(&format!("  - apply:\n{}", laughs("    "))),
            beside: None,
            says: &["scenario.yaml:", LAUGHS],
        },
        Case {
            name: "laughs-manifest",
            lines: MANIFEST.to_owned(),
            beside: Some(Beside::Text(
                "odd.yaml",
                ignored(&format!("data:\n{}", laughs("  "))),
            )),
            says: &["odd.yaml:", LAUGHS],
        },
        Case {
            name: "cycle",
            lines: "manifests: cluster.yaml\nsteps: &all\n  - *all\n".to_owned(),
            beside: None,
            says: &["scenario.yaml:4:", RECURSIVE],
        },
        Case {
            name: "cycle-manifest",
            lines: MANIFEST.to_owned(),
            beside: Some(Beside::Text(
                "odd.yaml",
                "apiVersion: v1\nkind: Pod\nmetadata: &all\n  name: a\n  labels: *all\n".to_owned(),
            )),
            says: &["odd.yaml:5:", RECURSIVE],
        },
        Case {
            name: "own-manifests",
            lines: "manifests: scenario.yaml\nsteps: []\n".to_owned(),
            beside: None,
            says: &["scenario.yaml:1:1: ", "a manifest has apiVersion and kind"],
        },
        Case {
            name: "own-probes",
            lines: steps("  - probes: scenario.yaml\n"),
            beside: None,
            says: &["scenario.yaml:1:1: ", "`name`", "expected one of probes"],
        },
    ]
}

#[test]
fn files_beyond_their_length_are_refused_where_they_are_named() {
    files().iter().for_each(check);
}

#[test]
fn more_than_may_be_is_refused_with_how_many_may() {
    numbers().iter().for_each(check);
}

#[test]
fn what_is_too_deep_or_made_of_itself_is_refused_with_what_may_be() {
    shapes().iter().for_each(check);
}

#[test]
fn the_bounds_themselves_are_within() {
    let folder = scratch("beyond-within");
    manifests(&folder, "");
    let scenario = folder.join("scenario.yaml");
    let lines = format!("name: within\n{}", steps(&"  - wait: 1ns\n".repeat(1_000)));
    // To the byte as long as may be.
    let rest = FILE_BYTES - lines.len() - 1;
    fs::write(&scenario, format!("{lines}{}\n", "#".repeat(rest))).unwrap();
    let out = folder.join("out");
    let ran = sluice_sim(&["run", text(&scenario), "--out", text(&out)]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn a_capture_too_long_to_open_is_refused() {
    let folder = scratch("beyond-esp");
    let (pcap, keys) = (folder.join("big.pcap"), folder.join("esp_sa"));
    Beside::Hole("big.pcap", ESP_CAPTURE_BYTES + 1).write(&folder);
    fs::write(&keys, "").unwrap();
    let args = ["esp", "open", "--pcap", text(&pcap), "--keys", text(&keys)];
    let ran = soon("esp open", &args);
    refused(&ran, &["big.pcap is longer than the 268435456 bytes"]);
    fs::remove_dir_all(&folder).unwrap();
}
