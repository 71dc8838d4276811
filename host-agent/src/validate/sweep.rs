//! The whole state, a bit at a time.

use std::ops::Bound;

use sluice_offload_api::State;

use super::who::Who;
use super::{Counterexample, Directory, Judge, points, tables};
use crate::cluster::{Cluster, PolicySet};

/// How far a sweep over all tables of a state has come. It goes round for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sweep {
    /// The table that is being swept.
    table: u32,
    /// Its next row.
    row: usize,
    /// How often it went round: each time others of those who share a table are looked at.
    rounds: usize,
}

/// What a step of a sweep found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Swept {
    /// Rows that were compared.
    pub rows: usize,
    /// Whether the last table's last row was among them.
    pub round: bool,
    /// Where table and policies differ; the sweep goes on behind it.
    pub found: Option<Box<Counterexample>>,
}

impl Sweep {
    /// From the beginning again.
    const fn round(self) -> Self {
        Self {
            table: 0,
            row: 0,
            rounds: self.rounds.wrapping_add(1),
        }
    }

    /// Compares the next rows, `rows_max` at most; after a table's last row everyone
    /// with all that the pod's policies tell apart.
    pub fn step(&mut self, cluster: &Cluster, state: &State, rows_max: usize) -> Swept {
        let directory = Directory::default().at(cluster, state);
        self.step_by(&directory, state, PolicySet::Enforced, rows_max)
    }

    /// [`Self::step`] over the tables of these policies, with the index of the cluster and the
    /// state. A sweep is over the enforced ones or over the shadows.
    pub fn step_by(
        &mut self,
        directory: &Directory,
        state: &State,
        set: PolicySet,
        rows_max: usize,
    ) -> Swept {
        let judge = Judge::new(directory, state, set);
        let who = Who::new(directory);
        let tables = tables(directory.cluster(), state, set, self.rounds);
        let mut swept = Swept {
            rows: 0,
            round: false,
            found: None,
        };
        while swept.rows < rows_max && swept.found.is_none() {
            let Some((&id, table)) = tables.range(self.table..).next() else {
                *self = self.round();
                swept.round = true;
                break;
            };
            if id != self.table {
                (self.table, self.row) = (id, 0);
            }
            let mut visit = |point: points::Point<'_>| judge.compare(&point);
            let compared = match table.policy.rows.get(self.row) {
                Some(row) => points::of_row(table, &row.key(), &who, &mut visit),
                None => points::everyone(table, &who, who.all(), &mut visit),
            };
            swept.rows += 1;
            if self.row < table.policy.rows.len() {
                self.row += 1;
            } else if let Some((&next, _)) =
                tables.range((Bound::Excluded(id), Bound::Unbounded)).next()
            {
                (self.table, self.row) = (next, 0);
            } else {
                *self = self.round();
                swept.round = true;
            }
            swept.found = compared.err();
            if swept.round {
                break;
            }
        }
        swept
    }
}
