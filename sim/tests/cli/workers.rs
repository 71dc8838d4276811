//! How many workers a dataplane has decides who does what, and nothing else: the same answers, and
//! the same packets inside ESP.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::determinism::verdicts;
use super::{root, scratch, sluice_sim_in, text};

/// Where the end depends on how many packets go by one SA, several lanes change it; and where it
/// does on how full a flow table is, several workers with one each.
const OF_ONE_WORKER: [&str; 3] = [
    "full-flow-table",
    "hard-limit-of-an-sa",
    "numbers-end-without-esn",
];

/// What is inside the ESP of a run's capture that opens, in no order. What was changed on its way
/// doesn't.
fn inner_packets(out: &Path, esn: bool) -> Vec<String> {
    let (pcap, keys) = (out.join("wire.pcap"), out.join("esp_sa"));
    let files = ["--pcap", text(&pcap), "--keys", text(&keys)];
    let numbers = if esn { &["--esn"][..] } else { &[] };
    let opened = sluice_sim_in(out, &[&["esp", "open"], numbers, &files].concat());
    assert!(matches!(opened.code, Some(0 | 1)), "{}", opened.stderr);
    let opened: Value = serde_json::from_str(&opened.stdout).unwrap();
    let packets = opened["opened"].as_array().unwrap().iter();
    let mut packets: Vec<_> = packets.map(|it| it["inner"].to_string()).collect();
    packets.sort();
    packets
}

#[test]
fn unlike_numbers_of_workers_change_neither_verdicts_nor_inner_packets() {
    let scenario = root().join("sim/scenarios/quickstart.yaml");
    let scenario = fs::read_to_string(scenario).unwrap();
    let manifests = format!("{}/", text(&root().join("sim/manifests")));
    let scenario = scenario.replace("../manifests/", &manifests);
    let play = |[a, b]: [u8; 2]| {
        let folder = scratch(&format!("workers-{a}-{b}"));
        let file = folder.join("workers.yaml");
        let with = format!("workers: {{node-a: {a}, node-b: {b}}}\n{scenario}");
        fs::write(&file, with).unwrap();
        let args = ["run", text(&file), "--seed", "7", "--output", "json"];
        let ran = sluice_sim_in(&folder, &args);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        (ran.stdout, folder.join("sluice-out"))
    };
    let (plain, out) = play([1, 1]);
    let inner = inner_packets(&out, true);
    assert!(inner.len() > 50, "{}", inner.len());
    for workers in [[1, 2], [2, 3], [16, 15], [3, 3]] {
        let (ran, out) = play(workers);
        assert_eq!(verdicts(&ran), verdicts(&plain), "{workers:?}");
        let (ran, plain): (Value, Value) = (
            serde_json::from_str(&ran).unwrap(),
            serde_json::from_str(&plain).unwrap(),
        );
        assert_eq!(ran["drops"], plain["drops"], "{workers:?}");
        assert_eq!(ran["wire"]["esp"], plain["wire"]["esp"], "{workers:?}");
        assert_eq!(inner_packets(&out, true), inner, "{workers:?}");
    }
}

/// A scenario with so many workers of each dataplane: what it says, and its files.
fn play(scenario: &Path, workers: &str) -> (String, PathBuf) {
    let name = scenario.file_stem().unwrap().to_str().unwrap();
    let folder = scratch(&format!("with-{workers}-{name}"));
    let args = ["run", text(scenario), "--workers", workers];
    let ran = sluice_sim_in(&folder, &[&args[..], &["--output", "json"]].concat());
    assert_eq!(ran.code, Some(0), "{name}: {}", ran.stderr);
    (ran.stdout, folder.join("sluice-out"))
}

/// Where pods flood: a flow's share is of its worker's table, so that more of them have room.
const BY_QUOTA: [&str; 2] = ["flow-quota", "syn-flood-by-one-vf"];

#[test]
fn every_scenario_ends_the_same_with_several_workers() {
    let mut unlike = Vec::new();
    for entry in fs::read_dir(root().join("sim/scenarios")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if OF_ONE_WORKER.contains(&name) {
            continue;
        }
        let (alone, alone_out) = play(&path, "1");
        let (several, several_out) = play(&path, "3");
        assert_eq!(verdicts(&alone), verdicts(&several), "{name}");
        let esn = !fs::read_to_string(&path)
            .unwrap()
            .contains("\nesn: false\n");
        if inner_packets(&alone_out, esn) != inner_packets(&several_out, esn) {
            unlike.push(name.to_owned());
        }
    }
    unlike.sort();
    assert_eq!(unlike, BY_QUOTA);
}
