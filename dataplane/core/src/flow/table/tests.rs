use super::*;
use crate::addr::Addr;
use crate::meta::{Meta, proto};
use crate::snapshot::PortIndex;
use proptest::prelude::*;
use std::collections::BTreeMap;

const A: usize = 0;
const B: usize = 1;

fn tuple(n: u16) -> Tuple {
    Tuple {
        src: Addr::v4([10, 0, 0, 1]),
        dst: Addr::v4([10, 0, 0, 2]),
        src_port: n,
        dst_port: 80,
        protocol: proto::UDP,
    }
}

/// A flow between ports 0 and 1 that both have spoken in.
fn answered(n: u16) -> NewFlow {
    NewFlow {
        tuple: tuple(n),
        ends: [Attach::Port(PortIndex(0)), Attach::Port(PortIndex(1))],
        generations: [u32::from(n) + 1, 0],
        rule: RuleRef::default(),
        domain: DomainId::NONE,
        payer: INITIATOR,
        track: Track::Plain {
            answered: true,
            lasting: true,
        },
    }
}

/// One that port `vf` has begun.
fn asked(vf: usize, n: u16) -> NewFlow {
    let ports = if vf == A { [0, 1] } else { [1, 0] };
    NewFlow {
        ends: ports.map(|port| Attach::Port(PortIndex(port))),
        track: Track::Plain {
            answered: false,
            lasting: false,
        },
        ..answered(n)
    }
}

fn table(capacity: usize) -> FlowTable {
    FlowTable::new(capacity, HashKey([11, 13]), Timeouts::default())
}

fn limited(capacity: usize, flows_max: usize, half_open_max: usize) -> FlowTable {
    let quotas = Quotas {
        flows_max,
        half_open_max,
    };
    table(capacity).with_quotas(2, quotas)
}

/// The next packet of an end of flow `n`.
fn spoke(table: &mut FlowTable, n: u16, end: usize, now: Tick) {
    let meta = Meta {
        protocol: proto::UDP,
        ..Meta::default()
    };
    let t = if end == INITIATOR {
        tuple(n)
    } else {
        tuple(n).reversed()
    };
    let found = table.find(t, now).unwrap();
    table.take(found, &Packet::read(&[], &meta), now).unwrap();
}

fn has(table: &mut FlowTable, n: u16, now: Tick) -> bool {
    table.find(tuple(n), now).is_some()
}

#[test]
fn all_of_the_capacity_can_be_used_and_no_more() {
    let mut table = table(1000);
    for n in 0..1000 {
        table.insert(answered(n), Tick(0)).unwrap();
    }
    assert_eq!(table.insert(answered(1000), Tick(0)), Err(Refused::Full));
    assert_eq!(table.len(), 1000);
    for n in 0..1000 {
        assert!(has(&mut table, n, Tick(1)));
        let back = table.find(tuple(n).reversed(), Tick(1)).unwrap();
        assert!(!back.from_initiator);
    }
}

#[test]
fn a_flow_whose_time_is_over_is_not_found_and_its_place_is_free() {
    let mut table = table(1);
    table.insert(answered(1), Tick(0)).unwrap();
    let end = Tick(Timeouts::default().udp_established_ns);
    assert!(has(&mut table, 1, end - 1));
    assert!(!has(&mut table, 1, end));
    table.insert(answered(2), end).unwrap();
}

#[test]
fn in_a_full_table_the_oldest_half_open_flow_of_ones_own_makes_room() {
    let mut table = limited(4, 100, 100);
    table.insert(answered(0), Tick(0)).unwrap();
    for n in 1..4 {
        table.insert(asked(A, n), Tick(u64::from(n))).unwrap();
    }
    table.insert(asked(A, 4), Tick(9)).unwrap();
    let left: Vec<u16> = (0..5).filter(|n| has(&mut table, *n, Tick(9))).collect();
    assert_eq!(left, [0, 2, 3, 4]);
    assert_eq!((table.len(), table.take_evicted()), (4, 1));
}

