//! The examples of docs/scenarios.md and sim/README.md are read by the code that they
//! describe.

use std::collections::BTreeSet;
use std::fs;

use sluice_dataplane_core::reason::DropReason;
use sluice_sim::input::{load_probes, load_scenario};
use sluice_sim::world::MARKS;

use super::{root, scratch, sluice_sim, text};

/// The fenced YAML blocks of a document.
fn blocks(document: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "```yaml" {
            let block = lines.by_ref().take_while(|line| line.trim() != "```");
            blocks.push(block.map(|line| format!("{line}\n")).collect());
        }
    }
    blocks
}

fn document(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

#[test]
fn every_example_of_the_scenario_reference_is_read() {
    let text_of = document("docs/scenarios.md");
    let folder = scratch("documents");
    // The examples stand in a folder beside sim/manifests.
    let absolute = format!("{}/", root().join("sim/manifests").display());
    let (mut scenarios, mut probes) = (0, 0);
    let mut said = BTreeSet::new();
    for (number, block) in blocks(&text_of).iter().enumerate() {
        let block = block.replace("../manifests/", &absolute);
        let file = folder.join(format!("{number}.yaml"));
        if block.starts_with("probes:") {
            fs::write(&file, &block).unwrap();
            assert!(!load_probes(&file).unwrap().is_empty());
            probes += 1;
            continue;
        }
        // An example is a whole scenario, or steps of one.
        let whole = if block.starts_with("name:") {
            block.clone()
        } else {
            format!("name: example\nmanifests: {absolute}quickstart\nsteps:\n{block}")
        };
        fs::write(&file, &whole).unwrap();
        load_scenario(&file).unwrap_or_else(|error| panic!("{error}\n{whole}"));
        let out = folder.join(format!("out-{number}"));
        let ran = sluice_sim(&["run", text(&file), "--out", text(&out)]);
        assert_eq!(ran.code, Some(0), "{whole}\n{}{}", ran.stdout, ran.stderr);
        for line in whole.lines() {
            let word = line.trim_start().trim_start_matches("- ");
            said.extend(word.split(':').next().map(ToOwned::to_owned));
        }
        scenarios += 1;
    }
    assert!(scenarios >= 8 && probes >= 1, "{scenarios} {probes}");
    for word in [
        "apply",
        "delete",
        "probe",
        "probes",
        "matrix",
        "wait",
        "rekey",
        "expect",
        "fault",
        "heal",
        "kill",
        "restart",
        "spoof",
        "send",
        "replay",
        "patch",
        "scale",
        "replace",
        "attack",
        "flows_max",
        "sa",
        "drift_ppm",
        "lanes",
        "answers",
        "settled_within",
        "marks",
        "workload",
        "tcp",
        "udp",
        "pcap",
        "seed",
        "workers",
        "algorithm",
        "esn",
        "underlay",
        "udp_encap",
        "encryption",
        "vfs",
        "manifests",
        "description",
        "encrypted",
        "cleartext_bytes",
        "drops",
    ] {
        assert!(said.contains(word), "no example says {word}");
    }
}

#[test]
fn the_scenario_reference_lists_every_reason_for_a_drop() {
    let text = document("docs/scenarios.md");
    for reason in DropReason::ALL {
        let name = format!("`{}`", reason.name());
        assert!(text.contains(&name), "{name} is missing");
    }
}

/// What the oracles have in common.
const NO_ORACLE: [&str; 4] = ["aside", "flow", "mod", "packet"];

#[test]
fn the_scenario_reference_says_what_each_oracle_is_for() {
    let text_of = document("docs/scenarios.md");
    let promises = text_of
        .split("## ")
        .find(|it| it.starts_with("The seven promises"));
    let promises = promises.unwrap();
    for entry in fs::read_dir(root().join("sim/src/oracle")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let named = promises.contains(&format!("`{name}`"));
        assert_eq!(named, !NO_ORACLE.contains(&name), "{name}");
    }
}

#[test]
fn every_scenario_of_the_repository_ends_as_it_says() {
    let folder = root().join("sim/scenarios");
    let out = scratch("documents-scenarios");
    let listed = document("docs/scenarios.md");
    let mut scenarios = 0;
    let mut marks = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let args = ["run", text(&path), "--out", text(&out), "--output", "json"];
        let ran = sluice_sim(&args);
        let report = ran.json();
        let failed = &report["failed_checks"];
        assert_eq!(ran.code, Some(0), "{path:?}: {failed}\n{}", ran.stderr);
        let reached = report["marks"].as_object().unwrap();
        marks.extend(reached.keys().cloned());
        let name = path.file_stem().unwrap().to_str().unwrap();
        let source = fs::read_to_string(&path).unwrap();
        assert!(source.contains(&format!("\nname: {name}\n")), "{name}");
        assert!(
            listed.contains(&format!("`{name}`")),
            "{name} is not listed"
        );
        scenarios += 1;
    }
    assert!(scenarios >= 50, "{scenarios}");
    let missed: Vec<_> = MARKS.iter().filter(|it| !marks.contains(**it)).collect();
    assert!(missed.is_empty(), "no scenario reaches {missed:?}");
}

#[test]
fn the_commands_of_the_readme_run() {
    let text_of = document("sim/README.md");
    let out = scratch("documents-readme");
    let mut commands = 0;
    for line in text_of.lines() {
        let Some(args) = line.strip_prefix("sluice-sim ") else {
            continue;
        };
        let args: String = args.replace("out/", &format!("{}/", out.display()));
        let args = args.split(['|', '>', '#']).next().unwrap();
        let ran = sluice_sim(&args.split_whitespace().collect::<Vec<_>>());
        assert_eq!(ran.code, Some(0), "{line}\n{}{}", ran.stdout, ran.stderr);
        commands += 1;
    }
    assert!(commands >= 4, "{commands}");
}
