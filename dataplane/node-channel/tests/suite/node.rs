//! A daemon around a node channel, its dataplane a map of SAs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sluice_crypto::esp::{ESP_HEADER_LEN, InboundSa, NEXT_HEADER_IPV4, OutboundSa, Spi};
use sluice_crypto::key::Fingerprint;
use sluice_crypto::lifecycle::{Limits, Timing};
use sluice_node_channel::{
    Binding, BindingChange, Command, Config, Event, Handle, PeerStatus, Source, Status, spawn,
};
use sluice_offload_api::model::NodeName;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use crate::ca::{Papers, domain};

/// Long enough for a slow machine; a condition that holds is seen at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between reports of what SAs have opened.
const REPORT_EVERY: Duration = Duration::from_millis(30);

/// What a dataplane holds. Shared with the task that follows events.
#[derive(Default)]
pub(crate) struct Sas {
    pub(crate) inbound: BTreeMap<Spi, InboundSa>,
    /// Whose packets each receives.
    peers: BTreeMap<Spi, NodeName>,
    /// By peer: SPI, key, and the SA.
    pub(crate) outbound: BTreeMap<NodeName, (Spi, Fingerprint, OutboundSa)>,
    pub(crate) bindings: BTreeMap<NodeName, Vec<Binding>>,
    /// Every (key, number) that was sealed by.
    pub(crate) used: BTreeSet<(Fingerprint, u64)>,
    pub(crate) installs: usize,
    pub(crate) refused: Vec<String>,
    /// Refuse this many installs first.
    pub(crate) refuse: usize,
}

pub(crate) struct Node {
    pub(crate) name: NodeName,
    pub(crate) listen: SocketAddr,
    pub(crate) sas: Arc<Mutex<Sas>>,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
    changed: watch::Receiver<u64>,
    stop: mpsc::Sender<()>,
    stopped: tokio::task::JoinHandle<()>,
}

/// An address that nobody else's port is taken from: who starts anew listens where it did.
pub(crate) fn own_address() -> SocketAddr {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    // Relaxed: only the number counts.
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    SocketAddr::from(([127, high | 128, low, count], 0))
}

/// Short waits, so that a test is short; nothing is asserted about them.
pub(crate) fn config(papers: &Papers) -> Config {
    config_from(&papers.node, papers.files())
}

/// The same, with its identity from anywhere.
pub(crate) fn config_from(node: &str, identity: impl Into<Source>) -> Config {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = Config::new(NodeName::from(node), domain(), listen, identity);
    config.limits = Limits {
        jitter_ms: 0,
        ..Limits::default()
    };
    config.timing = Timing {
        ping_ms: 200,
        drain_ms: 100,
        backoff_ms_min: 10,
        backoff_ms_max: 100,
        ..Timing::default()
    };
    config.reload_ms = 20;
    config
}

impl Node {
    pub(crate) async fn start(papers: &Papers) -> Self {
        Self::start_with(config(papers)).await
    }

    pub(crate) async fn start_with(config: Config) -> Self {
        let name = config.node.clone();
        let handle = spawn(config).await.unwrap();
        let sas = Arc::new(Mutex::new(Sas::default()));
        let (changes, changed) = watch::channel(0);
        let (stop, stopping) = mpsc::channel(1);
        let (listen, commands) = (handle.listen, handle.commands.clone());
        let status = handle.status.clone();
        let following = follow(handle, sas.clone(), changes, stopping);
        Self {
            name,
            listen,
            sas,
            commands,
            status,
            changed,
            stop,
            stopped: tokio::spawn(following),
        }
    }

    /// As a process that ends: its SAs are gone, its address is free again.
    pub(crate) async fn stop(self) {
        drop((self.stop, self.commands));
        self.stopped.await.unwrap();
    }

    pub(crate) async fn say(&self, command: Command) {
        self.commands.send(command).await.unwrap();
    }

    pub(crate) async fn add(&self, node: &NodeName, management: SocketAddr) {
        let node = node.clone();
        self.say(Command::PeerAdded { node, management }).await;
    }

