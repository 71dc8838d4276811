//! Two daemons on one wire, with the node channel between them: keys of their own making.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::JoinHandle;

use sluice_dataplane::config::Config;
use sluice_dataplane_core::addr::Mac;

use super::rig::frames::{UPLINK, VF0, src_port, syn};
use super::rig::pki::{Ca, Pair};
use super::rig::wires::wires;
use super::rig::{Files, PATIENCE, Running, WORKERS, try_until, until};

const WEB: [u8; 4] = [10, 244, 1, 10];
const CART: [u8; 4] = [10, 244, 2, 11];
const WEB_MAC: Mac = Mac([2, 0, 0, 0, 0xa, 0x10]);

/// An address on the loopback that nobody else has: both ends must know it before either
/// runs, so the kernel can't choose it.
fn own_address() -> String {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    // Relaxed: only the number counts.
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    format!("127.{high}.{low}.{count}:9444")
}

/// What was agreed on, in the folder of each node.
pub(crate) const LAB_KEYS: &str = "esp_sa";

struct Node<'a> {
    name: &'a str,
    letter: &'a str,
    pod: &'a str,
    listen: &'a str,
    other: &'a str,
    other_listen: &'a str,
    number: u8,
    other_number: u8,
    lanes: u8,
    /// Whether it writes its keys down.
    tells_keys: bool,
}

const fn node_a<'a>(listen: &'a str, other_listen: &'a str) -> Node<'a> {
    Node {
        name: "node-a",
        letter: "a",
        pod: "shop/web",
        listen,
        other: "node-b",
        other_listen,
        number: 1,
        other_number: 2,
        lanes: 2,
        tells_keys: true,
    }
}

fn config(files: &Files, node: &Node<'_>, ca: &Ca, svid: &Pair) -> Config {
    files.write("svid.pem", &svid.certificate);
    files.write_secret("svid.key", &svid.key);
    files.write("anchors.pem", &ca.pem);
    files.config(&text(node))
}

fn text(node: &Node<'_>) -> String {
    let manifests = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../sim/manifests/quickstart"
    );
    let Node {
        name,
        letter,
        pod,
        listen,
        other,
        other_listen,
        number,
        other_number,
        lanes,
        tells_keys,
    } = node;
    let lab = if *tells_keys {
        format!("  lab_key_file: {LAB_KEYS}\n")
    } else {
        String::new()
    };
    let workers = usize::from(*lanes).min(WORKERS);
    format!(
        "node: {name}
ports:
  - name: uplink
    kind: uplink
    device: memory
    mac: '02:00:00:00:0{letter}:01'
    interfaces: [{{address: 198.51.100.{number}/24}}]
  - {{name: host, kind: host, device: memory, mac: '02:00:00:00:0{letter}:02'}}
  - {{name: vf0, kind: vf, device: memory, mac: '02:00:00:00:0{letter}:10', mtu: 1400, vf: 0}}
worker: {{count: {workers}, flows: 65536, idle: {{policy: adaptive}}}}
metrics: 127.0.0.1:0
node_channel:
  listen: {listen}
  trust_domain: test
  svid: svid.pem
  key: svid.key
  anchors: anchors.pem
  peers: [{{node: {other}, address: '{other_listen}'}}]
  rekey_ms: 1000
  lanes: {lanes}
{lab}static:
  manifests: {manifests}
  pods: [{{pod: {pod}, port: vf0}}]
  peers: [{{node: {other}, tunnel_ips: [198.51.100.{other_number}]}}]
"
    )
}

/// Both nodes and the wire between their uplinks.
pub(crate) struct Pairing {
    a: Arc<Running>,
    b: Arc<Running>,
    cut: Arc<AtomicBool>,
    wire: Option<JoinHandle<Vec<Vec<u8>>>>,
}

impl Pairing {
    pub(crate) fn new(folders: [&Files; 2], ca: &Ca, svids: [Pair; 2]) -> Self {
        Self::with(folders, ca, svids, true)
    }

