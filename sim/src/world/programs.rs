//! Programs that end and start: agents, dataplanes, all of a node, the API server; and nodes
//! that are replaced.

use sluice_dataplane_core::tick::Tick;
use sluice_offload_api::model::NodeName;

use super::agent::Agent;
use super::breaking::BreakError;
use super::node::Start;
use super::plan::NodeNumber;
use super::stale::Why;
use super::{SETTLE_NS, World, WorldError};
use crate::fault::Program;
use crate::keys::SeedKeys;

/// After how long a neighbour's MAC that nobody has any more is surely asked for anew.
const NEIGHBORS_OLD_NS: u64 = 40 * Tick::SECOND;

impl World {
    /// A program dies. A dataplane takes flows, SAs and the frames it holds along; nothing
    /// passes it, and no pod comes or goes on its node, until it is started again. Without its
    /// agent a dataplane goes on with what it was told last.
    ///
    /// # Errors
    /// [`BreakError`].
    pub fn kill(&mut self, program: &Program) -> Result<(), BreakError> {
        let dead = || BreakError::Dead {
            program: program.clone(),
        };
        match program {
            Program::Agent(node) => {
                if !self.kill_agent(node)? {
                    return Err(dead());
                }
            }
            Program::Dataplane(node) => {
                if self.named(node)?.dead {
                    return Err(dead());
                }
                self.kill_dataplane(node)?;
            }
            Program::Node(node) => {
                let agent_ran = self.kill_agent(node)?;
                if !agent_ran && self.named(node)?.dead {
                    return Err(dead());
                }
                self.kill_dataplane(node)?;
            }
            Program::Api => {
                if !self.lose_api() {
                    return Err(dead());
                }
            }
        }
        self.marks.add("killed");
        // What can't come or go from now on.
        self.attach();
        Ok(())
    }

    /// Whether it ran.
    fn kill_agent(&mut self, node: &str) -> Result<bool, BreakError> {
        let ran = self.fall_behind(node, Why::AgentDead)?;
        // Whoever is dead doesn't stall.
        self.stale
            .end(&NodeName(node.to_owned()), Why::AgentStalled);
        Ok(ran)
    }

    fn kill_dataplane(&mut self, node: &str) -> Result<(), BreakError> {
        let number = self.number(node)?;
        let name = NodeName(node.to_owned());
        self.cut_lasting();
        self.stale.keep(&name, &self.cluster);
        self.stale.end(&name, Why::DataplaneStalled);
        // Frames that waited for it are gone with it.
        self.held
            .retain(|it| !matches!(it.at, super::net::At::Dataplane(of, _) if of == number));
        self.lose_keys(&name);
        self.named(node)?.kill();
        Ok(())
    }

    /// A program starts, dead or alive: an agent with its journal, a dataplane with its
    /// checkpoint, and nothing else.
    ///
    /// # Errors
    /// [`BreakError`].
    pub fn restart(&mut self, program: &Program) -> Result<(), BreakError> {
        self.start(program)?;
        let was_closed = self.stale.has_closed();
        self.catch_up()?;
        self.run_for(match program {
            Program::Agent(_) | Program::Api if !was_closed => SETTLE_NS,
            // Its peers have asked for it in vain meanwhile, and ask again.
            _ => self.forget_ns(),
        });
        self.wait_for_keys(1);
        Ok(self.bring_in_step()?)
    }

    /// The same while pods speak, in no time: a dataplane's keys come while they do.
    pub(super) fn restart_meanwhile(&mut self, program: &Program) -> Result<(), BreakError> {
        self.start(program)?;
        self.show(self.cluster.clone())?;
        self.release();
        self.tend_keys();
        Ok(self.bring_in_step()?)
    }

    fn start(&mut self, program: &Program) -> Result<(), BreakError> {
        match program {
            Program::Agent(node) => self.start_agent(node)?,
            Program::Dataplane(node) => self.start_dataplane(node)?,
            Program::Node(node) => {
                self.kill_dataplane(node)?;
                self.start_agent(node)?;
                self.start_dataplane(node)?;
            }
            Program::Api => {
                self.find_api();
            }
        }
        Ok(())
    }

    fn start_agent(&mut self, node: &str) -> Result<(), BreakError> {
        let name = NodeName(node.to_owned());
        self.named(node)?.restart_agent();
        self.stale.end(&name, Why::AgentDead);
        self.stale.end(&name, Why::AgentStalled);
        // It has no events to go on from: it lists anew, and that mends a watch whose were gone.
        self.stale.end(&name, Why::ApiGone);
        Ok(())
    }

    fn start_dataplane(&mut self, node: &str) -> Result<(), BreakError> {
        if !self.named(node)?.dead {
            self.kill_dataplane(node)?;
        }
        let keys = SeedKeys::new(self.config.seed);
        let now = self.net.now;
        let name = NodeName(node.to_owned());
        let number = self.number(node)?;
        if let Some(node) = self.nodes.get_mut(number) {
            let start = node.start_again(&keys, now).map_err(WorldError::from)?;
            match start {
                Start::Checkpoint => self.marks.add("checkpoint-loaded"),
                Start::Nothing => self.stale.close(&name),
                Start::Refused => {
                    self.marks.add("checkpoint-refused");
                    self.stale.close(&name);
                }
            }
            self.announcements.tell(node);
        }
        self.give_up_unanswered(number);
        Ok(())
    }

    /// A node's machine and DPU are others from now on: the same name and addresses, other MACs,
    /// and nothing on any disk.
    ///
    /// # Errors
    /// [`BreakError`].
    pub fn replace(&mut self, node: &str) -> Result<(), BreakError> {
        let name = self.named(node)?.name.clone();
        self.kill_dataplane(node)?;
        let tunnel_ips = self.cluster.nodes.get(&name).map(|n| n.tunnel_ips.clone());
        let tunnel_ips = tunnel_ips.unwrap_or_default();
        let encryption = self.config.encryption.clone();
        let it = self.named(node)?;
        let number = NodeNumber {
            machine: it.number.machine.wrapping_add(1),
            ..it.number
        };
        let agent = Agent::new(&name, number, it.vfs(), &tunnel_ips, &encryption);
        it.replace(agent, number);
        self.rivals_saw.remove(&name);
        self.start_dataplane(node)?;
        // Its agent has no events to go on from: it lists anew.
        for why in [
            Why::AgentDead,
            Why::AgentStalled,
            Why::SlowDisk,
            Why::ApiGone,
        ] {
            self.stale.end(&name, why);
        }
        self.catch_up()?;
        self.run_for(NEIGHBORS_OLD_NS.saturating_add(self.set_back_ns));
        // So long no host goes by a MAC that doesn't answer any more.
        self.forget_hosts_neighbors();
        self.wait_for_keys(1);
        Ok(self.bring_in_step()?)
    }

    /// Hosts ask anew for whoever they speak to.
    pub(super) fn forget_hosts_neighbors(&mut self) {
        for node in self.nodes.iter_mut().filter(|it| !it.left) {
            let port = node.host_port();
            if let Some(host) = node.station_mut(port) {
                host.forget_neighbors();
            }
        }
    }
}
