//! The binary `sluice-ike`.

use core::time::Duration;
use std::ffi::OsString;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Parser};
use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, Signal, kill_process, set_dumpable_behavior, setrlimit,
};
use sluice_dataplane::ike::client::Client;
use sluice_dataplane::ike::log::{self, Log};
use sluice_dataplane::ike::run::{SaSetup, run, start_charon};
use sluice_intrinsics::WipingAllocator;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

/// Keys that were in use are nowhere once they aren't.
#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

/// Has a dataplane use the SAs that strongSwan's charon agrees on by IKEv2, through rekeys,
/// without losing a packet.
///
/// It runs on the DPU beside the dataplane, whose configuration has `static.sa_socket`, and
/// starts charon or reads its log from a pipe. docs/encryption.md says how it all fits.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
#[command(group = ArgGroup::new("charon").required(true).args(["log", "command"]))]
struct Args {
    /// The dataplane's `static.sa_socket.path`.
    #[arg(long, value_name = "SOCKET")]
    dataplane: PathBuf,
    /// Reads the log of a charon that others start from this FIFO; `-` is standard input, a
    /// pipe.
    #[arg(long, value_name = "FIFO")]
    log: Option<PathBuf>,
    /// Starts charon and reads its standard output; ends it when told to end.
    #[arg(last = true, value_name = "CHARON")]
    command: Vec<OsString>,
    /// SAs of charon's child CHILD are with the peer NODE; without it NODE is CHILD.
    #[arg(long = "peer", value_name = "CHILD=NODE", value_parser = peer)]
    peers: Vec<(String, String)>,
    /// ESP in UDP 4500: charon has `encap = yes`.
    #[arg(long)]
    udp_encap: bool,
    /// Transport mode, for the pod with this address, with every peer: charon has `mode =
    /// transport`, and the pod's address in `local_ts`.
    #[arg(long, value_name = "ADDRESS")]
    transport: Option<IpAddr>,
    /// Replay window in packets, a multiple of 64 from 64 to 4096.
    #[arg(long, value_name = "PACKETS")]
    window: Option<usize>,
    /// An SA ends after so long even if charon doesn't end it. More than charon's `life_time`.
    #[arg(long, value_name = "SECONDS", default_value_t = 7200, value_parser = clap::value_parser!(u64).range(1..))]
    life: u64,
    /// An SA ends after so many packets.
    #[arg(long, value_name = "PACKETS", value_parser = clap::value_parser!(u64).range(1..))]
    packets_max: Option<u64>,
    /// An SA ends after so many bytes.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    bytes_max: Option<u64>,
    /// How long to wait for the dataplane's socket at the start.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait: u64,
}

const AFTER_HELP: &str = "\
charon's strongswan.conf has to have, for its log:
  charon-systemd { filelog { sluice {
    path = /dev/stdout        # or the FIFO
    default = -1
    chd = 4                   # the keys
    enc = 3                   # holds charon back until the dataplane has them
    cfg = 1
    flush_line = yes
  } } }
No `time_format`. No other log of it may have `chd = 4`.

Examples:
  sluice-ike --dataplane /run/sluice/sas.sock --udp-encap -- /usr/sbin/charon-systemd
  sluice-ike --dataplane /run/sluice/sas.sock --peer net-net=storage --log /run/sluice/charon.log

What is sent and received by an SA goes on when this program ends; what would replace the SA
is not heard of. Nothing goes in clear: an SA that ends at its limit leaves `no-sa` drops.

Signals: SIGTERM and SIGINT end a charon that it started, then itself.

Exit codes:
  0  told to end
  1  failed: charon or the dataplane has ended; start all of it again, which agrees on new keys
  2  bad input: arguments, a log that is no pipe, a charon that can't be started";

const FAILED: u8 = 1;
const BAD_INPUT: u8 = 2;
/// For charon to tell its peers and end.
const CHARON_END_MAX: Duration = Duration::from_secs(10);

fn peer(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((child, node)) if !child.is_empty() && !node.is_empty() => {
            Ok((child.to_owned(), node.to_owned()))
        }
        _ => Err("give CHILD=NODE".to_owned()),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(LevelFilter::INFO)
        .init();
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, why)) => {
            drop(writeln!(std::io::stderr(), "sluice-ike: {why}"));
            ExitCode::from(code)
        }
    }
}

