//! How sessions, pairs and SAs end.

use super::{CloseReason, Dialling, PAIRS_MAX, SaAction, SaLifecycle, SessionId};
use crate::esp::Spi;
use crate::lifecycle::negotiate::EPOCH_MAX;
use crate::lifecycle::pair::{Pair, Use};
use crate::lifecycle::time::TimeMs;

impl SaLifecycle {
    /// A session that we end: the peer sees it go.
    pub(super) fn close(&mut self, session: SessionId, reason: CloseReason, now: TimeMs) {
        self.actions.push_back(SaAction::Close(session, reason));
        self.session_down(session, now);
    }

    pub(super) fn session_down(&mut self, session: SessionId, now: TimeMs) {
        let openings = self.openings.len();
        self.openings.retain(|o| o.session != session);
        let mut lost = self.openings.len() < openings;
        if self.is_establishing(session) {
            self.give_up_pair();
            lost = true;
        }
        if self.current == Some(session) {
            self.current = None;
            (self.dead_at, self.rekey_at) = (None, None);
            lost = true;
        }
        let busy = self.establishing.is_some() || !self.openings.is_empty();
        if lost && self.initiator && !busy && self.dialling == Dialling::No {
            self.back_off(now);
        }
    }

    pub(super) fn give_up_late_sessions(&mut self, now: TimeMs) {
        let max = self.config.timing.establish_ms_max;
        let openings = self.openings.iter().filter(|o| o.opened + max <= now);
        let mut late: Vec<_> = openings.map(|o| o.session).collect();
        late.extend(
            self.establishing_pair()
                .filter(|p| p.opened + max <= now)
                .map(|p| p.session),
        );
        for session in late {
            self.close(session, CloseReason::EstablishTimeout, now);
        }
    }

    /// Gives up whatever is being established, because a newer session takes its place.
    pub(super) fn give_up_unfinished(&mut self) {
        let superseded = |session| SaAction::Close(session, CloseReason::Superseded);
        if let Some((session, _)) = &self.establishing {
            self.actions.push_back(superseded(*session));
            self.give_up_pair();
        }
        if self.initiator {
            let openings = self.openings.drain(..);
            self.actions.extend(openings.map(|o| superseded(o.session)));
        }
    }

    /// A peer may offer the last of all epochs. Its SAs go then, and with them what the next epoch
    /// would have to come after: the counter is ours, and whoever has the peer's name later needs it.
    pub(super) fn begin_epochs_anew(&mut self) {
        if self.epoch_last < EPOCH_MAX {
            return;
        }
        self.epoch_last = 0;
        self.drop_pairs(|_| true);
        // What is still said there is of epochs that would be greater than the next.
        if let Some(before) = self.current.take() {
            self.actions
                .push_back(SaAction::Close(before, CloseReason::Superseded));
            (self.dead_at, self.rekey_at, self.ping_at) = (None, None, None);
        }
    }

    /// Ends what there is of a session.
    pub(super) fn distrust(&mut self, session: SessionId, now: TimeMs) {
        self.drop_pairs(|it| it.session == session);
        let is_open = self.current == Some(session)
            || self.is_establishing(session)
            || self.openings.iter().any(|it| it.session == session);
        if is_open {
            self.close(session, CloseReason::Distrusted, now);
        }
    }

    /// Takes pairs out of use at once, both ways.
    fn drop_pairs(&mut self, which: impl Fn(&Pair) -> bool) {
        self.stop_sending(&which);
        for pair in self.pairs.extract_if(.., |it| which(it)) {
            if pair.receive.is_live() {
                self.actions.extend(pair.retire_inbound());
            }
        }
    }

    /// What the peer may already send by stays; the rest goes at once.
    fn give_up_pair(&mut self) {
        let Some((session, _)) = self.establishing.take() else {
            return;
        };
        self.resend_at = None;
        let Some(pair) = self.pairs.iter_mut().find(|p| p.session == session) else {
            return;
        };
        if pair.send == Use::Waiting {
            pair.send = Use::Gone;
            pair.children.iter_mut().for_each(|c| c.out_key = None);
        }
        if !pair.ready_sent && pair.receive.is_live() {
            pair.receive = Use::Gone;
            self.actions.extend(pair.retire_inbound());
        }
    }

