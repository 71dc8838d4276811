//! The command line: what is asked, and the exit code that answers.
//!
//! 0: everything as expected. 1: a check failed; the result is printed all the same.
//! 2: bad input; nothing was written.

mod connectivity;
mod diff;
mod esp;
mod fuzz;
mod lint;
mod replay;
mod run;
mod scale;
mod schema;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use sluice_host_agent::text::complaint;

pub use self::scale::Scaled;
use crate::input::InputError;
use crate::output::note;

/// What went wrong before there was a result.
#[derive(Debug)]
enum Failure {
    /// A person's file.
    Input(InputError),
    /// Anything else: a folder that can't be written.
    Other(anyhow::Error),
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        Self::Input(error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Other(error.into())
    }
}

/// Whether every check held.
type Outcome = Result<bool, Failure>;

const EXAMPLES: &str = "\
Examples:
  sluice-sim run sim/scenarios/quickstart.yaml
  sluice-sim run quickstart.yaml --seed 7 --out out/seven --output json
  sluice-sim connectivity --manifests k8s/ --probes probes.yaml
  sluice-sim connectivity --manifests k8s/ --probes probes.yaml --output json | jq .mismatches
  sluice-sim diff --before main/k8s --after k8s
  sluice-sim lint --manifests k8s --deny all
  sluice-sim fuzz --seeds 0..1000 --out corpus
  sluice-sim replay incident.json
  sluice-sim scale --nodes 50 --pods 5000

Exit codes: 0 as expected, 1 a check failed, 2 bad input (nothing is written).";

/// A whole Sluice cluster in one process: agents, dataplanes and real frames, without
/// hardware, root or Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "sluice-sim", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Connectivity(connectivity::ConnectivityArgs),
    Diff(diff::DiffArgs),
    Lint(lint::LintArgs),
    Schema(schema::SchemaArgs),
    Fuzz(fuzz::FuzzArgs),
    Replay(replay::ReplayArgs),
    Scale(scale::ScaleArgs),
    /// Debugging aid: look into ESP of a capture.
    #[command(hide = true)]
    Esp {
        #[command(subcommand)]
        command: esp::EspCommand,
    },
}

/// What every command takes.
#[derive(Debug, Args)]
struct Common {
    /// Where keys and all other randomness come from.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Workers of each dataplane, 1 to 32; the verdicts are the same.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=32))]
    workers: Option<u8>,
    /// Folder for wire.pcap, esp_sa (keys for Wireshark) and report.json.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the command of the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Connectivity(args) => connectivity::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Lint(args) => lint::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Scale(args) => scale::run(&args),
        Command::Esp { command } => esp::run(&command),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(failure) => {
            complain(failure);
            ExitCode::from(2)
        }
    }
}

fn complain(failure: Failure) {
    match failure {
        Failure::Input(error) => note(&complaint(&error)),
        Failure::Other(error) => note(&format!("error: {error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
