//! JUnit XML, as CI systems read it: one suite a step, one case a probe. No times, so that the
//! same run gives the same bytes.

use std::collections::BTreeMap;

use crate::probe::ProbePort;
use crate::record::{ConnectivityRecord, RunRecord};
use crate::verify::{ProbeOutcome, word};

/// What holds of every run, as a suite of its own.
const INVARIANTS: &str = "invariants";

struct Suite {
    name: String,
    cases: Vec<Case>,
}

struct Case {
    name: String,
    /// What went wrong, each in a sentence; none if it is as it should be.
    failures: Vec<String>,
}

/// A connectivity check.
#[must_use]
pub fn junit_of_connectivity(record: &ConnectivityRecord, failed_checks: &[String]) -> String {
    let probes = Suite {
        name: "connectivity".to_owned(),
        cases: record.results.iter().map(case).collect(),
    };
    render(
        "sluice-sim connectivity",
        &[probes, invariants(failed_checks)],
    )
}

/// A scenario's run.
#[must_use]
pub fn junit_of_run(record: &RunRecord) -> String {
    let step = |(index, step): (usize, &crate::record::StepRecord)| {
        let its = record.results.iter().filter(|it| it.step == index);
        let mut cases: Vec<_> = its.map(|it| case(&it.outcome)).collect();
        let probes_ok = cases.iter().all(|it| it.failures.is_empty());
        if cases.is_empty() || !step.ok && probes_ok {
            let failed = format!("a check of this step failed; see the suite `{INVARIANTS}`");
            cases.push(Case {
                name: step.verb.to_owned(),
                failures: (!step.ok).then_some(failed).into_iter().collect(),
            });
        }
        let name = format!("step {}: {} {}", index + 1, step.verb, step.about);
        Suite {
            name: name.trim_end().to_owned(),
            cases,
        }
    };
    let mut suites: Vec<_> = record.steps.iter().enumerate().map(step).collect();
    let failed: Vec<_> = record
        .failed_checks
        .iter()
        .map(ToString::to_string)
        .collect();
    suites.push(invariants(&failed));
    render(&format!("sluice-sim run {}", record.scenario), &suites)
}

fn case(outcome: &ProbeOutcome) -> Case {
    let protocol = format!("{:?}", outcome.protocol).to_uppercase();
    let port = match &outcome.port {
        None => String::new(),
        Some(ProbePort::Number(number)) => format!(" {number}"),
        Some(ProbePort::Name(name)) => format!(" {name}"),
    };
    let network = outcome
        .network
        .as_ref()
        .map_or_else(String::new, |it| format!(" on {it}"));
    let expected = word(outcome.expect.unwrap_or(outcome.oracle));
    let ProbeOutcome {
        from, to, family, ..
    } = outcome;
    let decider = outcome
        .rule
        .as_ref()
        .map_or_else(String::new, |it| format!(" (decided by {it})"));
    Case {
        name: format!("{from} to {to} {protocol}{port} {family}{network}: {expected}"),
        failures: outcome
            .disagreements
            .iter()
            .map(|it| format!("{it}{decider}"))
            .collect(),
    }
}

fn invariants(failed_checks: &[String]) -> Suite {
    let name = "every check besides the probes; no payload in clear, no frame lost uncounted";
    Suite {
        name: INVARIANTS.to_owned(),
        cases: vec![Case {
            name: name.to_owned(),
            failures: failed_checks.to_vec(),
        }],
    }
}

fn render(name: &str, suites: &[Suite]) -> String {
    let failed = |it: &Suite| it.cases.iter().filter(|it| !it.failures.is_empty()).count();
    let tests: usize = suites.iter().map(|it| it.cases.len()).sum();
    let failures: usize = suites.iter().map(failed).sum();
    let mut out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
    let counts =
        |tests, failures| format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"0\"");
    out += &format!(
        "<testsuites name=\"{}\" {}>\n",
        escape(name),
        counts(tests, failures)
    );
    for suite in suites {
        let counts = counts(suite.cases.len(), failed(suite));
        let suite_name = escape(&suite.name);
        out += &format!("  <testsuite name=\"{suite_name}\" {counts} skipped=\"0\">\n");
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for case in &suite.cases {
            // Systems take cases of one name for one case.
            let count = seen.entry(&case.name).or_default();
            *count += 1;
            let again = if *count > 1 {
                format!(" #{count}")
            } else {
                String::new()
            };
            let name = escape(&format!("{}{again}", case.name));
            out += &format!("    <testcase classname=\"{suite_name}\" name=\"{name}\"");
            let Some(first) = case.failures.first() else {
                out += "/>\n";
                continue;
            };
            let all = escape(&case.failures.join("\n"));
            out += &format!(
                ">\n      <failure message=\"{}\">{all}</failure>\n",
                escape(first)
            );
            out += "    </testcase>\n";
        }
        out += "  </testsuite>\n";
    }
    out + "</testsuites>\n"
}

/// A text for an attribute or an element. What XML 1.0 has no place for (its section 2.2)
/// becomes a replacement character.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_well_formed() {
        assert_eq!(
            escape("a<b>&\"c\"\u{1}\nü"),
            "a&lt;b&gt;&amp;&quot;c&quot;\u{fffd}&#10;ü"
        );
        let suite = Suite {
            name: "<s>".to_owned(),
            cases: ["a", "a"]
                .map(|name| Case {
                    name: name.to_owned(),
                    failures: vec!["\u{0}]]>".to_owned()],
                })
                .into(),
        };
        let text = render("n", &[suite]);
        assert!(text.contains("name=\"a #2\""), "{text}");
        assert!(!text.contains('\u{0}') && text.contains("]]&gt;"), "{text}");
    }
}
