//! The identity from a SPIFFE Workload API: the first one, new ones, none any more, bad ones.

use sluice_node_channel::{
    Command, Config, RESPONSE_LEN_MAX, SVIDS_MAX, Status, WorkloadApi, spawn,
};
use time::OffsetDateTime;
use tonic::Code;

use crate::api::{Answer, Api, X509svid, response, socket, svid};
use crate::ca::{Ca, Folder, id, uri};
use crate::node::{Node, Sas, config_from, introduce};
use crate::rekey::renewed_under_traffic;

/// A node and its API.
struct Served {
    node: Node,
    api: Option<Api>,
    at: WorkloadApi,
    _folder: Folder,
}

impl Served {
    /// Whom `ca` vouches for and who trusts `ca`.
    async fn start(node: &str, ca: &Ca) -> Self {
        Self::start_with(node, ca, |_| {}).await
    }

    async fn start_with(node: &str, ca: &Ca, change: impl FnOnce(&mut Config)) -> Self {
        let (folder, at) = socket();
        let api = Api::start(&at.socket, Ok(response(vec![svid(node, ca, &[ca])])));
        let mut config = config_from(node, at.clone());
        change(&mut config);
        let node = Node::start_with(config).await;
        node.until("its first SVID", |s| s.identity_loads == 1)
            .await;
        Self {
            node,
            api: Some(api),
            at,
            _folder: folder,
        }
    }

    fn answer(&self, answer: Answer) {
        self.api.as_ref().unwrap().answer(answer);
    }

    async fn give(&self, svids: Vec<X509svid>, loads: u64) {
        self.answer(Ok(response(svids)));
        let taken = |s: &Status| s.identity_loads == loads && s.identity_error.is_none();
        self.node.until("a new SVID", taken).await;
    }

    async fn until_fault(&self, what: &str) {
        let said = |s: &Status| {
            s.identity_error
                .as_ref()
                .is_some_and(|it| it.contains(what))
        };
        self.node.until(what, said).await;
    }
}

