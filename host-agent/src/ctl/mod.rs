//! `sluicectl`: asks the agent, and is the offline CA.
//!
//! Exit codes: 0 as expected; 1 a check failed, and the result is printed all the same; 2 bad
//! input, or nobody to ask.

mod authority;
mod bundle;
mod show;
mod table;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use sluice_offload_api::model::{Protocol, Verdict};

use crate::agent::TraceRequest;
use crate::local::{Request, Response, SOCKET, ask};

/// An answer takes at most so long.
const ANSWER_MAX: Duration = Duration::from_secs(30);

const EXAMPLES: &str = "\
Examples:
  sluicectl status
  sluicectl vf --output json
  sluicectl policy shop/cart
  sluicectl drops --port pf0vf0
  sluicectl flows shop/cart
  sluicectl names shop/cart
  sluicectl sa --peer node-b
  sluicectl sa --matrix
  sluicectl trace shop/cart shop/db --port 5432 --expect allow
  sluicectl trace shop/cart 192.0.2.7 --name db.example.com --port 443
  sluicectl bundle --out incident.json
  sluicectl ca init --domain example.org --dir ca
  sluicectl csr --domain example.org --node node-a --key node-a.key --out node-a.csr
  sluicectl ca sign --dir ca --csr node-a.csr --out node-a.pem
  sluicectl ca trust --dir ca --out trust.pem

Exit codes: 0 as expected, 1 a check failed (the result is printed), 2 bad input or no agent.";

const SA_EXAMPLES: &str = "\
Examples:
  sluicectl sa --peer node-b
  sluicectl sa --matrix
  sluicectl sa --matrix --output json | jq '.pairs[] | select(.clear_packets > 0)'

A pair's WAY is how its packets cross the wire now: esp (dropped while there is no SA), clear, or
dropped, where an end requires ESP and the node has no dataplane. See docs/encryption.md.";

/// Shows what this node's agent and dataplane do, and signs their certificates.
#[derive(Debug, Parser)]
#[command(name = "sluicectl", version, after_help = EXAMPLES)]
struct Cli {
    /// The agent's socket.
    #[arg(long, global = true, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
    /// How the result is printed on stdout.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document, for programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How agent and dataplane are; 1 if something needs a person.
    Status,
    /// The VFs and who has them.
    Vf,
    /// The tables in force, of all pods or one.
    Policy {
        /// namespace/name.
        pod: Option<String>,
    },
    /// Dropped frames by port and reason.
    Drops {
        /// Of this port only.
        #[arg(long)]
        port: Option<String>,
    },
    /// Flows, of all pods or one.
    Flows {
        /// namespace/name.
        pod: Option<String>,
    },
    /// Addresses that pods know by the domain names of policies, of all pods or one.
    Names {
        /// namespace/name.
        pod: Option<String>,
    },
    /// Security associations, and what crosses the wire without one.
    #[command(after_help = SA_EXAMPLES)]
    Sa {
        /// With this node only.
        #[arg(long, value_name = "NODE")]
        peer: Option<String>,
        /// Instead, how packets between this node and others cross the wire, by pair of
        /// identities: in ESP by which SA, or in clear, and how much was.
        #[arg(long, conflicts_with = "peer")]
        matrix: bool,
    },
    Trace(TraceArgs),
    Bundle(bundle::BundleArgs),
    /// The offline CA. Its key belongs on no node.
    Ca {
        #[command(subcommand)]
        command: authority::CaCommand,
    },
    Csr(authority::CsrArgs),
}

