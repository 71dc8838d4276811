//! Two honest TCPs and a bad network around the tracker: it drops nothing that its receiver
//! would have had any use for, and nothing that is forged moves it. Also when the tracker is lost midway and picks up.
//!
//! ```text
//!   end ── loss, reorder, dup ──▶ tracker ── loss, reorder, dup ──▶ end
//!                 forged segments ──▶┘
//! ```

use std::collections::BTreeMap;

use sluice_dataplane_core::flow::tcp::{Phase, Taken, Tcp};
use sluice_dataplane_core::wire::segment::Segment;

use crate::rig::*;
use crate::soak;

/// Connections, unless `SLUICE_SEEDS` says otherwise (`make soak`).
const SEEDS: u64 = 1_500;
const STEPS: usize = 600;
const MSS: u64 = 1460;

/// One end. Numbers are offsets from its own, or the other's, initial sequence number.
struct End {
    iss: u32,
    /// The shifts that either end offers; both or neither are used.
    shift: Option<u8>,
    peer_shift: Option<u8>,
    peer_iss: Option<u32>,
    /// Bytes to send in all, then FIN.
    total: u64,
    una: u64,
    nxt: u64,
    /// Past what the other end lets it send.
    edge: u64,
    max_window: u64,
    rcv: u64,
    /// Starts and ends of what came out of order.
    early: BTreeMap<u64, u64>,
    fin_at: Option<u64>,
    /// The room for data, and what of it the application hasn't read.
    room: u64,
    unread: u64,
    sent_count: u64,
}

/// Room for data, from very little to more than an unscaled window.
fn room(random: &mut Seeded) -> u64 {
    let most = 1 << (8 + random.below(9));
    1 + random.below(most) as u64
}

/// A segment under way, and which of its sender's it is.
#[derive(Clone, Copy)]
struct Sent {
    segment: Segment,
    number: u64,
}

impl End {
    fn new(random: &mut Seeded) -> Self {
        Self {
            iss: match random.below(3) {
                0 => u32::MAX - random.below(5000) as u32,
                _ => random.next() as u32,
            },
            shift: (random.below(4) > 0).then(|| random.below(8) as u8),
            peer_shift: None,
            peer_iss: None,
            total: random.below(60_000) as u64,
            una: 0,
            nxt: 0,
            edge: 1,
            max_window: 1,
            rcv: 0,
            early: BTreeMap::new(),
            fin_at: None,
            room: room(random),
            unread: 0,
            sent_count: 0,
        }
    }

    fn is_done(&self) -> bool {
        self.una == self.total + 2 && self.fin_at.is_some_and(|at| self.rcv > at)
    }

    fn window(&self) -> u64 {
        self.room.saturating_sub(self.unread)
    }

    fn window_field(&self, syn: bool) -> u16 {
        let shift = self.shift.filter(|_| self.peer_shift.is_some() && !syn);
        (self.window() >> shift.unwrap_or(0)).min(65_535) as u16
    }

    fn segment(&mut self, flags: u8, at: u64, len: u64) -> Sent {
        self.sent_count += 1;
        let syn = flags & SYN != 0;
        let segment = Segment {
            seq: self.iss.wrapping_add(at as u32),
            ack: self
                .peer_iss
                .map_or(0, |iss| iss.wrapping_add(self.rcv as u32)),
            window: self.window_field(syn),
            flags,
            // Who answers offers it only if it was offered.
            scale: self
                .shift
                .filter(|_| syn && (self.peer_iss.is_none() || self.peer_shift.is_some())),
            data_len: len as u16,
            is_cut: false,
        };
        Sent {
            segment,
            number: self.sent_count,
        }
    }

    /// The segment of `at..at + len` of what there is to send, with FIN if it is the last.
    fn data(&mut self, at: u64, len: u64) -> Sent {
        let last = at + len == self.total + 1 && self.edge > self.total + 1;
        let flags = if last { FIN | ACK } else { ACK };
        self.nxt = self.nxt.max(at + len + u64::from(last));
        self.segment(flags, at, len)
    }

