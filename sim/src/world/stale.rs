//! Nodes that don't do what the API says now: they go on with the cluster as it was, while what
//! happens on them and around them goes on as well.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use sluice_host_agent::cluster::{Cluster, EncryptionSetup, Pod};
use sluice_host_agent::evaluate::{
    Crossing, Judgement, Party, Query, Ruling, crossing, egress, evaluate, ingress,
};
use sluice_offload_api::model::{NodeName, PodRef, PodUid, Protocol, Verdict};

use super::World;
use super::api::{Reach, Server};
use super::whereabouts::Whereabouts;
use crate::fault::ObjectKind;
use crate::fold::FoldMap;

/// Why a node doesn't do what the API says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Why {
    /// Its watch is late.
    Watch,
    /// Its watches of some kinds of objects are.
    Kinds,
    /// The API server is away.
    ApiAway,
    /// It has to list anew.
    ApiGone,
    /// Its list stops in the middle.
    PartialList,
    /// Its agent doesn't run.
    AgentDead,
    /// Its agent does nothing.
    AgentStalled,
    /// Nothing gets onto its disk.
    SlowDisk,
    /// Its dataplane does nothing.
    DataplaneStalled,
}

impl Why {
    /// Its name among the marks.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Watch => "stale-watch",
            Self::Kinds => "stale-kinds",
            Self::ApiAway => "api-away",
            Self::ApiGone => "api-gone",
            Self::PartialList => "partial-list",
            Self::AgentDead => "agent-dead",
            Self::AgentStalled => "agent-stalled",
            Self::SlowDisk => "slow-disk",
            Self::DataplaneStalled => "dataplane-stalled",
        }
    }
}

/// The objects, and the server that has them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) server: &'a Arc<Server>,
}

/// What a node still goes by, and why.
#[derive(Clone, Debug)]
struct Late {
    why: BTreeSet<Why>,
    /// Those of which it sees nothing new, if that is why.
    kinds: BTreeSet<ObjectKind>,
    seen: Cluster,
    /// The server that it speaks with as long as its watches are late: as it was then.
    server: Arc<Server>,
}

impl Late {
    /// Sees what is there now, but for the kinds whose watches are late.
    fn look(&mut self, now: &Cluster, server: &Server) {
        if self.why.iter().any(|it| *it != Why::Kinds) {
            return;
        }
        let mut mixed = server.clone();
        for kind in &self.kinds {
            mixed.take_over(*kind, &self.server);
        }
        self.server = Arc::new(mixed);
        let before = core::mem::replace(&mut self.seen, now.clone());
        for kind in &self.kinds {
            let seen = &mut self.seen;
            match kind {
                ObjectKind::Namespaces => seen.namespaces = before.namespaces.clone(),
                ObjectKind::Nodes => seen.nodes = before.nodes.clone(),
                ObjectKind::Pods => seen.pods = before.pods.clone(),
                ObjectKind::Policies => seen.policies = before.policies.clone(),
                ObjectKind::ClusterPolicies => {
                    seen.cluster_policies = before.cluster_policies.clone();
                }
                ObjectKind::MultiPolicies => seen.multi_policies = before.multi_policies.clone(),
                ObjectKind::Services => seen.services = before.services.clone(),
            }
        }
    }
}

/// What each node goes by that is behind.
#[derive(Debug, Default)]
pub(crate) struct Stale {
    late: BTreeMap<NodeName, Late>,
    /// Nodes where a second agent's word is in force, and what it has seen.
    rivals: BTreeMap<NodeName, Cluster>,
    /// What was in force at a node when its dataplane ended: what it starts with.
    kept: BTreeMap<NodeName, Cluster>,
    /// Nodes whose dataplane was told nothing since it has started.
    closed: BTreeSet<NodeName>,
    /// What was said of flows since something of this changed, or the objects.
    said: RefCell<Said>,
    /// The same of how packets may cross the wire.
    crossings: RefCell<FoldMap<(IpAddr, IpAddr), Crossing>>,
    /// How often that was.
    changes: u64,
}

/// What each end's node says, by addresses, protocol and destination port.
type Said = FoldMap<SaidOf, [bool; 2]>;
type SaidOf = (IpAddr, IpAddr, Protocol, Option<u16>);

