//! Each lint, by a manifest that has it and one that doesn't.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod world;

use std::collections::BTreeSet;

use proptest::prelude::*;
use sluice_host_agent::cluster::Cluster;
use sluice_host_agent::difference::{Comparison, Owners, Side};
use sluice_host_agent::lint::{Code, Finding, Linted, lint};
use sluice_host_agent::manifest::load_texts;
use world::world;

fn all(text: &str) -> Linted {
    let loaded = load_texts(&[("t.yaml", text)]).unwrap();
    lint(&loaded.cluster, &loaded.owners)
}

/// The findings of one kind, as `object path: message`.
fn of(code: Code, text: &str) -> Vec<String> {
    let linted = all(text);
    assert!(!linted.unfinished);
    let its = linted.findings.iter().filter(|it| it.code == code);
    let line = |it: &Finding| {
        assert!(!it.help.is_empty());
        format!("{} {}: {}", it.object, it.path, it.message)
    };
    its.map(line).collect()
}

/// Namespaces shop and ops; pods web, db (port sql) and a hostNetwork one; and what is added.
fn shop(more: &[String]) -> String {
    let mut text = String::new();
    for (namespace, team) in [("shop", "red"), ("ops", "blue")] {
        text += &format!(
            "---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}, labels: {{team: {team}}}}}}}\n"
        );
    }
    text += "---\n{apiVersion: v1, kind: Node, metadata: {name: n, labels: {zone: east}}}\n";
    for (namespace, name, labels, spec) in [
        (
            "shop",
            "web",
            "{app: web, tier: front}",
            "containers: [{ports: [{name: http, containerPort: 8080}]}]",
        ),
        (
            "shop",
            "db",
            "{app: db}",
            "containers: [{ports: [{name: sql, containerPort: 5432}]}]",
        ),
        ("shop", "agent", "{app: agent}", "hostNetwork: true"),
        ("ops", "tool", "{app: tool}", "containers: []"),
    ] {
        text += &format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {namespace}, labels: {labels}}}, spec: {{{spec}}}}}\n"
        );
    }
    text + &more.concat()
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\n{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: {name}, namespace: shop}}, spec: {{{spec}}}}}\n"
    )
}

fn cluster_policy(name: &str, spec: &str) -> String {
    format!(
        "---\n{{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {{name: {name}}}, spec: {{{spec}}}}}\n"
    )
}

const WEB: &str = "podSelector: {matchLabels: {app: web}}";

#[test]
fn a_policy_for_nobody_is_told() {
    let code = Code::SelectsNothing;
    let good = [policy("p", WEB)];
    assert_eq!(of(code, &shop(&good)), [""; 0]);
    let bad = [
        policy("gone", "podSelector: {matchLabels: {app: gone}}"),
        policy("host", "podSelector: {matchLabels: {app: agent}}"),
        cluster_policy(
            "none",
            "tier: Admin, priority: 1, subject: {namespaces: {matchLabels: {team: green}}}",
        ),
    ];
    let nobody = "it selects no pod of these manifests, so it is for nobody";
    let expected = [
        format!("ClusterNetworkPolicy none spec.subject: {nobody}"),
        format!("NetworkPolicy shop/gone spec.podSelector: {nobody}"),
        "NetworkPolicy shop/host spec.podSelector: it selects hostNetwork pods only, which have their nodes' addresses".to_owned(),
    ];
    assert_eq!(of(code, &shop(&bad)), expected);
}

