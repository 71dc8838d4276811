//! The link over a network, and the CA's files.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sluice_host_agent::ca::{Authority, KeyPem, request};
use time::{Duration, OffsetDateTime};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::rig::plane::PlaneHandle;
use crate::rig::service::serve_tls;
use crate::rig::{CART, NODES, Node, PODS, sluicectl, until};

const NODE: &str = "spiffe://example.org/sluice/node/a";
const AGENT: &str = "spiffe://example.org/sluice/agent/a";
const DAY: Duration = Duration::days(1);

fn authority() -> Authority {
    let domain = "example.org".parse().unwrap();
    let long_ago = OffsetDateTime::now_utc() - 100 * DAY;
    Authority::create(&domain, long_ago, 300 * DAY).unwrap().0
}

/// A certificate that was signed so many days ago for ten.
fn certificate(ca: &Authority, id: &str, signed_days_ago: i32) -> (KeyPem, String) {
    let (key, csr) = request(&id.parse().unwrap()).unwrap();
    let at = OffsetDateTime::now_utc() - signed_days_ago * DAY;
    (key, ca.sign(&csr, at, 10 * DAY).unwrap().pem)
}

fn server(trusts: &Authority, (key, pem): &(KeyPem, String)) -> ServerConfig {
    let certificates = |pem: &str| {
        CertificateDer::pem_slice_iter(pem.as_bytes())
            .map(Result::unwrap)
            .collect::<Vec<_>>()
    };
    let mut roots = RootCertStore::empty();
    for it in certificates(trusts.pem()) {
        roots.add(it).unwrap();
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(certificates(pem), key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// A node whose agent has these files and whose dataplane is served so.
fn node(
    trusts: &Authority,
    (key, pem): &(KeyPem, String),
    config: ServerConfig,
) -> (Node, PlaneHandle) {
    let mut node = Node::new(&[("a.yaml", NODES), ("b.yaml", PODS)]);
    fs::write(node.path("ca.pem"), trusts.pem()).unwrap();
    fs::write(node.path("agent.pem"), pem).unwrap();
    fs::write(node.path("agent.key"), key.as_bytes()).unwrap();
    fs::set_permissions(node.path("agent.key"), Permissions::from_mode(0o600)).unwrap();
    let (plane, _) = PlaneHandle::start();
    let (server, address) = serve_tls(plane.clone(), config);
    node.server = Some(server);
    let tcp = format!(
        "{{tcp: {{address: '{address}', certificate: agent.pem, key: agent.key, ca: ca.pem, id: '{NODE}'}}}}"
    );
    node.configure(&tcp, 120_000);
    node.start_agent();
    (node, plane)
}

/// The fault that keeps an agent from its dataplane, which was told nothing.
fn kept_off(node: &Node, plane: &PlaneHandle) -> String {
    let mut fault = String::new();
    until("the fault is told", || {
        let status = node.ctl(&["status", "--output", "json"]);
        let told = (status.code == 1).then(|| status.json()["link"]["fault"].clone());
        fault = told
            .and_then(|it| it.as_str().map(str::to_owned))
            .unwrap_or_default();
        !fault.is_empty()
    });
    assert_eq!(node.status()["agent"]["connected"], false);
    assert_eq!(plane.state().generation.0, 0);
    fault
}

#[test]
fn a_check_reads_the_certificates() {
    let ca = authority();
    let config = server(&ca, &certificate(&ca, NODE, 0));
    let (node, _plane) = node(&ca, &certificate(&ca, AGENT, 0), config);
    let check = || {
        let mut agent = std::process::Command::new(env!("CARGO_BIN_EXE_sluice-agent"));
        let agent = agent
            .args(["--check", "--config"])
            .arg(node.path("agent.yaml"));
        let output = agent.output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    assert_eq!(check().0, Some(0));
    // The key of another certificate.
    fs::write(
        node.path("agent.key"),
        certificate(&ca, AGENT, 0).0.as_bytes(),
    )
    .unwrap();
    let (code, text) = check();
    assert!(
        code == Some(2) && text.contains("agent.pem and its key"),
        "{text}"
    );
    fs::remove_file(node.path("ca.pem")).unwrap();
    let (code, text) = check();
    assert!(
        code == Some(2) && text.contains("ca.pem: No such file"),
        "{text}"
    );
}

#[test]
fn both_sides_prove_who_they_are() {
    let ca = authority();
    let config = server(&ca, &certificate(&ca, NODE, 0));
    let (node, plane) = node(&ca, &certificate(&ca, AGENT, 0), config);
    node.wait_in_step();
    assert_eq!(node.add(&CART).code, 0);
    assert_eq!(plane.state().endpoints.len(), 1);
}

#[test]
fn a_dataplane_that_is_not_the_one_is_told_nothing() {
    let (ca, other) = (authority(), authority());
    let agent = certificate(&ca, AGENT, 0);
    let cases = [
        (
            certificate(&ca, "spiffe://example.org/sluice/node/b", 0),
            "NotValidForName",
        ),
        (certificate(&ca, AGENT, 0), "NotValidForName"),
        (certificate(&other, NODE, 0), "BadSignature"),
        (certificate(&ca, NODE, 20), "certificate expired"),
    ];
    for (its, expected) in cases {
        let (node, plane) = node(&ca, &agent, server(&ca, &its));
        let fault = kept_off(&node, &plane);
        let expected = format!("invalid peer certificate: {expected}");
        assert!(fault.contains(&expected), "{fault}");
        assert!(fault.ends_with(&format!("; it must be {NODE}")), "{fault}");
    }
}

#[test]
fn an_agent_without_a_good_certificate_is_not_let_in() {
    let (ca, other) = (authority(), authority());
    let its = certificate(&ca, NODE, 0);
    for agent in [certificate(&other, AGENT, 0), certificate(&ca, AGENT, 20)] {
        let (node, plane) = node(&ca, &agent, server(&ca, &its));
        kept_off(&node, &plane);
    }
    // A key that others may read is not used.
    let (node, plane) = node(&ca, &certificate(&ca, AGENT, 0), server(&ca, &its));
    node.wait_in_step();
    fs::set_permissions(node.path("agent.key"), Permissions::from_mode(0o640)).unwrap();
    drop(plane);
    let mut node = node;
    node.server = None;
    until("it is not connected", || {
        node.status()["agent"]["connected"] == false
    });
    until("the key is refused", || {
        let fault = node.status()["link"]["fault"].clone();
        fault
            .as_str()
            .is_some_and(|it| it.contains("agent.key may be read by others"))
    });
}

fn ctl(folder: &Path, args: &str) -> crate::rig::Done {
    sluicectl(folder, &args.split(' ').collect::<Vec<_>>())
}

#[test]
fn the_ca_signs_what_is_of_its_domain_and_keeps_its_key() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path();
    let fine = |args: &str| {
        let done = ctl(folder, args);
        assert_eq!(done.code, 0, "{args}: {done:?}");
        done
    };
    fine("ca init --domain example.org --dir ca");
    let mode = |name: &str| {
        fs::metadata(folder.join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode("ca/ca.key"), 0o600);
    let key = fs::read(folder.join("ca/ca.key")).unwrap();
    let again = ctl(folder, "ca init --domain example.org --dir ca");
    assert_eq!(again.code, 2, "{again:?}");
    assert_eq!(fs::read(folder.join("ca/ca.key")).unwrap(), key);

    fine("csr --domain example.org --node a --key a.key --out a.csr");
    assert_eq!(mode("a.key"), 0o600);
    let signed = fine("ca sign --dir ca --csr a.csr --out a.pem --days 7 --output json").json();
    assert_eq!(signed["id"], NODE);
    fine("ca trust --dir ca --out trust.pem");
    let shown = fine("ca show a.pem --trust trust.pem --output json").json();
    assert_eq!(
        (&shown["id"], &shown["fault"]),
        (&NODE.into(), &serde_json::Value::Null)
    );
    assert!(
        !fs::read_to_string(folder.join("trust.pem"))
            .unwrap()
            .contains("PRIVATE")
    );

    // Another domain's; changed on its way; no CA at all.
    fine("csr --domain example.com --agent a --key b.key --out b.csr");
    let other = ctl(folder, "ca sign --dir ca --csr b.csr --out b.pem");
    assert!(
        other.code == 2 && other.err.contains("not of trust domain example.org"),
        "{other:?}"
    );
    let csr = fs::read_to_string(folder.join("a.csr")).unwrap();
    let mut lines: Vec<_> = csr.lines().map(str::to_owned).collect();
    let line = &mut lines[2];
    let swapped = if line.starts_with('A') { "B" } else { "A" };
    line.replace_range(..1, swapped);
    fs::write(folder.join("c.csr"), lines.join("\n")).unwrap();
    let tampered = ctl(folder, "ca sign --dir ca --csr c.csr --out c.pem");
    assert_eq!(tampered.code, 2, "{tampered:?}");
    assert!(!folder.join("b.pem").exists() && !folder.join("c.pem").exists());
    let not_ca = ctl(folder, "ca show trust.pem --trust a.pem");
    assert_eq!(not_ca.code, 1, "{not_ca:?}");
    fs::set_permissions(folder.join("ca/ca.key"), Permissions::from_mode(0o644)).unwrap();
    let open = ctl(folder, "ca sign --dir ca --csr a.csr --out d.pem");
    assert!(open.code == 2 && open.err.contains("chmod 600"), "{open:?}");
}
