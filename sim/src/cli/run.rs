//! `sluice-sim run`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Common, Failure, Outcome};
use crate::artifacts;
use crate::input::{Action, Scenario, load_scenario};
use crate::links::Links;
use crate::output::{
    MISMATCHES, Paint, Progress, SarifLog, artifact, junit_of_run, note, print, sarif_of_run,
    show_run, to_json,
};
use crate::play::play_and_capture;

/// Where the files go if nobody says.
const OUT: &str = "sluice-out";

/// Play a scenario: boot its cluster, do its steps, and prove what went over the wire.
///
/// Writes timeline.html, wire.pcap, esp_sa and report.json to --out, by default to sluice-out/
/// in the current folder, with --pcap-per-link also links/. The same scenario and seed give the
/// same bytes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sluice-sim run sim/scenarios/quickstart.yaml
  sluice-sim run sim/scenarios/quickstart.yaml --seed 7 --out out/seven
  sluice-sim run sim/scenarios/quickstart.yaml --workers 3
  sluice-sim run sim/scenarios/quickstart.yaml --out out/links --pcap-per-link
  sluice-sim run sim/scenarios/quickstart.yaml --output json | jq '.wire'
  sluice-sim run sim/scenarios/quickstart.yaml --output sarif > scenario.sarif

docs/scenarios.md describes the file.")]
pub(super) struct RunArgs {
    /// The scenario, a YAML file.
    scenario: PathBuf,
    #[command(flatten)]
    common: Common,
    /// How the result is printed on stdout.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: RunFormat,
    /// Write a capture of each link too: links/NODE/vfN-NAMESPACE_POD.pcap as the pod sees it,
    /// host.pcap, uplink-tx.pcap and uplink-rx.pcap, and links/outside.
    #[arg(long)]
    pcap_per_link: bool,
}

/// How a run is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
enum RunFormat {
    /// For people.
    #[default]
    Table,
    /// One JSON document, for programs.
    Json,
    /// JUnit XML, for CI systems: a suite a step, a case a probe.
    Junit,
    /// SARIF 2.1.0: what failed, at the lines of the scenario's steps.
    Sarif,
}

pub(super) fn run(args: &RunArgs) -> Outcome {
    let mut scenario = load_scenario(&args.scenario)?;
    if let Some(seed) = args.common.seed {
        scenario.config.seed = seed;
    }
    if let Some(workers) = args.common.workers {
        scenario.config.workers = workers;
        scenario.config.workers_at.clear();
    }
    notes(&scenario).for_each(|text| note(&format!("note: {text}")));
    let mut links = args.pcap_per_link.then(Links::default);
    let progress = &mut Progress::default();
    let (played, timeline) = play_and_capture(&scenario, links.as_mut(), progress)?;
    let report = to_json(&played.record)?;
    let out = args.common.out.clone().unwrap_or_else(|| OUT.into());
    artifacts::write(&out, &played.world, &report).map_err(Failure::Other)?;
    artifacts::write_timeline(&out, &timeline).map_err(Failure::Other)?;
    if let Some(links) = &links {
        artifacts::write_links(&out, links).map_err(Failure::Other)?;
    }
    let written = files_written(links.is_some());
    let width = written.map(|(name, _)| out.join(name).display().to_string().len());
    let width = width.max().unwrap_or(0);
    let file = |(name, what)| format!("{:width$}  {what}", out.join(name).display().to_string());
    match args.output {
        RunFormat::Json => print(&report)?,
        RunFormat::Junit => print(junit_of_run(&played.record).as_bytes())?,
        RunFormat::Sarif => {
            let results = sarif_of_run(&artifact(&args.scenario), &scenario, &played.record);
            print(&to_json(&SarifLog::new(&MISMATCHES, &results))?)?;
        }
        RunFormat::Table => {
            let paint = Paint::for_stdout();
            let text = show_run(
                &played.record,
                &scenario.description,
                &files_written(links.is_some()).map(file).collect::<Vec<_>>(),
                paint,
            );
            print(text.as_bytes())?;
        }
    }
    Ok(played.record.ok)
}

/// The files of a run and what they are for.
fn files_written(links: bool) -> impl Iterator<Item = (&'static str, &'static str)> {
    let always = [
        (artifacts::TIMELINE, "the run over time, for a browser"),
        (artifacts::WIRE, "every frame between the nodes"),
        (
            artifacts::KEYS,
            "its keys: with them Wireshark shows the inside, see sim/README.md",
        ),
        (artifacts::REPORT, "all of this as JSON"),
    ];
    let links = links.then_some((
        artifacts::LINKS,
        "captures of each link, plain at the pods' ends",
    ));
    always.into_iter().chain(links)
}

fn notes(scenario: &Scenario) -> impl Iterator<Item = &String> {
    let applied = scenario.steps.iter().filter_map(|step| match &step.action {
        Action::Apply { manifests, .. } => Some(&manifests.notes),
        _ => None,
    });
    core::iter::once(&scenario.manifests.notes)
        .chain(applied)
        .flatten()
}
