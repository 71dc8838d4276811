//! The mutation check: each planted bug is found within a bounded number of seeds, and by whom
//! docs/fuzzing.md says, or the fuzzer and its oracles prove nothing: a bug that is found by
//! another's oracle says nothing of its own. `cargo test -p sluice-sim --features mutants --test
//! mutants -- --nocapture` says more.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed assumption in a test is a failed test"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use sluice_mutants::{Mutant, leave_unchecked, plant};
use sluice_sim::fuzz::{Case, Failure, case_of, play_case, storm};
use sluice_sim::input::load_scenario;
use sluice_sim::output::Progress;
use sluice_sim::play::play;

/// Seeds within which each must be found.
const SEEDS_MAX: u64 = 1_500;
/// Storms, and rekeys of each, for what only shows while keys change.
const STORMS: u64 = 4;
const REKEYS: u64 = 40;

/// The one list of what is found by whom.
const DOCS: &str = include_str!("../../docs/fuzzing.md");
const HEAD: &str = "| planted | found by | seed | held back at seed |\n|---|---|---|---|\n";
/// How a seed of storms is told from one of scenarios there.
const STORM: &str = "storm ";

/// Oracles, which have the same name there.
const ORACLES: [&str; 7] = [
    "policy",
    "cleartext",
    "nonce",
    "replay",
    "spoof",
    "isolation",
    "counted",
];
/// What else finds something: what its failure says, the first that fits, and its name there.
const OTHERS: [(&str, &str); 11] = [
    (": shadow policies: ", "the probe's shadow"),
    (": the evaluator says ", "the probe's verdict"),
    (": the evaluator names ", "the probe's rule"),
    ("settled: ", "what is left at the end"),
    ("connection ", "a connection"),
    (
        "frames of the attack came",
        "an attack's frame came to somebody",
    ),
    ("is not answered", "an answer that doesn't come"),
    ("loss: ", "loss"),
    (" refused: ", "the dataplane refuses the change"),
    (" and to pod ", "the compiler refuses the next pod"),
    (" belongs to pod ", "the VF table refuses the next pod"),
];

/// The list of those that scenarios find.
const PLAYED_HEAD: &str = "| planted | found by the scenario |\n|---|---|\n";

/// What an agent says that finds its own compiler at fault.
const HELD_BACK: &str = "this is a fault of the compiler";
/// The agent holds back none of what a mutant does.
const NEVER: &str = "-";

/// By whom a mutant is found, and at which seed first.
type Found = (String, String);

/// The rows of the docs, in their order, each with the seed at which the agent's own check first holds
/// the bug back.
fn rows() -> Vec<(&'static str, Found, &'static str)> {
    let (_, rows) = DOCS.split_once(HEAD).unwrap();
    let rows = rows.lines().take_while(|it| !it.is_empty());
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [mutant, by, seed, held] = cells[..] else {
            panic!("not four cells: {row}");
        };
        (
            mutant.trim_matches('`'),
            (by.to_owned(), seed.to_owned()),
            held,
        )
    })
    .collect()
}

/// Who found it, as the docs call it; or all that is known.
fn finder(failure: &Failure) -> String {
    let Failure { kind, what } = failure;
    let mut oracles = ORACLES.iter().copied();
    let mut others = OTHERS.iter();
    let other = || others.find(|it| what.contains(it.0)).map(|it| it.1);
    let by = oracles.find(|it| *it == kind.as_str()).or_else(other);
    by.map_or_else(|| format!("{kind}: {what}"), str::to_owned)
}

/// What finds it first where agents don't look after themselves: scenarios or, `by_storm`, storms.
fn find(cases: &[Case], mutant: Mutant, by_storm: bool) -> Option<(Found, Failure)> {
    plant(Some(mutant));
    leave_unchecked(true);
    // What the storm is for, it finds at once; all else it would only be slow to miss.
    let found = if by_storm {
        (0..STORMS).find_map(|seed| Some((format!("{STORM}{seed}"), storm(seed, REKEYS).err()?)))
    } else {
        let mut cases = cases.iter();
        cases.find_map(|case| Some((case.seed.to_string(), play_case(case).err()?)))
    };
    plant(None);
    leave_unchecked(false);
    found.map(|(seed, failure)| ((finder(&failure), seed), failure))
}

#[test]
fn the_docs_list_each_planted_bug_once_and_in_order() {
    let listed: Vec<_> = rows().into_iter().map(|it| it.0.to_owned()).collect();
    let planted: Vec<_> = Mutant::ALL.iter().map(|it| format!("{it:?}")).collect();
    assert_eq!(listed, planted);
    assert!(planted.len() >= 30);
}

