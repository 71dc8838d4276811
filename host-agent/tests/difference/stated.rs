//! Differences that are stated in words, and how each is shown.

use sluice_host_agent::difference::{Change, Comparison, Owners, Side};
use sluice_offload_api::model::PodRef;

use super::{cluster, compare, pod, policy};

/// A change as a line: `+ shop/a -> shop/b TCP 80 [changed]`.
fn line(change: &Change) -> String {
    let sign = match change.now {
        sluice_host_agent::difference::Now::Allowed => '+',
        sluice_host_agent::difference::Now::Denied => '-',
    };
    let flows: Vec<_> = change.flows.iter().map(ToString::to_string).collect();
    let (from, to, flows) = (&change.from, &change.to, flows.join(", "));
    let cause = format!("{:?}", change.cause).to_lowercase();
    let families = match change.families.as_slice() {
        [_, _] => String::new(),
        [one] => format!(" {one:?}"),
        _ => panic!("{change:?}"),
    };
    format!("{sign} {from} -> {to} {flows} [{cause}]{families}")
}

fn lines(before: &str, after: &str) -> Vec<String> {
    let difference = compare(&cluster(before), &cluster(after)).difference();
    difference.changes.iter().map(line).collect()
}

fn shop() -> String {
    let ports = ", spec: {containers: [{ports: [{name: sql, containerPort: 5432}]}]}";
    pod("web", "{app: web}", "") + &pod("db", "{app: db}", ports)
}

#[test]
fn a_named_port_is_the_destinations_number() {
    let only = |port: &str| {
        let from = "from: [{podSelector: {matchLabels: {app: web}}}]";
        let spec = format!(
            "{{podSelector: {{matchLabels: {{app: db}}}}, ingress: [{{{from}, ports: [{{port: {port}}}]}}]}}"
        );
        shop() + &policy("db", &spec)
    };
    assert_eq!(lines(&only("sql"), &only("5432")), [""; 0]);
    let expected = [
        "+ shop/web -> shop/db TCP 5433 [changed]",
        "- shop/web -> shop/db TCP 5432 [changed]",
    ];
    assert_eq!(lines(&only("sql"), &only("5433")), expected);
}

#[test]
fn both_directions_must_allow() {
    let egress = "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{ports: [{port: 5000, endPort: 6000}]}]}";
    let ingress = "{podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: 5432, endPort: 7000}]}]}";
    let before = shop() + &policy("web", egress);
    let after = before.clone() + &policy("db", ingress);
    let all = lines(&before, &after);
    let web = all.iter().filter(|it| it.contains("shop/web -> shop/db"));
    let expected = "- shop/web -> shop/db TCP 5000-5431 [changed]";
    assert_eq!(web.collect::<Vec<_>>(), [expected]);
    // From where nothing is policed at the source: all but what the destination still allows.
    let outside = "- outside 0.0.0.0/0 -> shop/db TCP 0-5431, TCP 7001-65535, UDP all, SCTP all, ICMP [changed] Ipv4";
    assert!(all.iter().any(|it| it == outside), "{all:#?}");
}

#[test]
fn families_differ_if_blocks_do() {
    let to = |block: &str| {
        let peer = format!("to: [{{ipBlock: {{cidr: {block}}}}}]");
        let spec = format!(
            "{{podSelector: {{matchLabels: {{app: web}}}}, policyTypes: [Egress], egress: [{{{peer}, ports: [{{port: 53, protocol: UDP}}]}}]}}"
        );
        shop() + &policy("out", &spec)
    };
    let all = lines(&to("10.0.0.0/8"), &to("2001:db8::/32"));
    let expected = [
        "- shop/web -> outside 10.0.0.0/8 UDP 53 [changed] Ipv4",
        "+ shop/web -> outside 2001:db8::/32 UDP 53 [changed] Ipv6",
    ];
    assert_eq!(all, expected);
}

#[test]
fn a_label_that_changes_changes_what_its_pod_may() {
    let closed = policy(
        "db",
        "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}]}",
    );
    let before = shop() + &closed;
    let after = before.replace("labels: {app: web}", "labels: {app: wbe}");
    let expected = ["- shop/web -> shop/db TCP 5432 [changed]"];
    assert_eq!(lines(&before, &after), expected);
}

#[test]
fn a_namespaces_label_that_changes_changes_what_its_pods_may() {
    let closed = policy(
        "db",
        "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: red}}}], ports: [{port: 5432}]}]}",
    );
    let team = |team: &str| {
        let namespace = format!("name: shop, labels: {{team: {team}}}");
        let text = format!("---\n{{apiVersion: v1, kind: Namespace, metadata: {{{namespace}}}}}\n");
        text + &shop() + &closed
    };
    let expected = ["- shop/web -> shop/db TCP 5432 [changed]"];
    assert_eq!(lines(&team("red"), &team("blue")), expected);
}

