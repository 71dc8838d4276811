//! The mutation check: each planted bug is found within a bounded number of seeds, or the
//! fuzzer and its oracles prove nothing. `cargo test -p sluice-sim --features mutants --test
//! mutants -- --nocapture` says by what; docs/fuzzing.md has the list.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed assumption in a test is a failed test"
)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use sluice_mutants::{Mutant, plant};
use sluice_sim::fuzz::{Case, Failure, case_of, play_case, storm};

/// Seeds within which each must be found.
const SEEDS_MAX: u64 = 1_500;
/// Storms, and rekeys of each, for what only shows while keys change.
const STORMS: u64 = 4;
const REKEYS: u64 = 40;

/// Who found it: a seed of scenarios or of storms.
fn find(cases: &[Case], mutant: Mutant) -> Option<(&'static str, u64, Failure)> {
    plant(Some(mutant));
    let by_storm =
        || (0..STORMS).find_map(|seed| Some(("storm", seed, storm(seed, REKEYS).err()?)));
    let by_case = || {
        let mut cases = cases.iter();
        cases.find_map(|case| Some(("seed", case.seed, play_case(case).err()?)))
    };
    // What the storm is for, it finds at once; all else it would only be slow to miss.
    let found = match mutant {
        Mutant::SaReplacedAtOnce | Mutant::SentBeforeReceived => by_storm(),
        _ => by_case(),
    };
    plant(None);
    found
}

#[test]
fn every_planted_bug_is_found() {
    let cases: Vec<Case> = (0..SEEDS_MAX).map(case_of).collect();
    let next = AtomicUsize::new(0);
    // A bug is planted in a thread.
    let work = || {
        let mut found = Vec::new();
        // Each number is taken once, whichever thread does; nothing else hangs on it.
        while let Some(mutant) = Mutant::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
            found.push((*mutant, find(&cases, *mutant)));
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
    let mut missed = Vec::new();
    for (mutant, found) in found {
        match found {
            Some((by, seed, failure)) => println!("{mutant:?}: {by} {seed}, {}", failure.what),
            None => missed.push(mutant),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
    assert!(Mutant::ALL.len() >= 30);
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
