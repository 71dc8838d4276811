//! All pairs of pods at a glance.

use crate::verify::ProbeOutcome;
use sluice_offload_api::model::Verdict;

use super::WIDTH;
use super::paint::{Ink, Paint};

/// Width of a pair's cell with its gap.
const CELL: usize = 4;

/// What the signs of [`render`] mean.
pub(super) const LEGEND: &str = "\
    Every answer agrees with a second, naive reading of the policies, or shows as !!.\n\
    esp  allowed, encrypted on the wire   ok  allowed, on one node   -  denied   .  not asked";

/// A grid, sources down and destinations across. `None` if it wouldn't fit; the probes'
/// table is then the better view.
pub(super) fn render(outcomes: &[&ProbeOutcome], paint: Paint) -> Option<String> {
    let (mut from, mut to) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        if !from.contains(&&outcome.from) {
            from.push(&outcome.from);
        }
        if !to.contains(&&outcome.to) {
            to.push(&outcome.to);
        }
    }
    to.sort();
    let label = from
        .iter()
        .chain(&to)
        .map(|name| name.chars().count())
        .max()?;
    let number = 3;
    if number + 1 + label + to.len() * (CELL + 1) + 2 > WIDTH {
        return None;
    }
    let mut out = format!("  {:>number$} {:label$}", "", "from \\ to");
    for column in 1..=to.len() {
        out.push_str(&paint.ink(Ink::Faint, &format!(" {column:>CELL$}")));
    }
    out.push('\n');
    from.sort();
    for source in from {
        let number = to
            .iter()
            .position(|it| *it == source)
            .map(|at| (at + 1).to_string());
        let row = paint.ink(Ink::Faint, &format!("{:>3}", number.unwrap_or_default()));
        let mut line = format!("  {row} {source:label$}");
        for target in &to {
            let found = outcomes
                .iter()
                .find(|it| it.from == *source && it.to == **target);
            let (ink, sign) = found.map_or((Ink::Faint, "."), |it| sign(it));
            line.push_str(&paint.ink(ink, &format!(" {sign:>CELL$}")));
        }
        out.push_str(&line);
        out.push('\n');
    }
    Some(out)
}

fn sign(outcome: &ProbeOutcome) -> (Ink, &'static str) {
    match (outcome.ok, outcome.verdict, outcome.encrypted) {
        (false, ..) => (Ink::Bad, "!!"),
        (true, Verdict::Allow, true) => (Ink::Good, "esp"),
        (true, Verdict::Allow, false) => (Ink::Good, "ok"),
        (true, Verdict::Deny, _) => (Ink::Deny, "-"),
    }
}
