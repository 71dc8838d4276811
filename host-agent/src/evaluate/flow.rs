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
    /// Whether only pods have the address, and none that is known.
    pub(super) is_nobodys: bool,
}

impl<'a> Flow<'a> {
    pub(super) fn of(cluster: &'a Cluster, query: &'a Query) -> Self {
        let end = |party: &'a Party, ip| match party {
            Party::Pod { ns, name } => {
                let (namespace, name) = (ns.clone(), name.clone());
                let pod = cluster.pods.get(&PodRef { namespace, name });
                let end = End::pod(ip, pod);
                if end.pod.is_some() || end.node.is_some() {
                    end
                } else {
                    End::outside(ip, is_nobodys(cluster, ip))
                }
            }
            Party::Node(node) => End::node(ip, node),
            Party::Outside(_) => End::outside(ip, is_nobodys(cluster, ip)),
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
            is_nobodys: false,
        }
    }

    /// A node itself.
    pub(crate) const fn node(ip: IpAddr, node: &'a NodeName) -> Self {
        let node = Some(node);
        Self {
            ip,
            pod: None,
            node,
            is_nobodys: false,
        }
    }

    /// Someone outside the cluster, or a service address, or nobody at one that only pods have.
    pub(crate) const fn outside(ip: IpAddr, is_nobodys: bool) -> Self {
        Self {
            ip,
            pod: None,
            node: None,
            is_nobodys,
        }
    }
}

fn is_nobodys(cluster: &Cluster, ip: IpAddr) -> bool {
    cluster.is_for_pods(ip) && !cluster.is_service_vip(ip)
}
