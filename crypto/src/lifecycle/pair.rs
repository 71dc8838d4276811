//! One epoch's SAs, both ways, at one end.

use super::machine::{SaAction, SessionId};
use super::time::TimeMs;
use crate::esp::Spi;
use crate::key::EspKey;

/// A direction of a [`Pair`]. The mask has a bit for each child that was acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Use {
    /// Nothing installed: waits for the peer's `Ready`.
    Waiting,
    Installing(u32),
    Installed,
    /// Retired, or given up.
    Gone,
}

impl Use {
    /// Whether packets may be sent or expected by it.
    pub(super) const fn is_live(self) -> bool {
        matches!(self, Self::Installing(_) | Self::Installed)
    }

    /// Notes one acknowledgement; whether it was the last.
    pub(super) fn acknowledge(&mut self, child: usize, children: usize) -> bool {
        let Self::Installing(mask) = self else {
            return false;
        };
        *mask |= 1 << child;
        let done = mask.count_ones() as usize == children;
        if done {
            *self = Self::Installed;
        }
        done
    }
}

#[derive(Debug)]
pub(super) struct Child {
    pub(super) inbound: Spi,
    pub(super) outbound: Spi,
    /// Until it is installed.
    pub(super) out_key: Option<EspKey>,
    pub(super) heard: Heard,
    pub(super) soft_reached: bool,
}

/// Longest time from the question of one report to the arrival of the next for the silence between
/// them to count: one that comes later was held up, and with it maybe the worker, whose port then
/// holds what came meanwhile.
const REPORT_GAP_MS_MAX: u64 = 2_500;

/// What reports say of a receiving SA's packets.
///
/// A worker says what it has opened before it takes what is in its port, so a count holds what came
/// until the one before it was read, which was no earlier than it was asked for: one that is still
/// the same says that nothing came until then. When a report arrives says nothing of that, as it
/// may have waited on its way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    packets: u64,
    /// When the last report was asked for.
    asked: Option<TimeMs>,
    /// From when until when silence is proven.
    silent: Option<(TimeMs, TimeMs)>,
}

impl Heard {
    /// Takes note of a report, asked for then: packets in all.
    pub(super) fn report(&mut self, packets: u64, asked: TimeMs, now: TimeMs) {
        let unbroken = |before: &TimeMs| now <= *before + REPORT_GAP_MS_MAX;
        let before = self.asked.replace(asked).filter(unbroken);
        self.silent = match (self.silent, before) {
            (Some((since, _)), Some(before)) if packets <= self.packets => Some((since, before)),
            _ => Some((now, now)),
        };
        self.packets = self.packets.max(packets);
    }

    /// Whether nothing has come in for so long, from `since` on.
    fn is_silent(&self, since: TimeMs, ms: u64) -> bool {
        self.silent
            .is_some_and(|(from, until)| from.max(since) + ms <= until)
    }
}

#[derive(Debug)]
pub(super) struct Pair {
    pub(super) session: SessionId,
    pub(super) epoch: u64,
    pub(super) esn: bool,
    pub(super) peer_instance: u64,
    /// The peer's list, taken at its hello and used at its `Ready`.
    pub(super) peer_sending: Vec<u64>,
    pub(super) children: Vec<Child>,
    pub(super) receive: Use,
    pub(super) send: Use,
    pub(super) ready_sent: bool,
    /// The peer sends by it.
    pub(super) peer_switched: bool,
    /// When the session began: from here the sending SA ages.
    pub(super) opened: TimeMs,
    /// When the keys were made: from here, never earlier, the receiving SA ages.
    pub(super) negotiated: TimeMs,
    /// Since when the peer no longer sends by it.
    pub(super) left_at: Option<TimeMs>,
}

impl Pair {
    pub(super) fn is_complete(&self) -> bool {
        self.receive == Use::Installed && self.send == Use::Installed && self.peer_switched
    }

    /// What takes its receiving SAs out of use.
    pub(super) fn retire_inbound(&self) -> impl Iterator<Item = SaAction> {
        self.children
            .iter()
            .map(|it| SaAction::RetireInbound(it.inbound))
    }

    pub(super) fn leave(&mut self, now: TimeMs) {
        self.left_at.get_or_insert(now);
    }

    /// When the receiving SAs are retired, whatever they still hear.
    pub(super) fn ends_at(&self, hard_ms: u64) -> Option<TimeMs> {
        let is_live = self.receive.is_live();
        is_live.then(|| self.negotiated + hard_ms)
    }

    /// Whether the peer has left the receiving SAs, and each was silent for so long since. Reports
    /// say so and no clock: time in which nobody listened proves nothing.
    pub(super) fn is_drained(&self, drain_ms: u64) -> bool {
        let silent_since = |left| {
            let mut all = self.children.iter();
            all.all(|it| it.heard.is_silent(left, drain_ms))
        };
        self.receive.is_live() && self.left_at.is_some_and(silent_since)
    }

    /// When sending by it must stop: what is under way then comes before the other end's hard limit.
    pub(super) fn stops_at(&self, hard_ms: u64, drain_ms: u64) -> Option<TimeMs> {
        let sends_ms = hard_ms.saturating_sub(drain_ms);
        self.send.is_live().then(|| self.opened + sends_ms)
    }
}
