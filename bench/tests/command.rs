//! The command's output: which cases, and that what it says of each agrees with itself. How
//! long anything took is not looked at.

#![allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]

use std::process::{Command, Output};

use serde_json::Value;

#[cfg(not(feature = "dpdk"))]
const PORTS: &str = "mem";
#[cfg(feature = "dpdk")]
const PORTS: &str = "all";

#[cfg(not(feature = "dpdk"))]
const CASES: &[&str] = &[
    "mem/uplink-esp-to-vf",
    "mem/vf-to-uplink-esp",
    "mem/vf-to-vf",
];
#[cfg(feature = "dpdk")]
const CASES: &[&str] = &[
    "mem/uplink-esp-to-vf",
    "mem/vf-to-uplink-esp",
    "mem/vf-to-vf",
    "pcap-to-null/vf-to-uplink-esp",
    "pcap-to-null/vf-to-vf",
];

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-bench"));
    command.args(args).output().unwrap()
}

#[test]
fn every_case_and_length_is_in_the_json_with_numbers_that_agree() {
    let args = [
        "walk",
        "--ports",
        PORTS,
        "--round-ms",
        "1",
        "--output",
        "json",
    ];
    let ran = run(&args);
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    let all: Vec<Value> = serde_json::from_slice(&ran.stdout).unwrap();
    let named: Vec<_> = all
        .iter()
        .map(|one| {
            (
                one["case"].as_str().unwrap(),
                one["frame_bytes"].as_u64().unwrap(),
            )
        })
        .collect();
    let expected: Vec<_> = CASES
        .iter()
        .flat_map(|case| [60, 512, 1420].map(|len| (*case, len)))
        .collect();
    assert_eq!(named, expected);
    for one in &all {
        let number = |key: &str| one[key].as_f64().unwrap();
        let (ns, mpps) = (number("ns_per_packet"), number("mpps"));
        assert!(ns > 0.0 && number("baseline_ns") > 0.0);
        assert!((ns - number("baseline_ns") - number("net_ns")).abs() < 0.01);
        // Both are rounded to three decimals.
        assert!((1000.0 / ns - mpps).abs() < 0.001);
        let esp = one["case"].as_str().unwrap().contains("esp");
        assert_eq!(one["bare_aead_ns"].is_f64(), esp);
        assert!(one["peer"].is_null() && one["ratio"].is_null());
    }
}

#[test]
fn a_person_gets_a_table_and_the_machine_beside_it() {
    let ran = run(&["walk", "--round-ms", "1"]);
    let (out, said) = (
        String::from_utf8(ran.stdout).unwrap(),
        String::from_utf8(ran.stderr).unwrap(),
    );
    assert_eq!(out.lines().count(), 1 + 9, "{out}");
    assert!(said.contains("CPUs") && said.contains("Linux"), "{said}");
}

#[cfg(not(feature = "dpdk"))]
const CONTENDERS: &[&str] = &["sluice", "sluice-table", "linear"];
#[cfg(feature = "dpdk")]
const CONTENDERS: &[&str] = &["sluice", "sluice-table", "linear", "acl"];

/// The keys of each object of its JSON.
const POLICY_KEYS: [&str; 11] = [
    "case",
    "peer",
    "rules",
    "identities",
    "value",
    "unit",
    "baseline",
    "ratio",
    "target",
    "note",
    "machine",
];

/// What `policy --quick` measures: case, peer, rules, identities.
fn policy_cases() -> Vec<(String, String, Option<u64>, Option<u64>)> {
    let mut all = Vec::new();
    for keys in ["same-256", "random", "hostile"] {
        for (rules, identities) in [(10, 1), (100, 100), (1_000, 65_535)] {
            for peer in CONTENDERS {
                let case = format!("lookup/{keys}");
                all.push((case, (*peer).to_owned(), Some(rules), Some(identities)));
            }
        }
    }
    for what in [
        "whole",
        "validate",
        "event-p50",
        "event-p99",
        "event-slowest",
        "memory",
    ] {
        let case = format!("compile/{what}");
        // 20 namespaces with ten policies each.
        all.push((case, "sluice".to_owned(), Some(200), None));
    }
    for (rules, identities) in [(10, 1), (100, 100)] {
        for keys in ["same-256", "random"] {
            for peer in ["nft-map", "nft-rules"] {
                let case = format!("nft/{keys}");
                all.push((case, peer.to_owned(), Some(rules), Some(identities)));
            }
        }
    }
    for case in [
        "flow/memory",
        "flow/new-connections",
        "flood/established",
        "flood/new",
        "churn/flow-hits",
    ] {
        all.push((case.to_owned(), "sluice".to_owned(), None, None));
    }
    all
}

