//! The configuration: YAML in, a [`Config`] whose every value makes sense out.

mod channel;
mod check;
mod key_file;
mod statics;
mod wire;
mod worker;

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use sluice_dataplane_core::flow::quota::Quotas;
use sluice_dataplane_core::flow::state::Timeouts;
use sluice_dataplane_core::names::learned::LearnLimits;
use sluice_host_agent::compile::NodeSetup;
use sluice_host_agent::text::{Fault, ReadError, Text};
use sluice_offload_api::model::{IpPrefix, NodeName, PodRef, PortName};

use crate::keys::StaticSa;

pub use key_file::KeyFileError;
pub(crate) use key_file::{check_mode, decode as decode_hex};

/// Length of a configuration file in bytes, at most.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// SAs of a static configuration, at most: fewer than the commands that a worker queues.
pub const STATIC_SAS_MAX: usize = 512;
/// Flows of one worker, at most.
pub const FLOWS_MAX: u32 = 1 << 24;

/// Whether the certificates that a configuration names have to be there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Files {
    Exist,
    MayCome,
}

/// Why there is no configuration. Nothing was opened when one of these is returned.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum ConfigError {
    /// A file can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A place in the file is at fault.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Fault(#[from] Fault),
}

/// A checked configuration. Not `Clone`: it may hold keys.
#[derive(Debug)]
pub struct Config {
    /// This node.
    pub node: NodeName,
    /// DPDK's memory and buses.
    pub eal: EalSetup,
    /// Ports in the worker's order.
    pub ports: Vec<PortConfig>,
    /// The worker.
    pub worker: WorkerSetup,
    /// Where policy comes from.
    pub source: PolicySource,
    /// How keys are agreed on with other nodes.
    pub node_channel: Option<NodeChannelConfig>,
    /// Where to serve metrics.
    pub metrics: Option<SocketAddr>,
    /// Where verdicts go.
    pub verdict_log: Option<VerdictLogConfig>,
}

/// What DPDK's environment starts with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EalSetup {
    /// Where frames live.
    pub memory: Memory,
    /// PCI devices that DPDK may take from the kernel.
    pub pci_allow: Vec<String>,
    /// The longest frame in bytes, Ethernet header and tag included.
    pub frame_bytes_max: u16,
}

/// Where frames live, and mebibytes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// In hugepages.
    Hugepages(u32),
    /// In ordinary pages: for laboratories.
    NoHuge(u32),
}

/// A port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortConfig {
    /// Its name in transactions.
    pub name: PortName,
    /// What it is for. An agent can't make it another.
    pub kind: PortRole,
    /// DPDK's devargs: `net_af_packet0,iface=up0`.
    pub device: String,
}

/// What a port is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortRole {
    /// The representor of a VF.
    Vf,
    /// The wire.
    Uplink,
    /// The host's own function.
    Host,
}

impl PortRole {
    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vf => "vf",
            Self::Uplink => "uplink",
            Self::Host => "host",
        }
    }
}

/// How the workers run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkerSetup {
    /// The core that each is bound to, if it is.
    pub cores: Vec<Option<u16>>,
    /// What they do when there are no frames.
    pub idle: Idle,
    /// Flows that all of them together have room for.
    pub flows: u32,
    /// What one VF may have of them.
    pub quotas: Quotas,
    /// How long a flow may be silent.
    pub timeouts: Timeouts,
    /// What is learned of domain names.
    pub names: LearnLimits,
}

impl WorkerSetup {
    /// How many there are, 1 to [`WORKERS_MAX`].
    #[must_use]
    pub fn count(&self) -> u16 {
        u16::try_from(self.cores.len()).unwrap_or(u16::MAX)
    }

    /// The least number of lanes that has one for each.
    #[must_use]
    pub fn lanes_min(&self) -> u8 {
        let lanes = self.cores.len().next_power_of_two();
        u8::try_from(lanes).unwrap_or(u8::MAX)
    }
}

/// What a worker does when there are no frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Idle {
    /// Polls on: for a core of its own.
    Spin,
    /// Sleeps, longer the longer nothing comes, up to a bound: for a shared core.
    Adaptive {
        /// The longest sleep.
        sleep_max: Duration,
    },
}

