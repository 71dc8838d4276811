//! The rows of one tier, grouped by whom and which protocol they are about. A lookup finds at
//! most three groups that can matter (the peer's for the protocol, the peer's for any
//! protocol, anyone's) and asks each about the port: as much work for ten rows as for all
//! there can be.

use sluice_intrinsics::prefetch;

use crate::hash::HashKey;
use crate::snapshot::IdentityId;
use crate::table::dense::{DenseMap, Run};
use crate::table::policy::{Direction, Row, Transport};
use crate::table::ports::{Block, PortArena, Ports};
use crate::table::said::Said;

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

/// A tier's rows.
#[derive(Clone, Debug)]
pub(super) struct TierTable {
    /// By direction and peer, which groups there are of [`Self::groups`] and where.
    peers: [DenseMap<Run>; 2],
    groups: Box<[Ports]>,
    /// By direction and transport: rows about anyone, those of any protocol included.
    anyone: [[Option<Ports>; TRANSPORTS]; 2],
    arena: PortArena,
    len: usize,
}

impl TierTable {
    /// Builds the table of rows of one tier.
    pub(super) fn build(key: HashKey, rows: &[Row]) -> Self {
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
        }
    }

    /// The row that counts. Asks each group; `asked` is told of it, with the tables it read.
    #[inline]
    pub(super) fn look_up(
        &self,
        direction: Direction,
        peer: IdentityId,
        transport: Option<Transport>,
        port: u16,
        asked: &mut impl FnMut(usize),
    ) -> Said {
        let mut ask = |ports: Option<Ports>| {
            let (said, reads) = ports.map_or((Said::NOTHING, 0), |p| self.arena.said(p, port));
            asked(reads);
            said
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
            best = best.stronger(ask(group(transport as u8)));
        }
        best.stronger(ask(anyone.copied().flatten()))
    }

    /// Has it brought into the cache where a peer's groups are.
    #[inline]
    pub(super) fn expect_peer(&self, direction: Direction, peer: IdentityId) {
        if let Some(peers) = self.peers.get(direction as usize) {
            peers.expect(peer.0);
        }
    }

    /// The same for a peer's groups; when where they are is there.
    #[inline]
    pub(super) fn expect_groups(&self, direction: Direction, peer: IdentityId) {
        let peers = self.peers.get(direction as usize);
        let run = peers.and_then(|peers| peers.find(peer.0));
        if let Some(group) = run.and_then(|run| self.groups.get(run.first())) {
            prefetch(group);
        }
    }

    /// How many rows there are.
    pub(super) const fn len(&self) -> usize {
        self.len
    }
}

/// A row's ports.
pub(super) fn block(row: &Row) -> Block {
    let rest = u16::MAX.checked_shr(u32::from(row.port_len)).unwrap_or(0);
    Block {
        first: row.port_base & !rest,
        last: row.port_base | rest,
        said: Said::new(row.rule, row.action),
    }
}
