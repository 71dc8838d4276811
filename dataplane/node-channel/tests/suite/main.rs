//! Node channels over real sockets, on loopback, with a CA made for each test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed assumption in a test is a failed test"
)]

mod api;
mod bindings;
mod ca;
mod establish;
mod holding;
mod node;
mod raw;
mod refuse;
mod rekey;
mod trust;
mod workload;