#[test]
fn in_a_full_table_who_has_the_most_half_open_flows_makes_room() {
    let mut table = limited(6, 100, 100);
    for n in 0..5 {
        table.insert(asked(A, n), Tick(u64::from(n))).unwrap();
    }
    for n in 10..15 {
        table.insert(asked(B, n), Tick(u64::from(n))).unwrap();
    }
    // Of six places each has three, and from then on each pays for itself.
    let left: Vec<u16> = (0..20).filter(|n| has(&mut table, *n, Tick(20))).collect();
    assert_eq!(left, [2, 3, 4, 12, 13, 14]);
}

#[test]
fn a_full_table_without_half_open_flows_refuses() {
    let mut table = limited(2, 100, 100);
    table.insert(answered(0), Tick(0)).unwrap();
    table.insert(asked(A, 1), Tick(0)).unwrap();
    spoke(&mut table, 1, RESPONDER, Tick(1));
    assert_eq!(table.insert(asked(A, 2), Tick(1)), Err(Refused::Full));
    assert_eq!(table.insert(asked(B, 2), Tick(1)), Err(Refused::Full));
}

#[test]
fn at_its_quota_of_half_open_flows_a_vf_gives_up_its_own_oldest() {
    let mut table = limited(100, 100, 3);
    table.insert(asked(B, 50), Tick(0)).unwrap();
    for n in 0..5 {
        table.insert(asked(A, n), Tick(u64::from(n))).unwrap();
    }
    let left: Vec<u16> = (0..60).filter(|n| has(&mut table, *n, Tick(9))).collect();
    assert_eq!(left, [2, 3, 4, 50]);
    // Answered ones don't count.
    for n in 2..5 {
        spoke(&mut table, n, RESPONDER, Tick(9));
    }
    for n in 5..8 {
        table.insert(asked(A, n), Tick(9)).unwrap();
    }
    assert_eq!((table.len(), table.take_evicted()), (7, 2));
}

#[test]
fn at_its_quota_of_flows_a_vf_is_refused_and_others_are_not() {
    let mut table = limited(100, 3, 3);
    for n in 0..3 {
        table.insert(asked(A, n), Tick(0)).unwrap();
        spoke(&mut table, n, RESPONDER, Tick(0));
    }
    assert_eq!(table.insert(asked(A, 3), Tick(0)), Err(Refused::Quota));
    table.insert(asked(B, 3), Tick(0)).unwrap();
    let found = table.find(tuple(0), Tick(0)).unwrap();
    table.remove(found.slot);
    table.insert(asked(A, 4), Tick(0)).unwrap();
}

#[test]
fn who_is_spoken_to_has_an_account_of_its_own() {
    let mut table = limited(100, 2, 2);
    let visit = |n| NewFlow {
        ends: [Attach::Port(PortIndex(9)), Attach::Port(PortIndex(0))],
        payer: RESPONDER,
        ..answered(n)
    };
    for n in 0..2 {
        table.insert(visit(n), Tick(0)).unwrap();
    }
    assert_eq!(table.insert(visit(2), Tick(0)), Err(Refused::Quota));
    table.insert(answered(3), Tick(0)).unwrap();
}

#[test]
fn a_flow_that_is_judged_to_be_elsewhere_is_paid_for_there() {
    let mut table = limited(100, 2, 2);
    let slot = table.insert(asked(A, 0), Tick(0)).unwrap();
    table.insert(asked(B, 1), Tick(0)).unwrap();
    table.insert(asked(B, 2), Tick(0)).unwrap();
    table.rejudge(
        slot,
        asked(B, 0).ends,
        [1, 0],
        RuleRef::default(),
        DomainId::NONE,
    );
    table.insert(asked(A, 3), Tick(0)).unwrap();
    table.insert(asked(A, 4), Tick(0)).unwrap();
    assert_eq!(table.take_evicted(), 0);
    table.insert(asked(B, 5), Tick(0)).unwrap();
    assert_eq!(table.take_evicted(), 1);
    for n in [0, 1, 2, 3, 4, 5] {
        if let Some(found) = table.find(tuple(n), Tick(0)) {
            table.remove(found.slot);
        }
    }
    assert!(table.is_empty());
    assert_eq!(table.accounts.at(AccountIndex(0)).flows, 0);
    assert_eq!(table.accounts.at(AccountIndex(2)).half_open, 0);
}

