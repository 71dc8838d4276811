//! Flows: one entry for both directions, owned by one worker.

mod entry;
pub mod key;
mod lists;
pub mod quota;
pub mod sctp;
pub mod state;
pub mod table;
pub mod tcp;
