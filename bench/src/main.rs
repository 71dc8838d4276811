//! `sluice-bench`: what the packet walk costs, beside doing nothing and the bare cipher.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use sluice_bench::report::{self, Measured};
use sluice_bench::timing::FRAME_LENS;
use sluice_bench::{machine, memory};

/// What the packet walk costs, beside doing nothing and the bare cipher.
#[derive(Parser, Debug)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// The whole walk: ns per packet, Mpps and Gbit/s of one core
    Walk {
        /// On which ports
        #[arg(long, value_enum, default_value_t = Ports::Mem)]
        ports: Ports,
        /// Milliseconds of one of the six rounds of a measurement
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
        round_ms: u64,
        /// A table for people, or one JSON document
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Verdicts by the number of rules, beside other ways to find them; flows and churn
    Policy {
        /// Few sizes, each for a moment: to see that it works
        #[arg(long)]
        quick: bool,
        /// Milliseconds of one of the six rounds of a measurement
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_000))]
        round_ms: u64,
        /// A table for people, or one JSON document
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Ports {
    /// In memory; how frames get there is not measured
    Mem,
    /// DPDK's virtual devices, net_pcap to net_null; not a NIC
    #[cfg(feature = "dpdk")]
    Dpdk,
    /// Both
    #[cfg(feature = "dpdk")]
    All,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Walk {
            ports,
            round_ms,
            output,
        } => walk(ports, Duration::from_millis(round_ms), output),
        Command::Policy {
            quick,
            round_ms,
            output,
        } => policy(quick, Duration::from_millis(round_ms), output),
    }
}

fn walk(ports: Ports, share: Duration, output: Output) -> anyhow::Result<()> {
    let mut progress = io::stderr().lock();
    writeln!(
        progress,
        "{}; one core, one flow, one SA",
        machine::describe()
    )?;
    let mut all = Vec::new();
    for len in FRAME_LENS {
        writeln!(progress, "frames of {len} bytes")?;
        all.extend(measure(ports, len, share)?);
    }
    // A case after the other, each by length.
    all.sort_by(|a, b| a.case.cmp(&b.case).then(a.frame_bytes.cmp(&b.frame_bytes)));
    let mut out = io::stdout().lock();
    match output {
        Output::Text => report::write_table(&mut out, &all),
        Output::Json => report::write_json(&mut out, &all),
    }
    .context("writing the result")
}

fn policy(quick: bool, share: Duration, output: Output) -> anyhow::Result<()> {
    let mut stderr = io::stderr().lock();
    writeln!(stderr, "{}; one core", machine::describe())?;
    let all = sluice_bench::policy::run(quick, share, |said| drop(writeln!(stderr, "{said}")))?;
    let mut out = io::stdout().lock();
    match output {
        Output::Text => sluice_bench::policy::report::write_table(&mut out, &all),
        Output::Json => sluice_bench::policy::report::write_json(&mut out, &all),
    }
    .context("writing the result")
}

#[cfg(not(feature = "dpdk"))]
#[allow(clippy::unnecessary_wraps, reason = "with DPDK it can fail")]
fn measure(ports: Ports, len: usize, share: Duration) -> anyhow::Result<Vec<Measured>> {
    let Ports::Mem = ports;
    Ok(memory::walk(len, share))
}

#[cfg(feature = "dpdk")]
fn measure(ports: Ports, len: usize, share: Duration) -> anyhow::Result<Vec<Measured>> {
    let mut all = Vec::new();
    if ports != Ports::Dpdk {
        all.extend(memory::walk(len, share));
    }
    if ports != Ports::Mem {
        all.extend(sluice_bench::devices::walk(len, share)?);
    }
    Ok(all)
}
