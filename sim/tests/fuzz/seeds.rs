//! Seeds that nobody has looked at, and what they must have reached.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use sluice_sim::fuzz::{Case, Tally, case_of, play_case, shrink};
use sluice_sim::world::MARKS;

/// Seeds that are the same on every run, and fresh ones.
const FIXED: u64 = 100;
const FRESH: u64 = 300;

fn held(case: &Case) -> Tally {
    let mut tally = Tally::default();
    tally.add_case(case);
    match play_case(case) {
        Ok(record) => tally.add_record(&record),
        Err(failure) => {
            let small = shrink(case, &failure);
            panic!(
                "seed {}: {}\nreproduce: sluice-sim fuzz --seeds {}\n{}{:#?}",
                case.seed,
                small.failure.what,
                case.seed,
                small.case.text(""),
                small.case.files()
            );
        }
    }
    tally
}

#[test]
fn every_invariant_holds_of_the_first_seeds_and_they_reach_all_there_is() {
    let mut all = Tally::default();
    for seed in 0..FIXED {
        let tally = held(&case_of(seed));
        all.probes += tally.probes;
        all.allowed += tally.allowed;
        for (verb, count) in tally.steps {
            *all.steps.entry(verb).or_default() += count;
        }
        for (kind, count) in tally.faults {
            *all.faults.entry(kind).or_default() += count;
        }
        for (mark, count) in tally.marks {
            *all.marks.entry(mark).or_default() += count;
        }
        for (reason, count) in tally.drops {
            *all.drops.entry(reason).or_default() += count;
        }
    }
    // Neither a cluster where nothing may be nor one where all may shows much.
    assert!(all.allowed * 10 > all.probes && all.allowed * 10 < all.probes * 9);
    for verb in [
        "apply", "attack", "delete", "fault", "heal", "kill", "probe", "rekey", "replace",
        "replay", "restart", "spoof", "wait", "workload",
    ] {
        assert!(all.steps.contains_key(verb), "no {verb}: {:?}", all.steps);
    }
    for kind in [
        "api-away",
        "api-gone",
        "clock-jump",
        "corrupted-checkpoint",
        "corruption",
        "delay",
        "duplication",
        "loss",
        "partial-list",
        "partition",
        "reordering",
        "second-agent",
        "slow-disk",
        "stale-kinds",
        "stale-watch",
        "stalled",
    ] {
        assert!(all.faults.contains_key(kind), "no {kind}: {:?}", all.faults);
    }
    // Drawn, and in effect. By chance alone there is no change that nobody hears of.
    // Nor is anything of certificates drawn: scenarios break those.
    let is_drawn = |it: &&&str| **it != "missed" && !it.starts_with("certificate-");
    for mark in MARKS.iter().filter(is_drawn) {
        assert!(all.marks.contains_key(*mark), "no {mark}: {:?}", all.marks);
    }
    for reason in [
        "policy-egress",
        "policy-ingress",
        "esp-duplicate",
        "esp-forged",
        "unknown-spi",
        "spoofed-ip",
        "plaintext",
        "identity-unknown",
        "service-vip",
    ] {
        assert!(
            all.drops.contains_key(reason),
            "no {reason}: {:?}",
            all.drops
        );
    }
}

/// Each commit looks elsewhere, and everybody who has it at the same place; what is found is
/// printed with the seed. Without git, the clock says where.
#[test]
fn every_invariant_holds_of_fresh_seeds() {
    let first = 1_000_000 + commit().unwrap_or_else(seconds) % 1_000_000_000 * 1_000;
    for seed in first..first + FRESH {
        held(&case_of(seed));
    }
}

/// A number of this commit's own.
fn commit() -> Option<u64> {
    let mut git = Command::new("git");
    git.current_dir(env!("CARGO_MANIFEST_DIR"));
    let said = git.args(["rev-parse", "HEAD"]).output().ok()?;
    let name = String::from_utf8(said.stdout).ok()?;
    u64::from_str_radix(name.get(..12)?, 16).ok()
}

fn seconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs()
}

#[test]
fn a_seed_is_the_same_case_and_the_same_record_every_time() {
    for seed in [3, 77, 4_711] {
        let (case, again) = (case_of(seed), case_of(seed));
        assert_eq!(
            (case.text(""), case.files()),
            (again.text(""), again.files())
        );
        let record = |case: &Case| serde_json::to_string(&play_case(case).unwrap()).unwrap();
        assert_eq!(record(&case), record(&again));
        assert_ne!(case.files(), case_of(seed + 1).files());
    }
}
