//! The command line tool; see `sluice_host_agent::ctl`.

use std::process::ExitCode;

fn main() -> ExitCode {
    sluice_host_agent::ctl::main()
}
