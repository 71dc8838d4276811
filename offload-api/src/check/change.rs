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
use crate::transaction::{Key, Kind, Op};

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
    let gone: BTreeSet<IdentityId> = ops.iter().filter_map(gone).collect();
    let is_used = !gone.is_empty()
        && (next.prefixes.values().any(|it| gone.contains(&it.identity)) || rows_name(next, &gone));
    !is_used && look_at(before, next, &keys, limits).is_ok()
}

fn gone(op: &Op) -> Option<IdentityId> {
    match op {
        Op::Del(Key::Identity(id)) => Some(*id),
        _ => None,
    }
}

fn rows_name(state: &State, gone: &BTreeSet<IdentityId>) -> bool {
    let rows = state.policies.values().flat_map(|it| &it.rows);
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

    let mut touched = State {
        ports: next.ports.clone(),
        endpoints: next.endpoints.clone(),
        identities: next.identities.clone(),
        ..State::default()
    };
    for policy in keys.iter().filter_map(|key| match key {
        Key::Policy(id) => next.policies.shared(id),
        _ => None,
    }) {
        let id = policy.id;
        touched.policies.insert_shared(id, policy.clone());
    }
    touched.prefixes = referring.prefixes.clone();
    let check = Check {
        state: &touched,
        ..check
    };
    check.names()?;
    check.policies()
}

fn prefix(key: &Key) -> Option<IpPrefix> {
    match key {
        Key::Prefix(prefix) => Some(*prefix),
        _ => None,
    }
}