    pub(crate) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    pub(crate) fn peer(&self, node: &Node) -> PeerStatus {
        self.status()
            .peers
            .get(&node.name)
            .cloned()
            .unwrap_or_default()
    }

    /// Waits until the status says so.
    pub(crate) async fn until(&self, what: &str, mut is: impl FnMut(&Status) -> bool) {
        let mut status = self.status.clone();
        let waited = timeout(PATIENCE, status.wait_for(|s| is(s)));
        if waited.await.is_err() {
            panic!("{}: not in time: {what}: {:#?}", self.name, self.status());
        }
    }

    /// Waits until the dataplane holds so.
    pub(crate) async fn until_sas(&self, what: &str, mut is: impl FnMut(&Sas) -> bool) {
        let mut changed = self.changed.clone();
        let waited = timeout(
            PATIENCE,
            changed.wait_for(|_| is(&self.sas.lock().unwrap())),
        );
        if waited.await.is_err() {
            panic!("{}: not in time: {what}: {:#?}", self.name, self.status());
        }
    }

    /// Waits until SAs with `peer` have come into use `times` times and the old ones are gone.
    pub(crate) async fn until_settled(&self, peer: &Node, times: u64) {
        let what = format!("{times} epochs with {}, one left", peer.name);
        let settled = |s: &Status| {
            let peer = s.peers.get(&peer.name);
            peer.is_some_and(|p| p.established >= times && p.connected && p.receiving.len() == 1)
        };
        self.until(&what, settled).await;
    }

    /// How often something was refused or ended for the reason `kind`.
    pub(crate) async fn until_refused(&self, kind: &str, times: u64) {
        let count = |s: &Status| s.refused.get(kind).copied().unwrap_or(0);
        self.until(&format!("{times} times {kind}"), |s| count(s) >= times)
            .await;
        assert_eq!(count(&self.status()), times, "{:#?}", self.status());
    }

    /// Seals a packet for `to`, if there is an SA.
    pub(crate) fn seal(&self, to: &Node, inner: &[u8]) -> Option<Vec<u8>> {
        let mut sas = self.sas.lock().unwrap();
        let (_, key, sa) = sas.outbound.get_mut(&to.name)?;
        let key = *key;
        let trailer = OutboundSa::trailer_len(inner.len());
        let mut packet = vec![0; ESP_HEADER_LEN + inner.len() + trailer];
        packet[ESP_HEADER_LEN..][..inner.len()].copy_from_slice(inner);
        let seq = sa.seal(&mut packet, inner.len(), NEXT_HEADER_IPV4).unwrap();
        assert!(sas.used.insert((key, seq)), "{key} sealed {seq} twice");
        Some(packet)
    }

    /// Opens a packet; a panic if it can't be.
    pub(crate) fn open(&self, mut packet: Vec<u8>) -> Vec<u8> {
        let mut sas = self.sas.lock().unwrap();
        let spi = Spi(u32::from_be_bytes(packet[..4].try_into().unwrap()));
        let known: Vec<_> = sas.inbound.keys().copied().collect();
        let sa = sas.inbound.get_mut(&spi);
        let sa = sa.unwrap_or_else(|| panic!("{}: no SA for {spi}, but {known:?}", self.name));
        let opened = sa.open(&mut packet).unwrap();
        packet[opened.inner].to_vec()
    }

    /// What one end seals, the other opens, both ways.
    pub(crate) fn exchange(&self, other: &Node) {
        for (from, to) in [(self, other), (other, self)] {
            let inner = format!("from {} to {}", from.name, to.name);
            let packet = from.seal(to, inner.as_bytes()).expect("an SA to send by");
            assert_eq!(to.open(packet), inner.as_bytes());
        }
    }
}

