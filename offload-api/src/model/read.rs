//! What a dataplane tells about itself. These only ever leave it, to be shown: nothing is
//! decided by them.

use core::fmt;
use core::net::IpAddr;
use serde::{Serialize, Serializer};

use super::{Direction, Generation, IdentityId, NodeName, PodUid, PortName};

/// The dataplane as a whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Status {
    /// Its version, for people.
    pub version: String,
    /// Drawn at its start: another number means that it has restarted.
    pub instance: u64,
    /// The generation in force; 0 if it was never told anything.
    pub generation: Generation,
    /// The agent's heartbeat. It changes no verdict.
    pub lease: Lease,
    /// How many workers forward.
    pub workers: u16,
    /// Milliseconds since its start.
    pub uptime_ms: u64,
    /// How full it is.
    pub capacity: Capacity,
    /// The ports it has, told of or not.
    pub ports: Vec<PortStatus>,
}

/// The agent's heartbeat, as the dataplane sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lease {
    /// No agent has come yet.
    Never,
    /// The agent is there.
    Held,
    /// It was there, and is late. The last generation stands.
    Expired,
}

/// How full a dataplane is, by kind of object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Capacity {
    /// Ports.
    pub ports: Fill,
    /// Endpoints.
    pub endpoints: Fill,
    /// Identities.
    pub identities: Fill,
    /// Prefixes.
    pub prefixes: Fill,
    /// Policies.
    pub policies: Fill,
    /// Rows of all policies.
    pub rows: Fill,
    /// Peers.
    pub peers: Fill,
}

/// How full one table is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Fill {
    /// How many there are.
    pub used: u32,
    /// How many fit.
    pub max: u32,
}

/// A port the dataplane has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PortStatus {
    /// Its name.
    pub name: PortName,
    /// Whether its link is up.
    pub link_up: bool,
}

/// What went through one port since the dataplane's start. Frames and bytes are those on
/// the port, headers included.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PortCounters {
    /// The port.
    pub port: PortName,
    /// Frames received.
    pub rx_frames: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames dropped, by reason; reasons that never happened are left out.
    pub drops: Vec<DropCount>,
}

/// Drops for one reason.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DropCount {
    /// The reason's stable name: `policy-ingress`, `no-sa`. The dataplane's own enum has
    /// them all; a reader shows also those it doesn't know.
    pub reason: String,
    /// Frames.
    pub frames: u64,
}

/// A flow, as one endpoint has it. Two endpoints of one dataplane each have their own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FlowRecord {
    /// The endpoint.
    pub endpoint: PodUid,
    /// `Egress` if the endpoint opened it.
    pub direction: Direction,
    /// IP protocol number.
    pub protocol: u8,
    /// Address of who opened it.
    pub src: IpAddr,
    /// The other address, of the same family.
    pub dst: IpAddr,
    /// Port of who opened it; for ICMP the identifier; else 0.
    pub src_port: u16,
    /// The other port; for ICMP type * 256 + code; else 0.
    pub dst_port: u16,
    /// The identity at the other end.
    pub peer: IdentityId,
    /// What happens to its packets.
    pub disposition: Disposition,
    /// The name of the rule that decided.
    pub rule: String,
    /// The generation it was last judged under.
    pub generation: Generation,
    /// From who opened it.
    pub forward: Traffic,
    /// To who opened it.
    pub reverse: Traffic,
    /// Milliseconds since its first packet.
    pub age_ms: u64,
    /// Milliseconds since its last packet.
    pub idle_ms: u64,
}

/// What happens to a flow's packets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Disposition {
    /// They are dropped.
    Discard,
    /// They pass as they are.
    Bypass,
    /// They pass encrypted, to or from this node.
    Protect(NodeName),
}

/// How much went one way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Their bytes, from the IP header on.
    pub bytes: u64,
}

/// Which way an SA goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SaDirection {
    /// From the peer.
    Inbound,
    /// To the peer.
    Outbound,
}

/// How an SA protects.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum SaAlgorithm {
    /// AES-128-GCM with a 16-byte ICV (RFC 4106).
    #[serde(rename = "aes-128-gcm-16")]
    Aes128Gcm16,
    /// AES-256-GCM with a 16-byte ICV (RFC 4106).
    #[serde(rename = "aes-256-gcm-16")]
    Aes256Gcm16,
}

/// Tells an SA's secret from others and nothing about it; prints as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SaFingerprint(pub [u8; 8]);

impl fmt::Display for SaFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for SaFingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One ESP security association.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SaRecord {
    /// Its SPI; the low bits are the number of the child.
    pub spi: u32,
    /// The other node.
    pub peer: NodeName,
    /// Which way it goes.
    pub direction: SaDirection,
    /// How it protects.
    pub algorithm: SaAlgorithm,
    /// Tells its secret from others.
    pub fingerprint: SaFingerprint,
    /// Our address.
    pub local: IpAddr,
    /// The peer's address.
    pub remote: IpAddr,
    /// The highest 64-bit sequence number sent, or seen and verified.
    pub sequence: u64,
    /// Packets and bytes of what is inside, from the inner IP header on.
    pub traffic: Traffic,
    /// Milliseconds since it was made.
    pub age_ms: u64,
}
