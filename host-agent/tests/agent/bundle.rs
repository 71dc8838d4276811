//! `sluicectl bundle`: all that a look elsewhere needs, and nothing that must stay here.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};
use sluice_host_agent::incident::Bundle;
use sluice_offload_api::model::PodRef;

use crate::rig::plane::{PlaneHandle, VF0, VF1};
use crate::rig::{ALLOW, CART, DB, NODES, Node, PODS, sluicectl, syn, udp, until};

/// What lies about in a folder of manifests and is nobody's business elsewhere.
const PRIVATE: &str = "
apiVersion: v1
kind: Secret
metadata: {namespace: shop, name: token}
stringData: {token: of-a-secret-7f1c}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: till, uid: u-4, annotations: {note: of-a-note-7f1c}}
spec:
  nodeName: b
  containers: [{name: c, image: of-an-image-7f1c, env: [{name: PASSWORD, value: of-an-env-7f1c}]}]
status: {podIPs: [{ip: 10.1.1.3}]}
";
const PAYLOAD: &[u8] = b"of-a-payload-7f1c";
const KEYMAT: [u8; 20] = *b"of-a-key-7f1c-ABCDEF";

fn node() -> (Node, PlaneHandle) {
    let manifests = [
        ("a.yaml", NODES),
        ("b.yaml", PODS),
        ("c.yaml", ALLOW),
        ("d.yaml", PRIVATE),
    ];
    let (node, plane) = Node::running(&manifests);
    for pod in [&CART, &DB] {
        assert_eq!(node.add(pod).code, 0);
    }
    plane.install_sa("b", KEYMAT);
    until("verdicts are watched", || plane.is_watched());
    let (cart, db) = ("10.1.0.2", "10.1.0.3");
    assert_eq!(plane.exchange(VF0, syn(cart, db, 1, 5432)), [VF1]);
    assert!(plane.exchange(VF0, syn(cart, db, 2, 80)).is_empty());
    let denied = udp(cart, "192.0.2.7", (4000, 53), PAYLOAD.to_vec());
    assert!(plane.exchange(VF0, denied).is_empty());
    (node, plane)
}

