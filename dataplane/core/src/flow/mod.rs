//! Flows: one entry for both directions, owned by one worker.

pub mod key;
pub mod state;
pub mod table;
