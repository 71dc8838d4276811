//! What breaks in a world and is whole again: wires, watches, programs.

use sluice_dataplane_core::tick::Tick;
use sluice_offload_api::model::NodeName;

use super::node::SimNode;
use super::{SETTLE_NS, World, WorldError};
use crate::fault::{Fault, Heal, Program};
use crate::keys::SeedKeys;

/// How long dataplanes may wait for a neighbour's answer that a fault has swallowed: then they
/// ask anew.
const FORGET_NS: u64 = 4 * Tick::SECOND;

/// Why something can't break, or can't be whole again.
#[derive(Debug, thiserror::Error)]
pub enum BreakError {
    /// No such node.
    #[error("there is no node {node}")]
    NoNode {
        /// The name.
        node: String,
    },
    /// It was whole.
    #[error("{what} can't be healed: it is not broken")]
    Whole {
        /// What.
        what: String,
    },
    /// The program doesn't run.
    #[error("{program} doesn't run; restart it first")]
    Dead {
        /// Which.
        program: Program,
    },
    /// A node can't be parted from itself.
    #[error("{node} can't be parted from itself; name two nodes")]
    Itself {
        /// The name.
        node: String,
    },
    /// An agent can't be killed yet.
    #[error(
        "an agent can't be killed, only restarted; `fault: {{stale-watch: {node}}}` is near it"
    )]
    Agent {
        /// The node.
        node: String,
    },
    /// The world is out of step afterwards.
    #[error(transparent)]
    World(#[from] WorldError),
}

impl World {
    fn number(&self, node: &str) -> Result<usize, BreakError> {
        let found = self.nodes.iter().position(|it| it.name.0 == node);
        found.ok_or_else(|| BreakError::NoNode {
            node: node.to_owned(),
        })
    }

    fn pair(&self, [a, b]: &[String; 2]) -> Result<(usize, usize), BreakError> {
        let (a_number, b_number) = (self.number(a)?, self.number(b)?);
        if a_number == b_number {
            return Err(BreakError::Itself { node: a.clone() });
        }
        Ok((a_number, b_number))
    }

    /// Breaks something. What is broken already is broken the new way.
    ///
    /// # Errors
    /// [`BreakError`].
    pub fn fault(&mut self, fault: &Fault) -> Result<(), BreakError> {
        match fault {
            Fault::StaleWatch(node) => {
                self.number(node)?;
                self.stale.begin(&NodeName(node.clone()), &self.cluster);
            }
            Fault::Partition(nodes) => {
                let (a, b) = self.pair(nodes)?;
                self.net.faults.part(a, b);
            }
            _ => self.net.faults.begin(fault),
        }
        Ok(())
    }

    /// Makes it whole again, and lets dataplanes ask for the neighbours that they missed.
    ///
    /// # Errors
    /// [`BreakError`].
    pub fn heal(&mut self, heal: &Heal) -> Result<(), BreakError> {
        let was = match heal {
            Heal::StaleWatch(node) => self.stale.end(&NodeName(node.clone())),
            Heal::Partition(nodes) => {
                let (a, b) = self.pair(nodes)?;
                self.net.faults.join(a, b)
            }
            Heal::All => {
                self.stale.end_all();
                self.net.faults.end(heal)
            }
            _ => self.net.faults.end(heal),
        };
        if !was {
            let what = heal.to_string();
            return Err(BreakError::Whole { what });
        }
        if matches!(heal, Heal::StaleWatch(_) | Heal::All) {
            self.converge(self.cluster.clone())?;
        }
        if !matches!(heal, Heal::StaleWatch(_)) {
            self.run_for(FORGET_NS);
        }
        Ok(())
    }

    /// A program dies. A dataplane takes flows, SAs and the frames it holds along; nothing
    /// passes it, and no pod comes or goes on its node, until it is started again.
    ///
    /// # Errors
    /// [`BreakError`]; only dataplanes can be killed.
    pub fn kill(&mut self, program: &Program) -> Result<(), BreakError> {
        match program {
            Program::Agent(node) => {
                self.number(node)?;
                let node = node.clone();
                Err(BreakError::Agent { node })
            }
            Program::Dataplane(node) => {
                let number = self.number(node)?;
                match self.nodes.get_mut(number).filter(|it| !it.dead) {
                    Some(node) => node.kill(),
                    None => {
                        let program = program.clone();
                        return Err(BreakError::Dead { program });
                    }
                }
                Ok(())
            }
        }
    }

    /// A program starts, dead or alive: an agent with its journals and nothing else, a
    /// dataplane with nothing at all.
    ///
    /// # Errors
    /// [`BreakError`].
    pub fn restart(&mut self, program: &Program) -> Result<(), BreakError> {
        match program {
            Program::Agent(node) => {
                let number = self.number(node)?;
                if let Some(node) = self.nodes.get_mut(number) {
                    node.restart_agent();
                }
            }
            Program::Dataplane(node) => {
                let number = self.number(node)?;
                let keys = SeedKeys::new(self.config.seed);
                if let Some(node) = self.nodes.get_mut(number) {
                    node.start_again(&keys).map_err(WorldError::from)?;
                    self.announcements.tell(node);
                }
                let name = NodeName(node.clone());
                let renewed = self.keying.on_restart(&mut self.nodes, &name);
                renewed.map_err(WorldError::from)?;
            }
        }
        self.bring_in_step()?;
        for node in &mut self.nodes {
            node.attach(&self.cluster);
        }
        self.run_for(match program {
            Program::Agent(_) => SETTLE_NS,
            // Its peers have asked for it in vain meanwhile, and ask again.
            Program::Dataplane(_) => FORGET_NS,
        });
        let retired = self.keying.retire_replaced(&mut self.nodes);
        retired.map_err(WorldError::from)?;
        Ok(self.bring_in_step()?)
    }

    /// Whether a dataplane holds a frame for a neighbour whose answer a fault may have
    /// swallowed, some while ago.
    pub(super) fn waits_for_what_is_broken(&self) -> bool {
        let swallows = self.net.faults.swallow() || self.nodes.iter().any(|it| it.dead);
        let holds = || {
            let mut lines = self.nodes.iter().flat_map(SimNode::counters);
            lines.any(|it| it.waiting > 0)
        };
        swallows && holds()
    }

    /// Whether everything is whole and runs: only then must all that is allowed flow.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.net.faults.any() && self.stale.is_empty() && !self.nodes.iter().any(|it| it.dead)
    }
}
