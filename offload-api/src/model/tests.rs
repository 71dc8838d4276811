//! Values: blocks of ports, prefixes, names.

use core::net::IpAddr;

use proptest::prelude::*;

use super::{IpPrefix, MacAddr, PortBlock, PrefixError};
use crate::testing;

/// How few blocks can make up `first..=last`, by trying each block that starts there.
fn fewest(first: u32, last: u32) -> usize {
    let mut best = vec![0; (last - first + 2) as usize];
    for at in (first..=last).rev() {
        let sizes = (0..=16).map(|bits| 1u32 << bits);
        let fit = sizes.filter(|size| at % size == 0 && at + size - 1 <= last);
        let rest = fit.map(|size| best[(at + size - first) as usize]);
        best[(at - first) as usize] = 1 + rest.min().expect("one port always fits");
    }
    best[0]
}

#[test]
fn a_cover_of_a_small_range_is_exact_and_minimal() {
    for first in 0u16..70 {
        for last in first..70 {
            let blocks = PortBlock::cover(first, last);
            for port in 0..200 {
                let covered = blocks.iter().filter(|it| it.contains(port)).count();
                let inside = (first..=last).contains(&port);
                assert_eq!(covered, usize::from(inside), "{port} of {first}..={last}");
            }
            let fewest = fewest(first.into(), last.into());
            assert_eq!(blocks.len(), fewest, "{first}..={last}");
        }
    }
}

#[test]
fn covers_at_the_ends_are_right() {
    assert_eq!(PortBlock::cover(0, u16::MAX), vec![PortBlock::ANY]);
    assert_eq!(PortBlock::cover(5, 4), Vec::new());
    assert_eq!(
        PortBlock::cover(u16::MAX, u16::MAX),
        vec![PortBlock::masked(u16::MAX, 16)]
    );
    assert_eq!(PortBlock::cover(0, 0), vec![PortBlock::masked(0, 16)]);
    assert_eq!(
        PortBlock::cover(1, u16::MAX - 1).len(),
        30,
        "the most there are"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_cover_of_any_range_is_exact_and_minimal(a in any::<u16>(), b in any::<u16>()) {
        let (first, last) = (a.min(b), a.max(b));
        let blocks = PortBlock::cover(first, last);
        prop_assert_eq!(blocks.len(), fewest(first.into(), last.into()));
        prop_assert!(blocks.is_sorted());
        for port in 0..=u16::MAX {
            let covered = blocks.iter().filter(|it| it.contains(port)).count();
            prop_assert_eq!(covered, usize::from((first..=last).contains(&port)));
        }
    }
}

proptest! {
    #[test]
    fn a_block_is_what_shares_its_first_bits(port in any::<u16>(), other in any::<u16>(), len in 0u8..=16) {
        let block = PortBlock::masked(port, len);
        let shared = (port ^ other).leading_zeros() >= u32::from(len);
        prop_assert_eq!(block.contains(other), shared);
        prop_assert_eq!(PortBlock::new(block.base(), len), Some(block));
        prop_assert_eq!(PortBlock::new(port, len).is_some(), port == block.base());
    }

    #[test]
    fn a_prefix_prints_as_it_parses(prefix in testing::ip_prefix()) {
        prop_assert_eq!(prefix.to_string().parse(), Ok(prefix));
        prop_assert_eq!(IpPrefix::new(prefix.addr(), prefix.len()), Ok(prefix));
        prop_assert!(prefix.contains(prefix.addr()));
        prop_assert!(prefix.covers(&prefix));
    }

    #[test]
    fn a_prefix_is_what_shares_its_first_bits(
        prefix in testing::ip_prefix(),
        flip in 0u32..128,
        addr in any::<IpAddr>(),
    ) {
        let flipped = match prefix.addr() {
            IpAddr::V4(it) => IpAddr::V4((u32::from(it) ^ (1 << (31 - flip % 32))).into()),
            IpAddr::V6(it) => IpAddr::V6((u128::from(it) ^ (1 << (127 - flip))).into()),
        };
        let bit = if flipped.is_ipv4() { flip % 32 } else { flip };
        prop_assert_eq!(prefix.contains(flipped), bit >= u32::from(prefix.len()));
        if addr.is_ipv4() != prefix.addr().is_ipv4() {
            prop_assert!(!prefix.contains(addr));
        }
    }

    #[test]
    fn a_prefix_covers_those_that_are_longer_inside_it(
        prefix in testing::ip_prefix(),
        more in 0u8..=128,
        other in testing::ip_prefix(),
    ) {
        let len = prefix.len().saturating_add(more).min(IpPrefix::host(prefix.addr()).len());
        let inner = IpPrefix::masked(prefix.addr(), len).expect("the length fits");
        prop_assert!(prefix.covers(&inner));
        prop_assert_eq!(inner.covers(&prefix), inner == prefix);
        if prefix.covers(&other) && other.covers(&prefix) {
            prop_assert_eq!(prefix, other);
        }
    }
}

#[test]
fn what_is_no_prefix_is_refused_with_what_was_meant() {
    let refused = |text: &str| {
        let error = text.parse::<IpPrefix>().expect_err("it is no prefix");
        error.to_string()
    };
    assert_eq!(
        refused("10.0.0.1/8"),
        "10.0.0.1/8 has host bits set; the prefix is 10.0.0.0/8"
    );
    assert_eq!(
        refused("10.0.0.0/33"),
        "prefix length 33 is over 32, the longest for 10.0.0.0"
    );
    assert_eq!(
        refused("::/129"),
        "prefix length 129 is over 128, the longest for ::"
    );
    for text in [
        "::ffff:10.1.2.3/128",
        "::ffff:0:0/96",
        "::ffff:10.0.0.0/104",
    ] {
        assert!(refused(text).ends_with("is IPv4 in IPv6 form; write the IPv4 prefix itself"));
    }
    assert!("::ffff:0:0:0/80".parse::<IpPrefix>().is_ok());
    for text in [
        "",
        "10.0.0.0",
        "10.0.0/8",
        "10.0.0.0/",
        "/8",
        "::/x",
        "10.0.0.0/256",
    ] {
        let error = text.parse::<IpPrefix>();
        let syntax = PrefixError::Syntax {
            text: text.to_owned(),
        };
        assert_eq!(error, Err(syntax));
    }
}

#[test]
fn a_station_has_a_unicast_mac() {
    assert!(MacAddr([2, 0, 0, 0, 0, 0]).is_unicast());
    assert!(!MacAddr([0; 6]).is_unicast());
    assert!(!MacAddr([0xff; 6]).is_unicast());
    assert!(!MacAddr([0x33, 0x33, 0, 0, 0, 1]).is_unicast());
    assert_eq!(
        MacAddr([2, 0, 0x5e, 0, 0, 0x1f]).to_string(),
        "02:00:5e:00:00:1f"
    );
}
