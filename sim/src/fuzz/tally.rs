//! What a run of the fuzzer came to: the same seeds give the same bytes.

use std::collections::BTreeMap;

use serde::Serialize;

use super::case::Case;
use crate::record::RunRecord;

/// All of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    /// The first seed.
    pub first_seed: u64,
    /// How many were played.
    pub seeds: u64,
    /// Steps by verb.
    pub steps: BTreeMap<&'static str, u64>,
    /// Faults by kind.
    pub faults: BTreeMap<String, u64>,
    /// Probes that were sent.
    pub probes: u64,
    /// Of those, the ones that were answered.
    pub allowed: u64,
    /// Parts that connections which go on were to move.
    pub transfers: u64,
    /// Of those, the ones that came over whole.
    pub transferred: u64,
    /// Frames on the wire between nodes.
    pub wire_frames: u64,
    /// Virtual time, in milliseconds.
    pub virtual_ms: u64,
    /// Dropped frames by reason: which branches were hit.
    pub drops: BTreeMap<String, u64>,
    /// How often faults took effect, and nodes came and went.
    pub marks: BTreeMap<String, u64>,
    /// What failed.
    pub failures: Vec<Finding>,
}

/// A seed that failed.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The seed.
    pub seed: u64,
    /// What kind of failure it is.
    pub kind: String,
    /// What was wrong first, in the smallest scenario.
    pub what: String,
    /// Steps of that.
    pub steps: usize,
    /// Objects of that, at its beginning.
    pub objects: usize,
    /// How to see it again.
    pub reproduce: String,
}

impl Tally {
    /// Counts what a seed's scenario does.
    pub fn add_case(&mut self, case: &Case) {
        self.seeds += 1;
        for step in &case.steps {
            *self.steps.entry(step.verb()).or_default() += 1;
            if let super::Step::Verb("fault", says) = step {
                let kinds = says.as_object().into_iter().flat_map(|it| it.keys());
                // One without a place is its name alone.
                let kinds = kinds.map(String::as_str).chain(says.as_str());
                for kind in kinds {
                    *self.faults.entry(kind.to_owned()).or_default() += 1;
                }
            }
        }
    }

    /// Counts what came of it.
    pub fn add_record(&mut self, record: &RunRecord) {
        let allow = sluice_offload_api::model::Verdict::Allow;
        self.probes += record.results.len() as u64;
        let allowed = record
            .results
            .iter()
            .filter(|it| it.outcome.verdict == allow);
        self.allowed += allowed.count() as u64;
        let parts = record.steps.iter().flat_map(|it| &it.work);
        for part in parts.filter(|it| it.kind == "connection") {
            self.transfers += 1;
            self.transferred += u64::from(part.complete);
        }
        self.wire_frames += record.wire.frames as u64;
        self.virtual_ms += record.time_ns / 1_000_000;
        for (mark, count) in &record.marks {
            *self.marks.entry(mark.clone()).or_default() += count;
        }
        for drop in &record.drops {
            *self.drops.entry(drop.reason.clone()).or_default() += drop.frames;
        }
    }
}
