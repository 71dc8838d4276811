//! The state machine: events and deadlines in, actions out.

mod exchange;
mod retire;

use std::collections::VecDeque;

use super::config::{ConfigError, PeerConfig};
use super::derive::{DeriveError, ExporterSecret};
use super::message::{Hello, Message, SENDING_MAX, SpiBlock};
use super::negotiate::NegotiateError;
use super::pair::{Pair, Use};
use super::time::{Jitter, TimeMs};
use crate::esp::Spi;
use crate::key::EspKey;

/// Most pairs at once; beyond, a session is refused.
pub(super) const PAIRS_MAX: usize = 16;
/// A hello lists all that are sent by: one that it leaves out counts as left.
const _: () = assert!(PAIRS_MAX <= SENDING_MAX);

/// Most sessions whose hello is awaited; the oldest gives way.
pub(super) const OPENINGS_MAX: usize = 4;

/// The driver's number of a TLS session, never used twice in a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u64);

/// What happened.
#[derive(Debug)]
pub enum SaEvent {
    /// A session with this peer, authenticated both ways.
    SessionUp {
        /// Its number.
        session: SessionId,
        /// Exported from it, for one epoch.
        secret: ExporterSecret,
        /// SPIs at which we would receive, used for nothing before.
        receive: SpiBlock,
    },
    /// It ended, other than by [`SaAction::Close`].
    SessionDown {
        /// Its number.
        session: SessionId,
    },
    /// The session that [`SaAction::Dial`] asked for did not come about.
    DialFailed,
    /// The peer said something.
    Received {
        /// On which session.
        session: SessionId,
        /// What.
        message: Message,
    },
    /// Every worker receives by this SA.
    InboundInstalled(Spi),
    /// Every worker that sends by this SA has it.
    OutboundInstalled(Spi),
    /// Nobody vouches any more for who was there at a session: its SAs end at once, those of others
    /// stay.
    Distrusted {
        /// Which.
        session: SessionId,
    },
    /// A receiving SA was not installed.
    InboundRefused(Spi),
    /// A sending SA was not installed.
    OutboundRefused(Spi),
    /// What a receiving SA has opened in all, as its worker has said: asked about once a second,
    /// and not before the answer to the time before was there. Without these an SA that the peer
    /// has left stays to its hard limit.
    InboundUsed {
        /// Ours.
        spi: Spi,
        /// Packets since it was installed.
        packets: u64,
        /// When the worker was asked.
        asked: TimeMs,
    },
    /// What a sending SA has sealed in all.
    OutboundUsed {
        /// The peer's.
        spi: Spi,
        /// Packets since it was installed.
        packets: u64,
        /// Bytes since it was installed.
        bytes: u64,
    },
    /// Renew now, whatever the limits say.
    RekeyWanted,
}

/// An SA to install. Not `Clone`: a key has one owner.
#[derive(Debug)]
pub struct Install {
    /// The epoch.
    pub epoch: u64,
    /// Which child of how many: the lanes it serves.
    pub child: u8,
    /// Children a direction.
    pub children: u8,
    /// The receiver's index.
    pub spi: Spi,
    /// Key, salt and algorithm.
    pub key: EspKey,
    /// Extended sequence numbers.
    pub esn: bool,
    /// A sending SA refuses beyond this many packets.
    pub packets_max: u64,
}

/// What to do. Installs and retires are to be carried out in order.
#[derive(Debug)]
pub enum SaAction {
    /// Open a session; answer with `SessionUp` or `DialFailed`. May wait for its turn, and so
    /// is where a driver bounds how many are opened at once.
    Dial,
    /// Say this.
    Send(SessionId, Message),
    /// End a session; nothing more is expected from it.
    Close(SessionId, CloseReason),
    /// Receive by this; answer with `InboundInstalled` or `InboundRefused`.
    InstallInbound(Install),
    /// Send by this, in place of the child's SA before; answer with `OutboundInstalled` or
    /// `OutboundRefused`.
    InstallOutbound(Install),
    /// Stop receiving.
    RetireInbound(Spi),
    /// Stop sending, if this SA is still the one in force.
    RetireOutbound(Spi),
    /// The session's pair is in use both ways; the session now carries what else there is.
    Established(SessionId, u64),
}

