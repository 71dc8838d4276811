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

/// A bundle whose one record is a flow from cart to the pod of node b, at this end.
fn to_far(name: &str, responder: &str, encryption: Value, change: impl FnOnce(&mut Value)) -> Ran {
    let path = changed(name, |bundle| {
        let mut flow = bundle["flows"]["flows"][0].clone();
        flow["dst"] = json!("10.1.1.2");
        flow["responder"] = json!(responder);
        bundle["flows"]["flows"] = json!([flow]);
        bundle["verdicts"] = json!([]);
        bundle["encryption"] = encryption;
        change(bundle);
    });
    sluice_sim(&["replay", text(&path), "--output", "json"])
}

#[test]
fn what_went_in_clear_goes_in_clear_again_by_the_bundles_own_setting() {
    let asked = |name: &str, responder: &str, encryption: Value| {
        let ran = to_far(name, responder, encryption, |_| {});
        let result = ran.json()["results"][0].clone();
        let way = result["now"]["way"].clone();
        (ran.code, way, result["same"].clone())
    };
    let (clear, sealed) = ("node b in clear", "node b");
    for (name, responder, default, code, way) in [
        ("replay-off", clear, "off", 0, "clear"),
        ("replay-required", clear, "required", 1, "esp"),
        ("replay-sealed", sealed, "preferred", 0, "esp"),
        ("replay-not-sealed", sealed, "off", 1, "clear"),
    ] {
        let setting = json!({"default": default, "loosest": default, "unprotected_nodes": []});
        let expected = (Some(code), json!(way), json!(code == 0));
        assert_eq!(asked(name, responder, setting), expected, "{name}");
    }
    // One that doesn't tell can't be compared.
    let untold = asked("replay-untold", clear, Value::Null);
    assert_eq!(untold, (Some(0), json!("esp"), json!(true)));
}

#[test]
fn a_node_without_a_dataplane_has_none_in_the_replay() {
    let asked = |name: &str, default: &str, denied: bool| {
        let unprotected = json!(["b"]);
        let setting =
            json!({"default": default, "loosest": default, "unprotected_nodes": unprotected});
        let ran = to_far(name, "node b in clear", setting, |bundle| {
            for object in bundle["objects"].as_array_mut().unwrap() {
                if object["kind"] == "Node" && object["metadata"]["name"] == "b" {
                    object["metadata"]["annotations"] = json!({});
                }
            }
            if denied {
                bundle["flows"]["flows"] = json!([]);
                bundle["verdicts"] = json!([{
                    "generation": 4, "port": "pf0vf0", "protocol": "tcp",
                    "src": "10.1.0.2", "src_port": 1, "dst": "10.1.1.2", "dst_port": 5432,
                    "denied": "unprotected", "egress": null, "ingress": null, "way": null,
                }]);
            }
        });
        let result = ran.json()["results"][0].clone();
        let now = &result["now"];
        let now = (now["verdict"].clone(), now["way"].clone());
        (ran.code, now, result["same"].clone())
    };
    let passed = (json!("allow"), json!("clear"));
    let stopped = (json!("deny"), Value::Null);
    let in_clear = asked("replay-unlisted", "preferred", false);
    assert_eq!(in_clear, (Some(0), passed.clone(), json!(true)));
    let dropped = asked("replay-unprotected", "required", true);
    assert_eq!(dropped, (Some(0), stopped, json!(true)));
    let not_dropped = asked("replay-protected", "preferred", true);
    assert_eq!(not_dropped, (Some(1), passed, json!(false)));
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
    let loose = changed("replay-loose", |bundle| {
        let (default, loosest) = ("off", "required");
        bundle["encryption"] =
            json!({"default": default, "loosest": loosest, "unprotected_nodes": []});
    });
    let broken = changed("replay-broken", |bundle| {
        bundle["objects"][0]["metadata"]["name"] = json!("a b");
    });
    for (path, why) in [
        (text(&newer), "version 2 of the bundle is not read"),
        (text(&loose), "the bundle's `encryption`: "),
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
