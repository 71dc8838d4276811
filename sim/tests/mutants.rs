//! The mutation check: each planted bug is found within a bounded number of seeds, or the
//! fuzzer and its oracles prove nothing. `cargo test -p sluice-sim --features mutants --test
//! mutants`; docs/fuzzing.md has the seeds.
#![allow(
    clippy::panic,
    reason = "a failed assumption in a test is a failed test"
)]

use std::fmt::Write as _;

use sluice_dataplane_core::mutant::{Mutant, plant};
use sluice_sim::fuzz::{Case, case_of, play_case};

/// Seeds within which each must be found.
const SEEDS_MAX: u64 = 400;

#[test]
fn every_planted_bug_is_found() {
    let cases: Vec<Case> = (0..SEEDS_MAX).map(case_of).collect();
    let mut found = String::new();
    let mut missed = Vec::new();
    for mutant in Mutant::ALL {
        plant(Some(mutant));
        let failure = cases
            .iter()
            .find_map(|case| Some((case.seed, play_case(case).err()?)));
        plant(None);
        match failure {
            Some((seed, failure)) => {
                let _ = writeln!(found, "{mutant:?}: seed {seed}, {}", failure.what);
            }
            None => missed.push(mutant),
        }
    }
    println!("{found}");
    assert!(missed.is_empty(), "not found: {missed:?}; found:\n{found}");
}

/// Nothing planted, nothing found: what finds the bugs is not something else.
#[test]
fn without_a_planted_bug_the_same_seeds_hold() {
    for seed in 0..40 {
        if let Err(failure) = play_case(&case_of(seed)) {
            panic!("seed {seed}: {}", failure.what);
        }
    }
}
