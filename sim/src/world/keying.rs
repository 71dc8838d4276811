//! Who has which SA: the part of the node channel that the seed plays.
//!
//! Make before break, as in production: the receiver installs an SA and says so, only
//! then the sender switches to it, and the one before is retired when it is silent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sluice_crypto::esp::{Mode, Spi};
use sluice_crypto::key::{Algorithm, KeyError};
use sluice_crypto::lifecycle::SpiBlock;
use sluice_crypto::replay::ReplayWindow;
use sluice_dataplane_control::{Child, Event, SaConfig, SaError};
use sluice_mutants::{Mutant, is};
use sluice_offload_api::model::NodeName;

use super::WorldConfig;
use super::node::SimNode;
use crate::keys::SeedKeys;
use crate::report::ExposedSa;

/// A direction between two nodes: from, to.
type Way = (NodeName, NodeName);

/// The keying of all nodes.
#[derive(Debug)]
pub(crate) struct Keying {
    keys: SeedKeys,
    algorithm: Algorithm,
    esn: bool,
    udp_encap: bool,
    /// The number of each SA's first packet.
    first: u64,
    /// Packets that each sends, at most.
    packets_max: u64,
    /// Child SAs that nodes want, where more than one.
    lanes: BTreeMap<NodeName, u8>,
    lanes_by_default: u8,
    /// Children of an epoch that the receiver has, until it has all.
    arrived: BTreeMap<(Way, u32), BTreeSet<u8>>,
    epochs: BTreeMap<Way, u32>,
    /// Epochs whose SAs a receiver has and may still need.
    held: BTreeMap<Way, BTreeSet<u32>>,
    /// SAs that the receiver has and the sender waits for.
    ready: VecDeque<(Way, u32)>,
    /// SAs that may be retired at the receiver, once nothing is under way.
    replaced: Vec<(Way, Spi)>,
    /// How many were retired.
    pub(crate) retired: u64,
    pub(crate) exposed: Vec<ExposedSa>,
    /// Nodes where nobody is: whatever they are told they have.
    peers_only: BTreeSet<NodeName>,
    /// SAs whose receivers were too busy to take them.
    waiting: Vec<Way>,
    /// SAs that an end did nothing about, as it stalled: it is asked again when it goes on.
    missed: BTreeSet<Way>,
    /// SAs that are sent by before their receivers have them: a planted bug.
    late: Vec<(Way, u32)>,
}

/// An SA that couldn't be made or installed.
#[derive(Debug, thiserror::Error)]
pub enum KeyingError {
    /// The key.
    #[error("key of an SA from {from} to {to}: {error}")]
    Key {
        /// The sender.
        from: NodeName,
        /// The receiver.
        to: NodeName,
        /// Why.
        error: KeyError,
    },
    /// The dataplane.
    #[error("SA from {from} to {to}: {error}")]
    Sa {
        /// The sender.
        from: NodeName,
        /// The receiver.
        to: NodeName,
        /// Why.
        error: SaError,
    },
}

impl Keying {
    pub(crate) fn new(keys: SeedKeys, config: &WorldConfig) -> Self {
        Self {
            keys,
            algorithm: config.algorithm,
            esn: config.esn,
            udp_encap: config.udp_encap,
            first: config.sa_first,
            packets_max: config.sa_packets_max,
            lanes: config.known_lanes(),
            lanes_by_default: config.lanes_by_default(),
            arrived: BTreeMap::new(),
            epochs: BTreeMap::new(),
            held: BTreeMap::new(),
            ready: VecDeque::new(),
            replaced: Vec::new(),
            retired: 0,
            exposed: Vec::new(),
            peers_only: config.peers_only.clone(),
            waiting: Vec::new(),
            missed: BTreeSet::new(),
            late: Vec::new(),
        }
    }

