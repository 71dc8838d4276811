//! Packets of known flows while pods elsewhere come and go.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use sluice_crypto::key::Algorithm;
use sluice_dataplane_core::addr::Addr;
use sluice_dataplane_core::moves::Moves;
use sluice_dataplane_core::port::BURST_MAX;
use sluice_dataplane_core::snapshot::{IdentityId, PeerIndex, Place, Snapshot};
use sluice_dataplane_core::table::prefix::Owner;

use crate::bed::{Bed, Side, VF0, snapshot_with};
use crate::frames::udp;
use crate::memory::FLOWS;
use crate::policy::report::Case;
use crate::timing::{Pair, median, timed};

/// Flows of the pod that nothing happens to.
const HITS: u16 = 256;
/// Time of polls between two commits: 100 in a second of them.
const BETWEEN: Duration = Duration::from_millis(10);
/// A burst that took longer was interrupted by whoever else runs on this machine: adopting
/// a snapshot takes a few microseconds.
const INTERRUPTED: Duration = Duration::from_micros(500);
const ROUNDS: u32 = 12;
/// What a packet may take beside what it takes in a quiet cluster.
const TARGET: f64 = 1.1;

/// A cluster of so many pods, in which one has another identity each time.
fn cluster(pods: u16, commit: u32, moves: &mut Moves) -> Snapshot {
    let pods: Vec<_> = (0..pods)
        .map(|n| {
            let [high, low] = n.to_be_bytes();
            let event = u32::from(n) == commit % u32::from(pods);
            let identity = IdentityId(1_000 + u32::from(n) + if event { commit } else { 0 });
            let place = Place::RemotePod(PeerIndex(0));
            (
                Addr::v4([10, 200, high, low]),
                32,
                Owner::new(identity, place),
            )
        })
        .collect();
    let mut snapshot = snapshot_with(Side::A, &[], &pods);
    snapshot.generation = 2 + u64::from(commit);
    // Endpoints' generations are below.
    let event = usize::try_from(commit).unwrap_or_default() % pods.len();
    if let Some((addr, ..)) = pods.get(event).filter(|_| commit > 0) {
        moves.set(*addr, 1_000 + commit);
    }
    snapshot.moves = moves.clone();
    snapshot
}

/// A node whose first pod talks to its second on [`HITS`] flows.
struct Node {
    bed: Bed,
    frames: Vec<Vec<u8>>,
    at: usize,
    moves: Moves,
}

impl Node {
    fn new(pods: u16) -> anyhow::Result<Self> {
        let mut bed = Bed::new(Side::A, Algorithm::Aes128Gcm16, FLOWS);
        let mut moves = Moves::default();
        let first = cluster(pods, 0, &mut moves);
        bed.handle.snapshots.publish(Arc::new(first))?;
        let frames = (0..HITS)
            .map(|n| udp(Side::A.source(), Side::A.pod(1), 1_000 + n, 60))
            .collect();
        let mut node = Self {
            bed,
            frames,
            at: 0,
            moves,
        };
        for _ in 0..2 * usize::from(HITS) / BURST_MAX {
            node.burst()?;
        }
        Ok(node)
    }

    fn burst(&mut self) -> anyhow::Result<Duration> {
        for _ in 0..BURST_MAX {
            self.bed.deliver(VF0, &self.frames[self.at]);
            self.at = (self.at + 1) % self.frames.len();
        }
        let spent = timed(|| self.bed.poll());
        ensure!(self.bed.discard() == BURST_MAX, "a packet was lost");
        Ok(spent)
    }

    /// Nanoseconds of a packet in `share` of polls; `commit` is called every [`BETWEEN`].
    fn mean(
        &mut self,
        share: Duration,
        mut commit: impl FnMut(&mut Bed, &mut Moves) -> anyhow::Result<()>,
    ) -> anyhow::Result<f64> {
        let (mut spent, mut bursts, mut next) = (Duration::ZERO, 0u32, BETWEEN);
        while spent < share {
            if spent >= next {
                next += BETWEEN;
                commit(&mut self.bed, &mut self.moves)?;
            }
            let one = self.burst()?;
            if one < INTERRUPTED {
                spent += one;
                bursts += 1;
            }
        }
        #[allow(clippy::cast_precision_loss, reason = "32")]
        Ok(spent.as_secs_f64() * 1e9 / (f64::from(bursts) * BURST_MAX as f64))
    }
}

/// A snapshot is made and published 100 times a second of polls, each for one event of a pod
/// that no flow here has to do with. Making it is off the clock, but on this core: the flows'
/// cache lines are gone after each.
///
/// # Errors
/// A packet that was lost; a worker that takes no snapshot.
pub fn run(quick: bool) -> anyhow::Result<Case> {
    let (pods, share) = if quick {
        (1_000, BETWEEN * 2)
    } else {
        (30_000, BETWEEN * 5)
    };
    let (mut quiet, mut busy) = (Node::new(pods)?, Node::new(pods)?);
    let stale = |node: &Node| node.bed.handle.counters.flow_stale.read();
    let judged_again = stale(&busy);
    let mut commits = 0u32;
    let (mut smalls, mut larges, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..if quick { 2 } else { ROUNDS } {
        let small = quiet.mean(share, |_, _| Ok(()))?;
        let large = busy.mean(share, |bed, moves| {
            commits += 1;
            let next = Arc::new(cluster(pods, commits, moves));
            Ok(bed.handle.snapshots.publish(next)?)
        })?;
        smalls.push(small);
        larges.push(large);
        ratios.push(large / small);
    }
    ensure!(commits > 0, "nothing was committed");
    // Addresses share places: one event in a thousand is these flows' too.
    let judged = stale(&busy) - judged_again;
    ensure!(
        judged <= u64::from(HITS) * (1 + u64::from(commits) / 100),
        "flows were judged again for events that were not their own: {judged}"
    );
    let pair = Pair {
        small: median(&mut smalls),
        large: median(&mut larges),
        ratio: median(&mut ratios),
    };
    Ok(
        Case::new("churn/flow-hits", "sluice", "ns/packet", Some(pair.large))
            .beside(pair, Some(TARGET))
            .noting(format!("{pods} pods, {commits} commits, 100 a second")),
    )
}
