//! Each feature of NetworkPolicy, from the manifest to frames.

use crate::shop::{check_under, network_policies};

/// Under these NetworkPolicies of namespace shop, pairs of name and spec.
fn check(policies: &[(&str, &str)], flows: &[(&str, &str)]) {
    check_under(&network_policies(policies), flows);
}

#[test]
fn without_policies_everything_is_allowed_but_service_addresses() {
    check(
        &[],
        &[
            ("web db tcp/1", "allow, no policy"),
            ("web 192.0.2.1 icmp", "allow, no policy"),
            ("node:a 192.0.2.1 tcp/1", "allow, none"),
            ("web 10.96.0.1 tcp/5432", "egress, service-vip"),
        ],
    );
}

#[test]
fn an_empty_selector_isolates_all_pods_of_the_namespace_and_no_other() {
    check(
        &[("deny", "{podSelector: {}}")],
        &[
            ("web db tcp/1", "ingress, shop/deny isolates ingress"),
            ("web probe tcp/1", "allow, no policy"),
            ("192.0.2.1 web tcp/1", "ingress, shop/deny isolates ingress"),
        ],
    );
}

#[test]
fn policy_types_are_inferred_from_the_sections() {
    let only_ingress = ("allow, no policy", "ingress, shop/p isolates ingress");
    let both = (
        "egress, shop/p isolates egress",
        "ingress, shop/p isolates ingress",
    );
    let only_egress = ("egress, shop/p isolates egress", "allow, no policy");
    let table = [
        ("{}", only_ingress),
        ("{ingress: []}", only_ingress),
        ("{policyTypes: []}", only_ingress),
        ("{egress: []}", only_ingress),
        ("{policyTypes: [Ingress]}", only_ingress),
        ("{policyTypes: [Ingress], egress: [{}]}", only_ingress),
        (
            "{egress: [{to: [{podSelector: {matchLabels: {no: ne}}}]}]}",
            both,
        ),
        ("{policyTypes: [Ingress, Egress]}", both),
        ("{policyTypes: [Egress]}", only_egress),
        (
            "{policyTypes: [Egress], ingress: [{from: [{podSelector: {}}]}]}",
            only_egress,
        ),
    ];
    for (spec, (out, back)) in table {
        check(
            &[("p", spec)],
            &[("web probe tcp/1", out), ("probe web tcp/1", back)],
        );
    }
}

#[test]
fn absent_and_empty_peers_are_everyone() {
    for spec in [
        "{ingress: [{}]}",
        "{ingress: [{from: []}]}",
        "{ingress: [{from: null}]}",
    ] {
        check(
            &[("p", spec)],
            &[
                ("probe web tcp/1", "allow, shop/p ingress[0]"),
                ("node:b web icmp", "allow, shop/p ingress[0]"),
                ("192.0.2.1 web udp/9", "allow, shop/p ingress[0]"),
            ],
        );
    }
}

#[test]
fn a_pod_selector_alone_means_the_policys_namespace() {
    check(
        &[(
            "p",
            "{ingress: [{from: [{podSelector: {matchLabels: {app: cart}}}]}]}",
        )],
        &[
            ("cart web tcp/1", "allow, shop/p ingress[0]"),
            ("db web tcp/1", "ingress, shop/p isolates ingress"),
            ("probe web tcp/1", "ingress, shop/p isolates ingress"),
        ],
    );
}

#[test]
fn a_namespace_selector_alone_means_all_pods_of_those_namespaces() {
    check(
        &[(
            "p",
            "{ingress: [{from: [{namespaceSelector: {matchLabels: {team: shop}}}]}]}",
        )],
        &[
            ("cart web tcp/1", "allow, shop/p ingress[0]"),
            ("probe web tcp/1", "ingress, shop/p isolates ingress"),
            ("192.0.2.1 web tcp/1", "ingress, shop/p isolates ingress"),
        ],
    );
}

#[test]
fn a_namespace_that_has_no_manifest_has_its_name_as_a_label() {
    let selector = "namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ops}}";
    check(
        &[("p", &format!("{{ingress: [{{from: [{{{selector}}}]}}]}}"))],
        &[
            ("probe web tcp/1", "allow, shop/p ingress[0]"),
            ("cart web tcp/1", "ingress, shop/p isolates ingress"),
        ],
    );
}

