//! Bad input: exit 2, the place and what to do on stderr, nothing on stdout, nothing written.

use std::fs;
use std::path::Path;

use super::{Ran, root, scratch, sluice_sim, text};

/// Checks what every refusal has in common, and that its first line says all of `parts`.
pub(super) fn refused(ran: &Ran, parts: &[&str]) {
    assert_eq!(ran.code, Some(2), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.is_empty(), "{}", ran.stdout);
    let first = ran.stderr.lines().next().unwrap();
    assert!(first.starts_with("error: "), "{}", ran.stderr);
    for part in parts {
        assert!(first.contains(part), "no `{part}` in: {}", ran.stderr);
    }
}

/// Two pods on two nodes, and what else `more` says, in one file.
pub(super) fn manifests(folder: &Path, more: &str) -> String {
    let pod = |name: &str, node: &str, ip: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: n}}\n\
             spec: {{nodeName: {node}}}\nstatus: {{podIPs: [{{ip: {ip}}}]}}\n"
        )
    };
    let node =
        |name: &str| format!("---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n");
    let file = folder.join("cluster.yaml");
    let all = [
        node("one"),
        node("two"),
        pod("a", "one", "10.1.0.1"),
        pod("b", "one", "10.1.0.2"),
        more.to_owned(),
    ];
    fs::write(&file, all.concat()).unwrap();
    text(&file).to_owned()
}

/// `connectivity` over these manifests and probes; nothing may be written.
fn connectivity(name: &str, more: &str, probes: &str) -> Ran {
    let folder = scratch(name);
    let manifests = manifests(&folder, more);
    let file = folder.join("probes.yaml");
    fs::write(&file, probes).unwrap();
    let out = folder.join("out");
    let args = ["connectivity", "--manifests", &manifests, "--probes"];
    let ran = sluice_sim(&[&args[..], &[text(&file), "--out", text(&out)]].concat());
    assert_eq!(out.exists(), ran.code != Some(2));
    ran
}

const PROBE: &str = "probes:\n  - {from: n/a, to: n/b, protocol: ICMP}\n";

/// `run` over these manifests and the lines of a scenario after its name.
fn run(name: &str, lines: &str) -> Ran {
    let folder = scratch(name);
    manifests(&folder, "");
    let scenario = folder.join("scenario.yaml");
    fs::write(&scenario, format!("name: bad\n{lines}")).unwrap();
    let out = folder.join("out");
    let ran = sluice_sim(&["run", text(&scenario), "--out", text(&out)]);
    assert_eq!(out.exists(), ran.code != Some(2));
    ran
}

