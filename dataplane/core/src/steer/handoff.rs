//! A worker's ends of all rings.

use super::handed::{Handed, How, News};
use super::ring::{Inlet, Outlet, ring};
use super::{BadShares, Shares};
use crate::port::{BURST_MAX, Frame};
use crate::snapshot::PortIndex;

/// Frames on the way from one worker to another, at most: some bursts of every port.
pub const FRAMES_MAX: usize = 16 * BURST_MAX;
/// News on the way from one worker to another, at most: more than an answer of 64 KiB can
/// name addresses, for the names of several pods at once.
const NEWS_MAX: usize = 4096;

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

    /// For all workers of a dataplane, in order.
    ///
    /// # Errors
    /// [`BadShares`].
    pub fn crew(workers: usize, lanes: usize) -> Result<Vec<Self>, BadShares> {
        let shares = Shares::new(workers, lanes)?;
        let mut all: Vec<_> = (0..workers).map(|_| (Vec::new(), Vec::new())).collect();
        for from in 0..workers {
            for to in 0..workers {
                let ((frames, taken), (news, heard)) = (ring(FRAMES_MAX), ring(NEWS_MAX));
                let is_other = from != to;
                if let Some((outlets, _)) = all.get_mut(from) {
                    outlets.push(is_other.then_some((frames, news)));
                }
                if let Some((_, inlets)) = all.get_mut(to).filter(|_| is_other) {
                    inlets.push((taken, heard));
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
        let (frames, _) = self.outlet(owner).ok_or(Refused)?;
        frames.send(self.epoch, handed).map_err(|_handed| Refused)
    }

    fn outlet(&self, worker: usize) -> Option<&Outlets<F>> {
        self.to.get(worker)?.as_ref()
    }

    /// Tells all other workers. To how many it didn't get through.
    pub(crate) fn tell(&mut self, news: News) -> u64 {
        let mut lost = 0;
        for (_, outlet) in self.to.iter().flatten() {
            // Whoever floods the link with answers leaves room for what pods are told.
            let is_flood = matches!(news, News::Neighbor(..)) && outlet.is_half_full();
            if is_flood || outlet.send(self.epoch, news).is_err() {
                lost += 1;
            }
        }
        lost
    }

    /// The next news there are.
    pub(crate) fn hear(&mut self) -> Option<News> {
        let mut inlets = self.from.iter_mut();
        let (news, _) = inlets.find_map(|(_, inlet)| inlet.next_if(self.epoch, |_| true))?;
        Some(news)
    }

    /// How many others hand frames to this one.
    pub(crate) const fn others(&self) -> usize {
        self.from.len()
    }

    /// The next frame from one of the others; after the first of a burst only one that goes
    /// with it. With it whether its sender used an older snapshot.
    pub(crate) fn take(
        &mut self,
        other: usize,
        with: Option<(PortIndex, How)>,
    ) -> Option<(Handed<F>, bool)> {
        let (frames, _) = self.from.get_mut(other)?;
        frames.next_if(self.epoch, |next| {
            with.is_none_or(|(port, how)| next.in_port == port && how.goes_with(&next.how))
        })
    }
}
