//! Names that pods were told: learned on the way, read by the agent, counted.

use std::net::IpAddr;

use sluice_dataplane_core::addr::Mac;
use sluice_dataplane_core::snapshot::ROUTER_MAC;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};
use sluice_offload_api::State;
use sluice_offload_api::model::{
    Action, Direction, Encryption, Identity, IdentityId, NameRecord, PolicyId, PolicyRow,
    PortBlock, Protocol, RuleIndex, Tier,
};
use sluice_offload_api::proto::NamesRequest;
use sluice_offload_api::testing::sample;
use tonic::Code;

use super::metrics::get;
use super::rig::client::{program, unix};
use super::rig::frames::{VF0, VF1};
use super::rig::{Files, PORTS, Running, run, try_until};

/// The sample, in which cart may ask db, and speak with what has this name.
fn named(domain: &str) -> State {
    let mut state = sample();
    let identity = Identity {
        id: IdentityId(70),
        label: domain.to_owned(),
        domain: Some(domain.parse().unwrap()),
        encryption: Encryption::Required,
    };
    state.identities.insert(identity.id, identity);
    let row = |direction, peer| PolicyRow {
        direction,
        tier: Tier::Namespace,
        peer: Some(IdentityId(peer)),
        protocol: Some(Protocol::Udp),
        ports: PortBlock::ANY,
        action: Action::Allow,
        rule: RuleIndex(0),
    };
    for (policy, rows) in [
        (
            1,
            vec![row(Direction::Egress, 2), row(Direction::Egress, 70)],
        ),
        (2, vec![row(Direction::Ingress, 1)]),
    ] {
        let policy = state.policies.get_mut(&PolicyId(policy)).unwrap();
        policy.rows.extend(rows);
        policy.rows.sort_by_key(PolicyRow::key);
    }
    state
}

/// A datagram between cart and db.
fn datagram(from: u8, to: u8, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let body = Body::Udp {
        src_port: ports.0,
        dst_port: ports.1,
    };
    let addr = |n| IpAddr::from([10, 0, 0, n]);
    FrameSpec {
        eth_src: Mac([2, 0, 0, 0, 0, from]),
        eth_dst: ROUTER_MAC,
        payload: payload.to_vec(),
        ..FrameSpec::new(addr(from), addr(to), body)
    }
    .build()
}

#[test]
fn what_a_pod_was_told_is_read_and_counted() {
    let files = Files::new();
    let text = format!("{PORTS}metrics: 127.0.0.1:0\nlisten:\n  unix: {{path: agent.sock}}\n");
    let daemon = Running::start(files.config(&text));
    let names = |uid: Option<&str>| {
        let endpoint = uid.map(str::to_owned);
        run(async {
            let mut agent = unix(&files.path("agent.sock")).await;
            let mut stream = agent.names(NamesRequest { endpoint }).await?.into_inner();
            let mut all = Vec::new();
            while let Some(name) = stream.message().await? {
                all.push(NameRecord::try_from(name).unwrap());
            }
            Ok::<_, tonic::Status>(all)
        })
    };
    run(async {
        let mut agent = unix(&files.path("agent.sock")).await;
        program(&mut agent, &named("*.example.com")).await.unwrap();
    });
    assert_eq!(names(None).unwrap(), []);
    let question = b"\x02db\x07example\x03com\0\0\x01\0\x01";
    let query = [&b"\0\x07\x01\0\0\x01\0\0\0\0\0\0"[..], question].concat();
    let record = b"\xc0\x0c\0\x01\0\x01\0\0\x02\x58\0\x04\xc6\x33\x64\x01";
    let header = b"\0\x07\x81\x80\0\x01\0\x01\0\0\0\0";
    let answer = [&header[..], question, record].concat();
    daemon.wires.send(VF0, datagram(1, 2, (4000, 53), &query));
    daemon.wires.receive(VF1);
    for payload in [&answer[..], &answer, b"junk"] {
        daemon.wires.send(VF1, datagram(2, 1, (53, 4000), payload));
        daemon.wires.receive(VF0);
    }
    let told = names(Some("u-cart")).unwrap();
    assert_eq!(told.len(), 1);
    let NameRecord {
        endpoint,
        ip,
        domain,
        left_ms,
    } = &told[0];
    assert_eq!(
        (endpoint.0.as_str(), domain.as_str()),
        ("u-cart", "*.example.com")
    );
    assert_eq!(*ip, IpAddr::from([198, 51, 100, 1]));
    assert!((1..=600_000).contains(left_ms), "{left_ms}");
    assert_eq!(names(None).unwrap().len(), 1);
    assert_eq!(names(Some("u-db")).unwrap(), []);
    assert_eq!(names(Some("u-x")).unwrap_err().code(), Code::NotFound);
    let lines = [
        "sluice_names 1",
        "sluice_names_left_out_total 0",
        "sluice_dns_answers_total{outcome=\"learned\"} 1",
        "sluice_dns_answers_total{outcome=\"unasked\"} 1",
        "sluice_dns_answers_total{outcome=\"malformed\"} 1",
    ];
    let to = daemon.metrics.unwrap();
    let mut page = String::new();
    let found = try_until(|| {
        page = get(to, "/metrics");
        lines.iter().all(|line| page.lines().any(|it| it == *line))
    });
    assert!(found, "{page}");
    daemon.stop();
}
