//! One compiled policy: (direction, identity, protocol, port) to a verdict, in up to three
//! tiers.

use crate::hash::HashKey;
use crate::snapshot::IdentityId;
use crate::table::frozen::{FrozenKey, FrozenMap};

/// Seen from the endpoint that the policy is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Direction {
    /// Towards the endpoint.
    Ingress,
    /// From the endpoint.
    Egress,
}

/// Tiers are asked in this order; the first whose best row allows or denies decides.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Tier {
    /// ClusterNetworkPolicies of tier Admin, and what nobody may override.
    Admin,
    /// NetworkPolicies.
    Namespace,
    /// ClusterNetworkPolicies of tier Baseline.
    Baseline,
}

impl Tier {
    /// All, in the order in which they are asked.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Namespace, Self::Baseline];
}

/// What a row does with the flows that match it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Action {
    /// They may be.
    Allow,
    /// They may not.
    Deny,
    /// The rest of the tier has no say: the next one decides.
    Pass,
}

/// The transport as policy sees it: both ICMPs are one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Transport {
    /// TCP.
    Tcp = 1,
    /// UDP.
    Udp = 2,
    /// SCTP.
    Sctp = 3,
    /// ICMP and ICMPv6.
    Icmp = 4,
}

/// A row as given to [`PolicyTable::build`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// Which way.
    pub direction: Direction,
    /// When it is asked.
    pub tier: Tier,
    /// The other end; `None` is anyone.
    pub peer: Option<IdentityId>,
    /// The protocol; `None` is any.
    pub transport: Option<Transport>,
    /// First port of an aligned block.
    pub port_base: u16,
    /// Fixed leading bits of the block, 0 to 16.
    pub port_len: u8,
    /// What it does.
    pub action: Action,
    /// Its rule's index in its policy: the lowest of a tier's matching rows counts.
    pub rule: u32,
}

