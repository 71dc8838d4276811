//! Every fault of a MultiNetworkPolicy and of the annotations that say which networks a pod
//! is on: its place, and what would be right.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use sluice_host_agent::cluster::{Interface, Pod};
use sluice_host_agent::manifest::{Object, load_texts, parse};

fn error(text: &str) -> String {
    let fault = load_texts(&[("net.yaml", text)]).err();
    fault
        .unwrap_or_else(|| panic!("no fault: {text}"))
        .to_string()
}

/// A policy whose `spec` is `spec`, which starts on line 4.
fn policy(spec: &str) -> String {
    format!(
        "apiVersion: k8s.cni.cncf.io/v1beta1\nkind: MultiNetworkPolicy\nmetadata: {{name: x, \
         annotations: {{k8s.v1.cni.cncf.io/policy-for: fast}}}}\nspec:\n{spec}\n"
    )
}

/// A pod of namespace shop with these annotations, from line 6 on.
fn pod(annotations: &[(&str, &str)]) -> String {
    let mut text = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  namespace: shop\n  \
                    annotations:\n"
        .to_owned();
    for (name, value) in annotations {
        text.push_str(&format!("    k8s.v1.cni.cncf.io/{name}: '{value}'\n"));
    }
    text + "spec: {nodeName: a}\nstatus: {podIP: 10.0.0.1}\n"
}

fn interfaces(annotations: &[(&str, &str)]) -> Vec<(String, String, Vec<String>)> {
    let (objects, _) = parse("net.yaml", &pod(annotations)).unwrap();
    let Object::Pod(Pod { interfaces, .. }) = objects[0].object.clone() else {
        panic!("{objects:?}");
    };
    let view = |it: Interface| {
        let ips = it.ips.iter().map(ToString::to_string).collect();
        (it.name, it.network.to_string(), ips)
    };
    interfaces.into_iter().map(view).collect()
}

fn one(name: &str, network: &str, ips: &[&str]) -> (String, String, Vec<String>) {
    let ips = ips.iter().map(|it| (*it).to_owned()).collect();
    (name.to_owned(), network.to_owned(), ips)
}

#[test]
fn every_fault_in_a_policy_is_at_its_place_and_says_what_is_right() {
    let table = [
        (
            "  podSelectr: {}",
            "net.yaml:5:3: unknown field `podSelectr`; allowed here: podSelector, policyTypes, \
             ingress, egress",
        ),
        (
            "  policyTypes: [Both]",
            "net.yaml:5:17: policy type `Both` is not Ingress or Egress",
        ),
        (
            "  podSelector: {matchExpressions: [{key: a, operator: in}]}",
            "net.yaml:5:55: operator `in` is not In, NotIn, Exists or DoesNotExist",
        ),
        (
            "  ingress: [{to: []}]",
            "net.yaml:5:14: unknown field `to`; allowed here: from, ports",
        ),
        (
            "  egress: [{from: []}]",
            "net.yaml:5:13: unknown field `from`; allowed here: to, ports",
        ),
        (
            "  ingress: [{from: [{}]}]",
            "net.yaml:5:21: the peer is empty; give podSelector, namespaceSelector or ipBlock, \
             or leave out the list for everyone",
        ),
        (
            "  ingress: [{from: [{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}]",
            "net.yaml:5:21: the peer has ipBlock and a selector; make two peers of it",
        ),
        (
            "  egress: [{to: [{ipBlock: {cidr: 10.0.0.1/8}}]}]",
            "net.yaml:5:35: 10.0.0.1/8 has host bits set; the prefix is 10.0.0.0/8",
        ),
        (
            "  egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/9]}}]}]",
            "net.yaml:5:56: exception 11.0.0.0/9 is not strictly within cidr 10.0.0.0/8; take \
             it out or widen cidr",
        ),
        (
            "  ingress: [{ports: [{port: 0}]}]",
            "net.yaml:5:29: port 0 is not within 1 to 65535",
        ),
        (
            "  ingress: [{ports: [{port: 9, endPort: 8}]}]",
            "net.yaml:5:41: endPort 8 is below port 9",
        ),
        (
            "  ingress: [{ports: [{port: web, endPort: 8}]}]",
            "net.yaml:5:43: endPort 8 needs a number in port; a named port is no range",
        ),
        (
            "  ingress: [{ports: [{protocol: ICMP}]}]",
            "net.yaml:5:33: protocol `ICMP` is not TCP, UDP or SCTP",
        ),
    ];
    for (spec, expected) in table {
        assert_eq!(error(&policy(spec)), expected, "{spec}");
    }
}

