//! What a configuration may say; what is said of one that it may not.

use std::path::{Path, PathBuf};

use sluice_dataplane::config::{Config, ConfigError};
use sluice_dataplane::daemon::{self, DaemonError};

use super::rig::pki::Ca;
use super::rig::{Files, PORTS, Running, mode, wires::wires};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// The files that examples name.
fn with_files() -> Files {
    let files = Files::new();
    let ca = Ca::new();
    let server = ca.dns("dataplane");
    let node = ca.uri("spiffe://example.org/sluice/node/node-a");
    for folder in ["tls/", ""] {
        for (own, pair, trusted) in [
            ("dataplane", &server, "agents-ca"),
            ("node", &node, "trust"),
        ] {
            files.write(&format!("{folder}{own}.pem"), &pair.certificate);
            files.write_secret(&format!("{folder}{own}.key"), &pair.key);
            files.write(&format!("{folder}{trusted}.pem"), &ca.pem);
        }
    }
    mode(&files.path("tls/dataplane.pem"), 0o644);
    files.write_secret("keys/in.hex", "1".repeat(72));
    files.write_secret("keys/out.hex", format!("{}\n", "2".repeat(72)));
    files.write_secret("keys/short.hex", "2".repeat(70));
    files.write_secret(
        "keys/not.hex",
        "not a key, but long enough to be one".repeat(2),
    );
    files.write("keys/open.hex", "3".repeat(72));
    mode(&files.path("keys/open.hex"), 0o640);
    std::fs::create_dir(files.path("state")).unwrap();
    for entry in std::fs::read_dir(repository().join("sim/manifests/quickstart")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        files.write(&format!("manifests/{name}"), std::fs::read(&path).unwrap());
    }
    files
}

#[test]
fn the_examples_of_the_reference_are_good() {
    let text = std::fs::read_to_string(repository().join("docs/dataplane-config.md")).unwrap();
    let examples: Vec<_> = text
        .split("```yaml\n")
        .skip(1)
        .map(|it| it.split("```").next().unwrap())
        .collect();
    assert_eq!(examples.len(), 2);
    let files = with_files();
    for example in examples {
        let config = files.config(example);
        assert_eq!(config.node.0, "node-a");
        assert_eq!(daemon::check(config).unwrap(), None);
    }
}

#[test]
fn the_worked_example_of_a_foreign_peer_is_good() {
    let text = std::fs::read_to_string(repository().join("docs/encryption.md")).unwrap();
    let blocks: Vec<_> = text
        .split("```yaml\n")
        .skip(1)
        .map(|it| it.split("```").next().unwrap())
        .collect();
    let [host, example, with_ike] = blocks.as_slice() else {
        panic!("a node and two configurations, not {} blocks", blocks.len());
    };
    let files = with_files();
    files.write("worked/storage.yaml", host);
    files.write(
        "worked/web.yaml",
        "apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec: {nodeName: node-a}
status: {podIPs: [{ip: 10.244.1.10}, {ip: 'fd00::10'}]}
",
    );
    let (ports, _) = example.split_once("static:\n").unwrap();
    for text in [(*example).to_owned(), format!("{ports}{with_ike}")] {
        let text = text.replacen("manifests: manifests", "manifests: worked", 1);
        assert_eq!(daemon::check(files.config(&text)).unwrap(), None);
    }
    // And no pod but one of this node that can speak to the host.
    for (to, said) in [
        ("pod: 10.244.1.11", "no address of a pod"),
        ("pod: 'fd00::10'", "of another family"),
        ("udp_encap: false", "give `pod`"),
    ] {
        let text = example.replace("pod: 10.244.1.10", to);
        let text = text.replacen("manifests: manifests", "manifests: worked", 1);
        let path = files.write("wrong.yaml", text);
        let error = match Config::load(&path) {
            Ok(config) => daemon::check(config).expect_err(to).to_string(),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(said), "{to}: {error}");
    }
}

#[test]
fn the_samples_are_good() {
    let files = with_files();
    let mut seen = 0;
    for entry in std::fs::read_dir(repository().join("deploy/dataplane")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|it| it != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text
            .replace("/etc/sluice/tls/", "tls/")
            .replace("/var/lib/sluice/", "state/")
            .replace("../../sim/manifests/quickstart", "manifests");
        let config = files.config(&text);
        daemon::check(config).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        seen += 1;
    }
    assert_eq!(seen, 3);
}

