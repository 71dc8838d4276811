//! What two folders differ in, for people.

use std::collections::BTreeMap;

use sluice_host_agent::difference::{Cause, Change, Family, Fate, Now};

use super::WIDTH;
use super::paint::{Ink, Paint};
use super::table::{Cell, Table, wrap};
use crate::record::{DiffRecord, FlowRecord};

/// Changes with the same source, flows and reasons, and recorded flows, that are shown, at
/// most: JSON has them all.
const GROUPS_MAX: usize = 200;
/// All flows there are.
const EVERYTHING: &str = "TCP all, UDP all, SCTP all, ICMP";

/// A comparison.
#[must_use]
pub fn show_diff(record: &DiffRecord, paint: Paint) -> String {
    let mut out = String::new();
    for (now, title) in [
        (Now::Allowed, "newly allowed"),
        (Now::Denied, "newly denied"),
    ] {
        let its: Vec<_> = record.changes.iter().filter(|it| it.now == now).collect();
        if !its.is_empty() {
            out.push_str(&format!("{}\n", paint.ink(Ink::Strong, title)));
            out.push_str(&changes(&its, paint));
            out.push('\n');
        }
    }
    if let Some(flows) = &record.flows {
        out.push_str(&self::flows(flows, paint));
    }
    let text = match (record.newly_allowed, record.newly_denied) {
        (0, 0) => "No flow is allowed in one folder and not in the other.".to_owned(),
        (allowed, denied) => format!(
            "{allowed} newly allowed, {denied} newly denied, each a source and a destination."
        ),
    };
    out.push_str(&text);
    out.push('\n');
    for (count, which) in record.unaddressed.iter().zip(["before", "after"]) {
        if *count > 0 {
            let text = format!(
                "{which}: {count} pods without status.podIPs are taken to be in no block but the widest"
            );
            out.push_str(&format!("{}\n", paint.ink(Ink::Faint, &text)));
        }
    }
    out
}

/// Each source with what it is about and why, and all destinations of which that holds.
fn changes(changes: &[&Change], paint: Paint) -> String {
    let mut groups: BTreeMap<(String, String, String), Vec<String>> = BTreeMap::new();
    for change in changes {
        let key = (change.from.to_string(), flows_of(change), why(change));
        groups.entry(key).or_default().push(change.to.to_string());
    }
    let (sign, ink) = match changes.first().map(|it| it.now) {
        Some(Now::Allowed) => ("+", Ink::Good),
        _ => ("-", Ink::Deny),
    };
    let mut out = String::new();
    let mut add = |indent: usize, ink: Ink, text: &str| {
        for part in wrap(text, WIDTH - indent) {
            out.push_str(&format!(
                "{}{}\n",
                " ".repeat(indent),
                paint.ink(ink, &part)
            ));
        }
    };
    let hidden = groups.len().saturating_sub(GROUPS_MAX);
    for ((from, flows, why), to) in groups.into_iter().take(GROUPS_MAX) {
        add(2, ink, &format!("{sign} {from} -> {}", to.join("; ")));
        add(6, Ink::Plain, &flows);
        add(6, Ink::Faint, &why);
    }
    if hidden > 0 {
        add(2, Ink::Plain, &format!("{hidden} more: see --output json"));
    }
    out
}

/// `TCP 80, UDP 53 over IPv4`.
fn flows_of(change: &Change) -> String {
    let all: Vec<_> = change.flows.iter().map(ToString::to_string).collect();
    let mut text = all.join(", ");
    if text == EVERYTHING {
        "everything".clone_into(&mut text);
    }
    match change.families.as_slice() {
        [Family::Ipv4] => text + " over IPv4",
        [Family::Ipv6] => text + " over IPv6",
        _ => text,
    }
}

fn why(change: &Change) -> String {
    match change.cause {
        Cause::Added => return "an end is new".to_owned(),
        Cause::Removed => return "an end is gone".to_owned(),
        Cause::Changed => {}
    }
    let rules = |rules: &std::collections::BTreeSet<String>| {
        let all: Vec<_> = rules.iter().map(String::as_str).collect();
        all.join(", ")
    };
    format!(
        "was: {}; is: {}",
        rules(&change.rules_before),
        rules(&change.rules_after)
    )
}

fn flows(flows: &[FlowRecord], paint: Paint) -> String {
    let mut out = format!("{}\n", paint.ink(Ink::Strong, "recorded flows"));
    let count = |fate: Fate| flows.iter().filter(|it| it.fate == fate).count();
    let mut table = Table::new(&["", "from", "to", "asked", "why"]);
    for flow in flows
        .iter()
        .filter(|it| it.fate == Fate::Breaks)
        .take(GROUPS_MAX)
    {
        let was = flow.rule_before.as_deref().unwrap_or("-");
        let is = flow.rule_after.as_deref().unwrap_or("-");
        table.row(vec![
            Cell::new(Ink::Bad, "!!"),
            flow.from.as_str().into(),
            flow.to.as_str().into(),
            flow.asked().into(),
            Cell::new(
                Ink::Faint,
                format!("line {}; was: {was}; is: {is}", flow.line),
            ),
        ]);
    }
    if count(Fate::Breaks) > 0 {
        out.push_str(&table.render(paint));
    }
    let (breaks, total) = (count(Fate::Breaks), flows.len());
    let rest = [
        (Fate::Allowed, "allowed as before"),
        (Fate::Opens, "denied before, allowed now"),
        (Fate::Denied, "denied as before"),
        (Fate::Gone, "with an end that is gone"),
    ];
    let rest = rest.map(|(fate, text)| (count(fate), text));
    let rest = rest
        .iter()
        .filter(|it| it.0 > 0)
        .map(|(n, text)| format!("{n} {text}"));
    let rest: Vec<_> = rest.collect();
    let ink = if breaks == 0 { Ink::Good } else { Ink::Bad };
    let broken = paint.ink(ink, &format!("{breaks} of {total} would break"));
    out.push_str(&format!("  {broken}; {}\n\n", rest.join(", ")));
    out
}
