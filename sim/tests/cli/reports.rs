//! JUnit and SARIF, read by parsers and validators that are not ours: roxmltree, and Python's
//! jsonschema (Debian: python3-jsonschema, which `make deps` installs).

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{Ran, scratch, sluice_sim, text};

/// What jsonschema says of each value, in order: none is valid.
pub(super) fn validate(schema: &Value, values: &[Value]) -> Vec<Option<String>> {
    const SCRIPT: &str = "\
import json, sys, jsonschema
given = json.load(sys.stdin)
validator = jsonschema.validators.validator_for(given['schema'])
validator.check_schema(given['schema'])
check = validator(given['schema'])
print(json.dumps([next((e.json_path + ': ' + e.message for e in check.iter_errors(v)), None) for v in given['values']]))
";
    let mut python = Command::new("python3")
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is missing; make deps installs it");
    let given = json!({"schema": schema, "values": values}).to_string();
    python
        .stdin
        .take()
        .unwrap()
        .write_all(given.as_bytes())
        .unwrap();
    let out = python.wait_with_output().unwrap();
    assert!(
        out.status.success(),
        "is python3-jsonschema missing? make deps installs it"
    );
    serde_json::from_slice(&out.stdout).unwrap()
}

/// SARIF 2.1.0, as far as we write it: what its sections 3.13 to 3.33 require, and what GitHub's
/// code scanning asks for besides (a rule's descriptions, a result's location).
fn sarif_schema() -> Value {
    let uri = json!({"type": "string", "pattern": "^[A-Za-z0-9._~%-]+(/[A-Za-z0-9._~%-]+)*$"});
    let level = json!({"enum": ["none", "note", "warning", "error"]});
    let message = json!({"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}});
    let region = json!({"type": "object", "required": ["startLine"], "additionalProperties": false,
        "properties": {"startLine": {"type": "integer", "minimum": 1}, "startColumn": {"type": "integer", "minimum": 1}}});
    let physical = json!({"type": "object", "required": ["artifactLocation"], "additionalProperties": false, "properties": {
        "artifactLocation": {"type": "object", "required": ["uri"], "properties": {"uri": uri}}, "region": region}});
    let logical =
        json!({"type": "array", "items": {"type": "object", "required": ["fullyQualifiedName"]}});
    let location = json!({"type": "object", "additionalProperties": false,
        "properties": {"physicalLocation": physical, "logicalLocations": logical}});
    let rule = json!({"type": "object", "required": ["id", "name", "shortDescription", "defaultConfiguration"], "properties": {
        "id": {"type": "string"}, "name": {"type": "string"}, "shortDescription": message,
        "defaultConfiguration": {"type": "object", "properties": {"level": level}}}});
    let result = json!({"type": "object", "required": ["ruleId", "message", "level", "locations"], "additionalProperties": false, "properties": {
        "ruleId": {"type": "string"}, "ruleIndex": {"type": "integer", "minimum": 0}, "level": level, "message": message,
        "locations": {"type": "array", "minItems": 1, "maxItems": 10, "items": location}}});
    let driver = json!({"type": "object", "required": ["name", "version", "rules"], "properties": {
        "name": {"type": "string"}, "version": {"type": "string"}, "rules": {"type": "array", "items": rule, "uniqueItems": true}}});
    let run = json!({"type": "object", "required": ["tool", "results"], "additionalProperties": false, "properties": {
        "tool": {"type": "object", "required": ["driver"], "properties": {"driver": driver}},
        "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
        "results": {"type": "array", "items": result}}});
    json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
        "required": ["version", "runs"], "additionalProperties": false, "properties": {
            "$schema": {"type": "string", "format": "uri"}, "version": {"const": "2.1.0"},
            "runs": {"type": "array", "minItems": 1, "items": run}}})
}

/// The results of a log that is as SARIF wants it.
pub(super) fn sarif(text: &str) -> Vec<Value> {
    let log: Value = serde_json::from_str(text).unwrap();
    assert_eq!(
        validate(&sarif_schema(), core::slice::from_ref(&log)),
        [None],
        "{text}"
    );
    let run = &log["runs"][0];
    for result in run["results"].as_array().unwrap() {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        let rule = &run["tool"]["driver"]["rules"][index];
        assert_eq!(rule["id"], result["ruleId"]);
    }
    run["results"].as_array().unwrap().clone()
}