/// Flows of which it is known what was said.
const SAID_MAX: usize = 1 << 16;

impl Stale {
    /// There are other objects, or a node sees others: what was said may be wrong.
    pub(crate) fn begin_anew(&mut self) {
        self.said.get_mut().clear();
        self.crossings.get_mut().clear();
        self.changes += 1;
    }

    /// From now on a node does nothing new. Whether it wasn't so already for this reason.
    pub(crate) fn begin(&mut self, node: &NodeName, why: Why, now: Now<'_>) -> bool {
        self.begin_anew();
        let late = self.late.entry(node.clone()).or_insert_with(|| Late {
            why: BTreeSet::new(),
            kinds: BTreeSet::new(),
            seen: now.cluster.clone(),
            server: Arc::clone(now.server),
        });
        late.why.insert(why)
    }

    /// From now on a node sees nothing new of these kinds of objects either.
    pub(crate) fn begin_kinds(
        &mut self,
        node: &NodeName,
        kinds: impl Iterator<Item = ObjectKind>,
        now: Now<'_>,
    ) {
        self.begin(node, Why::Kinds, now);
        if let Some(late) = self.late.get_mut(node) {
            late.kinds.extend(kinds);
        }
    }

    /// There are other objects: those nodes see them that see some.
    pub(crate) fn look(&mut self, now: &Cluster, server: &Server) {
        self.begin_anew();
        let late = self.late.values_mut();
        late.for_each(|it| it.look(now, server));
    }

    /// A reason is gone; whether it was there.
    pub(crate) fn end(&mut self, node: &NodeName, why: Why) -> bool {
        self.begin_anew();
        let Some(late) = self.late.get_mut(node) else {
            return false;
        };
        let was = late.why.remove(&why);
        if why == Why::Kinds {
            late.kinds.clear();
        }
        if late.why.is_empty() {
            self.late.remove(node);
        }
        was
    }

    /// The reasons that a node has.
    pub(crate) fn why(&self, node: &NodeName) -> impl Iterator<Item = Why> {
        self.late
            .get(node)
            .into_iter()
            .flat_map(|it| &it.why)
            .copied()
    }

    /// Whether a node is late for a reason.
    pub(crate) fn is(&self, node: &NodeName, why: Why) -> bool {
        self.why(node).any(|it| it == why)
    }

    /// Whether a node's agent does nothing at all.
    pub(crate) fn rests(&self, node: &NodeName) -> bool {
        let rests = [Why::AgentDead, Why::AgentStalled, Why::DataplaneStalled];
        self.why(node).any(|it| rests.contains(&it))
    }

