//! What a dataplane tells about itself. These only ever leave it, to be shown: nothing is
//! decided by them.

use core::fmt;
use core::net::IpAddr;
use serde::{Serialize, Serializer};

use super::{DomainPattern, Generation, NodeName, PodUid, PortName, Verdict};

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
    /// A generation that is on its way to the workers.
    pub pending: Option<Generation>,
    /// Flows in all workers' tables.
    pub flows: u64,
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
    /// Received frames that left by some port.
    pub forwarded: u64,
    /// Received frames that were for the dataplane itself: ARP, ND.
    pub consumed: u64,
    /// Received frames that wait for a next hop or for their first fragment.
    pub waiting: u64,
    /// Sent frames that are the dataplane's own.
    pub originated: u64,
    /// Verdicts on flows of the pod behind the port that a shadow policy would turn into a
    /// denial. Verdicts, not frames; an allowed flow has one until something changes.
    pub shadow_would_deny: u64,
    /// Verdicts that a shadow policy would turn into an allowance.
    pub shadow_would_allow: u64,
}

impl PortCounters {
    /// Received frames that nothing accounts for: 0, or a frame was lost in silence.
    #[must_use]
    pub fn unaccounted(&self) -> i128 {
        let drops: i128 = self.drops.iter().map(|it| i128::from(it.frames)).sum();
        let [rx, forwarded, consumed, waiting] =
            [self.rx_frames, self.forwarded, self.consumed, self.waiting].map(i128::from);
        rx - forwarded - consumed - waiting - drops
    }
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

/// Where an end of a flow is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowEnd {
    /// In clear by a port.
    Port(PortName),
    /// Through ESP with a node.
    Node(NodeName),
    /// In clear with a node, as the settings of both ends allow.
    Clear(NodeName),
    /// A port or node that is gone since.
    Gone,
}

/// How far a flow has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowState {
    /// Only the initiator has spoken, or a handshake isn't complete.
    Opening,
    /// Both have.
    Established,
    /// The initiator sent FIN (TCP) or SHUTDOWN (SCTP).
    ClosingInitiator,
    /// The responder sent FIN or SHUTDOWN.
    ClosingResponder,
    /// Both sent FIN, or it was shut down, reset or aborted.
    Closed,
}

/// A flow. The initiator is who sent its first packet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FlowRecord {
    /// IP protocol number.
    pub protocol: u8,
    /// The initiator's address.
    pub src: IpAddr,
    /// The responder's address, of the same family.
    pub dst: IpAddr,
    /// The initiator's port; for ICMP the identifier; 0 where there is none.
    pub src_port: u16,
    /// The responder's port; for ICMP the identifier; 0 where there is none.
    pub dst_port: u16,
    /// Where the initiator is.
    pub initiator: FlowEnd,
    /// Where the responder is.
    pub responder: FlowEnd,
    /// How far it has come.
    pub state: FlowState,
    /// The name of the rule that allowed it; `None`: no policy was asked.
    pub rule: Option<String>,
    /// Packets from the initiator, modulo 2^32.
    pub forward_packets: u64,
    /// Packets from the responder, modulo 2^32.
    pub reverse_packets: u64,
}

/// An address that a pod was told by its resolver, for a name that its policy names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct NameRecord {
    /// The pod.
    pub endpoint: PodUid,
    /// The address.
    pub ip: IpAddr,
    /// What policy names.
    pub domain: DomainPattern,
    /// Milliseconds until it is forgotten.
    pub left_ms: u32,
}

/// What would have been said at one end of a flow, had the policies in shadow mode been
/// enforced. Only told where it differs from what was said.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ShadowRuling {
    /// The other verdict.
    pub would: Verdict,
    /// The rule that would have decided; `None` if its table is gone since.
    pub rule: Option<String>,
}

/// A verdict on a flow, when it was first seen or judged again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FlowVerdict {
    /// The generation that judged.
    pub generation: Generation,
    /// The port the packet came by; `None`: it is gone since.
    pub port: Option<PortName>,
    /// IP protocol number.
    pub protocol: u8,
    /// The initiator's address.
    pub src: IpAddr,
    /// The responder's address, of the same family.
    pub dst: IpAddr,
    /// The initiator's port; for ICMP the identifier; 0 where there is none.
    pub src_port: u16,
    /// The responder's port; for ICMP the identifier; 0 where there is none.
    pub dst_port: u16,
    /// Why it was dropped, by the reason's stable name; `None`: it was allowed.
    pub denied: Option<String>,
    /// The rule of the source's policy; `None`: none was asked.
    pub egress: Option<String>,
    /// The rule of the destination's policy; `None`: none was asked.
    pub ingress: Option<String>,
    /// What shadow policies would have made of the source's answer.
    pub shadow_egress: Option<ShadowRuling>,
    /// What shadow policies would have made of the destination's answer.
    pub shadow_ingress: Option<ShadowRuling>,
    /// Where an allowed flow's packets go.
    pub to: Option<FlowEnd>,
    /// Verdicts that were lost before this one, since the stream began.
    pub lost: u64,
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
    /// ChaCha20 with Poly1305 (RFC 7634).
    #[serde(rename = "chacha20-poly1305")]
    ChaCha20Poly1305,
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
    /// The other node; `None`: it is gone since.
    pub peer: Option<NodeName>,
    /// Which way it goes.
    pub direction: SaDirection,
    /// How it protects.
    pub algorithm: SaAlgorithm,
    /// Tells its secret from others.
    pub fingerprint: SaFingerprint,
    /// Packets.
    pub packets: u64,
    /// Bytes of what is inside, from the inner IP header on.
    pub bytes: u64,
    /// Milliseconds since it was made; `None`: not known.
    pub age_ms: Option<u64>,
}
