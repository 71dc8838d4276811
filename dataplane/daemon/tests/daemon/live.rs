//! SAs that come and go while the dataplane runs, by its SA socket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use sluice_crypto::esp::{OutboundSa, Spi};
use sluice_crypto::key::{Algorithm, EspKey};
use sluice_dataplane::config::Config;
use sluice_dataplane_core::addr::Mac;

use super::rig::frames::{UPLINK, VF0, syn};
use super::rig::wires::wires;
use super::rig::{Files, Running, until};
use super::static_mode::{
    CART, PEER_MAC, WEB, WEB_MAC, arp_answer, config, config_with, fix_tcp_checksum, receive_ip,
    sealed,
};

/// Of the file.
const OLD_IN: u8 = 0x31;

const SOCKET: &str = "  sa_socket: {path: sas.sock, used_keys: used-keys}\nmetrics: 127.0.0.1:0\n";

pub(super) fn start(files: &Files) -> Running {
    start_with(config(files, SOCKET))
}

fn start_with(config: Config) -> Running {
    let (wires, set) = wires(config.ports.len());
    let daemon = Running::start_with(config, wires, set).unwrap();
    daemon.wires.send(UPLINK, arp_answer());
    daemon
}

struct Socket(BufReader<UnixStream>);

impl Socket {
    fn open(files: &Files) -> Self {
        Self(BufReader::new(
            UnixStream::connect(files.path("sas.sock")).unwrap(),
        ))
    }

