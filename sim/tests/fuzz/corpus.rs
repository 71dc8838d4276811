//! The corpus: scenarios that the fuzzer has drawn once and that a bug was in, or that reach
//! what few seeds do. They are files, so that they stay when drawing changes.

use std::fs;

use sluice_sim::input::load_scenario;
use sluice_sim::output::Progress;
use sluice_sim::play::play;

#[test]
fn every_scenario_of_the_corpus_holds() {
    let mut scenarios = 0;
    for entry in fs::read_dir(super::sim().join("corpus")).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        let scenario = load_scenario(&folder.join("scenario.yaml")).unwrap();
        let record = play(&scenario, &mut Progress::default()).unwrap().record;
        let wrong: Vec<_> = record.results.iter().filter(|it| !it.outcome.ok).collect();
        assert!(
            record.ok,
            "{}: {:?} {wrong:?}",
            folder.display(),
            record.failed_checks
        );
        scenarios += 1;
    }
    assert!(scenarios >= 5, "{scenarios}");
}
