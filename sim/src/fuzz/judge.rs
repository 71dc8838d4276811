//! Playing a case, and what counts as a failure.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::case::Case;
use crate::output::{Progress, Timeline};
use crate::play::{Played, play, play_on_record};
use crate::record::RunRecord;
use crate::verify::ProbeOutcome;

/// Flows that a dataplane has room for: a case has some hundred, and memory that nobody
/// touches costs more time than all else.
const FLOWS_MAX: usize = 1 << 12;

/// A case that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What kind of failure it is: the same while it shrinks.
    pub kind: String,
    /// What was wrong first.
    pub what: String,
}

/// Plays a case: its record, if all held.
///
/// # Errors
/// [`Failure`], also where a step can't be done or the code panics.
pub fn play_case(case: &Case) -> Result<RunRecord, Failure> {
    let quiet = &mut Progress::silent();
    let played = catch_unwind(AssertUnwindSafe(|| {
        let mut scenario = case.scenario()?;
        scenario.config.flows_max = case.flows_max.unwrap_or(FLOWS_MAX);
        play(&scenario, quiet)
    }));
    match played {
        Ok(Ok(played)) => judge(played),
        Ok(Err(error)) => Err(Failure {
            kind: format!("error: {}", without_names(&error.to_string())),
            what: error.to_string(),
        }),
        Err(panic) => Err(said(&*panic)),
    }
}

/// A panic as a failure.
pub(super) fn said(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    let what = text.unwrap_or("no message");
    Failure {
        kind: "panic".to_owned(),
        what: format!("panic: {what}"),
    }
}

/// The timeline of a case; none if a step can't be done or the code panics.
#[must_use]
pub fn timeline_of(case: &Case) -> Option<Timeline> {
    let quiet = &mut Progress::silent();
    let played = catch_unwind(AssertUnwindSafe(|| {
        let mut scenario = case.scenario().ok()?;
        scenario.config.flows_max = case.flows_max.unwrap_or(FLOWS_MAX);
        play_on_record(&scenario, quiet).ok()
    }));
    played.ok().flatten().map(|(_, timeline)| timeline)
}

fn judge(played: Played) -> Result<RunRecord, Failure> {
    let record = played.record;
    if record.ok {
        return Ok(record);
    }
    let wrong = record.results.iter().find(|it| !it.outcome.ok);
    let check = record.failed_checks.first();
    match (wrong, check) {
        // Oracles that see frames say more than an answer that is missing.
        (_, Some(check)) => {
            let text = check.what.as_str();
            let oracle = text.split_once(':').map_or(text, |it| it.0);
            Err(Failure {
                kind: oracle.to_owned(),
                what: check.to_string(),
            })
        }
        (Some(wrong), None) => Err(of_probe(wrong.step, &wrong.outcome)),
        (None, None) => Err(Failure {
            kind: "record".to_owned(),
            what: "the record is not ok and names nothing".to_owned(),
        }),
    }
}

fn of_probe(step: usize, outcome: &ProbeOutcome) -> Failure {
    let ProbeOutcome { from, to, .. } = outcome;
    let disagreement = outcome.disagreements.first();
    let text = disagreement.map(ToString::to_string).unwrap_or_default();
    // A verdict, a rule, or cleartext: the first words tell which.
    let kind = match text.find('`') {
        Some(_) => "names a rule".to_owned(),
        None => text.clone(),
    };
    Failure {
        kind: format!("probe: {}", without_names(&kind)),
        what: format!("step {}: {from} to {to}: {text}", step + 1),
    }
}

/// A message without what differs from case to case: places, names and numbers.
fn without_names(text: &str) -> String {
    let words = text.split_whitespace().filter(|word| {
        let odd = |c: char| c.is_ascii_digit() || "/.:@`".contains(c);
        !word.contains(odd) && !word.starts_with("node-")
    });
    words.collect::<Vec<_>>().join(" ")
}
