//! Messages that resolvers send, against a reading of them that takes its time.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use sluice_dataplane_core::addr::Addr;
use sluice_dataplane_core::names::message::{CHAIN_MAX, Fault, Message, RECORDS_MAX};

use crate::rig::*;

const NAMES: [&str; 6] = [
    "q.example",
    "a.example",
    "b.cdn.net",
    "c.d.cdn.net",
    "example",
    "x.org",
];

fn addresses(bytes: &[u8]) -> Result<Vec<(Addr, u32)>, Fault> {
    let mut found = Vec::new();
    Message::read(bytes)?.addresses(&mut |addr, ttl_s| found.push((addr, ttl_s)))?;
    Ok(found)
}

fn v4(n: u8) -> IpAddr {
    IpAddr::from([198, 51, 100, n])
}

#[derive(Clone, Debug)]
enum Says {
    Stands(usize, usize, u32),
    Has(usize, u8, u32),
    Text(usize),
}

fn says() -> impl Strategy<Value = Says> {
    let name = 0..NAMES.len();
    prop_oneof![
        (name.clone(), name.clone(), 0..1000u32).prop_map(|(a, b, ttl)| Says::Stands(a, b, ttl)),
        (name.clone(), any::<u8>(), 0..1000u32).prop_map(|(a, n, ttl)| Says::Has(a, n, ttl)),
        name.prop_map(Says::Text),
    ]
}

/// The records, each name written out or as a pointer to where it stood before.
fn written(all: &[Says], compress: bool) -> Vec<u8> {
    let mut at = BTreeMap::from([(0usize, 12usize)]);
    let mut offset = 12 + dns_name(NAMES[0]).len() + 4;
    let mut records = Vec::new();
    for it in all {
        let (Says::Stands(owner, ..) | Says::Has(owner, ..) | Says::Text(owner)) = *it;
        let name = match at.get(&owner) {
            Some(to) if compress => (0xc000 | *to as u16).to_be_bytes().to_vec(),
            _ => {
                at.insert(owner, offset);
                dns_name(NAMES[owner])
            }
        };
        let record = match *it {
            Says::Stands(_, target, ttl) => {
                let data = match at.get(&target) {
                    Some(to) if compress => (0xc000 | *to as u16).to_be_bytes().to_vec(),
                    _ => dns_name(NAMES[target]),
                };
                dns_record(&name, 5, ttl, &data)
            }
            Says::Has(_, n, ttl) => dns_addr(&name, v4(n), ttl),
            Says::Text(_) => dns_record(&name, 16, 9, b"\x02hi"),
        };
        offset += record.len();
        records.push(record);
    }
    dns_answer(7, NAMES[0], 1, &records)
}

