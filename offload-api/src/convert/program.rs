//! A transaction's pieces and the answer to it.

use super::ConvertError;
use super::field::{enumerate, enumeration, message, required};
use crate::answer::{Answer, Refused};
use crate::model::{Generation, IdentityId, NodeName, PolicyId, PortName};
use crate::proto;
use crate::refusal::RefusalCode;
use crate::transaction::{Key, Mode, Object, Op, Transaction};

/// The messages of a transaction, in the order they are sent.
pub fn to_requests(tx: Transaction) -> impl Iterator<Item = proto::ProgramRequest> {
    use proto::program_request::Step;
    let begin = Step::Begin(tx.mode.into());
    let commit = Step::Commit(proto::Commit {
        generation: tx.generation.0,
    });
    let ops = tx.ops.into_iter().map(Step::from);
    let steps = core::iter::once(begin)
        .chain(ops)
        .chain(core::iter::once(commit));
    steps.map(|step| proto::ProgramRequest { step: Some(step) })
}

impl TryFrom<proto::Begin> for Mode {
    type Error = ConvertError;

    fn try_from(wire: proto::Begin) -> Result<Self, ConvertError> {
        use proto::begin::Mode as Wire;
        Ok(match required("mode", wire.mode)? {
            Wire::Delta(proto::Delta { base }) => Self::Delta {
                base: Generation(base),
            },
            Wire::Snapshot(proto::Unit {}) => Self::Snapshot,
        })
    }
}

impl From<Mode> for proto::Begin {
    fn from(mode: Mode) -> Self {
        use proto::begin::Mode as Wire;
        let mode = match mode {
            Mode::Delta { base } => Wire::Delta(proto::Delta { base: base.0 }),
            Mode::Snapshot => Wire::Snapshot(proto::Unit {}),
        };
        Self { mode: Some(mode) }
    }
}

impl TryFrom<proto::Add> for Object {
    type Error = ConvertError;

    fn try_from(wire: proto::Add) -> Result<Self, ConvertError> {
        use proto::add::Object as Wire;
        Ok(match required("object", wire.object)? {
            Wire::Port(it) => Self::Port(message("port", Some(it))?),
            Wire::Endpoint(it) => Self::Endpoint(message("endpoint", Some(it))?),
            Wire::Identity(it) => Self::Identity(message("identity", Some(it))?),
            Wire::Prefix(it) => Self::Prefix(message("prefix", Some(it))?),
            Wire::Policy(it) => Self::Policy(message("policy", Some(it))?),
            Wire::Peer(it) => Self::Peer(message("peer", Some(it))?),
        })
    }
}

impl From<Object> for proto::Add {
    fn from(object: Object) -> Self {
        use proto::add::Object as Wire;
        let object = match object {
            Object::Port(it) => Wire::Port(it.into()),
            Object::Endpoint(it) => Wire::Endpoint(it.into()),
            Object::Identity(it) => Wire::Identity(it.into()),
            Object::Prefix(it) => Wire::Prefix(it.into()),
            Object::Policy(it) => Wire::Policy(it.into()),
            Object::Peer(it) => Wire::Peer(it.into()),
        };
        Self {
            object: Some(object),
        }
    }
}

/// `Keep` and `Del` say the same about an object, in messages of their own.
macro_rules! key {
    ($wire:ident, $module:ident) => {
        impl TryFrom<proto::$wire> for Key {
            type Error = ConvertError;

            fn try_from(wire: proto::$wire) -> Result<Self, ConvertError> {
                use proto::$module::Object as Wire;
                Ok(match required("object", wire.object)? {
                    Wire::Port(name) => Self::Port(PortName(name)),
                    Wire::Endpoint(it) => Self::Endpoint(it.into()),
                    Wire::Identity(id) => Self::Identity(IdentityId(id)),
                    Wire::Prefix(it) => Self::Prefix(message("prefix", Some(it))?),
                    Wire::Policy(id) => Self::Policy(PolicyId(id)),
                    Wire::Peer(node) => Self::Peer(NodeName(node)),
                })
            }
        }

        impl From<Key> for proto::$wire {
            fn from(key: Key) -> Self {
                use proto::$module::Object as Wire;
                let object = match key {
                    Key::Port(name) => Wire::Port(name.0),
                    Key::Endpoint(it) => Wire::Endpoint(it.into()),
                    Key::Identity(id) => Wire::Identity(id.0),
                    Key::Prefix(it) => Wire::Prefix(it.into()),
                    Key::Policy(id) => Wire::Policy(id.0),
                    Key::Peer(node) => Wire::Peer(node.0),
                };
                Self {
                    object: Some(object),
                }
            }
        }
    };
}

key!(Keep, keep);
key!(Del, del);

impl From<Op> for proto::program_request::Step {
    fn from(op: Op) -> Self {
        match op {
            Op::Add(object) => Self::Add(object.into()),
            Op::Keep(key) => Self::Keep(key.into()),
            Op::Del(key) => Self::Del(key.into()),
        }
    }
}

enumerate!(proto::RefusalCode, RefusalCode {
    Malformed <=> Malformed,
    Sequence <=> Sequence,
    Stale <=> Stale,
    Operation <=> Operation,
    Capacity <=> Capacity,
    Value <=> Value,
    Conflict <=> Conflict,
    Reference <=> Reference,
    Unsupported <=> Unsupported,
});

impl TryFrom<proto::ProgramResponse> for Answer {
    type Error = ConvertError;

    fn try_from(wire: proto::ProgramResponse) -> Result<Self, ConvertError> {
        use proto::program_response::Answer as Wire;
        Ok(match required("answer", wire.answer)? {
            Wire::Ack(proto::Ack { generation }) => Self::Ack {
                generation: Generation(generation),
            },
            Wire::Refused(it) => Self::Refused(message("refused", Some(it))?),
        })
    }
}

impl From<Answer> for proto::ProgramResponse {
    fn from(answer: Answer) -> Self {
        use proto::program_response::Answer as Wire;
        let answer = match answer {
            Answer::Ack { generation } => Wire::Ack(proto::Ack {
                generation: generation.0,
            }),
            Answer::Refused(it) => Wire::Refused(it.into()),
        };
        Self {
            answer: Some(answer),
        }
    }
}

impl TryFrom<proto::Refused> for Refused {
    type Error = ConvertError;

    fn try_from(wire: proto::Refused) -> Result<Self, ConvertError> {
        Ok(Self {
            generation: Generation(wire.generation),
            path: wire.path,
            code: enumeration::<proto::RefusalCode, _>("code", wire.code)?,
            text: wire.text,
        })
    }
}

impl From<Refused> for proto::Refused {
    fn from(refused: Refused) -> Self {
        Self {
            generation: refused.generation.0,
            path: refused.path,
            code: proto::RefusalCode::from(refused.code).into(),
            text: refused.text,
        }
    }
}
