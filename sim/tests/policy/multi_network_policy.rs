//! Each feature of MultiNetworkPolicy, from the manifest to frames: pods with VFs on several
//! networks.

use crate::shop::{check_in, network_policies};

/// shop: web and cart on node a, db on node b; ops: probe on b. Networks `shop/fast` (10.20,
/// fd20), `shop/slow` (10.30) and `ops/fast` (10.40), named in both forms of the annotation.
pub(crate) const CLUSTER: &str = r#"
{kind: Namespace, metadata: {name: shop, labels: {team: shop}}}
---
{kind: Node, metadata: {name: a, annotations: {sluice.dev/tunnel-ips: 172.16.0.1}},
 status: {addresses: [{type: InternalIP, address: 10.9.0.1}]}}
---
{kind: Node, metadata: {name: b, annotations: {sluice.dev/tunnel-ips: 172.16.0.2}},
 status: {addresses: [{type: InternalIP, address: 10.9.0.2}]}}
---
kind: Pod
metadata:
  name: web
  namespace: shop
  labels: {app: web, tier: front}
  annotations:
    k8s.v1.cni.cncf.io/networks: fast, shop/slow
    k8s.v1.cni.cncf.io/network-status: |
      [{"name": "cni", "interface": "eth0", "ips": ["10.0.0.1", "fd00::1"], "default": true},
       {"name": "shop/fast", "interface": "net1", "ips": ["10.20.0.1", "fd20::1"],
        "mac": "02:00:00:00:00:21", "dns": {}},
       {"name": "shop/slow", "interface": "net2", "ips": ["10.30.0.1"]}]
spec: {nodeName: a}
status: {podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}
---
kind: Pod
metadata:
  name: cart
  namespace: shop
  labels: {app: cart, tier: back}
  annotations:
    k8s.v1.cni.cncf.io/network-status: '[{"name": "fast", "interface": "net1", "ips": ["10.20.0.2"]}]'
spec: {nodeName: a}
status: {podIP: 10.0.0.2}
---
kind: Pod
metadata:
  name: db
  namespace: shop
  labels: {app: db, tier: back}
  annotations:
    k8s.v1.cni.cncf.io/networks: '[{"name": "fast"}, {"name": "slow", "namespace": "shop"}]'
    k8s.v1.cni.cncf.io/network-status: |
      [{"name": "shop/fast", "interface": "net1", "ips": ["10.20.1.1", "fd20::1:1"]},
       {"name": "shop/slow", "interface": "net2", "ips": ["10.30.1.1"]}]
spec:
  nodeName: b
  containers:
  - ports: [{name: sql, containerPort: 5432}]
status: {podIPs: [{ip: 10.0.1.1}, {ip: 'fd00::1:1'}]}
---
kind: Pod
metadata:
  name: probe
  namespace: ops
  labels: {app: probe}
  annotations:
    k8s.v1.cni.cncf.io/networks: fast, shop/fast@up0
    k8s.v1.cni.cncf.io/network-status: |
      [{"name": "ops/fast", "interface": "net1", "ips": ["10.40.1.2"]},
       {"name": "shop/fast", "interface": "up0", "ips": ["10.20.1.2"]}]
spec: {nodeName: b}
status: {podIP: 10.0.1.2}
---
{kind: Pod, metadata: {name: agent, namespace: ops, labels: {app: web}},
 spec: {nodeName: b, hostNetwork: true}, status: {podIP: 10.9.0.2}}
"#;

/// A policy of namespace shop for these networks.
fn multi(name: &str, networks: &str, spec: &str) -> String {
    in_namespace("shop", name, networks, spec)
}

fn in_namespace(namespace: &str, name: &str, networks: &str, spec: &str) -> String {
    format!(
        "apiVersion: k8s.cni.cncf.io/v1beta1\nkind: MultiNetworkPolicy\n\
         metadata:\n  name: {name}\n  namespace: {namespace}\n  annotations:\n    \
         k8s.v1.cni.cncf.io/policy-for: {networks}\n\
         spec: {spec}\n---\n"
    )
}

fn check(policies: &str, flows: &[(&str, &str)]) {
    check_in(CLUSTER, policies, flows);
}

