//! What pods are of: their owner, or else their labels.

use std::collections::{BTreeMap, BTreeSet};

use sluice_offload_api::model::PodRef;

use crate::cluster::{Labels, Pod};

/// The label by which a Deployment's pods and ReplicaSets are told apart from its last ones.
pub const TEMPLATE_HASH_LABEL: &str = "pod-template-hash";

/// The names of pods' owners, where their manifests say: of a Deployment's pods its
/// ReplicaSet's.
pub type Owners = BTreeMap<PodRef, String>;

/// What a pod is of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Workload {
    pub(super) namespace: String,
    of: Of,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Of {
    /// An owner of this name.
    Owner(String),
    /// Nobody: those with the same labels are one.
    Labels(Labels),
}

impl Workload {
    /// Of a pod.
    pub(super) fn of(pod: &Pod, owners: &Owners) -> Self {
        let owner = owner_of(pod, owners);
        let of = match owner {
            Some(owner) => Of::Owner(owner.to_owned()),
            None => Of::Labels(pod.labels.clone()),
        };
        let namespace = pod.pod.namespace.clone();
        Self { namespace, of }
    }

    /// Whether an owner's name is this.
    pub(super) fn is(&self, namespace: &str, name: &str) -> bool {
        self.namespace == namespace && matches!(&self.of, Of::Owner(it) if it == name)
    }
}

/// The name of a pod's owner: of a Deployment's pods the Deployment's, which their
/// ReplicaSet's name has before the template's hash, and their own names have too.
#[must_use]
pub fn owner_of<'a>(pod: &'a Pod, owners: &'a Owners) -> Option<&'a str> {
    let hash = pod.labels.get(TEMPLATE_HASH_LABEL);
    match (owners.get(&pod.pod), hash) {
        (Some(owner), Some(hash)) => Some(before(owner, hash, true).unwrap_or(owner)),
        (Some(owner), None) => Some(owner.as_str()),
        (None, Some(hash)) => before(&pod.pod.name, hash, false),
        (None, None) => None,
    }
}

/// What stands before `-HASH` at a name's end, or anywhere in it.
fn before<'a>(name: &'a str, hash: &str, at_end: bool) -> Option<&'a str> {
    let (before, behind) = name.rsplit_once(&format!("-{hash}"))?;
    let fits = behind.is_empty() || !at_end && behind.starts_with('-');
    (fits && !before.is_empty()).then_some(before)
}

/// The names that workloads are shown by.
#[derive(Clone, Debug, Default)]
pub(super) struct WorkloadNames {
    /// Pods of each workload that has no owner; two are as good as many.
    pods: BTreeMap<Workload, BTreeSet<PodRef>>,
}

impl WorkloadNames {
    pub(super) fn add(&mut self, workload: &Workload, pod: &PodRef) {
        if matches!(workload.of, Of::Owner(_)) {
            return;
        }
        let pods = self.pods.entry(workload.clone()).or_default();
        if pods.len() < 2 {
            pods.insert(pod.clone());
        }
    }

    /// The owner's name; of one pod without owner the pod's, of several their labels.
    pub(super) fn name(&self, workload: &Workload) -> String {
        let labels = match &workload.of {
            Of::Owner(name) => return name.clone(),
            Of::Labels(labels) => labels,
        };
        let pods = self.pods.get(workload);
        match pods.filter(|it| it.len() == 1).and_then(BTreeSet::first) {
            Some(pod) => pod.name.clone(),
            None => show_labels(labels),
        }
    }
}

/// Labels as `{app=web,tier=front}`.
#[must_use]
pub fn show_labels(labels: &Labels) -> String {
    let pairs: Vec<_> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    format!("{{{}}}", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, labels: &[(&str, &str)]) -> Pod {
        let mut pod = Pod::new("shop", name);
        let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        pod.labels = labels.iter().map(owned).collect();
        pod
    }

    fn shown(pods: &[Pod], owners: &[(&str, &str)]) -> Vec<String> {
        let owner = |(name, owner): &(&str, &str)| {
            let pod = Pod::new("shop", name).pod;
            (pod, (*owner).to_owned())
        };
        let owners: Owners = owners.iter().map(owner).collect();
        let mut names = WorkloadNames::default();
        let workloads: Vec<_> = pods.iter().map(|it| Workload::of(it, &owners)).collect();
        for (pod, workload) in pods.iter().zip(&workloads) {
            names.add(workload, &pod.pod);
        }
        workloads.iter().map(|it| names.name(it)).collect()
    }

    #[test]
    fn a_deployments_pods_are_its_own_whatever_their_hash() {
        let hash = |it| [(TEMPLATE_HASH_LABEL, it), ("app", "web")];
        let (old, new) = (
            pod("web-66b-x1", &hash("66b")),
            pod("web-77c-y2", &hash("77c")),
        );
        let pods = [old, new, pod("job-x", &[])];
        let owners = [("web-66b-x1", "web-66b"), ("web-77c-y2", "web-77c")];
        assert_eq!(shown(&pods, &owners), ["web", "web", "job-x"]);
        // Without owners the pods' own names say it.
        assert_eq!(shown(&pods, &[]), ["web", "web", "job-x"]);
    }

    #[test]
    fn pods_without_owner_are_their_labels_if_there_are_several() {
        let app = [("app", "web"), ("tier", "front")];
        let pods = [pod("a", &app), pod("b", &app), pod("c", &[("app", "db")])];
        let several = "{app=web,tier=front}";
        assert_eq!(shown(&pods, &[]), [several, several, "c"]);
        assert_eq!(shown(&pods, &[("a", "db"), ("b", "db")]), ["db", "db", "c"]);
    }

    #[test]
    fn a_hash_that_is_not_in_the_name_says_nothing() {
        let odd = pod("web", &[(TEMPLATE_HASH_LABEL, "66b")]);
        assert_eq!(shown(core::slice::from_ref(&odd), &[]), ["web"]);
        assert_eq!(shown(&[odd], &[("web", "own")]), ["own"]);
    }
}
