//! A run of the fuzzer, for people.

use super::paint::{Ink, Paint};
use crate::fuzz::Tally;

/// What it did and what it found.
#[must_use]
pub fn show_fuzz(tally: &Tally, paint: Paint) -> String {
    let mut out = String::new();
    let Tally { seeds, probes, .. } = tally;
    let seconds = tally.virtual_ms / 1_000;
    let steps: u64 = tally.steps.values().sum();
    out.push_str(&format!(
        "{seeds} seeds from {}: {steps} steps, {probes} probes ({} answered), {} frames on the \
         wires, {seconds} s of virtual time\n",
        tally.first_seed, tally.allowed, tally.wire_frames
    ));
    let mut list = |what: &str, of: Vec<(String, u64)>| {
        let all: Vec<_> = of.iter().map(|(name, n)| format!("{name} {n}")).collect();
        out.push_str(&format!("{what}: {}\n", all.join(", ")));
    };
    let steps = tally.steps.iter().map(|it| ((*it.0).to_owned(), *it.1));
    list("steps", steps.collect());
    list("faults", tally.faults.clone().into_iter().collect());
    list("drops", tally.drops.clone().into_iter().collect());
    for failure in &tally.failures {
        let head = paint.ink(Ink::Bad, &format!("seed {} failed", failure.seed));
        let (steps, objects) = (failure.steps, failure.objects);
        out.push_str(&format!(
            "\n{head}, {steps} steps and {objects} objects\n  {}\n  {}\n",
            failure.what, failure.reproduce
        ));
    }
    let verdict = if tally.failures.is_empty() {
        paint.ink(Ink::Good, "Every invariant held of every seed.")
    } else {
        paint.ink(Ink::Bad, "Some seeds failed.")
    };
    out.push_str(&format!("\n{verdict}\n"));
    out
}
