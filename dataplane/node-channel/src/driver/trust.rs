//! Whom we trust may change while sessions stand: files are reloaded, peers looked at again.

use std::sync::Arc;

use rustls::pki_types::UnixTime;
use sluice_crypto::lifecycle::SaEvent;
use sluice_offload_api::model::NodeName;

use super::Driver;
use crate::api::Event;
use crate::identity::{Identity, Stamp};
use crate::session::SessionError;
use crate::svid::SvidError;

impl Driver {
    /// Reads the files if they have changed or were not good, and looks at every peer again.
    pub(super) fn on_reload(&mut self) {
        let stamp = Stamp::of(&self.config.files);
        let bad = self.gate.borrow().identity.is_err();
        let changed = bad || stamp != self.stamp;
        if changed {
            let files = &self.config.files;
            let loaded = Identity::load(files, &self.id, &self.config.trust_domain);
            let loaded = loaded.map(Arc::new).map_err(|why| why.to_string());
            // Before it is told: who reads of a bad file may rely on it.
            self.gate.send_modify(|gate| gate.identity = loaded.clone());
            let (good, error) = (loaded.is_ok(), loaded.as_ref().err());
            self.status.send_if_modified(|s| {
                let changed = good || s.identity_error.as_ref() != error;
                s.identity_loads += u64::from(good);
                s.identity_error = error.cloned();
                changed
            });
            if let Err(why) = &loaded
                && stamp != self.stamp
            {
                tracing::error!("no session begins until this is put right: {why}");
            }
            self.stamp = stamp;
        }
        self.look_at_peers_again(changed);
    }

    /// Checking a signature costs too much to do it for every peer each time: only when the
    /// anchors may be others, when a certificate has expired, or while there is doubt.
    fn look_at_peers_again(&mut self, all: bool) {
        let Ok(identity) = self.gate.borrow().identity.clone() else {
            return;
        };
        let now = self.now_ms();
        let mut doubtful = Vec::new();
        for (node, peer) in &mut self.peers {
            let Some(chain) = &peer.chain else {
                continue;
            };
            if !all && peer.doubted_since.is_none() && !chain.is_expired(UnixTime::now()) {
                continue;
            }
            match chain.verify(&identity.anchors, &identity.domain) {
                Ok(_) => peer.doubted_since = None,
                Err(why) => {
                    let first = peer.doubted_since.is_none();
                    let since = *peer.doubted_since.get_or_insert(now);
                    let over = since + self.config.grace_ms <= now;
                    doubtful.push((node.clone(), why, first, over));
                }
            }
        }
        for (node, why, first, over) in doubtful {
            if over {
                self.lapse(&node, why);
            } else if first {
                // It may have a new certificate that this session knows nothing of.
                tracing::warn!(%node, "{why}; asking for a new session");
                self.tell(&node, SaEvent::RekeyWanted);
            }
        }
    }

    /// The grace is over. An expired certificate ends the session: no key is made with it any
    /// more. One that no anchor vouches for ends everything at once.
    fn lapse(&mut self, node: &NodeName, why: SvidError) {
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        peer.chain = None;
        peer.doubted_since = None;
        let expired = matches!(why, SvidError::Expired { .. });
        let why = SessionError::Lapsed(why);
        match peer.current {
            Some(session) if expired => self.end(session, &why),
            None if expired => {}
            _ => {
                self.count(&node.0, Some(node), &why);
                self.start_over(node);
            }
        }
    }

    /// Takes everything back from the daemon and begins with the peer as if it were new.
    fn start_over(&mut self, node: &NodeName) {
        self.take_back(node);
        let Some(id) = self.peers.get(node).map(|p| p.id.clone()) else {
            return;
        };
        match self.machine(&id) {
            Ok(machine) => {
                if let Some(peer) = self.peers.get_mut(node) {
                    peer.machine = machine;
                    self.perform(node);
                }
            }
            // The same configuration was good before.
            Err(why) => tracing::error!(%node, "{why}"),
        }
    }

    /// Ends a peer's sessions and retires its SAs and bindings.
    pub(super) fn take_back(&mut self, node: &NodeName) {
        self.sessions.retain(|_, live| live.node != *node);
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        (peer.current, peer.chain, peer.dial) = (None, None, None);
        peer.doubted_since = None;
        for spi in core::mem::take(&mut peer.outbound) {
            let node = node.clone();
            self.outbox.push_back(Event::RetireOutbound { node, spi });
        }
        for spi in core::mem::take(&mut peer.inbound) {
            let node = node.clone();
            self.outbox.push_back(Event::RetireInbound { node, spi });
        }
        peer.bindings.begin(true);
        let gone = peer.bindings.end();
        self.tell_bindings(node, gone);
    }
}
