//! One compiled policy: (direction, identity, protocol, port) to a verdict.
//!
//! Rows are grouped by whom and which protocol they are about. A lookup finds at most three
//! groups that can matter (the peer's for the protocol, the peer's for any protocol,
//! anyone's) and asks each about the port: as much work for ten rows as for all there can be.

use crate::hash::HashKey;
use crate::snapshot::IdentityId;
use crate::table::dense::{DenseMap, Run};
use crate::table::ports::{Block, PortArena, Ports, stronger};

/// Seen from the endpoint that the policy is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Direction {
    /// Towards the endpoint.
    Ingress,
    /// From the endpoint.
    Egress,
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
    /// The other end; `None` is anyone.
    pub peer: Option<IdentityId>,
    /// The protocol; `None` is any.
    pub transport: Option<Transport>,
    /// First port of an aligned block.
    pub port_base: u16,
    /// Fixed leading bits of the block, 0 to 16.
    pub port_len: u8,
    /// What the row says.
    pub ruling: Ruling,
}

/// A verdict and the rule that gives it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ruling {
    /// Whether the flow may be.
    pub allow: bool,
    /// The rule's index in its policy: the lowest of all matching rows decides.
    pub rule: u32,
}

/// Whom a group of rows is about; rows about anyone stand elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct GroupKey {
    direction: u8,
    peer: u32,
    /// [`ANY_TRANSPORT`] for the rows of any.
    transport: u8,
}

const ANY_TRANSPORT: u8 = 0;
/// [`ANY_TRANSPORT`] and each [`Transport`].
const TRANSPORTS: usize = Run::MEMBERS as usize;

/// Groups asked for one verdict, at most: the peer's for the protocol, the peer's for any
/// protocol, and anyone's. The first two are found by one key.
pub const KEYS_MAX: usize = 3;

/// Tables read for one group, at most, beside the one it stands in: where the port's high
/// byte leads, and what is said there.
pub const READS_MAX: usize = 2;

/// What one verdict took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Effort {
    /// Groups asked, see [`KEYS_MAX`]; the same for all lookups of a known protocol.
    pub keys: usize,
    /// Tables read for them, at most [`READS_MAX`] for each.
    pub reads: usize,
}

/// A policy's rows and what holds when none matches.
#[derive(Clone, Debug)]
pub struct PolicyTable {
    /// By direction and peer, which groups there are of [`Self::groups`] and where.
    peers: [DenseMap<Run>; 2],
    groups: Box<[Ports]>,
    /// By direction and transport: rows about anyone, those of any protocol included.
    anyone: [[Option<Ports>; TRANSPORTS]; 2],
    arena: PortArena,
    len: usize,
    fallback: [Ruling; 2],
}

