//! What is shown.

use std::collections::BTreeMap;

use sluice_offload_api::model::{
    FlowEnd, FlowRecord, FlowState, IdentityId, Lease, PairCrossing, PairEnd, PairRecord,
    PairsRest, PortCounters, PortName, SaAlgorithm, SaDirection, SaRecord, Status,
};

use super::Daemon;
use crate::agent::Problem;
use crate::drivers::verdicts::protocol;
use crate::local::{
    DataplaneView, DropsView, FlowView, MatrixView, PairEndView, PairView, SaView, StatusView,
};

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
        direction: direction(record.direction),
        algorithm: algorithm(record.algorithm),
        fingerprint: record.fingerprint.to_string(),
        packets: record.packets,
        bytes: record.bytes,
        age_ms: record.age_ms,
    }
}

fn algorithm(it: SaAlgorithm) -> String {
    match it {
        SaAlgorithm::Aes128Gcm16 => "aes-128-gcm-16",
        SaAlgorithm::Aes256Gcm16 => "aes-256-gcm-16",
        SaAlgorithm::ChaCha20Poly1305 => "chacha20-poly1305",
    }
    .to_owned()
}

fn direction(it: SaDirection) -> String {
    match it {
        SaDirection::Inbound => "inbound",
        SaDirection::Outbound => "outbound",
    }
    .to_owned()
}

/// Pods of one identity that are named, at most.
const PODS_MAX: usize = 3;

pub(super) fn matrix(
    pairs: Vec<PairRecord>,
    rest: PairsRest,
    pods: &BTreeMap<IdentityId, Vec<String>>,
) -> MatrixView {
    let end = |end: PairEnd| {
        let pods = pods.get(&end.identity).map_or(&[][..], Vec::as_slice);
        PairEndView {
            identity: end.identity.0,
            label: end.label,
            pods: pods.iter().take(PODS_MAX).cloned().collect(),
            more_pods: pods.len().saturating_sub(PODS_MAX),
        }
    };
    let pair = |it: PairRecord| PairView {
        from: end(it.from),
        to: end(it.to),
        node: it.peer.map(|node| node.0),
        direction: direction(it.direction),
        setting: it.setting.map(|it| it.to_string()),
        way: match it.crossing {
            PairCrossing::Sealed => "esp",
            PairCrossing::Clear => "clear",
            PairCrossing::Never => "dropped",
            PairCrossing::Gone => "gone",
        }
        .to_owned(),
        algorithm: it.algorithm.map(algorithm),
        key_age_ms: it.sa_age_ms,
        flows: it.flows,
        clear_packets: it.clear_packets,
        clear_bytes: it.clear_bytes,
    };
    MatrixView {
        pairs: pairs.into_iter().map(pair).collect(),
        left_out: rest.left_out,
        other_clear_packets: rest.clear_packets,
        other_clear_bytes: rest.clear_bytes,
    }
}
