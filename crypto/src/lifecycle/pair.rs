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
    pub(super) in_packets: u64,
    pub(super) soft_reached: bool,
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
    /// When a packet was last known to have come in.
    pub(super) heard_at: TimeMs,
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

    /// When the receiving SAs are to be retired, as far as is known now.
    pub(super) fn drained_at(&self, hard_ms: u64, drain_ms: u64) -> Option<TimeMs> {
        if !self.receive.is_live() {
            return None;
        }
        let hard = self.negotiated + hard_ms + drain_ms;
        Some(match self.left_at {
            Some(left) => (left.max(self.heard_at) + drain_ms).min(hard),
            None => hard,
        })
    }

    /// When sending by it must stop.
    pub(super) fn stops_at(&self, hard_ms: u64) -> Option<TimeMs> {
        self.send.is_live().then(|| self.opened + hard_ms)
    }
}
