//! The node channel as a key driver: what the control thread says goes to it, and what it
//! wants done comes back.
//!
//! ```text
//! control thread ── KeyEvent ──► ChannelKeys ─ queue ─► task ── Command ──► node channel
//!        ▲                                                                        │
//!        └──────────────── SaSender ◄──────── another task ◄─────────── Event ────┘
//! ```
//! Two tasks, as whoever stops reading events in order to send a command would wait for
//! itself.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use sluice_crypto::lifecycle::Install;
use sluice_crypto::replay::ReplayWindow;
use sluice_dataplane_control::{Child, SaConfig};
use sluice_dataplane_core::sad::Mode;
use sluice_node_channel::{Binding, BindingChange, Command, Event, Handle};
use sluice_offload_api::model::{NodeName, PodUid, SaDirection};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::NodeChannelConfig;
use crate::keys::{KeyDriver, KeyEvent, Retirement, SaCommand, SaSender, SendError};

/// What waits for the channel, at most: two rounds of reports of every SA that a dataplane of
/// several workers has. Of an SA whose reports are lost nobody knows that it is silent.
const QUEUE_MAX: usize = 32 * sluice_node_channel::PEERS_MAX;
/// Retirements that wait to be tried again, at most.
const RETIRE_AGAIN_MAX: usize = 1024;
/// Between two tries to hand a command to a busy control thread.
const RETRY: Duration = Duration::from_millis(1);

/// Forwards to the channel. Lives on the control thread.
#[derive(Debug)]
pub struct ChannelKeys {
    queue: mpsc::Sender<Command>,
    management: BTreeMap<NodeName, SocketAddr>,
    known: BTreeSet<NodeName>,
    retire_again: Vec<Retirement>,
    /// What peers were told of this node's addresses, with the binding's number.
    announced: BTreeMap<IpAddr, (PodUid, u64)>,
    bindings: u64,
}

/// A channel that is joined.
#[derive(Debug)]
pub struct Joined {
    /// How it stands, for metrics.
    pub status: watch::Receiver<sluice_node_channel::Status>,
    /// Ends when the channel or the control thread has: then no key is renewed or retired.
    pub relay: JoinHandle<()>,
}

/// Joins a channel that was started and a control side, on the current Tokio runtime.
#[must_use]
pub fn join(handle: Handle, config: &NodeChannelConfig, sas: SaSender) -> (ChannelKeys, Joined) {
    let (queue, queued) = mpsc::channel(QUEUE_MAX);
    let Handle {
        commands,
        events,
        status,
        ..
    } = handle;
    let relay = relay(commands, events, queued, sas, config.udp_encap);
    let joined = Joined {
        status,
        relay: tokio::spawn(relay),
    };
    let keys = ChannelKeys {
        queue,
        management: config.peers.clone(),
        known: BTreeSet::new(),
        retire_again: Vec::new(),
        announced: BTreeMap::new(),
        bindings: 0,
    };
    (keys, joined)
}

async fn relay(
    commands: mpsc::Sender<Command>,
    mut events: mpsc::Receiver<Event>,
    mut queued: mpsc::Receiver<Command>,
    sas: SaSender,
    udp_encap: bool,
) {
    let forward = async {
        while let Some(command) = queued.recv().await {
            if commands.send(command).await.is_err() {
                return;
            }
        }
    };
    let carry_out = async {
        while let Some(event) = events.recv().await {
            let Some(mut command) = to_command(event, udp_encap) else {
                continue;
            };
            // In order, so one that can't be taken holds up those behind it.
            loop {
                match sas.send(command) {
                    Ok(()) => break,
                    Err(SendError::Gone) => return,
                    Err(SendError::Busy(back)) => command = *back,
                }
                tokio::time::sleep(RETRY).await;
            }
        }
        tracing::error!("the node channel ended: no key is renewed any more");
    };
    tokio::select! {
        () = forward => {}
        () = carry_out => {}
    }
}

