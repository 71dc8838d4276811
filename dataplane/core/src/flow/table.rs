//! The flow table: fixed capacity, one owner, no allocation after creation.
//!
//! Entries stand in one array and are chained by index from a bucket array as long, so all
//! of the capacity can be used and an entry never moves while it lives.
//!
//! Each entry is in one of two kinds of lists too, where its end is waited for:
//! - half-open ones in their account's, in the order in which they end, so the oldest is at
//!   hand to make room; one list for TCP and one for the rest, whose times differ;
//! - all others in a timer wheel, in the second of their end. A packet puts the end off in
//!   the entry alone; the wheel finds that out when it gets there.

use crate::flow::entry::Deadline;
pub use crate::flow::entry::{Flow, INITIATOR, RESPONDER};
use crate::flow::key::{FlowKey, Tuple};
use crate::flow::lists::{Link, List, Lists};
use crate::flow::quota::{AccountIndex, Accounts, Quotas};
use crate::flow::state::{Packet, Timeouts, Track};
use crate::flow::tcp::Taken;
use crate::hash::HashKey;
use crate::names::DomainId;
use crate::reason::DropReason;
use crate::route::{Attach, RuleRef};
use crate::tick::Tick;

/// Entries looked at in one bucket, at most. With a keyed hash and half-full buckets a
/// chain of this length is not met by chance; it reads as a full table.
pub const CHAIN_MAX: usize = 32;

/// Entries looked at by one [`FlowTable::expire`], at most.
pub const EXPIRE_MAX: usize = 64;

/// Entries looked at by one [`FlowTable::sweep`], at most.
pub const SWEEP_MAX: usize = 64;

/// Accounts looked at by one [`FlowTable::expire`], at most.
const ACCOUNTS_PER_EXPIRE_MAX: usize = 16;

/// Seconds of the timer wheel. What ends later stands in the last one and is put on from
/// there.
const WHEEL_SECONDS: u32 = 1024;

/// Seconds that one [`FlowTable::expire`] goes on, at most: the whole wheel, which when
/// nobody polled for as long is a look at each of its lists.
const SECONDS_PER_EXPIRE_MAX: u32 = WHEEL_SECONDS;

/// Numbers of seconds, see [`Deadline::second`].
const SECOND_MASK: u32 = (1 << 22) - 1;

/// By how many milliseconds a half-open flow's end has to move for its place to be taken
/// anew.
const RENEW_MS: i32 = 1000;

const NONE: u32 = u32::MAX;

// What one flow takes: its entry, its link, and a bucket.
const _: () = assert!(size_of::<Flow>() + size_of::<Link>() + size_of::<u32>() <= 128);

/// An entry's place; good until the entry is removed, so within one burst only. Later
/// [`FlowTable::find_again`] says whether the entry is still the one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowSlot(u32);

/// A lookup's result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// Where.
    pub slot: FlowSlot,
    /// Whether the packet is the initiator's.
    pub from_initiator: bool,
}

impl Found {
    /// The end whose packet it is.
    #[must_use]
    pub const fn end(&self) -> usize {
        if self.from_initiator {
            INITIATOR
        } else {
            RESPONDER
        }
    }
}

/// What a new flow starts with.
#[derive(Clone, Copy, Debug)]
pub struct NewFlow {
    /// The initiator's tuple.
    pub tuple: Tuple,
    /// See [`Flow::ends`].
    pub ends: [Attach; 2],
    /// See [`Flow::generations`].
    pub generations: [u32; 2],
    /// See [`Flow::rule`].
    pub rule: RuleRef,
    /// See [`Flow::domain`].
    pub domain: DomainId,
    /// The end whose VF's quota it counts to.
    pub payer: usize,
    /// What its first packet says.
    pub track: Track,
}

/// Why there is no room for a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody can give up a half-open flow for it.
    #[error("the flow table is full")]
    Full,
    /// Who pays has as many flows as it may have, none of them half-open.
    #[error("the VF has used up its quota of flows")]
    Quota,
    /// [`CHAIN_MAX`] others are in its bucket.
    #[error("too many flows meet in one bucket of the flow table")]
    Chain,
}

impl Refused {
    /// What its packet is dropped for.
    #[must_use]
    pub const fn reason(self) -> DropReason {
        match self {
            Self::Full => DropReason::FlowTableFull,
            Self::Quota => DropReason::FlowQuota,
            Self::Chain => DropReason::FlowChain,
        }
    }
}

/// The flow table of one worker.
#[derive(Debug)]
pub struct FlowTable {
    heads: Box<[u32]>,
    flows: Vec<Flow>,
    lists: Lists,
    accounts: Accounts,
    free: u32,
    used: usize,
    evicted: u64,
    /// The second that the wheel is at: those before it are done with.
    second: u32,
    /// The account to look at next.
    account: usize,
    /// The entry that the sweep is at; past the last when it is done.
    swept: usize,
    capacity: usize,
    hash_key: HashKey,
    timeouts: Timeouts,
}

