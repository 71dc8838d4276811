//! The packet walk of the Sluice dataplane: parse, guard, open, track, classify, seal, egress.
//!
//! Safe code without I/O, clock or threads: frames and time come in as arguments.
//! The same code runs over DPDK ports and in the simulator; see [`port::Port`].
//!
//! Read [`worker`] first: it has the stages on one screen.

pub mod addr;
pub mod ahead;
mod batch;
pub mod clear;
pub mod command;
pub mod counters;
mod crossing;
pub mod expect;
pub mod flow;
pub mod frag;
pub mod hash;
pub mod judge;
pub mod lane;
mod marked;
pub mod mem;
pub mod meta;
pub mod moves;
mod mutant;
pub mod names;
pub mod neighbor;
pub mod path_mtu;
pub mod port;
pub mod publish;
pub mod reason;
pub mod route;
pub mod sad;
pub mod snapshot;
pub mod steer;
mod sync;
pub mod table;
pub mod tick;
mod too_big;
pub mod verdict;
mod walk;
mod ways;
pub mod wire;
pub mod worker;
