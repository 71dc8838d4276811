//! The rules and the headers that every contender of a run gets.
//!
//! One pod's ingress: rule `n` is about one identity, which has one address. No two rules
//! of an identity and protocol overlap, because nftables refuses elements that do.

use std::ops::RangeInclusive;

use sluice_dataplane_core::addr::Addr;
use sluice_dataplane_core::flow::key::Tuple;
use sluice_dataplane_core::hash::HashKey;
use sluice_dataplane_core::meta::proto;
use sluice_dataplane_core::snapshot::{IdentityId, PeerIndex, Place, Snapshot};
use sluice_dataplane_core::table::policy::{
    Action, Direction, PolicyTable, Row, Ruling, Tier, Transport,
};
use sluice_dataplane_core::table::prefix::Owner;

use crate::bed::{self, Side};

/// Identities, at most: they share 10.128.0.0/16.
pub const IDENTITIES_MAX: u32 = 65_535;

const FIRST_ADDRESS: u32 = u32::from_be_bytes([10, 128, 0, 1]);
const FIRST_IDENTITY: u32 = 1_000;
const HASH_KEY: HashKey = HashKey([0x5bd1_e995_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f]);

/// The verdict where no rule matches.
pub const FALLBACK: bool = false;

/// How long the ports' prefixes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lengths {
    /// Three single ports, a block of 16, a block of 256.
    Usual,
    /// Every length there is: a table that tries lengths one by one has most to try.
    All,
}

/// A rule about who may reach the pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Whose, from 0.
    pub identity: u32,
    /// IANA number: TCP or UDP.
    pub protocol: u8,
    /// First destination port.
    pub port_base: u16,
    /// Fixed leading bits of the port, 0 to 16.
    pub port_len: u8,
    /// What it says.
    pub allow: bool,
}

impl Rule {
    /// Its destination ports.
    #[must_use]
    pub fn ports(&self) -> RangeInclusive<u16> {
        let rest = u16::MAX.checked_shr(u32::from(self.port_len)).unwrap_or(0);
        self.port_base..=self.port_base | rest
    }
}

/// The address of an identity's only pod.
#[must_use]
pub fn address(identity: u32) -> [u8; 4] {
    (FIRST_ADDRESS + identity).to_be_bytes()
}

/// The pod that all rules are about.
#[must_use]
pub fn pod() -> [u8; 4] {
    Side::A.pod(0).to_v4()
}

/// The headers that decide, as short as they can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// Source address.
    pub src: [u8; 4],
    /// Destination port.
    pub port: u16,
    /// IANA number.
    pub protocol: u8,
}

impl Header {
    /// As the walk has it.
    #[inline]
    #[must_use]
    pub fn tuple(self) -> Tuple {
        Tuple {
            src: Addr::v4(self.src),
            dst: Side::A.pod(0),
            src_port: 40_000,
            dst_port: self.port,
            protocol: self.protocol,
        }
    }
}

/// Rules in the order they are tried.
#[derive(Clone, Debug)]
pub struct RuleSet {
    /// The rules.
    pub rules: Vec<Rule>,
    /// Identities with an address, whether a rule names them or not.
    pub identities: u32,
}

impl RuleSet {
    /// `count` rules dealt to `identities`, the same each time.
    #[must_use]
    pub fn new(count: u32, identities: u32, lengths: Lengths) -> Self {
        let identities = identities.clamp(1, IDENTITIES_MAX);
        // Of an identity's rules every other one is TCP; each gets a share of the ports.
        let each = count.div_ceil(identities).div_ceil(2).max(1);
        let share_len = each.next_power_of_two().trailing_zeros();
        let rules = (0..count)
            .map(|n| {
                let (identity, nth) = (n % identities, n / identities);
                let place = nth / 2;
                let wanted = match lengths {
                    Lengths::Usual => [16, 16, 16, 12, 8][n as usize % 5],
                    Lengths::All => n % 17,
                };
                let port_len = wanted.clamp(share_len.min(16), 16);
                // Ports of services are low: a lone rule isn't always about port 0.
                let offset = low32(mix(u64::from(n))) & 0x3fff;
                let share = (0x1_0000 >> share_len.min(16)) - 1;
                let block = u16::MAX.checked_shr(port_len).unwrap_or(0);
                let port = place << (16 - share_len.min(16)) | offset & share;
                Rule {
                    identity,
                    protocol: [proto::TCP, proto::UDP][(nth + identity) as usize % 2],
                    port_base: low16(u64::from(port)) & !block,
                    port_len: u8::try_from(port_len).unwrap_or(16),
                    allow: n % 3 != 0,
                }
            })
            .collect();
        Self { rules, identities }
    }

    /// The pod's table.
    #[must_use]
    pub fn table(&self) -> PolicyTable {
        let rows: Vec<_> = (0..)
            .zip(&self.rules)
            .map(|(n, rule)| Row {
                direction: Direction::Ingress,
                tier: Tier::Namespace,
                peer: Some(IdentityId(FIRST_IDENTITY + rule.identity)),
                transport: Some(match rule.protocol {
                    proto::TCP => Transport::Tcp,
                    _ => Transport::Udp,
                }),
                port_base: rule.port_base,
                port_len: rule.port_len,
                action: if rule.allow {
                    Action::Allow
                } else {
                    Action::Deny
                },
                rule: n,
            })
            .collect();
        let fallback = Ruling {
            allow: FALLBACK,
            rule: u32::MAX,
        };
        PolicyTable::build(HASH_KEY, &rows, fallback, fallback)
    }