    /// Something that this end may send now.
    fn speak(&mut self, random: &mut Seeded) -> Option<Sent> {
        if self.una == 0 {
            self.nxt = 1;
            let flags = if self.peer_iss.is_some() {
                SYN | ACK
            } else {
                SYN
            };
            return Some(self.segment(flags, 0, 0));
        }
        let end_of_data = self.total + 1;
        match random.below(8) {
            0..3 if self.nxt <= end_of_data && self.nxt < self.edge => {
                let room = self.edge.min(end_of_data) - self.nxt;
                let len = 1 + random.below(MSS as usize) as u64;
                let at = self.nxt;
                Some(self.data(at, len.min(room)))
            }
            3 if self.una < self.nxt => {
                let at = self.una + random.below((self.nxt - self.una) as usize) as u64;
                let len = (self.nxt.min(end_of_data) - at.min(end_of_data)).min(MSS);
                Some(self.data(at.min(end_of_data), len))
            }
            4 if self.una < self.nxt => {
                let at = self.una.min(end_of_data);
                let len = (self.nxt.min(end_of_data) - at).min(MSS);
                Some(self.data(at, len))
            }
            // Alive? And: is there still no room?
            5 if self.una == self.nxt && self.una > 1 => {
                let garbage = u64::from(random.below(2) == 0 && self.una <= end_of_data);
                let at = self.una - 1;
                Some(self.segment(ACK, at, garbage))
            }
            6 if self.una == self.nxt && self.edge <= self.nxt && self.nxt < end_of_data => {
                let at = self.nxt;
                self.nxt += 1;
                Some(self.segment(ACK, at, 1))
            }
            _ => {
                let at = self.nxt;
                Some(self.segment(ACK, at, 0))
            }
        }
    }

    /// Offset of a number of the other end, near what is expected of it.
    fn offset(&self, seq: u32) -> i64 {
        let iss = self.peer_iss.unwrap_or(seq);
        let near = seq.wrapping_sub(iss.wrapping_add(self.rcv as u32));
        self.rcv as i64 + i64::from(near.cast_signed())
    }

    fn ack_offset(&self, ack: u32) -> i64 {
        let near = ack.wrapping_sub(self.iss.wrapping_add(self.una as u32));
        self.una as i64 + i64::from(near.cast_signed())
    }

    /// RFC 9293 section 3.10.7.4 and RFC 5961 section 5: whether the segment is taken.
    fn accepts(&self, s: &Segment) -> bool {
        if s.flags & SYN != 0 {
            let answers = s.flags & ACK == 0 || self.ack_offset(s.ack) == 1 && self.nxt > 0;
            return answers && (self.peer_iss.is_none() || self.una == 0);
        }
        if self.peer_iss.is_none() {
            return false;
        }
        let (start, end) = (self.offset(s.seq), self.offset(s.end()));
        let ack = self.ack_offset(s.ack);
        let in_window = start <= (self.rcv + self.window()) as i64 && end >= self.rcv as i64;
        in_window && ack <= self.nxt as i64 && ack >= self.una as i64 - self.max_window as i64
    }

    /// Whether it would be the better for the segment.
    fn needs(&self, s: &Segment) -> bool {
        if s.flags & SYN != 0 {
            return self.accepts(s);
        }
        let new = self.offset(s.end()) > self.rcv as i64 && s.end() != s.seq;
        self.accepts(s) && (new || self.ack_offset(s.ack) > self.una as i64)
    }

    fn receive(&mut self, s: &Segment) {
        if !self.accepts(s) {
            return;
        }
        let syn = s.flags & SYN != 0;
        if syn && self.peer_iss.is_none() {
            self.peer_iss = Some(s.seq);
            self.rcv = 1;
            self.peer_shift = s.scale;
        }
        if s.flags & ACK != 0 {
            let ack = self.ack_offset(s.ack);
            if ack >= self.una as i64 {
                self.una = ack.cast_unsigned();
                let shift = self.peer_shift.filter(|_| self.shift.is_some() && !syn);
                let window = u64::from(s.window) << shift.unwrap_or(0);
                self.max_window = self.max_window.max(window);
                // A window may shrink.
                self.edge = self.una + window;
            }
        }
        if syn {
            return;
        }
        let (start, end) = (
            self.offset(s.seq).max(0).cast_unsigned(),
            self.offset(s.end()).cast_unsigned(),
        );
        let fin = s.flags & FIN != 0;
        if fin {
            self.fin_at = Some(end - 1);
        }
        // What doesn't fit is not kept.
        let fits = end.min(self.rcv + self.window() + u64::from(fin));
        if start < fits {
            let kept = self.early.entry(start).or_insert(fits);
            *kept = (*kept).max(fits);
        }
        while let Some((&start, &end)) = self.early.first_key_value()
            && start <= self.rcv
        {
            self.early.remove(&start);
            if end > self.rcv {
                self.unread += end - self.rcv;
                self.rcv = end;
            }
        }
    }
}