#[test]
fn what_comes_and_goes_says_so() {
    let closed = policy("all", "{podSelector: {}}");
    let one = pod("a", "{app: a}", "") + &closed;
    let two = one.clone() + &pod("b", "{app: b}", "");
    // A pod that nobody reaches may still begin: towards nodes and the outside.
    let added = lines(&one, &two);
    let expected = [
        "+ shop/b -> node:* TCP all, UDP all, SCTP all, ICMP [added]",
        "+ shop/b -> outside 0.0.0.0/0 TCP all, UDP all, SCTP all, ICMP [added] Ipv4",
        "+ shop/b -> outside ::/0 TCP all, UDP all, SCTP all, ICMP [added] Ipv6",
    ];
    assert_eq!(added, expected);
    let removed: Vec<_> = expected
        .iter()
        .map(|it| it.replace('+', "-").replace("added", "removed"))
        .collect();
    assert_eq!(lines(&two, &one), removed);
}

#[test]
fn a_rollout_is_the_same_workload() {
    let web = |hash: &str, tail: &str, labels: &str| {
        let labels = format!("{{app: web, pod-template-hash: {hash}{labels}}}");
        pod(&format!("web-{hash}-{tail}"), &labels, "")
    };
    let db = pod("db", "{app: db}", "");
    let closed = policy(
        "db",
        "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {track: canary}}}]}]}",
    );
    let rest = db + &closed;
    let before = web("1a", "x", "") + &web("1a", "y", "") + &rest;
    let same = web("2b", "z", "") + &rest;
    assert_eq!(lines(&before, &same), [""; 0]);
    let canary = web("1a", "x", "") + &web("2b", "z", ", track: canary") + &rest;
    let all = lines(&before, &canary);
    let to_db: Vec<_> = all.iter().filter(|it| it.contains("-> shop/db")).collect();
    let expected =
        "+ shop/web {track=canary} -> shop/db TCP all, UDP all, SCTP all, ICMP [changed]";
    assert_eq!(to_db, [expected]);
}

#[test]
fn owners_name_workloads() {
    let text = |port: u16| {
        let spec = format!(
            "{{podSelector: {{matchLabels: {{app: db}}}}, ingress: [{{from: [{{podSelector: {{}}}}], ports: [{{port: {port}}}]}}]}}"
        );
        pod("db-0", "{app: db}", "") + &pod("db-1", "{app: db}", "") + &policy("db", &spec)
    };
    let [before, after] = [text(1), text(2)].map(|it| cluster(&it));
    let owner = |name: &str| {
        let (namespace, name) = ("shop".to_owned(), name.to_owned());
        (PodRef { namespace, name }, "db".to_owned())
    };
    let owners: Owners = ["db-0", "db-1"].map(owner).into();
    let [before, after] = [&before, &after].map(|cluster| Side {
        cluster,
        owners: &owners,
    });
    let changes = Comparison::new(before, after).difference().changes;
    let lines: Vec<_> = changes.iter().map(line).collect();
    let expected = [
        "+ shop/db -> shop/db TCP 2 [changed]",
        "- shop/db -> shop/db TCP 1 [changed]",
    ];
    assert_eq!(lines, expected);
    let [now, _] = changes.as_slice() else {
        panic!("{lines:?}");
    };
    assert!(now.rules_before.contains("shop/db isolates ingress"));
    assert!(now.rules_after.contains("shop/db ingress[0]"));
}

#[test]
fn names_are_ends_of_their_own() {
    let allow = |name: &str| {
        let rules = format!(
            "[{{action: Accept, to: [{{domainNames: [{name}]}}], protocols: [{{tcp: {{destinationPort: {{number: 443}}}}}}]}}, {{action: Deny, to: [{{networks: [0.0.0.0/0, '::/0']}}]}}]"
        );
        pod("web", "{app: web}", "")
            + &format!(
                "---\n{{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {{name: out}}, spec: {{tier: Admin, priority: 1, subject: {{namespaces: {{}}}}, egress: {rules}}}}}\n"
            )
    };
    let expected = [
        "- shop/web -> name *.example.com, outside 0.0.0.0/0 TCP 443 [changed] Ipv4",
        "+ shop/web -> name api.example.org, outside 0.0.0.0/0 TCP 443 [changed] Ipv4",
        "- shop/web -> name *.example.com, outside ::/0 TCP 443 [changed] Ipv6",
        "+ shop/web -> name api.example.org, outside ::/0 TCP 443 [changed] Ipv6",
    ];
    let found = lines(&allow("'*.example.com'"), &allow("api.example.org"));
    assert_eq!(found, expected);
}