    /// What a node's agent can get from the API, and from which server.
    pub(crate) fn api<'a>(&'a self, node: &NodeName, newest: &'a Server) -> (Reach, &'a Server) {
        let is = |why| self.is(node, why);
        let reach = Reach {
            is_away: is(Why::ApiAway),
            has_no_events: is(Why::ApiGone) || is(Why::PartialList),
            refuses_lists: is(Why::ApiGone),
            cuts_lists: is(Why::PartialList),
        };
        let late = self.late.get(node);
        // An agent that waits for its disk hears nothing meanwhile either.
        let late = late.filter(|_| is(Why::Watch) || is(Why::Kinds) || is(Why::SlowDisk));
        (reach, late.map_or(newest, |it| &it.server))
    }

    /// A node's dataplane does what a second agent says, with what that has seen; or it doesn't
    /// any more.
    pub(crate) fn follow(&mut self, node: &NodeName, rival: Option<Cluster>) {
        self.begin_anew();
        match rival {
            Some(seen) => self.rivals.insert(node.clone(), seen),
            None => self.rivals.remove(node),
        };
    }

    /// A node's dataplane ends: what it starts with is what is in force now.
    pub(crate) fn keep(&mut self, node: &NodeName, now: &Cluster) {
        self.begin_anew();
        let view = self.view(node, now).clone();
        self.kept.entry(node.clone()).or_insert(view);
        self.rivals.remove(node);
    }

    /// A node's dataplane has started with nothing.
    pub(crate) fn close(&mut self, node: &NodeName) {
        self.begin_anew();
        self.closed.insert(node.clone());
    }

    /// A node is gone.
    pub(crate) fn forget(&mut self, node: &NodeName) {
        self.begin_anew();
        self.late.remove(node);
        self.rivals.remove(node);
        self.kept.remove(node);
        self.closed.remove(node);
    }

    /// A node's agent has told its dataplane what it knows.
    pub(crate) fn told(&mut self, node: &NodeName) {
        self.begin_anew();
        self.kept.remove(node);
        self.closed.remove(node);
    }

    /// Whether some node's dataplane was told nothing since it has started.
    pub(crate) fn has_closed(&self) -> bool {
        !self.closed.is_empty()
    }

    /// The same, of which nothing was said yet.
    fn as_it_is(&self) -> Self {
        Self {
            late: self.late.clone(),
            rivals: self.rivals.clone(),
            kept: self.kept.clone(),
            closed: self.closed.clone(),
            said: RefCell::default(),
            crossings: RefCell::default(),
            changes: self.changes,
        }
    }

    /// Whether every node does what the API says.
    pub(crate) fn is_empty(&self) -> bool {
        self.late.is_empty()
            && self.rivals.is_empty()
            && self.kept.is_empty()
            && self.closed.is_empty()
    }

    /// What a node's agent is to see.
    pub(crate) fn seen<'a>(&'a self, node: &NodeName, now: &'a Cluster) -> &'a Cluster {
        self.late.get(node).map_or(now, |it| &it.seen)
    }

    /// What a node's dataplane goes by.
    fn view<'a>(&'a self, node: &NodeName, now: &'a Cluster) -> &'a Cluster {
        let before = self.rivals.get(node).or_else(|| self.kept.get(node));
        before.unwrap_or_else(|| self.seen(node, now))
    }

    /// What must come of a flow: each end's policy as that end's node sees it, and nothing at
    /// all where a node takes one of the two pods for another, doesn't know it, or is closed.
    pub(crate) fn judge(&self, now: &Cluster, query: &Query) -> Judgement {
        if self.is_empty() {
            return evaluate(now, query);
        }
        let ends = Ends::of(self, now, query);
        let egress = ends.egress();
        if ends.is_mistaken_at_source() {
            return nobody();
        }
        let denies = egress
            .as_ref()
            .is_some_and(|it| it.verdict == Verdict::Deny);
        if denies {
            // It never reaches the other end, whatever that makes of it.
            return Judgement::of(egress, None);
        }
        if ends.is_mistaken_at_destination() {
            // What the source counts beside its verdict it has counted by then.
            return Judgement {
                shadow: Judgement::of(egress, None).shadow,
                ..nobody()
            };
        }
        Judgement::of(egress, ends.ingress())
    }

    /// What each end's node says of a flow by itself: whether the source's lets it go, and the
    /// destination's lets it come.
    pub(crate) fn sides(&self, now: &Cluster, query: &Query) -> [bool; 2] {
        let ends = Ends::of(self, now, query);
        let allows = |ruling: Option<Ruling>| ruling.is_none_or(|it| it.verdict == Verdict::Allow);
        [
            !ends.is_mistaken_at_source() && allows(ends.egress()),
            !ends.is_mistaken_at_destination() && allows(ends.ingress()),
        ]
    }
}

/// A flow's two ends, each with what its node sees of the cluster.
struct Ends<'a> {
    now: &'a Cluster,
    query: Query,
    at_source: &'a Cluster,
    at_destination: &'a Cluster,
    /// Whether the dataplane at either end knows nothing at all.
    closed: [bool; 2],
}

impl<'a> Ends<'a> {
    fn of(stale: &'a Stale, now: &'a Cluster, query: &Query) -> Self {
        let query = Query {
            from: as_node(now, &query.from),
            to: as_node(now, &query.to),
            ..query.clone()
        };
        let view = |party| node_of(now, party).map_or(now, |node| stale.view(node, now));
        let is_closed = |party| node_of(now, party).is_some_and(|it| stale.closed.contains(it));
        Self {
            now,
            at_source: view(&query.from),
            at_destination: view(&query.to),
            closed: [is_closed(&query.from), is_closed(&query.to)],
            query,
        }
    }

