//! What an agent asks of a dataplane: a list of operations that holds whole or not at all.

use core::fmt;

use crate::model::{
    Endpoint, EndpointKey, Generation, Identity, IdentityId, IpPrefix, NodeName, Peer, Policy,
    PolicyId, Port, PortName, Prefix,
};

/// Operations under one generation. [`State::apply`](crate::state::State::apply) gives
/// the state after all of them, or refuses them all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transaction {
    /// What the operations are relative to.
    pub mode: Mode,
    /// The operations. Their order has no meaning, and each object may be the subject of
    /// one of them only. At most [`OPS_MAX`](crate::limits::OPS_MAX).
    pub ops: Vec<Op>,
    /// The generation that holds afterwards; above the current one.
    pub generation: Generation,
}

/// What a transaction's operations are relative to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Changes to the state of generation `base`; refused if another one is in force.
    Delta {
        /// The generation that the agent computed the difference from.
        base: Generation,
    },
    /// Mark and sweep: what is neither added nor kept is gone. Holds whatever is in force,
    /// so it is what an agent sends after a restart of either side.
    Snapshot,
}

/// One operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Adds the object, or replaces the one of the same key.
    Add(Object),
    /// Leaves the object as it is. In snapshots only; it must exist. An agent that doesn't
    /// know what the dataplane holds, such as one just started, must add instead.
    Keep(Key),
    /// Takes the object away; it must exist. In a snapshot it says no more than leaving
    /// the object out would.
    Del(Key),
}

impl Op {
    /// The object it is about.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Add(object) => object.key(),
            Self::Keep(key) | Self::Del(key) => key.clone(),
        }
    }

    /// The operation's name in paths: `add`, `keep` or `del`.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Add(_) => "add",
            Self::Keep(_) => "keep",
            Self::Del(_) => "del",
        }
    }
}

/// Anything a transaction can add.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Object {
    /// A port.
    Port(Port),
    /// A pod behind a VF.
    Endpoint(Endpoint),
    /// A numeric identity.
    Identity(Identity),
    /// Whose some addresses are.
    Prefix(Prefix),
    /// A compiled policy.
    Policy(Policy),
    /// Another node's dataplane.
    Peer(Peer),
}

impl Object {
    /// What names it.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Port(port) => Key::Port(port.name.clone()),
            Self::Endpoint(endpoint) => Key::Endpoint(endpoint.key()),
            Self::Identity(identity) => Key::Identity(identity.id),
            Self::Prefix(prefix) => Key::Prefix(prefix.prefix),
            Self::Policy(policy) => Key::Policy(policy.id),
            Self::Peer(peer) => Key::Peer(peer.node.clone()),
        }
    }
}

macro_rules! object_from {
    ($($kind:ident),*) => {
        $(impl From<$kind> for Object {
            fn from(it: $kind) -> Self {
                Self::$kind(it)
            }
        })*
    };
}

object_from!(Port, Endpoint, Identity, Prefix, Policy, Peer);

/// What names an object, among those of its kind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Key {
    /// A port by its name.
    Port(PortName),
    /// A pod's interface by the pod's UID and its own name.
    Endpoint(EndpointKey),
    /// An identity by its number.
    Identity(IdentityId),
    /// A prefix by itself.
    Prefix(IpPrefix),
    /// A policy by its number.
    Policy(PolicyId),
    /// A peer by its node.
    Peer(NodeName),
}

impl Key {
    /// What kind of object it names.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Port(_) => Kind::Port,
            Self::Endpoint(_) => Kind::Endpoint,
            Self::Identity(_) => Kind::Identity,
            Self::Prefix(_) => Kind::Prefix,
            Self::Policy(_) => Kind::Policy,
            Self::Peer(_) => Kind::Peer,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind())?;
        match self {
            Self::Port(name) => name.fmt(f),
            Self::Endpoint(uid) => uid.fmt(f),
            Self::Identity(id) => id.fmt(f),
            Self::Prefix(prefix) => prefix.fmt(f),
            Self::Policy(id) => id.fmt(f),
            Self::Peer(node) => node.fmt(f),
        }
    }
}

/// A kind of object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// [`Port`].
    Port,
    /// [`Endpoint`].
    Endpoint,
    /// [`Identity`].
    Identity,
    /// [`Prefix`].
    Prefix,
    /// [`Policy`].
    Policy,
    /// [`Peer`].
    Peer,
}

impl Kind {
    /// Its name in paths and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::Endpoint => "endpoint",
            Self::Identity => "identity",
            Self::Prefix => "prefix",
            Self::Policy => "policy",
            Self::Peer => "peer",
        }
    }

    /// The name for many of them.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Port => "ports",
            Self::Endpoint => "endpoints",
            Self::Identity => "identities",
            Self::Prefix => "prefixes",
            Self::Policy => "policies",
            Self::Peer => "peers",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
