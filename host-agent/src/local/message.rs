//! The messages.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::VERSION;
use crate::agent::{AgentStatus, AttachRequest, PolicyView, Trace, TraceRequest, VfView};
use crate::incident::Bundle;

/// A request with its version.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// [`VERSION`].
    pub version: u32,
    /// What is asked.
    pub ask: Request,
}

/// What may be asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// CNI ADD. The answer comes when the dataplane protects the pod, or not at all.
    Add(AttachRequest),
    /// CNI DEL. The answer comes when the agent has written that the pod is gone.
    Del {
        /// The sandbox.
        container: String,
        /// The interface inside.
        ifname: String,
    },
    /// CNI CHECK.
    Check {
        /// The sandbox.
        container: String,
        /// The interface inside.
        ifname: String,
        /// Its addresses as the runtime knows them.
        ips: Vec<IpAddr>,
    },
    /// CNI GC.
    Gc {
        /// The runtime's network.
        network: String,
        /// What it still has there: containers and their interfaces.
        keep: Vec<(String, String)>,
    },
    /// Whether ADD can succeed now.
    Ready,
    /// How agent and dataplane are.
    Status,
    /// The VFs and who has them.
    Vfs,
    /// The tables in force.
    Policy {
        /// Of this pod only: `namespace/name`.
        pod: Option<String>,
    },
    /// Drops by port and reason.
    Drops {
        /// Of this port only.
        port: Option<String>,
    },
    /// Flows.
    Flows {
        /// Of this pod only: `namespace/name`.
        pod: Option<String>,
    },
    /// Addresses that pods know by domain names.
    Names {
        /// Of this pod only: `namespace/name`.
        pod: Option<String>,
    },
    /// Security associations.
    Sas {
        /// With this node only.
        peer: Option<String>,
    },
    /// How packets between this node and others cross the wire.
    Matrix,
    /// What would happen to a packet.
    Trace(TraceRequest),
    /// All there is to say for a look elsewhere.
    Bundle,
}

/// A response with its version.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reply {
    /// [`VERSION`].
    pub version: u32,
    /// What was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Response>,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

impl From<Result<Response, Fault>> for Reply {
    fn from(result: Result<Response, Fault>) -> Self {
        let (answer, fault) = match result {
            Ok(answer) => (Some(answer), None),
            Err(fault) => (None, Some(fault)),
        };
        Self {
            version: VERSION,
            answer,
            fault,
        }
    }
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// The dataplane protects the pod.
    Added {
        /// The pod's UID.
        uid: String,
        /// Whether the manifests open it; otherwise its port drops everything.
        open: bool,
        /// How it stands with the manifests.
        standing: String,
        /// The generation that protects it.
        generation: u64,
        /// Whether this ADD made the attachment, so that it is taken back if nobody takes
        /// the answer. For the agent's own use, never sent.
        #[serde(skip)]
        fresh: bool,
    },
    /// The pod has no VF any more.
    Deleted {
        /// Whether it had one.
        found: bool,
    },
    /// What is no longer listed is gone.
    Collected {
        /// How many were taken back.
        gone: usize,
    },
    /// ADD still holds.
    Checked,
    /// ADD can succeed.
    Ready,
    /// How things are.
    Status(Box<StatusView>),
    /// The VFs.
    Vfs(Vec<VfView>),
    /// The tables.
    Policy(Vec<PolicyView>),
    /// Drops, in the order of ports and reasons.
    Drops(Vec<DropsView>),
    /// Flows.
    Flows(FlowsView),
    /// Addresses by names, in the order of pods and addresses.
    Names(Vec<NameView>),
    /// SAs.
    Sas(Vec<SaView>),
    /// Pairs of identities.
    Matrix(MatrixView),
    /// A packet.
    Trace(Box<Trace>),
    /// All there is to say.
    Bundle(Box<Bundle>),
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fault {
    /// What kind of fault it is, for programs.
    pub kind: FaultKind,
    /// What is wrong and what to do, for people.
    pub text: String,
}

impl Fault {
    /// A fault.
    pub fn new(kind: FaultKind, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { kind, text }
    }
}

/// What kind of fault it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The request makes no sense.
    Request,
    /// It can't be, now and later: a VF that another pod has.
    Refused,
    /// Not now: the dataplane doesn't answer.
    Unavailable,
    /// The agent is at fault: it can't write its journal.
    Internal,
}

/// How things are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StatusView {
    /// The agent's core.
    pub agent: AgentStatus,
    /// The manifests.
    pub source: SourceView,
    /// The connection to the dataplane.
    pub link: LinkView,
    /// The dataplane as it told last on this connection.
    pub dataplane: Option<DataplaneView>,
    /// The verdict log; none if it is off.
    pub verdict_log: Option<LogView>,
}

/// The manifests.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SourceView {
    /// How often a change was taken.
    pub loads: u64,
    /// How often one was at fault.
    pub faults: u64,
    /// Objects that are ignored, and the like, of the last good manifests.
    pub notes: Vec<String>,
}

/// The connection to the dataplane.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LinkView {
    /// How often there was one.
    pub connects: u64,
    /// Why there is none, or was none the last time.
    pub fault: Option<String>,
}

