//! Translation validation: a compiled state is held against the naive evaluator before it
//! goes to the dataplane, and bit by bit afterwards.
//!
//! The compiler is clever and the evaluator is not, so where they differ the compiler is
//! wrong. What changed since the last state is compared at its boundary points: for each row
//! that came or went the ports at both ends of its block and just outside, from an address
//! of its identity; for each address that came or changed its identity every row that could
//! match it. If that is more than fits the budget, evenly spaced points of it. Tables that
//! didn't change are sampled, other rows each time, and swept whole in the background.

mod directory;
mod holders;
mod lookup;
mod points;
mod sweep;
mod who;

use core::cell::OnceCell;
use core::fmt;
use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use sluice_offload_api::State;
use sluice_offload_api::limits::RULE_NAME_LEN_MAX;
use sluice_offload_api::model::{Direction, Endpoint, Place, PodRef, Policy, Protocol, Verdict};

use crate::cluster::{Cluster, Pod, PolicySet};
use crate::evaluate::{self, End, Flow, NOBODY, Ruling, SERVICE_VIP};
use crate::identity::printable;
pub use directory::Directory;
use points::Point;
pub use sweep::{Sweep, Swept};
use who::{Who, longest};

/// Points compared before a state is sent, at most.
pub const POINTS_MAX: usize = 100_000;

/// A flow that the compiled table judges otherwise than the policies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counterexample {
    /// The pod whose table it is.
    pub pod: PodRef,
    /// Which way.
    pub direction: Direction,
    /// The pod's own address.
    pub own: IpAddr,
    /// The other end's.
    pub peer: IpAddr,
    /// Its protocol.
    pub protocol: Protocol,
    /// The destination port, if it has one.
    pub port: Option<u16>,
    /// What the table says.
    pub compiled: Ruling,
    /// What the policies say.
    pub expected: Ruling,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = match self.direction {
            Direction::Ingress => (self.peer, self.own),
            Direction::Egress => (self.own, self.peer),
        };
        let protocol = format!("{:?}", self.protocol).to_uppercase();
        write!(f, "{protocol} from {from} to {to}")?;
        if let Some(port) = self.port {
            write!(f, " port {port}")?;
        }
        let says = |it: &Ruling| match it.verdict {
            Verdict::Allow => format!("allow ({})", it.rule),
            Verdict::Deny => format!("deny ({})", it.rule),
        };
        write!(
            f,
            ": the compiled table of pod {} says {}, its policies say {}; this is a fault of the \
             compiler, please report it",
            self.pod,
            says(&self.compiled),
            says(&self.expected)
        )
    }
}

impl std::error::Error for Counterexample {}

/// What was compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Compared {
    /// Points that were compared.
    pub points: usize,
    /// Points of the change that were not, because there were more than fit.
    pub left: usize,
}

/// Compares what changed from `before` to `after`, both compiled for the same node; after
/// [`State::default`] that is everything. `cluster` is what `after` was compiled from; `turn`
/// chooses the samples, another number each time.
///
/// # Errors
/// The first [`Counterexample`].
pub fn validate(
    cluster: &Cluster,
    before: &State,
    after: &State,
    turn: usize,
    points_max: usize,
) -> Result<Compared, Box<Counterexample>> {
    let directory = Directory::default().at(cluster, after);
    let set = PolicySet::Enforced;
    validate_by(&directory, (before, after), set, turn, points_max)
}

/// [`validate`] of the tables of these policies, those in shadow mode taken as enforced or left
/// out, with the index of the cluster and the state that was compiled from it.
///
/// # Errors
/// The first [`Counterexample`].
pub fn validate_by(
    directory: &Directory,
    (before, after): (&State, &State),
    set: PolicySet,
    turn: usize,
    points_max: usize,
) -> Result<Compared, Box<Counterexample>> {
    if set == PolicySet::WithShadow && after.policies.values().all(|it| it.shadow.is_none()) {
        return Ok(Compared::default());
    }
    let who = Who::new(directory);
    let mut total = 0usize;
    let old = judging(before, set).map(|(_, policy)| (policy.id.0, policy));
    let (old, new) = (old.collect(), tables(directory.cluster(), after, set, turn));
    let change = points::Change {
        before,
        after,
        set,
        old: &old,
        new: &new,
    };
    points::of_change(&change, &who, turn, &mut |_| {
        total += 1;
        Ok(())
    })?;
    let stride = total.div_ceil(points_max.max(1)).max(1);
    let (mut at, mut points) = (0usize, 0usize);
    let judge = Judge::new(directory, after, set);
    points::of_change(&change, &who, turn, &mut |point| {
        at += 1;
        if at.is_multiple_of(stride) || total <= points_max {
            points += 1;
            judge.compare(&point)?;
        }
        Ok(())
    })?;
    Ok(Compared {
        points,
        left: total - points,
    })
}

/// Compares single points.
struct Judge<'a> {
    state: &'a State,
    /// Which policies the tables are of.
    set: PolicySet,
    directory: &'a Directory,
    /// Whether the state's prefixes are those of the index.
    is_indexed: bool,
}

impl<'a> Judge<'a> {
    fn new(directory: &'a Directory, state: &'a State, set: PolicySet) -> Self {
        Self {
            state,
            set,
            directory,
            is_indexed: directory.prefixes().is_same(&state.prefixes),
        }
    }

