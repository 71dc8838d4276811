//! One compiled policy: (direction, identity, protocol, port) to a verdict, in up to three
//! tiers. Each is a [`TierTable`]; one without rows is not asked.

use core::hint::select_unpredictable;
use std::sync::Arc;

use crate::hash::HashKey;
use crate::mutant::{self, Mutant};
use crate::names::patterns::Patterns;
use crate::snapshot::IdentityId;
use crate::table::said::Said;
use crate::table::tier::TierTable;

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

/// What a row does with the flows that match it. Of one rule's rows that disagree, the
/// first in this order counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Action {
    /// They may not be.
    Deny,
    /// The rest of the tier has no say: the next one decides.
    Pass,
    /// They may be.
    Allow,
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

impl Ruling {
    /// What a row that decides says.
    #[inline]
    const fn of(said: Said) -> Self {
        Self {
            allow: !said.is(Action::Deny),
            rule: said.rule(),
        }
    }
}

/// Groups asked in one tier, at most: the peer's for the protocol, the peer's for any
/// protocol, and anyone's. The first two are found by one key.
pub const KEYS_PER_TIER_MAX: usize = 3;

/// Tables read for one group, at most, beside the one it stands in: where the port's high
/// byte leads, and what is said there.
pub const READS_MAX: usize = 2;

/// What one verdict took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Effort {
    /// Groups asked, see [`KEYS_PER_TIER_MAX`]; the same for all lookups of a known protocol
    /// that the same tier decides.
    pub keys: usize,
    /// Tables read for them, at most [`READS_MAX`] for each.
    pub reads: usize,
}

/// A policy's rows and what holds when none decides.
#[derive(Clone, Debug)]
pub struct PolicyTable {
    /// By [`Tier`].
    tiers: Arc<[TierTable; Tier::ALL.len()]>,
    /// By direction and tier, whether there are rows.
    has_rows: [[bool; Tier::ALL.len()]; 2],
    fallback: [Ruling; 2],
    /// The domain names that rows of egress name.
    patterns: Patterns,
}

impl PolicyTable {
    /// Builds the table. Of a tier's rows with the same key the lowest rule stays; see
    /// [`Action`] for those of one rule.
    #[must_use]
    pub fn build(key: HashKey, rows: &[Row], ingress: Ruling, egress: Ruling) -> Self {
        let mut has_rows = [[false; Tier::ALL.len()]; 2];
        for row in rows {
            has_rows[row.direction as usize][row.tier as usize] = true;
        }
        let of = |tier| -> Vec<Row> { rows.iter().filter(|it| it.tier == tier).copied().collect() };
        Self {
            tiers: Arc::new(Tier::ALL.map(|tier| TierTable::build(key, &of(tier)))),
            has_rows,
            fallback: [ingress, egress],
            patterns: Patterns::none(),
        }
    }

    /// The same table, with the domain names that its rows name.
    #[must_use]
    pub fn with_patterns(self, patterns: Patterns) -> Self {
        Self { patterns, ..self }
    }

    /// The domain names that its rows name.
    #[must_use]
    pub const fn patterns(&self) -> &Patterns {
        &self.patterns
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
        self.look_up(direction, peer, transport, port, &mut |_| {})
    }

    /// Has it brought into the cache where a peer's rows are, of every tier that has any.
    #[inline]
    pub fn expect_peer(&self, direction: Direction, peer: IdentityId) {
        for tier in self.asked(direction) {
            tier.expect_peer(direction, peer);
        }
    }

    /// The same for the rows; when where they are is there.
    #[inline]
    pub fn expect_rows(&self, direction: Direction, peer: IdentityId) {
        for tier in self.asked(direction) {
            tier.expect_groups(direction, peer);
        }
    }

    /// The tiers that have rows of a direction.
    #[inline]
    fn asked(&self, direction: Direction) -> impl Iterator<Item = &TierTable> {
        let has_rows = self.has_rows[direction as usize];
        let tiers = self.tiers.iter().zip(has_rows);
        tiers.filter(|it| it.1).map(|it| it.0)
    }

    /// As [`Self::judge`], of a peer that has several identities: of a tier's rows for any of
    /// them the lowest rule counts. Which of them it is for comes along, by its place; the
    /// first if it is for anyone, or is the fallback.
    #[must_use]
    pub fn judge_any(
        &self,
        direction: Direction,
        peers: &[IdentityId],
        transport: Option<Transport>,
        port: u16,
    ) -> (Ruling, usize) {
        for tier in self.asked(direction) {
            let (mut best, mut of) = (Said::NOTHING, 0);
            for (at, peer) in peers.iter().enumerate() {
                let said = tier.look_up(direction, *peer, transport, port, &mut |_| {});
                let both = best.stronger(said);
                if at == 0 || both != best {
                    (best, of) = (both, at);
                }
            }
            if best.decides() {
                return (Ruling::of(best), of);
            }
        }
        (self.fallback[direction as usize], 0)
    }

    /// As [`Self::judge`], with what it took: for tests and people.
    #[must_use]
    pub fn judge_counted(
        &self,
        direction: Direction,
        peer: IdentityId,
        transport: Option<Transport>,
        port: u16,
    ) -> (Ruling, Effort) {
        let mut effort = Effort::default();
        let ruling = self.look_up(direction, peer, transport, port, &mut |reads| {
            effort.keys += 1;
            effort.reads += reads;
        });
        (ruling, effort)
    }

