//! A node's agent: production's own, whole, with the world in place of its watch, its container
//! runtime, its disk and its connection to the dataplane.

use prost::Message;
use sluice_host_agent::agent::{
    Agent as Core, AttachError, AttachRequest, Attachment, DeviceNames, Journal, StateFault, VfHint,
};
use sluice_host_agent::cluster::{Cluster, EncryptionSetup};
use sluice_host_agent::compile::{HostSetup, NodeSetup, UplinkSetup};
use sluice_host_agent::vf::{VfError, VfSlot};
use sluice_host_agent::watch::Watches;
use sluice_offload_api::convert::{Assembler, to_requests};
use sluice_offload_api::model::{Generation, MacAddr, NodeName};
use sluice_offload_api::proto::{ProgramRequest, ProgramResponse};
use sluice_offload_api::{Answer, Limits, Refusal, Refused, Transaction};

use std::net::IpAddr;

use super::api::{Reach, Server};
use super::cni::Add;
use super::marks::Marks;
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
    /// What it has heard of the API.
    watches: Watches,
    core: Core,
    /// What is on its disk.
    journal: Journal,
    /// It has something that is not on its disk, and waits until it is: nothing is sent.
    unwritten: bool,
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
        error: StateFault,
    },
    /// No VF for a pod.
    #[error("node {node}: {error}")]
    Vf {
        /// The node.
        node: NodeName,
        /// Why.
        error: VfError,
    },
    /// An ADD that should have been granted wasn't.
    #[error("node {node}: {error}")]
    Add {
        /// The node.
        node: NodeName,
        /// Why.
        error: Box<AttachError>,
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
        let mut agent = Self {
            watches: Watches::default(),
            core: start(&setup, Journal::default()),
            setup,
            journal: Journal::default(),
            unwritten: false,
            blind: true,
        };
        agent.core.on_connect(FIRST_INSTANCE, Generation(0));
        agent
    }

    /// Another process that knows what this one does, and has a disk of its own.
    pub(crate) fn twin(&self) -> Self {
        Self {
            unwritten: false,
            ..self.clone()
        }
    }

    /// Whether it has started and has seen no objects yet: nothing is sent then.
    pub(crate) const fn is_blind(&self) -> bool {
        self.blind
    }

    /// What it has seen of the cluster when it has asked a server once more; `None` as long as it has
    /// not seen it whole.
    pub(crate) fn listen(
        &mut self,
        server: &Server,
        reach: Reach,
        marks: &mut Marks,
    ) -> Option<Cluster> {
        server.tell(&mut self.watches, reach, marks);
        self.watches.cluster()
    }

    /// Looks at the cluster as its watches have `seen` it, and hears of each ADD that holds, and so of
    /// each DEL. What follows is sent when it is in the journal, and so not at all on a
    /// `slow_disk`.
    pub(crate) fn observe(
        &mut self,
        seen: &Cluster,
        adds: &[Add<'_>],
        slow_disk: bool,
    ) -> Result<(), AgentError> {
        let mut wanted: Vec<_> = adds.iter().map(|it| self.request(it)).collect();
        let holds = |it: &Attachment| wanted.iter().any(|add| is_answered(add, it));
        let all = self.core.attachments().iter();
        let over: Vec<_> = all.filter(|it| !holds(it)).cloned().collect();
        for it in over {
            self.core.detach(&it.container, &it.ifname);
        }
        self.core.on_cluster(seen.clone());
        self.blind = false;
        if let Some(error) = self.core.compile_fault() {
            return Err(AgentError::Compile {
                node: self.setup.node.clone(),
                error: error.clone(),
            });
        }
        let granted = self.core.attachments();
        wanted.retain(|add| !granted.iter().any(|it| is_answered(add, it)));
        for add in &wanted {
            self.core.attach(add).map_err(|error| {
                let node = self.setup.node.clone();
                match error {
                    AttachError::Vf(error) => AgentError::Vf { node, error },
                    error => AgentError::Add {
                        node,
                        error: Box::new(error),
                    },
                }
            })?;
        }
        self.unwritten = slow_disk;
        if !slow_disk {
            self.journal = self.core.journal();
        }
        Ok(())
    }

    /// An ADD in a runtime's words: the VF by what the device plugin says, and by the MAC that
    /// the plugin in front has found on it.
    fn request(&self, add: &Add<'_>) -> AttachRequest {
        let slot = self.setup.vfs.get(usize::from(add.index));
        AttachRequest {
            container: format!("sandbox-{}", add.key.pod_uid),
            ifname: match add.key.interface.as_str() {
                "" => PRIMARY.to_owned(),
                name => name.to_owned(),
            },
            pod: add.pod.clone(),
            uid: Some(add.key.pod_uid.clone()),
            network: None,
            vf: VfHint {
                port: None,
                device: Some(pci_address(add.index)),
                mac: slot.map(|it| it.mac.to_string()),
            },
            ips: add.ips.to_vec(),
        }
    }

    /// What the dataplane must be told next, after the contract's wire format and back:
    /// what arrives is what was encoded, or nothing is.
    pub(crate) fn next_transaction(&mut self) -> Result<Option<Transaction>, AgentError> {
        if self.unwritten {
            return Ok(None);
        }
        let Some(tx) = self.core.next_transaction() else {
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
        self.core = start(&self.setup, self.journal.clone());
        self.watches = Watches::default();
        self.unwritten = false;
        self.blind = true;
        if let Some(observed) = observed {
            self.core.on_connect(instance, observed);
        }
    }

    /// The dataplane is gone.
    pub(crate) fn on_disconnect(&mut self) {
        self.core.on_disconnect();
    }

    /// A connection to the dataplane is up, which holds this generation.
    pub(crate) fn on_connect(&mut self, instance: u64, observed: Generation) {
        self.core.on_connect(instance, observed);
    }

    /// Whether it sends nothing more because of a refusal.
    pub(crate) fn is_held(&self) -> bool {
        self.core.held().is_some()
    }

    /// Whether the dataplane holds what it is to hold, and under which generation.
    pub(crate) fn settled(&self) -> Option<Generation> {
        let settled = self.core.is_settled();
        let held = self.core.in_force().filter(|_| settled);
        held.map(|it| it.generation)
    }

    pub(crate) fn on_ack(&mut self, generation: Generation) {
        self.on_answer(Answer::Ack { generation });
    }

    /// Refused by a dataplane that holds `current`.
    pub(crate) fn on_refused(&mut self, current: Generation, refusal: &Refusal) {
        self.on_answer(Answer::Refused(Refused::new(current, refusal)));
    }

    /// Over the contract's wire format as well. Were an answer lost in it, the agent would never be
    /// in step, which is looked for.
    fn on_answer(&mut self, answer: Answer) {
        let bytes = ProgramResponse::from(answer).encode_to_vec();
        let arrived = ProgramResponse::decode(bytes.as_slice()).ok();
        if let Some(answer) = arrived.and_then(|it| Answer::try_from(it).ok()) {
            self.core.on_answer(answer);
        }
    }
}

/// Of a pod's sandbox, as runtimes name it.
const PRIMARY: &str = "eth0";

/// A VF as a device plugin names it: 8 functions a device.
fn pci_address(index: u16) -> String {
    format!("0000:03:{:02x}.{}", index / 8, index % 8)
}

/// An agent's process begins. Its journal fits its VFs, which nothing changes.
fn start(setup: &NodeSetup, journal: Journal) -> Core {
    let vfs = setup.vfs.iter();
    let devices = DeviceNames {
        by_pci: vfs
            .map(|it| (pci_address(it.index), it.name.clone()))
            .collect(),
    };
    Core::new(setup.clone(), devices, journal).0
}

/// Whether an ADD was granted, and nothing of it has changed since.
fn is_answered(add: &AttachRequest, it: &Attachment) -> bool {
    it.is_of(&add.container, &add.ifname) && it.pod == add.pod && it.ips == add.ips
}
