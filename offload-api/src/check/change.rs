//! Whether a small change leaves a state that held together as one that does, by looking at
//! what it touched.
//!
//! It never says that a bad state is fine; a state that it is not sure of is looked at whole,
//! which also finds the operation to blame.

use std::collections::BTreeSet;

use super::{Blame, Check};
use crate::limits::Limits;
use crate::model::{IdentityId, IpPrefix};
use crate::refusal::Refusal;
use crate::state::State;
use crate::transaction::{Key, Kind, Object, Op};

/// Operations that are looked at one by one, at most.
const OPS_MAX: usize = 4096;

/// Whether `next` surely holds together. `before` did, and `ops` lead from it to `next`.
pub(crate) fn is_fine(before: &State, next: &State, ops: &[Op], limits: &Limits) -> bool {
    let keys: Vec<Key> = ops.iter().take(OPS_MAX + 1).map(Op::key).collect();
    // Everything refers to ports and peers, and they seldom change.
    let is_small = |key: &Key| !matches!(key.kind(), Kind::Port | Kind::Peer);
    if keys.len() > OPS_MAX || !keys.iter().all(is_small) {
        return false;
    }
    // Rows that were not touched may name it, and not every row may name a domain.
    if ops.iter().any(|op| is_another_domain(before, op)) {
        return false;
    }
    let gone: BTreeSet<IdentityId> = ops.iter().filter_map(gone).collect();
    let is_named = gone.iter().any(|it| next.uses.has(*it));
    let is_used = !gone.is_empty() && (is_named || rows_name(next, &gone));
    !is_used && look_at(before, next, &keys, limits).is_ok()
}

/// Whether an identity that was there stands for another domain now, or for one at all.
fn is_another_domain(before: &State, op: &Op) -> bool {
    let Op::Add(Object::Identity(identity)) = op else {
        return false;
    };
    let was = before.identities.get(&identity.id);
    was.is_some_and(|was| was.domain != identity.domain)
}

fn gone(op: &Op) -> Option<IdentityId> {
    match op {
        Op::Del(Key::Identity(id)) => Some(*id),
        _ => None,
    }
}

fn rows_name(state: &State, gone: &BTreeSet<IdentityId>) -> bool {
    let tables = state
        .policies
        .values()
        .flat_map(|it| core::iter::once(it).chain(it.shadow_table()));
    let rows = tables.flat_map(|it| &it.rows);
    rows.filter_map(|row| row.peer)
        .any(|peer| gone.contains(&peer))
}

/// Checks what was touched, all endpoints, and the prefixes that endpoints go by.
fn look_at(before: &State, next: &State, keys: &[Key], limits: &Limits) -> Result<(), Refusal> {
    let blame = Blame::nobody();
    let check = Check {
        state: next,
        limits,
        blame: &blame,
    };
    check.capacity()?;

    let mut prefixes: BTreeSet<IpPrefix> = keys.iter().filter_map(prefix).collect();
    let endpoints = before.endpoints.values().chain(next.endpoints.values());
    prefixes.extend(endpoints.flat_map(|it| it.ips.iter().copied().map(IpPrefix::host)));
    let prefixes = prefixes.iter().filter_map(|it| next.prefixes.get(it));
    let referring = State {
        prefixes: prefixes.map(|it| (it.prefix, it.clone())).collect(),
        ..next.clone()
    };
    if !before.endpoints.is_same(&next.endpoints) {
        check.addresses()?;
    }
    let check = Check {
        state: &referring,
        ..check
    };
    check.endpoints()?;
    check.prefixes()?;

    let mut touched = State::default();
    for key in keys {
        touched.share(next, key);
    }
    if !before.endpoints.is_same(&next.endpoints) {
        touched.endpoints = next.endpoints.clone();
    }
    let check = Check {
        state: &touched,
        ..check
    };
    check.names()?;
    // Their rows may name any identity.
    let touched = State {
        identities: next.identities.clone(),
        ..touched.clone()
    };
    let check = Check {
        state: &touched,
        ..check
    };
    check.policies()
}

fn prefix(key: &Key) -> Option<IpPrefix> {
    match key {
        Key::Prefix(prefix) => Some(*prefix),
        _ => None,
    }
}
