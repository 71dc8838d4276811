//! CNI's three verbs on the agent's state.

use core::fmt;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};
use sluice_offload_api::limits::IPS_PER_ENDPOINT_MAX;
use sluice_offload_api::model::{EndpointKey, MacAddr, PodRef, PodUid, PortName};

use super::subjects::unnamed_uid;
use super::{Agent, Attachment, Departure, Standing, StateFault};
use crate::vf::{VfError, VfSlot};

/// How a runtime says which VF it is; the first that is given decides.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VfHint {
    /// The dataplane's port.
    #[serde(default)]
    pub port: Option<PortName>,
    /// The VF's PCI address, as a device plugin gives it.
    #[serde(default)]
    pub device: Option<String>,
    /// The interface's MAC, as an earlier plugin reported it: `02:00:00:00:00:07`.
    #[serde(default)]
    pub mac: Option<String>,
}

/// What ADD asks for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachRequest {
    /// The runtime's name of the sandbox.
    pub container: String,
    /// The interface inside.
    pub ifname: String,
    /// The pod.
    pub pod: PodRef,
    /// Its UID, if the runtime knows it.
    #[serde(default)]
    pub uid: Option<PodUid>,
    /// The runtime's network, if it has a name for it.
    #[serde(default)]
    pub network: Option<String>,
    /// Which VF.
    pub vf: VfHint,
    /// The addresses that earlier plugins gave the interface.
    #[serde(default)]
    pub ips: Vec<IpAddr>,
}

/// What ADD did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attached {
    /// The pod's UID, under which its binding is.
    pub uid: PodUid,
    /// How it stands with the manifests.
    pub standing: Standing,
    /// Whether this call made the binding, so that giving up takes it back.
    pub fresh: bool,
}

/// Why a pod was not attached; nothing has changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AttachError {
    /// There never were good manifests.
    #[error("the agent has no manifests yet: {why}")]
    NoManifests {
        /// Why.
        why: String,
    },
    /// Nothing says which VF.
    #[error(
        "nothing says which VF pod {pod} has; give deviceID or port, or let an earlier \
         plugin report the interface's MAC"
    )]
    NoHint {
        /// The pod.
        pod: PodRef,
    },
    /// No VF by that name.
    #[error("no VF of this node has {hint}; name it under vfs in the agent's configuration")]
    UnknownVf {
        /// What was given.
        hint: String,
    },
    /// The interface isn't the VF that was named.
    #[error("VF {port} has MAC {has}, but the interface of pod {pod} has {given}")]
    OtherMac {
        /// The VF's port.
        port: PortName,
        /// The VF's, by configuration.
        has: MacAddr,
        /// The interface's.
        given: String,
        /// The pod.
        pod: PodRef,
    },
    /// More than an endpoint may have.
    #[error("pod {pod} has {count} addresses; at most {IPS_PER_ENDPOINT_MAX} can be guarded")]
    TooManyIps {
        /// The pod.
        pod: PodRef,
        /// How many.
        count: usize,
    },
    /// Not a name, or too long.
    #[error("`{text}` is no {what}")]
    Name {
        /// What it should be.
        what: &'static str,
        /// What was given.
        text: String,
    },
    /// The VF, the pod or an address is bound otherwise.
    #[error(transparent)]
    Vf(#[from] VfError),
    /// With it there is no state for the dataplane.
    #[error(transparent)]
    State(#[from] StateFault),
}

/// Why CHECK fails.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckError {
    /// ADD never was, or DEL was.
    #[error("container {container} has no VF under {ifname}")]
    NotAttached {
        /// The sandbox.
        container: String,
        /// The interface.
        ifname: String,
    },
    /// The addresses aren't those of ADD.
    #[error("the interface has {given}, but was attached with {attached}")]
    Ips {
        /// As reported now.
        given: Ips,
        /// As at ADD.
        attached: Ips,
    },
    /// The dataplane isn't known to enforce what the agent wants.
    #[error("the dataplane is not in step: {why}")]
    NotSettled {
        /// Why.
        why: String,
    },
}

