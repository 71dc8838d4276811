//! A flow whose ends are looked up.

use core::net::IpAddr;

use sluice_offload_api::model::{NodeName, PodRef, Protocol};

use super::{Party, Query};
use crate::cluster::{Cluster, Pod};

/// A [`Query`], with what the cluster says of its parties: every rule asks that, and a name is
/// looked up among all pods.
#[derive(Clone, Copy)]
pub(crate) struct Flow<'a> {
    pub(crate) from: End<'a>,
    pub(crate) to: End<'a>,
    pub(crate) protocol: Protocol,
    pub(crate) port: Option<u16>,
}

/// One end of a flow.
#[derive(Clone, Copy)]
pub(crate) struct End<'a> {
    pub(crate) ip: IpAddr,
    /// The pod, if it is one with an address of its own.
    pub(super) pod: Option<&'a Pod>,
    /// The node, if it is one or in its network.
    pub(super) node: Option<&'a NodeName>,
}

impl<'a> Flow<'a> {
    pub(super) fn of(cluster: &'a Cluster, query: &'a Query) -> Self {
        let end = |party: &'a Party, ip| match party {
            Party::Pod { ns, name } => {
                let (namespace, name) = (ns.clone(), name.clone());
                End::pod(ip, cluster.pods.get(&PodRef { namespace, name }))
            }
            Party::Node(node) => End::node(ip, node),
            Party::Outside(_) => End::outside(ip),
        };
        Self {
            from: end(&query.from, query.from_ip),
            to: end(&query.to, query.to_ip),
            protocol: query.protocol,
            port: query.port,
        }
    }
}

impl<'a> End<'a> {
    /// A pod, as far as policy is concerned; `None` is one that isn't there.
    pub(crate) fn pod(ip: IpAddr, pod: Option<&'a Pod>) -> Self {
        Self {
            ip,
            pod: pod.filter(|it| it.owns_addresses()),
            node: pod.and_then(Pod::host_node),
        }
    }

    /// A node itself.
    pub(crate) const fn node(ip: IpAddr, node: &'a NodeName) -> Self {
        let node = Some(node);
        Self {
            ip,
            pod: None,
            node,
        }
    }

    /// Someone outside the cluster, or a service address.
    pub(crate) const fn outside(ip: IpAddr) -> Self {
        Self {
            ip,
            pod: None,
            node: None,
        }
    }
}
