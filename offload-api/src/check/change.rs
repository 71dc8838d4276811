//! Whether a small change leaves a state that held together as one that does, by looking at
//! what it touched.
//!
//! It never says that a bad state is fine; a state that it is not sure of is looked at whole,
//! which also finds the operation to blame.

use std::collections::BTreeSet;

use super::{Blame, Check};
use crate::limits::Limits;
use crate::model::{IdentityId, IpPrefix, Place};
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

/// Checks what was touched, and if that may be about endpoints, these and the prefixes that they
/// go by.
fn look_at(before: &State, next: &State, keys: &[Key], limits: &Limits) -> Result<(), Refusal> {
    let blame = Blame::nobody();
    let check = Check {
        state: next,
        limits,
        blame: &blame,
    };
    check.capacity()?;

    let mut prefixes: BTreeSet<IpPrefix> = keys.iter().filter_map(prefix).collect();
    let same_endpoints = before.endpoints.is_same(&next.endpoints);
    let is_elsewhere = same_endpoints && !keys.iter().any(|it| is_endpoints(before, next, it));
    if !is_elsewhere {
        let endpoints = before.endpoints.values().chain(next.endpoints.values());
        prefixes.extend(endpoints.flat_map(|it| it.ips.iter().copied().map(IpPrefix::host)));
    }
    let prefixes = prefixes.iter().filter_map(|it| next.prefixes.get(it));
    let referring = State {
        prefixes: prefixes.map(|it| (it.prefix, it.clone())).collect(),
        ..next.clone()
    };
    if !same_endpoints {
        check.addresses()?;
    }
    let check = Check {
        state: &referring,
        ..check
    };
    if !is_elsewhere {
        check.endpoints()?;
    }
    check.prefixes()?;

    let mut touched = State::default();
    for key in keys {
        touched.share(next, key);
    }
    if !same_endpoints {
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

/// Whether endpoints that stay may refer to what was touched. Of identities that went it is
/// known that no prefix names them, and an endpoint's first address has one with its identity;
/// every prefix of an endpoint's address is a local pod's, and no other is.
fn is_endpoints(before: &State, next: &State, touched: &Key) -> bool {
    let is_local = |state: &State, prefix: &IpPrefix| {
        let known = state.prefixes.get(prefix);
        known.is_some_and(|it| it.place == Place::LocalPod)
    };
    match touched {
        Key::Prefix(prefix) => is_local(before, prefix) || is_local(next, prefix),
        Key::Policy(id) => !next.policies.contains_key(id),
        Key::Identity(_) => false,
        Key::Endpoint(_) | Key::Port(_) | Key::Peer(_) => true,
    }
}

fn prefix(key: &Key) -> Option<IpPrefix> {
    match key {
        Key::Prefix(prefix) => Some(*prefix),
        _ => None,
    }
}
