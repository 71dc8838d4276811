//! `sluice-sim diff`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use sluice_host_agent::difference::{Cause, Comparison, Fate, Now, Side};

use super::Outcome;
use crate::input::{Folder, load_flows, load_folder};
use crate::output::{Format, Paint, note, print, show_diff, to_json};
use crate::record::{DiffRecord, FlowRecord};

/// Show which flows a change of manifests newly allows and denies.
///
/// Compares two folders of Kubernetes manifests by workload, protocol and port, both
/// directions' policies and both address families combined. Pods are those of the folders and
/// of the templates of Deployments and their like. No frame is sent: the naive evaluator, which
/// every other command is checked against, is asked.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sluice-sim diff --before main/k8s --after k8s
  sluice-sim diff --before main/k8s --after k8s --fail-on allowed --output json
  sluice-sim diff --before main/k8s --after k8s --flows flows.jsonl

A file of recorded flows, as YAML or as JSON with one flow a line:
  flows:
    - {from: shop/web, to: shop/db, protocol: TCP, port: 5432}

Exit codes: 0 compared, 1 a recorded flow would break or --fail-on applies, 2 bad input.
docs/ci.md says what exactly is compared.")]
pub(super) struct DiffArgs {
    /// Folder of manifests, or one file, as it was.
    #[arg(long, value_name = "DIR")]
    before: PathBuf,
    /// The same as it is to be.
    #[arg(long, value_name = "DIR")]
    after: PathBuf,
    /// Recorded flows: exit 1 if one of them would break.
    #[arg(long, value_name = "FILE")]
    flows: Option<PathBuf>,
    /// Exit 1 if something is newly allowed, denied, or either.
    #[arg(long, value_enum, value_name = "WHAT")]
    fail_on: Option<FailOn>,
    /// Leave out flows of pods, nodes and addresses that only one folder has.
    #[arg(long)]
    existing: bool,
    /// How the result is printed on stdout.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

/// What fails a comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum FailOn {
    /// A flow that is newly allowed.
    Allowed,
    /// One that is newly denied.
    Denied,
    /// Either.
    Any,
}

pub(super) fn run(args: &DiffArgs) -> Outcome {
    let [before, after] = [&args.before, &args.after].map(|it| load(it));
    let (before, after) = (before?, after?);
    let placed = args.flows.as_deref().map(load_flows).transpose()?;
    let comparison = Comparison::new(side(&before), side(&after));
    let mut flows = Vec::new();
    for asked in placed.iter().flatten() {
        let told = comparison.fate(&asked.flow);
        if told.fate == Fate::Unknown {
            let (from, to) = (&asked.from, &asked.to);
            let text = format!(
                "no folder has both {from} and {to} with addresses of one family, and a port of \
                 that name at {to} if it is one; name pods, workloads or nodes of a folder"
            );
            return Err(asked.place.fault(text).into());
        }
        flows.push(FlowRecord::new(asked, told));
    }
    let mut difference = comparison.difference();
    if args.existing {
        difference.changes.retain(|it| it.cause == Cause::Changed);
    }
    let record = DiffRecord::new(difference, placed.map(|_| flows));
    match args.output {
        Format::Json => print(&to_json(&record)?)?,
        Format::Table => print(show_diff(&record, Paint::for_stdout()).as_bytes())?,
    }
    let fails = |now: Now| match args.fail_on {
        None => false,
        Some(FailOn::Any) => true,
        Some(FailOn::Allowed) => now == Now::Allowed,
        Some(FailOn::Denied) => now == Now::Denied,
    };
    let failed = record.changes.iter().any(|it| fails(it.now));
    Ok(!failed && record.broken == 0)
}

const fn side(folder: &Folder) -> Side<'_> {
    Side {
        cluster: &folder.cluster,
        owners: &folder.owners,
    }
}

fn load(path: &Path) -> Result<Folder, super::Failure> {
    let folder = load_folder(path)?;
    let name = path.display();
    folder
        .notes
        .iter()
        .for_each(|text| note(&format!("note: {name}: {text}")));
    Ok(folder)
}
