//! A run of the fuzzer, for people.

use super::paint::{Ink, Paint};
use crate::fuzz::{Storm, Tally};

/// What it did and what it found.
#[must_use]
pub fn show_fuzz(tally: &Tally, paint: Paint) -> String {
    let mut out = String::new();
    let Tally { seeds, probes, .. } = tally;
    let hours = tally.virtual_ms / 3_600_000;
    let minutes = tally.virtual_ms / 60_000 % 60;
    let steps: u64 = tally.steps.values().sum();
    out.push_str(&format!(
        "{seeds} seeds from {}: {steps} steps, {probes} probes ({} answered), {} parts of \
         connections ({} came over), {} frames on the wires, {hours} h {minutes} min of virtual \
         time\n",
        tally.first_seed, tally.allowed, tally.transfers, tally.transferred, tally.wire_frames
    ));
    let mut list = |what: &str, of: Vec<(String, u64)>| {
        let all: Vec<_> = of.iter().map(|(name, n)| format!("{name} {n}")).collect();
        out.push_str(&format!("{what}: {}\n", all.join(", ")));
    };
    let steps = tally.steps.iter().map(|it| ((*it.0).to_owned(), *it.1));
    list("steps", steps.collect());
    list("faults", tally.faults.clone().into_iter().collect());
    list("marks", tally.marks.clone().into_iter().collect());
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

/// What storms of rekeys did, and whether all held.
#[must_use]
pub fn show_storms(storms: &[Storm], ok: bool, paint: Paint) -> String {
    let mut out = String::new();
    for storm in storms {
        let Storm {
            seed,
            rekeys,
            keys_replaced,
            sent,
            came,
            exact,
            ..
        } = storm;
        let seconds = storm.virtual_ms / 1_000;
        out.push_str(&format!(
            "seed {seed}: {rekeys} rekeys of all nodes, {keys_replaced} keys replaced, {sent} \
             packets sent and {came} came, {seconds} s of virtual time; under {exact} rekeys \
             nothing took a packet, and all came\n"
        ));
        let list = |of: Vec<String>| of.join(", ");
        let broken = storm.broken.iter().map(|(what, n)| format!("{what} {n}"));
        let drops = storm.drops.iter().map(|(what, n)| format!("{what} {n}"));
        let (broken, drops) = (list(broken.collect()), list(drops.collect()));
        out.push_str(&format!("  broken: {broken}\n  drops: {drops}\n"));
    }
    let verdict = if ok {
        paint.ink(
            Ink::Good,
            "No packet lost for a key, none in clear, no number twice.",
        )
    } else {
        paint.ink(Ink::Bad, "Some storms failed.")
    };
    out.push_str(&format!("\n{verdict}\n"));
    out
}
