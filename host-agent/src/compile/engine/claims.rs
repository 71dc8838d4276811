//! Who has which address, object by object.

use core::net::IpAddr;

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
    /// Its addresses.
    fn ips(&self) -> &[IpAddr];
    /// In whose name; `None` if it has none now.
    fn holder(&self) -> Option<Holder>;
}

impl Claimant for &Pod {
    fn ips(&self) -> &[IpAddr] {
        &self.ips
    }

    fn holder(&self) -> Option<Holder> {
        match self.host_node() {
            Some(node) => Some(Holder::Node(node.clone())),
            None if self.owns_addresses() => Some(Holder::Pod(self.pod.clone())),
            None => None,
        }
    }
}

impl Claimant for (&NodeName, &Node) {
    fn ips(&self) -> &[IpAddr] {
        &self.1.ips
    }

    fn holder(&self) -> Option<Holder> {
        Some(Holder::Node(self.0.clone()))
    }
}

impl Claimant for (&NamespacedName, &Service) {
    fn ips(&self) -> &[IpAddr] {
        &self.1.vips
    }

    fn holder(&self) -> Option<Holder> {
        Some(Holder::Service(self.0.clone()))
    }
}
