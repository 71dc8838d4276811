//! An oracle that can't fail proves nothing: each is shown frames that must not be.

use std::net::IpAddr;

use sluice_dataplane_core::meta::tcp_flag;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};
use sluice_sim::fuzz::{Case, Step, play_case, shrink};
use sluice_sim::oracle::Oracles;
use sluice_sim::probe::Family;
use sluice_sim::sighting::{Sighting, Spot, Way, Who};
use sluice_sim::world::{MARKER, World, WorldConfig};

/// Two pods on two nodes; `b` takes nothing by TCP.
const CLUSTER: &str = r#"
{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "one"}}
---
{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "two"}}
---
{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "n"},
 "spec": {"nodeName": "one"}, "status": {"podIPs": [{"ip": "10.1.0.2"}]}}
---
{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b", "namespace": "n"},
 "spec": {"nodeName": "two"}, "status": {"podIPs": [{"ip": "10.1.1.2"}]}}
---
{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
 "metadata": {"name": "b", "namespace": "n"},
 "spec": {"podSelector": {}, "policyTypes": ["Ingress"],
          "ingress": [{"ports": [{"protocol": "UDP"}]}]}}
"#;

fn world() -> World {
    let manifests = sluice_sim::input::Manifests::parse("cluster.yaml", CLUSTER).unwrap();
    World::boot(manifests.cluster, WorldConfig::default()).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn tcp(src: &str, dst: &str) -> FrameSpec {
    let body = Body::Tcp {
        src_port: 20_000,
        dst_port: 80,
        flags: tcp_flag::SYN,
        seq: 1,
        ack: 0,
        mss: None,
    };
    FrameSpec::new(ip(src), ip(dst), body)
}

fn udp(src: &str, dst: &str) -> FrameSpec {
    let body = Body::Udp {
        src_port: 20_000,
        dst_port: 80,
    };
    FrameSpec::new(ip(src), ip(dst), body)
}

/// A pod's frame, as if it was seen.
fn seen(way: Way, pod: &str, node: &str, its: &str, spec: &FrameSpec) -> Sighting {
    let (namespace, name) = ("n".to_owned(), pod.to_owned());
    Sighting {
        at: sluice_dataplane_core::tick::Tick(0),
        way,
        spot: Spot::Vf(node.into(), 2),
        who: Some(Who {
            pod: Some(sluice_offload_api::model::PodRef { namespace, name }),
            mac: spec.eth_dst,
            ips: vec![ip(its)],
        }),
        touched: false,
        frame: spec.build(),
    }
}

/// The oracles that find something in these.
fn found(sightings: &[Sighting]) -> Vec<&'static str> {
    let mut world = world();
    let mut oracles = Oracles::default();
    assert_eq!(oracles.watch(&mut world), Vec::new());
    let breaches = oracles.look(&world, sightings);
    breaches.iter().map(|it| it.oracle).collect()
}

const A: &str = "10.1.0.2";
const B: &str = "10.1.1.2";

#[test]
fn what_is_allowed_and_honest_is_no_breach() {
    let spec = udp(A, B);
    let sent = seen(Way::Sent, "a", "one", A, &spec);
    let came = seen(Way::Delivered, "b", "two", B, &spec);
    assert_eq!(found(&[sent, came]), Vec::<&str>::new());
}

#[test]
fn a_denied_frame_that_came_is_found() {
    let spec = tcp(A, B);
    let sent = seen(Way::Sent, "a", "one", A, &spec);
    let came = seen(Way::Delivered, "b", "two", B, &spec);
    assert_eq!(found(&[sent, came]), ["policy"]);
}

#[test]
fn a_frame_that_came_twice_is_found() {
    let spec = udp(A, B);
    let sent = seen(Way::Sent, "a", "one", A, &spec);
    let came = seen(Way::Delivered, "b", "two", B, &spec);
    assert_eq!(found(&[sent, came.clone(), came]), ["replay"]);
}

#[test]
fn another_ones_address_is_found() {
    let spec = udp(A, B);
    let sent = seen(Way::Sent, "x", "two", "10.1.1.9", &spec);
    let came = seen(Way::Delivered, "b", "two", B, &spec);
    assert!(found(&[sent, came]).contains(&"spoof"));
}

#[test]
fn a_frame_at_the_wrong_pod_is_found() {
    let spec = udp(A, B);
    let sent = seen(Way::Sent, "a", "one", A, &spec);
    let came = seen(Way::Delivered, "c", "two", "10.1.1.3", &spec);
    assert_eq!(found(&[sent, came]), ["isolation"]);
}

#[test]
fn a_pods_payload_and_a_pods_address_on_the_wire_are_found() {
    let on_wire = |spec: &FrameSpec| Sighting {
        spot: Spot::Uplink("one".into()),
        who: None,
        ..seen(Way::OnWire, "a", "one", A, spec)
    };
    assert_eq!(found(&[on_wire(&udp(A, B))]), ["cleartext"]);
    let mut spec = udp(A, "203.0.113.9");
    assert_eq!(found(&[on_wire(&spec)]), Vec::<&str>::new());
    spec.payload = MARKER.to_vec();
    assert_eq!(found(&[on_wire(&spec)]), ["cleartext"]);
}

#[test]
fn a_sequence_number_twice_is_found() {
    let mut spec = FrameSpec::new(
        ip("198.18.0.1"),
        ip("198.18.0.2"),
        Body::Other { protocol: 50 },
    );
    spec.payload = [
        [0x80, 0, 0, 1],
        [0, 0, 0, 7],
        [0; 4],
        [0; 4],
        [0; 4],
        [0; 4],
    ]
    .concat();
    let on_wire = Sighting {
        spot: Spot::Uplink("one".into()),
        who: None,
        ..seen(Way::OnWire, "a", "one", A, &spec)
    };
    assert_eq!(found(core::slice::from_ref(&on_wire)), Vec::<&str>::new());
    assert_eq!(found(&[on_wire.clone(), on_wire]), ["nonce"]);
}

#[test]
fn a_frame_that_no_counter_knows_is_found() {
    let spec = udp(A, B);
    let taken = seen(Way::Taken, "a", "one", A, &spec);
    assert_eq!(found(&[taken]), ["counted"]);
}

/// A case that fails shrinks to what makes it fail, and says the same.
#[test]
fn a_failure_shrinks_to_what_makes_it() {
    let objects: Vec<_> = CLUSTER
        .split("---")
        .map(|text| serde_json::from_str(text).unwrap())
        .collect();
    let probe = |to: &str, expect: &str| {
        let says = serde_json::json!({
            "from": "n/a", "to": to, "protocol": "TCP", "port": 80, "expect": expect,
        });
        Step::Verb("probe", says)
    };
    let case = Case {
        seed: 1,
        algorithm: "aes128gcm16",
        esn: true,
        underlay: Family::Ipv4,
        udp_encap: false,
        objects,
        steps: vec![
            probe("203.0.113.9", "allow"),
            Step::Verb("rekey", serde_json::json!({})),
            // Wrong on purpose: policy denies it.
            probe("n/b", "allow"),
            Step::Verb("wait", serde_json::json!("5ms")),
            probe("n/b", "deny"),
        ],
    };
    let failure = play_case(&case).unwrap_err();
    let small = shrink(&case, &failure);
    assert_eq!(small.failure.kind, failure.kind);
    assert_eq!(small.case.steps, [probe("n/b", "allow")]);
    // Two pods and the policy; the nodes are the pods' own.
    assert!(
        small.case.objects.len() < case.objects.len() + 1,
        "{small:?}"
    );
    assert!(play_case(&small.case).is_err());
}