/// A segment of `data_len` bytes at `seq`, of which more may be in fragments to come.
fn piece(seq: u32, ack: u32, data_len: u16, is_cut: bool) -> Segment {
    Segment {
        seq,
        ack,
        window: 5000,
        flags: ACK,
        scale: None,
        data_len,
        is_cut,
    }
}

#[test]
fn what_was_sent_in_fragments_may_be_acknowledged_whole() {
    for (is_cut, passes) in [(true, true), (false, false)] {
        let syn = |flags, seq, ack| Segment {
            flags,
            ..piece(seq, ack, 0, false)
        };
        let mut tcp = Tcp::begun(&syn(SYN, 0, 0));
        tcp.take(&syn(SYN | ACK, 100, 1), 1).unwrap();
        tcp.take(&piece(1, 101, 0, false), 0).unwrap();
        tcp.take(&piece(1, 101, 1400, is_cut), 0).unwrap();
        assert!(tcp.take(&piece(101, 5002, 0, false), 1).is_err());
        assert_eq!(tcp.take(&piece(101, 3001, 0, false), 1).is_ok(), passes);
        if passes {
            assert!(tcp.take(&piece(3001, 101, 1400, false), 0).is_ok());
        }
    }
}

/// Both ends, and what is under way before and behind the tracker.
struct World {
    ends: [End; 2],
    tracker: Option<Tcp>,
    before: Vec<(usize, Sent)>,
    behind: Vec<(usize, Segment)>,
    /// The last of each end's segments that reached the tracker.
    latest: [u64; 2],
    simultaneous: bool,
    lossy: bool,
    /// The tracker was lost, and picks the connection up.
    crashed: bool,
}

impl World {
    fn new(random: &mut Seeded) -> Self {
        Self {
            ends: [End::new(random), End::new(random)],
            tracker: None,
            before: Vec::new(),
            behind: Vec::new(),
            latest: [0; 2],
            simultaneous: random.below(6) == 0,
            lossy: true,
            crashed: false,
        }
    }

    fn copies(&self, random: &mut Seeded) -> usize {
        match random.below(10) {
            0 if self.lossy => 0,
            1 if self.lossy => 2,
            _ => 1,
        }
    }

    fn pick(&self, random: &mut Seeded, len: usize) -> usize {
        if self.lossy && random.below(3) == 0 {
            random.below(len)
        } else {
            0
        }
    }

    fn step(&mut self, random: &mut Seeded) {
        match random.below(12) {
            0..4 => self.speak(random),
            4..7 if !self.before.is_empty() => {
                let at = self.pick(random, self.before.len());
                let (from, sent) = self.before.remove(at);
                self.arrive(from, sent, random);
            }
            7..10 if !self.behind.is_empty() => {
                let at = self.pick(random, self.behind.len());
                let (from, segment) = self.behind.remove(at);
                self.ends[1 - from].receive(&segment);
            }
            10 => {
                let end = &mut self.ends[random.below(2)];
                end.unread -= random.below(end.unread as usize + 1) as u64;
                if self.lossy && random.below(8) == 0 {
                    end.room = room(random);
                }
            }
            11 if self.lossy => self.forge(random),
            _ => {}
        }
    }

    fn speak(&mut self, random: &mut Seeded) {
        let from = random.below(2);
        let end = &mut self.ends[from];
        if from == 1 && end.peer_iss.is_none() && !self.simultaneous {
            return;
        }
        if let Some(sent) = end.speak(random) {
            for _ in 0..self.copies(random) {
                self.before.push((from, sent));
            }
        }
    }

    /// A segment reaches the tracker: what its receiver needs passes, and so does what
    /// nothing of the same sender overtook.
    fn arrive(&mut self, from: usize, sent: Sent, random: &mut Seeded) {
        let segment = sent.segment;
        let tracker = match &mut self.tracker {
            Some(tracker) => tracker,
            None if self.crashed && segment.flags & SYN == 0 => {
                self.tracker.insert(Tcp::picked_up(&segment, from))
            }
            None if !self.crashed && from == 0 => self.tracker.insert(Tcp::begun(&segment)),
            None => return,
        };
        let before = *tracker;
        let taken = tracker.take(&segment, from);
        let needed = self.ends[1 - from].needs(&segment);
        let in_order = sent.number >= self.latest[from];
        assert!(
            taken.is_ok() || !needed && !in_order,
            "{segment:?} of {from} was dropped ({taken:?}) by {before:?}"
        );
        self.latest[from] = self.latest[from].max(sent.number);
        if taken.is_ok() {
            for _ in 0..self.copies(random) {
                self.behind.push((from, segment));
            }
        }
    }

