//! The agent's daemon; see `sluice_host_agent::drivers`.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use rustix::fs::Mode;
use sluice_host_agent::drivers::config::{Config, LogConfig};
use sluice_host_agent::drivers::{daemon, directory, link};
use sluice_host_agent::text::complaint;

const EXAMPLES: &str = "\
Examples:
  sluice-agent --config /etc/sluice/agent.yaml --check
  sluice-agent --config /etc/sluice/agent.yaml

The agent ends on SIGTERM; the dataplane goes on with what it has. Ask it with sluicectl.
Exit codes: 0 ended as asked, 1 it could not start or go on, 2 the configuration is wrong.";

/// What runs beside the kubelet: tells this node's dataplane who is where and who may talk to
/// whom, and answers the CNI plugin and sluicectl.
#[derive(Debug, Parser)]
#[command(name = "sluice-agent", version, after_help = EXAMPLES)]
struct Cli {
    /// The configuration; see docs/agent-config.md.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only check the configuration, and the certificates and manifests it names.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Before any thread: nothing that is made from now on is for others.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let config = match Config::load(&cli.config) {
        Ok(config) => config,
        Err(error) => {
            note(&complaint(&error));
            return ExitCode::from(2);
        }
    };
    if cli.check {
        return check(&config);
    }
    log_to_stderr(config.log);
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(&format!("error: {error:#}"));
            ExitCode::from(1)
        }
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime can't start")?;
    Ok(runtime.block_on(daemon::run(config))?)
}

fn check(config: &Config) -> ExitCode {
    if let Err(error) = link::check(&config.dataplane) {
        note(&format!("error: {error}"));
        return ExitCode::from(2);
    }
    match directory::load(&config.manifests) {
        Ok(loaded) => {
            for it in &loaded.notes {
                note(&format!("note: {it}"));
            }
            let cluster = &loaded.cluster;
            note(&format!(
                "the configuration is right: node {}, {} VFs, {} pods, {} policies",
                config.setup.node,
                config.setup.vfs.len(),
                cluster.pods.len(),
                cluster.policies.len()
            ));
            ExitCode::SUCCESS
        }
        Err(fault) => {
            note(&format!("error: the manifests: {fault}"));
            ExitCode::from(2)
        }
    }
}

fn log_to_stderr(log: LogConfig) {
    let builder = tracing_subscriber::fmt()
        .with_max_level(log.level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    if log.json {
        builder.json().flatten_event(true).init();
    } else {
        builder.init();
    }
}

fn note(text: &str) {
    // There is nowhere to say that stderr is gone.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
