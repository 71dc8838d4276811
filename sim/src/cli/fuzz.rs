//! `sluice-sim fuzz`.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::{Failure, Outcome};
use crate::artifacts;
use crate::fuzz::{
    Case, Finding, Shrunk, Storm, Tally, case_of, play_case, shrink, storm, timeline_of,
};
use crate::output::{Format, Paint, note, print, show_fuzz, show_storms, to_json};

/// How often it says where it is.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// Failures after which it stops: each takes its time to shrink.
const FAILURES_MAX: usize = 20;

/// Draw clusters, policies, workload and faults from seeds, and check that every invariant
/// holds of each.
///
/// Of a seed that fails it prints a line to see it again, makes the scenario as small as it
/// can, and saves it to --out: a folder that sluice-sim run plays. The same seeds give the
/// same bytes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sluice-sim fuzz --seeds 0..1000
  sluice-sim fuzz --seeds 0.. --minutes 60 --out corpus
  sluice-sim fuzz --seeds 4711 --draw-only --out out/4711 && cat out/4711/seed-4711/scenario.yaml
  sluice-sim fuzz --seeds 0..100 --output json | jq '.failures'
  sluice-sim fuzz --rekeys 1000 --seeds 1

Exit codes: 0 every seed held, 1 one failed, 2 bad input.")]
pub(super) struct FuzzArgs {
    /// Which seeds: A..B without B, A.. for as long as --minutes says, or one.
    #[arg(long, value_name = "A..B", default_value = "0..100")]
    seeds: Seeds,
    /// Stop after so many minutes, with the seed that is under way.
    #[arg(long, value_name = "M")]
    minutes: Option<u64>,
    /// Folder for the scenarios of seeds that failed, a folder each, with a timeline.html.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Save every seed's scenario to --out, whether it holds or not, and play none.
    #[arg(long, requires = "out")]
    draw_only: bool,
    /// Leave a failure as it was drawn.
    #[arg(long)]
    no_shrink: bool,
    /// In place of scenarios, a storm for each seed: renew all keys so many times, under traffic
    /// and faults.
    #[arg(long, value_name = "N", conflicts_with_all = ["out", "draw_only", "no_shrink"])]
    rekeys: Option<u64>,
    /// How the result is printed on stdout.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

/// A range of seeds.
#[derive(Clone, Copy, Debug)]
struct Seeds {
    first: u64,
    /// `None` is without end.
    end: Option<u64>,
}

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no range of seeds; write 0..100, 0.. or 7");
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        let Some((first, end)) = text.split_once("..") else {
            let first = number(text)?;
            let end = first.checked_add(1);
            return Ok(Self { first, end });
        };
        let first = number(first)?;
        let end = (!end.is_empty()).then(|| number(end)).transpose()?;
        if end.is_some_and(|end| end <= first) {
            return Err(format!("{text} has no seeds; the end is not among them"));
        }
        Ok(Self { first, end })
    }
}

/// What the code that panicked last has said, and where.
static PANIC: Mutex<String> = Mutex::new(String::new());

pub(super) fn run(args: &FuzzArgs) -> Outcome {
    if args.seeds.end.is_none() && args.minutes.is_none() {
        let text = "--seeds without an end needs --minutes";
        return Err(Failure::Other(anyhow::anyhow!(text)));
    }
    // A panic is a finding like any other, and shrinking meets it a hundred times.
    std::panic::set_hook(Box::new(|panic| {
        if let Ok(mut last) = PANIC.lock() {
            *last = panic.to_string();
        }
    }));
    let deadline = args
        .minutes
        .map(|minutes| Instant::now() + Duration::from_secs(minutes.saturating_mul(60)));
    if let Some(rekeys) = args.rekeys {
        return rage(args, rekeys, deadline);
    }
    let mut tally = Tally {
        first_seed: args.seeds.first,
        ..Tally::default()
    };
    let mut said = Instant::now();
    for seed in args.seeds.first..args.seeds.end.unwrap_or(u64::MAX) {
        if deadline.is_some_and(|it| Instant::now() >= it) || tally.failures.len() >= FAILURES_MAX {
            break;
        }
        let case = case_of(seed);
        tally.add_case(&case);
        if args.draw_only {
            save(args, &case, "Drawn by sluice-sim fuzz.")?;
            continue;
        }
        match play_case(&case) {
            Ok(record) => tally.add_record(&record),
            Err(failure) => {
                note(&format!("seed {seed} failed: {}", failure.what));
                let shrunk = if args.no_shrink {
                    let plays = 0;
                    Shrunk {
                        case,
                        failure,
                        plays,
                    }
                } else {
                    shrink(&case, &failure)
                };
                tally.failures.push(found(args, seed, &shrunk)?);
            }
        }
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            let (done, failed) = (tally.seeds, tally.failures.len());
            note(&format!("seed {seed}: {done} played, {failed} failed"));
        }
    }
    let _ = std::panic::take_hook();
    match args.output {
        Format::Json => print(&to_json(&tally)?)?,
        Format::Table => print(show_fuzz(&tally, Paint::for_stdout()).as_bytes())?,
    }
    Ok(tally.failures.is_empty())
}

