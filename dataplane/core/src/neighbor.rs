//! Next hops on the uplink: their MACs, who must be asked again, and the frames that wait.
//!
//! Peers' next hops are asked for when the peer becomes known and kept fresh, so no first
//! packet waits for them; on-link hosts outside the cluster are asked for when a packet
//! needs them, and that packet waits here.

use crate::addr::{Addr, Mac};
use crate::clear::ClearPair;
use crate::hash::HashKey;
use crate::snapshot::PortIndex;
use crate::tick::Tick;

/// Next hops known at a time, at most.
pub const NEIGHBORS_MAX: usize = 2048;

/// Frames that wait for a MAC, at most.
pub const WAITING_MAX: usize = 64;

/// Places looked at for one address, at most.
const PROBES_MAX: usize = 16;
/// How long an answer is good before it is asked for again (RFC 4861 section 10:
/// `REACHABLE_TIME`).
const FRESH_NS: u64 = 30 * Tick::SECOND;
/// Between two questions (RFC 4861 section 10: `RETRANS_TIMER`).
const ASK_EVERY_NS: u64 = Tick::SECOND;
/// Questions without an answer before an entry is given up (RFC 4861 section 10:
/// `MAX_MULTICAST_SOLICIT`). A pinned entry is asked for without end.
const ASKS_MAX: u8 = 3;
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
    /// When to ask next; moves ahead with every answer.
    ask_at: Tick,
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
    /// Each with when it is given up.
    waiting: Vec<(Waiting<F>, Tick)>,
    key: HashKey,
    scan_at: Tick,
    /// Nobody is to be asked before.
    soonest: Tick,
}

impl<F> Neighbors<F> {
    /// An empty table.
    #[must_use]
    pub fn new(key: HashKey) -> Self {
        Self {
            slots: vec![None; NEIGHBORS_MAX].into_boxed_slice(),
            waiting: Vec::with_capacity(WAITING_MAX),
            key,
            scan_at: Tick(0),
            soonest: Tick(0),
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "halves, then masked")]
    fn home(&self, addr: Addr) -> usize {
        self.key.hash([addr.0 as u64, (addr.0 >> 64) as u64]) as usize
    }

    fn place(&self, addr: Addr) -> Option<usize> {
        let home = self.home(addr);
        (0..PROBES_MAX)
            .map(|i| home.wrapping_add(i) % NEIGHBORS_MAX)
            .find(|&at| matches!(self.slots.get(at), Some(Some(e)) if e.addr == addr))
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

    /// Makes an address known as one to ask for; `pinned` ones are kept fresh for ever.
    /// Where its places are all taken, one that isn't pinned gives way.
    pub fn want(&mut self, addr: Addr, pinned: bool, now: Tick) {
        if let Some(entry) = self.entry_mut(addr) {
            entry.pinned |= pinned;
            return;
        }
        let home = self.home(addr);
        let mut at = (0..PROBES_MAX).map(|i| home.wrapping_add(i) % NEIGHBORS_MAX);
        let free = at
            .clone()
            .find(|&at| matches!(self.slots.get(at), Some(None)));
        let victim = free
            .or_else(|| at.find(|&at| matches!(self.slots.get(at), Some(Some(e)) if !e.pinned)));
        if let Some(slot) = victim.and_then(|at| self.slots.get_mut(at)) {
            *slot = Some(Entry {
                addr,
                mac: None,
                asks: 0,
                pinned,
                ask_at: now,
            });
            self.scan_at = now;
            self.soonest = self.soonest.min(now);
        }
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
        let Some(entry) = self.entry_mut(addr) else {
            return false;
        };
        entry.mac = Some(mac);
        entry.asks = 0;
        entry.ask_at = now + FRESH_NS;
        self.soonest = self.soonest.min(now + FRESH_NS);
        true
    }

    /// An address that must be asked for now, if there is one; call until `None`.
    pub fn next_question(&mut self, now: Tick) -> Option<Addr> {
        if now < self.scan_at {
            return None;
        }
        if now < self.soonest {
            self.scan_at = now + SCAN_EVERY_NS;
            return None;
        }
        let mut soonest = Tick(u64::MAX);
        for slot in &mut self.slots {
            let Some(entry) = slot else { continue };
            if entry.ask_at > now {
                soonest = soonest.min(entry.ask_at);
                continue;
            }
            if entry.asks >= ASKS_MAX {
                if !entry.pinned {
                    *slot = None;
                    continue;
                }
                entry.mac = None;
            }
            entry.asks = entry.asks.saturating_add(1);
            entry.ask_at = now + ASK_EVERY_NS;
            return Some(entry.addr);
        }
        self.scan_at = now + SCAN_EVERY_NS;
        self.soonest = soonest;
        None
    }

    /// Keeps a frame until its next hop answers.
    ///
    /// # Errors
    /// The frame comes back if too many wait.
    pub fn hold(&mut self, waiting: Waiting<F>, now: Tick) -> Result<(), F> {
        if self.waiting.len() >= WAITING_MAX {
            return Err(waiting.frame);
        }
        self.waiting.push((waiting, now + WAIT_NS));
        Ok(())
    }

    /// The next frame, in the order they came, whose next hop is `addr`.
    pub fn release(&mut self, addr: Addr) -> Option<Waiting<F>> {
        let at = self.waiting.iter().position(|(w, _)| w.next_hop == addr)?;
        Some(self.waiting.remove(at).0)
    }

    /// The next frame that has waited too long.
    pub fn give_up(&mut self, now: Tick) -> Option<Waiting<F>> {
        let at = self.waiting.iter().position(|(_, until)| *until <= now)?;
        Some(self.waiting.remove(at).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Addr = Addr::v4([192, 0, 2, 1]);
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn table() -> Neighbors<u8> {
        Neighbors::new(HashKey([1, 2]))
    }

    fn waiting(frame: u8) -> Waiting<u8> {
        Waiting {
            next_hop: A,
            in_port: PortIndex(0),
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
        table.want(A, false, Tick(0));
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
        table.want(A, true, Tick(0));
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
            table.hold(waiting(n), Tick(0)).unwrap();
        }
        assert_eq!(table.hold(waiting(9), Tick(0)), Err(9));
    }

    #[test]
    fn a_flood_of_addresses_never_evicts_a_peer() {
        let mut table = table();
        table.want(A, true, Tick(0));
        table.learn(A, MAC, Tick(0));
        for n in 0..100_000u128 {
            table.want(Addr((0x2001_0db8 << 96) + n), false, Tick(0));
        }
        assert_eq!(table.mac(A), Some(MAC));
    }
}
