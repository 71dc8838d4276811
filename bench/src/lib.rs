//! What the Sluice packet walk costs: this library is what the criterion benches and the
//! command `sluice-bench` share.
//!
//! A [`Bed`] is one node: a worker over ports in memory, two pods that may do everything,
//! a host, and an uplink behind which the other node is.
#![allow(
    clippy::expect_used,
    reason = "a bench that can't be set up can't be run"
)]

pub mod aead;
pub mod bed;
pub mod bursts;
#[cfg(feature = "dpdk")]
pub mod devices;
pub mod esp;
pub mod frames;
#[cfg(feature = "dpdk")]
pub mod gateway;
pub mod machine;
pub mod memory;
pub mod pages;
pub mod policy;
pub mod report;
mod targets;
pub mod timing;

pub use bed::{Bed, Side};