/// Plays storms.
fn rage(args: &FuzzArgs, rekeys: u64, deadline: Option<Instant>) -> Outcome {
    let mut storms: Vec<Storm> = Vec::new();
    let mut failures = Vec::new();
    for seed in args.seeds.first..args.seeds.end.unwrap_or(u64::MAX) {
        if deadline.is_some_and(|it| Instant::now() >= it) || failures.len() >= FAILURES_MAX {
            break;
        }
        match storm(seed, rekeys) {
            Ok(told) => storms.push(told),
            Err(failure) => {
                note(&format!("seed {seed} failed: {}", failure.what));
                let reproduce = format!("sluice-sim fuzz --rekeys {rekeys} --seeds {seed}");
                note(&format!("reproduce: {reproduce}"));
                failures.push(StormFailure {
                    seed,
                    what: failure.what,
                    reproduce,
                });
            }
        }
    }
    let _ = std::panic::take_hook();
    let ok = failures.is_empty();
    match args.output {
        Format::Json => print(&to_json(&Storms { storms, failures })?)?,
        Format::Table => print(show_storms(&storms, ok, Paint::for_stdout()).as_bytes())?,
    }
    Ok(ok)
}

/// What storms came to.
#[derive(Serialize)]
struct Storms {
    storms: Vec<Storm>,
    failures: Vec<StormFailure>,
}

/// A storm that broke something.
#[derive(Serialize)]
struct StormFailure {
    seed: u64,
    what: String,
    reproduce: String,
}

/// A failure as it is told, and saved.
fn found(args: &FuzzArgs, seed: u64, shrunk: &Shrunk) -> Result<Finding, Failure> {
    let Shrunk {
        case,
        failure,
        plays,
    } = shrunk;
    let finding = Finding {
        seed,
        kind: failure.kind.clone(),
        what: failure.what.clone(),
        steps: case.steps.len(),
        objects: case.objects.len(),
        reproduce: format!("sluice-sim fuzz --seeds {seed}"),
    };
    note(&format!("reproduce: {}", finding.reproduce));
    if *plays > 0 {
        let (steps, objects) = (finding.steps, finding.objects);
        note(&format!(
            "after {plays} plays {steps} steps and {objects} objects are left: {}",
            failure.what
        ));
    }
    if failure.kind == "panic"
        && let Ok(last) = PANIC.lock()
    {
        note(&last);
    }
    let about = format!("Found by sluice-sim fuzz --seeds {seed}:\n{}", failure.what);
    save(args, case, &about)?;
    if let (Some(out), Some(timeline)) = (&args.out, timeline_of(case)) {
        let written = artifacts::write_timeline(&out.join(case.name()), &timeline);
        written.map_err(Failure::Other)?;
    }
    Ok(finding)
}

fn save(args: &FuzzArgs, case: &Case, about: &str) -> Result<(), Failure> {
    let Some(out) = &args.out else {
        return Ok(());
    };
    let folder = out.join(case.name());
    let saved = case.save(&folder, about);
    let saved = saved.with_context(|| format!("can't write {}", folder.display()));
    saved.map_err(Failure::Other)?;
    note(&format!(
        "saved: {}",
        folder.join("scenario.yaml").display()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_range_or_one() {
        let of = |text: &str| text.parse::<Seeds>().map(|it| (it.first, it.end));
        assert_eq!(of("3..9"), Ok((3, Some(9))));
        assert_eq!(of("3.."), Ok((3, None)));
        assert_eq!(of("7"), Ok((7, Some(8))));
        for wrong in ["", "..", "..3", "9..3", "3..3", "a..b", "-1"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
