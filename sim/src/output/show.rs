//! A run, for people.

use core::fmt;

use sluice_offload_api::model::{Direction, Verdict};

use super::WIDTH;
use super::matrix::{self, LEGEND};
use super::paint::{Ink, Paint};
use super::table::{Cell, Table, wrap};
use crate::probe::{Family, ProbePort};
use crate::record::{ClusterRecord, ConnectivityRecord, RunRecord, WireRecord};
use crate::verify::{ProbeOutcome, word};

/// All of a scenario's run. `files` are those that were written, for people to find.
#[must_use]
pub fn show_run(record: &RunRecord, description: &str, files: &[String], paint: Paint) -> String {
    let mut out = String::new();
    let config = &record.config;
    let esn = if config.esn { "64-bit" } else { "32-bit" };
    let udp = if config.udp_encap {
        ", in UDP 4500"
    } else {
        ""
    };
    let workers = match (config.workers, config.workers_at.len()) {
        (1, 0) => String::new(),
        (workers, 0) => format!(", {workers} workers"),
        (workers, _) => {
            let at = config.workers_at.iter();
            let at = at.map(|(node, workers)| format!("{node} {workers}"));
            let at: Vec<_> = at.collect();
            format!(", workers {workers}, at {}", at.join(", "))
        }
    };
    let facts = format!(
        "seed {}, {}, {esn} sequence numbers, {} underlay{udp}{workers}",
        config.seed, config.algorithm, config.underlay
    );
    line(
        &mut out,
        &format!("{}  {facts}", paint.ink(Ink::Strong, &record.scenario)),
    );
    for part in wrap(
        &description.split_whitespace().collect::<Vec<_>>().join(" "),
        WIDTH,
    ) {
        line(&mut out, &part);
    }
    out.push_str(&cluster(&record.cluster, paint));
    let mut explained = false;
    for (index, step) in record.steps.iter().enumerate() {
        let outcomes: Vec<_> = record
            .results
            .iter()
            .filter(|it| it.step == index)
            .map(|it| &it.outcome)
            .collect();
        let title = format!("step {}: {} {}", index + 1, step.verb, step.about);
        heading(&mut out, title.trim_end(), paint);
        match (step.verb, matrix::render(&outcomes, paint)) {
            ("matrix", Some(grid)) => {
                out.push_str(&grid);
                out.push_str(&faint(LEGEND, paint));
                let wrong: Vec<_> = outcomes.iter().copied().filter(|it| !it.ok).collect();
                out.push_str(&probes(&wrong, paint));
                out.push_str(&tally(&outcomes, paint));
            }
            _ if !step.work.is_empty() => {
                for job in &step.work {
                    let ink = if job.ok { Ink::Good } else { Ink::Bad };
                    let word = paint.ink(ink, if job.ok { "ok" } else { "failed" });
                    line(&mut out, &format!("  {word}  {job}"));
                }
            }
            _ if outcomes.is_empty() => line(&mut out, &verdict_of(step.ok, paint)),
            _ => {
                if !core::mem::replace(&mut explained, true) {
                    out.push_str(&faint(COLUMNS, paint));
                }
                out.push_str(&probes(&outcomes, paint));
                out.push_str(&tally(&outcomes, paint));
            }
        }
    }
    heading(&mut out, "proof on the wire", paint);
    out.push_str(&wire(&record.wire, paint));
    heading(&mut out, "drops", paint);
    out.push_str(&drops(record, paint));
    if !files.is_empty() {
        heading(&mut out, "files", paint);
        for file in files {
            line(&mut out, &format!("  {file}"));
        }
    }
    out.push_str(&end(record.mismatches, &record.failed_checks, paint));
    out
}

/// A connectivity check.
#[must_use]
pub fn show_connectivity(
    record: &ConnectivityRecord,
    wire_record: &WireRecord,
    failed_checks: &[String],
    paint: Paint,
) -> String {
    let outcomes: Vec<_> = record.results.iter().collect();
    let mut out = faint(COLUMNS, paint);
    out.push_str(&probes(&outcomes, paint));
    out.push_str(&tally(&outcomes, paint));
    heading(&mut out, "proof on the wire", paint);
    out.push_str(&wire(wire_record, paint));
    out.push_str(&end(record.mismatches, failed_checks, paint));
    out
}