/// The bundle, once the verdicts have come to the agent.
fn bundle(node: &Node) -> String {
    let path = node.path("incident.json");
    until("three verdicts are known", || {
        let made = node.ctl(&["bundle", "--out", "incident.json", "--output", "json"]);
        assert_eq!(made.code, 0, "{made:?}");
        made.json()["verdicts"] == 3
    });
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_bundle_has_what_the_agent_goes_by_and_what_the_dataplane_did() {
    let (node, _plane) = node();
    let bundle = Bundle::read(&bundle(&node)).unwrap();
    assert_eq!(bundle.node, "a");
    // The dataplane's is that of its last heartbeat.
    let generation = bundle.agent.generation.unwrap();
    assert!(bundle.dataplane.as_ref().unwrap().generation <= generation);
    let cluster = bundle.cluster().unwrap();
    let pods: Vec<_> = cluster.pods.keys().map(ToString::to_string).collect();
    assert_eq!(pods, ["shop/cart", "shop/db", "shop/far", "shop/till"]);
    let cart = cluster.pods.get(&PodRef {
        namespace: "shop".to_owned(),
        name: "cart".to_owned(),
    });
    assert_eq!(cart.unwrap().labels["app"], "cart");
    assert_eq!(cluster.policies.len(), 1);
    let verdicts = bundle.verdicts.unwrap();
    assert!(verdicts.iter().all(|it| it.generation == generation));
    let told: Vec<_> = verdicts
        .iter()
        .map(|it| (it.dst.to_string(), it.dst_port, it.denied.as_deref()))
        .collect();
    let (db, out, egress) = (
        "10.1.0.3".to_owned(),
        "192.0.2.7".to_owned(),
        Some("policy-egress"),
    );
    assert_eq!(
        told,
        [
            (db.clone(), 5432, None),
            (db, 80, egress),
            (out, 53, egress)
        ]
    );
    assert_eq!(bundle.flows.flows.len(), 1);
    assert_eq!(bundle.policies.len(), 2);
    let drops = bundle
        .counters
        .iter()
        .find(|it| it.port == "pf0vf0")
        .unwrap();
    assert_eq!(drops.drops["policy-egress"], 2);
    assert_eq!(
        (bundle.sas[0].peer.as_deref(), &*bundle.sas[0].direction),
        (Some("b"), "inbound")
    );
}

#[test]
fn nothing_secret_is_in_a_bundle() {
    let (node, _plane) = node();
    let text = bundle(&node);
    assert!(text.contains("shop") && text.contains("till") && text.contains("0x00001001"));
    // No word of a Secret, an environment, an image, an annotation, or a payload.
    assert!(!text.contains("7f1c"), "{text}");
    // A key in any of the ways in which bytes are written.
    let hex: String = KEYMAT.iter().map(|it| format!("{it:02x}")).collect();
    let list = json!(KEYMAT).to_string();
    let squeezed: String = text.split_whitespace().collect();
    let lower = squeezed.to_lowercase();
    for part in [
        &hex[..8],
        &hex[16..24],
        &hex[32..],
        list.trim_matches(['[', ']']),
    ] {
        assert!(!lower.contains(part), "{part}");
    }
    // "b2YtYS1rZXk" begins the key in base64.
    assert!(!squeezed.contains("b2YtYS1rZXk"));
    let sas = node.ctl(&["sa", "--output", "json"]).json();
    let fingerprint = sas["sas"][0]["fingerprint"].as_str().unwrap();
    assert!(fingerprint.len() >= 16 && !text.contains(fingerprint));
    // For its owner alone.
    let mode = fs::metadata(node.path("incident.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// What sluice-sim's tests replay is what sluicectl has made. `SLUICE_WRITE_BUNDLE=1` makes it
/// anew.
#[test]
fn the_simulators_example_is_what_an_agent_tells() {
    let (node, _plane) = node();
    let mut told: Value = serde_json::from_str(&bundle(&node)).unwrap();
    told["dataplane"]["uptime_ms"] = json!(0);
    told["sas"][0]["age_ms"] = json!(0);
    // How many there were depends on how the connection came about.
    told["agent"]["generation"] = json!(4);
    told["dataplane"]["generation"] = json!(4);
    for verdict in told["verdicts"].as_array_mut().unwrap() {
        verdict["generation"] = json!(4);
    }
    // As of the last heartbeat, which may know of the one flow already.
    told["dataplane"]["flows"] = json!(0);
    // The peer's MAC is asked for each second, with a frame of 42 bytes.
    let uplink = told["counters"]
        .as_array_mut()
        .unwrap()
        .first_mut()
        .unwrap();
    let asked = uplink["originated"].as_u64().unwrap();
    assert!(asked >= 1);
    assert_eq!(
        (&uplink["port"], &uplink["tx_frames"], &uplink["tx_bytes"]),
        (&json!("uplink"), &json!(asked), &json!(42 * asked))
    );
    for (name, of_one) in [("originated", 1), ("tx_frames", 1), ("tx_bytes", 42)] {
        uplink[name] = json!(of_one);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim/tests/incident/bundle.json");
    if std::env::var_os("SLUICE_WRITE_BUNDLE").is_some() {
        fs::write(&path, serde_json::to_string_pretty(&told).unwrap() + "\n").unwrap();
    }
    let example: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(told, example);
}

#[test]
fn without_an_agent_or_a_place_to_write_nothing_is_made() {
    let (node, _plane) = Node::running(&[("a.yaml", NODES), ("b.yaml", PODS)]);
    let nowhere = node.ctl(&["bundle", "--out", "no/such/folder/x.json"]);
    assert_eq!(nowhere.code, 2);
    assert!(
        nowhere.err.contains("can't write no/such/folder/x.json"),
        "{nowhere:?}"
    );
    let args = ["--socket", "nobody.sock", "bundle", "--out", "x.json"];
    let unasked = sluicectl(node.temp.path(), &args);
    assert_eq!(unasked.code, 2);
    assert!(!node.path("x.json").exists());
}
