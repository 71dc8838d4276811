//! The agent, the CNI plugin and sluicectl as processes, against a real dataplane's control
//! side and worker over ports in memory, behind the real gRPC service.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed assumption in a test is a failed test"
)]

mod attach;
mod bundle;
mod matrix;
mod outage;
mod policy;
mod rig;
mod show;
mod tls;
