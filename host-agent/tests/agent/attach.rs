//! CNI ADD, DEL and CHECK.

use serde_json::{Value, json};

use crate::rig::plane::{VF0, VF1};
use crate::rig::{ALLOW, CART, DB, DENY, NODES, Node, PODS, Pod, syn, until};

#[test]
fn under_default_deny_the_first_packet_after_add_is_judged() {
    let (node, plane) = Node::running(&[("a.yaml", NODES), ("b.yaml", PODS), ("c.yaml", DENY)]);
    assert!(
        plane
            .exchange(VF0, syn("10.1.0.2", "10.1.0.3", 1, 5432))
            .is_empty()
    );
    assert_eq!(plane.dropped(VF0, "no-endpoint"), 1);

    let added = node.add(&CART);
    // Nothing in between: what ADD promises holds when it returns.
    let reached = plane.exchange(VF0, syn("10.1.0.2", "10.1.0.3", 1, 5432));
    assert_eq!(added.code, 0, "{added:?}");
    assert!(reached.is_empty());
    assert_eq!(plane.dropped(VF0, "policy-egress"), 1);
    assert_eq!(plane.dropped(VF0, "no-endpoint"), 1);
    assert_eq!(added.json(), node.cni_config(&CART)["prevResult"]);
}

#[test]
fn add_returns_when_the_dataplane_has_acknowledged_and_not_before() {
    let (node, plane) = Node::running(&[("a.yaml", NODES), ("b.yaml", PODS), ("c.yaml", ALLOW)]);
    plane.set_stuck(true);
    let mut adding = node.cni_begun("ADD", &CART, &node.cni_config(&CART));
    until("a generation is on its way", || {
        !node.status()["agent"]["in_flight"].is_null()
    });
    // A second pod comes meanwhile: that generation knows nothing of it.
    let mut second = node.cni_begun("ADD", &DB, &node.cni_config(&DB));
    until("both are attached", || {
        node.status()["agent"]["attached"] == 2
    });
    for it in [&mut adding, &mut second] {
        assert!(
            it.try_wait().unwrap().is_none(),
            "ADD has returned without an Ack"
        );
    }
    plane.set_stuck(false);
    assert!(second.wait().unwrap().success());
    let reached = plane.exchange(VF1, syn("10.1.0.3", "10.1.0.2", 1, 80));
    assert!(reached.is_empty());
    assert_eq!(plane.dropped(VF1, "policy-egress"), 1);
    assert!(adding.wait().unwrap().success());
}

#[test]
fn pods_that_may_talk_do_so_from_add_to_del() {
    let (node, plane) = Node::running(&[("a.yaml", NODES), ("b.yaml", PODS), ("c.yaml", ALLOW)]);
    for pod in [&CART, &DB] {
        assert_eq!(node.add(pod).code, 0);
    }
    assert_eq!(
        plane.exchange(VF0, syn("10.1.0.2", "10.1.0.3", 1, 5432)),
        [VF1]
    );
    assert!(
        plane
            .exchange(VF0, syn("10.1.0.2", "10.1.0.3", 2, 80))
            .is_empty()
    );
    let checked = node.cni("CHECK", &CART, &node.cni_config(&CART));
    assert_eq!((checked.code, checked.out.as_str()), (0, ""), "{checked:?}");

    // Twice, and without prevResult or namespace.
    for _ in 0..2 {
        let deleted = node.del(&CART);
        assert_eq!((deleted.code, deleted.out.as_str()), (0, ""), "{deleted:?}");
    }
    let checked = node.cni("CHECK", &CART, &node.cni_config(&CART));
    assert_eq!(checked.code, 1);
    assert_eq!(checked.json()["code"], 100, "{checked:?}");
    node.wait_in_step();
    assert!(
        plane
            .exchange(VF0, syn("10.1.0.2", "10.1.0.3", 3, 5432))
            .is_empty()
    );
    assert_eq!(plane.dropped(VF0, "no-endpoint"), 1);
}

