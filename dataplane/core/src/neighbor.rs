//! Next hops on the uplink: their MACs, who must be asked again, and the frames that wait.
//!
//! Peers' next hops are asked for when the peer becomes known and kept fresh, so no first
//! packet waits for them; on-link hosts outside the cluster are asked for when a packet
//! needs them, and that packet waits here.
//!
//! An address has two buckets of places. Peers' next hops are spread evenly over the two and
//! never give way, so all that a node may have find room. The others are paid for by the port
//! whose packet wanted them, which has a share: of places, of questions without an answer, and
//! of the frames that wait. So who sends to thousands of addresses takes nothing from others.
//! Of the last two a port has a few always, and beyond these never more than is left for all
//! others (dynamic thresholds, Choudhury and Hahne 1998).

use std::collections::VecDeque;

use crate::addr::{Addr, Mac};
use crate::clear::ClearPair;
use crate::hash::HashKey;
use crate::snapshot::{PORTS_MAX, PortIndex};
use crate::tick::Tick;

/// Next hops known at a time, at most: the peers' twice.
pub const NEIGHBORS_MAX: usize = 2 * PINNED_MAX;

/// Next hops of peers for which there is surely room: as many as a node has peers.
pub const PINNED_MAX: usize = 4096;

/// Next hops that one port's packets wanted, at most; beyond, those of its own give way.
pub const PER_PORT_MAX: usize = 1024;

/// Those of them that have not answered yet, at most. Each is asked for once a second, so this
/// also bounds how much a port can make us ask.
pub const ASKING_PER_PORT_MAX: usize = 128;

/// The same of all ports together, but for the few that each has always.
pub const ASKING_MAX: usize = 2048;

/// Those few.
pub const ASKING_PER_PORT_MIN: usize = 4;

/// Frames that wait for a MAC, at most, but for the few of each port.
pub const WAITING_MAX: usize = 512;

/// Those few.
pub const WAITING_PER_PORT_MIN: usize = 2;

/// Frames of one port that wait for a MAC, at most.
pub const WAITING_PER_PORT_MAX: usize = 64;

/// Places of a bucket; an address has two.
const BUCKET: usize = 8;
const BUCKETS: usize = NEIGHBORS_MAX / BUCKET;
/// New entries that are asked for ahead of all others; those beyond wait for the next look at
/// the table.
const NEW_MAX: usize = 32;
/// How long an answer is good before it is asked for again (RFC 4861 section 10:
/// `REACHABLE_TIME`).
const FRESH_NS: u64 = 30 * Tick::SECOND;
/// Between two questions (RFC 4861 section 10: `RETRANS_TIMER`).
const ASK_EVERY_NS: u64 = Tick::SECOND;
/// Questions without an answer before an entry is given up (RFC 4861 section 10:
/// `MAX_MULTICAST_SOLICIT`). A pinned entry is asked for without end.
const ASKS_MAX: u8 = 3;
/// How long after a packet a next hop is in use, and gives way to no other port's.
const IN_USE_NS: u64 = 10 * Tick::SECOND;
/// How long after a packet it is still asked for again.
const IDLE_NS: u64 = 300 * Tick::SECOND;
/// How exact that is: a place isn't written to with each packet.
const USED_EVERY_NS: u64 = Tick::SECOND;
/// How long a frame waits.
const WAIT_NS: u64 = 3 * Tick::SECOND;
/// How often the table is looked through.
const SCAN_EVERY_NS: u64 = 100 * Tick::MS;

#[derive(Clone, Copy, Debug)]
struct Entry {
    addr: Addr,
    mac: Option<Mac>,
    asks: u8,
    pinned: bool,
    /// Whose share it is of; nobody's if it is or was pinned.
    payer: Option<PortIndex>,
    /// When to ask next; moves ahead with every answer.
    ask_at: Tick,
    /// When a packet last wanted it, or nearly.
    used: Tick,
}

/// What one port takes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Share {
    entries: u16,
    /// Those of `entries` without a MAC.
    asking: u16,
    waiting: u16,
}

