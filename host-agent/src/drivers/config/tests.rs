use super::*;
use crate::cluster::EncryptionSetup;
use sluice_offload_api::model::Encryption;

const GOOD: &str = "\
node: a
source: {directory: manifests}
dataplane: {unix: dataplane.sock}
uplink: {port: uplink, mac: '02:00:00:00:00:01', mtu: 1500, interfaces: [{address: 172.16.0.1/24}]}
host: {port: host, mac: '02:00:00:00:00:02', mtu: 1500}
vfs:
  - {port: pf0vf0, index: 0, mac: '02:00:00:00:01:00', mtu: 1400, pci: '0000:03:00.2'}
  - {port: pf0vf1, index: 1, mac: '02:00:00:00:01:01', mtu: 1400, vlan: 7}
state: state
";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("/etc/sluice/agent.yaml"), text)
}

/// The fault of the good file with something replaced, without its place.
/// It must be at the first `at` of what was put in.
fn fault_at(from: &str, to: &str, at: &str) -> String {
    let start = GOOD.find(from).expect("it is in the good file");
    let text = GOOD.replacen(from, to, 1);
    let place = start + text[start..].find(at).expect("it was put in");
    let before = &text[..place];
    let line = before.matches('\n').count() + 1;
    let column = before.len() - before.rfind('\n').map_or(0, |it| it + 1) + 1;
    let message = parse(&text).unwrap_err().to_string();
    let prefix = format!("/etc/sluice/agent.yaml:{line}:{column}: ");
    let rest = message.strip_prefix(&prefix);
    rest.unwrap_or_else(|| panic!("{message} is not at {line}:{column}"))
        .to_owned()
}

#[test]
fn what_is_not_said_has_a_default_and_paths_are_relative_to_the_file() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.manifests, Path::new("/etc/sluice/manifests"));
    assert_eq!(config.state, Path::new("/etc/sluice/state"));
    assert_eq!(config.socket, Path::new("/run/sluice/agent.sock"));
    assert_eq!(config.add_timeout, Duration::from_secs(10));
    assert_eq!(config.devices.by_pci["0000:03:00.2"], "pf0vf0".into());
    assert_eq!(config.setup.vfs[1].vlan, Some(7));
    assert_eq!((config.verdict_log, config.log.json), (None, false));
}

#[test]
fn encryption_is_required_unless_the_operator_says_otherwise() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.setup.encryption, EncryptionSetup::default());
    let said = "{default: required, loosest: preferred, unprotected_nodes: [old]}";
    let config = parse(&format!("{GOOD}encryption: {said}\n")).unwrap();
    let listed = ["old".into()].into();
    let expected = EncryptionSetup::new(Encryption::Required, Some(Encryption::Preferred), listed);
    assert_eq!(config.setup.encryption, expected.unwrap());
    for (to, at, why) in [
        ("{default: none}", "none", "unknown variant `none`"),
        ("{defualt: off}", "defualt", "unknown field `defualt`"),
        (
            "{default: preferred, loosest: required}",
            "{",
            "`required`, the loosest that an annotation may ask for, is stricter",
        ),
        ("{unprotected_nodes: [x, x]}", "x]", "node x is there twice"),
    ] {
        let to = format!("encryption: {to}\nstate: state");
        let fault = fault_at("state: state", &to, at);
        assert!(fault.starts_with(why), "{fault}");
    }
}

#[test]
fn addresses_that_only_pods_have_are_prefixes_each_once_and_never_all() {
    assert!(parse(GOOD).unwrap().pod_cidrs.is_empty());
    let config = parse(&format!("{GOOD}pod_cidrs: [10.244.0.0/16, 'fd10::/16']\n")).unwrap();
    let expected = ["10.244.0.0/16", "fd10::/16"].map(|it| it.parse().unwrap());
    assert_eq!(config.pod_cidrs, expected.into());
    for (to, at, why) in [
        ("[10.244.0.0]", "10.244", "`10.244.0.0` is not"),
        (
            "[10.244.1.0/16]",
            "10.244",
            "10.244.1.0/16 has host bits set",
        ),
        ("['::/0']", "'::", "::/0 would leave nobody outside"),
        (
            "[172.16.0.0/12]",
            "172",
            "172.16.0.0/12 has 172.16.0.1 of the uplink in it",
        ),
        (
            "[10.0.0.0/8, 10.0.0.0/8]",
            "10.0.0.0/8]",
            "prefix 10.0.0.0/8 is there twice",
        ),
    ] {
        let to = format!("pod_cidrs: {to}\nstate: state");
        let fault = fault_at("state: state", &to, at);
        assert!(fault.starts_with(why), "{fault}");
    }
}