    /// The same; whether the second tells its keys, which are the first's too.
    pub(crate) fn with(folders: [&Files; 2], ca: &Ca, svids: [Pair; 2], tells_keys: bool) -> Self {
        let (at_a, at_b) = (own_address(), own_address());
        let node_a = node_a(&at_a, &at_b);
        let node_b = Node {
            name: "node-b",
            letter: "b",
            pod: "shop/cart",
            listen: &at_b,
            other: "node-a",
            other_listen: &at_a,
            number: 2,
            other_number: 1,
            lanes: 4,
            tells_keys,
        };
        let [svid_a, svid_b] = svids;
        let a = Arc::new(Running::start(config(folders[0], &node_a, ca, &svid_a)));
        let b = Arc::new(Running::start(config(folders[1], &node_b, ca, &svid_b)));
        let cut = Arc::<AtomicBool>::default();
        let wire = {
            let (a, b, cut) = (Arc::clone(&a), Arc::clone(&b), Arc::clone(&cut));
            std::thread::spawn(move || {
                let mut seen = Vec::new();
                while !cut.load(Ordering::Relaxed) {
                    let mut quiet = true;
                    for (from, to) in [(&a, &b), (&b, &a)] {
                        while let Some(frame) = from.wires.try_receive(UPLINK) {
                            seen.push(frame.clone());
                            to.wires.send(UPLINK, frame);
                            quiet = false;
                        }
                    }
                    if quiet {
                        std::thread::sleep(std::time::Duration::from_micros(200));
                    }
                }
                seen
            })
        };
        Self {
            a,
            b,
            cut,
            wire: Some(wire),
        }
    }

    pub(crate) fn epochs(&self) -> u64 {
        let page = super::metrics::get(self.a.metrics.unwrap(), "/metrics");
        let name = "sluice_channel_epochs_total{peer=\"node-b\"} ";
        let line = page.lines().find_map(|it| it.strip_prefix(name));
        line.map_or(0, |it| it.parse().unwrap())
    }

    /// Where both tell their metrics.
    pub(crate) fn metrics(&self) -> [std::net::SocketAddr; 2] {
        [&self.a, &self.b].map(|it| it.metrics.unwrap())
    }

    /// Cuts the wire: what went over it.
    pub(crate) fn cut(mut self) -> Vec<Vec<u8>> {
        self.cut.store(true, Ordering::Relaxed);
        self.wire.take().unwrap().join().unwrap()
    }
}

