//! The document.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_offload_api::model::{Encryption, NodeName, PrefixError};

use crate::agent::{AgentStatus, PolicyView, VfView};
use crate::cluster::{Cluster, EncryptionSetup, LoosestAboveDefault};
use crate::local::{DataplaneView, FlowsView};
use crate::manifest::{ManifestError, load_texts};

/// What the document is, in its field `kind`.
pub const KIND: &str = "sluice-incident";
/// Its version. A reader refuses another one.
pub const VERSION: u32 = 1;
/// Verdicts in it, at most: the last ones.
pub const VERDICTS_MAX: usize = 4_096;
/// Bytes of it that are read, at most.
pub const BYTES_MAX: u64 = 64 << 20;

/// A node's state at one time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bundle {
    /// [`KIND`].
    pub kind: String,
    /// [`VERSION`].
    pub version: u32,
    /// The node.
    pub node: String,
    /// Its agent, the generation that it knows to be in force included.
    pub agent: AgentStatus,
    /// Its dataplane, as it told last.
    pub dataplane: Option<DataplaneView>,
    /// VFs and who has them.
    pub endpoints: Vec<VfView>,
    /// Compiled tables in force.
    pub policies: Vec<PolicyView>,
    /// What the operator says of encryption; none in a bundle of an agent that didn't tell it.
    #[serde(default)]
    pub encryption: Option<EncryptionView>,
    /// Prefixes whose addresses only pods have, by the operator's word in the agent's file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pod_cidrs: Vec<String>,
    /// The Kubernetes objects that the agent goes by, with the fields that it reads.
    pub objects: Vec<Value>,
    /// Flows in the dataplane's tables.
    pub flows: FlowsView,
    /// The last verdicts, oldest first; none if the agent doesn't watch them, because its
    /// verdict log is off.
    pub verdicts: Option<Vec<Verdict>>,
    /// Counters of each port.
    pub counters: Vec<Counters>,
    /// Security associations, without anything of their keys.
    pub sas: Vec<SaSummary>,
}

/// What the operator says of encryption in the agent's file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EncryptionView {
    /// What holds without an annotation.
    pub default: Encryption,
    /// The loosest that an annotation may ask for.
    pub loosest: Encryption,
    /// Nodes that have no dataplane.
    pub unprotected_nodes: BTreeSet<NodeName>,
}

impl From<&EncryptionSetup> for EncryptionView {
    fn from(setup: &EncryptionSetup) -> Self {
        Self {
            default: setup.of_nodes(),
            loosest: setup.loosest(),
            unprotected_nodes: setup.unprotected().cloned().collect(),
        }
    }
}

/// How a flow crosses the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Through ESP.
    Esp,
    /// In clear, as both ends' settings let it.
    Clear,
}

/// A verdict on a flow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// The generation that judged.
    pub generation: u64,
    /// The port that the packet came by.
    pub port: Option<String>,
    /// `tcp`, `udp`, `sctp`, `icmp`, `icmpv6` or a number.
    pub protocol: String,
    /// The initiator.
    pub src: IpAddr,
    /// Its port; of ICMP the identifier; 0 where there is none.
    pub src_port: u16,
    /// The responder.
    pub dst: IpAddr,
    /// Its port; of ICMP the identifier; 0 where there is none.
    pub dst_port: u16,
    /// Why it was dropped; none: it was allowed.
    pub denied: Option<String>,
    /// The rule of the source's policy, if it was asked here.
    pub egress: Option<String>,
    /// The rule of the destination's policy, if it was asked here.
    pub ingress: Option<String>,
    /// How it goes to another node; none if it doesn't, or in a bundle that doesn't tell.
    #[serde(default)]
    pub way: Option<Way>,
}