#[test]
fn each_fault_is_at_its_place() {
    let two = "[{address: 10.0.0.1/8}, {address: 10.0.0.2/8}]";
    let other = "[{address: 10.0.0.1/8, gateway: 'fe80::1'}]";
    let address = "[{address: 172.16.0.1/24}]";
    let cases = [
        ("a\nsource", "''\nsource", "''", "a name has"),
        (
            "source",
            "nodes: b\nsource",
            "nodes",
            "unknown field `nodes`",
        ),
        (
            "{directory: manifests}",
            "{kubernetes: {}}",
            "{}",
            "this agent reads no Kubernetes",
        ),
        (
            "{directory: manifests}",
            "{}",
            "{}",
            "name the manifests' folder",
        ),
        (
            "{unix: dataplane.sock}",
            "{}",
            "{}",
            "name the dataplane's socket",
        ),
        (
            "172.16.0.1/24",
            "172.16.0.1",
            "172",
            "`172.16.0.1` is no address with its prefix",
        ),
        (
            "172.16.0.1/24",
            "172.16.0.1/33",
            "172",
            "`172.16.0.1/33` is no address",
        ),
        (address, "[]", "[]", "the uplink needs an address"),
        (address, two, "10.0.0.2", "10.0.0.2 is the second"),
        (
            address,
            other,
            "{address",
            "gateway fe80::1 is of another family",
        ),
        ("'02:00:00:00:00:02'", "x", "x", "`x` is no station's MAC"),
        (
            "'02:00:00:00:00:02'",
            "'03:00:00:00:00:02'",
            "'03",
            "`03:00:00:00:00:02` is no station's",
        ),
        (
            "'02:00:00:00:00:02'",
            "'02:00:00:00:00:01'",
            "'02",
            "MAC 02:00:00:00:00:01 is there twice",
        ),
        (
            "port: host",
            "port: uplink",
            "uplink",
            "port uplink is there twice",
        ),
        ("index: 1,", "index: 0,", "0", "index 0 is there twice"),
        (
            "mtu: 1400, vlan",
            "mtu: 900, vlan",
            "900",
            "900 is not within 1280 to 9216",
        ),
        (
            "vlan: 7",
            "vlan: 4095",
            "4095",
            "4095 is not within 1 to 4094",
        ),
        (
            "'0000:03:00.2'",
            "'03:00.2'",
            "'03",
            "`03:00.2` is no PCI address",
        ),
        (
            "state: state",
            "state: s\nadd_timeout_ms: 0",
            "0",
            "0 is not within 1 to 300000",
        ),
        (
            "state: state",
            "state: s\nlog: {level: loud}",
            "loud",
            "unknown variant `loud`",
        ),
        (
            "state: state",
            "stat: state",
            "stat",
            "unknown field `stat`",
        ),
    ];
    for (from, to, at, expected) in cases {
        let message = fault_at(from, to, at);
        assert!(message.starts_with(expected), "{to}: {message}");
    }
}

#[test]
fn a_dataplane_over_a_network_has_certificates_and_a_name() {
    let tcp = |id: &str| {
        let tcp = format!(
            "{{tcp: {{address: '192.0.2.1:7443', certificate: a.pem, key: a.key, ca: ca.pem, id: '{id}'}}}}"
        );
        parse(&GOOD.replace("{unix: dataplane.sock}", &tcp))
    };
    let config = tcp("spiffe://example.org/sluice/node/a").unwrap();
    let DataplaneAddress::Tcp(tls) = config.dataplane else {
        panic!("{:?}", config.dataplane)
    };
    assert_eq!(tls.certificate, Path::new("/etc/sluice/a.pem"));
    for id in [
        "a",
        "spiffe://",
        "spiffe:///x",
        "spiffe://example.org",
        "https://example.org/x",
    ] {
        assert!(
            tcp(id).unwrap_err().to_string().contains("is no SPIFFE ID"),
            "{id}"
        );
    }
    let both =
        "{unix: x, tcp: {address: '192.0.2.1:1', certificate: a, key: a, ca: a, id: spiffe://a/b}}";
    let message = fault_at("{unix: dataplane.sock}", both, "{address");
    assert!(message.contains("exclude each other"), "{message}");
}

#[test]
fn the_examples_of_the_reference_and_the_samples_are_right() {
    let reference = include_str!("../../../../docs/agent-config.md");
    let blocks: Vec<_> = reference.split("```yaml\n").skip(1).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let (text, _) = block.split_once("```").expect("it ends");
        parse(text).unwrap();
    }
    let sample = parse(include_str!("../../../../deploy/agent/agent.yaml")).unwrap();
    assert_eq!(sample.setup.vfs.len(), 2);
    assert_eq!(sample.manifests, Path::new("/etc/sluice/manifests"));
}

#[test]
fn the_reference_names_each_default() {
    let reference = include_str!("../../../../docs/agent-config.md");
    let config = parse(GOOD).unwrap();
    for (key, default) in [
        ("add_timeout_ms", config.add_timeout.as_millis().to_string()),
        ("heartbeat_ms", config.heartbeat.as_millis().to_string()),
        ("socket", format!("`{}`", config.socket.display())),
    ] {
        let row = reference
            .lines()
            .find(|it| it.starts_with(&format!("| `{key}` |")));
        let row = row.unwrap_or_else(|| panic!("{key} has no row"));
        assert!(row.ends_with(&format!(" {default} |")), "{row}");
    }
}

proptest::proptest! {
    /// Whatever is in the file is taken, or refused at a place that is in it.
    #[test]
    fn a_mangled_file_is_refused_at_a_place(
        mangles in proptest::collection::vec((proptest::prelude::any::<proptest::sample::Index>(), proptest::prelude::any::<char>()), 1..5),
    ) {
        let mut text: Vec<char> = GOOD.chars().collect();
        for (at, char) in mangles {
            let at = at.index(text.len());
            text[at] = char;
        }
        let text: String = text.into_iter().collect();
        if let Err(error) = parse(&text) {
            let message = error.to_string();
            let place = message.strip_prefix("/etc/sluice/agent.yaml:").expect("its file");
            let line: usize = place.split(':').next().unwrap().parse().unwrap();
            // YAML ends a line at a carriage return, too.
            let lines = text.split(['\n', '\r']).count();
            proptest::prop_assert!((1..=lines + 1).contains(&line), "{message}");
            // The picture of it can be drawn.
            let mut picture = String::new();
            let handler = miette::GraphicalReportHandler::new();
            proptest::prop_assert!(handler.render_report(&mut picture, &error).is_ok());
        }
    }
}
