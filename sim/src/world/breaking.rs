//! What breaks in a world and is whole again: wires, watches, disks, clocks.

use std::sync::Arc;

use sluice_dataplane_core::tick::Tick;
use sluice_offload_api::model::NodeName;

use super::net::Arrival;
use super::node::SimNode;
use super::stale::{Now, Why};
use super::{World, WorldError};
use crate::fault::{ClockJump, Fault, Heal, Program, StaleKinds, WrongCertificate};
use crate::keys::SeedKeys;

/// How long dataplanes may wait for a neighbour's answer that a fault has swallowed: then they
/// ask anew.
const FORGET_NS: u64 = 4 * Tick::SECOND;
/// Frames that wait for a dataplane that does nothing, at most: its ports' receive rings.
const HELD_MAX: usize = 4_096;

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
    /// The program runs.
    #[error("{program} runs already; kill it first")]
    Runs {
        /// Which.
        program: Program,
    },
    /// A node can't be parted from itself.
    #[error("{node} can't be parted from itself; name two nodes")]
    Itself {
        /// The name.
        node: String,
    },
    /// A node's own certificate is the right one.
    #[error("a certificate of {node} is not the wrong one for it; name another node, or none")]
    Own {
        /// The name.
        node: String,
    },
    /// Only parts of a node stall.
    #[error("{program} can't be stalled; an agent and a dataplane can")]
    NoStall {
        /// What was to be.
        program: Program,
    },
    /// Nothing was written yet.
    #[error("the dataplane of {node} has kept nothing on disk yet")]
    NothingKept {
        /// The node.
        node: String,
    },
    /// The world is out of step afterwards.
    #[error(transparent)]
    World(#[from] WorldError),
}

impl World {
    pub(super) fn number(&self, node: &str) -> Result<usize, BreakError> {
        let found = self.nodes.iter().position(|it| it.is_named(node));
        found.ok_or_else(|| BreakError::NoNode {
            node: node.to_owned(),
        })
    }