    fn send(&mut self, line: &str) -> Value {
        // At once: who is refused after a part of it is hung up on.
        let line = format!("{line}\n");
        self.0.get_mut().write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        self.0.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    fn ask(&mut self, request: &Value) -> Value {
        self.send(&request.to_string())
    }

    fn done(&mut self, request: &Value) {
        assert_eq!(self.ask(request), json!({"done": {}}), "{request}");
    }

    fn refused(&mut self, request: &Value) -> String {
        let answer = self.ask(request);
        let reason = answer["refused"]["reason"].as_str();
        reason
            .unwrap_or_else(|| panic!("{answer} to {request}"))
            .to_owned()
    }

    /// Direction and SPI of all.
    fn list(&mut self) -> Vec<(String, u64)> {
        let answer = self.ask(&json!({"list": {}}));
        let sas = answer["sas"].as_array().unwrap().iter();
        let mut sas: Vec<_> = sas
            .map(|it| {
                (
                    it["direction"].as_str().unwrap().to_owned(),
                    it["spi"].as_u64().unwrap(),
                )
            })
            .collect();
        sas.sort();
        sas
    }
}

fn add(direction: &str, spi: u32, key: u8, more: Value) -> Value {
    let mut sa = json!({
        "direction": direction, "peer": "node-b", "spi": spi, "algorithm": "aes256gcm16",
        "keymat": format!("{key:02x}").repeat(36), "esn": true,
    });
    let more = more.as_object().unwrap().clone();
    sa.as_object_mut().unwrap().extend(more);
    json!({"add": sa})
}

fn remove(direction: &str, spi: u32) -> Value {
    json!({"remove": {"direction": direction, "peer": "node-b", "spi": spi}})
}

/// The peer's sending end.
fn peer_sends(spi: u32, key: u8) -> OutboundSa {
    let key = EspKey::from_keymat(Algorithm::Aes256Gcm16, &[key; 36]).unwrap();
    OutboundSa::new(Spi(spi), key, true)
}

/// A SYN ACK of cart's to web's SYN from this port.
fn answer(port: u16) -> Vec<u8> {
    let mut answer = syn(Mac(PEER_MAC), CART, WEB, 8080, port)[14..].to_vec();
    answer[33] = 0x12;
    answer[28..32].copy_from_slice(&2u32.to_be_bytes());
    fix_tcp_checksum(&mut answer);
    answer
}

/// web begins a connection; the SPI that it leaves by, and its number under it.
fn begin(daemon: &Running, port: u16) -> (u32, u32) {
    daemon
        .wires
        .send(VF0, syn(Mac(WEB_MAC), WEB, CART, port, 8080));
    let frame = receive_ip(&daemon.wires);
    let word = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
    (word(34), word(38))
}

fn drops(daemon: Running, port: &str) -> Vec<(String, u64)> {
    let summary = daemon.stop();
    let port = summary
        .ports
        .into_iter()
        .find(|it| it.port.0 == port)
        .unwrap();
    port.drops
        .iter()
        .map(|it| (it.reason.clone(), it.frames))
        .collect()
}

#[test]
fn a_rekey_loses_nothing_receive_first_then_send_then_the_old_one_goes() {
    let files = Files::new();
    let daemon = start(&files);
    let mut socket = Socket::open(&files);
    assert_eq!(begin(&daemon, 40_000), (0x2001, 1));
    assert_eq!(begin(&daemon, 40_001), (0x2001, 2));
    let hears = |frame: Vec<u8>, port| {
        daemon.wires.send(UPLINK, frame);
        assert_eq!(daemon.wires.receive(VF0)[14..], answer(port));
    };
    let mut old = peer_sends(0x1001, OLD_IN);
    hears(sealed(&mut old, &answer(40_000)), 40_000);

    // Answered, it is in force: the peer may send by it the moment after. The old one stays.
    socket.done(&add("inbound", 0x1002, 0x41, json!({})));
    let mut new = peer_sends(0x1002, 0x41);
    hears(sealed(&mut new, &answer(40_001)), 40_001);
    assert_eq!(begin(&daemon, 40_002), (0x2001, 3), "sending is as it was");
    hears(sealed(&mut old, &answer(40_002)), 40_002);

    socket.done(&add("outbound", 0x2002, 0x42, json!({})));
    assert_eq!(begin(&daemon, 40_003), (0x2002, 1));
    hears(sealed(&mut old, &answer(40_003)), 40_003);

    socket.done(&remove("inbound", 0x1001));
    // Asked after it was told: what it answers, it did before.
    let sas = [
        ("inbound".to_owned(), 0x1002),
        ("outbound".to_owned(), 0x2002),
    ];
    assert_eq!(socket.list(), sas);
    daemon.wires.send(UPLINK, sealed(&mut old, &answer(40_003)));
    // Whose worker takes it may hand it to another.
    let dropped = "sluice_port_drops_total{port=\"uplink\",reason=\"unknown-spi\"} 1\n";
    until("the old SA's packet is dropped", || {
        let page = super::metrics::get(daemon.metrics.unwrap(), "/metrics");
        page.contains(dropped).then_some(())
    });
    assert_eq!(socket.refused(&remove("inbound", 0x1001)), "no-such-sa");
    assert_eq!(socket.refused(&remove("outbound", 0x2001)), "no-such-sa");
    assert_eq!(drops(daemon, "uplink"), [("unknown-spi".to_owned(), 1)]);
}

#[test]
fn a_sending_sa_that_is_removed_leaves_nothing_in_clear() {
    let files = Files::new();
    let daemon = start(&files);
    let mut socket = Socket::open(&files);
    begin(&daemon, 40_000);
    socket.done(&remove("outbound", 0x2001));
    assert_eq!(socket.list(), [("inbound".to_owned(), 0x1001)]);
    daemon
        .wires
        .send(VF0, syn(Mac(WEB_MAC), WEB, CART, 40_001, 8080));
    until("it is taken", || {
        (daemon.wires.backlog(VF0) == 0).then_some(())
    });
    socket.done(&add("outbound", 0x2002, 0x42, json!({})));
    assert_eq!(begin(&daemon, 40_002), (0x2002, 1));
    assert_eq!(drops(daemon, "vf0"), [("no-sa".to_owned(), 1)]);
}

#[test]
fn what_is_wrong_is_refused_by_name_and_changes_nothing() {
    let files = Files::new();
    let daemon = start(&files);
    let mut socket = Socket::open(&files);
    let mode = std::fs::metadata(files.path("sas.sock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = socket.list();
    let key_is_used = add("outbound", 0x2002, OLD_IN, json!({}));
    for (request, reason) in [
        (add("inbound", 0x1001, 0x41, json!({})), "duplicate-spi"),
        (add("outbound", 0x2001, 0x41, json!({})), "duplicate-spi"),
        (
            add("inbound", 0x1002, 0x41, json!({"peer": "node-x"})),
            "unknown-peer",
        ),
        (add("inbound", 0x1002, 0x41, json!({"keymat": "00"})), "key"),
        (
            add("inbound", 0x1002, 0x41, json!({"keymat": "zz".repeat(36)})),
            "key",
        ),
        (
            add("inbound", 0x1002, 0x41, json!({"algorithm": "aes128cbc"})),
            "field",
        ),
        (
            add("inbound", 0x1002, 0x41, json!({"window": 65})),
            "window",
        ),
        (add("inbound", 255, 0x41, json!({})), "spi"),
        (key_is_used, "used-key"),
        (json!({"add": {}}), "malformed"),
        (remove("inbound", 0x1009), "no-such-sa"),
    ] {
        assert_eq!(socket.refused(&request), reason, "{request}");
    }
    assert_eq!(socket.list(), before);
    let long = socket.send(&"x".repeat(5000));
    assert_eq!(long["refused"]["reason"], "malformed", "{long}");
    // Whose key was refused for something else can still have it used, once.
    let mut socket = Socket::open(&files);
    socket.done(&add("inbound", 0x1002, 0x41, json!({})));
    socket.done(&remove("inbound", 0x1002));
    assert_eq!(
        socket.refused(&add("inbound", 0x1003, 0x41, json!({}))),
        "used-key"
    );
    daemon.stop();

    // Nor in another run.
    for name in ["in.hex.used", "out.hex.used"] {
        std::fs::remove_file(files.path(name)).unwrap();
    }
    let again = config(&files, SOCKET);
    let (wires, set) = wires(again.ports.len());
    let error = match Running::start_with(again, wires, set) {
        Ok(_) => panic!("it began with keys that were used"),
        Err(error) => error,
    };
    assert!(error.to_string().contains("used"), "a file's: {error}");
    for name in ["in.hex.used", "out.hex.used"] {
        drop(std::fs::remove_file(files.path(name)));
    }
    let daemon = start_with(config_with(&files, SOCKET, [&[0x61; 36], &[0x62; 36]]));
    let mut socket = Socket::open(&files);
    assert_eq!(
        socket.refused(&add("inbound", 0x1003, 0x41, json!({}))),
        "used-key"
    );
    // One that a file had in the run before.
    assert_eq!(
        socket.refused(&add("inbound", 0x1004, OLD_IN, json!({}))),
        "used-key"
    );
    let used = std::fs::read_to_string(files.path("used-keys")).unwrap();
    assert!(!used.contains("4141"), "fingerprints only");
    daemon.stop();
}

#[test]
fn limits_end_an_sa_that_nobody_removes() {
    let files = Files::new();
    let daemon = start(&files);
    let mut socket = Socket::open(&files);
    socket.done(&add("outbound", 0x2002, 0x42, json!({"packets_max": 1})));
    assert_eq!(begin(&daemon, 40_000), (0x2002, 1));
    daemon
        .wires
        .send(VF0, syn(Mac(WEB_MAC), WEB, CART, 40_001, 8080));
    until("it is taken", || {
        (daemon.wires.backlog(VF0) == 0).then_some(())
    });
    socket.done(&add("inbound", 0x1002, 0x41, json!({"seconds_max": 5})));
    socket.done(&add("outbound", 0x2003, 0x43, json!({"bytes_max": 1})));
    let held = |socket: &mut Socket, spi| socket.list().iter().any(|it| it.1 == spi);
    assert!(held(&mut socket, 0x1002));
    until("an old SA goes", || {
        (!held(&mut socket, 0x1002)).then_some(())
    });
    assert!(held(&mut socket, 0x2003));
    begin(&daemon, 40_002);
    until("one with its bytes used goes", || {
        (!held(&mut socket, 0x2003)).then_some(())
    });
    let dropped = drops(daemon, "vf0");
    assert_eq!(dropped, [("sa-exhausted".to_owned(), 1)]);
}
