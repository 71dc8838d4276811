//! Order, and who is at fault when what an object refers to goes.

use super::{Key, Mode, Op, accept, delta, identity, refuse, refuse_ops, refuse_within};
use crate::limits::Limits;
use crate::model::{Generation, IdentityId, PolicyId};
use crate::testing::sample;
use crate::transaction::Transaction;

#[test]
fn a_delta_is_on_what_is_in_force() {
    for base in [6, 8] {
        let tx = Transaction {
            mode: Mode::Delta {
                base: Generation(base),
            },
            ..delta(Vec::new())
        };
        assert_eq!(
            refuse(&tx),
            format!(
                "begin.delta.base: the change is relative to generation {base}, but 7 is in \
                 force; send a snapshot"
            )
        );
    }
}

#[test]
fn generations_rise() {
    for generation in [0, 6, 7] {
        for mode in [Mode::Snapshot, delta(Vec::new()).mode] {
            let tx = Transaction {
                mode,
                ops: Vec::new(),
                generation: Generation(generation),
            };
            assert_eq!(
                refuse(&tx),
                format!(
                    "commit.generation: generation {generation} is not above 7, which is in \
                     force"
                )
            );
        }
    }
}

#[test]
fn an_empty_delta_changes_the_generation_alone() {
    let mut expected = sample();
    expected.generation = Generation(8);
    assert_eq!(accept(Vec::new()), expected);
}

#[test]
fn operations_are_bounded() {
    let limits = Limits {
        ops: 1,
        ..Limits::MAX
    };
    let tx = delta(vec![identity(1, |_| {}), identity(2, |_| {})]);
    assert_eq!(
        refuse_within(&tx, &limits),
        "ops: 2 operations are too many; at most 1 fit"
    );
}

#[test]
fn a_delta_keeps_nothing_by_name() {
    assert_eq!(
        refuse_ops(vec![Op::Keep(Key::Policy(PolicyId(1)))]),
        "ops[0].keep.policy: a delta keeps whatever it does not mention; leave out policy 1, \
         or send a snapshot"
    );
}

#[test]
fn what_is_kept_or_deleted_exists() {
    let missing = Key::Endpoint("u-web".into());
    let why = "there is no endpoint u-web; add it, or leave it out";
    let del = Op::Del(missing.clone());
    assert_eq!(
        refuse_ops(vec![del.clone()]),
        format!("ops[0].del.endpoint: {why}")
    );
    let snapshot = |op| Transaction {
        mode: Mode::Snapshot,
        ..delta(vec![op])
    };
    assert_eq!(
        refuse(&snapshot(Op::Keep(missing))),
        format!("ops[0].keep.endpoint: {why}")
    );
    assert_eq!(
        refuse(&snapshot(del)),
        format!("ops[0].del.endpoint: {why}")
    );
}

#[test]
fn an_object_is_the_subject_of_one_operation() {
    let add = identity(3, |_| {});
    assert_eq!(
        refuse_ops(vec![add, Op::Del(Key::Identity(IdentityId(3)))]),
        "ops[1].del.identity: ops[0] is about identity 3 already; send one operation an object"
    );
}

#[test]
fn a_delete_that_leaves_a_reference_is_at_fault() {
    let cases = [
        (Key::Port("vf0".into()), "endpoint u-cart needs port vf0"),
        (Key::Policy(PolicyId(1)), "endpoint u-cart needs policy 1"),
        (Key::Identity(IdentityId(3)), "policy 2 needs identity 3"),
        (
            Key::Identity(IdentityId(5)),
            "prefix 0.0.0.0/0 needs identity 5",
        ),
        (Key::Peer("b".into()), "prefix 10.0.1.1/32 needs peer b"),
    ];
    for (key, why) in cases {
        let kind = key.kind();
        let refusal = refuse_ops(vec![identity(4, |_| {}), Op::Del(key)]);
        let why = format!("{why}, which there is not; have both in force, or neither");
        assert_eq!(refusal, format!("ops[1].del.{kind}: {why}"));
    }
}

#[test]
fn an_object_kept_without_what_it_refers_to_is_at_fault() {
    let mut keys: Vec<_> = sample().objects().map(|it| it.key()).collect();
    keys.retain(|key| *key != Key::Identity(IdentityId(5)));
    let world = Key::Prefix(super::net("0.0.0.0/0"));
    let index = keys.iter().position(|key| *key == world);
    let index = index.expect("the sample has it");
    let tx = Transaction {
        mode: Mode::Snapshot,
        ..delta(keys.into_iter().map(Op::Keep).collect())
    };
    assert_eq!(
        refuse(&tx),
        format!(
            "ops[{index}].keep.prefix: prefix 0.0.0.0/0 needs identity 5, which there is not; \
             have both in force, or neither"
        )
    );
}
