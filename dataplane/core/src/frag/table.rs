//! The datagrams of one worker, and the frames that wait for their firsts.

use super::key::{Key, Payer};
use super::queues::{self, Queues};
use super::ranges::{Clash, Ranges};
use super::{
    DATAGRAMS_MAX, DATAGRAMS_PER_SHARE_MAX, EXPIRE_MAX, LIFETIME_NS, WAITING_MAX,
    WAITING_PER_SHARE_MAX,
};
use crate::flow::key::Tuple;
use crate::hash::HashKey;
use crate::meta::Meta;
use crate::reason::DropReason;
use crate::route::Attach;
use crate::snapshot::PortIndex;
use crate::tick::Tick;
use crate::wire::fragment::Fragment;

/// What a datagram's first fragment taught.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Learned {
    /// The tuple of its flow; of an ICMP error, the tuple that it quotes.
    pub tuple: Tuple,
    /// Whether it is an ICMP error: it goes against the tuple's direction.
    pub error: bool,
    /// Whether it is the responder's own beginning in the flow, and was judged by itself.
    pub begins: bool,
}

/// A frame that waits, or waited, for its datagram's first fragment.
#[derive(Debug)]
pub struct Waiting<F> {
    /// The frame.
    pub frame: F,
    /// What parse made of it.
    pub meta: Meta,
    /// The port it came by, for its counters.
    pub in_port: PortIndex,
    /// Where it came from.
    pub from: Attach,
    /// Where it goes; only once it was released.
    pub to: Attach,
    /// The worker whose flow it is of, if it isn't this one's; only once it was released.
    pub owner: Option<usize>,
}

/// A datagram's place; [`Fragments`] knows one that has passed on to another datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DatagramSlot {
    index: u32,
    serial: u32,
}

/// What becomes of a fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// It is the first: to be judged, and what came of it told by [`Fragments::pass`] or
    /// [`Fragments::refuse`] within the burst.
    First(DatagramSlot),
    /// Its first hasn't been judged: [`Fragments::hold`] it.
    Hold(DatagramSlot),
    /// It goes where the first went, if that flow may still be; if not, tell by
    /// [`Fragments::refuse`].
    Follow(DatagramSlot, Learned),
    /// Its first was handed to the worker of this number, and so is this.
    HandOver(usize),
    /// It goes nowhere.
    Drop(DropReason),
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Its first fragment hasn't come.
    Gathering,
    /// Its first fragment is in this burst.
    Deciding,
    Passed(Learned),
    HandedOver(usize),
    Refused(DropReason),
}

