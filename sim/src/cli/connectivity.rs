//! `sluice-sim connectivity`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Common, Failure, Outcome};
use crate::artifacts;
use crate::input::{InputError, load_manifests, load_probes};
use crate::oracle::Oracles;
use crate::output::{
    MISMATCHES, Paint, Progress, SarifLog, artifact, junit_of_connectivity, note, print,
    sarif_of_connectivity, show_connectivity, to_json,
};
use crate::record::{ConnectivityRecord, WireRecord};
use crate::verify;
use crate::world::{World, WorldConfig};

/// Check who can reach whom under your manifests, with real frames.
///
/// Reads plain Kubernetes manifests (Namespace, Node, Pod, Service, NetworkPolicy,
/// ClusterNetworkPolicy; YAML or JSON), boots a simulated cluster and sends every probe. An answer counts as right if it is what
/// the probe expects, if it expects anything, and what a second, naive reading of the
/// policies says.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sluice-sim connectivity --manifests sim/manifests/webshop --probes sim/manifests/webshop-probes.yaml
  sluice-sim connectivity --manifests k8s/ --probes probes.yaml --output json > result.json

A probes file:
  probes:
    - from: shop/cart      # namespace/pod, node:NAME, or an address outside the cluster
      to: shop/db          # the same
      protocol: TCP        # TCP, UDP, SCTP, ICMP
      port: 5432           # a number or a port name of the destination pod; none for ICMP
      family: ipv4         # default: the source pod's first address
      expect: allow        # allow or deny, optional")]
pub(super) struct ConnectivityArgs {
    /// Folder of manifests, or one file.
    #[arg(long, value_name = "DIR")]
    manifests: PathBuf,
    /// Probes file.
    #[arg(long, value_name = "FILE")]
    probes: PathBuf,
    #[command(flatten)]
    common: Common,
    /// How the result is printed on stdout.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: ConnectivityFormat,
}

/// How a connectivity check is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
enum ConnectivityFormat {
    /// For people.
    #[default]
    Table,
    /// One JSON document, for programs.
    Json,
    /// JUnit XML, for CI systems: a case a probe.
    Junit,
    /// SARIF 2.1.0: mismatches at their lines of the probes file.
    Sarif,
}

pub(super) fn run(args: &ConnectivityArgs) -> Outcome {
    let manifests = load_manifests(&args.manifests)?;
    let probes = load_probes(&args.probes)?;
    manifests
        .notes
        .iter()
        .for_each(|text| note(&format!("note: {text}")));
    let default = WorldConfig::default();
    let config = WorldConfig {
        seed: args.common.seed.unwrap_or(default.seed),
        workers: args.common.workers.unwrap_or(default.workers),
        ..default
    };
    let mut world = World::boot(manifests.cluster, config).map_err(InputError::from)?;

    probes
        .iter()
        .try_for_each(|asked| verify::check(&world, asked))?;
    let mut progress = Progress::default();
    progress.begin(probes.len());
    let (mut results, mut failed_checks) = (Vec::new(), Vec::new());
    let mut oracles = Oracles::default();
    for asked in &probes {
        results.push(verify::ask(&mut world, asked)?);
        let breaches = oracles.watch(&mut world);
        failed_checks.extend(breaches.iter().map(ToString::to_string));
        progress.advance();
    }
    progress.end();

    let mismatches = results.iter().filter(|outcome| !outcome.ok).count();
    let record = ConnectivityRecord {
        results,
        mismatches,
    };
    let json = to_json(&record)?;
    if let Some(out) = &args.common.out {
        artifacts::write(out, &world, &json).map_err(Failure::Other)?;
    }
    match args.output {
        ConnectivityFormat::Json => {
            print(&json)?;
            complain(&record, &failed_checks);
        }
        ConnectivityFormat::Junit => {
            print(junit_of_connectivity(&record, &failed_checks).as_bytes())?;
            complain(&record, &failed_checks);
        }
        ConnectivityFormat::Sarif => {
            let file = artifact(&args.probes);
            let results = sarif_of_connectivity(&file, &probes, &record, &failed_checks);
            print(&to_json(&SarifLog::new(&MISMATCHES, &results))?)?;
            complain(&record, &failed_checks);
        }
        ConnectivityFormat::Table => {
            let wire = WireRecord::of(&world);
            let text = show_connectivity(&record, &wire, &failed_checks, Paint::for_stdout());
            print(text.as_bytes())?;
        }
    }
    Ok(mismatches == 0 && failed_checks.is_empty())
}

/// What the JSON has no field for.
fn complain(record: &ConnectivityRecord, failed_checks: &[String]) {
    for outcome in &record.results {
        for disagreement in &outcome.disagreements {
            note(&format!(
                "mismatch: {} to {}: {disagreement}",
                outcome.from, outcome.to
            ));
        }
    }
    failed_checks
        .iter()
        .for_each(|text| note(&format!("failed: {text}")));
}
