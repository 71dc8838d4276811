//! The flow table: fixed capacity, one owner, no allocation after creation.
//!
//! Entries stand in one array and are chained by index from a bucket array twice as long,
//! so all of the capacity can be used and an entry never moves while it lives.

use crate::flow::entry::Deadline;
pub use crate::flow::entry::{Flow, INITIATOR, RESPONDER};
use crate::flow::key::{FlowKey, Tuple};
use crate::flow::state::{Packet, Timeouts, Track};
use crate::flow::tcp::Taken;
use crate::hash::HashKey;
use crate::reason::DropReason;
use crate::route::{Attach, RuleRef};
use crate::tick::Tick;

/// Entries looked at in one bucket, at most. With a keyed hash and half-full buckets a
/// chain of this length is not met by chance; it reads as a full table.
pub const CHAIN_MAX: usize = 32;

/// Entries looked at by one [`FlowTable::expire`], at most.
pub const EXPIRE_MAX: usize = 64;

const NONE: u32 = u32::MAX;

/// An entry's place; good until the entry is removed, so within one burst only.
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
    /// What its first packet says.
    pub track: Track,
}

/// The table is full, or a bucket's chain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the flow table is full")]
pub struct TableFull;

/// The flow table of one worker.
#[derive(Debug)]
pub struct FlowTable {
    heads: Box<[u32]>,
    flows: Vec<Flow>,
    free: u32,
    used: usize,
    cursor: usize,
    capacity: usize,
    bucket_mask: u64,
    hash_key: HashKey,
    timeouts: Timeouts,
}

