//! Manifests that change, and manifests that are broken.

use std::fs;

use serde_json::Value;

use crate::rig::plane::{VF0, VF1};
use crate::rig::{ALLOW, CART, DB, DENY, NODES, Node, PODS, syn, until};

#[test]
fn a_policy_file_takes_effect_when_it_comes_and_when_it_goes() {
    let (node, plane) = Node::running(&[("a.yaml", NODES), ("b.yaml", PODS)]);
    for pod in [&CART, &DB] {
        assert_eq!(node.add(pod).code, 0);
    }
    let flow = || plane.exchange(VF0, syn("10.1.0.2", "10.1.0.3", 1, 80));
    assert_eq!(flow(), [VF1]);
    node.put("deny.yaml", DENY);
    until("the flow that runs is stopped", || flow().is_empty());
    assert!(plane.dropped(VF0, "policy-egress") > 0);
    node.remove("deny.yaml");
    until("it passes again", || flow() == [VF1]);
    node.wait_in_step();
    assert_eq!(node.ctl(&["status"]).code, 0);
}

#[test]
fn a_broken_manifest_changes_nothing_and_is_named_by_its_line() {
    let (mut node, plane) = Node::running(&[("a.yaml", NODES), ("b.yaml", PODS), ("c.yaml", DENY)]);
    assert_eq!(node.add(&CART).code, 0);
    let before = plane.state();
    node.put("c.yaml", "kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata: {name: x}\nspec: {podSelectors: {}}\n");
    until("it is told", || node.status()["source"]["faults"] == 1);
    let status = node.ctl(&["status"]);
    assert_eq!(status.code, 1);
    assert!(
        status.out.contains("problem: manifests: c.yaml:4:"),
        "{}",
        status.out
    );
    assert!(
        status.out.contains("the last good ones stay in force"),
        "{}",
        status.out
    );
    assert_eq!(plane.state(), before);
    assert!(
        plane
            .exchange(VF0, syn("10.1.0.2", "10.1.0.3", 1, 80))
            .is_empty()
    );

    // An agent that starts with it sends nothing at all.
    node.kill_agent();
    node.start_agent();
    until("it is connected", || {
        let status = node.ctl(&["status", "--output", "json"]);
        status.code < 2 && status.json()["agent"]["connected"] == true
    });
    until("the fault is told", || {
        node.status()["source"]["faults"] == 1
    });
    let refused = node.add(&DB);
    assert_eq!(refused.code, 1);
    assert!(
        refused.json()["details"]
            .as_str()
            .unwrap()
            .contains("c.yaml:4:"),
        "{refused:?}"
    );
    assert_eq!(plane.state(), before);

    node.put("c.yaml", ALLOW);
    node.wait_in_step();
    assert_eq!(node.ctl(&["status"]).code, 0);
    assert_eq!(node.add(&DB).code, 0);
    assert_eq!(
        plane.exchange(VF0, syn("10.1.0.2", "10.1.0.3", 2, 5432)),
        [VF1]
    );
}

#[test]
fn verdicts_are_logged_with_pod_peer_rule_and_reason() {
    let (node, plane) = Node::running(&[("a.yaml", NODES), ("b.yaml", PODS), ("c.yaml", ALLOW)]);
    for pod in [&CART, &DB] {
        assert_eq!(node.add(pod).code, 0);
    }
    let lines = || {
        let text = fs::read_to_string(node.path("verdicts.jsonl")).unwrap();
        let lines = text
            .lines()
            .filter_map(|it| serde_json::from_str::<Value>(it).ok());
        lines.collect::<Vec<_>>()
    };
    let mut src_port = 1;
    until("both verdicts are logged", || {
        // The log's stream may begin after the agent is in step.
        plane.exchange(VF0, syn("10.1.0.2", "10.1.0.3", src_port, 80));
        plane.exchange(VF0, syn("10.1.0.2", "10.1.0.3", src_port, 5432));
        src_port += 1;
        lines().iter().filter(|it| it["pod"] == "shop/cart").count() >= 2
    });
    let lines = lines();
    let find = |verdict: &str| lines.iter().find(|it| it["verdict"] == verdict).unwrap();
    let denied = find("deny");
    assert_eq!(
        (&denied["reason"], &denied["peer"]),
        (&"policy-egress".into(), &"shop/db".into())
    );
    assert_eq!(
        (&denied["dst_port"], &denied["port"]),
        (&80.into(), &"pf0vf0".into())
    );
    assert!(
        denied["rule"].as_str().unwrap().contains("shop/allow-db"),
        "{denied}"
    );
    let allowed = find("allow");
    assert_eq!(
        (&allowed["reason"], &allowed["dst_port"]),
        (&Value::Null, &5432.into())
    );
    until("the rest is suppressed and counted", || {
        for _ in 0..50 {
            src_port += 1;
            plane.exchange(VF0, syn("10.1.0.2", "10.1.0.3", src_port, 80));
        }
        node.status()["verdict_log"]["suppressed"].as_u64() > Some(0)
    });
}
