//! Who has which address: the same that the objects say, without asking all of them.

use std::net::IpAddr;

use sluice_host_agent::cluster::{Cluster, Node, Pod};
use sluice_offload_api::model::{NodeName, PodRef, PodUid};

use crate::fold::FoldMap;

/// By address. It is only ever asked, never walked, so that its order shows nowhere.
type ByAddress<T> = FoldMap<IpAddr, T>;

/// An index of a cluster's addresses, for oracles: they ask of every frame.
#[derive(Clone, Debug, Default)]
pub(crate) struct Whereabouts {
    pods: ByAddress<Whose>,
    nodes: ByAddress<NodeName>,
    tunnels: ByAddress<NodeName>,
}

/// The pod that has an address.
#[derive(Clone, Debug)]
pub(crate) struct Whose {
    pub(crate) pod: PodRef,
    pub(crate) uid: PodUid,
    pub(crate) node: Option<NodeName>,
}

impl Whereabouts {
    /// Goes on from one version of the objects to the next.
    pub(crate) fn renew(&mut self, before: &Cluster, after: &Cluster) {
        let pods = before.pods.changes(&after.pods);
        // All that goes before anything comes: an address may change hands.
        for it in &pods {
            for ip in it.before.into_iter().flat_map(own) {
                if self.pods.get(&ip).is_some_and(|whose| whose.pod == *it.key) {
                    self.pods.remove(&ip);
                }
            }
        }
        for it in &pods {
            for (pod, ip) in it
                .after
                .into_iter()
                .flat_map(|it| own(it).map(move |ip| (it, ip)))
            {
                let whose = Whose {
                    pod: it.key.clone(),
                    uid: pod.uid.clone(),
                    node: pod.node.clone(),
                };
                self.pods.insert(ip, whose);
            }
        }
        let nodes = before.nodes.changes(&after.nodes);
        for it in &nodes {
            let before = |ips: fn(&Node) -> &Vec<IpAddr>| it.before.map(ips).into_iter().flatten();
            for ip in before(|it| &it.ips) {
                self.nodes.remove(ip);
            }
            for ip in before(|it| &it.tunnel_ips) {
                self.tunnels.remove(ip);
            }
        }
        for it in &nodes {
            let after = |ips: fn(&Node) -> &Vec<IpAddr>| it.after.map(ips).into_iter().flatten();
            self.nodes
                .extend(after(|it| &it.ips).map(|ip| (*ip, it.key.clone())));
            self.tunnels
                .extend(after(|it| &it.tunnel_ips).map(|ip| (*ip, it.key.clone())));
        }
    }

    /// The pod that has an address as its own, on any interface.
    pub(crate) fn pod(&self, ip: IpAddr) -> Option<&Whose> {
        self.pods.get(&ip)
    }

    /// The node whose address it is.
    pub(crate) fn node(&self, ip: IpAddr) -> Option<&NodeName> {
        self.nodes.get(&ip)
    }

    /// Whether ESP comes to it.
    pub(crate) fn is_tunnel(&self, ip: IpAddr) -> bool {
        self.tunnels.contains_key(&ip)
    }
}

fn own(pod: &Pod) -> impl Iterator<Item = IpAddr> {
    let secondary = pod.interfaces.iter().flat_map(|it| &it.ips);
    let all = pod.ips.iter().chain(secondary).copied();
    all.filter(|_| pod.owns_addresses())
}
