//! Whole frames through whole workers, one file a stage, one binary.
//!
//! Everything here uses the crate as a driver does: ports, snapshots, commands, counters.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a failed assumption in a test is a failed test"
)]

mod again;
mod encryption;
mod fragments;
mod generations;
mod guard_host;
mod guard_uplink;
mod guard_vf;
pub(crate) mod hostile;
mod icmp;
mod lanes;
pub(crate) mod names;
mod names_message;
mod neighbors;
mod no_alloc;
mod path_mtu;
mod policy;
mod protect;
mod publish;
mod quota;
mod revoked;
pub(crate) mod rig;
mod sctp;
mod shadow;
mod size;
pub(crate) mod soak;
pub(crate) mod tcp;
mod tcp_model;
pub(crate) mod track;
mod transport;
