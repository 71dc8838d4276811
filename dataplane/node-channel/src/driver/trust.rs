//! Whom we trust may change while sessions stand: files are reloaded, a Workload API tells of a
//! change, peers are looked at again.

use std::sync::Arc;

use rustls::pki_types::UnixTime;
use sluice_crypto::lifecycle::{SaEvent, SessionId};
use sluice_offload_api::model::NodeName;
use sluice_svid::{Chain, Doubt};

use super::Driver;
use crate::api::Event;
use crate::identity::{Identity, Source, Stamp};
use crate::session::SessionError;
use crate::tls;
use crate::workload::News;

impl Driver {
    /// Reads the files if it is they and they have changed or were not good, and looks at every
    /// peer again.
    pub(super) fn on_reload(&mut self) {
        let changed = self.read_changed_files();
        self.tell_own_end();
        self.look_at_peers_again(changed);
    }

    /// By an SVID whose time is over no session begins.
    fn tell_own_end(&self) {
        let identity = self.gate.borrow().identity.clone();
        let Some(why) = identity.ok().and_then(|it| it.expiry(UnixTime::now())) else {
            return;
        };
        let is_new = self.status.send_if_modified(|s| {
            let is_new = s.identity_error.is_none();
            s.identity_error.get_or_insert_with(|| why.clone());
            is_new
        });
        if is_new {
            tracing::error!("no session begins until this is put right: {why}");
        }
    }

    fn read_changed_files(&mut self) -> bool {
        let Source::Files(files) = &self.config.identity else {
            return false;
        };
        let stamp = Some(Stamp::of(files));
        let bad = self.gate.borrow().identity.is_err();
        let changed = bad || stamp != self.stamp;
        if changed {
            let loaded = Identity::load(files, &self.id, &self.config.trust_domain);
            let loaded = loaded.map(Arc::new).map_err(|why| why.to_string());
            // Before it is told: who reads of a bad file may rely on it.
            if let Ok(identity) = &loaded {
                self.trusted = Some(identity.anchors.clone());
            }
            self.gate.send_modify(|gate| gate.identity = loaded.clone());
            let (good, error) = (loaded.is_ok(), loaded.as_ref().err());
            self.status.send_if_modified(|s| {
                let changed = good || s.identity_error.as_ref() != error;
                s.identity_loads += u64::from(good);
                s.identity_error = error.cloned();
                if let Ok(identity) = &loaded {
                    s.svid_not_after = Some(identity.not_after);
                }
                changed
            });
            match &loaded {
                Ok(identity) => tracing::info!("the SVID of {} was read again", identity.id),
                Err(why) if stamp != self.stamp => {
                    tracing::error!("no session begins until this is put right: {why}");
                }
                Err(_) => {}
            }
            self.stamp = stamp;
        }
        changed
    }

    /// Takes what a Workload API gives. Whatever that is, SAs in use end by nothing but what an
    /// anchor says of their peers.
    pub(super) fn on_news(&mut self, news: News) {
        match news {
            News::Identity(identity) => {
                tracing::info!("an SVID of {} and its trust bundle have come", identity.id);
                // Most responses renew the SVID alone, and there may be thousands of peers.
                let changed = self.trusted.as_ref() != Some(&identity.anchors);
                self.trusted = Some(identity.anchors.clone());
                let not_after = identity.not_after;
                let identity = Arc::from(identity);
                self.gate.send_modify(|gate| gate.identity = Ok(identity));
                self.status.send_modify(|s| {
                    s.identity_loads += 1;
                    s.svid_not_after = Some(not_after);
                    s.identity_error = None;
                });
                self.look_at_peers_again(changed);
            }
            News::Withdrawn(why) => self.no_news(&why.to_string(), true),
            News::Fault(why) => self.no_news(&why.to_string(), false),
        }
    }

    fn no_news(&self, why: &str, withdrawn: bool) {
        let without = withdrawn || self.gate.borrow().identity.is_err();
        if without {
            let why = why.to_owned();
            self.gate.send_modify(|gate| gate.identity = Err(why));
        }
        let is_new = self.status.send_if_modified(|s| {
            let is_new = s.identity_error.as_deref() != Some(why);
            s.identity_error = Some(why.to_owned());
            is_new
        });
        // Once, and not each time that it is tried again.
        if is_new && without {
            tracing::error!("no session begins until this is put right: {why}");
        } else if is_new {
            tracing::warn!("the SVID and anchors stay as they are: {why}");
        }
    }

