//! A node's agent: its production core, driven by the world in place of watches and CNI.

use prost::Message;
use sluice_host_agent::agent::Departure;
use sluice_host_agent::cluster::{Cluster, EncryptionSetup, Pod};
use sluice_host_agent::compile::{CompileError, Engine, HostSetup, NodeSetup, UplinkSetup};
use sluice_host_agent::identity::IdentityTable;
use sluice_host_agent::reconcile::Reconciler;
use sluice_host_agent::vf::{VfBinding, VfError, VfSlot, VfTable};
use sluice_offload_api::convert::{Assembler, to_requests};
use sluice_offload_api::model::{Generation, MacAddr, NodeName};
use sluice_offload_api::proto::ProgramRequest;
use sluice_offload_api::{Limits, Refusal, Transaction};

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::cni::Add;
use super::node::vf_name;
use super::plan::{self, MacOf, NodeNumber};

/// Of a dataplane's first start.
pub(crate) const FIRST_INSTANCE: u64 = 1;

/// The underlay's MTU.
const UPLINK_MTU: u16 = 1500;
/// The host's and the pods' MTU: ESP over IPv6 with UDP fits into the underlay's around it.
pub(super) const POD_MTU: u16 = 1400;

/// An agent.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    setup: NodeSetup,
    vfs: VfTable,
    /// The last cluster that it compiled, and all it takes to go on from there.
    engine: Engine,
    reconciler: Reconciler,
    /// What is on its disk: who has which VF, and the numbers of identities.
    journal: (VfTable, IdentityTable),
    /// It has started and has seen no objects yet.
    blind: bool,
}

/// What an agent couldn't do.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// No state for the cluster.
    #[error("node {node}: {error}")]
    Compile {
        /// The node.
        node: NodeName,
        /// Why.
        error: CompileError,
    },
    /// No VF for a pod.
    #[error("node {node}: {error}")]
    Vf {
        /// The node.
        node: NodeName,
        /// Why.
        error: VfError,
    },
    /// The contract's wire format didn't carry a transaction: a bug.
    #[error("node {node}: a transaction did not survive its wire format: {error}")]
    Wire {
        /// The node.
        node: NodeName,
        /// Why.
        error: String,
    },
}

impl Agent {
    pub(crate) fn new(
        node: &NodeName,
        number: NodeNumber,
        vfs: u16,
        tunnel_ips: &[IpAddr],
        encryption: &EncryptionSetup,
    ) -> Self {
        let mac = |of| MacAddr(plan::mac(of).0);
        let setup = NodeSetup {
            node: node.clone(),
            uplink: UplinkSetup {
                name: "uplink".into(),
                mac: mac(MacOf::Uplink(number)),
                mtu: UPLINK_MTU,
                interfaces: tunnel_ips.iter().map(|ip| plan::interface(*ip)).collect(),
            },
            host: HostSetup {
                name: "host".into(),
                mac: mac(MacOf::Host(number)),
                mtu: UPLINK_MTU,
            },
            vfs: (0..vfs)
                .map(|index| VfSlot {
                    index,
                    name: vf_name(index),
                    mac: mac(MacOf::Vf(number, index)),
                    mtu: POD_MTU,
                    vlan: None,
                })
                .collect(),
            encryption: encryption.clone(),
        };
        let mut reconciler = Reconciler::default();
        reconciler.on_connect(FIRST_INSTANCE, None);
        Self {
            engine: Engine::new(setup.clone(), IdentityTable::default(), Limits::MAX),
            setup,
            vfs: VfTable::default(),
            reconciler,
            journal: (VfTable::default(), IdentityTable::default()),
            blind: true,
        }
    }

    /// Whether it has started and has seen no objects yet: nothing is sent then.
    pub(crate) const fn is_blind(&self) -> bool {
        self.blind
    }

