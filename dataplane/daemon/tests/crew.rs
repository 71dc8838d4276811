//! The tests of `daemon` that have to do with frames once more, over three workers whose card
//! knows nothing of who owns what. See `rig/wires.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    dead_code,
    reason = "a test that can't go on must fail; some of the rig is for tests that aren't here"
)]

#[path = "daemon/channel.rs"]
mod channel;
#[path = "daemon/checkpoint.rs"]
mod checkpoint;
#[path = "daemon/encryption.rs"]
mod encryption;
#[path = "daemon/live.rs"]
mod live;
#[path = "daemon/memory.rs"]
mod memory;
#[path = "daemon/metrics.rs"]
mod metrics;
#[path = "daemon/names.rs"]
mod names;
#[path = "daemon/program.rs"]
mod program;
#[path = "daemon/rig/mod.rs"]
mod rig;
#[path = "daemon/static_mode.rs"]
mod static_mode;
#[path = "daemon/threads.rs"]
mod threads;

/// As in the binary: see `memory`.
#[global_allocator]
static ALLOCATOR: sluice_intrinsics::WipingAllocator = sluice_intrinsics::WipingAllocator;
