//! The same scenario and seed give the same bytes; another seed gives other keys and the
//! same verdicts. Nothing that is written tells when or where it was made.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{connectivity, scratch, sluice_sim_in, text};

/// Runs the quickstart from a folder of its own.
fn quickstart(name: &str, seed: &str) -> (String, PathBuf) {
    let folder = scratch(name);
    let scenario = super::root().join("sim/scenarios/quickstart.yaml");
    let args = ["run", text(&scenario), "--seed", seed, "--output", "json"];
    let ran = sluice_sim_in(&folder, &args);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    (ran.stdout, folder.join("sluice-out"))
}

fn file(out: &Path, name: &str) -> Vec<u8> {
    fs::read(out.join(name)).unwrap()
}

pub(super) fn verdicts(json: &str) -> Vec<(Value, Value, Value)> {
    let json: Value = serde_json::from_str(json).unwrap();
    let results = json["results"].as_array().unwrap();
    results
        .iter()
        .map(|it| {
            (
                it["verdict"].clone(),
                it["rule"].clone(),
                it["encrypted"].clone(),
            )
        })
        .collect()
}

#[test]
fn a_seed_gives_the_same_bytes_and_another_gives_others() {
    let (first, first_out) = quickstart("seed-7", "7");
    let (again, again_out) = quickstart("seed-7-again", "7");
    let (other, other_out) = quickstart("seed-8", "8");
    assert_eq!(first, again);
    for name in ["wire.pcap", "esp_sa", "report.json", "timeline.html"] {
        assert_eq!(file(&first_out, name), file(&again_out, name), "{name}");
        assert_ne!(file(&first_out, name), file(&other_out, name), "{name}");
    }
    assert_eq!(file(&first_out, "report.json"), first.as_bytes());
    let answers = verdicts(&first);
    assert!(answers.len() > 50);
    assert_eq!(answers, verdicts(&other));
    let names: Vec<_> = fs::read_dir(&first_out).unwrap().collect();
    assert_eq!(names.len(), 4, "{names:?}");
}

/// How many lanes two nodes have decides which SA a packet goes by, and nothing else.
#[test]
fn lanes_that_differ_change_no_verdict() {
    let (plain, out) = quickstart("no-lanes", "7");
    let is_sa = |line: &&str| !line.starts_with('#');
    let sas = |out: &Path| text_of(out, "esp_sa").lines().filter(is_sa).count();
    let alone = sas(&out);
    let scenario = super::root().join("sim/scenarios/quickstart.yaml");
    let scenario = fs::read_to_string(scenario).unwrap();
    let manifests = super::root().join("sim/manifests");
    for (lanes, children) in [([1, 2], 2), ([2, 3], 3), ([16, 15], 16)] {
        let folder = scratch(&format!("lanes-{children}"));
        let [a, b] = lanes;
        let manifests = format!("{}/", text(&manifests));
        let with = scenario.replace("../manifests/", &manifests);
        let with = format!("lanes: {{node-a: {a}, node-b: {b}}}\n{with}");
        let file = folder.join("lanes.yaml");
        fs::write(&file, with).unwrap();
        let args = ["run", text(&file), "--seed", "7", "--output", "json"];
        let ran = sluice_sim_in(&folder, &args);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(verdicts(&ran.stdout), verdicts(&plain), "{lanes:?}");
        let (it, plain): (Value, Value) = (
            serde_json::from_str(&ran.stdout).unwrap(),
            serde_json::from_str(&plain).unwrap(),
        );
        assert_eq!(it["drops"], plain["drops"], "{lanes:?}");
        assert_eq!(it["wire"], plain["wire"], "{lanes:?}");
        assert_eq!(sas(&folder.join("sluice-out")), alone * children);
    }
}

fn text_of(out: &Path, name: &str) -> String {
    String::from_utf8(file(out, name)).unwrap()
}

#[test]
fn json_has_no_absolute_path_and_no_wall_clock_time() {
    let (json, _) = quickstart("json-traces", "1");
    let connectivity = connectivity("webshop", &["--seed", "1"]).stdout;
    let mut strings = Vec::new();
    for text in [&json, &connectivity] {
        gather(&serde_json::from_str(text).unwrap(), &mut strings);
    }
    assert!(strings.len() > 1_000);
    let root = super::root();
    for (key, value) in strings {
        assert!(!value.starts_with('/'), "{key}: {value}");
        assert!(!value.contains(text(&root)), "{key}: {value}");
        assert!(
            !value.contains(env!("CARGO_TARGET_TMPDIR")),
            "{key}: {value}"
        );
        let dated = value.split(['T', ' ']).any(|it| {
            let parts: Vec<_> = it.split('-').collect();
            parts.len() == 3 && parts.iter().all(|it| it.parse::<u16>().is_ok())
        });
        assert!(!dated, "{key}: {value}");
    }
    let report: Value = serde_json::from_str(&json).unwrap();
    // Virtual time begins at zero: a clock of the machine would be far beyond a day.
    assert!(report["time_ns"].as_u64().unwrap() < 86_400 * 1_000_000_000);
}

/// Every string of a document and the key it stands at.
fn gather(value: &Value, into: &mut Vec<(String, String)>) {
    let mut open = vec![(String::new(), value)];
    while let Some((key, value)) = open.pop() {
        match value {
            Value::String(text) => into.push((key, text.clone())),
            Value::Array(items) => open.extend(items.iter().map(|it| (key.clone(), it))),
            Value::Object(fields) => open.extend(fields.iter().map(|(k, v)| (k.clone(), v))),
            _ => {}
        }
    }
}

#[test]
fn the_wire_carries_no_byte_of_pods_payload_in_clear() {
    let (json, out) = quickstart("cleartext", "3");
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["wire"]["cleartext_bytes"], 0);
    assert_eq!(report["unaccounted"], 0);
    let wire = file(&out, "wire.pcap");
    let marker = sluice_sim::world::MARKER;
    assert!(!wire.windows(marker.len()).any(|it| it == marker));
    let frames = sluice_sim::pcap::read(&wire).unwrap().len();
    assert_eq!(report["wire"]["frames"], frames);
}
