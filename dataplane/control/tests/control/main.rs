//! A control side over a worker with ports in memory: what it takes, what it refuses, and
//! what the worker then does with frames.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are no #[test]s themselves"
)]

mod bindings;
mod encryption;
mod flows;
mod names;
pub(crate) mod rig;
mod sas;
mod transactions;