#[test]
fn selectors_of_one_peer_must_both_match_and_peers_are_alternatives() {
    let both = "{namespaceSelector: {}, podSelector: {matchLabels: {app: probe}}}";
    check(
        &[("p", &format!("{{ingress: [{{from: [{both}]}}]}}"))],
        &[
            ("probe web tcp/1", "allow, shop/p ingress[0]"),
            ("cart web tcp/1", "ingress, shop/p isolates ingress"),
        ],
    );
    let either = "{namespaceSelector: {matchLabels: {team: none}}}, {podSelector: {}}";
    check(
        &[("p", &format!("{{ingress: [{{from: [{either}]}}]}}"))],
        &[
            ("cart web tcp/1", "allow, shop/p ingress[0]"),
            ("probe web tcp/1", "ingress, shop/p isolates ingress"),
        ],
    );
}

#[test]
fn expressions_select_as_they_say() {
    let table = [
        (
            "{key: app, operator: In, values: [cart, db]}",
            [true, true, false],
        ),
        (
            "{key: app, operator: NotIn, values: [cart]}",
            [false, true, true],
        ),
        ("{key: tier, operator: Exists}", [true, true, false]),
        ("{key: tier, operator: DoesNotExist}", [false, false, true]),
    ];
    for (expression, allowed) in table {
        let pods = format!("podSelector: {{matchExpressions: [{expression}]}}");
        let spec = format!("{{ingress: [{{from: [{{namespaceSelector: {{}}, {pods}}}]}}]}}");
        let expected = |allowed| match allowed {
            true => "allow, shop/p ingress[0]",
            false => "ingress, shop/p isolates ingress",
        };
        let flows = ["cart web tcp/1", "db web tcp/1", "probe web tcp/1"];
        let flows: Vec<_> = flows.into_iter().zip(allowed.map(expected)).collect();
        check(&[("p", &spec)], &flows);
    }
}

#[test]
fn a_block_matches_addresses_whoever_has_them_but_its_exceptions() {
    let block = "{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.2/32, 10.9.0.0/31]}}";
    check(
        &[("p", &format!("{{ingress: [{{from: [{block}]}}]}}"))],
        &[
            ("db web tcp/1", "allow, shop/p ingress[0]"),
            ("cart web tcp/1", "ingress, shop/p isolates ingress"),
            ("node:b web tcp/1", "allow, shop/p ingress[0]"),
            ("10.200.0.1 web tcp/1", "allow, shop/p ingress[0]"),
            ("192.0.2.1 web tcp/1", "ingress, shop/p isolates ingress"),
        ],
    );
}

#[test]
fn a_block_of_one_family_says_nothing_of_a_pods_other_address() {
    check(
        &[(
            "p",
            "{policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.1.0/24}}]}]}",
        )],
        &[
            ("10.0.0.1 10.0.1.1 tcp/1", "allow, no policy"),
            ("fd00::1 fd00::1:1 tcp/1", "egress, shop/p isolates egress"),
        ],
    );
}

#[test]
fn nested_blocks_of_several_policies_are_told_apart() {
    let wide = "{ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.128/25]}}]}]}";
    let narrow = "{ingress: [{from: [{ipBlock: {cidr: 192.0.2.192/26}}]}]}";
    check(
        &[("a-wide", wide), ("b-narrow", narrow)],
        &[
            ("192.0.2.1 web tcp/1", "allow, shop/a-wide ingress[0]"),
            (
                "192.0.2.129 web tcp/1",
                "ingress, shop/a-wide isolates ingress",
            ),
            ("192.0.2.193 web tcp/1", "allow, shop/b-narrow ingress[0]"),
        ],
    );
}

#[test]
fn ports_are_of_their_protocol_and_tcp_by_default() {
    check(
        &[(
            "p",
            "{ingress: [{ports: [{port: 80}, {protocol: SCTP, port: 90}, {protocol: UDP}]}]}",
        )],
        &[
            ("cart web tcp/80", "allow, shop/p ingress[0]"),
            ("cart web tcp/81", "ingress, shop/p isolates ingress"),
            ("cart web sctp/80", "ingress, shop/p isolates ingress"),
            ("cart web sctp/90", "allow, shop/p ingress[0]"),
            ("cart web udp/1", "allow, shop/p ingress[0]"),
        ],
    );
}