fn to_command(event: Event, udp_encap: bool) -> Option<SaCommand> {
    let config = |sa: Install| SaConfig {
        spi: sa.spi,
        key: sa.key,
        esn: sa.esn,
        window: ReplayWindow::DEFAULT,
        udp_encap,
        mode: Mode::Tunnel,
        child: Child {
            number: sa.child,
            of: sa.children,
        },
    };
    match event {
        Event::InstallInbound { node, sa } => Some(SaCommand::InstallInbound(node, config(sa))),
        Event::InstallOutbound { node, sa } => {
            let packets_max = sa.packets_max;
            Some(SaCommand::InstallOutbound(node, config(sa), packets_max))
        }
        Event::RetireInbound { spi, .. } => Some(SaCommand::Retire(Retirement::Inbound(spi))),
        Event::RetireOutbound { node, spi } => {
            Some(SaCommand::Retire(Retirement::Outbound(node, spi)))
        }
        Event::Established { node, epoch } => {
            tracing::info!(%node, epoch, "keys are in use both ways");
            None
        }
        Event::Binding { node, change } => {
            let (it, is_its) = match change {
                BindingChange::Announced(it) => (it, true),
                BindingChange::Withdrawn(it) => (it, false),
            };
            Some(SaCommand::Bind(node, it.addr, it.pod, is_its))
        }
        Event::CommandRefused { node, why } => {
            tracing::error!(%node, why, "the node channel refused a command");
            None
        }
    }
}

impl ChannelKeys {
    fn send(&self, command: Command) {
        // Full: the channel has stopped, or is thousands of reports behind. What is lost runs
        // into the life cycle's own time limits.
        if let Err(error) = self.queue.try_send(command) {
            tracing::error!(%error, "the node channel is not told of an event");
        }
    }

    fn peer_added(&mut self, node: NodeName, reachable: bool) {
        if !reachable {
            tracing::error!(%node, "no tunnel address of a family that the uplink has: no keys");
        }
        let Some(&management) = self.management.get(&node) else {
            tracing::error!(
                %node,
                "no management address in `node_channel.peers`: no keys, and all that goes to \
                 it is dropped"
            );
            return;
        };
        let node_again = node.clone();
        let moved = !self.known.insert(node.clone());
        self.send(Command::PeerAdded { node, management });
        if moved {
            // Its sending SA still has the tunnel address before.
            self.send(Command::Rekey { node: node_again });
        }
    }
}

impl ChannelKeys {
    /// Tells what has changed of this node's addresses.
    fn announce(&mut self, pods: BTreeMap<IpAddr, PodUid>) {
        let gone: Vec<_> = self
            .announced
            .keys()
            .filter(|it| !pods.contains_key(it))
            .copied()
            .collect();
        for addr in gone {
            if let Some((_, number)) = self.announced.remove(&addr) {
                self.send(Command::WithdrawBinding { addr, number });
            }
        }
        for (addr, pod) in pods {
            if self
                .announced
                .get(&addr)
                .is_some_and(|(told, _)| *told == pod)
            {
                continue;
            }
            self.bindings += 1;
            let number = self.bindings;
            self.announced.insert(addr, (pod.clone(), number));
            self.send(Command::AnnounceBinding(Binding { addr, pod, number }));
        }
    }
}

impl KeyDriver for ChannelKeys {
    fn on_event(&mut self, event: KeyEvent, out: &mut Vec<SaCommand>) {
        out.extend(self.retire_again.drain(..).map(SaCommand::Retire));
        match event {
            KeyEvent::PeerAdded { node, outer } => self.peer_added(node, outer.is_some()),
            KeyEvent::PeerRemoved { node } => {
                self.known.remove(&node);
                self.send(Command::PeerRemoved { node });
            }
            KeyEvent::Pods { pods } => self.announce(pods),
            KeyEvent::InboundInstalled { node, spi } => {
                self.send(Command::InboundInstalled { node, spi });
            }
            KeyEvent::OutboundInstalled { node, spi } => {
                self.send(Command::OutboundInstalled { node, spi });
            }
            KeyEvent::Refused {
                node: Some(node),
                spi,
            }
            | KeyEvent::Failed { node, spi, .. } => {
                self.send(Command::Refused { node, spi });
            }
            KeyEvent::Refused { node: None, .. } => {}
            KeyEvent::NotRetired(retirement) => {
                if self.retire_again.len() < RETIRE_AGAIN_MAX {
                    self.retire_again.push(retirement);
                } else {
                    let spi = retirement.spi();
                    tracing::error!(%spi, "too many SAs wait to be retired: it ends at its limit");
                }
            }
            KeyEvent::Used {
                node,
                direction,
                spi,
                packets,
                bytes,
                asked,
            } => {
                self.send(match direction {
                    SaDirection::Inbound => Command::InboundUsed {
                        node,
                        spi,
                        packets,
                        asked: asked.into(),
                    },
                    SaDirection::Outbound => Command::OutboundUsed {
                        node,
                        spi,
                        packets,
                        bytes,
                    },
                });
            }
        }
    }

