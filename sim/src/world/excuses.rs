//! What excuses that something allowed didn't come: a fault on the wires, and a dataplane that
//! starts anew.

use super::World;
use super::net::At;
use crate::fault::Program;
use crate::probe::ProbeError;
use crate::workload::{Job, Meanwhile};

/// What excuses that something allowed didn't come.
#[derive(Debug)]
pub(super) struct Excuses {
    /// Frames that faults had hit before.
    pub(super) hits: u64,
    /// Nodes whose dataplane starts anew meanwhile: with it goes what is on its way through it.
    cut: Vec<usize>,
}

impl Excuses {
    /// Whether one of these ends is at a dataplane that starts anew.
    pub(super) fn cut(&self, ends: [Option<At>; 2]) -> bool {
        let is_cut = |at| matches!(at, At::Behind(node, _) if self.cut.contains(&node));
        ends.into_iter().flatten().any(is_cut)
    }
}

impl World {
    /// Those there are from now on, if so much happens meanwhile.
    pub(super) fn excuses(&self, changes: &[(u64, Meanwhile)]) -> Excuses {
        let named = changes.iter().filter_map(|it| match &it.1 {
            Meanwhile::Restart(Program::Dataplane(node) | Program::Node(node)) => Some(node),
            _ => None,
        });
        let number = |name: &String| self.nodes.iter().position(|it| it.name.0 == *name);
        Excuses {
            hits: self.net.faults.hits,
            cut: named.filter_map(number).collect(),
        }
    }

    /// Where a job's ends are.
    pub(super) fn ends_of(&self, job: &Job) -> Result<[Option<At>; 2], ProbeError> {
        let (Job::Tcp { probe, .. } | Job::Connection { probe, .. } | Job::Udp { probe, .. }) = job
        else {
            return Ok([None; 2]);
        };
        let question = self.question(probe)?;
        Ok([
            self.place_of(&probe.from, question.src),
            self.place_of(&probe.to, question.dst),
        ])
    }
}
