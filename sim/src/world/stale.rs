//! Nodes whose watch is late: they go on with the cluster as it was, while what happens on
//! them and around them goes on as well.

use std::collections::BTreeMap;

use sluice_host_agent::cluster::Cluster;
use sluice_host_agent::evaluate::{Judgement, Party, Query, egress, evaluate, ingress};
use sluice_offload_api::model::{NodeName, PodRef, Verdict};

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
        let view = |party| node_of(now, party).map(|node| self.view(node, now));
        let views = [view(&query.from), view(&query.to)];
        let mistaken = |seen: &Cluster| {
            [&query.from, &query.to]
                .into_iter()
                .any(|party| match party {
                    Party::Pod { ns, name } => {
                        let pod = pod(ns, name);
                        let id = |of: &Cluster| {
                            of.pods.get(&pod).map(|it| (it.uid.clone(), it.ips.clone()))
                        };
                        id(seen) != id(now)
                    }
                    Party::Node(_) | Party::Outside(_) => false,
                })
        };
        if views.into_iter().flatten().any(mistaken) {
            return nobody();
        }
        let [at_source, at_destination] = views.map(|view| view.unwrap_or(now));
        Judgement::of(egress(at_source, query), ingress(at_destination, query))
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

fn node_of<'a>(now: &'a Cluster, party: &Party) -> Option<&'a NodeName> {
    match party {
        Party::Pod { ns, name } => now.pods.get(&pod(ns, name))?.node.as_ref(),
        Party::Node(_) | Party::Outside(_) => None,
    }
}
