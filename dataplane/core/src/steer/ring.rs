//! A bounded ring from one worker to another.
//!
//! Two workers take a new snapshot one after the other. What one of them has made of it
//! would mean something else, or nothing, to one that still uses the snapshot before: it
//! waits in the ring until the receiver has caught up.

use crossbeam_channel::{Receiver, Sender, bounded};

/// The sender's end.
#[derive(Debug)]
pub(super) struct Outlet<T>(Sender<(u64, T)>);

/// The receiver's end.
#[derive(Debug)]
pub(super) struct Inlet<T> {
    from: Receiver<(u64, T)>,
    /// What has come out and isn't taken yet.
    next: Option<(u64, T)>,
}

/// A ring with room for so many.
pub(super) fn ring<T>(len: usize) -> (Outlet<T>, Inlet<T>) {
    let (to, from) = bounded(len);
    (Outlet(to), Inlet { from, next: None })
}

impl<T> Outlet<T> {
    /// Sends what was made when the sender used its `epoch`th snapshot. It comes back if the
    /// ring is full, or nobody is at its end.
    pub(super) fn send(&self, epoch: u64, it: T) -> Result<(), T> {
        let sent = self.0.try_send((epoch, it));
        sent.map_err(|refused| refused.into_inner().1)
    }

    /// Whether more than half of the room is taken.
    pub(super) fn is_half_full(&self) -> bool {
        self.0.capacity().is_some_and(|all| self.0.len() * 2 > all)
    }
}

impl<T> Inlet<T> {
    /// The next one, for a receiver that uses its `epoch`th snapshot: `None` if there is none,
    /// if its sender is ahead, or if it isn't `wanted`. With it whether its sender was behind.
    pub(super) fn next_if(
        &mut self,
        epoch: u64,
        wanted: impl FnOnce(&T) -> bool,
    ) -> Option<(T, bool)> {
        if self.next.is_none() {
            self.next = self.from.try_recv().ok();
        }
        let (sent, it) = self.next.as_ref()?;
        if *sent > epoch || !wanted(it) {
            return None;
        }
        let (sent, it) = self.next.take()?;
        Some((it, sent < epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sender_ahead_has_sent_waits_and_keeps_its_place() {
        let (to, mut from) = ring(4);
        to.send(1, 'a').unwrap();
        to.send(2, 'b').unwrap();
        to.send(2, 'c').unwrap();
        assert_eq!(from.next_if(1, |_| true), Some(('a', false)));
        assert_eq!(from.next_if(1, |_| true), None, "b is ahead");
        assert_eq!(from.next_if(3, |_| false), None, "not wanted");
        assert_eq!(from.next_if(3, |_| true), Some(('b', true)));
        assert_eq!(from.next_if(2, |_| true), Some(('c', false)));
        assert_eq!(from.next_if(9, |_| true), None);
    }

    #[test]
    fn a_full_ring_gives_back_what_it_has_no_room_for() {
        let (to, mut from) = ring(2);
        to.send(0, 1).unwrap();
        assert!(!to.is_half_full());
        to.send(0, 2).unwrap();
        assert!(to.is_half_full());
        assert_eq!(to.send(0, 3), Err(3));
        assert_eq!(from.next_if(0, |_| true), Some((1, false)));
        to.send(0, 3).unwrap();
        drop(from);
        assert_eq!(to.send(0, 4), Err(4), "nobody is there");
    }
}