type Failure = (u8, String);

fn start(args: Args) -> Result<(), Failure> {
    let failed = |error: &dyn core::fmt::Display| (FAILED, error.to_string());
    // Before a key is in memory: no core dump, no ptrace by the same user.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| (FAILED, format!("can't forbid core dumps: {error}")))?;
    // A program that is started is dumpable again; this it inherits. Less than the smallest file,
    // and the one limit by which the kernel gives no dump to a pipe either (core(5) tells of 0).
    let none = Rlimit {
        current: Some(1),
        maximum: Some(1),
    };
    setrlimit(Resource::Core, none)
        .map_err(|error| (FAILED, format!("can't forbid charon's core dumps: {error}")))?;
    for (at, (child, node)) in args.peers.iter().enumerate() {
        let mut before = args.peers.iter().take(at);
        if before.clone().any(|it| it.0 == *child) {
            let text = format!("--peer: child {child} is named twice; it is with one node");
            return Err((BAD_INPUT, text));
        }
        let before = before.find(|it| it.1 == *node);
        if let Some((other, _)) = before {
            let text = format!(
                "--peer: children {other} and {child} are both with {node}, and a dataplane sends to \
                 a node by one SA: give their selectors to one child"
            );
            return Err((BAD_INPUT, text));
        }
    }
    // Waits for charon, and ends by a signal as any program does.
    let log = args.log.as_deref().map(log::open).transpose();
    let log = log.map_err(|error| (BAD_INPUT, error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    runtime.block_on(follow(args, log))
}

async fn follow(args: Args, log: Option<OwnedFd>) -> Result<(), Failure> {
    let failed = |error: &dyn core::fmt::Display| (FAILED, error.to_string());
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| failed(&error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| failed(&error))?;
    let reach = async {
        let patience = Duration::from_secs(args.wait);
        let connected = Client::connect(&args.dataplane, patience).await;
        let mut client = connected.map_err(|error| {
            let path = args.dataplane.display();
            let hint =
                "is the dataplane running, with `static.sa_socket`, and are you root or its user?";
            (FAILED, format!("{path}: {error}; {hint}"))
        })?;
        let held = client.list().await.map_err(|error| failed(&error))?.len();
        Ok::<_, Failure>((client, held))
    };
    let (mut client, held) = tokio::select! {
        reached = reach => reached?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    tracing::info!(held, "the dataplane takes SAs");
    let (mut charon, pipe) = match log {
        Some(pipe) => (None, pipe),
        None => {
            let started = start_charon(&args.command).map_err(|error| {
                let program = args.command.first().map(|it| it.display().to_string());
                (
                    BAD_INPUT,
                    format!("can't start {}: {error}", program.unwrap_or_default()),
                )
            })?;
            (Some(started.0), started.1)
        }
    };
    let mut log = Log::new(pipe).map_err(|error| failed(&error))?;
    if !log.holds() {
        tracing::error!(
            "this kernel's pages are larger than 4 KiB: packets can be lost in a rekey"
        );
    }
    let setup = SaSetup {
        nodes: args.peers.into_iter().collect(),
        transport: args.transport,
        udp_encap: args.udp_encap,
        window: args.window,
        life: Duration::from_secs(args.life),
        packets_max: args.packets_max,
        bytes_max: args.bytes_max,
    };
    let ended = tokio::select! {
        error = run(&mut log, &mut client, &setup) => Err(failed(&error)),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    if let Some(charon) = &mut charon {
        end(charon, &mut log).await;
    }
    ended
}

/// Has charon take leave of its peers, and reads what it has to say meanwhile, or it would
/// wait.
async fn end(charon: &mut Child, log: &mut Log) {
    let pid = charon.id().and_then(|it| i32::try_from(it).ok());
    if let Some(pid) = pid.and_then(Pid::from_raw) {
        // One that has ended already needs no telling.
        let _ = kill_process(pid, Signal::TERM);
    }
    let leave = async {
        while let Ok(Some(_)) = log.next().await {}
        drop(charon.wait().await);
    };
    if tokio::time::timeout(CHARON_END_MAX, leave).await.is_err() {
        drop(charon.kill().await);
    }
}
