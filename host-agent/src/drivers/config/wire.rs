//! The configuration file as it is written. [`super::check`] makes sense of it.

use core::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;
use serde_saphyr::Spanned;
use sluice_offload_api::model::Encryption as Setting;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) node: Spanned<String>,
    pub(super) source: Spanned<Source>,
    pub(super) dataplane: Spanned<Dataplane>,
    pub(super) uplink: Uplink,
    pub(super) host: Station,
    pub(super) vfs: Spanned<Vec<Spanned<Vf>>>,
    pub(super) encryption: Option<Spanned<Encryption>>,
    #[serde(default)]
    pub(super) pod_cidrs: Vec<Spanned<String>>,
    pub(super) state: PathBuf,
    pub(super) socket: Option<PathBuf>,
    pub(super) add_timeout_ms: Option<Spanned<u64>>,
    pub(super) heartbeat_ms: Option<Spanned<u64>>,
    pub(super) verdict_log: Option<Spanned<VerdictLog>>,
    #[serde(default)]
    pub(super) log: Log,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Encryption {
    pub(super) default: Option<Setting>,
    pub(super) loosest: Option<Setting>,
    #[serde(default)]
    pub(super) unprotected_nodes: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    pub(super) directory: Option<PathBuf>,
    /// Known so that it can be refused by name.
    pub(super) kubernetes: Option<Spanned<serde::de::IgnoredAny>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dataplane {
    pub(super) unix: Option<PathBuf>,
    pub(super) tcp: Option<Spanned<Tcp>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tcp {
    pub(super) address: SocketAddr,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) ca: PathBuf,
    pub(super) id: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Uplink {
    pub(super) port: Spanned<String>,
    pub(super) mac: Spanned<String>,
    pub(super) mtu: Spanned<u16>,
    pub(super) interfaces: Spanned<Vec<Spanned<Interface>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Interface {
    pub(super) address: Spanned<String>,
    pub(super) gateway: Option<IpAddr>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Station {
    pub(super) port: Spanned<String>,
    pub(super) mac: Spanned<String>,
    pub(super) mtu: Spanned<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vf {
    pub(super) port: Spanned<String>,
    pub(super) index: Spanned<u16>,
    pub(super) mac: Spanned<String>,
    pub(super) mtu: Spanned<u16>,
    pub(super) vlan: Option<Spanned<u16>>,
    pub(super) pci: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VerdictLog {
    pub(super) path: Option<PathBuf>,
    #[serde(default)]
    pub(super) allowed: bool,
    pub(super) pod_per_second: Option<Spanned<u32>>,
    pub(super) per_second: Option<Spanned<u32>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub(super) format: LogFormat,
    pub(super) level: LogLevel,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
}
