//! The exchange on a session, from hello to both directions in use.

use sluice_mutants::{Mutant, is};

use super::{
    CloseReason, Dialling, Install, OPENINGS_MAX, Opening, PAIRS_MAX, SaAction, SaLifecycle,
    SessionId,
};
use crate::esp::Spi;
use crate::lifecycle::derive::{Context, Direction, derive};
use crate::lifecycle::message::{Hello, Message};
use crate::lifecycle::negotiate::{NegotiateError, agree};
use crate::lifecycle::pair::{Child, Heard, Pair, Use};
use crate::lifecycle::time::TimeMs;

impl SaLifecycle {
    pub(super) fn session_up(&mut self, opening: Opening) {
        let session = opening.session;
        if self.initiator && self.dialling != Dialling::Asked {
            let close = SaAction::Close(session, CloseReason::Unexpected(session));
            self.actions.push_back(close);
            return;
        }
        if self.openings.len() >= OPENINGS_MAX
            && let Some(oldest) = self.openings.pop_front()
        {
            self.actions
                .push_back(SaAction::Close(oldest.session, CloseReason::Superseded));
        }
        let now = opening.opened;
        let mut opening = opening;
        if self.initiator {
            self.dialling = Dialling::No;
            self.give_up_unfinished();
            self.begin_epochs_anew();
            self.attempt += 1;
            let hello = self.hello(opening.receive, self.attempt);
            self.actions
                .push_back(SaAction::Send(session, Message::Hello(hello.clone())));
            opening.hello = Some(hello);
            self.resend_at = Some(now + self.config.timing.resend_ms);
        }
        self.openings.push_back(opening);
    }

    fn hello(&self, receive: super::SpiBlock, attempt: u64) -> Hello {
        let sending = self.pairs.iter().filter(|p| p.send.is_live());
        Hello {
            spiffe_id: self.config.local.clone(),
            instance: self.config.instance,
            attempt,
            epoch_floor: self.epoch_last + 1,
            receive,
            lanes: self.config.lanes,
            algorithms: self.config.algorithms.clone(),
            esn: self.config.esn,
            sending: sending.map(|p| p.epoch).collect(),
        }
    }

    pub(super) fn received(&mut self, session: SessionId, message: Message, now: TimeMs) {
        let establishing = self.is_establishing(session);
        if self.current == Some(session) {
            self.dead_at = Some(now + self.config.timing.dead_ms);
        }
        match message {
            Message::Hello(hello) => self.on_hello(session, hello, now),
            Message::Ready { epoch } if establishing => self.on_ready(session, epoch, now),
            Message::Delete { below } => self.on_delete(session, below, now),
            Message::Ping {
                sending,
                rekey_wanted,
            } => {
                self.on_delete(session, sending, now);
                if rekey_wanted && self.initiator && self.current == Some(session) {
                    self.want_rekey(now);
                }
            }
            Message::Ready { .. } => {}
        }
    }

    fn on_hello(&mut self, session: SessionId, theirs: Hello, now: TimeMs) {
        let Some(at) = self.openings.iter().position(|o| o.session == session) else {
            return;
        };
        let same_life = theirs.instance == self.peer_newest.0;
        if !self.initiator && same_life && theirs.attempt <= self.peer_newest.1 {
            self.openings.remove(at);
            self.actions
                .push_back(SaAction::Close(session, CloseReason::Superseded));
            return;
        }
        let Some(mut opening) = self.openings.remove(at) else {
            return;
        };
        // From here on this session is the one that counts: what was unfinished is given up
        // before our own hello says what we send by.
        self.give_up_unfinished();
        if !self.initiator {
            self.begin_epochs_anew();
        }
        self.peer_newest = (theirs.instance, theirs.attempt);
        if same_life || self.initiator {
            self.leave_what_the_peer_left(theirs.instance, &theirs.sending, u64::MAX, now);
        }
        self.make_room(theirs.instance);
        let hello = opening
            .hello
            .take()
            .unwrap_or_else(|| self.hello(opening.receive, 0));
        let pair = self.negotiate(opening, &hello, &theirs, now);
        let pair = match pair {
            Ok(pair) => pair,
            Err(reason) => {
                self.actions.push_back(SaAction::Close(session, reason));
                self.back_off(now);
                return;
            }
        };
        let epoch = pair.0.epoch;
        self.epoch_last = epoch;
        self.pairs.push(pair.0);
        if !self.initiator {
            self.actions
                .push_back(SaAction::Send(session, Message::Hello(hello.clone())));
        }
        self.actions
            .extend(pair.1.into_iter().map(SaAction::InstallInbound));
        self.establishing = Some((session, hello));
        self.resend_at = Some(now + self.config.timing.resend_ms);
        if is(Mutant::SentBeforeReceived) {
            self.on_ready(session, epoch, now);
        }
    }

