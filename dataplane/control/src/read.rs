//! The read side: the workers' numbers with the contract's names.

use sluice_crypto::key::Algorithm;
use sluice_dataplane_core::command::{FlowView, SaView};
use sluice_dataplane_core::counters::PortCounters as Counted;
use sluice_dataplane_core::flow::key::Tuple;
use sluice_dataplane_core::flow::state::FlowState as Tracked;
use sluice_dataplane_core::judge::Shadow;
use sluice_dataplane_core::reason::DropReason;
use sluice_dataplane_core::route::{Attach, RuleRef};
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::verdict::VerdictRecord;
use sluice_offload_api::Limits;
use sluice_offload_api::model::{
    Capacity, DropCount, Fill, FlowEnd, FlowRecord, FlowState, FlowVerdict, Generation, Policy,
    PolicyId, PortCounters, PortName, SaAlgorithm, SaDirection, SaFingerprint, SaRecord,
    ShadowRuling, Verdict,
};
use sluice_offload_api::state::State;

use crate::indices::{PeerNumbers, PortNames};

/// A verdict on a flow, when it was first seen or judged again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerdictLine {
    /// When.
    pub at: Tick,
    /// By which generation.
    pub generation: Generation,
    /// The port the packet came by.
    pub port: Option<PortName>,
    /// The initiator's tuple.
    pub tuple: Tuple,
    /// Why it was dropped; `None` if allowed.
    pub denied: Option<DropReason>,
    /// What the source pod's policy said, if it is a pod of this node.
    pub egress: Option<String>,
    /// What the destination pod's policy said, if it is a pod of this node.
    pub ingress: Option<String>,
    /// What shadow policies would have made of the source's answer.
    pub shadow_egress: Option<ShadowRuling>,
    /// What shadow policies would have made of the destination's answer.
    pub shadow_ingress: Option<ShadowRuling>,
    /// Where the packets of an allowed flow go.
    pub to: Option<FlowEnd>,
}

impl VerdictLine {
    /// As the contract says it, with how many verdicts were lost before it.
    #[must_use]
    pub fn record(&self, lost: u64) -> FlowVerdict {
        FlowVerdict {
            generation: self.generation,
            port: self.port.clone(),
            protocol: self.tuple.protocol,
            src: self.tuple.src.into(),
            dst: self.tuple.dst.into(),
            src_port: self.tuple.src_port,
            dst_port: self.tuple.dst_port,
            denied: self.denied.map(|reason| reason.name().to_owned()),
            egress: self.egress.clone(),
            ingress: self.ingress.clone(),
            shadow_egress: self.shadow_egress.clone(),
            shadow_ingress: self.shadow_ingress.clone(),
            to: self.to.clone(),
            lost,
        }
    }
}

/// One worker's counters of a port.
pub(crate) fn port_counters(port: PortName, counted: &Counted) -> PortCounters {
    let drops = DropReason::ALL.iter().map(|&reason| DropCount {
        reason: reason.name().to_owned(),
        frames: counted.dropped(reason),
    });
    PortCounters {
        port,
        rx_frames: counted.rx.read(),
        rx_bytes: counted.rx_bytes.read(),
        tx_frames: counted.tx.read(),
        tx_bytes: counted.tx_bytes.read(),
        drops: drops.filter(|d| d.frames > 0).collect(),
        forwarded: counted.forwarded.read(),
        consumed: counted.consumed.read(),
        waiting: counted.waiting.read(),
        originated: counted.originated.read(),
        shadow_would_deny: counted.shadow_would_deny.read(),
        shadow_would_allow: counted.shadow_would_allow.read(),
    }
}

/// How full a state is.
pub(crate) fn capacity(state: &State) -> Capacity {
    let fill = |used: usize, max: usize| Fill {
        used: u32::try_from(used).unwrap_or(u32::MAX),
        max: u32::try_from(max).unwrap_or(u32::MAX),
    };
    let limits = Limits::MAX;
    let rows = state.policies.values().map(Policy::rows_in_all).sum();
    Capacity {
        ports: fill(state.ports.len(), limits.ports),
        endpoints: fill(state.endpoints.len(), limits.endpoints),
        identities: fill(state.identities.len(), limits.identities),
        prefixes: fill(state.prefixes.len(), limits.prefixes),
        policies: fill(state.policies.len(), limits.policies),
        rows: fill(rows, limits.rows),
        peers: fill(state.peers.len(), limits.peers),
    }
}

