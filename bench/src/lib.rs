//! Criterion benches of the Sluice packet walk; this library is what they share.
//!
//! A [`Bed`] is one node: a worker over ports in memory, two pods that may do everything,
//! a host, and an uplink behind which the other node is.
#![allow(
    clippy::expect_used,
    reason = "a bench that can't be set up can't be run"
)]

pub mod bed;
pub mod frames;
pub mod timing;

pub use bed::{Bed, Side};