/// What would happen to a packet, and why; 1 if it isn't what is expected, or if manifests
/// and tables disagree.
#[derive(Debug, Args)]
struct TraceArgs {
    /// namespace/pod, node:NAME or an address.
    from: String,
    /// The same.
    to: String,
    /// Its protocol.
    #[arg(long, value_enum, default_value = "tcp")]
    protocol: ProtocolArg,
    /// A number, or the name of a port of the destination pod; none for ICMP.
    #[arg(long)]
    port: Option<String>,
    /// Of this family; otherwise of the first that both ends have.
    #[arg(long, value_enum)]
    family: Option<Family>,
    /// The network on which both ends' pods are meant: namespace/name of a
    /// NetworkAttachmentDefinition. Otherwise their primary interfaces are.
    #[arg(long)]
    network: Option<String>,
    /// A name that the source's resolver is taken to have given for the destination.
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// What it should be.
    #[arg(long, value_enum)]
    expect: Option<Expect>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ProtocolArg {
    Tcp,
    Udp,
    Sctp,
    Icmp,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Family {
    Ipv4,
    Ipv6,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Expect {
    Allow,
    Deny,
}

/// A result: what is printed, and whether it is as expected.
struct Outcome {
    text: String,
    json: serde_json::Value,
    fine: bool,
}

impl Outcome {
    fn new(text: String, json: &impl Serialize) -> anyhow::Result<Self> {
        let json = serde_json::to_value(json)?;
        let fine = true;
        Ok(Self { text, json, fine })
    }
}

/// Runs the command of the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let (output, outcome) = (cli.output, run(cli));
    match outcome.and_then(|it| print(output, &it).map(|()| it.fine)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // There is nowhere to say that stderr is gone.
            let _ = writeln!(io::stderr().lock(), "error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<Outcome> {
    let expect = match &cli.command {
        Command::Trace(args) => args.expect,
        _ => None,
    };
    let request = match cli.command {
        Command::Ca { command } => return authority::run(command),
        Command::Csr(args) => return authority::csr(&args),
        Command::Status => Request::Status,
        Command::Vf => Request::Vfs,
        Command::Policy { pod } => Request::Policy { pod },
        Command::Drops { port } => Request::Drops { port },
        Command::Flows { pod } => Request::Flows { pod },
        Command::Names { pod } => Request::Names { pod },
        Command::Sa { matrix: true, .. } => Request::Matrix,
        Command::Sa { peer, .. } => Request::Sas { peer },
        Command::Trace(args) => Request::Trace(trace_request(args)),
        Command::Bundle(args) => {
            return match ask(&cli.socket, Request::Bundle, ANSWER_MAX)? {
                Response::Bundle(bundle) => args.write(&bundle),
                other => Err(unasked(&other)),
            };
        }
    };
    show(&ask(&cli.socket, request, ANSWER_MAX)?, expect)
}

fn show(response: &Response, expect: Option<Expect>) -> anyhow::Result<Outcome> {
    match response {
        Response::Status(it) => {
            let fine = it.agent.problems.is_empty() && it.agent.settled;
            let outcome = Outcome::new(show::status(it), it)?;
            Ok(Outcome { fine, ..outcome })
        }
        Response::Vfs(it) => Outcome::new(show::vfs(it), &serde_json::json!({"vfs": it})),
        Response::Policy(it) => {
            Outcome::new(show::policies(it), &serde_json::json!({"policies": it}))
        }
        Response::Drops(it) => Outcome::new(show::drops(it), &serde_json::json!({"drops": it})),
        Response::Flows(it) => Outcome::new(show::flows(it), it),
        Response::Names(it) => Outcome::new(show::names(it), &serde_json::json!({"names": it})),
        Response::Sas(it) => Outcome::new(show::sas(it), &serde_json::json!({"sas": it})),
        Response::Matrix(it) => Outcome::new(show::matrix(it), it),
        Response::Trace(it) => {
            let expected = expect.is_none_or(|expect| {
                let verdict = match expect {
                    Expect::Allow => Verdict::Allow,
                    Expect::Deny => Verdict::Deny,
                };
                it.verdict == verdict
            });
            let outcome = Outcome::new(show::trace(it), it)?;
            Ok(Outcome {
                fine: expected && it.agrees,
                ..outcome
            })
        }
        other => Err(unasked(other)),
    }
}

fn unasked(answer: &Response) -> anyhow::Error {
    anyhow::anyhow!("the agent answered something else than was asked: {answer:?}")
}

fn trace_request(args: TraceArgs) -> TraceRequest {
    TraceRequest {
        from: args.from,
        to: args.to,
        protocol: match args.protocol {
            ProtocolArg::Tcp => Protocol::Tcp,
            ProtocolArg::Udp => Protocol::Udp,
            ProtocolArg::Sctp => Protocol::Sctp,
            ProtocolArg::Icmp => Protocol::Icmp,
        },
        port: args.port,
        ipv6: args.family.map(|it| it == Family::Ipv6),
        network: args.network,
        names: args.names,
    }
}

/// Writes to stdout. A reader that went away, as `head` does, is no error.
fn print(format: Format, outcome: &Outcome) -> anyhow::Result<()> {
    let text = match format {
        Format::Table => outcome.text.clone(),
        Format::Json => serde_json::to_string_pretty(&outcome.json)? + "\n",
    };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
