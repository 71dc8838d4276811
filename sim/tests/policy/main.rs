//! What policies mean, feature by feature. Each line of these tables is judged three ways: by
//! the naive evaluator, by two nodes' compiled tables, and by real frames.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod cluster_network_policy;
mod domain_names;
mod multi_network_policy;
mod network_policy;
mod shadow;
mod shop;
