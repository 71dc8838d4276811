//! Status, counters, flows and SAs.

use super::ConvertError;
use super::field::{
    enumerate, enumeration, ip, ip_bytes, message, messages, octet, octets, required, short,
};
use super::objects::domain;
use crate::model::{
    Capacity, DropCount, Fill, FlowEnd, FlowRecord, FlowState, FlowVerdict, Generation, Lease,
    NameRecord, NodeName, PodUid, PortCounters, PortName, PortStatus, SaAlgorithm, SaDirection,
    SaFingerprint, SaRecord, ShadowRuling, Status,
};
use crate::proto;

enumerate!(proto::Lease, Lease {
    Never <=> Never,
    Held <=> Held,
    Expired <=> Expired,
});

enumerate!(proto::FlowState, FlowState {
    Opening <=> Opening,
    Established <=> Established,
    ClosingInitiator <=> ClosingInitiator,
    ClosingResponder <=> ClosingResponder,
    Closed <=> Closed,
});

enumerate!(proto::SaDirection, SaDirection {
    Inbound <=> Inbound,
    Outbound <=> Outbound,
});

enumerate!(proto::SaAlgorithm, SaAlgorithm {
    Aes128Gcm16 <=> Aes128Gcm16,
    Aes256Gcm16 <=> Aes256Gcm16,
    Chacha20Poly1305 <=> ChaCha20Poly1305,
});

impl TryFrom<proto::StatusResponse> for Status {
    type Error = ConvertError;

    fn try_from(wire: proto::StatusResponse) -> Result<Self, ConvertError> {
        Ok(Self {
            version: wire.version,
            instance: wire.instance,
            generation: Generation(wire.generation),
            lease: enumeration::<proto::Lease, _>("lease", wire.lease)?,
            workers: short("workers", wire.workers)?,
            uptime_ms: wire.uptime_ms,
            capacity: message("capacity", wire.capacity)?,
            ports: messages("ports", wire.ports)?,
            pending: wire.pending.map(Generation),
            flows: wire.flows,
        })
    }
}

impl From<Status> for proto::StatusResponse {
    fn from(status: Status) -> Self {
        Self {
            version: status.version,
            instance: status.instance,
            generation: status.generation.0,
            lease: proto::Lease::from(status.lease).into(),
            workers: status.workers.into(),
            uptime_ms: status.uptime_ms,
            capacity: Some(status.capacity.into()),
            ports: status.ports.into_iter().map(Into::into).collect(),
            pending: status.pending.map(|generation| generation.0),
            flows: status.flows,
        }
    }
}

impl TryFrom<proto::Capacity> for Capacity {
    type Error = ConvertError;

    fn try_from(wire: proto::Capacity) -> Result<Self, ConvertError> {
        let fill = |path, field| {
            let proto::Fill { used, max } = required(path, field)?;
            Ok::<_, ConvertError>(Fill { used, max })
        };
        Ok(Self {
            ports: fill("ports", wire.ports)?,
            endpoints: fill("endpoints", wire.endpoints)?,
            identities: fill("identities", wire.identities)?,
            prefixes: fill("prefixes", wire.prefixes)?,
            policies: fill("policies", wire.policies)?,
            rows: fill("rows", wire.rows)?,
            peers: fill("peers", wire.peers)?,
        })
    }
}

impl From<Capacity> for proto::Capacity {
    fn from(capacity: Capacity) -> Self {
        let fill = |Fill { used, max }| Some(proto::Fill { used, max });
        Self {
            ports: fill(capacity.ports),
            endpoints: fill(capacity.endpoints),
            identities: fill(capacity.identities),
            prefixes: fill(capacity.prefixes),
            policies: fill(capacity.policies),
            rows: fill(capacity.rows),
            peers: fill(capacity.peers),
        }
    }
}

impl TryFrom<proto::PortStatus> for PortStatus {
    type Error = ConvertError;

    fn try_from(wire: proto::PortStatus) -> Result<Self, ConvertError> {
        Ok(Self {
            name: PortName(wire.name),
            link_up: wire.link_up,
        })
    }
}

impl From<PortStatus> for proto::PortStatus {
    fn from(port: PortStatus) -> Self {
        Self {
            name: port.name.0,
            link_up: port.link_up,
        }
    }
}

