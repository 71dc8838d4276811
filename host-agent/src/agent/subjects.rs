//! Who this node's pods are: manifests say what a pod is, CNI says that it is here.
//!
//! A pod is opened only where both say the same. One that only CNI knows has no labels to
//! judge it by, so its port gets no endpoint and the dataplane drops everything there.

use core::fmt;
use core::net::IpAddr;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use sluice_offload_api::SharedMap;
use sluice_offload_api::model::{EndpointKey, NodeName, PodRef, PodUid};

use super::{Attachment, Departure};
use crate::cluster::{Cluster, Pod};
use crate::compile::NodeSetup;
use crate::vf::VfTable;

/// How an attached pod stands with the manifests. All but [`Self::Known`] are default-drop.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "standing")]
pub enum Standing {
    /// It is judged by its policies.
    Known,
    /// No manifest has it, or not yet.
    NoManifest,
    /// The manifest is of another pod of that name.
    OtherUid {
        /// The manifest's UID.
        manifest: PodUid,
    },
    /// The manifest says that it is somewhere else.
    OtherNode {
        /// Where.
        manifest: NodeName,
    },
    /// The manifest has other addresses than the plugins gave it.
    OtherIps {
        /// The manifest's.
        manifest: Vec<IpAddr>,
    },
    /// The manifest says that it is in the node's network.
    HostNetwork,
    /// The manifest says that it is over.
    Completed,
    /// Neither has an address for it.
    NoAddress,
    /// The pod's annotations contradict each other on the interface's network.
    OtherNetwork {
        /// What was asked for.
        asked: String,
        /// What the runtime is said to report.
        reported: String,
    },
    /// No annotation names the interface, so it would be the pod's primary one, and so would
    /// another; the manifest's addresses don't say that it is this one.
    SecondPrimary {
        /// The other's name.
        other: String,
    },
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known => f.write_str("known"),
            Self::NoManifest => f.write_str("no manifest has it: everything is dropped"),
            Self::OtherUid { manifest } => {
                write!(
                    f,
                    "its manifest is of uid {manifest}: everything is dropped"
                )
            }
            Self::OtherNode { manifest } => {
                write!(
                    f,
                    "its manifest is on node {manifest}: everything is dropped"
                )
            }
            Self::OtherIps { manifest } => {
                let ips = super::attach::Ips(manifest.clone());
                write!(f, "its manifest has {ips}: everything is dropped")
            }
            Self::HostNetwork => f.write_str("its manifest has hostNetwork: everything is dropped"),
            Self::Completed => f.write_str("its manifest says it is over: everything is dropped"),
            Self::NoAddress => f.write_str("it has no address: everything is dropped"),
            Self::OtherNetwork { asked, reported } => write!(
                f,
                "its annotations ask for network {asked} and report {reported}: everything is \
                 dropped"
            ),
            Self::SecondPrimary { other } => write!(
                f,
                "neither it nor {other} is a network of the pod's annotations, and one is \
                 primary: everything is dropped"
            ),
        }
    }
}

/// What CNI said of this node's pods.
#[derive(Clone, Copy)]
pub(super) struct CniSaid<'a> {
    pub(super) attachments: &'a [Attachment],
    pub(super) departures: &'a [Departure],
}

/// The cluster as this node sees it.
#[derive(Clone, Debug, Default)]
pub(super) struct Subjects {
    pub(super) cluster: Cluster,
    /// The bindings of those that are known.
    pub(super) vfs: VfTable,
    pub(super) standings: SharedMap<EndpointKey, Standing>,
    /// What it was made of: the manifests' pods, and what CNI said.
    given: SharedMap<PodRef, Pod>,
    attachments: Vec<Attachment>,
    departures: Vec<Departure>,
    /// The pods that are not as their manifests have them.
    completed: SharedMap<PodRef, Pod>,
}

impl Subjects {
    /// The same of another version of the manifests, in which no attached pod is another.
    fn at(&self, cluster: &Cluster) -> Self {
        let mut next = Self {
            cluster: cluster.clone(),
            given: cluster.pods.clone(),
            ..self.clone()
        };
        next.cluster.pods.put_over(&self.completed);
        next.cluster.vacated.clone_from(&self.cluster.vacated);
        next
    }

    /// Whether these pods' manifests say what they said of all that is attached, and that is
    /// what was.
    fn are_of(&self, pods: &SharedMap<PodRef, Pod>, said: CniSaid<'_>) -> bool {
        let changes = self.given.changes(pods);
        let is_as_it_was = |it: &PodRef| {
            let at = changes.binary_search_by_key(&it, |change| change.key);
            at.is_err()
        };
        let attached = said.attachments.iter().map(|it| &it.pod);
        let departed = said.departures.iter().map(|it| &it.pod);
        self.attachments == said.attachments
            && self.departures == said.departures
            && (changes.is_empty() || attached.chain(departed).all(is_as_it_was))
    }

    /// The addresses that an attached interface has: what the manifest says of it, if it is known.
    pub(super) fn ips_of(&self, it: &Attachment) -> Vec<IpAddr> {
        let is_known = self.standings.get(&it.key()) == Some(&Standing::Known);
        let pod = self.cluster.pods.get(&it.pod).filter(|_| is_known);
        let ips = pod.map(|pod| pod.interface(&it.ifname).map_or(&pod.ips, |it| &it.ips));
        ips.unwrap_or(&it.ips).clone()
    }

