//! Certificates and anchors that change while nodes run.

use std::os::unix::fs::PermissionsExt;

use sluice_node_channel::{IdentityError, StartError, spawn};
use time::{Duration, OffsetDateTime};

use crate::ca::{Ca, Papers, id};
use crate::node::{Node, Sas, config, introduce};
use crate::rekey::renewed_under_traffic;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_svid_begins_no_session_until_a_new_one_is_there() {
    let ca = Ca::new("ca");
    let (pa, pb) = (Papers::new("a", &ca), Papers::new("b", &ca));
    pa.certify(&ca, Duration::seconds(30));
    let (a, b) = (Node::start(&pa).await, Node::start(&pb).await);
    introduce(&[&a, &b]).await;
    let own = |s: &sluice_node_channel::Status| s.refused.contains_key("no-identity");
    a.until("its own expiry", own).await;
    let said = a.peer(&b).error_last.unwrap();
    assert!(said.contains("has expired; sign a new one"), "{said}");
    assert_eq!(a.sas.lock().unwrap().installs, 0);
    let own_fault = |s: &sluice_node_channel::Status| {
        let told = s.identity_error.as_ref();
        told.is_some_and(|it| said.contains(it.as_str()))
    };
    a.until("its fault", own_fault).await;
    let left = || {
        let end = i64::try_from(a.status().svid_not_after.unwrap()).unwrap();
        end - OffsetDateTime::now_utc().unix_timestamp()
    };
    assert!(left() < 0, "{}", left());

    pa.certify(&ca, Duration::days(1));
    a.until_settled(&b, 1).await;
    b.until_settled(&a, 1).await;
    a.exchange(&b);
    assert_eq!(a.status().identity_loads, 2);
    assert!((80_000..86_400).contains(&left()), "{}", left());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_anchor_ends_the_sas_with_whom_it_vouched_for() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let (pa, pb) = (Papers::new("a", &old), Papers::new("b", &old));
    let mut cb = config(&pb);
    cb.grace_ms = 50;
    let (a, b) = (Node::start(&pa).await, Node::start_with(cb).await);
    introduce(&[&a, &b]).await;
    a.until_settled(&b, 1).await;
    b.until_settled(&a, 1).await;
    a.exchange(&b);

    pb.trust(&[&new]);
    let empty = |s: &Sas| s.inbound.is_empty() && s.outbound.is_empty();
    b.until_sas("no SA", empty).await;
    b.until("a lapse", |s| s.refused.contains_key("lapsed"))
        .await;
    b.until("refusals", |s| {
        s.refused.contains_key("svid-unknown-issuer")
    })
    .await;
    let installs = b.sas.lock().unwrap().installs;
    a.until("refused by the peer", |s| {
        s.refused.get("refused-by-peer") >= Some(&3)
    })
    .await;
    assert_eq!(b.sas.lock().unwrap().installs, installs);

    pb.trust(&[&old]);
    b.until_sas("SAs again", |s| {
        s.inbound.len() == 1 && s.outbound.len() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_is_replaced_without_a_moment_without_sas() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let (pa, pb) = (Papers::new("a", &old), Papers::new("b", &old));
    let [ca, cb] = [&pa, &pb].map(|papers| {
        let mut config = config(papers);
        // Longer than this test's threads are kept waiting between a seal and an open.
        config.timing.drain_ms = 2_000;
        config
    });
    let (a, b) = (Node::start_with(ca).await, Node::start_with(cb).await);
    introduce(&[&a, &b]).await;
    a.until_settled(&b, 1).await;
    b.until_settled(&a, 1).await;
    for (node, papers) in [(&a, &pa), (&b, &pb)] {
        papers.trust(&[&old, &new]);
        node.until("both anchors", |s| s.identity_loads == 2).await;
    }
    for (node, papers) in [(&a, &pa), (&b, &pb)] {
        papers.certify(&new, Duration::days(1));
        node.until("its new SVID", |s| s.identity_loads == 3).await;
    }
    a.exchange(&b);
    assert_eq!([a.peer(&b), b.peer(&a)].map(|it| it.established), [1, 1]);
    // The sessions that stand were begun with certificates of the old CA.
    let drop_old = || {
        for papers in [&pa, &pb] {
            papers.trust(&[&new]);
        }
    };
    renewed_under_traffic(&a, &b, drop_old).await;
    a.until_settled(&b, 2).await;
    b.until_settled(&a, 2).await;
    a.exchange(&b);
    for node in [&a, &b] {
        let refused = node.status().refused;
        assert!(!refused.contains_key("lapsed"), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_gone_bad_begin_no_session_and_leave_the_sas_alone() {
    let ca = Ca::new("ca");
    let (pa, pb) = (Papers::new("a", &ca), Papers::new("b", &ca));
    let (a, b) = (Node::start(&pa).await, Node::start(&pb).await);
    introduce(&[&a, &b]).await;
    a.until_settled(&b, 1).await;
    b.until_settled(&a, 1).await;
    pb.put("anchors.pem", "nothing in here\n");
    let bad = |s: &sluice_node_channel::Status| s.identity_error.is_some();
    b.until("the bad file", bad).await;
    let said = b.status().identity_error.unwrap();
    assert!(said.contains("anchors.pem holds no certificate"), "{said}");
    let node = b.name.clone();
    a.say(sluice_node_channel::Command::Rekey { node }).await;
    b.until("refusals", |s| s.refused.contains_key("no-identity"))
        .await;
    a.exchange(&b);
    pb.trust(&[&ca]);
    a.until_settled(&b, 2).await;
    a.exchange(&b);
}

#[tokio::test]
async fn files_that_are_not_this_nodes_identity_are_refused_at_the_start() {
    let ca = Ca::new("ca");
    let error = async |papers: &Papers| match spawn(config(papers)).await {
        Err(StartError::Identity(why)) => why,
        other => panic!("{other:?}"),
    };

    let readable = Papers::new("a", &ca);
    let mode = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(readable.files().key, mode).unwrap();
    let why = error(&readable).await;
    assert!(matches!(why, IdentityError::KeyMode { mode: 0o640, .. }));

    let missing = Papers::new("a", &ca);
    std::fs::remove_file(missing.files().anchors).unwrap();
    let why = error(&missing).await;
    assert!(matches!(why, IdentityError::Io { .. }), "{why}");

    let no_anchor = Papers::new("a", &ca);
    std::fs::copy(no_anchor.files().svid, no_anchor.files().anchors).unwrap();
    let why = error(&no_anchor).await;
    assert!(why.to_string().contains("it is not a CA's"), "{why}");

    let (another, one) = (Papers::new("b", &ca), Papers::new("a", &ca));
    std::fs::copy(another.files().svid, one.files().svid).unwrap();
    let why = error(&one).await;
    assert!(why.to_string().contains("is the SVID of"), "{why}");

    let (another, one) = (Papers::new("a", &ca), Papers::new("a", &ca));
    std::fs::copy(another.files().svid, one.files().svid).unwrap();
    let why = error(&one).await;
    assert!(matches!(why, IdentityError::Tls(_)), "another's key: {why}");

    let garbled = Papers::new("a", &ca);
    garbled.put(
        "svid.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let why = error(&garbled).await;
    assert!(matches!(why, IdentityError::Svid { .. }), "{why}");

    let key = garbled.files().key;
    let again = sluice_node_channel::make_key_and_request(&key, &id("a"));
    assert!(
        matches!(again, Err(IdentityError::Io { .. })),
        "it overwrote a key"
    );
}