#[test]
fn a_half_open_flow_that_goes_on_speaking_lives_on() {
    let mut table = limited(100, 100, 100);
    table.insert(asked(A, 0), Tick(0)).unwrap();
    table.insert(asked(A, 1), Tick(0)).unwrap();
    for second in 1..100 {
        let now = Tick(second * Tick::SECOND);
        spoke(&mut table, 0, INITIATOR, now);
        table.expire(now);
        assert_eq!(table.len(), if second < 30 { 2 } else { 1 });
    }
}

/// Tuples that all meet in one bucket under a key.
fn meeting(key: HashKey, buckets: usize, count: usize) -> Vec<Tuple> {
    let all = FlowTable::new(buckets, key, Timeouts::default());
    let bucket = |t: &Tuple| all.bucket(FlowKey::of(*t).0);
    let tuples = (0..u32::MAX).map(|n| Tuple {
        src: Addr::v4(n.to_be_bytes()),
        ..tuple(1)
    });
    tuples.filter(|t| bucket(t) == 7).take(count).collect()
}

#[test]
fn tuples_chosen_without_the_key_do_not_meet() {
    // All of these meet under another key, among them one that differs in a bit.
    let secret = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
    for guess in [
        [0, 0],
        [secret[0] ^ 1, secret[1]],
        [secret[0], secret[1] ^ 1 << 63],
    ] {
        let buckets = 1024;
        let mut table = FlowTable::new(buckets, HashKey(secret), Timeouts::default());
        for tuple in meeting(HashKey(guess), buckets, buckets) {
            let new = NewFlow {
                tuple,
                ..answered(0)
            };
            table.insert(new, Tick(0)).unwrap();
        }
        let longest = table.heads.iter().map(|head| table.chain_len(*head)).max();
        assert!(longest < Some(CHAIN_MAX / 2), "{longest:?} under {guess:?}");
    }
}

#[test]
fn a_chain_that_is_too_long_refuses_and_keeps_what_it_has() {
    let key = HashKey([11, 13]);
    let tuples = meeting(key, 1024, CHAIN_MAX + 1);
    let mut table = FlowTable::new(1024, key, Timeouts::default());
    let new = |tuple| NewFlow {
        tuple,
        ..asked(A, 0)
    };
    for tuple in &tuples[..CHAIN_MAX] {
        table.insert(new(*tuple), Tick(0)).unwrap();
    }
    assert_eq!(
        table.insert(new(tuples[CHAIN_MAX]), Tick(0)),
        Err(Refused::Chain)
    );
    assert_eq!(table.take_evicted(), 0);
    for tuple in &tuples[..CHAIN_MAX] {
        assert!(table.find(*tuple, Tick(0)).is_some());
    }
}

#[test]
fn a_question_and_its_answer_hold_a_place_for_as_long_as_a_question() {
    let t = Timeouts::default();
    let mut table = limited(64, 64, 64);
    table.insert(asked(A, 1), Tick(0)).unwrap();
    spoke(&mut table, 1, INITIATOR, Tick(0));
    spoke(&mut table, 1, RESPONDER, Tick(0));
    assert!(has(&mut table, 1, Tick(t.other_opening_ns - 1)));
    assert!(!has(&mut table, 1, Tick(t.other_opening_ns)));
    // Who goes on talking is no resolver's client.
    table.insert(asked(A, 2), Tick(0)).unwrap();
    for end in [INITIATOR, RESPONDER, INITIATOR] {
        spoke(&mut table, 2, end, Tick(0));
    }
    assert!(has(&mut table, 2, Tick(t.udp_established_ns - 1)));
    assert!(!has(&mut table, 2, Tick(t.udp_established_ns)));
}

