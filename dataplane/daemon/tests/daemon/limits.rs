//! The limits that docs/encryption.md tells of are those of the code.

use std::collections::BTreeMap;

use sluice_crypto::esp::{OutboundSa, Spi};
use sluice_crypto::key::{Algorithm, EspKey};
use sluice_crypto::lifecycle::{LANES_MAX, Limits};
use sluice_dataplane::live;
use sluice_dataplane_core::sad::SAS_MAX;

use super::rig::{Files, PORTS};

const HOUR_MS: u64 = 3_600_000;

/// The rows under "Limits": what, when it is renewed, what it stops at.
fn table() -> BTreeMap<String, [String; 2]> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/encryption.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, section) = text.split_once("\n## Limits\n").unwrap();
    let rows = section.lines().skip_while(|it| !it.starts_with("|---"));
    let rows = rows.skip(1).take_while(|it| it.starts_with('|'));
    let row = |line: &str| {
        let cells: Vec<_> = line.split('|').map(|it| it.trim().to_owned()).collect();
        let [_, what, renewed, stops, _, _] = &cells[..] else {
            panic!("{line}")
        };
        (what.clone(), [renewed.clone(), stops.clone()])
    };
    rows.map(row).collect()
}

/// The node channel's limits with so much in its part of the file.
fn limits(more: &str) -> Limits {
    let text = format!(
        "{PORTS}node_channel:
  listen: 127.0.0.1:9444
  trust_domain: test
  svid: svid.pem
  key: svid.key
  anchors: anchors.pem
  {more}
listen:
  unix: {{path: agent.sock}}
"
    );
    Files::new()
        .config(&text)
        .node_channel
        .unwrap()
        .channel
        .limits
}

/// As a power of two, or one less.
fn power(n: u64) -> String {
    match n.checked_add(1) {
        None => "2^64 - 1".to_owned(),
        Some(next) if next.is_power_of_two() => format!("2^{} - 1", next.ilog2()),
        Some(_) => {
            assert!(n.is_power_of_two(), "{n}");
            format!("2^{}", n.ilog2())
        }
    }
}

fn tib(n: u64) -> String {
    assert_eq!(n % (1 << 40), 0, "{n}");
    format!("{} TiB", n >> 40)
}

/// The last number of a sending SA.
fn last_number(esn: bool) -> String {
    let key = EspKey::from_keymat(Algorithm::Aes128Gcm16, &[1; 20]).unwrap();
    power(OutboundSa::new(Spi(0x1000), key, esn).hard_limit())
}

#[test]
fn the_table_of_limits_is_true() {
    let (usual, short) = (limits(""), limits("rekey_ms: 1000"));
    assert_eq!(usual.jitter_ms, usual.soft_ms / 10, "a tenth");
    assert_eq!(
        usual.hard_ms,
        usual.soft_ms + usual.soft_ms / 2,
        "half of it"
    );
    assert_eq!(usual.soft_ms % HOUR_MS, 0);
    let hours = usual.soft_ms / HOUR_MS;
    let least_min = (short.hard_ms - short.soft_ms) / 60_000;
    let socket = live::Limits::default();
    let (packets, bytes) = (power(socket.packets_max), tib(socket.bytes_max));
    let none = || "-".to_owned();
    let expected = [
        (
            "age of a pair of SAs",
            format!("`rekey_ms`, {hours} h, less up to a tenth at random"),
            format!("half of it more, {least_min} min at least"),
        ),
        (
            "packets of a sending SA",
            power(usual.soft_packets),
            power(usual.hard_packets),
        ),
        (
            "bytes of a sending SA",
            tib(usual.soft_bytes),
            tib(usual.hard_bytes),
        ),
        ("sequence numbers with ESN", none(), last_number(true)),
        (
            "sequence numbers without ESN",
            none(),
            format!(
                "{}: the next packet is dropped, none repeats a number",
                last_number(false)
            ),
        ),
        (
            "SAs of one direction on a dataplane, children counted",
            none(),
            format!("{SAS_MAX} receiving, {LANES_MAX} sending to each peer"),
        ),
        // Behaviour, which `static_mode.rs` shows.
        (
            "SAs in a static configuration",
            none(),
            "each key for one run".to_owned(),
        ),
        (
            "SAs of IKEv2, by the [SA socket](#ikev2)",
            "by charon".to_owned(),
            format!("{packets} packets, {bytes}, `--life`"),
        ),
    ];
    let expected = expected.map(|(what, renewed, stops)| (what.to_owned(), [renewed, stops]));
    assert_eq!(table(), BTreeMap::from(expected));
}