    fn egress(&self) -> Option<Ruling> {
        egress(self.at_source, &self.query)
    }

    fn ingress(&self) -> Option<Ruling> {
        ingress(self.at_destination, &self.query)
    }

    fn is_mistaken_at_source(&self) -> bool {
        let [closed, _] = self.closed;
        closed || self.is_mistaken(self.at_source)
    }

    fn is_mistaken_at_destination(&self) -> bool {
        let [_, closed] = self.closed;
        closed || self.is_mistaken(self.at_destination)
    }

    /// Whether a node takes one of the two pods for another, or doesn't know it.
    fn is_mistaken(&self, seen: &Cluster) -> bool {
        let Query { from, to, .. } = &self.query;
        [from, to].into_iter().any(|party| match party {
            Party::Pod { ns, name } => {
                let pod = pod(ns, name);
                let id = |of: &Cluster| {
                    let found = of.pods.get(&pod);
                    found.map(|it| (it.uid.clone(), it.ips.clone()))
                };
                let way = |of: &Cluster| {
                    let node = of.pods.get(&pod)?.node.as_ref()?;
                    of.nodes.get(node).map(|it| it.tunnel_ips.clone())
                };
                id(seen) != id(self.now) || way(seen) != way(self.now)
            }
            Party::Node(_) | Party::Outside(_) => false,
        })
    }
}

/// What the API says, and what of it each node has seen: all that oracles know.
#[derive(Clone, Copy, Debug)]
pub struct Api<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) stale: &'a Stale,
    pub(crate) encryption: &'a EncryptionSetup,
    pub(crate) whereabouts: &'a Whereabouts,
}

/// What the API said at some moment, to be asked while the world goes on.
#[derive(Debug)]
pub(crate) struct ApiThen {
    cluster: Cluster,
    stale: Stale,
    encryption: EncryptionSetup,
    whereabouts: Arc<Whereabouts>,
}

impl ApiThen {
    /// As it was.
    pub(crate) fn api(&self) -> Api<'_> {
        Api {
            cluster: &self.cluster,
            stale: &self.stale,
            encryption: &self.encryption,
            whereabouts: &self.whereabouts,
        }
    }
}

impl World {
    /// What the API says now.
    pub(crate) fn api_then(&self) -> ApiThen {
        ApiThen {
            cluster: self.cluster.clone(),
            stale: self.stale.as_it_is(),
            encryption: self.config.encryption.clone(),
            whereabouts: Arc::clone(&self.whereabouts),
        }
    }
}

