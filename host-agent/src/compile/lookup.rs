//! What a compiled state means, in as few words as possible.
//!
//! The dataplane's lookup is fast and has its own tests; this one is what both it and the
//! compiler must agree with.

use core::net::IpAddr;

use sluice_offload_api::State;
use sluice_offload_api::model::{
    Action, Direction, Encryption, Endpoint, IdentityId, Peer, Place, Policy, PolicyRow, PortBlock,
    Prefix, Protocol, Tier, Verdict,
};

use super::domains::patterns;
use crate::evaluate::{Crossing, Judgement, KnownNames, NOBODY, Ruling, SERVICE_VIP};

/// What a table says: tier by tier, of the rows that match the one with the lowest rule,
/// unless it passes; if no tier decides, the fallback. `port` as in [`crate::evaluate::Query::port`].
#[must_use]
pub fn lookup(
    policy: &Policy,
    direction: Direction,
    peer: IdentityId,
    protocol: Protocol,
    port: Option<u16>,
) -> Ruling {
    lookup_any(policy, direction, &[peer], protocol, port)
}

/// What a table says of a peer that has several identities: a row is for it that is for any.
#[must_use]
pub fn lookup_any(
    policy: &Policy,
    direction: Direction,
    peers: &[IdentityId],
    protocol: Protocol,
    port: Option<u16>,
) -> Ruling {
    let matches = |row: &&PolicyRow| {
        row.direction == direction
            && row.peer.is_none_or(|it| peers.contains(&it))
            && row.protocol.is_none_or(|it| it == protocol)
            && (row.ports == PortBlock::ANY || port.is_some_and(|it| row.ports.contains(it)))
    };
    let in_tier = |tier: Tier| {
        let rows = policy.rows.iter().filter(|row| row.tier == tier);
        let best = rows.filter(matches).min_by_key(|row| row.rule)?;
        match best.action {
            Action::Allow => Some((Verdict::Allow, best.rule)),
            Action::Deny => Some((Verdict::Deny, best.rule)),
            Action::Pass => None,
        }
    };
    let (verdict, rule) = Tier::ALL.into_iter().find_map(in_tier).unwrap_or_else(|| {
        let fallback = match direction {
            Direction::Ingress => policy.ingress,
            Direction::Egress => policy.egress,
        };
        (fallback.verdict, fallback.rule)
    });
    let name = usize::try_from(rule.0)
        .ok()
        .and_then(|index| policy.rules.get(index));
    Ruling::new(verdict, name.cloned().unwrap_or_default())
}

/// Whose an address is.
#[must_use]
pub fn longest_prefix(state: &State, ip: IpAddr) -> Option<&Prefix> {
    state
        .prefixes
        .values()
        .filter(|it| it.prefix.contains(ip))
        .max_by_key(|it| it.prefix.len())
}

/// What one node says of a flow; `None` for a side that isn't an endpoint of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sides {
    /// At the source.
    pub egress: Option<Ruling>,
    /// At the destination.
    pub ingress: Option<Ruling>,
}

impl Sides {
    /// With the other side from the other end's node.
    #[must_use]
    pub fn judgement(self) -> Judgement {
        Judgement::of(self.egress, self.ingress)
    }
}

/// Judges a flow by its addresses, as the node's dataplane does.
#[must_use]
pub fn judge(
    state: &State,
    from: IpAddr,
    to: IpAddr,
    protocol: Protocol,
    port: Option<u16>,
) -> Sides {
    judge_knowing(state, from, to, protocol, port, KnownNames::NONE)
}

/// Judges a flow of a source that was told these names: what is outside the cluster has the
/// identities of its names too.
#[must_use]
pub fn judge_knowing(
    state: &State,
    from: IpAddr,
    to: IpAddr,
    protocol: Protocol,
    port: Option<u16>,
    names: &KnownNames,
) -> Sides {
    let (source, destination) = (longest_prefix(state, from), longest_prefix(state, to));
    let side = |own: IpAddr, other: Option<&Prefix>, direction| {
        let policy = state.policies.get(&endpoint(state, own)?.policy);
        let deny = |rule: &str| Ruling::new(Verdict::Deny, rule);
        match (policy, other) {
            (Some(_), Some(other))
                if other.place == Place::ServiceVip && direction == Direction::Egress =>
            {
                Some(deny(SERVICE_VIP))
            }
            (Some(_), Some(other)) if other.place == Place::Nobody => Some(deny(NOBODY)),
            (Some(policy), Some(other)) => {
                let mut peers = vec![other.identity];
                if other.place == Place::Outside && direction == Direction::Egress {
                    let named = patterns(&state.identities).filter(|(_, it)| names.is(to, it));
                    peers.extend(named.map(|(id, _)| id));
                }
                let ask = |table| lookup_any(table, direction, &peers, protocol, port);
                Some(ask(policy).beside(policy.shadow_table().map(ask)))
            }
            // Not in a state that a dataplane takes.
            _ => Some(deny("unknown")),
        }
    };
    Sides {
        egress: side(from, destination, Direction::Egress),
        ingress: side(to, source, Direction::Ingress),
    }
}

/// How a packet between this node and another crosses the wire, as the node's dataplane has it.
#[must_use]
pub fn crossing(state: &State, from: IpAddr, to: IpAddr) -> Crossing {
    let (from, to) = (longest_prefix(state, from), longest_prefix(state, to));
    let (Some(from), Some(to)) = (from, to) else {
        return Crossing::NotOurs;
    };
    let (here, there) = match (peer_of(state, from), peer_of(state, to)) {
        (None, Some(peer)) => (from, (to, peer)),
        (Some(peer), None) => (to, (from, peer)),
        _ => return Crossing::NotOurs,
    };
    let (there, peer) = there;
    match (&here.place, &there.place) {
        (Place::LocalPod, _) | (Place::LocalNode, Place::RemotePod(_)) => {}
        _ => return Crossing::NotOurs,
    }
    let setting = |it: &Prefix| state.identities.get(&it.identity).map(|it| it.encryption);
    let stricter = setting(here).zip(setting(there)).map(|(a, b)| a.max(b));
    match (stricter, peer.unprotected) {
        (None | Some(Encryption::Required), true) => Crossing::Never,
        (Some(Encryption::Preferred), true) | (Some(Encryption::Off), _) => Crossing::Clear,
        (None | Some(Encryption::Required | Encryption::Preferred), false) => Crossing::Sealed,
    }
}

fn peer_of<'a>(state: &'a State, it: &Prefix) -> Option<&'a Peer> {
    match &it.place {
        Place::RemotePod(node) | Place::RemoteNode(node) => state.peers.get(node),
        _ => None,
    }
}

fn endpoint(state: &State, ip: IpAddr) -> Option<&Endpoint> {
    state.endpoints.values().find(|it| it.ips.contains(&ip))
}
