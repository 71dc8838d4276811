//! What makes a daemon of the core.
pub mod config;
pub mod journal_file;
