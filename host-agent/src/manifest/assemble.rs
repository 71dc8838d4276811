//! From the objects of all files to one cluster.

use core::net::IpAddr;
use std::collections::BTreeMap;

use super::error::{ManifestError, ManifestFault};
use super::read::{ManifestObject, Object};
use crate::cluster::{Cluster, Holder};
use crate::text::Spot;

/// Puts objects together.
///
/// # Errors
/// [`ManifestFault::Duplicate`], [`ManifestFault::UidTaken`] and [`ManifestFault::IpTaken`],
/// at the later of the two and naming the place of the other.
pub fn assemble(objects: Vec<ManifestObject>) -> Result<Cluster, ManifestError> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut uids: BTreeMap<String, usize> = BTreeMap::new();
    let mut ips: BTreeMap<IpAddr, (Holder, usize, Spot)> = BTreeMap::new();
    for (index, it) in objects.iter().enumerate() {
        let at = |other: usize| {
            objects
                .get(other)
                .map_or_else(String::new, |it| it.file().to_owned())
        };
        let spot = |other: usize| objects.get(other).map_or(it.spot, |it| it.spot);
        if let Some(other) = seen.insert(it.object.to_string(), index) {
            let (object, file, spot) = (it.object.to_string(), at(other), spot(other));
            let fault = ManifestFault::Duplicate { object, file, spot };
            return Err(ManifestError::new(&it.source, it.spot, fault));
        }
        if let Object::Pod(pod) = &it.object
            && let Some(other) = uids.insert(pod.uid.0.clone(), index)
        {
            let object = it.object.to_string();
            let name = objects
                .get(other)
                .map_or_else(String::new, |it| it.object.to_string());
            let (uid, file, spot) = (pod.uid.0.clone(), at(other), spot(other));
            let fault = ManifestFault::UidTaken {
                uid,
                object,
                other: name,
                file,
                spot,
            };
            return Err(ManifestError::new(&it.source, it.spot, fault));
        }
        for &(ip, here) in &it.addresses {
            let Some(holder) = holder(&it.object, ip) else {
                continue;
            };
            match ips.get(&ip) {
                Some((other, by, there)) if *other != holder => {
                    let (file, spot, other) = (at(*by), *there, other.clone());
                    let fault = ManifestFault::IpTaken {
                        ip,
                        object: holder,
                        other,
                        file,
                        spot,
                    };
                    return Err(ManifestError::new(&it.source, here, fault));
                }
                _ => ips.insert(ip, (holder.clone(), index, here)),
            };
        }
    }
    let mut cluster = Cluster::default();
    for it in objects {
        insert(&mut cluster, it.object);
    }
    Ok(cluster)
}

/// Who has one of an object's addresses. An unscheduled pod counts: it will be scheduled.
fn holder(object: &Object, ip: IpAddr) -> Option<Holder> {
    match object {
        Object::Node(name, _) => Some(Holder::Node(name.clone())),
        Object::Service(name, _) => Some(Holder::Service(name.clone())),
        Object::Pod(pod) if pod.completed => None,
        Object::Pod(pod) if pod.host_network => pod.node.clone().map(Holder::Node),
        Object::Pod(pod) => Some(match pod.interface_at(ip) {
            Some(it) => Holder::Interface(pod.pod.clone(), it.name.clone()),
            None => Holder::Pod(pod.pod.clone()),
        }),
        Object::Namespace(..)
        | Object::Policy(..)
        | Object::ClusterPolicy(..)
        | Object::MultiPolicy(..) => None,
    }
}

fn insert(cluster: &mut Cluster, object: Object) {
    match object {
        Object::Namespace(name, it) => drop(cluster.namespaces.insert(name, it)),
        Object::Node(name, it) => drop(cluster.nodes.insert(name, it)),
        Object::Pod(it) => drop(cluster.pods.insert(it.pod.clone(), it)),
        Object::Policy(name, it) => drop(cluster.policies.insert(name, it)),
        Object::ClusterPolicy(name, it) => drop(cluster.cluster_policies.insert(name, it)),
        Object::MultiPolicy(name, it) => drop(cluster.multi_policies.insert(name, it)),
        Object::Service(name, it) => drop(cluster.services.insert(name, it)),
    }
}