const DB: &str = "podSelector: {matchLabels: {app: db}}";
const FROM_WEB: &str = "{from: [{podSelector: {matchLabels: {app: web}}}]}";
const ISOLATED: &str = "ingress, Multi:shop/db isolates ingress";

#[test]
fn without_a_policy_every_interface_is_open() {
    check(
        "",
        &[
            ("web@net1 db@net1 tcp/1", "allow, no policy"),
            ("fd20::1 fd20::1:1 udp/1", "allow, no policy"),
            ("web@net1 db@net2 icmp", "allow, no policy"),
            ("web db@net1 sctp/1", "allow, no policy"),
            ("web@net1 cart@net1 tcp/1", "allow, no policy"),
            ("192.0.2.1 db@net1 tcp/1", "allow, no policy"),
            ("db@net2 192.0.2.1 tcp/1", "allow, no policy"),
        ],
    );
}

#[test]
fn other_policies_are_for_primary_interfaces_only() {
    let closed = "{podSelector: {}, policyTypes: [Ingress, Egress]}";
    check(
        &network_policies(&[("closed", closed)]),
        &[
            ("web db tcp/1", "egress, shop/closed isolates egress"),
            ("web@net1 db@net1 tcp/1", "allow, no policy"),
            ("fd20::1 fd20::1:1 tcp/1", "allow, no policy"),
            ("web@net1 db tcp/1", "ingress, shop/closed isolates ingress"),
        ],
    );
    let guard = "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\n\
                 metadata: {name: guard}\nspec:\n  tier: Admin\n  priority: 1\n  \
                 subject: {namespaces: {}}\n  ingress: [{action: Deny, from: [{namespaces: {}}]}]\n";
    check(
        guard,
        &[
            ("web db tcp/1", "ingress, Admin:guard ingress[0]"),
            ("web@net1 db@net1 tcp/1", "allow, no policy"),
            // Who comes from a secondary interface is none of the pods meant.
            ("web@net1 db tcp/1", "allow, no policy"),
        ],
    );
}

#[test]
fn a_policy_is_for_the_networks_that_it_names() {
    let closed = "{podSelector: {}}";
    let is_closed = "ingress, Multi:shop/closed isolates ingress";
    check(
        &multi("closed", "fast", closed),
        &[
            ("web@net1 db@net1 tcp/1", is_closed),
            ("fd20::1 fd20::1:1 tcp/1", is_closed),
            ("db@net1 cart@net1 tcp/1", is_closed),
            ("web@net2 db@net2 tcp/1", "allow, no policy"),
            ("web db tcp/1", "allow, no policy"),
            // A policy selects pods of its own namespace, whichever network they are on.
            ("web@net1 probe@up0 tcp/1", "allow, no policy"),
        ],
    );
    check(
        &multi("closed", "\" shop/fast , slow\"", closed),
        &[
            ("web@net1 db@net1 tcp/1", is_closed),
            ("web@net2 db@net2 tcp/1", is_closed),
        ],
    );
    // "fast" of namespace ops is another network than that of shop.
    check(
        &in_namespace("ops", "closed", "fast", closed),
        &[
            (
                "web@net1 probe@net1 tcp/1",
                "ingress, Multi:ops/closed isolates ingress",
            ),
            ("web@net1 probe@up0 tcp/1", "allow, no policy"),
        ],
    );
    check(
        &in_namespace("ops", "closed", "shop/fast", closed),
        &[
            ("web@net1 probe@net1 tcp/1", "allow, no policy"),
            (
                "web@net1 probe@up0 tcp/1",
                "ingress, Multi:ops/closed isolates ingress",
            ),
        ],
    );
}

#[test]
fn a_policy_for_no_network_is_for_nobody() {
    let without = "apiVersion: k8s.cni.cncf.io/v1beta1\nkind: MultiNetworkPolicy\n\
                   metadata: {name: closed, namespace: shop}\nspec: {podSelector: {}}\n---\n";
    let empty = multi("empty", "\"\"", "{podSelector: {}}");
    let unknown = multi("unknown", "nobodys", "{podSelector: {}}");
    check(
        &format!("{without}{empty}{unknown}"),
        &[
            ("web@net1 db@net1 tcp/1", "allow, no policy"),
            ("web db tcp/1", "allow, no policy"),
        ],
    );
}

