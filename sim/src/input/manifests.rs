//! Manifests, by the agent's own loader, within bounds.

use std::fs;
use std::path::Path;

use sluice_host_agent::cluster::Cluster;
use sluice_host_agent::manifest::{
    LoadError, Template, load_dir, load_templates, load_texts, templates,
};

use super::{FILE_BYTES_MAX, InputError, ReadError};

/// What a folder or file of manifests holds.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    /// The objects.
    pub cluster: Cluster,
    /// What was ignored, for people.
    pub notes: Vec<String>,
    /// Pods as Deployments and their like would make them.
    pub templates: Vec<Template>,
}

/// Loads a folder or a file of manifests.
///
/// # Errors
/// [`InputError`].
pub fn load_manifests(path: &Path) -> Result<Manifests, InputError> {
    check_lengths(path)?;
    let loaded = load_dir(path)?;
    Ok(Manifests {
        cluster: loaded.cluster,
        notes: loaded.notes.iter().map(ToString::to_string).collect(),
        templates: load_templates(path)?,
    })
}

impl Manifests {
    /// Of a text that is at hand.
    ///
    /// # Errors
    /// [`InputError`].
    pub fn parse(name: &str, text: &str) -> Result<Self, InputError> {
        let loaded = load_texts(&[(name, text)]).map_err(LoadError::from)?;
        Ok(Self {
            cluster: loaded.cluster,
            notes: loaded.notes.iter().map(ToString::to_string).collect(),
            templates: templates(name, text),
        })
    }

    /// As a part of a cluster: what can only be said of a whole one is left out. That a
    /// namespace has no pod may be said of these objects and be wrong.
    #[must_use]
    pub(super) fn in_part(mut self) -> Self {
        self.notes.retain(|it| !it.contains(" is for nobody: "));
        self
    }

    /// Puts these objects over others: those of the same kind and name are replaced.
    pub fn put_over(&self, cluster: &mut Cluster) {
        let mine = &self.cluster;
        cluster.namespaces.put_over(&mine.namespaces);
        cluster.nodes.put_over(&mine.nodes);
        cluster.pods.put_over(&mine.pods);
        cluster.policies.put_over(&mine.policies);
        cluster.cluster_policies.put_over(&mine.cluster_policies);
        cluster.multi_policies.put_over(&mine.multi_policies);
        cluster.services.put_over(&mine.services);
    }
}

/// The loader reads whole files; none may be so long that this hurts.
pub(super) fn check_lengths(path: &Path) -> Result<(), InputError> {
    let failed = |error| LoadError::Io {
        path: path.to_owned(),
        source: error,
    };
    let files = if path.is_dir() {
        let entries = fs::read_dir(path).map_err(failed)?;
        let paths = entries.map(|entry| entry.map(|it| it.path()));
        paths.collect::<Result<Vec<_>, _>>().map_err(failed)?
    } else {
        vec![path.to_owned()]
    };
    for file in files.iter().filter(|file| file.is_file()) {
        if fs::metadata(file).map_err(failed)?.len() > FILE_BYTES_MAX {
            return Err(InputError::Read(ReadError::TooLong {
                path: file.clone(),
                bytes_max: FILE_BYTES_MAX,
            }));
        }
    }
    Ok(())
}