/// A frame that waits for the MAC of its next hop; all of it is ready but that.
#[derive(Debug)]
pub struct Waiting<F> {
    /// Who must answer.
    pub next_hop: Addr,
    /// The port it came by, for its counters.
    pub in_port: PortIndex,
    /// The generation of the endpoint behind that port when the frame was let through; 0
    /// if there is none.
    pub generation: u32,
    /// The frame.
    pub frame: F,
    /// What it counts for when it leaves, if it leaves in clear.
    pub clear: Option<ClearPair>,
}

/// The next hops of one worker.
#[derive(Debug)]
pub struct Neighbors<F> {
    slots: Box<[Option<Entry>]>,
    /// By port.
    shares: Box<[Share]>,
    /// What `asking` of all ports is in sum.
    asking: usize,
    /// Each with when it is given up, which is in the order they came.
    waiting: VecDeque<(Waiting<F>, Tick)>,
    key: HashKey,
    /// Places of entries that nobody has asked for yet.
    new: VecDeque<usize>,
    scan_at: Tick,
    /// Where the look through the table is.
    cursor: usize,
    /// Nobody is to be asked before.
    soonest: Tick,
    /// The same of those that this look has passed.
    soonest_next: Tick,
}

impl<F> Neighbors<F> {
    /// An empty table.
    #[must_use]
    pub fn new(key: HashKey) -> Self {
        Self {
            slots: vec![None; NEIGHBORS_MAX].into_boxed_slice(),
            shares: vec![Share::default(); PORTS_MAX].into_boxed_slice(),
            asking: 0,
            waiting: VecDeque::with_capacity(WAITING_MAX + PORTS_MAX * WAITING_PER_PORT_MIN),
            key,
            new: VecDeque::with_capacity(NEW_MAX),
            scan_at: Tick(0),
            cursor: 0,
            soonest: Tick(u64::MAX),
            soonest_next: Tick(u64::MAX),
        }
    }

    /// The first places of an address's two buckets, which are different ones.
    #[allow(clippy::cast_possible_truncation, reason = "halves, then masked")]
    fn buckets(&self, addr: Addr) -> [usize; 2] {
        let hash = self.key.hash([addr.0 as u64, (addr.0 >> 64) as u64]);
        let first = hash as usize % BUCKETS;
        let second = first ^ (1 + (hash >> 32) as usize % (BUCKETS - 1));
        [first * BUCKET, second * BUCKET]
    }

    fn place(&self, addr: Addr) -> Option<usize> {
        let mut places = self.buckets(addr).into_iter().flat_map(of_bucket);
        places.find(|&at| matches!(self.slots.get(at), Some(Some(e)) if e.addr == addr))
    }

    fn entry_mut(&mut self, addr: Addr) -> Option<&mut Entry> {
        let at = self.place(addr)?;
        self.slots.get_mut(at)?.as_mut()
    }

    /// The MAC of a next hop, if it is known.
    #[inline]
    #[must_use]
    pub fn mac(&self, addr: Addr) -> Option<Mac> {
        self.slots.get(self.place(addr)?)?.as_ref()?.mac
    }

    /// The same for a packet that goes there, which keeps it known.
    #[inline]
    pub fn mac_to_use(&mut self, addr: Addr, now: Tick) -> Option<Mac> {
        let entry = self.entry_mut(addr)?;
        if now.since(entry.used) >= USED_EVERY_NS {
            entry.used = now;
        }
        entry.mac
    }

    /// Makes an address known as one to ask for, for a packet that came by `payer`. Whether it
    /// is: a port has its share, and the places of an address may all be taken. One without a
    /// MAC gives way first, then the least lately used, but none that is in use or pinned.
    pub fn want(&mut self, addr: Addr, payer: PortIndex, now: Tick) -> bool {
        if self.place(addr).is_some() {
            return true;
        }
        let Some(share) = self.shares.get(usize::from(payer.0)) else {
            return false;
        };
        let left = ASKING_MAX.saturating_sub(self.asking);
        let most = left.clamp(ASKING_PER_PORT_MIN, ASKING_PER_PORT_MAX);
        if usize::from(share.asking) >= most {
            return false;
        }
        let own_only = usize::from(share.entries) >= PER_PORT_MAX;
        let gives_way = |entry: &Option<Entry>| match entry {
            None => !own_only,
            Some(it) if it.payer == Some(payer) => true,
            Some(it) => {
                let in_use = it.mac.is_some() && now.since(it.used) < IN_USE_NS;
                !own_only && !it.pinned && !in_use
            }
        };
        let places = self.buckets(addr).into_iter().flat_map(of_bucket);
        let places = places.filter(|&at| self.slots.get(at).is_some_and(gives_way));
        let Some(at) = places.min_by_key(|&at| self.worth(at)) else {
            return false;
        };
        self.put(at, addr, Some(payer), now);
        true
    }

