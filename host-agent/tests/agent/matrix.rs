//! `sluicectl sa --matrix`: how what passes between nodes crosses the wire, and what was in
//! clear.

use serde_json::{Value, json};

use crate::rig::plane::{PlaneHandle, UPLINK, VF0};
use crate::rig::{CART, NODES, Node, syn, until};

/// cart may speak in clear, and so may far; near and safe say nothing.
const PODS: &str = "
apiVersion: v1
kind: Pod
metadata:
  namespace: shop
  name: cart
  uid: u-1
  labels: {app: cart}
  annotations: {sluice.dev/encryption: 'off'}
spec: {nodeName: a}
status: {podIPs: [{ip: 10.1.0.2}]}
---
apiVersion: v1
kind: Pod
metadata:
  namespace: shop
  name: far
  uid: u-3
  labels: {app: far}
  annotations: {sluice.dev/encryption: 'off'}
spec: {nodeName: b}
status: {podIPs: [{ip: 10.1.1.2}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: safe, uid: u-4, labels: {app: safe}}
spec: {nodeName: b}
status: {podIPs: [{ip: 10.1.1.3}]}
";

fn node() -> (Node, PlaneHandle) {
    let mut node = Node::new(&[("a.yaml", NODES), ("b.yaml", PODS)]);
    node.configure_more("encryption: {loosest: off}\n");
    let plane = node.start_dataplane();
    node.start_agent();
    node.wait_in_step();
    assert_eq!(node.add(&CART).code, 0);
    plane.reach("b", [172, 16, 0, 2], [172, 16, 0, 1]);
    (node, plane)
}

/// From cart to a pod, as the matrix has it.
fn pair(matrix: &Value, to: &str) -> Value {
    let pairs = matrix["pairs"].as_array().unwrap().iter();
    let mut its = pairs
        .filter(|it| it["from"]["pods"] == json!(["shop/cart"]) && it["to"]["pods"] == json!([to]));
    let found = its
        .next()
        .unwrap_or_else(|| panic!("{to} is not in {matrix}"));
    assert!(its.next().is_none());
    found.clone()
}

#[test]
fn what_was_in_clear_is_in_the_matrix_and_what_was_in_esp_is_there_as_that() {
    let (node, plane) = node();
    for port in [1, 2, 3] {
        let clear = syn("10.1.0.2", "10.1.1.2", port, 80);
        assert_eq!(plane.exchange(VF0, clear), [UPLINK]);
    }
    let sealed = syn("10.1.0.2", "10.1.1.3", 1, 80);
    assert_eq!(plane.exchange(VF0, sealed), [UPLINK]);

    let json = node.ctl(&["sa", "--matrix", "--output", "json"]);
    assert_eq!(json.code, 0, "{json:?}");
    let matrix = json.json();
    let clear = pair(&matrix, "shop/far");
    for (field, value) in [
        ("way", json!("clear")),
        ("setting", json!("off")),
        ("direction", json!("outbound")),
        ("node", json!("b")),
        ("algorithm", Value::Null),
        ("flows", json!(3)),
        ("clear_packets", json!(3)),
        ("clear_bytes", json!(3 * 40)),
    ] {
        assert_eq!(clear[field], value, "{field} of {clear}");
    }
    let sealed = pair(&matrix, "shop/safe");
    for (field, value) in [
        ("way", json!("esp")),
        ("setting", json!("required")),
        ("algorithm", json!("aes-256-gcm-16")),
        ("flows", json!(1)),
        ("clear_packets", json!(0)),
        ("clear_bytes", json!(0)),
    ] {
        assert_eq!(sealed[field], value, "{field} of {sealed}");
    }
    assert_eq!(
        (&matrix["left_out"], &matrix["other_clear_packets"]),
        (&json!(0), &json!(0))
    );

    let table = node.ctl(&["sa", "--matrix"]);
    let line = table
        .out
        .lines()
        .find(|it| it.contains("shop/far shop{app=far"));
    let words: Vec<_> = line.unwrap().split_whitespace().collect();
    assert!(
        words.ends_with(&["outbound", "off", "clear", "-", "-", "3", "3", "120"]),
        "{words:?}"
    );
}

#[test]
fn a_setting_looser_than_the_default_is_in_the_agents_log_once() {
    let (node, _plane) = node();
    let told = || {
        let log = node.log();
        let lines = log
            .lines()
            .filter(|it| it.contains("looser than the cluster's default"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    until("both are told of", || told().len() == 2);
    for app in ["cart", "far"] {
        let its = |line: &String| line.contains(&format!("app={app}"));
        assert_eq!(
            told().iter().filter(|it| its(it)).count(),
            1,
            "{:?}",
            told()
        );
    }
    // Another generation says nothing new of it.
    let far = PODS.replace("{app: safe}", "{app: safer}");
    node.put("b.yaml", &far);
    until("it is in force", || {
        node.ctl(&["trace", "shop/cart", "shop/safe", "--port", "1"])
            .out
            .contains("app=safer")
    });
    node.wait_in_step();
    assert_eq!(told().len(), 2, "{:?}", told());
}
