//! What sluicectl prints.

use std::fs;

use serde_json::json;

use crate::rig::plane::{VF0, VF1};
use crate::rig::{ALLOW, CART, DB, NODES, Node, PODS, sluicectl, syn, udp};

fn node() -> Node {
    let (node, plane) = Node::running(&[("a.yaml", NODES), ("b.yaml", PODS), ("c.yaml", ALLOW)]);
    for pod in [&CART, &DB] {
        assert_eq!(node.add(pod).code, 0);
    }
    assert_eq!(
        plane.exchange(VF0, syn("10.1.0.2", "10.1.0.3", 1, 5432)),
        [VF1]
    );
    assert!(
        plane
            .exchange(VF0, syn("10.1.0.2", "10.1.0.3", 2, 80))
            .is_empty()
    );
    node
}

#[test]
fn each_command_has_a_table_and_one_json_document() {
    let node = node();
    let cases: [(&[&str], &str, &str); 10] = [
        (&["status"], "node a: connected, in step", "/agent/node"),
        (
            &["vf"],
            "pf0vf0  0   02:00:00:00:01:00  shop/cart  10.1.0.2",
            "/vfs/1/pod/pod",
        ),
        (
            &["policy"],
            "otherwise egress: deny",
            "/policies/1/table/rows/0/rule",
        ),
        (
            &["policy", "shop/cart"],
            "shop/cart on pf0vf0",
            "/policies/0/pod",
        ),
        (
            &["drops"],
            "pf0vf0  shop/cart  policy-egress  1",
            "/drops/0/frames",
        ),
        (
            &["flows"],
            "tcp       10.1.0.2:1  10.1.0.3:5432  port pf0vf0  port pf0vf1",
            "/flows/0/rule",
        ),
        (&["names"], "POD  ADDRESS  BY  FOR", "/names"),
        (&["sa"], "SPI", "/sas"),
        (&["sa", "--matrix"], "FROM  TO  NODE  DIRECTION", "/pairs"),
        (
            &["trace", "shop/cart", "shop/db", "--port", "5432"],
            "policy: allow",
            "/disposition/do",
        ),
    ];
    for (args, text, pointer) in cases {
        let table = node.ctl(args);
        assert_eq!(table.code, 0, "{table:?}");
        assert!(table.out.contains(text), "{args:?}:\n{}", table.out);
        let json = node.ctl(&[args, &["--output", "json"]].concat());
        assert_eq!(json.code, 0);
        assert!(
            json.json().pointer(pointer).is_some(),
            "{args:?}: {}",
            json.out
        );
        let folder = node.temp.path().display().to_string();
        assert!(
            !table.out.contains(&folder) && !json.out.contains(&folder),
            "{args:?}"
        );
    }
}

#[test]
fn a_trace_says_what_would_happen_and_why() {
    let node = node();
    let trace = |to: &str, port: &str, expect: &str| {
        let args = ["trace", "shop/cart", to, "--port", port, "--expect", expect];
        node.ctl(&[&args[..], &["--output", "json"]].concat())
    };
    let denied = trace("shop/db", "80", "deny");
    assert_eq!(denied.code, 0, "{denied:?}");
    let it = denied.json();
    assert_eq!(
        (&it["verdict"], &it["at"]),
        (&json!("deny"), &json!("egress"))
    );
    assert!(
        it["rule"].as_str().unwrap().contains("shop/allow-db"),
        "{it}"
    );
    assert_eq!(it["disposition"]["do"], "discard");
    let far = trace("shop/far", "5432", "allow").json();
    assert_eq!(far["disposition"], json!({"do": "protect", "node": "b"}));
    let outside = trace("192.0.2.7", "5432", "allow").json();
    assert_eq!(outside["disposition"]["do"], "bypass");
    // Not what was expected: 1, and printed all the same.
    let other = trace("shop/db", "80", "allow");
    assert_eq!((other.code, &other.json()["verdict"]), (1, &json!("deny")));
}

/// cart may ask db, and speak with what has this name.
const NAMED: &str = "
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: names}
spec:
  tier: Admin
  priority: 1
  subject: {pods: {podSelector: {matchLabels: {app: cart}}}}
  egress:
  - {action: Accept, to: [{pods: {podSelector: {matchLabels: {app: db}}}}]}
  - {action: Accept, to: [{domainNames: ['*.example.com', example.org]}]}
  - {action: Deny, to: [{networks: [0.0.0.0/0]}]}
";

