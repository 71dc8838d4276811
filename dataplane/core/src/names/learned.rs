//! What pods were told: which addresses they know by which patterns, and until when.

use crate::addr::Addr;
use crate::flow::entry::Deadline;
use crate::hash::HashKey;
use crate::names::DomainId;
use crate::snapshot::{PortIndex, Snapshot};
use crate::tick::Tick;

/// Patterns that one pod can know one address by.
pub const PATTERNS_PER_ADDR_MAX: usize = 8;

/// Entries looked at in one bucket, at most; a bucket that is longer reads as a full table.
const CHAIN_MAX: usize = 32;
/// Entries looked at by one [`Learned::tend`], at most,
const TEND_MAX: usize = 64;
/// which does nothing more often than this, in nanoseconds.
const TEND_NS: u64 = Tick::MS;

/// How much is learned, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LearnLimits {
    /// Addresses that each VF's pod can know at a time. The API asks for 100 of each name.
    pub addresses_per_vf: usize,
    /// The least and the most seconds that an answer counts for, whatever it says: one of 0
    /// must last until its asker has used it.
    pub ttl_s: [u32; 2],
}

impl Default for LearnLimits {
    fn default() -> Self {
        Self {
            addresses_per_vf: 64 * 100,
            ttl_s: [5, 3600],
        }
    }
}

/// Why something isn't learned.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoRoom {
    /// The VF's pod knows as many addresses as it can.
    #[error("the pod knows as many addresses as it can")]
    Addresses,
    /// It knows the address by as many patterns as it can.
    #[error("the pod knows the address by as many patterns as it can")]
    Patterns,
}

/// No pattern, or one, and until when.
#[derive(Clone, Copy, Debug)]
struct Known {
    domain: DomainId,
    until: Deadline,
}

impl Known {
    const NONE: Self = Self {
        domain: DomainId::NONE,
        until: Deadline::from_ms(0),
    };

    const fn is_good(&self, now: Tick) -> bool {
        self.domain.is_some() && !self.until.is_over(now)
    }
}

/// An address that a pod was told.
#[derive(Clone, Copy, Debug)]
struct Entry {
    addr: [u64; 2],
    known: [Known; PATTERNS_PER_ADDR_MAX],
    /// The generation that the pod came with: who has its VF next knows nothing.
    born: u32,
    /// The next entry in its bucket or in the list of free ones, counted from 1.
    next: u32,
    port: u16,
    live: bool,
}

const _: () = assert!(size_of::<Entry>() <= 96);

/// An address as a pod knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NameView {
    /// The pod's port.
    pub port: PortIndex,
    /// The address.
    pub addr: Addr,
    /// The pattern that the name is of.
    pub domain: DomainId,
    /// Milliseconds that it is still known.
    pub left_ms: u32,
}

/// What the pods of one worker were told.
#[derive(Debug)]
pub struct Learned {
    key: HashKey,
    limits: LearnLimits,
    /// By hash, the first entry, counted from 1: all zero at the start, so memory that no
    /// pod needs is never touched.
    heads: Box<[u32]>,
    entries: Vec<Entry>,
    free: u32,
    used: usize,
    /// Entries by port.
    by_port: Box<[u32]>,
    capacity: usize,
    cursor: usize,
    tended: Tick,
}

#[allow(clippy::cast_possible_truncation, reason = "the two halves")]
const fn words(addr: Addr) -> [u64; 2] {
    [(addr.0 >> 64) as u64, addr.0 as u64]
}

impl Learned {
    /// Room for what the pods of so many ports may know.
    #[must_use]
    pub fn new(key: HashKey, ports: usize, limits: LearnLimits) -> Self {
        let capacity = ports.saturating_mul(limits.addresses_per_vf);
        let capacity = capacity.min(u32::MAX as usize - 1);
        Self {
            key,
            limits,
            heads: vec![0; capacity].into_boxed_slice(),
            entries: Vec::with_capacity(capacity),
            free: 0,
            used: 0,
            by_port: vec![0; ports].into_boxed_slice(),
            capacity,
            cursor: 0,
            tended: Tick(0),
        }
    }

