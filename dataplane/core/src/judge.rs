//! The verdict on a flow: a pure function of the snapshot and the initiator's tuple.
//!
//! The walk asks it on a flow's first packet and again when a generation has made its
//! answer stale; `sluicectl trace` asks it about a described packet.

use crate::addr::Addr;
use crate::crossing::{crossing, stricter};
use crate::expect::Owners;
use crate::flow::key::Tuple;
use crate::meta::proto;
use crate::mutant::{self, Mutant};
use crate::names::DomainId;
use crate::names::learned::{Learned, PATTERNS_PER_ADDR_MAX};
use crate::reason::DropReason;
use crate::route::{Attach, RuleRef};
use crate::snapshot::{Endpoint, IdentityId, Place, PortIndex, Snapshot};
use crate::table::policy::{Direction, PolicyTable, Ruling, Transport};
use crate::tick::Tick;

/// A flow that may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Judgement {
    /// Where the initiator's and the responder's packets come from and go to.
    pub ends: [Attach; 2],
    /// The generations of the initiator's and the responder's endpoint; 0 for none.
    pub generations: [u32; 2],
    /// What was said at either end.
    pub rules: Rules,
    /// The pattern of domain names that the destination is known by, if a row for it decided
    /// at the source.
    pub domain: DomainId,
    /// Where shadow policies would have it otherwise.
    pub shadows: Shadows,
}

/// What names the source was told.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// By whom which address is known, if anything is.
    pub learned: Option<&'a Learned>,
    /// Now.
    pub now: Tick,
    /// The pattern that allowed the flow when it was judged before: it counts whatever is
    /// known now, if policy still names it.
    pub before: DomainId,
}

impl Told<'_> {
    /// Nothing.
    pub const NOTHING: Self = Self {
        learned: None,
        now: Tick(0),
        before: DomainId::NONE,
    };
}

/// A flow that may not be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Denied {
    /// Why.
    pub reason: DropReason,
    /// What was said at either end, as far as it was asked.
    pub rules: Rules,
    /// Where shadow policies would have it otherwise, as far as they were asked.
    pub shadows: Shadows,
}

/// What would have been said at one end, had the shadow policies that select its pod been
/// enforced: only where it differs from what was said. It decides nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shadow {
    /// The pod's port.
    pub port: PortIndex,
    /// Whether the flow might have been.
    pub allow: bool,
    /// The rule that would have decided, of the policy's shadow table.
    pub rule: RuleRef,
}

/// The ends where shadow policies differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shadows {
    /// At the source pod.
    pub egress: Option<Shadow>,
    /// At the destination pod; an end that was not asked has none.
    pub ingress: Option<Shadow>,
}

