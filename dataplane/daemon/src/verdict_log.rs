//! Verdicts as JSON lines: pod, peer, rule, reason.
//!
//! The control thread never waits for the file: lines go over a bounded queue to a thread
//! that writes. What is over a port's rate, or doesn't fit in the queue, is left out and
//! counted; the next line that is written says how many.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::thread::{Builder, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::Serialize;
use sluice_dataplane_control::VerdictLine;
use sluice_dataplane_core::tick::Tick;
use sluice_offload_api::State;
use sluice_offload_api::model::{FlowEnd, IpPrefix, PortName, ShadowRuling};

use crate::config::VerdictLogConfig;

/// Lines on the way to the file, at most.
const LINES_MAX: usize = 4096;

/// The file can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("can't open the verdict log {}: {error}", path.display())]
pub struct VerdictLogError {
    /// Its path.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

/// A log.
#[derive(Debug)]
pub struct VerdictLog {
    allowed: bool,
    per_second: u32,
    budgets: BTreeMap<Option<PortName>, Budget>,
    suppressed: u64,
    /// Of those, the ones that no line has told of.
    untold: u64,
    lines: Option<Sender<String>>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug)]
struct Budget {
    second: u64,
    left: u32,
}

/// A line, as it stands in the log.
#[derive(Debug, Serialize)]
struct Line<'a> {
    unix_ms: u64,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    generation: u64,
    port: Option<&'a PortName>,
    from: String,
    to: String,
    protocol: u8,
    src: String,
    src_port: u16,
    dst: String,
    dst_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    egress: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ingress: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow_egress: Option<&'a ShadowRuling>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow_ingress: Option<&'a ShadowRuling>,
    #[serde(skip_serializing_if = "Option::is_none")]
    way: Option<&'a FlowEnd>,
    #[serde(skip_serializing_if = "is_zero")]
    suppressed_before: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl VerdictLog {
    /// Opens the file and starts the thread that writes.
    ///
    /// # Errors
    /// [`VerdictLogError`].
    pub fn open(config: &VerdictLogConfig) -> Result<Self, VerdictLogError> {
        let failed = |error| VerdictLogError {
            path: config
                .path
                .clone()
                .unwrap_or_else(|| "standard error".into()),
            error,
        };
        let out: Box<dyn Write + Send> = match &config.path {
            None => Box::new(io::stderr()),
            Some(path) => {
                let file = OpenOptions::new().append(true).create(true).open(path);
                Box::new(file.map_err(failed)?)
            }
        };
        let (lines, to_write) = bounded(LINES_MAX);
        let writer = Builder::new()
            .name("sluice-verdicts".to_owned())
            .spawn(move || write(&to_write, out))
            .map_err(failed)?;
        Ok(Self {
            allowed: config.allowed,
            per_second: config.per_second,
            budgets: BTreeMap::new(),
            suppressed: 0,
            untold: 0,
            lines: Some(lines),
            writer: Some(writer),
        })
    }

    /// Lines that were left out.
    #[must_use]
    pub const fn suppressed(&self) -> u64 {
        self.suppressed
    }

    /// Writes a verdict, if it is of a kind that is asked for and its port has budget left.
    pub fn note(&mut self, verdict: &VerdictLine, state: &State) {
        if verdict.denied.is_none() && !self.allowed {
            return;
        }
        let second = verdict.at.0 / Tick::SECOND;
        let fresh = Budget {
            second,
            left: self.per_second,
        };
        let budget = self.budgets.entry(verdict.port.clone()).or_insert(fresh);
        if budget.second != second {
            *budget = fresh;
        }
        let Some(left) = budget.left.checked_sub(1) else {
            self.leave_out();
            return;
        };
        budget.left = left;
        let line = line(verdict, state, self.untold);
        let Ok(text) = serde_json::to_string(&line) else {
            return;
        };
        match self.lines.as_ref().map(|it| it.try_send(text)) {
            Some(Ok(())) => self.untold = 0,
            _ => self.leave_out(),
        }
    }

    const fn leave_out(&mut self) {
        self.suppressed += 1;
        self.untold += 1;
    }
}

impl Drop for VerdictLog {
    fn drop(&mut self) {
        // The writer ends when the queue has no sender and is empty.
        self.lines = None;
        if let Some(writer) = self.writer.take() {
            drop(writer.join());
        }
    }
}

fn write(lines: &Receiver<String>, mut out: Box<dyn Write + Send>) {
    let mut failed = false;
    for line in lines {
        let written = writeln!(out, "{line}").and_then(|()| out.flush());
        if let Err(error) = written
            && !failed
        {
            failed = true;
            tracing::error!(%error, "the verdict log can't be written; it goes on trying");
        }
    }
}

fn line<'a>(verdict: &'a VerdictLine, state: &State, suppressed_before: u64) -> Line<'a> {
    let tuple = verdict.tuple;
    let (src, dst) = (
        core::net::IpAddr::from(tuple.src),
        core::net::IpAddr::from(tuple.dst),
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Line {
        unix_ms: now.map_or(0, |it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX)),
        verdict: if verdict.denied.is_some() {
            "deny"
        } else {
            "allow"
        },
        reason: verdict.denied.map(|it| it.name()),
        generation: verdict.generation.0,
        port: verdict.port.as_ref(),
        from: who(state, src),
        to: who(state, dst),
        protocol: tuple.protocol,
        src: src.to_string(),
        src_port: tuple.src_port,
        dst: dst.to_string(),
        dst_port: tuple.dst_port,
        egress: verdict.egress.as_deref(),
        ingress: verdict.ingress.as_deref(),
        shadow_egress: verdict.shadow_egress.as_ref(),
        shadow_ingress: verdict.shadow_ingress.as_ref(),
        way: verdict.to.as_ref(),
        suppressed_before,
    }
}

/// A pod of this node by its name, anyone else by the label of the identity.
fn who(state: &State, ip: core::net::IpAddr) -> String {
    if let Some(endpoint) = state.endpoints.values().find(|it| it.ips.contains(&ip)) {
        return endpoint.name();
    }
    // The longest first; the prefixes are a map, not a trie, and this is not the fast path.
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    let longest = (0..=bits)
        .rev()
        .filter_map(|len| IpPrefix::masked(ip, len).ok())
        .find_map(|prefix| state.prefixes.get(&prefix));
    let label = longest
        .and_then(|it| state.identities.get(&it.identity))
        .map(|it| &it.label);
    label.cloned().unwrap_or_else(|| "unknown".to_owned())
}
