//! Policy, bindings and keys from files: both ways through ESP with a peer that holds the
//! other ends of the SAs.

use sluice_crypto::esp::{ESP_HEADER_LEN, InboundSa, OutboundSa, Spi};
use sluice_crypto::key::{Algorithm, EspKey};
use sluice_dataplane::config::Config;
use sluice_dataplane::daemon::Ended;
use sluice_dataplane_core::addr::Mac;
use sluice_offload_api::model::Generation;

use super::rig::frames::{UPLINK, VF0, syn};
use super::rig::wires::{Wires, wires};
use super::rig::{Files, Running};

pub(super) const UPLINK_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(super) const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xee];
pub(super) const WEB_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x10];
const OURS: [u8; 4] = [198, 51, 100, 1];
const PEER: [u8; 4] = [198, 51, 100, 2];
pub(super) const WEB: [u8; 4] = [10, 244, 1, 10];
pub(super) const CART: [u8; 4] = [10, 244, 2, 11];
const IN_KEY: [u8; 36] = [0x31; 36];
const OUT_KEY: [u8; 36] = [0x32; 36];

pub(super) fn config(files: &Files, more: &str) -> Config {
    config_with(files, more, [&IN_KEY, &OUT_KEY])
}

/// The same with other keys, receiving and sending.
pub(super) fn config_with(files: &Files, more: &str, keys: [&[u8]; 2]) -> Config {
    let hex = |key: &[u8]| key.iter().map(|it| format!("{it:02x}")).collect::<String>();
    files.write_secret("in.hex", hex(keys[0]));
    files.write_secret("out.hex", hex(keys[1]));
    let manifests = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../sim/manifests/quickstart"
    );
    files.config(&format!(
        "node: node-a
ports:
  - name: uplink
    kind: uplink
    device: memory
    mac: '02:00:00:00:00:01'
    interfaces: [{{address: 198.51.100.1/24}}]
  - {{name: host, kind: host, device: memory, mac: '02:00:00:00:00:02'}}
  - {{name: vf0, kind: vf, device: memory, mac: '02:00:00:00:00:10', mtu: 1400, vf: 0}}
worker: {{flows: 1024, idle: {{policy: adaptive}}}}
static:
  manifests: {manifests}
  pods: [{{pod: shop/web, port: vf0}}]
  peers: [{{node: node-b, tunnel_ips: [198.51.100.2]}}]
  sas:
    - {{direction: inbound, peer: node-b, spi: 0x1001, algorithm: aes256gcm16, key_file: in.hex}}
    - {{direction: outbound, peer: node-b, spi: 0x2001, algorithm: aes256gcm16, key_file: out.hex}}
{more}"
    ))
}

fn key(bytes: &[u8]) -> EspKey {
    EspKey::from_keymat(Algorithm::Aes256Gcm16, bytes).unwrap()
}

/// An ARP packet (RFC 826) between the two ends of the uplink.
pub(super) fn arp_answer() -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(UPLINK_MAC);
    frame.extend(PEER_MAC);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    frame.extend(PEER_MAC);
    frame.extend(PEER);
    frame.extend(UPLINK_MAC);
    frame.extend(OURS);
    frame
}

/// The next frame on the uplink that isn't ARP.
pub(super) fn receive_ip(wires: &Wires) -> Vec<u8> {
    loop {
        let frame = wires.receive(UPLINK);
        if frame[12..14] != [8, 6] {
            return frame;
        }
    }
}

/// An ESP packet from the peer, in Ethernet and IPv4.
pub(super) fn sealed(sa: &mut OutboundSa, inner: &[u8]) -> Vec<u8> {
    let mut esp = vec![0; OutboundSa::sealed_len(inner.len())];
    esp[ESP_HEADER_LEN..ESP_HEADER_LEN + inner.len()].copy_from_slice(inner);
    sa.seal(&mut esp, inner.len(), 4).unwrap();
    let total = u16::try_from(20 + esp.len()).unwrap();
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 50, 0, 0];
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    ip.extend(PEER);
    ip.extend(OURS);
    let sum: u32 = ip
        .chunks(2)
        .map(|it| u32::from(it[0]) << 8 | u32::from(it[1]))
        .sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    [&UPLINK_MAC[..], &PEER_MAC, &[8, 0], &ip, &esp].concat()
}