    /// A node whose first pod has that table, in a cluster where every identity is a pod of
    /// another node, and the rest of the world is outside.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let owner = Owner::new;
        let mut more: Vec<_> = (0..self.identities)
            .map(|n| {
                let identity = IdentityId(FIRST_IDENTITY + n);
                let place = Place::RemotePod(PeerIndex(0));
                (Addr::v4(address(n)), 32, owner(identity, place))
            })
            .collect();
        let world = owner(IdentityId(1), Place::Outside);
        more.push((Addr::v4([0; 4]), 0, world));
        let mut snapshot = bed::snapshot_with(Side::A, &[], &more);
        for policy in &mut snapshot.policies {
            policy.table = self.table();
        }
        snapshot
    }

    /// What the identity behind the pod's table is called there.
    #[must_use]
    pub fn identity_of(src: [u8; 4]) -> IdentityId {
        let nth = u32::from_be_bytes(src).wrapping_sub(FIRST_ADDRESS);
        IdentityId(if nth < IDENTITIES_MAX {
            FIRST_IDENTITY + nth
        } else {
            1
        })
    }

    /// Headers to ask about.
    #[must_use]
    pub fn headers(&self, keys: Keys) -> Vec<Header> {
        match keys {
            Keys::Same256 => (0..256).map(|n| self.matching(n)).collect(),
            Keys::Random => (0..HEADERS).map(|n| self.random(n)).collect(),
            Keys::Hostile => (0..HEADERS).map(|n| self.hostile(n)).collect(),
        }
    }

    /// A header that a rule is about; the rules are spread over the list.
    fn matching(&self, n: u64) -> Header {
        let count = self.rules.len() as u64;
        let rule = &self.rules[index(n * count / 256 + mix(n) % 7, count)];
        let (first, last) = rule.ports().into_inner();
        Header {
            src: address(rule.identity),
            port: first + low16(mix(n)) % (last - first).max(1),
            protocol: rule.protocol,
        }
    }

    fn random(&self, n: u64) -> Header {
        let random = mix(n);
        Header {
            src: address(low32(random) % self.identities),
            port: low16(random >> 32),
            protocol: [proto::TCP, proto::UDP][index(random >> 50, 2)],
        }
    }

    /// Whoever doesn't know the hash's key can still send addresses and ports that differ
    /// in high bits only, so that a hash which keeps low bits would meet, addresses that
    /// nobody has, and the ports beside those that rules are about.
    fn hostile(&self, n: u64) -> Header {
        let rule = &self.rules[index(mix(n), self.rules.len() as u64)];
        let src = match n % 4 {
            0 => address(rule.identity),
            1 => address((low32(n << 8) & 0xff00) % self.identities),
            2 => [10, 64, low16(n >> 2).to_be_bytes()[1], 1],
            _ => address(rule.identity ^ 1),
        };
        let port = match n % 3 {
            0 => *rule.ports().end(),
            1 => rule.ports().end().wrapping_add(1),
            _ => low16(n << 8),
        };
        Header {
            src,
            port,
            protocol: rule.protocol,
        }
    }
}

/// Headers of a list that isn't of 256.
const HEADERS: u64 = 1 << 16;

/// Which headers are asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keys {
    /// 256 flows that rules are about, again and again.
    Same256,
    /// Uniform over identities, ports and protocols.
    Random,
    /// What a sender would choose who wants lookups to be slow.
    Hostile,
}

impl Keys {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Same256, Self::Random, Self::Hostile];

    /// As in the JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Same256 => "same-256",
            Self::Random => "random",
            Self::Hostile => "hostile",
        }
    }

    /// The lengths of the rules' ports that go with it.
    #[must_use]
    pub const fn lengths(self) -> Lengths {
        match self {
            Self::Same256 | Self::Random => Lengths::Usual,
            Self::Hostile => Lengths::All,
        }
    }

    /// Times that the smallest rule set's lookup may take, at most.
    #[must_use]
    pub const fn target(self) -> f64 {
        match self {
            Self::Same256 => 1.2,
            Self::Random | Self::Hostile => 2.5,
        }
    }
}

/// Spreads a number over 64 bits (the finalizer of `SplitMix64`).
#[must_use]
pub const fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

#[allow(clippy::cast_possible_truncation, reason = "the low 16 bits are meant")]
const fn low16(n: u64) -> u16 {
    n as u16
}

#[allow(clippy::cast_possible_truncation, reason = "the low 32 bits are meant")]
const fn low32(n: u64) -> u32 {
    n as u32
}

#[allow(clippy::cast_possible_truncation, reason = "smaller than a length")]
const fn index(n: u64, len: u64) -> usize {
    (n % len) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn no_two_rules_of_an_identity_and_protocol_overlap() {
        for lengths in [Lengths::Usual, Lengths::All] {
            for (count, identities) in [(10, 1), (1_000, 1), (100_000, 1), (5_000, 100)] {
                let set = RuleSet::new(count, identities, lengths);
                assert_eq!(set.rules.len(), count as usize);
                let mut taken: BTreeMap<_, u16> = BTreeMap::new();
                for rule in &set.rules {
                    let whose = (rule.identity, rule.protocol);
                    let (first, last) = rule.ports().into_inner();
                    let before = taken.range((whose, 0)..=(whose, last)).next_back();
                    assert!(
                        before.is_none_or(|(_, &end)| end < first),
                        "{rule:?} meets another of {count} rules"
                    );
                    taken.insert((whose, first), last);
                }
            }
        }
    }

    #[test]
    fn hostile_rules_have_every_length() {
        let set = RuleSet::new(1_000, 65_535, Lengths::All);
        for len in 0..=16 {
            assert!(set.rules.iter().any(|rule| rule.port_len == len), "{len}");
        }
    }
}
