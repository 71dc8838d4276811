//! From a file's text to its objects.

use core::fmt;
use core::net::IpAddr;
use std::sync::Arc;

use miette::NamedSource;
use serde::de::{DeserializeSeed as _, Deserializer as _};
use serde_saphyr::Location;
use sluice_offload_api::model::NodeName;

use super::check;
use super::documents::{Document, documents};
use super::error::{ManifestError, ManifestFault};
use super::kinds::{Kinds, List, Reader, Wire, kinds};
use crate::cluster::{
    ClusterPolicy, MultiPolicy, Namespace, NamespacedName, NetworkPolicy, Node, Pod, Service,
};
use crate::text::{Spot, beyond};

/// An object, and where it was written.
#[derive(Clone, Debug)]
pub struct ManifestObject {
    /// The object.
    pub object: Object,
    /// Where its name is.
    pub spot: Spot,
    /// Its addresses, a node's tunnel's too, and where they are.
    pub addresses: Vec<(IpAddr, Spot)>,
    /// A pod's owner's name.
    pub owner: Option<String>,
    pub(super) source: Arc<NamedSource<String>>,
}

impl ManifestObject {
    /// The file's name as it was given.
    #[must_use]
    pub fn file(&self) -> &str {
        self.source.name()
    }
}

/// An object that the agent reads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Object {
    /// A namespace.
    Namespace(String, Namespace),
    /// A node.
    Node(NodeName, Node),
    /// A pod.
    Pod(Pod),
    /// A NetworkPolicy.
    Policy(NamespacedName, NetworkPolicy),
    /// A ClusterNetworkPolicy.
    ClusterPolicy(String, ClusterPolicy),
    /// A MultiNetworkPolicy.
    MultiPolicy(NamespacedName, MultiPolicy),
    /// A service.
    Service(NamespacedName, Service),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(name, _) => write!(f, "Namespace {name}"),
            Self::Node(name, _) => write!(f, "Node {name}"),
            Self::Pod(pod) => write!(f, "Pod {}", pod.pod),
            Self::Policy(name, _) => write!(f, "NetworkPolicy {name}"),
            Self::ClusterPolicy(name, _) => write!(f, "ClusterNetworkPolicy {name}"),
            Self::MultiPolicy(name, _) => write!(f, "MultiNetworkPolicy {name}"),
            Self::Service(name, _) => write!(f, "Service {name}"),
        }
    }
}

/// Something a person may want to know that is no fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// The file.
    pub file: String,
    /// The line.
    pub line: u32,
    /// What there is to know.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.text)
    }
}

/// Reads a file, YAML with any number of documents or JSON. `file_name` is for messages.
///
/// # Errors
/// The first fault of the file.
pub fn parse(
    file_name: &str,
    text: &str,
) -> Result<(Vec<ManifestObject>, Vec<Note>), ManifestError> {
    let source = Arc::new(NamedSource::new(file_name, text.to_owned()));
    let (mut objects, mut notes) = (Vec::new(), Vec::new());
    for document in documents(text) {
        let at = At {
            source: &source,
            document,
        };
        let kinds = kinds(&at)?;
        for kind in kinds.all().iter().filter(|it| it.reader == Reader::Ignore) {
            notes.push(at.note(kind.spot, kind.ignored()));
        }
        for wire in read(&at, &kinds)? {
            if let Some(object) = check::object(&at, wire, &mut notes)? {
                objects.push(object);
            }
        }
    }
    Ok((objects, notes))
}

/// Where we are reading.
pub(super) struct At<'a> {
    pub(super) source: &'a Arc<NamedSource<String>>,
    pub(super) document: Document<'a>,
}

impl At<'_> {
    /// A place in the file from one in the document.
    pub(super) fn spot(&self, location: Location) -> Spot {
        let Spot { line, column } = Spot::from(location);
        let before = if line == 1 {
            self.document.columns_before
        } else {
            0
        };
        Spot {
            line: line.saturating_add(self.document.lines_above),
            column: column.saturating_add(before),
        }
    }

    pub(super) fn fault(&self, spot: Spot, fault: ManifestFault) -> ManifestError {
        ManifestError::new(self.source, spot, fault)
    }

    pub(super) fn note(&self, spot: Spot, text: String) -> Note {
        Note {
            file: self.source.name().to_owned(),
            line: spot.line,
            text,
        }
    }

    /// What the parser says of a text within the document.
    pub(super) fn message(&self, error: &serde_saphyr::Error) -> String {
        message(error)
    }

    pub(super) fn text(&self) -> &str {
        self.document.text
    }

    pub(super) fn yaml(&self, error: &serde_saphyr::Error) -> ManifestError {
        let location = error.location().unwrap_or(Location::UNKNOWN);
        self.fault(
            self.spot(location),
            ManifestFault::Yaml {
                message: message(error),
            },
        )
    }
}

/// What the parser says, in words for the person who wrote the manifest.
fn message(error: &serde_saphyr::Error) -> String {
    if let Some(message) = beyond(error) {
        return message;
    }
    match error.without_snippet() {
        serde_saphyr::Error::SerdeUnknownField {
            field, expected, ..
        } => {
            format!(
                "unknown field `{field}`; allowed here: {}",
                expected.join(", ")
            )
        }
        serde_saphyr::Error::SerdeMissingField { field, .. } => {
            format!("the field `{field}` is missing")
        }
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the field `{key}` is there twice; keep one")
        }
        serde_saphyr::Error::NullIntoString { .. } => "the value is empty; give a text".to_owned(),
        other => {
            let text = other.to_string();
            // The place is said before the message.
            let end = text.rfind(" at line ").unwrap_or(text.len());
            text.get(..end).unwrap_or(&text).to_owned()
        }
    }
}

/// Reads a document again, now that the kinds are known. One pass with a tagged enum would
/// lose the places: serde buffers what it reads before it knows the tag.
fn read(at: &At<'_>, kinds: &Kinds) -> Result<Vec<Wire>, ManifestError> {
    let text = at.text();
    let read = serde_saphyr::with_deserializer_from_str(text, |deserializer| match kinds {
        Kinds::One(kind) => kind.reader.deserialize(deserializer).map(|it| vec![it]),
        Kinds::List(kinds) => deserializer.deserialize_map(List(kinds)),
    });
    read.map_err(|error| at.yaml(&error))
}
