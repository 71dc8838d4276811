//! Each feature of ClusterNetworkPolicy, from the manifest to frames.

use crate::shop::{check_under, network_policies};
use sluice_host_agent::manifest::{Loaded, load_texts};

/// A policy for all pods of the namespace `shop`: its name, `tier, priority` and rules.
fn policy(name: &str, rank: &str, rules: &str) -> String {
    let (tier, priority) = rank.split_once(' ').unwrap();
    let subject = "{namespaces: {matchLabels: {team: shop}}}";
    with_subject(name, tier, priority, subject, rules)
}

fn with_subject(name: &str, tier: &str, priority: &str, subject: &str, rules: &str) -> String {
    format!(
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\n\
         metadata: {{name: {name}}}\n\
         spec:\n  tier: {tier}\n  priority: {priority}\n  subject: {subject}\n  {rules}\n---\n"
    )
}

/// All pods, those of these labels, and everything of a family, as peers.
const ALL_PODS: &str = "{namespaces: {}}";
const ANY_V4: &str = "{networks: [0.0.0.0/0]}";

fn pods(labels: &str) -> String {
    format!("{{pods: {{namespaceSelector: {{}}, podSelector: {{matchLabels: {{{labels}}}}}}}}}")
}

fn ingress(action: &str, peers: &str) -> String {
    format!("ingress: [{{action: {action}, from: [{peers}]}}]")
}

fn egress(action: &str, peers: &str) -> String {
    format!("egress: [{{action: {action}, to: [{peers}]}}]")
}

#[test]
fn admin_is_before_network_policy_and_decides_for_good() {
    let deny_all = network_policies(&[("closed", "{podSelector: {}}")]);
    let open = network_policies(&[("open", "{ingress: [{}]}")]);
    let accept = policy("guard", "Admin 1", &ingress("Accept", &pods("app: cart")));
    check_under(
        &(accept + &deny_all),
        &[
            ("cart web tcp/1", "allow, Admin:guard ingress[0]"),
            ("db web tcp/1", "ingress, shop/closed isolates ingress"),
        ],
    );
    let deny = policy("guard", "Admin 1", &ingress("Deny", &pods("app: cart")));
    check_under(
        &(deny + &open),
        &[
            ("cart web tcp/1", "ingress, Admin:guard ingress[0]"),
            ("db web tcp/1", "allow, shop/open ingress[0]"),
        ],
    );
}

#[test]
fn baseline_is_asked_only_where_no_network_policy_isolates() {
    let base = policy("base", "Baseline 1", &ingress("Deny", ALL_PODS));
    check_under(
        &base,
        &[("db web tcp/1", "ingress, Baseline:base ingress[0]")],
    );
    let isolates = network_policies(&[(
        "own",
        "{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 80}]}]}",
    )]);
    check_under(
        &(base.clone() + &isolates),
        &[
            ("db web tcp/80", "allow, shop/own ingress[0]"),
            ("db web tcp/81", "ingress, shop/own isolates ingress"),
            ("db cart tcp/80", "ingress, Baseline:base ingress[0]"),
        ],
    );
    // A policy of the other direction doesn't isolate in this one.
    let other_way = network_policies(&[("out", "{policyTypes: [Egress], egress: [{}]}")]);
    check_under(
        &(base + &other_way),
        &[("db web tcp/1", "ingress, Baseline:base ingress[0]")],
    );
}

#[test]
fn pass_skips_the_rest_of_its_tier_only() {
    let first = policy("first", "Admin 1", &ingress("Pass", &pods("app: cart")));
    let second = policy("second", "Admin 2", &ingress("Deny", ALL_PODS));
    let base = policy("base", "Baseline 1", &ingress("Deny", ALL_PODS));
    check_under(
        &(first.clone() + &second),
        &[
            ("cart web tcp/1", "allow, no policy"),
            ("db web tcp/1", "ingress, Admin:second ingress[0]"),
        ],
    );
    check_under(
        &(first + &second + &base),
        &[("cart web tcp/1", "ingress, Baseline:base ingress[0]")],
    );
    let leave = policy("leave", "Baseline 0", &ingress("Pass", &pods("app: cart")));
    check_under(
        &(leave + &base),
        &[
            ("cart web tcp/1", "allow, no policy"),
            ("db web tcp/1", "ingress, Baseline:base ingress[0]"),
        ],
    );
}

#[test]
fn a_pass_leaves_isolation_to_network_policies() {
    let pass = policy("pass", "Admin 1", &ingress("Pass", ALL_PODS));
    let closed = network_policies(&[("closed", "{podSelector: {}}")]);
    check_under(
        &(pass + &closed),
        &[("cart web tcp/1", "ingress, shop/closed isolates ingress")],
    );
}