/// What the columns mean: once, before the first probes.
const COLUMNS: &str = "\
    expect: what the probes file says, else what a second, naive reading of the policies says; \
    both are checked.\nseen: what the frames did. esp: yes if they crossed the wire between \
    nodes, all of them encrypted. A rule [n] counts from 0.";

fn faint(text: &str, paint: Paint) -> String {
    let mut out = String::new();
    for part in text.split('\n').flat_map(|it| wrap(it, WIDTH - 2)) {
        line(&mut out, &paint.ink(Ink::Faint, &format!("  {part}")));
    }
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn heading(out: &mut String, text: &str, paint: Paint) {
    line(out, &format!("\n{}", paint.ink(Ink::Strong, text)));
}

/// The pods, from VF to identity to policies.
fn cluster(record: &ClusterRecord, paint: Paint) -> String {
    let mut out = String::new();
    let (pods, policies) = (record.pods.len(), record.policies.len());
    let title = format!("cluster: {pods} pods with VFs, {policies} policies");
    heading(&mut out, &title, paint);
    let mut table = Table::new(&["node", "vf", "pod", "addresses", "id", "identity"]);
    for pod in &record.pods {
        let ips = pod
            .ips
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ");
        table.row(vec![
            pod.node.as_str().into(),
            pod.vf.as_str().into(),
            Cell::new(Ink::Strong, pod.pod.as_str()),
            ips.into(),
            pod.identity.to_string().into(),
            Cell::new(Ink::Faint, pod.label.as_str()),
        ]);
    }
    out.push_str(&table.render(paint));
    heading(&mut out, "policies that select each pod", paint);
    let mut table = Table::new(&["pod", "policies"]);
    for pod in &record.pods {
        let policies = if pod.policies.is_empty() {
            Cell::new(Ink::Faint, "none: everything is allowed")
        } else {
            let namespace = pod.pod.split('/').next().unwrap_or_default();
            let short = |name: &String| {
                let name = name
                    .strip_prefix(namespace)
                    .and_then(|it| it.strip_prefix('/'));
                name.map(ToOwned::to_owned)
            };
            let names = pod
                .policies
                .iter()
                .map(|it| short(it).unwrap_or_else(|| it.clone()));
            names.collect::<Vec<_>>().join(", ").into()
        };
        table.row(vec![Cell::new(Ink::Strong, pod.pod.as_str()), policies]);
    }
    out.push_str(&table.render(paint));
    out
}

/// Probes, expected against observed, and who decided.
fn probes(outcomes: &[&ProbeOutcome], paint: Paint) -> String {
    if outcomes.is_empty() {
        return String::new();
    }
    let head = [
        "",
        "from",
        "to",
        "asked",
        "expect",
        "seen",
        "esp",
        "decided by",
    ];
    let mut table = Table::new(&head);
    for outcome in outcomes {
        let mark = if outcome.ok {
            Cell::new(Ink::Good, "ok")
        } else {
            Cell::new(Ink::Bad, "!!")
        };
        let ink = match (outcome.ok, outcome.verdict) {
            (false, _) => Ink::Bad,
            (true, Verdict::Allow) => Ink::Good,
            (true, Verdict::Deny) => Ink::Deny,
        };
        table.row(vec![
            mark,
            outcome.from.as_str().into(),
            outcome.to.as_str().into(),
            asked(outcome).into(),
            word(outcome.expect.unwrap_or(outcome.oracle)).into(),
            Cell::new(ink, word(outcome.verdict)),
            if outcome.encrypted {
                Cell::new(Ink::Good, "yes")
            } else {
                Cell::new(Ink::Faint, "-")
            },
            Cell::new(Ink::Faint, decider(outcome)),
        ]);
    }
    let mut out = table.render(paint);
    for outcome in outcomes {
        for disagreement in &outcome.disagreements {
            let text = format!("  !! {} to {}: {disagreement}", outcome.from, outcome.to);
            line(&mut out, &paint.ink(Ink::Bad, &text));
        }
    }
    out
}

/// Who decided, and what shadow policies would have made of it.
fn decider(outcome: &ProbeOutcome) -> String {
    match &outcome.shadow {
        Some(shadow) => format!("{}; shadow: {shadow}", rule_and_side(outcome)),
        None => rule_and_side(outcome),
    }
}

/// The rule, and the side that denied where the rule's name doesn't say it.
fn rule_and_side(outcome: &ProbeOutcome) -> String {
    let rule = outcome.rule.as_deref().unwrap_or("-");
    let at = match outcome.at {
        Some(Direction::Egress) => "egress",
        Some(Direction::Ingress) => "ingress",
        None => return rule.to_owned(),
    };
    if rule.contains(at) {
        rule.to_owned()
    } else {
        format!("{rule}, at {at}")
    }
}

fn asked(outcome: &ProbeOutcome) -> String {
    let protocol = format!("{:?}", outcome.protocol).to_uppercase();
    let family = match outcome.family {
        Family::Ipv4 => "v4",
        Family::Ipv6 => "v6",
    };
    match &outcome.port {
        None => format!("{protocol} {family}"),
        Some(ProbePort::Number(number)) => format!("{protocol} {number} {family}"),
        Some(ProbePort::Name(name)) => format!("{protocol} {name} {family}"),
    }
}

/// How many of each; of a single probe its line says all.
fn tally(outcomes: &[&ProbeOutcome], paint: Paint) -> String {
    if outcomes.len() < 2 {
        return String::new();
    }
    let count =
        |keep: &dyn Fn(&ProbeOutcome) -> bool| outcomes.iter().filter(|it| keep(it)).count();
    let allowed = count(&|it| it.verdict == Verdict::Allow);
    let encrypted = count(&|it| it.verdict == Verdict::Allow && it.encrypted);
    let wrong = count(&|it| !it.ok);
    let text = format!(
        "  {} probes: {allowed} allowed, {encrypted} of them between nodes and encrypted; {} denied",
        outcomes.len(),
        outcomes.len() - allowed
    );
    let wrong = match wrong {
        0 => paint.ink(Ink::Good, "all as expected"),
        _ => paint.ink(Ink::Bad, &format!("{wrong} not as expected")),
    };
    format!("{text}; {wrong}\n")
}

fn wire(record: &WireRecord, paint: Paint) -> String {
    let mut out = String::new();
    let mut fact = |count: usize, text: &str| line(&mut out, &format!("  {count:>7}  {text}"));
    fact(record.frames, "frames between the nodes");
    fact(
        record.esp,
        "of them ESP, what pods and nodes say to each other",
    );
    fact(record.neighbor, "of them ARP and neighbour discovery");
    fact(
        record.other,
        "of them other, to and from the outside of the cluster",
    );
    let ink = if record.cleartext_bytes == 0 {
        Ink::Good
    } else {
        Ink::Bad
    };
    let count = paint.ink(ink, &format!("{:>7}", record.cleartext_bytes));
    line(
        &mut out,
        &format!("  {count}  bytes of pods' payload found in clear"),
    );
    out
}

fn drops(record: &RunRecord, paint: Paint) -> String {
    if record.drops.is_empty() {
        return "  none\n".to_owned();
    }
    let mut table = Table::new(&["node", "port", "frames", "reason"]);
    for drop in &record.drops {
        table.row(vec![
            drop.node.as_str().into(),
            drop.port.as_str().into(),
            format!("{:>6}", drop.frames).into(),
            drop.reason.as_str().into(),
        ]);
    }
    let mut out = table.render(paint);
    let text = match record.unaccounted {
        0 => "  every frame that did not arrive is counted here".to_owned(),
        lost => format!("  {lost} frames are in no counter"),
    };
    line(&mut out, &text);
    out
}

fn verdict_of(ok: bool, paint: Paint) -> String {
    if ok {
        format!("  {}", paint.ink(Ink::Good, "ok"))
    } else {
        format!("  {}", paint.ink(Ink::Bad, "failed"))
    }
}

fn end(mismatches: usize, failed_checks: &[impl fmt::Display], paint: Paint) -> String {
    let mut out = "\n".to_owned();
    for check in failed_checks {
        line(&mut out, &paint.ink(Ink::Bad, &format!("FAILED  {check}")));
    }
    if mismatches > 0 {
        let text = format!("FAILED  {mismatches} probes did not come out as expected");
        line(&mut out, &paint.ink(Ink::Bad, &text));
    } else if failed_checks.is_empty() {
        line(
            &mut out,
            &paint.ink(Ink::Good, "Every probe as expected; no payload of a pod on the wire in clear, no frame lost uncounted."),
        );
    }
    out
}