impl PolicyTable {
    /// Builds the table. Of rows with the same key the lowest rule stays, and of one rule's
    /// the one that denies.
    #[must_use]
    pub fn build(key: HashKey, rows: &[Row], ingress: Ruling, egress: Ruling) -> Self {
        let mut sorted: Vec<_> = rows
            .iter()
            .map(|row| {
                let group = GroupKey {
                    peer: row.peer.map_or(0, |peer| peer.0),
                    direction: row.direction as u8,
                    transport: row.transport.map_or(ANY_TRANSPORT, |t| t as u8),
                };
                (row.peer.is_none(), group, block(row))
            })
            .collect();
        sorted.sort_unstable_by_key(|(anyone, group, b)| (*anyone, *group, b.first, b.last));
        let len = sorted
            .chunk_by(|a, b| (a.0, a.1, a.2.first, a.2.last) == (b.0, b.1, b.2.first, b.2.last))
            .count();

        let mut arena = PortArena::default();
        let about_peers = sorted.partition_point(|row| !row.0);
        let (peers, about_anyone) = sorted.split_at(about_peers);
        let mut groups = Vec::new();
        let mut found = [Vec::new(), Vec::new()];
        for rows in peers.chunk_by(|a, b| (a.1.direction, a.1.peer) == (b.1.direction, b.1.peer)) {
            let (at, mut members) = (groups.len(), 0);
            for rows in rows.chunk_by(|a, b| a.1.transport == b.1.transport) {
                let blocks: Vec<_> = rows.iter().map(|row| row.2).collect();
                groups.push(arena.add(&blocks));
                members |= rows.first().map_or(0, |row| 1 << row.1.transport);
            }
            let whose = rows.first().map(|row| row.1);
            if let (Some(whose), Some(run)) = (whose, Run::new(at, members))
                && let Some(found) = found.get_mut(usize::from(whose.direction))
            {
                found.push((whose.peer, run));
            }
        }
        let anyone = [Direction::Ingress, Direction::Egress].map(|direction| {
            core::array::from_fn(|transport| {
                let matters = |group: &GroupKey| {
                    let of = usize::from(group.transport);
                    group.direction == direction as u8
                        && (of == transport || group.transport == ANY_TRANSPORT)
                };
                let blocks: Vec<_> = about_anyone
                    .iter()
                    .filter(|row| matters(&row.1))
                    .map(|row| row.2)
                    .collect();
                (!blocks.is_empty()).then(|| arena.add(&blocks))
            })
        });
        arena.finish();
        Self {
            peers: found.map(|found| DenseMap::build(key, &found)),
            groups: groups.into_boxed_slice(),
            anyone,
            arena,
            len,
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
        self.look_up(direction, peer, transport, port, |_| {})
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
        let ruling = self.look_up(direction, peer, transport, port, |reads| {
            effort.keys += 1;
            effort.reads += reads;
        });
        (ruling, effort)
    }

    /// Asks each group; `asked` is told of it, with the tables it read.
    #[inline]
    fn look_up(
        &self,
        direction: Direction,
        peer: IdentityId,
        transport: Option<Transport>,
        port: u16,
        mut asked: impl FnMut(usize),
    ) -> Ruling {
        let mut ask = |ports: Option<Ports>| {
            let (ruling, reads) = ports.map_or((None, 0), |p| self.arena.ruling(p, port));
            asked(reads);
            ruling
        };
        let direction = direction as usize;
        let run = self.peers.get(direction).and_then(|p| p.find(peer.0));
        let group = |transport| {
            let place = run.and_then(|run| run.place(transport));
            place.and_then(|at| self.groups.get(at).copied())
        };
        let anyone = self
            .anyone
            .get(direction)
            .and_then(|all| all.get(transport.map_or(0, |t| t as usize)));
        let mut best = ask(group(ANY_TRANSPORT));
        if let Some(transport) = transport {
            best = stronger(best, ask(group(transport as u8)));
        }
        best = stronger(best, ask(anyone.copied().flatten()));
        best.unwrap_or(self.fallback[direction])
    }

    /// How many rows there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A row's ports.
fn block(row: &Row) -> Block {
    let rest = u16::MAX.checked_shr(u32::from(row.port_len)).unwrap_or(0);
    Block {
        first: row.port_base & !rest,
        last: row.port_base | rest,
        ruling: row.ruling,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DENY: Ruling = Ruling {
        allow: false,
        rule: 99,
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
            any::<bool>(),
            0u32..50,
        )
            .prop_map(|(ingress, peer, transport, port, len, allow, rule)| {
                let len = if transport.is_none() { 0 } else { len };
                Row {
                    direction: if ingress {
                        Direction::Ingress
                    } else {
                        Direction::Egress
                    },
                    peer: peer.map(IdentityId),
                    transport,
                    port_base: port & u16::MAX.checked_shl(16 - u32::from(len)).unwrap_or(0),
                    port_len: len,
                    ruling: Ruling { allow, rule },
                }
            })
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
                    peer: (n % 11 != 0).then_some(IdentityId(1 + n % peers)),
                    transport: [Transport::Tcp, Transport::Udp]
                        .get(n as usize % 2)
                        .copied(),
                    port_base: spread(n),
                    port_len,
                    ruling: Ruling {
                        allow: n % 3 == 0,
                        rule: n,
                    },
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
                    assert_eq!(effort.keys, KEYS_MAX);
                    assert!(effort.reads <= KEYS_MAX * READS_MAX, "{effort:?}");
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
        assert_eq!((ruling, effort.keys), (DENY, KEYS_MAX - 1));
    }

    #[test]
    fn of_one_rules_rows_that_disagree_the_denial_decides() {
        let row = |port_len, allow| Row {
            direction: Direction::Egress,
            peer: Some(IdentityId(1)),
            transport: Some(Transport::Tcp),
            port_base: 0,
            port_len,
            ruling: Ruling { allow, rule: 3 },
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
                        peer: Some(IdentityId(7)),
                        transport: Some(Transport::Tcp),
                        port_base: high(port) & u16::MAX << (16 - u32::from(port_len)).min(15),
                        port_len: port_len.max(1),
                        ruling: Ruling { allow, rule },
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
                    .map(|row| (row.ruling.rule, row.ruling.allow))
                    .min();
                let got = table.judge(Direction::Ingress, IdentityId(7), tcp, port);
                prop_assert_eq!((got.rule, got.allow), want.unwrap_or((99, false)));
            }
        }

        #[test]
        fn the_lowest_matching_rule_decides_as_in_a_linear_scan(
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
                    let want = rows
                        .iter()
                        .filter(|r| r.direction == direction && matches(r, peer, transport, port))
                        .map(|r| r.ruling.rule)
                        .min();
                    let got = table.judge(direction, IdentityId(peer), transport, port);
                    prop_assert_eq!(got.rule, want.unwrap_or(99));
                }
            }
        }
    }
}