    /// A segment of somebody who knows the tuple and no number.
    fn forge(&mut self, random: &mut Seeded) {
        let from = random.below(2);
        let (me, other) = (&self.ends[from], &self.ends[1 - from]);
        let Some(tracker) = &mut self.tracker else {
            return;
        };
        let far = |random: &mut Seeded, near: u32| {
            near.wrapping_add((1 << 30) + random.below(1 << 31) as u32)
        };
        let mut forged = Segment {
            seq: far(random, me.iss.wrapping_add(me.nxt as u32)),
            ack: far(random, other.iss.wrapping_add(other.nxt as u32)),
            window: random.next() as u16,
            flags: 0,
            scale: Some(random.below(15) as u8),
            data_len: 1 + random.below(1000) as u16,
            is_cut: false,
        };
        let (before, phase) = (*tracker, tracker.phase());
        match random.below(6) {
            // What was picked up has windows of half of all numbers.
            0 | 1 if self.crashed => return,
            0 => {
                forged.flags = [ACK, FIN | ACK, SYN | ACK, RST, RST | ACK][random.below(5)];
                assert!(tracker.take(&forged, from).is_err(), "{forged:?}");
            }
            // In the window, but for what it acknowledges.
            1 => {
                forged.flags = [ACK, FIN | ACK][random.below(2)];
                forged.seq = me.iss.wrapping_add(me.nxt as u32);
                assert!(tracker.take(&forged, from).is_err(), "{forged:?}");
            }
            // In the window, past all that was sent.
            2 if me.edge > me.nxt && me.una > 0 => {
                forged.flags = RST;
                let ahead = 1 + random.below((me.edge - me.nxt) as usize) as u32;
                forged.seq = me.iss.wrapping_add(me.nxt as u32).wrapping_add(ahead);
                assert_ne!(tracker.take(&forged, from), Ok(Taken::Alive), "{forged:?}");
            }
            // Whoever knows a connection challenges it; to the tracker it is nothing yet.
            3 if from == 0 || phase != Phase::SynSent => {
                forged.flags = SYN;
                assert_eq!(tracker.take(&forged, from), Ok(Taken::Unmoved));
                assert_eq!(tracker.phase(), phase);
                return;
            }
            _ => return,
        }
        assert_eq!(*tracker, before, "{forged:?} of {from} changed it");
    }

    fn is_done(&self) -> bool {
        self.ends.iter().all(End::is_done)
    }
}

#[test]
fn an_honest_connection_loses_nothing_and_forgeries_neither_end_nor_enter_it() {
    let (mut opened, mut at_once) = (0, 0);
    let seeds = soak::amount("SLUICE_SEEDS", SEEDS);
    for seed in 0..seeds {
        soak::tell(seed, seeds, "connections");
        let seen = std::panic::catch_unwind(|| live(seed));
        match seen {
            Ok((was_open, simultaneous)) => {
                opened += usize::from(was_open);
                at_once += usize::from(simultaneous);
            }
            Err(_) => panic!("seed {seed}"),
        }
    }
    assert!(
        opened > 1_000 && at_once > 50,
        "{opened} of {seeds}, {at_once}"
    );
}

/// A connection's life: whether it was open before the network healed, and whether both
/// ends opened it.
fn live(seed: u64) -> (bool, bool) {
    let mut random = Seeded(seed);
    let mut world = World::new(&mut random);
    let mut both_began = false;
    for step in 0..STEPS {
        let is_open = world.tracker.is_some_and(|t| t.is_open());
        if seed.is_multiple_of(3) && step == STEPS / 2 && is_open {
            (world.tracker, world.crashed) = (None, true);
        }
        world.step(&mut random);
        both_began |= world
            .tracker
            .is_some_and(|t| t.phase() == Phase::SimultaneousOpen);
    }
    let was_open = world.tracker.is_some_and(|t| t.is_open());
    world.lossy = false;
    for _ in 0..200 {
        for end in &mut world.ends {
            (end.unread, end.room) = (0, 1 << 17);
        }
        for _ in 0..200 {
            world.step(&mut random);
        }
        if world.is_done() {
            break;
        }
    }
    assert!(world.is_done(), "the ends never got through");
    // What is still under way.
    while let Some((from, sent)) = world.before.pop() {
        world.arrive(from, sent, &mut random);
    }
    // What was picked up may have missed a FIN.
    let end = world.tracker.map(|t| t.phase());
    assert!(world.crashed || end == Some(Phase::TimeWait), "{end:?}");
    (was_open, both_began)
}
