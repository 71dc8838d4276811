//! Who agrees on keys: the seam between the control thread and a key driver.
//!
//! The control thread tells a [`KeyDriver`] what happened; the driver sends back what is to
//! be installed through [`SaSender`]. A driver that needs sockets keeps them on a task of
//! its own and only forwards the events there.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use crossbeam_channel::{Sender, TrySendError};
use sluice_crypto::esp::Spi;
use sluice_dataplane_control::{SaConfig, SaError};
use sluice_dataplane_core::tick::Tick;
use sluice_offload_api::model::{NodeName, PodUid, SaDirection};

use crate::live::{Answer, Order, OrderRefused};

/// Something that a key driver acts on.
#[derive(Debug)]
pub enum KeyEvent {
    /// A peer is new or its tunnel addresses changed: it needs keys.
    PeerAdded {
        /// The node.
        node: NodeName,
        /// Outer source and destination of what goes to it; `None` if no address family is
        /// shared, and then nothing can be sent.
        outer: Option<(IpAddr, IpAddr)>,
    },
    /// A peer is gone; its SAs are on their way out.
    PeerRemoved {
        /// The node.
        node: NodeName,
    },
    /// A generation is in force: these are the addresses of this node's pods, all of them.
    Pods {
        /// Address and pod.
        pods: BTreeMap<IpAddr, PodUid>,
    },
    /// Every worker has this receiving SA: the peer may send.
    InboundInstalled {
        /// The node.
        node: NodeName,
        /// The SA.
        spi: Spi,
    },
    /// Every worker sends by this SA.
    OutboundInstalled {
        /// The node.
        node: NodeName,
        /// The SA.
        spi: Spi,
    },
    /// A worker refused an SA: its SPI is in use, or there is no room.
    Refused {
        /// The node; `None`: it isn't known any more.
        node: Option<NodeName>,
        /// The SA.
        spi: Spi,
    },
    /// What an SA has carried in all, once a second to a driver that
    /// [wants it](KeyDriver::wants_usage).
    Used {
        /// The node.
        node: NodeName,
        /// Which way it goes.
        direction: SaDirection,
        /// The SA.
        spi: Spi,
        /// Packets since it was installed.
        packets: u64,
        /// Inner bytes since it was installed.
        bytes: u64,
        /// When its worker was asked.
        asked: Instant,
    },
    /// The control side didn't take an SA. The key is gone; make another.
    Failed {
        /// The node.
        node: NodeName,
        /// The SA.
        spi: Spi,
        /// Why.
        error: SaError,
    },
    /// The control side couldn't retire an SA now: it is in use until that is asked again.
    NotRetired(Retirement),
}

/// An SA to be taken out of use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Retirement {
    /// A receiving one.
    Inbound(Spi),
    /// A sending one, if it is still the one in force.
    Outbound(NodeName, Spi),
}

impl Retirement {
    /// The SA.
    #[must_use]
    pub const fn spi(&self) -> Spi {
        match self {
            Self::Inbound(spi) | Self::Outbound(_, spi) => *spi,
        }
    }
}

/// What a key driver wants done.
#[derive(Debug)]
pub enum SaCommand {
    /// Install a receiving SA.
    InstallInbound(NodeName, SaConfig),
    /// Send by this SA from now on, and by no more than so many packets.
    InstallOutbound(NodeName, SaConfig, u64),
    /// Take one out.
    Retire(Retirement),
    /// A node says that an address is a pod's, or with `false` that it is no longer.
    Bind(NodeName, IpAddr, PodUid, bool),
}

impl SaCommand {
    /// Whether it is about a node and what that node had.
    pub(crate) fn is_about(&self, node: &NodeName) -> bool {
        match self {
            Self::InstallInbound(it, _)
            | Self::InstallOutbound(it, ..)
            | Self::Retire(Retirement::Outbound(it, _))
            | Self::Bind(it, ..) => it == node,
            // Who had it isn't said, and its number is nobody else's.
            Self::Retire(Retirement::Inbound(_)) => false,
        }
    }
}

/// The way back to the control thread; cheap to clone.
#[derive(Clone, Debug)]
pub struct SaSender(pub(crate) Sender<SaCommand>);

/// A command that wasn't taken.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The control thread has too much to do; the command comes back.
    #[error("the control thread takes no more commands now")]
    Busy(Box<SaCommand>),
    /// The control thread has ended.
    #[error("the control thread has ended")]
    Gone,
}

impl SaSender {
    /// Hands a command over without waiting.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(&self, command: SaCommand) -> Result<(), SendError> {
        self.0.try_send(command).map_err(|error| match error {
            TrySendError::Full(command) => SendError::Busy(Box::new(command)),
            TrySendError::Disconnected(_) => SendError::Gone,
        })
    }
}

/// Agrees on keys with peers. Called on the control thread: it must not block.
pub trait KeyDriver: Send {
    /// Something happened. Commands pushed to `out` are carried out in order, at once or, while
    /// workers have no room for one, later; what is about a peer that goes meanwhile is dropped.
    fn on_event(&mut self, event: KeyEvent, out: &mut Vec<SaCommand>);

    /// Somebody asks for an SA to come or go, at this time. Who answers is the driver, now or
    /// when it is done.
    fn on_order(&mut self, order: Order, answer: Answer, now: Tick, out: &mut Vec<SaCommand>) {
        let _ = (order, now, out);
        answer.refuse(OrderRefused::NotTaken);
    }

