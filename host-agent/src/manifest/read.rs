//! From a file's text to its objects.

use core::fmt;
use core::net::IpAddr;
use std::sync::Arc;

use miette::NamedSource;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};
use sluice_offload_api::model::NodeName;

use super::check;
use super::documents::{Document, documents};
use super::error::{ManifestError, ManifestFault};
use super::wire;
use crate::cluster::{Namespace, NamespacedName, NetworkPolicy, Node, Pod, Service};

/// A place in a file, in lines and columns from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Spot {
    /// The line.
    pub line: u32,
    /// The column in characters.
    pub column: u32,
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// An object, and where it was written.
#[derive(Clone, Debug)]
pub struct ManifestObject {
    /// The object.
    pub object: Object,
    /// Where its name is.
    pub spot: Spot,
    /// Its addresses, a node's tunnel's too, and where they are.
    pub addresses: Vec<(IpAddr, Spot)>,
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
    document: Document<'a>,
}

impl At<'_> {
    /// A place in the file from one in the document.
    pub(super) fn spot(&self, location: Location) -> Spot {
        let from_one = |it: u64| u32::try_from(it).unwrap_or(u32::MAX).max(1);
        let (line, column) = (from_one(location.line()), from_one(location.column()));
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

    fn yaml(&self, error: &serde_saphyr::Error) -> ManifestError {
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

/// How to read an object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Namespace,
    Node,
    Pod,
    Policy,
    Service,
    Ignore,
}

/// What an object says it is.
struct Kind {
    reader: Reader,
    spot: Spot,
    kind: String,
    name: String,
}

impl Kind {
    fn ignored(&self) -> String {
        let Self { kind, name, .. } = self;
        if kind.ends_with("NetworkPolicy") {
            format!("{kind} {name} is ignored: none of its rules is enforced")
        } else {
            format!("{kind} {name} is ignored")
        }
    }
}

/// What a document holds.
enum Kinds {
    One(Kind),
    List(Vec<Kind>),
}

impl Kinds {
    fn all(&self) -> &[Kind] {
        match self {
            Self::One(kind) => core::slice::from_ref(kind),
            Self::List(kinds) => kinds,
        }
    }
}

/// The kind of a document's object, or of each of its items if it is a list.
fn kinds(at: &At<'_>) -> Result<Kinds, ManifestError> {
    let header: wire::Header =
        serde_saphyr::from_str(at.document.text).map_err(|error| at.yaml(&error))?;
    let item = match header.kind.as_ref().map(|it| it.value.as_str()) {
        Some("List") => "",
        Some("NamespaceList") => "Namespace",
        Some("NodeList") => "Node",
        Some("PodList") => "Pod",
        Some("ServiceList") => "Service",
        Some("NetworkPolicyList") => "NetworkPolicy",
        _ => return Ok(Kinds::One(kind(at, header, None)?)),
    };
    let version = header.api_version;
    let list: wire::ListHeader =
        serde_saphyr::from_str(at.document.text).map_err(|error| at.yaml(&error))?;
    let items = list.items.unwrap_or_default().into_iter();
    let default = (item, version.as_ref());
    Ok(Kinds::List(
        items
            .map(|it| kind(at, it, Some(default)))
            .collect::<Result<_, _>>()?,
    ))
}

/// An object's kind; an item of a `PodList` may leave out what its list says.
fn kind(
    at: &At<'_>,
    header: wire::Header,
    list: Option<(&str, Option<&Spanned<String>>)>,
) -> Result<Kind, ManifestError> {
    let wire::Header {
        mut api_version,
        kind,
        metadata,
    } = header;
    let (default, version) = list.unwrap_or_default();
    if kind.is_none() && !default.is_empty() {
        api_version = api_version.or_else(|| version.cloned());
    }
    let spot = at.spot(kind.as_ref().map_or(Location::UNKNOWN, |it| it.referenced));
    let kind = kind.map_or_else(|| default.to_owned(), |it| it.value);
    if kind.is_empty() || kind == "List" {
        let message = if kind.is_empty() {
            "there is no kind; a manifest has apiVersion and kind"
        } else {
            "a List is in a List; put its items into the outer one"
        };
        return Err(at.fault(
            spot,
            ManifestFault::Yaml {
                message: message.to_owned(),
            },
        ));
    }
    let version = api_version.as_ref().map_or("", |it| it.value.as_str());
    let reader = match (kind.as_str(), version) {
        ("Namespace", _) => Reader::Namespace,
        ("Node", "v1" | "") => Reader::Node,
        ("Pod", "v1" | "") => Reader::Pod,
        ("Service", "v1" | "") => Reader::Service,
        ("NetworkPolicy", "networking.k8s.io/v1") => Reader::Policy,
        // Kubernetes' own, of a time before v1 or after it.
        ("NetworkPolicy", old)
            if old.is_empty()
                || old.starts_with("networking.k8s.io/")
                || old.starts_with("extensions/") =>
        {
            let spot = api_version
                .as_ref()
                .map_or(spot, |it| at.spot(it.referenced));
            let got = old.to_owned();
            return Err(at.fault(spot, ManifestFault::ApiVersion { got }));
        }
        _ => Reader::Ignore,
    };
    let name = match metadata {
        Some(wire::HeaderMetadata {
            namespace: Some(ns),
            name: Some(name),
        }) => format!("{ns}/{name}"),
        Some(wire::HeaderMetadata {
            namespace: None,
            name: Some(name),
        }) => name,
        _ => "without a name".to_owned(),
    };
    Ok(Kind {
        reader,
        spot,
        kind,
        name,
    })
}

/// An object as it is read.
pub(super) enum Wire {
    Namespace(wire::Namespace),
    Node(wire::Node),
    Pod(wire::Pod),
    Policy(wire::NetworkPolicy),
    Service(wire::Service),
    Ignored,
}

/// Reads a document again, now that the kinds are known. One pass with a tagged enum would
/// lose the places: serde buffers what it reads before it knows the tag.
fn read(at: &At<'_>, kinds: &Kinds) -> Result<Vec<Wire>, ManifestError> {
    let text = at.document.text;
    let read = serde_saphyr::with_deserializer_from_str(text, |deserializer| match kinds {
        Kinds::One(kind) => kind.reader.deserialize(deserializer).map(|it| vec![it]),
        Kinds::List(kinds) => deserializer.deserialize_map(List(kinds)),
    });
    read.map_err(|error| at.yaml(&error))
}

impl<'de> DeserializeSeed<'de> for Reader {
    type Value = Wire;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Wire, D::Error> {
        match self {
            Self::Namespace => Deserialize::deserialize(deserializer).map(Wire::Namespace),
            Self::Node => Deserialize::deserialize(deserializer).map(Wire::Node),
            Self::Pod => Deserialize::deserialize(deserializer).map(Wire::Pod),
            Self::Policy => Deserialize::deserialize(deserializer).map(Wire::Policy),
            Self::Service => Deserialize::deserialize(deserializer).map(Wire::Service),
            Self::Ignore => IgnoredAny::deserialize(deserializer).map(|_| Wire::Ignored),
        }
    }
}

/// A list, whose items are of these kinds.
struct List<'a>(&'a [Kind]);

impl<'de> Visitor<'de> for List<'_> {
    type Value = Vec<Wire>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a List")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Wire>, A::Error> {
        let mut items = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" && !self.0.is_empty() {
                items = map.next_value_seed(Items(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(items)
    }
}

struct Items<'a>(&'a [Kind]);

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = Vec<Wire>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Wire>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = Vec<Wire>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the items of a List")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Wire>, A::Error> {
        let mut items = Vec::new();
        // The first reading found as many items as there are kinds.
        for kind in self.0 {
            items.extend(seq.next_element_seed(kind.reader)?);
        }
        seq.next_element::<IgnoredAny>()?;
        Ok(items)
    }
}
