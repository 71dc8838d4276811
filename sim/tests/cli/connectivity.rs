//! The two sets of manifests: every probe as its author means it, encrypted between nodes,
//! in the shape that the architecture promises.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use serde_json::Value;
use sluice_dataplane_core::meta::proto;
use sluice_dataplane_core::wire;
use sluice_sim::input::{Manifests, PlacedProbe, load_manifests, load_probes};
use sluice_sim::pcap;
use sluice_sim::probe::ProbePort;
use sluice_sim::verify::must_encrypt;

use super::{Ran, connectivity, root, scratch, sluice_sim, text};

const FIELDS: [&str; 11] = [
    "from",
    "to",
    "protocol",
    "port",
    "family",
    "verdict",
    "where",
    "rule",
    "encrypted",
    "expect",
    "ok",
];

/// A field as it is written in the answer must be the one that was asked.
fn same_question(asked: &PlacedProbe, answer: &Value) {
    let probe = &asked.probe;
    assert_eq!(answer["from"], probe.from.to_string());
    assert_eq!(answer["to"], probe.to.to_string());
    assert_eq!(
        answer["protocol"],
        serde_json::to_value(probe.protocol).unwrap()
    );
    match &probe.port {
        None => assert!(answer["port"].is_null(), "{answer}"),
        Some(ProbePort::Number(number)) => assert_eq!(answer["port"], *number),
        Some(ProbePort::Name(name)) => assert_eq!(answer["port"], name.as_str()),
    }
    let network = probe.to_network.as_ref().map(ToString::to_string);
    assert_eq!(
        answer.get("network").and_then(Value::as_str),
        network.as_deref()
    );
    let family = answer["family"].as_str().unwrap();
    assert!(["ipv4", "ipv6"].contains(&family), "{answer}");
    if let Some(asked) = probe.family {
        assert_eq!(answer["family"], serde_json::to_value(asked).unwrap());
    }
    assert_eq!(
        answer["expect"],
        serde_json::to_value(probe.expect).unwrap()
    );
}

/// The types and dependencies of an answer's fields.
fn well_formed(answer: &Value) {
    let fields = answer.as_object().unwrap();
    let more = usize::from(fields.contains_key("network"));
    assert_eq!(fields.len(), FIELDS.len() + more, "{answer}");
    for field in FIELDS {
        assert!(fields.contains_key(field), "{field} is missing: {answer}");
    }
    assert!(answer["encrypted"].is_boolean() && answer["ok"].is_boolean());
    assert!(answer["rule"].is_string() || answer["rule"].is_null());
    match answer["verdict"].as_str().unwrap() {
        "allow" => assert!(answer["where"].is_null(), "{answer}"),
        "deny" => {
            let at = answer["where"].as_str().unwrap();
            assert!(["egress", "ingress"].contains(&at), "{answer}");
            assert!(answer["rule"].is_string(), "a denial has no rule: {answer}");
        }
        other => panic!("verdict {other}"),
    }
}

/// Outside ESP no frame of the wire has pods at both ends.
fn no_pod_speaks_to_a_pod_in_clear(manifests: &Manifests, out: &Path) {
    let pods = manifests.cluster.pods.values();
    let ips = pods.flat_map(|pod| {
        let more = pod.interfaces.iter().flat_map(|it| &it.ips);
        pod.ips.iter().chain(more).copied()
    });
    let pods: BTreeSet<IpAddr> = ips.collect();
    assert!(pods.len() > 10);
    let capture = fs::read(out.join("wire.pcap")).unwrap();
    let frames = pcap::read(&capture).unwrap();
    let mut esp = 0;
    for (number, frame) in (1..).zip(&frames) {
        let meta = wire::parse(frame).unwrap();
        esp += usize::from(meta.protocol == proto::ESP);
        let ends: [IpAddr; 2] = [meta.src.into(), meta.dst.into()];
        assert!(
            !ends.iter().all(|end| pods.contains(end)),
            "frame {number} is in clear: {ends:?}"
        );
    }
    assert!(esp >= 20, "{esp} of {} frames are ESP", frames.len());
}