#[test]
fn selected_pods_count_on_the_policys_networks_and_no_others() {
    let spec = format!("{{{DB}, ingress: [{FROM_WEB}]}}");
    check(
        &multi("db", "fast", &spec),
        &[
            ("web@net1 db@net1 tcp/1", "allow, Multi:shop/db ingress[0]"),
            ("fd20::1 fd20::1:1 tcp/1", "allow, Multi:shop/db ingress[0]"),
            ("cart@net1 db@net1 tcp/1", ISOLATED),
            ("web db@net1 tcp/1", ISOLATED),
            ("fd00::1 fd20::1:1 tcp/1", ISOLATED),
            ("web@net2 db@net1 tcp/1", ISOLATED),
            // A hostNetwork pod with web's labels is its node.
            ("node:b db@net1 tcp/1", ISOLATED),
        ],
    );
    // For two networks, each counts as the other does.
    check(
        &multi("db", "fast,slow", &spec),
        &[
            ("web@net2 db@net1 tcp/1", "allow, Multi:shop/db ingress[0]"),
            ("web@net1 db@net2 tcp/1", "allow, Multi:shop/db ingress[0]"),
            ("web db@net2 tcp/1", ISOLATED),
        ],
    );
    // And a NetworkPolicy's pods count on their primary interface.
    check(
        &network_policies(&[("db", &spec)]),
        &[
            ("web db tcp/1", "allow, shop/db ingress[0]"),
            ("web@net1 db tcp/1", "ingress, shop/db isolates ingress"),
            (
                "fd20::1 fd00::1:1 tcp/1",
                "ingress, shop/db isolates ingress",
            ),
        ],
    );
}

#[test]
fn egress_is_judged_where_it_leaves() {
    let to_db = "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], \
                 egress: [{to: [{podSelector: {matchLabels: {app: db}}}], ports: [{port: sql}]}]}";
    let isolated = "egress, Multi:shop/web isolates egress";
    check(
        &multi("web", "fast", to_db),
        &[
            // The source's rule is the last that has a say: db has no policy.
            ("web@net1 db@net1 tcp/5432", "allow, no policy"),
            ("web@net1 db@net1 tcp/5433", isolated),
            ("web@net1 db@net2 tcp/5432", isolated),
            ("web@net1 db tcp/5432", isolated),
            ("web@net1 cart@net1 tcp/5432", isolated),
            ("web@net1 192.0.2.1 tcp/5432", isolated),
            ("web@net1 db@net1 icmp", isolated),
            ("web@net2 db@net1 tcp/1", "allow, no policy"),
            ("web db@net1 tcp/1", "allow, no policy"),
            ("db@net1 web@net1 tcp/1", "allow, no policy"),
        ],
    );
}

#[test]
fn a_namespace_selector_means_pods_on_the_networks() {
    let in_ops = "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ops}}}";
    let spec = format!("{{{DB}, ingress: [{{from: [{in_ops}]}}]}}");
    check(
        &multi("db", "fast", &spec),
        &[
            ("probe@up0 db@net1 tcp/1", "allow, Multi:shop/db ingress[0]"),
            ("probe@net1 db@net1 tcp/1", ISOLATED),
            ("probe db@net1 tcp/1", ISOLATED),
            ("web@net1 db@net1 tcp/1", ISOLATED),
        ],
    );
    // A podSelector alone means the policy's own namespace.
    let probe = "{podSelector: {matchLabels: {app: probe}}}";
    let spec = format!("{{{DB}, ingress: [{{from: [{probe}]}}]}}");
    check(
        &multi("db", "fast", &spec),
        &[("probe@up0 db@net1 tcp/1", ISOLATED)],
    );
}

#[test]
fn blocks_match_addresses_whoever_has_them() {
    let v4 = "{ipBlock: {cidr: 10.20.0.0/16, except: [10.20.0.2/32]}}";
    let v6 = "{ipBlock: {cidr: 'fd20::/64'}}";
    let spec = format!("{{{DB}, ingress: [{{from: [{v4}, {v6}]}}]}}");
    let allowed = "allow, Multi:shop/db ingress[0]";
    check(
        &multi("db", "fast", &spec),
        &[
            ("web@net1 db@net1 tcp/1", allowed),
            ("fd20::1 fd20::1:1 tcp/1", allowed),
            ("cart@net1 db@net1 tcp/1", ISOLATED),
            ("web db@net1 tcp/1", ISOLATED),
            ("probe@up0 db@net1 icmp", allowed),
            ("10.20.7.7 db@net1 tcp/1", allowed),
            ("192.0.2.1 db@net1 tcp/1", ISOLATED),
        ],
    );
}

