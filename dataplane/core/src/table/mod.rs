//! The read-only tables of a snapshot.

pub mod frozen;
pub mod policy;
mod ports;
pub mod prefix;