/// Introduces nodes to each other, given in the order of their names: the last, whom all others
/// dial, knows them first, so that nobody is refused.
pub(crate) async fn introduce(nodes: &[&Node]) {
    for one in nodes.iter().rev() {
        for other in nodes.iter().filter(|n| n.name != one.name) {
            one.add(&other.name, other.listen).await;
        }
        let known = |s: &Status| {
            let mut others = nodes.iter().filter(|n| n.name != one.name);
            others.all(|n| s.peers.contains_key(&n.name))
        };
        one.until("its peers", known).await;
    }
}

async fn follow(
    mut handle: Handle,
    sas: Arc<Mutex<Sas>>,
    changes: watch::Sender<u64>,
    mut stopping: mpsc::Receiver<()>,
) {
    let mut reports = tokio::time::interval(REPORT_EVERY);
    loop {
        let event = tokio::select! {
            event = handle.events.recv() => event,
            _ = stopping.recv() => None,
            _ = reports.tick() => {
                for used in reported(&sas.lock().unwrap()) {
                    // Without room there will be others.
                    let _ = handle.commands.try_send(used);
                }
                continue;
            }
        };
        let Some(event) = event else { break };
        let answer = apply(&mut sas.lock().unwrap(), event);
        changes.send_modify(|n| *n += 1);
        // Within the rule about reading events: there is one answer an event, and more room
        // for commands than a test has events.
        if let Some(answer) = answer {
            handle.commands.send(answer).await.unwrap();
        }
    }
    handle.stop().await;
}

/// What SAs have opened and sealed.
fn reported(sas: &Sas) -> Vec<Command> {
    let all = sas.inbound.iter().filter_map(|(spi, sa)| {
        Some(Command::InboundUsed {
            node: sas.peers.get(spi)?.clone(),
            spi: *spi,
            packets: sa.packets(),
            asked: Instant::now(),
        })
    });
    let sealed = sas
        .outbound
        .iter()
        .map(|(node, (_, _, sa))| Command::OutboundUsed {
            node: node.clone(),
            spi: sa.spi(),
            packets: sa.packets(),
            bytes: sa.bytes(),
        });
    all.chain(sealed).collect()
}

fn apply(sas: &mut Sas, event: Event) -> Option<Command> {
    if matches!(
        event,
        Event::InstallInbound { .. } | Event::InstallOutbound { .. }
    ) {
        sas.installs += 1;
    }
    match event {
        Event::InstallInbound { node, sa } | Event::InstallOutbound { node, sa }
            if sas.refuse > 0 =>
        {
            sas.refuse -= 1;
            Some(Command::Refused { node, spi: sa.spi })
        }
        Event::InstallInbound { node, sa } => {
            let inbound = InboundSa::new(sa.spi, sa.key, sa.esn, 1024).unwrap();
            let before = sas.inbound.insert(sa.spi, inbound);
            assert!(before.is_none(), "{} twice", sa.spi);
            sas.peers.insert(sa.spi, node.clone());
            Some(Command::InboundInstalled { node, spi: sa.spi })
        }
        Event::InstallOutbound { node, sa } => {
            let print = sa.key.fingerprint();
            let again = sas.used.iter().any(|(key, _)| *key == print);
            assert!(!again, "the key {print} is back");
            let outbound = OutboundSa::new(sa.spi, sa.key, sa.esn);
            let spi = sa.spi;
            sas.outbound.insert(node.clone(), (spi, print, outbound));
            Some(Command::OutboundInstalled { node, spi })
        }
        Event::RetireInbound { spi, .. } => {
            sas.inbound.remove(&spi);
            None
        }
        Event::RetireOutbound { node, spi } => {
            if sas.outbound.get(&node).is_some_and(|sa| sa.0 == spi) {
                sas.outbound.remove(&node);
            }
            None
        }
        Event::Binding { node, change } => {
            let all = sas.bindings.entry(node).or_default();
            match change {
                BindingChange::Announced(binding) => {
                    all.retain(|b| b.addr != binding.addr);
                    all.push(binding);
                }
                BindingChange::Withdrawn(binding) => all.retain(|b| b.addr != binding.addr),
            }
            None
        }
        Event::CommandRefused { why, .. } => {
            sas.refused.push(why);
            None
        }
        Event::Established { .. } => None,
    }
}
