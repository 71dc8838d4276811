//! `diff`: what it prints, with which exit code, and what it refuses.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Ran, scratch, sluice_sim, text};

const DEPLOYMENTS: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec: {template: {metadata: {labels: {app: web}}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec:
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{ports: [{name: sql, containerPort: 5432}]}]}
";

/// Two folders: the database's port is what differs.
fn folders(name: &str) -> (String, String) {
    let folder = scratch(name);
    let one = |name: &str, port: u16| {
        let folder = folder.join(name);
        fs::create_dir_all(&folder).unwrap();
        let policy = format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: db, namespace: shop}}\n\
             spec: {{podSelector: {{matchLabels: {{app: db}}}}, ingress: [{{from: [{{podSelector: {{matchLabels: {{app: web}}}}}}], ports: [{{port: {port}}}]}}]}}\n"
        );
        fs::write(folder.join("policy.yaml"), policy).unwrap();
        fs::write(folder.join("apps.yaml"), DEPLOYMENTS).unwrap();
        text(&folder).to_owned()
    };
    (one("before", 5432), one("after", 5433))
}

fn diff(name: &str, more: &[&str]) -> Ran {
    let (before, after) = folders(name);
    let mut args = vec!["diff", "--before", &before, "--after", &after];
    args.extend(more);
    sluice_sim(&args)
}

