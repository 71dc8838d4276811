//! Static mode: the agent's own compiler makes the state, once, from files.

use std::collections::BTreeSet;
use std::net::IpAddr;

use miette::Diagnostic;
use sluice_dataplane_core::sad::Mode;
use sluice_host_agent::agent::Loosened;
use sluice_host_agent::cluster::{EncryptionSetup, Node};
use sluice_host_agent::compile::{CompileError, compile};
use sluice_host_agent::identity::IdentityTable;
use sluice_host_agent::manifest::{LoadError, load_dir};
use sluice_host_agent::vf::{VfError, VfTable};
use sluice_offload_api::model::{Generation, NodeName, PodRef};
use sluice_offload_api::{Limits, Refusal, State, Transaction};

use crate::config::StaticConfig;

/// Why the files make no state.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum StaticError {
    /// A manifest is at fault.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Manifests(#[from] LoadError),
    /// A pod that is bound isn't in the manifests.
    #[error("pod {pod} is bound to a port, and no manifest has it")]
    NoPod {
        /// The pod.
        pod: PodRef,
    },
    /// A pod that is bound wouldn't be an endpoint: its port would stay closed in silence.
    #[error(
        "pod {pod} is bound to a port and is not a pod of this node with an address: \
         see its spec.nodeName and status.podIPs"
    )]
    NotHere {
        /// The pod.
        pod: PodRef,
    },
    /// A VF.
    #[error(transparent)]
    Vf(#[from] VfError),
    /// The compiler.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The contract.
    #[error("the files make a state that the dataplane refuses: {0}")]
    Refused(#[from] Refusal),
    /// An SA of a node that no generation will know.
    #[error("an SA is for node {node}, which is no peer: give its tunnel_ips")]
    NoPeer {
        /// The node.
        node: NodeName,
    },
    /// An SA of transport mode with a node that has no address to be spoken to at.
    #[error(
        "an SA of mode transport is with node {node}, and none of its tunnel_ips is an InternalIP \
         of that node: it protects packets between pods and an address that is both"
    )]
    NoHost {
        /// The node.
        node: NodeName,
    },
    /// An SA of transport mode for who isn't here.
    #[error(
        "an SA of mode transport is for {pod}, which is no address of a pod under `static.pods`"
    )]
    NoPodAddress {
        /// The address.
        pod: IpAddr,
    },
    /// It would never be used.
    #[error(
        "an SA of mode transport is for {pod}, and packets to node {node} go to the first of its \
         tunnel_ips, which is of another family"
    )]
    PodFamily {
        /// The peer.
        node: NodeName,
        /// The pod's address.
        pod: IpAddr,
    },
}

/// What the files of static mode make.
#[derive(Debug)]
pub struct Statics {
    /// The one transaction, generation 1, already checked whole.
    pub transaction: Transaction,
    /// Between whom transport mode can be.
    pub ends: TransportEnds,
}

/// Between whom transport mode can be.
#[derive(Clone, Debug, Default)]
pub struct TransportEnds {
    /// Peers with a tunnel address that is also their own.
    pub hosts: BTreeSet<NodeName>,
    /// Addresses of this node's pods.
    pub pods: BTreeSet<IpAddr>,
}

/// Reads the files.
///
/// # Errors
/// [`StaticError`].
pub fn read(config: &StaticConfig) -> Result<Statics, StaticError> {
    let loaded = load_dir(&config.manifests)?;
    for note in &loaded.notes {
        tracing::warn!("{note}");
    }
    let mut cluster = loaded.cluster;
    cluster.pod_cidrs.clone_from(&config.pod_cidrs);
    let encryption = &config.setup.encryption;
    for told in encryption.overruled(&cluster) {
        tracing::warn!("{told}");
    }
    for (node, tunnel_ips) in &config.peers {
        let mut known = cluster.nodes.get(node).cloned().unwrap_or_default();
        known.tunnel_ips.clone_from(tunnel_ips);
        cluster.nodes.insert(node.clone(), known);
    }
    let mut vfs = VfTable::default();
    for (name, port) in &config.pods {
        let pod = cluster.pods.get(name);
        let pod = pod.ok_or_else(|| StaticError::NoPod { pod: name.clone() })?;
        vfs.bind(&pod.uid, name, &pod.ips, port, &config.setup.vfs)?;
    }
    let mut state = compile(&cluster, &config.setup, &vfs, &mut IdentityTable::default())?;
    for (pod, _) in &config.pods {
        if !state.endpoints.values().any(|it| it.pod == *pod) {
            return Err(StaticError::NotHere { pod: pod.clone() });
        }
    }
    let is_host = |it: &Node| it.tunnel_ips.iter().any(|ip| it.ips.contains(ip));
    let hosts = cluster.nodes.iter().filter(|(_, it)| is_host(it));
    let hosts: BTreeSet<_> = hosts.map(|(name, _)| name.clone()).collect();
    let own = state.endpoints.values().flat_map(|it| &it.ips);
    let pods: BTreeSet<IpAddr> = own.copied().collect();
    for sa in &config.sas {
        if state.peers.get(&sa.peer).is_none_or(|it| it.unprotected) {
            return Err(StaticError::NoPeer {
                node: sa.peer.clone(),
            });
        }
        if let Mode::Transport { pod } = sa.config.mode {
            if !hosts.contains(&sa.peer) {
                return Err(StaticError::NoHost {
                    node: sa.peer.clone(),
                });
            }
            let pod = IpAddr::from(pod);
            if !pods.contains(&pod) {
                return Err(StaticError::NoPodAddress { pod });
            }
            let first = cluster.nodes.get(&sa.peer);
            let first = first.and_then(|it| it.tunnel_ips.first());
            if first.is_some_and(|it| it.is_ipv4() != pod.is_ipv4()) {
                return Err(StaticError::PodFamily {
                    node: sa.peer.clone(),
                    pod,
                });
            }
        }
    }
    tell_downgrades(encryption, &state);
    state.generation = Generation(1);
    state.validate(&Limits::MAX)?;
    Ok(Statics {
        transaction: state.to_snapshot(),
        ends: TransportEnds { hosts, pods },
    })
}

/// Tells of every setting that lets something go in clear, as an agent would.
fn tell_downgrades(setup: &EncryptionSetup, state: &State) {
    let default = setup.of_nodes();
    if !default.is_required() {
        tracing::warn!(%default, "`encryption.default` lets packets between nodes go in clear");
    }
    let news = Loosened::default().note(setup, state);
    for (identity, setting) in news.named {
        tracing::warn!(
            identity,
            %setting,
            %default,
            "encryption is looser than the default, as an annotation asks"
        );
    }
    if news.more > 0 {
        let more = news.more;
        tracing::warn!(more, %default, "more identities have a setting that is looser");
    }
}
