//! Policies.

use super::{accept, identity, policy, prefix, refuse_ops};
use crate::limits::{ROWS_PER_POLICY_MAX, RULES_PER_POLICY_MAX};
use crate::model::{
    Action, Direction, Generation, IdentityId, Policy, PolicyRow, PortBlock, Protocol, RuleIndex,
    ShadowTable, Tier,
};
use crate::transaction::{Key, Mode, Op, Transaction};

/// What is said of the sample's policy 2, of two ingress rows.
fn db(change: impl FnOnce(&mut Policy)) -> String {
    refuse_ops(vec![policy(2, change)])
}

#[test]
fn rows_are_sorted_and_their_keys_unique() {
    assert_eq!(
        db(|it| it.rows.swap(0, 1)),
        "ops[0].add.policy.rows[1]: the row sorts before the one above it; sort by \
         direction, tier, peer, protocol, ports"
    );
    assert_eq!(
        db(|it| it.rows[1] = PolicyRow {
            rule: RuleIndex(1),
            ..it.rows[0]
        }),
        "ops[0].add.policy.rows[1]: the row has the same key as the one above it; keep the \
         one of the lower rule"
    );
}

#[test]
fn rules_are_the_policys_own() {
    assert_eq!(
        db(|it| it.rows[1].rule = RuleIndex(3)),
        "ops[0].add.policy.rows[1].rule: there is no rule 3; the policy has 3"
    );
    assert_eq!(
        db(|it| it.ingress.rule = RuleIndex(3)),
        "ops[0].add.policy.ingress.rule: there is no rule 3; the policy has 3"
    );
    assert_eq!(
        db(|it| it.egress.rule = RuleIndex(u32::MAX)),
        "ops[0].add.policy.egress.rule: there is no rule 4294967295; the policy has 3"
    );
}

#[test]
fn a_rows_identity_exists_and_is_not_zero() {
    assert_eq!(
        db(|it| it.rows[0].peer = Some(IdentityId(0))),
        "ops[0].add.policy.rows[0].identity: identity 0 is never used; number identities \
         from 1"
    );
    assert_eq!(
        db(|it| it.rows[1].peer = Some(IdentityId(70))),
        "ops[0].add.policy.rows[1].identity: policy 2 needs identity 70, which there is not; \
         have both in force, or neither"
    );
    accept(vec![policy(2, |it| it.rows[0].peer = None)]);
}

#[test]
fn only_tcp_udp_and_sctp_have_ports() {
    assert_eq!(
        db(|it| it.rows[1].protocol = None),
        "ops[0].add.policy.rows[1].ports: any protocol has no ports; use the block of all \
         ports, or TCP, UDP or SCTP"
    );
    assert_eq!(
        db(|it| it.rows[1].protocol = Some(Protocol::Icmp)),
        "ops[0].add.policy.rows[1].ports: ICMP has no ports; use the block of all ports, or \
         TCP, UDP or SCTP"
    );
    for protocol in [Protocol::Udp, Protocol::Sctp] {
        accept(vec![policy(2, |it| it.rows[1].protocol = Some(protocol))]);
    }
    accept(vec![policy(2, |it| {
        it.rows[1].protocol = Some(Protocol::Icmp);
        it.rows[1].ports = PortBlock::ANY;
    })]);
}

/// The sample with identity 70 for a domain, a row of policy 2 that names it, and more.
fn with_domain(
    direction: Direction,
    action: Action,
    more: Vec<crate::transaction::Op>,
) -> Vec<crate::transaction::Op> {
    let domain = identity(5, |it| {
        it.id = IdentityId(70);
        it.domain = Some("*.example.com".parse().expect("it is a pattern"));
    });
    let row = policy(2, |it| {
        let row = PolicyRow {
            direction,
            action,
            peer: Some(IdentityId(70)),
            ..it.rows[0]
        };
        it.rows.push(row);
        it.rows.sort_by_key(PolicyRow::key);
    });
    [vec![domain, row], more].concat()
}

#[test]
fn a_domain_is_named_by_egress_rows_that_allow_and_by_nothing_else() {
    accept(with_domain(Direction::Egress, Action::Allow, Vec::new()));
    for (direction, action) in [
        (Direction::Ingress, Action::Allow),
        (Direction::Egress, Action::Deny),
        (Direction::Egress, Action::Pass),
    ] {
        let refused = refuse_ops(with_domain(direction, action, Vec::new()));
        assert!(
            refused.contains(
                ".identity: identity 70 stands for the domain *.example.com, which only egress \
                 rows that allow may name"
            ),
            "{refused}"
        );
    }
    let held = prefix("0.0.0.0/0", |it| it.identity = IdentityId(70));
    assert_eq!(
        refuse_ops(with_domain(Direction::Egress, Action::Allow, vec![held])),
        "ops[2].add.prefix.identity: identity 70 stands for the domain *.example.com, which \
         nobody has of itself; give it another identity"
    );
}

