//! The end that sends: congestion control (RFC 5681), fast recovery (RFC 6582, NewReno), and a
//! retransmission timer (RFC 6298).

use sluice_dataplane_core::meta::tcp_flag;
use sluice_dataplane_core::tick::Tick;

use super::{MSS, Seen, Segment, WINDOW, number, offset};

/// Duplicates that tell of a loss (RFC 5681 section 3.2).
const DUPLICATES: u32 = 3;
/// Segments of the first window (RFC 6928).
const FIRST_WINDOW: u64 = 10;
/// Before anything was measured (RFC 6298 section 2.1).
const RTO_FIRST_NS: u64 = Tick::SECOND;
/// As Linux has it; the RFC's second would have tests wait for nothing.
const RTO_MIN_NS: u64 = 200 * Tick::MS;
const RTO_MAX_NS: u64 = 60 * Tick::SECOND;
/// Timeouts in a row after which it gives up.
const TIMEOUTS_MAX: u32 = 8;
/// The same of a SYN: 31 s.
const SYN_TIMEOUTS_MAX: u32 = 4;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The SYN is out.
    Opening,
    /// The connection stands.
    Open,
    /// All was acknowledged, the FIN too, and the peer has ended.
    Complete,
    /// Nobody answered, or somebody refused.
    Failed,
}

/// A sender of one connection.
#[derive(Debug)]
pub(crate) struct Sender {
    isn: u32,
    /// The peer's next number, once it has spoken.
    peer_next: u32,
    state: State,
    mss: u64,
    /// Bytes of the stream; the FIN is behind them.
    total: u64,
    /// More bytes may follow: there is no FIN.
    lasts: bool,
    /// The first offset that isn't acknowledged.
    una: u64,
    /// The next to send: below `high` after a timeout.
    next: u64,
    /// Behind the last that was ever sent.
    high: u64,
    cwnd: u64,
    ssthresh: u64,
    duplicates: u32,
    /// In fast recovery, until this is acknowledged.
    recover: Option<u64>,
    /// What was sent before a timeout: duplicates below it tell of nothing new.
    floor: u64,
    srtt_ns: Option<u64>,
    rttvar_ns: u64,
    rto_ns: u64,
    /// What is timed: the offset behind it, and when it was sent.
    timed: Option<(u64, Tick)>,
    deadline: Option<Tick>,
    timeouts: u32,
    sent_again: u64,
}

impl Sender {
    pub(crate) fn new(isn: u32, total: u64) -> Self {
        Self {
            isn,
            peer_next: 0,
            state: State::Opening,
            mss: MSS.into(),
            total,
            lasts: false,
            una: 0,
            next: 0,
            high: 0,
            cwnd: 0,
            ssthresh: u64::MAX,
            duplicates: 0,
            recover: None,
            floor: 0,
            srtt_ns: None,
            rttvar_ns: 0,
            rto_ns: RTO_FIRST_NS,
            timed: None,
            deadline: None,
            timeouts: 0,
            sent_again: 0,
        }
    }

    /// One that says no end: more may follow what it has so far.
    pub(crate) fn lasting(isn: u32, total: u64) -> Self {
        Self {
            lasts: true,
            ..Self::new(isn, total)
        }
    }

    /// Whether all was acknowledged.
    pub(crate) fn is_complete(&self) -> bool {
        match self.state {
            State::Complete => true,
            State::Open => self.lasts && self.una == self.total,
            State::Opening | State::Failed => false,
        }
    }

    /// Whether nobody has answered yet.
    pub(crate) const fn is_opening(&self) -> bool {
        matches!(self.state, State::Opening)
    }

