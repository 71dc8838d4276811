//! The agent's configuration: strict YAML, wrong at a line.

mod check;
mod wire;

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use sluice_offload_api::model::IpPrefix;

use crate::agent::DeviceNames;
use crate::compile::NodeSetup;
use crate::text::{Fault, ReadError, Text};

/// Bytes of a configuration file, at most.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// All that an agent needs to know to start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The node and its ports.
    pub setup: NodeSetup,
    /// What else its VFs are called.
    pub devices: DeviceNames,
    /// Prefixes whose addresses only pods have; if there are none, those of the Nodes are.
    pub pod_cidrs: BTreeSet<IpPrefix>,
    /// The folder of the manifests.
    pub manifests: PathBuf,
    /// Where its dataplane is.
    pub dataplane: DataplaneAddress,
    /// The folder of what must outlive the process.
    pub state: PathBuf,
    /// The socket for the CNI plugin and `sluicectl`.
    pub socket: PathBuf,
    /// How long ADD waits for the dataplane.
    pub add_timeout: Duration,
    /// How often the dataplane hears from the agent, and the agent from it.
    pub heartbeat: Duration,
    /// The log of verdicts; `None` is off.
    pub verdict_log: Option<VerdictLogConfig>,
    /// The agent's own log.
    pub log: LogConfig,
}

/// Where a dataplane is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DataplaneAddress {
    /// On this machine.
    Unix(PathBuf),
    /// Over a network, with mutual TLS.
    Tcp(TlsConfig),
}

/// How a dataplane is reached over a network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsConfig {
    /// Its address.
    pub address: SocketAddr,
    /// The agent's certificate and those between it and the CA, PEM.
    pub certificate: PathBuf,
    /// The agent's key, PEM, for its user only.
    pub key: PathBuf,
    /// Who may have signed the dataplane's certificate, PEM.
    pub ca: PathBuf,
    /// The dataplane's SPIFFE ID: `spiffe://DOMAIN/sluice/node/NAME`.
    pub id: String,
}

/// The log of verdicts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerdictLogConfig {
    /// The file; `None` is stdout.
    pub path: Option<PathBuf>,
    /// Whether allowed flows are logged too.
    pub allowed: bool,
    /// Lines a second for one pod, at most.
    pub pod_per_second: u32,
    /// Lines a second, at most.
    pub per_second: u32,
}

/// The agent's own log, on stderr.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogConfig {
    /// One JSON document a line; otherwise text.
    pub json: bool,
    /// From here up.
    pub level: tracing::Level,
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum ConfigError {
    /// It can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A place in it is at fault.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Fault(#[from] Fault),
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Ok(check::check(&Text::read(path, CONFIG_BYTES_MAX)?)?)
    }

    /// The same with the text at hand; `path` names it and is what its paths are relative to.
    ///
    /// # Errors
    /// [`ConfigError::Fault`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        Ok(check::check(&Text::new(path, text.to_owned()))?)
    }
}

#[cfg(test)]
mod tests;