#[test]
fn other_versions_and_misspelt_kinds_are_refused() {
    for version in [
        "k8s.cni.cncf.io/v1",
        "k8s.cni.cncf.io/v1alpha1",
        "k8s.cni.cncf.io",
    ] {
        let text = policy("  podSelector: {}").replace("k8s.cni.cncf.io/v1beta1", version);
        let expected = format!(
            "net.yaml:1:13: MultiNetworkPolicy has apiVersion `{version}`; write \
             k8s.cni.cncf.io/v1beta1"
        );
        assert_eq!(error(&text), expected);
    }
    let misspelt = policy("  podSelector: {}").replace("MultiNetworkPolicy", "MultiNetworkPolcy");
    assert_eq!(
        error(&misspelt),
        "net.yaml:2:7: k8s.cni.cncf.io/v1beta1 has no kind `MultiNetworkPolcy`; is it a policy, \
         misspelt?"
    );
    let definition = "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\n\
                      metadata: {name: fast}\n";
    let (objects, notes) = parse("net.yaml", definition).unwrap();
    assert!(objects.is_empty());
    assert_eq!(
        notes[0].to_string(),
        "net.yaml:2: NetworkAttachmentDefinition fast is ignored"
    );
}

#[test]
fn a_network_that_is_no_name_is_refused_in_policy_for() {
    for (text, shown) in [
        ("fast,,slow", "default/"),
        ("a/b/c", "a/b/c"),
        ("/fast", "/fast"),
        ("ops/", "ops/"),
        ("fa st", "default/fa st"),
    ] {
        let policy = policy("  podSelector: {}")
            .replace("policy-for: fast", &{ format!("policy-for: '{text}'") });
        let expected = format!(
            "net.yaml:3:66: `{shown}` is no network; write a NetworkAttachmentDefinition's name \
             or namespace/name"
        );
        assert_eq!(error(&policy), expected);
    }
}

#[test]
fn a_policy_that_is_for_nobody_says_so() {
    let notes = |text: &str| -> Vec<String> {
        let loaded = load_texts(&[("net.yaml", text)]).unwrap();
        loaded.notes.iter().map(ToString::to_string).collect()
    };
    let unknown = policy("  podSelector: {}");
    assert_eq!(
        notes(&unknown),
        ["net.yaml:3: MultiNetworkPolicy default/x: no pod is on network default/fast"]
    );
    let without = unknown.replace(", annotations: {k8s.v1.cni.cncf.io/policy-for: fast}", "");
    assert_eq!(
        notes(&without),
        [
            "net.yaml:3: MultiNetworkPolicy default/x: it is for nobody: name networks in the \
             annotation k8s.v1.cni.cncf.io/policy-for"
        ]
    );
    let unused = policy("  policyTypes: [Ingress]\n  egress: [{}]");
    assert_eq!(
        notes(&unused)[0],
        "net.yaml:3: MultiNetworkPolicy default/x: its egress rules have no effect: policyTypes \
         has no Egress"
    );
    let known = pod(&[("networks", "default/fast")]) + "---\n" + &unknown;
    assert!(notes(&known).is_empty(), "{:?}", notes(&known));
}

