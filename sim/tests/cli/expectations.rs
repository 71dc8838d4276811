//! What `expect` says of drops, answers, marks and being in step fails where it isn't so, by what was
//! found and the line. No run can be made to show pods' payload in clear: `encrypted` and
//! `cleartext_bytes` are not here.

use std::fs;

use super::{root, scratch, sluice_sim, text};

/// What a step of these fails with, in a run that it is the last step of.
fn failure(name: &str, before: &str, expect: &str) -> String {
    let folder = scratch(&format!("expectations-{name}"));
    let manifests = root().join("sim/manifests/plain");
    let scenario = format!(
        "name: it\nmanifests: {}\nsteps:\n{before}  - expect: {expect}\n",
        text(&manifests)
    );
    let file = folder.join("scenario.yaml");
    fs::write(&file, scenario).unwrap();
    let out = folder.join("out");
    let ran = sluice_sim(&["run", text(&file), "--out", text(&out), "--output", "json"]);
    assert_eq!(ran.code, Some(1), "{expect}: {}{}", ran.stdout, ran.stderr);
    let report = ran.json();
    let failed = report["failed_checks"].as_array().unwrap();
    assert_eq!(failed.len(), 1, "{failed:?}");
    failed[0].as_str().unwrap().to_owned()
}

const PROBE: &str = "  - probe: {from: blue/api, to: red/db, protocol: TCP, port: 80}\n";

#[test]
fn what_is_not_so_fails_by_what_was_found_at_its_line() {
    let behind = "  - fault: {stalled: {agent: node-a}}\n  - apply: {apiVersion: networking.k8s.io/v1, \
         kind: NetworkPolicy, metadata: {name: all, namespace: red}, spec: {podSelector: {}}}\n";
    let cases = [
        (
            "drops",
            PROBE,
            "{drops: {no-sa: some}}",
            "line 5: 0 frames were dropped for no-sa, some expected",
        ),
        (
            "allowed",
            PROBE,
            "{answers: {allow: 2}}",
            "line 5: 1 probes were allowed, 2 expected",
        ),
        (
            "denied",
            PROBE,
            "{answers: {deny: some}}",
            "line 5: 0 probes were denied, some expected",
        ),
        (
            "marks",
            PROBE,
            "{marks: {parted: 1}}",
            "line 5: parted took effect 0 times, 1 expected",
        ),
        (
            "settled",
            behind,
            "{settled_within: 2s}",
            "line 6: settled: ",
        ),
    ];
    for (name, before, expect, what) in cases {
        let failure = failure(name, before, expect);
        if name == "settled" {
            assert!(failure.starts_with(what), "{failure}");
        } else {
            assert_eq!(failure, what);
        }
    }
}