    /// Called once a turn, of a millisecond or less.
    fn on_tick(&mut self, now: Tick, out: &mut Vec<SaCommand>) {
        let _ = (now, out);
    }

    /// Whether traffic may begin: false while keys that a file gave aren't in force yet.
    fn is_ready(&self) -> bool {
        true
    }

    /// Whether it wants to hear [`KeyEvent::Used`].
    fn wants_usage(&self) -> bool {
        false
    }
}

/// An SA of a static configuration.
#[derive(Debug)]
pub struct StaticSa {
    /// The other node.
    pub peer: NodeName,
    /// Which way it goes.
    pub direction: SaDirection,
    /// Key and all.
    pub config: SaConfig,
    /// Where the key came from.
    pub key_file: PathBuf,
}

/// Keys that a configuration gives. Each is used once: a peer whose address moves gets none
/// again, as a second SA of one key would repeat its nonces.
#[derive(Debug, Default)]
pub struct StaticKeys {
    by_peer: BTreeMap<NodeName, Vec<SaCommand>>,
    /// SAs that aren't in force yet.
    awaited: usize,
}

impl StaticKeys {
    /// Keys for some peers.
    #[must_use]
    pub fn new(sas: Vec<StaticSa>) -> Self {
        let awaited = sas.len();
        let mut by_peer = BTreeMap::<_, Vec<_>>::new();
        for StaticSa {
            peer,
            direction,
            config,
            ..
        } in sas
        {
            let command = match direction {
                SaDirection::Inbound => SaCommand::InstallInbound(peer.clone(), config),
                SaDirection::Outbound => SaCommand::InstallOutbound(peer.clone(), config, u64::MAX),
            };
            by_peer.entry(peer).or_default().push(command);
        }
        Self { by_peer, awaited }
    }
}

impl KeyDriver for StaticKeys {
    fn on_event(&mut self, event: KeyEvent, out: &mut Vec<SaCommand>) {
        match event {
            KeyEvent::PeerAdded { node, .. } => {
                out.extend(self.by_peer.remove(&node).unwrap_or_default());
            }
            KeyEvent::InboundInstalled { .. } | KeyEvent::OutboundInstalled { .. } => {
                self.awaited = self.awaited.saturating_sub(1);
            }
            KeyEvent::PeerRemoved { .. }
            | KeyEvent::Pods { .. }
            | KeyEvent::Refused { .. }
            | KeyEvent::Used { .. }
            | KeyEvent::Failed { .. }
            | KeyEvent::NotRetired(_) => {}
        }
    }

    fn is_ready(&self) -> bool {
        self.awaited == 0
    }
}

/// No keys at all: whatever needs protection is dropped and counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoKeys;

impl KeyDriver for NoKeys {
    fn on_event(&mut self, _event: KeyEvent, _out: &mut Vec<SaCommand>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_crypto::key::{Algorithm, EspKey};
    use sluice_dataplane_control::Child;
    use sluice_dataplane_core::sad::Mode;

    fn sa(peer: &str, direction: SaDirection, spi: u32) -> StaticSa {
        let config = SaConfig {
            spi: Spi(spi),
            key: EspKey::from_keymat(Algorithm::Aes128Gcm16, &[7; 20]).unwrap(),
            esn: true,
            window: 64,
            udp_encap: false,
            mode: Mode::Tunnel,
            child: Child::ONLY,
        };
        StaticSa {
            peer: peer.into(),
            direction,
            config,
            key_file: PathBuf::new(),
        }
    }

    fn added(keys: &mut StaticKeys, node: &str) -> usize {
        let mut out = Vec::new();
        keys.on_event(
            KeyEvent::PeerAdded {
                node: node.into(),
                outer: None,
            },
            &mut out,
        );
        out.len()
    }

    #[test]
    fn a_key_from_a_file_is_used_once_also_when_its_peer_comes_again() {
        let mut keys = StaticKeys::new(vec![sa("b", SaDirection::Outbound, 0x1000)]);
        assert_eq!(added(&mut keys, "c"), 0);
        assert_eq!(added(&mut keys, "b"), 1);
        assert_eq!(
            added(&mut keys, "b"),
            0,
            "its nonces would begin at 1 again"
        );
    }

    #[test]
    fn traffic_waits_until_every_sa_of_the_files_is_in_force() {
        let inbound = sa("b", SaDirection::Inbound, 0x1000);
        let mut keys = StaticKeys::new(vec![inbound, sa("b", SaDirection::Outbound, 0x2000)]);
        assert!(!keys.is_ready());
        added(&mut keys, "b");
        assert!(!keys.is_ready(), "sent to the worker is not in force");
        let (node, mut out) = (NodeName::from("b"), Vec::new());
        let spi = Spi(0x1000);
        keys.on_event(
            KeyEvent::InboundInstalled {
                node: node.clone(),
                spi,
            },
            &mut out,
        );
        let refused = KeyEvent::Refused {
            node: Some(node.clone()),
            spi: Spi(0x2000),
        };
        keys.on_event(refused, &mut out);
        assert!(!keys.is_ready(), "one was refused: the start must fail");
        keys.on_event(
            KeyEvent::OutboundInstalled {
                node,
                spi: Spi(0x2000),
            },
            &mut out,
        );
        assert!(keys.is_ready());
        assert!(StaticKeys::new(Vec::new()).is_ready());
    }
}