/// Why we ended a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// A newer one took its place.
    #[error("superseded by a newer session")]
    Superseded,
    /// Not in use both ways in time.
    #[error("its keys were not in use both ways in time")]
    EstablishTimeout,
    /// Nothing heard.
    #[error("the peer is silent")]
    Dead,
    /// An SA was refused here.
    #[error("the dataplane refused SA {0}")]
    Refused(Spi),
    /// Hellos that don't meet.
    #[error(transparent)]
    Negotiate(#[from] NegotiateError),
    /// No key.
    #[error(transparent)]
    Derive(#[from] DeriveError),
    /// A responder dialled, or an initiator's session came unasked.
    #[error("session {0:?} was not expected")]
    Unexpected(SessionId),
    /// Whoever was there.
    #[error("nobody vouches for the peer any more")]
    Distrusted,
    /// Too much at once.
    #[error("more than {PAIRS_MAX} pairs of SAs are waiting for the peer")]
    TooManyPairs,
}

/// A session before its hello is answered.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) session: SessionId,
    pub(super) secret: ExporterSecret,
    pub(super) receive: SpiBlock,
    pub(super) opened: TimeMs,
    /// Ours, once sent.
    pub(super) hello: Option<Hello>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialling {
    /// A session is there or not ours to open.
    No,
    At(TimeMs),
    Asked,
}

/// How a life cycle stands, for status and tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The session in use.
    pub session: Option<SessionId>,
    /// Epoch of the sending SAs in force.
    pub sending: Option<u64>,
    /// Epochs whose receiving SAs are installed or on their way.
    pub receiving: Vec<u64>,
    /// Whether a session is being opened, or its pair is not in use both ways yet.
    pub unfinished: bool,
}

/// All SAs with one peer. See [the module](super) for the exchange.
#[derive(Debug)]
pub struct SaLifecycle {
    pub(super) config: PeerConfig,
    pub(super) jitter: Jitter,
    pub(super) initiator: bool,
    pub(super) openings: VecDeque<Opening>,
    pub(super) pairs: Vec<Pair>,
    /// Our hello on the session that is being established, for repeats.
    pub(super) establishing: Option<(SessionId, Hello)>,
    pub(super) current: Option<SessionId>,
    pub(super) dialling: Dialling,
    pub(super) failures: u32,
    pub(super) attempt: u64,
    pub(super) epoch_last: u64,
    /// Instance and attempt of the peer's newest hello.
    pub(super) peer_newest: (u64, u64),
    pub(super) rekey_at: Option<TimeMs>,
    pub(super) rekey_wanted: bool,
    /// Asked for while an exchange was under way, which may be of before whatever is new.
    pub(super) rekey_again: bool,
    pub(super) resend_at: Option<TimeMs>,
    pub(super) ping_at: Option<TimeMs>,
    pub(super) dead_at: Option<TimeMs>,
    pub(super) actions: VecDeque<SaAction>,
}

