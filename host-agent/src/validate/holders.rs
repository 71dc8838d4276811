//! Who has which address, read off the objects once more: the compiler's own index is part of
//! what is validated.

use core::net::IpAddr;

use sluice_offload_api::SharedMap;

use crate::cluster::{Cluster, Holder, Pod};

/// Addresses by who says that they are whose. Where several do, a hostNetwork pod, which may
/// have an address of its node's that the node doesn't list, goes before nodes, nodes before
/// pods, and services come last.
#[derive(Clone, Debug, Default)]
pub(super) struct Holders(SharedMap<(IpAddr, Claim), ()>);

/// The one that counts is the last.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Claim {
    Service(Holder),
    Pod(Holder),
    Node(Holder),
    /// Of the pod of this name.
    HostNetwork(String, Holder),
}

impl Holders {
    /// Who has the address.
    pub(super) fn of(&self, ip: IpAddr) -> Option<&Holder> {
        let claims = self.claims(ip);
        claims.last().map(|claim| match claim {
            Claim::Service(holder)
            | Claim::Pod(holder)
            | Claim::Node(holder)
            | Claim::HostNetwork(_, holder) => holder,
        })
    }

    /// Whether a service has it, whoever else does.
    pub(super) fn is_service_vip(&self, ip: IpAddr) -> bool {
        self.claims(ip)
            .any(|claim| matches!(claim, Claim::Service(_)))
    }

    fn claims(&self, ip: IpAddr) -> impl Iterator<Item = &Claim> {
        let first = Claim::Service(Holder::Pod(empty()));
        let from = self.0.range((ip, first)..).map(|(key, ())| key);
        from.take_while(move |it| it.0 == ip).map(|it| &it.1)
    }

    /// Goes on from one version of the cluster to another.
    pub(super) fn follow(&mut self, before: &Cluster, after: &Cluster) {
        for it in before.services.changes(&after.services) {
            let claim = Claim::Service(Holder::Service(it.key.clone()));
            self.give_back(it.before.map(|it| all(&it.vips, &claim)));
            self.take(it.after.map(|it| all(&it.vips, &claim)));
        }
        for it in before.nodes.changes(&after.nodes) {
            let claim = Claim::Node(Holder::Node(it.key.clone()));
            self.give_back(it.before.map(|it| all(&it.ips, &claim)));
            self.take(it.after.map(|it| all(&it.ips, &claim)));
        }
        for it in before.pods.changes(&after.pods) {
            self.give_back(it.before.map(of_pod));
            self.take(it.after.map(of_pod));
        }
    }

    fn take(&mut self, claims: Option<Vec<(IpAddr, Claim)>>) {
        for key in claims.into_iter().flatten() {
            self.0.insert(key, ());
        }
    }

    fn give_back(&mut self, claims: Option<Vec<(IpAddr, Claim)>>) {
        for key in claims.into_iter().flatten() {
            self.0.remove(&key);
        }
    }
}

fn all(ips: &[IpAddr], claim: &Claim) -> Vec<(IpAddr, Claim)> {
    ips.iter().map(|ip| (*ip, claim.clone())).collect()
}

fn of_pod(pod: &Pod) -> Vec<(IpAddr, Claim)> {
    if pod.owns_addresses() {
        let mut claims = all(&pod.ips, &Claim::Pod(Holder::Pod(pod.pod.clone())));
        for it in &pod.interfaces {
            let holder = Holder::Interface(pod.pod.clone(), it.name.clone());
            claims.extend(all(&it.ips, &Claim::Pod(holder)));
        }
        return claims;
    }
    let Some(node) = pod.host_node() else {
        return Vec::new();
    };
    let claim = Claim::HostNetwork(pod.pod.to_string(), Holder::Node(node.clone()));
    all(&pod.ips, &claim)
}

fn empty() -> sluice_offload_api::model::PodRef {
    sluice_offload_api::model::PodRef {
        namespace: String::new(),
        name: String::new(),
    }
}