#[test]
fn what_the_others_change_is_good_as_it_stands() {
    let ran = connectivity("bad-baseline", "", PROBE);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let steps = "manifests: cluster.yaml\nvfs: {n/a: 3, n/b: 0}\n\
                 steps:\n  - matrix: {protocol: ICMP}\n";
    let ran = run("bad-baseline-run", steps);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let vf_of = |pod: &str| {
        let line = ran.stdout.lines().find(|line| line.contains(pod)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(
        (vf_of("n/a").as_str(), vf_of("n/b").as_str()),
        ("pf0vf3", "pf0vf0")
    );
}

#[test]
fn malformed_yaml_is_shown_at_its_line() {
    let ran = connectivity("bad-yaml", "---\nkind: [Pod\nmetadata: {}\n", PROBE);
    refused(&ran, &["cluster.yaml:2"]);
    assert!(ran.stderr.lines().count() > 3, "no picture: {}", ran.stderr);
    let ran = connectivity("bad-probes-yaml", "", "probes:\n  - {from: n/a\n");
    refused(&ran, &["probes.yaml:"]);
}

#[test]
fn an_unknown_policy_field_is_named_with_the_known_ones() {
    let policy = "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
                  metadata: {name: p, namespace: n}\nspec:\n  podSelector: {}\n  ingres: []\n";
    let ran = connectivity("bad-policy", policy, PROBE);
    refused(&ran, &["cluster.yaml:", "`ingres`", "ingress"]);
    let line =
        fs::read_to_string(Path::new(env!("CARGO_TARGET_TMPDIR")).join("bad-policy/cluster.yaml"))
            .unwrap()
            .lines()
            .position(|line| line.contains("ingres:"))
            .unwrap()
            + 1;
    refused(&ran, &[&format!("cluster.yaml:{line}:")]);
}

#[test]
fn two_pods_on_one_ip_name_both() {
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: c, namespace: n}\n\
               spec: {nodeName: two}\nstatus: {podIPs: [{ip: 10.1.0.2}]}\n";
    let ran = connectivity("bad-ip", pod, PROBE);
    refused(&ran, &["cluster.yaml:", "10.1.0.2", "n/c", "n/b"]);
}

#[test]
fn two_pods_on_one_vf_name_both_and_the_line() {
    let steps = "manifests: cluster.yaml\nvfs: {n/a: 0, n/b: 0}\nsteps: []\n";
    let ran = run("bad-vf", steps);
    refused(
        &ran,
        &[
            "scenario.yaml:3:",
            "pf0vf0",
            "n/a",
            "n/b",
            "give each its own",
        ],
    );
    let steps = "manifests: cluster.yaml\nvfs: {n/a: 999}\nsteps: []\n";
    refused(
        &run("bad-vf-index", steps),
        &["scenario.yaml:3:", "pf0vf999", "n/a"],
    );
    let steps = "manifests: cluster.yaml\nvfs: {n/x: 0}\nsteps: []\n";
    refused(
        &run("bad-vf-pod", steps),
        &["scenario.yaml:3:", "n/x", "no such pod"],
    );
}

#[test]
fn a_wrong_key_length_names_the_line_and_shows_no_key() {
    let folder = scratch("bad-key");
    let (pcap, keys) = (folder.join("x.pcap"), folder.join("esp_sa"));
    let mut header = vec![0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0];
    header.extend([0; 8]);
    header.extend([0, 0, 4, 0, 1, 0, 0, 0]);
    fs::write(&pcap, header).unwrap();
    let sa = |key: &str| {
        format!(
            "# a comment\n\"IPv4\",\"198.18.0.1\",\"198.18.0.2\",\"0x100\",\
             \"AES-GCM with 16 octet ICV [RFC4106]\",\"0x{key}\",\"NULL\",\"\"\n"
        )
    };
    let open = |key: &str| {
        fs::write(&keys, sa(key)).unwrap();
        sluice_sim(&["esp", "open", "--pcap", text(&pcap), "--keys", text(&keys)])
    };
    assert_eq!(open(&"5a".repeat(20)).code, Some(0));
    assert_eq!(open(&"5a".repeat(36)).code, Some(0));
    for (len, parts) in [
        (19, ["20 bytes", "got 19"]),
        (16, ["20 bytes", "got 16"]),
        (32, ["36 bytes", "got 32"]),
        (0, ["20 bytes", "got 0"]),
    ] {
        let ran = open(&"5a".repeat(len));
        refused(&ran, &["esp_sa:2:", parts[0], parts[1]]);
        assert!(!ran.stderr.contains("5a5a"), "{}", ran.stderr);
    }
}

#[test]
fn an_unknown_verb_is_named_with_the_known_ones() {
    let ran = run(
        "bad-verb",
        "manifests: cluster.yaml\nsteps:\n  - frobnicate: {}\n",
    );
    refused(
        &ran,
        &["scenario.yaml:4:", "`frobnicate`", "apply, delete, patch"],
    );
    let ran = run("bad-field", "manifests: cluster.yaml\nsede: 4\nsteps: []\n");
    refused(&ran, &["scenario.yaml:3:", "`sede`", "seed"]);
}

#[test]
fn steps_that_can_not_be_done_are_named_with_what_can() {
    let policy = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, \
                  metadata: {name: p, namespace: n}, spec: {podSelector: {}, ingres: []}}";
    for (name, step, parts) in [
        (
            "apply",
            format!("apply: {policy}"),
            ["NetworkPolicy p: ", "`ingres`", "ingress"],
        ),
        (
            "list",
            format!("apply: [{policy}]"),
            ["NetworkPolicy p: ", "`ingres`", "ingress"],
        ),
        (
            "number",
            "apply: 5".into(),
            ["a folder or file", "object", "list"],
        ),
        (
            "fault",
            "fault: {fire: one}".into(),
            ["`fire`", "api-away", "slow-disk"],
        ),
        (
            "node",
            "fault: {slow-disk: three}".into(),
            ["there is no node", "three", "4:"],
        ),
        (
            "whole",
            "heal: {slow-disk: one}".into(),
            ["slow-disk one", "is not broken", "4:"],
        ),
        (
            "own",
            "fault: {wrong-certificate: {node: one, of: one}}".into(),
            ["of one", "not the wrong one", "4:"],
        ),
        (
            "certificate",
            "heal: {wrong-certificate: one}".into(),
            ["wrong-certificate one", "is not broken", "4:"],
        ),
        (
            "stall",
            "fault: {stalled: {node: one}}".into(),
            ["node one", "`agent`", "`dataplane`"],
        ),
        (
            "scale",
            "scale: {kind: Job, name: j, replicas: 1}".into(),
            ["Job default/j", "no template", "4:"],
        ),
        (
            "size",
            "scale: {kind: Job, name: j, replicas: 201}".into(),
            ["201", "200", "4:"],
        ),
        (
            "patch",
            "patch: {kind: Pod, namespace: n, name: x, labels: {}}".into(),
            ["Pod n/x", "to patch", "4:"],
        ),
        (
            "attack",
            "attack: {by: arp, from: n/a}".into(),
            ["needs `as`", "4:", "attack"],
        ),
        ("wait", "wait: 25h".into(), ["25h", "24h", "4:"]),
        (
            "mark",
            "expect: {marks: {fire: some}}".into(),
            ["`fire`", "no mark", "held"],
        ),
        (
            "count",
            "expect: {answers: {deny: few}}".into(),
            ["`few`", "none, some or a number", "4:"],
        ),
        (
            "replace",
            "replace: three".into(),
            ["there is no node", "three", "4:"],
        ),
    ] {
        let steps = format!("manifests: cluster.yaml\nsteps:\n  - {step}\n");
        let ran = run(&format!("bad-step-{name}"), &steps);
        refused(&ran, &[&["scenario.yaml:4:"], &parts[..]].concat());
    }
}

