//! Every flow that rules of one cluster can tell apart, at one of its ends.

use core::net::IpAddr;

use sluice_offload_api::model::{Direction, Protocol};

use super::classes::{Class, Half, classes};
use super::judge::{Ready, pod};
use super::{AFTER, Comparison};
use crate::cluster::{Cluster, Pod};
use crate::evaluate::{KnownNames, Query};

/// A cluster's flows.
pub(crate) struct Points<'a> {
    comparison: &'a Comparison,
    classes: &'a [Class],
}

/// Who may be an end of flows.
pub(crate) struct Ends(Vec<Class>);

impl Comparison {
    /// Who may be an end.
    pub(crate) fn ends(&self) -> Ends {
        Ends(classes(&self.folders, &self.blocks))
    }

    /// The flows of the folder after.
    pub(crate) fn points<'a>(&'a self, ends: &'a Ends) -> Points<'a> {
        Points {
            comparison: self,
            classes: &ends.0,
        }
    }
}

impl<'a> Points<'a> {
    /// The objects that they are judged by, with one pod for each identity.
    pub(crate) fn cluster(&self) -> &'a Cluster {
        &self.comparison.folders[AFTER].reduced
    }

    /// Visits the flows of pods that `is_subject` says, each at that end, until `visit` says
    /// that it is enough.
    pub(crate) fn visit(
        &self,
        direction: Direction,
        is_subject: &dyn Fn(&Pod, IpAddr) -> bool,
        visit: &mut dyn FnMut(&Query, &KnownNames) -> bool,
    ) {
        let folders = &self.comparison.folders;
        let ready: Vec<_> = self
            .classes
            .iter()
            .map(|it| Ready::new(it, folders))
            .collect();
        let subject = |it: &&Ready<'_>| {
            let half = it.class.halves[AFTER].as_ref();
            let pod = half.and_then(|half| Some((pod(self.cluster(), &half.party)?, half.ip)));
            pod.is_some_and(|(pod, ip)| is_subject(pod, ip))
        };
        for own in ready.iter().filter(subject) {
            for other in &ready {
                let (from, to) = match direction {
                    Direction::Ingress => (other, own),
                    Direction::Egress => (own, other),
                };
                let asks = !from.class.is_named();
                if !asks || !from.class.reaches(to.class) {
                    continue;
                }
                let halves = (&from.class.halves[AFTER], &to.class.halves[AFTER]);
                let (Some(from_half), Some(to_half)) = halves else {
                    continue;
                };
                for (ports, port) in from.pieces(to) {
                    let query = query(from_half, to_half, ports.protocol, port);
                    if !visit(&query, &to.class.names) {
                        return;
                    }
                }
            }
        }
    }
}

pub(super) fn query(from: &Half, to: &Half, protocol: Protocol, port: Option<u16>) -> Query {
    Query {
        from: from.party.clone(),
        to: to.party.clone(),
        protocol,
        port,
        from_ip: from.ip,
        to_ip: to.ip,
    }
}