/// Addresses as people see them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ips(pub Vec<IpAddr>);

impl fmt::Display for Ips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no address");
        }
        let ips: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&ips.join(", "))
    }
}

/// Departures that are remembered, at most; the oldest is forgotten first. A node has some hundred
/// pods, and a watch that is a day late misses a few generations of them.
const DEPARTURES_MAX: usize = 1024;

/// Bytes of a sandbox's, interface's or object's name, at most.
const NAME_LEN_MAX: usize = 253;

impl Agent {
    /// Gives a pod its VF. The dataplane protects it once [`Agent::is_settled`].
    /// The same again is no fault.
    ///
    /// # Errors
    /// [`AttachError`]; nothing has changed then.
    pub fn attach(&mut self, request: &AttachRequest) -> Result<Attached, AttachError> {
        named("container ID", &request.container)?;
        named("interface name", &request.ifname)?;
        named("namespace", &request.pod.namespace)?;
        named("pod name", &request.pod.name)?;
        let uid = request
            .uid
            .clone()
            .unwrap_or_else(|| unnamed_uid(&request.pod));
        named("pod UID", &uid.0)?;
        if let Some(network) = &request.network {
            named("network name", network)?;
        }
        if self.cluster.is_none() {
            let why = self.source_fault.clone();
            let why = why.unwrap_or_else(|| "they are still being read".to_owned());
            return Err(AttachError::NoManifests { why });
        }
        let port = self.slot(request)?.name.clone();
        if request.ips.len() > IPS_PER_ENDPOINT_MAX {
            let (pod, count) = (request.pod.clone(), request.ips.len());
            return Err(AttachError::TooManyIps { pod, count });
        }
        let before = (
            self.vfs.clone(),
            self.attachments.clone(),
            self.departures.clone(),
        );
        let key = EndpointKey {
            pod_uid: uid.clone(),
            interface: request.ifname.clone(),
        };
        self.vfs
            .bind_interface(&key, &request.pod, &request.ips, &port, &self.setup.vfs)?;
        let fresh = !self.attachments.iter().any(|it| it.key() == key);
        self.attachments.retain(|it| it.key() != key);
        self.departures
            .retain(|it| it.uid != uid || it.ifname != request.ifname);
        self.attachments.push(Attachment {
            container: request.container.clone(),
            ifname: request.ifname.clone(),
            uid: uid.clone(),
            pod: request.pod.clone(),
            port,
            network: request.network.clone(),
            ips: request.ips.clone(),
        });
        self.recompile();
        if let Some(error) = self.compile_fault.clone() {
            (self.vfs, self.attachments, self.departures) = before;
            self.recompile();
            return Err(error.into());
        }
        let standing = self.subjects.standings.get(&key).cloned();
        let standing = standing.unwrap_or(Standing::NoManifest);
        Ok(Attached {
            uid,
            standing,
            fresh,
        })
    }

    /// Takes back what ADD gave this container; `None` if it has nothing, which is no fault.
    /// A pod that has another sandbox by now keeps its VF.
    pub fn detach(&mut self, container: &str, ifname: &str) -> Option<Attachment> {
        let index = self
            .attachments
            .iter()
            .position(|it| it.is_of(container, ifname))?;
        let gone = self.attachments.remove(index);
        self.part_from(&gone);
        self.recompile();
        Some(gone)
    }

    /// Takes back what containers of a network have that the runtime no longer lists, by
    /// container and interface. What was taken back.
    pub fn collect(&mut self, network: &str, keep: &[(String, String)]) -> Vec<Attachment> {
        let listed = |it: &Attachment| {
            keep.iter()
                .any(|(container, ifname)| it.is_of(container, ifname))
        };
        let gone: Vec<_> = self
            .attachments
            .iter()
            .filter(|it| it.network.as_deref() == Some(network) && !listed(it))
            .cloned()
            .collect();
        for it in &gone {
            self.attachments.retain(|other| other != it);
            self.part_from(it);
        }
        if !gone.is_empty() {
            self.recompile();
        }
        gone
    }