    /// Looks at the cluster: hears of each ADD that holds and so of each DEL, and compiles. `seen`
    /// is what the watch says, `now` what is there. What follows is sent when it is in the journal,
    /// and so not at all on a `slow_disk`.
    pub(crate) fn observe(
        &mut self,
        seen: &Cluster,
        now: &Cluster,
        adds: &[Add<'_>],
        slow_disk: bool,
    ) -> Result<(), AgentError> {
        let node = self.setup.node.clone();
        let stay: BTreeSet<_> = adds.iter().map(|it| &it.key).collect();
        let all = self.vfs.iter().map(VfBinding::key);
        let gone: Vec<_> = all.filter(|key| !stay.contains(key)).collect();
        for key in gone {
            self.vfs.release_interface(&key);
        }
        for it in adds {
            let (port, slots) = (vf_name(it.index), &self.setup.vfs);
            let bound = self
                .vfs
                .bind_interface(&it.key, it.pod, it.ips, &port, slots);
            bound.map_err(|error| AgentError::Vf {
                node: node.clone(),
                error,
            })?;
        }
        let compiled = self.engine.update(&self.without_gone(seen, now), &self.vfs);
        let (engine, _) = compiled.map_err(|error| AgentError::Compile { node, error })?;
        self.engine = engine;
        self.blind = false;
        if !slow_disk {
            self.journal = (self.vfs.clone(), self.engine.identities().clone());
            self.reconciler.on_desired(self.engine.state().clone());
        }
        Ok(())
    }

    /// What the watch says without what CNI took back from this node's pods: each that isn't there
    /// any more.
    fn without_gone(&self, seen: &Cluster, now: &Cluster) -> Cluster {
        let mut cluster = seen.clone();
        let is_gone = |p: &&Pod| {
            let is_ours = p.node.as_ref() == Some(&self.setup.node);
            is_ours && now.pods.get(&p.pod).is_none_or(|it| it.uid != p.uid)
        };
        for pod in seen.pods.values().filter(is_gone) {
            let own = |ifname: &str, ips: &[IpAddr]| Departure {
                uid: pod.uid.clone(),
                pod: pod.pod.clone(),
                ifname: ifname.to_owned(),
                ips: ips.to_vec(),
            };
            let all = pod.interfaces.iter().map(|it| own(&it.name, &it.ips));
            for gone in core::iter::once(own("", &pod.ips)).chain(all) {
                let pod = cluster.pods.get(&pod.pod);
                let left = pod.and_then(|it| gone.take_from(it, &self.setup.node, |_| false));
                if let Some((pod, ips)) = left {
                    cluster.vacated.extend(ips);
                    cluster.pods.insert(pod.pod.clone(), pod);
                }
            }
        }
        cluster
    }

    /// What the dataplane must be told next, after the contract's wire format and back:
    /// what arrives is what was encoded, or nothing is.
    pub(crate) fn next_transaction(&mut self) -> Result<Option<Transaction>, AgentError> {
        let Some(tx) = self.reconciler.next_transaction() else {
            return Ok(None);
        };
        let wire = |error: String| AgentError::Wire {
            node: self.setup.node.clone(),
            error,
        };
        let mut assembler = Assembler::new(Limits::MAX);
        let mut arrived = None;
        for message in to_requests(tx) {
            let bytes = message.encode_to_vec();
            let message = ProgramRequest::decode(bytes.as_slice());
            let message = message.map_err(|e| wire(e.to_string()))?;
            arrived = assembler
                .on_message(message)
                .map_err(|e| wire(e.to_string()))?;
        }
        match arrived {
            Some(tx) => Ok(Some(tx)),
            None => Err(wire("no transaction at the commit".to_owned())),
        }
    }

    /// It starts anew: what its journal keeps it has, what it knew of the cluster and of the
    /// dataplane is gone.
    pub(crate) fn restart(&mut self, instance: u64, observed: Option<Generation>) {
        let (vfs, identities) = self.journal.clone();
        self.vfs = vfs;
        self.engine = Engine::new(self.setup.clone(), identities, Limits::MAX);
        self.reconciler = Reconciler::default();
        self.blind = true;
        if observed.is_some() {
            self.reconciler.on_connect(instance, observed);
        }
    }

    /// The dataplane is gone.
    pub(crate) fn on_disconnect(&mut self) {
        self.reconciler.on_disconnect();
    }

    /// A connection to the dataplane is up, which holds this generation.
    pub(crate) fn on_connect(&mut self, instance: u64, observed: Generation) {
        self.reconciler.on_connect(instance, Some(observed));
    }

    /// Whether it sends nothing more because of a refusal.
    pub(crate) fn is_held(&self) -> bool {
        self.reconciler.held().is_some()
    }

    /// Whether the dataplane holds what it is to hold, and under which generation.
    pub(crate) fn settled(&self) -> Option<Generation> {
        let settled = self.reconciler.is_settled();
        let held = self.reconciler.acknowledged().filter(|_| settled);
        held.map(|it| it.generation)
    }

    pub(crate) fn on_ack(&mut self, generation: Generation) {
        self.reconciler.on_ack(generation);
    }

    pub(crate) fn on_refused(&mut self, refusal: &Refusal) {
        self.reconciler.on_refused(refusal.clone());
    }
}
