//! From two or three nodes that know each other's names to SAs that carry packets.

use std::net::SocketAddr;
use std::time::Duration;

use sluice_node_channel::{Command, DIALS_MAX, PEERS_MAX};
use sluice_offload_api::model::NodeName;
use tokio::net::{TcpListener, TcpStream};

use crate::ca::{Ca, Papers};
use crate::node::{Node, PATIENCE, config, introduce, own_address};
use crate::raw;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_seals_the_other_opens() {
    let ca = Ca::new("ca");
    let (pa, pb) = (Papers::new("a", &ca), Papers::new("b", &ca));
    let (a, b) = (Node::start(&pa).await, Node::start(&pb).await);
    introduce(&[&a, &b]).await;
    a.until_settled(&b, 1).await;
    b.until_settled(&a, 1).await;
    a.exchange(&b);
    assert_eq!(
        (a.peer(&b).dials, b.peer(&a).dials),
        (1, 0),
        "the lower ID dials"
    );
    assert!(a.peer(&b).post_quantum && b.peer(&a).post_quantum);
    assert_eq!(a.status().refused, b.status().refused);
    assert!(a.status().refused.is_empty(), "{:#?}", a.status());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_without_a_post_quantum_group_gets_a_classical_one_and_that_is_said() {
    let ca = Ca::new("ca");
    let (pa, pb) = (Papers::new("a", &ca), Papers::new("b", &ca));
    let (a, b) = (Node::start(&pa).await, Node::start(&pb).await);
    introduce(&[&a, &b]).await;
    a.until_settled(&b, 1).await;
    b.until("a post-quantum session", |s| {
        s.peers.values().all(|it| it.post_quantum)
    })
    .await;
    // The same peer with ring, which has no ML-KEM.
    let classical = raw::dial(b.listen, ca.issue_for("a")).await;
    let group = classical
        .get_ref()
        .1
        .negotiated_key_exchange_group()
        .unwrap();
    assert_eq!(group.name(), rustls::NamedGroup::X25519);
    b.until("a classical session", |s| {
        s.peers.values().all(|it| !it.post_quantum)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_through_an_intermediate_ca_is_followed_if_its_root_allows() {
    let (root, leaves_only) = (Ca::new("root"), Ca::of_leaves_only("leaves only"));
    let (pa, pb) = (Papers::new("a", &root), Papers::new("b", &root));
    pa.certify_through(&root.intermediate("intermediate"));
    let (a, b) = (Node::start(&pa).await, Node::start(&pb).await);
    introduce(&[&a, &b]).await;
    a.until_settled(&b, 1).await;
    b.until_settled(&a, 1).await;
    a.exchange(&b);

    let pc = Papers::new("c", &root);
    pc.trust(&[&leaves_only]);
    let c = Node::start(&pc).await;
    pa.certify_through(&leaves_only.intermediate("not allowed"));
    a.until("its other SVID", |s| s.identity_loads == 2).await;
    introduce(&[&a, &c]).await;
    c.until("a refusal", |s| s.refused.contains_key("svid-chain"))
        .await;
    let said = c.status().refused_last.unwrap();
    assert!(said.contains("PathLenConstraintViolated"), "{said}");

    let over = Ca::expired("over");
    pc.trust(&[&over]);
    c.until("its other anchor", |s| s.identity_loads == 2).await;
    pa.certify(&over, time::Duration::days(1));
    c.until("a refusal", |s| s.refused.contains_key("svid-expired"))
        .await;
    assert_eq!(c.sas.lock().unwrap().installs, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_have_a_pair_each_with_each() {
    let ca = Ca::new("ca");
    let papers = ["a", "b", "c"].map(|n| Papers::new(n, &ca));
    let mut nodes = Vec::new();
    for papers in &papers {
        nodes.push(Node::start(papers).await);
    }
    let [a, b, c] = nodes.as_slice() else {
        panic!("three");
    };
    introduce(&[a, b, c]).await;
    for (one, other) in [(a, b), (b, c), (a, c)] {
        one.until_settled(other, 1).await;
        other.until_settled(one, 1).await;
        one.exchange(other);
    }
    for node in [a, b, c] {
        let sas = node.sas.lock().unwrap();
        assert_eq!((sas.inbound.len(), sas.outbound.len()), (2, 2));
        assert_eq!(sas.installs, 4);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_not_there_yet_is_dialled_until_it_is() {
    let ca = Ca::new("ca");
    let (pa, pb) = (Papers::new("a", &ca), Papers::new("b", &ca));
    let mut of_b = config(&pb);
    of_b.listen = own_address();
    let (a, b) = (Node::start(&pa).await, Node::start_with(of_b).await);
    let (addr, name) = (b.listen, b.name.clone());
    b.stop().await;
    a.add(&name, addr).await;
    let failures = |n| move |s: &sluice_node_channel::Status| s.refused.get("connect") >= Some(&n);
    a.until("some failed dials", failures(3)).await;

    let mut config = crate::node::config(&pb);
    config.listen = addr;
    let b = Node::start_with(config).await;
    // It listens, but does not know A yet: refused, not accepted on trust.
    let refused = |s: &sluice_node_channel::Status| s.refused.contains_key("svid-not-a-peer");
    b.until("a refusal", refused).await;
    b.add(&a.name, a.listen).await;
    a.until_settled(&b, 1).await;
    b.until_settled(&a, 1).await;
    a.exchange(&b);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_peer_leaves_nothing_and_comes_back_with_new_keys() {
    let ca = Ca::new("ca");
    let (pa, pb) = (Papers::new("a", &ca), Papers::new("b", &ca));
    let (a, b) = (Node::start(&pa).await, Node::start(&pb).await);
    introduce(&[&a, &b]).await;
    a.until_settled(&b, 1).await;
    a.exchange(&b);
    let node = b.name.clone();
    a.say(Command::PeerRemoved { node }).await;
    let empty = |s: &crate::node::Sas| s.inbound.is_empty() && s.outbound.is_empty();
    a.until_sas("no SAs", empty).await;
    a.until("no peer", |s| s.peers.is_empty()).await;
    b.until("the session is gone", |s| !s.peers[&a.name].connected)
        .await;

    a.add(&b.name, b.listen).await;
    a.until_settled(&b, 1).await;
    b.until_settled(&a, 2).await;
    a.exchange(&b);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_sa_is_never_used_and_the_next_try_has_new_keys() {
    let ca = Ca::new("ca");
    let (pa, pb) = (Papers::new("a", &ca), Papers::new("b", &ca));
    let (a, b) = (Node::start(&pa).await, Node::start(&pb).await);
    b.sas.lock().unwrap().refuse = 2;
    introduce(&[&a, &b]).await;
    a.until_settled(&b, 1).await;
    b.until_settled(&a, 1).await;
    a.exchange(&b);
    // The second may have been a sending SA of the same session, which ended already.
    assert!((1..=2).contains(&b.status().refused["life-cycle"]));
    assert_eq!(b.sas.lock().unwrap().refuse, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_can_not_be_are_refused_with_the_reason() {
    let ca = Ca::new("ca");
    let pa = Papers::new("a", &ca);
    let a = Node::start(&pa).await;
    let addr = a.listen;
    a.add(&a.name, addr).await;
    a.add(&NodeName::from("Not/A/Node"), addr).await;
    a.until_sas("two refusals", |s| s.refused.len() == 2).await;
    {
        let sas = a.sas.lock().unwrap();
        assert!(sas.refused[0].contains("local and peer are both"));
        assert!(sas.refused[1].contains("Not/A/Node"), "{:?}", sas.refused);
    }
    // The higher names, so that none of them is dialled.
    let pz = Papers::new("z", &ca);
    let z = Node::start(&pz).await;
    for i in 0..=PEERS_MAX {
        z.add(&NodeName(format!("n{i}")), addr).await;
    }
    z.until_sas("too many", |s| s.refused.len() == 1).await;
    assert_eq!(z.status().peers.len(), PEERS_MAX);
}

#[tokio::test]
async fn a_node_dials_from_where_its_peers_know_it_to_be() {
    let papers = Papers::new("a", &Ca::new("ca"));
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = silent.local_addr().unwrap();
    for (listens, from) in [("127.0.0.7", "127.0.0.7"), ("0.0.0.0", "127.0.0.1")] {
        let mut config = config(&papers);
        config.listen = (listens.parse::<std::net::IpAddr>().unwrap(), 0).into();
        let a = Node::start_with(config).await;
        a.add(&NodeName::from("b"), addr).await;
        let dialled = tokio::time::timeout(PATIENCE, silent.accept()).await;
        let (_, seen) = dialled.expect("it dials").unwrap();
        assert_eq!(seen.ip().to_string(), from);
        a.stop().await;
    }
}

/// Takes connections and says nothing in them, until nobody else dials.
async fn as_many_as_may(silent: &TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let mut open = Vec::new();
    while open.len() < DIALS_MAX {
        let dialled = tokio::time::timeout(PATIENCE, silent.accept()).await;
        open.push(dialled.expect("it dials").unwrap());
    }
    let more = tokio::time::timeout(Duration::from_millis(300), silent.accept());
    assert!(more.await.is_err(), "one more dials");
    open
}

/// A listener that takes connections and says nothing: handshakes that are under way stay so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_dial_at_once_and_no_more() {
    let ca = Ca::new("ca");
    let papers = Papers::new("a", &ca);
    let mut config = config(&papers);
    config.handshake_ms_max = 30_000;
    let a = Node::start_with(config).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = silent.local_addr().unwrap();
    for n in 0..DIALS_MAX + 20 {
        a.add(&NodeName(format!("b{n:03}")), addr).await;
    }
    let mut open = as_many_as_may(&silent).await;
    // Where one is over another begins.
    open.pop();
    let next = tokio::time::timeout(PATIENCE, silent.accept()).await;
    next.expect("the next dials").unwrap();
}

/// All peers' keys are due together, and their handshakes hang: no more than so many are under way,
/// and what is in use stays so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_renew_at_once_and_no_more() {
    let ca = Ca::new("ca");
    let names = (0..DIALS_MAX + 8).map(|n| format!("b{n:03}"));
    let names = std::iter::once("a".to_owned()).chain(names);
    let papers: Vec<_> = names.map(|it| Papers::new(&it, &ca)).collect();
    let mut config = config(&papers[0]);
    config.handshake_ms_max = 30_000;
    let a = Node::start_with(config).await;
    let mut all = Vec::new();
    for papers in &papers[1..] {
        let b = Node::start(papers).await;
        introduce(&[&a, &b]).await;
        all.push(b);
    }
    for b in &all {
        a.until_settled(b, 1).await;
        b.until_settled(&a, 1).await;
    }
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = silent.local_addr().unwrap();
    for b in &all {
        a.add(&b.name, addr).await;
        let node = b.name.clone();
        a.say(Command::Rekey { node }).await;
    }
    let open = as_many_as_may(&silent).await;
    for b in &all {
        a.exchange(b);
        a.add(&b.name, b.listen).await;
    }
    // They answer again, and all get their keys.
    drop((open, silent));
    for b in &all {
        a.until_settled(b, 2).await;
        b.until_settled(&a, 2).await;
        a.exchange(b);
    }
}
