//! Names, labels, and how many of everything there are.

use super::{delta, endpoint, identity, peer, policy, port, prefix, refuse_ops, refuse_within};
use crate::limits::{LABEL_LEN_MAX, Limits, NAME_LEN_MAX, RULE_NAME_LEN_MAX, RULES_PER_POLICY_MAX};
use crate::model::{IdentityId, MacAddr, PodUid, PortKind};
use crate::refusal::{RefusalCode, RefusalReason};
use crate::state::State;
use crate::testing::sample;
use crate::transaction::Op;

/// Every text a transaction can bring, as the only thing wrong with it.
fn with_text(text: &str) -> Vec<(&'static str, usize, Op)> {
    let named = |port: &mut crate::model::Port| {
        port.name = text.into();
        port.mac = MacAddr([2, 0, 0, 0, 0, 9]);
        port.kind = PortKind::Vf { index: 9 };
    };
    let text = || text.to_owned();
    vec![
        ("port.name", NAME_LEN_MAX, port("vf0", named)),
        (
            "endpoint.pod_uid",
            NAME_LEN_MAX,
            endpoint("u-db", |it| it.pod_uid = PodUid(text())),
        ),
        (
            "endpoint.pod.namespace",
            NAME_LEN_MAX,
            endpoint("u-db", |it| it.pod.namespace = text()),
        ),
        (
            "endpoint.pod.name",
            NAME_LEN_MAX,
            endpoint("u-db", |it| it.pod.name = text()),
        ),
        (
            "identity.label",
            LABEL_LEN_MAX,
            identity(1, |it| it.label = text()),
        ),
        (
            "peer.node",
            NAME_LEN_MAX,
            peer(|it| it.node = text().as_str().into()),
        ),
        (
            "policy.rules[1]",
            RULE_NAME_LEN_MAX,
            policy(1, |it| it.rules[1] = text()),
        ),
    ]
}

#[test]
fn text_is_there_and_printable() {
    for (field, _, op) in with_text("") {
        let refusal = refuse_ops(vec![op]);
        assert_eq!(
            refusal,
            format!("ops[0].add.{field}: is empty; give a name")
        );
    }
    for (field, _, op) in with_text("a\u{1b}[2J") {
        let refusal = refuse_ops(vec![op]);
        let why = "has the control character '\\u{1b}' in it; use printable text";
        assert_eq!(refusal, format!("ops[0].add.{field}: {why}"));
    }
}

#[test]
fn text_is_not_too_long() {
    for at in 0..7 {
        let (field, max, _) = with_text("x").remove(at);
        let (_, _, op) = with_text(&"x".repeat(max + 1)).remove(at);
        let why = format!("{} bytes are too long; at most {max} fit", max + 1);
        assert_eq!(refuse_ops(vec![op]), format!("ops[0].add.{field}: {why}"));
    }
}

#[test]
fn identity_zero_is_refused() {
    assert_eq!(
        refuse_ops(vec![identity(1, |it| it.id = IdentityId(0))]),
        "ops[0].add.identity.id: identity 0 is never used; number identities from 1"
    );
}

/// One more object of each kind, as far as counting goes.
fn one_more() -> Vec<(&'static str, &'static str, usize, Op)> {
    let sample = sample();
    vec![
        (
            "port",
            "ports",
            sample.ports.len(),
            port("vf0", |it| it.name = "new".into()),
        ),
        (
            "endpoint",
            "endpoints",
            sample.endpoints.len(),
            endpoint("u-db", |it| it.pod_uid = "new".into()),
        ),
        (
            "identity",
            "identities",
            sample.identities.len(),
            identity(1, |it| it.id = IdentityId(70)),
        ),
        (
            "prefix",
            "prefixes",
            sample.prefixes.len(),
            prefix("0.0.0.0/0", |it| it.prefix = super::net("::/0")),
        ),
        (
            "policy",
            "policies",
            sample.policies.len(),
            policy(1, |it| it.id = crate::model::PolicyId(70)),
        ),
        (
            "peer",
            "peers",
            sample.peers.len(),
            peer(|it| it.node = "c".into()),
        ),
    ]
}

