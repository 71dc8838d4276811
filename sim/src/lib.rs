//! A whole Sluice cluster in one process: deterministic, hardware-free.
//!
//! The agents' and dataplanes' own code runs over ports in memory, links with virtual
//! time, and keys from a seed. See [`world::World`].

pub mod keys;
pub mod probe;
pub mod report;
pub mod world;