#[test]
fn templates_are_compared_by_workload_and_port() {
    let ran = diff("diff-json", &["--output", "json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(!ran.stderr.contains("ignored"), "{}", ran.stderr);
    let json = ran.json();
    let workload = |name: &str| json!({"kind": "workload", "namespace": "shop", "name": name});
    let change = |now: &str, port: u16, before: &str, after: &str| {
        json!({
            "from": workload("web"),
            "to": workload("db"),
            "now": now,
            "cause": "changed",
            "families": ["ipv4", "ipv6"],
            "flows": [{"protocol": "TCP", "first": port, "last": port}],
            "rules_before": [before],
            "rules_after": [after],
        })
    };
    let (rule, isolates) = ("shop/db ingress[0]", "shop/db isolates ingress");
    let expected = [
        change("allowed", 5433, isolates, rule),
        change("denied", 5432, rule, isolates),
    ];
    assert_eq!(json["changes"], Value::from(expected.to_vec()));
    assert_eq!(
        (&json["newly_allowed"], &json["newly_denied"]),
        (&1.into(), &1.into())
    );
    assert!(json.get("flows").is_none());
    let (again, _) = (diff("diff-again", &["--output", "json"]), ());
    assert_eq!(again.stdout, ran.stdout);
}

#[test]
fn the_table_says_the_same() {
    let ran = diff("diff-table", &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for part in [
        "newly allowed",
        "newly denied",
        "shop/web",
        "TCP 5433",
        "TCP 5432",
    ] {
        assert!(ran.stdout.contains(part), "no {part} in {}", ran.stdout);
    }
}

#[test]
fn fail_on_is_exit_1_with_the_result() {
    for (what, more) in [
        ("allowed", None),
        ("denied", None),
        ("any", None),
        ("allowed", Some("--existing")),
    ] {
        let mut args = vec!["--fail-on", what, "--output", "json"];
        args.extend(more);
        let ran = diff("diff-fail", &args);
        assert_eq!(ran.code, Some(1), "{what} {}", ran.stderr);
        assert_eq!(ran.json()["newly_allowed"], 1);
    }
    let (before, _) = folders("diff-same");
    let same = sluice_sim(&[
        "diff",
        "--before",
        &before,
        "--after",
        &before,
        "--fail-on",
        "any",
    ]);
    assert_eq!(same.code, Some(0), "{}", same.stdout);
    assert!(
        same.stdout.contains("No flow is allowed in one folder"),
        "{}",
        same.stdout
    );
}

#[test]
fn what_comes_can_be_left_out() {
    let (before, after) = folders("diff-added");
    let more = DEPLOYMENTS
        .replace("name: web", "name: new")
        .replace("app: web", "app: new");
    fs::write(
        Path::new(&after).join("more.yaml"),
        more.split("---").next().unwrap(),
    )
    .unwrap();
    let args = [
        "diff", "--before", &before, "--after", &after, "--output", "json",
    ];
    let causes = |ran: &Ran| -> Vec<String> {
        let changes = ran.json()["changes"].as_array().unwrap().clone();
        changes
            .iter()
            .map(|it| it["cause"].as_str().unwrap().to_owned())
            .collect()
    };
    assert!(causes(&sluice_sim(&args)).contains(&"added".to_owned()));
    let existing = [&args[..], &["--existing"]].concat();
    assert_eq!(causes(&sluice_sim(&existing)), ["changed", "changed"]);
}

/// `diff` with recorded flows.
fn with_flows(name: &str, file: &str, flows: &str) -> Ran {
    let path = scratch(&format!("{name}-flows")).join(file);
    fs::write(&path, flows).unwrap();
    diff(name, &["--flows", text(&path), "--output", "json"])
}

#[test]
fn recorded_flows_that_would_break_are_exit_1() {
    let lines = "\
{\"from\": \"shop/web\", \"to\": \"shop/db\", \"protocol\": \"TCP\", \"port\": 5432}

{\"from\": \"shop/web\", \"to\": \"shop/db\", \"protocol\": \"TCP\", \"port\": \"sql\"}
{\"from\": \"shop/db\", \"to\": \"192.0.2.1\", \"protocol\": \"ICMP\"}
";
    let ran = with_flows("diff-lines", "flows.jsonl", lines);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let json = ran.json();
    let told: Vec<_> = json["flows"].as_array().unwrap().iter().collect();
    let fates: Vec<_> = told
        .iter()
        .map(|it| (it["line"].as_u64().unwrap(), it["fate"].as_str().unwrap()))
        .collect();
    assert_eq!(fates, [(1, "breaks"), (3, "breaks"), (4, "allowed")]);
    assert_eq!(told[0]["rule_after"], "shop/db isolates ingress");
    assert_eq!(json["broken"], 2);

    let yaml = "flows:\n  - {from: shop/db, to: shop/web, protocol: UDP, port: 53}\n";
    let ran = with_flows("diff-yaml", "flows.yaml", yaml);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.json()["flows"][0]["fate"], "allowed");
}

#[test]
fn bad_flows_are_exit_2_at_their_line() {
    for (n, (file, flows, parts)) in [
        ("f.yaml", "flows:\n  - {from: shop/web, to: db, protocol: TCP, port: 1}\n", ["f.yaml:2:", "is not namespace/pod"]),
        ("f.yaml", "flows:\n  - {from: shop/web, to: shop/db, protocol: TCP}\n", ["f.yaml:2:", "port is missing"]),
        ("f.yaml", "flows: []\n", ["f.yaml:1:", "no flows"]),
        ("f.jsonl", "{\"from\": \"shop/web\", \"to\": \"shop/db\", \"protocol\": \"ICMP\"}\n{\"from\": 1}\n", ["f.jsonl:2:", "invalid type"]),
        ("f.jsonl", "{\"from\": \"shop/web\", \"to\": \"shop/db\", \"protocol\": \"ICMP\", \"x\": 1}\n", ["f.jsonl:1:", "unknown field `x`"]),
        ("f.yaml", "flows:\n  - {from: shop/ghost, to: shop/db, protocol: TCP, port: 1}\n", ["f.yaml:2:", "no folder has both shop/ghost and shop/db"]),
        ("f.yaml", "flows:\n  - {from: shop/web, to: shop/db, protocol: TCP, port: http}\n", ["f.yaml:2:", "a port of that name"]),
    ]
    .into_iter()
    .enumerate()
    {
        let ran = with_flows(&format!("diff-bad-{n}"), file, flows);
        assert_eq!(ran.code, Some(2), "{}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.is_empty());
        for part in parts {
            assert!(ran.stderr.contains(part), "no `{part}` in {}", ran.stderr);
        }
    }
}