    /// Whether ADD still holds.
    ///
    /// # Errors
    /// [`CheckError`].
    pub fn check(&self, container: &str, ifname: &str, ips: &[IpAddr]) -> Result<(), CheckError> {
        let attached = self
            .attachments
            .iter()
            .find(|it| it.is_of(container, ifname));
        let attached = attached.ok_or_else(|| CheckError::NotAttached {
            container: container.to_owned(),
            ifname: ifname.to_owned(),
        })?;
        let same =
            ips.len() == attached.ips.len() && ips.iter().all(|ip| attached.ips.contains(ip));
        if !ips.is_empty() && !same {
            let (given, attached) = (Ips(ips.to_vec()), Ips(attached.ips.clone()));
            return Err(CheckError::Ips { given, attached });
        }
        if !self.is_settled() {
            return Err(CheckError::NotSettled {
                why: self.unsettled(),
            });
        }
        Ok(())
    }

    /// Why the dataplane isn't in step, for people.
    #[must_use]
    pub fn unsettled(&self) -> String {
        if let Some(refused) = self.held() {
            return format!("it refused: {refused}");
        }
        match (self.is_connected(), self.reconciler.in_flight()) {
            (false, _) => "it is not connected".to_owned(),
            (true, Some(generation)) => format!("generation {generation} is not acknowledged"),
            (true, None) => "nothing was sent yet".to_owned(),
        }
    }

    /// Releases the VF, and remembers that the pod doesn't have it any more. By its name alone a
    /// pod isn't known from the next one of that name.
    pub(super) fn part_from(&mut self, gone: &Attachment) {
        self.vfs.release_interface(&gone.key());
        if gone.uid == unnamed_uid(&gone.pod) {
            return;
        }
        self.departures.push(Departure {
            uid: gone.uid.clone(),
            pod: gone.pod.clone(),
            ifname: gone.ifname.clone(),
            ips: self.subjects.ips_of(gone),
        });
        let many = self.departures.len().saturating_sub(DEPARTURES_MAX);
        self.departures.drain(..many);
    }

    fn slot(&self, request: &AttachRequest) -> Result<&VfSlot, AttachError> {
        let unknown = |hint: String| AttachError::UnknownVf { hint };
        let by_name = |name: &PortName| self.setup.vfs.iter().find(|it| it.name == *name);
        let VfHint { port, device, mac } = &request.vf;
        let slot = if let Some(port) = port {
            by_name(port).ok_or_else(|| unknown(format!("port {port}")))?
        } else if let Some(device) = device {
            let port = self.devices.by_pci.get(&device.to_ascii_lowercase());
            port.and_then(by_name)
                .ok_or_else(|| unknown(format!("device {device}")))?
        } else if let Some(mac) = mac {
            let slot = self.setup.vfs.iter().find(|it| same_mac(it, mac));
            slot.ok_or_else(|| unknown(format!("MAC {mac}")))?
        } else {
            return Err(AttachError::NoHint {
                pod: request.pod.clone(),
            });
        };
        match mac {
            // Its frames would all be dropped as spoofed: better said now.
            Some(mac) if !same_mac(slot, mac) => Err(AttachError::OtherMac {
                port: slot.name.clone(),
                has: slot.mac,
                given: mac.clone(),
                pod: request.pod.clone(),
            }),
            _ => Ok(slot),
        }
    }
}

fn same_mac(slot: &VfSlot, mac: &str) -> bool {
    slot.mac.to_string() == mac.to_ascii_lowercase()
}

fn named(what: &'static str, text: &str) -> Result<(), AttachError> {
    if text.is_empty() || text.len() > NAME_LEN_MAX || text.chars().any(char::is_control) {
        let text = text
            .chars()
            .filter(|it| !it.is_control())
            .take(64)
            .collect();
        return Err(AttachError::Name { what, text });
    }
    Ok(())
}
