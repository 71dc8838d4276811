//! The read-only tables of a snapshot.

mod dense;
pub mod frozen;
pub mod policy;
mod ports;
pub mod prefix;
mod said;
mod tier;