    /// Keeps the address of a peer or a gateway fresh, if it is known. Whether it is.
    pub fn pin_known(&mut self, addr: Addr) -> bool {
        let Some(at) = self.place(addr) else {
            return false;
        };
        self.pay(at, false);
        if let Some(Some(entry)) = self.slots.get_mut(at) {
            entry.pinned = true;
            entry.payer = None;
        }
        true
    }

    /// Makes the address of a peer or a gateway known and keeps it fresh until
    /// [`Self::unpin_all`]. All but pinned ones give way, in the bucket that has fewer of those.
    pub fn pin(&mut self, addr: Addr, now: Tick) {
        if self.pin_known(addr) {
            return;
        }
        let pinned = |at: usize| matches!(self.slots.get(at), Some(Some(e)) if e.pinned);
        let [a, b] = self.buckets(addr);
        let [in_a, in_b] = [a, b].map(|it| of_bucket(it).filter(|&at| pinned(at)).count());
        let bucket = if in_b < in_a { b } else { a };
        let places = of_bucket(bucket).filter(|&at| !pinned(at));
        if let Some(at) = places.min_by_key(|&at| self.worth(at)) {
            self.put(at, addr, None, now);
        }
    }

    /// Who gives way first has the least.
    fn worth(&self, at: usize) -> (u8, Tick) {
        match self.slots.get(at) {
            Some(Some(it)) => (1 + u8::from(it.mac.is_some()), it.used),
            _ => (0, Tick(0)),
        }
    }