    fn negotiate(
        &self,
        opening: Opening,
        ours: &Hello,
        theirs: &Hello,
        now: TimeMs,
    ) -> Result<(Pair, Vec<Install>), CloseReason> {
        if theirs.spiffe_id != self.config.peer {
            let (expected, got) = (self.config.peer.clone(), theirs.spiffe_id.clone());
            return Err(NegotiateError::WrongId { expected, got }.into());
        }
        if self.config.esn && !theirs.esn {
            return Err(NegotiateError::NoEsn.into());
        }
        if self.pairs.len() >= PAIRS_MAX {
            return Err(CloseReason::TooManyPairs);
        }
        let (first, second) = if self.initiator {
            (ours, theirs)
        } else {
            (theirs, ours)
        };
        let agreed = agree(first, second)?;
        let (outward, inward) = if self.initiator {
            (Direction::FromInitiator, Direction::FromResponder)
        } else {
            (Direction::FromResponder, Direction::FromInitiator)
        };
        let mut children = Vec::new();
        let mut installs = Vec::new();
        for child in 0..agreed.children {
            let context = Context {
                epoch: agreed.epoch,
                algorithm: agreed.algorithm,
                esn: agreed.esn,
                initiator_spi: first.receive.spi(child),
                responder_spi: second.receive.spi(child),
                initiator: &first.spiffe_id,
                responder: &second.spiffe_id,
            };
            let key = derive(&opening.secret, inward, child, &context)?;
            installs.push(Install {
                epoch: agreed.epoch,
                child,
                children: agreed.children,
                spi: ours.receive.spi(child),
                key,
                esn: agreed.esn,
                packets_max: self.config.limits.hard_packets,
            });
            children.push(Child {
                inbound: ours.receive.spi(child),
                outbound: theirs.receive.spi(child),
                out_key: Some(derive(&opening.secret, outward, child, &context)?),
                heard: Heard::default(),
                soft_reached: false,
            });
        }
        let pair = Pair {
            session: opening.session,
            epoch: agreed.epoch,
            esn: agreed.esn,
            peer_instance: theirs.instance,
            peer_sending: theirs.sending.clone(),
            children,
            receive: Use::Installing(0),
            send: Use::Waiting,
            ready_sent: false,
            peer_switched: false,
            opened: opening.opened,
            negotiated: now,
            left_at: None,
        };
        // The opening, and with it the secret, ends here.
        Ok((pair, installs))
    }

    pub(super) fn inbound_installed(&mut self, spi: Spi, now: TimeMs) {
        let owns = |p: &&mut Pair| p.children.iter().any(|c| c.inbound == spi);
        let Some(pair) = self.pairs.iter_mut().find(owns) else {
            return;
        };
        let Some(child) = pair.children.iter().position(|c| c.inbound == spi) else {
            return;
        };
        if !pair.receive.acknowledge(child, pair.children.len()) {
            return;
        }
        let (session, epoch) = (pair.session, pair.epoch);
        if self.is_establishing(session) {
            if let Some(pair) = self.pairs.iter_mut().find(|p| p.session == session) {
                pair.ready_sent = true;
            }
            self.actions
                .push_back(SaAction::Send(session, Message::Ready { epoch }));
            self.check_complete(session, now);
        }
    }

    fn on_ready(&mut self, session: SessionId, epoch: u64, now: TimeMs) {
        let of = |p: &&mut Pair| p.session == session && p.epoch == epoch;
        let packets_max = self.config.limits.hard_packets;
        let Some(pair) = self.pairs.iter_mut().find(of) else {
            return;
        };
        if pair.send != Use::Waiting {
            return;
        }
        pair.send = Use::Installing(0);
        let children = u8::try_from(pair.children.len()).unwrap_or(u8::MAX);
        let esn = pair.esn;
        for (child, c) in (0..children).zip(&mut pair.children) {
            let Some(key) = c.out_key.take() else {
                continue;
            };
            let spi = c.outbound;
            let install = Install {
                epoch,
                child,
                children,
                spi,
                key,
                esn,
                packets_max,
            };
            self.actions.push_back(SaAction::InstallOutbound(install));
        }
        let (instance, sending) = (pair.peer_instance, core::mem::take(&mut pair.peer_sending));
        self.leave_what_the_peer_left(instance, &sending, epoch, now);
    }

