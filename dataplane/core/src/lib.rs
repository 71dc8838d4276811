//! The packet walk of the Sluice dataplane: parse, guard, open, track, classify, seal, egress.
//!
//! Safe code without I/O, clock or threads: frames and time come in as arguments.
//! The same code runs over DPDK ports and in the simulator; see [`port::Port`].

pub mod addr;
pub mod meta;
pub mod port;
pub mod reason;
pub mod wire;