#[test]
fn policy_has_every_contender_and_says_why_where_it_has_no_number() {
    let ran = run(&["policy", "--quick", "--round-ms", "1", "--output", "json"]);
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    let all: Vec<Value> = serde_json::from_slice(&ran.stdout).unwrap();
    let text = |one: &Value, key: &str| one[key].as_str().unwrap().to_owned();
    let named: Vec<_> = all
        .iter()
        .map(|one| {
            let (rules, identities) = (one["rules"].as_u64(), one["identities"].as_u64());
            (text(one, "case"), text(one, "peer"), rules, identities)
        })
        .collect();
    assert_eq!(named, policy_cases());
    for one in &all {
        let keys: Vec<_> = one.as_object().unwrap().keys().cloned().collect();
        let mut expected = POLICY_KEYS.to_vec();
        expected.sort_unstable();
        assert_eq!(keys, expected);
        assert!(text(one, "machine").contains("Linux"));
        let (case, value) = (text(one, "case"), one["value"].as_f64());
        match case.split_once('/').unwrap().0 {
            // Without nft or root there is none. What is added can be less than the noise.
            "nft" => assert!(value.is_some() || !text(one, "note").is_empty()),
            "flood" => assert!((0.0..=1.0).contains(&value.unwrap()), "{one}"),
            "lookup" | "churn" => {
                for key in ["value", "baseline", "ratio"] {
                    assert!(one[key].as_f64().unwrap() > 0.0, "{one}");
                }
            }
            "flow" | "compile" => assert!(value.unwrap() > 0.0, "{one}"),
            other => panic!("{other}"),
        }
        let untargeted = [
            "flow/new-connections",
            "compile/validate",
            "compile/event-p50",
            "compile/event-slowest",
        ];
        let ours = text(one, "peer").starts_with("sluice") && !untargeted.contains(&case.as_str());
        assert_eq!(one["target"].is_f64(), ours, "{one}");
    }
}

#[test]
fn the_help_of_policy_names_every_key_of_its_json() {
    let ran = run(&["policy", "--help"]);
    let help = String::from_utf8(ran.stdout).unwrap();
    for key in POLICY_KEYS {
        assert!(help.contains(&format!("\n  {key} ")), "{key}: {help}");
    }
}

#[cfg(not(feature = "dpdk"))]
const BACKENDS: &[&str] = &["aws-lc-rs", "RustCrypto"];
#[cfg(feature = "dpdk")]
const BACKENDS: &[&str] = &["aws-lc-rs", "RustCrypto", "ipsec-mb", "ipsec-mb/ring"];