impl FlowTable {
    /// A table for `capacity` flows, without quotas.
    #[must_use]
    pub fn new(capacity: usize, hash_key: HashKey, timeouts: Timeouts) -> Self {
        let capacity = capacity.clamp(1, (NONE / 2) as usize);
        let accounts = Accounts::new(0, Quotas::NONE);
        Self {
            heads: vec![NONE; capacity].into_boxed_slice(),
            flows: Vec::with_capacity(capacity),
            lists: Self::lists(capacity, &accounts),
            accounts,
            free: NONE,
            used: 0,
            evicted: 0,
            second: 0,
            account: 0,
            swept: usize::MAX,
            capacity,
            hash_key,
            timeouts,
        }
    }

    /// The same table, empty, with accounts for the VFs among so many ports.
    #[must_use]
    pub fn with_quotas(self, ports: usize, quotas: Quotas) -> Self {
        let accounts = Accounts::new(ports, quotas);
        Self {
            lists: Self::lists(self.capacity, &accounts),
            accounts,
            ..Self::new(self.capacity, self.hash_key, self.timeouts)
        }
    }

    fn lists(capacity: usize, accounts: &Accounts) -> Lists {
        Lists::new(capacity, WHEEL_SECONDS as usize + 2 * accounts.len())
    }

    /// How long flows may be silent.
    #[must_use]
    pub const fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// How many flows there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.used
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// How many half-open flows ended to make room since the last call.
    pub(crate) const fn take_evicted(&mut self) -> u64 {
        core::mem::replace(&mut self.evicted, 0)
    }

    /// The hash as a fraction of all hashes, times the number of buckets.
    #[allow(clippy::cast_possible_truncation, reason = "less than the buckets")]
    fn bucket(&self, key: FlowKey) -> usize {
        let hash = u128::from(key.hash(self.hash_key));
        ((hash * self.heads.len() as u128) >> 64) as usize
    }

    fn at(&self, index: u32) -> Option<&Flow> {
        self.flows.get(index as usize).filter(|f| f.is_live())
    }

    /// An entry.
    #[inline]
    #[must_use]
    pub fn flow(&self, slot: FlowSlot) -> Option<&Flow> {
        self.at(slot.0)
    }

    /// Takes a packet of an end of a flow: notes it, and when the flow ends now if no
    /// other comes.
    ///
    /// # Errors
    /// Why the packet isn't of the flow; nothing has changed.
    #[inline]
    pub fn take(&mut self, found: Found, packet: &Packet, now: Tick) -> Result<(), DropReason> {
        let flow = self
            .flows
            .get_mut(found.slot.0 as usize)
            .filter(|f| f.is_live())
            .ok_or(DropReason::WrongPath)?;
        let end = found.end();
        let was_half_open = flow.track.is_half_open();
        let taken = flow.track.take(packet, end)?;
        flow.count(end);
        if taken == Taken::Unmoved {
            return Ok(());
        }
        let is_half_open = flow.track.is_half_open();
        let expires = Deadline::after(now, flow.track.timeout_ns(&self.timeouts));
        let later_ms = expires.later_ms(flow.expires);
        if !was_half_open && !is_half_open && later_ms >= 0 {
            flow.expires = expires;
        } else if was_half_open != is_half_open || !is_half_open || later_ms >= RENEW_MS {
            flow.expires = expires;
            let account = self.accounts.of(flow.ends(), flow.payer());
            match (was_half_open, is_half_open) {
                (true, false) => self.accounts.remove_half_open(account),
                (false, true) => self.accounts.add_half_open(account),
                _ => {}
            }
            self.wait(found.slot.0);
        }
        Ok(())
    }

    /// Puts an entry into the list where its end is waited for.
    fn wait(&mut self, index: u32) {
        let Some(flow) = self.flows.get(index as usize) else {
            return;
        };
        let list = if flow.track.is_half_open() {
            let account = self.accounts.of(flow.ends(), flow.payer());
            Self::half_open_list(account, matches!(flow.track, Track::Tcp(_)))
        } else {
            let ahead = flow.expires.second().wrapping_sub(self.second) & SECOND_MASK;
            let second = self.second.wrapping_add(ahead.min(WHEEL_SECONDS - 1));
            List(second % WHEEL_SECONDS)
        };
        self.lists.join(index, list);
    }

    #[allow(clippy::cast_possible_truncation, reason = "few accounts")]
    fn half_open_list(account: AccountIndex, is_tcp: bool) -> List {
        List(WHEEL_SECONDS + 2 * account.0 as u32 + u32::from(is_tcp))
    }

