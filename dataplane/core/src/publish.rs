//! Snapshots from the control thread to the workers.
//!
//! Quiescent-state publication by ownership: a new snapshot travels to each worker over a
//! bounded queue and is taken at a burst boundary; the one it replaces travels back, so it
//! is freed on the publisher's thread and never on a worker's. What comes back also proves
//! that the worker has switched.

use std::sync::Arc;

use crate::sync::{Receiver, Sender, TrySendError, bounded};

/// Snapshots on the way to one worker, at most. Few enough for loom to see all that can happen.
pub const IN_FLIGHT_MAX: usize = if cfg!(feature = "loom") { 1 } else { 4 };

/// Why a snapshot wasn't published.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The worker hasn't taken the last ones yet.
    #[error("the worker has {IN_FLIGHT_MAX} snapshots waiting; try again when it has polled")]
    Busy,
    /// The worker is gone.
    #[error("the worker has ended")]
    Gone,
}

/// The control side of one worker's snapshots.
#[derive(Debug)]
pub struct Publisher<T> {
    to: Sender<Arc<T>>,
    back: Receiver<Arc<T>>,
    published: u64,
    adopted: u64,
}

/// The worker's side.
#[derive(Debug)]
pub struct Subscriber<T> {
    current: Arc<T>,
    from: Receiver<Arc<T>>,
    back: Sender<Arc<T>>,
    taken: u64,
}

/// A pair that starts with `first`.
#[must_use]
pub fn channel<T>(first: Arc<T>) -> (Publisher<T>, Subscriber<T>) {
    let (to, from) = bounded(IN_FLIGHT_MAX);
    // The way back is never full. When the publisher has found it empty, as many as can be in
    // flight are there and one is in the worker's hands; then one more is published.
    let (back_to, back_from) = bounded(IN_FLIGHT_MAX + 2);
    (
        Publisher {
            to,
            back: back_from,
            published: 0,
            adopted: 0,
        },
        Subscriber {
            current: first,
            from,
            back: back_to,
            taken: 0,
        },
    )
}

impl<T> Publisher<T> {
    /// Sends a snapshot on its way.
    ///
    /// # Errors
    /// [`PublishError::Busy`] and [`PublishError::Gone`]; nothing has changed then.
    pub fn publish(&mut self, snapshot: Arc<T>) -> Result<(), PublishError> {
        self.reclaim();
        self.to.try_send(snapshot).map_err(|e| match e {
            TrySendError::Full(_) => PublishError::Busy,
            TrySendError::Disconnected(_) => PublishError::Gone,
        })?;
        self.published += 1;
        Ok(())
    }

    /// Frees what came back; whether the worker uses the last published snapshot.
    pub fn reclaim(&mut self) -> bool {
        self.reclaim_into(drop)
    }

    /// [`Self::reclaim`] that hands over what came back, oldest first.
    pub fn reclaim_into(&mut self, mut take: impl FnMut(Arc<T>)) -> bool {
        while let Ok(retired) = self.back.try_recv() {
            take(retired);
            self.adopted += 1;
        }
        self.adopted == self.published
    }
}

impl<T> Subscriber<T> {
    /// Switches to the newest snapshot there is; call between bursts. Whether it changed.
    #[inline]
    pub fn advance(&mut self) -> bool {
        let mut changed = false;
        for _ in 0..IN_FLIGHT_MAX {
            let Ok(next) = self.from.try_recv() else {
                break;
            };
            let old = core::mem::replace(&mut self.current, next);
            // Full only if the publisher broke the bound; then the old one is freed here.
            drop(self.back.try_send(old));
            self.taken += 1;
            changed = true;
        }
        changed
    }

    /// How many snapshots were taken: the same number at two subscribers of one publisher's is
    /// the same snapshot.
    #[must_use]
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// The snapshot in force.
    #[inline]
    #[must_use]
    pub const fn current(&self) -> &Arc<T> {
        &self.current
    }
}

#[cfg(all(test, feature = "loom"))]
mod interleavings;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_snapshot_is_freed_by_the_publisher() {
        let first = Arc::new(1);
        let watch = Arc::downgrade(&first);
        let (mut publisher, mut subscriber) = channel(first);
        publisher.publish(Arc::new(2)).unwrap();
        assert!(!publisher.reclaim(), "not adopted before the worker polls");
        assert!(subscriber.advance());
        assert_eq!(**subscriber.current(), 2);
        assert!(watch.upgrade().is_some(), "the worker freed it");
        assert!(publisher.reclaim());
        assert!(watch.upgrade().is_none());
    }

    #[test]
    fn a_worker_that_stalls_refuses_more_and_then_takes_the_newest() {
        let (mut publisher, mut subscriber) = channel(Arc::new(0));
        for n in 1..=IN_FLIGHT_MAX {
            publisher.publish(Arc::new(n)).unwrap();
        }
        assert_eq!(publisher.publish(Arc::new(9)), Err(PublishError::Busy));
        assert!(subscriber.advance());
        assert_eq!(**subscriber.current(), IN_FLIGHT_MAX);
        assert!(publisher.reclaim());
        publisher.publish(Arc::new(9)).unwrap();
    }
}