    pub(super) fn named(&mut self, node: &str) -> Result<&mut SimNode, BreakError> {
        let found = self.nodes.iter_mut().find(|it| it.is_named(node));
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

    /// A node is behind for a reason from now on; whether it wasn't already.
    pub(super) fn fall_behind(&mut self, node: &str, why: Why) -> Result<bool, BreakError> {
        let name = self.named(node)?.name.clone();
        let (cluster, server) = (&self.cluster, &self.server);
        Ok(self.stale.begin(&name, why, Now { cluster, server }))
    }

    /// Breaks something. What is broken already is broken the new way.
    ///
    /// # Errors
    /// [`BreakError`].
    pub fn fault(&mut self, fault: &Fault) -> Result<(), BreakError> {
        match fault {
            Fault::StaleWatch(node) => {
                self.fall_behind(node, Why::Watch)?;
            }
            Fault::StaleKinds(StaleKinds { node, kinds }) => {
                let name = self.named(node)?.name.clone();
                let (cluster, server) = (&self.cluster, &self.server);
                let now = Now { cluster, server };
                self.stale.begin_kinds(&name, kinds.iter(), now);
            }
            Fault::ApiGone(node) => {
                self.fall_behind(node, Why::ApiGone)?;
            }
            Fault::PartialList(node) => {
                self.fall_behind(node, Why::PartialList)?;
            }
            Fault::SlowDisk(node) => {
                self.fall_behind(node, Why::SlowDisk)?;
            }
            Fault::ApiAway => {
                self.lose_api();
            }
            Fault::Stalled(program) => self.stall(program)?,
            Fault::SecondAgent(node) => self.connect_rival(node)?,
            Fault::ClockJump(jump) => self.jump(jump)?,
            Fault::CorruptedCheckpoint(node) => {
                let keys = SeedKeys::new(self.config.seed);
                if !self.named(node)?.damage_checkpoint(&keys) {
                    return Err(BreakError::NothingKept { node: node.clone() });
                }
            }
            Fault::CaAway => self.keying.certificates.away = true,
            Fault::WrongCertificate(it) => self.mistake_certificate(it)?,
            Fault::Partition(nodes) => {
                let (a, b) = self.pair(nodes)?;
                self.net.faults.part(a, b);
            }
            Fault::Corruption(_) => {
                // A header that isn't the sender's may end a connection.
                self.cut_lasting();
                self.net.faults.begin(fault);
            }
            Fault::Loss(_) | Fault::Duplication(_) | Fault::Reordering(_) | Fault::Delay(_) => {
                self.net.faults.begin(fault)
            }
        }
        Ok(())
    }

    fn mistake_certificate(&mut self, it: &WrongCertificate) -> Result<(), BreakError> {
        let node = self.named(&it.node)?.name.clone();
        let of = match &it.of {
            Some(other) if *other == it.node => {
                let node = other.clone();
                return Err(BreakError::Own { node });
            }
            Some(other) => Some(self.named(other)?.name.clone()),
            None => None,
        };
        self.keying.certificates.mistake(&node, of);
        Ok(())
    }

    /// No agent hears the API server; whether any did.
    pub(super) fn lose_api(&mut self) -> bool {
        let mut lost = false;
        let (cluster, server) = (&self.cluster, &self.server);
        for node in self.nodes.iter().filter(|it| !it.left) {
            let now = Now { cluster, server };
            lost |= self.stale.begin(&node.name, Why::ApiAway, now);
        }
        lost
    }

    fn stall(&mut self, program: &Program) -> Result<(), BreakError> {
        match program {
            Program::Agent(node) => {
                self.fall_behind(node, Why::AgentStalled)?;
            }
            Program::Dataplane(node) => {
                if self.named(node)?.dead {
                    let program = program.clone();
                    return Err(BreakError::Dead { program });
                }
                self.fall_behind(node, Why::DataplaneStalled)?;
                self.named(node)?.stalled = true;
            }
            Program::Node(_) | Program::Api => {
                let program = program.clone();
                return Err(BreakError::NoStall { program });
            }
        }
        Ok(())
    }

    /// A frame waits for a dataplane that does nothing, if there is room.
    pub(super) fn hold(&mut self, arrival: Arrival) {
        self.net.faults.hits += 1;
        if self.held.len() < HELD_MAX {
            self.marks.add("held");
            self.held.push(arrival);
        } else {
            self.marks.add("missed");
        }
    }

    /// Frames that waited for nodes whose dataplanes go on come to those.
    pub(super) fn release(&mut self) {
        let held = core::mem::take(&mut self.held);
        for arrival in held {
            self.arrive(arrival);
        }
        for node in &mut self.nodes {
            node.poll(&mut self.net);
        }
    }

    fn connect_rival(&mut self, node: &str) -> Result<(), BreakError> {
        let node = self.named(node)?;
        let name = node.name.clone();
        let is_new = node.rival.is_none();
        node.connect_rival();
        self.marks.add("rival-connected");
        if is_new {
            let seen = self.stale.seen(&name, &self.cluster).clone();
            self.rivals_saw.insert(name.clone(), seen);
        }
        self.bring_in_step()?;
        self.attach();
        Ok(())
    }

    fn jump(&mut self, jump: &ClockJump) -> Result<(), BreakError> {
        let ahead_ns = jump.ahead_ns();
        self.named(&jump.node)?.clock.jump(ahead_ns);
        // Flows that nobody spoke on for so long are gone.
        self.cut_lasting();
        let back_ns = u64::try_from(-ahead_ns).unwrap_or(0);
        self.set_back_ns = self.set_back_ns.saturating_add(back_ns);
        self.marks.add("clock-jumped");
        for node in &mut self.nodes {
            node.poll(&mut self.net);
        }
        // Neighbours that grew old at once are asked for anew.
        self.run_for(self.forget_ns());
        Ok(())
    }

    /// How long until dataplanes ask anew for whoever did not answer. One whose clock was set
    /// back does so that much later.
    pub(super) const fn forget_ns(&self) -> u64 {
        FORGET_NS.saturating_add(self.set_back_ns)
    }

    /// Makes it whole again, and lets dataplanes ask for the neighbours that they missed.
    ///
    /// # Errors
    /// [`BreakError`].
    pub fn heal(&mut self, heal: &Heal) -> Result<(), BreakError> {
        let node = |name: &String| NodeName(name.clone());
        let without_events = |it: &SimNode| {
            self.stale.is(&it.name, Why::ApiGone) || self.stale.is(&it.name, Why::PartialList)
        };
        let had_no_events = self.nodes.iter().any(without_events);
        let was = match heal {
            Heal::StaleWatch(name) => self.stale.end(&node(name), Why::Watch),
            Heal::StaleKinds(name) => self.stale.end(&node(name), Why::Kinds),
            Heal::ApiGone(name) => self.stale.end(&node(name), Why::ApiGone),
            Heal::PartialList(name) => self.stale.end(&node(name), Why::PartialList),
            Heal::SlowDisk(name) => self.stale.end(&node(name), Why::SlowDisk),
            Heal::ApiAway => self.find_api(),
            Heal::Stalled(program) => self.wake(program)?,
            Heal::SecondAgent(name) => self.part_from_rival(name)?,
            Heal::CaAway => self.keying.certificates.find(),
            Heal::WrongCertificate(name) => self.keying.certificates.put_right(&node(name)),
            Heal::Partition(nodes) => {
                let (a, b) = self.pair(nodes)?;
                self.net.faults.join(a, b)
            }
            Heal::All => {
                self.heal_nodes()?;
                self.keying.certificates.heal();
                self.net.faults.end(heal)
            }
            Heal::Loss | Heal::Duplication | Heal::Reordering | Heal::Corruption | Heal::Delay => {
                self.net.faults.end(heal)
            }
        };
        if !was {
            let what = heal.to_string();
            return Err(BreakError::Whole { what });
        }
        let of_wires = matches!(
            heal,
            Heal::Loss
                | Heal::Duplication
                | Heal::Reordering
                | Heal::Corruption
                | Heal::Delay
                | Heal::Partition(_)
        );
        let ends_it = matches!(heal, Heal::ApiGone(_) | Heal::PartialList(_) | Heal::All);
        if ends_it && had_no_events {
            // They were gone all the while, and are; whoever has not heard of them has to list.
            Arc::make_mut(&mut self.server).forget_events();
        }
        // A dataplane that was told nothing has answered nobody who asked for its MAC.
        let was_closed = self.stale.has_closed();
        if !of_wires {
            self.catch_up()?;
        }
        if of_wires || was_closed || matches!(heal, Heal::All | Heal::Stalled(_)) {
            self.run_for(self.forget_ns());
        }
        self.wait_for_keys(1);
        Ok(())
    }

    /// Everything comes in step that can.
    pub(super) fn catch_up(&mut self) -> Result<(), WorldError> {
        self.converge(self.cluster.clone())?;
        self.release();
        self.wait_for_keys(usize::MAX);
        self.bring_in_step()
    }

    /// Agents hear the API server again; whether they didn't.
    pub(super) fn find_api(&mut self) -> bool {
        let mut found = false;
        for node in &self.nodes {
            found |= self.stale.end(&node.name, Why::ApiAway);
        }
        found
    }

    fn wake(&mut self, program: &Program) -> Result<bool, BreakError> {
        match program {
            Program::Agent(node) => Ok(self.stale.end(&NodeName(node.clone()), Why::AgentStalled)),
            Program::Dataplane(node) => {
                let node = self.named(node)?;
                let (name, was) = (node.name.clone(), core::mem::take(&mut node.stalled));
                self.stale.end(&name, Why::DataplaneStalled);
                Ok(was)
            }
            Program::Node(_) | Program::Api => Ok(false),
        }
    }

    fn part_from_rival(&mut self, node: &str) -> Result<bool, BreakError> {
        let node = self.named(node)?;
        let (name, was) = (node.name.clone(), node.part_from_rival());
        self.rivals_saw.remove(&name);
        Ok(was)
    }

    /// Whatever is broken at nodes is whole; what was killed stays dead.
    fn heal_nodes(&mut self) -> Result<(), BreakError> {
        let here = self.nodes.iter().filter(|it| !it.left);
        let names: Vec<_> = here.map(|it| it.name.clone()).collect();
        for name in names {
            for why in [
                Why::Watch,
                Why::Kinds,
                Why::ApiAway,
                Why::ApiGone,
                Why::PartialList,
                Why::AgentStalled,
                Why::SlowDisk,
            ] {
                self.stale.end(&name, why);
            }
            self.wake(&Program::Dataplane(name.0.clone()))?;
            self.part_from_rival(&name.0)?;
        }
        Ok(())
    }

    /// Whether a dataplane holds a frame for a neighbour whose answer a fault may have
    /// swallowed, some while ago.
    pub(super) fn waits_for_what_is_broken(&self) -> bool {
        let idle = |it: &SimNode| !it.left && (it.dead || it.stalled);
        let swallows = self.net.faults.swallow() || self.nodes.iter().any(idle);
        let holds = || {
            let mut lines = self.nodes.iter().flat_map(SimNode::counters);
            lines.any(|it| it.waiting > 0)
        };
        swallows && holds()
    }

    /// Whether everything is whole and runs: only then must all that is allowed flow.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let whole = |it: &SimNode| it.left || !it.dead && !it.stalled && it.rival.is_none();
        let certified = self.keying.certificates.is_whole();
        !self.net.faults.any() && self.stale.is_empty() && certified && self.nodes.iter().all(whole)
    }
}
