//! What of a connectivity check or a run didn't come out as it should, as SARIF.

use super::sarif::{SarifLevel, SarifResult, SarifRule};
use crate::input::{Action, PlacedProbe, Scenario};
use crate::record::{ConnectivityRecord, FailedCheck, RunRecord};
use crate::verify::Disagreement;

const EXPECTATION: &str = "SC001";
const EVALUATOR: &str = "SC002";
const CLEARTEXT: &str = "SC003";
const INVARIANT: &str = "SC004";
const CHECK: &str = "SC005";

/// The kinds of mismatches.
pub const MISMATCHES: [SarifRule; 5] = [
    SarifRule {
        id: EXPECTATION,
        name: "expectation",
        summary: "A probe came out otherwise than its author expects.",
        level: SarifLevel::Error,
    },
    SarifRule {
        id: EVALUATOR,
        name: "evaluator",
        summary: "The dataplane and a naive reading of the policies disagree.",
        level: SarifLevel::Error,
    },
    SarifRule {
        id: CLEARTEXT,
        name: "cleartext",
        summary: "What must be encrypted between nodes was not.",
        level: SarifLevel::Error,
    },
    SarifRule {
        id: INVARIANT,
        name: "invariant",
        summary: "Something that must hold of every run does not.",
        level: SarifLevel::Error,
    },
    SarifRule {
        id: CHECK,
        name: "check",
        summary: "What a step of the scenario asks for does not hold.",
        level: SarifLevel::Error,
    },
];

const fn rule_of(disagreement: &Disagreement) -> &'static str {
    match disagreement {
        Disagreement::Expected { .. } => EXPECTATION,
        Disagreement::Oracle { .. }
        | Disagreement::Decider { .. }
        | Disagreement::Shadow { .. }
        | Disagreement::Sealed => EVALUATOR,
        Disagreement::Cleartext { .. } => CLEARTEXT,
    }
}

/// Mismatches at the lines of their probes, then what failed besides. `file` is that of the
/// probes, as a URI.
#[must_use]
pub fn sarif_of_connectivity(
    file: &str,
    probes: &[PlacedProbe],
    record: &ConnectivityRecord,
    failed_checks: &[String],
) -> Vec<SarifResult> {
    let mut results = Vec::new();
    for (asked, outcome) in probes.iter().zip(&record.results) {
        let object = format!("{} to {}", outcome.from, outcome.to);
        let of = |it: &Disagreement| SarifResult {
            rule: rule_of(it),
            level: SarifLevel::Error,
            text: format!("{object}: {it}"),
            uri: Some(file.to_owned()),
            at: Some((asked.place.line(), 1)),
            object: object.clone(),
        };
        results.extend(outcome.disagreements.iter().map(of));
    }
    let failed = failed_checks.iter().map(|text| SarifResult {
        rule: INVARIANT,
        level: SarifLevel::Error,
        text: text.clone(),
        uri: Some(file.to_owned()),
        at: None,
        object: WHOLE.to_owned(),
    });
    results.extend(failed);
    results
}

/// What is of no probe or step.
const WHOLE: &str = "the run";

/// Mismatches and failed checks at the lines of their steps, step by step; what is of no step at
/// last. `file` is that of the scenario, as a URI.
#[must_use]
pub fn sarif_of_run(file: &str, scenario: &Scenario, record: &RunRecord) -> Vec<SarifResult> {
    let mut results = Vec::new();
    for (index, step) in scenario.steps.iter().enumerate() {
        let verb = record.steps.get(index).map_or("step", |it| it.verb);
        let object = format!("step {}: {verb}", index + 1);
        let result = |rule, text| SarifResult {
            rule,
            level: SarifLevel::Error,
            text,
            uri: Some(file.to_owned()),
            at: Some((step.place.line(), 1)),
            object: object.clone(),
        };
        let its = record.results.iter().filter(|it| it.step == index);
        for (number, asked) in its.enumerate() {
            let outcome = &asked.outcome;
            let probe = format!("{} to {}", outcome.from, outcome.to);
            let within = place_in_file(&step.action, number);
            let of = |it| result(rule_of(it), format!("{probe}: {it}{within}"));
            results.extend(outcome.disagreements.iter().map(of));
        }
        let its = record.failed_checks.iter();
        let its = its.filter(|it| it.step == Some(index));
        results.extend(its.map(|it| result(rule_of_check(it), it.what.clone())));
    }
    let late = record.failed_checks.iter().filter(|it| it.step.is_none());
    results.extend(late.map(|it| SarifResult {
        rule: rule_of_check(it),
        level: SarifLevel::Error,
        text: it.what.clone(),
        uri: Some(file.to_owned()),
        at: None,
        object: WHOLE.to_owned(),
    }));
    results
}

const fn rule_of_check(check: &FailedCheck) -> &'static str {
    if check.asked { CHECK } else { INVARIANT }
}

/// Where in a file of its own a step's probe is; nothing if it stands in the scenario.
fn place_in_file(action: &Action, number: usize) -> String {
    match action {
        Action::Probes { path, probes } => probes
            .get(number)
            .map_or_else(String::new, |it| format!(" ({path}:{})", it.place.line())),
        _ => String::new(),
    }
}
