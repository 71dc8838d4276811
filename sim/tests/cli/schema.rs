//! The JSON schema of scenarios and the reader agree, as Python's jsonschema reads the schema.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sluice_dataplane_core::reason::DropReason;
use sluice_sim::input::load_scenario;
use sluice_sim::world::MARKS;

use super::reports::validate;
use super::{root, scratch, sluice_sim, text};

fn schema() -> Value {
    let ran = sluice_sim(&["schema"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    ran.json()
}

fn yaml(path: &Path) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn every_scenario_of_the_repository_is_valid() {
    let entries = fs::read_dir(root().join("sim/scenarios")).unwrap();
    let files: Vec<_> = entries.map(|it| it.unwrap().path()).collect();
    let files: Vec<_> = files
        .iter()
        .filter(|it| it.extension().is_some_and(|it| it == "yaml"))
        .collect();
    let values: Vec<_> = files.iter().map(|it| yaml(it)).collect();
    assert!(files.len() >= 40, "{}", files.len());
    for (file, said) in files.iter().zip(validate(&schema(), &values)) {
        assert_eq!(said, None, "{}", file.display());
    }
}

/// A scenario with every verb and field.
fn whole() -> Value {
    let manifests = root().join("sim/manifests");
    let path = |it: &str| text(&manifests.join(it)).to_owned();
    let mut whole = json!({
        "name": "whole",
        "description": "d",
        "seed": 7,
        "workers": {"node-a": 2, "node-b": 3},
        "algorithm": "aes128gcm16",
        "esn": true,
        "underlay": "ipv6",
        "udp_encap": true,
        "encryption": {"default": "preferred", "loosest": "off", "unprotected_nodes": ["node-b"]},
        "vfs": {"shop/web": 5},
        "flows_max": 1024,
        "sa": {"first": 7, "packets_max": 1_000_000},
        "drift_ppm": {"node-a": 200, "node-b": -200},
        "lanes": {"node-a": 2, "node-b": 32},
        "manifests": path("quickstart"),
        "steps": [
            {"apply": path("quickstart/policies.yaml")},
            {"delete": {"kind": "Pod", "namespace": "ops", "name": "toolbox"}},
            {"probe": {"from": "shop/web", "to": "shop/cart", "protocol": "TCP", "port": 8080, "family": "ipv4", "network": "a/b", "expect": "allow"}},
            {"probes": path("quickstart-probes.yaml")},
            {"matrix": {"protocol": "TCP", "port": "http", "family": "ipv6", "namespaces": ["shop"], "expect": "deny"}},
            {"wait": "500ms"},
            {"rekey": {}},
            {"fault": {"stale-watch": "node-b"}},
            {"heal": {"stale-watch": "node-b"}},
            {"expect": {"drops": {"no-sa": "none"}, "encrypted": "all", "cleartext_bytes": 0}},
            {"fault": {"loss": 1}},
            {"fault": {"duplication": 50}},
            {"fault": {"reordering": 50}},
            {"fault": {"corruption": 100}},
            {"fault": {"delay": "50ms"}},
            {"fault": {"partition": ["node-a", "node-b"]}},
            {"heal": {"partition": ["node-a", "node-b"]}},
            {"heal": "loss"},
            {"heal": "all"},
            {"kill": {"dataplane": "node-a"}},
            {"restart": {"agent": "node-a"}},
            {"spoof": {"from": "shop/web", "as": "shop/cart", "to": "203.0.113.9", "protocol": "UDP", "port": 80, "family": "ipv4"}},
            {"replay": 1000},
            {"probe": {"from": "shop/web", "to": "shop/cart", "protocol": "UDP", "port": 80, "source_port": 60000}},
        ],
    });
    whole["pod_cidrs"] = json!(["10.244.0.0/14", "fd10:244::/48"]);
    let steps = whole["steps"].as_array_mut().unwrap();
    steps.extend(more_steps());
    whole
}

/// Steps 24 and on: in a list of their own, as a macro has its bounds.
fn more_steps() -> Vec<Value> {
    let Value::Array(mut first) = json!([
        {"patch": {"kind": "Pod", "namespace": "shop", "name": "web", "labels": {"a": "b", "c": null}}},
        {"scale": {"kind": "Deployment", "namespace": "shop", "name": "web", "replicas": 200}},
        {"apply": {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new"}}},
        {"apply": [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new"}}]},
        {"rekey": {"times": 1000}},
        {"wait": "24h"},
        {"fault": "api-away"},
    ]) else {
        unreachable!("it is a list");
    };
    let Value::Array(second) = json!([
        {"fault": {"api-gone": "node-a"}},
        {"fault": {"partial-list": "node-a"}},
        {"fault": {"stalled": {"agent": "node-a"}}},
        {"fault": {"slow-disk": "node-a"}},
        {"fault": {"second-agent": "node-a"}},
        {"fault": {"clock-jump": {"node": "node-a", "back": "24h"}}},
        {"fault": {"corrupted-checkpoint": "node-a"}},
        {"heal": "api-away"},
        {"heal": {"api-gone": "node-a"}},
        {"heal": {"partial-list": "node-a"}},
        {"heal": {"stalled": {"agent": "node-a"}}},
        {"heal": {"slow-disk": "node-a"}},
        {"heal": {"second-agent": "node-a"}},
        {"kill": "api"},
        {"restart": {"node": "node-a"}},
        {"replace": "node-a"},
        {"attack": {"by": "syn-flood", "from": "shop/web", "to": "shop/cart", "port": 80, "frames": 10_000, "family": "ipv6"}},
        {"attack": {"by": "neighbor-advert", "from": "shop/web", "as": "node:node-a"}},
        {"attack": {"by": "dhcp-offer", "from": "shop/web"}},
        {"expect": {"node": "node-a", "drops": {"no-sa": 3}, "answers": {"allow": "some", "deny": 2}, "settled_within": "5s", "marks": {"held": "none"}}},
    ]) else {
        unreachable!("it is a list");
    };
    first.extend(second);
    first.push(json!({"workload": [
            {"tcp": {"from": "shop/web", "to": "shop/cart", "port": "http", "family": "ipv4", "bytes": 1, "expect": "allow"}},
            {"udp": {"from": "shop/web", "to": "shop/cart", "port": 9, "packets": 1, "rate": 1, "sizes": "imix"}},
            {"udp": {"from": "shop/web", "to": "shop/cart", "port": 9, "packets": 1, "rate": 1, "sizes": [64, 1518], "may_lose": 0}},
            {"pcap": {"file": text(&root().join("sim/captures/database.pcap")), "from": "shop/web", "map": {"192.0.2.10": "shop/web"}}},
            {"connection": {"name": "c", "from": "shop/web", "to": "shop/cart", "port": 80, "family": "ipv4", "bytes": 1, "for": "5s", "expect": "allow"}},
        ]}));
    first.push(json!({"send": {"from": "shop/web", "to": "shop/cart", "protocol": "UDP", "port": 80, "family": "ipv4", "size": 9_000, "fragment": 1400}}));
    let kinds = ["pods", "policies"];
    first.push(json!({"fault": {"stale-kinds": {"node": "node-b", "kinds": kinds}}}));
    first.push(json!({"heal": {"stale-kinds": "node-b"}}));
    first.push(json!({"fault": "ca-away"}));
    first.push(json!({"heal": "ca-away"}));
    first.push(json!({"fault": {"wrong-certificate": {"node": "node-a", "of": "node-b"}}}));
    first.push(json!({"fault": {"wrong-certificate": {"node": "node-a"}}}));
    first.push(json!({"heal": {"wrong-certificate": "node-a"}}));
    first
}

/// Whether the reader takes it. What can't be played is another matter.
fn reads(folder: &Path, scenario: &Value) -> bool {
    let file = folder.join("scenario.json");
    fs::write(&file, scenario.to_string()).unwrap();
    load_scenario(&file).is_ok()
}

/// What is called so, and the whole with a change.
fn changed(name: &str, change: impl FnOnce(&mut Value)) -> (String, Value) {
    let mut scenario = whole();
    change(&mut scenario);
    (name.to_owned(), scenario)
}

/// Both must say the same of all of these.
fn both_say(expected: bool, folder: &str, scenarios: &[(String, Value)]) {
    let folder = scratch(folder);
    let values: Vec<_> = scenarios.iter().map(|it| it.1.clone()).collect();
    for ((name, value), said) in scenarios.iter().zip(validate(&schema(), &values)) {
        assert_eq!(said.is_none(), expected, "the schema on {name}: {said:?}");
        assert_eq!(reads(&folder, value), expected, "the reader on {name}");
    }
}

#[test]
fn both_take_every_field_and_those_that_may_be_missing() {
    let least = |it: &mut Value| {
        let kept = ["name", "manifests", "steps"];
        let fields = it.as_object_mut().unwrap();
        fields.retain(|key, _| kept.contains(&key.as_str()));
    };
    let least_of_steps = |it: &mut Value| {
        it["steps"] = json!([
            {"delete": {"kind": "ClusterNetworkPolicy", "name": "a"}},
            {"probe": {"from": "a/b", "to": "c/d", "protocol": "ICMP"}},
            {"matrix": {"protocol": "ICMP"}},
            {"expect": {}},
        ]);
    };
    let good = [
        changed("the whole", |_| {}),
        changed("no steps", |it| it["steps"] = json!([])),
        changed("the least", least),
        changed("the least of steps", least_of_steps),
    ];
    both_say(true, "schema-good", &good);
}

#[test]
fn both_refuse_unknown_keys_everywhere() {
    let objects = [
        "",
        "/sa",
        "/steps/24/patch",
        "/steps/25/scale",
        "/steps/28/rekey",
        "/steps/33/fault/stalled",
        "/steps/36/fault/clock-jump",
        "/steps/39/heal",
        "/steps/47/attack",
        "/steps/50/expect/answers",
        "/steps/52/send",
        "/steps/1/delete",
        "/steps/2/probe",
        "/steps/4/matrix",
        "/steps/6/rekey",
        "/steps/9/expect",
        "/steps/10/fault",
        "/steps/19/kill",
        "/steps/21/spoof",
        "/steps/51/workload/0/tcp",
        "/steps/51/workload/1/udp",
        "/steps/51/workload/3/pcap",
        "/steps/51/workload/4/connection",
        "/steps/53/fault/stale-kinds",
        "/steps/57/fault/wrong-certificate",
    ];
    let with = |at: &str| changed(at, |it| it.pointer_mut(at).unwrap()["unknown"] = json!(1));
    both_say(false, "schema-unknown", &objects.map(with));
}

#[test]
fn both_refuse_what_is_wrong() {
    let wrong: [(&str, Value); 58] = [
        ("/seed", json!(-1)),
        ("/workers", json!(33)),
        ("/algorithm", json!("des")),
        ("/underlay", json!("ipv5")),
        ("/vfs", json!({"web": 1})),
        ("/vfs", json!({"a/b": 70000})),
        ("/steps/0", json!({"frobnicate": {}})),
        ("/steps/0", json!("rekey")),
        ("/steps/1/delete/kind", json!("Service")),
        ("/steps/2/probe/port", json!(0)),
        ("/steps/2/probe/port", json!("80")),
        ("/steps/2/probe/protocol", json!("tcp")),
        ("/steps/4/matrix/family", json!("v4")),
        ("/steps/5/wait", json!("5m")),
        ("/steps/7/fault", json!({"fire": "node-b"})),
        ("/steps/9/expect/drops", json!({"policy": "some"})),
        ("/steps/10/fault", json!({"loss": 0})),
        ("/steps/10/fault", json!({"loss": 101})),
        ("/steps/10/fault", json!({"partition": ["node-a"]})),
        ("/steps/17/heal", json!("nothing")),
        ("/steps/18/heal", json!({"loss": 1})),
        ("/steps/19/kill", json!({"pod": "node-a"})),
        ("/steps/22/replay", json!(0)),
        ("/steps/23/probe/source_port", json!(80)),
        ("/flows_max", json!(63)),
        ("/sa/first", json!(0)),
        ("/drift_ppm/node-a", json!(100_001)),
        ("/lanes/node-a", json!(33)),
        ("/steps/24/patch/labels/a", json!(["b"])),
        ("/steps/25/scale/replicas", json!(201)),
        ("/steps/27/apply", json!([])),
        ("/steps/28/rekey/times", json!(0)),
        ("/steps/29/wait", json!("1d")),
        ("/steps/30/fault", json!("api-gone")),
        ("/steps/33/fault/stalled", json!({"node": "node-a"})),
        (
            "/steps/36/fault/clock-jump",
            json!({"node": "node-a", "back": "1s", "forward": "1s"}),
        ),
        ("/steps/44/kill", json!("apis")),
        ("/steps/47/attack/frames", json!(0)),
        (
            "/steps/48/attack",
            json!({"by": "neighbor-advert", "from": "a/b", "to": "a/c"}),
        ),
        ("/steps/49/attack/by", json!("arp")),
        ("/steps/50/expect/drops/no-sa", json!("many")),
        ("/steps/52/send/size", json!(9_001)),
        ("/steps/52/send/fragment", json!(12)),
        ("/steps/50/expect", json!({"node": "node-a"})),
        ("/steps/50/expect/marks", json!({"fire": 1})),
        ("/steps/51/workload", json!([])),
        ("/steps/51/workload/0", json!({"sctp": {}})),
        ("/steps/51/workload/0/tcp/bytes", json!(4_194_305)),
        ("/steps/51/workload/4/connection/name", json!("")),
        ("/steps/51/workload/4/connection/for", json!("5m")),
        ("/steps/51/workload/1/udp/rate", json!(0)),
        ("/steps/51/workload/1/udp/sizes", json!("jumbo")),
        ("/steps/51/workload/2/udp/sizes", json!([63])),
        ("/steps/53/fault/stale-kinds/kinds", json!([])),
        ("/steps/53/fault/stale-kinds/kinds", json!(["ingresses"])),
        ("/steps/55/fault", json!({"ca-away": "node-a"})),
        ("/steps/57/fault/wrong-certificate", json!({"of": "node-b"})),
        (
            "/steps/59/heal",
            json!({"wrong-certificate": {"node": "node-a"}}),
        ),
    ];
    let put = |(at, value): (&str, Value)| changed(at, |it| *it.pointer_mut(at).unwrap() = value);
    both_say(false, "schema-wrong", &wrong.map(put));
}

#[test]
fn the_schema_knows_every_mark() {
    let schema = schema();
    let known = schema.pointer("/$defs/expect/properties/marks/propertyNames/enum");
    let all: Vec<_> = MARKS.iter().map(|it| Value::from(*it)).collect();
    assert_eq!(known.unwrap().as_array().unwrap(), &all);
}

#[test]
fn the_schema_knows_every_reason_for_a_drop() {
    let schema = schema();
    let known = schema
        .pointer("/$defs/expect/properties/drops/propertyNames/enum")
        .unwrap();
    let all: Vec<_> = DropReason::ALL
        .iter()
        .map(|it| Value::from(it.name()))
        .collect();
    let known = known.as_array().unwrap();
    let missing: Vec<_> = all.iter().filter(|it| !known.contains(it)).collect();
    assert!(
        missing.is_empty() && known.len() == all.len(),
        "missing: {missing:?}"
    );
}
