//! Flows: one entry for both directions, owned by one worker.

pub(crate) mod entry;
pub mod key;
mod lists;
pub mod quota;
pub mod sctp;
pub mod state;
pub mod table;
pub mod tcp;