impl Shadows {
    /// Both, where there is one.
    pub fn iter(&self) -> impl Iterator<Item = Shadow> {
        self.egress.into_iter().chain(self.ingress)
    }
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

fn transport(protocol: u8) -> Option<Transport> {
    match protocol {
        proto::TCP => Some(Transport::Tcp),
        proto::UDP if mutant::is(Mutant::ProtocolForgotten) => Some(Transport::Tcp),
        proto::UDP => Some(Transport::Udp),
        proto::SCTP => Some(Transport::Sctp),
        proto::ICMP | proto::ICMPV6 => Some(Transport::Icmp),
        _ => None,
    }
}

/// ICMP, where it is not policed by a planted bug.
fn unpoliced(tuple: &Tuple) -> bool {
    mutant::is(Mutant::IcmpUnasked) && transport(tuple.protocol) == Some(Transport::Icmp)
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
        Place::Nobody => Err(DropReason::IdentityUnknown),
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
) -> (RuleRef, bool, Option<Shadow>) {
    let Some(policy) = snapshot.policies.get(endpoint.policy.0 as usize) else {
        // No policy is not "no policy selects it": that is a table that allows all.
        return (RuleRef::default(), false, None);
    };
    let ask = |table: &PolicyTable| {
        table.judge(
            direction,
            peer,
            transport(tuple.protocol),
            policy_port(tuple),
        )
    };
    let shadow = policy.shadow.as_ref().map(ask);
    beside(policy.id, endpoint, ask(&policy.table), shadow)
}

/// Identities that a destination can have at once: its own, one for each pattern that it is
/// known by, and that of the flow's earlier judgement.
const IDENTITIES_MAX: usize = 2 + PATTERNS_PER_ADDR_MAX;

/// Asks an endpoint about a flow of its own to an address outside, which has by the names
/// that the pod was told for it their patterns' identities too.
fn ask_named(
    snapshot: &Snapshot,
    endpoint: &Endpoint,
    own: IdentityId,
    tuple: &Tuple,
    told: &Told<'_>,
) -> (RuleRef, bool, Option<Shadow>, DomainId) {
    let policy = snapshot.policies.get(endpoint.policy.0 as usize);
    let Some(policy) = policy.filter(|it| !it.table.patterns().is_empty()) else {
        let (rule, allow, shadow) = ask(snapshot, endpoint, Direction::Egress, own, tuple);
        return (rule, allow, shadow, DomainId::NONE);
    };
    let mut identities = [own; IDENTITIES_MAX];
    let mut domains = [DomainId::NONE; IDENTITIES_MAX];
    let mut count = 1;
    let mut add = |domain| {
        let identity = policy.table.patterns().identity(domain);
        if let (Some(identity), Some(to), Some(of)) =
            (identity, identities.get_mut(count), domains.get_mut(count))
        {
            (*to, *of) = (identity, domain);
            count += 1;
        }
    };
    add(told.before);
    if let Some(learned) = told.learned {
        let pod = (endpoint.port, endpoint.born);
        learned.of(pod, tuple.dst, told.now, &mut add);
    }
    let identities = identities.get(..count).unwrap_or_default();
    let ask = |table: &PolicyTable| {
        table.judge_any(
            Direction::Egress,
            identities,
            transport(tuple.protocol),
            policy_port(tuple),
        )
    };
    let (ruling, of) = ask(&policy.table);
    let shadow = policy.shadow.as_ref().map(|table| ask(table).0);
    let (rule, allow, shadow) = beside(policy.id, endpoint, ruling, shadow);
    (
        rule,
        allow,
        shadow,
        domains.get(of).copied().unwrap_or_default(),
    )
}

/// A ruling with its policy, and what the shadow table says if that differs.
fn beside(
    policy: u32,
    endpoint: &Endpoint,
    Ruling { allow, rule }: Ruling,
    shadow: Option<Ruling>,
) -> (RuleRef, bool, Option<Shadow>) {
    let of = |rule| RuleRef { policy, rule };
    let enforced = shadow.filter(|_| mutant::is(Mutant::ShadowEnforced));
    let Ruling { allow, rule } = enforced.unwrap_or(Ruling { allow, rule });
    let shadow = shadow.filter(|it| it.allow != allow).map(|it| Shadow {
        port: endpoint.port,
        allow: it.allow,
        rule: of(it.rule),
    });
    (of(rule), allow, shadow)
}

/// Judges a flow whose source was told no names; see [`judge_between`].
///
/// # Errors
/// [`Denied`].
pub fn judge(snapshot: &Snapshot, tuple: &Tuple) -> Result<Judgement, Denied> {
    let owners = Owners::of(snapshot, tuple);
    judge_between(snapshot, tuple, owners, &Told::NOTHING)
}

/// Judges a flow by its initiator's tuple, whose addresses are these owners': the source pod's
/// egress, then the destination pod's ingress; both must allow, and then both ends' settings say
/// how it crosses the wire.
///
/// # Errors
/// [`Denied`] with the reason and the rules that were asked.
pub fn judge_between(
    snapshot: &Snapshot,
    tuple: &Tuple,
    owners: Owners,
    told: &Told<'_>,
) -> Result<Judgement, Denied> {
    let (mut rules, mut shadows) = (Rules::default(), Shadows::default());
    let mut domain = DomainId::NONE;
    let denied = |reason, rules, shadows| Denied {
        reason,
        rules,
        shadows,
    };
    let unasked = |reason| denied(reason, Rules::default(), Shadows::default());
    let src = owners.src.ok_or(unasked(DropReason::NoRoute))?;
    let dst = owners.dst.ok_or(unasked(DropReason::NoRoute))?;
    let from = attach(snapshot, src.place).map_err(unasked)?;
    let to = attach(snapshot, dst.place).map_err(unasked)?;

    let source = local(snapshot, src.place);
    if let Some(endpoint) = source {
        let (rule, allow, shadow, by) = if dst.place == Place::Outside {
            ask_named(snapshot, endpoint, dst.identity, tuple, told)
        } else {
            let egress = Direction::Egress;
            let (rule, allow, shadow) = ask(snapshot, endpoint, egress, dst.identity, tuple);
            (rule, allow, shadow, DomainId::NONE)
        };
        domain = by;
        rules.egress = Some(rule);
        shadows.egress = shadow;
        if !allow && !mutant::is(Mutant::EgressUnasked) && !unpoliced(tuple) {
            return Err(denied(DropReason::PolicyEgress, rules, shadows));
        }
    }
    let destination = local(snapshot, dst.place);
    if let Some(endpoint) = destination {
        // That a pod's own node may always reach it is a row of the table, by the node's
        // identity: the place would let in the node's ordinary pods too.
        let (rule, allow, shadow) =
            ask(snapshot, endpoint, Direction::Ingress, src.identity, tuple);
        rules.ingress = Some(rule);
        shadows.ingress = shadow;
        if !allow && !mutant::is(Mutant::IngressUnasked) && !unpoliced(tuple) {
            return Err(denied(DropReason::PolicyIngress, rules, shadows));
        }
    }
    let setting = stricter(src, dst);
    let cross =
        |peer| crossing(snapshot, peer, setting).map_err(|reason| denied(reason, rules, shadows));
    let ends = match [from, to] {
        [Attach::Peer(peer), to] => [cross(peer)?, to],
        [from, Attach::Peer(peer)] => [from, cross(peer)?],
        ends => ends,
    };
    let generation = |endpoint: Option<&Endpoint>, other: Addr| {
        endpoint.map_or(0, |it| snapshot.generation_towards(it, other))
    };
    Ok(Judgement {
        ends,
        generations: [
            generation(source, tuple.dst),
            generation(destination, tuple.src),
        ],
        rules,
        domain,
        shadows,
    })
}