#[test]
fn esp_has_every_algorithm_beside_the_bare_one_and_many_sas_beside_one() {
    let ran = run(&["esp", "--quick", "--round-ms", "1", "--output", "json"]);
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    let all: Vec<Value> = serde_json::from_slice(&ran.stdout).unwrap();
    let text = |one: &Value, key: &str| one[key].as_str().unwrap().to_owned();
    let named: Vec<_> = all
        .iter()
        .map(|one| ["case", "who", "algorithm", "inner_bytes"].map(|key| text(one, key)))
        .collect();
    let mut expected = Vec::new();
    for algorithm in ["aes128gcm16", "aes256gcm16", "chacha20poly1305"] {
        let ours = ["seal", "open"].map(|case| (case, "sluice"));
        let others = ["bare/seal", "bare/open"];
        let others = others.map(|case| BACKENDS.iter().map(move |who| (case, *who)));
        let others = others.into_iter().flatten();
        let openssl = [("seal", "openssl speed")];
        for (case, who) in ours.into_iter().chain(others).chain(openssl) {
            expected.push([case, who, algorithm, "1420"].map(str::to_owned));
        }
    }
    for bytes in ["60", "1420"] {
        for case in ["seal/many-sas", "open/many-sas"] {
            expected.push([case, "sluice", "aes128gcm16", bytes].map(str::to_owned));
        }
    }
    expected.push(["rekey", "sluice", "aes256gcm16", "1420"].map(str::to_owned));
    expected.push(["rekey/whole", "sluice", "aes256gcm16", "none"].map(str::to_owned));
    expected.push(["rekey/loaded", "sluice", "aes256gcm16", "1420"].map(str::to_owned));
    assert_eq!(named, expected);
    for one in &all {
        if text(one, "case") == "rekey/whole" {
            continue;
        }
        let ns = one["ns_per_packet"].as_f64();
        if text(one, "who") == "sluice" {
            let (ns, peer_ns) = (ns.unwrap(), one["peer_ns"].as_f64().unwrap());
            let has_target = !text(one, "case").starts_with("rekey");
            if ["seal", "open"].contains(&&*text(one, "case")) {
                let peer = text(one, "peer");
                let who = peer.strip_prefix("bare ").unwrap();
                let libraries = BACKENDS.iter().filter(|it| !it.contains('/'));
                assert!(who == "ring" || libraries.into_iter().any(|it| *it == who));
            }
            assert!(ns > 0.0 && peer_ns > 0.0, "{one}");
            assert_eq!(one["target"].is_f64(), has_target, "{one}");
            let bits = text(one, "inner_bytes").parse::<f64>().unwrap() * 8.0;
            assert!(
                (one["gbps"].as_f64().unwrap() * ns / bits - 1.0).abs() < 0.01,
                "{one}"
            );
        } else {
            assert!(ns.is_some() || !text(one, "note").is_empty(), "{one}");
        }
        assert!(text(one, "machine").contains("Linux"));
    }
}

#[test]
fn rekeys_alone_have_a_rate_that_agrees_with_their_packets() {
    let ran = run(&[
        "esp",
        "--only",
        "rekeys",
        "--round-ms",
        "1",
        "--output",
        "json",
    ]);
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    let all: Vec<Value> = serde_json::from_slice(&ran.stdout).unwrap();
    let [one, whole, loaded] = &all[..] else {
        panic!("{all:?}");
    };
    let number = |key: &str| one[key].as_f64().unwrap();
    // One every 120 packets.
    let rate = 1e9 / (120.0 * number("ns_per_packet"));
    assert!(
        (number("rekeys_per_second") / rate - 1.0).abs() < 0.01,
        "{one}"
    );
    assert_eq!(one["peer"], "no rekey");
    // With a handshake in it a rekey takes longer than one in memory.
    let with_tls = whole["rekeys_per_second"].as_f64().unwrap();
    assert!(
        0.0 < with_tls && with_tls < number("rekeys_per_second"),
        "{all:?}"
    );
    // The handshakes take their part of the core from the packets.
    assert!(
        loaded["rekeys_per_second"].as_f64().unwrap() > 0.0,
        "{loaded}"
    );
    assert!(loaded["ratio"].as_f64().unwrap() > 1.0, "{loaded}");
    assert!(one["machine"].as_str().unwrap().contains("Linux"));
}

/// Of groups without targets, so that no speed decides.
#[test]
fn a_check_that_is_not_met_is_exit_1_after_the_json() {
    for (command, group, case) in [("esp", "rekeys", "rekey"), ("policy", "nft", "nft/")] {
        let args = [command, "--quick", "--only", group, "--round-ms", "1"];
        let json = ["--output", "json"];
        let ran = run(&[&args[..], &json[..], &["--check"]].concat());
        assert_eq!(ran.status.code(), Some(1));
        let all: Vec<Value> = serde_json::from_slice(&ran.stdout).unwrap();
        assert!(all[0]["case"].as_str().unwrap().starts_with(case));
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(said.contains("has a target"), "{said}");
        assert!(run(&[&args[..], &json[..]].concat()).status.success());
    }
}

#[test]
fn the_help_of_esp_names_every_key_of_its_json() {
    let ran = run(&["esp", "--quick", "--round-ms", "1", "--output", "json"]);
    let all: Vec<Value> = serde_json::from_slice(&ran.stdout).unwrap();
    let help = String::from_utf8(run(&["esp", "--help"]).stdout).unwrap();
    for key in all[0].as_object().unwrap().keys() {
        assert!(
            help.contains(&format!("\n  {key}")) || help.contains(&format!(", {key} ")),
            "{key}"
        );
    }
}

