//! The naive evaluator: policies read off the objects, one flow at a time.
//!
//! It is the oracle that the compiler is held against, so it is linear, keeps nothing and
//! knows neither identities nor tables. Speed has no say here.

mod encryption;
mod flow;
mod names;
mod rules;
mod who;

use core::net::IpAddr;

use sluice_offload_api::model::{Direction, NodeName, Protocol, Tier, Verdict};

pub use encryption::{Crossing, crossing};
pub(crate) use flow::{End, Flow};
pub use names::KnownNames;

use crate::cluster::{Cluster, ClusterPolicy, NamespacedName, PolicySet};

/// The name of the rule that lets a pod's own node reach its primary interface.
pub const OWN_NODE: &str = "own node";
/// The name of what holds where no policy decides.
pub const NO_POLICY: &str = "no policy";
/// The name of the rule that denies service addresses, which aren't translated.
pub const SERVICE_VIP: &str = "service-vip";

/// The name of the rule that denies addresses that only pods have and no pod that is known.
pub const NOBODY: &str = "nobody";

/// The name of a policy's rule, as people see it: `shop/allow-web ingress[0]`.
#[must_use]
pub fn rule_name(policy: &NamespacedName, direction: Direction, index: usize) -> String {
    format!("{policy} {}[{index}]", word(direction))
}

/// The name of a ClusterNetworkPolicy's rule: `Admin:guard ingress[0]`, with its author's
/// name for it behind that, if there is one. A colon is in no namespace's name.
#[must_use]
pub fn cluster_rule_name(
    name: &str,
    policy: &ClusterPolicy,
    direction: Direction,
    index: usize,
) -> String {
    let tier = match policy.tier {
        Tier::Admin => "Admin",
        Tier::Baseline => "Baseline",
        Tier::Namespace => "Namespace",
    };
    let place = format!("{tier}:{name} {}[{index}]", word(direction));
    let given = policy.rules(direction).get(index);
    match given.and_then(|it| it.name.as_deref()) {
        Some(given) => format!("{place} ({given})"),
        None => place,
    }
}

/// The name of a MultiNetworkPolicy's rule: `Multi:shop/fast ingress[0]`.
#[must_use]
pub fn multi_rule_name(policy: &NamespacedName, direction: Direction, index: usize) -> String {
    format!("Multi:{}", rule_name(policy, direction, index))
}

/// The name of the denial of a secondary interface's first isolating policy:
/// `Multi:shop/fast isolates ingress`.
#[must_use]
pub fn multi_isolation_name(policy: &NamespacedName, direction: Direction) -> String {
    format!("Multi:{}", isolation_name(policy, direction))
}

/// The name of the denial of a pod's first isolating policy: `shop/default isolates ingress`.
#[must_use]
pub fn isolation_name(policy: &NamespacedName, direction: Direction) -> String {
    format!("{policy} isolates {}", word(direction))
}

const fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// An end of a flow.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Party {
    /// A pod; the flow's address says on which of its interfaces. One in its node's network
    /// is that node; one that is not there or is over is outside, as its address is.
    Pod {
        /// Namespace.
        ns: String,
        /// Name.
        name: String,
    },
    /// A node itself.
    Node(NodeName),
    /// Someone outside the cluster, or a service address.
    Outside(IpAddr),
}

/// A flow, from its initiator to its responder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query {
    /// The initiator.
    pub from: Party,
    /// The responder.
    pub to: Party,
    /// The protocol.
    pub protocol: Protocol,
    /// The destination port. `None` for ICMP; for another protocol it means that the port
    /// is not known, so that only rules for every port match.
    pub port: Option<u16>,
    /// The source address: an `ipBlock` may match it, whoever has it.
    pub from_ip: IpAddr,
    /// The destination address.
    pub to_ip: IpAddr,
}