/// Rows of policies that the transaction doesn't touch count as well.
#[test]
fn an_identity_that_becomes_a_domains_is_held_against_all_rows() {
    for (direction, is_taken) in [(Direction::Egress, true), (Direction::Ingress, false)] {
        let mut ops = with_domain(direction, Action::Allow, Vec::new());
        let domain = ops.remove(0);
        let plain = identity(5, |it| it.id = IdentityId(70));
        let before = accept([vec![plain], ops].concat());
        let becomes = Transaction {
            mode: Mode::Delta {
                base: before.generation,
            },
            ops: vec![domain],
            generation: Generation(before.generation.0 + 1),
        };
        let after = before.apply(&becomes);
        assert_eq!(after.is_ok(), is_taken, "{after:?}");
    }
}

/// What is said of the sample's policy 2 with such a shadow of itself.
fn shadowed(change: impl FnOnce(&mut Policy)) -> String {
    db(|it| {
        let mut table = it.clone();
        change(&mut table);
        it.shadow = Some(Box::new(ShadowTable::new(table)));
    })
}

/// No enforced row has it, and a delta that touches nothing but the identity says so too.
#[test]
fn an_identity_that_a_shadow_names_stays() {
    let named = policy(2, |it| {
        let mut table = it.clone();
        table.rows[0].peer = Some(IdentityId(70));
        table.rows.sort_by_key(PolicyRow::key);
        it.shadow = Some(Box::new(ShadowTable::new(table)));
    });
    let before = accept(vec![identity(5, |it| it.id = IdentityId(70)), named]);
    let without = Transaction {
        mode: Mode::Delta {
            base: before.generation,
        },
        ops: vec![Op::Del(Key::Identity(IdentityId(70)))],
        generation: Generation(before.generation.0 + 1),
    };
    let refused = before.apply(&without).unwrap_err().to_string();
    assert!(refused.contains("identity 70"), "{refused}");
}

#[test]
fn a_shadow_is_checked_as_strictly_as_its_policy() {
    accept(vec![policy(2, |it| {
        it.shadow = Some(Box::new(ShadowTable::new(it.clone())));
    })]);
    assert_eq!(
        shadowed(|it| it.rows[1].rule = RuleIndex(3)),
        "ops[0].add.policy.shadow.rows[1].rule: there is no rule 3; the policy has 3"
    );
    assert_eq!(
        shadowed(|it| it.egress.rule = RuleIndex(3)),
        "ops[0].add.policy.shadow.egress.rule: there is no rule 3; the policy has 3"
    );
    assert_eq!(
        shadowed(|it| it.rows[0].peer = Some(IdentityId(9))),
        "ops[0].add.policy.shadow.rows[0].identity: policy 2 needs identity 9, which there is not; \
         have both in force, or neither"
    );
    assert_eq!(
        shadowed(|it| it.rules[0].clear()),
        "ops[0].add.policy.shadow.rules[0]: is empty; give a name"
    );
}

#[test]
fn a_shadows_rows_and_rules_count_towards_the_policys() {
    let row = |port: usize| PolicyRow {
        direction: Direction::Ingress,
        tier: Tier::Namespace,
        peer: None,
        protocol: Some(Protocol::Tcp),
        ports: PortBlock::masked(u16::try_from(port).unwrap_or(0), 16),
        action: Action::Allow,
        rule: RuleIndex(0),
    };
    let rows = |count| (0..count).map(row).collect::<Vec<_>>();
    assert_eq!(
        db(|it| {
            it.rows = rows(ROWS_PER_POLICY_MAX);
            let one = Policy {
                rows: rows(1),
                ..it.clone()
            };
            it.shadow = Some(Box::new(ShadowTable::new(one)));
        }),
        "ops[0].add.policy.shadow.rows: 65537 rows are too many; at most 65536 fit"
    );
    assert_eq!(
        shadowed(|it| it.rules = vec!["rule".to_owned(); RULES_PER_POLICY_MAX]),
        "ops[0].add.policy.shadow.rules: 4099 rules are too many; at most 4096 fit"
    );
}
