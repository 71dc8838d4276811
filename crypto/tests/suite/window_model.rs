//! Property: the replay window equals a set of the numbers it accepted.

use std::collections::BTreeSet;

use proptest::prelude::*;
use sluice_crypto::replay::{ReplayError, ReplayWindow};

/// The obviously right window: everything ever committed, and no memory bound.
struct Model {
    size: u64,
    top: u64,
    /// Everything up to here counts as seen.
    seen_to: u64,
    committed: BTreeSet<u64>,
}

impl Model {
    fn edge(&self) -> u64 {
        (self.top + 1).saturating_sub(self.size).max(1)
    }

    fn check(&self, seq: u64) -> Result<(), ReplayError> {
        let edge = self.edge();
        if seq < edge {
            Err(ReplayError::Stale { seq, edge })
        } else if seq <= self.seen_to || self.committed.contains(&seq) {
            Err(ReplayError::Seen { seq })
        } else {
            Ok(())
        }
    }

    fn commit(&mut self, seq: u64) {
        self.committed.insert(seq);
        self.top = self.top.max(seq);
    }
}

/// How the next number relates to the top of the window.
#[derive(Debug, Clone, Copy)]
enum Step {
    Ahead(u64),
    Behind(u64),
    Absolute(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u64..4).prop_map(Step::Ahead),
        2 => (1u64..9000).prop_map(Step::Ahead),
        4 => (0u64..130).prop_map(Step::Behind),
        4 => (0u64..5000).prop_map(Step::Behind),
        1 => (0u64..300).prop_map(Step::Absolute),
    ]
}

fn size() -> impl Strategy<Value = usize> {
    (1usize..=64).prop_map(|words| words * 64)
}

fn start() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        0u64..10_000,
        (1u64 << 32) - 5000..(1 << 32) + 5000,
        u64::MAX - 2_000_000..u64::MAX - 1_900_000,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_window_equals_a_set(
        size in size(),
        start in start(),
        steps in prop::collection::vec((step(), any::<bool>()), 1..200),
    ) {
        let mut window = ReplayWindow::starting_at(size, start).unwrap();
        let mut model =
            Model { size: size as u64, top: start, seen_to: start, committed: BTreeSet::new() };
        for (step, authentic) in steps {
            let seq = match step {
                Step::Ahead(by) => model.top.saturating_add(by),
                Step::Behind(by) => model.top.saturating_sub(by),
                Step::Absolute(seq) => seq,
            };
            let before = window.clone();
            prop_assert_eq!(window.check(seq), model.check(seq));
            prop_assert_eq!(&window, &before, "a check changed the window");
            if authentic && window.check(seq).is_ok() {
                window.commit(seq);
                model.commit(seq);
            }
            prop_assert_eq!(window.top(), model.top);
            prop_assert_eq!(window.edge(), model.edge());
        }
    }

    /// RFC 4303 appendix A2.2 promises exactly this: from the left edge on, 2^32 numbers are told
    /// apart by their low halves.
    #[test]
    fn the_inferred_number_is_right_for_2_to_the_32_numbers_from_the_edge(
        size in size(),
        top in prop_oneof![any::<u64>(), start(), (any::<u32>(), 0u64..5000)
            .prop_map(|(high, low)| (u64::from(high) << 32) | low)],
        offset: u32,
    ) {
        let window = ReplayWindow::starting_at(size, top).unwrap();
        let bottom = (top + u64::from(top == 0)).saturating_sub(size as u64 - 1);
        if let Some(seq) = bottom.checked_add(u64::from(offset)) {
            let [.., a, b, c, d] = seq.to_be_bytes();
            prop_assert_eq!(window.infer(u32::from_be_bytes([a, b, c, d])), seq);
        }
    }
}