    /// Acts on what happened at a node.
    pub(crate) fn on_event(
        &mut self,
        nodes: &mut [SimNode],
        at: usize,
        event: &Event,
    ) -> Result<(), KeyingError> {
        let Some(me) = nodes.get(at).map(|n| n.name.clone()) else {
            return Ok(());
        };
        match event {
            Event::PeerAdded(peer) => {
                if self.peers_only.contains(peer) {
                    self.renew(nodes, &(me.clone(), peer.clone()))?;
                }
                self.renew(nodes, &(peer.clone(), me))
            }
            Event::InboundInstalled(peer, spi) => {
                let way = (peer.clone(), me);
                let epoch = self.epochs.get(&way).copied().unwrap_or(0);
                let waits = epoch == 0 || !is(Mutant::SentBeforeReceived);
                if waits && self.has_all(&way, epoch, *spi) {
                    if self.peers_only.contains(&way.0) {
                        self.outlive(&way, epoch);
                    } else {
                        self.ready.push_back((way, epoch));
                    }
                }
                Ok(())
            }
            Event::OutboundInstalled(peer, _) => {
                let way = (me, peer.clone());
                let epoch = self.epochs.get(&way).copied().unwrap_or(0);
                self.outlive(&way, epoch);
                Ok(())
            }
            Event::Applied(_) | Event::PeerRemoved(_) | Event::SaRefused(..) => Ok(()),
        }
    }

    /// A sender goes by an SA: those before it are to be retired. They are several if it has
    /// started anew before it ever switched.
    fn outlive(&mut self, way: &Way, epoch: u32) {
        if let Some(held) = self.held.get_mut(way) {
            let now = held.split_off(&epoch);
            for before in core::mem::replace(held, now) {
                for child in 0..self.children(way) {
                    let spi = self.spi(way, before, child);
                    self.replaced.push((way.clone(), spi));
                }
            }
        }
    }

    /// Fresh keys for every direction.
    pub(crate) fn renew_all(&mut self, nodes: &mut [SimNode]) -> Result<(), KeyingError> {
        let ways: Vec<_> = self.epochs.keys().cloned().collect();
        ways.iter().try_for_each(|way| self.renew(nodes, way))
    }

    /// A node's dataplane has started anew and has lost its SAs. Those to it are renewed
    /// when it has peers again; those from it now: what was used once is never sent by again.
    pub(crate) fn on_restart(
        &mut self,
        nodes: &mut [SimNode],
        node: &NodeName,
    ) -> Result<(), KeyingError> {
        let touches = |way: &Way| way.0 == *node || way.1 == *node;
        self.ready.retain(|(way, _)| !touches(way));
        self.replaced.retain(|(way, _)| way.1 != *node);
        self.missed.retain(|way| !touches(way));
        self.held.retain(|way, _| way.1 != *node);
        if is(Mutant::KeysAgain) {
            let from_it = self.epochs.iter().filter(|(way, _)| way.0 == *node);
            let again = from_it.map(|(way, epoch)| (way.clone(), *epoch));
            self.ready.extend(again);
            return Ok(());
        }
        let from_it = |way: &&Way| way.0 == *node;
        let ways: Vec<_> = self.epochs.keys().filter(from_it).cloned().collect();
        ways.iter().try_for_each(|way| self.renew(nodes, way))
    }

    /// A node's dataplane goes on: what it did nothing about is tried again.
    pub(crate) fn on_wake(&mut self, nodes: &mut [SimNode]) -> Result<(), KeyingError> {
        let missed = core::mem::take(&mut self.missed);
        missed.iter().try_for_each(|way| self.renew(nodes, way))
    }

    /// A node is gone. Its epochs stay: under its name no key may come twice.
    pub(crate) fn forget(&mut self, node: &NodeName) {
        let touches = |way: &Way| way.0 == *node || way.1 == *node;
        self.ready.retain(|(way, _)| !touches(way));
        self.replaced.retain(|(way, _)| !touches(way));
        self.waiting.retain(|way| !touches(way));
        self.missed.retain(|way| !touches(way));
        self.held.retain(|way, _| !touches(way));
    }

    /// How many SAs there are that way at a time: the greater of what both ends want.
    fn children(&self, (from, to): &Way) -> u8 {
        let by_default = self.lanes_by_default;
        let lanes = |node| self.lanes.get(node).copied().unwrap_or(by_default);
        lanes(from).max(lanes(to))
    }