/// Line 1 is `node`.
const STATIC: &str = "node: node-a
eal: {no_huge_mib: 64}
ports:
  - {name: up, kind: uplink, device: d0, mac: '02:00:00:00:00:01', interfaces: [{address: 198.51.100.1/24}]}
  - {name: host, kind: host, device: d1, mac: '02:00:00:00:00:02'}
  - {name: vf0, kind: vf, device: d2, mac: '02:00:00:00:00:10', mtu: 1400, vf: 0}
worker: {flows: 1024, idle: {policy: adaptive, sleep_us_max: 100}}
static:
  manifests: manifests
  pods: [{pod: shop/web, port: vf0}]
  peers: [{node: node-b, tunnel_ips: [198.51.100.2]}]
  sas:
    - {direction: inbound, peer: node-b, spi: 0x1001, algorithm: aes256gcm16, key_file: keys/in.hex, window: 64}
    - {direction: outbound, peer: node-b, spi: 0x2001, algorithm: aes256gcm16, key_file: keys/out.hex}
  exit_when_idle: {after_ms: 100}
";

const LISTEN: &str = "node: node-a
ports:
  - {name: up, kind: uplink, device: d0}
  - {name: vf0, kind: vf, device: d2}
listen:
  unix: {path: s}
  tcp:
    address: 127.0.0.1:0
    certificate: tls/dataplane.pem
    key: tls/dataplane.key
    ca: tls/agents-ca.pem
    agents: [a.example]
  transaction_ms_max: 1000
checkpoint: state/last
metrics: 127.0.0.1:0
verdict_log: {per_second: 5}
node_channel:
  listen: 127.0.0.1:0
  trust_domain: test
  svid: tls/node.pem
  key: tls/node.key
  anchors: tls/nodes-ca.pem
  peers: [{node: node-b, address: '192.0.2.2:9444'}]
  rekey_ms: 1000
  algorithms: [chacha20poly1305, aes256gcm16]
  lanes: 4
";

