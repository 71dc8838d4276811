//! Manifests from a folder: all the I/O there is in this crate's core.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use sluice_offload_api::model::PodRef;

use super::assemble::assemble;
use super::error::{LoadError, ManifestError};
use super::read::{ManifestObject, Note, Object, parse};
use crate::cluster::{Cluster, NamespacedName};
use crate::text::Spot;

/// What a folder holds.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The cluster.
    pub cluster: Cluster,
    /// What was ignored, and the like.
    pub notes: Vec<Note>,
    /// Where each object's name is, by what it is called: `NetworkPolicy shop/cart`.
    pub places: BTreeMap<String, Place>,
    /// The names of pods' owners, where their manifests say: of a Deployment's pods its
    /// ReplicaSet's.
    pub owners: BTreeMap<PodRef, String>,
}

/// A place in a file of a folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// The file's name in the folder.
    pub file: String,
    /// The place.
    pub spot: Spot,
}

/// The files of a folder.
pub(super) struct Files {
    /// Names and texts, by name.
    pub(super) texts: Vec<(String, String)>,
    /// What was passed over.
    notes: Vec<Note>,
}

/// Loads the `*.yaml`, `*.yml` and `*.json` files of a folder in the order of their names,
/// or one file. Folders in it are not entered. Messages name files as in the folder.
///
/// # Errors
/// [`LoadError`].
pub fn load_dir(path: &Path) -> Result<Loaded, LoadError> {
    let Files { texts, mut notes } = read_files(path)?;
    let texts: Vec<_> = texts
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let mut loaded = load_texts(&texts)?;
    notes.sort_by(|a, b| a.file.cmp(&b.file));
    loaded.notes.splice(0..0, notes);
    Ok(loaded)
}

/// The texts of what [`load_dir`] reads.
pub(super) fn read_files(path: &Path) -> Result<Files, LoadError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        |source| LoadError::Io { path, source }
    };
    let (mut files, mut notes) = (Vec::new(), Vec::new());
    if path.is_file() {
        files.push(path.to_owned());
    } else {
        for entry in fs::read_dir(path).map_err(io(path))? {
            let file = entry.map_err(io(path))?.path();
            let extension = file.extension().and_then(|it| it.to_str());
            if matches!(extension, Some("yaml" | "yml" | "json")) && file.is_file() {
                files.push(file);
            } else if let Some(text) = why_not(&file) {
                let file = name_of(&file);
                notes.push(Note {
                    file,
                    line: 1,
                    text,
                });
            }
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(LoadError::Nothing {
            path: path.to_owned(),
        });
    }
    let mut texts = Vec::new();
    for file in files {
        let name = name_of(&file);
        texts.push((name, fs::read_to_string(&file).map_err(io(&file))?));
    }
    Ok(Files { texts, notes })
}

fn name_of(file: &Path) -> String {
    file.file_name()
        .map_or_else(String::new, |it| it.to_string_lossy().into_owned())
}

/// A namespace's policy: where, what, and of which name.
type PolicyPlace = (String, u32, &'static str, NamespacedName);

fn policy_place(object: &ManifestObject) -> Option<PolicyPlace> {
    let (kind, name) = match &object.object {
        Object::Policy(name, _) => ("NetworkPolicy", name),
        Object::MultiPolicy(name, _) => ("MultiNetworkPolicy", name),
        _ => return None,
    };
    let file = object.file().to_owned();
    Some((file, object.spot.line, kind, name.clone()))
}

/// What there is to say of a MultiNetworkPolicy's networks that nobody is on.
fn unknown_networks(cluster: &Cluster, (file, line, kind, name): &PolicyPlace) -> Vec<Note> {
    let multi = cluster.multi_policies.get(name);
    let multi = multi.filter(|_| *kind == "MultiNetworkPolicy");
    let networks = multi.into_iter().flat_map(|it| &it.networks);
    let unknown = networks.filter(|it| !cluster.has_network(it));
    let note = |network: &NamespacedName| Note {
        file: file.clone(),
        line: *line,
        text: format!("{kind} {name}: no pod is on network {network}"),
    };
    unknown.map(note).collect()
}

/// What there is to say of an entry that isn't read and that a person may think is. Those
/// with a dot are the kubelet's and editors' own.
fn why_not(path: &Path) -> Option<String> {
    let extension = path
        .extension()
        .map(|it| it.to_string_lossy().to_lowercase());
    if name_of(path).starts_with('.') {
        None
    } else if path.is_dir() {
        Some("the folder is not entered; what is in it is not read".to_owned())
    } else if matches!(extension.as_deref(), Some("yaml" | "yml" | "json")) {
        Some("the file is not read; its name must end in .yaml, .yml or .json".to_owned())
    } else {
        None
    }
}

/// The same for files that were read: pairs of name and text.
///
/// # Errors
/// The first fault, in the order of the files.
pub fn load_texts(files: &[(&str, &str)]) -> Result<Loaded, ManifestError> {
    let (mut objects, mut notes) = (Vec::new(), Vec::new());
    for (name, text) in files {
        let (its_objects, its_notes) = parse(name, text)?;
        objects.extend(its_objects);
        notes.extend(its_notes);
    }
    let policies: Vec<_> = objects.iter().filter_map(policy_place).collect();
    let place = |it: &ManifestObject| {
        let (file, spot) = (it.file().to_owned(), it.spot);
        (it.object.to_string(), Place { file, spot })
    };
    let places = objects.iter().map(place).collect();
    let owner = |it: &ManifestObject| match (&it.object, &it.owner) {
        (Object::Pod(pod), Some(owner)) => Some((pod.pod.clone(), owner.clone())),
        _ => None,
    };
    let owners = objects.iter().filter_map(owner).collect();
    let cluster = assemble(objects)?;
    // Everybody has the default namespace.
    let mut namespaces = BTreeSet::from(["default"]);
    namespaces.extend(cluster.namespaces.keys().map(String::as_str));
    namespaces.extend(cluster.pods.keys().map(|it| it.namespace.as_str()));
    for place in policies {
        notes.extend(unknown_networks(&cluster, &place));
        let (file, line, kind, name) = place;
        let namespace = &name.namespace;
        if !namespaces.contains(namespace.as_str()) {
            let text = format!(
                "{kind} {name} is for nobody: namespace {namespace} has no manifest and \
                 no pod"
            );
            notes.push(Note { file, line, text });
        }
    }
    Ok(Loaded {
        cluster,
        notes,
        places,
        owners,
    })
}
