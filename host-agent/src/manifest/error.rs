//! What can be wrong with a manifest.

use core::fmt;
use core::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode, SourceSpan};
use sluice_offload_api::model::{DomainError, IpPrefix, PrefixError};

use crate::cluster::Holder;
use crate::text::{Spot, span_of};

/// A fault at a place in a file. Prints as `net.yaml:12:9: what is wrong`; as a
/// [`Diagnostic`] it shows the line.
#[derive(Clone, Debug)]
pub struct ManifestError(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    source: Arc<NamedSource<String>>,
    spot: Spot,
    span: SourceSpan,
    fault: ManifestFault,
}

impl ManifestError {
    pub(super) fn new(source: &Arc<NamedSource<String>>, spot: Spot, fault: ManifestFault) -> Self {
        let span = span_of(source.inner(), spot);
        Self(Box::new(Inner {
            source: Arc::clone(source),
            spot,
            span,
            fault,
        }))
    }

    /// The file's name as it was given.
    #[must_use]
    pub fn file(&self) -> &str {
        self.0.source.name()
    }

    /// The line, counted from 1 in the file.
    #[must_use]
    pub fn line(&self) -> u32 {
        self.0.spot.line
    }

    /// The column, counted from 1 in characters.
    #[must_use]
    pub fn column(&self) -> u32 {
        self.0.spot.column
    }

    /// What is wrong.
    #[must_use]
    pub fn fault(&self) -> &ManifestFault {
        &self.0.fault
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}:{}: {}",
            self.file(),
            self.line(),
            self.column(),
            self.0.fault
        )
    }
}

impl std::error::Error for ManifestError {}

impl Diagnostic for ManifestError {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.0.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new_with_span(Some("here".to_owned()), self.0.span);
        Some(Box::new(core::iter::once(label)))
    }
}