/// A verdict and the rule that gives it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ruling {
    /// Whether the flow may be.
    pub allow: bool,
    /// The rule's index in its policy.
    pub rule: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Found {
    rule: u32,
    action: Action,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct RowKey {
    peer: u32,
    direction: Direction,
    tier: Tier,
    transport: u8,
    port_base: u16,
    port_len: u8,
}

impl FrozenKey for RowKey {
    fn words(self) -> [u64; 3] {
        let low = u64::from(self.direction as u8)
            | u64::from(self.transport) << 8
            | u64::from(self.port_len) << 16
            | u64::from(self.tier as u8) << 24
            | u64::from(self.port_base) << 32;
        [u64::from(self.peer), low, 0]
    }
}

/// No identity has this number.
const ANY_PEER: u32 = 0;
const ANY_TRANSPORT: u8 = 0;

/// Keys tried for one lookup, at most: in each tier 17 port lengths for the protocol and
/// one key for any protocol, each for the peer's identity and for anyone. A tier without
/// rows costs none.
pub const KEYS_MAX: usize = Tier::ALL.len() * 2 * (17 + 1);

/// A policy's rows and what holds when none decides.
#[derive(Clone, Debug)]
pub struct PolicyTable {
    rows: FrozenMap<RowKey, Found>,
    /// By direction and tier: bit n is set if a row with port length n is there.
    lens: [[u32; Tier::ALL.len()]; 2],
    fallback: [Ruling; 2],
}

impl PolicyTable {
    /// Builds the table. Of rows with the same key the lowest rule stays.
    #[must_use]
    pub fn build(key: HashKey, rows: &[Row], ingress: Ruling, egress: Ruling) -> Self {
        let mut lens = [[0u32; Tier::ALL.len()]; 2];
        let mut sorted = rows.to_vec();
        // The map keeps the last of equal keys: highest rule first leaves the lowest.
        sorted.sort_by_key(|row| core::cmp::Reverse(row.rule));
        let entries: Vec<_> = sorted
            .iter()
            .map(|row| {
                lens[row.direction as usize][row.tier as usize] |= 1 << row.port_len.min(16);
                let key = RowKey {
                    peer: row.peer.map_or(ANY_PEER, |p| p.0),
                    direction: row.direction,
                    tier: row.tier,
                    transport: row.transport.map_or(ANY_TRANSPORT, |t| t as u8),
                    port_base: row.port_base,
                    port_len: row.port_len.min(16),
                };
                let found = Found {
                    rule: row.rule,
                    action: row.action,
                };
                (key, found)
            })
            .collect();
        Self {
            rows: FrozenMap::build(key, &entries),
            lens,
            fallback: [ingress, egress],
        }
    }

    /// What the policy says of a flow between its endpoint and `peer` with destination
    /// port `port` (0 for ICMP). `transport` is `None` for a protocol that rows can't
    /// name; only rows for any protocol match it.
    #[must_use]
    pub fn judge(
        &self,
        direction: Direction,
        peer: IdentityId,
        transport: Option<Transport>,
        port: u16,
    ) -> Ruling {
        for tier in Tier::ALL {
            let lens = self.lens[direction as usize][tier as usize];
            // Most policies have rows of one tier.
            if lens == 0 {
                continue;
            }
            let found = self.best(direction, tier, lens, peer, transport, port);
            if let Some(Found { rule, action }) = found
                && action != Action::Pass
            {
                let allow = action == Action::Allow;
                return Ruling { allow, rule };
            }
        }
        self.fallback[direction as usize]
    }

    /// The matching row of a tier with the lowest rule. `port_lens` as in `lens`.
    fn best(
        &self,
        direction: Direction,
        tier: Tier,
        port_lens: u32,
        peer: IdentityId,
        transport: Option<Transport>,
        port: u16,
    ) -> Option<Found> {
        let mut best: Option<Found> = None;
        let mut consider = |peer: u32, transport: u8, port_len: u8| {
            let shift = 16 - u32::from(port_len);
            let port_base = port & u16::MAX.checked_shl(shift).unwrap_or(0);
            let key = RowKey {
                peer,
                direction,
                tier,
                transport,
                port_base,
                port_len,
            };
            if let Some(found) = self.rows.find(key)
                && best.is_none_or(|held| found.rule < held.rule)
            {
                best = Some(found);
            }
        };
        for peer in [peer.0, ANY_PEER] {
            consider(peer, ANY_TRANSPORT, 0);
            if let Some(transport) = transport {
                let mut lens = port_lens;
                while lens != 0 {
                    #[allow(clippy::cast_possible_truncation, reason = "at most 16")]
                    let len = lens.trailing_zeros() as u8;
                    lens &= lens - 1;
                    consider(peer, transport as u8, len);
                }
            }
        }
        best
    }

    /// How many rows there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DENY: Ruling = Ruling {
        allow: false,
        rule: 999,
    };

    fn matches(row: &Row, peer: u32, transport: Option<Transport>, port: u16) -> bool {
        let mask = u16::MAX
            .checked_shl(16 - u32::from(row.port_len))
            .unwrap_or(0);
        row.peer.is_none_or(|p| p.0 == peer)
            && (row.transport.is_none() || row.transport == transport)
            && port & mask == row.port_base
    }

    fn row() -> impl Strategy<Value = Row> {
        let transport = prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)];
        (
            any::<bool>(),
            prop::option::of(1u32..4),
            prop::option::of(transport),
            any::<u16>(),
            0u8..=16,
            prop::sample::select(vec![Action::Allow, Action::Deny, Action::Pass]),
            0u32..50,
            prop::sample::select(Tier::ALL.to_vec()),
        )
            .prop_map(
                |(ingress, peer, transport, port, len, action, rule, tier)| {
                    let len = if transport.is_none() { 0 } else { len };
                    Row {
                        direction: if ingress {
                            Direction::Ingress
                        } else {
                            Direction::Egress
                        },
                        tier,
                        peer: peer.map(IdentityId),
                        transport,
                        port_base: port & u16::MAX.checked_shl(16 - u32::from(len)).unwrap_or(0),
                        port_len: len,
                        action,
                        // Of one key and rule there is one action.
                        rule: rule * 3 + action as u32,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn tiers_and_rules_decide_as_in_a_linear_scan(
            rows in prop::collection::vec(row(), 0..60),
            peer in 1u32..4,
            udp in any::<bool>(),
            port in any::<u16>(),
            pick in any::<prop::sample::Index>(),
        ) {
            let table = PolicyTable::build(HashKey([3, 5]), &rows, DENY, DENY);
            let transport = Some(if udp { Transport::Udp } else { Transport::Tcp });
            let edge = if rows.is_empty() { port } else { pick.get(&rows).port_base };
            for port in [port, edge, edge.wrapping_sub(1), edge.wrapping_add(1)] {
                for direction in [Direction::Ingress, Direction::Egress] {
                    let in_tier = |tier| {
                        rows.iter()
                            .filter(|r| (r.direction, r.tier) == (direction, tier))
                            .filter(|r| matches(r, peer, transport, port))
                            .min_by_key(|r| r.rule)
                            .filter(|r| r.action != Action::Pass)
                    };
                    let want = Tier::ALL.into_iter().find_map(in_tier).map_or(DENY, |r| Ruling {
                        allow: r.action == Action::Allow,
                        rule: r.rule,
                    });
                    let got = table.judge(direction, IdentityId(peer), transport, port);
                    prop_assert_eq!(got, want);
                }
            }
        }
    }
}