/// What is replaced, by what, the line at fault, and a part of what is said.
type Bad = (&'static str, &'static str, u64, &'static str);

const BAD_STATIC: &[Bad] = &[
    ("node: node-a", "nod: node-a", 1, "nod"),
    ("node: node-a", "node: ''", 1, "1 to 253 bytes"),
    ("node: node-a", "node: \"a\\tb\"", 1, "printable"),
    (
        "{no_huge_mib: 64}",
        "{no_huge_mib: 0}",
        2,
        "from 1 to 65536 MiB",
    ),
    (
        "{no_huge_mib: 64}",
        "{no_huge_mib: 1, hugepages_mib: 1}",
        2,
        "not both",
    ),
    ("kind: uplink", "kind: uplnk", 4, "uplnk"),
    ("kind: host", "kind: uplink", 5, "another uplink port"),
    ("name: host", "name: vf0", 6, "port vf0 is there twice"),
    ("device: d2", "device: ' '", 6, "a device is needed"),
    ("device: d2, ", "", 6, "device"),
    (
        "'02:00:00:00:00:10'",
        "'01:00:00:00:00:10'",
        6,
        "not a unicast MAC",
    ),
    (
        "'02:00:00:00:00:10'",
        "'02:00:00:00:10'",
        6,
        "not a unicast MAC",
    ),
    (", mac: '02:00:00:00:00:02'", "", 5, "`mac` is needed"),
    ("mtu: 1400", "mtu: 1279", 6, "not from 1280 to 9216"),
    ("mtu: 1400", "mtu: 70000", 6, "invalid u16"),
    (", vf: 0}", "}", 6, "`vf`, the VF's number"),
    (
        "device: d1,",
        "device: d1, vf: 3,",
        5,
        "`vf` is not for this kind",
    ),
    (
        "device: d1,",
        "device: d1, vlan: 3,",
        5,
        "`vlan` is not for this kind",
    ),
    (
        "198.51.100.1/24",
        "198.51.100.1",
        4,
        "prefix length such as",
    ),
    (
        "198.51.100.1/24",
        "198.51.100.1/33",
        4,
        "prefix length such as",
    ),
    ("flows: 1024", "flows: 0", 7, "from 1 to 16777216"),
    (
        "flows: 1024",
        "flows: 10, vf_flows_max: 11",
        7,
        "vf_flows_max is from 1 to 10",
    ),
    (
        "flows: 1024",
        "flows: 10, vf_flows_max: 5, vf_half_open_max: 6",
        7,
        "vf_half_open_max is more than vf_flows_max, 5",
    ),
    (
        "flows: 1024",
        "timeouts_s: {tcp_established: 0}",
        7,
        "tcp_established is from 1 to 604800",
    ),
    (
        "flows: 1024",
        "timeouts_s: {tcp: 5}",
        7,
        "unknown field `tcp`",
    ),
    (
        "flows: 1024",
        "vf_names_max: 0",
        7,
        "vf_names_max is from 1 to 65536",
    ),
    (
        "flows: 1024",
        "names_s_max: 86401",
        7,
        "names_s_max is from 1 to 86400",
    ),
    (
        "flows: 1024",
        "names_s_max: 10, names_s_min: 11",
        7,
        "names_s_min is from 1 to 10",
    ),
    ("sleep_us_max: 100", "sleep_us_max: 0", 7, "from 1 to 10000"),
    ("adaptive, ", "spin, ", 7, "for `adaptive` only"),
    (
        "static:",
        "listen: {unix: {path: s}}\nstatic:",
        10,
        "exclude each other",
    ),
    ("static:", "checkpoint: x\nstatic:", 8, "for `listen` only"),
    ("pod: shop/web", "pod: web", 10, "`namespace/name`"),
    ("port: vf0}", "port: host}", 10, "no port host of kind vf"),
    (
        "port: vf0}]",
        "port: vf0}, {pod: shop/db, port: vf0}]",
        10,
        "another pod has this port",
    ),
    (
        "node: node-b",
        "node: node-a",
        11,
        "this is the node itself",
    ),
    ("[198.51.100.2]", "[]", 11, "needs `tunnel_ips`"),
    (
        "exit_when_idle:",
        "encryption: {default: none}\n  exit_when_idle:",
        15,
        "`encryption.default`: `none` is not a setting",
    ),
    (
        "exit_when_idle:",
        "encryption: {default: off, loosest: required}\n  exit_when_idle:",
        15,
        "`encryption.loosest`: `required`, the loosest",
    ),
    (
        "exit_when_idle:",
        "encryption: {unprotected_nodes: [node-c, node-c]}\n  exit_when_idle:",
        15,
        "`encryption.unprotected_nodes` has this node already",
    ),
    (
        "exit_when_idle:",
        "pod_cidrs: [10.244.0.1/16]\n  exit_when_idle:",
        15,
        "`pod_cidrs`: 10.244.0.1/16 has host bits set",
    ),
    (
        "exit_when_idle:",
        "pod_cidrs: [198.51.0.0/16]\n  exit_when_idle:",
        15,
        "`pod_cidrs`: 198.51.0.0/16 has 198.51.100.1 of the uplink",
    ),
    (
        "exit_when_idle:",
        "pod_cidrs: [0.0.0.0/0]\n  exit_when_idle:",
        15,
        "`pod_cidrs`: 0.0.0.0/0 would leave nobody",
    ),
    (
        "exit_when_idle:",
        "encryption: {strictest: off}\n  exit_when_idle:",
        15,
        "unknown field `strictest`",
    ),
    (
        "[198.51.100.2]",
        "[198.51.100.256]",
        11,
        "invalid IP address",
    ),
    ("spi: 0x1001", "spi: 255", 13, "reserved"),
    (
        "outbound, peer: node-b, spi: 0x2001",
        "inbound, peer: node-b, spi: 0x1001",
        14,
        "another receiving SA",
    ),
    (
        "inbound, peer: node-b, spi: 0x1001",
        "outbound, peer: node-b, spi: 0x1001",
        13,
        "`window` is for",
    ),
    ("window: 64", "window: 63", 13, "63"),
    (
        "spi: 0x1001, algorithm: aes256gcm16",
        "spi: 0x1001, algorithm: aes",
        13,
        "known are aes128gcm16",
    ),
    ("keys/out.hex", "keys/in.hex", 14, "another SA has this key"),
    (
        "keys/out.hex",
        "keys/none.hex",
        14,
        "can't read the key file",
    ),
    ("keys/out.hex", "keys/short.hex", 14, "35"),
    (
        "keys/out.hex",
        "keys/not.hex",
        14,
        "hex digits and nothing else",
    ),
    ("keys/out.hex", "keys/open.hex", 14, "mode 0640"),
    ("keys/in.hex", "keys/in.hex, mode: beet", 13, "beet"),
    ("after_ms: 100", "after_ms: 0", 15, "from 1 to 3600000"),
    ("after_ms: 100", "after_ms: 100, x: 1", 15, "x"),
    (
        "manifests: manifests",
        "manifests: manifests\n  manifests: other",
        10,
        "manifests",
    ),
    ("static:", "static: [", 8, ""),
    (
        "static:",
        "node_channel: {listen: '[::1]:0', trust_domain: t, svid: a, key: a, anchors: a}\nstatic:",
        8,
        "take `static.sas` and",
    ),
];

const BAD_LISTEN: &[Bad] = &[
    (
        "device: d2}",
        "device: d2, mtu: 1500}",
        4,
        "the agent gives MAC, MTU",
    ),
    (
        "device: d2}",
        "device: d2, mac: '02:00:00:00:00:01'}",
        4,
        "the agent gives MAC, MTU",
    ),
    ("tls/dataplane.pem", "tls/none.pem", 9, "can't read it"),
    (
        "tls/dataplane.key",
        "tls/dataplane.pem",
        10,
        "others may read it",
    ),
    ("tls/agents-ca.pem", "tls/none.pem", 11, "can't read it"),
    ("[a.example]", "[]", 12, "1 to 8 names"),
    ("[a.example]", "[ '' ]", 12, "1 to 253 bytes"),
    (
        "transaction_ms_max: 1000",
        "transaction_ms_max: 0",
        13,
        "from 1 to 600000",
    ),
    ("metrics: 127.0.0.1:0", "metrics: localhost", 15, ""),
    ("per_second: 5", "per_second: 0", 16, "from 1 to 1000000"),
    ("listen:", "listne:", 5, "listne"),
    ("trust_domain: test", "trust_domain: Test", 19, "Test"),
    ("node: node-b", "node: node_b", 23, "node_b"),
    (
        "node: node-b",
        "node: node-a",
        23,
        "this is the node itself",
    ),
    ("node: node-a", "node: Node", 19, "Node"),
    (
        "  svid: tls/node.pem\n  key: tls/node.key\n  anchors: tls/nodes-ca.pem\n",
        "",
        19,
        "`svid`, `key` and `anchors` are needed, all three, or `workload_api`",
    ),
    (
        "  key: tls/node.key\n",
        "",
        19,
        "`svid`, `key` and `anchors` are needed, all three, or `workload_api`",
    ),
    (
        "  svid: tls/node.pem\n",
        "  workload_api: {socket: s}\n",
        20,
        "take `svid`, `key` and `anchors` out, or this",
    ),
    (
        "  svid: tls/node.pem\n  key: tls/node.key\n  anchors: tls/nodes-ca.pem\n",
        "  workload_api: {socket: s, sockt: s}\n",
        20,
        "sockt",
    ),
    (
        "  svid: tls/node.pem\n  key: tls/node.key\n  anchors: tls/nodes-ca.pem\n",
        "  workload_api: {socket: 'tcp://127.0.0.1:1'}\n",
        20,
        "a Unix socket's path or unix:///PATH",
    ),
    (
        "rekey_ms: 1000",
        "rekey_ms: 999",
        24,
        "from 1000 to 86400000",
    ),
    (
        "aes256gcm16",
        "aes",
        25,
        "known are aes128gcm16, aes256gcm16 and chacha20poly1305",
    ),
    ("aes256gcm16", "chacha20poly1305", 25, "there twice"),
    (
        "lanes: 4",
        "lanes: 3",
        26,
        "a power of two from 1 to 32, not 3",
    ),
    ("lanes: 4", "lanes: 64", 26, "a power of two from 1 to 32"),
    ("lanes: 4", "lanes: 0", 26, "a power of two from 1 to 32"),
    (
        "[chacha20poly1305, aes256gcm16]",
        "[]",
        25,
        "no algorithm is left",
    ),
    (
        "'192.0.2.2:9444'}]",
        "'192.0.2.2:9444'}, {node: node-b, address: '192.0.2.3:9444'}]",
        23,
        "there twice",
    ),
];

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let files = with_files();
    let mut wrong = Vec::new();
    for (good, table) in [(STATIC, BAD_STATIC), (LISTEN, BAD_LISTEN)] {
        files.config(good);
        for &(from, to, line, part) in table {
            assert!(good.contains(from), "{from} is not in the good one");
            let path = files.write("bad.yaml", good.replacen(from, to, 1));
            let said = match Config::load(&path) {
                Ok(_) => "nothing".to_owned(),
                Err(error) => error.to_string(),
            };
            let at = format!("bad.yaml:{line}:");
            if !said.contains(&at) || !said.contains(part) {
                wrong.push(format!("{to}: {said} does not say {at} and {part}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_workload_api_takes_the_place_of_files() {
    use sluice_node_channel::Source;
    let files = with_files();
    let three = "  svid: tls/node.pem\n  key: tls/node.key\n  anchors: tls/nodes-ca.pem\n";
    for (socket, path) in [
        ("run/agent.sock", files.path("run/agent.sock")),
        ("/run/spire/agent.sock", "/run/spire/agent.sock".into()),
        (
            "unix:///run/spire/agent.sock",
            "/run/spire/agent.sock".into(),
        ),
    ] {
        let api = format!("  workload_api: {{socket: '{socket}'}}\n");
        let config = files.config(&LISTEN.replace(three, &api));
        let channel = config.node_channel.as_ref().unwrap();
        let Source::WorkloadApi(api) = &channel.channel.identity else {
            panic!("{channel:?}");
        };
        assert_eq!(api.socket, path);
        assert_eq!(daemon::check(config).unwrap(), None, "nobody is asked");
    }
    let by_files = files.config(LISTEN).node_channel.unwrap();
    assert!(matches!(by_files.channel.identity, Source::Files(_)));
}

#[test]
fn neither_or_an_empty_listen_is_refused() {
    let files = with_files();
    for (text, part) in [
        (
            "node: a\nports: [{name: u, kind: uplink, device: d}]\n",
            "neither `static` nor",
        ),
        (
            "node: a\nports: []\nlisten: {unix: {path: s}}\n",
            "1 to 1024 ports",
        ),
        (
            "node: a\nports: [{name: u, kind: uplink, device: d}]\nlisten: {}\n",
            "needs `unix`, `tcp` or both",
        ),
        ("", ""),
        ("[]", ""),
    ] {
        let path = files.write("bad.yaml", text);
        let error = Config::load(&path).expect_err(text).to_string();
        assert!(error.contains(part), "{error}");
    }
    let missing = Config::load(&files.path("none.yaml")).unwrap_err();
    assert!(matches!(missing, ConfigError::Read { .. }));
    let long = files.write("long.yaml", format!("# {}\n{LISTEN}", "x".repeat(1 << 20)));
    assert!(
        Config::load(&long)
            .unwrap_err()
            .to_string()
            .contains("longer than")
    );
}

#[test]
fn no_error_carries_a_byte_of_a_key() {
    let files = with_files();
    let secret = "ab".repeat(34);
    files.write_secret("keys/short.hex", &secret);
    files.write_secret("keys/odd.hex", format!("{secret}zz"));
    for name in ["keys/short.hex", "keys/odd.hex"] {
        let path = files.write("bad.yaml", STATIC.replace("keys/out.hex", name));
        let error = Config::load(&path).unwrap_err();
        let all = format!("{error} {error:?}");
        assert!(!all.contains("abab") && !all.contains("171"), "{all}");
    }
    let config = files.config(STATIC);
    assert!(
        !format!("{config:?}").contains("1111"),
        "the configuration shows a key"
    );
}

#[test]
fn files_that_make_no_state_are_told_apart() {
    let files = with_files();
    let check = |from: &str, to: &str| {
        assert!(STATIC.contains(from), "{from}");
        let error = daemon::check(files.config(&STATIC.replacen(from, to, 1))).expect_err(to);
        assert!(error.is_bad_input(), "{error}");
        error.to_string()
    };
    let none = check("pod: shop/web", "pod: shop/nobody");
    assert!(none.contains("no manifest has it"), "{none}");
    let elsewhere = check("pod: shop/web", "pod: shop/cart");
    assert!(elsewhere.contains("not a pod of this node"), "{elsewhere}");
    let stranger = check("inbound, peer: node-b", "inbound, peer: node-c");
    assert!(stranger.contains("which is no peer"), "{stranger}");
    let transport = "keys/in.hex, mode: transport, pod: 10.244.1.10";
    let no_host = check("keys/in.hex", transport);
    assert!(no_host.contains("is an InternalIP"), "{no_host}");
    let nowhere = check(
        "peers: [{node: node-b, tunnel_ips: [198.51.100.2]}]",
        "peers: []",
    );
    assert!(nowhere.contains("node-b"), "{nowhere}");
    files.write(
        "manifests/zz.yaml",
        "kind: NetworkPolicy\napiVersion: v1\nmetadata: 3\n",
    );
    let broken = check("node: node-a", "node: node-a ");
    assert!(broken.contains("zz.yaml"), "{broken}");
}

#[test]
fn tls_files_that_are_not_what_they_should_be_open_nothing() {
    let files = with_files();
    let swapped = LISTEN.replace("ca: tls/agents-ca.pem", "ca: tls/empty.pem");
    files.write("tls/empty.pem", "");
    let error = daemon::check(files.config(&swapped)).unwrap_err();
    assert!(error.to_string().contains("no PEM certificate"), "{error}");
    let other = Ca::new().dns("dataplane");
    files.write_secret("tls/dataplane.key", &other.key);
    let error = daemon::check(files.config(LISTEN)).unwrap_err();
    assert!(matches!(error, DaemonError::Tls(_)), "{error}");
}

/// What the start would end with is found by who checks before it.
#[test]
fn a_check_reads_the_nodes_own_certificate() {
    let files = with_files();
    let channel = "node_channel: {listen: '127.0.0.1:0', trust_domain: example.org, \
                   svid: tls/node.pem, key: tls/node.key, anchors: tls/trust.pem}\n";
    let text = format!("{PORTS}listen:\n  unix: {{path: agent.sock}}\n{channel}");
    let text = text.replacen("node: a\n", "node: node-a\n", 1);
    assert_eq!(daemon::check(files.config(&text)).unwrap(), None);
    for (from, to) in [
        ("tls/node.pem", "tls/dataplane.pem"),
        ("tls/node.key", "tls/dataplane.key"),
        ("tls/trust.pem", "tls/none.pem"),
        ("example.org", "example.net"),
    ] {
        let error = daemon::check(files.config(&text.replace(from, to))).unwrap_err();
        assert!(
            error.is_bad_input() && matches!(error, DaemonError::Channel(_)),
            "{to}: {error}"
        );
    }
}

#[test]
fn a_port_that_does_not_come_up_leaves_nothing_open() {
    let files = with_files();
    let config = files.config(&format!("{PORTS}listen:\n  unix: {{path: agent.sock}}\n"));
    let (wires, mut set) = wires(config.ports.len());
    let open = wires.open.clone();
    set.broken = true;
    let Err(error) = Running::start_with(config, wires, set) else {
        panic!("it started without its ports")
    };
    assert_eq!(error.to_string(), "port vf0: no such wire");
    assert!(!error.is_bad_input());
    assert_eq!(open.load(std::sync::atomic::Ordering::SeqCst), 0);
    assert!(!files.path("agent.sock").exists());
}

#[test]
fn the_workers_bounds_are_as_written_or_a_share_of_its_flows() {
    let files = with_files();
    let with = |more: &str| {
        let ports = PORTS.replace("flows: 1024", &format!("flows: 1600{more}"));
        files.config(&format!("{ports}listen:\n  unix: {{path: agent.sock}}\n"))
    };
    let default = with("");
    let quotas = default.worker.quotas;
    assert_eq!((quotas.flows_max, quotas.half_open_max), (400, 100));
    let given = with("\n  vf_flows_max: 50\n  timeouts_s: {udp_established: 5}");
    let quotas = given.worker.quotas;
    // Half-open ones are of the flows that a VF may have.
    assert_eq!((quotas.flows_max, quotas.half_open_max), (50, 50));
    let names = default.worker.names;
    assert_eq!((names.addresses_per_vf, names.ttl_s), (6400, [5, 3600]));
    let fewer = with("\n  vf_names_max: 10\n  names_s_max: 3").worker.names;
    assert_eq!((fewer.addresses_per_vf, fewer.ttl_s), (10, [3, 3]));
    let (given, default) = (given.worker.timeouts, default.worker.timeouts);
    assert_eq!(given.udp_established_ns, 5_000_000_000);
    assert_eq!(given.tcp_established_ns, default.tcp_established_ns);
}