    fn wants_usage(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use sluice_crypto::esp::Spi;

    use super::*;

    #[test]
    fn peers_are_told_of_addresses_that_are_new_have_another_pod_or_are_gone() {
        let (queue, mut queued) = mpsc::channel(16);
        let mut keys = ChannelKeys {
            queue,
            management: BTreeMap::new(),
            known: BTreeSet::new(),
            retire_again: Vec::new(),
            announced: BTreeMap::new(),
            bindings: 0,
        };
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut told = |pods: &[(IpAddr, &str)]| -> Vec<String> {
            let pods = pods
                .iter()
                .map(|(addr, pod)| (*addr, PodUid::from(*pod)))
                .collect();
            keys.on_event(KeyEvent::Pods { pods }, &mut Vec::new());
            core::iter::from_fn(|| queued.try_recv().ok())
                .map(|command| match command {
                    Command::AnnounceBinding(it) => {
                        format!("{} is {}, {}", it.addr, it.pod, it.number)
                    }
                    Command::WithdrawBinding { addr, number } => format!("not {addr}, {number}"),
                    other => format!("{other:?}"),
                })
                .collect()
        };
        assert_eq!(
            told(&[(one, "x"), (two, "y")]),
            ["10.0.0.1 is x, 1", "10.0.0.2 is y, 2"]
        );
        assert_eq!(told(&[(one, "x"), (two, "y")]), [""; 0]);
        assert_eq!(told(&[(one, "z")]), ["not 10.0.0.2, 2", "10.0.0.1 is z, 3"]);
        assert_eq!(told(&[(one, "z"), (two, "y")]), ["10.0.0.2 is y, 4"]);
    }

    #[test]
    fn what_a_peer_announces_and_takes_back_is_passed_on_with_its_node() {
        let it = Binding {
            addr: IpAddr::from([10, 0, 0, 1]),
            pod: PodUid::from("x"),
            number: 3,
        };
        let passed = |change| {
            let node = NodeName::from("b");
            match to_command(Event::Binding { node, change }, false) {
                Some(SaCommand::Bind(node, addr, pod, is_its)) => (node.0, addr, pod.0, is_its),
                other => panic!("{other:?}"),
            }
        };
        let (b, x) = ("b".to_owned(), "x".to_owned());
        let told = passed(BindingChange::Announced(it.clone()));
        assert_eq!(told, (b.clone(), it.addr, x.clone(), true));
        let told = passed(BindingChange::Withdrawn(it.clone()));
        assert_eq!(told, (b, it.addr, x, false));
    }

    #[tokio::test]
    async fn the_relay_ends_with_the_channel() {
        let (commands, _commands) = mpsc::channel(1);
        let (driver, events) = mpsc::channel(1);
        let (_queue, queued) = mpsc::channel(1);
        let (sas, _sas) = crossbeam_channel::bounded(1);
        let relay = tokio::spawn(relay(commands, events, queued, SaSender(sas), false));
        // As when the channel's task breaks.
        drop(driver);
        let ended = tokio::time::timeout(Duration::from_secs(10), relay).await;
        assert!(matches!(ended, Ok(Ok(()))), "{ended:?}");
    }

    #[test]
    fn what_was_not_retired_either_way_is_asked_again_at_the_next_event() {
        let (queue, _queued) = mpsc::channel(16);
        let mut keys = ChannelKeys {
            queue,
            management: BTreeMap::new(),
            known: BTreeSet::new(),
            retire_again: Vec::new(),
            announced: BTreeMap::new(),
            bindings: 0,
        };
        let both = [
            Retirement::Inbound(Spi(0x1000)),
            Retirement::Outbound("b".into(), Spi(0x2000)),
        ];
        let mut out = Vec::new();
        keys.on_event(KeyEvent::NotRetired(both[0].clone()), &mut out);
        assert!(out.is_empty(), "not at once, or it would spin");
        keys.on_event(KeyEvent::NotRetired(both[1].clone()), &mut out);
        keys.on_event(KeyEvent::PeerRemoved { node: "c".into() }, &mut out);
        let asked: Vec<_> = out
            .into_iter()
            .map(|it| match it {
                SaCommand::Retire(retirement) => retirement,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(asked, both);
    }
}