#[test]
fn settings_beyond_their_bounds_are_refused() {
    for (name, line, part) in [
        ("flows", "flows_max: 63", "64 to 1048576"),
        ("sa", "sa: {packets_max: 0}", "at least 1"),
        ("drift", "drift_ppm: {one: 100001}", "-100000 to 100000"),
        ("clock", "drift_ppm: {three: 1}", "no such node"),
        ("lane", "lanes: {three: 1}", "lanes names three"),
        (
            "lanes",
            "lanes: {one: 33}",
            "33 lanes of one: write 1 to 32",
        ),
    ] {
        let lines = format!("manifests: cluster.yaml\n{line}\nsteps: []\n");
        let ran = run(&format!("bad-setting-{name}"), &lines);
        refused(&ran, &["scenario.yaml:3:", part]);
    }
}

#[test]
fn a_missing_file_is_named() {
    refused(&sluice_sim(&["run", "no/such.yaml"]), &["no/such.yaml"]);
    let ran = run("bad-manifests", "manifests: nowhere\nsteps: []\n");
    refused(&ran, &["scenario.yaml:2:", "nowhere"]);
    let steps = "manifests: cluster.yaml\nsteps:\n  - probes: nowhere.yaml\n";
    refused(
        &run("bad-step-file", steps),
        &["scenario.yaml:4:", "nowhere.yaml"],
    );
    let folder = scratch("bad-missing");
    let manifests = manifests(&folder, "");
    let ran = sluice_sim(&[
        "connectivity",
        "--manifests",
        &manifests,
        "--probes",
        "gone.yaml",
    ]);
    refused(&ran, &["gone.yaml"]);
}

#[test]
fn a_probes_file_without_probes_is_refused() {
    let ran = connectivity("bad-empty", "", "probes: []\n");
    refused(&ran, &["probes.yaml:1:", "write at least one"]);
    refused(
        &connectivity("bad-blank", "", ""),
        &["probes.yaml:1:", "the file is empty"],
    );
}

#[test]
fn a_probe_that_cannot_be_asked_is_refused_at_its_line() {
    let question = |line: &str| format!("{PROBE}  - {line}\n");
    for (name, line, part) in [
        (
            "bad-pod",
            "{from: n/a, to: n/x, protocol: ICMP}",
            "no pod n/x",
        ),
        (
            "bad-node",
            "{from: \"node:x\", to: n/a, protocol: ICMP}",
            "no node x",
        ),
        (
            "bad-party",
            "{from: a, to: n/b, protocol: ICMP}",
            "`a` is not namespace/pod",
        ),
        (
            "bad-port",
            "{from: n/a, to: n/b, protocol: TCP, port: web}",
            "`web`",
        ),
        (
            "bad-no-port",
            "{from: n/a, to: n/b, protocol: TCP}",
            "port is missing",
        ),
        (
            "bad-protocol",
            "{from: n/a, to: n/b, protocol: GRE}",
            "TCP, UDP, SCTP, ICMP",
        ),
        (
            "bad-family",
            "{from: n/a, to: n/b, protocol: ICMP, family: ipv6}",
            "no IPv6 address",
        ),
        (
            "bad-expect",
            "{from: n/a, to: n/b, protocol: ICMP, expect: maybe}",
            "one of allow, deny",
        ),
    ] {
        let ran = connectivity(name, "", &question(line));
        refused(&ran, &["probes.yaml:3:", part]);
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_not_a_panic() {
    let file = scratch("bad-out").join("file");
    fs::write(&file, "in the way").unwrap();
    let args = ["run", "sim/scenarios/quickstart.yaml", "--out", text(&file)];
    refused(&sluice_sim(&args), &[text(&file)]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "in the way");
}

#[test]
fn wrong_usage_is_exit_2() {
    for args in [&["walk"][..], &["run"], &["connectivity", "--probes", "x"]] {
        let ran = sluice_sim(args);
        assert_eq!(ran.code, Some(2), "{args:?}");
        assert!(
            ran.stdout.is_empty() && ran.stderr.contains("--help"),
            "{}",
            ran.stderr
        );
    }
    assert!(root().join("sim").is_dir());
}
