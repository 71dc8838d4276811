//! `sluice-sim`: the simulator's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    sluice_sim::cli::main()
}