/// Turns numbers into names, by the generation in force.
pub(crate) struct Namer<'a> {
    pub(crate) state: &'a State,
    pub(crate) ports: &'a PortNames,
    pub(crate) peers: &'a PeerNumbers,
}

impl Namer<'_> {
    fn rule(&self, rule: RuleRef) -> Option<String> {
        match rule.policy {
            RuleRef::NO_POLICY => None,
            id => {
                let policy = self.state.policies.get(&PolicyId(id))?;
                policy.rules.get(usize::try_from(rule.rule).ok()?).cloned()
            }
        }
    }

    fn shadow(&self, shadow: Shadow) -> ShadowRuling {
        let policy = self.state.policies.get(&PolicyId(shadow.rule.policy));
        let rules = policy.and_then(Policy::shadow_table).map(|it| &it.rules);
        let index = usize::try_from(shadow.rule.rule).ok();
        ShadowRuling {
            would: if shadow.allow {
                Verdict::Allow
            } else {
                Verdict::Deny
            },
            rule: rules.and_then(|it| it.get(index?)).cloned(),
        }
    }

    fn end(&self, end: Attach) -> FlowEnd {
        match end {
            Attach::Port(index) => self.ports.name(index).cloned().map(FlowEnd::Port),
            Attach::Peer(index) => self.peers.node(index).cloned().map(FlowEnd::Node),
            Attach::Clear(index) => self.peers.node(index).cloned().map(FlowEnd::Clear),
        }
        .unwrap_or(FlowEnd::Gone)
    }

    pub(crate) fn flow(&self, view: &FlowView) -> FlowRecord {
        let tuple = view.tuple;
        let ([initiator, responder], [forward, reverse]) = (view.ends, view.packets);
        FlowRecord {
            protocol: tuple.protocol,
            src: tuple.src.into(),
            dst: tuple.dst.into(),
            src_port: tuple.src_port,
            dst_port: tuple.dst_port,
            initiator: self.end(initiator),
            responder: self.end(responder),
            state: match view.state {
                Tracked::Opening => FlowState::Opening,
                Tracked::Established => FlowState::Established,
                Tracked::ClosingInitiator => FlowState::ClosingInitiator,
                Tracked::ClosingResponder => FlowState::ClosingResponder,
                Tracked::Closed => FlowState::Closed,
            },
            rule: self.rule(view.rule),
            forward_packets: forward.into(),
            reverse_packets: reverse.into(),
        }
    }

    pub(crate) fn sa(&self, view: &SaView) -> SaRecord {
        SaRecord {
            spi: view.spi.0,
            peer: self.peers.node(view.peer).cloned(),
            direction: if view.inbound {
                SaDirection::Inbound
            } else {
                SaDirection::Outbound
            },
            algorithm: match view.algorithm {
                Algorithm::Aes128Gcm16 => SaAlgorithm::Aes128Gcm16,
                Algorithm::Aes256Gcm16 => SaAlgorithm::Aes256Gcm16,
                Algorithm::ChaCha20Poly1305 => SaAlgorithm::ChaCha20Poly1305,
            },
            fingerprint: SaFingerprint(*view.fingerprint.as_bytes()),
            packets: view.packets,
            bytes: view.bytes,
            age_ms: None,
        }
    }

    pub(crate) fn verdict(&self, record: &VerdictRecord) -> VerdictLine {
        VerdictLine {
            at: record.at,
            generation: Generation(record.generation),
            port: self.ports.name(record.port).cloned(),
            tuple: record.tuple,
            denied: record.denied,
            egress: record.rules.egress.and_then(|r| self.rule(r)),
            ingress: record.rules.ingress.and_then(|r| self.rule(r)),
            shadow_egress: record.shadows.egress.map(|it| self.shadow(it)),
            shadow_ingress: record.shadows.ingress.map(|it| self.shadow(it)),
            to: record.to.map(|end| self.end(end)),
        }
    }
}
