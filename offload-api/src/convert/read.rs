//! Status, counters, flows and SAs.

use super::ConvertError;
use super::field::{
    enumerate, enumeration, ip, ip_bytes, message, messages, octet, octets, required, short,
};
use crate::model::{
    Capacity, Direction, Disposition, DropCount, Fill, FlowRecord, Generation, IdentityId, Lease,
    NodeName, PodUid, PortCounters, PortName, PortStatus, SaAlgorithm, SaDirection, SaFingerprint,
    SaRecord, Status, Traffic,
};
use crate::proto;

enumerate!(proto::Lease, Lease {
    Never <=> Never,
    Held <=> Held,
    Expired <=> Expired,
});

enumerate!(proto::SaDirection, SaDirection {
    Inbound <=> Inbound,
    Outbound <=> Outbound,
});

enumerate!(proto::SaAlgorithm, SaAlgorithm {
    Aes128Gcm16 <=> Aes128Gcm16,
    Aes256Gcm16 <=> Aes256Gcm16,
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

impl TryFrom<proto::Flow> for FlowRecord {
    type Error = ConvertError;

    fn try_from(wire: proto::Flow) -> Result<Self, ConvertError> {
        use proto::flow::Disposition as Wire;
        let direction: Direction = enumeration::<proto::Direction, _>("direction", wire.direction)?;
        let disposition = match required("disposition", wire.disposition)? {
            Wire::Discard(proto::Unit {}) => Disposition::Discard,
            Wire::Bypass(proto::Unit {}) => Disposition::Bypass,
            Wire::Protect(node) => Disposition::Protect(NodeName(node)),
        };
        Ok(Self {
            endpoint: PodUid(wire.endpoint),
            direction,
            protocol: octet("protocol", wire.protocol)?,
            src: ip("src", &wire.src)?,
            dst: ip("dst", &wire.dst)?,
            src_port: short("src_port", wire.src_port)?,
            dst_port: short("dst_port", wire.dst_port)?,
            peer: IdentityId(wire.peer),
            disposition,
            rule: wire.rule,
            generation: Generation(wire.generation),
            forward: Traffic {
                packets: wire.forward_packets,
                bytes: wire.forward_bytes,
            },
            reverse: Traffic {
                packets: wire.reverse_packets,
                bytes: wire.reverse_bytes,
            },
            age_ms: wire.age_ms,
            idle_ms: wire.idle_ms,
        })
    }
}

impl From<FlowRecord> for proto::Flow {
    fn from(flow: FlowRecord) -> Self {
        use proto::flow::Disposition as Wire;
        let disposition = match flow.disposition {
            Disposition::Discard => Wire::Discard(proto::Unit {}),
            Disposition::Bypass => Wire::Bypass(proto::Unit {}),
            Disposition::Protect(node) => Wire::Protect(node.0),
        };
        Self {
            endpoint: flow.endpoint.0,
            direction: proto::Direction::from(flow.direction).into(),
            protocol: flow.protocol.into(),
            src: ip_bytes(flow.src),
            dst: ip_bytes(flow.dst),
            src_port: flow.src_port.into(),
            dst_port: flow.dst_port.into(),
            peer: flow.peer.0,
            disposition: Some(disposition),
            rule: flow.rule,
            generation: flow.generation.0,
            forward_packets: flow.forward.packets,
            forward_bytes: flow.forward.bytes,
            reverse_packets: flow.reverse.packets,
            reverse_bytes: flow.reverse.bytes,
            age_ms: flow.age_ms,
            idle_ms: flow.idle_ms,
        }
    }
}

impl TryFrom<proto::Sa> for SaRecord {
    type Error = ConvertError;

    fn try_from(wire: proto::Sa) -> Result<Self, ConvertError> {
        let fingerprint = octets("fingerprint", &wire.fingerprint, "a fingerprint", &[8])?;
        Ok(Self {
            spi: wire.spi,
            peer: NodeName(wire.peer),
            direction: enumeration::<proto::SaDirection, _>("direction", wire.direction)?,
            algorithm: enumeration::<proto::SaAlgorithm, _>("algorithm", wire.algorithm)?,
            fingerprint: SaFingerprint(fingerprint),
            local: ip("local", &wire.local)?,
            remote: ip("remote", &wire.remote)?,
            sequence: wire.sequence,
            traffic: Traffic {
                packets: wire.packets,
                bytes: wire.bytes,
            },
            age_ms: wire.age_ms,
        })
    }
}

impl From<SaRecord> for proto::Sa {
    fn from(sa: SaRecord) -> Self {
        Self {
            spi: sa.spi,
            peer: sa.peer.0,
            direction: proto::SaDirection::from(sa.direction).into(),
            algorithm: proto::SaAlgorithm::from(sa.algorithm).into(),
            fingerprint: sa.fingerprint.0.to_vec(),
            local: ip_bytes(sa.local),
            remote: ip_bytes(sa.remote),
            sequence: sa.sequence,
            packets: sa.traffic.packets,
            bytes: sa.traffic.bytes,
            age_ms: sa.age_ms,
        }
    }
}
