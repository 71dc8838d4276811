//! The Kubernetes API: objects with versions, lists in pages, watches, and events that are kept for
//! a while. An agent speaks with it through production's own watches (`host_agent::watch`).
//!
//! A node whose watch is late speaks with a server that is behind: one of several, as of a cache
//! that is not renewed. Who can be reached, and what it says, is the fault's; what an agent makes of it
//! is the agent's.

mod kind;
mod listening;
mod server;

pub(crate) use listening::Reach;
pub(crate) use server::Server;