#[test]
fn labels_that_nothing_has_are_told_with_what_they_may_have_been() {
    let bad = [
        policy("value", "podSelector: {matchLabels: {app: wbe}}"),
        policy("key", "podSelector: {matchLabels: {ap: web}}"),
        policy(
            "peers",
            "podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: rad}}}, {podSelector: {matchExpressions: [{key: app, operator: In, values: [dbb, x]}, {key: teir, operator: NotIn, values: [front]}, {key: tier, operator: NotIn, values: [frnt]}]}}]}]",
        ),
        cluster_policy(
            "nodes",
            "tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Deny, to: [{nodes: {matchLabels: {zone: eats}}}]}]",
        ),
    ];
    let expected = [
        "ClusterNetworkPolicy nodes spec.egress[0].to.matchLabels: no node has `zone: eats`; did you mean `east`?",
        "NetworkPolicy shop/key spec.podSelector.matchLabels: no pod has a label `ap`; did you mean `app`?",
        "NetworkPolicy shop/peers spec.ingress[0].from[0].namespaceSelector.matchLabels: no namespace has `team: rad`; did you mean `red`?",
        "NetworkPolicy shop/peers spec.ingress[0].from[1].podSelector.matchExpressions[0]: no pod has any of these values of `app`; did you mean `db`?",
        "NetworkPolicy shop/peers spec.ingress[0].from[1].podSelector.matchExpressions[1]: NotIn excludes no pod: none has such a `teir`; did you mean `tier`?",
        "NetworkPolicy shop/peers spec.ingress[0].from[1].podSelector.matchExpressions[2]: NotIn excludes no pod: none has such a `tier`; did you mean `front`?",
        "NetworkPolicy shop/value spec.podSelector.matchLabels: no pod has `app: wbe`; did you mean `web`?",
    ];
    assert_eq!(of(Code::UnknownLabel, &shop(&bad)), expected);
    // In needs one of its values only; names of namespaces that others have may be excluded.
    let good = [policy(
        "good",
        "podSelector: {matchExpressions: [{key: app, operator: In, values: [web, later]}]}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [kube-system]}]}}]}]",
    )];
    assert_eq!(of(Code::UnknownLabel, &shop(&good)), [""; 0]);
}

#[test]
fn a_peer_that_is_nobody_is_told() {
    let bad = [policy(
        "p",
        "podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}, {podSelector: {matchLabels: {app: tool}}}, {namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchLabels: {app: tool}}}, {ipBlock: {cidr: 192.0.2.0/24}}]}]",
    )];
    let expected = [
        "NetworkPolicy shop/p spec.ingress[0].from[1]: the peer (pods {app=tool}) matches no pod of these manifests",
    ];
    assert_eq!(of(Code::PeerMatchesNothing, &shop(&bad)), expected);
}

#[test]
fn port_names_that_no_destination_has_are_told() {
    let bad = [
        policy(
            "db",
            "podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: sqll}, {port: sql, protocol: UDP}, {port: sql}]}]",
        ),
        policy(
            "web",
            &format!(
                "{WEB}, policyTypes: [Egress], egress: [{{to: [{{podSelector: {{matchLabels: {{app: db}}}}}}], ports: [{{port: http}}]}}]"
            ),
        ),
        policy(
            "any",
            &format!("{WEB}, policyTypes: [Egress], egress: [{{ports: [{{port: http}}]}}]"),
        ),
    ];
    let found = of(Code::UnknownPortName, &shop(&bad));
    let expected = [
        "NetworkPolicy shop/db spec.ingress[0].ports: no pod that this is to has a port named `sqll`; did you mean `sql`?",
        "NetworkPolicy shop/web spec.egress[0].ports: no pod that this is to has a port named `http`",
    ];
    assert_eq!(found, expected);
    let wrong = [policy(
        "db",
        "podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: sql, protocol: UDP}]}]",
    )];
    let expected = "NetworkPolicy shop/db spec.ingress[0].ports: no pod that this is to has a port named `sql`; it is a port of TCP";
    assert_eq!(of(Code::UnknownPortName, &shop(&wrong)), [expected]);
}

#[test]
fn port_numbers_that_no_subject_declares_are_noted() {
    let spec =
        "ingress: [{ports: [{port: 80}, {port: 8000, endPort: 8100}, {port: 53, protocol: UDP}]}]";
    let bad = [policy("web", &format!("{WEB}, {spec}"))];
    let expected = "NetworkPolicy shop/web spec.ingress[0].ports: no pod that this is for declares a port TCP 80";
    assert_eq!(of(Code::UndeclaredPort, &shop(&bad)), [expected]);
}