#[test]
fn a_peer_with_the_other_ends_of_the_sas_understands_and_is_understood() {
    let files = Files::new();
    let config = config(&files, "metrics: 127.0.0.1:0\n");
    let (wires, set) = wires(config.ports.len());
    // The pod's first frame is there before anything starts: it waits for keys, not in vain.
    let request = syn(Mac(WEB_MAC), WEB, CART, 40_000, 8080);
    wires.send(VF0, request.clone());
    wires.send(VF0, syn(Mac(WEB_MAC), WEB, CART, 40_001, 22));
    let daemon = Running::start_with(config, wires, set).unwrap();
    daemon.wires.send(UPLINK, arp_answer());

    let frame = receive_ip(&daemon.wires);
    assert_eq!(frame[0..6], PEER_MAC);
    assert_eq!(
        (frame[23], &frame[26..30], &frame[30..34]),
        (50, &OURS[..], &PEER[..])
    );
    let mut esp = frame[34..].to_vec();
    assert_eq!(esp[..4], 0x2001u32.to_be_bytes());
    let mut opener = InboundSa::new(Spi(0x2001), key(&OUT_KEY), true, 64).unwrap();
    let opened = opener.open(&mut esp).unwrap();
    assert_eq!((opened.seq, opened.next_header), (1, 4));
    assert_eq!(
        esp[opened.inner],
        request[14..],
        "what came out is what the pod sent"
    );

    // The answer, from the peer, as the peer's pod would give it.
    let answer = syn(Mac(PEER_MAC), CART, WEB, 8080, 40_000);
    let mut answer = answer[14..].to_vec();
    // A SYN ACK that acknowledges the SYN.
    answer[20 + 13] = 0x12;
    answer[20 + 8..20 + 12].copy_from_slice(&2u32.to_be_bytes());
    fix_tcp_checksum(&mut answer);
    let mut sealer = OutboundSa::new(Spi(0x1001), key(&IN_KEY), true);
    let on_the_wire = sealed(&mut sealer, &answer);
    daemon.wires.send(UPLINK, on_the_wire.clone());
    // A replay of it, and one that is damaged.
    daemon.wires.send(UPLINK, on_the_wire);
    let mut damaged = sealed(&mut sealer, &answer);
    *damaged.last_mut().unwrap() ^= 1;
    daemon.wires.send(UPLINK, damaged);
    let frame = daemon.wires.receive(VF0);
    assert_eq!(frame[0..6], WEB_MAC);
    assert_eq!(frame[14..], answer, "what the pod gets is what was sealed");

    // What is dropped may be on its way from one worker to another still.
    let to = daemon.metrics.unwrap();
    super::rig::until("the replay and the damaged one are dropped", || {
        let page = super::metrics::get(to, "/metrics");
        let is_there = |reason: &str| {
            let labels = format!("{{port=\"uplink\",reason=\"{reason}\"}}");
            page.contains(&format!("sluice_port_drops_total{labels} 1"))
        };
        (is_there("esp-duplicate") && is_there("esp-forged")).then_some(())
    });
    let summary = daemon.stop();
    assert_eq!(summary.generation, Generation(1));
    let drops = |name: &str| -> Vec<_> {
        let port = summary.ports.iter().find(|it| it.port.0 == name).unwrap();
        assert_eq!(port.unaccounted(), 0, "{name}");
        port.drops
            .iter()
            .map(|it| (it.reason.clone(), it.frames))
            .collect()
    };
    assert_eq!(drops("vf0"), [("policy-egress".to_owned(), 1)]);
    let mut uplink = drops("uplink");
    uplink.sort();
    let expected = [
        ("esp-duplicate".to_owned(), 1),
        ("esp-forged".to_owned(), 1),
    ];
    assert_eq!(uplink, expected);
}

