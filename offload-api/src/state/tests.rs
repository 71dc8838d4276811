//! Transactions on random states: what holds of every one.

use proptest::prelude::*;

use super::State;
use crate::convert::{Assembler, to_requests};
use crate::limits::Limits;
use crate::model::Generation;
use crate::testing;
use crate::transaction::{Mode, Op, Transaction};

/// A transaction as the other side gets it.
fn travelled(tx: Transaction) -> Transaction {
    let mut assembler = Assembler::default();
    let messages = to_requests(tx).map(|it| assembler.on_message(it));
    let last = messages.last().expect("there is a commit");
    last.expect("it is well formed").expect("it was the commit")
}

/// The snapshot that keeps what `target` has in common with `from`.
fn keeping(from: &State, target: &State) -> Transaction {
    let op = |object: crate::Object| {
        let key = object.key();
        if from.object(&key).as_ref() == Some(&object) {
            Op::Keep(key)
        } else {
            Op::Add(object)
        }
    };
    Transaction {
        mode: Mode::Snapshot,
        ops: target.objects().map(op).collect(),
        generation: target.generation,
    }
}

proptest! {
    #[test]
    fn random_states_are_valid(state in testing::state(3)) {
        prop_assert_eq!(state.validate(&Limits::MAX), Ok(()));
    }

    /// Whichever way an agent goes from one state to another, it gets there.
    #[test]
    fn deltas_and_snapshots_lead_to_the_same_state(
        from in testing::state(3),
        to in testing::state(4),
    ) {
        let ways = [from.delta_to(&to), to.to_snapshot(), keeping(&from, &to)];
        for tx in ways {
            prop_assert_eq!(from.apply(&travelled(tx)), Ok(to.clone()));
        }
        let restarted = State::default().apply(&to.to_snapshot());
        prop_assert_eq!(restarted, Ok(to));
    }

    /// A snapshot sweeps what it doesn't mark: of each kept subset, exactly that is left, or
    /// it is refused because it doesn't hold together.
    #[test]
    fn a_snapshot_is_what_it_marks(
        state in testing::state(3),
        marks in proptest::collection::vec(prop::bool::weighted(0.9), 100),
    ) {
        let keys = state.objects().map(|it| it.key());
        let (kept, swept): (Vec<_>, Vec<_>) = keys.zip(marks).partition(|(_, mark)| *mark);
        let tx = Transaction {
            mode: Mode::Snapshot,
            ops: kept.iter().map(|(key, _)| Op::Keep(key.clone())).collect(),
            generation: Generation(4),
        };
        let delta = Transaction {
            mode: Mode::Delta { base: Generation(3) },
            ops: swept.iter().map(|(key, _)| Op::Del(key.clone())).collect(),
            generation: Generation(4),
        };
        match (state.apply(&tx), state.apply(&delta)) {
            (Ok(next), Ok(same)) => {
                prop_assert_eq!(&next, &same);
                prop_assert!(kept.iter().all(|(key, _)| next.object(key) == state.object(key)));
                prop_assert!(swept.iter().all(|(key, _)| !next.has(key)));
            }
            (Err(kept), Err(deleted)) => {
                prop_assert!(kept.path.starts_with("ops["), "{}", kept);
                prop_assert!(deleted.path.starts_with("ops["), "{}", deleted);
                prop_assert_eq!(kept.code(), deleted.code());
            }
            (kept, deleted) => prop_assert!(false, "{kept:?} but {deleted:?}"),
        }
    }

    /// What is taken is valid, whatever is thrown at it; what is refused is at fault with
    /// an operation that there is.
    #[test]
    fn what_is_taken_is_valid(
        state in testing::state(3),
        mut ops in proptest::collection::vec(testing::op(), 0..4),
        others in testing::state(3),
        picks in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let objects: Vec<_> = others.objects().collect();
        ops.retain(|op| !matches!(op, Op::Keep(_)));
        ops.extend(picks.iter().map(|pick| Op::Add(pick.get(&objects).clone())));
        let tx = Transaction {
            mode: Mode::Delta { base: Generation(3) },
            ops,
            generation: Generation(4),
        };
        match state.apply(&tx) {
            Ok(next) => prop_assert_eq!(next.validate(&Limits::MAX), Ok(())),
            Err(refusal) => {
                let index = refusal.path.strip_prefix("ops[").and_then(|it| it.split(']').next());
                let index = index.and_then(|it| it.parse::<usize>().ok());
                prop_assert!(index.is_some_and(|it| it < tx.ops.len()), "{}", refusal);
            }
        }
    }
}
