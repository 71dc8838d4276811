//! Manifests from a folder: all the I/O there is in this crate's core.

use std::fs;
use std::path::Path;

use super::assemble::assemble;
use super::error::{LoadError, ManifestError};
use super::read::{Note, parse};
use crate::cluster::Cluster;

/// What a folder holds.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The cluster.
    pub cluster: Cluster,
    /// What was ignored, and the like.
    pub notes: Vec<Note>,
}

/// Loads the `*.yaml`, `*.yml` and `*.json` files of a folder in the order of their names,
/// or one file. Folders in it are not entered. Messages name files as in the folder.
///
/// # Errors
/// [`LoadError`].
pub fn load_dir(path: &Path) -> Result<Loaded, LoadError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        |source| LoadError::Io { path, source }
    };
    let mut files = Vec::new();
    if path.is_file() {
        files.push(path.to_owned());
    } else {
        for entry in fs::read_dir(path).map_err(io(path))? {
            let file = entry.map_err(io(path))?.path();
            let extension = file.extension().and_then(|it| it.to_str());
            if matches!(extension, Some("yaml" | "yml" | "json")) && file.is_file() {
                files.push(file);
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
        let name = file
            .file_name()
            .map_or_else(String::new, |it| it.to_string_lossy().into_owned());
        texts.push((name, fs::read_to_string(&file).map_err(io(&file))?));
    }
    let texts: Vec<_> = texts
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    Ok(load_texts(&texts)?)
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
    Ok(Loaded {
        cluster: assemble(objects)?,
        notes,
    })
}
