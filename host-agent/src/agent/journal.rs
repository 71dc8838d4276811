//! What outlives the agent's process.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};
use sluice_offload_api::model::{EndpointKey, PodRef, PodUid, PortName};

use super::Departure;
use crate::identity::IdentityTable;

/// A container's interface on a VF: what CNI ADD made and CNI DEL takes back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// The runtime's name of the sandbox: the same pod may get another one.
    pub container: String,
    /// The interface's name inside.
    pub ifname: String,
    /// The pod's UID; `namespace/name` if the runtime gave none.
    pub uid: PodUid,
    /// The pod.
    pub pod: PodRef,
    /// The VF's port.
    pub port: PortName,
    /// The runtime's network that it was made for: what GC of that one may take back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The addresses it was given; none if the plugins before us gave none.
    pub ips: Vec<IpAddr>,
}

impl Attachment {
    /// What names it among the node's: the pod's UID and the interface's name, the primary
    /// one's too.
    #[must_use]
    pub fn key(&self) -> EndpointKey {
        EndpointKey {
            pod_uid: self.uid.clone(),
            interface: self.ifname.clone(),
        }
    }

    /// Whether it was made for this container and interface.
    #[must_use]
    pub fn is_of(&self, container: &str, ifname: &str) -> bool {
        self.container == container && self.ifname == ifname
    }
}

/// The numbers of identities and who has which VF.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// By the order of their ADDs.
    pub attachments: Vec<Attachment>,
    /// What was taken back last, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub departures: Vec<Departure>,
    /// Numbers of identities and policies.
    pub identities: IdentityTable,
}
