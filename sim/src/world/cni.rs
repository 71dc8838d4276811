//! Which VF each pod's interface was given at its ADD, until its DEL: what a node's device plugin
//! says. The agent is told so, and a pod is behind that VF whatever its agent and dataplane make
//! of it. Were it where they say, one that takes a pod's VF for another's would move both pods
//! along, and no oracle could see it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sluice_host_agent::cluster::{Cluster, Pod};
use sluice_host_agent::vf::VfError;
use sluice_offload_api::model::{EndpointKey, NodeName, PodRef, PodUid};

use super::node::vf_name;

/// An interface of a pod as its ADD names it.
#[derive(Debug)]
pub(crate) struct Add<'a> {
    pub(crate) key: EndpointKey,
    pub(crate) pod: &'a PodRef,
    pub(crate) ips: &'a [IpAddr],
    /// Of its VF.
    pub(crate) index: u16,
}

/// The VFs of a node.
#[derive(Debug)]
pub(crate) struct Given {
    /// What the scenario wants, by pod; the others get the first that are free.
    chosen: BTreeMap<PodRef, u16>,
    vfs: u16,
    by_interface: BTreeMap<EndpointKey, (PodRef, u16)>,
}

impl Given {
    pub(crate) const fn new(chosen: BTreeMap<PodRef, u16>, vfs: u16) -> Self {
        Self {
            chosen,
            vfs,
            by_interface: BTreeMap::new(),
        }
    }

    /// DEL for what is of none of these pods, ADD for what is new: all there are now, those with
    /// a choice first, so that no other has taken it.
    ///
    /// # Errors
    /// [`VfError::NoneFree`], [`VfError::Unknown`] of a choice.
    pub(crate) fn renew<'a>(&mut self, pods: &[&'a Pod]) -> Result<Vec<Add<'a>>, VfError> {
        let is_chosen = |pod: &&&Pod| self.chosen.contains_key(&pod.pod);
        let (with, without): (Vec<_>, Vec<_>) = pods.iter().partition(is_chosen);
        let add = |pod: &'a Pod, interface: &str, ips: &'a [IpAddr]| Add {
            key: EndpointKey {
                pod_uid: pod.uid.clone(),
                interface: interface.to_owned(),
            },
            pod: &pod.pod,
            ips,
            index: 0,
        };
        let primary = with.into_iter().chain(without);
        let primary = primary.map(|pod: &&'a Pod| add(pod, "", &pod.ips));
        let more = pods.iter().flat_map(|pod| {
            let all = pod.interfaces.iter();
            all.map(move |it| add(pod, &it.name, &it.ips))
        });
        let mut adds: Vec<Add<'a>> = primary.chain(more).collect();
        let stay: BTreeSet<&EndpointKey> = adds.iter().map(|it| &it.key).collect();
        self.by_interface.retain(|key, _| stay.contains(key));
        for it in &mut adds {
            it.index = self.give(&it.key, it.pod)?;
        }
        Ok(adds)
    }

    /// The VF that an interface has, or else gets.
    fn give(&mut self, key: &EndpointKey, pod: &PodRef) -> Result<u16, VfError> {
        if let Some((_, index)) = self.by_interface.get(key) {
            return Ok(*index);
        }
        let chosen = self.chosen.get(pod).copied();
        let index = match chosen.filter(|_| key.interface.is_empty()) {
            // Two with the same choice are the agent's to refuse.
            Some(index) if index < self.vfs => index,
            Some(index) => {
                return Err(VfError::Unknown {
                    port: vf_name(index),
                    pod: pod.clone(),
                });
            }
            None => {
                let taken: BTreeSet<u16> = self.by_interface.values().map(|it| it.1).collect();
                let free = (0..self.vfs).find(|index| !taken.contains(index));
                free.ok_or_else(|| VfError::NoneFree {
                    pod: pod.clone(),
                    slots: self.vfs.into(),
                })?
            }
        };
        let given = (pod.clone(), index);
        self.by_interface.insert(key.clone(), given);
        Ok(index)
    }

    /// Who has which VF: pod, UID, interface and index.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PodRef, &PodUid, &str, u16)> {
        let all = self.by_interface.iter();
        all.map(|(key, (pod, index))| (pod, &key.pod_uid, key.interface.as_str(), *index))
    }

    /// Nobody has one any more.
    pub(crate) fn clear(&mut self) {
        self.by_interface.clear();
    }
}

/// The pods of a node that CNI has an ADD for: those that its watch has `seen`, or the agent
/// couldn't answer, and that are there `now`, as DEL takes a VF back whatever the watch says.
pub(crate) fn pods_of<'a>(node: &NodeName, seen: &'a Cluster, now: &Cluster) -> Vec<&'a Pod> {
    let is_now = |it: &Pod| now.pods.get(&it.pod).is_some_and(|now| now.uid == it.uid);
    let is_here = |it: &&Pod| it.owns_addresses() && it.node.as_ref() == Some(node) && is_now(it);
    seen.pods.values().filter(is_here).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices(given: &mut Given, pods: &[&Pod]) -> Vec<(String, u16)> {
        let adds = given.renew(pods).unwrap();
        let adds = adds.into_iter();
        adds.map(|it| (it.pod.name.clone(), it.index)).collect()
    }

    fn has(all: &[(&str, u16)]) -> Vec<(String, u16)> {
        let all = all.iter();
        all.map(|(pod, index)| ((*pod).to_owned(), *index))
            .collect()
    }

    #[test]
    fn a_vf_is_its_pods_from_add_to_del_and_then_the_next_ones() {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| Pod::new("shop", name));
        let chosen = [(c.pod.clone(), 1)].into();
        let mut given = Given::new(chosen, 3);
        let first = indices(&mut given, &[&a, &b, &c]);
        assert_eq!(first, has(&[("c", 1), ("a", 0), ("b", 2)]));
        let full = given.renew(&[&a, &b, &c, &d]).unwrap_err();
        assert!(matches!(full, VfError::NoneFree { slots: 3, .. }));
        let next = indices(&mut given, &[&b, &c, &d]);
        assert_eq!(next, has(&[("c", 1), ("b", 2), ("d", 0)]));
    }
}
