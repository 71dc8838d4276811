//! `sluice-sim lint`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, ValueEnum};
use sluice_host_agent::lint::{Code, CodeError, Level, Linted, lint};
use sluice_host_agent::manifest::Place;

use super::Outcome;
use crate::input::{Folder, load_folder};
use crate::output::{
    Paint, SarifLevel, SarifLog, SarifResult, SarifRule, artifact, note, print, show_lint, to_json,
};
use crate::record::{FindingRecord, LintRecord};

/// Find what in manifests has no effect: policies for nobody, rules that never decide, labels
/// and ports that nothing has, namespaces without policy.
///
/// Everything is about the pods of these manifests and of the templates of Deployments and
/// their like. Findings are exit 0 unless --deny names their code.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sluice-sim lint --manifests k8s
  sluice-sim lint --manifests k8s --deny SL001,SL004
  sluice-sim lint --manifests k8s --deny all --output sarif > lint.sarif

docs/ci.md lists the codes.")]
pub(super) struct LintArgs {
    /// Folder of manifests, or one file.
    #[arg(long, value_name = "DIR")]
    manifests: PathBuf,
    /// Codes that are exit 1, or `all`; several with commas or several times.
    #[arg(long, value_delimiter = ',', value_name = "CODE")]
    deny: Vec<Deny>,
    /// How the result is printed on stdout.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: LintFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deny {
    All,
    Code(Code),
}

impl FromStr for Deny {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        match text {
            "all" => Ok(Self::All),
            _ => text.parse().map(Self::Code),
        }
    }
}

/// How findings are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
enum LintFormat {
    /// For people.
    #[default]
    Table,
    /// One JSON document, for programs.
    Json,
    /// SARIF 2.1.0, for systems that show findings at their lines.
    Sarif,
}

pub(super) fn run(args: &LintArgs) -> Outcome {
    let folder = load_folder(&args.manifests)?;
    folder
        .notes
        .iter()
        .for_each(|text| note(&format!("note: {text}")));
    let linted = lint(&folder.cluster, &folder.owners);
    let record = record(&folder, linted, &args.deny);
    match args.output {
        LintFormat::Json => print(&to_json(&record)?)?,
        LintFormat::Sarif => {
            let results = results(&record, &args.manifests);
            print(&to_json(&SarifLog::new(&rules(), &results))?)?;
        }
        LintFormat::Table => print(show_lint(&record, Paint::for_stdout()).as_bytes())?,
    }
    if record.unfinished && args.output != LintFormat::Table {
        note("note: there are too many flows to look for shadowed rules (SL002)");
    }
    Ok(record.denied == 0)
}

fn record(folder: &Folder, linted: Linted, deny: &[Deny]) -> LintRecord {
    let codes: BTreeSet<Code> = deny
        .iter()
        .flat_map(|it| match it {
            Deny::All => Code::ALL.to_vec(),
            Deny::Code(code) => vec![*code],
        })
        .collect();
    let Linted {
        findings,
        unfinished,
    } = linted;
    let placed = |it: sluice_host_agent::lint::Finding| {
        let place = place(folder, &it.object);
        FindingRecord {
            code: it.code,
            level: it.code.level(),
            denied: codes.contains(&it.code),
            file: place.map(|it| it.file.clone()),
            line: place.map(|it| it.spot.line),
            column: place.map(|it| it.spot.column),
            object: it.object,
            path: it.path,
            message: it.message,
            help: it.help,
        }
    };
    let findings: Vec<_> = findings.into_iter().map(placed).collect();
    LintRecord {
        denied: findings.iter().filter(|it| it.denied).count(),
        findings,
        unfinished,
    }
}

/// Where an object is; of a namespace without manifest, where the first pod in it is.
fn place<'a>(folder: &'a Folder, object: &String) -> Option<&'a Place> {
    let pod = |namespace: &str| {
        let first = format!("Pod {namespace}/");
        let (name, place) = folder.places.range(first.clone()..).next()?;
        name.starts_with(&first).then_some(place)
    };
    let known = folder.places.get(object);
    known.or_else(|| pod(object.strip_prefix("Namespace ")?))
}

fn rules() -> Vec<SarifRule> {
    let rule = |code: &Code| SarifRule {
        id: code.id(),
        name: code.name(),
        summary: code.summary(),
        level: level(code.level(), false),
    };
    Code::ALL.iter().map(rule).collect()
}

const fn level(level: Level, denied: bool) -> SarifLevel {
    match (denied, level) {
        (true, _) => SarifLevel::Error,
        (false, Level::Warning) => SarifLevel::Warning,
        (false, Level::Note) => SarifLevel::Note,
    }
}

fn results(record: &LintRecord, manifests: &Path) -> Vec<SarifResult> {
    let folder = if manifests.is_dir() {
        manifests
    } else {
        manifests.parent().unwrap_or(manifests)
    };
    let result = |it: &FindingRecord| SarifResult {
        rule: it.code.id(),
        level: level(it.level, it.denied),
        text: format!(
            "{} {}: {}. To do: {}.",
            it.object, it.path, it.message, it.help
        ),
        uri: it.file.as_ref().map(|file| artifact(&folder.join(file))),
        at: it.line.zip(it.column),
        object: format!("{} {}", it.object, it.path),
    };
    record.findings.iter().map(result).collect()
}
