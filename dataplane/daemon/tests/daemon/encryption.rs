//! What goes in clear is counted, and told who asks.

use std::net::IpAddr;

use sluice_dataplane_core::addr::Mac;
use sluice_dataplane_core::snapshot::ROUTER_MAC;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};
use sluice_offload_api::model::{
    Encryption, IdentityId, PairCrossing, PairLine, PairsRest, PolicyId, Verdict,
};
use sluice_offload_api::proto::PairsRequest;
use sluice_offload_api::testing::sample;
use sluice_offload_api::{Answer, State};

use super::metrics::get;
use super::rig::client::{program, unix};
use super::rig::frames::{UPLINK, VF0};
use super::rig::{Files, PORTS, Running, log, run, try_until, until};

/// The sample, in which cart may go anywhere and everybody turns encryption off.
fn off() -> State {
    let mut state = sample();
    let cart = state.policies.get_mut(&PolicyId(1)).unwrap();
    cart.rows.clear();
    cart.egress.verdict = Verdict::Allow;
    for identity in state.identities.values_mut() {
        identity.encryption = Encryption::Off;
    }
    state
}

/// A packet from cart to the pod of node b.
fn to_far() -> Vec<u8> {
    let body = Body::Udp {
        src_port: 1,
        dst_port: 2,
    };
    let (cart, far) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 1, 1]));
    FrameSpec {
        eth_src: Mac([2, 0, 0, 0, 0, 1]),
        eth_dst: ROUTER_MAC,
        ..FrameSpec::new(cart, far, body)
    }
    .build()
}

/// Node b's dataplane answers ours, in the addresses of the sample.
fn arp_answer() -> Vec<u8> {
    let (own, theirs) = ([2, 0, 0, 0, 0, 4], [2, 0, 0, 0, 0, 0xb]);
    let mut frame = [own, theirs].concat();
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2]);
    frame.extend(theirs);
    frame.extend([192, 0, 2, 2]);
    frame.extend(own);
    frame.extend([192, 0, 2, 1]);
    frame
}

#[test]
fn a_pair_in_clear_is_in_the_matrix_and_in_the_metrics() {
    let files = Files::new();
    let text = format!("{PORTS}metrics: 127.0.0.1:0\nlisten:\n  unix: {{path: agent.sock}}\n");
    let daemon = Running::start(files.config(&text));
    run(async {
        let mut agent = unix(&files.path("agent.sock")).await;
        program(&mut agent, &off()).await.unwrap();
    });
    let frame = to_far();
    daemon.wires.send(VF0, frame.clone());
    daemon.wires.send(UPLINK, arp_answer());
    let to = daemon.metrics.unwrap();
    let packet_len = u16::from_be_bytes([frame[16], frame[17]]);
    let lines = [
        "sluice_clear_packets_total{direction=\"sent\"} 1".to_owned(),
        format!("sluice_clear_bytes_total{{direction=\"sent\"}} {packet_len}"),
        "sluice_clear_packets_total{direction=\"received\"} 0".to_owned(),
        "sluice_clear_bytes_total{direction=\"received\"} 0".to_owned(),
    ];
    let mut page = String::new();
    let found = try_until(|| {
        page = get(to, "/metrics");
        lines.iter().all(|line| page.lines().any(|it| it == line))
    });
    assert!(found, "{page}");

    let lines = run(async {
        let mut agent = unix(&files.path("agent.sock")).await;
        let mut stream = agent.pairs(PairsRequest {}).await.unwrap().into_inner();
        let mut all = Vec::new();
        while let Some(line) = stream.message().await.unwrap() {
            all.push(PairLine::try_from(line).unwrap());
        }
        all
    });
    let Some((PairLine::Rest(rest), pairs)) = lines.split_last() else {
        panic!("{lines:?}");
    };
    assert_eq!(*rest, PairsRest::default());
    let sent = pairs.iter().filter_map(|line| match line {
        PairLine::Pair(pair) if pair.clear_packets > 0 => Some(pair),
        _ => None,
    });
    let [sent] = sent.collect::<Vec<_>>()[..] else {
        panic!("{pairs:?}");
    };
    assert_eq!(sent.from.identity, IdentityId(1));
    assert_eq!(sent.from.label.as_deref(), Some("shop{app=cart}"));
    assert_eq!(sent.peer, Some("b".into()));
    assert_eq!(sent.setting, Some(Encryption::Off));
    assert_eq!(
        (sent.crossing, sent.clear_packets),
        (PairCrossing::Clear, 1)
    );
    assert_eq!(sent.clear_bytes, u64::from(packet_len));
    daemon.stop();
}

#[test]
fn a_pair_in_clear_for_the_first_time_is_warned_of() {
    const NAMES: [&str; 2] = ["shop{app=cart,told=first}", "shop{app=cart,told=second}"];
    log::keep();
    let told = |name: &str| {
        let lines = log::text();
        let its = lines.lines().filter(|it| it.contains(name));
        its.map(str::to_owned).collect::<Vec<_>>()
    };
    let files = Files::new();
    let text = format!("{PORTS}listen:\n  unix: {{path: agent.sock}}\n");
    let daemon = Running::start(files.config(&text));
    let mut state = off();
    let first = IdentityId(1);
    for (number, name) in (1..).zip(NAMES) {
        // The second time as another identity, which is what an end with other labels is.
        let mut cart = state.identities[&first].clone();
        cart.label = name.to_owned();
        cart.id = if number == 1 { first } else { IdentityId(77) };
        let ends = state.endpoints.values_mut().map(|it| &mut it.identity);
        let prefixes = state.prefixes.values_mut().map(|it| &mut it.identity);
        for identity in ends.chain(prefixes).filter(|it| **it == first) {
            *identity = cart.id;
        }
        state.identities.insert(cart.id, cart);
        state.generation.0 += 1;
        run(async {
            let mut agent = unix(&files.path("agent.sock")).await;
            let answer = program(&mut agent, &state).await.unwrap();
            assert!(matches!(answer, Answer::Ack { .. }), "{answer:?}");
        });
        daemon.wires.send(VF0, to_far());
        daemon.wires.send(UPLINK, arp_answer());
        daemon.wires.send(VF0, to_far());
        until("it is told", || (!told(name).is_empty()).then_some(()));
    }
    daemon.stop();
    for name in NAMES {
        let [line] = &told(name)[..] else {
            panic!("{:?}", told(name))
        };
        let parts = [
            " WARN ",
            "packets cross the wire in clear",
            &format!("from=\"{name}\""),
            "node=\"b\"",
            "way=\"sent\"",
            "setting=\"off\"",
        ];
        for part in parts {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
}