#[test]
fn the_lower_priority_number_goes_first_and_then_the_name() {
    let table = [
        (
            ("z", "Admin 5"),
            ("a", "Admin 6"),
            "allow, Admin:z ingress[0]",
        ),
        (
            ("a", "Admin 6"),
            ("z", "Admin 5"),
            "ingress, Admin:z ingress[0]",
        ),
        (
            ("a", "Admin 7"),
            ("z", "Admin 7"),
            "allow, Admin:a ingress[0]",
        ),
        (
            ("z", "Admin 1000"),
            ("a", "Admin 0"),
            "ingress, Admin:a ingress[0]",
        ),
    ];
    for ((accept, its), (deny, other), expected) in table {
        let both = policy(accept, its, &ingress("Accept", ALL_PODS))
            + &policy(deny, other, &ingress("Deny", ALL_PODS));
        check_under(&both, &[("cart web tcp/1", expected)]);
    }
}

#[test]
fn rules_of_one_policy_are_tried_in_order_and_named_by_their_author() {
    let rules = format!(
        "ingress: [{{name: let-cart, action: Accept, from: [{}]}}, \
         {{name: no-one else, action: Deny, from: [{ALL_PODS}]}}]",
        pods("app: cart")
    );
    check_under(
        &policy("guard", "Admin 1", &rules),
        &[
            ("cart web tcp/1", "allow, Admin:guard ingress[0] (let-cart)"),
            (
                "db web tcp/1",
                "ingress, Admin:guard ingress[1] (no-one else)",
            ),
        ],
    );
}

#[test]
fn a_subject_is_namespaces_or_pods_and_never_a_host_network_pod() {
    let deny = ingress("Deny", ALL_PODS);
    let subject = "{pods: {podSelector: {matchLabels: {app: web}}}}";
    let everywhere = "{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: cart}}}}";
    check_under(
        &with_subject("guard", "Admin", "1", subject, &deny),
        &[
            ("cart web tcp/1", "ingress, Admin:guard ingress[0]"),
            ("web cart tcp/1", "allow, no policy"),
        ],
    );
    // `agent` has the label, but is its node.
    check_under(
        &with_subject("guard", "Admin", "1", everywhere, &deny),
        &[
            ("web cart tcp/1", "ingress, Admin:guard ingress[0]"),
            ("web agent tcp/1", "allow, no policy"),
        ],
    );
}

#[test]
fn networks_are_addresses_whoever_has_them() {
    let rules = egress("Deny", "{networks: [10.0.1.0/24, 192.0.2.0/24]}");
    check_under(
        &policy("guard", "Admin 1", &rules),
        &[
            ("web db tcp/1", "egress, Admin:guard egress[0]"),
            ("web 192.0.2.1 icmp", "egress, Admin:guard egress[0]"),
            ("web cart tcp/1", "allow, no policy"),
            ("web 198.51.100.1 tcp/1", "allow, no policy"),
        ],
    );
    // As the API advises: let pods pass before a rule for everything.
    let rules =
        format!("egress: [{{action: Pass, to: [{ALL_PODS}]}}, {{action: Deny, to: [{ANY_V4}]}}]");
    check_under(
        &policy("guard", "Admin 1", &rules),
        &[
            ("web db tcp/1", "allow, no policy"),
            ("web 192.0.2.1 tcp/1", "egress, Admin:guard egress[1]"),
        ],
    );
}

#[test]
fn nodes_are_selected_by_their_labels_with_their_host_network_pods() {
    let rules = egress("Deny", "{nodes: {matchLabels: {zone: west}}}");
    check_under(
        &policy("guard", "Admin 1", &rules),
        &[
            ("web node:b tcp/1", "egress, Admin:guard egress[0]"),
            ("web agent tcp/1", "egress, Admin:guard egress[0]"),
            ("web node:a tcp/1", "allow, no policy"),
            ("web db tcp/1", "allow, no policy"),
        ],
    );
    check_under(
        &policy("guard", "Admin 1", &egress("Deny", "{nodes: {}}")),
        &[
            ("web node:a tcp/1", "egress, Admin:guard egress[0]"),
            ("web node:b tcp/1", "egress, Admin:guard egress[0]"),
            ("web 192.0.2.1 tcp/1", "allow, no policy"),
        ],
    );
}

#[test]
fn namespaces_and_pods_as_peers_are_no_host_network_pods() {
    check_under(
        &policy("guard", "Admin 1", &egress("Deny", ALL_PODS)),
        &[
            ("web probe tcp/1", "egress, Admin:guard egress[0]"),
            ("web agent tcp/1", "allow, no policy"),
        ],
    );
}