/// The dataplane.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DataplaneView {
    /// Its version.
    pub version: String,
    /// The generation in force.
    pub generation: u64,
    /// How it sees the agent's heartbeat.
    pub lease: String,
    /// How many workers forward.
    pub workers: u16,
    /// Milliseconds since its start.
    pub uptime_ms: u64,
    /// Flows in its tables.
    pub flows: u64,
    /// Its ports whose link is down.
    pub links_down: Vec<String>,
}

/// The verdict log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LogView {
    /// Lines written.
    pub written: u64,
    /// Verdicts kept back by the rate limit.
    pub suppressed: u64,
    /// Verdicts that the dataplane lost before they came here.
    pub lost: u64,
    /// Lines that could not be written.
    pub failed: u64,
}

/// Drops of one port for one reason.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DropsView {
    /// The port.
    pub port: String,
    /// The pod behind it, if there is one.
    pub pod: Option<String>,
    /// The reason's stable name.
    pub reason: String,
    /// Frames.
    pub frames: u64,
}

/// Flows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FlowsView {
    /// The flows, in the dataplane's order.
    pub flows: Vec<FlowView>,
    /// Whether there are more than are shown.
    pub truncated: bool,
}

/// A flow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FlowView {
    /// `tcp`, `udp`, `sctp`, `icmp`, `icmpv6` or a number.
    pub protocol: String,
    /// The initiator.
    pub src: IpAddr,
    /// Its port; 0 where there is none.
    pub src_port: u16,
    /// The responder.
    pub dst: IpAddr,
    /// Its port; 0 where there is none.
    pub dst_port: u16,
    /// Where the initiator is: `port pf0vf0`, `node b`.
    pub initiator: String,
    /// Where the responder is.
    pub responder: String,
    /// How far it has come.
    pub state: String,
    /// The rule that allowed it.
    pub rule: Option<String>,
    /// Packets from the initiator.
    pub forward_packets: u64,
    /// Packets from the responder.
    pub reverse_packets: u64,
}

/// An address that a pod was told by its resolver, for a name that its policy names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NameView {
    /// The pod; none if it has left since.
    pub pod: Option<String>,
    /// The address.
    pub ip: IpAddr,
    /// What policy names: `db.example.com`, `*.example.com`.
    pub domain: String,
    /// Milliseconds until it is forgotten.
    pub left_ms: u32,
}

/// A security association.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SaView {
    /// Its SPI: `0x00001001`.
    pub spi: String,
    /// The other node.
    pub peer: Option<String>,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// How it protects.
    pub algorithm: String,
    /// Tells its secret from others.
    pub fingerprint: String,
    /// Packets.
    pub packets: u64,
    /// Bytes inside.
    pub bytes: u64,
    /// Milliseconds since it was made.
    pub age_ms: Option<u64>,
}

/// How packets between this node and others cross the wire, by pair of identities.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MatrixView {
    /// Pairs that have flows now, or had packets in clear since the dataplane's start.
    pub pairs: Vec<PairView>,
    /// Pairs that there was no room for here.
    pub left_out: u64,
    /// Packets in clear of those, and of pairs that the dataplane counted together.
    pub other_clear_packets: u64,
    /// Their bytes, from the IP header on.
    pub other_clear_bytes: u64,
}

/// Packets from one identity to another, of which one is at another node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PairView {
    /// Whose they are.
    pub from: PairEndView,
    /// Whom they are for.
    pub to: PairEndView,
    /// The other node; none if it is gone since.
    pub node: Option<String>,
    /// `outbound`, to that node, or `inbound`, from it.
    pub direction: String,
    /// The stricter of both ends' settings: `required`, `preferred`, `off`; none if an end is
    /// gone since.
    pub setting: Option<String>,
    /// How they cross the wire now: `esp`, `clear`, `dropped`, or `gone` if an end is.
    pub way: String,
    /// How the SA in use protects them; none with `esp`: there is no SA, and they are dropped.
    pub algorithm: Option<String>,
    /// Milliseconds since its key was made.
    pub key_age_ms: Option<u64>,
    /// Flows now.
    pub flows: u64,
    /// Packets that crossed the wire in clear: that left, or came and were delivered.
    pub clear_packets: u64,
    /// Their bytes, from the IP header on.
    pub clear_bytes: u64,
}

/// One end of a pair.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PairEndView {
    /// The identity's number.
    pub identity: u32,
    /// What it stands for; none if it is gone since.
    pub label: Option<String>,
    /// Pods that have it, as far as the manifests say: at most three,
    pub pods: Vec<String>,
    /// and how many more.
    pub more_pods: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_line_that_names_its_version() {
        let ask = Ask {
            version: VERSION,
            ask: Request::Del {
                container: "c1".to_owned(),
                ifname: "eth0".to_owned(),
            },
        };
        let text = serde_json::to_string(&ask).unwrap();
        let expected = r#"{"version":1,"ask":{"del":{"container":"c1","ifname":"eth0"}}}"#;
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Ask>(&text).unwrap(), ask);
    }

    #[test]
    fn what_a_request_does_not_know_is_refused() {
        for text in [
            r#"{"version":1,"ask":{"del":{"container":"c1","ifname":"eth0","force":true}}}"#,
            r#"{"version":1,"ask":"status","more":1}"#,
            r#"{"version":1,"ask":"reboot"}"#,
            r#"{"ask":"status"}"#,
        ] {
            assert!(serde_json::from_str::<Ask>(text).is_err(), "{text}");
        }
    }
}
