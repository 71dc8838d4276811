//! What a dataplane holds between transactions, and the one way to change it.

use std::sync::Arc;

use crate::check::{self, Blame};
use crate::limits::Limits;
use crate::model::{
    Endpoint, EndpointKey, Generation, Identity, IdentityId, IpPrefix, NodeName, Peer, Policy,
    PolicyId, Port, PortName, Prefix,
};
use crate::refusal::{Refusal, RefusalReason};
use crate::shared::SharedMap;
use crate::transaction::{Key, Mode, Object, Op, Transaction};
use crate::uses::Uses;

/// Everything in force under one generation. The default is the state of a dataplane that
/// was never told anything: generation 0 and no objects.
///
/// Each map's keys are its objects' own. A state that came out of [`State::apply`] holds
/// together: see [`State::validate`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// The transaction that made it.
    pub generation: Generation,
    /// Ports by name.
    pub ports: SharedMap<PortName, Port>,
    /// Endpoints by pod and interface.
    pub endpoints: SharedMap<EndpointKey, Endpoint>,
    /// Identities by number.
    pub identities: SharedMap<IdentityId, Identity>,
    /// Prefixes by themselves.
    pub prefixes: SharedMap<IpPrefix, Prefix>,
    /// Policies by number.
    pub policies: SharedMap<PolicyId, Policy>,
    /// Peers by node.
    pub peers: SharedMap<NodeName, Peer>,
    /// Kept from change to change; says nothing that `prefixes` doesn't.
    pub uses: Uses,
}

impl State {
    /// The state after `tx`, or why there is none. `self` stays as it is either way.
    ///
    /// A small delta costs what it touches, or what can refer to what it takes away; anything
    /// else a check of the whole state, about a quarter of a second at the bounds of
    /// [`limits`](crate::limits), and never on a worker.
    ///
    /// # Errors
    /// The first fault found, at the field of the operation that brought it in. Where an
    /// object refers to another, that is the operation that adds the one that refers, or
    /// else the one that changed or deleted the other; where two objects claim the same
    /// thing, the later operation.
    pub fn apply(&self, tx: &Transaction) -> Result<Self, Refusal> {
        self.apply_within(tx, &Limits::MAX)
    }

    /// [`State::apply`] for a dataplane that holds less than the contract allows.
    ///
    /// # Errors
    /// Those of [`State::apply`].
    pub fn apply_within(&self, tx: &Transaction, limits: &Limits) -> Result<Self, Refusal> {
        self.admit(tx, limits)?;
        let blame = Blame::new(self, &tx.ops)?;
        let mut next = match tx.mode {
            Mode::Delta { .. } => self.clone(),
            Mode::Snapshot => Self::default(),
        };
        next.generation = tx.generation;
        for (index, op) in tx.ops.iter().enumerate() {
            next.step(self, op, tx.mode).map_err(|why| {
                let path = format!("ops[{index}].{}.{}", op.verb(), op.key().kind());
                Refusal { path, why }
            })?;
        }
        next.uses = self.uses.at(&next.prefixes);
        if matches!(tx.mode, Mode::Delta { .. })
            && check::change::is_fine(self, &next, &tx.ops, limits)
        {
            debug_assert_eq!(check::check(&next, limits, &blame), Ok(()), "{:?}", tx.ops);
            return Ok(next);
        }
        check::check(&next, limits, &blame)?;
        Ok(next)
    }

    /// Whether the transaction may be looked at: its size and its generations.
    fn admit(&self, tx: &Transaction, limits: &Limits) -> Result<(), Refusal> {
        let current = self.generation;
        if let Mode::Delta { base } = tx.mode
            && base != current
        {
            let why = RefusalReason::StaleBase { base, current };
            return Err(Refusal::new("begin.delta.base", why));
        }
        let generation = tx.generation;
        if generation <= current {
            let why = RefusalReason::GenerationNotRising {
                generation,
                current,
            };
            return Err(Refusal::new("commit.generation", why));
        }
        let (what, count, max) = ("operations", tx.ops.len(), limits.ops);
        if count > max {
            let why = RefusalReason::TooMany { what, count, max };
            return Err(Refusal::new("ops", why));
        }
        Ok(())
    }

    /// Does one operation.
    fn step(&mut self, before: &Self, op: &Op, mode: Mode) -> Result<(), RefusalReason> {
        match op {
            Op::Add(object) => self.put(object.clone()),
            Op::Keep(key) => {
                if matches!(mode, Mode::Delta { .. }) {
                    return Err(RefusalReason::KeepInDelta { key: key.clone() });
                }
                if !self.share(before, key) {
                    return Err(RefusalReason::Missing { key: key.clone() });
                }
            }
            Op::Del(key) => {
                if !before.has(key) {
                    return Err(RefusalReason::Missing { key: key.clone() });
                }
                self.remove(key);
            }
        }
        Ok(())
    }

    /// Whether everything in the state holds together and fits.
    ///
    /// - Every value is in its range, every name is printable and within its length.
    /// - Every reference is met: an endpoint's VF port, identity and policy, a prefix's
    ///   identity and peer, a row's identity.
    /// - No port, MAC, VF or address has two owners; there is at most one uplink and one
    ///   host port.
    /// - An endpoint's MAC is its port's. Each of its addresses is a local pod's by its
    ///   host prefix, with the endpoint's identity, and there is no such prefix otherwise.
    ///
    /// # Errors
    /// The first fault found; its path starts from the state: `endpoints[7c0f].ips[1]`.
    pub fn validate(&self, limits: &Limits) -> Result<(), Refusal> {
        check::check(self, limits, &Blame::nobody())
    }

