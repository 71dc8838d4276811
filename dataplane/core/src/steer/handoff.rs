//! A worker's ends of all rings.

use super::handed::{Handed, News};
use super::ring::{Inlet, Outlet, ring};
use super::{BadShares, Shares};
use crate::port::{BURST_MAX, Frame};
use crate::snapshot::PortIndex;

/// Frames of one port on the way from one worker to another, at most: as many as a port's own
/// ring holds, so that a worker that is late loses nothing here that it wouldn't lose there,
const SHARE_MAX: usize = 512;
/// and at least two bursts.
const SHARE_MIN: usize = 2 * BURST_MAX;
/// Frames on the way from one worker to all others, at most. Up to so many shares no port can
/// take another's place.
const FRAMES_MAX: usize = 8192;
/// News on the way from one worker to another, at most,
const NEWS_MAX: usize = 4096;
/// and what one pod was told of them: two answers at their bound.
const NEWS_SHARE: usize = 512;

/// Frames on the way from one worker to another, at most.
#[must_use]
pub fn frames_between(workers: usize, ports: usize) -> usize {
    let all = ports.max(1).saturating_mul(share_of_port(workers, ports));
    all.min(FRAMES_MAX / workers.max(1))
}

/// And of one port.
fn share_of_port(workers: usize, ports: usize) -> usize {
    let fair = FRAMES_MAX / workers.max(1) / ports.max(1);
    fair.clamp(SHARE_MIN, SHARE_MAX)
}

/// To another worker: frames and news.
type Outlets<F> = (Outlet<Handed<F>>, Outlet<News>);
/// From another worker.
type Inlets<F> = (Inlet<Handed<F>>, Inlet<News>);

/// One worker's rings to and from all others, and what it owns.
#[derive(Debug)]
pub struct Handoff<F> {
    me: usize,
    shares: Shares,
    /// By worker; its own place is empty.
    to: Box<[Option<Outlets<F>>]>,
    from: Box<[Inlets<F>]>,
    /// How many snapshots its worker has taken.
    pub(crate) epoch: u64,
}

/// A frame that found no room.
pub(crate) struct Refused;

impl<F: Frame> Handoff<F> {
    /// For a worker without others.
    #[must_use]
    pub fn alone() -> Self {
        Self {
            me: 0,
            shares: Shares::ONE,
            to: Box::default(),
            from: Box::default(),
            epoch: 0,
        }
    }

    /// For all workers of a dataplane with so many ports, in order.
    ///
    /// # Errors
    /// [`BadShares`].
    pub fn crew(workers: usize, lanes: usize, ports: usize) -> Result<Vec<Self>, BadShares> {
        let shares = Shares::new(workers, lanes)?;
        let len = frames_between(workers, ports);
        let share = share_of_port(workers, ports);
        let mut all: Vec<_> = (0..workers).map(|_| (Vec::new(), Vec::new())).collect();
        for from in 0..workers {
            for to in 0..workers {
                let (mut outlet, mut inlet) = (None, None);
                if from != to {
                    let (frames, taken) = ring(len, ports, share);
                    let (news, heard) = ring(NEWS_MAX, ports, NEWS_SHARE);
                    (outlet, inlet) = (Some((frames, news)), Some((taken, heard)));
                }
                if let Some((outlets, _)) = all.get_mut(from) {
                    outlets.push(outlet);
                }
                if let Some((_, inlets)) = all.get_mut(to) {
                    inlets.extend(inlet);
                }
            }
        }
        let all = all.into_iter().enumerate();
        let one = |(me, (to, from)): (usize, (Vec<_>, Vec<_>))| Self {
            me,
            shares,
            to: to.into(),
            from: from.into(),
            epoch: 0,
        };
        Ok(all.map(one).collect())
    }

    /// How lanes are spread.
    #[must_use]
    pub const fn shares(&self) -> Shares {
        self.shares
    }

    /// Whether there is no other worker.
    #[inline]
    #[must_use]
    pub const fn is_alone(&self) -> bool {
        self.from.is_empty()
    }

    /// Whether an owner is this worker.
    #[inline]
    pub(crate) const fn is_me(&self, owner: usize) -> bool {
        owner == self.me
    }

    /// Hands a frame over; it is freed if there is no room.
    pub(crate) fn hand(&mut self, owner: usize, handed: Handed<F>) -> Result<(), Refused> {
        let epoch = self.epoch;
        let outlets = self.to.get_mut(owner).and_then(Option::as_mut);
        let (frames, _) = outlets.ok_or(Refused)?;
        let sent = frames.send(epoch, handed.in_port, handed);
        sent.map_err(|_handed| Refused)
    }

    /// Tells all other workers what was learned of a frame of this port's. To how many it
    /// didn't get through.
    pub(crate) fn tell(&mut self, port: PortIndex, news: News) -> u64 {
        let epoch = self.epoch;
        let mut lost = 0;
        for (_, outlet) in self.to.iter_mut().flatten() {
            // Whoever floods the link with answers leaves room for what pods are told.
            let is_flood = matches!(news, News::Neighbor(..)) && outlet.is_half_full();
            if is_flood || outlet.send(epoch, port, news).is_err() {
                lost += 1;
            }
        }
        lost
    }

    /// The next news there are. What a worker says who uses a newer snapshot is for later: it
    /// may be of a pod that isn't known here yet.
    pub(crate) fn hear(&mut self) -> Option<News> {
        let epoch = self.epoch;
        let mut inlets = self.from.iter_mut();
        let (news, _) = inlets.find_map(|(_, it)| it.next_if(|sent, _| sent <= epoch))?;
        Some(news)
    }

    /// How many others hand frames to this one.
    pub(crate) const fn others(&self) -> usize {
        self.from.len()
    }

    /// How many frames one of the others has handed over.
    pub(crate) fn waiting(&self, other: usize) -> usize {
        self.from.get(other).map_or(0, |(frames, _)| frames.len())
    }

    /// The next frame from one of the others, if it is `wanted`. With it how many snapshots its
    /// sender was ahead or behind.
    pub(crate) fn take(
        &mut self,
        other: usize,
        wanted: impl FnOnce(&Handed<F>, u64) -> bool,
    ) -> Option<(Handed<F>, u64)> {
        let own = self.epoch;
        let (frames, _) = self.from.get_mut(other)?;
        let taken = frames.next_if(|sent, next| wanted(next, own.abs_diff(sent)));
        taken.map(|(handed, sent)| (handed, own.abs_diff(sent)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_has_its_share_while_there_is_room_for_all() {
        for (workers, ports, share) in [(2, 6, 512), (2, 64, 64), (4, 8, 256), (16, 4, 128)] {
            assert_eq!(share_of_port(workers, ports), share);
            assert_eq!(frames_between(workers, ports), ports * share);
        }
        for (workers, ports) in [(2, 1024), (8, 1024), (32, 1024), (32, 1)] {
            let len = frames_between(workers, ports);
            assert!(len >= SHARE_MIN && len * workers <= FRAMES_MAX, "{len}");
        }
    }
}
