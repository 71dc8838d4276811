//! An oracle that can't fail proves nothing: each is shown frames that must not be.

use std::net::IpAddr;
use std::sync::Arc;

use sluice_dataplane_core::meta::tcp_flag;
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::wire::build::{Body, FrameSpec, fragments};
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
        at: Tick(0),
        way,
        spot: Spot::Vf(node.into(), 2),
        who: Some(Arc::new(Who {
            pod: Some(sluice_offload_api::model::PodRef { namespace, name }),
            mac: spec.eth_dst,
            ips: vec![ip(its)],
        })),
        touched: false,
        frame: spec.build().into(),
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

/// A packet in two pieces, of which the later one comes; the oracles that find something.
fn a_later_piece_comes(mut spec: FrameSpec) -> Vec<&'static str> {
    spec.payload = vec![1; 100];
    spec.dont_fragment = false;
    let pieces = fragments(&spec.build(), 7, 64);
    let piece = |way, pod, node, its, frame: &Vec<u8>| Sighting {
        frame: frame.clone().into(),
        ..seen(way, pod, node, its, &spec)
    };
    let mut all: Vec<_> = pieces
        .iter()
        .map(|it| piece(Way::Sent, "a", "one", A, it))
        .collect();
    all.push(piece(Way::Delivered, "b", "two", B, &pieces[1]));
    found(&all)
}

#[test]
fn a_denied_datagrams_later_piece_that_came_is_found() {
    assert_eq!(a_later_piece_comes(tcp(A, B)), ["policy"]);
    assert_eq!(a_later_piece_comes(udp(A, B)), Vec::<&str>::new());
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

/// A packet from one address to another that looks like ESP.
fn esp(src: &str, dst: &str) -> FrameSpec {
    let mut spec = FrameSpec::new(ip(src), ip(dst), Body::Other { protocol: 50 });
    spec.payload = [0x80, 0, 0, 1].repeat(6);
    spec
}

/// A pod may speak ESP itself: that protects nothing of ours, unless it is between tunnels.
#[test]
fn esp_that_is_no_tunnels_counts_as_clear() {
    let on_wire = |spec: &FrameSpec| Sighting {
        spot: Spot::Uplink("one".into()),
        who: None,
        ..seen(Way::OnWire, "a", "one", A, spec)
    };
    assert_eq!(found(&[on_wire(&esp(A, B))]), ["cleartext"]);
    let between = esp("198.18.0.1", "198.18.0.2");
    assert_eq!(found(&[on_wire(&between)]), Vec::<&str>::new());
}

/// What comes from outside in clear may come as often as the wire brings it, ESP or not.
#[test]
fn a_turned_bit_that_makes_esp_is_no_replay() {
    let spec = esp("203.0.113.9", B);
    let off_wire = Sighting {
        spot: Spot::Uplink("two".into()),
        who: None,
        touched: true,
        ..seen(Way::OffWire, "b", "two", B, &spec)
    };
    let came = seen(Way::Delivered, "b", "two", B, &spec);
    let wrong = found(&[off_wire, came.clone()]);
    assert!(!wrong.contains(&"replay"), "{wrong:?}");
    assert!(found(&[came]).contains(&"replay"));
}

fn udp_back(src: &str, dst: &str) -> FrameSpec {
    let (src_port, dst_port) = (80, 20_000);
    FrameSpec::new(ip(src), ip(dst), Body::Udp { src_port, dst_port })
}

/// Sees frames, changes what policy says, and sees more: what is found in these.
fn found_after(before: &[Sighting], policy: &str, after: &[Sighting]) -> Vec<&'static str> {
    let mut world = world();
    let mut oracles = Oracles::default();
    assert_eq!(oracles.watch(&mut world), Vec::new());
    assert_eq!(oracles.look(&world, before), Vec::new());
    let mut cluster = world.cluster().clone();
    let change = sluice_sim::input::Manifests::parse("policy.yaml", policy).unwrap();
    change.put_over(&mut cluster);
    world.apply(cluster).unwrap();
    assert_eq!(oracles.watch(&mut world), Vec::new());
    let breaches = oracles.look(&world, after);
    breaches.iter().map(|it| it.oracle).collect()
}

fn isolates(direction: &str) -> String {
    format!(
        r#"{{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
             "metadata": {{"name": "b2", "namespace": "n"}},
             "spec": {{"podSelector": {{}}, "policyTypes": ["{direction}"]}}}}"#
    )
}

/// Neither may speak first any more, and the question was under way: its answer may yet come,
/// where it begins a flow of its own.
#[test]
fn an_answer_may_begin_a_flow_of_its_own_where_its_own_is_gone() {
    let (question, answer) = (udp(A, B), udp_back(B, A));
    let asked = [seen(Way::Sent, "a", "one", A, &question)];
    let rest = [
        seen(Way::Delivered, "b", "two", B, &question),
        seen(Way::Sent, "b", "two", B, &answer),
        seen(Way::Delivered, "a", "one", A, &answer),
        // From now on it is the other one that has begun, at its own node.
        seen(Way::Sent, "a", "one", A, &question),
        seen(Way::Delivered, "b", "two", B, &question),
    ];
    let none = Vec::<&str>::new();
    assert_eq!(found_after(&asked, &isolates("Egress"), &rest), none);
    // A question of its own may not: nothing has come back.
    let again = [
        seen(Way::Sent, "a", "one", A, &udp(A, B)),
        seen(Way::Delivered, "b", "two", B, &udp(A, B)),
    ];
    let mut more = udp(A, B);
    more.payload = b"another".to_vec();
    let fresh = [
        seen(Way::Sent, "a", "one", A, &more),
        seen(Way::Delivered, "b", "two", B, &more),
    ];
    assert_eq!(found_after(&again, &isolates("Egress"), &fresh), ["policy"]);
}

/// What a destination would have let come may be held by its node, but not for long.
#[test]
fn a_late_frame_has_its_time() {
    let spec = {
        let mut spec = udp(A, B);
        spec.payload = b"held".to_vec();
        spec
    };
    let sent = seen(Way::Sent, "a", "one", A, &spec);
    let came = |at_ms: u64| Sighting {
        at: Tick(at_ms * Tick::MS),
        ..seen(Way::Delivered, "b", "two", B, &spec)
    };
    let closed = r#"{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "b", "namespace": "n"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}"#;
    let sent = core::slice::from_ref(&sent);
    assert_eq!(
        found_after(sent, closed, &[came(2_900)]),
        Vec::<&str>::new()
    );
    assert_eq!(found_after(sent, closed, &[came(60_000)]), ["policy"]);
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
        flows_max: None,
        sa_first: None,
        seed: 1,
        workers: 1,
        algorithm: "aes128gcm16",
        esn: true,
        underlay: Family::Ipv4,
        udp_encap: false,
        pod_cidrs: false,
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