    /// Whether it will send nothing more.
    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.state, State::Complete | State::Failed)
    }

    /// Bytes that the peer has acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.una.min(self.total)
    }

    /// Bytes of the stream so far.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    /// Segments that were sent once more.
    pub(crate) const fn sent_again(&self) -> u64 {
        self.sent_again
    }

    /// When [`Self::on_deadline`] is due.
    pub(crate) const fn deadline(&self) -> Option<Tick> {
        self.deadline
    }

    /// More bytes follow: what it sends of them now.
    pub(crate) fn go_on(&mut self, bytes: u64, now: Tick) -> Vec<Segment> {
        self.total += bytes;
        if self.state == State::Open {
            return self.pump(now);
        }
        Vec::new()
    }

    /// Begins: the SYN.
    pub(crate) fn open(&mut self, now: Tick) -> Vec<Segment> {
        self.timed = Some((0, now));
        self.deadline = Some(now + self.rto_ns);
        vec![self.syn()]
    }

    /// What it says to a segment.
    pub(crate) fn on_segment(&mut self, seen: &Seen<'_>, now: Tick) -> Vec<Segment> {
        if self.is_over() {
            // The peer hasn't heard that it is over.
            return self
                .is_ended_by(seen)
                .then(|| self.say(0))
                .into_iter()
                .collect();
        }
        if seen.flags & tcp_flag::RST != 0 {
            self.fail();
            return Vec::new();
        }
        if seen.flags & tcp_flag::ACK == 0 {
            return Vec::new();
        }
        if self.state == State::Opening {
            return self.opened(seen, now);
        }
        let expected = number(self.isn, self.una);
        let acknowledged = offset(seen.ack, self.una, expected);
        let mut out = match acknowledged {
            Some(ack) if ack > self.una && ack <= self.high => self.progress(ack, now),
            Some(ack) if ack == self.una && self.una < self.high && seen.data.is_empty() => {
                self.duplicate()
            }
            _ => Vec::new(),
        };
        if self.una > self.total && self.is_ended_by(seen) {
            self.state = State::Complete;
            self.deadline = None;
            self.peer_next = self.peer_next.wrapping_add(1);
            return vec![self.say(0)];
        }
        out.extend(self.pump(now));
        out
    }

    /// Whether the segment ends the peer's stream, which is empty.
    fn is_ended_by(&self, seen: &Seen<'_>) -> bool {
        let complete = u32::from(self.state == State::Complete);
        let fin = self.peer_next.wrapping_sub(complete);
        seen.flags & tcp_flag::FIN != 0 && seen.seq == fin
    }

    fn opened(&mut self, seen: &Seen<'_>, now: Tick) -> Vec<Segment> {
        let answers = seen.flags & tcp_flag::SYN != 0 && seen.ack == number(self.isn, 0);
        if !answers {
            return Vec::new();
        }
        self.measure(0, now);
        self.state = State::Open;
        self.peer_next = seen.seq.wrapping_add(1);
        // Without the option it is 536 (RFC 9293 section 3.7.1).
        self.mss = seen.mss.unwrap_or(536).clamp(64, MSS).into();
        self.cwnd = FIRST_WINDOW * self.mss;
        self.timeouts = 0;
        self.deadline = None;
        self.pump(now)
    }

    fn progress(&mut self, ack: u64, now: Tick) -> Vec<Segment> {
        let acked = ack - self.una;
        self.una = ack;
        self.next = self.next.max(ack);
        self.timeouts = 0;
        self.measure(ack, now);
        self.deadline = (self.una < self.high).then(|| now + self.rto_ns);
        match self.recover {
            //= RFC 6582 section 3.2 step 3: a full acknowledgement
            Some(recover) if ack >= recover => {
                self.cwnd = self.ssthresh.max(self.mss);
                self.recover = None;
                self.duplicates = 0;
            }
            //= the same: a partial one tells of the next loss
            Some(_) => {
                self.cwnd = self.cwnd.saturating_sub(acked).max(self.mss) + self.mss;
                return vec![self.again()];
            }
            None => {
                self.duplicates = 0;
                self.cwnd += if self.cwnd < self.ssthresh {
                    acked.min(self.mss)
                } else {
                    (self.mss * self.mss / self.cwnd).max(1)
                };
            }
        }
        self.cwnd = self.cwnd.min(4 * WINDOW);
        Vec::new()
    }

    fn duplicate(&mut self) -> Vec<Segment> {
        if self.recover.is_some() {
            self.cwnd += self.mss;
            return Vec::new();
        }
        self.duplicates += 1;
        if self.duplicates != DUPLICATES || self.una < self.floor {
            return Vec::new();
        }
        self.ssthresh = self.half();
        self.recover = Some(self.high);
        self.cwnd = self.ssthresh + u64::from(DUPLICATES) * self.mss;
        vec![self.again()]
    }

    /// Half of what is under way (RFC 5681 section 3.1).
    fn half(&self) -> u64 {
        ((self.high - self.una) / 2).max(2 * self.mss)
    }

    /// Time has run out for what was sent.
    pub(crate) fn on_deadline(&mut self, now: Tick) -> Vec<Segment> {
        if self.deadline.is_none_or(|it| it > now) {
            return Vec::new();
        }
        self.timeouts += 1;
        let most = if self.state == State::Opening {
            SYN_TIMEOUTS_MAX
        } else {
            TIMEOUTS_MAX
        };
        if self.timeouts > most {
            self.fail();
            return Vec::new();
        }
        self.rto_ns = (self.rto_ns * 2).min(RTO_MAX_NS);
        self.deadline = Some(now + self.rto_ns);
        self.timed = None;
        if self.state == State::Opening {
            self.sent_again += 1;
            return vec![self.syn()];
        }
        self.ssthresh = self.half();
        self.cwnd = self.mss;
        self.recover = None;
        self.duplicates = 0;
        self.floor = self.high;
        self.next = self.una;
        self.pump(now)
    }

    fn fail(&mut self) {
        self.state = State::Failed;
        self.deadline = None;
    }

    /// All that the windows allow.
    fn pump(&mut self, now: Tick) -> Vec<Segment> {
        let mut out = Vec::new();
        let window = self.cwnd.min(WINDOW);
        while self.next < self.total || self.next == self.total && !self.lasts {
            let room = window.saturating_sub(self.next - self.una);
            let left = self.total - self.next;
            let len = left.min(self.mss).min(room);
            // A segment that the window cuts short waits; the FIN needs no room of its own.
            if room == 0 || len < left.min(self.mss) {
                break;
            }
            let fresh = self.next >= self.high;
            out.push(self.segment(self.next, len));
            self.next += len.max(1);
            if fresh {
                self.timed.get_or_insert((self.next, now));
            } else {
                self.sent_again += 1;
            }
            self.high = self.high.max(self.next);
            self.deadline.get_or_insert(now + self.rto_ns);
        }
        out
    }

    /// The first that isn't acknowledged, once more.
    fn again(&mut self) -> Segment {
        // Nobody knows which of the two an answer is for (Karn).
        self.timed = None;
        self.sent_again += 1;
        let len = (self.total - self.una.min(self.total)).min(self.mss);
        self.segment(self.una, len)
    }

    /// A part of the stream; none of it is the FIN.
    fn segment(&self, at: u64, len: u64) -> Segment {
        let fin = if len == 0 { tcp_flag::FIN } else { 0 };
        Segment {
            seq: number(self.isn, at),
            data: at..at + len,
            ..self.say(fin)
        }
    }

    fn say(&self, flags: u8) -> Segment {
        Segment {
            flags: tcp_flag::ACK | flags,
            seq: number(self.isn, self.next),
            ack: self.peer_next,
            mss: None,
            data: 0..0,
        }
    }

    const fn syn(&self) -> Segment {
        Segment {
            flags: tcp_flag::SYN,
            seq: self.isn,
            ack: 0,
            mss: Some(MSS),
            data: 0..0,
        }
    }

    //= RFC 6298 section 2
    fn measure(&mut self, acknowledged: u64, now: Tick) {
        let Some((_, sent)) = self.timed.filter(|it| it.0 <= acknowledged) else {
            return;
        };
        self.timed = None;
        let rtt = now.0.saturating_sub(sent.0);
        let srtt = match self.srtt_ns {
            None => {
                self.rttvar_ns = rtt / 2;
                rtt
            }
            Some(srtt) => {
                self.rttvar_ns = (3 * self.rttvar_ns + srtt.abs_diff(rtt)) / 4;
                (7 * srtt + rtt) / 8
            }
        };
        self.srtt_ns = Some(srtt);
        let rto = srtt + (4 * self.rttvar_ns).max(Tick::MS);
        self.rto_ns = rto.clamp(RTO_MIN_NS, RTO_MAX_NS);
    }
}
