//! Programming over TCP: only an allowed agent with a valid certificate of our CA.

use sluice_offload_api::Answer;
use sluice_offload_api::model::Generation;
use sluice_offload_api::testing::sample;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::rig::client::{program, status, tls};
use super::rig::pki::{AGENT, Ca, Pair, SERVER};
use super::rig::{Files, PORTS, Running, run};

fn listening(files: &Files, ca: &Ca) -> Running {
    let server = ca.dns(SERVER);
    files.write("ca.pem", &ca.pem);
    files.write("server.pem", &server.certificate);
    files.write_secret("server.key", &server.key);
    let listen = format!(
        "listen:
  tcp:
    address: 127.0.0.1:0
    certificate: server.pem
    key: server.key
    ca: ca.pem
    agents: [{AGENT}, agent-a.example]
"
    );
    Running::start(files.config(&format!("{PORTS}{listen}")))
}

#[test]
fn an_agent_by_its_spiffe_id_or_dns_name_programs() {
    let (files, ca) = (Files::new(), Ca::new());
    let daemon = listening(&files, &ca);
    let to = daemon.tcp.unwrap();
    run(async {
        let mut agent = tls(to, &ca.pem, Some(&ca.uri(AGENT))).await;
        let answer = program(&mut agent, &sample()).await.unwrap();
        assert_eq!(
            answer,
            Answer::Ack {
                generation: Generation(7)
            }
        );
        let mut agent = tls(to, &ca.pem, Some(&ca.dns("agent-a.example"))).await;
        assert_eq!(status(&mut agent).await.unwrap().generation, Generation(7));
    });
    daemon.stop();
}

#[test]
fn nobody_else_gets_as_far_as_a_call() {
    let (files, ca, other) = (Files::new(), Ca::new(), Ca::new());
    let daemon = listening(&files, &ca);
    let to = daemon.tcp.unwrap();
    let strangers: [(&str, Option<Pair>); 5] = [
        ("without a certificate", None),
        ("with an expired certificate", Some(ca.expired(AGENT))),
        ("of another CA", Some(other.uri(AGENT))),
        (
            "of another name",
            Some(ca.uri("spiffe://cluster.local/sluice/agent/b")),
        ),
        ("with the server's own name", Some(ca.dns(SERVER))),
    ];
    run(async {
        for (who, pair) in &strangers {
            let mut agent = tls(to, &ca.pem, pair.as_ref()).await;
            assert!(status(&mut agent).await.is_err(), "{who} was answered");
            assert!(
                program(&mut agent, &sample()).await.is_err(),
                "{who} programmed"
            );
        }
        let mut agent = tls(to, &ca.pem, Some(&ca.uri(AGENT))).await;
        assert_eq!(status(&mut agent).await.unwrap().generation, Generation(0));
    });
    daemon.stop();
}

#[test]
fn what_does_not_speak_tls_gets_no_http_answer() {
    let (files, ca) = (Files::new(), Ca::new());
    let daemon = listening(&files, &ca);
    let to = daemon.tcp.unwrap();
    run(async {
        let mut stream = tokio::net::TcpStream::connect(to).await.unwrap();
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        // At most a TLS alert (record type 21) and the end.
        assert!(answer.first().is_none_or(|it| *it == 21), "{answer:?}");
    });
    daemon.stop();
}

#[test]
fn strangers_who_stall_in_the_handshake_do_not_keep_an_agent_out() {
    let (files, ca) = (Files::new(), Ca::new());
    let daemon = listening(&files, &ca);
    let to = daemon.tcp.unwrap();
    run(async {
        // Twice the connections that may be open, none of which says a word.
        let mut silent = Vec::new();
        for _ in 0..24 {
            silent.push(tokio::net::TcpStream::connect(to).await.unwrap());
        }
        let mut agent = tls(to, &ca.pem, Some(&ca.uri(AGENT))).await;
        assert_eq!(status(&mut agent).await.unwrap().generation, Generation(0));
        drop(silent);
    });
    daemon.stop();
}

#[test]
fn certificates_that_are_renewed_in_place_are_read_again() {
    let (files, ca, next) = (Files::new(), Ca::new(), Ca::new());
    let daemon = listening(&files, &ca);
    let to = daemon.tcp.unwrap();
    run(async {
        // Half of a renewal: the certificate and not its key. What was good stays.
        let server = next.dns(SERVER);
        files.write("server.pem", format!("{}\n", server.certificate));
        let mut agent = tls(to, &ca.pem, Some(&ca.uri(AGENT))).await;
        assert!(status(&mut agent).await.is_ok());
        files.write_secret("server.key", format!("{}\n", server.key));
        files.write("ca.pem", format!("{}\n", next.pem));
        let mut agent = tls(to, &next.pem, Some(&next.uri(AGENT))).await;
        assert!(status(&mut agent).await.is_ok());
        let mut agent = tls(to, &next.pem, Some(&ca.uri(AGENT))).await;
        assert!(
            status(&mut agent).await.is_err(),
            "the CA before is trusted no longer"
        );
    });
    daemon.stop();
}