    fn compare(&self, point: &Point<'_>) -> Result<(), Box<Counterexample>> {
        let Some(own) = point.own_ip() else {
            return Ok(());
        };
        // A pod's packets to itself never leave it.
        if point.seat.endpoint.ips.contains(&point.peer.ip) {
            return Ok(());
        }
        let (Some(expected), Some(compiled)) = (self.expected(point, own), self.compiled(point))
        else {
            return Ok(());
        };
        let (verdict, rule) = compiled;
        let is_same_rule =
            || rule == expected.rule || rule == printable(&expected.rule, RULE_NAME_LEN_MAX);
        if verdict == expected.verdict && is_same_rule() {
            return Ok(());
        }
        Err(Box::new(Counterexample {
            pod: point.seat.endpoint.pod.clone(),
            direction: point.direction,
            own,
            peer: point.peer.ip,
            protocol: point.protocol,
            port: point.port,
            compiled: Ruling::new(verdict, rule),
            expected,
        }))
    }

    fn expected(&self, point: &Point<'_>, own: IpAddr) -> Option<Ruling> {
        let (subject, peer) = (End::pod(own, point.seat.pod), point.peer.end);
        let cluster = self.directory.cluster();
        let flow = |from, to| Flow {
            from,
            to,
            protocol: point.protocol,
            port: point.port,
        };
        match point.direction {
            Direction::Ingress => evaluate::ingress_at(cluster, flow(peer, subject), self.set),
            Direction::Egress => {
                let is_vip = point.peer.is_service_vip;
                let names = &point.peer.names;
                evaluate::egress_to(cluster, flow(subject, peer), names, self.set, is_vip)
            }
        }
    }

    fn compiled<'p>(&self, point: &Point<'p>) -> Option<(Verdict, &'p str)> {
        let prefix = if self.is_indexed {
            point.peer.prefix
        } else {
            longest(&self.state.prefixes, point.peer.ip)?
        };
        if prefix.place == Place::ServiceVip && point.direction == Direction::Egress {
            return Some((Verdict::Deny, SERVICE_VIP));
        }
        if prefix.place == Place::Nobody {
            return Some((Verdict::Deny, NOBODY));
        }
        // One that didn't fit denies everything: stricter than asked, and on purpose.
        if is_closed(point.policy) {
            return None;
        }
        let mut peers = vec![prefix.identity];
        if prefix.place == Place::Outside && point.direction == Direction::Egress {
            peers.extend(&point.peer.domains);
        }
        Some(lookup::lookup(
            point.policy,
            point.direction,
            &peers,
            point.protocol,
            point.port,
        ))
    }
}

/// Whether a table is one that takes the place of a table that doesn't fit.
fn is_closed(policy: &Policy) -> bool {
    policy.rows.is_empty()
        && policy.rules.len() == 1
        && [policy.ingress, policy.egress]
            .iter()
            .all(|it| it.verdict == Verdict::Deny)
}

/// Stations that stand for all: of each family this many, so that one of them is not the
/// other end itself.
const OF_EACH_FAMILY: usize = 2;

/// A table and endpoints that have it.
struct Table<'a> {
    policy: &'a Policy,
    seats: Vec<Seat<'a>>,
    /// What the policies of those who have it tell apart, once that was asked.
    ends: OnceCell<BTreeSet<who::End>>,
}

/// An endpoint, and its pod if that is in the cluster.
#[derive(Clone, Copy)]
struct Seat<'a> {
    endpoint: &'a Endpoint,
    pod: Option<&'a Pod>,
}

impl<'a> Seat<'a> {
    fn of(cluster: &'a Cluster, endpoint: &'a Endpoint) -> Self {
        Self {
            endpoint,
            pod: cluster.pods.get(&endpoint.pod),
        }
    }
}

/// Endpoints, each with its table of these policies.
fn judging(state: &State, set: PolicySet) -> impl Iterator<Item = (&Endpoint, &Policy)> {
    let endpoints = state.endpoints.values();
    endpoints.filter_map(move |it| Some((it, table_of(state, it, set)?)))
}

/// An endpoint's table of these policies.
fn table_of<'a>(state: &'a State, endpoint: &Endpoint, set: PolicySet) -> Option<&'a Policy> {
    let policy = state.policies.get(&endpoint.policy)?;
    match set {
        PolicySet::Enforced => Some(policy),
        PolicySet::WithShadow => policy.shadow_table(),
    }
}

/// The tables of these policies that endpoints have, by number, each with some of those who
/// have it: others in another turn.
fn tables<'a>(
    cluster: &'a Cluster,
    state: &'a State,
    set: PolicySet,
    turn: usize,
) -> BTreeMap<u32, Table<'a>> {
    let mut all: BTreeMap<u32, (&Policy, Vec<&Endpoint>)> = BTreeMap::new();
    for (endpoint, policy) in judging(state, set) {
        let sharing = all.entry(policy.id.0);
        let (_, sharing) = sharing.or_insert_with(|| (policy, Vec::new()));
        sharing.push(endpoint);
    }
    let table = |(id, (policy, sharing)): (u32, (&'a Policy, Vec<&'a Endpoint>))| {
        let mut seats: Vec<Seat<'a>> = Vec::new();
        let first = turn.wrapping_mul(OF_EACH_FAMILY) % sharing.len().max(1);
        for &endpoint in sharing.iter().cycle().skip(first).take(sharing.len()) {
            let is_needed = |v4: bool| {
                let has = |it: &Endpoint| it.ips.iter().any(|ip| ip.is_ipv4() == v4);
                let others = seats.iter().filter(|it| has(it.endpoint));
                has(endpoint) && others.count() < OF_EACH_FAMILY
            };
            if is_needed(true) || is_needed(false) {
                seats.push(Seat::of(cluster, endpoint));
            }
        }
        let ends = OnceCell::new();
        let table = Table {
            policy,
            seats,
            ends,
        };
        (id, table)
    };
    all.into_iter().map(table).collect()
}
