//! The configuration file as it is written. [`super::check`] makes sense of it.

use core::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;
use serde_saphyr::Spanned;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) node: Spanned<String>,
    pub(super) eal: Option<Spanned<Eal>>,
    pub(super) ports: Spanned<Vec<Spanned<Port>>>,
    #[serde(default)]
    pub(super) worker: Worker,
    #[serde(rename = "static")]
    pub(super) fixed: Option<Spanned<Static>>,
    pub(super) listen: Option<Spanned<Listen>>,
    pub(super) checkpoint: Option<Spanned<PathBuf>>,
    pub(super) node_channel: Option<Spanned<NodeChannel>>,
    pub(super) metrics: Option<SocketAddr>,
    pub(super) verdict_log: Option<VerdictLog>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Eal {
    pub(super) hugepages_mib: Option<u32>,
    pub(super) no_huge_mib: Option<u32>,
    #[serde(default)]
    pub(super) pci_allow: Vec<String>,
    pub(super) frame_bytes_max: Option<Spanned<u16>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Port {
    pub(super) name: Spanned<String>,
    pub(super) kind: Kind,
    pub(super) device: Spanned<String>,
    /// The next are for static mode: an agent gives them otherwise.
    pub(super) mac: Option<Spanned<String>>,
    pub(super) mtu: Option<Spanned<u16>>,
    pub(super) vf: Option<Spanned<u16>>,
    pub(super) vlan: Option<Spanned<u16>>,
    #[serde(default)]
    pub(super) interfaces: Vec<Spanned<Interface>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Vf,
    Uplink,
    Host,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Interface {
    pub(super) address: Spanned<String>,
    pub(super) gateway: Option<IpAddr>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Worker {
    pub(super) core: Option<Spanned<u16>>,
    pub(super) cores: Option<Spanned<Vec<u16>>>,
    pub(super) count: Option<Spanned<u16>>,
    pub(super) idle: Option<Spanned<Idle>>,
    pub(super) flows: Option<Spanned<u32>>,
    pub(super) vf_flows_max: Option<Spanned<u32>>,
    pub(super) vf_half_open_max: Option<Spanned<u32>>,
    pub(super) timeouts_s: Timeouts,
    pub(super) vf_names_max: Option<Spanned<u32>>,
    pub(super) names_s_min: Option<Spanned<u32>>,
    pub(super) names_s_max: Option<Spanned<u32>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Timeouts {
    pub(super) tcp_opening: Option<Spanned<u32>>,
    pub(super) tcp_established: Option<Spanned<u32>>,
    pub(super) tcp_closing: Option<Spanned<u32>>,
    pub(super) tcp_closed: Option<Spanned<u32>>,
    pub(super) udp_established: Option<Spanned<u32>>,
    pub(super) sctp_established: Option<Spanned<u32>>,
    pub(super) sctp_closing: Option<Spanned<u32>>,
    pub(super) sctp_closed: Option<Spanned<u32>>,
    pub(super) other_opening: Option<Spanned<u32>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Idle {
    pub(super) policy: IdlePolicy,
    pub(super) sleep_us_max: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum IdlePolicy {
    Spin,
    Adaptive,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Static {
    pub(super) manifests: Spanned<PathBuf>,
    #[serde(default)]
    pub(super) pods: Vec<Spanned<Pod>>,
    #[serde(default)]
    pub(super) peers: Vec<Spanned<Peer>>,
    pub(super) encryption: Option<Spanned<Encryption>>,
    #[serde(default)]
    pub(super) pod_cidrs: Vec<Spanned<String>>,
    pub(super) sas: Option<Spanned<Vec<Spanned<Sa>>>>,
    pub(super) sa_socket: Option<Spanned<SaSocket>>,
    pub(super) exit_when_idle: Option<Spanned<Exit>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Encryption {
    pub(super) default: Option<Spanned<String>>,
    pub(super) loosest: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) unprotected_nodes: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exit {
    pub(super) after_ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pod {
    pub(super) pod: Spanned<String>,
    pub(super) port: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Peer {
    pub(super) node: Spanned<String>,
    pub(super) tunnel_ips: Vec<IpAddr>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SaSocket {
    pub(super) path: PathBuf,
    pub(super) used_keys: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sa {
    pub(super) spi: Spanned<u32>,
    pub(super) direction: Direction,
    pub(super) peer: Spanned<String>,
    pub(super) algorithm: Spanned<String>,
    pub(super) key_file: Spanned<PathBuf>,
    #[serde(default = "yes")]
    pub(super) esn: bool,
    pub(super) window: Option<Spanned<usize>>,
    #[serde(default)]
    pub(super) udp_encap: bool,
    #[serde(default)]
    pub(super) mode: SaMode,
    pub(super) pod: Option<Spanned<IpAddr>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SaMode {
    #[default]
    Tunnel,
    Transport,
}

const fn yes() -> bool {
    true
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Direction {
    Inbound,
    Outbound,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listen {
    pub(super) unix: Option<Unix>,
    pub(super) tcp: Option<Spanned<Tcp>>,
    pub(super) transaction_ms_max: Option<Spanned<u64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unix {
    pub(super) path: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tcp {
    pub(super) address: SocketAddr,
    pub(super) certificate: Spanned<PathBuf>,
    pub(super) key: Spanned<PathBuf>,
    pub(super) ca: Spanned<PathBuf>,
    pub(super) agents: Spanned<Vec<Spanned<String>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeChannel {
    pub(super) listen: SocketAddr,
    pub(super) trust_domain: Spanned<String>,
    /// Either the next three, or the one behind them.
    pub(super) svid: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) anchors: Option<PathBuf>,
    pub(super) workload_api: Option<Spanned<WorkloadApi>>,
    #[serde(default)]
    pub(super) peers: Vec<Spanned<ManagementPeer>>,
    pub(super) rekey_ms: Option<Spanned<u64>>,
    #[serde(default)]
    pub(super) algorithms: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) lanes: Option<Spanned<u8>>,
    #[serde(default)]
    pub(super) udp_encap: bool,
    pub(super) lab_key_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkloadApi {
    pub(super) socket: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ManagementPeer {
    pub(super) node: Spanned<String>,
    pub(super) address: SocketAddr,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VerdictLog {
    pub(super) path: Option<PathBuf>,
    #[serde(default)]
    pub(super) allowed: bool,
    pub(super) per_second: Option<Spanned<u32>>,
}
