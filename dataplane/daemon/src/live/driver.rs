//! [`LiveKeys`]: the key driver of a dataplane in static mode. What files gave is in force at
//! the start; what orders bring, from the moment that they are answered.
//!
//! A rekey is two orders and loses nothing: add the new receiving SA, and when that is
//! answered the new sending one, which takes the old one's place between two packets. The old
//! receiving SA stays beside the new one until it is removed or a limit ends it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sluice_crypto::esp::Spi;
use sluice_dataplane_core::sad::Mode;
use sluice_dataplane_core::sad::SAS_MAX;
use sluice_dataplane_core::tick::Tick;
use sluice_offload_api::model::{NodeName, SaDirection};

use super::ledger::{Ledger, LedgerError};
use super::order::{Answer, Limits, LiveSa, Order, OrderRefused, Removal};
use crate::keys::{KeyDriver, KeyEvent, Retirement, SaCommand, StaticKeys, StaticSa};
use crate::statics::TransportEnds;

/// Between two looks at the ages of SAs.
const AGES_EVERY_NS: u64 = 100 * Tick::MS;

/// Keys from files, and from orders.
#[derive(Debug)]
pub struct LiveKeys {
    files: StaticKeys,
    ends: TransportEnds,
    /// Peers, and where their packets go, if there is a way to them.
    peers: BTreeMap<NodeName, Option<IpAddr>>,
    ledger: Ledger,
    inbound: BTreeMap<Spi, Held>,
    /// The sending SA in force to each peer,
    outbound: BTreeMap<NodeName, (Spi, Held)>,
    /// and the one on its way, which then takes its place.
    next: BTreeMap<NodeName, (Spi, Held)>,
    /// On their way out: who waits for it. What is still here at the next tick is gone.
    leaving: Vec<(Retirement, Option<Answer>)>,
    ages_at: Tick,
}

/// An SA that is in force or on its way.
#[derive(Debug)]
struct Held {
    peer: NodeName,
    packets_max: u64,
    bytes_max: u64,
    until: Option<Tick>,
    is_over: bool,
    /// Who waits for it to be in force.
    answer: Option<Answer>,
}

impl Held {
    fn of_file(sa: &StaticSa) -> Self {
        Self {
            peer: sa.peer.clone(),
            packets_max: u64::MAX,
            bytes_max: u64::MAX,
            until: None,
            is_over: false,
            answer: None,
        }
    }

    fn new(peer: NodeName, limits: Limits, now: Tick, answer: Answer) -> Self {
        let age = u64::try_from(limits.age_max.as_nanos()).unwrap_or(u64::MAX);
        Self {
            peer,
            packets_max: limits.packets_max,
            bytes_max: limits.bytes_max,
            until: Some(Tick(now.0.saturating_add(age))),
            is_over: false,
            answer: Some(answer),
        }
    }

    fn is_due(&self, now: Tick) -> bool {
        self.answer.is_none() && (self.is_over || self.until.is_some_and(|it| it <= now))
    }
}

impl LiveKeys {
    /// Keys that files give, and room for more. `ends` are those of transport mode.
    ///
    /// # Errors
    /// [`LedgerError::Used`] for a file's key that was given before.
    pub fn new(
        sas: Vec<StaticSa>,
        ends: TransportEnds,
        mut ledger: Ledger,
    ) -> Result<Self, LedgerError> {
        let (mut inbound, mut outbound) = (BTreeMap::new(), BTreeMap::new());
        for sa in &sas {
            let key = sa.config.key.fingerprint();
            if ledger.has(key) {
                return Err(LedgerError::Used {
                    key_file: sa.key_file.clone(),
                });
            }
            ledger.remember(key);
            let (spi, held) = (sa.config.spi, Held::of_file(sa));
            match sa.direction {
                SaDirection::Inbound => drop(inbound.insert(spi, held)),
                SaDirection::Outbound => drop(outbound.insert(sa.peer.clone(), (spi, held))),
            }
        }
        Ok(Self {
            files: StaticKeys::new(sas),
            ends,
            peers: BTreeMap::new(),
            ledger,
            inbound,
            outbound,
            next: BTreeMap::new(),
            leaving: Vec::new(),
            ages_at: Tick(0),
        })
    }

