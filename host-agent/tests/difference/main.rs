//! What two folders differ in: against every pair of pods and every port that a rule draws a
//! boundary at, and by what it costs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod brute;
mod flows;
mod stated;
mod work;
#[path = "../world/mod.rs"]
mod world;

use sluice_host_agent::cluster::Cluster;
use sluice_host_agent::difference::{Comparison, Owners, Side};
use sluice_host_agent::manifest::load_texts;

/// A cluster of one file's text.
fn cluster(text: &str) -> Cluster {
    load_texts(&[("t.yaml", text)]).unwrap().cluster
}

/// Two clusters whose pods have no owners.
fn compare(before: &Cluster, after: &Cluster) -> Comparison {
    let owners = Owners::new();
    let side = |cluster| Side {
        cluster,
        owners: &owners,
    };
    Comparison::new(side(before), side(after))
}

/// A pod's manifest.
fn pod(name: &str, labels: &str, more: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: shop, labels: {labels}}}{more}}}\n"
    )
}

/// A policy's manifest.
fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\n{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: {name}, namespace: shop}}, spec: {spec}}}\n"
    )
}
