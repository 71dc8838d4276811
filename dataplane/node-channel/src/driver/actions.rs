//! What life cycles want done, and what sessions say.

use std::sync::Arc;
use std::time::Duration;

use sluice_crypto::lifecycle::{CloseReason, Message, SaAction, SaEvent, SessionId};
use sluice_offload_api::model::NodeName;

use super::{Dialled, Driver, Live};
use crate::api::{Event, PeerStatus, Status};
use crate::binding::BindingChange;
use crate::codec::{Wire, encode};
use crate::session::{AbortOnDrop, FromSession, SessionError, dial};

/// Between two log lines for one reason; the counters tell the rest.
const LOG_PAUSE: Duration = Duration::from_secs(1);

impl Driver {
    /// Does everything that the life cycle of `node` wants done by now.
    pub(super) fn perform(&mut self, node: &NodeName) {
        while let Some(action) = self
            .peers
            .get_mut(node)
            .and_then(|p| p.machine.next_action())
        {
            self.act(node, action);
        }
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        let deadline = peer.machine.next_deadline();
        if deadline != peer.deadline {
            if let Some(before) = core::mem::replace(&mut peer.deadline, deadline) {
                self.deadlines.remove(&(before, node.clone()));
            }
            self.deadlines.extend(deadline.map(|at| (at, node.clone())));
        }
        let summary = peer.machine.summary();
        let bindings = peer.bindings.len();
        self.status_of(node, |s| {
            s.connected = summary.session.is_some();
            s.sending = summary.sending;
            s.receiving = summary.receiving;
            s.bindings = bindings;
        });
    }

    fn act(&mut self, node: &NodeName, action: SaAction) {
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        let node = node.clone();
        match action {
            SaAction::Dial => self.dial(&node),
            SaAction::Send(session, message) => self.send(session, encode(&Wire::Sa(message))),
            SaAction::Close(session, reason) => {
                self.sessions.remove(&session);
                if peer.current == Some(session) {
                    peer.current = None;
                }
                if reason != CloseReason::Superseded {
                    self.count(&node.0, Some(&node), &SessionError::LifeCycle(reason));
                }
            }
            SaAction::InstallInbound(sa) => {
                peer.inbound.insert(sa.spi);
                self.outbox.push_back(Event::InstallInbound { node, sa });
            }
            SaAction::InstallOutbound(sa) => {
                peer.outbound.insert(sa.spi);
                self.outbox.push_back(Event::InstallOutbound { node, sa });
            }
            SaAction::RetireInbound(spi) => {
                if peer.inbound.remove(&spi) {
                    self.outbox.push_back(Event::RetireInbound { node, spi });
                }
            }
            SaAction::RetireOutbound(spi) => {
                if peer.outbound.remove(&spi) {
                    self.outbox.push_back(Event::RetireOutbound { node, spi });
                }
            }
            SaAction::Established(session, epoch) => {
                // What was announced before goes by its number, and the snapshot has newer ones.
                self.announce();
                let Some(peer) = self.peers.get_mut(&node) else {
                    return;
                };
                peer.current = Some(session);
                tracing::info!(%node, epoch, "SAs are in use both ways");
                self.status_of(&node, |s| s.established += 1);
                let frames = self.snapshot();
                self.send(session, frames);
                self.outbox.push_back(Event::Established { node, epoch });
            }
        }
    }

    /// All our bindings, as one run of frames.
    fn snapshot(&self) -> Vec<u8> {
        let instance = self.instance;
        let mut frames = encode(&Wire::BindingsBegin { instance });
        for binding in self.bindings.iter() {
            frames.extend(encode(&Wire::Binding(binding.clone())));
        }
        frames.extend(encode(&Wire::BindingsEnd));
        frames
    }

    fn dial(&mut self, node: &NodeName) {
        self.next_session += 1;
        let number = self.next_session;
        let (gate, dials) = (self.gate.subscribe(), self.dials.clone());
        let (out, ms) = (self.dialled_out.clone(), self.config.handshake_ms_max);
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        let (id, addr, name) = (peer.id.clone(), peer.management, node.clone());
        let listens = self.config.listen;
        let task = tokio::spawn(async move {
            // Never closed, and were it so, a dial more would do no harm.
            let _turn = dials.acquire().await;
            // As it is now: while it waited for its turn certificates may have been renewed.
            let identity = gate.borrow().identity.clone();
            let result = match identity {
                Ok(identity) => dial(listens, addr, identity, id, ms).await,
                Err(why) => Err(SessionError::NoIdentity(why)),
            };
            let node = name;
            let dialled = Dialled {
                node,
                number,
                result,
            };
            drop(out.send(dialled).await);
        });
        peer.dial = Some((number, AbortOnDrop(task.abort_handle())));
        self.status_of(node, |s| s.dials += 1);
    }

