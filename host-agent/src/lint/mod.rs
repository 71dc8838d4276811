//! What in manifests has no effect, or not the one that its author may think.
//!
//! Everything is about the pods, nodes and namespaces that these manifests have: a policy
//! for pods that are yet to come selects nothing today.

mod code;
mod hints;
mod open;
mod ports;
mod selectors;
mod shadowed;
mod view;

use core::fmt;

use serde::Serialize;

pub use code::{Code, CodeError, Level};

use crate::cluster::Cluster;
use crate::difference::Owners;
use view::View;

/// Something to look at.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Finding {
    /// The kind of finding.
    pub code: Code,
    /// The object: `NetworkPolicy shop/cart`.
    pub object: String,
    /// Where in it: `spec.ingress[0].from[1].podSelector`.
    pub path: String,
    /// What is there.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            code,
            object,
            path,
            message,
            ..
        } = self;
        write!(f, "{code} {object} {path}: {message}")
    }
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Linted {
    /// By object, place and code.
    pub findings: Vec<Finding>,
    /// Rules were not looked at for shadowing: the cluster has more flows that rules tell apart
    /// than [`FLOWS_MAX`].
    pub unfinished: bool,
}

/// Flows that are judged to find shadowed rules, at most: some ten seconds' worth.
pub const FLOWS_MAX: usize = 4_000_000;

/// Looks at everything.
#[must_use]
pub fn lint(cluster: &Cluster, owners: &Owners) -> Linted {
    let view = View::of(cluster, owners);
    let mut findings = Vec::new();
    for policy in &view.policies {
        selectors::subject(&view, policy, &mut findings);
        for rule in &policy.rules {
            selectors::peers(&view, policy, rule, &mut findings);
            ports::ports(&view, policy, rule, &mut findings);
        }
    }
    open::open(cluster, &view, &mut findings);
    let unfinished = !shadowed::shadowed(cluster, owners, &view, &mut findings);
    let key = |it: &Finding| (it.object.clone(), it.path.clone(), it.code);
    findings.sort_by_key(key);
    findings.dedup();
    Linted {
        findings,
        unfinished,
    }
}
