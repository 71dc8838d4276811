//! `lint`: findings with their places, formats, exit codes. What each lint finds is tested in
//! host-agent/tests/lint.rs.

use std::fs;

use sluice_host_agent::lint::Code;

use super::reports::sarif;
use super::{Ran, root, scratch, sluice_sim, text};

const MANIFESTS: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec: {template: {metadata: {labels: {app: web}}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: web
  namespace: shop
spec: {podSelector: {matchLabels: {app: wbe}}}
";

fn lint(name: &str, more: &[&str]) -> Ran {
    let folder = scratch(name);
    fs::write(folder.join("all.yaml"), MANIFESTS).unwrap();
    let mut args = vec!["lint", "--manifests", text(&folder)];
    args.extend(more);
    sluice_sim(&args)
}

#[test]
fn findings_have_a_code_a_place_and_what_to_do() {
    let ran = lint("lint-json", &["--output", "json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let json = ran.json();
    let findings = json["findings"].as_array().unwrap();
    let codes: Vec<_> = findings
        .iter()
        .map(|it| it["code"].as_str().unwrap())
        .collect();
    assert_eq!(codes, ["SL003", "SL003", "SL001", "SL004"]);
    let last = findings.last().unwrap();
    assert_eq!(last["object"], "NetworkPolicy shop/web");
    assert_eq!(last["path"], "spec.podSelector.matchLabels");
    assert_eq!(
        (&last["file"], &last["line"], &last["column"]),
        (&"all.yaml".into(), &9.into(), &9.into())
    );
    assert!(
        last["message"]
            .as_str()
            .unwrap()
            .ends_with("did you mean `web`?"),
        "{last}"
    );
    assert!(
        findings
            .iter()
            .all(|it| !it["help"].as_str().unwrap().is_empty())
    );
    // A namespace without a manifest is where its first pod is.
    assert_eq!(
        (&findings[0]["file"], &findings[0]["line"]),
        (&"all.yaml".into(), &3.into())
    );
    assert_eq!(json["denied"], 0);
}

#[test]
fn what_is_denied_is_exit_1() {
    for (deny, code, denied) in [
        ("SL002", 0, 0),
        ("sl004", 1, 1),
        ("unknown-label,SL001", 1, 2),
        ("all", 1, 4),
    ] {
        let ran = lint("lint-deny", &["--deny", deny, "--output", "json"]);
        assert_eq!(ran.code, Some(code), "{deny} {}", ran.stderr);
        assert_eq!(ran.json()["denied"], denied, "{deny}");
    }
    let table = lint("lint-table", &["--deny", "all"]);
    assert_eq!(table.code, Some(1));
    assert!(
        table.stdout.contains("FAILED  4 found, 4 of them denied."),
        "{}",
        table.stdout
    );
    let unknown = lint("lint-unknown", &["--deny", "SL999"]);
    assert_eq!(unknown.code, Some(2));
    assert!(
        unknown.stderr.contains("SL001, SL002"),
        "{}",
        unknown.stderr
    );
}

#[test]
fn findings_are_sarif_at_their_lines() {
    let ran = lint("lint-sarif", &["--deny", "SL004", "--output", "sarif"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let results = sarif(&ran.stdout);
    let levels: Vec<_> = results
        .iter()
        .map(|it| it["level"].as_str().unwrap())
        .collect();
    assert_eq!(levels, ["warning", "warning", "warning", "error"]);
    let place = &results[3]["locations"][0]["physicalLocation"];
    // The folder is outside the current one, so its name is not told.
    assert_eq!(place["artifactLocation"]["uri"], "all.yaml");
    assert_eq!(place["region"]["startLine"], 9);
    let inside = sluice_sim(&[
        "lint",
        "--manifests",
        "sim/manifests/quickstart",
        "--output",
        "sarif",
    ]);
    let uris = sarif(&inside.stdout);
    let uris = uris.iter().filter_map(|it| {
        it["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].as_str()
    });
    assert!(
        uris.into_iter()
            .all(|it| it.starts_with("sim/manifests/quickstart/"))
    );
}

#[test]
fn the_codes_are_listed_in_the_docs() {
    let docs = fs::read_to_string(root().join("docs/ci.md")).unwrap();
    for code in Code::ALL {
        let row = format!("| {} | `{}` | ", code.id(), code.name());
        assert!(docs.contains(&row), "no {row}");
    }
}