    /// Sets what a flow was judged to be.
    pub fn rejudge(
        &mut self,
        slot: FlowSlot,
        ends: [Attach; 2],
        generations: [u32; 2],
        rule: RuleRef,
        domain: DomainId,
    ) {
        let Some(flow) = self.flows.get_mut(slot.0 as usize).filter(|f| f.is_live()) else {
            return;
        };
        let is_half_open = flow.track.is_half_open();
        let before = self.accounts.of(flow.ends(), flow.payer());
        flow.judge(ends, generations, rule, domain);
        let after = self.accounts.of(flow.ends(), flow.payer());
        if before != after {
            self.accounts.remove(before, is_half_open);
            self.accounts.add(after, is_half_open);
            self.wait(slot.0);
        }
    }

    /// Whether what was found is still there and its time not over, as [`Self::find`] would
    /// find it again.
    #[inline]
    #[must_use]
    pub(crate) fn is_current(&self, found: Found, now: Tick) -> bool {
        self.flow(found.slot)
            .is_some_and(|flow| !flow.expires.is_over(now))
    }

    /// What a packet of a flow is that was found in a place before, if the flow is there still and
    /// its time not over: [`Self::find`] would find the same. `is_turned` says whether the key of
    /// the packet's tuple is the other way round.
    #[inline]
    pub(crate) fn find_again(
        &self,
        slot: FlowSlot,
        tuple: &Tuple,
        is_turned: bool,
        now: Tick,
    ) -> Option<Found> {
        let flow = self.flow(slot)?;
        let is_it = flow.key().tuple(is_turned) == *tuple && !flow.expires.is_over(now);
        is_it.then_some(Found {
            slot,
            from_initiator: flow.is_turned() == is_turned,
        })
    }

    /// The flow of a packet. One whose time is over is removed and not found.
    pub fn find(&mut self, tuple: Tuple, now: Tick) -> Option<Found> {
        let (key, turned) = FlowKey::of(tuple);
        let mut index = self.heads.get(self.bucket(key)).copied()?;
        for _ in 0..CHAIN_MAX {
            let flow = self.at(index)?;
            if *flow.key() == key {
                if flow.expires.is_over(now) {
                    self.remove(FlowSlot(index));
                    return None;
                }
                return Some(Found {
                    slot: FlowSlot(index),
                    from_initiator: flow.is_turned() == turned,
                });
            }
            index = flow.next;
        }
        None
    }

    /// Adds a flow that isn't there yet. If there is no room for it, the oldest half-open
    /// flow makes some: of the same account if that has all it may have, else of who has
    /// the most.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed.
    pub fn insert(&mut self, new: NewFlow, now: Tick) -> Result<FlowSlot, Refused> {
        let (key, turned) = FlowKey::of(new.tuple);
        let bucket = self.bucket(key);
        let head = self.heads.get(bucket).copied().ok_or(Refused::Full)?;
        if self.chain_len(head) >= CHAIN_MAX {
            return Err(Refused::Chain);
        }
        if self.used == 0 {
            self.second = Deadline::after(now, 0).second();
        }
        let account = self.accounts.of(new.ends, new.payer);
        if self.accounts.is_spent(account) && !self.evict(account, now) {
            return Err(Refused::Quota);
        }
        if self.used >= self.capacity && !self.evict(self.accounts.richest(account), now) {
            return Err(Refused::Full);
        }
        let mut flow = Flow::new(key, turned, new.payer, new.track);
        flow.judge(new.ends, new.generations, new.rule, new.domain);
        flow.expires = Deadline::after(now, new.track.timeout_ns(&self.timeouts));
        // As the one that made room may have left it.
        flow.next = self.heads.get(bucket).copied().ok_or(Refused::Full)?;
        let is_half_open = new.track.is_half_open();
        let index = self.place(flow)?;
        if let Some(head) = self.heads.get_mut(bucket) {
            *head = index;
        }
        self.used += 1;
        self.accounts.add(account, is_half_open);
        self.wait(index);
        Ok(FlowSlot(index))
    }

    /// Ends the oldest half-open flow of an account; whether there was one.
    fn evict(&mut self, account: AccountIndex, now: Tick) -> bool {
        let oldest = |is_tcp| {
            let index = self.lists.first(Self::half_open_list(account, is_tcp))?;
            let flow = self.at(index)?;
            let timeout = Deadline::after(now, flow.track.timeout_ns(&self.timeouts));
            Some((timeout.later_ms(flow.expires), index))
        };
        let Some((_, index)) = oldest(true).max(oldest(false)) else {
            return false;
        };
        self.remove(FlowSlot(index));
        self.evicted += 1;
        true
    }

