//! What the daemon tells the node channel, and what it is told.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use sluice_crypto::esp::Spi;
use sluice_crypto::key::Algorithm;
use sluice_crypto::lifecycle::{Install, Limits, Timing};
use sluice_offload_api::model::NodeName;
use tokio::time::Instant;

use crate::binding::{Binding, BindingChange};
use crate::identity::Source;
use sluice_svid::TrustDomain;

/// Most peers of a node.
pub const PEERS_MAX: usize = 4096;

/// Commands that wait to be read; a sender waits beyond.
pub const COMMANDS_MAX: usize = 256;

/// Events that wait to be read. Beyond, the channel stops reading commands and sessions until
/// the daemon has read, so **a daemon must never stop reading events to send a command**.
pub const EVENTS_MAX: usize = 1024;

/// What a node channel is made with. [`Config::new`] fills in what has a sound default.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// This node.
    pub node: NodeName,
    /// Who vouches for it and its peers.
    pub trust_domain: TrustDomain,
    /// Where it is dialled, on the management network. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where its identity comes from.
    pub identity: Source,
    /// Child SAs wanted a direction, 1 to 32.
    pub lanes: u8,
    /// Ciphers, best first.
    pub algorithms: Vec<Algorithm>,
    /// When to rekey (`soft_ms` less a part of `jitter_ms`) and when to stop.
    pub limits: Limits,
    /// How long the parts of an exchange may take.
    pub timing: Timing,
    /// Bound on a TCP connect and a TLS handshake together.
    pub handshake_ms_max: u64,
    /// Bound on the rest of a frame once its first byte is there, and on writing one.
    pub frame_ms_max: u64,
    /// How often files and peers' certificates are looked at.
    pub reload_ms: u64,
    /// How long a peer whose certificate no longer verifies (its anchor was removed, it
    /// expired) has to show a new one, before its session ends.
    pub grace_ms: u64,
}

impl Config {
    /// An hour between rekeys, one lane, AES-256 before AES-128 before ChaCha20.
    #[must_use]
    pub fn new(
        node: NodeName,
        trust_domain: TrustDomain,
        listen: SocketAddr,
        identity: impl Into<Source>,
    ) -> Self {
        Self {
            node,
            trust_domain,
            listen,
            identity: identity.into(),
            lanes: 1,
            algorithms: vec![
                Algorithm::Aes256Gcm16,
                Algorithm::Aes128Gcm16,
                Algorithm::ChaCha20Poly1305,
            ],
            limits: Limits::default(),
            timing: Timing::default(),
            handshake_ms_max: 5_000,
            frame_ms_max: 5_000,
            reload_ms: 1_000,
            grace_ms: 20_000,
        }
    }
}

/// What the daemon says. Commands about what is gone are ignored.
#[derive(Debug)]
pub enum Command {
    /// A node to have SAs with, or its new management address.
    PeerAdded {
        /// Its name; with the trust domain, its SPIFFE ID.
        node: NodeName,
        /// Where it listens.
        management: SocketAddr,
    },
    /// No longer a peer: its sessions end and its SAs are retired.
    PeerRemoved {
        /// Its name.
        node: NodeName,
    },
    /// Every worker receives by this SA.
    InboundInstalled {
        /// The peer.
        node: NodeName,
        /// Ours.
        spi: Spi,
    },
    /// Every worker sends by this SA.
    OutboundInstalled {
        /// The peer.
        node: NodeName,
        /// The peer's.
        spi: Spi,
    },
    /// An SA was not installed, receiving or sending.
    Refused {
        /// The peer.
        node: NodeName,
        /// As in the event.
        spi: Spi,
    },
    /// What a receiving SA has opened in all; lets an SA live on until it is silent.
    InboundUsed {
        /// The peer.
        node: NodeName,
        /// Ours.
        spi: Spi,
        /// Packets since it was installed.
        packets: u64,
        /// When the worker was asked.
        asked: Instant,
    },
    /// What a sending SA has sealed in all; starts a rekey at the soft limit.
    OutboundUsed {
        /// The peer.
        node: NodeName,
        /// The peer's.
        spi: Spi,
        /// Packets since it was installed.
        packets: u64,
        /// Bytes since it was installed.
        bytes: u64,
    },
    /// Renew the SAs with a peer now.
    Rekey {
        /// The peer.
        node: NodeName,
    },
    /// A pod of this node has this address: tell every peer, now and at each new session.
    AnnounceBinding(Binding),
    /// It no longer has.
    WithdrawBinding {
        /// The address.
        addr: IpAddr,
        /// The binding's number.
        number: u64,
    },
}

/// What the daemon is told. Those of one peer are to be carried out in order.
#[derive(Debug)]
pub enum Event {
    /// Receive by this SA on every worker, then say [`Command::InboundInstalled`].
    InstallInbound {
        /// The peer.
        node: NodeName,
        /// SPI, key and terms.
        sa: Install,
    },
    /// Send by this SA in place of the child's before, then say
    /// [`Command::OutboundInstalled`].
    InstallOutbound {
        /// The peer.
        node: NodeName,
        /// SPI, key and terms.
        sa: Install,
    },
    /// Receive by this SA no longer.
    RetireInbound {
        /// The peer.
        node: NodeName,
        /// Ours.
        spi: Spi,
    },
    /// Send by this SA no longer, if it is still the one in force.
    RetireOutbound {
        /// The peer.
        node: NodeName,
        /// The peer's.
        spi: Spi,
    },
    /// SAs of this epoch are in use both ways.
    Established {
        /// The peer.
        node: NodeName,
        /// The epoch.
        epoch: u64,
    },
    /// The peer says whose an address is, or no longer is.
    Binding {
        /// The peer.
        node: NodeName,
        /// What changed.
        change: BindingChange,
    },
    /// A command could not be followed.
    CommandRefused {
        /// The peer, or this node.
        node: NodeName,
        /// Why.
        why: String,
    },
}

/// How the channel stands, for metrics. Counters only rise.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Status {
    /// Times that an identity was found good: that the files were read, or that the Workload API
    /// answered.
    pub identity_loads: u64,
    /// Until when the SVID of the last of them is good, in seconds since 1970.
    pub svid_not_after: Option<u64>,
    /// What is wrong with the files or the Workload API now. With files, no session begins while
    /// it is there. With the API none begins before the first SVID or when ours was withdrawn;
    /// else the last good one serves for as long as its time says.
    pub identity_error: Option<String>,
    /// Connections refused or ended, by reason: see [`crate::SessionError::kind`].
    pub refused: BTreeMap<&'static str, u64>,
    /// What the newest of them was, with the other end's address or name.
    pub refused_last: Option<String>,
    /// By name.
    pub peers: BTreeMap<NodeName, PeerStatus>,
}

/// How one peer stands.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct PeerStatus {
    /// Whether a session is in use.
    pub connected: bool,
    /// Whether that session's keys come of a post-quantum exchange, too.
    pub post_quantum: bool,
    /// Epoch that we send by.
    pub sending: Option<u64>,
    /// Epochs that we receive by.
    pub receiving: Vec<u64>,
    /// Epochs that came into use both ways: the first one and rekeys.
    pub established: u64,
    /// Times that we dialled.
    pub dials: u64,
    /// Times that it came to nothing.
    pub dial_failures: u64,
    /// Bindings that it has announced.
    pub bindings: usize,
    /// What ended or prevented a session last.
    pub error_last: Option<String>,
}