impl FlowTable {
    /// A table for `capacity` flows.
    #[must_use]
    pub fn new(capacity: usize, hash_key: HashKey, timeouts: Timeouts) -> Self {
        let capacity = capacity.clamp(1, NONE as usize - 1);
        let buckets = (capacity * 2).next_power_of_two();
        Self {
            heads: vec![NONE; buckets].into_boxed_slice(),
            flows: Vec::with_capacity(capacity),
            free: NONE,
            used: 0,
            cursor: 0,
            capacity,
            bucket_mask: buckets as u64 - 1,
            hash_key,
            timeouts,
        }
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

    #[allow(clippy::cast_possible_truncation, reason = "masked to the buckets")]
    fn bucket(&self, key: FlowKey) -> usize {
        (key.hash(self.hash_key) & self.bucket_mask) as usize
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
        if flow.track.take(packet, end)? == Taken::Alive {
            let timeout_ns = flow.track.timeout_ns(&self.timeouts);
            flow.expires = Deadline::after(now, timeout_ns);
        }
        flow.count(end);
        Ok(())
    }

    /// Sets what a flow was judged to be.
    pub fn rejudge(
        &mut self,
        slot: FlowSlot,
        ends: [Attach; 2],
        generations: [u32; 2],
        rule: RuleRef,
    ) {
        if let Some(flow) = self.flows.get_mut(slot.0 as usize).filter(|f| f.is_live()) {
            flow.judge(ends, generations, rule);
        }
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

    /// Adds a flow that isn't there yet.
    ///
    /// # Errors
    /// [`TableFull`]; nothing has changed.
    pub fn insert(&mut self, new: NewFlow, now: Tick) -> Result<FlowSlot, TableFull> {
        let (key, turned) = FlowKey::of(new.tuple);
        let bucket = self.bucket(key);
        let head = self.heads.get(bucket).copied().ok_or(TableFull)?;
        if self.chain_len(head) >= CHAIN_MAX {
            return Err(TableFull);
        }
        let timeout_ns = new.track.timeout_ns(&self.timeouts);
        let mut flow = Flow::new(key, turned, new.track, Deadline::after(now, timeout_ns));
        flow.judge(new.ends, new.generations, new.rule);
        flow.next = head;
        let index = self.place(flow)?;
        if let Some(head) = self.heads.get_mut(bucket) {
            *head = index;
        }
        self.used += 1;
        Ok(FlowSlot(index))
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
    fn place(&mut self, flow: Flow) -> Result<u32, TableFull> {
        if let Some(slot) = self.flows.get_mut(self.free as usize) {
            let index = self.free;
            self.free = slot.next;
            *slot = flow;
            return Ok(index);
        }
        if self.flows.len() >= self.capacity {
            return Err(TableFull);
        }
        let index = u32::try_from(self.flows.len()).map_err(|_| TableFull)?;
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
        if let Some(gone) = self.flows.get_mut(slot.0 as usize) {
            gone.end();
            gone.next = self.free;
            self.free = slot.0;
            self.used -= 1;
        }
    }

    /// Looks at the next few entries and ends those whose time is over.
    pub fn expire(&mut self, now: Tick) {
        for _ in 0..EXPIRE_MAX.min(self.flows.len()) {
            if self.cursor >= self.flows.len() {
                self.cursor = 0;
            }
            let expired = self
                .flows
                .get(self.cursor)
                .is_some_and(|f| f.is_live() && f.expires.is_over(now));
            if expired && let Ok(index) = u32::try_from(self.cursor) {
                self.remove(FlowSlot(index));
            }
            self.cursor += 1;
        }
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
mod tests {
    use super::*;
    use crate::addr::Addr;
    use crate::snapshot::PortIndex;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn tuple(n: u16) -> Tuple {
        Tuple {
            src: Addr::v4([10, 0, 0, 1]),
            dst: Addr::v4([10, 0, 0, 2]),
            src_port: n,
            dst_port: 80,
            protocol: 17,
        }
    }

    fn new_flow(n: u16) -> NewFlow {
        NewFlow {
            tuple: tuple(n),
            ends: [Attach::Port(PortIndex(0)), Attach::Port(PortIndex(1))],
            generations: [u32::from(n) + 1, 0],
            rule: RuleRef::default(),
            track: Track::Plain { answered: false },
        }
    }

    fn table(capacity: usize) -> FlowTable {
        FlowTable::new(capacity, HashKey([11, 13]), Timeouts::default())
    }

    #[test]
    fn all_of_the_capacity_can_be_used_and_no_more() {
        let mut table = table(1000);
        for n in 0..1000 {
            table.insert(new_flow(n), Tick(0)).unwrap();
        }
        assert_eq!(table.insert(new_flow(1000), Tick(0)), Err(TableFull));
        assert_eq!(table.len(), 1000);
        for n in 0..1000 {
            assert!(table.find(tuple(n), Tick(1)).is_some());
            assert!(
                !table
                    .find(tuple(n).reversed(), Tick(1))
                    .unwrap()
                    .from_initiator
            );
        }
    }

    #[test]
    fn a_flow_whose_time_is_over_is_not_found_and_its_place_is_free() {
        let mut table = table(1);
        table.insert(new_flow(1), Tick(0)).unwrap();
        let end = Tick(Timeouts::default().other_opening_ns);
        assert!(table.find(tuple(1), end - 1).is_some());
        assert!(table.find(tuple(1), end).is_none());
        table.insert(new_flow(2), end).unwrap();
    }

    proptest! {
        #[test]
        fn the_table_equals_a_map(ops in prop::collection::vec((0u8..3, 0u16..40), 0..400)) {
            let mut table = table(24);
            let mut model: BTreeMap<u16, u32> = BTreeMap::new();
            for (op, n) in ops {
                let found = table.find(tuple(n), Tick(0));
                prop_assert_eq!(found.is_some(), model.contains_key(&n));
                match (op, found) {
                    (0 | 1, None) => {
                        let inserted = table.insert(new_flow(n), Tick(0));
                        prop_assert_eq!(inserted.is_ok(), model.len() < 24);
                        if inserted.is_ok() { model.insert(n, u32::from(n) + 1); }
                    }
                    (2, Some(found)) => {
                        table.remove(found.slot);
                        model.remove(&n);
                    }
                    _ => {}
                }
                prop_assert_eq!(table.len(), model.len());
            }
            for (n, generation) in model {
                let found = table.find(tuple(n), Tick(0)).unwrap();
                prop_assert_eq!(table.flow(found.slot).unwrap().generations()[0], generation);
            }
        }

        #[test]
        fn expiry_reaches_every_entry(count in 1u16..300) {
            let mut table = table(300);
            for n in 0..count { table.insert(new_flow(n), Tick(0)).unwrap(); }
            let late = Tick(Timeouts::default().other_opening_ns);
            for _ in 0..=usize::from(count) / EXPIRE_MAX { table.expire(late); }
            prop_assert!(table.is_empty());
        }
    }
}