/// Where policy comes from.
#[derive(Debug)]
pub enum PolicySource {
    /// Files, once.
    Static(Box<StaticConfig>),
    /// An agent.
    Listen(ListenConfig),
}

/// Policy, bindings and keys from files.
#[derive(Debug)]
pub struct StaticConfig {
    /// The node's ports as the compiler takes them.
    pub setup: NodeSetup,
    /// A folder or file of Kubernetes manifests.
    pub manifests: PathBuf,
    /// Prefixes whose addresses only pods have; if there are none, those of the Nodes are.
    pub pod_cidrs: BTreeSet<IpPrefix>,
    /// Which pod has which VF.
    pub pods: Vec<(PodRef, PortName)>,
    /// Tunnel addresses of other nodes, over those in the manifests.
    pub peers: Vec<(NodeName, Vec<core::net::IpAddr>)>,
    /// SAs with their keys.
    pub sas: Vec<StaticSa>,
    /// Where more of them come from at run time.
    pub sa_socket: Option<SaSocketConfig>,
    /// End when no frame came for so long: for runs over files.
    pub exit_when_idle: Option<Duration>,
}

/// Where SAs come from at run time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SaSocketConfig {
    /// A Unix socket. Only root and the daemon's own user may connect.
    pub path: PathBuf,
    /// Which keys were used, by their fingerprints.
    pub used_keys: PathBuf,
}

/// How an agent reaches us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenConfig {
    /// On a Unix socket.
    pub unix: Option<UnixConfig>,
    /// On TCP with mutual TLS.
    pub tcp: Option<TcpConfig>,
    /// Where the last acknowledged generation is kept.
    pub checkpoint: Option<PathBuf>,
    /// From a transaction's begin to its commit, at most.
    pub transaction_max: Duration,
}

/// A Unix socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnixConfig {
    /// Its path. Only root and the daemon's own user may connect.
    pub path: PathBuf,
}

/// TCP with mutual TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TcpConfig {
    /// Where to listen.
    pub address: SocketAddr,
    /// Our certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM, mode 0600.
    pub key: PathBuf,
    /// Who signs agents' certificates, PEM.
    pub ca: PathBuf,
    /// Agents that may connect: SPIFFE IDs or DNS names in their certificates.
    pub agents: Vec<String>,
}

/// The node channel, and where other nodes' are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeChannelConfig {
    /// The channel's own.
    pub channel: sluice_node_channel::Config,
    /// Management addresses of other nodes.
    pub peers: BTreeMap<NodeName, SocketAddr>,
    /// ESP in UDP 4500 to every peer.
    pub udp_encap: bool,
    /// Laboratories only: where every ESP key is written for Wireshark.
    pub lab_key_file: Option<PathBuf>,
}

/// The verdict log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerdictLogConfig {
    /// A file that is appended to; `None` is stderr.
    pub path: Option<PathBuf>,
    /// Allowed flows too.
    pub allowed: bool,
    /// Lines a second of each port, at most.
    pub per_second: u32,
}

impl Config {
    /// Reads and checks a file, and the key files that it names.
    ///
    /// # Errors
    /// [`ConfigError`] with the line.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with(path, Files::Exist)
    }

    /// The same before the certificates are there that it names.
    ///
    /// # Errors
    /// [`ConfigError`] with the line.
    pub fn load_early(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with(path, Files::MayCome)
    }

    fn load_with(path: &Path, files: Files) -> Result<Self, ConfigError> {
        Ok(check::check(&Text::read(path, CONFIG_BYTES_MAX)?, files)?)
    }

    /// Lanes that flows are spread by over the workers.
    #[must_use]
    pub fn lanes(&self) -> u8 {
        let channel = self.node_channel.as_ref().map(|it| it.channel.lanes);
        channel.unwrap_or_else(|| self.worker.lanes_min())
    }

    /// The names of its ports, in order.
    #[must_use]
    pub fn port_names(&self) -> Vec<PortName> {
        self.ports.iter().map(|port| port.name.clone()).collect()
    }
}