    fn chain_len(&self, head: u32) -> usize {
        let mut index = head;
        for n in 0..CHAIN_MAX {
            match self.at(index) {
                Some(flow) => index = flow.next,
                None => return n,
            }
        }
        CHAIN_MAX
    }

    /// Puts an entry in a free place: one that was used before, else the next new one.
    fn place(&mut self, flow: Flow) -> Result<u32, Refused> {
        if let Some(slot) = self.flows.get_mut(self.free as usize) {
            let index = self.free;
            self.free = slot.next;
            *slot = flow;
            return Ok(index);
        }
        if self.flows.len() >= self.capacity {
            return Err(Refused::Full);
        }
        let index = u32::try_from(self.flows.len()).map_err(|_| Refused::Full)?;
        // Within the capacity reserved at creation: no allocation.
        self.flows.push(flow);
        Ok(index)
    }

    /// Ends a flow.
    pub fn remove(&mut self, slot: FlowSlot) {
        let Some(flow) = self.at(slot.0).copied() else {
            return;
        };
        let bucket = self.bucket(*flow.key());
        if let Some(head) = self.heads.get_mut(bucket) {
            if *head == slot.0 {
                *head = flow.next;
            } else {
                let mut index = *head;
                for _ in 0..CHAIN_MAX {
                    let Some(before) = self.flows.get_mut(index as usize) else {
                        break;
                    };
                    if before.next == slot.0 {
                        before.next = flow.next;
                        break;
                    }
                    index = before.next;
                }
            }
        }
        let account = self.accounts.of(flow.ends(), flow.payer());
        self.accounts.remove(account, flow.track.is_half_open());
        self.lists.leave(slot.0);
        if let Some(gone) = self.flows.get_mut(slot.0 as usize) {
            gone.end();
            gone.next = self.free;
            self.free = slot.0;
            self.used -= 1;
        }
    }

    /// Ends flows whose time is over, a bounded number; those left are ended by the calls to
    /// come, and not found meanwhile.
    pub fn expire(&mut self, now: Tick) {
        let left = self.turn_wheel(now);
        self.end_half_open(now, left);
    }

    /// Goes on to the second of `now`. How many more entries may be looked at.
    fn turn_wheel(&mut self, now: Tick) -> usize {
        let mut left = EXPIRE_MAX;
        let this_second = Deadline::after(now, 0).second();
        for _ in 0..SECONDS_PER_EXPIRE_MAX {
            if self.second == this_second {
                break;
            }
            while let Some(index) = self.lists.first(List(self.second % WHEEL_SECONDS)) {
                if left == 0 {
                    return 0;
                }
                left -= 1;
                if self.at(index).is_some_and(|f| !f.expires.is_over(now)) {
                    self.wait(index);
                } else {
                    self.end_waiting(index);
                }
            }
            self.second = self.second.wrapping_add(1) & SECOND_MASK;
        }
        left
    }

    /// Ends the first few half-open flows of the next few accounts.
    fn end_half_open(&mut self, now: Tick, mut left: usize) {
        for _ in 0..ACCOUNTS_PER_EXPIRE_MAX.min(self.accounts.len()) {
            let account = AccountIndex(self.account);
            for is_tcp in [true, false] {
                while let Some(index) = self.lists.first(Self::half_open_list(account, is_tcp)) {
                    if self.at(index).is_some_and(|f| !f.expires.is_over(now)) {
                        break;
                    }
                    if left == 0 {
                        return;
                    }
                    left -= 1;
                    self.end_waiting(index);
                }
            }
            self.account = (self.account + 1) % self.accounts.len();
        }
    }

    /// Has [`Self::sweep`] look at every entry once more.
    pub fn begin_sweep(&mut self) {
        self.swept = 0;
    }

    /// Looks at the next few entries and ends those that aren't to be kept. Free once every
    /// entry was looked at.
    pub fn sweep(&mut self, keep: impl Fn(&Flow) -> bool) {
        for _ in 0..SWEEP_MAX {
            let Some(flow) = self.flows.get(self.swept) else {
                return;
            };
            if flow.is_live()
                && !keep(flow)
                && let Ok(index) = u32::try_from(self.swept)
            {
                self.remove(FlowSlot(index));
            }
            self.swept += 1;
        }
    }

    /// Ends an entry and has it out of its list whatever it is, or a list would never end.
    fn end_waiting(&mut self, index: u32) {
        self.remove(FlowSlot(index));
        self.lists.leave(index);
    }

    /// Live flows from an entry number on, with the number to go on from.
    pub fn iter_from(&self, start: usize) -> impl Iterator<Item = (usize, &Flow)> {
        self.flows
            .iter()
            .enumerate()
            .skip(start)
            .filter(|(_, f)| f.is_live())
    }
}

#[cfg(test)]
mod tests;