proptest! {
    #[test]
    fn the_table_equals_a_map(ops in prop::collection::vec((0u8..3, 0u16..40), 0..400)) {
        let mut table = table(24);
        let mut model: BTreeMap<u16, u32> = BTreeMap::new();
        for (op, n) in ops {
            let found = table.find(tuple(n), Tick(0));
            prop_assert_eq!(found.is_some(), model.contains_key(&n));
            match (op, found) {
                (0 | 1, None) => {
                    let inserted = table.insert(answered(n), Tick(0));
                    prop_assert_eq!(inserted.is_ok(), model.len() < 24);
                    if inserted.is_ok() { model.insert(n, u32::from(n) + 1); }
                }
                (2, Some(found)) => {
                    table.remove(found.slot);
                    model.remove(&n);
                }
                _ => {}
            }
            prop_assert_eq!(table.len(), model.len());
        }
        for (n, generation) in model {
            let found = table.find(tuple(n), Tick(0)).unwrap();
            prop_assert_eq!(table.flow(found.slot).unwrap().generations()[0], generation);
        }
    }

    /// Whatever is said when, a flow ends when its time is over, is gone from the table
    /// within two seconds after, and no account is left with flows that aren't there.
    #[test]
    fn flows_end_in_time(
        start_s in prop_oneof![Just(0u64), Just(4_294_960), 0u64..1 << 33],
        ops in prop::collection::vec((0u16..30, 0usize..2, 0u64..40_000), 1..150),
    ) {
        let t = Timeouts::default();
        let mut table = limited(64, 64, 64);
        let mut now = Tick(start_s * Tick::SECOND);
        // When each flow ends at the earliest and at the latest, whether it is answered, and
        // whether its initiator spoke after that.
        let mut model: BTreeMap<u16, (Tick, Tick, bool, bool)> = BTreeMap::new();
        for (n, end, pause_ms) in ops {
            now = now + pause_ms * Tick::MS;
            for _ in 0..4 { table.expire(now); }
            model.retain(|_, (_, latest, ..)| *latest + 2 * Tick::SECOND > now);
            let alive = model.get(&n).filter(|m| m.1 > now);
            let end = match (table.find(tuple(n), now), alive) {
                (Some(_), Some(_)) => end,
                (None, Some((earliest, ..))) => {
                    prop_assert!(*earliest <= now, "ended early");
                    INITIATOR
                }
                (None, None) => INITIATOR,
                (Some(_), None) => return Err(TestCaseError::fail("ended late")),
            };
            if !has(&mut table, n, now) {
                model.remove(&n);
                table.insert(asked(A, n), now).unwrap();
            }
            spoke(&mut table, n, end, now);
            let was_answered = model.get(&n).is_some_and(|m| m.2);
            let is_answered = was_answered || end == RESPONDER;
            let was_lasting = model.get(&n).is_some_and(|m| m.3);
            let is_lasting = was_lasting || was_answered && end == INITIATOR;
            // The end of a half-open flow is put off by whole seconds only.
            let ns = if is_lasting { t.udp_established_ns } else { t.other_opening_ns };
            let slack = if is_answered { Tick::MS } else { Tick::SECOND };
            model.insert(n, (now + ns - slack, now + ns, is_answered, is_lasting));
            let in_time = model.values().filter(|m| m.0 > now).count();
            prop_assert!((in_time..=model.len()).contains(&table.len()));
            let account = table.accounts.at(AccountIndex(0));
            prop_assert_eq!(account.flows, table.len());
        }
        now = now + 300 * Tick::SECOND;
        for _ in 0..8 { table.expire(now); }
        prop_assert!(table.is_empty());
        prop_assert_eq!(table.accounts.at(AccountIndex(0)).half_open, 0);
    }

    #[test]
    fn expiry_reaches_every_entry(count in 1u16..300, is_answered in any::<bool>()) {
        let mut table = table(300);
        for n in 0..count {
            let new = if is_answered { answered(n) } else { asked(A, n) };
            table.insert(new, Tick(0)).unwrap();
        }
        let late = Tick(Timeouts::default().udp_established_ns + 2 * Tick::SECOND);
        for _ in 0..=usize::from(count) / EXPIRE_MAX + 3 { table.expire(late); }
        prop_assert!(table.is_empty());
    }
}