    /// A new entry in place of what is there; pinned if nobody pays for it.
    fn put(&mut self, at: usize, addr: Addr, payer: Option<PortIndex>, now: Tick) {
        self.pay(at, false);
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = Some(Entry {
                addr,
                mac: None,
                asks: 0,
                pinned: payer.is_none(),
                payer,
                ask_at: now,
                used: now,
            });
        }
        self.pay(at, true);
        if self.new.len() < NEW_MAX {
            self.new.push_back(at);
        } else {
            self.ask_from(now);
        }
    }

    /// Puts what is at a place on its port's account, or takes it off.
    fn pay(&mut self, at: usize, takes: bool) {
        let Some(Some(entry)) = self.slots.get(at) else {
            return;
        };
        let asks = u16::from(entry.mac.is_none());
        let Some(share) = entry.payer.and_then(|it| share_of(&mut self.shares, it)) else {
            return;
        };
        if takes {
            share.entries = share.entries.saturating_add(1);
            share.asking = share.asking.saturating_add(asks);
            self.asking += usize::from(asks);
        } else {
            share.entries = share.entries.saturating_sub(1);
            share.asking = share.asking.saturating_sub(asks);
            self.asking = self.asking.saturating_sub(asks.into());
        }
    }

    /// Somebody is to be asked at `at`.
    fn ask_from(&mut self, at: Tick) {
        self.soonest = self.soonest.min(at);
        self.soonest_next = self.soonest_next.min(at);
    }

    /// Forgets which entries are pinned, before a new generation pins its own.
    pub fn unpin_all(&mut self) {
        self.slots
            .iter_mut()
            .flatten()
            .for_each(|e| e.pinned = false);
    }

    /// Takes an answer; only for an address that was asked for. Whether it was.
    pub fn learn(&mut self, addr: Addr, mac: Mac, now: Tick) -> bool {
        let Some(at) = self.place(addr) else {
            return false;
        };
        self.pay(at, false);
        if let Some(Some(entry)) = self.slots.get_mut(at) {
            entry.mac = Some(mac);
            entry.asks = 0;
            entry.ask_at = now + FRESH_NS;
        }
        self.pay(at, true);
        self.ask_from(now + FRESH_NS);
        true
    }

    /// An address that must be asked for now, if there is one; call until `None`.
    pub fn next_question(&mut self, now: Tick) -> Option<Addr> {
        while let Some(at) = self.new.pop_front() {
            if let Some(addr) = self.tend(at, now) {
                return Some(addr);
            }
        }
        if now < self.scan_at {
            return None;
        }
        if self.cursor == 0 && now < self.soonest {
            self.scan_at = now + SCAN_EVERY_NS;
            return None;
        }
        // From where it found the last one: a look is once through the table, however many it finds.
        while self.cursor < NEIGHBORS_MAX {
            let at = self.cursor;
            self.cursor += 1;
            if let Some(addr) = self.tend(at, now) {
                return Some(addr);
            }
        }
        self.cursor = 0;
        self.soonest = core::mem::replace(&mut self.soonest_next, Tick(u64::MAX));
        self.scan_at = now + SCAN_EVERY_NS;
        None
    }

    /// Gives up what is at a place, or says whom to ask.
    fn tend(&mut self, at: usize, now: Tick) -> Option<Addr> {
        let entry = self.slots.get_mut(at)?.as_mut()?;
        if entry.ask_at > now {
            let ask_at = entry.ask_at;
            self.ask_from(ask_at);
            return None;
        }
        let silent = entry.asks >= ASKS_MAX;
        let idle = entry.mac.is_some() && now.since(entry.used) >= IDLE_NS;
        if (silent || idle) && !entry.pinned {
            self.pay(at, false);
            *self.slots.get_mut(at)? = None;
            return None;
        }
        if silent {
            entry.mac = None;
        }
        entry.asks = entry.asks.saturating_add(1);
        entry.ask_at = now + ASK_EVERY_NS;
        let addr = entry.addr;
        self.ask_from(now + ASK_EVERY_NS);
        Some(addr)
    }

    /// Keeps a frame until its next hop answers.
    ///
    /// # Errors
    /// The frame comes back if too many wait, in all or of its port.
    pub fn hold(&mut self, waiting: Waiting<F>, now: Tick) -> Result<(), F> {
        let left = WAITING_MAX.saturating_sub(self.waiting.len());
        let most = left.clamp(WAITING_PER_PORT_MIN, WAITING_PER_PORT_MAX);
        let share = share_of(&mut self.shares, waiting.in_port);
        let Some(share) = share.filter(|it| usize::from(it.waiting) < most) else {
            return Err(waiting.frame);
        };
        share.waiting = share.waiting.saturating_add(1);
        self.waiting.push_back((waiting, now + WAIT_NS));
        Ok(())
    }

    /// The next frame, in the order they came, whose next hop is `addr`.
    pub fn release(&mut self, addr: Addr) -> Option<Waiting<F>> {
        let at = self.waiting.iter().position(|(w, _)| w.next_hop == addr)?;
        self.let_go(at)
    }

    /// The next frame that has waited too long.
    pub fn give_up(&mut self, now: Tick) -> Option<Waiting<F>> {
        self.waiting.front().filter(|(_, until)| *until <= now)?;
        self.let_go(0)
    }

    fn let_go(&mut self, at: usize) -> Option<Waiting<F>> {
        let (waiting, _) = self.waiting.remove(at)?;
        if let Some(share) = share_of(&mut self.shares, waiting.in_port) {
            share.waiting = share.waiting.saturating_sub(1);
        }
        Some(waiting)
    }
}

fn of_bucket(first: usize) -> core::ops::Range<usize> {
    first..first + BUCKET
}

