//! `sluice-bench`: what the packet walk costs, beside doing nothing and the bare cipher.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use sluice_bench::esp;
use sluice_bench::policy::{self, nft};
use sluice_bench::report::{self, Measured};
use sluice_bench::timing::FRAME_LENS;
use sluice_bench::{machine, memory, pages};

/// What the packet walk costs, beside doing nothing and the bare cipher.
#[derive(Parser, Debug)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The JSON of `policy`, for its help.
const POLICY_JSON: &str = "\
JSON: a list of objects, with null where a key has no meaning:
  case        lookup/same-256, lookup/random, lookup/hostile; nft/same-256, nft/random;
              flow/memory, flow/new-connections; flood/established, flood/new;
              churn/flow-hits; compile/whole, compile/validate, compile/event-p50,
              compile/event-p99, compile/event-slowest, compile/memory
  peer        sluice (addresses to a verdict), sluice-table (the policy's table alone),
              linear, acl (librte_acl, with DPDK only), nft-map, nft-rules
  rules       rules of the policy; for compile, NetworkPolicies of the cluster
  identities  identities in the cluster, each of one address
  value       what was found; null if it couldn't be measured
  unit        of value and baseline
  baseline    the same with 10 rules and 1 identity; for churn, without
  ratio       value over baseline, the median of the rounds
  target      what ratio may be at most; without a baseline, value
  note        why there is no value, or what to know of it
  machine     CPU and kernel
compile is for one node of a cluster with 1,000 nodes, 100,000 pods and 10,000 policies.
nft's value is what a packet takes longer with the rules; it needs root and nft.
Examples:
  sluice-bench policy
  sluice-bench policy --only compile
  sluice-bench policy --check
  sluice-bench policy --output json > policy.json";

/// The JSON of `esp`, for its help.
const ESP_JSON: &str = "\
JSON: a list of objects, with null where a key has no meaning:
  case           seal, open; bare/seal, bare/open: the cipher alone; seal/many-sas,
                 open/many-sas; rekey
  who            sluice, openssl speed; for the cipher alone aws-lc-rs, RustCrypto, and with
                 DPDK ipsec-mb, and ipsec-mb/ring: both by size, as SAs have them then
  algorithm      aes128gcm16, aes256gcm16, chacha20poly1305
  inner_bytes    of the inner packet, or imix: 64, 594 and 1518, 7 to 4 to 1, or none
  sas            SAs whose packets come in turn
  ns_per_packet  found; null if it couldn't be measured
  gbps           of inner packets, a core
  peer, peer_ns  what it is compared with in the same rounds, and its ns: for seal and open
                 the fastest of bare ring, bare aws-lc-rs, bare RustCrypto and with DPDK
                 bare ipsec-mb, by a short look at each before; for the others bare ring
  ratio          beside a bare AEAD the part of its speed; with many SAs time over one's,
                 with rekeys over that without
  target         what ratio is to be: with many SAs at most, else at least
  rekeys_per_second  of both nodes, a core, under the load of these packets; without any, with
                 the TLS handshake and all else (rekey/whole)
  note           why there is no number, or what to know of it
  machine        CPU and kernel
Examples:
  sluice-bench esp
  sluice-bench esp --only rekeys
  sluice-bench esp --check
  sluice-bench esp --output json > esp.json";

/// The JSON of `gateway`, for its help.
#[cfg(feature = "dpdk")]
const GATEWAY_JSON: &str = "\
JSON: a list of objects:
  direction     seal, open
  algorithm     aes128gcm16, aes256gcm16
  inner_bytes   of the inner packet, or imix: 64, 594 and 1518, 7 to 4 to 1
  flows         whose packets come in turn
  sluice_ns     nanoseconds a packet that the walk takes in its quietest second, flow and policy
                included
  secgw_ns      the same of ipsec-secgw with crypto_aesni_gcm
  ratio         secgw_ns over sluice_ns: more than 1 is ahead
  target        what ratio is to be at least
  median_ratio  the same of the medians of all seconds
  sluice_window packets of our replay window; null where packets are sealed
  secgw_window  of ipsec-secgw's: 0, as it checks no replays here, which is to its advantage
Both take the frames from net_pcap and seal or open them on one core, in turn. What they open are
the same 192 packets again and again, which node B has sealed. Ours has them as new ones: off the
clock, a new SA with an empty window takes the old one's place after each round.
It takes about 15 minutes, or half as long with one direction; by turns: --turns 1 takes 3.
Examples:
  sluice-bench gateway --ipsec-secgw $(bench/ipsec-secgw.sh target/secgw)
  sluice-bench gateway --direction open --turns 2 --ipsec-secgw PATH
  sluice-bench gateway --check --algorithm aes256gcm16 --ipsec-secgw PATH";

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
    #[command(after_help = POLICY_JSON)]
    Policy {
        /// Few sizes, each for a moment: to see that it works
        #[arg(long)]
        quick: bool,
        /// Nothing but one group of cases
        #[arg(long, value_enum)]
        only: Option<policy::Group>,
        /// Exit with 1 if a target is missed; what was measured is printed all the same
        #[arg(long)]
        check: bool,
        /// Milliseconds of one of the six rounds of a measurement
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_000))]
        round_ms: u64,
        /// A table for people, or one JSON document
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// ESP beside the fastest bare cipher, `openssl speed`, ten thousand SAs beside one, rekeys
    #[command(after_help = ESP_JSON)]
    Esp {
        /// One size, few SAs: to see that it works
        #[arg(long)]
        quick: bool,
        /// Nothing but one group of cases
        #[arg(long, value_enum)]
        only: Option<esp::Group>,
        /// Exit with 1 if a target is missed; what was measured is printed all the same
        #[arg(long)]
        check: bool,
        /// Milliseconds of one of the six rounds of a measurement
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000))]
        round_ms: u64,
        /// A table for people, or one JSON document
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Sealing and opening on DPDK's virtual devices beside DPDK's own gateway, ipsec-secgw
    #[cfg(feature = "dpdk")]
    #[command(after_help = GATEWAY_JSON)]
    Gateway {
        /// The program, as bench/ipsec-secgw.sh builds it
        #[arg(long, value_name = "PATH")]
        ipsec_secgw: std::path::PathBuf,
        /// What both do
        #[arg(long, value_enum, default_value_t = sluice_bench::gateway::Direction::Both)]
        direction: sluice_bench::gateway::Direction,
        /// By what both seal and open
        #[arg(long, value_enum, default_value_t = sluice_bench::gateway::Cipher::Aes128)]
        algorithm: sluice_bench::gateway::Cipher,
        /// Turns of each, in each of which two seconds are measured
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        turns: u32,
        /// One size, one turn, a moment of ours: to see that it works
        #[arg(long)]
        quick: bool,
        /// Exit with 1 if a target is missed; what was measured is printed all the same
        #[arg(long)]
        check: bool,
        /// A table for people, or one JSON document
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// What `policy` starts in a network namespace of its own
    #[command(hide = true)]
    NftChild {
        #[arg(long)]
        rules: u32,
        #[arg(long)]
        identities: u32,
        #[arg(long)]
        share_ms: u64,
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
            only,
            check,
            round_ms,
            output,
        } => {
            let all = verdicts(quick, only, Duration::from_millis(round_ms), output)?;
            if check {
                policy::report::check(&all)?;
            }
            Ok(())
        }
        Command::Esp {
            quick,
            only,
            check,
            round_ms,
            output,
        } => {
            pages::large().context("starting anew with large pages")?;
            let all = protection(quick, only, Duration::from_millis(round_ms), output)?;
            if check {
                esp::report::check(&all)?;
            }
            Ok(())
        }
        #[cfg(feature = "dpdk")]
        Command::Gateway {
            ipsec_secgw,
            direction,
            algorithm,
            turns,
            quick,
            check,
            output,
        } => {
            let wanted = sluice_bench::gateway::Wanted {
                secgw: &ipsec_secgw,
                direction,
                cipher: algorithm,
                turns,
                quick,
            };
            let all = gateway(&wanted, output)?;
            if check {
                sluice_bench::gateway::report::check(&all)?;
            }
            Ok(())
        }
        Command::NftChild {
            rules,
            identities,
            share_ms,
        } => {
            let answers = nft::child(nft::Question {
                rules,
                identities,
                share_ms,
            })?;
            let answers = serde_json::to_string(&answers)?;
            writeln!(io::stdout(), "{answers}").context("writing the result")
        }
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

fn verdicts(
    quick: bool,
    only: Option<policy::Group>,
    share: Duration,
    output: Output,
) -> anyhow::Result<Vec<policy::report::Case>> {
    let mut stderr = io::stderr().lock();
    writeln!(stderr, "{}; one core", machine::describe())?;
    let all = policy::run(quick, only, share, |said| drop(writeln!(stderr, "{said}")))?;
    let mut out = io::stdout().lock();
    match output {
        Output::Text => policy::report::write_table(&mut out, &all),
        Output::Json => policy::report::write_json(&mut out, &all),
    }
    .context("writing the result")?;
    Ok(all)
}

fn protection(
    quick: bool,
    only: Option<esp::Group>,
    share: Duration,
    output: Output,
) -> anyhow::Result<Vec<esp::report::Case>> {
    let mut stderr = io::stderr().lock();
    writeln!(stderr, "{}; one core", machine::describe())?;
    let all = esp::run(quick, only, share, |said| drop(writeln!(stderr, "{said}")))?;
    let mut out = io::stdout().lock();
    match output {
        Output::Text => esp::report::write_table(&mut out, &all),
        Output::Json => esp::report::write_json(&mut out, &all),
    }
    .context("writing the result")?;
    Ok(all)
}

#[cfg(feature = "dpdk")]
fn gateway(
    wanted: &sluice_bench::gateway::Wanted<'_>,
    output: Output,
) -> anyhow::Result<Vec<sluice_bench::gateway::report::Gateway>> {
    use sluice_bench::gateway;
    let mut stderr = io::stderr().lock();
    writeln!(stderr, "{}; one core", machine::describe())?;
    let all = gateway::run(wanted, |said| drop(writeln!(stderr, "{said}")))?;
    let mut out = io::stdout().lock();
    match output {
        Output::Text => gateway::report::write_table(&mut out, &all),
        Output::Json => gateway::report::write_json(&mut out, &all),
    }
    .context("writing the result")?;
    Ok(all)
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
