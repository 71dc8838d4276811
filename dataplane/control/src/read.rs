//! The read side, with names in place of numbers.

use std::net::IpAddr;

use sluice_crypto::esp::Spi;
use sluice_dataplane_core::command::{FlowView, SaView};
use sluice_dataplane_core::counters::PortCounters;
use sluice_dataplane_core::flow::key::Tuple;
use sluice_dataplane_core::flow::state::FlowState;
use sluice_dataplane_core::reason::DropReason;
use sluice_dataplane_core::route::{Attach, RuleRef};
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::verdict::VerdictRecord;
use sluice_offload_api::model::{Generation, NodeName, PolicyId, PortName};
use sluice_offload_api::state::State;

use crate::indices::{PeerNumbers, PortNames};

/// How the dataplane is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// The generation that every worker uses.
    pub applied: Generation,
    /// One that is on its way to them.
    pub pending: Option<Generation>,
    /// Pods behind VFs.
    pub endpoints: usize,
    /// Other nodes.
    pub peers: usize,
    /// Flows in all workers' tables.
    pub flows: u64,
    /// Frames sealed.
    pub sealed: u64,
    /// Frames opened.
    pub opened: u64,
}

/// One port's counters, summed over the workers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortLine {
    /// The port.
    pub port: PortName,
    /// Frames and bytes received.
    pub rx: (u64, u64),
    /// Frames and bytes sent.
    pub tx: (u64, u64),
    /// Received frames that left.
    pub forwarded: u64,
    /// Received frames taken in: ARP, ND.
    pub consumed: u64,
    /// Frames of the dataplane's own.
    pub originated: u64,
    /// Frames waiting for a next hop.
    pub waiting: u64,
    /// Drops, for each reason that occurred.
    pub drops: Vec<(DropReason, u64)>,
}

impl PortLine {
    pub(crate) fn sum<'a>(
        port: PortName,
        counters: impl Iterator<Item = &'a PortCounters> + Clone,
    ) -> Self {
        let sum = |f: &dyn Fn(&PortCounters) -> u64| {
            counters.clone().map(f).fold(0u64, u64::wrapping_add)
        };
        Self {
            port,
            rx: (sum(&|c| c.rx.read()), sum(&|c| c.rx_bytes.read())),
            tx: (sum(&|c| c.tx.read()), sum(&|c| c.tx_bytes.read())),
            forwarded: sum(&|c| c.forwarded.read()),
            consumed: sum(&|c| c.consumed.read()),
            originated: sum(&|c| c.originated.read()),
            waiting: sum(&|c| c.waiting.read()),
            drops: DropReason::ALL
                .iter()
                .map(|&reason| (reason, sum(&|c| c.dropped(reason))))
                .filter(|(_, n)| *n > 0)
                .collect(),
        }
    }

    /// Received frames that nothing accounts for; 0 unless a frame was lost in silence.
    #[must_use]
    pub fn balance(&self) -> i128 {
        let drops: u64 = self.drops.iter().map(|(_, n)| n).sum();
        i128::from(self.rx.0)
            - i128::from(self.forwarded)
            - i128::from(self.consumed)
            - i128::from(self.waiting)
            - i128::from(drops)
    }
}

/// Where an end of a flow is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum End {
    /// In clear by a port.
    Port(PortName),
    /// Through ESP with a node.
    Node(NodeName),
    /// A port or node that is gone since.
    Gone,
}

/// A flow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlowLine {
    /// Source and destination of the initiator's packets.
    pub src: (IpAddr, u16),
    /// See [`Self::src`].
    pub dst: (IpAddr, u16),
    /// IANA protocol number.
    pub protocol: u8,
    /// Where the two ends are.
    pub ends: [End; 2],
    /// How far it has come.
    pub state: FlowState,
    /// The rule that allowed it.
    pub rule: Option<String>,
    /// Packets each way, modulo 2^32.
    pub packets: [u32; 2],
}

/// An SA; its key only as a fingerprint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SaLine {
    /// Its index.
    pub spi: Spi,
    /// The other node; `None` if it is gone since.
    pub peer: Option<NodeName>,
    /// Whether it receives.
    pub inbound: bool,
    /// Its algorithm.
    pub algorithm: String,
    /// The key's fingerprint.
    pub fingerprint: String,
    /// Packets through it.
    pub packets: u64,
    /// Inner bytes through it.
    pub bytes: u64,
}

/// A verdict.
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
    /// Where the packets of an allowed flow go.
    pub to: Option<End>,
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
            RuleRef::OWN_NODE => Some("own node".to_owned()),
            id => {
                let policy = self.state.policies.get(&PolicyId(id))?;
                policy.rules.get(usize::try_from(rule.rule).ok()?).cloned()
            }
        }
    }

    fn end(&self, end: Attach) -> End {
        match end {
            Attach::Port(index) => self.ports.name(index).cloned().map(End::Port),
            Attach::Peer(index) => self.peers.node(index).cloned().map(End::Node),
        }
        .unwrap_or(End::Gone)
    }

    pub(crate) fn flow(&self, view: &FlowView) -> FlowLine {
        let tuple = view.tuple;
        FlowLine {
            src: (tuple.src.into(), tuple.src_port),
            dst: (tuple.dst.into(), tuple.dst_port),
            protocol: tuple.protocol,
            ends: view.ends.map(|end| self.end(end)),
            state: view.state,
            rule: self.rule(view.rule),
            packets: view.packets,
        }
    }

    pub(crate) fn sa(&self, view: &SaView) -> SaLine {
        SaLine {
            spi: view.spi,
            peer: self.peers.node(view.peer).cloned(),
            inbound: view.inbound,
            algorithm: view.algorithm.to_string(),
            fingerprint: view.fingerprint.to_string(),
            packets: view.packets,
            bytes: view.bytes,
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
            to: record.to.map(|end| self.end(end)),
        }
    }
}