    /// A block of them, as the node channel has it, if there are several.
    fn spi(&self, way: &Way, epoch: u32, child: u8) -> Spi {
        let first = self.keys.spi(&way.0.0, &way.1.0, epoch);
        match self.children(way) {
            1 => first,
            // None of the seed's is reserved.
            _ => SpiBlock::new(first.0).map_or(first, |block| block.spi(child)),
        }
    }

    /// Notes that the receiver has one of an epoch's SAs; whether it has all of them now.
    fn has_all(&mut self, way: &Way, epoch: u32, spi: Spi) -> bool {
        let children = self.children(way);
        let Some(child) = (0..children).find(|it| self.spi(way, epoch, *it) == spi) else {
            return false;
        };
        let key = (way.clone(), epoch);
        let arrived = self.arrived.entry(key.clone()).or_default();
        arrived.insert(child);
        let all = arrived.len() == usize::from(children);
        if all {
            self.arrived.remove(&key);
        }
        all
    }

    /// A fresh SA at the receiver. Never an epoch twice: a (key, sequence number) pair
    /// doesn't repeat, whatever the dataplanes have forgotten.
    fn renew(&mut self, nodes: &mut [SimNode], way: &Way) -> Result<(), KeyingError> {
        let epoch = self.epochs.get(way).map_or(0, |epoch| epoch + 1);
        let (from, to) = way;
        let stalls = |it: &mut SimNode| it.stalled && !it.dead;
        if [from, to]
            .into_iter()
            .any(|it| find(nodes, it).is_some_and(stalls))
        {
            self.missed.insert(way.clone());
            return Ok(());
        }
        // A dead end gets its keys when it starts.
        let works = |it: &&mut SimNode| !it.dead;
        if !self.peers_only.contains(from) && find(nodes, from).filter(works).is_none() {
            return Ok(());
        }
        if self.peers_only.contains(to) {
            self.epochs.insert(way.clone(), epoch);
            self.ready.push_back((way.clone(), epoch));
            return Ok(());
        }
        let Some(receiver) = find(nodes, to).filter(works) else {
            return Ok(());
        };
        if is(Mutant::SentBeforeReceived) && epoch > 0 {
            return self.send_first(nodes, way, epoch);
        }
        for (child, config) in (0u8..).zip(self.configs(way, epoch)?) {
            match receiver.control.install_inbound(from, config) {
                Ok(()) => {}
                Err(SaError::Busy) => {
                    self.waiting.push(way.clone());
                    if child > 0 {
                        // Some are under way: they are not made again.
                        self.epochs.insert(way.clone(), epoch);
                        self.held.entry(way.clone()).or_default().insert(epoch);
                    }
                    return Ok(());
                }
                // It was told nothing yet. When it is, it asks for keys itself.
                Err(SaError::UnknownPeer { .. }) => return Ok(()),
                Err(error) => return Err(failed(way, error)),
            }
        }
        self.epochs.insert(way.clone(), epoch);
        self.held.entry(way.clone()).or_default().insert(epoch);
        Ok(())
    }

    /// The planted bug: the sender switches, and the receiver gets the SA when others switch.
    fn send_first(
        &mut self,
        nodes: &mut [SimNode],
        way: &Way,
        epoch: u32,
    ) -> Result<(), KeyingError> {
        let configs = self.configs(way, epoch)?;
        let (from, to) = way;
        let Some(sender) = find(nodes, from) else {
            return Ok(());
        };
        let mut sent = configs.into_iter();
        if sent.all(|it| sender.control.install_outbound(to, it).is_ok()) {
            self.epochs.insert(way.clone(), epoch);
            self.held.entry(way.clone()).or_default().insert(epoch);
            self.expose(nodes, way, epoch)?;
            self.late.push((way.clone(), epoch));
        }
        Ok(())
    }