    /// Everything that can be known to be wrong before anything changes.
    fn check(&self, sa: &LiveSa) -> Result<(), OrderRefused> {
        let node = || sa.peer.clone();
        let there = match self.peers.get(&sa.peer) {
            None => return Err(OrderRefused::UnknownPeer { node: node() }),
            Some(None) => return Err(OrderRefused::NoTunnel { node: node() }),
            Some(Some(there)) => *there,
        };
        if let Mode::Transport { pod } = sa.config.mode {
            if !self.ends.hosts.contains(&sa.peer) {
                return Err(OrderRefused::NoHost { node: node() });
            }
            let pod = IpAddr::from(pod);
            if !self.ends.pods.contains(&pod) {
                return Err(OrderRefused::NoPod { pod });
            }
            if pod.is_ipv4() != there.is_ipv4() {
                return Err(OrderRefused::PodFamily { pod, there });
            }
        }
        let spi = sa.config.spi;
        match sa.direction {
            SaDirection::Inbound if self.inbound.contains_key(&spi) => {
                return Err(OrderRefused::DuplicateSpi { spi });
            }
            SaDirection::Inbound if self.inbound.len() >= SAS_MAX => {
                return Err(OrderRefused::Full);
            }
            SaDirection::Outbound if self.next.contains_key(&sa.peer) => {
                return Err(OrderRefused::Busy);
            }
            SaDirection::Outbound if self.sends_by(&sa.peer, spi) => {
                return Err(OrderRefused::DuplicateSpi { spi });
            }
            SaDirection::Inbound | SaDirection::Outbound => {}
        }
        if self.ledger.has(sa.config.key.fingerprint()) {
            return Err(OrderRefused::UsedKey);
        }
        Ok(())
    }

    fn add(&mut self, sa: LiveSa, answer: Answer, now: Tick, out: &mut Vec<SaCommand>) {
        if let Err(why) = self.check(&sa) {
            return answer.refuse(why);
        }
        // Before anything is sealed under it: a crash from here on leaves it used.
        if let Err(error) = self.ledger.write(sa.config.key.fingerprint()) {
            return answer.refuse(OrderRefused::Ledger(error.to_string()));
        }
        let LiveSa {
            peer,
            direction,
            config,
            limits,
        } = sa;
        let spi = config.spi;
        let held = Held::new(peer.clone(), limits, now, answer);
        match direction {
            SaDirection::Inbound => {
                self.inbound.insert(spi, held);
                out.push(SaCommand::InstallInbound(peer, config));
            }
            SaDirection::Outbound => {
                self.next.insert(peer.clone(), (spi, held));
                out.push(SaCommand::InstallOutbound(peer, config, limits.packets_max));
            }
        }
    }

    fn remove(&mut self, removal: Removal, answer: Answer, out: &mut Vec<SaCommand>) {
        let Removal {
            peer,
            direction,
            spi,
        } = removal;
        let retirement = match direction {
            SaDirection::Inbound => Retirement::Inbound(spi),
            SaDirection::Outbound => Retirement::Outbound(peer.clone(), spi),
        };
        let is_busy = match direction {
            SaDirection::Inbound => match self.inbound.get(&spi) {
                Some(held) if held.peer == peer => held.answer.is_some(),
                _ => return answer.refuse(OrderRefused::NoSuchSa),
            },
            SaDirection::Outbound if self.next.get(&peer).is_some_and(|it| it.0 == spi) => true,
            SaDirection::Outbound if self.sends_by(&peer, spi) => self.next.contains_key(&peer),
            SaDirection::Outbound => return answer.refuse(OrderRefused::NoSuchSa),
        };
        if is_busy || self.is_leaving(&retirement) {
            return answer.refuse(OrderRefused::Busy);
        }
        self.retire(retirement, Some(answer), out);
    }

    /// Whether a file's key is on disk as used, so that no later run takes it from an order. One
    /// that can't be is not used.
    fn is_written(&mut self, command: &SaCommand) -> bool {
        let (SaCommand::InstallInbound(_, sa) | SaCommand::InstallOutbound(_, sa, _)) = command
        else {
            return true;
        };
        let written = self.ledger.write_remembered(sa.key.fingerprint());
        if let Err(error) = &written {
            tracing::error!(spi = %sa.spi, %error, "its key can't be written down as used: no SA");
        }
        written.is_ok()
    }

    /// Whether this is the sending SA in force to a peer.
    fn sends_by(&self, peer: &NodeName, spi: Spi) -> bool {
        self.outbound.get(peer).is_some_and(|(it, _)| *it == spi)
    }

    fn is_leaving(&self, retirement: &Retirement) -> bool {
        self.leaving.iter().any(|(it, _)| it == retirement)
    }

    fn retire(&mut self, it: Retirement, answer: Option<Answer>, out: &mut Vec<SaCommand>) {
        out.push(SaCommand::Retire(it.clone()));
        self.leaving.push((it, answer));
    }

    /// Those whose way out wasn't barred are gone.
    fn forget_retired(&mut self) {
        for (retirement, answer) in core::mem::take(&mut self.leaving) {
            match &retirement {
                Retirement::Inbound(spi) => drop(self.inbound.remove(spi)),
                Retirement::Outbound(peer, spi) => {
                    if self.sends_by(peer, *spi) {
                        self.outbound.remove(peer);
                    }
                }
            }
            if let Some(answer) = answer {
                answer.done();
            }
        }
    }