/// What they say, read off the list; `None` if the names lead round.
fn expected(all: &[Says]) -> Option<Vec<(Addr, u32)>> {
    let (mut name, mut least) = (0, u32::MAX);
    for _ in 0..=NAMES.len() {
        let next = all.iter().find_map(|it| match *it {
            Says::Stands(owner, target, ttl) if owner == name => Some((target, ttl)),
            _ => None,
        });
        let Some((target, ttl)) = next else {
            let has = all.iter().filter_map(|it| match *it {
                Says::Has(owner, n, ttl) if owner == name => Some((v4(n).into(), ttl.min(least))),
                _ => None,
            });
            return Some(has.collect());
        };
        (name, least) = (target, least.min(ttl));
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_answer_says_what_its_records_say(
        all in vec(says(), 0..12),
        compress in any::<bool>(),
    ) {
        // A name stands for one other at most (RFC 2181 section 10.1).
        let mut stands = std::collections::BTreeSet::new();
        let all: Vec<_> = all
            .into_iter()
            .filter(|it| !matches!(it, Says::Stands(owner, ..) if !stands.insert(*owner)))
            .collect();
        let got = addresses(&written(&all, compress));
        match expected(&all) {
            Some(expected) => prop_assert_eq!(got, Ok(expected)),
            None => prop_assert_eq!(got, Err(Fault::TooMuch)),
        }
    }

    #[test]
    fn any_bytes_end_in_an_error_or_in_addresses_that_are_few(
        all in vec(says(), 0..12),
        compress in any::<bool>(),
        changes in vec((any::<prop::sample::Index>(), select(vec![0u8, 1, 12, 63, 64, 0xc0, 0xff])), 1..8),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = written(&all, compress);
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(found) = addresses(&bytes) {
            prop_assert!(found.len() <= bytes.len() / 12);
        }
    }

    #[test]
    fn bytes_of_no_message_are_read_without_harm(bytes in vec(any::<u8>(), 0..600)) {
        let _ = addresses(&bytes);
    }

    #[test]
    fn a_name_is_itself_in_any_case(upper in subsequence((0..9usize).collect::<Vec<_>>(), 0..9)) {
        let mut bytes = dns_answer(7, NAMES[0], 1, &[]);
        for at in upper {
            bytes[13 + at] = bytes[13 + at].to_ascii_uppercase();
        }
        let plain = dns_answer(7, NAMES[0], 1, &[]);
        prop_assert_eq!(Message::read(&bytes).unwrap().name, Message::read(&plain).unwrap().name);
    }
}

#[test]
fn pointers_lead_to_the_front_or_nowhere() {
    let good = dns_addr(&QUESTION, v4(1), 60);
    let question_len = dns_query(7, NAMES[0], 1).len();
    let pointer = |to: usize| (0xc000 | to as u16).to_be_bytes().to_vec();
    // To itself, past itself, into the header, out of the message; and a chain of 20.
    let here = question_len + good.len();
    for to in [here, here + 2, 4, 0x3fff] {
        let bad = dns_record(&pointer(to), 1, 60, &[1, 2, 3, 4]);
        let answer = dns_answer(7, NAMES[0], 1, &[good.clone(), bad]);
        assert_eq!(addresses(&answer), Err(Fault::Name), "to {to}");
    }
    let mut owner = pointer(12);
    let mut at = question_len;
    let mut records = Vec::new();
    for _ in 0..20 {
        let text = dns_record(&owner, 16, 1, &owner);
        owner = pointer(at + text.len() - 2);
        at += text.len();
        records.push(text);
    }
    records.push(dns_record(&owner, 1, 60, &[1, 2, 3, 4]));
    assert_eq!(
        addresses(&dns_answer(7, NAMES[0], 1, &records)),
        Err(Fault::Name)
    );
}

#[test]
fn what_is_more_than_is_read_says_nothing() {
    let owner = dns_name(NAMES[0]);
    let many = |count: u16| -> Vec<_> {
        (0..count)
            .map(|n| dns_addr(&QUESTION, v4(n as u8), 60))
            .collect()
    };
    let count =
        |records: &[Vec<u8>]| addresses(&dns_answer(7, NAMES[0], 1, records)).map(|it| it.len());
    assert_eq!(count(&many(RECORDS_MAX)), Ok(usize::from(RECORDS_MAX)));
    assert_eq!(count(&many(RECORDS_MAX + 1)), Err(Fault::TooMuch));
    // Names of many labels in many records: the work is bounded, whatever the size.
    let long = ["a"; 120].join(".");
    let wide: Vec<_> = (0..60)
        .map(|n| dns_addr(&dns_name(&long), v4(n), 60))
        .collect();
    assert_eq!(count(&wide), Err(Fault::TooMuch));
    // A chain as long as is followed, and one longer.
    for (steps, expected) in [(CHAIN_MAX, Ok(1)), (CHAIN_MAX + 1, Err(Fault::TooMuch))] {
        let name = |n: usize| dns_name(&format!("n{n}.example"));
        let mut records = vec![dns_record(&owner, 5, 60, &name(1))];
        records.extend((1..steps).map(|n| dns_record(&name(n), 5, 60, &name(n + 1))));
        records.push(dns_addr(&name(steps), v4(1), 60));
        assert_eq!(count(&records), expected, "{steps}");
    }
}

#[test]
fn names_that_are_too_long_are_none() {
    let label = "a".repeat(63);
    let fits = [label.as_str(), &label, &label, &"b".repeat(61)].join(".");
    assert!(Message::read(&dns_query(1, &fits, 1)).is_ok());
    let long = [label.as_str(), &label, &label, &"b".repeat(62)].join(".");
    assert!(matches!(
        Message::read(&dns_query(1, &long, 1)),
        Err(Fault::Name)
    ));
    let mut odd = dns_query(1, NAMES[0], 1);
    odd[12] = 0x41;
    assert!(matches!(Message::read(&odd), Err(Fault::Name)));
}
