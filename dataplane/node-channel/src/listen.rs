//! Connections that come in: bounded in number, in all and by address, before anyone is known.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::id::SpiffeId;
use crate::identity::Identity;
use crate::session::{SessionError, Up, accept};

/// Most handshakes under way.
pub const HANDSHAKES_MAX: usize = 256;

/// Most of them from one address, so that one host can't hold them all.
pub const HANDSHAKES_PER_ADDR_MAX: usize = 8;

/// How long to wait when the system has no descriptor to spare.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a handshake needs to know, as it is now.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) identity: Result<Arc<Identity>, String>,
    /// The peers that are to dial us.
    pub(crate) dialling: Arc<BTreeSet<SpiffeId>>,
}

/// How a connection from `SocketAddr` turned out.
pub(crate) type Accepted = (SocketAddr, Result<Up, SessionError>);

pub(crate) async fn listen(
    listener: TcpListener,
    gate: watch::Receiver<Gate>,
    handshake_ms_max: u64,
    to: mpsc::Sender<Accepted>,
) {
    let by_addr = ByAddr::default();
    // Dropped with this task, and the handshakes with it.
    let mut handshakes = JoinSet::new();
    loop {
        while handshakes.try_join_next().is_some() {}
        let Ok((tcp, from)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        while handshakes.try_join_next().is_some() {}
        let slot = by_addr.take(from.ip());
        let (Some(slot), true) = (slot, handshakes.len() < HANDSHAKES_MAX) else {
            drop(tcp);
            // Under a flood it is enough to count what the driver has time for.
            drop(to.try_send((from, Err(SessionError::TooManyHandshakes))));
            continue;
        };
        let (gate, to) = (gate.borrow().clone(), to.clone());
        handshakes.spawn(async move {
            let result = shake(tcp, gate, handshake_ms_max).await;
            drop(slot);
            drop(to.send((from, result)).await);
        });
    }
}

async fn shake(tcp: TcpStream, gate: Gate, ms: u64) -> Result<Up, SessionError> {
    let identity = gate.identity.map_err(SessionError::NoIdentity)?;
    accept(tcp, identity, gate.dialling, ms).await
}

/// Handshakes under way, by address.
#[derive(Clone, Default)]
struct ByAddr(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of an address's handshakes; given back on drop.
struct Slot(ByAddr, IpAddr);

impl ByAddr {
    fn take(&self, addr: IpAddr) -> Option<Slot> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(addr).or_default();
        if *count >= HANDSHAKES_PER_ADDR_MAX {
            return None;
        }
        *count += 1;
        Some(Slot(self.clone(), addr))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_of_handshakes_and_gets_them_back() {
        let by_addr = ByAddr::default();
        let one = IpAddr::from([10, 0, 0, 1]);
        let mut held: Vec<_> = (0..HANDSHAKES_PER_ADDR_MAX)
            .filter_map(|_| by_addr.take(one))
            .collect();
        assert_eq!(held.len(), HANDSHAKES_PER_ADDR_MAX);
        assert!(by_addr.take(one).is_none());
        assert!(by_addr.take(IpAddr::from([10, 0, 0, 2])).is_some());
        held.pop();
        assert!(by_addr.take(one).is_some());
        held.clear();
        let left = by_addr.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(left.is_empty());
    }
}