/// What policy says of a flow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Judgement {
    /// Whether it may be.
    pub verdict: Verdict,
    /// The side that denied: egress if both do, as the packet never reaches the other.
    pub at: Option<Direction>,
    /// What decided at the source, if that is a pod.
    pub egress_rule: Option<String>,
    /// What decided, or would have, at the destination, if that is a pod.
    pub ingress_rule: Option<String>,
    /// What decided: the rule that denied; of an allowed flow the ingress's, or else the
    /// egress's. `None` if neither end is a pod.
    pub rule: Option<String>,
    /// The first end whose answer policies in shadow mode would turn. An end that the packet
    /// never reaches is not asked.
    pub shadow: Option<ShadowJudgement>,
}

/// What shadow policies would turn at one end of a flow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShadowJudgement {
    /// What the end would have said.
    pub verdict: Verdict,
    /// Which end.
    pub at: Direction,
    /// What would have decided.
    pub rule: String,
}

impl Judgement {
    /// Puts the two sides' rulings together: both must allow.
    #[must_use]
    pub fn of(egress: Option<Ruling>, ingress: Option<Ruling>) -> Self {
        let denies =
            |side: &Option<Ruling>| side.as_ref().is_some_and(|it| it.verdict == Verdict::Deny);
        let at = if denies(&egress) {
            Some(Direction::Egress)
        } else if denies(&ingress) {
            Some(Direction::Ingress)
        } else {
            None
        };
        let shadow = |side: &Option<Ruling>, at| {
            let Shadow { verdict, rule } = side.as_ref()?.shadow.clone()?;
            Some(ShadowJudgement { verdict, at, rule })
        };
        let shadow = shadow(&egress, Direction::Egress).or_else(|| {
            let reached = at != Some(Direction::Egress);
            shadow(&ingress, Direction::Ingress).filter(|_| reached)
        });
        let (egress_rule, ingress_rule) = (egress.map(|it| it.rule), ingress.map(|it| it.rule));
        let rule = match at {
            Some(Direction::Egress) => egress_rule.clone(),
            Some(Direction::Ingress) => ingress_rule.clone(),
            None => ingress_rule.clone().or_else(|| egress_rule.clone()),
        };
        let verdict = if at.is_some() {
            Verdict::Deny
        } else {
            Verdict::Allow
        };
        Self {
            verdict,
            at,
            egress_rule,
            ingress_rule,
            rule,
            shadow,
        }
    }
}

/// A flow, and what it is judged by.
#[derive(Clone, Copy)]
struct Ask<'a> {
    cluster: &'a Cluster,
    flow: Flow<'a>,
    /// What its source was told.
    names: &'a KnownNames,
    /// Which policies count.
    set: PolicySet,
}

/// What one side says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ruling {
    /// Whether the flow may be.
    pub verdict: Verdict,
    /// The name of what says so.
    pub rule: String,
    /// What it would say if the policies in shadow mode were enforced, if that is not the
    /// same verdict.
    pub shadow: Option<Shadow>,
}

/// What one side would say if the policies in shadow mode were enforced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shadow {
    /// Whether the flow might be.
    pub verdict: Verdict,
    /// The name of what would say so.
    pub rule: String,
}

impl Ruling {
    /// One that no shadow policy would turn.
    #[must_use]
    pub fn new(verdict: Verdict, rule: impl Into<String>) -> Self {
        Self {
            verdict,
            rule: rule.into(),
            shadow: None,
        }
    }

    /// With what is said if shadow policies are enforced: kept only if that differs.
    #[must_use]
    pub fn beside(self, with_shadow: Option<Self>) -> Self {
        let shadow = with_shadow.filter(|it| it.verdict != self.verdict);
        let shadow = shadow.map(|Self { verdict, rule, .. }| Shadow { verdict, rule });
        Self { shadow, ..self }
    }

    fn allow(rule: impl Into<String>) -> Self {
        Self::new(Verdict::Allow, rule)
    }

    fn deny(rule: impl Into<String>) -> Self {
        Self::new(Verdict::Deny, rule)
    }
}