impl TryFrom<proto::PortCounters> for PortCounters {
    type Error = ConvertError;

    fn try_from(wire: proto::PortCounters) -> Result<Self, ConvertError> {
        Ok(Self {
            port: PortName(wire.port),
            rx_frames: wire.rx_frames,
            rx_bytes: wire.rx_bytes,
            tx_frames: wire.tx_frames,
            tx_bytes: wire.tx_bytes,
            drops: messages("drops", wire.drops)?,
            forwarded: wire.forwarded,
            consumed: wire.consumed,
            waiting: wire.waiting,
            originated: wire.originated,
            shadow_would_deny: wire.shadow_would_deny,
            shadow_would_allow: wire.shadow_would_allow,
        })
    }
}

impl From<PortCounters> for proto::PortCounters {
    fn from(counters: PortCounters) -> Self {
        Self {
            port: counters.port.0,
            rx_frames: counters.rx_frames,
            rx_bytes: counters.rx_bytes,
            tx_frames: counters.tx_frames,
            tx_bytes: counters.tx_bytes,
            drops: counters.drops.into_iter().map(Into::into).collect(),
            forwarded: counters.forwarded,
            consumed: counters.consumed,
            waiting: counters.waiting,
            originated: counters.originated,
            shadow_would_deny: counters.shadow_would_deny,
            shadow_would_allow: counters.shadow_would_allow,
        }
    }
}

impl TryFrom<proto::DropCount> for DropCount {
    type Error = ConvertError;

    fn try_from(wire: proto::DropCount) -> Result<Self, ConvertError> {
        let proto::DropCount { reason, frames } = wire;
        Ok(Self { reason, frames })
    }
}

impl From<DropCount> for proto::DropCount {
    fn from(count: DropCount) -> Self {
        let DropCount { reason, frames } = count;
        Self { reason, frames }
    }
}

impl TryFrom<proto::FlowEnd> for FlowEnd {
    type Error = ConvertError;

    fn try_from(wire: proto::FlowEnd) -> Result<Self, ConvertError> {
        use proto::flow_end::End as Wire;
        Ok(match required("end", wire.end)? {
            Wire::Port(name) => Self::Port(PortName(name)),
            Wire::Node(name) => Self::Node(NodeName(name)),
            Wire::Clear(name) => Self::Clear(NodeName(name)),
            Wire::Gone(proto::Unit {}) => Self::Gone,
        })
    }
}

impl From<FlowEnd> for proto::FlowEnd {
    fn from(end: FlowEnd) -> Self {
        use proto::flow_end::End as Wire;
        let end = match end {
            FlowEnd::Port(name) => Wire::Port(name.0),
            FlowEnd::Node(name) => Wire::Node(name.0),
            FlowEnd::Clear(name) => Wire::Clear(name.0),
            FlowEnd::Gone => Wire::Gone(proto::Unit {}),
        };
        Self { end: Some(end) }
    }
}

impl TryFrom<proto::Flow> for FlowRecord {
    type Error = ConvertError;

    fn try_from(wire: proto::Flow) -> Result<Self, ConvertError> {
        Ok(Self {
            protocol: octet("protocol", wire.protocol)?,
            src: ip("src", &wire.src)?,
            dst: ip("dst", &wire.dst)?,
            src_port: short("src_port", wire.src_port)?,
            dst_port: short("dst_port", wire.dst_port)?,
            initiator: message("initiator", wire.initiator)?,
            responder: message("responder", wire.responder)?,
            state: enumeration::<proto::FlowState, _>("state", wire.state)?,
            rule: wire.rule,
            forward_packets: wire.forward_packets,
            reverse_packets: wire.reverse_packets,
        })
    }
}

impl From<FlowRecord> for proto::Flow {
    fn from(flow: FlowRecord) -> Self {
        Self {
            protocol: flow.protocol.into(),
            src: ip_bytes(flow.src),
            dst: ip_bytes(flow.dst),
            src_port: flow.src_port.into(),
            dst_port: flow.dst_port.into(),
            initiator: Some(flow.initiator.into()),
            responder: Some(flow.responder.into()),
            state: proto::FlowState::from(flow.state).into(),
            rule: flow.rule,
            forward_packets: flow.forward_packets,
            reverse_packets: flow.reverse_packets,
        }
    }
}

impl TryFrom<proto::Name> for NameRecord {
    type Error = ConvertError;