/// The cases of JUnit XML: suite, name, and what failed.
pub(super) fn junit(text: &str) -> Vec<(String, String, Option<String>)> {
    let document = roxmltree::Document::parse(text).unwrap();
    let root = document.root_element();
    assert!(root.has_tag_name("testsuites"));
    let count = |node: roxmltree::Node<'_, '_>, name: &str| -> usize {
        node.attribute(name).unwrap().parse().unwrap()
    };
    let (mut cases, mut failed) = (Vec::new(), 0);
    for suite in root.children().filter(roxmltree::Node::is_element) {
        assert!(suite.has_tag_name("testsuite"));
        let its: Vec<_> = suite
            .children()
            .filter(roxmltree::Node::is_element)
            .collect();
        assert_eq!(count(suite, "tests"), its.len());
        let mut failures = 0;
        for case in its {
            assert!(case.has_tag_name("testcase") && case.attribute("time").is_none());
            assert_eq!(case.attribute("classname"), suite.attribute("name"));
            let failure = case.children().find(|it| it.has_tag_name("failure"));
            failures += usize::from(failure.is_some());
            let message = failure.map(|it| it.attribute("message").unwrap().to_owned());
            let of = |it: &str| it.to_owned();
            cases.push((
                of(suite.attribute("name").unwrap()),
                of(case.attribute("name").unwrap()),
                message,
            ));
        }
        assert_eq!(count(suite, "failures"), failures);
        failed += failures;
    }
    assert_eq!(
        (count(root, "tests"), count(root, "failures")),
        (cases.len(), failed)
    );
    cases
}

/// Two probes, the second with a wrong expectation.
fn wrong(name: &str, output: &str) -> Ran {
    let probes = scratch(name).join("probes.yaml");
    let line = |expect: &str| {
        format!(
            "  - {{from: shop/web, to: shop/cart, protocol: TCP, port: 8080, expect: {expect}}}\n"
        )
    };
    fs::write(
        &probes,
        format!("probes:\n{}{}", line("allow"), line("deny")),
    )
    .unwrap();
    let args = [
        "connectivity",
        "--manifests",
        "sim/manifests/quickstart",
        "--probes",
        text(&probes),
        "--output",
        output,
    ];
    sluice_sim(&args)
}

#[test]
fn connectivity_is_junit_with_a_case_a_probe() {
    let ran = wrong("reports-junit", "junit");
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let cases = junit(&ran.stdout);
    let name = |expect: &str| format!("shop/web to shop/cart TCP 8080 IPv4: {expect}");
    let failure = "expected deny, the frames showed allow (decided by shop/cart ingress[0])";
    assert_eq!(cases[0], ("connectivity".to_owned(), name("allow"), None));
    assert_eq!(
        cases[1],
        (
            "connectivity".to_owned(),
            name("deny"),
            Some(failure.to_owned())
        )
    );
    assert_eq!(
        (cases.len(), cases[2].0.as_str(), &cases[2].2),
        (3, "invariants", &None)
    );
    assert_eq!(wrong("reports-junit-again", "junit").stdout, ran.stdout);
}

#[test]
fn connectivity_is_sarif_with_mismatches_at_their_probes() {
    let ran = wrong("reports-sarif", "sarif");
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let results = sarif(&ran.stdout);
    assert_eq!(results.len(), 1);
    assert_eq!(
        (&results[0]["ruleId"], &results[0]["level"]),
        (&"SC001".into(), &"error".into())
    );
    let place = &results[0]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "probes.yaml");
    assert_eq!(place["region"]["startLine"], 3);
    let right = sluice_sim(&[
        "connectivity",
        "--manifests",
        "sim/manifests/quickstart",
        "--probes",
        "sim/manifests/quickstart-probes.yaml",
        "--output",
        "sarif",
    ]);
    assert_eq!(right.code, Some(0), "{}", right.stderr);
    assert_eq!(sarif(&right.stdout), [Value::Null; 0]);
}

