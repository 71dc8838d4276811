//! Which operation of a transaction is at fault.

use core::net::IpAddr;
use std::collections::HashMap;

use crate::refusal::{Refusal, RefusalReason};
use crate::state::State;
use crate::transaction::{Key, Kind, Op};

/// A transaction's operations by their objects, and the state before it.
pub(crate) struct Blame<'a> {
    before: Option<&'a State>,
    touched: HashMap<Key, (usize, Verb)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Add,
    Keep,
    Del,
}

impl<'a> Blame<'a> {
    /// Of the transaction of `ops` on the state `before`.
    ///
    /// # Errors
    /// [`RefusalReason::Twice`].
    pub(crate) fn new(before: &'a State, ops: &[Op]) -> Result<Self, Refusal> {
        let mut touched = HashMap::with_capacity(ops.len());
        for (index, op) in ops.iter().enumerate() {
            let verb = match op {
                Op::Add(_) => Verb::Add,
                Op::Keep(_) => Verb::Keep,
                Op::Del(_) => Verb::Del,
            };
            let key = op.key();
            if let Some(&(first, _)) = touched.get(&key) {
                let path = format!("ops[{index}].{}.{}", op.verb(), key.kind());
                return Err(Refusal::new(path, RefusalReason::Twice { key, first }));
            }
            touched.insert(key, (index, verb));
        }
        Ok(Self {
            before: Some(before),
            touched,
        })
    }

    /// Of no transaction: paths start from the state.
    pub(crate) fn nobody() -> Self {
        Self {
            before: None,
            touched: HashMap::new(),
        }
    }

    /// A field of an object, as the transaction calls it.
    pub(crate) fn path(&self, key: &Key, field: &str) -> String {
        match self.touched.get(key) {
            Some((index, Verb::Add)) => join(&format!("ops[{index}].add.{}", key.kind()), field),
            Some((index, Verb::Keep)) => format!("ops[{index}].keep.{}", key.kind()),
            Some((index, Verb::Del)) => format!("ops[{index}].del.{}", key.kind()),
            None => join(&in_state(key), field),
        }
    }

    /// A field of one object that doesn't agree with another object, perhaps one that is
    /// gone or never was. The first is at fault if this transaction brought it in, else
    /// the other if this one touched it.
    pub(crate) fn reference(&self, from: (&Key, &str), to: Option<(&Key, &str)>) -> String {
        if !self.is_added(from.0)
            && let Some((key, field)) = to
            && let Some((_, Verb::Add | Verb::Del)) = self.touched.get(key)
        {
            return self.path(key, field);
        }
        self.path(from.0, from.1)
    }

    /// Whether `a` was brought in later than `b`, or no earlier.
    pub(crate) fn is_later(&self, a: &Key, b: &Key) -> bool {
        let added = |key| match self.touched.get(key) {
            Some((index, Verb::Add)) => Some(*index),
            _ => None,
        };
        added(a) >= added(b)
    }

    /// What made a kind of object too many: the last one added.
    pub(crate) fn growth(&self, kind: Kind) -> String {
        let added = self
            .touched
            .iter()
            .filter(|(key, (_, verb))| key.kind() == kind && *verb == Verb::Add);
        match added.max_by_key(|(_, (index, _))| *index) {
            Some((key, _)) => self.path(key, ""),
            None if self.before.is_some() => "commit".to_owned(),
            None => kind.plural().to_owned(),
        }
    }

    /// The endpoint that had the address before.
    pub(crate) fn endpoint_before(&self, ip: IpAddr) -> Option<Key> {
        let endpoints = &self.before?.endpoints;
        let mut had = endpoints.values().filter(|it| it.ips.contains(&ip));
        had.next().map(|it| Key::Endpoint(it.key()))
    }

    fn is_added(&self, key: &Key) -> bool {
        matches!(self.touched.get(key), Some((_, Verb::Add)))
    }
}

fn in_state(key: &Key) -> String {
    let kind = key.kind().plural();
    match key {
        Key::Port(name) => format!("{kind}[{name}]"),
        Key::Endpoint(uid) => format!("{kind}[{uid}]"),
        Key::Identity(id) => format!("{kind}[{id}]"),
        Key::Prefix(prefix) => format!("{kind}[{prefix}]"),
        Key::Policy(id) => format!("{kind}[{id}]"),
        Key::Peer(node) => format!("{kind}[{node}]"),
    }
}

fn join(object: &str, field: &str) -> String {
    if field.is_empty() {
        object.to_owned()
    } else {
        format!("{object}.{field}")
    }
}