    fn try_from(wire: proto::Name) -> Result<Self, ConvertError> {
        Ok(Self {
            endpoint: PodUid(wire.endpoint),
            ip: ip("ip", &wire.ip)?,
            domain: domain(wire.domain)?,
            left_ms: wire.left_ms,
        })
    }
}

impl TryFrom<proto::ShadowRuling> for ShadowRuling {
    type Error = ConvertError;

    fn try_from(wire: proto::ShadowRuling) -> Result<Self, ConvertError> {
        Ok(Self {
            would: enumeration::<proto::Verdict, _>("would", wire.would)?,
            rule: wire.rule,
        })
    }
}

impl From<NameRecord> for proto::Name {
    fn from(name: NameRecord) -> Self {
        Self {
            endpoint: name.endpoint.0,
            ip: ip_bytes(name.ip),
            domain: name.domain.into(),
            left_ms: name.left_ms,
        }
    }
}

impl From<ShadowRuling> for proto::ShadowRuling {
    fn from(ruling: ShadowRuling) -> Self {
        Self {
            would: proto::Verdict::from(ruling.would).into(),
            rule: ruling.rule,
        }
    }
}

impl TryFrom<proto::FlowVerdict> for FlowVerdict {
    type Error = ConvertError;

    fn try_from(wire: proto::FlowVerdict) -> Result<Self, ConvertError> {
        let to = wire.to.map(|end| message("to", Some(end))).transpose()?;
        let shadow = |path, ruling: Option<proto::ShadowRuling>| {
            ruling.map(|it| message(path, Some(it))).transpose()
        };
        Ok(Self {
            generation: Generation(wire.generation),
            port: wire.port.map(PortName),
            protocol: octet("protocol", wire.protocol)?,
            src: ip("src", &wire.src)?,
            dst: ip("dst", &wire.dst)?,
            src_port: short("src_port", wire.src_port)?,
            dst_port: short("dst_port", wire.dst_port)?,
            denied: wire.denied,
            egress: wire.egress,
            ingress: wire.ingress,
            shadow_egress: shadow("shadow_egress", wire.shadow_egress)?,
            shadow_ingress: shadow("shadow_ingress", wire.shadow_ingress)?,
            to,
            lost: wire.lost,
        })
    }
}

impl From<FlowVerdict> for proto::FlowVerdict {
    fn from(verdict: FlowVerdict) -> Self {
        Self {
            generation: verdict.generation.0,
            port: verdict.port.map(|port| port.0),
            protocol: verdict.protocol.into(),
            src: ip_bytes(verdict.src),
            dst: ip_bytes(verdict.dst),
            src_port: verdict.src_port.into(),
            dst_port: verdict.dst_port.into(),
            denied: verdict.denied,
            egress: verdict.egress,
            ingress: verdict.ingress,
            shadow_egress: verdict.shadow_egress.map(Into::into),
            shadow_ingress: verdict.shadow_ingress.map(Into::into),
            to: verdict.to.map(Into::into),
            lost: verdict.lost,
        }
    }
}

impl TryFrom<proto::Sa> for SaRecord {
    type Error = ConvertError;

    fn try_from(wire: proto::Sa) -> Result<Self, ConvertError> {
        let fingerprint = octets("fingerprint", &wire.fingerprint, "a fingerprint", &[8])?;
        Ok(Self {
            spi: wire.spi,
            peer: wire.peer.map(NodeName),
            direction: enumeration::<proto::SaDirection, _>("direction", wire.direction)?,
            algorithm: enumeration::<proto::SaAlgorithm, _>("algorithm", wire.algorithm)?,
            fingerprint: SaFingerprint(fingerprint),
            packets: wire.packets,
            bytes: wire.bytes,
            age_ms: wire.age_ms,
        })
    }
}

impl From<SaRecord> for proto::Sa {
    fn from(sa: SaRecord) -> Self {
        Self {
            spi: sa.spi,
            peer: sa.peer.map(|node| node.0),
            direction: proto::SaDirection::from(sa.direction).into(),
            algorithm: proto::SaAlgorithm::from(sa.algorithm).into(),
            fingerprint: sa.fingerprint.0.to_vec(),
            packets: sa.packets,
            bytes: sa.bytes,
            age_ms: sa.age_ms,
        }
    }
}