    #[inline]
    fn look_up(
        &self,
        direction: Direction,
        peer: IdentityId,
        transport: Option<Transport>,
        port: u16,
        asked: &mut impl FnMut(usize),
    ) -> Ruling {
        let fallback = self.fallback[direction as usize];
        let mut tiers = self.asked(direction).peekable();
        while let Some(tier) = tiers.next() {
            if mutant::is(Mutant::AdminForgotten)
                && core::ptr::eq(tier, &self.tiers[Tier::Admin as usize])
            {
                continue;
            }
            let said = tier.look_up(direction, peer, transport, port, asked);
            let decides = if mutant::is(Mutant::PassAllows) {
                said != Said::NOTHING
            } else {
                said.decides()
            };
            if tiers.peek().is_none() {
                // Whether the last one knows nobody could foretell.
                return select_unpredictable(decides, Ruling::of(said), fallback);
            }
            if decides {
                return Ruling::of(said);
            }
        }
        fallback
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tiers.iter().map(TierTable::len).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tier::block;
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

    fn spread(n: u32) -> u16 {
        u16::try_from(n.wrapping_mul(40_503) & 0xffff).unwrap()
    }

    /// Rows of every length for one peer, or for as many as there are rows.
    fn many(count: u32, peers: u32) -> PolicyTable {
        let rows: Vec<_> = (0..count)
            .map(|n| {
                let port_len = u8::try_from(n % 17).unwrap();
                Row {
                    direction: Direction::Ingress,
                    tier: Tier::Namespace,
                    peer: (n % 11 != 0).then_some(IdentityId(1 + n % peers)),
                    transport: [Transport::Tcp, Transport::Udp]
                        .get(n as usize % 2)
                        .copied(),
                    port_base: spread(n),
                    port_len,
                    action: [Action::Allow, Action::Deny][usize::from(n % 3 != 0)],
                    rule: n,
                }
            })
            .collect();
        PolicyTable::build(HashKey([3, 5]), &rows, DENY, DENY)
    }

    #[test]
    fn a_verdict_takes_as_many_probes_with_a_hundred_thousand_rows_as_with_ten() {
        for peers in [1, 65_535] {
            for table in [10, 1_000, 100_000].map(|count| many(count, peers)) {
                for n in 0..20_000u32 {
                    let (peer, port) = (IdentityId(1 + n % 70_000), spread(n));
                    let (ruling, effort) =
                        table.judge_counted(Direction::Ingress, peer, Some(Transport::Tcp), port);
                    assert_eq!(effort.keys, KEYS_PER_TIER_MAX);
                    assert!(effort.reads <= KEYS_PER_TIER_MAX * READS_MAX, "{effort:?}");
                    let judged = table.judge(Direction::Ingress, peer, Some(Transport::Tcp), port);
                    assert_eq!(judged, ruling);
                }
            }
        }
    }

    #[test]
    fn a_protocol_that_no_row_names_is_not_looked_for() {
        let table = many(100, 1);
        let (ruling, effort) = table.judge_counted(Direction::Ingress, IdentityId(1), None, 0);
        assert_eq!((ruling, effort.keys), (DENY, KEYS_PER_TIER_MAX - 1));
    }

    #[test]
    fn of_one_rules_rows_that_disagree_the_denial_decides() {
        let row = |port_len, allow| Row {
            direction: Direction::Egress,
            tier: Tier::Namespace,
            peer: Some(IdentityId(1)),
            transport: Some(Transport::Tcp),
            port_base: 0,
            port_len,
            action: if allow { Action::Allow } else { Action::Deny },
            rule: 3,
        };
        for rows in [[row(0, true), row(8, false)], [row(8, false), row(0, true)]] {
            let table = PolicyTable::build(HashKey([3, 5]), &rows, DENY, DENY);
            let may = |port| {
                let tcp = Some(Transport::Tcp);
                table
                    .judge(Direction::Egress, IdentityId(1), tcp, port)
                    .allow
            };
            assert!(!may(255) && may(256));
            assert_eq!(table.len(), 2);
        }
    }

    proptest! {
        #[test]
        fn a_peer_of_many_rows_is_as_in_a_linear_scan(
            rows in prop::collection::vec((any::<u16>(), 6u8..=16, 0u32..500, any::<bool>()), 0..400),
            narrow in any::<bool>(),
            probes in prop::collection::vec(any::<u16>(), 100),
        ) {
            // Narrow: all of them within one high byte, which then has a page of its own.
            let high = |port: u16| if narrow { port & 0xff | 0x2a00 } else { port };
            let rows: Vec<_> = rows
                .into_iter()
                .map(|(port, len, rule, allow)| {
                    let port_len = if narrow { len.max(9) } else { len };
                    Row {
                        direction: Direction::Ingress,
                        tier: Tier::Namespace,
                        peer: Some(IdentityId(7)),
                        transport: Some(Transport::Tcp),
                        port_base: high(port) & u16::MAX << (16 - u32::from(port_len)).min(15),
                        port_len: port_len.max(1),
                        action: if allow { Action::Allow } else { Action::Deny },
                        rule,
                    }
                })
                .collect();
            let table = PolicyTable::build(HashKey([3, 5]), &rows, DENY, DENY);
            let edges = rows.iter().flat_map(|row| {
                let block = block(row);
                [block.first.wrapping_sub(1), block.first, block.last, block.last.wrapping_add(1)]
            });
            for port in edges.chain(probes.iter().copied().map(high)) {
                let tcp = Some(Transport::Tcp);
                let want = rows
                    .iter()
                    .filter(|row| matches(row, 7, tcp, port))
                    .map(|row| (row.rule, row.action == Action::Allow))
                    .min();
                let got = table.judge(Direction::Ingress, IdentityId(7), tcp, port);
                prop_assert_eq!((got.rule, got.allow), want.unwrap_or((999, false)));
            }
        }

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