#[test]
fn networks_are_read_in_both_forms() {
    let named = [
        one("net1", "shop/fast", &[]),
        one("up0", "ops/fast", &[]),
        one("net3", "shop/slow", &[]),
    ];
    let short = "fast, ops/fast@up0 ,slow";
    assert_eq!(interfaces(&[("networks", short)]), named);
    let long = r#"[{"name": "fast", "mac": "02:00:00:00:00:01", "ips": ["10.9.9.9/24"]},
        {"name": "fast", "namespace": "ops", "interface": "up0"}, {"name": "slow"}]"#;
    let long = long.replace('\n', " ");
    assert_eq!(interfaces(&[("networks", &long)]), named);
    for none in ["", " ", "[]"] {
        assert!(interfaces(&[("networks", none)]).is_empty());
    }
}

#[test]
fn the_status_has_addresses_and_more_interfaces() {
    let status = r#"[{"name": "cbr0", "interface": "eth0", "ips": ["10.0.0.1"], "default": true},
        {"name": "fast", "interface": "net1", "ips": ["10.20.0.1", "fd20::1"]},
        {"name": "late", "interface": "net7", "ips": ["10.30.0.1"]}]"#;
    let status = status.replace('\n', " ");
    assert_eq!(
        interfaces(&[("networks", "fast,slow"), ("network-status", &status)]),
        [
            one("net1", "shop/fast", &["10.20.0.1", "fd20::1"]),
            one("net2", "shop/slow", &[]),
            one("net7", "shop/late", &["10.30.0.1"]),
        ]
    );
    // An old runtime doesn't say which is the default.
    let old = r#"[{"name": "", "ips": ["10.0.0.1"]}, {"name": "fast", "interface": "net1"}]"#;
    assert_eq!(
        interfaces(&[("network-status", old)]),
        [one("net1", "shop/fast", &[])]
    );
}

#[test]
fn the_default_network_hides_no_address_that_is_not_the_pods_own() {
    let status =
        r#"[{"name": "fast", "interface": "net1", "ips": ["10.50.0.2"], "default": true}]"#;
    assert_eq!(
        interfaces(&[("networks", "fast"), ("network-status", status)]),
        [one("net1", "shop/fast", &["10.50.0.2"])]
    );
}

#[test]
fn a_list_that_is_too_long_is_not_compared_each_with_all() {
    let many = "f1,".repeat(80_000) + "f1";
    let said = error(&pod(&[("networks", &many)]));
    assert!(said.contains("80001"), "{said}");
    let one = r#"{"name": "f", "interface": "net1"}"#;
    let status = format!("[{}]", [one; 40].join(","));
    let said = error(&pod(&[("network-status", &status)]));
    assert!(said.contains("40"), "{said}");
}

#[test]
fn a_status_that_contradicts_what_was_asked_for_gives_no_address() {
    let status = r#"[{"name": "ops/fast", "interface": "net1", "ips": ["10.20.0.1"]}]"#;
    let annotations = [("networks", "fast"), ("network-status", status)];
    assert_eq!(interfaces(&annotations), [one("net1", "shop/fast", &[])]);
    let (objects, _) = parse("net.yaml", &pod(&annotations)).unwrap();
    let Object::Pod(pod) = &objects[0].object else {
        panic!("{objects:?}");
    };
    let reported = pod.interfaces[0].reported.as_ref().map(ToString::to_string);
    assert_eq!(reported.as_deref(), Some("ops/fast"));
}

#[test]
fn no_annotation_makes_the_primary_interface_a_secondary_one() {
    let status = r#"[{"name": "fast", "interface": "eth0", "ips": ["10.20.0.1"]}]"#;
    assert!(interfaces(&[("networks", "fast@eth0")]).is_empty());
    assert!(interfaces(&[("network-status", status)]).is_empty());
}