#[test]
fn names_are_shown_as_they_are_known_and_traced_as_they_are_supposed() {
    let (node, plane) = Node::running(&[("a.yaml", NODES), ("b.yaml", PODS), ("c.yaml", NAMED)]);
    for pod in [&CART, &DB] {
        assert_eq!(node.add(pod).code, 0);
    }
    let question = b"\x02db\x07example\x03com\0\0\x01\0\x01";
    let query = [&b"\0\x07\x01\0\0\x01\0\0\0\0\0\0"[..], question].concat();
    let record = b"\xc0\x0c\0\x01\0\x01\0\0\x02\x58\0\x04\xc6\x33\x64\x01";
    let header = b"\0\x07\x81\x80\0\x01\0\x01\0\0\0\0";
    let answer = [&header[..], question, record].concat();
    let asked = udp("10.1.0.2", "10.1.0.3", (4000, 53), query);
    assert_eq!(plane.exchange(VF0, asked), [VF1]);
    let told = udp("10.1.0.3", "10.1.0.2", (53, 4000), answer);
    assert_eq!(plane.exchange(VF1, told), [VF0]);

    let table = node.ctl(&["names", "shop/cart"]);
    let line = "shop/cart  198.51.100.1  *.example.com  ";
    let left = table.out.split_once(line).and_then(|(_, rest)| {
        let (seconds, _) = rest.split_once(" s")?;
        seconds.parse().ok()
    });
    // Of 600; who asks may have to wait for a core.
    assert!(
        left.is_some_and(|it: u32| (540..=600).contains(&it)),
        "{}",
        table.out
    );
    let json = node.ctl(&["names", "--output", "json"]).json();
    assert_eq!(json["names"][0]["domain"], "*.example.com");
    assert_eq!(node.ctl(&["names", "shop/none"]).code, 2);

    let trace = |args: &[&str]| {
        let all = ["trace", "shop/cart", "198.51.100.1", "--port", "443"];
        node.ctl(&[&all[..], args, &["--output", "json"]].concat())
            .json()
    };
    let it = trace(&["--name", "DB.example.com"]);
    assert_eq!(
        (&it["verdict"], &it["agrees"]),
        (&json!("allow"), &json!(true))
    );
    assert_eq!(it["rule"], "Admin:names egress[1]");
    assert_eq!(it["to"]["domains"], json!(["*.example.com"]));
    let it = trace(&[]);
    assert_eq!(it["verdict"], "deny");
    let note = it["notes"].to_string();
    assert!(
        note.contains("name domains") && note.contains("--name"),
        "{note}"
    );
    let other = trace(&["--name", "example.com"]);
    assert_eq!(
        (&other["verdict"], &other["to"]["domains"]),
        (&json!("deny"), &json!([]))
    );
}

#[test]
fn bad_input_ends_with_2_and_says_what_is_wrong() {
    let node = node();
    for (args, text) in [
        (
            &["trace", "shop/none", "shop/db", "--port", "1"][..],
            "there is no pod shop/none",
        ),
        (&["trace", "shop/cart", "shop/db"], "give the port"),
        (&["policy", "shop/none"], "no table in force"),
        (&["flows", "shop/none"], "is no endpoint here"),
        (&["drops", "--port", "pf9"], "no port pf9"),
        (&["fly"], "unrecognized subcommand"),
        (&["sa", "--matrix", "--peer", "b"], "cannot be used with"),
    ] {
        let done = node.ctl(args);
        assert_eq!(done.code, 2, "{args:?}: {done:?}");
        assert!(
            done.err.contains(text) && done.out.is_empty(),
            "{args:?}: {done:?}"
        );
    }
    let nobody = sluicectl(node.temp.path(), &["--socket", "none.sock", "status"]);
    assert_eq!(nobody.code, 2);
    assert!(
        nobody.err.contains("no agent listens on none.sock"),
        "{nobody:?}"
    );
    let help = sluicectl(node.temp.path(), &["--help"]);
    assert!(help.code == 0 && help.out.contains("Examples:"));
}

#[test]
fn a_configuration_is_checked_without_being_used() {
    let node = Node::new(&[("a.yaml", NODES), ("b.yaml", PODS)]);
    let check = || {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_sluice-agent"))
            .args(["--check", "--config"])
            .arg(node.path("agent.yaml"))
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, text) = check();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("node a, 2 VFs, 3 pods, 0 policies"), "{text}");
    node.put("b.yaml", "kind: [");
    let (code, text) = check();
    assert!(code == Some(2) && text.contains("b.yaml:1:"), "{text}");
    let config = fs::read_to_string(node.path("agent.yaml")).unwrap();
    fs::write(
        node.path("agent.yaml"),
        config.replace("mtu: 1500", "mtu: 15"),
    )
    .unwrap();
    let (code, text) = check();
    assert!(code == Some(2) && text.contains("agent.yaml:5:"), "{text}");
    assert!(text.contains("15 is not within 1280 to 9216"), "{text}");
    assert!(!node.path("state").exists() && !node.path("agent.sock").exists());
}