/// Every probe of a set: as expected, in order, and encrypted where it must be. Returns
/// how often each (verdict, encrypted) came.
fn whole_set(set: &str) -> BTreeMap<(String, bool), usize> {
    let manifests = load_manifests(&root().join("sim/manifests").join(set)).unwrap();
    let probes = root().join(format!("sim/manifests/{set}-probes.yaml"));
    let probes = load_probes(&probes).unwrap();

    let out = scratch(&format!("set-{set}"));
    let ran = connectivity(set, &["--out", text(&out)]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    no_pod_speaks_to_a_pod_in_clear(&manifests, &out);
    let json = ran.json();
    assert_eq!(json.as_object().unwrap().len(), 2);
    assert_eq!(json["mismatches"], 0);
    let results = json["results"].as_array().unwrap();
    assert_eq!(results.len(), probes.len());

    let mut seen = BTreeMap::new();
    for (asked, answer) in probes.iter().zip(results) {
        well_formed(answer);
        same_question(asked, answer);
        assert_eq!(answer["ok"], true, "{answer}");
        assert!(asked.probe.expect.is_some(), "line {}", asked.place.line());
        assert_eq!(answer["verdict"], answer["expect"], "{answer}");
        let across = must_encrypt(&manifests.cluster, &asked.probe).is_some();
        let allowed = answer["verdict"] == "allow";
        if across && allowed {
            assert_eq!(answer["encrypted"], true, "{answer}");
        }
        if !across {
            assert_eq!(answer["encrypted"], false, "{answer}");
        }
        let verdict = answer["verdict"].as_str().unwrap().to_owned();
        let encrypted = answer["encrypted"] == true;
        *seen.entry((verdict, encrypted)).or_insert(0) += 1;
    }
    seen
}

#[test]
fn the_quickstart_is_as_its_probes_expect() {
    let seen = whole_set("quickstart");
    assert!(seen[&("allow".to_owned(), true)] >= 5, "{seen:?}");
    assert!(seen[&("allow".to_owned(), false)] >= 3, "{seen:?}");
}

#[test]
fn the_web_shop_is_as_its_probes_expect() {
    let seen = whole_set("webshop");
    assert!(seen[&("allow".to_owned(), true)] >= 20, "{seen:?}");
    // Denied at the destination: the question crossed the wire, encrypted.
    assert!(seen[&("deny".to_owned(), true)] >= 5, "{seen:?}");
    assert!(seen[&("deny".to_owned(), false)] >= 5, "{seen:?}");
}

/// A probes file with one question and a wrong expectation.
#[test]
fn secondary_networks_are_as_their_probes_expect() {
    let seen = whole_set("secondary");
    assert!(seen[&("allow".to_owned(), true)] >= 10, "{seen:?}");
    assert!(seen[&("deny".to_owned(), true)] >= 5, "{seen:?}");
    assert!(seen[&("deny".to_owned(), false)] >= 1, "{seen:?}");
}

fn wrong_expectation(name: &str, more: &[&str]) -> Ran {
    let probes = scratch(name).join("probes.yaml");
    let line = "{from: shop/web, to: shop/cart, protocol: TCP, port: 8080, expect: EXPECT}";
    let right = line.replace("EXPECT", "allow");
    let wrong = line.replace("EXPECT", "deny");
    fs::write(&probes, format!("probes:\n  - {right}\n  - {wrong}\n")).unwrap();
    let mut args = vec!["connectivity", "--manifests", "sim/manifests/quickstart"];
    args.extend(["--probes", text(&probes)]);
    args.extend(more);
    sluice_sim(&args)
}

#[test]
fn a_wrong_expectation_is_exit_1_with_the_json_all_the_same() {
    let ran = wrong_expectation("wrong-json", &["--output", "json"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let json = ran.json();
    assert_eq!(json["mismatches"], 1);
    let oks: Vec<_> = json["results"].as_array().unwrap().iter().collect();
    assert_eq!(
        (&oks[0]["ok"], &oks[1]["ok"]),
        (&true.into(), &false.into())
    );
    assert_eq!(oks[1]["verdict"], "allow");
    assert_eq!(oks[1]["expect"], "deny");
    assert!(
        ran.stderr
            .contains("expected deny, the frames showed allow"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_wrong_expectation_stands_out_in_the_table() {
    let ran = wrong_expectation("wrong-table", &[]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stdout.contains("1 not as expected"), "{}", ran.stdout);
    assert!(ran.stdout.contains("FAILED"), "{}", ran.stdout);
    assert!(
        !ran.stdout.contains('\u{1b}'),
        "colour without a terminal: {}",
        ran.stdout
    );
}

#[test]
fn manifests_and_probes_may_be_json() {
    let folder = scratch("json-input");
    let pod = |name: &str, node: &str| {
        format!(
            r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "{name}", "namespace": "n"}},
                "spec": {{"nodeName": "{node}"}}}}"#
        )
    };
    let node = |name: &str| {
        format!(r#"{{"apiVersion": "v1", "kind": "Node", "metadata": {{"name": "{name}"}}}}"#)
    };
    for (file, text) in [
        ("a.json", pod("a", "one")),
        ("b.json", pod("b", "two")),
        ("one.json", node("one")),
        ("two.json", node("two")),
    ] {
        fs::write(folder.join(file), text).unwrap();
    }
    let probes = scratch("json-probes").join("probes.json");
    let question = r#"{"probes": [{"from": "n/a", "to": "n/b", "protocol": "ICMP"}]}"#;
    fs::write(&probes, question).unwrap();
    let manifests = text(&folder);
    let mut args = vec!["connectivity", "--manifests", manifests, "--probes"];
    args.extend([text(&probes), "--output", "json"]);
    let ran = sluice_sim(&args);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let answer = &ran.json()["results"][0];
    well_formed(answer);
    assert_eq!(
        (&answer["verdict"], &answer["encrypted"]),
        (&"allow".into(), &true.into())
    );
    assert!(answer["expect"].is_null());
}
