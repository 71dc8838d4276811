//! The verdict on a flow: a pure function of the snapshot and the initiator's tuple.
//!
//! The walk asks it on a flow's first packet and again when a generation has made its
//! answer stale; `sluicectl trace` asks it about a described packet.

use crate::flow::key::Tuple;
use crate::meta::proto;
use crate::reason::DropReason;
use crate::route::{Attach, RuleRef};
use crate::snapshot::{Endpoint, IdentityId, Place, Snapshot};
use crate::table::policy::{Direction, Ruling, Transport};

/// A flow that may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Judgement {
    /// Where the initiator's and the responder's packets come from and go to.
    pub ends: [Attach; 2],
    /// The generations of the initiator's and the responder's endpoint; 0 for none.
    pub generations: [u32; 2],
    /// What was said at either end.
    pub rules: Rules,
}

/// A flow that may not be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Denied {
    /// Why.
    pub reason: DropReason,
    /// What was said at either end, as far as it was asked.
    pub rules: Rules,
}

/// The rules that spoke.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rules {
    /// At the source pod, if it is of this node.
    pub egress: Option<RuleRef>,
    /// At the destination pod, if it is of this node.
    pub ingress: Option<RuleRef>,
}

impl Rules {
    /// The one to cache with an allowed flow: the last that spoke.
    #[must_use]
    pub fn last(self) -> RuleRef {
        self.ingress.or(self.egress).unwrap_or_default()
    }
}

const fn transport(protocol: u8) -> Option<Transport> {
    match protocol {
        proto::TCP => Some(Transport::Tcp),
        proto::UDP => Some(Transport::Udp),
        proto::SCTP => Some(Transport::Sctp),
        proto::ICMP | proto::ICMPV6 => Some(Transport::Icmp),
        _ => None,
    }
}

/// The port that policy sees: none for ICMP, whose identifier stands in the tuple.
const fn policy_port(tuple: &Tuple) -> u16 {
    match tuple.protocol {
        proto::TCP | proto::UDP | proto::SCTP => tuple.dst_port,
        _ => 0,
    }
}

fn attach(snapshot: &Snapshot, place: Place) -> Result<Attach, DropReason> {
    match place {
        Place::LocalPod(index) => {
            let endpoint = snapshot.endpoint(index).ok_or(DropReason::NoRoute)?;
            Ok(Attach::Port(endpoint.port))
        }
        Place::LocalNode => snapshot.host.map(Attach::Port).ok_or(DropReason::NoPort),
        Place::RemotePod(peer) | Place::RemoteNode(peer) => Ok(Attach::Peer(peer)),
        Place::Outside => snapshot.uplink.map(Attach::Port).ok_or(DropReason::NoPort),
        Place::Revoked => Err(DropReason::IdentityUnknown),
        Place::ServiceVip => Err(DropReason::ServiceVip),
    }
}

fn local(snapshot: &Snapshot, place: Place) -> Option<&Endpoint> {
    match place {
        Place::LocalPod(index) => snapshot.endpoint(index),
        _ => None,
    }
}

fn ask(
    snapshot: &Snapshot,
    endpoint: &Endpoint,
    direction: Direction,
    peer: IdentityId,
    tuple: &Tuple,
) -> (RuleRef, bool) {
    let Some(policy) = snapshot.policies.get(endpoint.policy.0 as usize) else {
        // No policy is not "no policy selects it": that is a table that allows all.
        return (RuleRef::default(), false);
    };
    let Ruling { allow, rule } = policy.table.judge(
        direction,
        peer,
        transport(tuple.protocol),
        policy_port(tuple),
    );
    (
        RuleRef {
            policy: policy.id,
            rule,
        },
        allow,
    )
}

/// Judges a flow by its initiator's tuple: the source pod's egress, then the destination
/// pod's ingress; both must allow.
///
/// # Errors
/// [`Denied`] with the reason and the rules that were asked.
pub fn judge(snapshot: &Snapshot, tuple: &Tuple) -> Result<Judgement, Denied> {
    let mut rules = Rules::default();
    let denied = |reason, rules| Denied { reason, rules };
    let src = snapshot
        .owner(tuple.src)
        .ok_or(denied(DropReason::NoRoute, rules))?;
    let dst = snapshot
        .owner(tuple.dst)
        .ok_or(denied(DropReason::NoRoute, rules))?;
    let from = attach(snapshot, src.place).map_err(|reason| denied(reason, rules))?;
    let to = attach(snapshot, dst.place).map_err(|reason| denied(reason, rules))?;

    let source = local(snapshot, src.place);
    if let Some(endpoint) = source {
        let (rule, allow) = ask(snapshot, endpoint, Direction::Egress, dst.identity, tuple);
        rules.egress = Some(rule);
        if !allow {
            return Err(denied(DropReason::PolicyEgress, rules));
        }
    }
    let destination = local(snapshot, dst.place);
    if let Some(endpoint) = destination {
        // That a pod's own node may always reach it is a row of the table, by the node's
        // identity: the place would let in the node's ordinary pods too.
        let (rule, allow) = ask(snapshot, endpoint, Direction::Ingress, src.identity, tuple);
        rules.ingress = Some(rule);
        if !allow {
            return Err(denied(DropReason::PolicyIngress, rules));
        }
    }
    let generation = |endpoint: Option<&Endpoint>| endpoint.map_or(0, |e| e.generation);
    Ok(Judgement {
        ends: [from, to],
        generations: [generation(source), generation(destination)],
        rules,
    })
}