/// What is wrong, and what would be right.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ManifestFault {
    /// Not YAML, or not the shape of its kind.
    #[error("{message}")]
    Yaml {
        /// What the parser says.
        message: String,
    },
    /// A policy of another version than the one that is read.
    #[error("{kind} has apiVersion `{got}`; write {read}")]
    ApiVersion {
        /// The policy's kind.
        kind: String,
        /// The version that is read.
        read: &'static str,
        /// The version.
        got: String,
    },
    /// A kind that a group with policies doesn't have.
    #[error("{version} has no kind `{kind}`; is it a policy, misspelt?")]
    Kind {
        /// As written.
        kind: String,
        /// The group and version.
        version: String,
    },
    /// A name that Kubernetes wouldn't take.
    #[error("`{name}` is no name; use up to 253 letters, digits, `-` and `.`")]
    Name {
        /// The name.
        name: String,
    },
    /// Not a prefix.
    #[error(transparent)]
    Cidr(#[from] PrefixError),
    /// An exception that doesn't lie strictly within its block.
    #[error("exception {except} is not strictly within cidr {cidr}; take it out or widen cidr")]
    ExceptOutside {
        /// The exception.
        except: IpPrefix,
        /// The block.
        cidr: IpPrefix,
    },
    /// Not an address.
    #[error("`{text}` is not an IP address, such as 10.0.0.1 or fd00::1")]
    Ip {
        /// The text.
        text: String,
    },
    /// An address that can't be one station's.
    #[error("{ip} is not a unicast address that a station can have")]
    NotUnicast {
        /// The address.
        ip: IpAddr,
    },
    /// More addresses than a pod or tunnel can have.
    #[error("{count} addresses are too many; at most {max} fit")]
    TooManyIps {
        /// How many.
        count: usize,
        /// How many may be.
        max: usize,
    },
    /// Two addresses of one family for a tunnel.
    #[error("{ip} is the second tunnel address of its family; give at most one")]
    SecondOfFamily {
        /// The second.
        ip: IpAddr,
    },
    /// A port number out of range.
    #[error("port {port} is not within 1 to 65535")]
    PortRange {
        /// As written.
        port: String,
    },
    /// Not a port's name.
    #[error(
        "`{name}` is no port name; use up to 15 lower-case letters, digits and `-` with at \
         least one letter, or a number without quotes"
    )]
    PortName {
        /// As written.
        name: String,
    },
    /// `endPort` without a first one.
    #[error("endPort {end} needs a number in port; a named port is no range")]
    EndPortAlone {
        /// The last port.
        end: u16,
    },
    /// A range that ends before it starts.
    #[error("endPort {end} is below port {port}")]
    EndPortBelow {
        /// The last port.
        end: u16,
        /// The first.
        port: u16,
    },
    /// A protocol that policies don't have.
    #[error("protocol `{text}` is not TCP, UDP or SCTP")]
    Protocol {
        /// As written.
        text: String,
    },
    /// Not a policy type.
    #[error("policy type `{text}` is not Ingress or Egress")]
    PolicyType {
        /// As written.
        text: String,
    },
    /// Not a tier.
    #[error("tier `{text}` is not Admin or Baseline")]
    Tier {
        /// As written.
        text: String,
    },
    /// Not a mode.
    #[error("annotation sluice.dev/mode `{text}` is not enforce or shadow")]
    Mode {
        /// As written.
        text: String,
    },
    /// A priority out of range.
    #[error("priority {priority} is not within 0 to 1000")]
    Priority {
        /// As written.
        priority: i64,
    },
    /// Not an action.
    #[error("action `{text}` is not Accept, Deny or Pass")]
    Action {
        /// As written.
        text: String,
    },
    /// A subject that isn't one.
    #[error("the subject needs one of namespaces and pods")]
    Subject,
    /// A list that is too short or too long.
    #[error("{count} {what}; there must be {min} to {max}")]
    Items {
        /// What it is a list of.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// The fewest.
        min: usize,
        /// The most.
        max: usize,
    },
    /// A rule's name that is too long.
    #[error("the rule's name has {count} characters; at most {max} fit")]
    RuleName {
        /// How many there are.
        count: usize,
        /// How many may be.
        max: usize,
    },
    /// A peer that is of several types.
    #[error("the peer is of more than one type; make a peer of each")]
    SeveralPeers,
    /// A protocol that is several.
    #[error(
        "there is more than one of tcp, udp, sctp and destinationNamedPort; make an item of each"
    )]
    SeveralProtocols,
    /// A protocol without a port.
    #[error("destinationPort is missing; give number or range")]
    NoDestinationPort,
    /// A port that is neither a number nor a range, or both.
    #[error("destinationPort needs one of number and range")]
    NumberOrRange,
    /// A range of ports that has no two.
    #[error("range start {first} is not below end {last}; write number for one port")]
    PortsBackwards {
        /// The first port.
        first: u16,
        /// The last.
        last: u16,
    },
    /// A named port of what has no names.
    #[error(
        "destinationNamedPort needs pods or namespaces as peers; nodes and networks name no ports"
    )]
    NamedPortPeer,
    /// Not a domain name.
    #[error("{why}; name domains as example.com or, for all names below, *.example.com")]
    DomainName {
        /// What is wrong with it.
        why: DomainError,
    },
    /// Not an operator.
    #[error("operator `{text}` is not In, NotIn, Exists or DoesNotExist")]
    Operator {
        /// As written.
        text: String,
    },
    /// An operator that needs values has none.
    #[error("operator {operator} needs at least one of values")]
    NoValues {
        /// The operator.
        operator: String,
    },
    /// An operator that has no use for values has some.
    #[error("operator {operator} takes no values")]
    Values {
        /// The operator.
        operator: String,
    },
    /// A peer that says nothing. In no version does it mean everyone.
    #[error(
        "the peer is empty; give podSelector, namespaceSelector or ipBlock, \
         or leave out the list for everyone"
    )]
    EmptyPeer,
    /// A peer that is a block and pods.
    #[error("the peer has ipBlock and a selector; make two peers of it")]
    BlockAndSelector,
    /// An annotation that isn't what it should be.
    #[error("annotation {annotation} is not the list that it should be: {why}")]
    Annotation {
        /// The annotation.
        annotation: &'static str,
        /// What the parser says.
        why: String,
    },
    /// Not a network's name.
    #[error("`{text}` is no network; write a NetworkAttachmentDefinition's name or namespace/name")]
    Network {
        /// The namespace and name, as far as they are there.
        text: String,
    },
    /// Not an interface's name.
    #[error("`{name}` is no interface name; use up to 15 bytes without spaces, `/` and `:`")]
    InterfaceName {
        /// As written.
        name: String,
    },
    /// Two interfaces of one name.
    #[error("interface {name} is there twice; give each its own name")]
    InterfaceTwice {
        /// The name.
        name: String,
    },
    /// A network's addresses without an interface that has them.
    #[error("network {network} has addresses and no interface; say which has them")]
    NoInterface {
        /// The network.
        network: String,
    },
    /// An address of two interfaces of one pod.
    #[error("{ip} is on interface {second} and on {first} of the pod; give each its own")]
    IpTwice {
        /// The address.
        ip: IpAddr,
        /// Who has it first: an interface, or `primary`.
        first: String,
        /// Who has it too.
        second: String,
    },
    /// An object that was there before.
    #[error("{object} was defined before at {file}:{spot}; keep one")]
    Duplicate {
        /// What it is: `Pod shop/cart`.
        object: String,
        /// The other's file.
        file: String,
        /// The other's place.
        spot: Spot,
    },
    /// A UID of two pods.
    #[error("uid {uid} of {object} is also that of {other} at {file}:{spot}; give each its own")]
    UidTaken {
        /// The UID.
        uid: String,
        /// The pod.
        object: String,
        /// The other.
        other: String,
        /// The other's file.
        file: String,
        /// The other's place.
        spot: Spot,
    },
    /// An address of two.
    #[error("{ip} of {object} belongs to {other} at {file}:{spot}; give each its own")]
    IpTaken {
        /// The address.
        ip: IpAddr,
        /// Who claims it.
        object: Holder,
        /// Who claimed it before.
        other: Holder,
        /// The other's file.
        file: String,
        /// The other's place.
        spot: Spot,
    },
}

/// Why manifests could not be loaded.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum LoadError {
    /// A file or folder can't be read.
    #[error("can't read {}", path.display())]
    Io {
        /// The path as it was given.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The folder has no manifests.
    #[error("{} has no *.yaml, *.yml or *.json file", path.display())]
    Nothing {
        /// The path as it was given.
        path: PathBuf,
    },
    /// A manifest is at fault.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Manifest(#[from] ManifestError),
}