impl State {
    /// Whether the first was judged, or is another worker's to judge, or never will be.
    const fn is_settled(self) -> bool {
        match self {
            Self::Gathering | Self::Deciding => false,
            Self::Passed(_) | Self::HandedOver(_) | Self::Refused(_) => true,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Datagram {
    key: Key,
    share: usize,
    state: State,
    ranges: Ranges,
    ends_at: Tick,
    /// Moves whenever the place is used anew.
    serial: u32,
    live: bool,
}

/// Buckets of the hash; twice the datagrams.
const BUCKETS: usize = (DATAGRAMS_MAX * 2).next_power_of_two();
/// Datagrams in one bucket, at most; more than are met by chance.
const CHAIN_MAX: usize = 32;

/// The one queue of all datagrams by age.
const LIVE: usize = 0;
/// The queue of frames that were released, after those of each datagram.
const READY: usize = DATAGRAMS_MAX;

/// The fragments of one worker. `lost` takes the frames that waited in vain, with why.
#[derive(Debug)]
pub struct Fragments<F> {
    /// Places that were ever in use, within the capacity reserved at creation.
    datagrams: Vec<Datagram>,
    /// Free places for datagrams; the last freed is used first, while it is cached.
    free: Vec<u32>,
    waiting: Box<[Option<Waiting<F>>]>,
    /// Free places for frames.
    free_frames: Vec<u32>,
    /// Datagrams by hash.
    buckets: Queues,
    /// Datagrams by age: all live as long.
    ages: Queues,
    /// Datagrams by share: two queues each, [`pending`] and [`settled`].
    shares: Queues,
    /// Frames by datagram.
    frames: Queues,
    /// Frames that wait, by share.
    waiting_of: Box<[u32]>,
    ports: usize,
    hash_key: HashKey,
}

impl<F> Fragments<F> {
    /// An empty table for a worker with so many ports.
    #[must_use]
    pub fn new(ports: usize, hash_key: HashKey) -> Self {
        // One more than there are payers: whoever is none of them shares the last.
        let shares = Payer::shares(ports) + 1;
        let backwards = |n: usize| {
            let mut numbers: Vec<u32> = (0..).take(n).collect();
            numbers.reverse();
            numbers
        };
        Self {
            datagrams: Vec::with_capacity(DATAGRAMS_MAX),
            free: backwards(DATAGRAMS_MAX),
            waiting: (0..WAITING_MAX).map(|_| None).collect(),
            free_frames: backwards(WAITING_MAX),
            buckets: Queues::new(BUCKETS, DATAGRAMS_MAX),
            ages: Queues::new(1, DATAGRAMS_MAX),
            shares: Queues::new(2 * shares, DATAGRAMS_MAX),
            frames: Queues::new(DATAGRAMS_MAX + 1, WAITING_MAX),
            waiting_of: vec![0; shares].into_boxed_slice(),
            ports,
            hash_key,
        }
    }

    /// How many datagrams are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ages.len(LIVE)
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes note of a fragment.
    pub fn arrive(
        &mut self,
        key: &Key,
        payer: Payer,
        piece: Fragment,
        now: Tick,
        lost: &mut impl FnMut(Waiting<F>, DropReason),
    ) -> Arrival {
        let Some(index) = self
            .find(key, now, lost)
            .or_else(|| self.insert(key, payer, now, lost))
        else {
            return Arrival::Drop(DropReason::FragmentTableFull);
        };
        let Some(datagram) = self.datagrams.get_mut(index as usize) else {
            return Arrival::Drop(DropReason::FragmentTableFull);
        };
        let slot = DatagramSlot {
            index,
            serial: datagram.serial,
        };
        let added = datagram.ranges.add(piece);
        let complete = datagram.ranges.is_complete();
        match (datagram.state, added) {
            (State::Refused(reason), _) => {
                // Once all of it has come nothing more will; what follows by the same
                // identification is something else. An overlap's datagram isn't forgotten:
                // the receiver may hold parts of it.
                if complete && reason == DropReason::FragmentRefused {
                    self.end(index, reason, lost);
                }
                Arrival::Drop(reason)
            }
            (_, Err(Clash::Duplicate)) => Arrival::Drop(DropReason::FragmentDuplicate),
            (_, Err(clash)) => {
                let reason = match clash {
                    Clash::TooMany => DropReason::FragmentMany,
                    _ => DropReason::FragmentOverlap,
                };
                self.settle(index, State::Refused(reason), lost);
                self.drop_frames(index, reason, lost);
                Arrival::Drop(reason)
            }
            (State::Passed(learned), Ok(())) => {
                if complete {
                    self.end(index, DropReason::FragmentRefused, lost);
                }
                Arrival::Follow(slot, learned)
            }
            (State::HandedOver(owner), Ok(())) => {
                if complete {
                    self.end(index, DropReason::FragmentRefused, lost);
                }
                Arrival::HandOver(owner)
            }
            (State::Gathering, Ok(())) if piece.start == 0 => {
                datagram.state = State::Deciding;
                Arrival::First(slot)
            }
            (State::Gathering | State::Deciding, Ok(())) => Arrival::Hold(slot),
        }
    }

    /// Keeps a frame until its first fragment has been judged. It, or others, are lost if
    /// there is no room.
    pub fn hold(
        &mut self,
        slot: DatagramSlot,
        waiting: Waiting<F>,
        lost: &mut impl FnMut(Waiting<F>, DropReason),
    ) {
        let share = self.datagram(slot).map_or(0, |d| d.share);
        // Each turn ends a datagram of the queue, and one with frames is in it: bounded.
        while self.waiting_of(share) >= WAITING_PER_SHARE_MAX {
            if !self.evict(pending(share), lost) {
                break;
            }
        }
        while self.free_frames.is_empty() {
            let greediest = queues::longest(&self.waiting_of);
            if !self.evict(pending(greediest), lost) {
                break;
            }
        }
        // It may have been its own datagram that gave way.
        let place = match self.datagram(slot) {
            Some(_) => self.free_frames.pop(),
            None => None,
        };
        let kept = place.and_then(|at| Some((at, self.waiting.get_mut(at as usize)?)));
        let Some((at, kept)) = kept else {
            lost(waiting, DropReason::FragmentTableFull);
            return;
        };
        *kept = Some(waiting);
        self.frames.push(slot.index as usize, at);
        if let Some(count) = self.waiting_of.get_mut(share) {
            *count += 1;
        }
    }

    /// The first fragment passes, to `to`: what waited for it is ready.
    ///
    /// # Errors
    /// The reason for which the first must be dropped after all: its datagram was ended
    /// by what came after it in the burst.
    pub fn pass(
        &mut self,
        slot: DatagramSlot,
        learned: Learned,
        to: Attach,
        lost: &mut impl FnMut(Waiting<F>, DropReason),
    ) -> Result<(), DropReason> {
        let state = State::Passed(learned);
        self.release(slot, state, |waiting| waiting.to = to, lost)
    }

    /// The first fragment goes to the worker whose flow it is of: so does what waited for it.
    ///
    /// # Errors
    /// As [`Self::pass`].
    pub fn hand_over(
        &mut self,
        slot: DatagramSlot,
        owner: usize,
        lost: &mut impl FnMut(Waiting<F>, DropReason),
    ) -> Result<(), DropReason> {
        let state = State::HandedOver(owner);
        self.release(slot, state, |waiting| waiting.owner = Some(owner), lost)
    }

    fn release(
        &mut self,
        slot: DatagramSlot,
        next: State,
        mark: impl Fn(&mut Waiting<F>),
        lost: &mut impl FnMut(Waiting<F>, DropReason),
    ) -> Result<(), DropReason> {
        let Some(&Datagram {
            state,
            share,
            ranges,
            ..
        }) = self.datagram(slot)
        else {
            return Ok(());
        };
        if let State::Refused(reason) = state {
            return Err(reason);
        }
        while let Some(at) = self.frames.pop(slot.index as usize) {
            if let Some(Some(waiting)) = self.waiting.get_mut(at as usize) {
                mark(waiting);
            }
            self.frames.push(READY, at);
            self.count_down(share);
        }
        if ranges.is_complete() {
            self.end(slot.index, DropReason::FragmentRefused, lost);
        } else {
            self.settle(slot.index, next, lost);
        }
        Ok(())
    }

    /// The first fragment was dropped, or the flow has ended: what waits is lost, and so
    /// is what will come.
    pub fn refuse(&mut self, slot: DatagramSlot, lost: &mut impl FnMut(Waiting<F>, DropReason)) {
        let Some(&Datagram { state, ranges, .. }) = self.datagram(slot) else {
            return;
        };
        if matches!(state, State::Refused(_)) {
            return;
        }
        let reason = DropReason::FragmentRefused;
        if ranges.is_complete() {
            self.end(slot.index, reason, lost);
        } else {
            self.drop_frames(slot.index, reason, lost);
            self.settle(slot.index, State::Refused(reason), lost);
        }
    }

    /// The port of the next frame that is ready.
    #[must_use]
    pub fn ready_port(&self) -> Option<PortIndex> {
        let at = self.frames.front(READY)?;
        Some(self.waiting.get(at as usize)?.as_ref()?.in_port)
    }

    /// The next frame that is ready to go where its first went.
    pub fn next_ready(&mut self) -> Option<Waiting<F>> {
        let at = self.frames.pop(READY)?;
        self.free_frames.push(at);
        self.waiting.get_mut(at as usize)?.take()
    }

    /// Ends datagrams whose time is over.
    pub fn expire(&mut self, now: Tick, lost: &mut impl FnMut(Waiting<F>, DropReason)) {
        for _ in 0..EXPIRE_MAX {
            let oldest = self.ages.front(LIVE);
            let over = |d: &Datagram| d.ends_at <= now;
            match oldest.filter(|&at| self.datagrams.get(at as usize).is_some_and(over)) {
                Some(at) => self.end(at, DropReason::FragmentNoFirst, lost),
                None => return,
            }
        }
    }

    fn datagram(&self, slot: DatagramSlot) -> Option<&Datagram> {
        let datagram = self.datagrams.get(slot.index as usize)?;
        (datagram.live && datagram.serial == slot.serial).then_some(datagram)
    }

    #[allow(clippy::cast_possible_truncation, reason = "masked to the buckets")]
    pub(super) fn bucket(&self, key: &Key) -> usize {
        key.hash(self.hash_key) as usize & (BUCKETS - 1)
    }

    fn waiting_of(&self, share: usize) -> usize {
        self.waiting_of.get(share).map_or(0, |&n| n as usize)
    }

    fn find(
        &mut self,
        key: &Key,
        now: Tick,
        lost: &mut impl FnMut(Waiting<F>, DropReason),
    ) -> Option<u32> {
        let mut next = self.buckets.front(self.bucket(key));
        for _ in 0..CHAIN_MAX {
            let index = next?;
            let datagram = self.datagrams.get(index as usize)?;
            if datagram.key == *key {
                if datagram.ends_at > now {
                    return Some(index);
                }
                self.end(index, DropReason::FragmentNoFirst, lost);
                return None;
            }
            next = self.buckets.after(index);
        }
        None
    }

    /// Makes room for a datagram and adds it.
    fn insert(
        &mut self,
        key: &Key,
        payer: Payer,
        now: Tick,
        lost: &mut impl FnMut(Waiting<F>, DropReason),
    ) -> Option<u32> {
        let share = payer.share(self.ports).unwrap_or(Payer::shares(self.ports));
        let bucket = self.bucket(key);
        if self.free.is_empty() {
            self.evict(self.shares.longest(), lost);
        }
        if self.buckets.len(bucket) >= CHAIN_MAX
            && let Some(oldest) = self.buckets.front(bucket)
        {
            self.end(oldest, DropReason::FragmentTableFull, lost);
        }
        let index = self.free.pop()?;
        let used = self.datagrams.get_mut(index as usize);
        let datagram = Datagram {
            key: *key,
            share,
            state: State::Gathering,
            ranges: Ranges::EMPTY,
            ends_at: now + LIFETIME_NS,
            serial: used.as_ref().map_or(0, |d| d.serial.wrapping_add(1)),
            live: true,
        };
        match used {
            Some(place) => *place = datagram,
            None => self.datagrams.push(datagram),
        }
        self.ages.push(LIVE, index);
        self.buckets.push(bucket, index);
        self.shares.push(pending(share), index);
        Some(index)
    }

    /// Moves a datagram whose first has been judged, or never will be, to the settled.
    fn settle(&mut self, index: u32, state: State, lost: &mut impl FnMut(Waiting<F>, DropReason)) {
        let Some(datagram) = self.datagrams.get_mut(index as usize) else {
            return;
        };
        let (share, before) = (
            datagram.share,
            core::mem::replace(&mut datagram.state, state),
        );
        if before.is_settled() {
            return;
        }
        if self.shares.len(settled(share)) >= DATAGRAMS_PER_SHARE_MAX {
            self.evict(settled(share), lost);
        }
        self.shares.remove(pending(share), index);
        self.shares.push(settled(share), index);
    }

    /// Ends the oldest datagram of a queue of `shares`; whether there was one.
    fn evict(&mut self, queue: usize, lost: &mut impl FnMut(Waiting<F>, DropReason)) -> bool {
        let oldest = self.shares.front(queue);
        if let Some(index) = oldest {
            self.end(index, DropReason::FragmentTableFull, lost);
        }
        oldest.is_some()
    }

    /// Forgets a datagram; frames that wait for it are lost for `reason`.
    fn end(
        &mut self,
        index: u32,
        reason: DropReason,
        lost: &mut impl FnMut(Waiting<F>, DropReason),
    ) {
        self.drop_frames(index, reason, lost);
        let Some(datagram) = self.datagrams.get_mut(index as usize) else {
            return;
        };
        datagram.live = false;
        let (key, share) = (datagram.key, datagram.share);
        let queue = if datagram.state.is_settled() {
            settled(share)
        } else {
            pending(share)
        };
        self.shares.remove(queue, index);
        self.buckets.remove(self.bucket(&key), index);
        self.ages.remove(LIVE, index);
        self.free.push(index);
    }

    fn drop_frames(
        &mut self,
        index: u32,
        reason: DropReason,
        lost: &mut impl FnMut(Waiting<F>, DropReason),
    ) {
        let share = self.datagrams.get(index as usize).map_or(0, |d| d.share);
        while let Some(at) = self.frames.pop(index as usize) {
            self.free_frames.push(at);
            self.count_down(share);
            if let Some(waiting) = self.waiting.get_mut(at as usize).and_then(Option::take) {
                lost(waiting, reason);
            }
        }
    }

    fn count_down(&mut self, share: usize) {
        if let Some(count) = self.waiting_of.get_mut(share) {
            *count = count.saturating_sub(1);
        }
    }
}

/// The queue of a share's datagrams whose first hasn't been judged.
const fn pending(share: usize) -> usize {
    2 * share
}

/// The queue of the others.
const fn settled(share: usize) -> usize {
    2 * share + 1
}
