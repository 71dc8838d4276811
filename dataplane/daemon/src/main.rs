//! The binary `sluice-dataplane`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use miette::Report;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use sluice_dataplane::config::Config;
use sluice_dataplane::daemon::{self, DaemonError, Summary};
use sluice_intrinsics::WipingAllocator;
use sluice_node_channel::{Source, SpiffeId, make_key_and_request, request_again};
use tracing_subscriber::filter::LevelFilter;

/// Keys that were in use are nowhere once they aren't.
#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

/// Protects the pods of one node: filters, encrypts and forwards their frames.
///
/// Policy comes from an agent (`listen:` in the configuration) or from files (`static:`).
/// docs/dataplane-config.md describes the configuration; deploy/dataplane/ has samples.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    /// The configuration, YAML. Paths in it are relative to it.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Checks the configuration and all files that it names, opens nothing, and ends.
    #[arg(long)]
    check: bool,
    /// Makes the node channel's key where the configuration says, if there is none yet, prints the
    /// request for its certificate, to be signed by the nodes' CA, and ends.
    #[arg(long, conflicts_with = "check")]
    make_request: bool,
    /// How the summary at the end is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// How much is logged to standard error.
    #[arg(long, value_enum, default_value_t = Level::Info)]
    log_level: Level,
    /// Logs as JSON lines.
    #[arg(long)]
    log_json: bool,
}

const EXAMPLES: &str = "\
Examples:
  sluice-dataplane --config /etc/sluice/dataplane.yaml --check
  sluice-dataplane --config /etc/sluice/dataplane.yaml --make-request > node-a.csr
  sluice-dataplane --config /etc/sluice/dataplane.yaml
  sluice-dataplane --config pcap.yaml --output json   # static, `exit_when_idle`

Signals: SIGTERM and SIGINT close every port and end it.

Exit codes:
  0  as expected: told to stop, idle as configured, or the check found nothing
  1  failed: a port or socket can't be opened, or a thread broke; nothing is left open
  2  bad input: the configuration or a file that it names";

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

const FAILED: u8 = 1;
const BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    log(&args);
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, report)) => {
            drop(writeln!(std::io::stderr(), "{report:?}"));
            ExitCode::from(code)
        }
    }
}

fn log(args: &Args) {
    let level = match args.log_level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level);
    if args.log_json {
        log.json().init();
    } else {
        log.init();
    }
}

type Failure = (u8, Report);

fn failed(error: DaemonError) -> Failure {
    let code = if error.is_bad_input() {
        BAD_INPUT
    } else {
        FAILED
    };
    (code, Report::new(error))
}

fn run(args: &Args) -> Result<(), Failure> {
    // Before a key is in memory: no core dump, no ptrace by the same user.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| (FAILED, miette::miette!("can't forbid core dumps: {error}")))?;
    let load = if args.make_request {
        Config::load_early
    } else {
        Config::load
    };
    let config = load(&args.config).map_err(|error| (BAD_INPUT, Report::new(error)))?;
    // Of the keys that static mode reads.
    sluice_crypto::scrub_stack();
    if args.check {
        let note = daemon::check(config).map_err(failed)?;
        let text = note.unwrap_or_else(|| "the configuration is good".to_owned());
        return print(&text);
    }
    if args.make_request {
        return print(make_request(&config)?.trim_end());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| (FAILED, miette::miette!("can't start the runtime: {error}")))?;
    let summary = runtime.block_on(serve(config))?;
    match args.output {
        Output::Text => print(&text(&summary)),
        Output::Json => {
            let json = serde_json::to_string_pretty(&summary);
            print(&json.map_err(|error| (FAILED, miette::miette!("{error}")))?)
        }
    }
}

fn make_request(config: &Config) -> Result<String, Failure> {
    let bad = |error: &dyn core::fmt::Display| (BAD_INPUT, miette::miette!("{error}"));
    let Some(channel) = config.node_channel.as_ref().map(|it| &it.channel) else {
        return Err(bad(&"the configuration has no `node_channel`"));
    };
    let Source::Files(files) = &channel.identity else {
        return Err(bad(
            &"with `node_channel.workload_api` the API makes the key, and there is nothing to sign",
        ));
    };
    let id = SpiffeId::of_node(&channel.trust_domain, &channel.node);
    let id = id.map_err(|error| bad(&error))?;
    let request = if files.key.exists() {
        request_again(&files.key, &id)
    } else {
        make_key_and_request(&files.key, &id)
    };
    request.map_err(|error| bad(&error))
}

fn print(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}")
        .map_err(|error| (FAILED, miette::miette!("standard output: {error}")))
}

#[cfg(feature = "dpdk")]
async fn serve(config: Config) -> Result<Summary, Failure> {
    use sluice_dataplane::dpdk::DpdkPorts;
    use tokio::signal::unix::{SignalKind, signal};

    let no_signals = |error| (FAILED, miette::miette!("can't listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let daemon = daemon::Daemon::start(config, DpdkPorts)
        .await
        .map_err(failed)?;
    let told = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    daemon.run(told).await.map_err(failed)
}

#[cfg(not(feature = "dpdk"))]
#[allow(clippy::unused_async, reason = "the same signature as with DPDK")]
async fn serve(_config: Config) -> Result<Summary, Failure> {
    let report = miette::miette!(
        help = "build it with `cargo build -p sluice-dataplane --features dpdk`",
        "this sluice-dataplane was built without DPDK: it can --check, and has no ports"
    );
    Err((FAILED, report))
}

/// One line a port.
fn text(summary: &Summary) -> String {
    let mut out = format!(
        "ended: {:?}, generation {}",
        summary.ended, summary.generation
    );
    for port in &summary.ports {
        let dropped: u64 = port.drops.iter().map(|it| it.frames).sum();
        out.push_str(&format!(
            "\n{}: received {}, sent {}, dropped {dropped}",
            port.port, port.rx_frames, port.tx_frames
        ));
        for drop in &port.drops {
            out.push_str(&format!("\n  {}: {}", drop.reason, drop.frames));
        }
    }
    out
}
