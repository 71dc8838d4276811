//! A peer that would keep its SAs when the anchor that vouched for it is gone.

use std::net::SocketAddr;

use sluice_crypto::key::Algorithm;
use sluice_crypto::lifecycle::{Hello, Message, SpiBlock};
use sluice_node_channel::{Wire, encode};
use sluice_offload_api::model::NodeName;
use time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::ca::{Ca, Papers, id};
use crate::node::{Node, Sas, config, introduce};
use crate::raw;

fn none(sas: &Sas) -> bool {
    sas.inbound.is_empty() && sas.outbound.is_empty()
}

/// A node B that A dials, and how fast it sees to what changes.
async fn b_with_peer_a(papers: &Papers, establish_ms_max: u64) -> Node {
    let mut config = config(papers);
    config.grace_ms = 50;
    config.timing.establish_ms_max = establish_ms_max;
    config.timing.resend_ms = 100;
    let b = Node::start_with(config).await;
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    b.add(&NodeName::from("a"), nowhere).await;
    b.until("its peer", |s| s.peers.len() == 1).await;
    b
}

fn hello() -> Vec<u8> {
    let hello = Hello {
        spiffe_id: id("a").as_str().to_owned(),
        instance: 1,
        attempt: 1,
        epoch_floor: 1,
        receive: SpiBlock::new(0x1000).unwrap(),
        lanes: 1,
        algorithms: Algorithm::ALL.to_vec(),
        esn: true,
        sending: Vec::new(),
    };
    encode(&Wire::Sa(Message::Hello(hello)))
}

/// What A says so that B has SAs both ways; that it sends by its own it never says.
async fn half_establish(stream: &mut TlsStream<TcpStream>, b: &Node) {
    stream.write_all(&hello()).await.unwrap();
    b.until_sas("it receives", |s| s.inbound.len() == 1).await;
    let ready = encode(&Wire::Sa(Message::Ready { epoch: 1 }));
    stream.write_all(&ready).await.unwrap();
    b.until_sas("it sends", |s| s.outbound.len() == 1).await;
}

/// Beside its own certificate it shows one that is over and has the name of the anchor. Which of two
/// faults a library tells, when the anchor is gone, is no proof that it is the time alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_a_certificate_that_is_over_and_no_part_of_its_chain() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let (pa, pb) = (Papers::new("a", &old), Papers::new("b", &old));
    pa.certify_beside(&old, &Ca::expired("old"));
    let mut cb = config(&pb);
    cb.grace_ms = 50;
    let (a, b) = (Node::start(&pa).await, Node::start_with(cb).await);
    introduce(&[&a, &b]).await;
    a.until_settled(&b, 1).await;
    b.until_settled(&a, 1).await;
    pb.trust(&[&new]);
    b.until_sas("no SA", none).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_a_session_that_it_never_brings_to_its_end() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let papers = Papers::new("b", &old);
    let b = b_with_peer_a(&papers, 3_000).await;
    let mut stream = raw::dial(b.listen, old.issue_for("a")).await;
    half_establish(&mut stream, &b).await;
    drop(raw::read_to_end(&mut stream).await);
    b.until_refused("life-cycle", 1).await;
    let kept = |s: &Sas| s.inbound.len() == 1 && s.outbound.len() == 1;
    assert!(kept(&b.sas.lock().unwrap()), "the peer may send by them");
    papers.trust(&[&new]);
    b.until_sas("no SA", none).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_a_session_that_is_under_way_meanwhile() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let papers = Papers::new("b", &old);
    let b = b_with_peer_a(&papers, 20_000).await;
    let mut stream = raw::dial(b.listen, old.issue_for("a")).await;
    half_establish(&mut stream, &b).await;
    papers.trust(&[&new]);
    b.until("the other anchor", |s| s.identity_loads == 2).await;
    // To its end, and on.
    let delete = encode(&Wire::Sa(Message::Delete { below: 1 }));
    drop(stream.write_all(&delete).await);
    b.until_sas("no SA", none).await;
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest).await);
    b.until("a lapse", |s| s.refused.contains_key("lapsed"))
        .await;
}

/// With the times of a product, not of a test: twenty seconds and a reload.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_longer_than_a_minute() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let (pa, pb) = (Papers::new("a", &old), Papers::new("b", &old));
    let defaults = sluice_node_channel::Config::new(
        NodeName::from("b"),
        crate::ca::domain(),
        SocketAddr::from(([127, 0, 0, 1], 0)),
        pb.files(),
    );
    let (a, b) = (Node::start(&pa).await, Node::start_with(defaults).await);
    introduce(&[&a, &b]).await;
    a.until_settled(&b, 1).await;
    pb.trust(&[&new]);
    let begun = std::time::Instant::now();
    b.until_sas("no SA", none).await;
    let took = begun.elapsed();
    assert!(took < Duration::seconds(60), "{took:?}");
}
