//! The fuzzer: any cluster, any policies, any faults, one seed.
//!
//! A seed is drawn out into a scenario as a person could have written it, manifests and all,
//! and played by what plays scenarios, oracles on. So whatever it finds is a file that
//! `sluice-sim run` loads, and a manifest's way through the loader is fuzzed along.

mod breaking;
mod case;
mod coming;
mod connections;
mod draw;
mod events;
mod judge;
mod model;
mod policies;
mod questions;
mod shrink;
mod storm;
mod tally;

pub use case::{Case, Step};
pub use judge::{Failure, play_case, timeline_of};
pub use shrink::{Shrunk, shrink};
pub use storm::{Storm, storm};
pub use tally::{Finding, Tally};

/// The scenario of a seed: always the same.
#[must_use]
pub fn case_of(seed: u64) -> Case {
    events::draw(seed)
}