fn share_of(shares: &mut [Share], port: PortIndex) -> Option<&mut Share> {
    shares.get_mut(usize::from(port.0))
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers")]
mod tests {
    use super::*;

    const A: Addr = Addr::v4([192, 0, 2, 1]);
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn table() -> Neighbors<u8> {
        Neighbors::new(HashKey([1, 2]))
    }

    const POD: PortIndex = PortIndex(1);
    const OTHER: PortIndex = PortIndex(2);

    fn nth(n: usize) -> Addr {
        Addr((0x2001_0db8 << 96) + n as u128)
    }

    /// What `port` wants and who answers at once.
    fn known(table: &mut Neighbors<u8>, addr: Addr, port: PortIndex, now: Tick) -> bool {
        table.want(addr, port, now) && table.learn(addr, MAC, now)
    }

    /// The shares are those that the entries and the frames say.
    fn check(table: &Neighbors<u8>) {
        let mut shares = vec![Share::default(); PORTS_MAX];
        for entry in table.slots.iter().flatten() {
            assert!(!entry.pinned || entry.payer.is_none());
            if let Some(share) = entry.payer.and_then(|it| share_of(&mut shares, it)) {
                share.entries += 1;
                share.asking += u16::from(entry.mac.is_none());
            }
        }
        for (waiting, _) in &table.waiting {
            share_of(&mut shares, waiting.in_port).unwrap().waiting += 1;
        }
        assert_eq!(*table.shares, *shares);
        let asking: usize = shares.iter().map(|it| usize::from(it.asking)).sum();
        assert_eq!(table.asking, asking);
    }

    fn waiting(frame: u8) -> Waiting<u8> {
        waiting_of(POD, frame)
    }

    fn waiting_of(in_port: PortIndex, frame: u8) -> Waiting<u8> {
        Waiting {
            next_hop: A,
            in_port,
            generation: 1,
            frame,
            clear: None,
        }
    }

    #[test]
    fn an_answer_nobody_asked_for_is_not_believed() {
        let mut table = table();
        assert!(!table.learn(A, MAC, Tick(0)));
        assert_eq!(table.mac(A), None);
    }

    #[test]
    fn an_unanswered_question_is_repeated_and_then_given_up() {
        let mut table = table();
        table.want(A, POD, Tick(0));
        let mut asked = 0;
        for second in 0..10 {
            while table.next_question(Tick(second * Tick::SECOND)).is_some() {
                asked += 1;
            }
        }
        assert_eq!(asked, ASKS_MAX);
        assert!(!table.learn(A, MAC, Tick(10 * Tick::SECOND)));
    }

    #[test]
    fn a_pinned_next_hop_is_refreshed_without_losing_its_mac() {
        let mut table = table();
        table.pin(A, Tick(0));
        assert_eq!(table.next_question(Tick(0)), Some(A));
        assert!(table.learn(A, MAC, Tick(1)));
        let later = Tick(1) + FRESH_NS;
        assert_eq!(table.next_question(later - 1), None);
        assert_eq!(table.next_question(later + SCAN_EVERY_NS), Some(A));
        assert_eq!(table.mac(A), Some(MAC));
    }

    #[test]
    fn waiting_frames_leave_in_order_and_not_for_ever() {
        let mut table = table();
        for n in 0..3 {
            table.hold(waiting(n), Tick(0)).unwrap();
        }
        assert_eq!(table.release(A).map(|w| w.frame), Some(0));
        assert!(table.give_up(Tick(WAIT_NS - 1)).is_none());
        assert_eq!(table.give_up(Tick(WAIT_NS)).map(|w| w.frame), Some(1));
        for n in 0..63 {
            table.hold(waiting(n), Tick(1)).unwrap();
        }
        assert_eq!(table.hold(waiting(9), Tick(1)), Err(9));
    }

    #[test]
    fn a_flood_of_addresses_never_evicts_a_peer() {
        let mut table = table();
        table.pin(A, Tick(0));
        table.learn(A, MAC, Tick(0));
        for n in 0..100_000 {
            let now = Tick(n as u64 * Tick::MS);
            let port = PortIndex((n % PORTS_MAX) as u16);
            known(&mut table, nth(n), port, now);
        }
        assert_eq!(table.mac(A), Some(MAC));
        check(&table);
    }

    #[test]
    fn there_is_room_for_the_next_hops_of_all_peers() {
        for key in 0..50 {
            let mut table = Neighbors::<u8>::new(HashKey([key, key.rotate_left(40)]));
            for n in 0..NEIGHBORS_MAX {
                known(&mut table, nth(n), PortIndex((n % 512) as u16), Tick(0));
            }
            for n in 0..PINNED_MAX {
                table.pin(nth(NEIGHBORS_MAX + n), Tick(0));
            }
            for n in 0..PINNED_MAX {
                assert!(table.learn(nth(NEIGHBORS_MAX + n), MAC, Tick(0)));
            }
            check(&table);
            // The next generation has other peers in place of some.
            table.unpin_all();
            let stays = (100..PINNED_MAX).map(|n| nth(NEIGHBORS_MAX + n));
            assert!(stays.clone().all(|it| table.pin_known(it)));
            for n in 0..100 {
                table.pin(nth(3 * NEIGHBORS_MAX + n), Tick(0));
            }
            assert!(stays.clone().all(|it| table.mac(it) == Some(MAC)));
            assert!((0..100).all(|n| table.learn(nth(3 * NEIGHBORS_MAX + n), MAC, Tick(0))));
            check(&table);
        }
    }

    #[test]
    fn who_sends_to_thousands_of_silent_addresses_asks_for_few_and_evicts_none() {
        let mut table = table();
        let kept: Vec<_> = (0..PER_PORT_MAX).map(nth).collect();
        for addr in &kept {
            assert!(known(&mut table, *addr, OTHER, Tick(0)));
        }
        let (mut wanted, mut asked) = (0, 0);
        for ms in 0..9_000 {
            let now = Tick(ms * Tick::MS);
            for n in 0..10 {
                let addr = nth(1_000_000 + ms as usize * 10 + n);
                wanted += usize::from(table.want(addr, POD, now));
            }
            while table.next_question(now).is_some() {
                asked += 1;
            }
        }
        // Each is given up a second after its third question.
        assert!(wanted <= 4 * ASKING_PER_PORT_MAX, "{wanted}");
        assert!(asked <= 10 * ASKING_PER_PORT_MAX, "{asked}");
        assert!(kept.iter().all(|it| table.mac(*it) == Some(MAC)));
        assert!(table.want(nth(9), OTHER, Tick(9 * Tick::SECOND)));
        check(&table);
    }

    /// In any order: one after the other until nothing is left, in turn, and again when what they
    /// had is given up.
    #[test]
    fn many_ports_that_flood_together_leave_each_other_port_a_few() {
        let (quiet, floods) = (PortIndex(900), 0..200u16);
        for in_turn in [false, true] {
            let mut table = table();
            let mut next = 1_000_000;
            for second in 0..8 {
                let now = Tick(second * Tick::SECOND);
                while table.next_question(now).is_some() {}
                while table.give_up(now).is_some() {}
                let mut flood = |port| {
                    next += 1;
                    table.want(nth(next), PortIndex(port), now);
                    table.hold(waiting_of(PortIndex(port), 0), now).ok();
                };
                if in_turn {
                    (0..200).for_each(|_| floods.clone().for_each(&mut flood));
                } else {
                    floods
                        .clone()
                        .for_each(|it| (0..200).for_each(|_| flood(it)));
                }
                let few = WAITING_PER_PORT_MIN * 200;
                assert!(table.waiting.len() <= WAITING_MAX + few);
                assert!(table.asking <= ASKING_MAX + ASKING_PER_PORT_MIN * 200);
                for n in 0..ASKING_PER_PORT_MIN {
                    let addr = nth(1_000 * second as usize + n);
                    assert!(table.want(addr, quiet, now), "{second} s");
                    assert!(known(&mut table, addr, quiet, now));
                }
                for n in 0..WAITING_PER_PORT_MIN {
                    table.hold(waiting_of(quiet, n as u8), now).unwrap();
                }
                while table.release(A).is_some() {}
                check(&table);
            }
        }
    }

    #[test]
    fn who_sends_to_thousands_that_answer_has_its_share_and_evicts_none_in_use() {
        let mut table = table();
        let kept: Vec<_> = (0..PER_PORT_MAX).map(nth).collect();
        for addr in &kept {
            assert!(known(&mut table, *addr, OTHER, Tick(0)));
        }
        for ms in 0..60_000 {
            let now = Tick(ms * Tick::MS);
            known(&mut table, nth(1_000_000 + ms as usize), POD, now);
            if ms % 5_000 == 0 {
                for addr in &kept {
                    assert_eq!(table.mac_to_use(*addr, now), Some(MAC));
                }
            }
        }
        assert!(usize::from(table.shares[1].entries) <= PER_PORT_MAX);
        check(&table);
    }

    #[test]
    fn without_a_free_place_one_without_a_mac_gives_way_and_then_the_least_lately_used() {
        let mut table = table();
        // As many as have A's first bucket, and as many as have its second.
        let of_a = table.buckets(A);
        let shares = |it: &Addr| table.buckets(*it).iter().all(|b| of_a.contains(b));
        let same: Vec<_> = (0..).map(nth).filter(shares).take(2 * BUCKET + 2).collect();
        let (last, rest) = same.split_last().unwrap();
        let (late, rest) = rest.split_last().unwrap();
        let port = |n: usize| PortIndex(n as u16);
        for (n, addr) in rest.iter().enumerate() {
            assert!(table.want(*addr, port(n), Tick(0)));
            if n != 5 {
                table.learn(*addr, MAC, Tick(0));
            }
        }
        assert!(table.want(*late, port(20), Tick(1)));
        assert_eq!(table.place(rest[5]), None, "it had no MAC");
        table.learn(*late, MAC, Tick(1));
        assert!(!table.want(*last, port(21), Tick(2)), "all are in use");
        let now = Tick(IN_USE_NS);
        for addr in rest.iter().filter(|it| **it != rest[9]) {
            table.mac_to_use(*addr, now);
        }
        assert!(table.want(*last, port(21), now + 1));
        assert_eq!(table.place(rest[9]), None, "it was used least lately");
        assert_eq!(
            rest.iter().filter(|it| table.mac(**it).is_some()).count(),
            14
        );
        check(&table);
    }

    #[test]
    fn what_nobody_uses_is_forgotten_and_what_is_used_is_not() {
        let mut table = table();
        let (used, idle) = (nth(1), nth(2));
        assert!(known(&mut table, used, POD, Tick(0)) && known(&mut table, idle, POD, Tick(0)));
        for second in 0..400 {
            let now = Tick(second * Tick::SECOND);
            table.mac_to_use(used, now);
            while let Some(addr) = table.next_question(now) {
                table.learn(addr, MAC, now);
            }
        }
        assert_eq!((table.mac(used), table.mac(idle)), (Some(MAC), None));
        check(&table);
    }

    #[test]
    fn thousands_of_peers_are_all_asked_for_and_kept_fresh() {
        let mut table = table();
        (0..PINNED_MAX).for_each(|n| table.pin(nth(n), Tick(0)));
        let mut asked = std::collections::BTreeMap::<Addr, usize>::new();
        for ms in 0..70_000 {
            let now = Tick(ms * Tick::MS);
            for _ in 0..32 {
                let Some(addr) = table.next_question(now) else {
                    break;
                };
                *asked.entry(addr).or_default() += 1;
                table.learn(addr, MAC, now);
            }
        }
        assert_eq!(asked.len(), PINNED_MAX);
        assert!(
            asked.values().all(|times| *times == 3),
            "now, at 30 s and 60 s"
        );
    }

    #[test]
    fn the_frames_of_one_port_leave_room_for_anothers() {
        let mut table = table();
        let held = (0..=255).take_while(|n| table.hold(waiting(*n), Tick(0)).is_ok());
        assert_eq!(held.count(), WAITING_PER_PORT_MAX);
        table.hold(waiting_of(OTHER, 7), Tick(1)).unwrap();
        assert!(table.release(A).is_some());
        table.hold(waiting(7), Tick(1)).unwrap();
        check(&table);
        while table.give_up(Tick(1 + WAIT_NS)).is_some() {}
        assert!(table.waiting.is_empty());
        check(&table);
    }
}
