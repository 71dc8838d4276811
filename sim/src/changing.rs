//! Steps that change objects: on the cluster as the API has it, before anyone hears of it.

use std::collections::BTreeMap;

use sluice_host_agent::cluster::{Cluster, Pod};
use sluice_host_agent::manifest::Template;
use sluice_offload_api::model::{NodeName, PodRef, PodUid};

use crate::input::{Delete, DeleteKind, InputError, Patch, PatchKind, Place, Scale};

/// Takes an object out; what it was.
pub(crate) fn take_away(
    cluster: &mut Cluster,
    delete: &Delete,
    place: &Place,
) -> Result<String, InputError> {
    let mut delete = delete.clone();
    let is_of_no_namespace = matches!(
        delete.kind,
        DeleteKind::ClusterNetworkPolicy | DeleteKind::Node
    );
    if delete.namespace.is_empty() && !is_of_no_namespace {
        "default".clone_into(&mut delete.namespace);
    }
    let (kind, found) = match delete.kind {
        DeleteKind::NetworkPolicy => (
            "NetworkPolicy",
            cluster.policies.remove(&delete.policy()).is_some(),
        ),
        DeleteKind::ClusterNetworkPolicy => (
            "ClusterNetworkPolicy",
            cluster.cluster_policies.remove(&delete.name).is_some(),
        ),
        DeleteKind::MultiNetworkPolicy => (
            "MultiNetworkPolicy",
            cluster.multi_policies.remove(&delete.policy()).is_some(),
        ),
        DeleteKind::Node => {
            let name = NodeName(delete.name.clone());
            ("Node", cluster.nodes.remove(&name).is_some())
        }
        DeleteKind::Pod => ("Pod", cluster.pods.remove(&delete.pod()).is_some()),
    };
    let about = if delete.namespace.is_empty() {
        format!("{kind} {}", delete.name)
    } else {
        format!("{kind} {}/{}", delete.namespace, delete.name)
    };
    if found {
        Ok(about)
    } else {
        Err(place.fault(format!("there is no {about} to delete")))
    }
}

/// Changes an object's labels; what it was.
pub(crate) fn patch(
    cluster: &mut Cluster,
    patch: &Patch,
    place: &Place,
) -> Result<String, InputError> {
    let Patch { name, .. } = patch;
    let (about, labels) = match patch.kind {
        PatchKind::Pod => {
            let namespace = match patch.namespace.as_str() {
                "" => "default",
                given => given,
            };
            let key = PodRef {
                namespace: namespace.to_owned(),
                name: name.clone(),
            };
            let labels = cluster.pods.get_mut(&key).map(|it| &mut it.labels);
            (format!("Pod {namespace}/{name}"), labels)
        }
        PatchKind::Namespace => {
            let labels = cluster.namespaces.get_mut(name).map(|it| &mut it.labels);
            (format!("Namespace {name}"), labels)
        }
    };
    let Some(labels) = labels else {
        return Err(place.fault(format!("there is no {about} to patch")));
    };
    for (key, value) in &patch.labels {
        match value {
            Some(value) => labels.insert(key.clone(), value.clone()),
            None => labels.remove(key),
        };
    }
    Ok(about)
}

/// The templates that were read, and how many pods were made of them.
#[derive(Debug, Default)]
pub(crate) struct Templates {
    known: BTreeMap<(String, PodRef), Pod>,
    born: u64,
}

impl Templates {
    /// Adds some, or puts them in the place of those of their kind and name.
    pub(crate) fn learn(&mut self, templates: &[Template]) {
        for it in templates {
            let key = (it.kind.clone(), it.pod.pod.clone());
            self.known.insert(key, it.pod.clone());
        }
    }

    /// Makes pods of a template, `NAME-0` and on, each with a UID that no other has had, or
    /// takes away those that are too many; what was scaled.
    pub(crate) fn scale(
        &mut self,
        cluster: &mut Cluster,
        scale: &Scale,
        place: &Place,
    ) -> Result<String, InputError> {
        let Scale {
            kind,
            namespace,
            name,
            replicas,
        } = scale;
        let whole = PodRef {
            namespace: namespace.clone(),
            name: name.clone(),
        };
        let about = format!("{kind} {whole}");
        let template = self.known.get(&(kind.clone(), whole));
        let template = template.ok_or_else(|| {
            let known: Vec<_> = self
                .known
                .keys()
                .map(|it| format!("{} {}", it.0, it.1))
                .collect();
            let known = match known.as_slice() {
                [] => "the manifests have no template of pods".to_owned(),
                known => format!("templates are of {}", known.join(", ")),
            };
            place.fault(format!("there is no {about} to scale; {known}"))
        })?;
        let number = |pod: &PodRef| -> Option<u32> {
            let same = pod.namespace == *namespace;
            let rest = pod.name.strip_prefix(name)?.strip_prefix('-')?;
            same.then(|| rest.parse().ok())?
        };
        let has = |pod: &PodRef| number(pod).is_some_and(|it| it >= *replicas);
        let many: Vec<_> = cluster.pods.keys().filter(|it| has(it)).cloned().collect();
        for pod in many {
            cluster.pods.remove(&pod);
        }
        for number in 0..*replicas {
            let key = PodRef {
                namespace: namespace.clone(),
                name: format!("{name}-{number}"),
            };
            if cluster.pods.contains_key(&key) {
                continue;
            }
            self.born += 1;
            let mut pod = template.clone();
            pod.uid = PodUid(format!("{}.{}", key.name, self.born));
            pod.pod = key.clone();
            cluster.pods.insert(key, pod);
        }
        Ok(format!("{about} to {replicas}"))
    }
}