    fn retire_due(&mut self, now: Tick, out: &mut Vec<SaCommand>) {
        let inbound = self.inbound.iter().filter(|(_, it)| it.is_due(now));
        let inbound = inbound.map(|(spi, _)| Retirement::Inbound(*spi));
        let outbound = self.outbound.iter().filter(|(_, (_, it))| it.is_due(now));
        let outbound = outbound.map(|(peer, (spi, _))| Retirement::Outbound(peer.clone(), *spi));
        let due: Vec<_> = inbound.chain(outbound).collect();
        for it in due {
            tracing::warn!(spi = %it.spi(), "an SA ends at its limit");
            self.retire(it, None, out);
        }
    }

    /// An SA didn't come in force: what was there before is what there is.
    fn fail(&mut self, node: Option<&NodeName>, spi: Spi, why: OrderRefused) {
        // Nobody says which way. Ours are all different; theirs are, of one peer. Whose a refused
        // one was may not be known any more.
        let is_its = |it: &NodeName| node.is_none_or(|node| node == it);
        let inbound = self.inbound.get(&spi);
        let held = if inbound.is_some_and(|it| it.answer.is_some() && is_its(&it.peer)) {
            self.inbound.remove(&spi)
        } else {
            let mut next = self.next.iter();
            let peer = next.find(|(peer, (it, _))| *it == spi && is_its(peer));
            let peer = peer.map(|(peer, _)| peer.clone());
            peer.and_then(|it| self.next.remove(&it)).map(|it| it.1)
        };
        if let Some(answer) = held.and_then(|it| it.answer) {
            answer.refuse(why);
        }
    }

    fn note_use(&mut self, held: (SaDirection, &NodeName, Spi), packets: u64, bytes: u64) {
        let (direction, node, spi) = held;
        let held = match direction {
            SaDirection::Inbound => self.inbound.get_mut(&spi),
            SaDirection::Outbound => self
                .outbound
                .get_mut(node)
                .filter(|(it, _)| *it == spi)
                .map(|(_, it)| it),
        };
        if let Some(held) = held {
            held.is_over |= packets >= held.packets_max || bytes >= held.bytes_max;
        }
    }
}

impl KeyDriver for LiveKeys {
    fn on_event(&mut self, event: KeyEvent, out: &mut Vec<SaCommand>) {
        match event {
            KeyEvent::PeerAdded { node, outer } => {
                self.peers.insert(node.clone(), outer.map(|it| it.1));
                let mut given = Vec::new();
                self.files
                    .on_event(KeyEvent::PeerAdded { node, outer }, &mut given);
                out.extend(given.into_iter().filter(|it| self.is_written(it)));
            }
            KeyEvent::PeerRemoved { node } => {
                self.peers.remove(&node);
                self.inbound.retain(|_, it| it.peer != node);
                self.outbound.remove(&node);
                self.next.remove(&node);
            }
            KeyEvent::InboundInstalled { node, spi } => {
                if let Some(held) = self.inbound.get_mut(&spi)
                    && let Some(answer) = held.answer.take()
                {
                    return answer.done();
                }
                self.files
                    .on_event(KeyEvent::InboundInstalled { node, spi }, out);
            }
            KeyEvent::OutboundInstalled { node, spi } => {
                if self.next.get(&node).is_some_and(|(it, _)| *it == spi)
                    && let Some((_, mut held)) = self.next.remove(&node)
                {
                    let answer = held.answer.take();
                    self.outbound.insert(node, (spi, held));
                    if let Some(answer) = answer {
                        answer.done();
                    }
                    return;
                }
                self.files
                    .on_event(KeyEvent::OutboundInstalled { node, spi }, out);
            }
            KeyEvent::Refused { node, spi } => self.fail(node.as_ref(), spi, OrderRefused::Full),
            KeyEvent::Failed { node, spi, error } => {
                self.fail(Some(&node), spi, OrderRefused::Control(error));
            }
            KeyEvent::Used {
                node,
                direction,
                spi,
                packets,
                bytes,
                asked: _,
            } => self.note_use((direction, &node, spi), packets, bytes),
            KeyEvent::NotRetired(retirement) => {
                let at = self.leaving.iter().position(|(it, _)| *it == retirement);
                if let Some(at) = at
                    && let Some(answer) = self.leaving.swap_remove(at).1
                {
                    answer.refuse(OrderRefused::Busy);
                }
            }
            KeyEvent::Pods { .. } => {}
        }
    }

    fn on_order(&mut self, order: Order, answer: Answer, now: Tick, out: &mut Vec<SaCommand>) {
        match order {
            Order::Add(sa) => self.add(sa, answer, now, out),
            Order::Remove(removal) => self.remove(removal, answer, out),
        }
    }

    fn on_tick(&mut self, now: Tick, out: &mut Vec<SaCommand>) {
        self.forget_retired();
        if now >= self.ages_at {
            self.ages_at = now + AGES_EVERY_NS;
            self.retire_due(now, out);
        }
    }

    fn is_ready(&self) -> bool {
        self.files.is_ready()
    }

    fn wants_usage(&self) -> bool {
        true
    }
}