impl SaLifecycle {
    /// A life cycle that knows no peer yet. An initiator's first deadline is `now`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(config: PeerConfig, now: TimeMs) -> Result<Self, ConfigError> {
        config.check()?;
        let initiator = config.is_initiator();
        Ok(Self {
            jitter: Jitter(config.jitter_seed),
            config,
            initiator,
            openings: VecDeque::new(),
            pairs: Vec::new(),
            establishing: None,
            current: None,
            dialling: if initiator {
                Dialling::At(now)
            } else {
                Dialling::No
            },
            failures: 0,
            attempt: 0,
            epoch_last: 0,
            peer_newest: (0, 0),
            rekey_at: None,
            rekey_wanted: false,
            rekey_again: false,
            resend_at: None,
            ping_at: None,
            dead_at: None,
            actions: VecDeque::new(),
        })
    }

    /// Whether this end dials.
    #[must_use]
    pub const fn is_initiator(&self) -> bool {
        self.initiator
    }

    /// The next thing to do; call until `None` after each event and deadline.
    pub fn next_action(&mut self) -> Option<SaAction> {
        self.actions.pop_front()
    }

    /// How things stand.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let live = |p: &&Pair| p.receive.is_live();
        Summary {
            session: self.current,
            sending: self.sending_epoch(),
            receiving: self.pairs.iter().filter(live).map(|p| p.epoch).collect(),
            unfinished: self.dialling != Dialling::No
                || self.establishing.is_some()
                || !self.openings.is_empty(),
        }
    }

    /// The sessions that are under way or that there are SAs of.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> {
        let unfinished = self.openings.iter().map(|it| it.session);
        let unfinished = unfinished.chain(self.establishing.as_ref().map(|it| it.0));
        let pairs = self.pairs.iter().map(|it| it.session);
        pairs.chain(unfinished).chain(self.current)
    }

    /// Takes note of what happened. Events about what is gone are ignored.
    pub fn on_event(&mut self, event: SaEvent, now: TimeMs) {
        match event {
            SaEvent::SessionUp {
                session,
                secret,
                receive,
            } => {
                let opened = now;
                let hello = None;
                self.session_up(Opening {
                    session,
                    secret,
                    receive,
                    opened,
                    hello,
                });
            }
            SaEvent::SessionDown { session } => self.session_down(session, now),
            SaEvent::DialFailed => {
                if self.dialling == Dialling::Asked {
                    self.back_off(now);
                }
            }
            SaEvent::Received { session, message } => self.received(session, message, now),
            SaEvent::InboundInstalled(spi) => self.inbound_installed(spi, now),
            SaEvent::OutboundInstalled(spi) => self.outbound_installed(spi, now),
            SaEvent::InboundRefused(spi) => {
                let at = |p: &Pair| p.children.iter().any(|c| c.inbound == spi);
                self.refused(spi, at, now);
            }
            SaEvent::OutboundRefused(spi) => {
                let at = |p: &Pair| p.children.iter().any(|c| c.outbound == spi);
                self.refused(spi, at, now);
            }
            SaEvent::Distrusted { session } => self.distrust(session, now),
            SaEvent::InboundUsed {
                spi,
                packets,
                asked,
            } => self.inbound_used(spi, packets, asked, now),
            SaEvent::OutboundUsed {
                spi,
                packets,
                bytes,
            } => {
                self.outbound_used(spi, packets, bytes, now);
            }
            SaEvent::RekeyWanted => {
                let is_under_way = self.establishing.is_some() || !self.openings.is_empty();
                self.rekey_again |= is_under_way;
                self.want_rekey(now);
            }
        }
        self.retire_what_is_due(now);
    }

    /// Does what is due at `now`; harmless when nothing is.
    pub fn on_deadline(&mut self, now: TimeMs) {
        if matches!(self.dialling, Dialling::At(at) if at <= now) {
            self.dialling = Dialling::Asked;
            self.actions.push_back(SaAction::Dial);
        }
        self.give_up_late_sessions(now);
        if self.resend_at.is_some_and(|at| at <= now) {
            self.resend(now);
        }
        if self.dead_at.is_some_and(|at| at <= now)
            && let Some(session) = self.current
        {
            self.close(session, CloseReason::Dead, now);
        }
        if self.ping_at.is_some_and(|at| at <= now) {
            self.ping(now);
        }
        if self.rekey_at.is_some_and(|at| at <= now) {
            self.rekey_at = None;
            self.want_rekey(now);
        }
        self.retire_what_is_due(now);
    }

    /// When [`Self::on_deadline`] is to be called at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<TimeMs> {
        let (limits, timing) = (&self.config.limits, &self.config.timing);
        let dial = match self.dialling {
            Dialling::At(at) => Some(at),
            Dialling::No | Dialling::Asked => None,
        };
        let establish = timing.establish_ms_max;
        let opening = self.openings.iter().map(|o| o.opened + establish).min();
        let unfinished = self.establishing_pair().map(|p| p.opened + establish);
        let ends = |p: &Pair| p.ends_at(limits.hard_ms);
        let ends = self.pairs.iter().filter_map(ends).min();
        let stops = self
            .pairs
            .iter()
            .filter_map(|p| p.stops_at(limits.hard_ms, timing.drain_ms))
            .min();
        [
            dial,
            opening,
            unfinished,
            ends,
            stops,
            self.rekey_at,
            self.resend_at,
            self.ping_at,
            self.dead_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(super) fn is_establishing(&self, session: SessionId) -> bool {
        self.establishing
            .as_ref()
            .is_some_and(|(it, _)| *it == session)
    }

    pub(super) fn establishing_pair(&self) -> Option<&Pair> {
        let (session, _) = self.establishing.as_ref()?;
        self.pairs.iter().find(|p| p.session == *session)
    }

    pub(super) fn sending_epoch(&self) -> Option<u64> {
        let in_force = |p: &&Pair| p.send == Use::Installed;
        self.pairs.iter().filter(in_force).map(|p| p.epoch).max()
    }

    /// Waits longer after each failure, by 3/4 to 5/4 of the doubled time.
    pub(super) fn back_off(&mut self, now: TimeMs) {
        if !self.initiator {
            return;
        }
        let timing = &self.config.timing;
        let factor = 1u64.checked_shl(self.failures.min(30)).unwrap_or(u64::MAX);
        let wait = timing
            .backoff_ms_min
            .saturating_mul(factor)
            .min(timing.backoff_ms_max);
        let wait = wait - wait / 4 + self.jitter.below(wait / 2 + 1);
        self.failures = self.failures.saturating_add(1);
        self.dialling = Dialling::At(now + wait);
    }

    /// The initiator dials, unless it already does; the responder asks it to.
    pub(super) fn want_rekey(&mut self, now: TimeMs) {
        if !self.initiator {
            self.rekey_wanted = true;
            if self.current.is_some() {
                self.ping_at = Some(now);
            }
        } else if self.dialling == Dialling::No
            && self.establishing.is_none()
            && self.openings.is_empty()
        {
            self.dialling = Dialling::At(now);
        }
    }
}