#[test]
fn what_it_does_not_know_is_bad_input() {
    let args: &[&[&str]] = &[
        &["walk", "--ports", "nic"],
        &["walk", "--round-ms", "0"],
        &["policy", "--round-ms", "0"],
        &["esp", "--round-ms", "1001"],
        &["swim"],
        #[cfg(feature = "dpdk")]
        &["gateway", "--ipsec-secgw", "it", "--direction", "up"],
    ];
    for args in args {
        assert_eq!(run(args).status.code(), Some(2), "{args:?}");
    }
}

#[cfg(feature = "dpdk")]
#[test]
fn a_gateway_that_is_not_there_is_named_with_how_to_have_one() {
    let ran = run(&["gateway", "--ipsec-secgw", "/no/such/gateway"]);
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{said}");
    assert!(said.contains("there is no /no/such/gateway"), "{said}");
    assert!(said.contains("bench/ipsec-secgw.sh"), "{said}");
}

/// A program that says what ipsec-secgw does of so many packets a second, if it has the ports and
/// the rules that `gateway` is to give it, and goes away with this.
#[cfg(feature = "dpdk")]
struct Told(std::path::PathBuf);

#[cfg(feature = "dpdk")]
impl Told {
    fn new(per_second: u32) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let name = format!("sluice-bench-told-{}-{per_second}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let script = format!(
            "#!/bin/sh\n\
             case \"$*\" in\n\
             *net_pcap0,*net_null1,*|*net_null0,*net_pcap1,*) ;;\n\
             *) echo \"of which ports: $*\" >&2; exit 1 ;;\n\
             esac\n\
             for last; do :; done\n\
             grep -q '^sa out .*aes-256-gcm' \"$last\" && grep -q '^sa in ' \"$last\" || exit 1\n\
             for second in 1 2 3 4; do\n\
             echo \"Total packets sent:   $((second * {per_second}))\"\n\
             echo 'Total packets dropped:   0'\n\
             done\n"
        );
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    /// `gateway`, with few packets of ours.
    fn beside(&self, more: &[&str]) -> Output {
        let program = self.0.to_str().unwrap();
        let algorithm = ["--algorithm", "aes256gcm16", "--output", "json"];
        let args = ["gateway", "--quick", "--ipsec-secgw", program];
        run(&[&args[..], &algorithm[..], more].concat())
    }
}

#[cfg(feature = "dpdk")]
impl Drop for Told {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(feature = "dpdk")]
#[test]
fn gateway_seals_and_opens_beside_another_and_its_help_names_what_it_says() {
    // A millisecond a packet: whoever is measured is ahead of it.
    let ran = Told::new(1_000).beside(&["--check"]);
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    let all: Vec<Value> = serde_json::from_slice(&ran.stdout).unwrap();
    let named: Vec<_> = all
        .iter()
        .map(|one| (one["direction"].as_str().unwrap(), &one["flows"]))
        .collect();
    let flows = [Value::from(1), Value::from(64)];
    let expected = ["seal", "open"].map(|way| flows.each_ref().map(|it| (way, it)));
    assert_eq!(named, expected.concat());
    let help = String::from_utf8(run(&["gateway", "--help"]).stdout).unwrap();
    for one in &all {
        for key in one.as_object().unwrap().keys() {
            assert!(help.contains(&format!("\n  {key} ")), "{key}: {help}");
        }
        let number = |key: &str| one[key].as_f64().unwrap();
        assert_eq!(
            (&one["inner_bytes"], number("secgw_ns")),
            (&"1420".into(), 1e6)
        );
        assert!((number("secgw_ns") / number("sluice_ns") / number("ratio") - 1.0).abs() < 0.01);
        // Who opens without a look at replays has less to do, and it is said.
        let windows = ["sluice_window", "secgw_window"].map(|key| one[key].as_u64());
        let expected = match one["direction"].as_str() {
            Some("open") => [Some(1024), Some(0)],
            _ => [None; 2],
        };
        assert_eq!(windows, expected);
    }
}

#[cfg(feature = "dpdk")]
#[test]
fn opening_that_is_behind_fails_the_check() {
    // One in 2.5 ns.
    let told = Told::new(400_000_000);
    let ran = told.beside(&["--check", "--direction", "open"]);
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{said}");
    let missed = "2 of 2 targets are missed: open aes256gcm16 1420 flows: 1";
    assert!(said.contains(missed), "{said}");
}
