//! Verbs that change objects: an apply, a patch, a number of replicas.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use sluice_host_agent::manifest::LoadError;

use super::{Beside, InputError, Manifests, Place};

/// Pods of one template, at most.
pub const REPLICAS_MAX: u32 = 200;
/// Objects in one step, at most.
pub const OBJECTS_MAX: usize = 1_000;

/// Labels of an object change.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// Its kind.
    pub kind: PatchKind,
    /// Its namespace, if its kind has one.
    #[serde(default)]
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Labels that are set; null takes one away.
    pub labels: BTreeMap<String, Option<String>>,
}

/// Kinds whose labels can change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub enum PatchKind {
    /// A pod.
    Pod,
    /// A namespace.
    Namespace,
}

/// A template has so many pods.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Its kind: `Deployment` and its like.
    pub kind: String,
    /// Its namespace.
    #[serde(default)]
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How many pods.
    pub replicas: u32,
}

impl Scale {
    pub(super) fn check(mut self, place: &Place) -> Result<Self, InputError> {
        let replicas = self.replicas;
        if replicas > REPLICAS_MAX {
            return Err(place.fault(format!(
                "{replicas} replicas are more than the {REPLICAS_MAX} that a template may have"
            )));
        }
        if self.namespace.is_empty() {
            "default".clone_into(&mut self.namespace);
        }
        Ok(self)
    }
}

/// What is applied: a file or folder, or objects at hand.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "apply takes a folder or file, one Kubernetes object, or a list of them"
)]
pub(super) enum ApplyEntry {
    Path(String),
    Objects(Vec<BTreeMap<String, Value>>),
    Object(BTreeMap<String, Value>),
}

impl ApplyEntry {
    /// What it is called, and its objects.
    pub(super) fn read(
        self,
        place: &Place,
        beside: &dyn Beside,
    ) -> Result<(String, Manifests), InputError> {
        let objects = match self {
            Self::Path(path) => {
                let manifests = beside.manifests(&path).map_err(|e| place.naming(e))?;
                return Ok((path, manifests));
            }
            Self::Object(object) => vec![object],
            Self::Objects(objects) => objects,
        };
        let count = objects.len();
        if count == 0 || count > OBJECTS_MAX {
            return Err(place.fault(format!(
                "{count} objects can't be applied; write 1 to {OBJECTS_MAX}"
            )));
        }
        let name = |it: &BTreeMap<String, Value>| {
            let text = |it: Option<&Value>| it.and_then(Value::as_str).unwrap_or("?").to_owned();
            let metadata = it.get("metadata");
            let name = text(metadata.and_then(|it| it.get("name")));
            format!("{} {name}", text(it.get("kind")))
        };
        let names: Vec<_> = objects.iter().map(name).collect();
        let mut text = String::new();
        for object in &objects {
            // An object a line, so that a complaint's line is the object's number.
            let json = serde_json::to_string(object).map_err(|error| place.fault(error))?;
            text.push_str(&format!("---\n{json}\n"));
        }
        let manifests = Manifests::parse("objects", &text).map_err(|error| {
            let InputError::Manifests(LoadError::Manifest(error)) = &error else {
                return error;
            };
            let number = usize::try_from(error.line() / 2).unwrap_or(0);
            let which = names.get(number.saturating_sub(1));
            let which = which.map_or_else(String::new, |it| format!("{it}: "));
            place.fault(format!("{which}{}", error.fault()))
        })?;
        Ok((names.join(", "), manifests))
    }
}
