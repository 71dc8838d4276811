//! `replay` of a bundle that an agent has made (host-agent/tests/agent/bundle.rs keeps it).

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Ran, root, scratch, sluice_sim, text};

const BUNDLE: &str = "sim/tests/incident/bundle.json";

/// Allows what the bundle's policy denies, and the other way round.
const OTHER: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: other}
spec: {podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 80}]}]}
";

fn replay(more: &[&str]) -> Ran {
    sluice_sim(&[&["replay", BUNDLE, "--output", "json"][..], more].concat())
}

/// The bundle with something changed.
fn changed(name: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
    let bundle = fs::read_to_string(root().join(BUNDLE)).unwrap();
    let mut bundle: Value = serde_json::from_str(&bundle).unwrap();
    change(&mut bundle);
    let path = scratch(name).join("bundle.json");
    fs::write(&path, bundle.to_string()).unwrap();
    path
}

#[test]
fn a_bundle_of_a_node_is_answered_as_the_node_did() {
    let ran = replay(&[]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let record = ran.json();
    assert_eq!(record["differences"], 0);
    let results = record["results"].as_array().unwrap();
    // The flow is the first verdict's.
    let told: Vec<_> = results
        .iter()
        .map(|it| (&it["from"], &it["to"], &it["port"], &it["now"]["verdict"]))
        .collect();
    let (cart, db) = (json!("shop/cart"), json!("shop/db"));
    let (allow, deny) = (json!("allow"), json!("deny"));
    let expected = [
        (&cart, &db, &json!(5432), &allow),
        (&cart, &db, &json!(80), &deny),
        (&cart, &json!("192.0.2.7"), &json!(53), &deny),
    ];
    assert_eq!(told, expected);
    assert!(results.iter().all(|it| it["same"] == true), "{results:?}");
    assert_eq!(ran.stdout, replay(&[]).stdout);
}

#[test]
fn other_policies_show_what_they_would_have_changed() {
    let path = scratch("replay-other").join("policies.yaml");
    fs::write(&path, OTHER).unwrap();
    let ran = replay(&["--policies", text(&path)]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let record = ran.json();
    let results = record["results"].as_array().unwrap();
    let same: Vec<_> = results.iter().map(|it| it["same"].clone()).collect();
    assert_eq!(same, [json!(false), json!(false), json!(true)]);
    let table = sluice_sim(&["replay", BUNDLE, "--policies", text(&path)]);
    assert!(
        table
            .stdout
            .contains("1 as recorded, 2 differ, 0 not judged"),
        "{}",
        table.stdout
    );
    assert!(
        table.stdout.contains("under other policies"),
        "{}",
        table.stdout
    );
}

#[test]
fn a_verdict_that_the_objects_do_not_explain_is_told() {
    let path = changed("replay-wrong", |bundle| {
        bundle["verdicts"][1]["denied"] = Value::Null;
        bundle["verdicts"][2]["egress"] = json!("shop/somebody-else");
        bundle["verdicts"][0]["denied"] = json!("no-sa");
    });
    let ran = sluice_sim(&["replay", text(&path), "--output", "json"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let record = ran.json();
    assert_eq!(
        (&record["differences"], &record["unjudged"]),
        (&json!(2), &json!(1))
    );
    let notes = record["results"].to_string();
    assert!(
        notes.contains("not `shop/somebody-else`") && notes.contains("no-sa"),
        "{notes}"
    );
}

#[test]
fn records_that_make_no_question_are_counted() {
    let path = changed("replay-left-out", |bundle| {
        bundle["verdicts"][1]["protocol"] = json!("47");
        bundle["verdicts"][2]["src"] = json!("198.51.100.1");
        bundle["flows"]["flows"] = json!([]);
    });
    let ran = sluice_sim(&["replay", text(&path), "--output", "json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let record = ran.json();
    let left_out: Vec<_> = record["left_out"].as_object().unwrap().values().collect();
    assert_eq!(left_out, [&json!(1), &json!(1)]);
    assert_eq!(record["results"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_no_bundle_is_bad_input() {
    let newer = changed("replay-newer", |bundle| bundle["version"] = json!(2));
    let broken = changed("replay-broken", |bundle| {
        bundle["objects"][0]["metadata"]["name"] = json!("a b");
    });
    for (path, why) in [
        (text(&newer), "version 2 of the bundle is not read"),
        (text(&broken), "the bundle's objects: "),
        ("sim/scenarios/quickstart.yaml", "not a bundle"),
        ("nowhere.json", "nowhere.json"),
    ] {
        let ran = sluice_sim(&["replay", path]);
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        assert!(
            ran.stderr.contains(why) && ran.stdout.is_empty(),
            "{}",
            ran.stderr
        );
    }
}
