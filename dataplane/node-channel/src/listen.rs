//! Connections that come in: bounded in number, in all and by address, before anyone is known.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::identity::Identity;
use crate::session::{SessionError, Up, accept};
use sluice_svid::SpiffeId;

/// Most handshakes under way.
pub const HANDSHAKES_MAX: usize = 256;

/// Most of them from one sender, so that one host can't hold them all.
pub const HANDSHAKES_PER_ADDR_MAX: usize = 8;

/// Most of them from addresses where no peer is, so that many hosts can't either.
pub const HANDSHAKES_STRANGERS_MAX: usize = HANDSHAKES_MAX / 2;

/// The part of an IPv6 address that tells one network from another: a host has all of a /64.
const NETWORK: u128 = !0 << 64;

/// How long to wait when the system has no descriptor to spare.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a handshake needs to know, as it is now.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) identity: Result<Arc<Identity>, String>,
    /// The peers that are to dial us.
    pub(crate) dialling: Arc<BTreeSet<SpiffeId>>,
    /// Where those are.
    pub(crate) known: Arc<Known>,
}

/// Addresses of peers, each with how many have it.
#[derive(Clone, Default, Debug)]
pub(crate) struct Known(BTreeMap<IpAddr, usize>);

impl Known {
    pub(crate) fn add(&mut self, addr: IpAddr) {
        *self.0.entry(addr.to_canonical()).or_default() += 1;
    }

    pub(crate) fn remove(&mut self, addr: IpAddr) {
        let addr = addr.to_canonical();
        if let Some(peers) = self.0.get_mut(&addr) {
            *peers -= 1;
            if *peers == 0 {
                self.0.remove(&addr);
            }
        }
    }

    fn sender(&self, addr: IpAddr) -> Sender {
        let addr = addr.to_canonical();
        match addr {
            _ if self.0.contains_key(&addr) => Sender::Peer(addr),
            IpAddr::V4(_) => Sender::Stranger(addr),
            IpAddr::V6(it) => {
                let network = Ipv6Addr::from_bits(it.to_bits() & NETWORK);
                Sender::Stranger(network.into())
            }
        }
    }
}

/// Whose share a handshake is of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Sender {
    /// The very address: all nodes of a cluster may be in one network.
    Peer(IpAddr),
    /// An address, or the network of one.
    Stranger(IpAddr),
}

/// How a connection from `SocketAddr` turned out.
pub(crate) type Accepted = (SocketAddr, Result<Up, SessionError>);

