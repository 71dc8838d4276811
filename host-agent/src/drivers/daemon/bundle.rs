//! The bundle: what the agent knows, and what the dataplane tells when it is asked.

use std::collections::BTreeMap;

use sluice_offload_api::model::{FlowEnd, FlowVerdict, PortCounters, PortName, SaRecord};

use super::waiters::ReplyTo;
use super::{Daemon, VerdictLog, views};
use crate::drivers::verdicts::protocol;
use crate::incident::{Bundle, Counters, KIND, SaSummary, VERSION, Verdict, Way, objects};
use crate::local::{FlowsView, Response, SaView};

impl Daemon {
    pub(super) fn bundle(&self, reply: ReplyTo) {
        let mut agent = self.agent.status();
        agent.problems = self.problems();
        let cluster = self.agent.cluster().clone();
        let verdicts = self.verdicts.as_ref().map(VerdictLog::last_verdicts);
        let pods = self.pods_by_port();
        let mut bundle = Bundle {
            kind: KIND.to_owned(),
            version: VERSION,
            node: agent.node.to_string(),
            agent,
            dataplane: self.dataplane.as_ref().map(views::dataplane),
            endpoints: self.agent.vf_views(),
            policies: self.agent.policy_views(None),
            encryption: Some(self.agent.encryption().into()),
            pod_cidrs: self.pod_cidrs.iter().map(ToString::to_string).collect(),
            objects: Vec::new(),
            flows: FlowsView {
                flows: Vec::new(),
                truncated: false,
            },
            verdicts: verdicts.map(|it| it.into_iter().map(verdict).collect()),
            counters: Vec::new(),
            sas: Vec::new(),
        };
        self.read_beside(reply, |reader| async move {
            let counted = reader.clone().counters(None).await?;
            let (flows, truncated) = reader.clone().flows(None).await?;
            let sas = reader.sas(None).await?;
            bundle.counters = counted.iter().map(|it| counters(it, &pods)).collect();
            bundle.flows = FlowsView {
                flows: flows.into_iter().map(views::flow).collect(),
                truncated,
            };
            bundle.sas = sas.into_iter().map(sa).collect();
            // A large cluster takes its time, and the agent has other things to do.
            let written = tokio::task::spawn_blocking(move || objects(&cluster)).await;
            bundle.objects = written.map_err(|error| error.to_string())?;
            Ok(Response::Bundle(Box::new(bundle)))
        });
    }
}

fn verdict(it: FlowVerdict) -> Verdict {
    Verdict {
        generation: it.generation.0,
        port: it.port.map(|it| it.0),
        protocol: protocol(it.protocol),
        src: it.src,
        src_port: it.src_port,
        dst: it.dst,
        dst_port: it.dst_port,
        denied: it.denied,
        egress: it.egress,
        ingress: it.ingress,
        way: match it.to {
            Some(FlowEnd::Node(_)) => Some(Way::Esp),
            Some(FlowEnd::Clear(_)) => Some(Way::Clear),
            Some(FlowEnd::Port(_) | FlowEnd::Gone) | None => None,
        },
    }
}

fn counters(it: &PortCounters, pods: &BTreeMap<PortName, String>) -> Counters {
    let drops = it.drops.iter().map(|it| (it.reason.clone(), it.frames));
    Counters {
        port: it.port.to_string(),
        pod: pods.get(&it.port).cloned(),
        rx_frames: it.rx_frames,
        rx_bytes: it.rx_bytes,
        tx_frames: it.tx_frames,
        tx_bytes: it.tx_bytes,
        forwarded: it.forwarded,
        consumed: it.consumed,
        waiting: it.waiting,
        originated: it.originated,
        drops: drops.collect(),
    }
}

/// Without the fingerprint: nobody needs it elsewhere.
fn sa(record: SaRecord) -> SaSummary {
    let SaView {
        spi,
        peer,
        direction,
        algorithm,
        packets,
        bytes,
        age_ms,
        fingerprint: _,
    } = views::sa(record);
    SaSummary {
        spi,
        peer,
        direction,
        algorithm,
        packets,
        bytes,
        age_ms,
    }
}