/// What no seed breaks a scenario does, and it holds without the bug.
#[test]
fn what_is_not_drawn_is_found_by_the_scenario_that_the_docs_name() {
    let (_, rows) = DOCS.split_once(PLAYED_HEAD).unwrap();
    let rows = rows.lines().take_while(|it| !it.is_empty());
    let rows: Vec<_> = rows
        .map(|row| row.split('`').collect::<Vec<_>>())
        .map(|cells| (cells[1], cells[3]))
        .collect();
    let planted: Vec<_> = Mutant::PLAYED.iter().map(|it| format!("{it:?}")).collect();
    assert_eq!(rows.iter().map(|it| it.0).collect::<Vec<_>>(), planted);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    for ((_, name), mutant) in rows.iter().zip(Mutant::PLAYED) {
        let scenario = load_scenario(&folder.join(format!("{name}.yaml"))).unwrap();
        for planted in [None, Some(*mutant)] {
            plant(planted);
            let played = play(&scenario, &mut Progress::default());
            plant(None);
            let record = played.unwrap().record;
            println!("{name}, {planted:?}: {:?}", record.failed_checks);
            assert_eq!(record.ok, planted.is_none(), "{name}, {planted:?}");
        }
    }
}

#[test]
fn every_planted_bug_is_found_by_whom_the_docs_say() {
    let rows = rows().into_iter().map(|it| (it.0, it.1));
    let rows: BTreeMap<_, _> = rows.collect();
    let row = |mutant: Mutant| rows.get(format!("{mutant:?}").as_str());
    let cases: Vec<Case> = (0..SEEDS_MAX).map(case_of).collect();
    let next = AtomicUsize::new(0);
    // A bug is planted in a thread.
    let work = || {
        let mut found = Vec::new();
        // Each number is taken once, whichever thread does; nothing else hangs on it.
        while let Some(mutant) = Mutant::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
            let by_storm = row(*mutant).is_some_and(|it| it.1.starts_with(STORM));
            found.push((*mutant, find(&cases, *mutant, by_storm)));
        }
        found
    };
    let mut found = thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let found = threads.into_iter().flat_map(|it| it.join().unwrap());
        found.collect::<Vec<_>>()
    });
    found.sort_by_key(|it| it.0);
    let (mut missed, mut otherwise) = (Vec::new(), Vec::new());
    for (mutant, found) in found {
        let Some((found, failure)) = found else {
            missed.push(mutant);
            continue;
        };
        let (by, seed) = &found;
        println!("{mutant:?}: {seed}, {}", failure.what);
        if row(mutant) != Some(&found) {
            otherwise.push(format!("| `{mutant:?}` | {by} | {seed} | .. |"));
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
    let otherwise = otherwise.join("\n");
    assert!(otherwise.is_empty(), "found otherwise:\n{otherwise}");
}

/// An agent holds what it compiled against its policies before it sends any of it: a bug of the
/// compiler's goes no further, and the agent says so.
#[test]
fn what_an_agent_can_see_of_its_compilers_bugs_it_holds_back() {
    let mut otherwise = Vec::new();
    for (mutant, (_, found), held) in rows() {
        let known = Mutant::ALL.iter().find(|it| format!("{it:?}") == mutant);
        // Where nothing is held back, it would take all seeds to say so.
        let seeds = if held == NEVER { 0..40 } else { 0..SEEDS_MAX };
        let is_held = |seed: &u64| {
            plant(known.copied());
            let played = play_case(&case_of(*seed));
            plant(None);
            played.is_err_and(|it| it.what.contains(HELD_BACK))
        };
        let first = seeds.into_iter().find(is_held);
        let first = first.map_or_else(|| NEVER.to_owned(), |it| it.to_string());
        if first != held {
            otherwise.push(format!("| `{mutant}` | .. | {found} | {first} |"));
        }
    }
    let otherwise = otherwise.join("\n");
    assert!(otherwise.is_empty(), "held back otherwise:\n{otherwise}");
}

/// Nothing planted, nothing found: what finds the bugs is not something else.
#[test]
fn without_a_planted_bug_the_same_seeds_hold() {
    for seed in 0..40 {
        if let Err(failure) = play_case(&case_of(seed)) {
            panic!("seed {seed}: {}", failure.what);
        }
    }
    for seed in 0..STORMS {
        if let Err(failure) = storm(seed, REKEYS) {
            panic!("storm {seed}: {}", failure.what);
        }
    }
}
