//! Policies.

use super::field::{enumerate, enumeration, message, messages, required};
use super::{ConvertError, ConvertReason};
use crate::model::{
    Action, Direction, Fallback, IdentityId, Policy, PolicyId, PolicyRow, PortBlock, Protocol,
    RuleIndex, ShadowTable, Tier, Verdict,
};
use crate::proto;

enumerate!(proto::Direction, Direction {
    Ingress <=> Ingress,
    Egress <=> Egress,
});

enumerate!(proto::Verdict, Verdict {
    Allow <=> Allow,
    Deny <=> Deny,
});

enumerate!(proto::Action, Action {
    Allow <=> Allow,
    Deny <=> Deny,
    Pass <=> Pass,
});

enumerate!(proto::Tier, Tier {
    Admin <=> Admin,
    Namespace <=> Namespace,
    Baseline <=> Baseline,
});

/// A row's protocol: as `Option`, which isn't ours, can't have the conversion.
enum AnyProtocol {
    Any,
    Tcp,
    Udp,
    Sctp,
    Icmp,
}

enumerate!(proto::Protocol, AnyProtocol {
    Any <=> Any,
    Tcp <=> Tcp,
    Udp <=> Udp,
    Sctp <=> Sctp,
    Icmp <=> Icmp,
});

impl From<AnyProtocol> for Option<Protocol> {
    fn from(protocol: AnyProtocol) -> Self {
        match protocol {
            AnyProtocol::Any => None,
            AnyProtocol::Tcp => Some(Protocol::Tcp),
            AnyProtocol::Udp => Some(Protocol::Udp),
            AnyProtocol::Sctp => Some(Protocol::Sctp),
            AnyProtocol::Icmp => Some(Protocol::Icmp),
        }
    }
}

impl From<Option<Protocol>> for AnyProtocol {
    fn from(protocol: Option<Protocol>) -> Self {
        match protocol {
            None => Self::Any,
            Some(Protocol::Tcp) => Self::Tcp,
            Some(Protocol::Udp) => Self::Udp,
            Some(Protocol::Sctp) => Self::Sctp,
            Some(Protocol::Icmp) => Self::Icmp,
        }
    }
}

impl TryFrom<proto::PortBlock> for PortBlock {
    type Error = ConvertError;

    fn try_from(wire: proto::PortBlock) -> Result<Self, ConvertError> {
        let proto::PortBlock { base, len } = wire;
        let block = match (u16::try_from(base), u8::try_from(len)) {
            (Ok(base), Ok(len)) => Self::new(base, len),
            _ => None,
        };
        block.ok_or_else(|| ConvertError::new("", ConvertReason::PortBlock { base, len }))
    }
}

impl From<PortBlock> for proto::PortBlock {
    fn from(block: PortBlock) -> Self {
        Self {
            base: block.base().into(),
            len: block.len().into(),
        }
    }
}

impl TryFrom<proto::PolicyRow> for PolicyRow {
    type Error = ConvertError;

    fn try_from(wire: proto::PolicyRow) -> Result<Self, ConvertError> {
        use proto::policy_row::Peer;
        let peer = match required("peer", wire.peer)? {
            Peer::Anyone(proto::Unit {}) => None,
            Peer::Identity(id) => Some(IdentityId(id)),
        };
        let protocol: AnyProtocol = enumeration::<proto::Protocol, _>("protocol", wire.protocol)?;
        Ok(Self {
            direction: enumeration::<proto::Direction, _>("direction", wire.direction)?,
            tier: enumeration::<proto::Tier, _>("tier", wire.tier)?,
            peer,
            protocol: protocol.into(),
            ports: message("ports", wire.ports)?,
            action: enumeration::<proto::Action, _>("action", wire.action)?,
            rule: RuleIndex(wire.rule),
        })
    }
}

impl From<PolicyRow> for proto::PolicyRow {
    fn from(row: PolicyRow) -> Self {
        use proto::policy_row::Peer;
        let peer = match row.peer {
            None => Peer::Anyone(proto::Unit {}),
            Some(id) => Peer::Identity(id.0),
        };
        Self {
            direction: proto::Direction::from(row.direction).into(),
            tier: proto::Tier::from(row.tier).into(),
            peer: Some(peer),
            protocol: proto::Protocol::from(AnyProtocol::from(row.protocol)).into(),
            ports: Some(row.ports.into()),
            action: proto::Action::from(row.action).into(),
            rule: row.rule.0,
        }
    }
}

impl TryFrom<proto::Fallback> for Fallback {
    type Error = ConvertError;

    fn try_from(wire: proto::Fallback) -> Result<Self, ConvertError> {
        Ok(Self {
            verdict: enumeration::<proto::Verdict, _>("verdict", wire.verdict)?,
            rule: RuleIndex(wire.rule),
        })
    }
}

impl From<Fallback> for proto::Fallback {
    fn from(fallback: Fallback) -> Self {
        Self {
            verdict: proto::Verdict::from(fallback.verdict).into(),
            rule: fallback.rule.0,
        }
    }
}

impl TryFrom<proto::Policy> for Policy {
    type Error = ConvertError;

    fn try_from(wire: proto::Policy) -> Result<Self, ConvertError> {
        Ok(Self {
            id: PolicyId(wire.id),
            ingress: message("ingress", wire.ingress)?,
            egress: message("egress", wire.egress)?,
            rules: wire.rules,
            rows: messages("rows", wire.rows)?,
            shadow: match wire.shadow {
                Some(table) => {
                    let table = shadow(wire.id, table).map_err(|error| error.inside("shadow"))?;
                    Some(Box::new(table))
                }
                None => None,
            },
        })
    }
}

fn shadow(id: u32, wire: proto::ShadowTable) -> Result<ShadowTable, ConvertError> {
    Ok(ShadowTable::new(Policy {
        id: PolicyId(id),
        ingress: message("ingress", wire.ingress)?,
        egress: message("egress", wire.egress)?,
        rules: wire.rules,
        rows: messages("rows", wire.rows)?,
        shadow: None,
    }))
}

impl From<&Policy> for proto::ShadowTable {
    fn from(table: &Policy) -> Self {
        Self {
            ingress: Some(table.ingress.into()),
            egress: Some(table.egress.into()),
            rules: table.rules.clone(),
            rows: table.rows.iter().copied().map(Into::into).collect(),
        }
    }
}

impl From<Policy> for proto::Policy {
    fn from(policy: Policy) -> Self {
        Self {
            shadow: policy.shadow_table().map(Into::into),
            id: policy.id.0,
            ingress: Some(policy.ingress.into()),
            egress: Some(policy.egress.into()),
            rules: policy.rules,
            rows: policy.rows.into_iter().map(Into::into).collect(),
        }
    }
}
