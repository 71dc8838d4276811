//! Applies agent transactions to the Sluice dataplane and answers its read side.
//!
//! Between the contract ([`sluice_offload_api`]) and the workers
//! ([`sluice_dataplane_core::worker`]): a transaction is checked whole, compiled into a
//! snapshot, published to every worker, and acknowledged when the last one uses it. Keys
//! come from a driver (the node channel, a static configuration, the simulator's seed)
//! and go to the workers; they never stand in the contract.
//!
//! No sockets, threads or clock: the daemon and the simulator drive the same [`Control`].

mod asking;
mod bindings;
mod build;
pub mod checkpoint;
mod control;
mod events;
mod former;
mod indices;
mod pairs;
mod read;
mod retiring;
mod sending;
mod workers;

pub use control::{Control, ControlConfig, ProgramError, Vitals};
pub use events::{Child, Event, SaConfig, SaError};
pub use former::Former;
pub use read::VerdictLine;
pub use workers::{Workers, WrongCrew};