    fn send(&mut self, session: SessionId, frames: impl Into<Arc<[u8]>>) {
        if let Some(live) = self.sessions.get(&session)
            && let Err(why) = live.session.send(frames.into())
        {
            // Not at once: this may be in the midst of a life cycle's actions.
            let to = self.to.clone();
            tokio::spawn(async move {
                drop(to.send(FromSession::Ended(session, why)).await);
            });
        }
    }

    /// Tells all peers what has been announced and taken back. In one piece: a session has room for
    /// few that wait, and ends when there are more, which hundreds of new pods must not do.
    pub(super) fn announce(&mut self) {
        if self.announcing.is_empty() {
            return;
        }
        let frames: Arc<[u8]> = core::mem::take(&mut self.announcing).into();
        let sessions: Vec<_> = self.peers.values().filter_map(|p| p.current).collect();
        for session in sessions {
            self.send(session, frames.clone());
        }
    }

    pub(super) fn on_session(&mut self, message: FromSession) {
        match message {
            FromSession::Received(session, message) => {
                let Some(node) = self.sessions.get(&session).map(|l| l.node.clone()) else {
                    return;
                };
                match message {
                    Wire::Sa(message) => self.received(&node, session, message),
                    other => self.on_binding(&node, session, other),
                }
            }
            FromSession::Ended(session, why) => self.end(session, &why),
        }
    }

    fn received(&mut self, node: &NodeName, session: SessionId, message: Message) {
        self.tell(node, SaEvent::Received { session, message });
    }

    /// Ends a session from this side, or takes note that it ended.
    pub(super) fn end(&mut self, session: SessionId, why: &SessionError) {
        let Some(Live { node, .. }) = self.sessions.remove(&session) else {
            return;
        };
        if let Some(peer) = self.peers.get_mut(&node)
            && peer.current == Some(session)
        {
            peer.current = None;
        }
        self.count(&node.0, Some(&node), why);
        self.tell(&node, SaEvent::SessionDown { session });
    }

    /// Bindings count on the session in use only. The peer sends all of them when it has taken a
    /// session into use, which it has not before we have.
    fn on_binding(&mut self, node: &NodeName, session: SessionId, message: Wire) {
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        if peer.current != Some(session) {
            return;
        }
        let changes = match message {
            Wire::BindingsBegin { instance } => {
                let gone = peer.bindings.begin(instance != peer.bindings_instance);
                peer.bindings_instance = instance;
                gone
            }
            Wire::Binding(binding) => match peer.bindings.announce(binding) {
                Ok(change) => change.into_iter().collect(),
                Err(why) => return self.end(session, &why.into()),
            },
            Wire::BindingsEnd => peer.bindings.end(),
            Wire::Withdraw { addr, number } => {
                peer.bindings.withdraw(addr, number).into_iter().collect()
            }
            Wire::Sa(_) => return,
        };
        self.tell_bindings(node, changes);
    }

    pub(super) fn tell_bindings(&mut self, node: &NodeName, changes: Vec<BindingChange>) {
        let event = |change| Event::Binding {
            node: node.clone(),
            change,
        };
        self.outbox.extend(changes.into_iter().map(event));
        let len = self.peers.get(node).map_or(0, |p| p.bindings.len());
        self.status_of(node, |s| s.bindings = len);
    }

    /// Whether a line of a kind is not one too many: a flood must not become a flood of lines.
    pub(super) fn may_log(&mut self, kind: &'static str) -> bool {
        let last = self.logged.get(kind);
        let may = last.is_none_or(|at| self.now.duration_since(*at) >= LOG_PAUSE);
        if may {
            self.logged.insert(kind, self.now);
        }
        may
    }

    /// Writes down what refused or ended a session.
    pub(super) fn count(&mut self, whose: &str, node: Option<&NodeName>, why: &SessionError) {
        let kind = why.kind();
        if matches!(why, SessionError::Closed) {
            tracing::info!(peer = whose, "{why}");
            return;
        }
        if self.may_log(kind) {
            tracing::warn!(peer = whose, kind, "{why}");
        }
        let text = why.to_string();
        self.status.send_modify(|s: &mut Status| {
            *s.refused.entry(kind).or_default() += 1;
            s.refused_last = Some(format!("{whose}: {text}"));
            if let Some(peer) = node.and_then(|n| s.peers.get_mut(n)) {
                peer.error_last = Some(text);
            }
        });
    }

    pub(super) fn status_of(&self, node: &NodeName, change: impl FnOnce(&mut PeerStatus)) {
        self.status.send_if_modified(|s| {
            let Some(peer) = s.peers.get_mut(node) else {
                return false;
            };
            let before = peer.clone();
            change(peer);
            *peer != before
        });
    }
}
