//! Whoever is not the expected node, or does not keep to the protocol, is refused for a reason
//! that is counted, and nothing is installed.

use std::net::SocketAddr;

use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use sluice_crypto::lifecycle::{Message, SpiBlock};
use sluice_node_channel::{HANDSHAKES_MAX, HANDSHAKES_PER_ADDR_MAX, Wire, encode};
use sluice_offload_api::model::NodeName;
use time::{Duration, OffsetDateTime};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::ca::{Ca, Issued, Papers, uri};
use crate::node::{Node, config, introduce};
use crate::raw;

/// A node B that has A for a peer and is dialled by it.
async fn b_with_peer_a(ca: &Ca) -> (Papers, Node) {
    let papers = Papers::new("b", ca);
    let b = Node::start(&papers).await;
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    b.add(&NodeName::from("a"), nowhere).await;
    b.until("its peer", |s| s.peers.len() == 1).await;
    (papers, b)
}

/// B refuses a client with this certificate, for this reason, and tells it.
async fn refuses(b: &Node, issued: Issued, kind: &str, words: &str) {
    let config = raw::client_config(Some(issued), &rustls::version::TLS13);
    let told = match raw::dial_with(b.listen, config).await {
        Ok(mut stream) => raw::read_to_end(&mut stream).await,
        Err(error) => Err(error),
    };
    let told = told.expect_err("the session goes on");
    assert!(told.to_string().contains("alert"), "{kind}: {told}");
    b.until_refused(kind, 1).await;
    let last = b.status().refused_last.unwrap();
    assert!(last.contains(words), "{kind}: {last}");
    assert_eq!(b.sas.lock().unwrap().installs, 0, "{kind}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_not_the_expected_node_is_refused() {
    let (ca, other) = (Ca::new("ca"), Ca::new("ca"));
    let (_papers, b) = b_with_peer_a(&ca).await;
    let named = |change: fn(&mut rcgen::CertificateParams)| {
        ca.issue(|params| {
            params.subject_alt_names.push(uri("a"));
            change(params);
        })
    };
    let expired = named(|p| p.not_after = OffsetDateTime::now_utc() - Duration::minutes(1));
    refuses(&b, expired, "svid-expired", "node/a, or one that").await;
    let early = named(|p| p.not_before = OffsetDateTime::now_utc() + Duration::hours(1));
    refuses(&b, early, "svid-not-yet-valid", "clocks").await;
    // The same name, another key.
    let wrong_ca = other.issue_for("a");
    refuses(&b, wrong_ca, "svid-chain", "InvalidSignature").await;
    let unknown_ca = Ca::new("another").issue_for("a");
    refuses(
        &b,
        unknown_ca,
        "svid-unknown-issuer",
        "none of the trust anchors",
    )
    .await;
    let leaf_is_ca = named(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    refuses(&b, leaf_is_ca, "svid-ca-leaf", "is a CA's").await;
    let two = named(|p| p.subject_alt_names.push(uri("b")));
    refuses(&b, two, "svid-uri-names", "has 2 URI names").await;
    let none = ca.issue(|p| {
        let name = "a.example".try_into().unwrap();
        p.subject_alt_names.push(SanType::DnsName(name));
    });
    refuses_again(&b, none, "svid-uri-names", "has 0 URI names").await;
    let usage = named(|p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement]);
    refuses(&b, usage, "svid-key-usage", "digitalSignature").await;
    let signs = named(|p| p.key_usages.push(KeyUsagePurpose::KeyCertSign));
    refuses_again(&b, signs, "svid-key-usage", "keyCertSign").await;
    let revokes = named(|p| p.key_usages.push(KeyUsagePurpose::CrlSign));
    let config = raw::client_config(Some(revokes), &rustls::version::TLS13);
    drop(raw::dial_with(b.listen, config).await);
    b.until_refused("svid-key-usage", 3).await;
    let no_usage = named(|p| p.key_usages.clear());
    let kind = "svid-key-usage";
    let config = raw::client_config(Some(no_usage), &rustls::version::TLS13);
    drop(raw::dial_with(b.listen, config).await);
    b.until_refused(kind, 4).await;
    let server_only = named(|p| {
        p.extended_key_usages
            .push(ExtendedKeyUsagePurpose::ServerAuth);
    });
    let config = raw::client_config(Some(server_only), &rustls::version::TLS13);
    drop(raw::dial_with(b.listen, config).await);
    b.until_refused("svid-chain", 2).await;
    let config = raw::client_config(Some(ca.issue_through(5, "a")), &rustls::version::TLS13);
    drop(raw::dial_with(b.listen, config).await);
    b.until_refused("svid-chain", 3).await;
    let last = b.status().refused_last.unwrap();
    assert!(last.contains("MaximumPathDepth"), "{last}");

    let foreign = ca.issue(|p| {
        let uri = "spiffe://elsewhere/sluice/node/a".try_into().unwrap();
        p.subject_alt_names.push(SanType::URI(uri));
    });
    refuses(&b, foreign, "svid-trust-domain", "not of trust domain test").await;
    let pod = ca.issue(|p| {
        let uri = "spiffe://test/ns/shop/sa/cart".try_into().unwrap();
        p.subject_alt_names.push(SanType::URI(uri));
    });
    refuses(&b, pod, "svid-id", "not of the form").await;
    let stranger = ca.issue_for("aa");
    refuses(
        &b,
        stranger,
        "svid-not-a-peer",
        "is not a peer of this node",
    )
    .await;
    for higher in ["b", "c"] {
        let issued = ca.issue_for(higher);
        let config = raw::client_config(Some(issued), &rustls::version::TLS13);
        drop(raw::dial_with(b.listen, config).await);
    }
    b.until_refused("svid-wrong-way", 2).await;
    assert_eq!(b.sas.lock().unwrap().installs, 0);
}

async fn refuses_again(b: &Node, issued: Issued, kind: &str, words: &str) {
    let config = raw::client_config(Some(issued), &rustls::version::TLS13);
    drop(raw::dial_with(b.listen, config).await);
    b.until_refused(kind, 2).await;
    let last = b.status().refused_last.unwrap();
    assert!(last.contains(words), "{kind}: {last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_certificate_an_older_tls_and_no_tls_are_refused() {
    let ca = Ca::new("ca");
    let (_papers, b) = b_with_peer_a(&ca).await;
    let anonymous = raw::client_config(None, &rustls::version::TLS13);
    if let Ok(mut stream) = raw::dial_with(b.listen, anonymous).await {
        raw::read_to_end(&mut stream).await.expect_err("it goes on");
    }
    b.until_refused("no-certificate", 1).await;
    let old = raw::client_config(Some(ca.issue_for("a")), &rustls::version::TLS12);
    raw::dial_with(b.listen, old).await.expect_err("TLS 1.2");
    b.until_refused("tls", 1).await;
    let mut plain = TcpStream::connect(b.listen).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    b.until_refused("tls", 2).await;
    let mut other = raw::client_config(Some(ca.issue_for("a")), &rustls::version::TLS13);
    other.alpn_protocols = vec![b"h2".to_vec()];
    raw::dial_with(b.listen, other).await.expect_err("HTTP/2");
    b.until_refused("tls", 3).await;
    assert_eq!(b.sas.lock().unwrap().installs, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_the_dialled_node_learns_nothing_and_gets_no_key() {
    let (ca, other) = (Ca::new("ca"), Ca::new("another"));
    let papers = Papers::new("a", &ca);
    let a = Node::start(&papers).await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    a.add(&NodeName::from("b"), listener.local_addr().unwrap())
        .await;
    // A good certificate, of a node that is a peer, but not the one that was dialled.
    let cases = [
        (
            ca.issue_for("c"),
            "svid-unexpected",
            "the peer is spiffe://test/sluice/node/c, expected",
        ),
        (
            other.issue_for("b"),
            "svid-unknown-issuer",
            "none of the trust anchors",
        ),
    ];
    for (issued, kind, words) in cases {
        raw::answer(&listener, issued)
            .await
            .expect_err("it goes on");
        a.until_refused(kind, 1).await;
        let last = a.status().peers[&NodeName::from("b")].error_last.clone();
        let last = last.unwrap();
        assert!(last.contains(words), "{last}");
    }
    assert_eq!(a.sas.lock().unwrap().installs, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_breaks_the_protocol_loses_its_session() {
    let ca = Ca::new("ca");
    let papers = Papers::new("b", &ca);
    let mut cb = config(&papers);
    cb.frame_ms_max = 300;
    let b = Node::start_with(cb).await;
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    b.add(&NodeName::from("a"), nowhere).await;
    b.until("its peer", |s| s.peers.len() == 1).await;
    let ready = encode(&Wire::Sa(Message::Ready { epoch: 1 }));
    let said: [(&[u8], &str); 5] = [
        (&[0xff, 0xff, 1], "frame-len"),
        (&[0x00, 0x00], "frame-len"),
        (&[0x00, 0x01, 0x63], "message"),
        (&ready[..ready.len() - 1], "frame-timeout"),
        (&[0x00], "frame-timeout"),
    ];
    let mut counts = std::collections::BTreeMap::new();
    for (bytes, kind) in said {
        let mut stream = raw::dial(b.listen, ca.issue_for("a")).await;
        stream.write_all(bytes).await.unwrap();
        drop(raw::read_to_end(&mut stream).await);
        let count = counts.entry(kind).or_insert(0);
        *count += 1;
        b.until_refused(kind, *count).await;
    }
    let mut stream = raw::dial(b.listen, ca.issue_for("a")).await;
    stream.write_all(&ready[..5]).await.unwrap();
    drop(stream);
    b.until_refused("frame-cut", 1).await;
    assert_eq!(b.sas.lock().unwrap().installs, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_never_says_hello_is_closed_and_gets_no_ticket_to_come_back_with() {
    let ca = Ca::new("ca");
    let papers = Papers::new("b", &ca);
    let mut cb = config(&papers);
    cb.timing.establish_ms_max = 300;
    cb.timing.resend_ms = 100;
    let b = Node::start_with(cb).await;
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    b.add(&NodeName::from("a"), nowhere).await;
    b.until("its peer", |s| s.peers.len() == 1).await;
    let config = raw::client_config(Some(ca.issue_for("a")), &rustls::version::TLS13);
    let mut stream = raw::dial_with(b.listen, config).await.unwrap();
    let said = raw::read_to_end(&mut stream).await.unwrap();
    assert!(said.is_empty(), "it waits for a hello: {said:?}");
    b.until_refused("life-cycle", 1).await;
    let last = b.status().refused_last.unwrap();
    assert!(last.contains("not in use both ways in time"), "{last}");
    let (_, tls) = stream.get_ref();
    assert_eq!(tls.tls13_tickets_received(), 0);
    assert!(!tls.is_early_data_accepted());
    assert_eq!(
        tls.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_3)
    );
}

/// Signed by the right CA and of the right node, but the hello speaks for another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hello_of_another_than_the_certificates_owner_is_refused() {
    let ca = Ca::new("ca");
    let (_papers, b) = b_with_peer_a(&ca).await;
    let hello = sluice_crypto::lifecycle::Hello {
        spiffe_id: "spiffe://test/sluice/node/c".to_owned(),
        instance: 1,
        attempt: 1,
        epoch_floor: 1,
        receive: SpiBlock::new(0x1000).unwrap(),
        lanes: 1,
        algorithms: sluice_crypto::key::Algorithm::ALL.to_vec(),
        esn: true,
        sending: Vec::new(),
    };
    let mut stream = raw::dial(b.listen, ca.issue_for("a")).await;
    let frame = encode(&Wire::Sa(Message::Hello(hello)));
    stream.write_all(&frame).await.unwrap();
    drop(raw::read_to_end(&mut stream).await);
    b.until_refused("life-cycle", 1).await;
    let last = b.status().refused_last.unwrap();
    assert!(
        last.contains("hello says spiffe://test/sluice/node/c"),
        "{last}"
    );
    assert_eq!(b.sas.lock().unwrap().installs, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_say_nothing_are_cut_and_keep_nobody_else_out() {
    let ca = Ca::new("ca");
    let (pa, pb) = (Papers::new("a", &ca), Papers::new("b", &ca));
    let mut cb = config(&pb);
    cb.handshake_ms_max = 5_000;
    let (a, b) = (Node::start(&pa).await, Node::start_with(cb).await);
    let mut idle = Vec::new();
    for _ in 0..=HANDSHAKES_PER_ADDR_MAX {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
        idle.push(socket.connect(b.listen).await.unwrap());
    }
    b.until_refused("too-many-handshakes", 1).await;
    introduce(&[&a, &b]).await;
    a.until_settled(&b, 1).await;
    b.until_settled(&a, 1).await;
    a.exchange(&b);
    let cut = u64::try_from(HANDSHAKES_PER_ADDR_MAX).unwrap();
    b.until_refused("handshake-timeout", cut).await;
    drop(idle);
}

/// Connects from an address of the loopback network and says nothing.
async fn silent(to: &Node, from: [u8; 2]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let [high, low] = from;
    let from = SocketAddr::from(([127, 0, high, low], 0));
    socket.bind(from).unwrap();
    socket.connect(to.listen).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_addresses_that_say_nothing_keep_no_peer_out() {
    let ca = Ca::new("ca");
    let (pa, pb) = (Papers::new("a", &ca), Papers::new("b", &ca));
    let mut cb = config(&pb);
    // None of them is cut while the test waits for the peer.
    cb.handshake_ms_max = 600_000;
    let (a, b) = (Node::start(&pa).await, Node::start_with(cb).await);
    let addresses = u8::try_from(HANDSHAKES_MAX / HANDSHAKES_PER_ADDR_MAX).unwrap();
    let mut idle = Vec::new();
    for address in 1..=addresses {
        for _ in 0..HANDSHAKES_PER_ADDR_MAX {
            idle.push(silent(&b, [2, address]).await);
        }
    }
    idle.push(silent(&b, [3, 1]).await);
    let full = |s: &sluice_node_channel::Status| s.refused.contains_key("too-many-handshakes");
    b.until("all places for strangers taken", full).await;
    introduce(&[&a, &b]).await;
    a.until_settled(&b, 1).await;
    b.until_settled(&a, 1).await;
    a.exchange(&b);
    drop(idle);
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error_that_names_it() {
    let ca = Ca::new("ca");
    let papers = Papers::new("a", &ca);
    let taken = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut config = config(&papers);
    config.listen = taken.local_addr().unwrap();
    let addr = config.listen.to_string();
    let error = sluice_node_channel::spawn(config).await.unwrap_err();
    assert!(error.to_string().contains(&addr), "{error}");
}
