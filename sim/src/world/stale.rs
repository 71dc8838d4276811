//! Nodes whose watch is late: they go on with the cluster as it was, while what happens on
//! them and around them goes on as well.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sluice_host_agent::cluster::{Cluster, Pod};
use sluice_host_agent::evaluate::{Judgement, Party, Query, Ruling, egress, evaluate, ingress};
use sluice_offload_api::model::{NodeName, PodRef, PodUid, Verdict};

/// What each late node still sees.
#[derive(Debug, Default)]
pub(crate) struct Stale(BTreeMap<NodeName, Cluster>);

impl Stale {
    /// From now on a node sees nothing new.
    pub(crate) fn begin(&mut self, node: &NodeName, now: &Cluster) {
        self.0.entry(node.clone()).or_insert_with(|| now.clone());
    }

    /// A node sees everything again; whether it didn't.
    pub(crate) fn end(&mut self, node: &NodeName) -> bool {
        self.0.remove(node).is_some()
    }

    /// Every node sees everything again.
    pub(crate) fn end_all(&mut self) {
        self.0.clear();
    }

    /// Whether every node sees everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a node sees.
    pub(crate) fn view<'a>(&'a self, node: &NodeName, now: &'a Cluster) -> &'a Cluster {
        self.0.get(node).unwrap_or(now)
    }

    /// What must come of a flow: each end's policy as that end's node sees it, and nothing at
    /// all where a node takes one of the two pods for another or doesn't know it.
    pub(crate) fn judge(&self, now: &Cluster, query: &Query) -> Judgement {
        if self.0.is_empty() {
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
}

impl<'a> Ends<'a> {
    fn of(stale: &'a Stale, now: &'a Cluster, query: &Query) -> Self {
        let query = Query {
            from: as_node(now, &query.from),
            to: as_node(now, &query.to),
            ..query.clone()
        };
        let view = |party| node_of(now, party).map_or(now, |node| stale.view(node, now));
        Self {
            now,
            at_source: view(&query.from),
            at_destination: view(&query.to),
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
        self.is_mistaken(self.at_source)
    }

    fn is_mistaken_at_destination(&self) -> bool {
        self.is_mistaken(self.at_destination)
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
                id(seen) != id(self.now)
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
    pub fn sides(&self, query: &Query) -> [bool; 2] {
        self.stale.sides(self.cluster, query)
    }

    /// Whether two are behind one dataplane, which then sees both ends of what is between them.
    #[must_use]
    pub fn share_a_node(&self, one: &Party, other: &Party) -> bool {
        let [one, other] = [one, other].map(|it| node_of(self.cluster, it));
        one.is_some() && one == other
    }

    /// Whether an address is a dataplane's own, to which ESP comes.
    #[must_use]
    pub fn is_tunnel(&self, ip: IpAddr) -> bool {
        let mut nodes = self.cluster.nodes.values();
        nodes.any(|it| it.tunnel_ips.contains(&ip))
    }

    /// Who has an address.
    #[must_use]
    pub fn party(&self, ip: IpAddr) -> Party {
        let pod = self.pod(ip).map(|it| Party::Pod {
            ns: it.pod.namespace.clone(),
            name: it.pod.name.clone(),
        });
        let node = || {
            let mut nodes = self.cluster.nodes.iter();
            let found = nodes.find(|it| it.1.ips.contains(&ip));
            found.map(|it| Party::Node(it.0.clone()))
        };
        pod.or_else(node).unwrap_or(Party::Outside(ip))
    }

    /// Whether it is a pod's own, on any of its interfaces.
    #[must_use]
    pub fn is_pod(&self, ip: IpAddr) -> bool {
        self.pod(ip).is_some()
    }

    /// The pod that has it, if one does.
    #[must_use]
    pub fn pod_uid(&self, ip: IpAddr) -> Option<PodUid> {
        Some(self.pod(ip)?.uid.clone())
    }

    /// Whether it is a node's.
    #[must_use]
    pub fn is_node(&self, ip: IpAddr) -> bool {
        self.cluster.nodes.values().any(|it| it.ips.contains(&ip))
    }

    fn pod(&self, ip: IpAddr) -> Option<&Pod> {
        let pods = self.cluster.pods.values().filter(|it| it.owns_addresses());
        let mut pods = pods.filter(|it| it.ips.contains(&ip) || it.interface_at(ip).is_some());
        pods.next()
    }
}

/// A denial by no rule: an address is not whose it should be.
const fn nobody() -> Judgement {
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