impl Api<'_> {
    /// What policy says of a flow, at each end as that end's node sees it.
    #[must_use]
    pub fn judge(&self, query: &Query) -> Judgement {
        self.stale.judge(self.cluster, query)
    }

    /// What each end's node says of a flow by itself: whether it may go, and whether it may
    /// come.
    #[must_use]
    pub fn sides(
        &self,
        from_ip: IpAddr,
        to_ip: IpAddr,
        protocol: Protocol,
        port: Option<u16>,
    ) -> [bool; 2] {
        let of = (from_ip, to_ip, protocol, port);
        let known = self.stale.said.borrow().get(&of).copied();
        known.unwrap_or_else(|| {
            let query = Query {
                from: self.party(from_ip),
                to: self.party(to_ip),
                protocol,
                port,
                from_ip,
                to_ip,
            };
            let sides = self.stale.sides(self.cluster, &query);
            let mut said = self.stale.said.borrow_mut();
            if said.len() >= SAID_MAX {
                said.clear();
            }
            said.insert(of, sides);
            sides
        })
    }

    /// Another number whenever something of this has changed: what was said under the same one is
    /// said again.
    #[must_use]
    pub const fn edition(&self) -> u64 {
        self.stale.changes
    }

    /// Whether two addresses are behind one dataplane, which then sees both ends of what is
    /// between them.
    #[must_use]
    pub fn share_a_node_at(&self, one: IpAddr, other: IpAddr) -> bool {
        let [one, other] = [one, other].map(|it| self.node_at(it));
        one.is_some() && one == other
    }

    /// Whether two are behind one dataplane, which then sees both ends of what is between them.
    #[must_use]
    pub fn share_a_node(&self, one: &Party, other: &Party) -> bool {
        let [one, other] = [one, other].map(|it| node_of(self.cluster, it));
        one.is_some() && one == other
    }

    /// Whether a node's dataplane does nothing, and frames wait for it.
    #[must_use]
    pub fn is_stalled(&self, node: &NodeName) -> bool {
        self.stale.is(node, Why::DataplaneStalled)
    }

    /// Whether an address is a dataplane's own, to which ESP comes.
    #[must_use]
    pub fn is_tunnel(&self, ip: IpAddr) -> bool {
        self.whereabouts.is_tunnel(ip)
    }

    /// How a packet may cross the wire, as its sender's node sees the settings of both ends.
    #[must_use]
    pub fn crossing(&self, from: IpAddr, to: IpAddr) -> Crossing {
        let known = self.stale.crossings.borrow().get(&(from, to)).copied();
        known.unwrap_or_else(|| {
            let node = self.node_at(from);
            let seen = node.map_or(self.cluster, |it| self.stale.view(it, self.cluster));
            let crossing = crossing(seen, self.encryption, from, to);
            let mut known = self.stale.crossings.borrow_mut();
            if known.len() >= SAID_MAX {
                known.clear();
            }
            known.insert((from, to), crossing);
            crossing
        })
    }

    /// Whether an address is at a node without a dataplane: where the outside is.
    #[must_use]
    pub fn is_unprotected(&self, ip: IpAddr) -> bool {
        let node = self.node_at(ip);
        let found = node.and_then(|it| Some((it, self.cluster.nodes.get(it)?)));
        found.is_some_and(|(name, node)| self.encryption.is_unprotected(name, node))
    }

    fn node_at(&self, ip: IpAddr) -> Option<&NodeName> {
        let own = || self.whereabouts.node(ip);
        let pod = self.whereabouts.pod(ip);
        pod.and_then(|it| it.node.as_ref()).or_else(own)
    }

    /// Who has an address.
    #[must_use]
    pub fn party(&self, ip: IpAddr) -> Party {
        let pod = self.whereabouts.pod(ip).map(|it| Party::Pod {
            ns: it.pod.namespace.clone(),
            name: it.pod.name.clone(),
        });
        let node = || Some(Party::Node(self.whereabouts.node(ip)?.clone()));
        pod.or_else(node).unwrap_or(Party::Outside(ip))
    }

    /// Whether it is a pod's own, on any of its interfaces.
    #[must_use]
    pub fn is_pod(&self, ip: IpAddr) -> bool {
        self.whereabouts.pod(ip).is_some()
    }

    /// The pod that has it, if one does.
    #[must_use]
    pub fn pod_uid(&self, ip: IpAddr) -> Option<&PodUid> {
        Some(&self.whereabouts.pod(ip)?.uid)
    }

    /// Whether it is a node's.
    #[must_use]
    pub fn is_node(&self, ip: IpAddr) -> bool {
        self.whereabouts.node(ip).is_some()
    }
}

/// A denial by no rule: an address is not whose it should be.
pub(super) const fn nobody() -> Judgement {
    Judgement {
        verdict: Verdict::Deny,
        at: None,
        egress_rule: None,
        ingress_rule: None,
        rule: None,
        shadow: None,
    }
}

fn pod(ns: &str, name: &str) -> PodRef {
    PodRef {
        namespace: ns.to_owned(),
        name: name.to_owned(),
    }
}

/// A pod in its node's network is that node, whoever has heard of the pod.
fn as_node(now: &Cluster, party: &Party) -> Party {
    let Party::Pod { ns, name } = party else {
        return party.clone();
    };
    let node = now.pods.get(&pod(ns, name)).and_then(Pod::host_node);
    node.map_or_else(|| party.clone(), |node| Party::Node(node.clone()))
}

/// The node that a party is behind.
pub(super) fn node_of<'a>(now: &'a Cluster, party: &'a Party) -> Option<&'a NodeName> {
    match party {
        Party::Pod { ns, name } => now.pods.get(&pod(ns, name))?.node.as_ref(),
        Party::Node(node) => Some(node),
        Party::Outside(_) => None,
    }
}