#[test]
fn protocols_are_numbers_ranges_and_names() {
    let rules = format!(
        "ingress: [{{action: Deny, from: [{ALL_PODS}], protocols: [\
         {{tcp: {{destinationPort: {{number: 80}}}}}}, \
         {{udp: {{destinationPort: {{range: {{start: 1000, end: 1999}}}}}}}}, \
         {{sctp: {{destinationPort: {{number: 9}}}}}}, \
         {{destinationNamedPort: sql}}]}}]"
    );
    let denied = "ingress, Admin:guard ingress[0]";
    check_under(
        &policy("guard", "Admin 1", &rules),
        &[
            ("cart db tcp/80", denied),
            ("cart db udp/80", "allow, no policy"),
            ("cart db udp/999", "allow, no policy"),
            ("cart db udp/1000", denied),
            ("cart db udp/1999", denied),
            ("cart db sctp/9", denied),
            // db calls TCP 5432 and UDP 5433 sql, and no SCTP port.
            ("cart db tcp/5432", denied),
            ("cart db udp/5433", denied),
            ("cart db sctp/5432", "allow, no policy"),
            ("cart web tcp/5432", "allow, no policy"),
            ("cart db icmp", "allow, no policy"),
        ],
    );
    check_under(
        &policy("guard", "Admin 1", &ingress("Deny", ALL_PODS)),
        &[("cart db icmp", denied)],
    );
}

#[test]
fn a_named_port_on_egress_is_the_destination_pods_own() {
    let rules = format!(
        "egress: [{{action: Deny, to: [{ALL_PODS}], protocols: [{{destinationNamedPort: http}}]}}]"
    );
    check_under(
        &policy("guard", "Admin 1", &rules),
        &[
            ("cart web tcp/8080", "egress, Admin:guard egress[0]"),
            ("cart db tcp/8080", "allow, no policy"),
        ],
    );
}

#[test]
fn the_pods_own_node_reaches_it_whatever_the_admin_says() {
    let rules = "ingress: [{action: Deny, from: [{newPeerType: {}}]}]";
    check_under(
        &policy("guard", "Admin 1", rules),
        &[
            ("node:a web tcp/1", "allow, own node"),
            ("node:b web tcp/1", "ingress, Admin:guard ingress[0]"),
        ],
    );
}

#[test]
fn a_peer_or_protocol_that_is_not_known_fails_closed_and_says_so() {
    let peers = [
        (
            "{fqdns: [a.example]}",
            "a peer of a type that isn't known (fqdns)",
        ),
        ("{}", "a peer of no type"),
    ];
    for (peer, what) in peers {
        let table = [
            ("Accept", "allow, no policy", "the rule matches nothing"),
            (
                "Deny",
                "egress, Admin:guard egress[0]",
                "the rule denies everything",
            ),
            (
                "Pass",
                "egress, Admin:guard egress[0]",
                "the rule denies everything",
            ),
        ];
        for (action, expected, becomes) in table {
            // The known peer beside it does not save the rule.
            let peers = format!("{}, {peer}", pods("app: db"));
            let manifest = policy("guard", "Admin 1", &egress(action, &peers));
            check_under(
                &manifest,
                &[("web db tcp/1", expected), ("web 192.0.2.1 icmp", expected)],
            );
            let Loaded { notes, .. } = load_texts(&[("cnp.yaml", &manifest)]).unwrap();
            let notes: Vec<_> = notes.iter().map(ToString::to_string).collect();
            let note =
                format!("cnp.yaml:3: ClusterNetworkPolicy guard: egress[0] has {what}: {becomes}");
            assert_eq!(notes, [note]);
        }
    }
    let rules =
        format!("ingress: [{{action: Pass, from: [{ALL_PODS}], protocols: [{{quic: {{}}}}]}}]");
    check_under(
        &policy("guard", "Admin 1", &rules),
        &[("192.0.2.1 web tcp/1", "ingress, Admin:guard ingress[0]")],
    );
    // `from` has pods and namespaces only.
    check_under(
        &policy("guard", "Admin 1", &ingress("Deny", ANY_V4)),
        &[("192.0.2.1 web tcp/1", "ingress, Admin:guard ingress[0]")],
    );
}

