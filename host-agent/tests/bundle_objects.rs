//! Objects of a bundle are read back as the cluster that they are of.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
#![cfg(feature = "incident")]

mod world;

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;
use sluice_host_agent::cluster::Cluster;
use sluice_host_agent::incident::objects;
use sluice_host_agent::manifest::{load_dir, load_texts};

fn text(objects: &[Value]) -> String {
    let lines: Vec<_> = objects.iter().map(|it| format!("{it}\n")).collect();
    lines.join("---\n")
}

fn read_back(cluster: &Cluster) -> Cluster {
    let text = text(&objects(cluster));
    let loaded = load_texts(&[("objects", &text)]);
    loaded
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
        .cluster
}

#[test]
fn every_set_of_manifests_of_the_simulator_is_read_back_the_same() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim/manifests");
    let mut sets = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let cluster = load_dir(&path).unwrap().cluster;
            assert!(!cluster.pods.is_empty());
            assert_eq!(read_back(&cluster), cluster, "{}", path.display());
            sets += 1;
        }
    }
    assert!(sets >= 5, "{sets}");
}

/// A rule with something that isn't known fails closed, and does so again where it is read.
#[test]
fn what_failed_closed_fails_closed_again() {
    let rules = ["Accept", "Deny", "Pass"]
        .map(|action| format!("{{\"action\": \"{action}\", \"to\": [{{\"moon\": {{}}}}]}}"));
    let policy = format!(
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\n\
         metadata: {{name: x}}\nspec: {{tier: Admin, priority: 1, subject: {{namespaces: {{}}}}, \
         egress: [{}]}}\n",
        rules.join(", ")
    );
    let cluster = load_texts(&[("x.yaml", &policy)]).unwrap().cluster;
    let rules = &cluster.cluster_policies.get("x").unwrap().egress;
    assert!(rules[0].flows.is_none() && rules[1].flows.is_some());
    assert_eq!(read_back(&cluster), cluster);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Also of clusters that nobody would write. Two things no manifest can say: a policy of no
    /// type at all, which is for ingress without `policyTypes`, and some rules of
    /// ClusterNetworkPolicies; those are as they can be said once they were.
    #[test]
    fn a_random_cluster_is_read_back_the_same(world in world::world()) {
        let mut cluster = world.cluster;
        // No object: the bundle has it beside them.
        cluster.pod_cidrs.clear();
        let own = cluster.policies.iter_mut().map(|it| it.1);
        let multi = cluster.multi_policies.iter_mut().map(|it| &mut it.1.policy);
        for policy in own.chain(multi) {
            if policy.ingress.is_none() && policy.egress.is_none() {
                policy.ingress = Some(Vec::new());
            }
        }
        let mut once = read_back(&cluster);
        prop_assert_eq!(&read_back(&once), &once);
        once.cluster_policies.clone_from(&cluster.cluster_policies);
        prop_assert_eq!(once, cluster);
    }
}
