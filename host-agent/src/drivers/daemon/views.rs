//! What is shown.

use std::collections::BTreeMap;

use sluice_offload_api::model::{
    FlowEnd, FlowRecord, FlowState, Lease, PortCounters, PortName, SaAlgorithm, SaDirection,
    SaRecord, Status,
};

use super::Daemon;
use crate::agent::Problem;
use crate::drivers::verdicts::protocol;
use crate::local::{DataplaneView, DropsView, FlowView, SaView, StatusView};

impl Daemon {
    pub(super) fn status_view(&self) -> StatusView {
        let mut agent = self.agent.status();
        agent.problems = self.problems();
        StatusView {
            agent,
            source: self.source.clone(),
            link: self.link.clone(),
            dataplane: self.dataplane.as_ref().map(dataplane),
            verdict_log: self.verdicts.as_ref().map(super::VerdictLog::view),
        }
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = self.agent.status().problems;
        for it in &mut problems {
            // The core knows that there is no connection, the link why.
            if let (true, Some(why)) = (it.text == "not connected", &self.link.fault) {
                it.text = format!("not connected: {why}");
            }
        }
        let mut add = |part: &str, text: String, meanwhile: &str| {
            problems.push(Problem {
                part: part.to_owned(),
                text,
                meanwhile: meanwhile.to_owned(),
            });
        };
        if let Some(fault) = &self.journal_fault {
            let meanwhile = "ADD and DEL fail until it can be written";
            add("journal", fault.clone(), meanwhile);
        }
        if let Some(fault) = &self.recovery_fault {
            let meanwhile = "the one before is used: a pod whose ADD it lacks has a closed port";
            add("journal", fault.clone(), meanwhile);
        }
        for it in &self.left_out {
            let text = format!(
                "pod {} had {}, which is gone or another pod's",
                it.pod, it.port
            );
            add("journal", text, "the pod has no VF; delete it");
        }
        problems
    }

    pub(super) fn pods_by_port(&self) -> BTreeMap<PortName, String> {
        let attachments = self.agent.journal().attachments;
        let pairs = attachments
            .into_iter()
            .map(|it| (it.port, it.pod.to_string()));
        pairs.collect()
    }

    pub(super) fn has_port(&self, name: &str) -> bool {
        let told = self.dataplane.as_ref().map(|it| it.ports.iter());
        told.into_iter().flatten().any(|it| it.name.0 == name)
    }
}

pub(super) fn dataplane(status: &Status) -> DataplaneView {
    let down = status.ports.iter().filter(|it| !it.link_up);
    DataplaneView {
        version: status.version.clone(),
        generation: status.generation.0,
        lease: match status.lease {
            Lease::Never => "never",
            Lease::Held => "held",
            Lease::Expired => "expired",
        }
        .to_owned(),
        workers: status.workers,
        uptime_ms: status.uptime_ms,
        flows: status.flows,
        links_down: down.map(|it| it.name.to_string()).collect(),
    }
}

pub(super) fn drops(
    counters: &[PortCounters],
    pods: &BTreeMap<PortName, String>,
) -> Vec<DropsView> {
    let of_port = |it: &PortCounters| {
        let (port, pod) = (it.port.to_string(), pods.get(&it.port).cloned());
        let drops = it.drops.clone().into_iter();
        drops.map(move |drop| DropsView {
            port: port.clone(),
            pod: pod.clone(),
            reason: drop.reason,
            frames: drop.frames,
        })
    };
    counters.iter().flat_map(of_port).collect()
}

pub(super) fn flow(record: FlowRecord) -> FlowView {
    let end = |end: FlowEnd| match end {
        FlowEnd::Port(name) => format!("port {name}"),
        FlowEnd::Node(name) => format!("node {name}"),
        FlowEnd::Clear(name) => format!("node {name} in clear"),
        FlowEnd::Gone => "gone".to_owned(),
    };
    FlowView {
        protocol: protocol(record.protocol),
        src: record.src,
        src_port: record.src_port,
        dst: record.dst,
        dst_port: record.dst_port,
        initiator: end(record.initiator),
        responder: end(record.responder),
        state: match record.state {
            FlowState::Opening => "opening",
            FlowState::Established => "established",
            FlowState::ClosingInitiator => "closing-initiator",
            FlowState::ClosingResponder => "closing-responder",
            FlowState::Closed => "closed",
        }
        .to_owned(),
        rule: record.rule,
        forward_packets: record.forward_packets,
        reverse_packets: record.reverse_packets,
    }
}

pub(super) fn sa(record: SaRecord) -> SaView {
    SaView {
        spi: format!("0x{:08x}", record.spi),
        peer: record.peer.map(|it| it.0),
        direction: match record.direction {
            SaDirection::Inbound => "inbound",
            SaDirection::Outbound => "outbound",
        }
        .to_owned(),
        algorithm: match record.algorithm {
            SaAlgorithm::Aes128Gcm16 => "aes-128-gcm-16",
            SaAlgorithm::Aes256Gcm16 => "aes-256-gcm-16",
            SaAlgorithm::ChaCha20Poly1305 => "chacha20-poly1305",
        }
        .to_owned(),
        fingerprint: record.fingerprint.to_string(),
        packets: record.packets,
        bytes: record.bytes,
        age_ms: record.age_ms,
    }
}
