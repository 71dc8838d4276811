//! `sluice-sim`: the simulator's command line.

use std::process::ExitCode;

/// Every frame is in a few allocations of a hundred bytes and some, made by the thousand and freed
/// by the thousand, in part by oracles on another thread: glibc took an eighth of a run for it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sluice_sim::cli::main()
}