/// Counters of a port, since the dataplane's start.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Counters {
    /// The port.
    pub port: String,
    /// The pod behind it, if there is one.
    pub pod: Option<String>,
    /// Frames received.
    pub rx_frames: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Received frames that left by some port.
    pub forwarded: u64,
    /// Received frames that were for the dataplane itself.
    pub consumed: u64,
    /// Received frames that wait.
    pub waiting: u64,
    /// Sent frames that are the dataplane's own.
    pub originated: u64,
    /// Dropped frames by reason.
    pub drops: BTreeMap<String, u64>,
}

/// A security association.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SaSummary {
    /// Its SPI: `0x00001001`.
    pub spi: String,
    /// The other node.
    pub peer: Option<String>,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// How it protects.
    pub algorithm: String,
    /// Packets.
    pub packets: u64,
    /// Bytes inside.
    pub bytes: u64,
    /// Milliseconds since it was made.
    pub age_ms: Option<u64>,
}

/// Why a bundle can't be read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It is no JSON, or lacks something.
    #[error("not a bundle that `sluicectl bundle` has made: {0}")]
    Shape(#[from] serde_json::Error),
    /// It is something else.
    #[error("`kind` is `{kind}`, and a bundle's is `{KIND}`")]
    Kind {
        /// What it says.
        kind: String,
    },
    /// Another version.
    #[error(
        "version {version} of the bundle is not read, {VERSION} is; use the sluice-sim of the sluicectl that made it"
    )]
    Version {
        /// Its version.
        version: u32,
    },
    /// What it says of encryption makes no sense.
    #[error("the bundle's `encryption`: {0}")]
    Encryption(#[from] LoosestAboveDefault),
    /// What it says of pods' addresses makes no sense.
    #[error("the bundle's `pod_cidrs`: {0}")]
    PodCidrs(#[from] PrefixError),
    /// Its objects are at fault.
    #[error("the bundle's objects: {0}")]
    Objects(#[from] ManifestError),
}

/// What tells one document from others.
#[derive(Deserialize)]
struct Header {
    kind: String,
    version: u32,
}

impl Bundle {
    /// Reads one. What a newer agent of the same version adds is passed over.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn read(text: &str) -> Result<Self, BundleError> {
        let Header { kind, version } = serde_json::from_str(text)?;
        if kind != KIND {
            return Err(BundleError::Kind { kind });
        }
        if version != VERSION {
            return Err(BundleError::Version { version });
        }
        Ok(serde_json::from_str(text)?)
    }

    /// What its node's operator says of encryption; if it doesn't tell, all is required.
    ///
    /// # Errors
    /// [`BundleError::Encryption`] if that could be no agent's.
    pub fn encryption(&self) -> Result<EncryptionSetup, BundleError> {
        let Some(it) = &self.encryption else {
            return Ok(EncryptionSetup::default());
        };
        let listed = it.unprotected_nodes.clone();
        Ok(EncryptionSetup::new(it.default, Some(it.loosest), listed)?)
    }

    /// The cluster of its objects, with what its node's operator says of pods' addresses.
    ///
    /// # Errors
    /// [`BundleError::Objects`] if they hold something that no manifest may, and
    /// [`BundleError::PodCidrs`].
    pub fn cluster(&self) -> Result<Cluster, BundleError> {
        let lines: Vec<_> = self.objects.iter().map(|it| format!("{it}\n")).collect();
        let loaded = load_texts(&[("objects", &lines.join("---\n"))])?;
        let mut cluster = loaded.cluster;
        for text in &self.pod_cidrs {
            cluster.pod_cidrs.insert(text.parse()?);
        }
        Ok(cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_bundle_of_this_version_is_refused_and_says_why() {
        let told = |text: &str| Bundle::read(text).unwrap_err().to_string();
        assert!(told("{}").contains("missing field `kind`"));
        assert!(told("[").contains("not a bundle"));
        assert!(told(r#"{"kind":"List","version":1}"#).contains("`kind` is `List`"));
        assert!(told(r#"{"kind":"sluice-incident","version":2}"#).contains("version 2"));
        assert!(told(r#"{"kind":"sluice-incident","version":1}"#).contains("missing field"));
    }
}