#[test]
fn ports_are_as_in_network_policy() {
    let ports = "[{port: sql}, {port: 7000, endPort: 7010, protocol: UDP}, {protocol: SCTP}]";
    let spec = format!("{{{DB}, ingress: [{{ports: {ports}}}]}}");
    let allowed = "allow, Multi:shop/db ingress[0]";
    check(
        &multi("db", "fast", &spec),
        &[
            ("web@net1 db@net1 tcp/5432", allowed),
            ("web db@net1 tcp/5432", allowed),
            ("web@net1 db@net1 tcp/5433", ISOLATED),
            ("web@net1 db@net1 udp/6999", ISOLATED),
            ("web@net1 db@net1 udp/7000", allowed),
            ("fd20::1 fd20::1:1 udp/7010", allowed),
            ("web@net1 db@net1 udp/7011", ISOLATED),
            ("web@net1 db@net1 sctp/9", allowed),
            ("web@net1 db@net1 icmp", ISOLATED),
        ],
    );
}

#[test]
fn policies_add_up_on_each_network_for_itself() {
    let from_cart = "{from: [{podSelector: {matchLabels: {app: cart}}}]}";
    let policies = multi("a-web", "fast", &format!("{{{DB}, ingress: [{FROM_WEB}]}}"))
        + &multi(
            "b-cart",
            "fast,slow",
            &format!("{{{DB}, ingress: [{from_cart}]}}"),
        );
    check(
        &policies,
        &[
            (
                "web@net1 db@net1 tcp/1",
                "allow, Multi:shop/a-web ingress[0]",
            ),
            (
                "cart@net1 db@net1 tcp/1",
                "allow, Multi:shop/b-cart ingress[0]",
            ),
            (
                "cart@net1 db@net2 tcp/1",
                "allow, Multi:shop/b-cart ingress[0]",
            ),
            (
                "web@net1 db@net2 tcp/1",
                "ingress, Multi:shop/b-cart isolates ingress",
            ),
            (
                "probe@up0 db@net1 tcp/1",
                "ingress, Multi:shop/a-web isolates ingress",
            ),
        ],
    );
}

#[test]
fn policy_types_are_inferred_as_in_network_policy() {
    let spec = "{podSelector: {matchLabels: {app: web}}}";
    check(
        &multi("web", "fast", spec),
        &[
            (
                "db@net1 web@net1 tcp/1",
                "ingress, Multi:shop/web isolates ingress",
            ),
            ("web@net1 db@net1 tcp/1", "allow, no policy"),
        ],
    );
    let spec = "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], ingress: [{}]}";
    check(
        &multi("web", "fast", spec),
        &[
            ("db@net1 web@net1 tcp/1", "allow, no policy"),
            (
                "web@net1 db@net1 tcp/1",
                "egress, Multi:shop/web isolates egress",
            ),
        ],
    );
}

#[test]
fn a_node_has_no_privilege_on_a_secondary_network() {
    check(
        &multi("db", "fast", &format!("{{{DB}}}")),
        &[
            ("node:b db@net1 tcp/1", ISOLATED),
            ("node:a db@net1 tcp/1", ISOLATED),
            ("node:b db@net2 tcp/1", "allow, no policy"),
            ("node:b db tcp/1", "allow, own node"),
        ],
    );
    let node = "{from: [{ipBlock: {cidr: 10.9.0.2/32}}]}";
    check(
        &multi("db", "fast", &format!("{{{DB}, ingress: [{node}]}}")),
        &[
            ("node:b db@net1 tcp/1", "allow, Multi:shop/db ingress[0]"),
            ("node:a db@net1 tcp/1", ISOLATED),
        ],
    );
}

#[test]
fn the_next_version_means_the_same() {
    let next = multi("db", "fast", &format!("{{{DB}}}")).replace("v1beta1", "v1beta2");
    check(&next, &[("web@net1 db@net1 tcp/1", ISOLATED)]);
}
