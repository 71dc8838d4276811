//! A whole Sluice cluster in one process: deterministic, hardware-free.
//!
//! The agents' and dataplanes' own code runs over ports in memory, links with virtual
//! time, and keys from a seed. See [`world::World`].

pub mod artifacts;
mod changing;
pub mod cli;
pub mod dice;
pub mod dns;
pub mod esp_sa;
pub mod fault;
mod fold;
pub mod fuzz;
pub mod happening;
pub mod input;
pub mod keys;
pub mod links;
pub mod opening;
pub mod oracle;
pub mod output;
pub mod pcap;
pub mod play;
pub mod probe;
pub mod record;
pub mod replaying;
pub mod report;
pub mod scale;
pub mod sighting;
mod tcp;
pub mod verify;
pub mod workload;
pub mod world;
