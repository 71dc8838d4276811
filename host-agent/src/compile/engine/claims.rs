//! Who has which address, object by object.

use core::net::IpAddr;

use sluice_mutants::{Mutant, is};
use sluice_offload_api::SharedMap;
use sluice_offload_api::model::{IpPrefix, NodeName};

use crate::cluster::{Holder, NamespacedName, Node, Pod, Service};

/// Addresses and all who claim them, with how many objects do it in their name: a node has
/// its address itself and by each of its hostNetwork pods.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims(SharedMap<IpAddr, Vec<(Holder, usize)>>);

impl Claims {
    /// Who has an address; the first of those who claim it.
    pub(super) fn holder(&self, ip: IpAddr) -> Option<&Holder> {
        self.0.get(&ip)?.first().map(|(holder, _)| holder)
    }

    /// Whether two claim it.
    pub(super) fn is_contested(&self, ip: IpAddr) -> bool {
        self.0.get(&ip).is_some_and(|it| it.len() > 1)
    }

    /// The addresses of a prefix that somebody has.
    pub(super) fn within(&self, prefix: IpPrefix) -> impl Iterator<Item = IpAddr> {
        let from = self.0.range(prefix.addr()..).map(|(ip, _)| *ip);
        from.take_while(move |ip| prefix.contains(*ip))
    }

    pub(super) fn add(&mut self, ip: IpAddr, holder: Holder) {
        let mut holders = self.0.get(&ip).cloned().unwrap_or_default();
        match holders.iter_mut().find(|it| it.0 == holder) {
            Some((_, count)) => *count += 1,
            None => holders.push((holder, 1)),
        }
        self.0.insert(ip, holders);
    }

    pub(super) fn sub(&mut self, ip: IpAddr, holder: &Holder) {
        let mut holders = self.0.get(&ip).cloned().unwrap_or_default();
        if let Some((_, count)) = holders.iter_mut().find(|it| it.0 == *holder) {
            *count -= 1;
        }
        holders.retain(|it| it.1 > 0);
        if holders.is_empty() {
            self.0.remove(&ip);
        } else {
            self.0.insert(ip, holders);
        }
    }
}

/// An object that has addresses.
pub(super) trait Claimant {
    /// Those that it has now, each with in whose name.
    fn claims(&self) -> Vec<(IpAddr, Holder)>;
}

impl Claimant for &Pod {
    fn claims(&self) -> Vec<(IpAddr, Holder)> {
        let primary = match self.host_node() {
            Some(node) => Holder::Node(node.clone()),
            None if self.owns_addresses() => Holder::Pod(self.pod.clone()),
            None => return Vec::new(),
        };
        let mut claims = all(&self.ips, &primary);
        if is(Mutant::SecondAddressForgotten) {
            claims.truncate(1);
        }
        for interface in self.interfaces.iter().filter(|_| self.owns_addresses()) {
            let holder = Holder::Interface(self.pod.clone(), interface.name.clone());
            claims.extend(all(&interface.ips, &holder));
        }
        claims
    }
}

impl Claimant for (&NodeName, &Node) {
    fn claims(&self) -> Vec<(IpAddr, Holder)> {
        all(&self.1.ips, &Holder::Node(self.0.clone()))
    }
}

impl Claimant for (&NamespacedName, &Service) {
    fn claims(&self) -> Vec<(IpAddr, Holder)> {
        all(&self.1.vips, &Holder::Service(self.0.clone()))
    }
}

fn all(ips: &[IpAddr], holder: &Holder) -> Vec<(IpAddr, Holder)> {
    ips.iter().map(|ip| (*ip, holder.clone())).collect()
}