    /// Whether there is such an object.
    #[must_use]
    pub fn has(&self, key: &Key) -> bool {
        match key {
            Key::Port(name) => self.ports.contains_key(name),
            Key::Endpoint(uid) => self.endpoints.contains_key(uid),
            Key::Identity(id) => self.identities.contains_key(id),
            Key::Prefix(prefix) => self.prefixes.contains_key(prefix),
            Key::Policy(id) => self.policies.contains_key(id),
            Key::Peer(node) => self.peers.contains_key(node),
        }
    }

    /// A copy of an object.
    #[must_use]
    pub fn object(&self, key: &Key) -> Option<Object> {
        match key {
            Key::Port(name) => self.ports.get(name).cloned().map(Object::Port),
            Key::Endpoint(uid) => self.endpoints.get(uid).cloned().map(Object::Endpoint),
            Key::Identity(id) => self.identities.get(id).cloned().map(Object::Identity),
            Key::Prefix(prefix) => self.prefixes.get(prefix).cloned().map(Object::Prefix),
            Key::Policy(id) => self.policies.get(id).cloned().map(Object::Policy),
            Key::Peer(node) => self.peers.get(node).cloned().map(Object::Peer),
        }
    }

    /// Copies of all objects, kind by kind, each kind by its keys.
    pub fn objects(&self) -> impl Iterator<Item = Object> + '_ {
        let ports = self.ports.values().cloned().map(Object::Port);
        let identities = self.identities.values().cloned().map(Object::Identity);
        let peers = self.peers.values().cloned().map(Object::Peer);
        let policies = self.policies.values().cloned().map(Object::Policy);
        let endpoints = self.endpoints.values().cloned().map(Object::Endpoint);
        let prefixes = self.prefixes.values().cloned().map(Object::Prefix);
        ports
            .chain(identities)
            .chain(peers)
            .chain(policies)
            .chain(endpoints)
            .chain(prefixes)
    }

    /// The transaction that makes this state of any older one.
    #[must_use]
    pub fn to_snapshot(&self) -> Transaction {
        Transaction {
            mode: Mode::Snapshot,
            ops: self.objects().map(Op::Add).collect(),
            generation: self.generation,
        }
    }

    /// The transaction that makes `target` of this state: no more than what differs. It costs
    /// no more than that either, if the one came of a copy of the other.
    #[must_use]
    pub fn delta_to(&self, target: &Self) -> Transaction {
        let (mut gone, mut new) = (Vec::new(), Vec::new());
        macro_rules! differences {
            ($($map:ident: $kind:ident),*) => {
                $(for it in self.$map.changes(&target.$map) {
                    match it.after {
                        Some(after) => new.push(Op::Add(Object::$kind(after.clone()))),
                        None => gone.push(Op::Del(Key::$kind(it.key.clone()))),
                    }
                })*
            };
        }
        differences!(
            ports: Port,
            identities: Identity,
            peers: Peer,
            policies: Policy,
            endpoints: Endpoint,
            prefixes: Prefix
        );
        gone.append(&mut new);
        Transaction {
            mode: Mode::Delta {
                base: self.generation,
            },
            ops: gone,
            generation: target.generation,
        }
    }

    /// Shares an object with another state; whether that has it.
    pub(crate) fn share(&mut self, before: &Self, key: &Key) -> bool {
        macro_rules! keep {
            ($map:ident, $key:expr) => {
                before.$map.shared($key).map(|it| {
                    self.$map.insert_shared($key.clone(), Arc::clone(it));
                })
            };
        }
        let kept = match key {
            Key::Port(name) => keep!(ports, name),
            Key::Endpoint(uid) => keep!(endpoints, uid),
            Key::Identity(id) => keep!(identities, id),
            Key::Prefix(prefix) => keep!(prefixes, prefix),
            Key::Policy(id) => keep!(policies, id),
            Key::Peer(node) => keep!(peers, node),
        };
        kept.is_some()
    }

    pub(crate) fn put(&mut self, object: Object) {
        match object {
            Object::Port(it) => drop(self.ports.insert(it.name.clone(), it)),
            Object::Endpoint(it) => drop(self.endpoints.insert(it.key(), it)),
            Object::Identity(it) => drop(self.identities.insert(it.id, it)),
            Object::Prefix(it) => drop(self.prefixes.insert(it.prefix, it)),
            Object::Policy(it) => drop(self.policies.insert(it.id, it)),
            Object::Peer(it) => drop(self.peers.insert(it.node.clone(), it)),
        }
    }

    fn remove(&mut self, key: &Key) {
        match key {
            Key::Port(name) => drop(self.ports.remove(name)),
            Key::Endpoint(uid) => drop(self.endpoints.remove(uid)),
            Key::Identity(id) => drop(self.identities.remove(id)),
            Key::Prefix(prefix) => drop(self.prefixes.remove(prefix)),
            Key::Policy(id) => drop(self.policies.remove(id)),
            Key::Peer(node) => drop(self.peers.remove(node)),
        }
    }
}

#[cfg(test)]
mod tests;