#[test]
fn open_namespaces_are_told_by_direction() {
    let half = [
        policy("web", WEB),
        cluster_policy(
            "ops",
            "tier: Baseline, priority: 1, subject: {namespaces: {matchLabels: {team: blue}}}, egress: [{action: Deny, to: [{networks: [0.0.0.0/0]}]}]",
        ),
    ];
    let expected = [
        "Namespace ops ingress: 1 of 1 workloads have no policy and may be reached by anyone: tool",
        "Namespace shop egress: 2 of 2 workloads have no policy and may reach anyone: db, web",
        "Namespace shop ingress: 1 of 2 workloads have no policy and may be reached by anyone: db",
    ];
    assert_eq!(of(Code::OpenNamespace, &shop(&half)), expected);
    let closed = "podSelector: {}, policyTypes: [Ingress, Egress]";
    let shadow = policy("all", closed).replace(
        "name: all,",
        "name: all, annotations: {sluice.dev/mode: shadow},",
    );
    let both = shop(&[policy("all", closed)]);
    assert_eq!(of(Code::OpenNamespace, &both).len(), 2);
    // A policy in shadow mode closes nothing.
    assert_eq!(of(Code::OpenNamespace, &shop(&[shadow])).len(), 4);
}

#[test]
fn a_rule_that_others_go_before_is_told_with_them() {
    let code = Code::ShadowedRule;
    let rules = |second: &str| {
        policy(
            "db",
            &format!(
                "podSelector: {{matchLabels: {{app: db}}}}, ingress: [{{from: [{{podSelector: {{}}}}], ports: [{{port: 5000, endPort: 6000}}]}}, {second}]"
            ),
        )
    };
    let web = "from: [{podSelector: {matchLabels: {app: web}}}]";
    let covered = rules(&format!("{{{web}, ports: [{{port: 5432}}]}}"));
    let by = "it never decides: all that it matches is decided by";
    let expected = format!("NetworkPolicy shop/db spec.ingress[1]: {by} `shop/db ingress[0]`");
    assert_eq!(of(code, &shop(&[covered])), [expected]);
    for more in [
        // One port more, or another protocol.
        format!("{{{web}, ports: [{{port: 6000, endPort: 6001}}]}}"),
        format!("{{{web}, ports: [{{port: 5432, protocol: UDP}}]}}"),
        // Someone else.
        "{from: [{ipBlock: {cidr: 192.0.2.0/24}}], ports: [{port: 5432}]}".to_owned(),
        // Nobody at all is another lint's.
        "{from: [{podSelector: {matchLabels: {app: gone}}}], ports: [{port: 5432}]}".to_owned(),
    ] {
        assert_eq!(of(code, &shop(&[rules(&more)])), [""; 0], "{more}");
    }
}