#[test]
fn a_vf_has_one_pod() {
    let (node, plane) = Node::running(&[("a.yaml", NODES), ("b.yaml", PODS)]);
    assert_eq!(node.add(&CART).code, 0);
    let before = plane.state();
    let second = Pod {
        mac: CART.mac,
        ..DB
    };
    let refused = node.add(&second);
    assert_eq!(refused.code, 1);
    let error = refused.json();
    assert_eq!(error["code"], 100);
    let details = error["details"].as_str().unwrap();
    assert!(
        details.contains("VF pf0vf0 for pod shop/db belongs to pod shop/cart"),
        "{details}"
    );
    assert_eq!(plane.state(), before);
    // The runtime's DEL after a failed ADD takes nothing from the other.
    assert_eq!(node.del(&second).code, 0);
    assert_eq!(node.status()["agent"]["attached"], 1);
}

#[test]
fn a_vf_is_found_by_device_port_or_map() {
    let (node, plane) = Node::running(&[("a.yaml", NODES), ("b.yaml", PODS)]);
    let hints = [
        json!({"deviceID": "0000:03:00.3"}),
        json!({"port": "pf0vf1"}),
        json!({"ports": {"eth0": "pf0vf1"}}),
        json!({"runtimeConfig": {"deviceID": "0000:03:00.3"}}),
    ];
    for hint in hints {
        let mut config = node.cni_config(&DB);
        config["prevResult"]["interfaces"][0]["mac"] = json!("");
        let object = config.as_object_mut().unwrap();
        object.extend(hint.as_object().unwrap().clone());
        let added = node.cni("ADD", &DB, &config);
        assert_eq!(added.code, 0, "{hint}: {added:?}");
        let state = plane.state();
        assert_eq!(state.endpoints[&"u-2".into()].port, "pf0vf1".into());
        assert_eq!(node.del(&DB).code, 0);
    }
    // A device that is no VF of this node, and an interface that is another VF's.
    for (hint, text) in [
        (
            json!({"deviceID": "0000:09:00.1"}),
            "no VF of this node has device 0000:09:00.1",
        ),
        (
            json!({"port": "pf0vf0"}),
            "VF pf0vf0 has MAC 02:00:00:00:01:00",
        ),
    ] {
        let mut config = node.cni_config(&DB);
        config
            .as_object_mut()
            .unwrap()
            .extend(hint.as_object().unwrap().clone());
        let refused = node.cni("ADD", &DB, &config);
        assert_eq!(refused.code, 1);
        let error: Value = refused.json();
        assert!(error["details"].as_str().unwrap().contains(text), "{error}");
    }
    assert_eq!(node.status()["agent"]["attached"], 0);
}

#[test]
fn a_pod_without_a_manifest_is_added_closed_and_opens_with_it() {
    let (node, plane) = Node::running(&[("a.yaml", NODES)]);
    assert_eq!(node.add(&CART).code, 0);
    assert!(
        plane
            .exchange(VF0, syn("10.1.0.2", "10.1.1.2", 1, 80))
            .is_empty()
    );
    assert_eq!(plane.dropped(VF0, "no-endpoint"), 1);
    let status = node.ctl(&["status"]);
    assert_eq!(status.code, 1);
    assert!(
        status
            .out
            .contains("no manifest has it: everything is dropped"),
        "{}",
        status.out
    );
    node.put("b.yaml", PODS);
    until("the pod is open", || {
        plane.state().endpoints.contains_key(&"u-1".into())
    });
    node.wait_in_step();
    assert_eq!(node.ctl(&["status"]).code, 0);
}

#[test]
fn the_runtime_asks_for_versions_readiness_and_garbage() {
    let (node, _plane) = Node::running(&[("a.yaml", NODES), ("b.yaml", PODS)]);
    let version = node.cni("VERSION", &CART, &json!({"cniVersion": "0.4.0"}));
    assert_eq!(
        version.json()["supportedVersions"],
        json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
    );
    let mut config = node.cni_config(&CART);
    config["cniVersion"] = json!("1.1.0");
    assert_eq!(node.cni("STATUS", &CART, &config).code, 0);
    assert_eq!(node.cni("ADD", &CART, &config).code, 0);
    assert_eq!(node.cni("GC", &CART, &config).code, 1, "it has no list");
    config["cni.dev/valid-attachments"] = json!([{"containerID": "c1", "ifname": "eth0"}]);
    assert_eq!(node.cni("GC", &CART, &config).code, 0);
    assert_eq!(node.status()["agent"]["attached"], 1);
    config["cni.dev/valid-attachments"] = json!([]);
    assert_eq!(node.cni("GC", &CART, &config).code, 0);
    assert_eq!(node.status()["agent"]["attached"], 0);
}