    /// How many addresses are known.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.used
    }

    /// Whether none is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.used == 0
    }

    #[allow(clippy::cast_possible_truncation, reason = "less than the buckets")]
    fn bucket(&self, port: PortIndex, addr: [u64; 2]) -> usize {
        let [high, low] = addr;
        let hash = u128::from(self.key.hash([high, low, u64::from(port.0)]));
        ((hash * self.heads.len() as u128) >> 64) as usize
    }

    fn at(&self, index: u32) -> Option<&Entry> {
        let at = (index as usize).checked_sub(1)?;
        self.entries.get(at).filter(|it| it.live)
    }

    fn at_mut(&mut self, index: u32) -> Option<&mut Entry> {
        let at = (index as usize).checked_sub(1)?;
        self.entries.get_mut(at).filter(|it| it.live)
    }

    /// The entry of an address at a port, or how long its bucket is.
    fn find(&self, port: PortIndex, addr: [u64; 2]) -> Result<u32, usize> {
        let mut index = self
            .heads
            .get(self.bucket(port, addr))
            .copied()
            .unwrap_or(0);
        for n in 0..CHAIN_MAX {
            let Some(entry) = self.at(index) else {
                return Err(n);
            };
            if entry.addr == addr && entry.port == port.0 {
                return Ok(index);
            }
            index = entry.next;
        }
        Err(CHAIN_MAX)
    }

    /// Calls `each` with the patterns by which the pod that came to `port` with generation
    /// `born` knows an address now.
    #[inline]
    pub fn of(
        &self,
        (port, born): (PortIndex, u32),
        addr: Addr,
        now: Tick,
        each: &mut impl FnMut(DomainId),
    ) {
        if self.used == 0 {
            return;
        }
        let entry = self.find(port, words(addr)).ok();
        let entry = entry.and_then(|index| self.at(index));
        for known in entry
            .filter(|it| it.born == born)
            .iter()
            .flat_map(|it| &it.known)
        {
            if known.is_good(now) {
                each(known.domain);
            }
        }
    }

    /// Notes that a pod was told an address for a name of a pattern, which is good for so
    /// many seconds. What it knows for longer stays.
    ///
    /// # Errors
    /// [`NoRoom`]; nothing has changed.
    pub fn learn(
        &mut self,
        (port, born): (PortIndex, u32),
        addr: Addr,
        domain: DomainId,
        ttl_s: u32,
        now: Tick,
    ) -> Result<(), NoRoom> {
        let [least, most] = self.limits.ttl_s;
        let ttl_ns = u64::from(ttl_s.min(most).max(least)) * Tick::SECOND;
        let new = Known {
            domain,
            until: Deadline::after(now, ttl_ns),
        };
        let index = match self.find(port, words(addr)) {
            Ok(index) => index,
            Err(chain) => self.insert(port, born, words(addr), chain)?,
        };
        let entry = self.at_mut(index).ok_or(NoRoom::Addresses)?;
        if entry.born != born {
            entry.born = born;
            entry.known = [Known::NONE; PATTERNS_PER_ADDR_MAX];
        }
        let known = &mut entry.known;
        if let Some(same) = known.iter_mut().find(|it| it.domain == domain) {
            if !same.is_good(now) || same.until.later_ms(new.until) < 0 {
                same.until = new.until;
            }
            return Ok(());
        }
        let free = known.iter_mut().find(|it| !it.is_good(now));
        *free.ok_or(NoRoom::Patterns)? = new;
        Ok(())
    }

    fn insert(
        &mut self,
        port: PortIndex,
        born: u32,
        addr: [u64; 2],
        chain: usize,
    ) -> Result<u32, NoRoom> {
        let of_port = self.by_port.get(usize::from(port.0));
        let of_port = of_port.ok_or(NoRoom::Addresses)?;
        if chain >= CHAIN_MAX || *of_port as usize >= self.limits.addresses_per_vf {
            return Err(NoRoom::Addresses);
        }
        let bucket = self.bucket(port, addr);
        let entry = Entry {
            addr,
            known: [Known::NONE; PATTERNS_PER_ADDR_MAX],
            born,
            next: self.heads.get(bucket).copied().unwrap_or(0),
            port: port.0,
            live: true,
        };
        let index = self.place(entry).ok_or(NoRoom::Addresses)?;
        if let Some(of_port) = self.by_port.get_mut(usize::from(port.0)) {
            *of_port += 1;
        }
        if let Some(head) = self.heads.get_mut(bucket) {
            *head = index;
        }
        self.used += 1;
        Ok(index)
    }

    /// Puts an entry in a free place: one that was used before, else the next new one.
    fn place(&mut self, entry: Entry) -> Option<u32> {
        let free = (self.free as usize).checked_sub(1);
        if let Some(slot) = free.and_then(|at| self.entries.get_mut(at)) {
            let index = self.free;
            self.free = slot.next;
            *slot = entry;
            return Some(index);
        }
        // The ports' shares together are the capacity, so there is room.
        if self.entries.len() >= self.capacity {
            return None;
        }
        self.entries.push(entry);
        u32::try_from(self.entries.len()).ok()
    }

    fn remove(&mut self, index: u32) {
        let Some(entry) = self.at(index).copied() else {
            return;
        };
        let bucket = self.bucket(PortIndex(entry.port), entry.addr);
        let Some(head) = self.heads.get_mut(bucket) else {
            return;
        };
        if *head == index {
            *head = entry.next;
        } else {
            let mut before = *head;
            for _ in 0..CHAIN_MAX {
                let Some(it) = self.at_mut(before) else {
                    break;
                };
                if it.next == index {
                    it.next = entry.next;
                    break;
                }
                before = it.next;
            }
        }
        let free = self.free;
        if let Some(it) = self.at_mut(index) {
            it.live = false;
            it.next = free;
            self.free = index;
            self.used -= 1;
            if let Some(of_port) = self.by_port.get_mut(usize::from(entry.port)) {
                *of_port = of_port.saturating_sub(1);
            }
        }
    }

    /// Forgets what is over and what pods knew that have left, some entries at a time.
    pub fn tend(&mut self, snapshot: &Snapshot, now: Tick) {
        if self.used == 0 || now.since(self.tended) < TEND_NS {
            return;
        }
        self.tended = now;
        self.sweep(snapshot, now);
    }

    /// Makes room in haste: see [`Self::tend`].
    pub fn sweep(&mut self, snapshot: &Snapshot, now: Tick) {
        for _ in 0..TEND_MAX.min(self.entries.len()) {
            self.cursor = (self.cursor + 1) % self.entries.len();
            let entry = self.entries.get_mut(self.cursor);
            let Some(entry) = entry.filter(|it| it.live) else {
                continue;
            };
            for known in entry.known.iter_mut().filter(|it| !it.is_good(now)) {
                // A deadline comes round again, after 24 days.
                *known = Known::NONE;
            }
            let pod = snapshot.endpoint_of(PortIndex(entry.port));
            let stays = pod.is_some_and(|it| it.born == entry.born);
            if stays && entry.known.iter().any(|it| it.domain.is_some()) {
                continue;
            }
            if let Ok(index) = u32::try_from(self.cursor + 1) {
                self.remove(index);
            }
        }
    }

    /// What is known, from an entry's number on: the number to go on from with each.
    pub fn iter_from(&self, cursor: usize, now: Tick) -> impl Iterator<Item = (usize, NameView)> {
        let entries = self.entries.iter().enumerate().skip(cursor);
        entries
            .filter(|(_, it)| it.live)
            .flat_map(move |(at, entry)| {
                let good = entry.known.iter().filter(move |it| it.is_good(now));
                let [high, low] = entry.addr;
                let addr = Addr(u128::from(high) << 64 | u128::from(low));
                good.map(move |it| {
                    let left_ms = it.until.later_ms(Deadline::after(now, 0));
                    let view = NameView {
                        port: PortIndex(entry.port),
                        addr,
                        domain: it.domain,
                        left_ms: u32::try_from(left_ms).unwrap_or(0),
                    };
                    (at, view)
                })
            })
    }
}