fn bound(what: &str, max: usize) -> Limits {
    let mut limits = Limits::MAX;
    match what {
        "ports" => limits.ports = max,
        "endpoints" => limits.endpoints = max,
        "identities" => limits.identities = max,
        "prefixes" => limits.prefixes = max,
        "policies" => limits.policies = max,
        "peers" => limits.peers = max,
        other => panic!("{other}"),
    }
    limits
}

#[test]
fn each_kind_has_a_capacity() {
    for (kind, what, count, op) in one_more() {
        // The operation that added the one too many is named, not those before it.
        let first = identity(2, |it| it.label = "changed".to_owned());
        let tx = delta(vec![first, op]);
        let refusal = refuse_within(&tx, &bound(what, count));
        let why = format!("{} {what} are too many; at most {count} fit", count + 1);
        assert_eq!(refusal, format!("ops[1].add.{kind}: {why}"));
    }
}

#[test]
fn rows_and_rules_have_a_capacity() {
    let tx = delta(vec![policy(2, |_| {})]);
    let limits = Limits {
        rows_per_policy: 1,
        ..Limits::MAX
    };
    assert_eq!(
        refuse_within(&tx, &limits),
        "ops[0].add.policy.rows: 2 rows are too many; at most 1 fit"
    );
    let limits = Limits {
        rows: 2,
        ..Limits::MAX
    };
    assert_eq!(
        refuse_within(&tx, &limits),
        "ops[0].add.policy: 3 policy rows are too many; at most 2 fit"
    );
    let many = policy(1, |it| {
        it.rules = vec!["x".to_owned(); RULES_PER_POLICY_MAX + 1]
    });
    assert_eq!(
        refuse_ops(vec![many]),
        "ops[0].add.policy.rules: 4097 rules are too many; at most 4096 fit"
    );
}

#[test]
fn a_state_alone_names_its_objects() {
    let limits = bound("peers", 0);
    let refusal = sample().validate(&limits).expect_err("there is a peer");
    assert_eq!(
        refusal.to_string(),
        "peers: 1 peers are too many; at most 0 fit"
    );
    let mut state = sample();
    state.endpoints.retain(|uid, _| uid.pod_uid.0 != "u-db");
    let refusal = state.validate(&Limits::MAX).expect_err("a prefix is alone");
    assert_eq!(refusal.path, "prefixes[10.0.0.2/32].local_pod");
    assert!(matches!(refusal.why, RefusalReason::NoLocalPod { .. }));
    assert_eq!(refusal.code(), RefusalCode::Reference);
}

#[test]
fn what_a_smaller_dataplane_holds_already_is_at_no_operations_fault() {
    let limits = bound("peers", 0);
    let refusal = refuse_within(&delta(Vec::new()), &limits);
    assert_eq!(refusal, "commit: 1 peers are too many; at most 0 fit");
    assert_eq!(State::default().validate(&limits), Ok(()));
}

#[test]
fn a_secondary_interface_has_a_printable_name() {
    let named = |text: &str| {
        let text = text.to_owned();
        refuse_ops(vec![endpoint("u-db", |it| it.interface = text)])
    };
    let long = "x".repeat(NAME_LEN_MAX + 1);
    for (text, why) in [("net\n1", "control character"), (&long, "at most")] {
        let refusal = named(text);
        let at = "ops[0].add.endpoint.interface: ";
        assert!(
            refusal.starts_with(at) && refusal.contains(why),
            "{refusal}"
        );
    }
}

#[test]
fn a_pod_has_an_endpoint_for_each_interface_and_they_share_nothing() {
    let second = endpoint("u-db", |it| it.interface = "net1".to_owned());
    assert_eq!(
        refuse_ops(vec![second]),
        "ops[0].add.endpoint.port: port vf1 already belongs to pod shop/db (uid u-db); give \
         each its own"
    );
}
