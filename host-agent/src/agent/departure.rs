//! Addresses that a pod had to give back while the API still lists it with them.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};
use sluice_offload_api::model::{NodeName, PodRef, PodUid};

use crate::cluster::Pod;

/// An interface that CNI DEL, or an ADD that was given up, took from its pod. The API lists the
/// pod for a while yet, or for long where the watch is late.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Departure {
    /// The pod's UID.
    pub uid: PodUid,
    /// The pod.
    pub pod: PodRef,
    /// The interface's name inside.
    pub ifname: String,
    /// The addresses that it had.
    pub ips: Vec<IpAddr>,
}

impl Departure {
    /// The pod without these addresses, and which they were, if it is listed on `node` with some of
    /// them. It keeps those that it has on another interface.
    #[must_use]
    pub fn take_from(
        &self,
        pod: &Pod,
        node: &NodeName,
        is_kept: impl Fn(&IpAddr) -> bool,
    ) -> Option<(Pod, Vec<IpAddr>)> {
        let is_here = pod.node.as_ref() == Some(node);
        if pod.uid != self.uid || !is_here || !pod.owns_addresses() {
            return None;
        }
        let mut pod = pod.clone();
        let is_gone = |ip: &IpAddr| self.ips.contains(ip) && !is_kept(ip);
        let own = pod.interfaces.iter_mut().find(|it| it.name == self.ifname);
        let mut gone = Vec::new();
        for ips in [Some(&mut pod.ips), own.map(|it| &mut it.ips)] {
            gone.extend(
                ips.into_iter()
                    .flat_map(|it| it.extract_if(.., |ip| is_gone(ip))),
            );
        }
        (!gone.is_empty()).then_some((pod, gone))
    }
}
