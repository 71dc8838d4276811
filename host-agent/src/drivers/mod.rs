//! What makes a daemon of the core: files, sockets, clocks and logs.
//!
//! ```text
//! directory --SourceEvent--+           +--> journal_file
//! socket -----Call---------+--> daemon-+--> link --Order--> dataplane
//! link -------LinkEvent----+           +--> verdicts
//! ```
//! One task, [`daemon`]'s, owns the [`Agent`](crate::agent::Agent); the others only carry.

pub mod config;
pub mod daemon;
pub mod directory;
pub mod journal_file;
pub mod link;
pub mod socket;
pub mod verdicts;