#[test]
fn tiers_and_priorities_shadow_too() {
    let code = Code::ShadowedRule;
    let guard = |priority: u16, action: &str, more: &str| {
        let rule = format!("{{action: {action}, from: [{{namespaces: {{}}}}]{more}}}");
        let name = format!("g{priority}");
        cluster_policy(
            &name,
            &format!(
                "tier: Admin, priority: {priority}, subject: {{namespaces: {{matchLabels: {{team: red}}}}}}, ingress: [{rule}]"
            ),
        )
    };
    let by = "it never decides: all that it matches is decided by";
    let own = policy(
        "db",
        "podSelector: {matchLabels: {app: db}}, ingress: [{from: [{namespaceSelector: {}}]}]",
    );
    let expected = [
        format!("ClusterNetworkPolicy g2 spec.ingress[0]: {by} `Admin:g1 ingress[0]`"),
        format!("NetworkPolicy shop/db spec.ingress[0]: {by} `Admin:g1 ingress[0]`"),
    ];
    for second in ["Accept", "Pass"] {
        let all = [guard(1, "Deny", ""), guard(2, second, ""), own.clone()];
        assert_eq!(of(code, &shop(&all)), expected, "{second}");
    }
    // One that passes on lets the others decide, and is no less of use.
    let all = [
        guard(
            1,
            "Pass",
            ", protocols: [{tcp: {destinationPort: {number: 80}}}]",
        ),
        guard(2, "Deny", ""),
        own,
    ];
    assert_eq!(of(code, &shop(&all)), [""; 0]);
    // What isolates keeps the last tier from being asked.
    let base = cluster_policy(
        "base",
        "tier: Baseline, priority: 1, subject: {pods: {podSelector: {matchLabels: {app: db}}}}, ingress: [{action: Accept, from: [{namespaces: {}}]}]",
    );
    let closed = policy("db", "podSelector: {matchLabels: {app: db}}");
    let expected =
        format!("ClusterNetworkPolicy base spec.ingress[0]: {by} `shop/db isolates ingress`");
    assert_eq!(of(code, &shop(&[base, closed])), [expected]);
}

#[test]
fn networks_that_nobody_is_on_are_told() {
    let multi = "---\napiVersion: k8s.cni.cncf.io/v1beta1\nkind: MultiNetworkPolicy\nmetadata: {name: m, namespace: shop, annotations: {k8s.v1.cni.cncf.io/policy-for: fast}}\nspec: {podSelector: {}}\n";
    let found = of(Code::NoNetwork, &shop(&[multi.to_owned()]));
    assert_eq!(
        found,
        ["MultiNetworkPolicy shop/m metadata.annotations: no pod is on network shop/fast"]
    );
}

#[test]
fn every_code_has_a_test_here() {
    let text = include_str!("lint.rs");
    let untested = Code::ALL
        .iter()
        .filter(|it| !text.contains(&format!("Code::{it:?}")));
    assert_eq!(untested.collect::<BTreeSet<_>>(), BTreeSet::new());
}

/// The cluster without the rule that a finding is about.
fn without(cluster: &Cluster, finding: &Finding) -> Cluster {
    let mut cluster = cluster.clone();
    let (kind, name) = finding.object.split_once(' ').unwrap();
    let place = finding.path.strip_prefix("spec.").unwrap();
    let (direction, index) = place.trim_end_matches(']').split_once('[').unwrap();
    let index: usize = index.parse().unwrap();
    let ingress = direction == "ingress";
    if kind == "ClusterNetworkPolicy" {
        let it = cluster.cluster_policies.get_mut(name).unwrap();
        let rules = if ingress {
            &mut it.ingress
        } else {
            &mut it.egress
        };
        rules.remove(index);
        return cluster;
    }
    let is = |it: &sluice_host_agent::cluster::NamespacedName| it.to_string() == name;
    let policy = if kind == "NetworkPolicy" {
        cluster.policies.iter_mut().find(|it| is(it.0)).unwrap().1
    } else {
        let multi = cluster.multi_policies.iter_mut().find(|it| is(it.0));
        &mut multi.unwrap().1.policy
    };
    let rules = if ingress {
        &mut policy.ingress
    } else {
        &mut policy.egress
    };
    rules.as_mut().unwrap().remove(index);
    cluster
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn without_a_shadowed_rule_nothing_is_different(world in world()) {
        let owners = Owners::new();
        let linted = lint(&world.cluster, &owners);
        for finding in linted.findings.iter().filter(|it| it.code == Code::ShadowedRule) {
            let without = without(&world.cluster, finding);
            let [before, after] = [&world.cluster, &without].map(|cluster| Side {
                cluster,
                owners: &owners,
            });
            let found = Comparison::new(before, after).difference();
            prop_assert_eq!(&found.changes, &[], "{}", finding);
        }
    }
}
