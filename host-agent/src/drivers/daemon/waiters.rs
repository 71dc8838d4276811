//! ADDs that wait for the dataplane.

use std::time::Instant;

use sluice_offload_api::model::{Generation, PodUid};
use tokio::sync::oneshot;

use crate::local::{Fault, Response};

/// Whoever asked.
pub(super) type ReplyTo = oneshot::Sender<Result<Response, Fault>>;

/// An ADD that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) container: String,
    pub(super) ifname: String,
    pub(super) uid: PodUid,
    /// Whether this ADD made the attachment, so that giving up takes it back.
    pub(super) fresh: bool,
    /// Until then.
    pub(super) deadline: Instant,
    /// The first generation that was sent after the attachment was made.
    pub(super) needs: Option<Generation>,
    pub(super) reply: ReplyTo,
}

/// All that wait.
#[derive(Debug, Default)]
pub(super) struct Waiters(Vec<Waiter>);

impl Waiters {
    pub(super) fn push(&mut self, waiter: Waiter) {
        self.0.push(waiter);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// This generation was sent: it has whatever was attached before.
    pub(super) fn on_sent(&mut self, generation: Generation) {
        for it in &mut self.0 {
            it.needs.get_or_insert(generation);
        }
    }

    /// There is another connection. What was sent on the one before says nothing any more;
    /// a snapshot follows that has everything.
    pub(super) fn on_connect(&mut self) {
        for it in &mut self.0 {
            it.needs = None;
        }
    }

    /// Takes those whom `generation` protects. `settled` says that nothing is left to send.
    pub(super) fn take_protected(
        &mut self,
        generation: Option<Generation>,
        settled: bool,
    ) -> Vec<Waiter> {
        self.take(|it| settled || it.needs.is_some_and(|needs| Some(needs) <= generation))
    }

    /// Takes those whose time is over.
    pub(super) fn take_late(&mut self, now: Instant) -> Vec<Waiter> {
        self.take(|it| it.deadline <= now)
    }

    /// Takes those whose asker has gone.
    pub(super) fn take_abandoned(&mut self) -> Vec<Waiter> {
        self.take(|it| it.reply.is_closed())
    }

    /// Takes those whose attachment was sent.
    pub(super) fn take_sent(&mut self) -> Vec<Waiter> {
        self.take(|it| it.needs.is_some())
    }

    /// Takes those of a container.
    pub(super) fn take_of(&mut self, container: &str, ifname: &str) -> Vec<Waiter> {
        self.take(|it| it.container == container && it.ifname == ifname)
    }

    /// Takes all.
    pub(super) fn take_all(&mut self) -> Vec<Waiter> {
        core::mem::take(&mut self.0)
    }

    /// When the next one's time is over.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.0.iter().map(|it| it.deadline).min()
    }

    fn take(&mut self, which: impl Fn(&Waiter) -> bool) -> Vec<Waiter> {
        let (taken, left) = core::mem::take(&mut self.0).into_iter().partition(which);
        self.0 = left;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(needs: Option<u64>) -> (Waiter, oneshot::Receiver<Result<Response, Fault>>) {
        let (reply, receiver) = oneshot::channel();
        let waiter = Waiter {
            container: "c1".to_owned(),
            ifname: "eth0".to_owned(),
            uid: "u-1".into(),
            fresh: true,
            deadline: Instant::now(),
            needs: needs.map(Generation),
            reply,
        };
        (waiter, receiver)
    }

    #[test]
    fn a_generation_that_was_sent_before_protects_nobody() {
        let mut waiters = Waiters::default();
        let (it, _receiver) = waiter(None);
        waiters.push(it);
        // Generation 4 was under way when the pod was attached.
        assert!(
            waiters
                .take_protected(Some(Generation(4)), false)
                .is_empty()
        );
        waiters.on_sent(Generation(5));
        waiters.on_sent(Generation(6));
        assert!(
            waiters
                .take_protected(Some(Generation(4)), false)
                .is_empty()
        );
        assert!(waiters.take_protected(None, false).is_empty());
        assert_eq!(waiters.take_protected(Some(Generation(5)), false).len(), 1);
        assert_eq!(waiters.len(), 0);
    }

    #[test]
    fn what_was_sent_on_another_connection_protects_nobody() {
        let mut waiters = Waiters::default();
        let (it, _receiver) = waiter(Some(5));
        waiters.push(it);
        waiters.on_connect();
        assert!(
            waiters
                .take_protected(Some(Generation(5)), false)
                .is_empty()
        );
        waiters.on_sent(Generation(6));
        assert_eq!(waiters.take_protected(Some(Generation(6)), false).len(), 1);
    }

    #[test]
    fn whoever_has_gone_is_taken() {
        let mut waiters = Waiters::default();
        let (stays, _receiver) = waiter(Some(1));
        let (goes, receiver) = waiter(Some(1));
        waiters.push(stays);
        waiters.push(goes);
        assert!(waiters.take_abandoned().is_empty());
        drop(receiver);
        assert_eq!(waiters.take_abandoned().len(), 1);
        assert_eq!(waiters.len(), 1);
    }
}