#[test]
fn a_run_is_junit_with_a_suite_a_step() {
    let folder = scratch("reports-run");
    let manifests = super::root().join("sim/manifests/quickstart");
    let scenario = folder.join("scenario.yaml");
    let lines = format!(
        "name: a & b\nmanifests: {}\nsteps:\n  - wait: 1ms\n  - probe: {{from: shop/web, to: shop/cart, protocol: TCP, port: 8080, expect: deny}}\n  - expect: {{drops: {{no-sa: some}}}}\n",
        text(&manifests)
    );
    fs::write(&scenario, lines).unwrap();
    let out = folder.join("out");
    let ran = sluice_sim(&[
        "run",
        text(&scenario),
        "--out",
        text(&out),
        "--output",
        "junit",
    ]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let cases = junit(&ran.stdout);
    let short: Vec<_> = cases
        .iter()
        .map(|it| (it.0.as_str(), it.2.is_some()))
        .collect();
    let expected = [
        ("step 1: wait 1000000 ns", false),
        ("step 2: probe", true),
        ("step 3: expect some drops for no-sa", true),
        ("invariants", true),
    ];
    assert_eq!(short, expected);
    assert!(
        ran.stdout.contains("sluice-sim run a &amp; b"),
        "{}",
        ran.stdout
    );
    assert!(fs::read_to_string(out.join("report.json")).is_ok());
}

/// `run --output sarif` of these steps, in a folder beside which there is a file of probes.
fn run_as_sarif(name: &str, steps: &str) -> Ran {
    let folder = scratch(name);
    fs::create_dir(folder.join("ci")).unwrap();
    let manifests = super::root().join("sim/manifests/quickstart");
    let scenario = format!(
        "name: sarif\nmanifests: {}\nsteps:\n{steps}",
        text(&manifests)
    );
    fs::write(folder.join("ci/scenario.yaml"), scenario).unwrap();
    let probe = "{from: shop/web, to: shop/cart, protocol: TCP, port: 8080";
    let probes = format!("probes:\n  - {probe}}}\n  - {probe}, expect: deny}}\n");
    fs::write(folder.join("probes.yaml"), probes).unwrap();
    let args = ["run", "ci/scenario.yaml", "--output", "sarif"];
    super::sluice_sim_in(&folder, &args)
}

/// Rule, file, line and message of a result.
fn told(result: &Value) -> (&str, &str, Option<u64>, &str) {
    let place = &result["locations"][0]["physicalLocation"];
    (
        result["ruleId"].as_str().unwrap(),
        place["artifactLocation"]["uri"].as_str().unwrap(),
        place["region"]["startLine"].as_u64(),
        result["message"]["text"].as_str().unwrap(),
    )
}

#[test]
fn a_run_is_sarif_with_what_failed_at_its_steps() {
    let steps = "  - wait: 1ms
  - probe: {from: shop/web, to: shop/cart, protocol: TCP, port: 8080, expect: deny}
  - expect:
      drops: {no-sa: some}
      answers: {allow: 7}
  - probes: ../probes.yaml
  - workload:
      - tcp: {from: shop/web, to: shop/cart, port: 8080, bytes: 1000, expect: deny}
";
    let ran = run_as_sarif("reports-run-sarif", steps);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let results = sarif(&ran.stdout);
    let file = "ci/scenario.yaml";
    let probe = "shop/web to shop/cart: expected deny, the frames showed allow";
    let of_file = format!("{probe} (../probes.yaml:3)");
    let all: Vec<_> = results.iter().map(told).collect();
    let expected = [
        ("SC001", file, Some(5), probe),
        (
            "SC005",
            file,
            Some(6),
            "0 frames were dropped for no-sa, some expected",
        ),
        ("SC005", file, Some(6), "1 probes were allowed, 7 expected"),
        ("SC001", file, Some(9), of_file.as_str()),
    ];
    assert_eq!(all[..4], expected);
    let (rule, _, line, what) = all[4];
    assert_eq!((all.len(), rule, line), (5, "SC005", Some(10)));
    assert!(
        what.contains("shop/web") && what.contains("denied"),
        "{what}"
    );
    let object = &results[1]["locations"][0]["logicalLocations"][0];
    assert_eq!(object["fullyQualifiedName"], "step 3: expect");
}

#[test]
fn a_run_as_expected_is_sarif_without_results() {
    let steps =
        "  - probe: {from: shop/web, to: shop/cart, protocol: TCP, port: 8080, expect: allow}
  - expect: {encrypted: all, drops: {no-sa: none}}
";
    let ran = run_as_sarif("reports-run-sarif-good", steps);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(sarif(&ran.stdout), [Value::Null; 0]);
    let ran = run_as_sarif("reports-run-sarif-bad", "  - frobnicate: {}\n");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""));
}

#[test]
fn the_validator_refuses_what_is_no_sarif() {
    let good = json!({"version": "2.1.0", "runs": []});
    let bad = json!({"version": "2.0.0", "runs": [{}]});
    let said = validate(&sarif_schema(), &[good, bad]);
    assert!(said.iter().all(Option::is_some), "{said:?}");
}
