//! The commands of deploy/ci and docs/ci.md, run as they stand there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::reports::{junit, sarif};
use super::{root, scratch, text};

/// A repository as the samples expect it.
fn repository(name: &str) -> PathBuf {
    let folder = scratch(name);
    let manifests = root().join("sim/manifests");
    for k8s in ["k8s", "base/k8s"] {
        let k8s = folder.join(k8s);
        fs::create_dir_all(&k8s).unwrap();
        for entry in fs::read_dir(manifests.join("quickstart")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), k8s.join(entry.file_name())).unwrap();
        }
    }
    fs::copy(
        manifests.join("quickstart-probes.yaml"),
        folder.join("probes.yaml"),
    )
    .unwrap();
    let flow = r#"{"from": "shop/web", "to": "shop/cart", "protocol": "TCP", "port": 8080}"#;
    fs::write(folder.join("flows.jsonl"), format!("{flow}\n")).unwrap();
    let scenario = "name: ci\nmanifests: k8s\nsteps:\n  - probes: probes.yaml\n";
    fs::write(folder.join("scenario.yaml"), scenario).unwrap();
    folder
}

/// Runs a line in a shell, with the binary in its path.
fn shell(folder: &Path, line: &str) {
    let bin = Path::new(env!("CARGO_BIN_EXE_sluice-sim"))
        .parent()
        .unwrap();
    let path = format!("{}:{}", text(bin), std::env::var("PATH").unwrap());
    let out = Command::new("sh")
        .args(["-ec", line])
        .current_dir(folder)
        .env("PATH", path)
        .env("GITHUB_STEP_SUMMARY", folder.join("summary"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{line}\n{said}");
}

/// The texts under these keys, wherever they are.
fn texts(value: &Value, keys: &[&str], found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if keys.contains(&key.as_str()) => found.push(text.clone()),
                    Value::Array(all) if keys.contains(&key.as_str()) => {
                        found.extend(all.iter().filter_map(Value::as_str).map(str::to_owned));
                    }
                    _ => texts(value, keys, found),
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|it| texts(it, keys, found)),
        _ => {}
    }
}

fn commands(file: &str, keys: &[&str]) -> Vec<String> {
    let text = fs::read_to_string(root().join("deploy/ci").join(file)).unwrap();
    let value: Value = serde_saphyr::from_str(&text).unwrap();
    let mut found = Vec::new();
    texts(&value, keys, &mut found);
    found
}

fn read(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).unwrap()
}

#[test]
fn the_github_sample_runs() {
    let folder = repository("samples-github");
    let commands = commands("github-actions.yml", &["run"]);
    for verb in ["lint", "diff", "connectivity", "run"] {
        let start = format!("sluice-sim {verb} ");
        assert!(
            commands.iter().any(|it| it.starts_with(&start)),
            "no {start}"
        );
    }
    commands.iter().for_each(|it| shell(&folder, it));
    sarif(&read(&folder, "lint.sarif"));
    for file in ["connectivity.sarif", "scenario.sarif"] {
        assert!(sarif(&read(&folder, file)).is_empty(), "{file}");
    }
    assert!(read(&folder, "summary").contains("0 of 1 would break"));
}

#[test]
fn the_gitlab_sample_runs() {
    let folder = repository("samples-gitlab");
    let commands = commands("gitlab-ci.yml", &["script", "before_script"]);
    for verb in ["lint", "diff", "connectivity", "run"] {
        let start = format!("sluice-sim {verb} ");
        assert!(
            commands.iter().any(|it| it.starts_with(&start)),
            "no {start}"
        );
    }
    commands.iter().for_each(|it| shell(&folder, it));
    sarif(&read(&folder, "lint.sarif"));
    for file in ["connectivity.xml", "scenario.xml"] {
        let cases = junit(&read(&folder, file));
        assert!(
            cases.len() > 5 && cases.iter().all(|it| it.2.is_none()),
            "{cases:?}"
        );
    }
}

#[test]
fn the_commands_of_the_ci_page_run() {
    let page = read(&root(), "docs/ci.md");
    let out = scratch("samples-docs");
    let lines = page
        .lines()
        .filter(|it| it.starts_with("sluice-sim ") && !it.contains('['));
    let mut count = 0;
    for line in lines {
        let line = line.replace("out/", &format!("{}/", text(&out)));
        shell(&root(), &format!("{line} > /dev/null"));
        count += 1;
    }
    assert!(count >= 5, "{count}");
}

#[test]
fn the_container_has_what_the_samples_run() {
    let file = read(&root(), "deploy/ci/Containerfile");
    let said: Vec<_> = file.lines().filter(|it| !it.starts_with('#')).collect();
    assert_eq!(
        said[..2],
        [
            "FROM debian:12-slim",
            "COPY sluice-sim /usr/local/bin/sluice-sim"
        ]
    );
}