#[test]
fn what_the_file_turns_off_goes_in_clear() {
    let files = Files::new();
    let config = config(&files, "  encryption: {default: off}\n");
    let (wires, set) = wires(config.ports.len());
    let daemon = Running::start_with(config, wires, set).unwrap();
    daemon.wires.send(UPLINK, arp_answer());
    let request = syn(Mac(WEB_MAC), WEB, CART, 40_000, 8080);
    daemon.wires.send(VF0, request.clone());
    let frame = receive_ip(&daemon.wires);
    assert_eq!(frame[0..6], PEER_MAC);
    assert_eq!(frame[14..], request[14..], "it is what the pod sent");
    daemon.stop();
}

pub(super) fn fix_tcp_checksum(packet: &mut [u8]) {
    packet[36..38].fill(0);
    let len = u32::try_from(packet.len() - 20).unwrap();
    let words = |it: &[u8]| -> u32 {
        it.chunks(2)
            .map(|it| u32::from(it[0]) << 8 | u32::from(*it.get(1).unwrap_or(&0)))
            .sum()
    };
    let mut sum = words(&packet[12..20]) + 6 + len + words(&packet[20..]);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !u16::try_from(sum).unwrap();
    packet[36..38].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn it_ends_by_itself_when_no_frame_comes_and_closes_its_ports() {
    let files = Files::new();
    // Long enough for each of several workers to have a turn of a busy core.
    let config = config(&files, "  exit_when_idle: {after_ms: 1000}\n");
    let (wires, set) = wires(config.ports.len());
    wires.send(VF0, syn(Mac(WEB_MAC), WEB, CART, 1, 22));
    let open = wires.open.clone();
    let daemon = Running::start_with(config, wires, set).unwrap();
    let summary = daemon.wait();
    assert_eq!(summary.ended, Ended::Idle);
    assert_eq!(open.load(std::sync::atomic::Ordering::SeqCst), 0);
    let vf0 = summary.ports.iter().find(|it| it.port.0 == "vf0").unwrap();
    assert_eq!(vf0.rx_frames, 1, "what was there was taken first");
}

#[test]
fn verdicts_are_logged_with_pod_peer_rule_and_reason_up_to_the_rate() {
    let files = Files::new();
    let more = "  exit_when_idle: {after_ms: 50}\nverdict_log: {path: log, per_second: 1}\n";
    let config = config(&files, more);
    let (wires, set) = wires(config.ports.len());
    for port in 0..200 {
        wires.send(VF0, syn(Mac(WEB_MAC), WEB, CART, 1000 + port, 22));
    }
    Running::start_with(config, wires, set).unwrap().wait();
    let log = std::fs::read_to_string(files.path("log")).unwrap();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    // One a second, and the run takes less than a minute.
    assert!((1..60).contains(&lines.len()), "{} lines", lines.len());
    let line = &lines[0];
    for (field, value) in [
        ("verdict", "deny"),
        ("reason", "policy-egress"),
        ("port", "vf0"),
        ("from", "shop/web"),
        ("src", "10.244.1.10"),
        ("dst", "10.244.2.11"),
    ] {
        assert_eq!(line[field], value, "{field} of {line}");
    }
    assert!(line["to"].as_str().unwrap().contains("app=cart"), "{line}");
    assert!(!line["egress"].as_str().unwrap().is_empty(), "{line}");
}

#[test]
fn a_second_run_with_the_same_keys_is_refused_and_opens_nothing() {
    let files = Files::new();
    let more = "  exit_when_idle: {after_ms: 50}\n";
    let first = config(&files, more);
    let (first_wires, set) = wires(first.ports.len());
    Running::start_with(first, first_wires, set).unwrap().wait();

    let second = config(&files, more);
    let (second_wires, set) = wires(second.ports.len());
    second_wires.send(VF0, syn(Mac(WEB_MAC), WEB, CART, 40_000, 8080));
    let open = second_wires.open.clone();
    let error = Running::start_with(second, second_wires, set)
        .err()
        .unwrap();
    assert!(error.is_bad_input());
    assert!(error.to_string().contains("in.hex.used"), "{error}");
    assert_eq!(open.load(std::sync::atomic::Ordering::SeqCst), 0);
}
