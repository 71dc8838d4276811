//! The daemon over ports in memory, reached by real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that can't go on must fail"
)]

mod channel;
mod checkpoint;
mod config;
mod encryption;
mod hiding;
mod keys;
mod limits;
mod live;
mod memory;
mod metrics;
mod mtls;
mod names;
mod program;
mod rig;
mod static_mode;
mod threads;

/// As in the binary: see `memory`.
#[global_allocator]
static ALLOCATOR: sluice_intrinsics::WipingAllocator = sluice_intrinsics::WipingAllocator;
