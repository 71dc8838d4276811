//! The life of the SAs between two nodes: agreed, installed, used, replaced, retired.
//!
//! One [`SaLifecycle`] a peer. It takes events and `now` and gives actions and a next deadline;
//! it opens no socket, reads no clock, draws no randomness. Its driver gives it TLS sessions
//! ([`SaEvent::SessionUp`]) and carries its [`Message`]s over them.
//!
//! ```text
//!     lower SPIFFE ID                                        higher SPIFFE ID
//!     (initiator)                                            (responder)
//!        | Dial; a fresh TLS session, its exporter secret at both     |
//!        |-- Hello {instance, attempt, epoch floor, SPIs, sending} -->|
//!        |<- Hello ---------------------------------------------------|
//!        | keys derived, secret erased        keys derived, secret erased
//!        | InstallInbound, every worker       InstallInbound, every worker
//!        |-- Ready(epoch) ------------------------------------------->| InstallOutbound
//!        |<------------------------------------------- Ready(epoch) --|
//!        | InstallOutbound                                            |
//!        |-- Delete(below epoch) ------------------------------------>| old receiving SA:
//!        |<------------------------------------ Delete(below epoch) --| silent, then retired
//!        |<- - - - Ping {sending, rekey_wanted} every ping_ms - - - ->|
//! ```
//!
//! A rekey is the same again over a new session, while the pair before goes on carrying traffic.
//! The two directions switch independently. Only the lower ID dials, so two rekeys that begin at
//! once are one: the responder's wish is a flag in its [`Message::Ping`].
//!
//! What keeps it safe, whatever is lost, late, doubled or restarted:
//!
//! - **A sending SA is installed only after the peer's `Ready`** on the session it belongs to.
//! - **A receiving SA that was announced by `Ready` is retired only** when the peer said that it
//!   no longer sends by it (`Delete`, `Ping`, the `sending` list of a later `Hello`, or a `Hello`
//!   and `Ready` of another life of the peer) and it is silent, or past the hard limit, at which
//!   the sender has stopped.
//! - **Who sends a `Hello` has given up every other pair that it did not already send by.** That
//!   is what makes the `sending` list final.
//! - **A secret serves one epoch.** It is moved into one derivation and erased.

mod config;
mod derive;
mod machine;
mod message;
mod negotiate;
mod pair;
mod time;

pub use self::config::{ConfigError, Limits, PeerConfig, Timing};
pub use self::derive::{
    Context, DeriveError, Direction, EXPORTER_CONTEXT, EXPORTER_LABEL, ExporterSecret, derive,
};
pub use self::machine::{CloseReason, Install, SaAction, SaEvent, SaLifecycle, SessionId, Summary};
pub use self::message::{
    ALGORITHMS_MAX, Hello, LANES_MAX, Message, SENDING_MAX, SPIFFE_ID_LEN_MAX, SpiBlock,
};
pub use self::negotiate::{Agreed, NegotiateError};
pub use self::time::TimeMs;