#[test]
fn two_nodes_agree_on_keys_and_renew_them_every_second_without_loss() {
    let (files_a, files_b, ca) = (Files::new(), Files::new(), Ca::new());
    let svids = [ca.node("node-a"), ca.node("node-b")];
    let pair = Pairing::new([&files_a, &files_b], &ca, svids);
    until("keys are in use both ways", || {
        (pair.epochs() >= 1).then_some(())
    });

    let to = pair.a.metrics.unwrap();
    let line = "sluice_channel_bindings{peer=\"node-b\"} 2";
    let announced = || {
        super::metrics::get(to, "/metrics")
            .lines()
            .any(|it| it == line)
    };
    assert!(
        try_until(announced),
        "node-b did not announce its pod's two addresses"
    );

    let page = super::metrics::get(to, "/metrics");
    assert!(
        page.contains("\nsluice_channel_svid_expires_timestamp_seconds "),
        "{page}"
    );

    // A packet a millisecond, each of a flow of its own, over at least two rekeys.
    let mut sent = 0u16;
    let deadline = std::time::Instant::now() + PATIENCE;
    let mut epochs = pair.epochs();
    // Three that begin from here on carry something, or two and the one before.
    let last = epochs + 3;
    while epochs < last {
        assert!(std::time::Instant::now() < deadline, "no rekey came");
        // Once more also when the last is in use: it shall carry something.
        epochs = pair.epochs();
        for _ in 0..10 {
            sent += 1;
            pair.a
                .wires
                .send(VF0, syn(WEB_MAC, WEB, CART, 1024 + sent, 8080));
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    let mut ports: Vec<_> = (0..sent)
        .map(|_| src_port(&pair.b.wires.receive(VF0)))
        .collect();
    ports.sort_unstable();
    let expected: Vec<_> = (1..=sent).map(|it| 1024 + it).collect();
    assert_eq!(ports, expected, "every packet arrives once");

    let seen = pair.cut();
    let arp_or_esp =
        |frame: &Vec<u8>| frame[12..14] == [8, 6] || (frame[12..14] == [8, 0] && frame[23] == 50);
    assert!(
        seen.iter().all(arp_or_esp),
        "the wire carries ARP and ESP only"
    );
    let spis: std::collections::BTreeSet<_> = seen
        .iter()
        .filter(|it| it[12..14] == [8, 0])
        .map(|it| u32::from_be_bytes(it[34..38].try_into().unwrap()))
        .collect();
    // The greater of both ends' lanes: that many children an epoch, their number in the SPI.
    let mut epochs = std::collections::BTreeMap::<u32, Vec<u32>>::new();
    for spi in spis {
        epochs.entry(spi & !31).or_default().push(spi & 31);
    }
    assert!(epochs.len() >= 3, "{epochs:x?}");
    assert!(epochs.values().any(|it| *it == [0, 1, 2, 3]), "{epochs:x?}");
    assert!(epochs.values().flatten().all(|it| *it < 4), "{epochs:x?}");
}

#[test]
fn a_node_with_another_nodes_certificate_does_not_start() {
    let (files, ca) = (Files::new(), Ca::new());
    let svid = ca.node("node-b");
    let (listen, nobody) = (own_address(), own_address());
    let config = config(&files, &node_a(&listen, &nobody), &ca, &svid);
    let (wires, set) = wires(config.ports.len());
    let open = wires.open.clone();
    let Err(error) = Running::start_with(config, wires, set) else {
        panic!("it started")
    };
    assert!(error.is_bad_input(), "{error}");
    assert!(error.to_string().contains("node channel"), "{error}");
    assert_eq!(open.load(Ordering::SeqCst), 0);
}

#[test]
fn without_keys_what_needs_them_is_dropped_and_counted() {
    let (files, ca) = (Files::new(), Ca::new());
    let (listen, nobody) = (own_address(), own_address());
    let node = node_a(&listen, &nobody);
    drops_for_want_of_an_sa(Running::start(config(
        &files,
        &node,
        &ca,
        &ca.node("node-a"),
    )));
}

#[test]
fn without_a_workload_api_it_starts_and_drops_what_needs_keys() {
    let files = Files::new();
    let (listen, nobody) = (own_address(), own_address());
    let three = "  svid: svid.pem\n  key: svid.key\n  anchors: anchors.pem\n";
    let api = "  workload_api: {socket: agent.sock}\n";
    let text = text(&node_a(&listen, &nobody));
    assert!(text.contains(three), "{text}");
    let daemon = Running::start(files.config(&text.replace(three, api)));
    let page = super::metrics::get(daemon.metrics.unwrap(), "/metrics");
    assert!(page.contains("sluice_channel_identity_fault 1\n"), "{page}");
    drops_for_want_of_an_sa(daemon);
}

fn drops_for_want_of_an_sa(daemon: Running) {
    daemon
        .wires
        .send(VF0, syn(WEB_MAC, WEB, CART, 40_000, 8080));
    let to = daemon.metrics.unwrap();
    let line = "sluice_port_drops_total{port=\"vf0\",reason=\"no-sa\"} 1";
    let has = |line: &str| {
        super::metrics::get(to, "/metrics")
            .lines()
            .any(|it| it == line)
    };
    assert!(try_until(|| has(line)), "the drop is not counted");
    while let Some(frame) = daemon.wires.try_receive(UPLINK) {
        assert_eq!(frame[12..14], [8, 6], "something other than ARP left");
    }
    daemon.stop();
}