    /// The SA `spi` of the pair that `is_of` finds could not be installed.
    pub(super) fn refused(&mut self, spi: Spi, is_of: impl Fn(&Pair) -> bool, now: TimeMs) {
        let Some(session) = self.pairs.iter().rfind(|p| is_of(p)).map(|p| p.session) else {
            return;
        };
        if self.is_establishing(session) {
            self.close(session, CloseReason::Refused(spi), now);
        }
    }

    /// From what the peer says that it sends by follows what it has left, below `epoch`. SAs
    /// with a former life of it are of no use either way.
    pub(super) fn leave_what_the_peer_left(
        &mut self,
        instance: u64,
        sending: &[u64],
        epoch: u64,
        now: TimeMs,
    ) {
        for pair in self.pairs.iter_mut().filter(|p| p.epoch < epoch) {
            if pair.peer_instance != instance || !sending.contains(&pair.epoch) {
                pair.leave(now);
            }
        }
        self.stop_sending(|p| p.epoch < epoch && p.peer_instance != instance);
    }

    pub(super) fn stop_sending(&mut self, which: impl Fn(&Pair) -> bool) {
        for pair in &mut self.pairs {
            if pair.send.is_live() && which(pair) {
                pair.send = Use::Gone;
                let retire = pair
                    .children
                    .iter()
                    .map(|c| SaAction::RetireOutbound(c.outbound));
                self.actions.extend(retire);
            }
        }
    }

    /// Where pairs have piled up from lives of the peer that did not last, the oldest goes.
    pub(super) fn make_room(&mut self, instance: u64) {
        let idle = |p: &Pair| p.peer_instance != instance && !p.send.is_live();
        if self.pairs.len() >= PAIRS_MAX
            && let Some(at) = self.pairs.iter().position(idle)
        {
            let pair = self.pairs.remove(at);
            if pair.receive.is_live() {
                self.actions.extend(pair.retire_inbound());
            }
        }
    }

    pub(super) fn inbound_used(&mut self, spi: Spi, packets: u64, asked: TimeMs, now: TimeMs) {
        for pair in &mut self.pairs {
            if let Some(child) = pair.children.iter_mut().find(|c| c.inbound == spi) {
                child.heard.report(packets, asked, now);
            }
        }
    }

    pub(super) fn outbound_used(&mut self, spi: Spi, packets: u64, bytes: u64, now: TimeMs) {
        let limits = self.config.limits;
        let of = |p: &&mut Pair| p.send.is_live() && p.children.iter().any(|c| c.outbound == spi);
        let Some(pair) = self.pairs.iter_mut().rfind(of) else {
            return;
        };
        let epoch = pair.epoch;
        let hard = packets >= limits.hard_packets || bytes >= limits.hard_bytes;
        let soft = packets >= limits.soft_packets || bytes >= limits.soft_bytes;
        let Some(child) = pair.children.iter_mut().find(|c| c.outbound == spi) else {
            return;
        };
        let first = soft && !core::mem::replace(&mut child.soft_reached, soft);
        if hard {
            self.stop_sending(|p| p.epoch == epoch);
        }
        if first {
            self.want_rekey(now);
        }
    }

    pub(super) fn retire_what_is_due(&mut self, now: TimeMs) {
        let (hard_ms, drain_ms) = (self.config.limits.hard_ms, self.config.timing.drain_ms);
        self.stop_sending(|p| p.stops_at(hard_ms, drain_ms).is_some_and(|at| at <= now));
        for pair in &mut self.pairs {
            let ends = pair.ends_at(hard_ms);
            if ends.is_some_and(|at| at <= now) || pair.is_drained(drain_ms) {
                pair.receive = Use::Gone;
                self.actions.extend(pair.retire_inbound());
            }
        }
        let unfinished = self.establishing.as_ref().map(|(s, _)| *s);
        self.pairs
            .retain(|p| p.receive.is_live() || p.send.is_live() || unfinished == Some(p.session));
    }
}
