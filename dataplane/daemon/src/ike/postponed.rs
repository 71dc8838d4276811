//! SAs that charon sends by and the dataplane doesn't yet.
//!
//! charon sends by a child's first SA as soon as it has its keys, also where the peer began the
//! exchange and knows nothing of them before the response arrives. Where nothing was sent by
//! before, nothing is lost by that. But a peer may begin a further child: charon itself does when
//! the one that it would renew is not found, which happens when rekeys cross. Then what is sent
//! between the two is lost, though the older SA would have done. So the older goes on until the
//! response can have arrived, or until it goes.

use core::time::Duration;

use super::thread::{ChildId, Keyed};

/// After the last that the thread wrote which made the response.
const ARRIVES_IN: Duration = Duration::from_secs(1);
/// Whatever the thread goes on writing, and however many lines of others there are.
const WAITS_MAX: Duration = Duration::from_secs(10);

/// An SA to send by.
#[derive(Debug)]
pub struct Sending {
    /// The child.
    pub child: ChildId,
    /// Its SPI.
    pub spi: u32,
    /// Its key.
    pub keyed: Keyed,
}

#[derive(Debug)]
struct Waiting {
    sending: Sending,
    /// Of charon's threads the one that makes the response, until it takes another message in.
    thread: Option<u16>,
    due: Duration,
    latest: Duration,
}

/// Those that wait; each is one of the children that are followed, so these are no more.
#[derive(Debug, Default)]
pub struct Postponed(Vec<Waiting>);

impl Postponed {
    /// Puts an SA off that `thread` has told of; [`Self::on_line`] says how long.
    pub fn put(&mut self, thread: u16, sending: Sending) {
        self.forget(&sending.child);
        self.0.push(Waiting {
            sending,
            thread: Some(thread),
            due: Duration::MAX,
            latest: Duration::MAX,
        });
    }

    /// A thread has written a line; `is_another`: it has taken another message in.
    pub fn on_line(&mut self, thread: u16, is_another: bool, now: Duration) {
        for it in self.0.iter_mut().filter(|it| it.thread == Some(thread)) {
            if is_another {
                it.thread = None;
            } else {
                it.latest = it.latest.min(now + WAITS_MAX);
                it.due = it.latest.min(now + ARRIVES_IN);
            }
        }
    }

    /// When the next is due.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        self.0.iter().map(|it| it.due).min()
    }

    /// Whether one has waited longer than any may.
    #[must_use]
    pub fn is_overdue(&self, now: Duration) -> bool {
        self.0.iter().any(|it| it.latest <= now)
    }

    /// Those that are due, the older first.
    pub fn take_due(&mut self, now: Duration) -> impl Iterator<Item = Sending> + use<> {
        let (due, rest) = core::mem::take(&mut self.0)
            .into_iter()
            .partition::<Vec<_>, _>(|it| it.due <= now);
        self.0 = rest;
        due.into_iter().map(|it| it.sending)
    }

    /// The newest of a name.
    pub fn take_newest(&mut self, name: &str) -> Option<Sending> {
        let named = self.0.iter().enumerate();
        let (at, _) = named
            .filter(|(_, it)| it.sending.child.name == name)
            .max_by_key(|(_, it)| it.sending.child.number)?;
        Some(self.0.swap_remove(at).sending)
    }

    /// A child is no more.
    pub fn forget(&mut self, child: &ChildId) {
        self.0.retain(|it| it.sending.child != *child);
    }

    /// A newer child of their name is sent by.
    pub fn forget_older(&mut self, than: &ChildId) {
        self.0.retain(|it| {
            it.sending.child.name != than.name || it.sending.child.number > than.number
        });
    }
}
