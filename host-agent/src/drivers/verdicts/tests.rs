use super::*;
use serde_json::Value;
use sluice_offload_api::model::{
    Endpoint, Generation, Identity, IdentityId, IpPrefix, MacAddr, Place, PodRef, PolicyId, Prefix,
};
use std::path::Path;

fn state() -> State {
    let mut state = State::default();
    let (cart, outside) = (IdentityId(1), IdentityId(2));
    for (id, label) in [(cart, "shop{app=cart}"), (outside, "10.0.0.0/8")] {
        let label = label.to_owned();
        state.identities.insert(
            id,
            Identity {
                id,
                label,
                domain: None,
                encryption: Default::default(),
            },
        );
    }
    let ip = "10.1.0.2".parse().unwrap();
    let endpoint = Endpoint {
        pod_uid: "u-1".into(),
        interface: String::new(),
        pod: PodRef {
            namespace: "shop".to_owned(),
            name: "cart".to_owned(),
        },
        port: "pf0vf0".into(),
        identity: cart,
        policy: PolicyId(1),
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        ips: vec![ip],
    };
    state.endpoints.insert(endpoint.key(), endpoint);
    let block = IpPrefix::masked(ip, 8).unwrap();
    for (prefix, identity, place) in [
        (IpPrefix::host(ip), cart, Place::LocalPod),
        (block, outside, Place::Outside),
    ] {
        let it = Prefix {
            prefix,
            identity,
            place,
            pod_uid: None,
        };
        state.prefixes.insert(prefix, it);
    }
    state
}

fn verdict(denied: Option<&str>) -> FlowVerdict {
    FlowVerdict {
        generation: Generation(7),
        port: Some("pf0vf0".into()),
        protocol: 6,
        src: "10.1.0.2".parse().unwrap(),
        dst: "10.2.0.9".parse().unwrap(),
        src_port: 40_000,
        dst_port: 5432,
        denied: denied.map(str::to_owned),
        egress: Some("shop/deny egress".to_owned()),
        ingress: None,
        to: None,
        lost: 0,
        shadow_egress: None,
        shadow_ingress: None,
    }
}

/// All lines that a log wrote once it was dropped.
fn logged(path: &Path, allowed: bool, verdicts: &[FlowVerdict]) -> (Vec<Value>, LogView) {
    let config = VerdictLogConfig {
        path: Some(path.to_owned()),
        allowed,
        pod_per_second: 2,
        per_second: 100,
    };
    let log = VerdictLog::start(&config).unwrap();
    log.on_state(state());
    for verdict in verdicts {
        log.offer(verdict.clone());
    }
    let shared = Arc::clone(&log.shared);
    drop(log);
    // The thread lets go of it at its end.
    let end = Instant::now() + Duration::from_secs(20);
    while Arc::strong_count(&shared) > 1 {
        assert!(Instant::now() < end, "the log's thread goes on");
        thread::yield_now();
    }
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    let (sender, _) = sync_channel(1);
    (lines, VerdictLog { sender, shared }.view())
}

#[test]
fn a_line_names_pod_peer_rule_and_reason() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("verdicts.jsonl");
    let verdicts = [verdict(None), verdict(Some("policy-egress"))];
    let (lines, view) = logged(&path, false, &verdicts);
    assert_eq!((lines.len(), view.written), (1, 1));
    let line = &lines[0];
    assert_eq!(line["verdict"], "deny");
    assert_eq!(line["pod"], "shop/cart");
    assert_eq!(line["peer"], "10.0.0.0/8");
    assert_eq!(line["direction"], "egress");
    assert_eq!(line["rule"], "shop/deny egress");
    assert_eq!(line["reason"], "policy-egress");
    assert_eq!(
        (&line["protocol"], &line["dst_port"]),
        (&json!("tcp"), &json!(5432))
    );
    assert!(line["time_ms"].as_u64() > Some(1_600_000_000_000));

    let (lines, _) = logged(&path, true, &verdicts);
    assert_eq!(lines.len(), 1 + 2, "it is appended");
    assert_eq!(
        (&lines[1]["verdict"], &lines[1]["reason"]),
        (&json!("allow"), &Value::Null)
    );
}

#[test]
fn what_is_suppressed_is_counted_and_told() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("verdicts.jsonl");
    let verdicts = vec![verdict(Some("policy-egress")); 50];
    let (lines, view) = logged(&path, false, &verdicts);
    let denies = lines.iter().filter(|it| it["verdict"] == "deny").count() as u64;
    let told: u64 = lines
        .iter()
        .filter_map(|it| it["suppressed"].as_u64())
        .sum();
    assert!((2..50).contains(&denies), "{denies}");
    assert_eq!((denies + told, told), (50, view.suppressed));
    assert_eq!((view.lost, view.failed), (0, 0));
}

#[test]
fn an_answer_at_the_destination_is_seen_from_there() {
    let mut verdict = verdict(Some("policy-ingress"));
    core::mem::swap(&mut verdict.src, &mut verdict.dst);
    verdict.ingress = Some("shop/web ingress".to_owned());
    let names = Names::of(Arc::new(state()));
    assert_eq!(names.key(&verdict), "shop/cart");
    let line = serde_json::to_value(names.line(&verdict, 0)).unwrap();
    assert_eq!(
        (&line["direction"], &line["rule"]),
        (&json!("ingress"), &json!("shop/web ingress"))
    );
    assert_eq!(
        (&line["pod"], &line["peer"]),
        (&json!("shop/cart"), &json!("10.0.0.0/8"))
    );
}