    /// Whether an anchor of now vouches for a chain.
    pub(super) fn vouched(&self, chain: &Chain) -> Result<(), SessionError> {
        let identity = self.gate.borrow().identity.clone();
        let identity = identity.map_err(SessionError::NoIdentity)?;
        let verified = chain.verify(
            tls::algorithms(),
            &identity.anchors,
            &identity.domain,
            UnixTime::now(),
        );
        verified.map_err(|doubt| doubt.why().into())
    }

    /// Checking a signature costs too much to do it for every peer each time: only when the
    /// anchors may be others, when a certificate has expired, or while there is doubt.
    ///
    /// All that was shown for SAs that there are is looked at, also what is older than the newest:
    /// who holds two sessions could else keep the keys of the one for which nobody vouches. By the
    /// last anchors that were good, also while this node itself may begin nothing.
    fn look_at_peers_again(&mut self, changed: bool) {
        let Some(anchors) = self.trusted.clone() else {
            return;
        };
        let (now, time) = (self.now_ms(), UnixTime::now());
        let anchor_ended = anchors.ended_since(self.looked_at, time);
        self.looked_at = time;
        let all = changed || anchor_ended;
        let mut doubtful = Vec::new();
        for (node, peer) in &mut self.peers {
            let machine = &peer.machine;
            peer.shown
                .retain(|shown, _| machine.sessions().any(|it| it == *shown));
            let newest = peer.shown.last_key_value().map(|it| *it.0);
            for (session, shown) in &mut peer.shown {
                let may_have_expired = !shown.lapsed && shown.chain.is_expired(time);
                if !all && shown.doubted_since.is_none() && !may_have_expired {
                    continue;
                }
                let domain = &self.config.trust_domain;
                match shown
                    .chain
                    .verify(tls::algorithms(), &anchors, domain, time)
                {
                    Ok(()) => (shown.doubted_since, shown.lapsed) = (None, false),
                    Err(Doubt::Expired(_)) if shown.lapsed => shown.doubted_since = None,
                    Err(doubt) => {
                        let first = shown.doubted_since.is_none() && Some(*session) == newest;
                        let since = *shown.doubted_since.get_or_insert(now);
                        let over = since + self.config.grace_ms <= now;
                        doubtful.push((node.clone(), *session, doubt, first, over));
                    }
                }
            }
        }
        for (node, session, doubt, first, over) in doubtful {
            if over {
                self.lapse(&node, session, doubt);
            } else if first {
                // It may have a new certificate that this session knows nothing of.
                tracing::warn!(%node, "{}; asking for a new session", doubt.why());
                self.tell(&node, SaEvent::RekeyWanted);
            }
        }
    }

    /// The grace is over. An expired certificate ends the session: no key is made with it any
    /// more. One that no anchor vouches for ends the SAs of its session at once, and everything if
    /// there is no newer one with a good one.
    fn lapse(&mut self, node: &NodeName, session: SessionId, doubt: Doubt) {
        let Some(shown) = self
            .peers
            .get_mut(node)
            .and_then(|it| it.shown.get_mut(&session))
        else {
            // Another of its sessions has ended everything.
            return;
        };
        match doubt {
            Doubt::Expired(why) => {
                (shown.doubted_since, shown.lapsed) = (None, true);
                self.end(session, &SessionError::Lapsed(why));
            }
            Doubt::Untrusted(why) => {
                self.count(&node.0, Some(node), &SessionError::Lapsed(why));
                if self.has_newer(node, session) {
                    self.tell(node, SaEvent::Distrusted { session });
                } else {
                    self.start_over(node);
                }
            }
        }
    }

    /// Whether the session in use is another, for which an anchor vouches.
    fn has_newer(&self, node: &NodeName, session: SessionId) -> bool {
        let Some(peer) = self.peers.get(node) else {
            return false;
        };
        let current = peer.current.filter(|it| *it != session);
        let shown = current.and_then(|it| peer.shown.get(&it));
        let by = |anchors| {
            let (domain, now) = (&self.config.trust_domain, UnixTime::now());
            shown.is_some_and(|it| {
                it.chain
                    .verify(tls::algorithms(), anchors, domain, now)
                    .is_ok()
            })
        };
        self.trusted.as_ref().is_some_and(by)
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
        (peer.current, peer.dial) = (None, None);
        peer.shown.clear();
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