#[test]
fn an_end_port_makes_a_range_with_both_ends() {
    check(
        &[(
            "p",
            "{ingress: [{ports: [{port: 1000, endPort: 1999}, {port: 65535, endPort: 65535}]}]}",
        )],
        &[
            ("cart web tcp/999", "ingress, shop/p isolates ingress"),
            ("cart web tcp/1000", "allow, shop/p ingress[0]"),
            ("cart web tcp/1999", "allow, shop/p ingress[0]"),
            ("cart web tcp/2000", "ingress, shop/p isolates ingress"),
            ("cart web tcp/65535", "allow, shop/p ingress[0]"),
        ],
    );
}

#[test]
fn icmp_is_allowed_by_a_rule_without_ports_only() {
    check(
        &[("p", "{ingress: [{ports: [{port: 1, endPort: 65535}]}]}")],
        &[("cart web icmp", "ingress, shop/p isolates ingress")],
    );
    check(
        &[("p", "{ingress: [{}]}")],
        &[("cart web icmp", "allow, shop/p ingress[0]")],
    );
}

#[test]
fn a_named_port_is_the_destination_pods_own_number() {
    check(
        &[(
            "p",
            "{ingress: [{ports: [{port: sql}, {protocol: UDP, port: sql}]}]}",
        )],
        &[
            ("cart db tcp/5432", "allow, shop/p ingress[0]"),
            ("cart db tcp/5433", "ingress, shop/p isolates ingress"),
            ("cart db udp/5433", "allow, shop/p ingress[0]"),
            ("cart web tcp/5432", "ingress, shop/p isolates ingress"),
        ],
    );
    check(
        &[(
            "p",
            "{podSelector: {matchLabels: {app: cart}}, policyTypes: [Egress], egress: [{ports: [{port: sql}, {port: http}]}]}",
        )],
        &[
            ("cart db tcp/5432", "allow, no policy"),
            ("cart web tcp/8080", "allow, no policy"),
            ("cart web tcp/5432", "egress, shop/p isolates egress"),
            ("cart 192.0.2.1 tcp/5432", "egress, shop/p isolates egress"),
        ],
    );
}

#[test]
fn policies_add_up_and_the_first_that_allows_gives_the_name() {
    let rule = |app: &str| format!("{{from: [{{podSelector: {{matchLabels: {{app: {app}}}}}}}]}}");
    check(
        &[
            (
                "b",
                &format!("{{ingress: [{}, {}]}}", rule("db"), rule("cart")),
            ),
            ("a", &format!("{{ingress: [{}]}}", rule("db"))),
            ("c", "{ingress: [{}]}"),
        ],
        &[
            ("db web tcp/1", "allow, shop/a ingress[0]"),
            ("cart web tcp/1", "allow, shop/b ingress[1]"),
            ("probe web tcp/1", "allow, shop/c ingress[0]"),
        ],
    );
}

#[test]
fn both_sides_must_allow_and_egress_is_asked_first() {
    check(
        &[
            ("in", "{podSelector: {matchLabels: {app: db}}}"),
            (
                "out",
                "{podSelector: {matchLabels: {app: cart}}, policyTypes: [Egress]}",
            ),
        ],
        &[
            ("cart db tcp/1", "egress, shop/out isolates egress"),
            ("web db tcp/1", "ingress, shop/in isolates ingress"),
            ("db cart tcp/1", "allow, no policy"),
        ],
    );
}

#[test]
fn a_pods_own_node_always_reaches_it_and_no_other_node_does() {
    check(
        &[("p", "{policyTypes: [Ingress, Egress]}")],
        &[
            ("node:a web tcp/1", "allow, own node"),
            ("node:b web tcp/1", "ingress, shop/p isolates ingress"),
            ("agent db icmp", "allow, own node"),
            ("web node:a tcp/10250", "egress, shop/p isolates egress"),
        ],
    );
}

#[test]
fn a_host_network_pod_is_its_node_and_no_selector_matches_it() {
    let anyone = "{namespaceSelector: {}}";
    check(
        &[("p", &format!("{{ingress: [{{from: [{anyone}]}}]}}"))],
        &[
            ("agent web tcp/1", "ingress, shop/p isolates ingress"),
            ("probe web tcp/1", "allow, shop/p ingress[0]"),
        ],
    );
}

#[test]
fn a_completed_pod_gives_nothing_to_who_has_its_address_now() {
    check(
        &[(
            "p",
            "{ingress: [{from: [{podSelector: {matchLabels: {app: cart}}}]}]}",
        )],
        &[("10.0.1.1 web tcp/1", "ingress, shop/p isolates ingress")],
    );
}
