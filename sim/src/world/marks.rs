//! How often each fault took effect: a scenario or a test asks whether it reached what it is
//! there for.

use std::collections::BTreeMap;

use super::World;

/// Every mark there is. Those of the wires count frames; those of nodes count changes that one
/// didn't hear of, or did nothing about; the rest count themselves.
pub const MARKS: [&str; 30] = [
    "agent-dead",
    "agent-stalled",
    "api-away",
    "api-gone",
    "attacked",
    "certificate-missing",
    "certificate-refused",
    "checkpoint-loaded",
    "checkpoint-refused",
    "clock-jumped",
    "corrupted",
    "dataplane-stalled",
    "delayed",
    "duplicated",
    "events-gone",
    "held",
    "killed",
    "list-cut",
    "lost",
    "missed",
    "node-joined",
    "node-left",
    "parted",
    "partial-list",
    "reordered",
    "rival-connected",
    "slow-disk",
    "stale-base",
    "stale-kinds",
    "stale-watch",
];

/// Counters by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks(BTreeMap<&'static str, u64>);

impl Marks {
    /// Once more.
    pub(crate) fn add(&mut self, mark: &'static str) {
        *self.0.entry(mark).or_default() += 1;
    }
}

impl World {
    /// How often each fault took effect; those that never did are left out.
    #[must_use]
    pub fn marks(&self) -> BTreeMap<&'static str, u64> {
        let mut all = self.marks.0.clone();
        let of_wires = self.net.faults.marks().into_iter();
        for (mark, count) in of_wires.chain(self.keying.marks()) {
            *all.entry(mark).or_default() += count;
        }
        all.retain(|_, count| *count > 0);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_in_order_and_once_each() {
        assert!(MARKS.windows(2).all(|it| it[0] < it[1]));
    }
}