#[test]
fn every_fault_in_a_pods_networks_is_at_the_annotation() {
    let no_name = "net.yaml:7:34: annotation k8s.v1.cni.cncf.io/networks is not the list that \
                   it should be: the field `name` is missing";
    let table = [
        (("networks", r#"[{"nam": "fast"}]"#), no_name),
        (
            ("networks", "fast,,slow"),
            "net.yaml:7:34: `shop/` is no network; write a NetworkAttachmentDefinition's name or \
             namespace/name",
        ),
        (
            ("networks", "fast@averylongifname0"),
            "net.yaml:7:34: `averylongifname0` is no interface name; use up to 15 bytes without \
             spaces, `/` and `:`",
        ),
        (
            ("networks", "fast@a, slow@a"),
            "net.yaml:7:34: interface a is there twice; give each its own name",
        ),
        (
            (
                "network-status",
                r#"[{"name": "a/b/c", "interface": "net1"}]"#,
            ),
            "net.yaml:7:40: `a/b/c` is no network; write a NetworkAttachmentDefinition's name or \
             namespace/name",
        ),
        (
            (
                "network-status",
                r#"[{"name": "fast", "interface": "net1", "ips": ["10.1"]}]"#,
            ),
            "net.yaml:7:40: `10.1` is not an IP address, such as 10.0.0.1 or fd00::1",
        ),
        (
            (
                "network-status",
                r#"[{"name": "fast", "interface": "net1", "ips": ["224.0.0.1"]}]"#,
            ),
            "net.yaml:7:40: 224.0.0.1 is not a unicast address that a station can have",
        ),
        (
            (
                "network-status",
                r#"[{"name": "fast", "ips": ["10.20.0.1"]}]"#,
            ),
            "net.yaml:7:40: network shop/fast has addresses and no interface; say which has them",
        ),
        (
            (
                "network-status",
                r#"[{"name": "a", "interface": "n"}, {"name": "b", "interface": "n"}]"#,
            ),
            "net.yaml:7:40: interface n is there twice; give each its own name",
        ),
        (
            (
                "network-status",
                r#"[{"name": "fast", "interface": "net1", "ips": ["10.0.0.1", "10.20.0.1"]}]"#,
            ),
            "net.yaml:7:40: 10.0.0.1 is on interface net1 and on primary of the pod; give each \
             its own",
        ),
        (
            (
                "network-status",
                r#"[{"name": "a", "interface": "x", "ips": ["10.2.0.1"]}, {"name": "b", "interface": "y", "ips": ["10.2.0.1"]}]"#,
            ),
            "net.yaml:7:40: 10.2.0.1 is on interface y and on x of the pod; give each its own",
        ),
    ];
    for (annotation, expected) in table {
        assert_eq!(error(&pod(&[annotation])), expected, "{annotation:?}");
    }
    for broken in ["{", "[{]", "[1]", "\"fast\"", "{\"name\": \"fast\"}"] {
        let got = error(&pod(&[("networks", broken)]));
        let expected = "net.yaml:7:34: annotation k8s.v1.cni.cncf.io/networks is not the list";
        assert!(got.starts_with(expected), "{broken}: {got}");
    }
    let many = vec!["fast"; 33].join(",");
    assert_eq!(
        error(&pod(&[("networks", &many)])),
        "net.yaml:7:34: 33 networks of a pod; there must be 0 to 32"
    );
    let ips: Vec<_> = (1..10).map(|n| format!("\"10.2.0.{n}\"")).collect();
    let ips = ips.join(",");
    let status = format!(r#"[{{"name": "fast", "interface": "net1", "ips": [{ips}]}}]"#);
    assert_eq!(
        error(&pod(&[("network-status", &status)])),
        "net.yaml:7:40: 9 addresses are too many; at most 8 fit"
    );
}

#[test]
fn an_address_of_two_pods_interfaces_names_both() {
    let status = r#"[{"name": "fast", "interface": "net1", "ips": ["10.20.0.1"]}]"#;
    let first = pod(&[("network-status", status)]);
    let second = first.replace("web", "db").replace("10.0.0.1", "10.0.0.2");
    assert_eq!(
        error(&(first + "---\n" + &second)),
        "net.yaml:17:40: 10.20.0.1 of interface net1 of pod shop/db belongs to interface net1 of \
         pod shop/web at net.yaml:7:40; give each its own"
    );
}
