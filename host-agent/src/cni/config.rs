//! What a runtime gives: environment and configuration.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use sluice_offload_api::model::{PodRef, PortName};

use super::VERSIONS;
use super::error::{CniCode, CniError};
use super::prev::PrevResult;
use crate::agent::VfHint;
use crate::local::SOCKET;

/// How long the agent is waited for if nothing is said, in milliseconds. Longer than the
/// agent waits for its dataplane, so that the agent can take back what it began.
const TIMEOUT_MS: u64 = 20_000;
/// At most: a runtime gives up too.
const TIMEOUT_MS_MAX: u64 = 600_000;
/// The namespace of a pod whose runtime knows none.
const NAMESPACE: &str = "default";

/// The environment of one run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Env {
    /// `CNI_COMMAND`.
    pub command: String,
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_ARGS`: `K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart`.
    pub args: String,
}

impl Env {
    /// That of this process.
    #[must_use]
    pub fn from_process() -> Self {
        let var = |name| std::env::var(name).unwrap_or_default();
        Self {
            command: var("CNI_COMMAND"),
            container: var("CNI_CONTAINERID"),
            ifname: var("CNI_IFNAME"),
            args: var("CNI_ARGS"),
        }
    }

    /// One of `CNI_ARGS`.
    pub(super) fn arg(&self, name: &str) -> Option<&str> {
        let pairs = self.args.split(';').filter_map(|it| it.split_once('='));
        let mut values = pairs
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value);
        values.next().filter(|it| !it.is_empty())
    }

    /// The pod. A runtime without pods has containers: one is a pod of its name.
    pub(super) fn pod(&self, config: &CniConfig) -> Result<PodRef, CniError> {
        let given = self
            .arg("K8S_POD_NAMESPACE")
            .or(config.namespace.as_deref());
        let pod = PodRef {
            namespace: given.unwrap_or(NAMESPACE).to_owned(),
            name: self
                .arg("K8S_POD_NAME")
                .unwrap_or(&self.container)
                .to_owned(),
        };
        let slash = |it: &str| it.contains('/');
        if slash(&pod.namespace) || slash(&pod.name) {
            let text = format!("`{pod}` names no pod");
            let details = "K8S_POD_NAMESPACE and K8S_POD_NAME in CNI_ARGS have no slash";
            return Err(CniError::new(CniCode::Environment, text, details));
        }
        Ok(pod)
    }

    /// Whether the names of sandbox and interface are what the specification allows.
    pub(super) fn check_attachment(&self) -> Result<(), CniError> {
        let wrong = |name: &str, value: &str, rule: &str| {
            let text = match value {
                "" => format!("{name} is not set"),
                value => format!("{name} `{value}` is not valid"),
            };
            Err(CniError::new(CniCode::Environment, text, rule))
        };
        let id = &self.container;
        let in_id = |it: char| it.is_ascii_alphanumeric() || "_.-".contains(it);
        if !id.starts_with(|it: char| it.is_ascii_alphanumeric()) || !id.chars().all(in_id) {
            let rule = "letters, digits, `_`, `.` and `-`, a letter or digit first";
            return wrong("CNI_CONTAINERID", id, rule);
        }
        let name = &self.ifname;
        let bad = |it: char| it == '/' || it == ':' || it.is_whitespace() || it.is_control();
        if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.contains(bad) {
            let rule = "up to 15 bytes without `/`, `:` and spaces";
            return wrong("CNI_IFNAME", name, rule);
        }
        Ok(())
    }
}

/// This plugin's entry in a network's configuration. Keys of the runtime and of others are
/// left alone.
#[derive(Debug, Deserialize)]
pub struct CniConfig {
    #[serde(rename = "cniVersion")]
    pub(super) cni_version: String,
    name: Option<String>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<ValidAttachment>>,
    #[serde(rename = "prevResult")]
    prev_result: Option<Box<RawValue>>,
    /// The VF's PCI address, as Multus hands it to sriov-cni.
    #[serde(rename = "deviceID")]
    device_id: Option<String>,
    #[serde(rename = "runtimeConfig", default)]
    runtime: RuntimeConfig,
    /// The dataplane's port, where a network has one pod only.
    port: Option<String>,
    /// Ports by the name of an interface of `prevResult`, or by device.
    #[serde(default)]
    ports: BTreeMap<String, String>,
    namespace: Option<String>,
    socket: Option<String>,
    #[serde(rename = "timeoutMs")]
    timeout_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct ValidAttachment {
    #[serde(rename = "containerID")]
    container: String,
    ifname: String,
}

#[derive(Debug, Default, Deserialize)]
struct RuntimeConfig {
    #[serde(rename = "deviceID")]
    device_id: Option<String>,
}

#[derive(Deserialize)]
struct OnlyVersion {
    #[serde(rename = "cniVersion")]
    cni_version: Option<String>,
}

impl CniConfig {
    /// The version that VERSION asks with. Whatever else is there may be a dummy.
    pub(super) fn version_of(stdin: &[u8]) -> Result<String, CniError> {
        if stdin.iter().all(u8::is_ascii_whitespace) {
            return Ok("1.0.0".to_owned());
        }
        let only: OnlyVersion = serde_json::from_slice(stdin).map_err(decode)?;
        Ok(only.cni_version.unwrap_or_else(|| "1.0.0".to_owned()))
    }

    pub(super) fn parse(stdin: &[u8]) -> Result<Self, CniError> {
        let version = Self::version_of(stdin)?;
        if !VERSIONS.contains(&version.as_str()) {
            let text = format!("cniVersion {version} is not supported");
            let details = format!("set it to one of {}", VERSIONS.join(", "));
            return Err(CniError::new(CniCode::Version, text, details));
        }
        let config: Self =
            serde_json::from_slice(stdin).map_err(|error| decode(error).in_version(&version))?;
        if config
            .timeout_ms
            .is_some_and(|it| it == 0 || it > TIMEOUT_MS_MAX)
        {
            let text = "timeoutMs is out of range";
            let details = format!("1 to {TIMEOUT_MS_MAX} milliseconds");
            return Err(CniError::new(CniCode::Config, text, details).in_version(&version));
        }
        Ok(config)
    }

    /// The network's name.
    pub(super) fn network(&self) -> Result<&str, CniError> {
        self.name.as_deref().ok_or_else(|| {
            let details = "name is required in every network's configuration";
            CniError::new(CniCode::Config, "the network has no name", details)
        })
    }

    /// What GC is to keep. A list that isn't there is not an empty one.
    pub(super) fn valid_attachments(&self) -> Result<Vec<(String, String)>, CniError> {
        let Some(list) = &self.valid_attachments else {
            let text = "GC without cni.dev/valid-attachments would take everything back";
            let details = "the runtime must list what it has";
            return Err(CniError::new(CniCode::Config, text, details));
        };
        let pair = |it: &ValidAttachment| (it.container.clone(), it.ifname.clone());
        Ok(list.iter().map(pair).collect())
    }

    /// The agent's socket.
    pub(super) fn socket(&self) -> &str {
        self.socket.as_deref().unwrap_or(SOCKET)
    }

    /// How long the agent is waited for, in milliseconds.
    pub(super) fn timeout_ms(&self) -> u64 {
        self.timeout_ms.unwrap_or(TIMEOUT_MS)
    }

    /// What came before, as it is and as it is understood.
    pub(super) fn prev_result(&self) -> Result<(&str, PrevResult), CniError> {
        let Some(raw) = &self.prev_result else {
            return Err(CniError::new(
                CniCode::Config,
                "there is no prevResult",
                "put this plugin behind the one that makes the interface, in one list",
            ));
        };
        let prev = serde_json::from_str(raw.get()).map_err(|error| {
            CniError::new(
                CniCode::Decode,
                "prevResult can't be read",
                error.to_string(),
            )
        })?;
        Ok((raw.get(), prev))
    }

    /// What says which VF it is: a port, a device, the interface's MAC.
    pub(super) fn vf_hint(&self, prev: &PrevResult, ifname: &str) -> Result<VfHint, CniError> {
        let device = self.runtime.device_id.as_ref().or(self.device_id.as_ref());
        let names = prev.interfaces.iter().map(|it| &it.name).chain(device);
        let mut mapped: Vec<_> = names.filter_map(|it| self.ports.get(it)).collect();
        mapped.sort();
        mapped.dedup();
        if let [one, other, ..] = mapped.as_slice() {
            let text = format!("ports names both {one} and {other} for this pod");
            let details = "name only the interface that is the VF or its representor";
            return Err(CniError::new(CniCode::Config, text, details));
        }
        let port = self.port.as_ref().or(mapped.first().copied());
        let mac = prev.inside(ifname).map(|it| it.mac.clone());
        Ok(VfHint {
            port: port.map(|it| PortName(it.clone())),
            device: device.cloned(),
            mac: mac.filter(|it| !it.is_empty()),
        })
    }
}

fn decode(error: serde_json::Error) -> CniError {
    let text = "the configuration on stdin can't be read";
    CniError::new(CniCode::Decode, text, error.to_string())
}
