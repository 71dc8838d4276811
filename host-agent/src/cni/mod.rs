//! The chained CNI plugin: what a runtime asks, as what the agent is asked.
//!
//! Another plugin has made the interface; this one has the pod protected before the runtime
//! goes on, and changes nothing of the result. It keeps no state and needs no privilege but
//! the agent's socket.
//!
//! Specification: <https://www.cni.dev/docs/spec/>, versions 0.3.1 to 1.1.0.

mod config;
mod error;
mod prev;

use std::path::Path;
use std::time::Duration;

use serde_json::json;

pub use config::{CniConfig, Env};
pub use error::{CniCode, CniError};

use crate::agent::AttachRequest;
use crate::local::{ClientError, FaultKind, Request, Response, ask};

/// Versions of the specification that configurations may ask for.
pub const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// Runs one command of a runtime: what to print on stdout.
///
/// # Errors
/// [`CniError`], which is what to print instead.
pub fn run(env: &Env, stdin: &[u8]) -> Result<Vec<u8>, CniError> {
    run_with(env, stdin, &mut |config, request| {
        let timeout = Duration::from_millis(config.timeout_ms());
        ask(Path::new(config.socket()), request, timeout)
    })
}

type Agent<'a> = dyn FnMut(&CniConfig, Request) -> Result<Response, ClientError> + 'a;

/// The same with another way to the agent.
fn run_with(env: &Env, stdin: &[u8], agent: &mut Agent<'_>) -> Result<Vec<u8>, CniError> {
    if env.command == "VERSION" {
        let version = CniConfig::version_of(stdin)?;
        let answer = json!({"cniVersion": version, "supportedVersions": VERSIONS});
        return Ok(format!("{answer}\n").into_bytes());
    }
    if env.command.is_empty() {
        return Err(CniError::new(
            CniCode::Environment,
            "CNI_COMMAND is not set",
            "a container runtime runs this program; see docs/agent-config.md",
        ));
    }
    let config = CniConfig::parse(stdin)?;
    let asked = match env.command.as_str() {
        "ADD" => add(env, &config, agent),
        "DEL" => del(env, &config, agent),
        "CHECK" => check(env, &config, agent),
        "STATUS" => status(&config, agent),
        "GC" => gc(&config, agent),
        other => Err(CniError::new(
            CniCode::Environment,
            format!("CNI_COMMAND `{other}` is none that this plugin knows"),
            "ADD, DEL, CHECK, GC, STATUS and VERSION are",
        )),
    };
    asked.map_err(|error| error.in_version(&config.cni_version))
}

fn add(env: &Env, config: &CniConfig, agent: &mut Agent<'_>) -> Result<Vec<u8>, CniError> {
    env.check_attachment()?;
    let (raw, prev) = config.prev_result()?;
    let request = Request::Add(AttachRequest {
        container: env.container.clone(),
        ifname: env.ifname.clone(),
        pod: env.pod(config)?,
        uid: env.arg("K8S_POD_UID").map(Into::into),
        network: config.network().ok().map(str::to_owned),
        vf: config.vf_hint(&prev, &env.ifname)?,
        ips: prev.ips_of(&env.ifname),
    });
    match agent(config, request) {
        Ok(Response::Added { .. }) => Ok(format!("{raw}\n").into_bytes()),
        Ok(_) => Err(unexpected()),
        Err(error) => Err(fail("the pod is not attached", error)),
    }
}

/// Without an agent DEL fails, and the runtime asks again: if it succeeded, the agent would
/// go on to hold the VF for a pod that is gone, and its next pod would be refused.
fn del(env: &Env, config: &CniConfig, agent: &mut Agent<'_>) -> Result<Vec<u8>, CniError> {
    env.check_attachment()?;
    let request = Request::Del {
        container: env.container.clone(),
        ifname: env.ifname.clone(),
    };
    match agent(config, request) {
        Ok(Response::Deleted { .. }) => Ok(Vec::new()),
        Ok(_) => Err(unexpected()),
        Err(error) => Err(fail("the agent does not know that the pod is gone", error)),
    }
}

fn check(env: &Env, config: &CniConfig, agent: &mut Agent<'_>) -> Result<Vec<u8>, CniError> {
    env.check_attachment()?;
    if config.cni_version == "0.3.1" {
        return Err(CniError::new(
            CniCode::Version,
            "version 0.3.1 has no CHECK",
            "set cniVersion to 0.4.0 or later",
        ));
    }
    let (_, prev) = config.prev_result()?;
    let request = Request::Check {
        container: env.container.clone(),
        ifname: env.ifname.clone(),
        ips: prev.ips_of(&env.ifname),
    };
    match agent(config, request) {
        Ok(Response::Checked) => Ok(Vec::new()),
        Ok(_) => Err(unexpected()),
        Err(error) => Err(fail("the pod is not protected as it was added", error)),
    }
}

fn status(config: &CniConfig, agent: &mut Agent<'_>) -> Result<Vec<u8>, CniError> {
    match agent(config, Request::Ready) {
        Ok(Response::Ready) => Ok(Vec::new()),
        Ok(_) => Err(unexpected()),
        Err(error) => {
            let details = error.to_string();
            let text = "no pod can be attached now";
            Err(CniError::new(CniCode::NotAvailable, text, details))
        }
    }
}

/// What a runtime no longer lists had its DEL lost, when a machine went down for example.
fn gc(config: &CniConfig, agent: &mut Agent<'_>) -> Result<Vec<u8>, CniError> {
    let keep = config.valid_attachments()?;
    let network = config.network()?.to_owned();
    match agent(config, Request::Gc { network, keep }) {
        Ok(Response::Collected { .. }) => Ok(Vec::new()),
        Ok(_) => Err(unexpected()),
        Err(error) => Err(fail("nothing is collected", error)),
    }
}

fn unexpected() -> CniError {
    CniError::new(
        CniCode::Io,
        "the agent answered something else than was asked",
        "are plugin and agent of one version?",
    )
}

fn fail(what: &str, error: ClientError) -> CniError {
    let code = match &error {
        ClientError::Fault(fault) => match fault.kind {
            FaultKind::Refused | FaultKind::Request => CniCode::Refused,
            FaultKind::Unavailable => CniCode::TryAgain,
            FaultKind::Internal => CniCode::Io,
        },
        ClientError::Nonsense { .. } => CniCode::Io,
        ClientError::Connect { .. } | ClientError::Io { .. } | ClientError::HungUp => {
            CniCode::TryAgain
        }
    };
    CniError::new(code, what, error.to_string())
}

#[cfg(test)]
mod tests;
