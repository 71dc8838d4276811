//! Policies in shadow mode: what they would do is told and counted, and nothing else.

use crate::multi_network_policy::CLUSTER as NETWORKS;
use crate::shop::{Shop, check_in, check_under, network_policies};
use sluice_host_agent::evaluate::KnownNames;

/// The same policies, each with the annotation.
fn in_mode(mode: &str, policies: &str) -> String {
    policies.replace(
        "metadata: {",
        &format!("metadata: {{annotations: {{sluice.dev/mode: {mode}}}, "),
    )
}

fn shadow(policies: &[(&str, &str)]) -> String {
    in_mode("shadow", &network_policies(policies))
}

const CARTS_ONLY: &str = "{podSelector: {matchLabels: {app: db}}, \
                          ingress: [{from: [{podSelector: {matchLabels: {app: cart}}}]}]}";

#[test]
fn a_shadow_policy_isolates_nobody_and_says_whom_it_would() {
    check_under(
        &shadow(&[("db", CARTS_ONLY)]),
        &[
            ("cart db tcp/5432", "allow, no policy"),
            (
                "web db tcp/5432",
                "allow, no policy; shadow: deny at ingress by shop/db isolates ingress",
            ),
            (
                "fd00::1 fd00::1:1 icmp",
                "allow, no policy; shadow: deny at ingress by shop/db isolates ingress",
            ),
            ("node:b db tcp/5432", "allow, own node"),
            ("db web tcp/80", "allow, no policy"),
        ],
    );
}

#[test]
fn a_shadow_policy_allows_nobody_and_says_whom_it_would() {
    let policies = network_policies(&[("db", CARTS_ONLY)])
        + &shadow(&[(
            "more",
            "{podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: 5432}]}]}",
        )]);
    check_under(
        &policies,
        &[
            ("cart db tcp/5432", "allow, shop/db ingress[0]"),
            (
                "web db tcp/5432",
                "ingress, shop/db isolates ingress; shadow: allow at ingress by shop/more ingress[0]",
            ),
            ("web db tcp/5433", "ingress, shop/db isolates ingress"),
        ],
    );
}

#[test]
fn each_end_has_its_own_shadow_and_an_end_that_is_not_reached_has_none() {
    let policies = shadow(&[
        ("db", CARTS_ONLY),
        (
            "web",
            "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress]}",
        ),
    ]);
    let at_source = "shadow: deny at egress by shop/web isolates egress";
    check_under(
        &policies,
        &[
            // Both ends would deny: the first is told.
            ("web db tcp/5432", &format!("allow, no policy; {at_source}")),
            ("web cart tcp/80", &format!("allow, no policy; {at_source}")),
        ],
    );
    let closed = network_policies(&[(
        "closed",
        "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress]}",
    )]);
    check_under(
        &(closed + &shadow(&[("db", CARTS_ONLY)])),
        &[("web db tcp/5432", "egress, shop/closed isolates egress")],
    );
}

#[test]
fn cluster_policies_have_shadows_in_every_tier() {
    let deny = "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\n\
                metadata: {name: guard}\nspec:\n  tier: Admin\n  priority: 1\n  \
                subject: {namespaces: {matchLabels: {team: shop}}}\n  \
                ingress: [{action: Deny, from: [{namespaces: {}}]}]\n---\n";
    let open = network_policies(&[("open", "{ingress: [{}]}")]);
    check_under(
        &(open.clone() + &in_mode("shadow", deny)),
        &[(
            "cart db tcp/5432",
            "allow, shop/open ingress[0]; shadow: deny at ingress by Admin:guard ingress[0]",
        )],
    );
    let baseline = deny.replace("tier: Admin", "tier: Baseline");
    check_under(
        &(open + &in_mode("shadow", &baseline)),
        &[("cart db tcp/5432", "allow, shop/open ingress[0]")],
    );
    check_under(
        &in_mode("shadow", &baseline),
        &[(
            "cart db tcp/5432",
            "allow, no policy; shadow: deny at ingress by Baseline:guard ingress[0]",
        )],
    );
}

#[test]
fn multi_network_policies_have_shadows_on_their_own_networks_only() {
    let policy = "apiVersion: k8s.cni.cncf.io/v1beta1\nkind: MultiNetworkPolicy\nmetadata:\n  \
                  name: fast\n  namespace: shop\n  annotations: \
                  {k8s.v1.cni.cncf.io/policy-for: fast, sluice.dev/mode: shadow}\nspec: \
                  {podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress]}\n";
    check_in(
        NETWORKS,
        policy,
        &[
            (
                "web@net1 db@net1 tcp/5432",
                "allow, no policy; shadow: deny at ingress by Multi:shop/fast isolates ingress",
            ),
            ("web@net2 db@net2 tcp/5432", "allow, no policy"),
            ("web db tcp/5432", "allow, no policy"),
        ],
    );
}

#[test]
fn enforce_is_what_holds_without_the_annotation() {
    check_under(
        &in_mode("enforce", &network_policies(&[("db", CARTS_ONLY)])),
        &[
            ("cart db tcp/5432", "allow, shop/db ingress[0]"),
            ("web db tcp/5432", "ingress, shop/db isolates ingress"),
        ],
    );
}

#[test]
fn a_running_cluster_follows_a_policy_into_force_and_back() {
    let policies = network_policies(&[("db", CARTS_ONLY)]);
    let shadowed = in_mode("shadow", &policies);
    let mut shop = Shop::under(&shadowed);
    let flow = "web db tcp/5432";
    let counted = "allow, no policy; shadow: deny at ingress by shop/db isolates ingress";
    shop.check(flow, counted, KnownNames::NONE);
    shop.change(&policies);
    let enforced = "ingress, shop/db isolates ingress";
    shop.check(flow, enforced, KnownNames::NONE);
    shop.change(&shadowed);
    shop.check(flow, counted, KnownNames::NONE);
    shop.change("");
    shop.check(flow, "allow, no policy", KnownNames::NONE);
}
