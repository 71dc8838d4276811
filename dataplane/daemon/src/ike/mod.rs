//! `sluice-ike`: follows what strongSwan's charon agrees on, and has the dataplane use it.
//!
//! ```text
//! charon ─ log, one page of pipe ─► [line] ─► [thread] ─► [follow] ─ Action ─► [client] ─► dataplane
//!        ◄──────── waits while an SA is on its way to the workers ◄──────────────┘
//! ```
//! charon tells of keys in its log only, in the group CHD at level 4. That log is also what
//! makes a rekey lossless: charon writes it before it goes on, the pipe holds one page, and
//! nothing is read while the dataplane installs an SA. Between the lines that tell of an SA and
//! the message that lets the peer use it, charon at level 3 of the group ENC writes more than
//! the pipe and our buffer hold. So the peer can't know of an SA that the dataplane hasn't.
//!
//! [`line`], [`thread`], [`follow`] and [`postponed`] do no I/O and have no clock.

pub mod client;
pub mod follow;
pub mod line;
pub mod log;
pub mod postponed;
pub mod run;
pub mod thread;
