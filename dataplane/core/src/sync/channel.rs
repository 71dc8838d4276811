//! A bounded channel of which loom knows when it is used. One lock orders all that is done to it,
//! which is more than crossbeam's promises, and its ends live as long as a test: what is found with it
//! is wrong, what isn't may be.

use std::collections::VecDeque;

use loom::sync::{Arc, Mutex};

/// Room for so many.
pub(crate) fn bounded<T>(len: usize) -> (Sender<T>, Receiver<T>) {
    let queue = Arc::new(Mutex::new(VecDeque::new()));
    let from = Receiver {
        queue: Arc::clone(&queue),
    };
    (Sender { queue, len }, from)
}

#[derive(Debug)]
pub(crate) struct Sender<T> {
    queue: Arc<Mutex<VecDeque<T>>>,
    len: usize,
}

#[derive(Debug)]
pub(crate) struct Receiver<T> {
    queue: Arc<Mutex<VecDeque<T>>>,
}

/// Why something was not sent. Both ends live as long as a test here.
pub(crate) enum TrySendError<T> {
    Full(T),
    #[allow(dead_code, reason = "crossbeam's has it")]
    Disconnected(T),
}

impl<T> TrySendError<T> {
    pub(crate) fn into_inner(self) -> T {
        match self {
            Self::Full(it) | Self::Disconnected(it) => it,
        }
    }
}

/// Nothing is there.
#[derive(Debug)]
pub(crate) struct TryRecvError;

#[allow(
    clippy::unwrap_used,
    reason = "whoever panics with the lock ends the test"
)]
impl<T> Sender<T> {
    pub(crate) fn try_send(&self, it: T) -> Result<(), TrySendError<T>> {
        let mut queue = self.queue.lock().unwrap();
        if queue.len() >= self.len {
            return Err(TrySendError::Full(it));
        }
        queue.push_back(it);
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.lock().unwrap().len()
    }

    pub(crate) const fn capacity(&self) -> Option<usize> {
        Some(self.len)
    }
}

#[allow(
    clippy::unwrap_used,
    reason = "whoever panics with the lock ends the test"
)]
impl<T> Receiver<T> {
    pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
        self.queue.lock().unwrap().pop_front().ok_or(TryRecvError)
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.lock().unwrap().len()
    }
}