    /// Lets senders switch to what their receivers have. Those whose agents don't know
    /// the receiver yet stay for later. Whether any switched.
    pub(crate) fn switch_senders(&mut self, nodes: &mut [SimNode]) -> Result<bool, KeyingError> {
        let waiting = core::mem::take(&mut self.waiting);
        let mut switched = !waiting.is_empty();
        waiting.iter().try_for_each(|way| self.renew(nodes, way))?;
        for (way, epoch) in core::mem::take(&mut self.late) {
            let configs = self.configs(&way, epoch)?;
            switched = true;
            if let Some(receiver) = find(nodes, &way.1).filter(|it| !it.dead) {
                for config in configs {
                    let taken = receiver.control.install_inbound(&way.0, config);
                    taken.map_err(|error| failed(&way, error))?;
                }
            }
        }
        for (way, epoch) in core::mem::take(&mut self.ready) {
            let (from, to) = &way;
            let configs = self.configs(&way, epoch)?;
            let Some(sender) = find(nodes, from).filter(|it| !it.dead) else {
                continue;
            };
            let last = self.first.saturating_add(self.packets_max - 1);
            let numbers = self.first..=last;
            let control = &mut sender.control;
            let mut configs = configs.into_iter();
            let install = |it| control.install_outbound_numbered(to, it, numbers.clone());
            match configs.try_for_each(install) {
                Ok(()) => {
                    switched = true;
                    self.expose(nodes, &way, epoch)?;
                }
                Err(SaError::Busy) => {
                    switched = true;
                    self.ready.push_back((way, epoch));
                }
                Err(SaError::UnknownPeer { .. }) => self.ready.push_back((way, epoch)),
                Err(error) => return Err(failed(&way, error)),
            }
        }
        Ok(switched)
    }

    /// Retires what was replaced; call when nothing is under way any more.
    pub(crate) fn retire_replaced(&mut self, nodes: &mut [SimNode]) -> Result<(), KeyingError> {
        for (way, spi) in core::mem::take(&mut self.replaced) {
            let Some(receiver) = find(nodes, &way.1).filter(|it| !it.dead) else {
                continue;
            };
            receiver
                .control
                .retire_inbound(spi)
                .map_err(|error| failed(&way, error))?;
            self.retired += 1;
        }
        Ok(())
    }

    /// All children's.
    fn configs(&self, way: &Way, epoch: u32) -> Result<Vec<SaConfig>, KeyingError> {
        (0..self.children(way))
            .map(|child| self.config(way, epoch, child))
            .collect()
    }

    fn config(&self, way: &Way, epoch: u32, child: u8) -> Result<SaConfig, KeyingError> {
        let (from, to) = way;
        let key = self
            .keys
            .child(self.algorithm, &from.0, &to.0, epoch, child);
        let key = key.map_err(|error| KeyingError::Key {
            from: from.clone(),
            to: to.clone(),
            error,
        })?;
        Ok(SaConfig {
            spi: self.spi(way, epoch, child),
            key,
            esn: self.esn,
            window: ReplayWindow::DEFAULT,
            udp_encap: self.udp_encap,
            mode: Mode::Tunnel,
            child: Child {
                number: child,
                of: self.children(way),
            },
        })
    }

    /// Writes SAs down for Wireshark.
    fn expose(&mut self, nodes: &mut [SimNode], way: &Way, epoch: u32) -> Result<(), KeyingError> {
        let (from, to) = way;
        let outer = find(nodes, from).and_then(|n| n.control.outer_addresses(to));
        let Some((src, dst)) = outer else {
            return Ok(());
        };
        for config in self.configs(way, epoch)? {
            self.exposed.push(ExposedSa {
                src,
                dst,
                spi: config.spi.0,
                algorithm: self.algorithm,
                keymat: config.key.expose_keymat().to_vec(),
                esn: self.esn,
            });
        }
        Ok(())
    }
}

fn find<'a>(nodes: &'a mut [SimNode], name: &NodeName) -> Option<&'a mut SimNode> {
    nodes.iter_mut().find(|n| n.is_named(&name.0))
}

fn failed((from, to): &Way, error: SaError) -> KeyingError {
    KeyingError::Sa {
        from: from.clone(),
        to: to.clone(),
        error,
    }
}
