//! Has what a burst's flows are judged by brought into the cache.
//!
//! A verdict on a flow that nobody asked about lately reads three tables one after the other:
//! whose its addresses are, where that identity's rows are, and the rows. In a large cluster
//! none of them is in the first caches, and each read waits for the one before it. A burst
//! waits once for each table, not once for each packet.

use crate::flow::key::Tuple;
use crate::port::BURST_MAX;
use crate::snapshot::{IdentityId, Place, Snapshot};
use crate::table::policy::{Direction, PolicyTable};
use crate::table::prefix::Owner;

/// Whose a flow's addresses are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Owners {
    /// The source's.
    pub src: Option<Owner>,
    /// The destination's.
    pub dst: Option<Owner>,
}

impl Owners {
    /// Asks a snapshot.
    #[inline]
    #[must_use]
    pub fn of(snapshot: &Snapshot, tuple: &Tuple) -> Self {
        Self {
            src: snapshot.owner(tuple.src),
            dst: snapshot.owner(tuple.dst),
        }
    }

    /// Of the same flow's other direction.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
        }
    }
}

/// The owners of a burst's flows, in its order, which [`crate::judge::judge_between`] is asked
/// about next. What else it reads of them is on its way into the cache.
#[inline]
#[must_use]
pub fn expect(
    snapshot: &Snapshot,
    tuples: impl Iterator<Item = Tuple> + Clone,
) -> [Owners; BURST_MAX] {
    for tuple in tuples.clone() {
        snapshot.prefixes.expect(tuple.src);
        snapshot.prefixes.expect(tuple.dst);
    }
    let mut all = [Owners::default(); BURST_MAX];
    let mut count = 0;
    for (owners, tuple) in all.iter_mut().zip(tuples) {
        *owners = Owners::of(snapshot, &tuple);
        asked(snapshot, *owners, PolicyTable::expect_peer);
        count += 1;
    }
    for owners in all.iter().take(count) {
        asked(snapshot, *owners, PolicyTable::expect_rows);
    }
    all
}

/// Calls `each` for the tables that a flow is judged by, and whom they are asked about.
#[inline]
fn asked(snapshot: &Snapshot, owners: Owners, each: impl Fn(&PolicyTable, Direction, IdentityId)) {
    let (Some(src), Some(dst)) = (owners.src, owners.dst) else {
        return;
    };
    if let Some(table) = table_of(snapshot, src) {
        each(table, Direction::Egress, dst.identity);
    }
    if let Some(table) = table_of(snapshot, dst) {
        each(table, Direction::Ingress, src.identity);
    }
}

#[inline]
fn table_of(snapshot: &Snapshot, owner: Owner) -> Option<&PolicyTable> {
    let Place::LocalPod(index) = owner.place else {
        return None;
    };
    let policy = snapshot.endpoint(index)?.policy;
    Some(&snapshot.policies.get(policy.0 as usize)?.table)
}
