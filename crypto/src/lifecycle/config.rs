//! What a life cycle is told at its start: who, how long, how much.

use super::message::{ALGORITHMS_MAX, LANES_MAX, SPIFFE_ID_LEN_MAX};
use crate::key::Algorithm;

/// When an SA is renewed (soft) and when it may no longer be sent by (hard).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Age at which a rekey begins.
    pub soft_ms: u64,
    /// The rekey begins earlier by a random part of this.
    pub jitter_ms: u64,
    /// Age at which a receiving SA is retired; sending stops [`Timing::drain_ms`] before.
    pub hard_ms: u64,
    /// Packets of one sending SA after which a rekey begins.
    pub soft_packets: u64,
    /// Packets after which sending stops; the SA's counter is expected to refuse as well.
    pub hard_packets: u64,
    /// Bytes of one sending SA after which a rekey begins.
    pub soft_bytes: u64,
    /// Bytes after which sending stops, as soon as a report shows it.
    pub hard_bytes: u64,
}

impl Default for Limits {
    /// An hour, and far below what AES-GCM stands (2^32 records of 2^14 bytes at most).
    fn default() -> Self {
        Self {
            soft_ms: 3_600_000,
            jitter_ms: 360_000,
            hard_ms: 5_400_000,
            soft_packets: 1 << 31,
            hard_packets: 1 << 32,
            soft_bytes: 1 << 40,
            hard_bytes: 1 << 41,
        }
    }
}

/// How long the parts of an exchange may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// From a session's start until its pair is in use both ways.
    pub establish_ms_max: u64,
    /// Between repeats of what the peer has not answered.
    pub resend_ms: u64,
    /// Between pings.
    pub ping_ms: u64,
    /// Silence after which a session counts as dead.
    pub dead_ms: u64,
    /// How long a receiving SA that the peer left must be silent before it is retired, as reports
    /// of its packets say. So long before the hard limit sending stops, for what is under way.
    pub drain_ms: u64,
    /// First wait after a failure; doubles with each.
    pub backoff_ms_min: u64,
    /// Longest wait after a failure.
    pub backoff_ms_max: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            establish_ms_max: 10_000,
            resend_ms: 1_000,
            ping_ms: 5_000,
            dead_ms: 16_000,
            // Longer than the three seconds that a sealed packet may wait for its next hop.
            drain_ms: 3_500,
            backoff_ms_min: 100,
            backoff_ms_max: 10_000,
        }
    }
}

/// One life cycle's configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerConfig {
    /// Our SPIFFE ID.
    pub local: String,
    /// The peer's.
    pub peer: String,
    /// Drawn at random when the process starts: tells this life from the one before.
    pub instance: u64,
    /// Seed for jitter; nothing secret.
    pub jitter_seed: u64,
    /// Child SAs wanted a direction, 1 to [`LANES_MAX`]; the greater of both ends' counts.
    pub lanes: u8,
    /// What we speak, best first.
    pub algorithms: Vec<Algorithm>,
    /// Extended sequence numbers, and then no others are taken.
    pub esn: bool,
    /// When to renew.
    pub limits: Limits,
    /// How long to wait.
    pub timing: Timing,
}

/// A configuration that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Nobody to talk to.
    #[error("local and peer are both {id}")]
    SamePeer {
        /// The ID.
        id: String,
    },
    /// Not an ID that a hello can carry.
    #[error("a SPIFFE ID has 1 to {max} bytes, got {len}")]
    IdLength {
        /// Its length.
        len: usize,
        /// The most.
        max: usize,
    },
    /// Too many or none.
    #[error("{what}: {got}, allowed are {min} to {max}")]
    Range {
        /// The field.
        what: &'static str,
        /// Its value.
        got: u64,
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
}

impl PeerConfig {
    /// Whether we dial: the lower SPIFFE ID, compared as bytes.
    #[must_use]
    pub fn is_initiator(&self) -> bool {
        self.local.as_bytes() < self.peer.as_bytes()
    }

    /// Whether a life cycle can run by it.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that is out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        for id in [&self.local, &self.peer] {
            if id.is_empty() || id.len() > SPIFFE_ID_LEN_MAX {
                return Err(ConfigError::IdLength {
                    len: id.len(),
                    max: SPIFFE_ID_LEN_MAX,
                });
            }
        }
        if self.local == self.peer {
            return Err(ConfigError::SamePeer {
                id: self.local.clone(),
            });
        }
        let (l, t) = (&self.limits, &self.timing);
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let never = u64::MAX;
        let ranges = [
            ("lanes", u64::from(self.lanes), 1, u64::from(LANES_MAX)),
            (
                "algorithms",
                count(self.algorithms.len()),
                1,
                count(ALGORITHMS_MAX),
            ),
            (
                "soft_ms",
                l.soft_ms,
                l.jitter_ms.saturating_add(1),
                l.hard_ms.saturating_sub(t.drain_ms).saturating_sub(1),
            ),
            (
                "soft_packets",
                l.soft_packets,
                1,
                l.hard_packets.saturating_sub(1),
            ),
            (
                "soft_bytes",
                l.soft_bytes,
                1,
                l.hard_bytes.saturating_sub(1),
            ),
            (
                "resend_ms",
                t.resend_ms,
                1,
                t.establish_ms_max.saturating_sub(1),
            ),
            ("ping_ms", t.ping_ms, 1, t.dead_ms.saturating_sub(1)),
            ("drain_ms", t.drain_ms, 1, never),
            ("backoff_ms_min", t.backoff_ms_min, 1, t.backoff_ms_max),
        ];
        for (what, got, min, max) in ranges {
            if got < min || got > max {
                return Err(ConfigError::Range {
                    what,
                    got,
                    min,
                    max,
                });
            }
        }
        Ok(())
    }
}