    /// Takes what a pod had to give back from the pod that is still listed with it.
    fn vacate(&mut self, it: &Departure, setup: &NodeSetup, last: &Self) {
        let is_kept = |ip: &IpAddr| {
            let mut now = self.attachments.iter().filter(|now| now.pod == it.pod);
            now.any(|now| now.ips.contains(ip))
        };
        let pod = self.cluster.pods.get(&it.pod);
        let Some((pod, gone)) = pod.and_then(|pod| it.take_from(pod, &setup.node, is_kept)) else {
            return;
        };
        self.cluster.vacated.extend(gone);
        self.put(pod, last);
    }

    /// A pod that isn't as its manifest has it.
    fn put(&mut self, pod: Pod, last: &Self) {
        let same = last.cluster.pods.shared(&pod.pod);
        let same = same.filter(|it| ***it == pod).cloned();
        let pod = same.unwrap_or_else(|| Arc::new(pod));
        let completed = Arc::clone(&pod);
        self.completed.insert_shared(pod.pod.clone(), completed);
        self.cluster.pods.insert_shared(pod.pod.clone(), pod);
    }
}

/// `last` is what the last merge gave: what is as it was is shared with it, and a change
/// elsewhere in the cluster costs no look at this node's pods.
pub(super) fn merge(
    cluster: &Cluster,
    setup: &NodeSetup,
    said: CniSaid<'_>,
    last: &Subjects,
) -> Subjects {
    if last.are_of(&cluster.pods, said) {
        return last.at(cluster);
    }
    let mut subjects = Subjects {
        cluster: cluster.clone(),
        given: cluster.pods.clone(),
        attachments: said.attachments.to_vec(),
        departures: said.departures.to_vec(),
        ..Subjects::default()
    };
    for it in said.attachments {
        let other = second_primary(cluster, said.attachments, it);
        let standing = match (subjects.cluster.pods.get(&it.pod), other) {
            (None, _) => Standing::NoManifest,
            (Some(given), None) => {
                let mut pod = given.clone();
                let standing = unite(&mut pod, &setup.node, it);
                if pod != *given {
                    subjects.put(pod, last);
                }
                standing
            }
            (Some(_), Some(other)) => Standing::SecondPrimary { other },
        };
        if standing == Standing::Known
            && let Some(pod) = subjects.cluster.pods.get(&it.pod)
        {
            let interface = pod.interface(&it.ifname);
            let ips = interface.map_or(&pod.ips, |it| &it.ips).clone();
            let key = EndpointKey {
                pod_uid: pod.uid.clone(),
                interface: interface.map_or_else(String::new, |it| it.name.clone()),
            };
            // Can't fail: the agent's own table took the same.
            drop(
                subjects
                    .vfs
                    .bind_interface(&key, &it.pod, &ips, &it.port, &setup.vfs),
            );
        }
        subjects.standings.insert(it.key(), standing);
    }
    for it in said.departures {
        subjects.vacate(it, setup, last);
    }
    subjects
}

fn set(ips: &[IpAddr]) -> BTreeSet<IpAddr> {
    ips.iter().copied().collect()
}

/// Another attachment of the pod that would be its primary interface just as this one would,
/// unless the manifest's addresses say that it is this one.
fn second_primary(
    cluster: &Cluster,
    attachments: &[Attachment],
    it: &Attachment,
) -> Option<String> {
    let pod = cluster.pods.get(&it.pod)?;
    let is_primary = |it: &Attachment| pod.interface(&it.ifname).is_none() && is_of(pod, it);
    if !is_primary(it) || !pod.ips.is_empty() && set(&pod.ips) == set(&it.ips) {
        return None;
    }
    let mut others = attachments.iter().filter(|other| other.pod == it.pod);
    let other = others.find(|other| other.ifname != it.ifname && is_primary(other))?;
    Some(other.ifname.clone())
}

/// Whether a manifest may be of an attachment's pod.
fn is_of(pod: &Pod, it: &Attachment) -> bool {
    let unnamed = unnamed_uid(&it.pod);
    pod.uid == it.uid || pod.uid == unnamed || it.uid == unnamed
}

/// Completes a manifest's pod by what CNI said of it, if they agree.
fn unite(pod: &mut Pod, node: &NodeName, it: &Attachment) -> Standing {
    if !is_of(pod, it) {
        let manifest = pod.uid.clone();
        return Standing::OtherUid { manifest };
    }
    if pod.host_network {
        return Standing::HostNetwork;
    }
    if pod.completed {
        return Standing::Completed;
    }
    if let Some(other) = pod.node.as_ref().filter(|it| *it != node) {
        let manifest = other.clone();
        return Standing::OtherNode { manifest };
    }
    // What an annotation names is secondary, all else the primary one.
    let interface = pod.interfaces.iter_mut().find(|own| own.name == it.ifname);
    if let Some(own) = &interface {
        if let Some(reported) = &own.reported {
            let (asked, reported) = (own.network.to_string(), reported.to_string());
            return Standing::OtherNetwork { asked, reported };
        }
        // It would be judged as secondary with the primary one's address.
        if it.ips.iter().any(|ip| pod.ips.contains(ip)) {
            let manifest = own.ips.clone();
            return Standing::OtherIps { manifest };
        }
    }
    let ips = interface.map_or(&mut pod.ips, |it| &mut it.ips);
    if ips.is_empty() {
        ips.clone_from(&it.ips);
    } else if !it.ips.is_empty() && set(ips) != set(&it.ips) {
        let manifest = ips.clone();
        return Standing::OtherIps { manifest };
    }
    if ips.is_empty() {
        return Standing::NoAddress;
    }
    pod.node = Some(node.clone());
    if pod.uid == unnamed_uid(&it.pod) {
        pod.uid = it.uid.clone();
    }
    Standing::Known
}

/// The UID of a pod whose manifest, or runtime, gives none.
pub(super) fn unnamed_uid(pod: &PodRef) -> PodUid {
    PodUid(pod.to_string())
}