/// Judges a flow: the source pod's egress and the destination pod's ingress. The source was
/// told no names.
#[must_use]
pub fn evaluate(cluster: &Cluster, query: &Query) -> Judgement {
    evaluate_knowing(cluster, query, KnownNames::NONE)
}

/// Judges a flow of a source that was told these names.
#[must_use]
pub fn evaluate_knowing(cluster: &Cluster, query: &Query, names: &KnownNames) -> Judgement {
    Judgement::of(
        egress_knowing(cluster, query, names),
        ingress(cluster, query),
    )
}

/// What the source says; `None` if it isn't a pod with an address of its own.
#[must_use]
pub fn egress(cluster: &Cluster, query: &Query) -> Option<Ruling> {
    egress_knowing(cluster, query, KnownNames::NONE)
}

/// What a source says that was told these names.
#[must_use]
pub fn egress_knowing(cluster: &Cluster, query: &Query, names: &KnownNames) -> Option<Ruling> {
    let flow = Flow::of(cluster, query);
    let source = flow.from.pod?;
    let is_vip = cluster.is_service_vip(query.to_ip);
    let by = |set| egress_to(cluster, flow, names, set, is_vip);
    let shadow = cluster
        .is_shadowed(source, query.from_ip)
        .then(|| by(PolicySet::WithShadow))
        .flatten();
    Some(by(PolicySet::Enforced)?.beside(shadow))
}

/// What a source that was told these names says, or would say, by these policies.
#[must_use]
pub fn egress_by(
    cluster: &Cluster,
    query: &Query,
    names: &KnownNames,
    set: PolicySet,
) -> Option<Ruling> {
    let is_vip = cluster.is_service_vip(query.to_ip);
    egress_to(cluster, Flow::of(cluster, query), names, set, is_vip)
}

/// [`egress_by`], if it is known who the ends are and whether the destination's address is a
/// service's: to ask each service takes longer than all the rest.
pub(crate) fn egress_to(
    cluster: &Cluster,
    flow: Flow<'_>,
    names: &KnownNames,
    set: PolicySet,
    is_vip: bool,
) -> Option<Ruling> {
    let source = flow.from.pod?;
    if is_vip {
        return Some(Ruling::deny(SERVICE_VIP));
    }
    if flow.to.is_nobodys {
        return Some(Ruling::deny(NOBODY));
    }
    let ask = Ask {
        cluster,
        flow,
        names,
        set,
    };
    Some(rules::judge(ask, source, Direction::Egress))
}

/// What the destination says; `None` if it isn't a pod with an address of its own.
#[must_use]
pub fn ingress(cluster: &Cluster, query: &Query) -> Option<Ruling> {
    let flow = Flow::of(cluster, query);
    let destination = flow.to.pod?;
    let by = |set| ingress_at(cluster, flow, set);
    let shadow = cluster
        .is_shadowed(destination, query.to_ip)
        .then(|| by(PolicySet::WithShadow))
        .flatten();
    Some(by(PolicySet::Enforced)?.beside(shadow))
}

/// What the destination says, or would say, by these policies.
#[must_use]
pub fn ingress_by(cluster: &Cluster, query: &Query, set: PolicySet) -> Option<Ruling> {
    ingress_at(cluster, Flow::of(cluster, query), set)
}

/// [`ingress_by`], if it is known who the ends are.
pub(crate) fn ingress_at(cluster: &Cluster, flow: Flow<'_>, set: PolicySet) -> Option<Ruling> {
    let destination = flow.to.pod?;
    if flow.from.is_nobodys {
        return Some(Ruling::deny(NOBODY));
    }
    let primary = destination.interface_at(flow.to.ip).is_none();
    if primary && flow.from.node.is_some() && flow.from.node == destination.node.as_ref() {
        return Some(Ruling::allow(OWN_NODE));
    }
    let ask = Ask {
        cluster,
        flow,
        names: KnownNames::NONE,
        set,
    };
    Some(rules::judge(ask, destination, Direction::Ingress))
}
