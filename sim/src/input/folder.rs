//! Manifests of a repository: pods that are there, and those that Deployments and their like
//! describe.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sluice_host_agent::cluster::{Cluster, Pod};
use sluice_host_agent::difference::{Owners, owner_of};
use sluice_host_agent::manifest::{Place, load_dir, load_templates};

use super::InputError;
use super::manifests::check_lengths;

/// What a folder or file of manifests says of policy and those it is for.
#[derive(Clone, Debug, Default)]
pub struct Folder {
    /// The objects, with a pod for each template whose own pods are not there.
    pub cluster: Cluster,
    /// Who owns which pod.
    pub owners: Owners,
    /// Where objects are, by what they are called: `NetworkPolicy shop/cart`.
    pub places: BTreeMap<String, Place>,
    /// What was ignored, for people.
    pub notes: Vec<String>,
}

/// Loads a folder or a file.
///
/// # Errors
/// [`InputError`].
pub fn load_folder(path: &Path) -> Result<Folder, InputError> {
    check_lengths(path)?;
    let mut loaded = load_dir(path)?;
    let templates = load_templates(path)?;
    // A note says that the agent ignores it; who looks at a repository doesn't.
    let read: BTreeSet<_> = templates
        .iter()
        .map(|it| format!("{} {}", it.kind, it.pod.pod))
        .collect();
    let is_read = |text: &str| {
        let object = text.strip_suffix(" is ignored");
        object
            .is_some_and(|it| read.contains(it) || read.contains(&it.replacen(' ', " default/", 1)))
    };
    loaded.notes.retain(|it| !is_read(&it.text));
    let owned = |owners: &Owners, cluster: &Cluster| -> BTreeSet<(String, String)> {
        let pods = cluster.pods.values();
        let owner = pods
            .filter_map(|it| Some((it.pod.namespace.clone(), owner_of(it, owners)?.to_owned())));
        owner.collect()
    };
    let there = owned(&loaded.owners, &loaded.cluster);
    for template in templates {
        let name = template.pod.pod.clone();
        let has_pods = there.contains(&(name.namespace.clone(), name.name.clone()));
        if has_pods || loaded.cluster.pods.contains_key(&name) {
            continue;
        }
        let place = Place {
            file: template.file,
            spot: template.spot,
        };
        loaded.places.insert(format!("Pod {name}"), place);
        // Two are as good as many: what its pods say to each other counts.
        let mut second = name.clone();
        second.name.push_str("~2");
        let all = [
            Some(name.clone()),
            Some(second).filter(|_| template.several),
        ];
        for pod in all.into_iter().flatten() {
            loaded.owners.insert(pod.clone(), name.name.clone());
            let mut made = Pod::new(&pod.namespace, &pod.name);
            made.labels.clone_from(&template.pod.labels);
            made.ports.clone_from(&template.pod.ports);
            made.host_network = template.pod.host_network;
            loaded.cluster.pods.insert(pod, made);
        }
    }
    Ok(Folder {
        cluster: loaded.cluster,
        owners: loaded.owners,
        places: loaded.places,
        notes: loaded.notes.iter().map(ToString::to_string).collect(),
    })
}
