//! The tables, brought up to date by identity: what rows one identity has in a table depends
//! on nothing but that identity and the table's policies.

use std::collections::BTreeSet;

use sluice_offload_api::model::{IdentityId, Policy, PolicyId, PolicyRow, ShadowTable};
use sluice_offload_api::{Limits, SharedMap};

use super::super::NodeSetup;
use super::super::table::Rules;
use crate::cluster::Cluster;
use crate::identity::{IdentityKey, IdentityTable, PolicyKey};

/// What has to be done to the tables.
#[derive(Default)]
pub(super) struct Work {
    /// Identities whose rows may be others now, those that are gone too.
    pub(super) identities: BTreeSet<IdentityId>,
    /// Tables that are written anew.
    pub(super) rewrite: BTreeSet<PolicyId>,
}

/// What a table is made from.
pub(super) struct Source<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) setup: &'a NodeSetup,
    pub(super) identities: &'a IdentityTable,
    pub(super) limits: &'a Limits,
}

/// Brings `tables` to what the source says. How many tables were touched.
pub(super) fn update(
    tables: &mut SharedMap<PolicyId, Policy>,
    source: &Source<'_>,
    work: &Work,
) -> usize {
    let Source {
        cluster,
        setup,
        identities,
        limits,
    } = *source;
    let gone: Vec<PolicyId> = tables
        .keys()
        .filter(|id| identities.policy_key(**id).is_none())
        .copied()
        .collect();
    let mut touched = gone.len();
    for id in gone {
        tables.remove(&id);
    }
    let some: Vec<(&IdentityKey, IdentityId)> = work
        .identities
        .iter()
        .filter_map(|id| Some((identities.key(*id)?, *id)))
        .collect();
    let of_some = Rules::new(cluster, &setup.node, &some);
    let mut rewrite: Vec<(&PolicyKey, PolicyId)> = Vec::new();
    for (key, id) in identities.policies() {
        let old = tables
            .get(&id)
            .filter(|old| !work.rewrite.contains(&id) && !is_closed(old));
        let Some(old) = old else {
            rewrite.push((key, id));
            continue;
        };
        if work.identities.is_empty() {
            continue;
        }
        let new = of_some.table(key, id, limits);
        if is_closed(&new) {
            rewrite.push((key, id));
            continue;
        }
        match patched(old, new, &work.identities) {
            Patch::Same => {}
            Patch::Table(it) if it.rows_in_all() <= limits.rows_per_policy => {
                tables.insert(id, *it);
                touched += 1;
            }
            Patch::Table(_) | Patch::Unknown => rewrite.push((key, id)),
        }
    }
    if rewrite.is_empty() {
        return touched;
    }
    let all: Vec<(&IdentityKey, IdentityId)> = identities.identities().collect();
    let of_all = Rules::new(cluster, &setup.node, &all);
    for (key, id) in rewrite {
        let table = of_all.table(key, id, limits);
        if tables.get(&id) != Some(&table) {
            tables.insert(id, table);
            touched += 1;
        }
    }
    touched
}

/// What becomes of a table.
enum Patch {
    Same,
    Table(Box<Policy>),
    /// It has to be written anew to know.
    Unknown,
}

/// `old` with the rows that these identities have in `new`, in both of its tables.
fn patched(old: &Policy, new: Policy, identities: &BTreeSet<IdentityId>) -> Patch {
    let new_shadow = new.shadow.map(|it| it.table().rows.clone());
    let shadow_rows = match (old.shadow_table(), new_shadow) {
        (None, None) => None,
        (Some(old), Some(new)) => exchange(&old.rows, new, identities),
        // It fits now, or no more, or not even the part of it.
        _ => return Patch::Unknown,
    };
    let rows = exchange(&old.rows, new.rows, identities);
    if rows.is_none() && shadow_rows.is_none() {
        return Patch::Same;
    }
    let mut table = old.clone();
    if let Some(rows) = rows {
        table.rows = rows;
    }
    if let (Some(rows), Some(shadow)) = (shadow_rows, old.shadow_table()) {
        let shadow = Policy {
            rows,
            rules: shadow.rules.clone(),
            shadow: None,
            ..*shadow
        };
        table.shadow = Some(Box::new(ShadowTable::new(shadow)));
    }
    Patch::Table(Box::new(table))
}

/// `old` without the rows of these identities and with those that they have in `new`, both
/// sorted; `None` if that is `old`.
fn exchange(
    old: &[PolicyRow],
    new: Vec<PolicyRow>,
    identities: &BTreeSet<IdentityId>,
) -> Option<Vec<PolicyRow>> {
    let is_theirs = |row: &PolicyRow| row.peer.is_some_and(|peer| identities.contains(&peer));
    let was = old.iter().filter(|row| is_theirs(row));
    let is: Vec<PolicyRow> = new.into_iter().filter(is_theirs).collect();
    if was.eq(is.iter()) {
        return None;
    }
    let mut rows = Vec::with_capacity(old.len() + is.len());
    let mut is = is.into_iter().peekable();
    for row in old.iter().filter(|row| !is_theirs(row)) {
        while let Some(before) = is.next_if(|it| it.key() < row.key()) {
            rows.push(before);
        }
        rows.push(*row);
    }
    rows.extend(is);
    Some(rows)
}

/// Whether a table takes the place of one that doesn't fit: it has one rule, and the smallest
/// other one has two.
fn is_closed(table: &Policy) -> bool {
    table.rules.len() == 1
}