    pub(super) fn outbound_installed(&mut self, spi: Spi, now: TimeMs) {
        let owns = |p: &&mut Pair| p.send.is_live() && p.children.iter().any(|c| c.outbound == spi);
        let Some(pair) = self.pairs.iter_mut().rfind(owns) else {
            return;
        };
        let Some(child) = pair.children.iter().position(|c| c.outbound == spi) else {
            return;
        };
        if !pair.send.acknowledge(child, pair.children.len()) {
            return;
        }
        let (session, epoch) = (pair.session, pair.epoch);
        self.stop_sending(|p| p.epoch < epoch);
        if self.is_establishing(session) {
            self.actions
                .push_back(SaAction::Send(session, Message::Delete { below: epoch }));
            self.ping_at = Some(now + self.config.timing.ping_ms);
            self.check_complete(session, now);
        }
    }

    /// The peer, on a session that counts, sends by nothing below `below`.
    fn on_delete(&mut self, session: SessionId, below: u64, now: TimeMs) {
        let establishing = self.is_establishing(session);
        if !establishing && self.current != Some(session) {
            return;
        }
        let instance = self.peer_newest.0;
        for pair in &mut self.pairs {
            if pair.epoch < below && pair.peer_instance == instance {
                pair.leave(now);
            }
            if pair.session == session && pair.epoch <= below {
                pair.peer_switched = true;
            }
        }
        self.check_complete(session, now);
    }

    fn check_complete(&mut self, session: SessionId, now: TimeMs) {
        let of = |p: &&Pair| p.session == session && p.is_complete();
        let Some(pair) = self.pairs.iter().find(of) else {
            return;
        };
        if !self.is_establishing(session) {
            return;
        }
        let limits = &self.config.limits;
        let (epoch, opened) = (pair.epoch, pair.opened);
        self.establishing = None;
        self.resend_at = None;
        if let Some(before) = self.current.replace(session) {
            self.actions
                .push_back(SaAction::Close(before, CloseReason::Superseded));
        }
        self.failures = 0;
        let again = core::mem::take(&mut self.rekey_again);
        self.rekey_wanted = again;
        // The responder's own clock is only a safety net behind the initiator's.
        let early = self.jitter.below(limits.jitter_ms + 1);
        let early = if self.initiator { early } else { 0 };
        let soft = opened + (limits.soft_ms - early);
        self.rekey_at = Some(if again && self.initiator { now } else { soft });
        self.ping_at = Some(now);
        self.dead_at = Some(now + self.config.timing.dead_ms);
        self.actions
            .push_back(SaAction::Established(session, epoch));
    }

    /// Says again what has not been answered. TLS loses nothing; this costs little and makes the
    /// machine right over any network.
    pub(super) fn resend(&mut self, now: TimeMs) {
        self.resend_at = None;
        let mut send = |session, message| {
            self.actions.push_back(SaAction::Send(session, message));
            self.resend_at = Some(now + self.config.timing.resend_ms);
        };
        if let Some((session, hello)) = &self.establishing {
            send(*session, Message::Hello(hello.clone()));
            if let Some(pair) = self.pairs.iter().find(|p| p.session == *session)
                && pair.ready_sent
            {
                send(*session, Message::Ready { epoch: pair.epoch });
            }
        }
        for opening in &self.openings {
            if let Some(hello) = &opening.hello {
                send(opening.session, Message::Hello(hello.clone()));
            }
        }
    }

    pub(super) fn ping(&mut self, now: TimeMs) {
        let unfinished = self
            .establishing_pair()
            .filter(|p| p.send == Use::Installed);
        let unfinished = unfinished.map(|p| p.session);
        let sending = self.sending_epoch().unwrap_or(0);
        let rekey_wanted = self.rekey_wanted;
        let sessions = [self.current, unfinished];
        for session in sessions.into_iter().flatten() {
            let ping = Message::Ping {
                sending,
                rekey_wanted,
            };
            self.actions.push_back(SaAction::Send(session, ping));
        }
        let any = sessions.iter().any(Option::is_some);
        self.ping_at = any.then(|| now + self.config.timing.ping_ms);
    }
}
