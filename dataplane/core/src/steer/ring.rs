//! A bounded ring from one worker to another, in which each port has its share: who floods one
//! port takes no other's place.
//!
//! Two workers take a new snapshot one after the other, so everything says by which snapshot
//! of its sender's it was made.

use std::sync::Arc;

use crate::counters::Counter;
use crate::snapshot::PortIndex;
use crate::sync::{Receiver, Sender, bounded};

/// By port, how much was taken out; written by the receiver.
type Taken = Arc<[Counter]>;

/// The sender's end.
#[derive(Debug)]
pub(super) struct Outlet<T> {
    to: Sender<Sent<T>>,
    /// By port, how much was put in.
    given: Box<[u64]>,
    taken: Taken,
    share: u64,
}

/// The receiver's end.
#[derive(Debug)]
pub(super) struct Inlet<T> {
    from: Receiver<Sent<T>>,
    /// What has come out and isn't taken yet.
    next: Option<Sent<T>>,
    taken: Taken,
}

#[derive(Debug)]
struct Sent<T> {
    epoch: u64,
    port: PortIndex,
    it: T,
}

/// A ring with room for so many, of which each of so many ports has at most a share.
pub(super) fn ring<T>(len: usize, ports: usize, share: usize) -> (Outlet<T>, Inlet<T>) {
    let (to, from) = bounded(len);
    let taken: Taken = (0..ports).map(|_| Counter::default()).collect();
    let outlet = Outlet {
        to,
        given: vec![0; ports].into_boxed_slice(),
        taken: Arc::clone(&taken),
        share: share as u64,
    };
    let inlet = Inlet {
        from,
        next: None,
        taken,
    };
    (outlet, inlet)
}

impl<T> Outlet<T> {
    /// Sends what came by a port, and was made when the sender used its `epoch`th snapshot. It
    /// comes back if the ring is full, the port has its share in it, or nobody is at its end.
    pub(super) fn send(&mut self, epoch: u64, port: PortIndex, it: T) -> Result<(), T> {
        let at = usize::from(port.0);
        let (Some(given), Some(taken)) = (self.given.get_mut(at), self.taken.get(at)) else {
            return Err(it);
        };
        if given.wrapping_sub(taken.read()) >= self.share {
            return Err(it);
        }
        let sent = self.to.try_send(Sent { epoch, port, it });
        sent.map_err(|refused| refused.into_inner().it)?;
        *given = given.wrapping_add(1);
        Ok(())
    }

    /// Whether more than half of the room is taken.
    pub(super) fn is_half_full(&self) -> bool {
        self.to
            .capacity()
            .is_some_and(|all| self.to.len() * 2 > all)
    }
}

impl<T> Inlet<T> {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.from.len() + usize::from(self.next.is_some())
    }

    /// The next one and its epoch: `None` if there is none, or it isn't `wanted`.
    pub(super) fn next_if(&mut self, wanted: impl FnOnce(u64, &T) -> bool) -> Option<(T, u64)> {
        if self.next.is_none() {
            self.next = self.from.try_recv().ok();
        }
        if !self
            .next
            .as_ref()
            .is_some_and(|it| wanted(it.epoch, &it.it))
        {
            return None;
        }
        let Sent { epoch, port, it } = self.next.take()?;
        if let Some(taken) = self.taken.get(usize::from(port.0)) {
            taken.add(1);
        }
        Some((it, epoch))
    }
}

#[cfg(all(test, feature = "loom"))]
mod interleavings {
    use loom::thread;

    use super::*;

    const FLOODED: PortIndex = PortIndex(0);
    const OTHER: PortIndex = PortIndex(1);

    #[test]
    fn a_port_has_its_share_at_most_and_what_was_taken_comes_once_and_in_order() {
        loom::model(|| {
            let (mut to, mut from) = ring(2, 2, 1);
            let sender = thread::spawn(move || {
                let sent = [1, 2, 3].map(|it| to.send(0, FLOODED, it).is_ok());
                assert!(sent[0], "there is room at first");
                assert!(
                    to.send(0, OTHER, 9).is_ok(),
                    "the other's share is left to it"
                );
                sent.into_iter().filter(|it| *it).count()
            });
            let mut came = Vec::new();
            for _ in 0..2 {
                assert!(from.len() <= 2);
                came.extend(from.next_if(|_, _| true).map(|it| it.0));
            }
            let sent = sender.join().unwrap();
            came.extend(core::iter::from_fn(|| from.next_if(|_, _| true)).map(|it| it.0));
            assert_eq!(came.iter().filter(|it| **it == 9).count(), 1);
            came.retain(|it| *it != 9);
            assert_eq!(came.len(), sent, "{came:?}");
            assert!(came.is_sorted());
        });
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    const A: PortIndex = PortIndex(0);
    const B: PortIndex = PortIndex(1);

    #[test]
    fn what_isnt_wanted_yet_waits_and_keeps_its_place() {
        let (mut to, mut from) = ring(4, 2, 4);
        to.send(1, A, 'a').unwrap();
        to.send(2, B, 'b').unwrap();
        to.send(2, A, 'c').unwrap();
        let up_to = |epoch| move |sent, _: &char| sent <= epoch;
        assert_eq!(from.next_if(up_to(1)), Some(('a', 1)));
        assert_eq!(from.next_if(up_to(1)), None, "b is ahead");
        assert_eq!(from.len(), 2);
        assert_eq!(from.next_if(up_to(3)), Some(('b', 2)));
        assert_eq!(from.next_if(up_to(2)), Some(('c', 2)));
        assert_eq!(from.next_if(up_to(9)), None);
    }

    #[test]
    fn a_full_ring_gives_back_what_it_has_no_room_for() {
        let (mut to, mut from) = ring(2, 1, 9);
        to.send(0, A, 1).unwrap();
        assert!(!to.is_half_full());
        to.send(0, A, 2).unwrap();
        assert!(to.is_half_full());
        assert_eq!(to.send(0, A, 3), Err(3));
        assert_eq!(from.next_if(|_, _| true), Some((1, 0)));
        to.send(0, A, 3).unwrap();
        assert_eq!(to.send(0, PortIndex(9), 4), Err(4), "no such port");
        drop(from);
        assert_eq!(to.send(0, A, 4), Err(4), "nobody is there");
    }

    #[test]
    fn a_port_has_its_share_and_leaves_the_others_theirs() {
        let (mut to, mut from) = ring(8, 2, 3);
        for n in 0..3 {
            to.send(0, A, n).unwrap();
        }
        assert_eq!(to.send(0, A, 3), Err(3));
        for n in 0..3 {
            to.send(0, B, n).unwrap();
        }
        assert_eq!(from.next_if(|_, _| true), Some((0, 0)));
        to.send(0, A, 4).unwrap();
        assert_eq!(to.send(0, A, 5), Err(5));
    }
}