pub(crate) async fn listen(
    listener: TcpListener,
    gate: watch::Receiver<Gate>,
    handshake_ms_max: u64,
    to: mpsc::Sender<Accepted>,
) {
    let slots = Slots::default();
    // Dropped with this task, and the handshakes with it.
    let mut handshakes = JoinSet::new();
    loop {
        while handshakes.try_join_next().is_some() {}
        let Ok((tcp, from)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let gate = gate.borrow().clone();
        let Some(slot) = slots.take(gate.known.sender(from.ip())) else {
            drop(tcp);
            // Under a flood it is enough to count what the driver has time for.
            drop(to.try_send((from, Err(SessionError::TooManyHandshakes))));
            continue;
        };
        let to = to.clone();
        handshakes.spawn(async move {
            let result = shake(tcp, gate, handshake_ms_max).await;
            drop(to.send((from, result)).await);
            // What waits to be told holds memory still.
            drop(slot);
        });
    }
}

async fn shake(tcp: TcpStream, gate: Gate, ms: u64) -> Result<Up, SessionError> {
    let identity = gate.identity.map_err(SessionError::NoIdentity)?;
    accept(tcp, identity, gate.dialling, ms).await
}

/// Handshakes under way.
#[derive(Clone, Default)]
struct Slots(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    all: usize,
    strangers: usize,
    by_sender: HashMap<Sender, usize>,
}

/// One of them; given back on drop.
struct Slot(Slots, Sender);

impl Slots {
    fn take(&self, sender: Sender) -> Option<Slot> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_stranger = matches!(sender, Sender::Stranger(_));
        let of_sender = taken.by_sender.get(&sender).copied().unwrap_or(0);
        if taken.all >= HANDSHAKES_MAX
            || (is_stranger && taken.strangers >= HANDSHAKES_STRANGERS_MAX)
            || of_sender >= HANDSHAKES_PER_ADDR_MAX
        {
            return None;
        }
        taken.all += 1;
        taken.strangers += usize::from(is_stranger);
        taken.by_sender.insert(sender, of_sender + 1);
        Some(Slot(self.clone(), sender))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        taken.strangers -= usize::from(matches!(self.1, Sender::Stranger(_)));
        if let Some(count) = taken.by_sender.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                taken.by_sender.remove(&self.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(n: usize) -> IpAddr {
        let [.., high, low] = n.to_be_bytes();
        IpAddr::from([10, 0, high, low])
    }

    fn is_empty(slots: &Slots) -> bool {
        let taken = slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all == 0 && taken.strangers == 0 && taken.by_sender.is_empty()
    }

    #[test]
    fn a_sender_has_its_share_of_handshakes_and_gets_them_back() {
        let (slots, known) = (Slots::default(), Known::default());
        let one = known.sender(host(1));
        let mut held: Vec<_> = (0..HANDSHAKES_PER_ADDR_MAX)
            .filter_map(|_| slots.take(one))
            .collect();
        assert_eq!(held.len(), HANDSHAKES_PER_ADDR_MAX);
        assert!(slots.take(one).is_none());
        assert!(slots.take(known.sender(host(2))).is_some());
        held.pop();
        assert!(slots.take(one).is_some());
        held.clear();
        assert!(is_empty(&slots));
    }

    #[test]
    fn strangers_leave_half_to_peers_and_peers_may_have_all() {
        let (slots, mut known) = (Slots::default(), Known::default());
        known.add(host(1));
        let strangers = (2..).map_while(|n| slots.take(known.sender(host(n))));
        let strangers: Vec<_> = strangers.take(HANDSHAKES_MAX).collect();
        assert_eq!(strangers.len(), HANDSHAKES_STRANGERS_MAX);
        assert!(slots.take(known.sender(host(1))).is_some());
        drop(strangers);
        (0..HANDSHAKES_MAX).for_each(|n| known.add(host(n)));
        let peers = (0..).map_while(|n| slots.take(known.sender(host(n))));
        let peers: Vec<_> = peers.take(2 * HANDSHAKES_MAX).collect();
        assert_eq!(peers.len(), HANDSHAKES_MAX);
        drop(peers);
        assert!(is_empty(&slots));
    }

    #[test]
    fn a_network_of_ipv6_is_one_sender_and_a_peer_in_it_another() {
        let mut known = Known::default();
        let [one, two, far, peer] = [
            "2001:db8::1",
            "2001:db8::ffff:2",
            "2001:db8:0:1::1",
            "2001:db8::7",
        ]
        .map(|it| it.parse::<Ipv6Addr>().map_or(host(0), IpAddr::from));
        known.add(peer);
        assert_eq!(known.sender(one), known.sender(two));
        assert_ne!(known.sender(one), known.sender(far));
        assert_eq!(known.sender(peer), Sender::Peer(peer));
        // A socket of both families gives IPv4's like this.
        let mapped = IpAddr::V6(std::net::Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped());
        assert_eq!(known.sender(mapped), Sender::Stranger(host(1)));
        known.add(host(1));
        assert_eq!(known.sender(mapped), Sender::Peer(host(1)));
    }

    #[test]
    fn an_address_is_known_as_long_as_one_peer_has_it() {
        let mut known = Known::default();
        known.add(host(1));
        known.add(host(1));
        known.remove(host(1));
        assert_eq!(known.sender(host(1)), Sender::Peer(host(1)));
        known.remove(host(1));
        known.remove(host(1));
        assert_eq!(known.sender(host(1)), Sender::Stranger(host(1)));
    }
}