#[test]
fn every_fault_is_at_its_place_and_says_what_is_right() {
    let long = "x".repeat(101);
    let many = vec![ALL_PODS; 26].join(", ");
    let rule = |action: &str| format!("{{action: {action}, from: [{ALL_PODS}]}}");
    let too_many_rules = format!("ingress: [{}]", vec![rule("Deny"); 26].join(", "));
    let protocols = |list: &str| {
        format!("ingress: [{{action: Deny, from: [{ALL_PODS}], protocols: [{list}]}}]")
    };
    let to = |peer: &str| egress("Deny", peer);
    let table = [
        (
            ingress("Allow", ALL_PODS),
            "8:22: action `Allow` is not Accept, Deny or Pass",
        ),
        (ingress("Deny", ""), "8:34: 0 peers; there must be 1 to 25"),
        (
            ingress("Deny", &many),
            "8:34: 26 peers; there must be 1 to 25",
        ),
        (too_many_rules, "8:12: 26 rules; there must be 0 to 25"),
        (
            format!("ingress: [{{name: {long}, action: Deny, from: [{ALL_PODS}]}}]"),
            "8:20: the rule's name has 101 characters; at most 100 fit",
        ),
        (
            "ingress: [{action: Deny}]".to_owned(),
            "8:14: the field `from` is missing",
        ),
        (
            "ingress: [{action: Deny, fron: []}]".to_owned(),
            "8:28: unknown field `fron`; allowed here: name, action, from, protocols",
        ),
        (
            to("{namespaces: {}, nodes: {}}"),
            "8:32: the peer is of more than one type; make a peer of each",
        ),
        (
            to("{networks: []}"),
            "8:43: 0 networks; there must be 1 to 25",
        ),
        (
            to("{networks: [10.0.0.1/8]}"),
            "8:44: 10.0.0.1/8 has host bits set; the prefix is 10.0.0.0/8",
        ),
        (
            to("{domainNames: ['*']}"),
            "8:47: `*` is not a domain name: two or more labels of letters, digits, hyphens and \
             underscores, each with a letter or digit at both ends, perhaps with `*.` before them; \
             name domains as example.com or, for all names below, *.example.com",
        ),
        (protocols(""), "8:65: 0 protocols; there must be 1 to 25"),
        (
            protocols("{tcp: {}}"),
            "8:66: destinationPort is missing; give number or range",
        ),
        (
            protocols("{tcp: {destinationPort: {}}}"),
            "8:66: destinationPort needs one of number and range",
        ),
        (
            protocols("{tcp: {destinationPort: {number: 0}}}"),
            "8:99: port 0 is not within 1 to 65535",
        ),
        (
            protocols("{udp: {destinationPort: {range: {start: 5, end: 5}}}}"),
            "8:114: range start 5 is not below end 5; write number for one port",
        ),
        (
            protocols("{tcp: {destinationPort: {number: 1}}, destinationNamedPort: x}"),
            "8:66: there is more than one of tcp, udp, sctp and destinationNamedPort; make an \
             item of each",
        ),
        (
            protocols("{destinationNamedPort: '80'}"),
            "8:89: `80` is no port name; use up to 15 lower-case letters, digits and `-` with \
             at least one letter, or a number without quotes",
        ),
        (
            "egress: [{action: Deny, to: [{nodes: {}}], protocols: [{destinationNamedPort: x}]}]"
                .to_owned(),
            "8:58: destinationNamedPort needs pods or namespaces as peers; nodes and networks \
             name no ports",
        ),
    ];
    let mut other = Vec::new();
    for (rules, expected) in table {
        let text = policy("guard", "Admin 1", &rules);
        let error = load_texts(&[("cnp.yaml", &text)]).unwrap_err().to_string();
        if error != format!("cnp.yaml:{expected}") {
            other.push((rules, error));
        }
    }
    assert_eq!(other, []);
    let heads = [
        (
            "Top",
            "1",
            "{namespaces: {}}",
            "5:9: tier `Top` is not Admin or Baseline",
        ),
        (
            "Admin",
            "1001",
            "{namespaces: {}}",
            "6:13: priority 1001 is not within 0 to 1000",
        ),
        (
            "Admin",
            "-1",
            "{namespaces: {}}",
            "6:13: priority -1 is not within 0 to 1000",
        ),
        (
            "Admin",
            "1",
            "{}",
            "7:12: the subject needs one of namespaces and pods",
        ),
        (
            "Admin",
            "1",
            "{namespaces: {}, pods: {podSelector: {}}}",
            "7:12: the subject needs one of namespaces and pods",
        ),
        (
            "Admin",
            "1",
            "{pods: {}}",
            "7:19: the field `podSelector` is missing",
        ),
    ];
    for (tier, priority, subject, expected) in heads {
        let text = with_subject("guard", tier, priority, subject, "ingress: []");
        let error = load_texts(&[("cnp.yaml", &text)]).unwrap_err();
        assert_eq!(error.to_string(), format!("cnp.yaml:{expected}"));
    }
    let old = policy("guard", "Admin 1", "ingress: []").replace("v1alpha2", "v1alpha1");
    assert_eq!(
        load_texts(&[("cnp.yaml", &old)]).unwrap_err().to_string(),
        "cnp.yaml:1:13: ClusterNetworkPolicy has apiVersion `policy.networking.k8s.io/v1alpha1`; \
         write policy.networking.k8s.io/v1alpha2"
    );
}
