//! A small TCP for simulated pods: enough of it to move a number of bytes over wires that lose
//! some, and no more. It shares nothing with the dataplane's tracking of connections, which it
//! is there to try.
//!
//! Pure: segments and times in, segments and a next deadline out. Offsets count the bytes of
//! the stream from 0, in 64 bits; the FIN is one more behind the last.

mod receiver;
mod sender;

use core::ops::Range;

pub(crate) use receiver::Receiver;
pub(crate) use sender::Sender;

/// Bytes that may be under way: what a header says without scaling (RFC 9293 section 3.1).
const WINDOW: u64 = 65_535;
/// What an end says in its SYN that it takes, and sends at most: it fits the pods' MTU of 1400
/// in both families.
const MSS: u16 = 1_340;

/// A segment to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    pub(crate) flags: u8,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) mss: Option<u16>,
    /// The part of the stream that it carries.
    pub(crate) data: Range<u64>,
}

/// A segment that came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) flags: u8,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) mss: Option<u16>,
    pub(crate) data: &'a [u8],
}

/// The bytes of a part of the stream: a text again and again.
pub(crate) fn stream(text: &[u8], part: Range<u64>) -> Vec<u8> {
    let len = (text.len() as u64).max(1);
    let byte = |at: u64| {
        let at = usize::try_from(at % len).unwrap_or(0);
        text.get(at).copied().unwrap_or(0)
    };
    part.map(byte).collect()
}

/// The offset that a sequence number means, near one that is known: the numbers come round
/// every 4 GiB.
fn offset(number: u32, near: u64, near_number: u32) -> Option<u64> {
    let ahead = number.wrapping_sub(near_number);
    if ahead < 1 << 31 {
        return Some(near + u64::from(ahead));
    }
    near.checked_sub(u64::from(ahead.wrapping_neg()))
}

/// The number of an offset, for who began with `isn`: its SYN took the first.
fn number(isn: u32, offset: u64) -> u32 {
    let [.., a, b, c, d] = offset.to_be_bytes();
    let low = u32::from_be_bytes([a, b, c, d]);
    isn.wrapping_add(1).wrapping_add(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;
    use sluice_dataplane_core::meta::tcp_flag;
    use sluice_dataplane_core::tick::Tick;

    const TEXT: &[u8] = b"what the two must agree on";

    /// A wire between the two with so much loss and delay; how long it took, and how often the
    /// sender sent again.
    fn transfer(bytes: u64, loss: u8, seed: u64) -> Option<(Tick, u64, u64)> {
        let mut dice = Dice::new(seed, "tcp");
        let isn = u32::MAX - 5_000;
        let (mut sender, mut receiver) = (Sender::new(isn, bytes), Receiver::new(77, TEXT));
        let mut now = Tick::default();
        // When, at which end, what.
        let mut wire: Vec<(Tick, bool, Segment)> = Vec::new();
        let mut send = |wire: &mut Vec<_>, now: Tick, to: bool, segments: Vec<Segment>| {
            for it in segments {
                if !dice.chance(loss) {
                    wire.push((now + 50_000, to, it));
                }
            }
        };
        send(&mut wire, now, true, sender.open(now));
        for _ in 0..1_000_000 {
            if sender.is_over() {
                let whole = receiver.received() == bytes && receiver.is_intact();
                return (sender.is_complete() && whole)
                    .then(|| (now, sender.sent_again(), receiver.received()));
            }
            let first = wire.iter().map(|it| it.0).min();
            now = match (first, sender.deadline()) {
                (Some(first), Some(deadline)) => first.min(deadline),
                (first, deadline) => first.or(deadline)?,
            };
            if sender.deadline() == Some(now) {
                send(&mut wire, now, true, sender.on_deadline(now));
                continue;
            }
            let at = wire.iter().position(|it| it.0 == now)?;
            let (_, to_receiver, it) = wire.remove(at);
            let data = stream(TEXT, it.data);
            let seen = Seen {
                flags: it.flags,
                seq: it.seq,
                ack: it.ack,
                mss: it.mss,
                data: &data,
            };
            if to_receiver {
                send(&mut wire, now, false, receiver.on_segment(&seen));
            } else {
                send(&mut wire, now, true, sender.on_segment(&seen, now));
            }
        }
        None
    }

    #[test]
    fn without_loss_nothing_is_sent_twice() {
        for bytes in [1, 1_459, 1_460, 1_461, 1_000_000] {
            let (took, again, received) = transfer(bytes, 0, 1).unwrap();
            assert_eq!((again, received), (0, bytes));
            assert!(took < Tick::default() + 100 * Tick::MS, "{took:?}");
        }
    }

    #[test]
    fn a_transfer_ends_whole_whatever_is_lost() {
        for seed in 0..40 {
            for loss in [1, 5, 10] {
                let (_, again, received) = transfer(300_000, loss, seed).unwrap();
                assert_eq!(received, 300_000, "loss {loss}, seed {seed}");
                assert!(loss == 1 || again > 0, "loss {loss}, seed {seed}");
            }
        }
    }

    #[test]
    fn a_lost_segment_is_sent_again_before_its_timer_runs_out() {
        // One segment of many is lost at 1 %: three duplicates tell long before 200 ms.
        let quick = (0..20).filter(|seed| {
            let (took, again, _) = transfer(100_000, 1, *seed).unwrap();
            again > 0 && took < Tick::default() + 100 * Tick::MS
        });
        assert!(quick.count() > 3);
    }

    #[test]
    fn who_gets_no_answer_gives_up() {
        assert_eq!(transfer(10, 100, 1), None);
    }

    /// What comes of a segment at an end that has no wire.
    fn seen(it: &Segment) -> Seen<'_> {
        Seen {
            flags: it.flags,
            seq: it.seq,
            ack: it.ack,
            mss: it.mss,
            data: &TEXT
                [usize::try_from(it.data.start).unwrap()..usize::try_from(it.data.end).unwrap()],
        }
    }

    #[test]
    fn a_sender_that_lasts_goes_on_and_says_no_end() {
        let now = Tick::default();
        let (mut sender, mut receiver) = (Sender::lasting(1, 5), Receiver::new(9, TEXT));
        let mut out = sender.open(now);
        let mut flags = 0;
        for bytes in [5, 0] {
            while let Some(it) = out.pop() {
                flags |= it.flags;
                for answer in receiver.on_segment(&seen(&it)) {
                    out.extend(sender.on_segment(&seen(&answer), now));
                }
            }
            assert!(sender.is_complete() && !sender.is_over());
            assert_eq!(sender.deadline(), None);
            out = sender.go_on(bytes, now);
        }
        assert_eq!((receiver.received(), flags & tcp_flag::FIN), (10, 0));
    }

    #[test]
    fn numbers_come_round() {
        assert_eq!(number(u32::MAX, 0), 0);
        assert_eq!(offset(3, 10, u32::MAX - 1), Some(15));
        assert_eq!(offset(u32::MAX - 1, 10, 3), Some(5));
        assert_eq!(offset(u32::MAX - 1, 2, 3), None);
    }
}