async fn settle(a: &Node, b: &Node, times: u64) {
    a.until_settled(b, times).await;
    b.until_settled(a, times).await;
    a.exchange(b);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_waits_for_its_first_svid_and_then_has_sas() {
    let ca = Ca::new("ca");
    let (folders, at): (Vec<_>, Vec<_>) = [socket(), socket()].into_iter().unzip();
    let a = Node::start_with(config_from("a", at[0].clone())).await;
    let b = Node::start_with(config_from("b", at[1].clone())).await;
    introduce(&[&a, &b]).await;
    for (node, folder) in [(&a, &folders[0]), (&b, &folders[1])] {
        let said = |s: &Status| s.identity_error.clone().unwrap_or_default();
        node.until("why it waits", |s| said(s).contains("can't reach"))
            .await;
        let said = said(&node.status());
        let path = folder.0.join("agent.sock");
        assert!(said.contains(path.to_str().unwrap()), "{said}");
        assert!(said.contains("does the SPIRE agent run"), "{said}");
    }
    a.until("dials that come to nothing", |s| {
        s.refused.contains_key("no-identity")
    })
    .await;
    for node in [&a, &b] {
        assert_eq!(node.status().identity_loads, 0);
        assert_eq!(node.sas.lock().unwrap().installs, 0);
    }

    // Another's SVID before ours, and a foreign domain's bundle beside them.
    let apis = [("a", &at[0]), ("b", &at[1])].map(|(node, at)| {
        let mut given = response(vec![svid("c", &ca, &[&ca]), svid(node, &ca, &[&ca])]);
        let foreign = ("spiffe://elsewhere".to_owned(), Ca::new("foreign").der());
        given.federated_bundles.extend([foreign]);
        Api::start(&at.socket, Ok(given))
    });
    settle(&a, &b, 1).await;
    for node in [&a, &b] {
        assert_eq!(node.status().identity_error, None);
        assert!(node.status().svid_not_after.is_some());
    }
    drop(apis);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn svids_and_bundles_rotate_without_a_moment_without_sas() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    // Longer than this test's threads are kept waiting between a seal and an open.
    let slow = |config: &mut Config| config.timing.drain_ms = 2_000;
    let a = Served::start_with("a", &old, slow).await;
    let b = Served::start_with("b", &old, slow).await;
    introduce(&[&a.node, &b.node]).await;
    settle(&a.node, &b.node, 1).await;
    // A new certificate and key, by the same CA: nobody has to do anything.
    for (it, name) in [(&a, "a"), (&b, "b")] {
        it.give(vec![svid(name, &old, &[&old])], 2).await;
        it.give(vec![svid(name, &old, &[&old, &new])], 3).await;
    }
    assert_eq!(a.node.peer(&b.node).established, 1);
    for (it, name) in [(&a, "a"), (&b, "b")] {
        it.give(vec![svid(name, &new, &[&old, &new])], 4).await;
    }
    // The session that stands was begun with certificates of the old CA.
    let drop_old = || {
        for (it, name) in [(&a, "a"), (&b, "b")] {
            it.answer(Ok(response(vec![svid(name, &new, &[&new])])));
        }
    };
    let (a, b) = (&a.node, &b.node);
    renewed_under_traffic(a, b, drop_old).await;
    for node in [a, b] {
        let refused = node.status().refused;
        assert!(!refused.contains_key("lapsed"), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_anchor_that_left_the_bundle_ends_the_sas_of_its_peers() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let a = Served::start("a", &old).await;
    let b = Served::start_with("b", &old, |config| config.grace_ms = 50).await;
    introduce(&[&a.node, &b.node]).await;
    settle(&a.node, &b.node, 1).await;
    b.give(vec![svid("b", &old, &[&new])], 2).await;
    let empty = |s: &Sas| s.inbound.is_empty() && s.outbound.is_empty();
    b.node.until_sas("no SA", empty).await;
    b.node
        .until("a lapse", |s| s.refused.contains_key("lapsed"))
        .await;
    b.give(vec![svid("b", &old, &[&old])], 3).await;
    let back = |s: &Sas| s.inbound.len() == 1 && s.outbound.len() == 1;
    b.node.until_sas("SAs again", back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_is_gone_ends_nothing_and_is_followed_again_when_it_is_back() {
    let ca = Ca::new("ca");
    let (a, mut b) = (Served::start("a", &ca).await, Served::start("b", &ca).await);
    introduce(&[&a.node, &b.node]).await;
    settle(&a.node, &b.node, 1).await;
    drop(b.api.take());
    b.until_fault("can't reach the Workload API").await;
    a.node.exchange(&b.node);
    // The SVID that it has is good: keys are renewed by it.
    let node = b.node.name.clone();
    a.node.say(Command::Rekey { node }).await;
    settle(&a.node, &b.node, 2).await;
    assert_eq!(b.node.status().identity_loads, 1);

    let answer = Ok(response(vec![svid("b", &ca, &[&ca])]));
    b.api = Some(Api::start(&b.at.socket, answer));
    let back = |s: &Status| s.identity_loads == 2 && s.identity_error.is_none();
    b.node.until("a new SVID", back).await;
    a.node.exchange(&b.node);
    assert_eq!(a.node.peer(&b.node).established, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_svid_that_is_withdrawn_begins_no_session_and_leaves_the_sas_alone() {
    let ca = Ca::new("ca");
    let (a, b) = (Served::start("a", &ca).await, Served::start("b", &ca).await);
    introduce(&[&a.node, &b.node]).await;
    settle(&a.node, &b.node, 1).await;
    b.answer(Err(Code::PermissionDenied));
    b.until_fault("grants this process no SVID: no identity issued")
        .await;
    let said = b.node.status().identity_error.unwrap();
    assert!(said.contains(&format!("entry of {}", id("b"))), "{said}");
    let node = b.node.name.clone();
    a.node.say(Command::Rekey { node }).await;
    let refused = |s: &Status| s.refused.contains_key("no-identity");
    b.node.until("refusals", refused).await;
    a.node.exchange(&b.node);

    // Entitled to something, but not to be this node.
    b.answer(Ok(response(vec![
        svid("c", &ca, &[&ca]),
        svid("d", &ca, &[&ca]),
    ])));
    let offered = format!(
        "no SVID of {} is offered, but of {}, {};",
        id("b"),
        id("c"),
        id("d")
    );
    b.until_fault(&offered).await;
    a.node.exchange(&b.node);
    assert_eq!(b.node.peer(&a.node).established, 1);

    b.give(vec![svid("b", &ca, &[&ca])], 2).await;
    settle(&a.node, &b.node, 2).await;
}

/// What ends the SAs of peers for whom nobody vouches isn't put off by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_svid_that_is_withdrawn_keeps_no_sas_of_a_peer_whose_anchor_left() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let a = Served::start("a", &old).await;
    let b = Served::start_with("b", &old, |config| config.grace_ms = 6_000).await;
    introduce(&[&a.node, &b.node]).await;
    settle(&a.node, &b.node, 1).await;
    b.give(vec![svid("b", &old, &[&new])], 2).await;
    b.answer(Err(Code::PermissionDenied));
    b.until_fault("grants this process no SVID").await;
    assert_eq!(b.node.sas.lock().unwrap().inbound.len(), 1, "the grace");
    let empty = |s: &Sas| s.inbound.is_empty() && s.outbound.is_empty();
    b.node.until_sas("no SA", empty).await;
    b.node
        .until("a lapse", |s| s.refused.contains_key("lapsed"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_response_is_refused_whole_with_its_reason_and_changes_nothing() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let (a, b) = (Served::start("a", &ca).await, Served::start("b", &ca).await);
    introduce(&[&a.node, &b.node]).await;
    settle(&a.node, &b.node, 1).await;
    // Each with a bundle that would end the SAs if it were taken.
    let good = || svid("b", &other, &[&other]);
    let bad = |change: &dyn Fn(&mut X509svid)| {
        let mut svid = good();
        change(&mut svid);
        response(vec![svid])
    };
    let long = "certificate 1 of `x509_svid` can't be read";
    let mut large = response(vec![good()]);
    let filling = vec![0; RESPONSE_LEN_MAX];
    large.federated_bundles.insert("x".to_owned(), filling);
    let all = [
        (response(vec![]), "holds no SVID"),
        (
            response(vec![good(); SVIDS_MAX + 1]),
            "holds 65 SVIDs, more than 64",
        ),
        (large, "too large"),
        (
            bad(&|it| it.x509_svid = vec![7; 100]),
            "certificate 0 of `x509_svid` can't be read",
        ),
        (bad(&|it| it.x509_svid.extend([0x30, 3, 1])), long),
        (
            bad(&|it| it.x509_svid = it.x509_svid.repeat(6)),
            "`x509_svid` holds more than 5 certificates",
        ),
        (
            bad(&|it| it.x509_svid = svid("c", &ca, &[&ca]).x509_svid),
            "that is said to be of spiffe://test/sluice/node/b is of spiffe://test/sluice/node/c",
        ),
        (
            bad(&|it| it.x509_svid = other.der()),
            "`x509_svid`: the certificate has 0 URI names",
        ),
        (
            bad(&|it| it.x509_svid_key.clear()),
            "has an empty `x509_svid_key`",
        ),
        (
            bad(&|it| it.x509_svid_key = vec![171; 64]),
            "SVID and key don't go together",
        ),
        (
            bad(&|it| it.x509_svid_key = good().x509_svid_key),
            "SVID and key don't go together: keys may not be consistent",
        ),
        (
            bad(&|it| {
                let old = ca.issue(|params| {
                    params.subject_alt_names.push(uri("b"));
                    params.not_after = OffsetDateTime::now_utc() - time::Duration::minutes(1);
                });
                (it.x509_svid, it.x509_svid_key) = (old.chain[0].to_vec(), old.key);
            }),
            "the SVID of this node has expired",
        ),
        (bad(&|it| it.bundle.clear()), "has an empty `bundle`"),
        (
            bad(&|it| it.bundle.extend([1; 9])),
            "certificate 1 of `bundle` can't be read",
        ),
        (
            bad(&|it| it.bundle = it.bundle.repeat(65)),
            "`bundle` holds more than 64 certificates",
        ),
        (
            bad(&|it| it.bundle = it.x509_svid.clone()),
            "certificate 0 of `bundle` is no trust anchor",
        ),
    ];
    for (answer, why) in all {
        let mut spelled = Vec::new();
        for key in answer.svids.iter().map(|it| &it.x509_svid_key) {
            // Long enough to be nothing else.
            for part in key.chunks_exact(8) {
                let decimal = format!("{part:?}");
                spelled.push(decimal.trim_matches(['[', ']']).to_owned());
                spelled.push(part.iter().map(|it| format!("{it:02x}")).collect());
            }
        }
        b.answer(Ok(answer));
        b.until_fault(why).await;
        let shown = format!("{:?}", b.node.status());
        assert!(!spelled.iter().any(|it| shown.contains(it)), "{shown}");
    }
    assert_eq!(b.node.status().identity_loads, 1);
    a.node.exchange(&b.node);
    let node = b.node.name.clone();
    a.node.say(Command::Rekey { node }).await;
    settle(&a.node, &b.node, 2).await;
    b.give(vec![svid("b", &ca, &[&ca])], 2).await;
}

#[tokio::test]
async fn an_api_that_does_not_answer_is_told_of_and_asked_anew() {
    let (_folder, mut at) = socket();
    at.answer_ms_max = 50;
    let listener = tokio::net::UnixListener::bind(&at.socket).unwrap();
    let handle = spawn(config_from("a", at)).await.unwrap();
    let mut status = handle.status.clone();
    // Held, so that they stay open.
    let one = listener.accept().await.unwrap();
    let silent = |s: &Status| {
        let said = s.identity_error.as_ref();
        said.is_some_and(|it| it.contains("gives no answer within 50 ms"))
    };
    status.wait_for(silent).await.unwrap();
    let another = listener.accept().await.unwrap();
    drop((one, another));
    handle.stop().await;
}
